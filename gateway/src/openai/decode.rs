//! Reads a chat completion request.
//!
//! Strict about what it knows, since a wrong type taken silently becomes a wrong answer that
//! costs money; and it passes on what it does not know. Every error names its field.

use serde_json::{Map, Value};
use stellwerk_core::request::{
    ChatRequest, Dialect, Extra, MediaSource, Message, Options, Part, Reasoning, ResponseFormat,
    Role, Target, Tool, ToolCall, ToolChoice,
};

use crate::wire::{self, Invalid, Path};

/// A request as it was asked, and how its answer must look.
#[derive(Debug)]
pub struct Asked {
    /// Model or policy.
    pub target: Target,
    /// The question.
    pub request: ChatRequest,
    /// The `stellwerk` object.
    pub options: Options,
    /// How the answer must look.
    pub shape: Shape,
}

/// How an answer must look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shape {
    /// Whether a stream ends with a usage chunk.
    pub include_usage: bool,
    /// Whether log probabilities are shown.
    pub logprobs: bool,
    /// Whether tool calls are written as the older `function_call`.
    pub function_call: bool,
    /// Whether the whole trace is shown.
    pub explain: bool,
}

/// Reads the body of a request.
pub fn decode(body: &[u8]) -> Result<Asked, Invalid> {
    let mut reading = Reading::default();
    for (key, value) in wire::object_of(body)? {
        if !value.is_null() {
            reading.field(key, value)?;
        }
    }
    reading.finish()
}

fn not_priced(at: Path<'_>) -> Invalid {
    at.wrong(
        format!("`{at}` changes the vendor's price, and such prices are not yet known here; leave it out"),
        format!("`{at}` ändert den Preis des Anbieters, und solche Preise sind hier noch nicht bekannt; bitte weglassen"),
    )
}

/// What has been read so far; fields come in any order.
#[derive(Default)]
struct Reading {
    model: Option<String>,
    messages: Option<Vec<Message>>,
    request: ChatRequest,
    extras: wire::Extras,
    shape: Shape,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
}

