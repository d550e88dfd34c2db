//! What the formats of Anthropic, Gemini and Bedrock have in common and OpenAI's has not:
//! instructions apart from the conversation, strictly alternating turns, tool calls whose
//! arguments are objects, media in base64.
//!
//! Knows nothing of one vendor's field names.

use std::borrow::Cow;

use serde_json::{Value, json};
use url::Url;

use crate::provider::{ProviderError, ProviderErrorKind};
use crate::request::{ChatRequest, Dialect, MediaSource, Message, Part, Role, ToolCall};

/// Who speaks in a turn. Tool results are the user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaker {
    User,
    Model,
}

/// A conversation in which the speakers alternate.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    turns: Vec<(Speaker, Vec<Value>)>,
}

impl Turns {
    /// Adds blocks to the turn of this speaker, a new one if the other spoke last. Nothing said
    /// is no turn.
    pub(crate) fn say(&mut self, speaker: Speaker, blocks: Vec<Value>) {
        if blocks.is_empty() {
            return;
        }
        match self.turns.last_mut() {
            Some((last, said)) if *last == speaker => said.extend(blocks),
            _ => self.turns.push((speaker, blocks)),
        }
    }

    /// Whether nobody said anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// The turns in order, the first of them the user's: vendors refuse a conversation that the
    /// model opens, OpenAI's format allows it, so such a one gets an opening of one dot.
    pub(crate) fn opened_by_user(
        mut self,
        opening: impl FnOnce() -> Value,
    ) -> Vec<(Speaker, Vec<Value>)> {
        if matches!(self.turns.first(), Some((Speaker::Model, _))) {
            self.turns.insert(0, (Speaker::User, vec![opening()]));
        }
        self.turns
    }
}

/// The request in the words of a vendor's format (`None`: neither of those that have parts of
/// their own). What the vendor cannot be told is refused and never left out; routing has kept
/// such a request to those who can, so this is the last line.
pub(crate) fn spoken(
    request: &ChatRequest,
    dialect: Option<Dialect>,
) -> Result<Cow<'_, ChatRequest>, ProviderError> {
    request.in_words_of(dialect).map_err(|native| {
        ProviderError::new(ProviderErrorKind::Unsupported, format!("it cannot be told {native}"))
    })
}

/// The output limit where a call carries none. The engine always sets one, since the hold is
/// made from it; vendors that demand the field get the contract's default all the same.
pub(crate) const DEFAULT_OUTPUT_LIMIT: u32 = 2048;

/// Whether a text may stand as a block of its own: vendors refuse blank ones.
pub(crate) fn is_said(text: &str) -> bool {
    !text.trim().is_empty()
}

/// The arguments of a call as the object that vendors want. What is no object (a call that was
/// cut off) is handed back as text in one field rather than lost.
pub(crate) fn arguments(call: &ToolCall) -> Value {
    match serde_json::from_str(&call.arguments) {
        Ok(Value::Object(arguments)) => Value::Object(arguments),
        Ok(Value::Null) => json!({}),
        _ if call.arguments.trim().is_empty() => json!({}),
        _ => json!({"arguments": call.arguments}),
    }
}

/// The id of a call as Anthropic and Bedrock take it: letters, digits, `_` and `-`, at most 64.
/// Others are freer (`functions.weather:0`); what differs there differs here by its end.
pub(crate) fn call_id(id: &str) -> Cow<'_, str> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
    if id.len() <= 64 && id.chars().all(is_plain) {
        return Cow::Borrowed(id);
    }
    let plain: String =
        id.chars().map(|letter| if is_plain(letter) { letter } else { '_' }).collect();
    Cow::Owned(plain[plain.len().saturating_sub(64)..].to_owned())
}

/// The names of tools that were called in the conversation, each once. Vendors want every tool
/// of the history declared, also when the caller offers none any more.
pub(crate) fn called_tools(request: &ChatRequest) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for call in request.messages.iter().flat_map(|message| &message.tool_calls) {
        if !names.contains(&call.name.as_str()) {
            names.push(&call.name);
        }
    }
    names
}

/// The name of the tool that this result belongs to, from the nearest call with its id.
pub(crate) fn tool_of<'a>(earlier: &'a [Message], result: &'a Message) -> Option<&'a str> {
    let id = result.tool_call_id.as_deref()?;
    let mut calls = earlier.iter().rev().flat_map(|message| &message.tool_calls);
    let called = calls.find(|call| call.id == id).map(|call| call.name.as_str());
    called.or(result.name.as_deref())
}

/// The instructions of a request that has nothing else, which vendors refuse: then they are the
/// question.
pub(crate) fn has_only_instructions(request: &ChatRequest) -> bool {
    request.messages.iter().all(|message| message.role == Role::System)
}

