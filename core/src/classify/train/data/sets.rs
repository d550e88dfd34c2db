//! What each known set says, and how its labels become ours.
//!
//! One function a set: a row as written in, an example out. Weak labels (a trivia question is
//! public, a code exercise is about technology) are given here in plain sight and nowhere else.

use crate::classify::Input;
use crate::classify::train::data::{Entity, Example, Row, Span};
use crate::request::{Domain, Sensitivity, TaskKind};

/// Turns a row into an example, or says what is wrong with it.
pub(super) type Reader = fn(Row, &str) -> Result<Example, String>;

/// The sets to learn from, relative to the data folder.
pub(super) const TRAIN: &[(&str, Reader)] = &[
    ("task_type/train.jsonl.gz", task),
    ("injection/train.jsonl.gz", injection),
    ("sensitivity/train.jsonl.gz", sensitivity),
    ("complexity/train.jsonl.gz", complexity),
    ("langid/train.jsonl.gz", language),
    ("pii/pii_authored.jsonl.gz", pii),
    ("pii/pii_presidio_en.jsonl.gz", pii),
    ("pii/ner_germeval2014_dev.jsonl.gz", pii),
];

/// Models of the complexity set that a company would call cheap.
pub const WEAK_MODELS: &[&str] = &[
    "Meta-Llama-3_1-8B-Instruct",
    "Mixtral-8x7B-Instruct-v0.1",
    "Phi-3-mini-4k-instruct",
    "llama-3.1-8b-instruct",
    "qwen2.5-7b-instruct",
    "gemma-2-9b-it",
];

/// Models of the complexity set that it would turn to next.
pub const STRONG_MODELS: &[&str] = &[
    "gemini-1.5-pro-002",
    "gemini-1.5-flash-002",
    "Meta-Llama-3_1-70B-Instruct",
    "llama-3.1-nemotron-51b-instruct",
    "llama-3.3-nemotron-super-49b-v1",
];

fn base(row: &Row, file: &str) -> Result<Example, String> {
    if row.text.is_empty() && row.label.is_none() && row.task.is_none() {
        return Err("\"text\" is missing".to_owned());
    }
    let lang = row.lang.clone().unwrap_or_else(|| "und".to_owned());
    Ok(Example {
        text: row.text.clone(),
        source: row.source.clone().unwrap_or_else(|| file.to_owned()),
        weight: row.weight.unwrap_or(1.0),
        language: matches!(lang.as_str(), "de" | "en").then(|| lang.clone()),
        lang,
        ..Example::default()
    })
}

fn label(row: &Row) -> Result<&str, String> {
    let missing = || "\"label\" is missing or no word".to_owned();
    row.label.as_ref().and_then(serde_json::Value::as_str).ok_or_else(missing)
}

fn word<T>(read: fn(&str) -> Option<T>, field: &str, word: &str) -> Result<T, String> {
    read(word).ok_or_else(|| format!("\"{field}\" is none of the known words"))
}

/// Task type. The sources are public texts, and none of them attacks.
pub(super) fn task(row: Row, file: &str) -> Result<Example, String> {
    let mut example = base(&row, file)?;
    example.task = Some(word(TaskKind::from_word, "label", label(&row)?)?);
    example.injection = Some(false);
    let is_short_talk = matches!(
        example.source.as_str(),
        "clinc150_small_talk" | "clinc150_device" | "xsid_valid" | "authored_train"
    );
    if is_short_talk {
        example.complexity = Some(0.05);
    }
    let is_world_knowledge = matches!(
        example.source.as_str(),
        "dolly"
            | "gpteacher_codegen"
            | "gpteacher_roleplay"
            | "gsm8k_train"
            | "bbh"
            | "mgsm_de"
            | "covid_faq"
            | "qald9plus"
            | "nq_open_dev"
            | "humaneval_xl"
            | "clinc150_small_talk"
    );
    if is_world_knowledge {
        example.sensitivity = Some(Sensitivity::Public);
    }
    example.domain = match example.source.as_str() {
        "gpteacher_codegen" | "humaneval_xl" => Some(Domain::Technology),
        "covid_faq" => Some(Domain::Health),
        "clinc150_small_talk" | "clinc150_device" | "xsid_valid" => Some(Domain::General),
        _ => None,
    };
    Ok(example)
}

fn injection(row: Row, file: &str) -> Result<Example, String> {
    let mut example = base(&row, file)?;
    example.injection = Some(flag(row.label.as_ref()).ok_or("\"label\" is neither 0 nor 1")?);
    Ok(example)
}

fn flag(value: Option<&serde_json::Value>) -> Option<bool> {
    match value? {
        serde_json::Value::Bool(flag) => Some(*flag),
        value => match value.as_i64()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        },
    }
}

