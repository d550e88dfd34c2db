//! Answers in OpenAI's words, as servers really write them.
//!
//! Pure: [`whole`] reads an answer at once, [`Stream`] piece by piece, [`embeddings`] vectors.
//! Knows nothing of sockets. What no shared word exists for goes on as [`Chunk::Extra`]; an
//! error inside a success is an error, never an answer.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::provider::http::{Decoder, told_error};
use crate::provider::sse::{SseEvent, SseParser};
use crate::provider::{Embeddings, ProviderError, ProviderErrorKind};
use crate::reply::{Chunk, FinishReason, Usage};
use crate::request::Dialect;

/// Reads the body of a whole answer.
pub fn whole(body: &[u8]) -> Result<Vec<Chunk>, ProviderError> {
    let body = object(body)?;
    let mut reader = Reader::default();
    let mut chunks = Vec::new();
    reader.body(body, Shape::Whole, &mut chunks).map_err(|error| reader.with_usage(error))?;
    if reader.choices.is_empty() {
        return Err(reader.with_usage(malformed("the answer has no choices")));
    }
    reader.finish_whole(&mut chunks);
    Ok(chunks)
}

/// Reads a streamed answer.
#[derive(Debug, Default)]
pub struct Stream {
    events: SseParser,
    reader: Reader,
    done: bool,
}

impl Stream {
    /// At the beginning of an answer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one event and returns what it says.
    pub fn event(&mut self, event: &SseEvent) -> Result<Vec<Chunk>, ProviderError> {
        let mut chunks = Vec::new();
        self.take(event, &mut chunks)?;
        Ok(chunks)
    }

    fn take(&mut self, event: &SseEvent, chunks: &mut Vec<Chunk>) -> Result<(), ProviderError> {
        let data = event.data.trim();
        if self.done || data.is_empty() {
            return Ok(());
        }
        if data == "[DONE]" {
            self.done = true;
            return self.reader.check_complete();
        }
        let read = object(data.as_bytes()).and_then(|body| {
            if event.name == "error" {
                return Err(told_error(&Value::Object(body)));
            }
            self.reader.body(body, Shape::Piece, chunks)
        });
        read.map_err(|error| self.reader.with_usage(error))
    }
}

impl Decoder for Stream {
    fn push(&mut self, bytes: &[u8], chunks: &mut Vec<Chunk>) -> Result<(), ProviderError> {
        for event in self.events.push(bytes)? {
            self.take(&event, chunks)?;
        }
        Ok(())
    }

    fn end(&mut self, chunks: &mut Vec<Chunk>) -> Result<(), ProviderError> {
        if let Some(event) = self.events.finish()? {
            // The last event of a stream that broke may be half of one; then the answer is cut
            // or already complete, and either is said below.
            if serde_json::from_str::<Value>(&event.data).is_ok() || event.data.trim() == "[DONE]" {
                self.take(&event, chunks)?;
            }
        }
        if self.done { Ok(()) } else { self.reader.check_complete() }
    }

    fn is_done(&self) -> bool {
        self.done
    }
}

/// Reads the body of an embeddings answer; `count` vectors were asked for.
pub fn embeddings(body: &[u8], count: usize) -> Result<Embeddings, ProviderError> {
    let body = object(body)?;
    if let Some(error) = error_in(&body) {
        return Err(error);
    }
    // There is no output to embeddings; a vendor that tells its input has told everything.
    let usage = usage_of(body.get("usage")).map_or_else(Usage::default, |usage| Usage {
        output_tokens: usage.output_tokens.or(Some(0)),
        ..usage
    });
    let broken = |why: &str| ProviderError { usage: Some(usage), ..malformed(why) };
    let data = body.get("data").and_then(Value::as_array);
    let data = data.ok_or_else(|| broken("the answer has no vectors"))?;
    let mut vectors: Vec<Option<Vec<f32>>> = vec![None; count];
    for (position, item) in data.iter().enumerate() {
        let index = item["index"].as_u64().map_or(position, |index| index as usize);
        let vector = vector(&item["embedding"]).ok_or_else(|| broken("a vector cannot be read"))?;
        match vectors.get_mut(index) {
            Some(place @ None) => *place = Some(vector),
            _ => return Err(broken("the vectors are not those that were asked for")),
        }
    }
    let vectors: Option<Vec<Vec<f32>>> = vectors.into_iter().collect();
    Ok(Embeddings {
        vectors: vectors.ok_or_else(|| broken("vectors are missing"))?,
        usage,
        vendor_model: text_of(&body, "model"),
    })
}

