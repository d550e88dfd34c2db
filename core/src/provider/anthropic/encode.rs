//! A request in Anthropic's words.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::provider::claude::{Generation, Thinking};
use crate::provider::turns::{self, Media, Speaker, Turns, refuse};
use crate::provider::{ProviderCall, ProviderError, schema};
use crate::request::{
    ChatRequest, Dialect, MediaSource, Message, Part, ResponseFormat, Role, Tool, ToolChoice,
};

use super::{ANSWER_TOOL, answers_by_tool};

/// The body of a call. Refuses what the format has no place for.
pub fn encode(call: &ProviderCall) -> Result<Value, ProviderError> {
    let request = &*turns::spoken(&call.request, Some(Dialect::Anthropic))?;
    let generation = Generation::of(&call.model);
    let max_tokens = request.max_output_tokens.unwrap_or(turns::DEFAULT_OUTPUT_LIMIT);
    let (system, messages) = conversation(request)?;

    let mut body = Map::new();
    body.insert("model".to_owned(), json!(call.model));
    body.insert("max_tokens".to_owned(), json!(max_tokens));
    if !system.is_empty() {
        body.insert("system".to_owned(), Value::Array(system));
    }
    body.insert("messages".to_owned(), messages);
    add_tools(&mut body, &call.model, request);
    add_format(&mut body, &call.model, request);
    add_thinking(&mut body, thinking(&call.model, request, max_tokens));
    add_sampling(&mut body, generation, request);
    // A blank stop text is refused; leaving it out lets the answer run on, which is visible.
    let stop: Vec<&String> = request.stop.iter().filter(|text| turns::is_said(text)).collect();
    if !stop.is_empty() {
        body.insert("stop_sequences".to_owned(), json!(stop));
    }
    if let Some(user) = &request.user {
        body.insert("metadata".to_owned(), json!({ "user_id": user }));
    }
    if request.stream {
        body.insert("stream".to_owned(), json!(true));
    }
    add_extra(&mut body, request);
    drop_sampling_while_thinking(&mut body);
    Ok(Value::Object(body))
}

/// The betas that a call needs: those that the caller named, and the one for files.
pub fn betas(request: &ChatRequest) -> Option<String> {
    let extra = request.extra.of(Dialect::Anthropic);
    let mut betas: Vec<&str> = Vec::new();
    for named in BETA_KEYS.iter().filter_map(|key| extra?.get(*key)) {
        betas.extend(named.as_str());
        betas.extend(named.as_array().into_iter().flatten().filter_map(Value::as_str));
    }
    if has_files(request) && !betas.iter().any(|beta| beta.contains("files-api")) {
        betas.push("files-api-2025-04-14");
    }
    (!betas.is_empty()).then(|| betas.join(","))
}

/// Where a caller's betas travel: the header's name and the SDKs' fields.
const BETA_KEYS: &[&str] = &["anthropic-beta", "anthropic_beta", "betas"];

fn has_files(request: &ChatRequest) -> bool {
    let mut parts = request.messages.iter().flat_map(|message| &message.parts);
    parts.any(|part| {
        matches!(
            part,
            Part::Image { source: MediaSource::FileId(_), .. }
                | Part::Document { source: MediaSource::FileId(_), .. }
        )
    })
}

// Instructions and conversation.

fn conversation(request: &ChatRequest) -> Result<(Vec<Value>, Value), ProviderError> {
    let mut system = Vec::new();
    let mut said = Turns::default();
    let only_instructions = turns::has_only_instructions(request);
    for message in &request.messages {
        match message.role {
            Role::System if only_instructions => said.say(Speaker::User, texts(message)),
            Role::System => system.extend(texts(message)),
            Role::User => said.say(Speaker::User, user_blocks(message)?),
            Role::Assistant => said.say(Speaker::Model, model_blocks(message)),
            Role::Tool => said.say(Speaker::User, vec![tool_result(message)?]),
        }
    }
    if said.is_empty() {
        return Err(refuse("the request has no text; Anthropic refuses empty messages"));
    }
    if request.response_format == ResponseFormat::JsonObject {
        system.push(text_block(turns::JSON_INSTRUCTION));
    }
    let mut messages: Vec<Value> = said
        .opened_by_user(|| text_block("."))
        .into_iter()
        .map(|(speaker, content)| match speaker {
            Speaker::User => json!({"role": "user", "content": content}),
            Speaker::Model => json!({"role": "assistant", "content": content}),
        })
        .collect();
    trim_prefill(messages.last_mut());
    Ok((system, Value::Array(messages)))
}

/// An answer that the caller began must not end in white space.
fn trim_prefill(last: Option<&mut Value>) {
    let Some(last) = last.filter(|last| last["role"] == "assistant") else { return };
    let block = last["content"].as_array_mut().and_then(|content| content.last_mut());
    if let Some(Value::String(text)) = block.and_then(|block| block.get_mut("text")) {
        text.truncate(text.trim_end().len());
    }
}

