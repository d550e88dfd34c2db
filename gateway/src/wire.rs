//! Reading JSON that a stranger wrote: the right type in the right range, or a clear word about
//! which field is wrong.
//!
//! Both wire formats are read with these words. Values are taken apart, never copied, and a path
//! such as `messages[2].content` is written out only when something is wrong. Knows nothing of
//! what the fields mean.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};
use stellwerk_core::ids::{ModelId, PolicyId, UseCase};
use stellwerk_core::reply::Words;
use stellwerk_core::request::{Options, Sensitivity, Target};

/// Where in the request a value stands.
#[derive(Clone, Copy)]
pub enum Path<'a> {
    /// The request itself.
    Root,
    /// A field of an object.
    Field(&'a Path<'a>, &'a str),
    /// An element of a list.
    Item(&'a Path<'a>, usize),
}

impl<'a> Path<'a> {
    /// A field below here.
    pub fn field(&'a self, name: &'a str) -> Path<'a> {
        Path::Field(self, name)
    }

    /// An element below here.
    pub fn item(&'a self, index: usize) -> Path<'a> {
        Path::Item(self, index)
    }

    /// Something is wrong here: what it must be, in English and German.
    pub fn must_be(&self, en: impl fmt::Display, de: impl fmt::Display) -> Invalid {
        let words = match self {
            Path::Root => Words::new(
                format!("the request must be {en}"),
                format!("die Anfrage muss {de} sein"),
            ),
            _ => Words::new(format!("`{self}` must be {en}"), format!("`{self}` muss {de} sein")),
        };
        Invalid { param: self.param(), message: words }
    }

    /// Something is wrong here, in whole sentences.
    pub fn wrong(&self, en: impl Into<String>, de: impl Into<String>) -> Invalid {
        Invalid { param: self.param(), message: Words::new(en, de) }
    }

    /// What must be here is not.
    pub fn missing(&self) -> Invalid {
        self.wrong(format!("`{self}` is missing"), format!("`{self}` fehlt"))
    }

    fn param(&self) -> Option<String> {
        match self {
            Path::Root => None,
            _ => Some(self.to_string()),
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Field(Path::Root, name) => write!(f, "{name}"),
            Path::Field(above, name) => write!(f, "{above}.{name}"),
            Path::Item(above, index) => write!(f, "{above}[{index}]"),
        }
    }
}

/// A request that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The field, `messages[2].content`; `None`: the body as a whole.
    pub param: Option<String>,
    /// What is wrong. Never quotes the request beyond the names of fields.
    pub message: Words,
}

/// Parses a body. Nesting is bound by the parser (128 levels), so a hostile body cannot exhaust
/// the stack.
pub fn object_of(body: &[u8]) -> Result<Map<String, Value>, Invalid> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Path::Root.must_be("a JSON object", "ein JSON-Objekt")),
        Err(error) => Err(not_json(body, &error)),
    }
}

fn not_json(body: &[u8], error: &serde_json::Error) -> Invalid {
    if body.is_empty() {
        return Path::Root.wrong(
            "the body is empty; send a JSON object",
            "der Inhalt ist leer; ein JSON-Objekt wird erwartet",
        );
    }
    if let Err(broken) = std::str::from_utf8(body) {
        let at = broken.valid_up_to();
        return Path::Root.wrong(
            format!("the body is not valid UTF-8 (first at byte {at})"),
            format!("der Inhalt ist kein gültiges UTF-8 (zuerst bei Byte {at})"),
        );
    }
    // The parser's message names what it expected and where, and never what stood there.
    Path::Root.wrong(
        format!("the body is not valid JSON: {error}"),
        format!("der Inhalt ist kein gültiges JSON: {error}"),
    )
}

/// A text.
pub fn string(at: Path<'_>, value: Value) -> Result<String, Invalid> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(at.must_be("a string", "eine Zeichenkette")),
    }
}

