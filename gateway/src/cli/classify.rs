//! `stellwerk classify`: what kind of work is a text, and what must not leave the house?
//!
//! Needs no store and no configuration. With `--jsonl` it reads a line, writes a line, in order,
//! and keeps nothing, so that the input may be of any size. A line that cannot be read becomes
//! `{"id","error"}` in its place; the rest is still done, and the command ends with exit 1.

use std::io::{self, BufRead, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stellwerk_core::classify::own::{Found, Own, OwnError};
use stellwerk_core::classify::rules::Rules;
use stellwerk_core::classify::trained::{self, Trained};
use stellwerk_core::classify::{Classifier, Input};
use stellwerk_core::config::GuardConfig;
use stellwerk_core::engine;
use stellwerk_core::guard::{self, hints::Hints};
use stellwerk_core::request::{ChatRequest, Domain, Sensitivity, TaskKind};

use crate::cli::args::ClassifyArgs;
use crate::cli::lines::{self, Line};
use crate::cli::setup::Context;
use crate::cli::{CommandError, output};
use crate::wiring::chain;

/// The row of the contract.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Value>,
    task: TaskKind,
    task_confidence: f32,
    complexity: f32,
    sensitivity: Sensitivity,
    injection: f32,
    language: String,
    pii: Vec<Span>,
    domain: Domain,
    unsure: bool,
    stage: String,
    micros: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom: Option<Custom>,
}

/// What a classifier of one's own says; below its threshold no rule relies on it.
#[derive(Debug, Serialize)]
struct Custom {
    label: String,
    confidence: f32,
    sure: bool,
}

impl From<Found> for Custom {
    fn from(found: Found) -> Self {
        Custom { label: found.label, confidence: found.confidence, sure: found.is_sure }
    }
}

/// Offsets are in Unicode code points.
#[derive(Debug, Serialize)]
struct Span {
    kind: &'static str,
    start: usize,
    end: usize,
    text: String,
}

/// A line of input.
#[derive(Debug, Deserialize)]
struct Question {
    #[serde(default)]
    id: Value,
    text: String,
}

/// What stands in the place of a line that cannot be read.
#[derive(Debug, Serialize)]
pub(super) struct BadLine {
    pub id: Value,
    pub error: String,
}

pub(super) fn run(context: &Context, args: &ClassifyArgs) -> Result<(), CommandError> {
    let reader = Reader::new(context, args.classifier.as_deref())?;
    if args.jsonl {
        return jsonl(context, &reader, &mut io::stdin().lock(), &mut output::stdout());
    }
    let text = text_or_stdin(args.text.as_deref().unwrap_or("-"))?;
    let mut row = serde_json::to_string(&reader.row(&text)?)?;
    row.push('\n');
    let mut out = output::stdout();
    out.write_all(row.as_bytes())?;
    Ok(out.flush()?)
}

/// The text of the command line, or standard input for `-`.
pub(super) fn text_or_stdin(text: &str) -> Result<String, CommandError> {
    if text != "-" {
        return Ok(text.to_owned());
    }
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(|_| {
        CommandError::refused(
            "Standard input is not UTF-8; convert it first, for example with iconv.",
            "Die Standardeingabe ist kein UTF-8; bitte vorher umwandeln, etwa mit iconv.",
        )
    })
}

fn jsonl(
    context: &Context,
    reader: &Reader,
    input: &mut impl BufRead,
    out: &mut impl Write,
) -> Result<(), CommandError> {
    let mut bad = BadLines::default();
    let progress = output::counter("{spinner} {human_pos} · {per_sec}");
    let mut buffered = io::BufReader::with_capacity(1 << 16, input);
    let mut number = 0_u64;
    while let Some(line) = lines::next(&mut buffered)? {
        number += 1;
        match read(line) {
            Ok(None) => continue,
            Ok(Some(question)) => {
                let row = Row { id: Some(question.id), ..reader.row(&question.text)? };
                serde_json::to_writer(&mut *out, &row)?;
            }
            Err(row) => {
                bad.note(number, &row.error);
                serde_json::to_writer(&mut *out, &row)?;
            }
        }
        out.write_all(b"\n")?;
        progress.inc(1);
        // Whoever types or pipes line by line sees each answer at once; a file is written in
        // large pieces.
        if buffered.buffer().is_empty() {
            out.flush()?;
        }
    }
    out.flush()?;
    progress.finish_and_clear();
    bad.end(context)
}

