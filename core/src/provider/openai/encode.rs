//! A request in OpenAI's words, with the habits of the servers that speak them.
//!
//! Pure. Knows nothing of sockets or answers. Start with [`chat`]; [`Flavour`] says where the
//! servers differ.

use base64::Engine as _;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::provider::turns;
use crate::provider::{ProviderCall, ProviderError, ProviderErrorKind, VendorMessage};
use crate::request::{
    ChatRequest, Dialect, EmbedRequest, MediaSource, Message, Part, ResponseFormat, Role, Tool,
    ToolCall, ToolChoice,
};

/// Which server is spoken to, where that makes a difference to the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// OpenAI itself.
    OpenAi,
    /// Azure with an API version that knows `max_completion_tokens` and `stream_options`.
    Azure,
    /// Azure before 2024-09-01.
    OldAzure,
    /// Mistral's own API, which refuses every field that it does not know.
    Mistral,
    /// Groq, which refuses log probabilities and names.
    Groq,
    /// Any other server: vLLM, Ollama, llama.cpp, European hosts.
    Compatible,
}

impl Flavour {
    /// What the host of a base address tells.
    pub fn of_host(host: &str) -> Self {
        match host {
            "api.openai.com" | "eu.api.openai.com" | "us.api.openai.com" => Flavour::OpenAi,
            "api.mistral.ai" => Flavour::Mistral,
            "api.groq.com" => Flavour::Groq,
            _ => Flavour::Compatible,
        }
    }

    /// The field of the output limit. OpenAI's reasoning models refuse `max_tokens`; most other
    /// servers know nothing else.
    fn limit_field(self) -> &'static str {
        match self {
            Flavour::OpenAi | Flavour::Azure => "max_completion_tokens",
            _ => "max_tokens",
        }
    }

    /// Whether a stream must be asked for its usage. Mistral sends it unasked and refuses the
    /// question; old Azure cannot tell it.
    fn asks_for_usage(self) -> bool {
        !matches!(self, Flavour::Mistral | Flavour::OldAzure)
    }

    fn knows_logprobs(self) -> bool {
        !matches!(self, Flavour::Mistral | Flavour::Groq)
    }

    fn knows_names(self) -> bool {
        !matches!(self, Flavour::Mistral | Flavour::Groq)
    }

    /// Whether messages other than the person's may be lists of parts. Chat templates of open
    /// models often take plain text only.
    fn takes_parts_everywhere(self) -> bool {
        matches!(self, Flavour::OpenAi | Flavour::Azure)
    }
}

/// Fields that decide what a call costs or what comes back. They are always ours: a caller's
/// unknown fields may not undo the limit that the hold rests on.
const OURS: &[&str] = &[
    "model",
    "messages",
    "stream",
    "stream_options",
    "n",
    "max_tokens",
    "max_completion_tokens",
    "best_of",
    "stellwerk",
];

/// The body of `chat/completions`.
///
/// Fails with `BadRequest` where a part has no form that this server takes.
pub fn chat(call: &ProviderCall, flavour: Flavour) -> Result<Value, ProviderError> {
    let request = &*turns::spoken(&call.request, Some(Dialect::OpenAi))?;
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(call.model));
    body.insert("messages".to_owned(), messages(request, flavour)?);
    put_limit(&mut body, request, flavour);
    put_sampling(&mut body, call, flavour);
    put_tools(&mut body, request);
    put_format(&mut body, &request.response_format);
    put_reasoning(&mut body, call, flavour);
    put_stream(&mut body, request, flavour);
    if let Some(fields) = request.extra.of(Dialect::OpenAi) {
        pass_on(&mut body, fields, OURS);
    }
    Ok(Value::Object(body))
}

