//! A request in Converse's words.

use serde_json::{Map, Value, json};

use crate::provider::claude::Generation;
use crate::provider::turns::{self, Media, Speaker, Turns, refuse};
use crate::provider::{ProviderCall, ProviderError, schema};
use crate::request::{
    ChatRequest, Dialect, MediaSource, Message, Part, ResponseFormat, Role, Tool, ToolChoice,
};

use super::{ANSWER_TOOL, Family, answers_by_tool};

/// The body of a call. Refuses what the format has no place for.
pub fn encode(call: &ProviderCall) -> Result<Value, ProviderError> {
    let request = &*turns::spoken(&call.request, None)?;
    let family = Family::of(&call.model);
    let (system, messages) = Conversation::new(family).of(request)?;

    let mut body = Map::new();
    let mut set = |field: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(field.to_owned(), value);
        }
    };
    set("system", (!system.is_empty()).then_some(Value::Array(system)));
    set("messages", Some(messages));
    set("inferenceConfig", Some(inference_config(family, call)));
    set("toolConfig", tool_config(family, &call.model, request));
    set("outputConfig", output_config(&call.model, request));
    let extras = model_fields(family, call);
    set("additionalModelRequestFields", (!extras.is_empty()).then_some(Value::Object(extras)));
    // Converse tells that a stop text was met; which one only Claude tells, when asked.
    let asks_which = family == Family::Claude && !request.stop.is_empty();
    set("additionalModelResponseFieldPaths", asks_which.then(|| json!(["/stop_sequence"])));
    Ok(Value::Object(body))
}

// Instructions and conversation.

struct Conversation {
    family: Family,
    /// Documents so far: their names must differ.
    documents: usize,
}

impl Conversation {
    fn new(family: Family) -> Self {
        Conversation { family, documents: 0 }
    }

    fn of(mut self, request: &ChatRequest) -> Result<(Vec<Value>, Value), ProviderError> {
        let mut system = Vec::new();
        let mut said = Turns::default();
        let only_instructions = turns::has_only_instructions(request);
        for message in &request.messages {
            match message.role {
                Role::System if only_instructions => said.say(Speaker::User, self.texts(message)),
                Role::System => system.extend(self.texts(message)),
                Role::User => said.say(Speaker::User, self.user_blocks(message)?),
                Role::Assistant => said.say(Speaker::Model, self.model_blocks(message)),
                Role::Tool => said.say(Speaker::User, vec![self.tool_result(message)?]),
            }
        }
        if said.is_empty() {
            return Err(refuse("the request has no text; Bedrock refuses empty messages"));
        }
        if request.response_format == ResponseFormat::JsonObject {
            system.push(text_block(turns::JSON_INSTRUCTION));
        }
        if must_not_call(request) {
            system.push(text_block(NO_TOOLS_INSTRUCTION));
        }
        let messages = said
            .opened_by_user(|| text_block("."))
            .into_iter()
            .map(|(speaker, content)| match speaker {
                Speaker::User => json!({"role": "user", "content": content}),
                Speaker::Model => json!({"role": "assistant", "content": content}),
            })
            .collect();
        Ok((system, messages))
    }

    fn texts(&self, message: &Message) -> Vec<Value> {
        let mut blocks = Vec::new();
        for part in &message.parts {
            if let Part::Text { text, cache_control } = part
                && turns::is_said(text)
            {
                blocks.push(text_block(text));
                blocks.extend(self.cache_point(cache_control.as_ref()));
            }
        }
        blocks
    }

    fn user_blocks(&mut self, message: &Message) -> Result<Vec<Value>, ProviderError> {
        let mut blocks = Vec::new();
        let mut documents = 0;
        for part in &message.parts {
            let (block, cache_control) = match part {
                Part::Text { text, cache_control } if turns::is_said(text) => {
                    (text_block(text), cache_control)
                }
                Part::Image { source, cache_control, .. } => (image(source)?, cache_control),
                Part::Document { source, name, cache_control } => {
                    documents += 1;
                    (self.document(source, name.as_deref())?, cache_control)
                }
                Part::Audio { .. } => {
                    return Err(refuse("Bedrock takes no sound; send its text instead"));
                }
                _ => continue,
            };
            blocks.push(block);
            blocks.extend(self.cache_point(cache_control.as_ref()));
        }
        // A document must come with a text.
        if documents > 0 && !blocks.iter().any(|block| block.get("text").is_some()) {
            blocks.push(text_block("The document is attached."));
        }
        Ok(blocks)
    }