/// Numbers, or base64 of little-endian 32-bit floats.
fn vector(written: &Value) -> Option<Vec<f32>> {
    let vector: Vec<f32> = match written {
        Value::Array(numbers) => {
            numbers.iter().map(|number| number.as_f64().map(|n| n as f32)).collect::<Option<_>>()?
        }
        Value::String(text) => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
            let (floats, rest) = bytes.as_chunks::<4>();
            if !rest.is_empty() {
                return None;
            }
            floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        }
        _ => return None,
    };
    (!vector.is_empty() && vector.iter().all(|number| number.is_finite())).then_some(vector)
}

fn malformed(why: &str) -> ProviderError {
    ProviderError::new(ProviderErrorKind::Malformed, why)
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, ProviderError> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(body)) => Ok(body),
        Ok(_) => Err(malformed("the answer is no JSON object")),
        Err(_) => Err(malformed("the answer is no JSON")),
    }
}

fn text_of(body: &Map<String, Value>, field: &str) -> Option<String> {
    body.get(field).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// `{"error": …}`, and `{"object":"error","message":…}` of vLLM and Mistral.
fn error_in(body: &Map<String, Value>) -> Option<ProviderError> {
    let told = body.get("error").is_some_and(|error| !error.is_null() && error != &json!(""));
    let is_error = body.get("object").and_then(Value::as_str) == Some("error");
    (told || is_error).then(|| told_error(&Value::Object(body.clone())))
}

/// Whether a body is the whole answer or a piece of one; they differ in one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Whole,
    Piece,
}

/// What was read so far.
#[derive(Debug, Default)]
struct Reader {
    started: bool,
    vendor_id: Option<String>,
    usage: Option<Usage>,
    /// Fields of the answer that went on already, so that those that stand in every piece do
    /// not go on with every piece.
    told: Map<String, Value>,
    /// Fields that came before the vendor said who it is; they follow that.
    early: Map<String, Value>,
    choices: BTreeMap<u32, Choice>,
}

#[derive(Debug, Default)]
struct Choice {
    finished: bool,
    /// The calls of this answer in the order of their appearance.
    calls: Vec<Call>,
}

#[derive(Debug, Default)]
struct Call {
    /// The vendor's index, if it gave one.
    vendor_index: Option<u64>,
    /// The vendor's id, if it gave one.
    vendor_id: Option<String>,
}

/// Noise that says nothing about the answer.
const SILENT_FIELDS: &[&str] = &["object", "created", "obfuscation", "p"];