/// A text with at least one character.
pub fn name(at: Path<'_>, value: Value) -> Result<String, Invalid> {
    match value {
        Value::String(text) if !text.is_empty() => Ok(text),
        _ => Err(at.must_be("a non-empty string", "eine nicht leere Zeichenkette")),
    }
}

/// `true` or `false`.
pub fn boolean(at: Path<'_>, value: Value) -> Result<bool, Invalid> {
    value.as_bool().ok_or_else(|| at.must_be("true or false", "true oder false"))
}

/// A whole number in a range.
pub fn integer(at: Path<'_>, value: Value, range: RangeInclusive<i64>) -> Result<i64, Invalid> {
    // `5.0` is five: some clients write every number as a float.
    let whole =
        |number: f64| (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64);
    value
        .as_i64()
        .or_else(|| value.as_f64().and_then(whole))
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            let (low, high) = range.into_inner();
            at.must_be(
                format_args!("a whole number from {low} to {high}"),
                format_args!("eine ganze Zahl von {low} bis {high}"),
            )
        })
}

/// A whole number that fits 32 bits, from `least` on.
pub fn count(at: Path<'_>, value: Value, least: u32) -> Result<u32, Invalid> {
    let number = integer(at, value, i64::from(least)..=i64::from(u32::MAX))?;
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

/// A number in a range.
pub fn number(at: Path<'_>, value: Value, range: RangeInclusive<f64>) -> Result<f64, Invalid> {
    value.as_f64().filter(|number| range.contains(number)).ok_or_else(|| {
        let (low, high) = range.into_inner();
        at.must_be(
            format_args!("a number from {low} to {high}"),
            format_args!("eine Zahl von {low} bis {high}"),
        )
    })
}

/// A list.
pub fn array(at: Path<'_>, value: Value) -> Result<Vec<Value>, Invalid> {
    match value {
        Value::Array(items) => Ok(items),
        _ => Err(at.must_be("a list", "eine Liste")),
    }
}

/// An object.
pub fn object(at: Path<'_>, value: Value) -> Result<Map<String, Value>, Invalid> {
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(at.must_be("an object", "ein Objekt")),
    }
}

/// An object, kept as it is.
pub fn any_object(at: Path<'_>, value: Value) -> Result<Value, Invalid> {
    object(at, value).map(Value::Object)
}

/// One of a few words.
pub fn word<T>(
    at: Path<'_>,
    value: &Value,
    read: impl Fn(&str) -> Option<T>,
    words: &str,
) -> Result<T, Invalid> {
    value.as_str().and_then(read).ok_or_else(|| {
        at.must_be(format_args!("one of {words}"), format_args!("eines von {words}"))
    })
}

/// Takes a field out of an object; `null` counts as absent.
pub fn take(fields: &mut Map<String, Value>, name: &str) -> Option<Value> {
    fields.swap_remove(name).filter(|value| !value.is_null())
}

/// What the `stellwerk` object says: options, and the policy that it names.
#[derive(Debug, Default, PartialEq)]
pub struct Extras {
    /// Options of the call.
    pub options: Options,
    /// The policy that is asked for.
    pub policy: Option<String>,
}

/// Longest keys and values of `metadata`, in bytes: they are kept in every row.
const METADATA: (usize, usize, usize) = (16, 64, 512);

/// The longest `timeout_ms` and `hedge_after_ms`: an hour.
const LONGEST_MS: i64 = 3_600_000;

