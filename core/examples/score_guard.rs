//! How much of the personal data in labelled texts the guard finds.
//!
//! `cargo run --release --example score_guard -- FOLDER_OR_FILE [--model] [--kept-back]
//! [--misses KIND]` reads every `.jsonl` and `.jsonl.gz` with rows
//! `{"text","lang","spans":[{"start","end","type"}]}` (offsets in code points) and prints a table
//! per file and language. With `--model` the classifier that ships looks too, as it does in the
//! server; `--kept-back` leaves out what it has learnt from. `--misses` also prints what was
//! missed or invented of a kind: such files hold training data, never people's texts.
#![allow(clippy::print_stdout, reason = "a table for people is what it makes")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use stellwerk_core::classify::train::data::{is_drawn, lines};
use stellwerk_core::classify::trained::{self, Trained};
use stellwerk_core::engine;
use stellwerk_core::guard;
use stellwerk_core::guard::hints::Hints;

#[derive(Deserialize)]
struct Row {
    text: String,
    #[serde(default)]
    lang: String,
    #[serde(default)]
    spans: Vec<Span>,
}

#[derive(Deserialize, Clone)]
struct Span {
    start: usize,
    end: usize,
    #[serde(rename = "type")]
    kind: String,
}

/// What was counted of one kind.
#[derive(Default, Clone, Copy)]
struct Count {
    truths: usize,
    found: usize,
    exact: usize,
    truths_touched: usize,
    found_touching: usize,
    characters: usize,
    covered: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let place = PathBuf::from(arguments.next().ok_or("which folder or file?")?);
    let mut how = How { model: None, kept_back: false, misses: None };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--model" => how.model = Some(trained::shipped("auto")?),
            "--kept-back" => how.kept_back = true,
            "--misses" => how.misses = arguments.next(),
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    let mut files = vec![place.clone()];
    if place.is_dir() {
        files = std::fs::read_dir(&place)?
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<_>>()?;
        files.retain(|file| file.to_string_lossy().contains(".jsonl"));
        files.sort();
    }
    for file in files {
        score(&file, &how)?;
    }
    Ok(())
}

/// What was asked for.
struct How {
    model: Option<Arc<Trained>>,
    kept_back: bool,
    misses: Option<String>,
}

impl How {
    fn find(&self, text: &str) -> Vec<Span> {
        let texts = [text.to_owned()];
        let hints = match &self.model {
            Some(model) => engine::as_hints(&texts, model.scan(&texts)),
            None => Hints::default(),
        };
        let found = guard::pii_with(text, &hints);
        let span = |span: &guard::PiiSpan| Span {
            start: span.start,
            end: span.end,
            kind: span.kind.to_owned(),
        };
        found.iter().map(span).collect()
    }
}

fn score(file: &Path, how: &How) -> Result<(), Box<dyn std::error::Error>> {
    let mut rows: Vec<Row> = Vec::new();
    for line in lines(file)? {
        rows.push(serde_json::from_str(&line?)?);
    }
    rows.retain(|row| !how.kept_back || is_drawn(&row.text));
    let mut labelled: BTreeSet<String> = BTreeSet::new();
    for span in rows.iter_mut().flat_map(|row| &mut row.spans) {
        span.kind = known(&span.kind).to_owned();
        labelled.insert(span.kind.clone());
    }
    let languages: BTreeSet<&str> = rows.iter().map(|row| row.lang.as_str()).collect();
    for language in languages {
        let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.lang == language) {
            let found = how.find(&row.text);
            for kind in &labelled {
                let count = counts.entry(kind).or_default();
                count.note(row, kind, &found);
                if how.misses.as_ref() == Some(kind) {
                    tell(row, kind, &found);
                }
            }
        }
        print(file, language, &counts);
    }
    Ok(())
}

/// Other people's words for kinds, as ours.
fn known(kind: &str) -> &str {
    match kind {
        "STREET_ADDRESS" => "ADDRESS",
        "PHONE_NUMBER" => "PHONE",
        "EMAIL_ADDRESS" => "EMAIL",
        "IBAN_CODE" => "IBAN",
        "US_SSN" => "SOCIAL_SECURITY",
        "GPE" => "LOCATION",
        kind => kind,
    }
}

impl Count {
    fn note(&mut self, row: &Row, kind: &str, found: &[Span]) {
        let truths: Vec<&Span> = row.spans.iter().filter(|span| span.kind == kind).collect();
        let of_kind: Vec<&Span> = found.iter().filter(|span| span.kind == kind).collect();
        self.truths += truths.len();
        self.found += of_kind.len();
        let same = |a: &Span, b: &Span| a.start == b.start && a.end == b.end;
        let touch = |a: &Span, b: &Span| a.start < b.end && b.start < a.end;
        self.exact += truths.iter().filter(|t| of_kind.iter().any(|f| same(t, f))).count();
        self.truths_touched +=
            truths.iter().filter(|t| of_kind.iter().any(|f| touch(t, f))).count();
        // What is found as another labelled kind is no false alarm of redaction.
        self.found_touching +=
            of_kind.iter().filter(|f| row.spans.iter().any(|t| touch(t, f))).count();
        for truth in truths {
            self.characters += truth.end - truth.start;
            let is_covered = |at: &usize| found.iter().any(|f| f.start <= *at && *at < f.end);
            self.covered += (truth.start..truth.end).filter(is_covered).count();
        }
    }

    fn add(&mut self, other: Count) {
        self.truths += other.truths;
        self.found += other.found;
        self.exact += other.exact;
        self.truths_touched += other.truths_touched;
        self.found_touching += other.found_touching;
        self.characters += other.characters;
        self.covered += other.covered;
    }
}

fn print(file: &Path, language: &str, counts: &BTreeMap<&str, Count>) {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    println!("\n{name} · {language}");
    println!(
        "{:<20}{:>7}{:>7}{:>9}{:>9}{:>9}{:>9}{:>9}",
        "kind", "there", "found", "exact P", "exact R", "exact F1", "char R", "over F2"
    );
    let mut sum = Count::default();
    for (kind, count) in counts.iter().filter(|(_, count)| count.truths + count.found > 0) {
        line(kind, *count);
        sum.add(*count);
    }
    line("all", sum);
}

fn line(kind: &str, count: Count) {
    let share =
        |part: usize, whole: usize| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    let (precision, recall) = (share(count.exact, count.found), share(count.exact, count.truths));
    let (near, touched) =
        (share(count.found_touching, count.found), share(count.truths_touched, count.truths));
    let f = |beta: f64, p: f64, r: f64| {
        let weight = beta * beta;
        if p + r > 0.0 { (1.0 + weight) * p * r / (weight * p + r) } else { 0.0 }
    };
    println!(
        "{kind:<20}{:>7}{:>7}{precision:>9.3}{recall:>9.3}{:>9.3}{:>9.3}{:>9.3}",
        count.truths,
        count.found,
        f(1.0, precision, recall),
        share(count.covered, count.characters),
        f(2.0, near, touched),
    );
}

fn tell(row: &Row, kind: &str, found: &[Span]) {
    let slice = |span: &Span| {
        row.text.chars().skip(span.start).take(span.end - span.start).collect::<String>()
    };
    let of =
        |spans: &[Span]| spans.iter().filter(|s| s.kind == kind).map(slice).collect::<Vec<_>>();
    let (truths, found) = (of(&row.spans), of(found));
    if truths != found {
        println!("{truths:?} / {found:?}  in {:?}", row.text);
    }
}
