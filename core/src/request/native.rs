//! What only one vendor's format can say: which it is, and what of it others can be told.
//!
//! Such a part is never left out on the way to a vendor of another format: an answer to half a
//! question looks like an answer. Routing keeps it to vendors that speak the format, and the
//! encoders refuse it as a last line. Knows nothing of vendors' names or addresses.

use std::borrow::Cow;

use serde_json::Value;

use crate::request::{ChatRequest, Dialect, Message, Part};

/// Something in a request that only one format can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Native {
    /// The format.
    pub dialect: Dialect,
    /// What it is, in that format's word. One of a known few, never the caller's own text, so
    /// that it may stand in traces and logs.
    pub what: &'static str,
}

impl Dialect {
    /// The name that people know it by.
    pub const fn title(self) -> &'static str {
        match self {
            Dialect::OpenAi => "OpenAI's chat completions",
            Dialect::Anthropic => "Anthropic's messages",
        }
    }
}

impl std::fmt::Display for Native {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`, which only {} can say", self.what, self.dialect.title())
    }
}

impl ChatRequest {
    /// The first thing in the request that only vendors of one format can be told.
    pub fn native(&self) -> Option<Native> {
        let parts = self.parts().filter_map(of_part);
        let tools = self.tools.iter().filter_map(|tool| {
            let native = tool.native.as_ref()?;
            let kind = native.fields.get("type").and_then(Value::as_str);
            Some(Native { dialect: native.dialect, what: known(TOOLS, kind, "a server tool") })
        });
        let fields = BINDING_FIELDS.iter().filter_map(|(dialect, field)| {
            let told = self.extra.of(*dialect)?.get(*field)?;
            (!is_empty(told)).then_some(Native { dialect: *dialect, what: field })
        });
        parts.chain(tools).chain(fields).next()
    }

    /// The request as a vendor of this format (`None`: of neither) can be told it: what another
    /// format merely wraps in a way of its own becomes plain text. What cannot be said is the
    /// error.
    pub(crate) fn in_words_of(
        &self,
        dialect: Option<Dialect>,
    ) -> Result<Cow<'_, ChatRequest>, Native> {
        if let Some(native) = self.native().filter(|native| Some(native.dialect) != dialect) {
            return Err(native);
        }
        let is_foreign =
            |part: &Part| matches!(part, Part::Other { dialect: of, .. } if Some(*of) != dialect);
        if !self.parts().any(is_foreign) {
            return Ok(Cow::Borrowed(self));
        }
        let mut request = self.clone();
        let parts = request.messages.iter_mut().flat_map(|Message { parts, .. }| parts);
        for part in parts.filter(|part| is_foreign(part)) {
            if let Some(text) = plain_text(part) {
                *part = Part::text(text);
            }
        }
        Ok(Cow::Owned(request))
    }
}

/// Blocks of Anthropic's and parts of OpenAI's that have names of their own here.
const PARTS: &[&str] = &[
    "bash_code_execution_tool_result",
    "code_execution_tool_result",
    "container_upload",
    "document",
    "fallback",
    "mcp_tool_result",
    "mcp_tool_use",
    "search_result",
    "server_tool_use",
    "text_editor_code_execution_tool_result",
    "tool_reference",
    "tool_search_tool_result",
    "video_url",
    "web_fetch_tool_result",
    "web_search_tool_result",
];

/// Tools that a vendor runs itself or that only it knows, without the date in their names.
const TOOLS: &[&str] = &[
    "advisor",
    "bash",
    "code_execution",
    "code_interpreter",
    "computer",
    "custom",
    "file_search",
    "mcp",
    "memory",
    "text_editor",
    "tool_search_tool",
    "web_fetch",
    "web_search",
];

/// Fields beside the conversation without which the answer would be another one. Other fields of
/// one format are wishes (a service tier, a cache key) and are left out elsewhere.
const BINDING_FIELDS: &[(Dialect, &str)] = &[
    (Dialect::Anthropic, "container"),
    (Dialect::Anthropic, "mcp_servers"),
    (Dialect::OpenAi, "audio"),
    (Dialect::OpenAi, "web_search_options"),
];

fn of_part(part: &Part) -> Option<Native> {
    let Part::Other { dialect, value } = part else { return None };
    if plain_text(part).is_some() {
        return None;
    }
    let kind = value.get("type").and_then(Value::as_str);
    Some(Native { dialect: *dialect, what: known(PARTS, kind, "a part of its own") })
}

/// The known name that a type is or begins with (`web_search_20250305`).
fn known(names: &[&'static str], kind: Option<&str>, else_: &'static str) -> &'static str {
    let exact = kind.and_then(|kind| names.iter().find(|name| **name == kind));
    let begins = || kind.and_then(|kind| names.iter().find(|name| kind.starts_with(**name)));
    exact.or_else(begins).copied().unwrap_or(else_)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// What a part says where it only says a text: one with citations, or a refusal.
fn plain_text(part: &Part) -> Option<&str> {
    let Part::Other { value, .. } = part else { return None };
    match value.get("type")?.as_str()? {
        "text" => value.get("text")?.as_str(),
        "refusal" => value.get("refusal")?.as_str(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::request::{Extra, Role, Tool};

    fn with(value: Value) -> ChatRequest {
        let part = Part::Other { dialect: Dialect::Anthropic, value };
        let message = Message { parts: vec![part], ..Message::text(Role::User, "") };
        ChatRequest { messages: vec![message], ..ChatRequest::default() }
    }

    #[test]
    fn a_search_result_goes_to_its_own_format_and_is_refused_elsewhere() {
        let request = with(json!({"type": "search_result", "content": []}));
        let whole = request.in_words_of(Some(Dialect::Anthropic)).expect("its own format");
        assert_eq!(*whole, request);
        for other in [Some(Dialect::OpenAi), None] {
            let native = request.in_words_of(other).expect_err("nobody else can say it");
            assert_eq!(native.what, "search_result");
        }
    }

    #[test]
    fn a_text_with_citations_is_told_to_others_as_a_text() {
        let request = with(json!({"type": "text", "text": "Gleis 3", "citations": [{}]}));
        assert_eq!(request.native(), None);
        let told = request.in_words_of(Some(Dialect::OpenAi)).expect("a text");
        assert_eq!(told.messages[0].parts, [Part::text("Gleis 3")]);
    }

    #[test]
    fn a_part_that_nobody_knows_is_named_without_its_own_words() {
        let request = with(json!({"type": "geheim"}));
        assert_eq!(request.native().expect("native").what, "a part of its own");
    }

    #[test]
    fn a_server_tool_and_a_field_that_changes_the_answer_bind_too() {
        let fields = |value: Value| match value {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        let anthropic = |value| Extra { dialect: Dialect::Anthropic, fields: fields(value) };
        let tool = Tool {
            name: "web_search".to_owned(),
            description: None,
            parameters: None,
            strict: None,
            cache_control: None,
            native: Some(anthropic(json!({"type": "web_search_20250305"}))),
        };
        let searching = ChatRequest { tools: vec![tool], ..ChatRequest::ask("?") };
        assert_eq!(searching.native().expect("native").what, "web_search");
        let extra = anthropic(json!({"mcp_servers": [{"url": "https://x"}]}));
        let connected = ChatRequest { extra, ..ChatRequest::ask("?") };
        assert_eq!(connected.native().expect("native").what, "mcp_servers");
        let extra = anthropic(json!({"service_tier": "auto", "mcp_servers": []}));
        assert_eq!(ChatRequest { extra, ..ChatRequest::ask("?") }.native(), None);
    }
}
