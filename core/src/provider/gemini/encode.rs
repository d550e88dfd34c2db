//! A request in Gemini's words.

use serde_json::{Map, Value, json};

use crate::provider::claude::share_of;
use crate::provider::turns::{self, Media, Speaker, Turns, refuse};
use crate::provider::{ProviderCall, ProviderError, schema};
use crate::request::{
    ChatRequest, MediaSource, Message, Part, Reasoning, ResponseFormat, Role, Tool, ToolCall,
    ToolChoice,
};

/// The body of a call. Refuses what the format has no place for.
pub fn encode(call: &ProviderCall) -> Result<Value, ProviderError> {
    let request = &*turns::spoken(&call.request, None)?;
    let generation = Generation::of(&call.model);
    let (instructions, contents) = conversation(generation, request)?;

    let mut body = Map::new();
    if !instructions.is_empty() {
        body.insert("systemInstruction".to_owned(), json!({ "parts": instructions }));
    }
    body.insert("contents".to_owned(), contents);
    add_tools(&mut body, request);
    body.insert("generationConfig".to_owned(), generation_config(&call.model, request));
    Ok(Value::Object(body))
}

/// The generation of a model, read from its name; one without a number (`gemini-flash-latest`)
/// is taken for the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Generation {
    major: u16,
    minor: u16,
}

impl Generation {
    fn of(model: &str) -> Self {
        let mut words = model.split(['-', '/']).skip_while(|word| *word != "gemini").skip(1);
        let number = words.next().unwrap_or_default();
        let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
        match major.parse() {
            Ok(major) => Generation { major, minor: minor.parse().unwrap_or_default() },
            Err(_) => Generation { major: u16::MAX, minor: 0 },
        }
    }

    fn at_least(self, major: u16, minor: u16) -> bool {
        (self.major, self.minor) >= (major, minor)
    }
}

// Instructions and conversation.

fn conversation(
    generation: Generation,
    request: &ChatRequest,
) -> Result<(Vec<Value>, Value), ProviderError> {
    let mut instructions = Vec::new();
    let mut said = Turns::default();
    let only_instructions = turns::has_only_instructions(request);
    for (index, message) in request.messages.iter().enumerate() {
        match message.role {
            Role::System if only_instructions => said.say(Speaker::User, texts(message)),
            Role::System => instructions.extend(texts(message)),
            Role::User => said.say(Speaker::User, user_parts(generation, message)?),
            Role::Assistant => said.say(Speaker::Model, model_parts(generation, message)),
            Role::Tool => {
                let earlier = &request.messages[..index];
                said.say(Speaker::User, tool_result(generation, earlier, message)?);
            }
        }
    }
    if said.is_empty() {
        return Err(refuse("the request has no text; Gemini refuses empty contents"));
    }
    let contents = said
        .opened_by_user(|| text_part("."))
        .into_iter()
        .map(|(speaker, parts)| match speaker {
            Speaker::User => json!({"role": "user", "parts": parts}),
            Speaker::Model => json!({"role": "model", "parts": parts}),
        })
        .collect();
    Ok((instructions, contents))
}

fn text_part(text: &str) -> Value {
    json!({ "text": text })
}

fn texts(message: &Message) -> Vec<Value> {
    message.texts().filter(|text| turns::is_said(text)).map(text_part).collect()
}

fn user_parts(generation: Generation, message: &Message) -> Result<Vec<Value>, ProviderError> {
    let parts = message.parts.iter().filter_map(|part| user_part(generation, part).transpose());
    parts.collect()
}

fn user_part(generation: Generation, part: &Part) -> Result<Option<Value>, ProviderError> {
    Ok(match part {
        Part::Text { text, .. } if turns::is_said(text) => Some(text_part(text)),
        Part::Image { source, .. } | Part::Document { source, .. } => {
            Some(media(generation, source)?)
        }
        Part::Audio { data, format } => {
            Some(json!({"inlineData": {"mimeType": format!("audio/{format}"), "data": data}}))
        }
        _ => None,
    })
}

