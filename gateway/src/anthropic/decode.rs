//! Reads a messages request.
//!
//! Blocks that only Anthropic's format has stay as they were, for providers of that dialect;
//! everything else becomes a shared word, so that every provider can answer.

use serde_json::{Map, Value};
use stellwerk_core::request::{
    ChatRequest, Dialect, Extra, MediaSource, Message, Options, Part, Reasoning, ResponseFormat,
    Role, Target, Tool, ToolCall, ToolChoice,
};

use crate::wire::{self, Invalid, Path};

/// A request as it was asked.
#[derive(Debug)]
pub struct Asked {
    /// Model or policy.
    pub target: Target,
    /// The question.
    pub request: ChatRequest,
    /// The `stellwerk` object.
    pub options: Options,
}

/// Where the `anthropic-beta` header travels among the fields without a shared word.
const BETA: &str = "anthropic_beta";

/// Reads the body of a request and its `anthropic-beta` headers.
pub fn decode(body: &[u8], betas: &[&str]) -> Result<Asked, Invalid> {
    read(body, betas, true)
}

/// Reads the body of a request whose tokens are to be counted: it needs no `max_tokens`.
pub fn decode_count(body: &[u8]) -> Result<Asked, Invalid> {
    read(body, &[], false)
}

fn read(body: &[u8], betas: &[&str], needs_limit: bool) -> Result<Asked, Invalid> {
    let mut reading = Reading::default();
    reading.request.extra.dialect = Dialect::Anthropic;
    for (key, value) in wire::object_of(body)? {
        if !value.is_null() {
            reading.field(key, value)?;
        }
    }
    let betas = betas.iter().flat_map(|header| header.split(',')).map(str::trim);
    let betas: Vec<Value> = betas.filter(|beta| !beta.is_empty()).map(Value::from).collect();
    if !betas.is_empty() {
        reading.request.extra.fields.insert(BETA.to_owned(), betas.into());
    }
    reading.finish(needs_limit)
}

#[derive(Default)]
struct Reading {
    model: Option<String>,
    system: Option<Message>,
    messages: Option<Vec<Message>>,
    request: ChatRequest,
    extras: wire::Extras,
    effort: Option<String>,
    thinking: Option<Reasoning>,
}

impl Reading {
    fn field(&mut self, key: String, value: Value) -> Result<(), Invalid> {
        let at = Path::Root.field(&key);
        let request = &mut self.request;
        match key.as_str() {
            "model" => self.model = Some(wire::name(at, value)?),
            "max_tokens" => request.max_output_tokens = Some(wire::count(at, value, 1)?),
            "system" => {
                let mut message = Message::text(Role::System, "");
                message.parts = system(at, value)?;
                self.system = Some(message).filter(|message| !message.parts.is_empty());
            }
            "messages" => self.messages = Some(messages(at, value)?),
            "stream" => request.stream = wire::boolean(at, value)?,
            "temperature" => request.temperature = Some(wire::number(at, value, 0.0..=1.0)?),
            "top_p" => request.top_p = Some(wire::number(at, value, 0.0..=1.0)?),
            "top_k" => request.top_k = Some(wire::count(at, value, 0)?),
            "stop_sequences" => request.stop = stop_sequences(at, value)?,
            "tools" => request.tools = tools(at, value)?,
            "tool_choice" => self.tool_choice(at, value)?,
            "thinking" => self.thinking = thinking(at, value)?,
            "metadata" => self.metadata(at, value)?,
            "output_format" => request.response_format = output_format(at, value)?,
            "output_config" => self.output_config(at, value)?,
            "stellwerk" => self.extras = wire::extras(at, value)?,
            _ => {
                request.extra.fields.insert(key, value);
            }
        }
        Ok(())
    }