impl Reader {
    fn body(
        &mut self,
        mut body: Map<String, Value>,
        shape: Shape,
        chunks: &mut Vec<Chunk>,
    ) -> Result<(), ProviderError> {
        let usage = self.take_usage(&mut body);
        if let Some(error) = error_in(&body) {
            return Err(error);
        }
        let choices = match body.shift_remove("choices") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(choices)) => choices,
            Some(_) => return Err(malformed("`choices` is no list")),
        };
        self.start(&mut body, !choices.is_empty(), chunks);
        // What is left is known to nobody here. It goes on before the choices, for the end of an
        // answer is its last `Finish`.
        self.extra(body, chunks);
        let mut finishes = Vec::new();
        for (position, choice) in choices.into_iter().enumerate() {
            let Value::Object(choice) = choice else {
                return Err(malformed("a choice is no object"));
            };
            self.choice(choice, position as u32, shape, chunks, &mut finishes)?;
        }
        chunks.extend(usage.map(Chunk::Usage));
        chunks.append(&mut finishes);
        Ok(())
    }

    fn take_usage(&mut self, body: &mut Map<String, Value>) -> Option<Usage> {
        let told = body.shift_remove("usage");
        let elsewhere = body.get("x_groq").and_then(|groq| groq.get("usage"));
        let usage = usage_of(told.as_ref()).or_else(|| usage_of(elsewhere)).or_else(|| {
            // llama.cpp counts in its timings where usage was not asked for.
            self.usage.is_none().then(|| timings_of(body.get("timings"))).flatten()
        })?;
        self.usage.get_or_insert_default().merge(usage);
        Some(usage)
    }

    fn start(&mut self, body: &mut Map<String, Value>, answers: bool, chunks: &mut Vec<Chunk>) {
        let vendor_model = text_of(body, "model");
        let vendor_id = text_of(body, "id");
        for field in ["model", "id"].iter().chain(SILENT_FIELDS) {
            body.swap_remove(*field);
        }
        // Azure begins with a piece that says nothing but what its filter thinks of the prompt.
        let says_who = vendor_model.is_some() || vendor_id.is_some() || answers;
        if self.started || !says_who {
            return;
        }
        self.started = true;
        self.vendor_id = vendor_id.clone();
        chunks.push(Chunk::Started { vendor_model, vendor_id });
    }

    fn extra(&mut self, mut body: Map<String, Value>, chunks: &mut Vec<Chunk>) {
        body.retain(|field, value| !value.is_null() && self.told.get(field) != Some(value));
        if !self.started {
            self.early.extend(body);
            return;
        }
        let mut fields = std::mem::take(&mut self.early);
        fields.extend(body);
        if fields.is_empty() {
            return;
        }
        self.told.extend(fields.clone());
        chunks.push(Chunk::Extra { dialect: Dialect::OpenAi, choice: None, fields });
    }

    fn choice(
        &mut self,
        mut choice: Map<String, Value>,
        position: u32,
        shape: Shape,
        chunks: &mut Vec<Chunk>,
        finishes: &mut Vec<Chunk>,
    ) -> Result<(), ProviderError> {
        if let Some(error) = error_in(&choice) {
            return Err(error);
        }
        let index = choice.shift_remove("index");
        let index = index.and_then(|index| u32::try_from(index.as_u64()?).ok()).unwrap_or(position);
        let reason = choice.shift_remove("finish_reason");
        let logprobs = choice.shift_remove("logprobs");
        let message = self.message_of(&mut choice, shape)?;
        self.choices.entry(index).or_default();
        let mut fields = Map::new();
        if let Some(message) = message {
            self.message(message, index, chunks, &mut fields)?;
        }
        if let Some(Value::Array(content)) =
            logprobs.and_then(|mut logprobs| logprobs.get_mut("content").map(Value::take))
            && !content.is_empty()
        {
            chunks.push(Chunk::Logprobs { choice: index, content });
        }
        let stop_sequence = choice.shift_remove("stop_reason").and_then(|stop| match stop {
            Value::String(text) => Some(text),
            _ => None,
        });
        fields.extend(choice.into_iter().filter(|(_, value)| says_something(value)));
        if !fields.is_empty() {
            chunks.push(Chunk::Extra { dialect: Dialect::OpenAi, choice: Some(index), fields });
        }
        if let Some(Value::String(reason)) = reason {
            finishes.extend(self.finish(index, &reason, stop_sequence)?);
        }
        Ok(())
    }

    fn message_of(
        &self,
        choice: &mut Map<String, Value>,
        shape: Shape,
    ) -> Result<Option<Map<String, Value>>, ProviderError> {
        // There are servers that send the other of the two names.
        let names = match shape {
            Shape::Whole => ["message", "delta"],
            Shape::Piece => ["delta", "message"],
        };
        let message = names.iter().find_map(|name| choice.shift_remove(*name));
        match message {
            Some(Value::Object(message)) => Ok(Some(message)),
            None | Some(Value::Null) if shape == Shape::Piece => Ok(None),
            _ => Err(malformed("a choice has no message")),
        }
    }

    fn message(
        &mut self,
        mut message: Map<String, Value>,
        choice: u32,
        chunks: &mut Vec<Chunk>,
        fields: &mut Map<String, Value>,
    ) -> Result<(), ProviderError> {
        message.shift_remove("role");
        // `reasoning_content` is DeepSeek's and vLLM's name, `reasoning` OpenRouter's, Groq's and
        // Ollama's; a server that sends both says the same twice.
        let thought =
            [message.shift_remove("reasoning_content"), message.shift_remove("reasoning")];
        if let Some(Value::String(text)) = thought.into_iter().flatten().find(|v| v.is_string())
            && !text.is_empty()
        {
            chunks.push(Chunk::Reasoning { choice, text });
        }
        content(message.shift_remove("content"), choice, chunks)?;
        let calls = match message.shift_remove("tool_calls") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(calls)) => calls,
            Some(_) => return Err(malformed("`tool_calls` is no list")),
        };
        for call in calls {
            let Value::Object(call) = call else {
                return Err(malformed("a tool call is no object"));
            };
            chunks.push(self.call(call, choice)?);
        }
        if let Some(Value::Object(function)) = message.shift_remove("function_call") {
            let call = Map::from_iter([
                ("index".to_owned(), json!(0)),
                ("function".to_owned(), Value::Object(function)),
            ]);
            chunks.push(self.call(call, choice)?);
        }
        fields.extend(message.into_iter().filter(|(_, value)| says_something(value)));
        Ok(())
    }

    fn call(&mut self, mut call: Map<String, Value>, choice: u32) -> Result<Chunk, ProviderError> {
        let is_custom = call.get("type").and_then(Value::as_str) == Some("custom");
        let function = call.shift_remove(if is_custom { "custom" } else { "function" });
        let mut function = match function {
            Some(Value::Object(function)) => function,
            None | Some(Value::Null) => Map::new(),
            Some(_) => return Err(malformed("a tool call has no function")),
        };
        let text = |value: Option<Value>| match value {
            Some(Value::String(text)) if !text.is_empty() => Some(text),
            _ => None,
        };
        let name = text(function.shift_remove("name"));
        let arguments = match function.shift_remove(if is_custom { "input" } else { "arguments" }) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text,
            // There are servers that give the arguments as JSON, not as its text.
            Some(other) => other.to_string(),
        };
        let vendor_index = call.shift_remove("index").and_then(|index| index.as_u64());
        let vendor_id = text(call.shift_remove("id"));
        if !is_custom {
            call.shift_remove("type");
        }
        call.retain(|_, value| !value.is_null());

        let answer_id = self.vendor_id.clone().unwrap_or_default();
        let calls = &mut self.choices.entry(choice).or_default().calls;
        let (index, is_new) = match place(calls, vendor_index, vendor_id.as_deref(), name.is_some())
        {
            Some(index) => (index, false),
            None => {
                calls.push(Call { vendor_index, vendor_id: vendor_id.clone() });
                (calls.len() - 1, true)
            }
        };
        // Servers that repeat id and name with every piece would else have them joined.
        let (id, name) = match is_new {
            true => {
                (Some(vendor_id.unwrap_or_else(|| made_up_id(&answer_id, choice, index))), name)
            }
            false => (None, None),
        };
        Ok(Chunk::ToolCall {
            choice,
            index: index as u32,
            id,
            name,
            arguments,
            extra: (!call.is_empty()).then_some(call),
        })
    }

    fn finish(
        &mut self,
        index: u32,
        reason: &str,
        stop_sequence: Option<String>,
    ) -> Result<Option<Chunk>, ProviderError> {
        let choice = self.choices.entry(index).or_default();
        let reason = match reason {
            "" => return Ok(None),
            "length" | "max_tokens" | "model_length" => FinishReason::Length,
            "tool_calls" | "function_call" | "tool_use" => FinishReason::ToolCalls,
            "content_filter" | "safety" => FinishReason::ContentFilter,
            "error" | "insufficient_system_resource" => {
                let why = "the vendor ended the answer with an error";
                return Err(ProviderError::new(ProviderErrorKind::Server, why));
            }
            "abort" | "aborted" | "cancelled" => {
                let why = "the vendor aborted the answer";
                return Err(ProviderError::new(ProviderErrorKind::Cut, why));
            }
            // OpenAI says `stop` after a forced call, others after any.
            _ if !choice.calls.is_empty() => FinishReason::ToolCalls,
            _ if stop_sequence.is_some() => FinishReason::StopSequence,
            // Any other word is a way to say `stop`.
            _ => FinishReason::Stop,
        };
        if std::mem::replace(&mut choice.finished, true) {
            return Ok(None);
        }
        Ok(Some(Chunk::Finish { choice: index, reason, stop_sequence }))
    }

    /// Whole answers of some servers lack the reason; that they are here says that they ended.
    fn finish_whole(&mut self, chunks: &mut Vec<Chunk>) {
        for (index, choice) in &mut self.choices {
            if !std::mem::replace(&mut choice.finished, true) {
                let called = !choice.calls.is_empty();
                let reason = if called { FinishReason::ToolCalls } else { FinishReason::Stop };
                chunks.push(Chunk::Finish { choice: *index, reason, stop_sequence: None });
            }
        }
    }

    /// An answer is complete when each of its choices said why it ended. `[DONE]` alone does
    /// not say so: a proxy before a broken server writes it too.
    fn check_complete(&self) -> Result<(), ProviderError> {
        if !self.choices.is_empty() && self.choices.values().all(|choice| choice.finished) {
            return Ok(());
        }
        let why = "the stream ended before the answer did";
        Err(self.with_usage(ProviderError::new(ProviderErrorKind::Cut, why)))
    }

    fn with_usage(&self, error: ProviderError) -> ProviderError {
        ProviderError { usage: error.usage.or(self.usage), ..error }
    }
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    }
}

