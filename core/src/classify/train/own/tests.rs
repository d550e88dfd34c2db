//! What an admin sees who trains a classifier: errors with line numbers, scores, going on.

use super::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn written(lines: &str) -> Result<Data, TrainError> {
    let folder = folder();
    let path = folder.path().join("tickets.jsonl");
    std::fs::write(&path, lines).expect("written");
    read(&path)
}

/// Tickets of two classes that are easily told apart.
fn tickets() -> Data {
    let mut lines = String::new();
    for n in 0..40 {
        let (label, what) = match n % 2 {
            0 => ("refund", "Ich möchte mein Geld zurück"),
            _ => ("delivery", "Wo bleibt meine Lieferung"),
        };
        lines.push_str(&format!("{{\"text\":\"{what}, Auftrag {n}\",\"label\":\"{label}\"}}\n"));
    }
    written(&lines).expect("readable")
}

fn now() -> jiff::Timestamp {
    jiff::Timestamp::UNIX_EPOCH
}

#[test]
fn two_kinds_of_tickets_are_told_apart() {
    let folder = folder();
    let mut told = 0;
    let scores =
        train(&tickets(), &OwnSettings::default(), None, folder.path(), now(), &mut |_| told += 1)
            .expect("trained");
    assert_eq!((scores.lines, scores.held_out), (40, 4));
    assert!(scores.accuracy > 0.9 && scores.unscored.is_empty());
    assert_eq!(told, 2 * OwnSettings::default().epochs);
    let own = Own::load(folder.path()).expect("loads");
    let found = own.classify(&Input::text("Geld zurück bitte, Auftrag 99"), None);
    assert_eq!(found.label, "refund");
    let names = |name: &str| folder.path().join(name).exists();
    assert!(names("manifest.json") && !names("everything.part"));
}

#[test]
fn an_interrupted_run_goes_on_and_ends_with_the_same() {
    let (whole, cut) = (folder(), folder());
    let settings = OwnSettings { epochs: 6, ..OwnSettings::default() };
    let data = tickets();
    train(&data, &settings, None, whole.path(), now(), &mut |_| {}).expect("trained");

    // The first run stops after three passes: what it had written down then.
    let written = serde_json::json!({ "learning": settings, "encoder": null });
    let key = key(std::slice::from_ref(&data.file), &written);
    let labels = labels(&data.lines).expect("two");
    let rows = rows(&data.lines, &labels, None, &mut |_| {});
    let (kept, _) = split(&rows, |row| row.class, 2, &settings);
    let mut learner = Learner::new(2, None);
    for epoch in 0..3 {
        let mut lot = Lot::new(settings.seed + 1 + epoch as u64);
        let mut order = kept.clone();
        lot.shuffle(&mut order);
        let rate = settings.rate / (1.0 + epoch as f32 * 0.3);
        order.iter().for_each(|row| learner.learn(row, rate, &settings, &mut lot));
    }
    let bytes = learner.to_bytes(&key, 3).expect("written");
    std::fs::write(cut.path().join("held-out.part"), bytes).expect("written");
    let mut passes = 0;
    train(&data, &settings, None, cut.path(), now(), &mut |_| passes += 1).expect("trained");
    assert_eq!(passes, 9, "three passes of twelve were done already");
    let read =
        |folder: &tempfile::TempDir| std::fs::read(folder.path().join("own.json")).expect("there");
    assert_eq!(read(&whole), read(&cut));
}

#[test]
fn wrong_lines_are_named_by_number_and_not_quoted() {
    let error = written("{\"text\":\"a\",\"label\":\"x\"}\n\n{\"text\":\"geheim\"}\nnichts\n{\"text\":\" \",\"label\":\"x\"}\n")
        .expect_err("three wrong lines")
        .to_string();
    assert!(error.starts_with("3 lines"), "{error}");
    for part in [
        "line 3: \"label\" is missing",
        "line 4: it is no JSON object",
        "line 5: \"text\" is empty",
    ] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!error.contains("geheim"), "{error}");
}

#[test]
fn one_label_or_too_few_lines_are_told() {
    let one = written("{\"text\":\"a\",\"label\":\"x\"}\n{\"text\":\"b\",\"label\":\"x\"}")
        .expect("readable");
    let folder = folder();
    let error = train(&one, &OwnSettings::default(), None, folder.path(), now(), &mut |_| {});
    assert!(error.expect_err("one label").to_string().contains("two different labels"));
    let few =
        written("{\"text\":\"a\",\"label\":1}\n{\"text\":\"b\",\"label\":2}").expect("readable");
    let error = train(&few, &OwnSettings::default(), None, folder.path(), now(), &mut |_| {});
    assert!(error.expect_err("too few").to_string().contains("at least five"));
}