    fn tool_choice(&mut self, at: Path<'_>, value: Value) -> Result<(), Invalid> {
        let mut fields = wire::object(at, value)?;
        if let Some(off) = wire::take(&mut fields, "disable_parallel_tool_use") {
            let off = wire::boolean(at.field("disable_parallel_tool_use"), off)?;
            self.request.parallel_tool_calls = Some(!off);
        }
        let (kind_at, name_at) = (at.field("type"), at.field("name"));
        let kind = wire::take(&mut fields, "type").ok_or_else(|| kind_at.missing())?;
        self.request.tool_choice = Some(match kind.as_str() {
            Some("auto") => ToolChoice::Auto,
            Some("any") => ToolChoice::Required,
            Some("none") => ToolChoice::None,
            Some("tool") => {
                let name = wire::take(&mut fields, "name").ok_or_else(|| name_at.missing())?;
                ToolChoice::Named(wire::name(name_at, name)?)
            }
            _ => {
                let words = "auto, any, tool, none";
                return wire::word(kind_at, &kind, |_| None, words);
            }
        });
        Ok(())
    }

    fn metadata(&mut self, at: Path<'_>, value: Value) -> Result<(), Invalid> {
        let mut fields = wire::object(at, value)?;
        if let Some(user) = wire::take(&mut fields, "user_id") {
            self.request.user = Some(wire::string(at.field("user_id"), user)?);
        }
        Ok(())
    }

    fn output_config(&mut self, at: Path<'_>, value: Value) -> Result<(), Invalid> {
        let mut fields = wire::object(at, value)?;
        if let Some(format) = wire::take(&mut fields, "format") {
            self.request.response_format = output_format(at.field("format"), format)?;
        }
        if let Some(effort) = wire::take(&mut fields, "effort") {
            self.effort = Some(wire::name(at.field("effort"), effort)?);
        }
        if !fields.is_empty() {
            self.request.extra.fields.insert("output_config".to_owned(), fields.into());
        }
        Ok(())
    }

    fn finish(mut self, needs_limit: bool) -> Result<Asked, Invalid> {
        let root = Path::Root;
        let model = match self.model {
            Some(model) => model,
            None if self.extras.policy.is_some() => "auto".to_owned(),
            None => return Err(root.field("model").missing()),
        };
        let mut messages = self.messages.ok_or_else(|| root.field("messages").missing())?;
        if let Some(system) = self.system {
            messages.insert(0, system);
        }
        if needs_limit && self.request.max_output_tokens.is_none() {
            return Err(root.field("max_tokens").missing());
        }
        self.request.messages = messages;
        self.request.reasoning = match (self.thinking, self.effort) {
            (Some(Reasoning { budget_tokens, effort }), said) => {
                Some(Reasoning { budget_tokens, effort: effort_of(effort, said) })
            }
            (None, Some(effort)) => Some(Reasoning { effort: Some(effort), budget_tokens: None }),
            (None, None) => None,
        };
        Ok(Asked {
            target: wire::target(&model, self.extras.policy)?,
            request: self.request,
            options: self.extras.options,
        })
    }
}

/// What `thinking` means, unless `output_config.effort` says it; thinking that is switched off
/// stays off.
fn effort_of(thinking: Option<String>, said: Option<String>) -> Option<String> {
    match thinking.as_deref() {
        Some("none") => thinking,
        _ => said.or(thinking),
    }
}

fn thinking(at: Path<'_>, value: Value) -> Result<Option<Reasoning>, Invalid> {
    let mut fields = wire::object(at, value)?;
    let (kind_at, budget_at) = (at.field("type"), at.field("budget_tokens"));
    let kind = wire::take(&mut fields, "type").ok_or_else(|| kind_at.missing())?;
    let effort = |word: &str| Reasoning { effort: Some(word.to_owned()), budget_tokens: None };
    match kind.as_str() {
        Some("enabled") => {
            let budget =
                wire::take(&mut fields, "budget_tokens").ok_or_else(|| budget_at.missing())?;
            let budget_tokens = Some(wire::count(budget_at, budget, 1)?);
            Ok(Some(Reasoning { effort: None, budget_tokens }))
        }
        // Anthropic's default effort.
        Some("adaptive") => Ok(Some(effort("high"))),
        Some("disabled") => Ok(Some(effort("none"))),
        _ => wire::word(kind_at, &kind, |_| None, "enabled, adaptive, disabled"),
    }
}

