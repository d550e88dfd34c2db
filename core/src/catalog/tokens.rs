//! Counting tokens: a bound for holds, an unbiased figure for bills.
//!
//! Where the vendor publishes its tokenizer, both are its count plus what the format adds. Where
//! it does not, the bound is the number of UTF-8 bytes (a byte-level vocabulary never makes more
//! tokens than bytes) and the estimate is the count of a published one. Vocabularies are loaded
//! when first needed. Knows nothing of prices. Start with [`bound_at`] and [`estimate_at`].

use serde_json::Value;

use crate::catalog::{Deployment, Tokenizer};
use crate::request::{ChatRequest, EmbedRequest, Message, Part, ResponseFormat, Tool, ToolChoice};

mod media;
#[cfg(test)]
mod tests;
mod vocabulary;

/// At least what the vendor will count as the input of this request at this place.
pub fn bound_at(request: &ChatRequest, deployment: &Deployment) -> u64 {
    bound_of(request, deployment.tokenizer, &deployment.name)
}

/// As near as can be told to what the vendor would count; never above the bound.
pub fn estimate_at(request: &ChatRequest, deployment: &Deployment) -> u64 {
    estimate_of(request, deployment.tokenizer, &deployment.name)
}

/// [`bound_at`] where the model's name is not known: images take the dearest rule.
pub fn bound(request: &ChatRequest, tokenizer: Tokenizer) -> u64 {
    bound_of(request, tokenizer, "")
}

/// [`estimate_at`] where the model's name is not known.
pub fn estimate(request: &ChatRequest, tokenizer: Tokenizer) -> u64 {
    estimate_of(request, tokenizer, "")
}

/// An unbiased count of a text, for bills where the vendor told no usage.
pub fn text(text: &str, tokenizer: Tokenizer) -> u64 {
    to_u64(vocabulary_of(tokenizer).count(text))
}

/// What counts for this tokenizer: itself, or the nearest that is published.
fn vocabulary_of(tokenizer: Tokenizer) -> &'static vocabulary::Vocabulary {
    match tokenizer {
        Tokenizer::Cl100k => vocabulary::cl100k(),
        Tokenizer::O200k | Tokenizer::Unpublished => vocabulary::o200k(),
    }
}

/// Whether the texts of a request alone are certainly more tokens than this. Looks no further
/// than it must: what is far too long costs as little as what just does not fit.
pub fn exceeds(request: &ChatRequest, tokenizer: Tokenizer, most: u64) -> bool {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let vocabulary = vocabulary_of(tokenizer);
    let mut count = 0;
    walk(request, &mut |piece| {
        if let Piece::Text(text) = piece
            && count <= most
        {
            count += vocabulary.count_up_to(text, most - count);
        }
    });
    count > most
}