/// The body of `embeddings`.
pub fn embeddings(call: &ProviderCall<EmbedRequest>, flavour: Flavour) -> Value {
    let request = &*call.request;
    // Base64 is a third of the bytes and needs no parsing of numbers, but not every server
    // knows it.
    let format = match flavour {
        Flavour::OpenAi | Flavour::Azure | Flavour::OldAzure => "base64",
        _ => "float",
    };
    let dimensions = if flavour == Flavour::Mistral { "output_dimension" } else { "dimensions" };
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(call.model));
    body.insert("input".to_owned(), json!(request.input));
    body.insert("encoding_format".to_owned(), json!(format));
    put(&mut body, dimensions, request.dimensions);
    if flavour != Flavour::Mistral {
        put(&mut body, "user", request.user.as_deref());
    }
    if let Some(fields) = request.extra.of(Dialect::OpenAi) {
        pass_on(&mut body, fields, &["stellwerk"]);
    }
    Value::Object(body)
}

fn put<T: serde::Serialize>(body: &mut Map<String, Value>, field: &str, value: Option<T>) {
    if let Some(value) = value {
        body.insert(field.to_owned(), json!(value));
    }
}

/// Adds the fields that are neither there nor reserved.
fn pass_on(body: &mut Map<String, Value>, fields: &Map<String, Value>, reserved: &[&str]) {
    for (field, value) in fields {
        if !reserved.contains(&field.as_str()) && !body.contains_key(field) {
            body.insert(field.clone(), value.clone());
        }
    }
}

fn put_limit(body: &mut Map<String, Value>, request: &ChatRequest, flavour: Flavour) {
    // Where the caller wrote one of the two names in a way that only its server knows, that name
    // is kept; the figure is the one that the hold rests on.
    let written = request.extra.of(Dialect::OpenAi).and_then(|fields| {
        ["max_completion_tokens", "max_tokens"].into_iter().find(|name| fields.contains_key(*name))
    });
    put(body, written.unwrap_or(flavour.limit_field()), request.max_output_tokens);
}

fn put_sampling(body: &mut Map<String, Value>, call: &ProviderCall, flavour: Flavour) {
    let request = &*call.request;
    if !fixes_sampling(call, flavour) {
        put(body, "temperature", request.temperature);
        put(body, "top_p", request.top_p);
        put(body, "presence_penalty", request.presence_penalty);
        put(body, "frequency_penalty", request.frequency_penalty);
        put_logprobs(body, call, flavour);
    }
    if flavour == Flavour::Compatible {
        put(body, "top_k", request.top_k);
    }
    put(body, "stop", (!request.stop.is_empty()).then_some(&request.stop));
    put(body, "n", (request.n > 1).then_some(request.n));
    put(body, if flavour == Flavour::Mistral { "random_seed" } else { "seed" }, request.seed);
    if flavour != Flavour::Mistral {
        put(body, "user", request.user.as_deref());
    }
}

fn put_logprobs(body: &mut Map<String, Value>, call: &ProviderCall, flavour: Flavour) {
    let request = &*call.request;
    if !flavour.knows_logprobs() || !(request.logprobs || call.logprobs_for_judge) {
        return;
    }
    put(body, "logprobs", Some(true));
    put(body, "top_logprobs", request.top_logprobs);
}