fn output_format(at: Path<'_>, value: Value) -> Result<ResponseFormat, Invalid> {
    let mut fields = wire::object(at, value)?;
    let (kind_at, schema_at) = (at.field("type"), at.field("schema"));
    let kind = wire::take(&mut fields, "type").ok_or_else(|| kind_at.missing())?;
    wire::word(kind_at, &kind, |word| (word == "json_schema").then_some(()), "json_schema")?;
    let schema = wire::take(&mut fields, "schema").ok_or_else(|| schema_at.missing())?;
    Ok(ResponseFormat::JsonSchema {
        // Anthropic's format has no name; others demand one.
        name: "answer".to_owned(),
        description: None,
        schema: wire::any_object(schema_at, schema)?,
        strict: Some(true),
    })
}

fn stop_sequences(at: Path<'_>, value: Value) -> Result<Vec<String>, Invalid> {
    let items = wire::array(at, value)?.into_iter().enumerate();
    items.map(|(index, value)| wire::string(at.item(index), value)).collect()
}

fn system(at: Path<'_>, value: Value) -> Result<Vec<Part>, Invalid> {
    match value {
        Value::String(text) if text.is_empty() => Ok(Vec::new()),
        Value::String(text) => Ok(vec![Part::text(text)]),
        Value::Array(items) => {
            let items = items.into_iter().enumerate();
            items.map(|(index, value)| plain_part(at.item(index), value)).collect()
        }
        _ => Err(at.must_be(
            "a string or a list of blocks",
            "eine Zeichenkette oder eine Liste von Blöcken",
        )),
    }
}

/// A block that holds no tool's call or result.
fn plain_part(at: Path<'_>, value: Value) -> Result<Part, Invalid> {
    match block(at, value)? {
        Block::Part(part) => Ok(part),
        Block::Use(_) | Block::Result(_) => Err(at.field("type").must_be(
            "a block of text, image or document",
            "ein Block mit Text, Bild oder Dokument",
        )),
    }
}

fn messages(at: Path<'_>, value: Value) -> Result<Vec<Message>, Invalid> {
    let items = wire::array(at, value)?;
    if items.is_empty() {
        return Err(at.must_be(
            "a list with at least one message",
            "eine Liste mit mindestens einer Nachricht",
        ));
    }
    let mut messages = Vec::with_capacity(items.len());
    for (index, value) in items.into_iter().enumerate() {
        message(at.item(index), value, &mut messages)?;
    }
    Ok(messages)
}

/// One message of Anthropic's becomes one or several: every tool result is a message of its own
/// in the shared words.
fn message(at: Path<'_>, value: Value, to: &mut Vec<Message>) -> Result<(), Invalid> {
    let mut fields = wire::object(at, value)?;
    let (role_at, content_at) = (at.field("role"), at.field("content"));
    let role = wire::take(&mut fields, "role").ok_or_else(|| role_at.missing())?;
    let role = wire::word(
        role_at,
        &role,
        |word| match word {
            "user" => Some(Role::User),
            "assistant" => Some(Role::Assistant),
            "system" => Some(Role::System),
            _ => None,
        },
        "user, assistant",
    )?;
    let content = wire::take(&mut fields, "content").ok_or_else(|| content_at.missing())?;
    let mut message = Message::text(role, "");
    message.parts.clear();
    message.extra = Extra { dialect: Dialect::Anthropic, fields };
    match content {
        Value::String(text) => message.parts.push(Part::text(text)),
        Value::Array(items) => {
            for (index, value) in items.into_iter().enumerate() {
                let at = content_at.item(index);
                match block(at, value)? {
                    Block::Part(part) => message.parts.push(part),
                    Block::Use(call) if role == Role::Assistant => message.tool_calls.push(call),
                    Block::Result(result) if role == Role::User => to.push(*result),
                    Block::Use(_) => {
                        return Err(at.field("type").wrong(
                            format!("`{at}`: only the assistant uses tools"),
                            format!("`{at}`: nur der Assistent benutzt Werkzeuge"),
                        ));
                    }
                    Block::Result(_) => {
                        return Err(at.field("type").wrong(
                            format!("`{at}`: tool results come from the user"),
                            format!("`{at}`: Werkzeugergebnisse kommen vom Nutzer"),
                        ));
                    }
                }
            }
        }
        _ => {
            return Err(content_at.must_be(
                "a string or a list of blocks",
                "eine Zeichenkette oder eine Liste von Blöcken",
            ));
        }
    }
    if !message.parts.is_empty() || !message.tool_calls.is_empty() {
        to.push(message);
    }
    Ok(())
}

