//! Reads requests for vectors and writes vectors, as numbers or in base64.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use stellwerk_core::catalog::{Model, ModelKind, Tokenizer, tokens};
use stellwerk_core::config::Config;
use stellwerk_core::reply::Embedded;
use stellwerk_core::request::{Dialect, EmbedRequest, Extra, Options, Target};

use crate::openai::encode::stellwerk;
use crate::wire::{self, Invalid, Path, push_json, push_string};

/// A request as it was asked, and how the vectors must be written.
#[derive(Debug)]
pub struct Asked {
    /// The model.
    pub target: Target,
    /// The texts.
    pub request: EmbedRequest,
    /// The `stellwerk` object.
    pub options: Options,
    /// Base64 of little-endian floats instead of numbers; OpenAI's SDK asks for it unasked.
    pub base64: bool,
}

/// OpenAI's limit of texts in one request.
const MOST_TEXTS: usize = 2048;

/// What is to be embedded, as it was sent.
enum Sent {
    Texts(Vec<String>),
    /// OpenAI's tokens instead of texts, as LangChain sends them unasked.
    TokenIds(Vec<Vec<u32>>),
}

/// The tokenizer whose ids a model's callers send: the same at all places where it may run, and
/// the same for all models where none is named.
pub fn tokenizer_of(target: &Target, config: &Config) -> Option<Tokenizer> {
    let is_meant = |model: &&Arc<Model>| match target {
        Target::Model(id) => model.id == *id,
        Target::Policy(_) => model.kind == ModelKind::Embedding,
    };
    let models = config.catalog.iter().filter(is_meant);
    let mut tokenizers = models.flat_map(|model| &model.deployments).map(|place| place.tokenizer);
    let first = tokenizers.next()?;
    tokenizers.all(|tokenizer| tokenizer == first).then_some(first)
}

/// Reads the body of a request. Token ids become the texts that they stand for, so that guard,
/// classifier and every vendor can read them; where that is not sure they are refused.
pub fn decode(
    body: &[u8],
    tokenizer_of: impl FnOnce(&Target) -> Option<Tokenizer>,
) -> Result<Asked, Invalid> {
    let mut model = None;
    let mut extras = wire::Extras::default();
    let mut sent = None;
    let mut base64 = false;
    let mut request = EmbedRequest {
        input: Vec::new(),
        dimensions: None,
        user: None,
        extra: Extra { dialect: Dialect::OpenAi, fields: Default::default() },
    };
    for (key, value) in wire::object_of(body)? {
        let at = Path::Root.field(&key);
        if value.is_null() {
            continue;
        }
        match key.as_str() {
            "model" => model = Some(wire::name(at, value)?),
            "input" => sent = Some(input(at, value)?),
            "dimensions" => request.dimensions = Some(wire::integer(at, value, 1..=65_536)? as u32),
            "user" => request.user = Some(wire::string(at, value)?),
            "encoding_format" => base64 = encoding(at, &value)?,
            "stellwerk" => extras = wire::extras(at, value)?,
            _ => {
                request.extra.fields.insert(key, value);
            }
        }
    }
    let root = Path::Root;
    let model = model.ok_or_else(|| root.field("model").missing())?;
    let sent = sent.ok_or_else(|| root.field("input").missing())?;
    let target = wire::target(&model, extras.policy)?;
    request.input = match sent {
        Sent::Texts(texts) => texts,
        Sent::TokenIds(lists) => texts_of(root.field("input"), &lists, tokenizer_of(&target))?,
    };
    Ok(Asked { target, request, options: extras.options, base64 })
}

fn encoding(at: Path<'_>, value: &Value) -> Result<bool, Invalid> {
    let read = |word: &str| match word {
        "float" => Some(false),
        "base64" => Some(true),
        _ => None,
    };
    wire::word(at, value, read, "float, base64")
}

fn input(at: Path<'_>, value: Value) -> Result<Sent, Invalid> {
    let items = match value {
        Value::String(text) => {
            return text_of(at, Value::String(text)).map(|text| Sent::Texts(vec![text]));
        }
        Value::Array(items) => items,
        _ => {
            return Err(at.must_be(
                "a string or a list of strings",
                "eine Zeichenkette oder eine Liste davon",
            ));
        }
    };
    if items.first().is_some_and(Value::is_number) {
        return token_ids(at, Value::Array(items)).map(|ids| Sent::TokenIds(vec![ids]));
    }
    if items.is_empty() || items.len() > MOST_TEXTS {
        return Err(at.must_be(
            format_args!("a list of 1 to {MOST_TEXTS} strings"),
            format_args!("eine Liste von 1 bis {MOST_TEXTS} Zeichenketten"),
        ));
    }
    let are_lists = items[0].is_array();
    let items = items.into_iter().enumerate();
    match are_lists {
        true => {
            let lists = items.map(|(index, value)| token_ids(at.item(index), value));
            lists.collect::<Result<_, _>>().map(Sent::TokenIds)
        }
        false => {
            let texts = items.map(|(index, value)| text_of(at.item(index), value));
            texts.collect::<Result<_, _>>().map(Sent::Texts)
        }
    }
}

