//! That it learns what the rows say, and nothing from what they do not.

use crate::classify::Input;
use crate::classify::heads::{Calibration, Shares, decode};

use super::*;

fn example(text: &str, task: TaskKind) -> Example {
    Example {
        text: text.to_owned(),
        source: "test".to_owned(),
        weight: 1.0,
        task: Some(task),
        ..Example::default()
    }
}

fn corpus() -> Vec<Example> {
    let things = ["the invoice", "our offer", "this letter", "the minutes", "the report"];
    let mut examples = Vec::new();
    for thing in things {
        examples.push(example(&format!("Translate {thing} into Polish"), TaskKind::Translation));
        examples.push(example(&format!("Summarize {thing} for me"), TaskKind::Summarization));
    }
    examples
}

fn learnt(examples: &[Example], options: Options) -> Learner {
    let rows = rows(&examples.iter().collect::<Vec<_>>(), &options);
    let mut learner = Learner::new(options);
    while learner.done < 30 {
        learner.epoch(&rows);
    }
    learner
}

#[test]
fn it_carries_what_it_learnt_to_other_words() {
    let model = learnt(&corpus(), Options::default()).finish().expect("sound");
    for (text, task) in [
        ("translate the handbook into polish", TaskKind::Translation),
        ("summarize the handbook", TaskKind::Summarization),
    ] {
        let logits = model.logits(&features(&Input::text(text)));
        let calibration = Calibration::default();
        let found = decode(&Shares::of(&logits, &calibration), &calibration, "fast");
        assert_eq!(found.task, task, "{text}");
    }
}

#[test]
fn a_head_without_labels_stays_where_it_was() {
    let learner = learnt(&corpus(), Options::default());
    let logits = learner.logits(&features(&Input::text("translate the invoice")));
    assert!(logits.of(Head::Injection).iter().chain(logits.of(Head::Domain)).all(|v| *v == 0.0));
}

#[test]
fn the_same_seed_learns_the_same() {
    let text = features(&Input::text("translate this"));
    let once = learnt(&corpus(), Options::default()).logits(&text);
    assert_eq!(once, learnt(&corpus(), Options::default()).logits(&text));
    let other = learnt(&corpus(), Options { seed: 14, ..Options::default() }).logits(&text);
    assert_ne!(once, other);
}

#[test]
fn a_large_source_does_not_drown_a_small_one() {
    let mut examples = vec![example("a", TaskKind::Chat); 100];
    examples.push(Example { source: "small".to_owned(), ..example("b", TaskKind::Chat) });
    let rows = rows(&examples.iter().collect::<Vec<_>>(), &Options::default());
    let weight = |at: usize| rows[at].target.weights[Head::Task as usize];
    assert!(weight(100) > 3.0 * weight(0), "{} {}", weight(100), weight(0));
}

#[test]
fn rounding_to_int8_hardly_changes_an_answer() {
    let learner = learnt(&corpus(), Options::default());
    let model = learner.finish().expect("sound");
    let text = features(&Input::text("Please translate our offer and the report into Polish"));
    let (plain, rounded) = (learner.logits(&text), model.logits(&text));
    for (plain, rounded) in plain.0.iter().zip(rounded.0) {
        assert!((plain - rounded).abs() < 0.15, "{plain} {rounded}");
    }
}