enum Block {
    Part(Part),
    Use(ToolCall),
    Result(Box<Message>),
}

fn block(at: Path<'_>, value: Value) -> Result<Block, Invalid> {
    let mut fields = wire::object(at, value)?;
    let kind_at = at.field("type");
    let kind = match fields.get("type") {
        Some(Value::String(kind)) => kind.clone(),
        Some(_) => return Err(kind_at.must_be("a string", "eine Zeichenkette")),
        None => return Err(kind_at.missing()),
    };
    let part = match kind.as_str() {
        "text" if !fields.contains_key("citations") => text(at, &mut fields)?,
        "image" => image(at, &mut fields)?,
        "document" => document(at, fields)?,
        "thinking" => thought(at, &mut fields)?,
        "redacted_thinking" => {
            Part::RedactedThinking { data: required(at, &mut fields, "data", wire::string)? }
        }
        "tool_use" => return tool_use(at, fields).map(Block::Use),
        "tool_result" => {
            return tool_result(at, fields).map(|message| Block::Result(Box::new(message)));
        }
        _ => Part::Other { dialect: Dialect::Anthropic, value: Value::Object(fields) },
    };
    Ok(Block::Part(part))
}

/// A field that must be there.
fn required<T>(
    at: Path<'_>,
    fields: &mut Map<String, Value>,
    name: &str,
    read: impl FnOnce(Path<'_>, Value) -> Result<T, Invalid>,
) -> Result<T, Invalid> {
    let at = at.field(name);
    read(at, wire::take(fields, name).ok_or_else(|| at.missing())?)
}

/// A field that may be there.
fn optional<T>(
    at: Path<'_>,
    fields: &mut Map<String, Value>,
    name: &str,
    read: impl FnOnce(Path<'_>, Value) -> Result<T, Invalid>,
) -> Result<Option<T>, Invalid> {
    wire::take(fields, name).map(|value| read(at.field(name), value)).transpose()
}

fn text(at: Path<'_>, fields: &mut Map<String, Value>) -> Result<Part, Invalid> {
    let text = required(at, fields, "text", wire::string)?;
    Ok(Part::Text { text, cache_control: wire::take(fields, "cache_control") })
}

fn thought(at: Path<'_>, fields: &mut Map<String, Value>) -> Result<Part, Invalid> {
    Ok(Part::Thinking {
        text: required(at, fields, "thinking", wire::string)?,
        signature: optional(at, fields, "signature", wire::string)?,
    })
}

fn image(at: Path<'_>, fields: &mut Map<String, Value>) -> Result<Part, Invalid> {
    let source = required(at, fields, "source", source)?;
    Ok(Part::Image { source, detail: None, cache_control: wire::take(fields, "cache_control") })
}

fn source(at: Path<'_>, value: Value) -> Result<MediaSource, Invalid> {
    let mut fields = wire::object(at, value)?;
    let kind = required(at, &mut fields, "type", |_, kind| Ok(kind))?;
    match kind.as_str() {
        Some("base64") => Ok(MediaSource::Base64 {
            media_type: required(at, &mut fields, "media_type", wire::name)?,
            data: required(at, &mut fields, "data", wire::name)?,
        }),
        Some("url") => required(at, &mut fields, "url", wire::name).map(MediaSource::Url),
        Some("file") => required(at, &mut fields, "file_id", wire::name).map(MediaSource::FileId),
        _ => wire::word(at.field("type"), &kind, |_| None, "base64, url, file"),
    }
}

/// Documents of plain text become text, which every vendor reads; with citations they stay
/// Anthropic's, since only that format can point into them.
fn document(at: Path<'_>, mut fields: Map<String, Value>) -> Result<Part, Invalid> {
    let source_kind =
        fields.get("source").and_then(|source| source.get("type")).and_then(Value::as_str);
    let is_text = source_kind == Some("text");
    let is_content = source_kind == Some("content");
    let cites = fields
        .get("citations")
        .and_then(|citations| citations.get("enabled"))
        .is_some_and(|enabled| enabled == &Value::Bool(true));
    if cites || is_content {
        return Ok(Part::Other { dialect: Dialect::Anthropic, value: Value::Object(fields) });
    }
    let name = optional(at, &mut fields, "title", wire::string)?;
    let cache_control = wire::take(&mut fields, "cache_control");
    if is_text {
        let source_at = at.field("source");
        let mut source = required(at, &mut fields, "source", wire::object)?;
        let text = required(source_at, &mut source, "data", wire::string)?;
        let text = match name {
            Some(name) => format!("<document title={name:?}>\n{text}\n</document>"),
            None => format!("<document>\n{text}\n</document>"),
        };
        return Ok(Part::Text { text, cache_control });
    }
    Ok(Part::Document { source: required(at, &mut fields, "source", source)?, name, cache_control })
}

fn tool_use(at: Path<'_>, mut fields: Map<String, Value>) -> Result<ToolCall, Invalid> {
    let id = required(at, &mut fields, "id", wire::name)?;
    let name = required(at, &mut fields, "name", wire::name)?;
    let input = optional(at, &mut fields, "input", wire::any_object)?;
    fields.swap_remove("type");
    let arguments = input.map_or_else(|| "{}".to_owned(), |input| input.to_string());
    Ok(ToolCall { id, name, arguments, extra: Extra { dialect: Dialect::Anthropic, fields } })
}

fn tool_result(at: Path<'_>, mut fields: Map<String, Value>) -> Result<Message, Invalid> {
    let mut message = Message::text(Role::Tool, "");
    message.parts.clear();
    message.tool_call_id = Some(required(at, &mut fields, "tool_use_id", wire::name)?);
    message.tool_failed = optional(at, &mut fields, "is_error", wire::boolean)?.unwrap_or(false);
    if let Some(content) = wire::take(&mut fields, "content") {
        message.parts = match content {
            Value::String(text) => vec![Part::text(text)],
            content => system(at.field("content"), content)?,
        };
    }
    fields.swap_remove("type");
    message.extra = Extra { dialect: Dialect::Anthropic, fields };
    Ok(message)
}

fn tools(at: Path<'_>, value: Value) -> Result<Vec<Tool>, Invalid> {
    let items = wire::array(at, value)?.into_iter().enumerate();
    items.map(|(index, value)| tool(at.item(index), value)).collect()
}

fn tool(at: Path<'_>, value: Value) -> Result<Tool, Invalid> {
    let mut fields = wire::object(at, value)?;
    let kind = fields.get("type").filter(|kind| !kind.is_null());
    let is_ours = kind.is_none_or(|kind| kind == "custom");
    if !is_ours {
        let name_at = at.field("name");
        // Server toolsets such as MCP's have no name of their own.
        let name = fields.get("name").or_else(|| fields.get("type")).and_then(Value::as_str);
        return Ok(Tool {
            name: name.ok_or_else(|| name_at.missing())?.to_owned(),
            description: None,
            parameters: None,
            strict: None,
            cache_control: None,
            native: Some(Extra { dialect: Dialect::Anthropic, fields }),
        });
    }
    Ok(Tool {
        name: required(at, &mut fields, "name", wire::name)?,
        description: optional(at, &mut fields, "description", wire::string)?,
        parameters: Some(required(at, &mut fields, "input_schema", wire::any_object)?),
        strict: optional(at, &mut fields, "strict", wire::boolean)?,
        cache_control: wire::take(&mut fields, "cache_control"),
        native: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(body: Value) -> Asked {
        decode(body.to_string().as_bytes(), &[]).unwrap_or_else(|invalid| panic!("{invalid:?}"))
    }

    fn refused(body: Value) -> String {
        match decode(body.to_string().as_bytes(), &[]) {
            Err(invalid) => {
                format!("{}: {}", invalid.param.unwrap_or_default(), invalid.message.en)
            }
            Ok(_) => "taken".to_owned(),
        }
    }

    #[test]
    fn a_tool_conversation_becomes_messages_of_the_shared_words() {
        let asked = asked(json!({
            "model": "auto", "max_tokens": 100,
            "system": [{"type": "text", "text": "Kurz.", "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {"role": "user", "content": "Wetter?"},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "…", "signature": "s"},
                    {"type": "text", "text": "Ich sehe nach."},
                    {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Köln"}}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "12 °C"}], "is_error": true},
                    {"type": "text", "text": "Und?"}]}],
        }));
        let roles: Vec<Role> = asked.request.messages.iter().map(|m| m.role).collect();
        assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool, Role::User]);
        let messages = &asked.request.messages;
        assert_eq!(messages[2].tool_calls[0].arguments, r#"{"city":"Köln"}"#);
        assert!(matches!(&messages[2].parts[0], Part::Thinking { signature: Some(_), .. }));
        assert_eq!(messages[3].tool_call_id.as_deref(), Some("t1"));
        assert!(messages[3].tool_failed);
        assert_eq!(messages[3].joined_text(), "12 °C");
    }

    #[test]
    fn what_only_anthropic_says_is_kept_for_anthropic() {
        let body = json!({
            "model": "auto", "max_tokens": 5, "context_management": {"edits": []},
            "messages": [{"role": "user", "content": [{"type": "search_result", "source": "x"}]}],
            "tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}],
        });
        let asked = decode(body.to_string().as_bytes(), &["a-1, b-2"]).expect("a request");
        let extra = asked.request.extra.of(Dialect::Anthropic).expect("fields");
        assert_eq!(extra["anthropic_beta"], json!(["a-1", "b-2"]));
        assert!(extra.contains_key("context_management"));
        let native = asked.request.tools[0].native.as_ref().expect("a server tool");
        assert_eq!(native.fields["max_uses"], 2);
        let part = &asked.request.messages[0].parts[0];
        assert!(matches!(part, Part::Other { dialect: Dialect::Anthropic, .. }));
    }

    #[test]
    fn thinking_and_output_format_become_shared_words() {
        let asked = asked(json!({
            "model": "auto:lawyers", "max_tokens": 9000,
            "messages": [{"role": "user", "content": "?"}],
            "thinking": {"type": "enabled", "budget_tokens": 4096},
            "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        }));
        assert_eq!(asked.target, Target::Policy("lawyers".into()));
        assert!(matches!(asked.request.response_format, ResponseFormat::JsonSchema { .. }));
        let reasoning = asked.request.reasoning.expect("thinking");
        assert_eq!(reasoning.budget_tokens, Some(4096));
        assert_eq!(reasoning.effort.as_deref(), Some("low"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let messages = json!([{"role": "user", "content": "?"}]);
        assert_eq!(
            refused(json!({"model": "m", "messages": messages})),
            "max_tokens: `max_tokens` is missing"
        );
        assert_eq!(
            refused(json!({"model": "m", "max_tokens": -1, "messages": messages})),
            "max_tokens: `max_tokens` must be a whole number from 1 to 4294967295"
        );
        assert_eq!(
            refused(
                json!({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": [{"type": "text"}]}]})
            ),
            "messages[0].content[0].text: `messages[0].content[0].text` is missing"
        );
        assert_eq!(
            refused(
                json!({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": [{"type": "tool_use", "id": "1", "name": "x", "input": {}}]}]})
            ),
            "messages[0].content[0].type: `messages[0].content[0]`: only the assistant uses tools"
        );
        assert_eq!(
            refused(
                json!({"model": "m", "max_tokens": 1, "messages": messages, "thinking": {"type": "maybe"}})
            ),
            "thinking.type: `thinking.type` must be one of enabled, adaptive, disabled"
        );
    }
}