/// Since 2026 Gemini fetches public addresses itself, from its generation 2.5 on; nothing is
/// fetched here.
fn media(generation: Generation, source: &MediaSource) -> Result<Value, ProviderError> {
    match Media::of(source) {
        Media::Inline { media_type, data } => {
            Ok(json!({"inlineData": {"mimeType": media_type, "data": data}}))
        }
        Media::Url(url) if url.starts_with("gs://") => Ok(file(url)),
        Media::Url(url) if url.starts_with("https://") && generation.at_least(2, 5) => {
            Ok(file(url))
        }
        Media::Url(_) => Err(refuse(
            "this Gemini model takes no such address; send the file inline in base64, or by \
             https to a model from generation 2.5 on",
        )),
        Media::File(id) if id.starts_with("files/") => {
            Ok(file(&format!("https://generativelanguage.googleapis.com/v1beta/{id}")))
        }
        Media::File(id) if id.starts_with("https://") || id.starts_with("gs://") => Ok(file(id)),
        Media::File(_) => Err(refuse(
            "Gemini knows its own files only, by URI or as `files/…`; send the file in base64",
        )),
    }
}

fn file(uri: &str) -> Value {
    match media_type_of(uri) {
        Some(media_type) => json!({"fileData": {"mimeType": media_type, "fileUri": uri}}),
        None => json!({"fileData": {"fileUri": uri}}),
    }
}

/// The type that a file's ending tells; Gemini looks for itself where it tells none.
fn media_type_of(uri: &str) -> Option<&'static str> {
    let path = uri.split(['?', '#']).next().unwrap_or(uri);
    let (_, ending) = path.rsplit_once('.')?;
    Some(match ending.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "heic" => "image/heic",
        "pdf" => "application/pdf",
        "txt" => "text/plain",
        _ => return None,
    })
}

fn model_parts(generation: Generation, message: &Message) -> Vec<Value> {
    // Thoughts are not handed back: Gemini reads nothing from them but the signatures, which
    // stand on the calls.
    let mut parts = texts(message);
    for (index, call) in message.tool_calls.iter().enumerate() {
        parts.push(call_part(generation, index, call));
    }
    parts
}

fn call_part(generation: Generation, index: usize, call: &ToolCall) -> Value {
    let mut part = json!({
        "functionCall": {"id": call.id, "name": call.name, "args": turns::arguments(call)},
    });
    let signature = call.extra.fields.get("extra_content").map(signature_in);
    match signature.flatten() {
        Some(signature) => part["thoughtSignature"] = json!(signature),
        // From generation 3 on the first call of a turn must be signed. Where another vendor
        // called, or the client dropped the signature, Google documents this word instead.
        None if index == 0 && generation.at_least(3, 0) => {
            part["thoughtSignature"] = json!("skip_thought_signature_validator");
        }
        None => {}
    }
    part
}

/// Google's own place for a signature in OpenAI's format.
fn signature_in(extra_content: &Value) -> Option<&str> {
    extra_content["google"]["thought_signature"].as_str()
}

fn tool_result(
    generation: Generation,
    earlier: &[Message],
    message: &Message,
) -> Result<Vec<Value>, ProviderError> {
    let text = message.joined_text();
    let response = match serde_json::from_str(&text) {
        Ok(Value::Object(fields)) if !message.tool_failed => Value::Object(fields),
        _ if message.tool_failed => json!({ "error": text }),
        _ => json!({ "result": text }),
    };
    let name = turns::tool_of(earlier, message).unwrap_or("unknown");
    let mut result = json!({"name": name, "response": response});
    if let Some(id) = &message.tool_call_id {
        result["id"] = json!(id);
    }
    let media: Vec<Value> = message
        .parts
        .iter()
        .filter(|part| !matches!(part, Part::Text { .. }))
        .filter_map(|part| user_part(generation, part).transpose())
        .collect::<Result<_, _>>()?;
    if generation.at_least(3, 0) && !media.is_empty() {
        result["parts"] = Value::Array(media);
        return Ok(vec![json!({ "functionResponse": result })]);
    }
    let mut parts = vec![json!({ "functionResponse": result })];
    parts.extend(media);
    Ok(parts)
}

// Tools.

fn add_tools(body: &mut Map<String, Value>, request: &ChatRequest) {
    let tools = request.tools.iter().filter(|tool| tool.native.is_none());
    let declared: Vec<Value> = tools.map(declaration).collect();
    if declared.is_empty() {
        return;
    }
    body.insert("tools".to_owned(), json!([{ "functionDeclarations": declared }]));
    let calling = match &request.tool_choice {
        None => return,
        Some(ToolChoice::Auto) => json!({"mode": "AUTO"}),
        Some(ToolChoice::None) => json!({"mode": "NONE"}),
        Some(ToolChoice::Required) => json!({"mode": "ANY"}),
        Some(ToolChoice::Named(name)) => json!({"mode": "ANY", "allowedFunctionNames": [name]}),
    };
    body.insert("toolConfig".to_owned(), json!({ "functionCallingConfig": calling }));
}