    fn document(
        &mut self,
        source: &MediaSource,
        name: Option<&str>,
    ) -> Result<Value, ProviderError> {
        let (format, source) = stored(source, document_format, "document")?;
        self.documents += 1;
        let name = document_name(name, self.documents);
        Ok(json!({"document": {"format": format, "name": name, "source": source}}))
    }

    fn model_blocks(&self, message: &Message) -> Vec<Value> {
        let mut blocks = Vec::new();
        for part in &message.parts {
            match part {
                // Only Claude wants its thoughts back, and only with its signature.
                Part::Thinking { text, signature: Some(signature) }
                    if self.family == Family::Claude =>
                {
                    let thought = json!({"text": text, "signature": signature});
                    blocks.push(json!({"reasoningContent": {"reasoningText": thought}}));
                }
                Part::RedactedThinking { data } if self.family == Family::Claude => {
                    blocks.push(json!({"reasoningContent": {"redactedContent": data}}));
                }
                Part::Text { text, cache_control } if turns::is_said(text) => {
                    blocks.push(text_block(text));
                    blocks.extend(self.cache_point(cache_control.as_ref()));
                }
                _ => {}
            }
        }
        for call in &message.tool_calls {
            let (id, input) = (turns::call_id(&call.id), turns::arguments(call));
            let call = json!({"toolUseId": id, "name": call.name, "input": input});
            blocks.push(json!({ "toolUse": call }));
        }
        blocks
    }

    fn tool_result(&mut self, message: &Message) -> Result<Value, ProviderError> {
        let mut content = self.user_blocks(message)?;
        content.retain(|block| block.get("cachePoint").is_none());
        if content.is_empty() {
            content.push(text_block("(no output)"));
        }
        let id = turns::call_id(message.tool_call_id.as_deref().unwrap_or_default());
        let mut result = json!({"toolUseId": id, "content": content});
        // Only Claude and Nova know the field.
        if message.tool_failed && matches!(self.family, Family::Claude | Family::Nova) {
            result["status"] = json!("error");
        }
        Ok(json!({ "toolResult": result }))
    }

    /// Anthropic marks a block, Converse puts a point behind it. Other families have no cache to
    /// point to and refuse it.
    fn cache_point(&self, cache_control: Option<&Value>) -> Option<Value> {
        let mark = cache_control?;
        if !matches!(self.family, Family::Claude | Family::Nova) {
            return None;
        }
        let mut point = json!({"type": "default"});
        if mark["ttl"] == "1h" && self.family == Family::Claude {
            point["ttl"] = json!("1h");
        }
        Some(json!({ "cachePoint": point }))
    }
}

fn text_block(text: &str) -> Value {
    json!({ "text": text })
}

fn image(source: &MediaSource) -> Result<Value, ProviderError> {
    let (format, source) = stored(source, image_format, "image")?;
    Ok(json!({"image": {"format": format, "source": source}}))
}

/// Where a piece of media is, in Converse's words: here, or in AWS's own storage.
fn stored(
    source: &MediaSource,
    format: impl Fn(&str) -> Option<&'static str>,
    what: &str,
) -> Result<(&'static str, Value), ProviderError> {
    let unknown = || refuse(format!("Bedrock does not take this type of {what}"));
    match Media::of(source) {
        Media::Inline { media_type, data } => {
            Ok((format(&media_type).ok_or_else(unknown)?, json!({ "bytes": data })))
        }
        Media::Url(url) if url.starts_with("s3://") => {
            let ending = url.rsplit_once('.').map(|(_, ending)| ending).unwrap_or_default();
            let format = format(ending).ok_or_else(unknown)?;
            Ok((format, json!({"s3Location": {"uri": url}})))
        }
        Media::Url(_) => Err(refuse(format!(
            "Bedrock takes no {what} by address; send it inline in base64, or as s3://"
        ))),
        Media::File(_) => Err(refuse(format!(
            "Bedrock has no files by id; send the {what} inline in base64, or as s3://"
        ))),
    }
}

/// Of a media type or a file's ending.
fn image_format(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "image/png" | "png" => "png",
        "image/jpeg" | "image/jpg" | "jpeg" | "jpg" => "jpeg",
        "image/gif" | "gif" => "gif",
        "image/webp" | "webp" => "webp",
        _ => return None,
    })
}

/// Of a media type or a file's ending.
fn document_format(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "application/pdf" | "pdf" => "pdf",
        "text/plain" | "txt" => "txt",
        "text/markdown" | "md" => "md",
        "text/html" | "html" => "html",
        "text/csv" | "csv" => "csv",
        "application/msword" | "doc" => "doc",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document" | "docx" => {
            "docx"
        }
        "application/vnd.ms-excel" | "xls" => "xls",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" | "xlsx" => "xlsx",
        _ => return None,
    })
}