/// To which of the calls a piece belongs; `None`: it begins a new one.
///
/// OpenAI numbers the calls and gives the id once. Others give index 0 to every call but a new
/// id, or an id and no index, or neither and only a name where a call begins.
fn place(
    calls: &[Call],
    vendor_index: Option<u64>,
    vendor_id: Option<&str>,
    named: bool,
) -> Option<usize> {
    let by_id = vendor_id
        .and_then(|id| calls.iter().rposition(|call| call.vendor_id.as_deref() == Some(id)));
    if by_id.is_some() {
        return by_id;
    }
    let by_index = vendor_index
        .and_then(|index| calls.iter().rposition(|call| call.vendor_index == Some(index)));
    match (by_index, vendor_id) {
        // The same number, another id and a name: another call.
        (Some(place), Some(_)) if named && calls[place].vendor_id.is_some() => None,
        (Some(place), _) => Some(place),
        (None, _) if vendor_index.is_some() => None,
        (None, Some(_)) => None,
        (None, None) if named => None,
        (None, None) => calls.len().checked_sub(1),
    }
}

/// An id for a call that its server gave none: the tool's answer must name one. The same call
/// gets the same id however its bytes were cut.
fn made_up_id(answer_id: &str, choice: u32, index: usize) -> String {
    let hash = hex::encode(Sha256::digest(format!("{answer_id}/{choice}/{index}")));
    format!("call_{}", &hash[..24])
}