/// The text that token ids stand for. A character that was cut in two at either end is marked as
/// such. `None`: the vocabulary is not published, or an id is none of its ordinary tokens.
pub fn decode(ids: &[u32], tokenizer: Tokenizer) -> Option<String> {
    if tokenizer == Tokenizer::Unpublished {
        return None;
    }
    let bytes = vocabulary_of(tokenizer).decode(ids)?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// At least what the vendor will count for texts to be embedded.
pub fn embed_bound(request: &EmbedRequest, tokenizer: Tokenizer) -> u64 {
    // Most models add a mark at the beginning and at the end of each text.
    const MARKS: u64 = 2;
    request.input.iter().map(|text| most_of(text, tokenizer) + MARKS).sum()
}

/// As near as can be told to what the vendor would count for texts to be embedded.
pub fn embed_estimate(request: &EmbedRequest, tokenizer: Tokenizer) -> u64 {
    request.input.iter().map(|text| self::text(text, tokenizer)).sum()
}

/// Loads the vocabulary that counts this tokenizer's texts, so that no request waits for it.
/// Not needed for [`Tokenizer::Unpublished`], whose bound is bytes.
pub fn warm_up(tokenizer: Tokenizer) {
    text("", tokenizer);
}

/// One thing that a request sends.
enum Piece<'a> {
    Message(&'a Message),
    Text(&'a str),
    Json(&'a Value),
    Tool(&'a Tool),
    Media(media::Media<'a>),
}

/// Everything that a request sends, in order. Both counts walk it, so that neither forgets what
/// the other sees.
fn walk<'a>(request: &'a ChatRequest, see: &mut dyn FnMut(Piece<'a>)) {
    for message in &request.messages {
        see(Piece::Message(message));
        for part in &message.parts {
            see_part(part, see);
        }
        for call in &message.tool_calls {
            see(Piece::Text(&call.id));
            see(Piece::Text(&call.name));
            see(Piece::Text(&call.arguments));
        }
        for text in message.name.iter().chain(&message.tool_call_id) {
            see(Piece::Text(text));
        }
    }
    for tool in &request.tools {
        see(Piece::Tool(tool));
    }
    if let Some(ToolChoice::Named(name)) = &request.tool_choice {
        see(Piece::Text(name));
    }
    if let ResponseFormat::JsonSchema { name, description, schema, .. } = &request.response_format {
        see(Piece::Text(name));
        see(Piece::Text(description.as_deref().unwrap_or_default()));
        see(Piece::Json(schema));
    }
}

fn see_part<'a>(part: &'a Part, see: &mut dyn FnMut(Piece<'a>)) {
    match part {
        Part::Text { text, .. } | Part::Thinking { text, .. } => see(Piece::Text(text)),
        Part::RedactedThinking { data } => see(Piece::Text(data)),
        Part::Image { source, detail, .. } => {
            see(Piece::Media(media::Media::Image { source, detail: detail.as_deref() }));
        }
        Part::Document { source, name, .. } => {
            see(Piece::Text(name.as_deref().unwrap_or_default()));
            see(Piece::Media(media::Media::Document(source)));
        }
        Part::Audio { data, .. } => see(Piece::Media(media::Media::Audio { base64: data })),
        Part::Other { value, .. } => see(Piece::Json(value)),
    }
}

fn bound_of(request: &ChatRequest, tokenizer: Tokenizer, model: &str) -> u64 {
    let framing = Framing::most(tokenizer);
    let mut sum = framing.request;
    walk(request, &mut |piece| {
        sum += match piece {
            Piece::Message(_) => framing.message,
            Piece::Text(text) => most_of(text, tokenizer),
            Piece::Json(value) => json_bytes(value),
            Piece::Tool(tool) => {
                framing.tool
                    + most_of(&tool.name, tokenizer)
                    + tool.description.as_deref().map_or(0, |text| most_of(text, tokenizer))
                    + tool.parameters.as_ref().map_or(0, |schema| most_of_schema(schema, tokenizer))
                    + tool.native.as_ref().map_or(0, |native| json_bytes(&native.fields))
            }
            Piece::Media(media) => media.bound(tokenizer, model),
        };
    });
    let wants_tools = !request.tools.is_empty();
    let wants_schema = request.response_format != ResponseFormat::Text;
    if wants_tools || wants_schema {
        sum += framing.tools;
    }
    // Fields that only one vendor knows may be part of the prompt.
    sum += extra_bytes(&request.extra.fields);
    sum + request.messages.iter().map(|message| extra_bytes(&message.extra.fields)).sum::<u64>()
}

fn estimate_of(request: &ChatRequest, tokenizer: Tokenizer, model: &str) -> u64 {
    let framing = Framing::usual(tokenizer);
    let mut sum = framing.request;
    walk(request, &mut |piece| {
        sum += match piece {
            Piece::Message(message) => framing.message + u64::from(message.name.is_some()),
            Piece::Text(text) => self::text(text, tokenizer),
            Piece::Json(value) => self::text(&value.to_string(), tokenizer),
            Piece::Tool(tool) => framing.tool + tool_text(tool, tokenizer),
            Piece::Media(media) => media.estimate(tokenizer, model),
        };
    });
    if !request.tools.is_empty() {
        sum += framing.tools;
    }
    sum
}

/// What a format adds around the texts.
struct Framing {
    request: u64,
    message: u64,
    tool: u64,
    tools: u64,
}

impl Framing {
    /// By OpenAI's published way of counting: 3 for each message, 3 for the beginning of the
    /// answer, 7 for each function and 12 for their end.
    fn usual(tokenizer: Tokenizer) -> Framing {
        match tokenizer {
            Tokenizer::O200k | Tokenizer::Cl100k => {
                Framing { request: 3, message: 3, tool: 7, tools: 12 }
            }
            Tokenizer::Unpublished => Framing { request: 3, message: 4, tool: 8, tools: 12 },
        }
    }

    /// Anthropic states up to 804 tokens for its instructions on tools; where a vendor has no
    /// schema of its own, a provider sends it as a tool.
    fn most(tokenizer: Tokenizer) -> Framing {
        match tokenizer {
            Tokenizer::O200k | Tokenizer::Cl100k => {
                Framing { request: 8, message: 5, tool: 24, tools: 64 }
            }
            Tokenizer::Unpublished => Framing { request: 32, message: 16, tool: 64, tools: 1024 },
        }
    }
}

/// At least what a text becomes: exact where that can be known.
fn most_of(text: &str, tokenizer: Tokenizer) -> u64 {
    match tokenizer {
        Tokenizer::O200k | Tokenizer::Cl100k => self::text(text, tokenizer),
        Tokenizer::Unpublished => to_u64(text.len()),
    }
}

/// A schema is rendered shorter than its JSON, so that the JSON bounds it.
fn most_of_schema(schema: &Value, tokenizer: Tokenizer) -> u64 {
    match tokenizer {
        Tokenizer::O200k | Tokenizer::Cl100k => self::text(&schema.to_string(), tokenizer),
        Tokenizer::Unpublished => json_bytes(schema),
    }
}

/// A function as it is shown to the model, by OpenAI's published way of counting: name and
/// description on one line, a line for each parameter, 3 for each and for each allowed value.
fn tool_text(tool: &Tool, tokenizer: Tokenizer) -> u64 {
    let head = format!("{}:{}", tool.name, tool.description.as_deref().unwrap_or_default());
    let native = tool.native.as_ref().map_or(0, |native| {
        self::text(&Value::Object(native.fields.clone()).to_string(), tokenizer)
    });
    self::text(&head, tokenizer)
        + tool.parameters.as_ref().map_or(0, |schema| schema_text(schema, tokenizer))
        + native
}

fn schema_text(schema: &Value, tokenizer: Tokenizer) -> u64 {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return 0 };
    let word = |value: &Value, key: &str| {
        value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let lines = properties.iter().map(|(name, property)| {
        let line = format!("{name}:{}:{}", word(property, "type"), word(property, "description"));
        let allowed = property.get("enum").and_then(Value::as_array);
        let allowed = allowed.into_iter().flatten().map(|value| match value {
            Value::String(value) => 3 + self::text(value, tokenizer),
            other => 3 + self::text(&other.to_string(), tokenizer),
        });
        let inside = schema_text(property, tokenizer)
            + property.get("items").map_or(0, |items| schema_text(items, tokenizer));
        3 + self::text(&line, tokenizer) + allowed.sum::<u64>() + inside
    });
    3 + lines.sum::<u64>()
}

fn extra_bytes(fields: &serde_json::Map<String, Value>) -> u64 {
    if fields.is_empty() { 0 } else { json_bytes(fields) }
}

/// The length of the JSON text, without making it.
fn json_bytes<T: serde::Serialize>(value: &T) -> u64 {
    struct Count(u64);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += to_u64(bytes.len());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Values that came from JSON can always be written as JSON; should one not, a count far too
    // high holds too much, which is the safe side.
    match serde_json::to_writer(&mut count, value) {
        Ok(()) => count.0,
        Err(_) => u64::from(u32::MAX),
    }
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