fn declaration(tool: &Tool) -> Value {
    let mut fields = json!({ "name": tool.name });
    if let Some(description) = &tool.description {
        fields["description"] = json!(description);
    }
    if let Some(parameters) = &tool.parameters {
        let parameters = schema::parameters(Some(parameters));
        fields["parametersJsonSchema"] = schema::for_gemini(&parameters);
    }
    fields
}

// The form of the answer.

fn generation_config(model: &str, request: &ChatRequest) -> Value {
    let mut config = Map::new();
    let mut set = |field: &str, value: Option<Value>| {
        if let Some(value) = value {
            config.insert(field.to_owned(), value);
        }
    };
    set("maxOutputTokens", request.max_output_tokens.map(Value::from));
    set("temperature", request.temperature.map(Value::from));
    set("topP", request.top_p.map(Value::from));
    set("topK", request.top_k.map(Value::from));
    set("stopSequences", (!request.stop.is_empty()).then(|| json!(request.stop)));
    set("candidateCount", (request.n > 1).then(|| json!(request.n)));
    set("seed", request.seed.map(seed));
    set("presencePenalty", request.presence_penalty.map(Value::from));
    set("frequencyPenalty", request.frequency_penalty.map(Value::from));
    // Many models refuse log probabilities outright, so they are asked for only on the caller's
    // own wish: the judge does without them rather than lose the call.
    set("responseLogprobs", request.logprobs.then_some(json!(true)));
    set("logprobs", request.top_logprobs.filter(|_| request.logprobs).map(Value::from));
    match &request.response_format {
        ResponseFormat::Text => {}
        ResponseFormat::JsonObject => set("responseMimeType", Some(json!("application/json"))),
        ResponseFormat::JsonSchema { schema, .. } => {
            set("responseMimeType", Some(json!("application/json")));
            set("responseJsonSchema", Some(schema::for_gemini(schema)));
        }
    }
    set("thinkingConfig", thinking(model, request));
    Value::Object(config)
}

/// Gemini's seed has 32 bits. A larger one is cut, the same way each time, which is all that a
/// seed promises.
fn seed(seed: i64) -> Value {
    let low = seed.rem_euclid(1 << 31);
    if i32::try_from(seed).is_ok() { json!(seed) } else { json!(low) }
}

/// What tells the model how hard to think. Thoughts count against `maxOutputTokens`, so a budget
/// leaves room for the answer.
fn thinking(model: &str, request: &ChatRequest) -> Option<Value> {
    let reasoning = request.reasoning.as_ref()?;
    let generation = Generation::of(model);
    if !model.contains("gemini") || !generation.at_least(2, 5) {
        return None;
    }
    let asked = reasoning.effort.is_some() || reasoning.budget_tokens.is_some();
    if !asked {
        return None;
    }
    let mut config = match generation.at_least(3, 0) {
        true => level(model, reasoning),
        false => budget(model, reasoning, request.max_output_tokens),
    };
    config["includeThoughts"] = json!(reasoning.effort.as_deref() != Some("none"));
    Some(config)
}

/// Generation 3 counts in levels; it takes a budget too, but never both.
fn level(model: &str, reasoning: &Reasoning) -> Value {
    let lite = model.contains("flash");
    let level = match (reasoning.effort.as_deref(), reasoning.budget_tokens) {
        (Some("none" | "minimal"), _) => {
            if lite {
                "minimal"
            } else {
                "low"
            }
        }
        (Some("low"), _) => "low",
        (Some("medium"), _) if !model.contains("gemini-3-pro") => "medium",
        (Some(_), _) | (None, None) => "high",
        (None, Some(budget)) => return json!({ "thinkingBudget": budget }),
    };
    json!({ "thinkingLevel": level })
}

/// Generation 2.5 counts in tokens, within bounds that differ by model.
fn budget(model: &str, reasoning: &Reasoning, max_tokens: Option<u32>) -> Value {
    let is_pro = model.contains("pro");
    let (least, most) = if is_pro { (128, 32_768) } else { (512, 24_576) };
    if reasoning.effort.as_deref() == Some("none") {
        return json!({ "thinkingBudget": if is_pro { least } else { 0 } });
    }
    let limit = max_tokens.unwrap_or(turns::DEFAULT_OUTPUT_LIMIT);
    let wish = match reasoning.budget_tokens {
        Some(budget) if budget < limit => budget,
        Some(_) => share_of(None, limit),
        None => share_of(reasoning.effort.as_deref(), limit),
    };
    json!({ "thinkingBudget": wish.clamp(least, most) })
}