/// Text, or Mistral's list of parts.
fn content(
    content: Option<Value>,
    choice: u32,
    chunks: &mut Vec<Chunk>,
) -> Result<(), ProviderError> {
    match content {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(text)) => {
            if !text.is_empty() {
                chunks.push(Chunk::Text { choice, text });
            }
            Ok(())
        }
        Some(Value::Array(parts)) => {
            parts.into_iter().for_each(|part| content_part(part, choice, chunks));
            Ok(())
        }
        Some(_) => Err(malformed("`content` is no text")),
    }
}

fn content_part(part: Value, choice: u32, chunks: &mut Vec<Chunk>) {
    match part["type"].as_str() {
        Some("text") => {
            let text = part["text"].as_str().unwrap_or_default().to_owned();
            if !text.is_empty() {
                chunks.push(Chunk::Text { choice, text });
            }
        }
        Some("thinking") => {
            let thoughts = part["thinking"].as_array().into_iter().flatten();
            let text: String = thoughts.filter_map(|thought| thought["text"].as_str()).collect();
            if !text.is_empty() {
                chunks.push(Chunk::Reasoning { choice, text });
            }
        }
        _ => chunks.push(Chunk::Extra {
            dialect: Dialect::OpenAi,
            choice: Some(choice),
            fields: Map::from_iter([("content_parts".to_owned(), json!([part]))]),
        }),
    }
}