/// Letters, digits, hyphens, brackets and single spaces are all that a name may have.
fn document_name(name: Option<&str>, number: usize) -> String {
    let name = name.unwrap_or("document");
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let plain: String = stem
        .chars()
        .map(|letter| match letter {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '(' | ')' | '[' | ']' => letter,
            _ => ' ',
        })
        .collect();
    let mut words: Vec<&str> = plain.split_whitespace().collect();
    if words.is_empty() {
        words.push("document");
    }
    let name: String = words.join(" ").chars().take(150).collect();
    if number == 1 { name } else { format!("{name} {number}") }
}

// Tools and the form of the answer.

/// Converse has no word for "no tool", and tools of the history must stay declared.
fn must_not_call(request: &ChatRequest) -> bool {
    let offered = !request.tools.is_empty() && request.tool_choice == Some(ToolChoice::None);
    let called = request.tools.is_empty() && !turns::called_tools(request).is_empty();
    (offered && !turns::called_tools(request).is_empty()) || called
}

const NO_TOOLS_INSTRUCTION: &str = "Do not call a tool; answer in words.";

fn tool_config(family: Family, model: &str, request: &ChatRequest) -> Option<Value> {
    let strict = family == Family::Claude && Generation::of(model).keeps_to_schema();
    let mut tools: Vec<Value> = Vec::new();
    if request.tool_choice != Some(ToolChoice::None) {
        for tool in request.tools.iter().filter(|tool| tool.native.is_none()) {
            tools.push(tool_spec(tool, strict));
            let point = Conversation::new(family).cache_point(tool.cache_control.as_ref());
            tools.extend(point);
        }
    }
    let mut choice = match &request.tool_choice {
        Some(ToolChoice::Required) => Some(json!({"any": {}})),
        Some(ToolChoice::Named(name)) => Some(json!({"tool": {"name": name}})),
        Some(ToolChoice::Auto) => Some(json!({"auto": {}})),
        Some(ToolChoice::None) | None => None,
    };
    if tools.is_empty() {
        choice = None;
        tools.extend(turns::called_tools(request).into_iter().map(declared));
    }
    if let (true, Some(answer)) = (answers_by_tool(model, request), answer_tool(request)) {
        choice = Some(match tools.is_empty() {
            true => json!({"tool": {"name": ANSWER_TOOL}}),
            false => json!({"any": {}}),
        });
        tools.push(answer);
    }
    if tools.is_empty() {
        return None;
    }
    let mut config = json!({ "tools": tools });
    if let Some(choice) = choice {
        config["toolChoice"] = choice;
    }
    Some(config)
}

fn tool_spec(tool: &Tool, strict: bool) -> Value {
    let strict = strict && tool.strict == Some(true);
    let parameters = schema::parameters(tool.parameters.as_ref());
    let parameters = if strict { schema::for_claude(&parameters) } else { parameters };
    let mut spec = json!({"name": tool.name, "inputSchema": {"json": parameters}});
    // An empty description is refused.
    if let Some(description) = tool.description.as_deref().filter(|text| turns::is_said(text)) {
        spec["description"] = json!(description);
    }
    if strict {
        spec["strict"] = json!(true);
    }
    json!({ "toolSpec": spec })
}

fn declared(name: &str) -> Value {
    json!({"toolSpec": {"name": name, "inputSchema": {"json": schema::parameters(None)}}})
}

fn answer_tool(request: &ChatRequest) -> Option<Value> {
    let ResponseFormat::JsonSchema { description, schema, .. } = &request.response_format else {
        return None;
    };
    let spec = json!({
        "name": ANSWER_TOOL,
        "description": description.as_deref().unwrap_or("Gives the answer."),
        "inputSchema": {"json": schema::parameters(Some(schema))},
    });
    Some(json!({ "toolSpec": spec }))
}

/// The schema goes as text inside the JSON; that is how AWS documents it.
fn output_config(model: &str, request: &ChatRequest) -> Option<Value> {
    let ResponseFormat::JsonSchema { name, description, schema, .. } = &request.response_format
    else {
        return None;
    };
    if answers_by_tool(model, request) {
        return None;
    }
    let schema = schema::for_claude(schema).to_string();
    let mut definition = json!({"name": name, "schema": schema});
    if let Some(description) = description {
        definition["description"] = json!(description);
    }
    let structure = json!({ "jsonSchema": definition });
    Some(json!({"textFormat": {"type": "json_schema", "structure": structure}}))
}