fn read(line: Line) -> Result<Option<Question>, BadLine> {
    let line = text_of(line)?;
    if line.trim().is_empty() {
        return Ok(None);
    }
    parse(&line).map(Some)
}

/// The text of a line, or what stands in its place.
pub(super) fn text_of(line: Line) -> Result<String, BadLine> {
    let bad = |error: &str| BadLine { id: Value::Null, error: error.to_owned() };
    match line {
        Line::Text(text) => Ok(text),
        Line::NotUtf8 => Err(bad("the line is not UTF-8")),
        Line::TooLong => {
            Err(bad(&format!("the line is longer than {} MiB", lines::MAX_LINE_BYTES >> 20)))
        }
    }
}

/// Reads a line of JSON. One that is an object but lacks what is needed keeps its id, so that the
/// reader of the answers knows which it was.
pub(super) fn parse<T: serde::de::DeserializeOwned>(line: &str) -> Result<T, BadLine> {
    let unreadable = |id: Value, error: serde_json::Error| {
        // The message names field and column; serde quotes values of a wrong type, and those
        // may be somebody's text, so a type error is told without it.
        let error = match error.classify() {
            serde_json::error::Category::Data => {
                "the line needs a field `text` that is a string".to_owned()
            }
            _ => format!("the line is no JSON object (column {})", error.column()),
        };
        BadLine { id, error }
    };
    let value: Value =
        serde_json::from_str(line).map_err(|error| unreadable(Value::Null, error))?;
    let id = value.get("id").cloned().unwrap_or_default();
    serde_json::from_value(value).map_err(|error| unreadable(id, error))
}

/// Lines that could not be read: the first few are told, all are counted.
#[derive(Debug, Default)]
pub(super) struct BadLines {
    count: u64,
    told: Vec<String>,
}

impl BadLines {
    /// Remembers a line, counted from 1.
    pub fn note(&mut self, number: u64, error: &str) {
        self.count += 1;
        if self.told.len() < 20 {
            self.told.push(format!("{number}: {error}"));
        }
    }

    /// Tells the person, if there were any.
    pub fn end(self, context: &Context) -> Result<(), CommandError> {
        if self.count == 0 {
            return Ok(());
        }
        for line in &self.told {
            output::say(line);
        }
        output::say(&context.words(
            format!("{} lines could not be read; the others are done.", self.count),
            format!("{} Zeilen waren nicht lesbar; die anderen sind erledigt.", self.count),
        ));
        Err(CommandError::Told)
    }
}

fn no_classifier(error: &OwnError) -> CommandError {
    let cause = chain(error);
    CommandError::refused(cause.clone(), format!("Der Klassifikator ist nicht verwendbar: {cause}"))
}

/// What reads the lines: what ships, or the rules where that is damaged.
struct Reader {
    trained: Option<Arc<Trained>>,
    own: Option<Own>,
}

impl Reader {
    fn new(context: &Context, own: Option<&Path>) -> Result<Self, CommandError> {
        let own = own.map(Own::load).transpose().map_err(|error| no_classifier(&error))?;
        let trained = match &*trained::SHIPPED {
            Ok(trained) => Some(trained.clone()),
            Err(error) => {
                output::say(&context.words(
                    format!("The trained classifier cannot be used ({error}); rules take over."),
                    format!("Der trainierte Klassifikator ist nicht verwendbar ({error}); es gelten Regeln."),
                ));
                None
            }
        };
        let needed = own.as_ref().and_then(Own::encoder);
        if needed.is_some() && needed != trained.as_deref().and_then(Trained::encoder_id) {
            return Err(CommandError::refused(
                "The classifier was trained with another encoder than the one that is here; train it again.",
                "Der Klassifikator wurde mit einem anderen Encoder trainiert als dem hiesigen; bitte neu trainieren.",
            ));
        }
        Ok(Reader { trained, own })
    }