/// A count of tokens: a whole number, also where it is written as a float.
fn count(value: Option<&Value>) -> Option<u64> {
    let value = value?;
    value.as_u64().or_else(|| {
        let number = value.as_f64().filter(|number| *number >= 0.0 && *number < 1e15)?;
        Some(number.round() as u64)
    })
}

/// Usage in all the shapes of OpenAI's format; `None` where nothing was told.
fn usage_of(usage: Option<&Value>) -> Option<Usage> {
    let usage = usage?.as_object()?;
    let first = |fields: &[&str]| fields.iter().find_map(|field| count(usage.get(*field)));
    let detail = |holders: &[&str], field: &str| {
        holders.iter().find_map(|holder| count(usage.get(*holder)?.get(field)))
    };
    let total = first(&["total_tokens"]);
    let told_input = first(&["prompt_tokens", "input_tokens"]);
    let told_output = first(&["completion_tokens", "output_tokens"]);
    let reasoning =
        detail(&["completion_tokens_details", "output_tokens_details"], "reasoning_tokens")
            .or_else(|| first(&["reasoning_tokens"]))
            .unwrap_or(0);
    let input = told_input.or_else(|| total?.checked_sub(told_output?));
    let output = told_output.or_else(|| total?.checked_sub(told_input?)).map(|output| {
        // xAI leaves the reasoning out of its output; the total tells.
        let apart = total.zip(input).is_some_and(|(total, input)| {
            reasoning > 0
                && Some(total)
                    == input.checked_add(output).and_then(|sum| sum.checked_add(reasoning))
        });
        if apart { output.saturating_add(reasoning) } else { output }
    });
    if input.is_none() && output.is_none() {
        return None;
    }
    const INPUT_DETAILS: &[&str] = &["prompt_tokens_details", "input_tokens_details"];
    // OpenAI; DeepSeek; Moonshot; Mistral.
    let cached = detail(INPUT_DETAILS, "cached_tokens")
        .or_else(|| first(&["prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens"]))
        .unwrap_or(0);
    let written = detail(INPUT_DETAILS, "cache_write_tokens").unwrap_or(0);
    let room = input.unwrap_or(u64::MAX);
    let cached = cached.min(room);
    Some(Usage {
        input_tokens: input,
        cached_input_tokens: cached,
        cache_write_tokens: written.min(room - cached),
        output_tokens: output,
        reasoning_tokens: reasoning.min(output.unwrap_or(u64::MAX)),
    })
}

/// llama.cpp's own count. What its cache held is not in `prompt_n`.
fn timings_of(timings: Option<&Value>) -> Option<Usage> {
    let timings = timings?.as_object()?;
    let fresh = count(timings.get("prompt_n"))?;
    let cached = count(timings.get("cache_n")).unwrap_or(0);
    Some(Usage {
        input_tokens: Some(fresh.saturating_add(cached)),
        cached_input_tokens: cached,
        output_tokens: count(timings.get("predicted_n")),
        ..Usage::default()
    })
}
