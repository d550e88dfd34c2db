//! Scores the rules of `classify` and `guard` on a folder of labelled data, per language.
//!
//! `cargo run --release -p stellwerk-core --example score_rules -- DIR [--misses | --speed]`, where DIR has
//! `task_type/dev_real.jsonl.gz`, `sensitivity/train.jsonl.gz` and so on; what is not there is
//! left out. Needs `gzip`.
#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;
use stellwerk_core::classify::rules::Rules;
use stellwerk_core::classify::{Classifier, Input};
use stellwerk_core::guard;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(folder) = arguments.first() else {
        println!("usage: score_rules DIR [--misses | --speed]");
        return;
    };
    let misses = arguments.iter().any(|argument| argument == "--misses");
    if arguments.iter().any(|argument| argument == "--speed") {
        return speed();
    }
    let folder = Path::new(folder);
    task(&folder.join("task_type/dev_real.jsonl.gz"), misses);
    task(&folder.join("task_type/valid.jsonl.gz"), false);
    sensitivity(&folder.join("sensitivity/train.jsonl.gz"), misses);
    everyday(&folder.join("task_type/dev_real.jsonl.gz"), misses);
    language(&folder.join("langid/train.jsonl.gz"));
    complexity(&folder.join("complexity/train.jsonl.gz"));
    injection(&folder.join("injection/train.jsonl.gz"), misses);
    pii(&folder.join("pii/pii_authored.jsonl.gz"), misses);
    speed();
}

/// The rows of a file; none where it is missing.
fn rows(path: &Path) -> Vec<Value> {
    let mut child = match Command::new("gzip").arg("-dc").arg(path).stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => {
            println!("gzip cannot be started: {error}");
            return Vec::new();
        }
    };
    let lines = child.stdout.take().map(|out| BufReader::new(out).lines());
    let rows: Vec<Value> = lines
        .into_iter()
        .flatten()
        .map_while(Result::ok)
        .filter_map(|line| serde_json::from_str(&line).ok())
        .collect();
    if let Err(error) = child.wait() {
        println!("gzip: {error}");
    }
    rows
}

fn field<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_default()
}

#[derive(Default)]
struct Share {
    right: usize,
    all: usize,
}

impl Share {
    fn count(&mut self, right: bool) {
        self.right += usize::from(right);
        self.all += 1;
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let share = self.right as f64 / self.all.max(1) as f64;
        write!(f, "{share:.3} ({}/{})", self.right, self.all)
    }
}

fn print(title: &str, shares: &BTreeMap<String, Share>) {
    for (name, share) in shares {
        println!("{title:<32} {name:<28} {share}");
    }
}

fn short(text: &str) -> String {
    text.chars().take(110).collect::<String>().replace('\n', "⏎")
}

fn task(path: &Path, misses: bool) {
    let mut shares: BTreeMap<String, Share> = BTreeMap::new();
    let mut bins: [(f64, Share); 10] = Default::default();
    for row in rows(path) {
        let found = Rules.classify(&Input::text(field(&row, "text")));
        let right = found.task.as_str() == field(&row, "label");
        shares.entry(field(&row, "lang").to_owned()).or_default().count(right);
        let bin = &mut bins[((found.task_confidence * 10.0) as usize).min(9)];
        bin.0 += f64::from(found.task_confidence);
        bin.1.count(right);
        if misses {
            shares
                .entry(format!("{} {}", field(&row, "lang"), field(&row, "label")))
                .or_default()
                .count(right);
            if !right {
                println!(
                    "  {} → {} {:.2} | {}",
                    field(&row, "label"),
                    found.task,
                    found.task_confidence,
                    short(field(&row, "text"))
                );
            }
        }
    }
    let name = format!("task {}", path.file_name().and_then(|n| n.to_str()).unwrap_or_default());
    print(&name, &shares);
    let all: usize = bins.iter().map(|(_, share)| share.all).sum();
    let error: f64 = bins.iter().map(|(sum, share)| (sum - share.right as f64).abs()).sum();
    println!("{name:<32} calibration error {:.3}", error / all.max(1) as f64);
}