#[test]
fn a_damaged_folder_says_which_file_and_what_to_do() {
    let folder = folder();
    let missing = Own::load(folder.path()).expect_err("empty").to_string();
    assert!(missing.contains("own.json") && missing.contains("stellwerk train"), "{missing}");
    train(&tickets(), &OwnSettings::default(), None, folder.path(), now(), &mut |_| {})
        .expect("trained");
    std::fs::write(folder.path().join("own.safetensors"), b"cut").expect("written");
    let damaged = Own::load(folder.path()).expect_err("damaged").to_string();
    assert!(damaged.contains("own.safetensors is damaged"), "{damaged}");
}

#[test]
fn weights_survive_writing_within_a_step() {
    let mut weights = Weights::new(3);
    for feature in [5_u32, 70_000, 9] {
        let from = weights.row(feature);
        weights.values[from] = feature as f32 / 1e4;
        weights.values[from + 2] = -0.25;
    }
    let bytes = weights.to_bytes().expect("written");
    let read = Weights::from_bytes(&bytes, 3).expect("read");
    assert_eq!(read.index, weights.index);
    let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 7.0 / 127.0;
    assert!(read.values.iter().zip(&weights.values).all(close));
    assert!(Weights::from_bytes(&bytes, 4).is_err());
}

/// Vectors of two numbers that tell what the words do not: whether the order is even.
fn seer() -> Vectors {
    let of = |input: &Input| {
        let number: u32 = input.text.rsplit(' ').next()?.parse().ok()?;
        Some(vec![if number.is_multiple_of(2) { 1.0 } else { -1.0 }, 0.5])
    };
    Vectors { id: "seer".to_owned(), of: Box::new(of) }
}

#[test]
fn what_only_the_encoder_sees_is_learnt_from_it_and_doubted_without_it() {
    let mut lines = String::new();
    for n in 0..120 {
        let label = ["even", "odd"][n % 2];
        lines.push_str(&format!(
            "{{\"text\":\"Wie steht es um Auftrag {n}\",\"label\":\"{label}\"}}\n"
        ));
    }
    let data = written(&lines).expect("readable");
    let folder = folder();
    let settings = OwnSettings::default();
    let scores = train(&data, &settings, Some(&seer()), folder.path(), now(), &mut |_| {});
    assert!(scores.expect("trained").accuracy > 0.9);
    let own = Own::load(folder.path()).expect("loads");
    assert_eq!(own.encoder(), Some("seer"));
    let input = Input::text("Wie steht es um Auftrag 700");
    let found = own.classify(&input, (seer().of)(&input).as_deref());
    assert!(found.label == "even" && found.is_sure, "{found:?}");
    assert!(!own.classify(&input, None).is_sure);
}

#[test]
fn a_tuned_classifier_has_an_encoder_of_its_own_until_it_is_trained_without() {
    let folder = folder();
    let data = tickets();
    let files = crate::classify::deep::shipped().expect("one ships");
    let settings = OwnSettings { epochs: 3, ..OwnSettings::default() };
    let tuning = tuned::TuneSettings { epochs: 2, ..tuned::TuneSettings::default() };
    let scores =
        tuned::train_tuned(&data, &settings, &tuning, &files, folder.path(), now(), &mut |_| {});
    assert!(scores.expect("trained").accuracy > 0.9);
    let own = Own::load(folder.path()).expect("loads");
    assert!(own.encoder().is_none() && !own.is_quick(), "it needs nobody else's encoder");
    let found = own.classify(&Input::text("Geld zurück bitte, Auftrag 99"), None);
    assert_eq!(found.label, "refund");
    let there = |name: &str| folder.path().join(name).exists();
    assert!(there("encoder.safetensors") && !there("tuning.part") && !there("tuning-step.part"));

    // Another encoder's weights are noticed.
    let weights = folder.path().join("encoder.safetensors");
    std::fs::write(&weights, &files.weights).expect("written");
    assert!(Own::load(folder.path()).is_err());

    train(&data, &settings, None, folder.path(), now(), &mut |_| {}).expect("trained");
    assert!(!there("encoder.safetensors"));
    assert!(Own::load(folder.path()).expect("loads").is_quick());
}