// How the model is to answer.

fn inference_config(family: Family, call: &ProviderCall) -> Value {
    let request = &*call.request;
    let mut config = Map::new();
    let limit = request.max_output_tokens.unwrap_or(turns::DEFAULT_OUTPUT_LIMIT);
    config.insert("maxTokens".to_owned(), json!(limit));
    let is_claude = family == Family::Claude;
    let generation = Generation::of(&call.model);
    let samples = !is_claude || (generation.takes_sampling() && thinking(family, call).is_empty());
    let both = !is_claude || generation.takes_both_samplings() || request.temperature.is_none();
    if let (Some(temperature), true) = (request.temperature, samples) {
        // Converse's scale ends at 1, OpenAI's at 2.
        config.insert("temperature".to_owned(), json!(temperature.clamp(0.0, 1.0)));
    }
    if let (Some(top_p), true) = (request.top_p, samples && both) {
        config.insert("topP".to_owned(), json!(top_p));
    }
    let stop = request.stop.iter().filter(|text| !is_claude || turns::is_said(text));
    let stop: Vec<&String> = stop.collect();
    if !stop.is_empty() {
        config.insert("stopSequences".to_owned(), json!(stop));
    }
    Value::Object(config)
}

/// What only one family of models knows.
fn model_fields(family: Family, call: &ProviderCall) -> Map<String, Value> {
    let request = &*call.request;
    let mut fields = thinking(family, call);
    let thinks = !fields.is_empty();
    if let Some(top_k) = request.top_k {
        match family {
            Family::Claude if thinks || !Generation::of(&call.model).takes_sampling() => {}
            Family::Claude | Family::Mistral => {
                fields.insert("top_k".to_owned(), json!(top_k));
            }
            Family::Cohere => {
                fields.insert("k".to_owned(), json!(top_k));
            }
            Family::Nova => {
                fields.insert("inferenceConfig".to_owned(), json!({ "topK": top_k }));
            }
            Family::GptOss | Family::Other => {}
        }
    }
    if family == Family::Claude {
        add_claude_fields(&mut fields, request);
    }
    fields
}

fn add_claude_fields(fields: &mut Map<String, Value>, request: &ChatRequest) {
    let extra = request.extra.of(Dialect::Anthropic);
    for key in ["anthropic_beta", "anthropic-beta", "betas"] {
        if let Some(betas) = extra.and_then(|extra| extra.get(key)) {
            let betas = if betas.is_string() { json!([betas]) } else { betas.clone() };
            fields.insert("anthropic_beta".to_owned(), betas);
        }
    }
    let one_at_a_time = request.parallel_tool_calls == Some(false) && !request.tools.is_empty();
    if one_at_a_time && matches!(request.tool_choice, None | Some(ToolChoice::Auto)) {
        let choice = json!({"type": "auto", "disable_parallel_tool_use": true});
        fields.insert("tool_choice".to_owned(), choice);
    }
}

fn thinking(family: Family, call: &ProviderCall) -> Map<String, Value> {
    let request = &*call.request;
    let mut fields = Map::new();
    let Some(reasoning) = &request.reasoning else { return fields };
    let effort = reasoning.effort.as_deref();
    match family {
        Family::Claude => {
            let forced =
                matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_)))
                    || answers_by_tool(&call.model, request);
            if forced || turns::continues_without_thoughts(request) {
                return fields;
            }
            let limit = request.max_output_tokens.unwrap_or(turns::DEFAULT_OUTPUT_LIMIT);
            let thinking = Generation::of(&call.model).thinking(Some(reasoning), limit);
            if let Some(thinking) = thinking.thinking {
                fields.insert("thinking".to_owned(), thinking);
            }
            if let Some(effort) = thinking.effort {
                fields.insert("output_config".to_owned(), json!({ "effort": effort }));
            }
        }
        // Only Nova 2 reasons, and its highest effort forbids the output limit that the hold
        // rests on.
        Family::Nova if call.model.contains("nova-2") && effort != Some("none") => {
            let effort = if matches!(effort, Some("minimal" | "low")) { "low" } else { "medium" };
            let config = json!({"type": "enabled", "maxReasoningEffort": effort});
            fields.insert("reasoningConfig".to_owned(), config);
        }
        Family::GptOss => {
            let effort = match effort {
                Some("none" | "minimal" | "low") => "low",
                Some("medium") | None => "medium",
                Some(_) => "high",
            };
            fields.insert("reasoning_effort".to_owned(), json!(effort));
        }
        _ => {}
    }
    fields
}