/// Whether the model refuses sampling knobs and log probabilities. OpenAI documents that for
/// the o series and the first gpt-5 models always, and for later gpt-5 ones while they think.
/// A request that was routed here by policy should not fail for a `temperature` that its caller
/// could not know to be unwelcome.
fn fixes_sampling(call: &ProviderCall, flavour: Flavour) -> bool {
    if flavour != Flavour::OpenAi {
        return false;
    }
    match openai_family(&call.model) {
        Family::Reasoning => true,
        Family::ReasoningOnRequest => effort(call, flavour).is_some_and(|effort| effort != "none"),
        Family::Plain => false,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// Always thinks.
    Reasoning,
    /// Thinks when told to.
    ReasoningOnRequest,
    /// Does not know reasoning.
    Plain,
}

/// What the name of one of OpenAI's own models tells.
fn openai_family(model: &str) -> Family {
    // A fine-tuned model is named `ft:BASE:…`.
    let model = model.strip_prefix("ft:").unwrap_or(model);
    let is_o_series =
        model.starts_with('o') && model[1..].starts_with(|c: char| c.is_ascii_digit());
    let chat_only = model.contains("-chat");
    if chat_only || ["gpt-4", "gpt-3", "chatgpt"].iter().any(|name| model.starts_with(name)) {
        return Family::Plain;
    }
    if is_o_series || model == "gpt-5" || model.starts_with("gpt-5-") {
        return Family::Reasoning;
    }
    Family::ReasoningOnRequest
}

/// OpenAI's word for how hard to think, where there is one to be sent.
fn effort(call: &ProviderCall, flavour: Flavour) -> Option<&str> {
    let reasoning = call.request.reasoning.as_ref()?;
    let openai = flavour == Flavour::OpenAi;
    if openai && openai_family(&call.model) == Family::Plain {
        return None;
    }
    // Only OpenAI's own models are known to understand the word that a number of tokens is
    // turned into; a word of the caller's is the caller's.
    let from_budget = || match reasoning.budget_tokens? {
        0..4_096 => Some("low"),
        4_096..16_384 => Some("medium"),
        _ => Some("high"),
    };
    reasoning.effort.as_deref().or_else(|| if openai { from_budget() } else { None })
}

fn put_reasoning(body: &mut Map<String, Value>, call: &ProviderCall, flavour: Flavour) {
    put(body, "reasoning_effort", effort(call, flavour));
}

fn put_tools(body: &mut Map<String, Value>, request: &ChatRequest) {
    let tools: Vec<Value> = request.tools.iter().filter_map(tool).collect();
    if tools.is_empty() {
        // A choice among no tools is an error to most servers.
        return;
    }
    body.insert("tools".to_owned(), Value::Array(tools));
    let choice = request.tool_choice.as_ref().map(|choice| match choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::None => json!("none"),
        ToolChoice::Required => json!("required"),
        ToolChoice::Named(name) => json!({ "type": "function", "function": { "name": name } }),
    });
    put(body, "tool_choice", choice);
    put(body, "parallel_tool_calls", request.parallel_tool_calls);
}

fn tool(tool: &Tool) -> Option<Value> {
    if let Some(native) = &tool.native {
        return native.of(Dialect::OpenAi).map(|fields| Value::Object(fields.clone()));
    }
    let mut function = Map::new();
    function.insert("name".to_owned(), json!(tool.name));
    put(&mut function, "description", tool.description.as_deref());
    // OpenAI takes no parameters for an empty list; other servers want the list to be said.
    let none = || json!({ "type": "object", "properties": {} });
    function.insert("parameters".to_owned(), tool.parameters.clone().unwrap_or_else(none));
    put(&mut function, "strict", tool.strict);
    Some(json!({ "type": "function", "function": function }))
}

fn put_format(body: &mut Map<String, Value>, format: &ResponseFormat) {
    let format = match format {
        ResponseFormat::Text => return,
        ResponseFormat::JsonObject => json!({ "type": "json_object" }),
        ResponseFormat::JsonSchema { name, description, schema, strict } => {
            let mut inner = Map::new();
            inner.insert("name".to_owned(), json!(name));
            put(&mut inner, "description", description.as_deref());
            inner.insert("schema".to_owned(), schema.clone());
            put(&mut inner, "strict", *strict);
            json!({ "type": "json_schema", "json_schema": inner })
        }
    };
    body.insert("response_format".to_owned(), format);
}

fn put_stream(body: &mut Map<String, Value>, request: &ChatRequest, flavour: Flavour) {
    if !request.stream {
        return;
    }
    body.insert("stream".to_owned(), json!(true));
    if !flavour.asks_for_usage() {
        return;
    }
    // The bill needs the usage, whether or not the caller wants to see it.
    let asked = request.extra.of(Dialect::OpenAi).and_then(|fields| fields.get("stream_options"));
    let mut options = asked.and_then(Value::as_object).cloned().unwrap_or_default();
    options.insert("include_usage".to_owned(), json!(true));
    body.insert("stream_options".to_owned(), Value::Object(options));
}