/// Whether a turn of tool calls was begun without thinking (by another vendor, or by a client
/// that drops thoughts): Claude refuses to continue such a one with it.
pub(crate) fn continues_without_thoughts(request: &ChatRequest) -> bool {
    let mut latest = request.messages.iter().rev();
    if latest.next().is_none_or(|message| message.role != Role::Tool) {
        return false;
    }
    let calls = latest.find(|message| message.role == Role::Assistant);
    let is_thought = |part: &Part| {
        matches!(part, Part::Thinking { signature: Some(_), .. } | Part::RedactedThinking { .. })
    };
    calls.is_some_and(|message| !message.parts.iter().any(is_thought))
}

/// What an answer in JSON is asked for with where the vendor has no switch for it.
pub(crate) const JSON_INSTRUCTION: &str =
    "Answer with one JSON object and nothing else: no introduction, no code fence.";

/// Where a piece of media is, with data URIs taken apart.
#[derive(Debug, PartialEq)]
pub(crate) enum Media<'a> {
    Inline { media_type: Cow<'a, str>, data: Cow<'a, str> },
    Url(&'a str),
    File(&'a str),
}

impl<'a> Media<'a> {
    /// Reads a source.
    pub(crate) fn of(source: &'a MediaSource) -> Self {
        match source {
            MediaSource::Base64 { media_type, data } => {
                Media::Inline { media_type: Cow::Borrowed(media_type), data: Cow::Borrowed(data) }
            }
            MediaSource::FileId(id) => Media::File(id),
            MediaSource::Url(url) => match data_uri(url) {
                Some((media_type, data)) => Media::Inline {
                    media_type: Cow::Borrowed(media_type),
                    data: Cow::Borrowed(data),
                },
                None => Media::Url(url),
            },
        }
    }
}

/// The type and the base64 of `data:image/png;base64,…`.
fn data_uri(url: &str) -> Option<(&str, &str)> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    let media_type = head.strip_suffix(";base64")?;
    Some((media_type.split(';').next().unwrap_or(media_type), data))
}

/// Adds segments to the path of an address that has one, percent-encoded where needed. A slash
/// at the end of `base_url` makes no empty segment.
pub(crate) fn push_segments(url: &mut Url, segments: &[&str]) {
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
}

/// A request that this vendor's format has no place for, with what to do instead.
pub(crate) fn refuse(detail: impl Into<String>) -> ProviderError {
    ProviderError::new(ProviderErrorKind::BadRequest, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speakers_alternate_and_silence_is_no_turn() {
        let mut turns = Turns::default();
        turns.say(Speaker::Model, vec![json!("a")]);
        turns.say(Speaker::User, vec![]);
        turns.say(Speaker::Model, vec![json!("b")]);
        turns.say(Speaker::User, vec![json!("c")]);
        assert_eq!(
            turns.opened_by_user(|| json!(".")),
            vec![
                (Speaker::User, vec![json!(".")]),
                (Speaker::Model, vec![json!("a"), json!("b")]),
                (Speaker::User, vec![json!("c")]),
            ]
        );
    }

    #[test]
    fn broken_arguments_are_handed_back_and_not_lost() {
        let call = |arguments: &str| ToolCall {
            id: "1".into(),
            name: "f".into(),
            arguments: arguments.into(),
            extra: crate::request::Extra::default(),
        };
        assert_eq!(arguments(&call(r#"{"a":1}"#)), json!({"a": 1}));
        assert_eq!(arguments(&call("")), json!({}));
        assert_eq!(arguments(&call("null")), json!({}));
        assert_eq!(arguments(&call(r#"{"a":"#)), json!({"arguments": r#"{"a":"#}));
    }

    #[test]
    fn ids_of_other_vendors_are_made_plain_and_stay_apart() {
        assert_eq!(call_id("toolu_01-a"), "toolu_01-a");
        assert_eq!(call_id("functions.weather:0"), "functions_weather_0");
        let long = format!("{}ü{}", "a".repeat(80), 7);
        assert_eq!(call_id(&long).len(), 64);
        assert!(call_id(&long).ends_with("a_7"));
    }

    #[test]
    fn data_uris_are_inline() {
        let source = MediaSource::Url("data:image/png;base64,AAAA".into());
        let Media::Inline { media_type, data } = Media::of(&source) else {
            panic!("a data URI is no address");
        };
        assert_eq!((&*media_type, &*data), ("image/png", "AAAA"));
        let address = MediaSource::Url("https://example.org/a.png".into());
        assert_eq!(Media::of(&address), Media::Url("https://example.org/a.png"));
    }
}