fn token_ids(at: Path<'_>, value: Value) -> Result<Vec<u32>, Invalid> {
    let must_be = || at.must_be("a list of token ids", "eine Liste von Token-Nummern");
    let Value::Array(items) = value else { return Err(must_be()) };
    if items.is_empty() {
        return Err(must_be());
    }
    let id = |item: &Value| item.as_u64().and_then(|id| u32::try_from(id).ok());
    items.iter().map(id).collect::<Option<_>>().ok_or_else(must_be)
}

/// Only a published vocabulary says what ids mean. Passing others on unread would send what no
/// guard has seen, perhaps to a model that understands something else by them.
fn texts_of(
    at: Path<'_>,
    lists: &[Vec<u32>],
    tokenizer: Option<Tokenizer>,
) -> Result<Vec<String>, Invalid> {
    let text = |ids: &Vec<u32>| tokens::decode(ids, tokenizer?);
    lists.iter().map(text).collect::<Option<_>>().ok_or_else(|| {
        at.wrong(
            "`input` holds token ids that are not of a published OpenAI vocabulary, so nobody here can read them; send the texts instead (LangChain: check_embedding_ctx_length=False)",
            "`input` enthält Token-Nummern, die zu keinem veröffentlichten Vokabular von OpenAI gehören und hier nicht gelesen werden können; bitte die Texte senden (LangChain: check_embedding_ctx_length=False)",
        )
    })
}

fn text_of(at: Path<'_>, value: Value) -> Result<String, Invalid> {
    wire::name(at, value)
}

/// Writes vectors.
pub fn encode(embedded: &Embedded, base64: bool, explain: bool) -> Vec<u8> {
    let floats: usize = embedded.vectors.iter().map(Vec::len).sum();
    let mut out = Vec::with_capacity(512 + floats * if base64 { 6 } else { 12 });
    out.extend_from_slice(b"{\"object\":\"list\",\"data\":[");
    for (index, vector) in embedded.vectors.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"object\":\"embedding\",\"index\":");
        push_json(&mut out, &index);
        out.extend_from_slice(b",\"embedding\":");
        match base64 {
            true => push_string(&mut out, &in_base64(vector)),
            false => push_json(&mut out, vector),
        }
        out.push(b'}');
    }
    let done = &embedded.done;
    let input = done.usage.input_tokens.unwrap_or(0);
    out.extend_from_slice(b"],\"model\":");
    push_string(&mut out, done.model.as_str());
    out.extend_from_slice(b",\"usage\":");
    push_json(&mut out, &json!({ "prompt_tokens": input, "total_tokens": input }));
    out.extend_from_slice(b",\"stellwerk\":");
    push_json(&mut out, &stellwerk(done, explain));
    out.push(b'}');
    out
}

fn in_base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &[u8]) -> Result<Asked, Invalid> {
        decode(body, |_| Some(Tokenizer::Unpublished))
    }

    #[test]
    fn a_text_a_list_and_the_sdks_base64_are_taken() {
        let asked = read(br#"{"model":"e","input":"a","encoding_format":"base64"}"#).expect("ok");
        assert_eq!(asked.request.input, ["a"]);
        assert!(asked.base64);
        let asked = read(br#"{"model":"e","input":["a","b"],"dimensions":256}"#).expect("ok");
        assert_eq!(asked.request.input, ["a", "b"]);
        assert_eq!(asked.request.dimensions, Some(256));
    }

    #[test]
    fn token_ids_and_empty_texts_are_refused_by_name() {
        for input in ["[1,2]", "[[1]]", "[]", "\"\"", "7", "[\"\"]"] {
            let body = format!(r#"{{"model":"e","input":{input}}}"#);
            let invalid = read(body.as_bytes()).expect_err("refused");
            assert!(invalid.param.expect("a field").starts_with("input"), "{input}");
        }
    }

    #[test]
    fn the_ids_that_langchain_sends_unasked_are_read_as_their_texts() {
        let read = |body: &[u8]| decode(body, |_| Some(Tokenizer::Cl100k));
        // `tiktoken.get_encoding("cl100k_base").encode("hello world")`
        for input in ["[15339,1917]", "[[15339,1917]]"] {
            let body = format!(r#"{{"model":"e","input":{input}}}"#);
            assert_eq!(read(body.as_bytes()).expect("ok").request.input, ["hello world"]);
        }
        for input in ["[15339,-1]", "[[15339],\"a\"]", "[[4000000]]"] {
            let body = format!(r#"{{"model":"e","input":{input}}}"#);
            assert!(read(body.as_bytes()).is_err(), "{input}");
        }
    }

    #[test]
    fn base64_is_little_endian_floats() {
        assert_eq!(in_base64(&[1.0, -2.0]), "AACAPwAAAMA=");
    }
}