fn messages(request: &ChatRequest, flavour: Flavour) -> Result<Value, ProviderError> {
    let mut list = Vec::with_capacity(request.messages.len());
    // OpenAI's tool messages hold text only, and nothing may stand between them: what tools
    // showed follows them as a message of the person.
    let mut shown: Vec<Value> = Vec::new();
    for message in &request.messages {
        if message.role != Role::Tool && !shown.is_empty() {
            list.push(json!({ "role": "user", "content": std::mem::take(&mut shown) }));
        }
        list.push(self::message(message, flavour, &mut shown)?);
    }
    if !shown.is_empty() {
        list.push(json!({ "role": "user", "content": shown }));
    }
    Ok(Value::Array(list))
}

fn message(
    message: &Message,
    flavour: Flavour,
    shown: &mut Vec<Value>,
) -> Result<Value, ProviderError> {
    let mut body = Map::new();
    let content = match message.role {
        Role::System => {
            body.insert("role".to_owned(), json!("system"));
            plain_content(message, flavour)
        }
        Role::User => {
            body.insert("role".to_owned(), json!("user"));
            user_content(message, flavour)?
        }
        Role::Assistant => {
            body.insert("role".to_owned(), json!("assistant"));
            assistant_content(message, flavour)
        }
        Role::Tool => {
            body.insert("role".to_owned(), json!("tool"));
            let id = message.tool_call_id.as_deref().unwrap_or_default();
            body.insert("tool_call_id".to_owned(), json!(call_id(id, flavour)));
            tool_content(message, flavour, shown)?
        }
    };
    body.insert("content".to_owned(), content);
    if flavour.knows_names() {
        put(&mut body, "name", message.name.as_deref());
    }
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| tool_call(call, flavour)).collect();
        body.insert("tool_calls".to_owned(), Value::Array(calls));
    }
    if let (Some(fields), true) = (message.extra.of(Dialect::OpenAi), flavour != Flavour::Mistral) {
        pass_on(&mut body, fields, &[]);
    }
    Ok(Value::Object(body))
}

/// Text only, as one string where there is one or where the server takes no lists.
fn plain_content(message: &Message, flavour: Flavour) -> Value {
    let mut texts = message.texts();
    match (texts.next(), texts.next()) {
        (None, _) => json!(""),
        (Some(text), None) => json!(text),
        _ if !flavour.takes_parts_everywhere() => json!(message.joined_text()),
        _ => message.texts().map(text_part).collect(),
    }
}

