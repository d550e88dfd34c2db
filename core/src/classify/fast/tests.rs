//! What the fast stage sees in a text, and that what it learnt survives writing.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

fn of(text: &str) -> Features {
    features(&Input::text(text))
}

/// Weights that are all different; made once, since there are three million.
static MODEL: LazyLock<Fast> = LazyLock::new(|| {
    let wave =
        |n: usize| (0..n).map(|at| ((at * 37) % 101) as f32 / 50.0 - 1.0).collect::<Vec<_>>();
    Fast::quantize(&wave(BUCKETS * COLUMNS), &wave(SIGNS * COLUMNS), &wave(COLUMNS))
        .expect("the right sizes")
});

#[test]
fn a_typo_leaves_most_pieces_alike() {
    let (right, wrong) = (of("Zusammenfassung bitte"), of("Zusamenfassung bitte"));
    let pieces = |features: &Features| features.hashed[Group::Pieces as usize].clone();
    let (right, wrong) = (pieces(&right), pieces(&wrong));
    let shared = right.iter().filter(|piece| wrong.contains(piece)).count();
    assert!(shared * 10 > right.len() * 7, "{shared} of {}", right.len());
}

#[test]
fn what_was_pasted_is_told_from_what_was_ordered() {
    let text = "Fasse das zusammen:\n\nDie Lieferung kam am Montag an, die Tür klemmt seit der Montage, und der Kunde wartet auf einen Rückruf.";
    let features = of(text);
    assert!(!features.hashed[Group::Pasted as usize].is_empty());
    let ordered = of("Fasse das zusammen");
    let words = |features: &Features| features.hashed[Group::Words as usize].clone();
    assert!(words(&ordered).iter().all(|word| words(&features).contains(word)));
}

#[test]
fn what_was_said_before_counts() {
    let before = Input { history: vec!["Write a poem.".to_owned()], ..Input::text("shorter") };
    assert!(!features(&before).hashed[Group::Context as usize].is_empty());
    assert_ne!(features(&before).signs, of("shorter").signs);
}

#[test]
fn no_feature_counts_twice() {
    let features = of(&"la la la la ".repeat(50));
    for rows in features.hashed.iter().chain([&features.signs]) {
        let mut once = rows.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), rows.len());
    }
}

#[test]
fn every_measure_has_rows_of_its_own() {
    let last = sign::REST + (Measure::Longest as usize + 1) * sign::STEP;
    assert!(last <= SIGNS);
    assert!(CUES.groups.len() <= sign::MOST_CUES, "cues.txt has outgrown its rows");
}

#[test]
fn weights_survive_writing() {
    let model = &*MODEL;
    let read = Fast::from_bytes(&model.to_bytes().expect("written")).expect("read");
    let features = of("Write a haiku about invoices.");
    assert_eq!(model.logits(&features), read.logits(&features));
}

#[test]
fn damaged_or_foreign_weights_are_told_apart() {
    let bytes = MODEL.to_bytes().expect("written");
    assert!(matches!(Fast::from_bytes(&bytes[..bytes.len() / 2]), Err(FastError::Damaged(_))));
    assert!(matches!(Fast::from_bytes(b""), Err(FastError::Damaged(_))));
    let (hashed, signs) = (vec![0.0; 10], vec![0.0; SIGNS * COLUMNS]);
    assert!(matches!(Fast::quantize(&hashed, &signs, &[]), Err(FastError::Unfit("hashed"))));
}

#[test]
fn int8_sums_equal_plain_ones() {
    let model = &*MODEL;
    let rows: Vec<u16> = (0..3_000).map(|n| (n * 13 % 60_000) as u16).collect();
    let plain: i32 = rows
        .iter()
        .map(|row| i32::from(model.hashed[usize::from(*row) * COLUMNS].cast_signed()))
        .sum();
    assert_eq!(model.sum(&rows)[0], plain);
}

proptest! {
    #[test]
    fn any_text_has_bounded_features_and_finite_numbers(text in "\\PC{0,400}") {
        let model = &*MODEL;
        let features = of(&text);
        prop_assert!(features.signs.iter().all(|row| usize::from(*row) < SIGNS));
        prop_assert!(model.logits(&features).0.iter().all(|value| value.is_finite()));
    }
}