fn sensitivity(path: &Path, misses: bool) {
    let mut shares: BTreeMap<String, Share> = BTreeMap::new();
    for row in rows(path) {
        let text = field(&row, "text");
        let found = Rules.classify(&Input::text(text));
        let config = stellwerk_core::config::GuardConfig::default();
        let request = stellwerk_core::request::ChatRequest::ask(text);
        let seen = guard::inspect(&request, &config).ok().and_then(|found| found.sensitivity());
        let joined = Some(found.sensitivity).max(seen).unwrap_or(found.sensitivity);
        let label = field(&row, "label");
        let lang = field(&row, "lang");
        let right = found.sensitivity.as_str() == label;
        shares.entry(lang.to_owned()).or_default().count(right);
        shares.entry(format!("{lang} recall of {label}")).or_default().count(right);
        if label == "restricted" {
            shares
                .entry(format!("{lang} restricted with guard"))
                .or_default()
                .count(joined.as_str() == label);
        }
        if misses && !right {
            println!("  {label} → {} | {}", found.sensitivity, short(text));
        }
    }
    print("sensitivity", &shares);
}

/// Everyday questions that would need a model in the house or in the EU.
fn everyday(path: &Path, misses: bool) {
    let mut shares: BTreeMap<String, Share> = BTreeMap::new();
    for row in rows(path) {
        let found = Rules.classify(&Input::text(field(&row, "text")));
        let high = found.sensitivity >= stellwerk_core::request::Sensitivity::Confidential;
        shares.entry(field(&row, "lang").to_owned()).or_default().count(high);
        if misses && high {
            println!("  {} | {}", found.sensitivity, short(field(&row, "text")));
        }
    }
    print("everyday held confidential or up", &shares);
}

fn language(path: &Path) {
    let mut shares: BTreeMap<String, Share> = BTreeMap::new();
    for row in rows(path) {
        let found = Rules.classify(&Input::text(field(&row, "text")));
        let right = found.language == field(&row, "label");
        shares.entry(field(&row, "label").to_owned()).or_default().count(right);
        shares.entry("all".to_owned()).or_default().count(right);
    }
    print("language", &shares);
}

fn complexity(path: &Path) {
    let mut by_source: BTreeMap<String, Vec<(f32, bool)>> = BTreeMap::new();
    for row in rows(path) {
        let weak = ["Meta-Llama-3_1-8B-Instruct", "llama-3.1-8b-instruct"];
        let Some(score) = weak.iter().find_map(|model| row["scores"][model].as_f64()) else {
            continue;
        };
        let found = Rules.classify(&Input::text(field(&row, "text")));
        let scores = by_source.entry(field(&row, "source").to_owned()).or_default();
        scores.push((found.complexity, score < 0.5));
    }
    for (source, scores) in by_source {
        println!("{:<32} {source:<28} AUC {:.3} (a small model fails)", "complexity", auc(&scores));
    }
}

fn injection(path: &Path, misses: bool) {
    let mut shares: BTreeMap<String, Share> = BTreeMap::new();
    let mut by_language: BTreeMap<String, Vec<(f32, bool)>> = BTreeMap::new();
    for row in rows(path) {
        let probability = guard::injection(field(&row, "text"));
        let is_attack = row["label"].as_i64() == Some(1);
        let lang = field(&row, "lang");
        let what = if is_attack { "recall" } else { "false alarms" };
        shares.entry(format!("{lang} {what}")).or_default().count(probability > 0.5);
        shares
            .entry(format!("{what} {}", field(&row, "source")))
            .or_default()
            .count(probability > 0.5);
        by_language.entry(lang.to_owned()).or_default().push((probability, is_attack));
        if misses && (probability > 0.5) != is_attack {
            println!(
                "  {what} {probability:.2} {} | {}",
                field(&row, "source"),
                short(field(&row, "text"))
            );
        }
    }
    print("injection", &shares);
    for (lang, scores) in by_language {
        println!("{:<32} {lang:<28} AUC {:.3}", "injection", auc(&scores));
    }
}

/// The share of pairs in the right order.
fn auc(scores: &[(f32, bool)]) -> f64 {
    let mut sorted: Vec<(f32, bool)> = scores.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut pairs, mut wins) = (0.0_f64, 0.0_f64, 0.0_f64);
    let mut at = 0;
    while at < sorted.len() {
        let same = sorted[at..]
            .iter()
            .take_while(|(score, _)| score.total_cmp(&sorted[at].0).is_eq())
            .count();
        let positives =
            sorted[at..at + same].iter().filter(|(_, positive)| *positive).count() as f64;
        let negatives = same as f64 - positives;
        wins += positives * (below + negatives / 2.0);
        pairs += positives;
        below += negatives;
        at += same;
    }
    wins / (pairs * below).max(1.0)
}