/// Reads the `stellwerk` object. An unknown key is an error: a misspelt `sensitivity` taken
/// silently would send data where it may not go.
pub fn extras(at: Path<'_>, value: Value) -> Result<Extras, Invalid> {
    let mut extras = Extras::default();
    let options = &mut extras.options;
    for (key, value) in object(at, value)? {
        let at = at.field(&key);
        if value.is_null() {
            continue;
        }
        match key.as_str() {
            "use_case" => options.use_case = Some(UseCase::from(label(at, value)?)),
            "policy" => extras.policy = Some(name(at, value)?),
            "sensitivity" => {
                let words = "public, internal, confidential, restricted";
                options.sensitivity = Some(word(at, &value, Sensitivity::from_word, words)?);
            }
            "explain" => options.explain = boolean(at, value)?,
            "metadata" => options.metadata = metadata(at, value)?,
            "fallback" => options.fallback = models(at, value)?,
            "timeout_ms" => options.timeout_ms = Some(milliseconds(at, value, 1)?),
            "hedge_after_ms" => options.hedge_after_ms = Some(milliseconds(at, value, 0)?),
            _ => {
                let known = "use_case, policy, sensitivity, explain, metadata, fallback, timeout_ms, hedge_after_ms";
                return Err(at.wrong(
                    format!("`{at}` is not known; there are {known}"),
                    format!("`{at}` ist unbekannt; es gibt {known}"),
                ));
            }
        }
    }
    Ok(extras)
}

fn label(at: Path<'_>, value: Value) -> Result<String, Invalid> {
    let text = name(at, value)?;
    if text.len() <= 128 && !text.contains(char::is_control) {
        return Ok(text);
    }
    Err(at.must_be("at most 128 bytes on one line", "höchstens 128 Bytes in einer Zeile lang"))
}

fn milliseconds(at: Path<'_>, value: Value, least: i64) -> Result<u64, Invalid> {
    integer(at, value, least..=LONGEST_MS).map(i64::unsigned_abs)
}

fn models(at: Path<'_>, value: Value) -> Result<Vec<ModelId>, Invalid> {
    let items = array(at, value)?;
    if items.len() > 16 {
        return Err(
            at.must_be("a list of at most 16 models", "eine Liste von höchstens 16 Modellen")
        );
    }
    let items = items.into_iter().enumerate();
    items.map(|(index, value)| name(at.item(index), value).map(ModelId::from)).collect()
}

fn metadata(at: Path<'_>, value: Value) -> Result<BTreeMap<String, String>, Invalid> {
    let (pairs, key_bytes, value_bytes) = METADATA;
    let fields = object(at, value)?;
    if fields.len() > pairs {
        return Err(at.must_be(
            format_args!("at most {pairs} pairs"),
            format_args!("höchstens {pairs} Paare lang"),
        ));
    }
    let pair = |(key, value): (String, Value)| {
        let at = at.field(&key);
        let value = string(at, value)?;
        if key.len() > key_bytes || value.len() > value_bytes {
            return Err(at.must_be(
                format_args!("a key of at most {key_bytes} bytes with a text of at most {value_bytes}"),
                format_args!("ein Schlüssel von höchstens {key_bytes} Bytes mit einem Text von höchstens {value_bytes}"),
            ));
        }
        Ok((key, value))
    };
    fields.into_iter().map(pair).collect()
}

/// What `model` and `stellwerk.policy` ask for together. A policy beside a model's name would
/// leave open which of the two counts, so it is an error.
pub fn target(model: &str, policy: Option<String>) -> Result<Target, Invalid> {
    let asked = Target::from_model_field(model);
    let Some(policy) = policy.map(PolicyId::from) else { return Ok(asked) };
    match asked {
        Target::Policy(named) if model == "auto" || named == policy => Ok(Target::Policy(policy)),
        _ => Err(Path::Root.field("stellwerk").field("policy").wrong(
            "`stellwerk.policy` goes with `model = \"auto\"`; leave one of them out",
            "`stellwerk.policy` gehört zu `model = \"auto\"`; eines von beiden weglassen",
        )),
    }
}

/// Adds a text to a buffer as a JSON string.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    push_json(out, text);
}

/// Adds a value to a buffer as JSON.
///
/// Everything that the gateway writes consists of texts, numbers and parsed JSON; such values
/// cannot fail to be written into memory.
pub fn push_json<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let before = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(before);
        out.extend_from_slice(b"null");
    }
}