impl Reading {
    fn field(&mut self, key: String, value: Value) -> Result<(), Invalid> {
        let at = Path::Root.field(&key);
        let request = &mut self.request;
        match key.as_str() {
            "model" => self.model = Some(wire::name(at, value)?),
            "messages" => self.messages = Some(messages(at, value)?),
            "stream" => request.stream = wire::boolean(at, value)?,
            "stream_options" => self.shape.include_usage = include_usage(at, value)?,
            "max_tokens" => self.max_tokens = Some(wire::count(at, value, 1)?),
            "max_completion_tokens" => {
                self.max_completion_tokens = Some(wire::count(at, value, 1)?)
            }
            // These change what the vendor bills, and the catalogue has no such prices yet: a call
            // whose price is not known is not made.
            "service_tier" if !matches!(value.as_str(), Some("auto" | "default")) => {
                return Err(not_priced(at));
            }
            "web_search_options" => return Err(not_priced(at)),
            "temperature" => request.temperature = Some(wire::number(at, value, 0.0..=2.0)?),
            "top_p" => request.top_p = Some(wire::number(at, value, 0.0..=1.0)?),
            "presence_penalty" => {
                request.presence_penalty = Some(wire::number(at, value, -2.0..=2.0)?);
            }
            "frequency_penalty" => {
                request.frequency_penalty = Some(wire::number(at, value, -2.0..=2.0)?);
            }
            "n" => request.n = wire::integer(at, value, 1..=128)? as u32,
            "seed" => request.seed = Some(wire::integer(at, value, i64::MIN..=i64::MAX)?),
            "stop" => request.stop = stop(at, value)?,
            "logprobs" => request.logprobs = wire::boolean(at, value)?,
            "top_logprobs" => {
                request.top_logprobs = Some(wire::integer(at, value, 0..=20)? as u8);
            }
            "user" => request.user = Some(wire::string(at, value)?),
            "parallel_tool_calls" => {
                request.parallel_tool_calls = Some(wire::boolean(at, value)?);
            }
            "reasoning_effort" => {
                let effort = Some(wire::name(at, value)?);
                request.reasoning = Some(Reasoning { effort, budget_tokens: None });
            }
            "response_format" => request.response_format = response_format(at, value)?,
            "tools" => request.tools.extend(tools(at, value)?),
            "tool_choice" => match tool_choice(at, &value)? {
                Some(choice) => request.tool_choice = Some(choice),
                // A kind of choice without a shared word, such as `allowed_tools`.
                None => keep(request, key, value),
            },
            "functions" => {
                self.shape.function_call = true;
                request.tools.extend(functions(at, value)?);
            }
            "function_call" => request.tool_choice = Some(function_choice(at, value)?),
            "stellwerk" => self.extras = wire::extras(at, value)?,
            _ => keep(request, key, value),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Asked, Invalid> {
        let root = Path::Root;
        let model = match self.model {
            Some(model) => model,
            None if self.extras.policy.is_some() => "auto".to_owned(),
            None => return Err(root.field("model").missing()),
        };
        self.request.messages = self.messages.ok_or_else(|| root.field("messages").missing())?;
        // The newer name counts where a client sends both.
        self.request.max_output_tokens = self.max_completion_tokens.or(self.max_tokens);
        if self.request.top_logprobs.is_some() && !self.request.logprobs {
            return Err(root.field("top_logprobs").wrong(
                "`top_logprobs` needs `logprobs = true`",
                "`top_logprobs` braucht `logprobs = true`",
            ));
        }
        self.shape.logprobs = self.request.logprobs;
        self.shape.explain = self.extras.options.explain;
        Ok(Asked {
            target: wire::target(&model, self.extras.policy)?,
            request: self.request,
            options: self.extras.options,
            shape: self.shape,
        })
    }
}

fn keep(request: &mut ChatRequest, key: String, value: Value) {
    request.extra.fields.insert(key, value);
}

fn include_usage(at: Path<'_>, value: Value) -> Result<bool, Invalid> {
    match wire::take(&mut wire::object(at, value)?, "include_usage") {
        Some(value) => wire::boolean(at.field("include_usage"), value),
        None => Ok(false),
    }
}

fn stop(at: Path<'_>, value: Value) -> Result<Vec<String>, Invalid> {
    match value {
        Value::String(text) => Ok(vec![text]),
        Value::Array(items) => {
            let items = items.into_iter().enumerate();
            items.map(|(index, value)| wire::string(at.item(index), value)).collect()
        }
        _ => Err(
            at.must_be("a string or a list of strings", "eine Zeichenkette oder eine Liste davon")
        ),
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
        let message = message(at.item(index), value, &messages)?;
        messages.push(message);
    }
    Ok(messages)
}

fn message(at: Path<'_>, value: Value, before: &[Message]) -> Result<Message, Invalid> {
    let mut fields = wire::object(at, value)?;
    let role_at = at.field("role");
    let role = wire::take(&mut fields, "role").ok_or_else(|| role_at.missing())?;
    let role = wire::word(
        role_at,
        &role,
        |word| ROLES.into_iter().find(|role| *role == word),
        "system, developer, user, assistant, tool",
    )?;
    let content = wire::take(&mut fields, "content");
    let mut message = Message::text(Role::User, "");
    message.role = match role {
        "system" | "developer" => Role::System,
        "assistant" => Role::Assistant,
        "tool" | "function" => Role::Tool,
        _ => Role::User,
    };
    message.parts = match content {
        Some(content) => parts(at.field("content"), content)?,
        None => Vec::new(),
    };
    let content_given = !message.parts.is_empty();
    if let Some(name) = wire::take(&mut fields, "name") {
        message.name = Some(wire::string(at.field("name"), name)?);
    }
    match message.role {
        Role::Assistant => called(at, &mut fields, &mut message, before.len())?,
        Role::Tool => answered(at, &mut fields, &mut message, role, before)?,
        Role::System | Role::User => {}
    }
    fields.retain(|_, value| !value.is_null());
    let says_nothing = !content_given && message.tool_calls.is_empty() && fields.is_empty();
    let may_be_empty = message.role == Role::Assistant && !says_nothing;
    if !content_given && !may_be_empty {
        return Err(match message.role {
            Role::Assistant => at.field("content").wrong(
                format!("`{at}` has neither `content` nor `tool_calls`"),
                format!("`{at}` hat weder `content` noch `tool_calls`"),
            ),
            _ => at.field("content").missing(),
        });
    }
    message.extra = Extra { dialect: Dialect::OpenAi, fields };
    Ok(message)
}

const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// What the assistant asked tools to do, in today's form or the older one.
fn called(
    at: Path<'_>,
    fields: &mut Map<String, Value>,
    message: &mut Message,
    index: usize,
) -> Result<(), Invalid> {
    if let Some(calls) = wire::take(fields, "tool_calls") {
        let at = at.field("tool_calls");
        let calls = wire::array(at, calls)?.into_iter().enumerate();
        message.tool_calls = calls
            .map(|(index, value)| tool_call(at.item(index), value))
            .collect::<Result<_, _>>()?;
    }
    if let Some(call) = wire::take(fields, "function_call") {
        let at = at.field("function_call");
        let (name, arguments) = function_of(at, call)?;
        // The older form has no ids; the answer to it stands right behind, so the place names it.
        let id = format!("call_{index}");
        message.tool_calls.push(ToolCall { id, name, arguments, extra: Extra::default() });
    }
    Ok(())
}

fn tool_call(at: Path<'_>, value: Value) -> Result<ToolCall, Invalid> {
    let mut fields = wire::object(at, value)?;
    if let Some(kind) = wire::take(&mut fields, "type") {
        let only = |word: &str| (word == "function").then_some(());
        wire::word(at.field("type"), &kind, only, "function")?;
    }
    let id_at = at.field("id");
    let id = wire::take(&mut fields, "id").ok_or_else(|| id_at.missing())?;
    let function_at = at.field("function");
    let function = wire::take(&mut fields, "function").ok_or_else(|| function_at.missing())?;
    let (name, arguments) = function_of(function_at, function)?;
    fields.swap_remove("index");
    Ok(ToolCall {
        id: wire::name(id_at, id)?,
        name,
        arguments,
        extra: Extra { dialect: Dialect::OpenAi, fields },
    })
}

fn function_of(at: Path<'_>, value: Value) -> Result<(String, String), Invalid> {
    let mut fields = wire::object(at, value)?;
    let name_at = at.field("name");
    let name = wire::take(&mut fields, "name").ok_or_else(|| name_at.missing())?;
    let arguments = match wire::take(&mut fields, "arguments") {
        Some(arguments) => wire::string(at.field("arguments"), arguments)?,
        None => String::new(),
    };
    Ok((wire::name(name_at, name)?, arguments))
}

/// Which call a tool's message answers.
fn answered(
    at: Path<'_>,
    fields: &mut Map<String, Value>,
    message: &mut Message,
    role: &str,
    before: &[Message],
) -> Result<(), Invalid> {
    let id_at = at.field("tool_call_id");
    let id = match wire::take(fields, "tool_call_id") {
        Some(id) => wire::name(id_at, id)?,
        None if role == "function" => {
            let call = |message: &Message| message.tool_calls.last().map(|call| call.id.clone());
            before.iter().rev().find_map(call).ok_or_else(|| {
                at.field("role").wrong(
                    format!("`{at}` answers a function, but none was called before"),
                    format!("`{at}` beantwortet eine Funktion, aber vorher wurde keine aufgerufen"),
                )
            })?
        }
        None => return Err(id_at.missing()),
    };
    message.tool_call_id = Some(id);
    Ok(())
}

fn parts(at: Path<'_>, content: Value) -> Result<Vec<Part>, Invalid> {
    match content {
        Value::String(text) => Ok(vec![Part::text(text)]),
        Value::Array(items) => {
            let items = items.into_iter().enumerate();
            items.map(|(index, value)| part(at.item(index), value)).collect()
        }
        _ => Err(at.must_be(
            "a string or a list of parts",
            "eine Zeichenkette oder eine Liste von Teilen",
        )),
    }
}

fn part(at: Path<'_>, value: Value) -> Result<Part, Invalid> {
    let mut fields = wire::object(at, value)?;
    let kind_at = at.field("type");
    let kind = match fields.get("type") {
        Some(Value::String(kind)) => kind.clone(),
        Some(_) => return Err(kind_at.must_be("a string", "eine Zeichenkette")),
        None => return Err(kind_at.missing()),
    };
    let cache_control = wire::take(&mut fields, "cache_control");
    let mut inner = |name: &str| {
        let at = at.field(name);
        wire::take(&mut fields, name).ok_or_else(|| at.missing())
    };
    match kind.as_str() {
        "text" => {
            let text = wire::string(at.field("text"), inner("text")?)?;
            Ok(Part::Text { text, cache_control })
        }
        "image_url" => image(at.field("image_url"), inner("image_url")?, cache_control),
        "input_audio" => audio(at.field("input_audio"), inner("input_audio")?),
        "file" => file(at.field("file"), inner("file")?, cache_control),
        _ => {
            if let Some(mark) = cache_control {
                fields.insert("cache_control".to_owned(), mark);
            }
            Ok(Part::Other { dialect: Dialect::OpenAi, value: Value::Object(fields) })
        }
    }
}

fn image(at: Path<'_>, value: Value, cache_control: Option<Value>) -> Result<Part, Invalid> {
    let mut fields = wire::object(at, value)?;
    let url_at = at.field("url");
    let url = wire::take(&mut fields, "url").ok_or_else(|| url_at.missing())?;
    let source = media(url_at, wire::name(url_at, url)?)?;
    let detail = match wire::take(&mut fields, "detail") {
        Some(detail) => Some(wire::string(at.field("detail"), detail)?),
        None => None,
    };
    Ok(Part::Image { source, detail, cache_control })
}

/// An address, or the bytes themselves in a `data:` address.
fn media(at: Path<'_>, url: String) -> Result<MediaSource, Invalid> {
    if let Some(data) = url.strip_prefix("data:") {
        let (media_type, data) = data.split_once(";base64,").ok_or_else(|| {
            at.must_be(
                "an address or data:TYPE;base64,DATA",
                "eine Adresse oder data:TYP;base64,DATEN",
            )
        })?;
        // Parameters such as `;charset=` say nothing about an image.
        let media_type = media_type.split(';').next().unwrap_or_default();
        return Ok(MediaSource::Base64 {
            media_type: media_type.to_owned(),
            data: data.to_owned(),
        });
    }
    let is_address = url.starts_with("https://") || url.starts_with("http://");
    if is_address || url.starts_with("gs://") || url.starts_with("s3://") {
        return Ok(MediaSource::Url(url));
    }
    Err(at
        .must_be("an address or data:TYPE;base64,DATA", "eine Adresse oder data:TYP;base64,DATEN"))
}

fn audio(at: Path<'_>, value: Value) -> Result<Part, Invalid> {
    let mut fields = wire::object(at, value)?;
    let mut inner = |name: &str| {
        let at = at.field(name);
        let value = wire::take(&mut fields, name).ok_or_else(|| at.missing())?;
        wire::name(at, value)
    };
    Ok(Part::Audio { data: inner("data")?, format: inner("format")? })
}

fn file(at: Path<'_>, value: Value, cache_control: Option<Value>) -> Result<Part, Invalid> {
    let mut fields = wire::object(at, value)?;
    let mut inner = |name: &str| match wire::take(&mut fields, name) {
        Some(value) => wire::name(at.field(name), value).map(Some),
        None => Ok(None),
    };
    let (id, data, name) = (inner("file_id")?, inner("file_data")?, inner("filename")?);
    let source = match (id, data) {
        (Some(id), _) => MediaSource::FileId(id),
        (None, Some(data)) => media(at.field("file_data"), data)?,
        (None, None) => {
            return Err(at.wrong(
                format!("`{at}` has neither `file_id` nor `file_data`"),
                format!("`{at}` hat weder `file_id` noch `file_data`"),
            ));
        }
    };
    Ok(Part::Document { source, name, cache_control })
}

fn tools(at: Path<'_>, value: Value) -> Result<Vec<Tool>, Invalid> {
    let items = wire::array(at, value)?.into_iter().enumerate();
    items.map(|(index, value)| tool(at.item(index), value)).collect()
}

fn tool(at: Path<'_>, value: Value) -> Result<Tool, Invalid> {
    let mut fields = wire::object(at, value)?;
    let kind_at = at.field("type");
    let kind = match fields.get("type") {
        Some(Value::String(kind)) => kind.clone(),
        Some(_) => return Err(kind_at.must_be("a string", "eine Zeichenkette")),
        None => return Err(kind_at.missing()),
    };
    if kind != "function" {
        return Ok(Tool {
            name: kind,
            description: None,
            parameters: None,
            strict: None,
            cache_control: None,
            native: Some(Extra { dialect: Dialect::OpenAi, fields }),
        });
    }
    let function_at = at.field("function");
    let function = wire::take(&mut fields, "function").ok_or_else(|| function_at.missing())?;
    let mut tool = function_tool(function_at, function)?;
    tool.cache_control = wire::take(&mut fields, "cache_control");
    Ok(tool)
}

fn functions(at: Path<'_>, value: Value) -> Result<Vec<Tool>, Invalid> {
    let items = wire::array(at, value)?.into_iter().enumerate();
    items.map(|(index, value)| function_tool(at.item(index), value)).collect()
}

fn function_tool(at: Path<'_>, value: Value) -> Result<Tool, Invalid> {
    let mut fields = wire::object(at, value)?;
    let name_at = at.field("name");
    let name = wire::take(&mut fields, "name").ok_or_else(|| name_at.missing())?;
    let description = match wire::take(&mut fields, "description") {
        Some(text) => Some(wire::string(at.field("description"), text)?),
        None => None,
    };
    let parameters = match wire::take(&mut fields, "parameters") {
        Some(schema) => Some(wire::any_object(at.field("parameters"), schema)?),
        None => None,
    };
    let strict = match wire::take(&mut fields, "strict") {
        Some(strict) => Some(wire::boolean(at.field("strict"), strict)?),
        None => None,
    };
    let name = wire::name(name_at, name)?;
    Ok(Tool { name, description, parameters, strict, cache_control: None, native: None })
}

/// `None`: an object of a kind without a shared word.
fn tool_choice(at: Path<'_>, value: &Value) -> Result<Option<ToolChoice>, Invalid> {
    match value {
        Value::String(word) => match word.as_str() {
            "auto" => Ok(Some(ToolChoice::Auto)),
            "none" => Ok(Some(ToolChoice::None)),
            "required" | "any" => Ok(Some(ToolChoice::Required)),
            _ => Err(at.must_be(
                "auto, none, required or a named function",
                "auto, none, required oder eine benannte Funktion",
            )),
        },
        Value::Object(fields) if fields.get("type").and_then(Value::as_str) == Some("function") => {
            let name = fields.get("function").and_then(|function| function.get("name"));
            let name = name.or_else(|| fields.get("name")).and_then(Value::as_str);
            let function_at = at.field("function");
            let name_at = function_at.field("name");
            Ok(Some(ToolChoice::Named(name.ok_or_else(|| name_at.missing())?.to_owned())))
        }
        Value::Object(_) => Ok(None),
        _ => Err(at.must_be("a string or an object", "eine Zeichenkette oder ein Objekt")),
    }
}

fn function_choice(at: Path<'_>, value: Value) -> Result<ToolChoice, Invalid> {
    if let Value::Object(mut fields) = value {
        let name_at = at.field("name");
        let name = wire::take(&mut fields, "name").ok_or_else(|| name_at.missing())?;
        return Ok(ToolChoice::Named(wire::name(name_at, name)?));
    }
    let read = |word: &str| match word {
        "auto" => Some(ToolChoice::Auto),
        "none" => Some(ToolChoice::None),
        _ => None,
    };
    wire::word(at, &value, read, "auto, none")
}

fn response_format(at: Path<'_>, value: Value) -> Result<ResponseFormat, Invalid> {
    let mut fields = wire::object(at, value)?;
    let kind_at = at.field("type");
    let kind = wire::take(&mut fields, "type").ok_or_else(|| kind_at.missing())?;
    match kind.as_str() {
        Some("text") => Ok(ResponseFormat::Text),
        Some("json_object") => Ok(ResponseFormat::JsonObject),
        Some("json_schema") => {
            let at = at.field("json_schema");
            let schema = wire::take(&mut fields, "json_schema").ok_or_else(|| at.missing())?;
            json_schema(at, schema)
        }
        _ => Err(kind_at.must_be(
            "one of text, json_object, json_schema",
            "eines von text, json_object, json_schema",
        )),
    }
}

fn json_schema(at: Path<'_>, value: Value) -> Result<ResponseFormat, Invalid> {
    let mut fields = wire::object(at, value)?;
    let (name_at, schema_at) = (at.field("name"), at.field("schema"));
    let name = wire::take(&mut fields, "name").ok_or_else(|| name_at.missing())?;
    let schema = wire::take(&mut fields, "schema").ok_or_else(|| schema_at.missing())?;
    let description = match wire::take(&mut fields, "description") {
        Some(text) => Some(wire::string(at.field("description"), text)?),
        None => None,
    };
    let strict = match wire::take(&mut fields, "strict") {
        Some(strict) => Some(wire::boolean(at.field("strict"), strict)?),
        None => None,
    };
    Ok(ResponseFormat::JsonSchema {
        name: wire::name(name_at, name)?,
        description,
        schema: wire::any_object(schema_at, schema)?,
        strict,
    })
}

#[cfg(test)]
mod tests;