fn sensitivity(row: Row, file: &str) -> Result<Example, String> {
    let mut example = base(&row, file)?;
    example.sensitivity = Some(word(Sensitivity::from_word, "label", label(&row)?)?);
    example.injection = Some(false);
    Ok(example)
}

/// The target is the share of cheap models that fail. Where the strong ones fail as well the row
/// counts less: no choice of model would have helped, and such rows are often simply wrong.
fn complexity(row: Row, file: &str) -> Result<Example, String> {
    let mut example = base(&row, file)?;
    let group = row.group.clone().unwrap_or_default();
    let of = |models: &[&str]| -> Vec<f32> {
        models.iter().filter_map(|model| row.scores.get(*model).copied()).collect()
    };
    let weak = of(WEAK_MODELS);
    if weak.is_empty() {
        return Err("no score of a model that is known to be cheap".to_owned());
    }
    example.complexity = Some(1.0 - weak.iter().sum::<f32>() / weak.len() as f32);
    let strong = of(STRONG_MODELS).into_iter().fold(0.0, f32::max);
    example.weight = if strong < 0.5 { 0.4 } else { 1.0 };
    example.domain = match group.as_str() {
        "chemistry" | "physics" | "math" | "biology" | "gpqa" => Some(Domain::Science),
        "engineering" | "computer science" | "mbpp" | "human_eval" => Some(Domain::Technology),
        "economics" => Some(Domain::Finance),
        "trivia_qa" | "natural_qa" | "commonsense_qa" => Some(Domain::General),
        _ => None,
    };
    example.sensitivity = Some(Sensitivity::Public);
    example.injection = Some(false);
    example.source = format!("{}:{group}", example.source);
    example.scores = row.scores;
    Ok(example)
}

fn language(row: Row, file: &str) -> Result<Example, String> {
    let mut example = base(&row, file)?;
    let label = label(&row)?.to_owned();
    example.lang.clone_from(&label);
    example.language = Some(label);
    Ok(example)
}

fn pii(row: Row, file: &str) -> Result<Example, String> {
    let mut example = base(&row, file)?;
    example.span_kinds = match example.source.as_str() {
        "germeval2014_dev" => vec![Entity::Person, Entity::Organization, Entity::Location],
        "authored_train" => vec![Entity::Person, Entity::Address],
        _ => Entity::ALL.to_vec(),
    };
    if example.source == "authored_train" {
        // The task set has a source of this name too, and leaving one out must not take the other.
        example.source = "pii_authored".to_owned();
    }
    example.spans = spans(&row, &example.text)?;
    Ok(example)
}

fn spans(row: &Row, text: &str) -> Result<Vec<Span>, String> {
    let length = text.chars().count();
    let mut spans = Vec::new();
    for span in row.spans.iter().flatten() {
        if span.start >= span.end || span.end > length {
            return Err(format!("a span {}..{} lies outside of the text", span.start, span.end));
        }
        let kind = match span.kind.as_str() {
            "PERSON" => Entity::Person,
            "ORGANIZATION" => Entity::Organization,
            "LOCATION" | "GPE" => Entity::Location,
            "ADDRESS" | "STREET_ADDRESS" => Entity::Address,
            // Numbers and titles: patterns find the former, nobody needs the latter.
            _ => continue,
        };
        spans.push(Span { kind, start: span.start, end: span.end });
    }
    spans.sort_by_key(|span| span.start);
    Ok(spans)
}

/// Our own lines: every label that is there is read, each by its word.
pub(super) fn authored(row: Row, file: &str) -> Result<Example, String> {
    let mut example = base(&row, file)?;
    let read = |word_of: &Option<String>| word_of.clone();
    if let Some(task) = read(&row.task) {
        example.task = Some(word(TaskKind::from_word, "task", &task)?);
    }
    if let Some(domain) = read(&row.domain) {
        example.domain = Some(word(Domain::from_word, "domain", &domain)?);
    }
    if let Some(level) = read(&row.sensitivity) {
        example.sensitivity = Some(word(Sensitivity::from_word, "sensitivity", &level)?);
    }
    if let Some(language) = row.language.clone() {
        example.language = Some(language);
    }
    if let Some(complexity) = row.complexity {
        if !(0.0..=1.0).contains(&complexity) {
            return Err("\"complexity\" is not between 0 and 1".to_owned());
        }
        example.complexity = Some(complexity);
    }
    if row.injection.is_some() {
        let flag = flag(row.injection.as_ref()).ok_or("\"injection\" is neither 0 nor 1")?;
        example.injection = Some(flag);
    }
    if row.spans.is_some() {
        example.spans = spans(&row, &example.text)?;
        example.span_kinds = Entity::ALL.to_vec();
    }
    let conversation = Input {
        system: row.system.unwrap_or_default(),
        history: row.turns.into_iter().rev().map(|turn| turn.text).collect(),
        ..Input::default()
    };
    example.context = conversation.context();
    Ok(example)
}