fn text_part(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

fn user_content(message: &Message, flavour: Flavour) -> Result<Value, ProviderError> {
    if let [Part::Text { text, .. }] = message.parts.as_slice() {
        return Ok(json!(text));
    }
    let parts: Vec<Value> = message
        .parts
        .iter()
        .filter_map(|part| self::part(part, flavour).transpose())
        .collect::<Result<_, _>>()?;
    Ok(if parts.is_empty() { json!("") } else { Value::Array(parts) })
}

/// What the model said; what it thought stays with the vendor that signed it.
fn assistant_content(message: &Message, flavour: Flavour) -> Value {
    let silent = message.texts().all(str::is_empty);
    if silent && !message.tool_calls.is_empty() {
        return Value::Null;
    }
    plain_content(message, flavour)
}

fn tool_content(
    message: &Message,
    flavour: Flavour,
    shown: &mut Vec<Value>,
) -> Result<Value, ProviderError> {
    for part in &message.parts {
        if matches!(part, Part::Text { .. }) {
            continue;
        }
        if let Some(part) = self::part(part, flavour)? {
            if shown.is_empty() {
                shown.push(text_part("Output of the tools above that is not text:"));
            }
            shown.push(part);
        }
    }
    // OpenAI has no field for a failed tool, so the text must say it.
    if message.tool_failed {
        return Ok(json!(format!("Error: {}", message.joined_text())));
    }
    Ok(plain_content(message, flavour))
}

fn part(part: &Part, flavour: Flavour) -> Result<Option<Value>, ProviderError> {
    Ok(match part {
        Part::Text { text, .. } => Some(text_part(text)),
        Part::Image { source, detail, .. } => Some(image(source, detail.as_deref())),
        Part::Document { source, name, .. } => Some(document(source, name.as_deref(), flavour)?),
        Part::Audio { data, format } => Some(
            json!({ "type": "input_audio", "input_audio": { "data": data, "format": format } }),
        ),
        Part::Other { dialect: Dialect::OpenAi, value } => Some(value.clone()),
        Part::Other { .. } | Part::Thinking { .. } | Part::RedactedThinking { .. } => None,
    })
}

fn image(source: &MediaSource, detail: Option<&str>) -> Value {
    let url = match source {
        MediaSource::Url(url) => url.clone(),
        MediaSource::Base64 { media_type, data } => data_url(media_type, data),
        MediaSource::FileId(id) => return json!({ "type": "file", "file": { "file_id": id } }),
    };
    let mut image = Map::new();
    image.insert("url".to_owned(), json!(url));
    put(&mut image, "detail", detail);
    json!({ "type": "image_url", "image_url": image })
}

fn data_url(media_type: &str, data: &str) -> String {
    format!("data:{media_type};base64,{data}")
}

fn document(
    source: &MediaSource,
    name: Option<&str>,
    flavour: Flavour,
) -> Result<Value, ProviderError> {
    if let Some(text) = plain_document(source) {
        return Ok(text_part(&text));
    }
    if flavour == Flavour::Mistral {
        let url = match source {
            MediaSource::Url(url) => url.clone(),
            MediaSource::Base64 { media_type, data } => data_url(media_type, data),
            MediaSource::FileId(id) => return Ok(json!({ "type": "file", "file_id": id })),
        };
        return Ok(json!({ "type": "document_url", "document_url": url }));
    }
    let file = match source {
        MediaSource::Base64 { media_type, data } => json!({
            "filename": name.unwrap_or("document"),
            "file_data": data_url(media_type, data),
        }),
        MediaSource::FileId(id) => json!({ "file_id": id }),
        MediaSource::Url(_) => {
            return Err(refused(
                "this vendor takes no documents by address; send the document itself (base64)",
            ));
        }
    };
    Ok(json!({ "type": "file", "file": file }))
}

/// A document that is only text is sent as text: every server can read that.
fn plain_document(source: &MediaSource) -> Option<String> {
    let MediaSource::Base64 { media_type, data } = source else { return None };
    if !media_type.starts_with("text/") {
        return None;
    }
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(data).ok()?).ok()
}

fn refused(why: &str) -> ProviderError {
    ProviderError {
        vendor_message: Some(VendorMessage(why.into())),
        ..ProviderError::new(ProviderErrorKind::BadRequest, why)
    }
}

fn tool_call(call: &ToolCall, flavour: Flavour) -> Value {
    let mut body = Map::new();
    body.insert("id".to_owned(), json!(call_id(&call.id, flavour)));
    let extra = call.extra.of(Dialect::OpenAi);
    let is_custom = extra.is_some_and(|fields| fields.get("type") == Some(&json!("custom")));
    if is_custom {
        body.insert("type".to_owned(), json!("custom"));
        body.insert("custom".to_owned(), json!({ "name": call.name, "input": call.arguments }));
    } else {
        body.insert("type".to_owned(), json!("function"));
        // A call without arguments is written `{}`: some servers parse the text.
        let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
        body.insert("function".to_owned(), json!({ "name": call.name, "arguments": arguments }));
    }
    if let (Some(fields), true) = (extra, flavour != Flavour::Mistral) {
        pass_on(&mut body, fields, &[]);
    }
    Value::Object(body)
}

/// Mistral wants nine letters or digits; a conversation that began at another vendor has other
/// ids, so those are replaced by nine characters of their hash, the same in call and result.
fn call_id(id: &str, flavour: Flavour) -> String {
    let fits = id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if flavour != Flavour::Mistral || fits {
        return id.to_owned();
    }
    hex::encode(Sha256::digest(id))[..9].to_owned()
}