fn pii(path: &Path, misses: bool) {
    let mut characters: BTreeMap<String, Share> = BTreeMap::new();
    let (mut clean, mut spurious) = (0_usize, 0_usize);
    let mut false_alarms: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows(path) {
        let text = field(&row, "text");
        let lang = field(&row, "lang");
        let found = guard::pii(text);
        let spans = row["spans"].as_array().cloned().unwrap_or_default();
        let covered = |at: usize| found.iter().any(|span| span.start <= at && at < span.end);
        for span in &spans {
            let start = span["start"].as_u64().unwrap_or_default() as usize;
            let end = span["end"].as_u64().unwrap_or_default() as usize;
            let kind = field(span, "type");
            let seen = (start..end).filter(|at| covered(*at)).count();
            for name in [format!("{lang} all"), format!("{lang} {kind}"), "all".to_owned()] {
                let share = characters.entry(name).or_default();
                share.right += seen;
                share.all += end - start;
            }
            if misses && seen * 2 < end - start {
                println!("  missed {kind} {} | {}", field(span, "value"), short(text));
            }
        }
        for span in &found {
            let overlaps = spans.iter().any(|s| {
                let start = s["start"].as_u64().unwrap_or_default() as usize;
                let end = s["end"].as_u64().unwrap_or_default() as usize;
                start < span.end && span.start < end
            });
            clean += usize::from(overlaps);
            if !overlaps {
                spurious += 1;
                *false_alarms.entry(span.kind.to_owned()).or_default() += 1;
                if misses {
                    println!("  spurious {} {} | {}", span.kind, span.text, short(text));
                }
            }
        }
    }
    print("pii, characters found", &characters);
    println!("pii: {clean} findings touch a labelled span, {spurious} do not: {false_alarms:?}");
}

fn speed() {
    let english = "We have a meeting with the supplier next week about the new frames. Please write a short and friendly email that asks them for the delivery dates, the quality report of the last two batches and the name of the person who will join us, and thank them for the quick answer to our last question about packaging.";
    let german = "Wir haben nächste Woche ein Treffen mit dem Lieferanten wegen der neuen Rahmen. Bitte schreibe eine kurze und freundliche E-Mail, die nach den Lieferterminen, dem Prüfbericht der letzten beiden Chargen und dem Namen der Person fragt, die zu uns kommt, und bedanke dich für die schnelle Antwort auf unsere letzte Frage zur Verpackung.";
    for (name, text) in [("en", english), ("de", german)] {
        let input = Input::text(text);
        let config = stellwerk_core::config::GuardConfig::default();
        let request = stellwerk_core::request::ChatRequest::ask(text);
        time(&format!("classify 60 words {name}"), 2_000, || drop(Rules.classify(&input)));
        time(&format!("personal data 60 words {name}"), 2_000, || drop(guard::pii(text)));
        time(&format!("attacks 60 words {name}"), 2_000, || {
            guard::injection(text);
        });
        time(&format!("inspect 60 words {name}"), 2_000, || {
            drop(guard::inspect(&request, &config))
        });
    }
    let long = format!("{english} {german} ").repeat(1_000_000 / 660);
    let input = Input::text(long.clone());
    time("personal data 1 MB", 3, || drop(guard::pii(&long)));
    time("attacks 1 MB", 3, || {
        guard::injection(&long);
    });
    let request = stellwerk_core::request::ChatRequest::ask(long);
    let config = stellwerk_core::config::GuardConfig::default();
    time("classify 1 MB", 5, || drop(Rules.classify(&input)));
    time("inspect 1 MB", 5, || drop(guard::inspect(&request, &config)));
}

fn time(name: &str, times: u32, mut work: impl FnMut()) {
    work();
    let began = Instant::now();
    for _ in 0..times {
        work();
    }
    println!("{name:<32} {:.1} µs", began.elapsed().as_secs_f64() * 1e6 / f64::from(times));
}