    fn custom(&self, own: &Own, input: &Input) -> Custom {
        let encoder = self.trained.as_ref().filter(|_| own.encoder().is_some());
        let vector = encoder.and_then(|encoder| encoder.vector(input));
        Custom::from(own.classify(input, vector.as_deref()))
    }

    fn row(&self, text: &str) -> Result<Row, CommandError> {
        let request = ChatRequest::ask(text);
        let texts = [text.to_owned()];
        let began = Instant::now();
        let hints = match &self.trained {
            Some(trained) => engine::as_hints(&texts, trained.scan(&texts)),
            None => Hints::default(),
        };
        let input = Input::text(text);
        let classification = match &self.trained {
            Some(trained) => trained.classify(&input),
            None => Rules.classify(&input),
        };
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let spans = guard::pii_with(text, &hints);
        let inspection = guard::inspect_with(&request, &GuardConfig::default(), hints)
            .map_err(|error| CommandError::Internal(error.into()))?;
        let found = inspection.sensitivity().unwrap_or(Sensitivity::Public);
        let pii = spans.into_iter().map(|span| Span {
            kind: span.kind,
            start: span.start,
            end: span.end,
            text: span.text,
        });
        Ok(Row {
            id: None,
            task: classification.task,
            task_confidence: classification.task_confidence,
            complexity: classification.complexity,
            // What is in the text counts as much as what it is about.
            sensitivity: classification.sensitivity.max(found),
            injection: inspection.findings.injection,
            language: classification.language,
            pii: pii.collect(),
            domain: classification.domain,
            unsure: classification.unsure,
            custom: self.own.as_ref().map(|own| self.custom(own, &input)),
            stage: classification.stage,
            micros,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stellwerk_core::request::Locale;

    fn context() -> Context {
        Context { config: None, locale: Locale::En }
    }

    fn rows(input: &str) -> (Vec<Value>, Result<(), CommandError>) {
        let mut out = Vec::new();
        let reader = Reader::new(&context(), None).unwrap();
        let end = jsonl(&context(), &reader, &mut input.as_bytes(), &mut out);
        let text = String::from_utf8(out).unwrap();
        (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), end)
    }

    #[test]
    fn a_row_has_every_field_of_the_contract() {
        let (rows, end) = rows("{\"id\":7,\"text\":\"Fasse den Text zusammen.\"}\n");
        assert!(end.is_ok());
        let fields: Vec<&str> = rows[0].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            fields,
            [
                "id",
                "task",
                "task_confidence",
                "complexity",
                "sensitivity",
                "injection",
                "language",
                "pii",
                "domain",
                "unsure",
                "stage",
                "micros"
            ]
        );
        assert_eq!(rows[0]["id"], 7);
        assert_eq!(rows[0]["language"], "de");
    }

    #[test]
    fn offsets_are_code_points_and_findings_raise_the_level() {
        let text = "Grüße! Die IBAN ist DE89370400440532013000.";
        let (rows, _) = rows(&serde_json::json!({ "id": "a", "text": text }).to_string());
        let span = &rows[0]["pii"][0];
        assert_eq!(span["kind"], "IBAN");
        let (start, end) = (span["start"].as_u64().unwrap(), span["end"].as_u64().unwrap());
        let cut: String = text.chars().skip(start as usize).take((end - start) as usize).collect();
        assert_eq!(cut, "DE89370400440532013000");
        assert_eq!(span["text"], cut);
        assert_eq!(rows[0]["sensitivity"], "restricted");
    }

    #[test]
    fn a_bad_line_stands_in_its_place_and_the_rest_is_done() {
        let input = "{\"id\":1,\"text\":\"hi\"}\nnonsense\n\n{\"id\":3,\"text\":5}\n{\"id\":4,\"text\":\"ok\"}";
        let (rows, end) = rows(input);
        assert!(matches!(end, Err(CommandError::Told)));
        let ids: Vec<&Value> = rows.iter().map(|row| &row["id"]).collect();
        assert_eq!(ids, [&Value::from(1), &Value::Null, &Value::from(3), &Value::from(4)]);
        assert!(rows[1]["error"].is_string() && rows[2]["error"].is_string());
        assert!(rows[3]["error"].is_null());
    }
}
