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
        train(&tickets(), &OwnSettings::default(), folder.path(), now(), &mut |_| told += 1)
            .expect("trained");
    assert_eq!((scores.lines, scores.held_out), (40, 4));
    assert!(scores.accuracy > 0.9 && scores.unscored.is_empty());
    assert_eq!(told, 2 * OwnSettings::default().epochs);
    let own = Own::load(folder.path()).expect("loads");
    let found = own.classify(&Input::text("Geld zurück bitte, Auftrag 99"));
    assert_eq!(found.label, "refund");
    let names = |name: &str| folder.path().join(name).exists();
    assert!(names("manifest.json") && !names("everything.part"));
}

#[test]
fn an_interrupted_run_goes_on_and_ends_with_the_same() {
    let (whole, cut) = (folder(), folder());
    let settings = OwnSettings { epochs: 6, ..OwnSettings::default() };
    let data = tickets();
    train(&data, &settings, whole.path(), now(), &mut |_| {}).expect("trained");

    // The first run stops after three passes: what it had written down then.
    let key =
        key(std::slice::from_ref(&data.file), &serde_json::to_value(&settings).expect("json"));
    let labels = labels(&data.lines).expect("two");
    let rows: Vec<Row> = data.lines.iter().map(|line| row(line, &labels)).collect();
    let (kept, _) = split(&rows, 2, &settings);
    let mut learner = Learner::new(2);
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
    train(&data, &settings, cut.path(), now(), &mut |_| passes += 1).expect("trained");
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
    let error = train(&one, &OwnSettings::default(), folder.path(), now(), &mut |_| {});
    assert!(error.expect_err("one label").to_string().contains("two different labels"));
    let few =
        written("{\"text\":\"a\",\"label\":1}\n{\"text\":\"b\",\"label\":2}").expect("readable");
    let error = train(&few, &OwnSettings::default(), folder.path(), now(), &mut |_| {});
    assert!(error.expect_err("too few").to_string().contains("at least five"));
}

#[test]
fn a_damaged_folder_says_which_file_and_what_to_do() {
    let folder = folder();
    let missing = Own::load(folder.path()).expect_err("empty").to_string();
    assert!(missing.contains("own.json") && missing.contains("stellwerk train"), "{missing}");
    train(&tickets(), &OwnSettings::default(), folder.path(), now(), &mut |_| {}).expect("trained");
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