fn texts(message: &Message) -> Vec<Value> {
    message.parts.iter().filter_map(text_part).collect()
}

fn text_part(part: &Part) -> Option<Value> {
    match part {
        Part::Text { text, cache_control } if turns::is_said(text) => {
            Some(marked(text_block(text), cache_control.as_ref()))
        }
        Part::Other { dialect: Dialect::Anthropic, value } => Some(value.clone()),
        _ => None,
    }
}

fn text_block(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn marked(mut block: Value, cache_control: Option<&Value>) -> Value {
    if let Some(mark) = cache_control {
        block["cache_control"] = mark.clone();
    }
    block
}

fn user_blocks(message: &Message) -> Result<Vec<Value>, ProviderError> {
    message.parts.iter().filter_map(|part| user_block(part).transpose()).collect()
}

fn user_block(part: &Part) -> Result<Option<Value>, ProviderError> {
    Ok(match part {
        Part::Image { source, cache_control, .. } => {
            let block = json!({"type": "image", "source": image_source(source)});
            Some(marked(block, cache_control.as_ref()))
        }
        Part::Document { source, name, cache_control } => {
            let mut block = json!({"type": "document", "source": document_source(source)?});
            if let Some(name) = name {
                block["title"] = json!(name);
            }
            Some(marked(block, cache_control.as_ref()))
        }
        Part::Audio { .. } => {
            return Err(refuse("Anthropic takes no sound; send its text instead"));
        }
        _ => text_part(part),
    })
}

fn image_source(source: &MediaSource) -> Value {
    match Media::of(source) {
        Media::Inline { media_type, data } => {
            json!({"type": "base64", "media_type": media_type, "data": data})
        }
        Media::Url(url) => json!({"type": "url", "url": url}),
        Media::File(id) => json!({"type": "file", "file_id": id}),
    }
}

/// As an image's, but plain text goes as text: base64 is for PDF only.
fn document_source(source: &MediaSource) -> Result<Value, ProviderError> {
    match Media::of(source) {
        Media::Inline { media_type, data } if media_type.starts_with("text/") => {
            let bytes = STANDARD.decode(data.as_bytes()).ok();
            let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
            let text = text.ok_or_else(|| refuse("a text document is not UTF-8 in base64"))?;
            Ok(json!({"type": "text", "media_type": "text/plain", "data": text}))
        }
        _ => Ok(image_source(source)),
    }
}

fn model_blocks(message: &Message) -> Vec<Value> {
    let mut blocks = Vec::new();
    for part in &message.parts {
        match part {
            // Anthropic signs its thoughts and refuses others'; unsigned ones are another
            // vendor's.
            Part::Thinking { text, signature: Some(signature) } => {
                blocks.push(json!({"type": "thinking", "thinking": text, "signature": signature}))
            }
            Part::RedactedThinking { data } => {
                blocks.push(json!({"type": "redacted_thinking", "data": data}));
            }
            _ => blocks.extend(text_part(part)),
        }
    }
    for call in &message.tool_calls {
        let (id, input) = (turns::call_id(&call.id), turns::arguments(call));
        blocks.push(json!({"type": "tool_use", "id": id, "name": call.name, "input": input}));
    }
    blocks
}

fn tool_result(message: &Message) -> Result<Value, ProviderError> {
    let mut block = json!({
        "type": "tool_result",
        "tool_use_id": turns::call_id(message.tool_call_id.as_deref().unwrap_or_default()),
        "content": user_blocks(message)?,
    });
    if message.tool_failed {
        block["is_error"] = json!(true);
    }
    Ok(block)
}

// Tools and the form of the answer.

fn add_tools(body: &mut Map<String, Value>, model: &str, request: &ChatRequest) {
    let strict = Generation::of(model).keeps_to_schema();
    let mut tools: Vec<Value> =
        request.tools.iter().filter_map(|tool| tool_of(tool, strict)).collect();
    let mut choice = tool_choice(request);
    if tools.is_empty() {
        // What was called before must be declared, and must not be called again.
        tools = turns::called_tools(request).into_iter().map(declared).collect();
        choice = Some(json!({"type": "none"}));
    }
    if let (true, Some(answer)) = (answers_by_tool(model, request), answer_tool(request)) {
        choice = Some(match request.tools.is_empty() {
            true => json!({"type": "tool", "name": ANSWER_TOOL}),
            false => json!({"type": "any"}),
        });
        tools.push(answer);
    }
    if tools.is_empty() {
        return;
    }
    body.insert("tools".to_owned(), Value::Array(tools));
    if let Some(choice) = choice {
        body.insert("tool_choice".to_owned(), choice);
    }
}

fn tool_of(tool: &Tool, strict: bool) -> Option<Value> {
    if let Some(native) = &tool.native {
        return native.of(Dialect::Anthropic).map(|fields| Value::Object(fields.clone()));
    }
    let strict = strict && tool.strict == Some(true);
    let parameters = schema::parameters(tool.parameters.as_ref());
    let parameters = if strict { schema::for_claude(&parameters) } else { parameters };
    let mut fields = json!({"name": tool.name, "input_schema": parameters});
    if let Some(description) = &tool.description {
        fields["description"] = json!(description);
    }
    if strict {
        fields["strict"] = json!(true);
    }
    Some(marked(fields, tool.cache_control.as_ref()))
}

fn declared(name: &str) -> Value {
    json!({"name": name, "input_schema": schema::parameters(None)})
}

fn answer_tool(request: &ChatRequest) -> Option<Value> {
    let ResponseFormat::JsonSchema { description, schema, .. } = &request.response_format else {
        return None;
    };
    Some(json!({
        "name": ANSWER_TOOL,
        "description": description.as_deref().unwrap_or("Gives the answer."),
        "input_schema": schema::parameters(Some(schema)),
    }))
}

fn tool_choice(request: &ChatRequest) -> Option<Value> {
    let one_at_a_time = request.parallel_tool_calls == Some(false);
    let mut choice = match &request.tool_choice {
        Some(ToolChoice::None) => return Some(json!({"type": "none"})),
        Some(ToolChoice::Required) => json!({"type": "any"}),
        Some(ToolChoice::Named(name)) => json!({"type": "tool", "name": name}),
        Some(ToolChoice::Auto) => json!({"type": "auto"}),
        None if one_at_a_time => json!({"type": "auto"}),
        None => return None,
    };
    if one_at_a_time {
        choice["disable_parallel_tool_use"] = json!(true);
    }
    Some(choice)
}

fn add_format(body: &mut Map<String, Value>, model: &str, request: &ChatRequest) {
    let ResponseFormat::JsonSchema { schema, .. } = &request.response_format else { return };
    if !answers_by_tool(model, request) {
        let format = json!({"type": "json_schema", "schema": schema::for_claude(schema)});
        configure_output(body, "format", format);
    }
}

fn configure_output(body: &mut Map<String, Value>, key: &str, value: Value) {
    let config = body.entry("output_config").or_insert_with(|| json!({}));
    if let Value::Object(config) = config {
        config.insert(key.to_owned(), value);
    }
}

// Thinking and sampling.

fn thinking(model: &str, request: &ChatRequest, max_tokens: u32) -> Thinking {
    let forced = matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
    if forced || answers_by_tool(model, request) || turns::continues_without_thoughts(request) {
        // Anthropic refuses thinking together with these; what the caller forces comes first.
        return Thinking::default();
    }
    Generation::of(model).thinking(request.reasoning.as_ref(), max_tokens)
}

fn add_thinking(body: &mut Map<String, Value>, thinking: Thinking) {
    if let Some(thinking) = thinking.thinking {
        body.insert("thinking".to_owned(), thinking);
    }
    if let Some(effort) = thinking.effort {
        configure_output(body, "effort", json!(effort));
    }
}

fn add_sampling(body: &mut Map<String, Value>, generation: Generation, request: &ChatRequest) {
    if !generation.takes_sampling() {
        return;
    }
    if let Some(temperature) = request.temperature {
        // OpenAI's scale ends at 2, Anthropic's at 1.
        body.insert("temperature".to_owned(), json!(temperature.clamp(0.0, 1.0)));
    }
    let both = generation.takes_both_samplings() || request.temperature.is_none();
    if let (Some(top_p), true) = (request.top_p, both) {
        body.insert("top_p".to_owned(), json!(top_p));
    }
    if let Some(top_k) = request.top_k {
        body.insert("top_k".to_owned(), json!(top_k));
    }
}

fn drop_sampling_while_thinking(body: &mut Map<String, Value>) {
    let kind = body.get("thinking").and_then(|thinking| thinking["type"].as_str());
    if matches!(kind, Some("enabled" | "adaptive")) {
        for field in ["temperature", "top_k", "top_p"] {
            body.shift_remove(field);
        }
    }
}

/// What the caller said in Anthropic's own words wins, but for what the engine decides.
fn add_extra(body: &mut Map<String, Value>, request: &ChatRequest) {
    for (key, value) in request.extra.of(Dialect::Anthropic).into_iter().flatten() {
        match (key.as_str(), value) {
            ("model" | "messages" | "max_tokens" | "stream", _) => {}
            (key, _) if BETA_KEYS.contains(&key) => {}
            ("output_config", Value::Object(fields)) => {
                for (key, value) in fields {
                    configure_output(body, key, value.clone());
                }
            }
            _ => {
                body.insert(key.clone(), value.clone());
            }
        }
    }
}
