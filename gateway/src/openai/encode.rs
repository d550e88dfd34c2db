//! Writes answers as chat completions, whole or as a stream.
//!
//! Chunks are written straight into bytes: everything that is the same in each of them is
//! written once. What ends a stream is held back until the call is booked, so that a stream
//! that fails never said that it was done.

use serde::Serialize;
use serde_json::{Map, Value, json};
use stellwerk_core::ids::{ModelId, RequestId};
use stellwerk_core::money::Currency;
use stellwerk_core::reply::{Chunk, Done, FinishReason, Usage, Words};
use stellwerk_core::request::{Dialect, Locale};
use stellwerk_core::trace::Trace;

use crate::errors::{Api, WireError};
use crate::openai::decode::Shape;
use crate::show::{Block, Call, Choice, Collected, Shown};
use crate::wire::{push_json, push_string};

/// The word for why a model stopped.
fn finish_word(reason: FinishReason, shape: Shape) -> &'static str {
    match reason {
        FinishReason::Stop | FinishReason::StopSequence => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls if shape.function_call => "function_call",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::ContentFilter => "content_filter",
    }
}

/// The id of a completion, made from the request's.
fn completion_id(request_id: &RequestId) -> String {
    let id = request_id.as_str();
    format!("chatcmpl-{}", id.strip_prefix("req_").unwrap_or(id))
}

/// Tokens in OpenAI's words.
#[derive(Serialize)]
struct UsageShown {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: InputDetails,
    completion_tokens_details: OutputDetails,
}

#[derive(Serialize)]
struct InputDetails {
    cached_tokens: u64,
}

#[derive(Serialize)]
struct OutputDetails {
    reasoning_tokens: u64,
}

fn usage(usage: &Usage) -> UsageShown {
    let input = usage.input_tokens.unwrap_or(0);
    let output = usage.output_tokens.unwrap_or(0);
    UsageShown {
        prompt_tokens: input,
        completion_tokens: output,
        total_tokens: input + output,
        prompt_tokens_details: InputDetails { cached_tokens: usage.cached_input_tokens },
        completion_tokens_details: OutputDetails { reasoning_tokens: usage.reasoning_tokens },
    }
}

/// The `stellwerk` object of an answer: who, at what price, and why.
#[derive(Debug, Serialize)]
pub struct Told<'a> {
    request_id: &'a RequestId,
    model: &'a ModelId,
    cost: String,
    currency: &'a Currency,
    trace: String,
    /// What rules of the company tell the person.
    #[serde(skip_serializing_if = "<[Words]>::is_empty")]
    notes: &'a [Words],
    #[serde(skip_serializing_if = "Option::is_none")]
    explain: Option<&'a Trace>,
}

/// What the `stellwerk` object of this answer says; the whole trace where it was asked for.
pub fn stellwerk(done: &Done, explain: bool) -> Told<'_> {
    Told {
        request_id: &done.trace.request_id,
        model: &done.model,
        cost: done.cost.to_string(),
        currency: &done.currency,
        trace: done.trace.line(),
        notes: done.trace.guard.as_ref().map_or(&[][..], |found| found.notes.as_slice()),
        explain: explain.then_some(&*done.trace),
    }
}

/// Fields of a reply that are ours to write; a vendor's of the same name are not passed on.
const TAKEN: [&str; 7] = ["id", "object", "created", "model", "choices", "usage", "stellwerk"];

/// A whole answer, written straight into bytes: building a tree of values first took twice as
/// long.
pub fn whole(collected: &Collected, done: &Done, shape: Shape, created: i64) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(b"{\"id\":");
    push_string(&mut out, &completion_id(&done.trace.request_id));
    out.extend_from_slice(b",\"object\":\"chat.completion\",\"created\":");
    push_json(&mut out, &created);
    out.extend_from_slice(b",\"model\":");
    push_string(&mut out, done.model.as_str());
    out.extend_from_slice(b",\"choices\":[");
    let nothing = [Choice::default()];
    let choices = if collected.choices.is_empty() { &nothing[..] } else { &collected.choices };
    for (index, choice) in choices.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_choice(&mut out, index, choice, shape);
    }
    out.extend_from_slice(b"],\"usage\":");
    push_json(&mut out, &usage(&done.usage));
    let mut extra = Map::new();
    for fields in ours(&collected.extra) {
        add_unless_there(&mut extra, fields);
    }
    extra.retain(|key, _| !TAKEN.contains(&key.as_str()));
    push_fields(&mut out, &extra, b",");
    out.extend_from_slice(b",\"stellwerk\":");
    push_json(&mut out, &stellwerk(done, shape.explain));
    out.push(b'}');
    out
}

/// Most answers are one text; the others take the longer way.
fn push_choice(out: &mut Vec<u8>, index: usize, choice: &Choice, shape: Shape) {
    let [Block::Text(text, _)] = choice.blocks.as_slice() else {
        return push_json(out, &whole_choice(index, choice, shape));
    };
    if choice.logprobs.is_some() || !choice.extra.is_empty() {
        return push_json(out, &whole_choice(index, choice, shape));
    }
    out.extend_from_slice(b"{\"index\":");
    push_json(out, &index);
    out.extend_from_slice(b",\"message\":{\"role\":\"assistant\",");
    push_field(out, "content", text);
    out.extend_from_slice(b",\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"");
    out.extend_from_slice(finish_word(choice.reason(), shape).as_bytes());
    out.extend_from_slice(b"\"}");
}

fn whole_choice(index: usize, choice: &Choice, shape: Shape) -> Value {
    let mut message = Map::new();
    let text = choice.text();
    let calls: Vec<Value> =
        choice.calls().map(|call| whole_call(call, shape.function_call)).collect();
    let refused = ours(&choice.extra).any(|fields| fields.contains_key("refusal"));
    let silent = text.is_empty() && (!calls.is_empty() || refused);
    message.insert("role".into(), "assistant".into());
    message.insert("content".into(), if silent { Value::Null } else { text.into() });
    for fields in ours(&choice.extra) {
        add_unless_there(&mut message, fields);
    }
    message.entry("refusal").or_insert(Value::Null);
    let reasoning = choice.reasoning();
    if !reasoning.is_empty() {
        message.entry("reasoning_content").or_insert(reasoning.into());
    }
    if !calls.is_empty() {
        let mut calls = calls;
        match shape.function_call {
            true => message.insert("function_call".into(), calls.swap_remove(0)),
            false => message.insert("tool_calls".into(), calls.into()),
        };
    }
    let logprobs = choice.logprobs.as_ref().filter(|_| shape.logprobs);
    let logprobs = logprobs.map(|content| json!({ "content": content, "refusal": null }));
    json!({
        "index": index,
        "message": message,
        "logprobs": logprobs,
        "finish_reason": finish_word(choice.reason(), shape),
    })
}

fn whole_call(call: &Call, function_call: bool) -> Value {
    let function = json!({ "name": call.name, "arguments": call.arguments });
    if function_call {
        return function;
    }
    let mut whole = Map::new();
    whole.insert("id".into(), call.id.as_str().into());
    whole.insert("type".into(), "function".into());
    whole.insert("function".into(), function);
    add_unless_there(&mut whole, &call.extra);
    Value::Object(whole)
}

/// The fields that came in OpenAI's own format.
fn ours(extra: &[(Dialect, Map<String, Value>)]) -> impl Iterator<Item = &Map<String, Value>> {
    extra.iter().filter(|(dialect, _)| *dialect == Dialect::OpenAi).map(|(_, fields)| fields)
}

fn add_unless_there(to: &mut Map<String, Value>, fields: &Map<String, Value>) {
    for (key, value) in fields {
        to.entry(key.as_str()).or_insert_with(|| value.clone());
    }
}

/// Writes a stream of chunks.
#[derive(Debug)]
pub struct Stream {
    shape: Shape,
    id: String,
    created: i64,
    locale: Locale,
    request_id: RequestId,
    /// Everything of a chunk up to its choices; empty until somebody answers.
    head: Vec<u8>,
    /// Fields of the whole reply without a shared word, in every chunk from then on.
    tail: Vec<u8>,
    /// The choices that have been opened with their role.
    opened: Vec<u32>,
    /// Ends that are held back.
    finishes: Vec<(u32, FinishReason)>,
    /// Where log probabilities were asked for: the text that waits for them, or they for it.
    waiting: Waiting,
}

#[derive(Default)]
struct Waiting {
    choice: u32,
    text: Option<String>,
    logprobs: Option<Vec<Value>>,
}

/// Shows the shape and never the text.
impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("choice", &self.choice).finish_non_exhaustive()
    }
}

impl Stream {
    /// A stream that has not begun.
    pub fn new(request_id: RequestId, shape: Shape, locale: Locale, created: i64) -> Self {
        let tail = if shape.include_usage { b",\"usage\":null".to_vec() } else { Vec::new() };
        Stream {
            shape,
            id: completion_id(&request_id),
            created,
            locale,
            request_id,
            head: Vec::new(),
            tail,
            opened: Vec::new(),
            finishes: Vec::new(),
            waiting: Waiting::default(),
        }
    }

    /// Writes what is shown.
    pub fn push(&mut self, shown: Shown, out: &mut Vec<u8>) {
        match shown {
            Shown::Begun { model, .. } => {
                self.head = self.head_for(&model);
                self.open(0, out);
            }
            Shown::Piece(chunk) => self.piece(chunk, out),
            Shown::FailedOver { from, to } => {
                self.flush(out);
                self.finishes.clear();
                self.note(&json!({ "failover": { "from": from, "to": to } }), out);
            }
            Shown::Escalated { from, to } => {
                self.note(&json!({ "escalated": { "from": from, "to": to } }), out);
            }
            Shown::Done(done) => self.done(&done, out),
            Shown::Failed(failure) => self.failed(&WireError::from(&*failure), out),
        }
    }

    /// Ends a started stream that cannot go on: one error, and no `[DONE]`.
    pub fn failed(&mut self, error: &WireError, out: &mut Vec<u8>) {
        self.flush(out);
        out.extend_from_slice(b"data: ");
        push_json(out, &error.body(Api::OpenAi, self.locale, &self.request_id));
        out.extend_from_slice(b"\n\n");
    }

    fn head_for(&self, model: &ModelId) -> Vec<u8> {
        let mut head = Vec::with_capacity(160);
        head.extend_from_slice(b"data: {\"id\":");
        push_string(&mut head, &self.id);
        head.extend_from_slice(b",\"object\":\"chat.completion.chunk\",\"created\":");
        push_json(&mut head, &self.created);
        head.extend_from_slice(b",\"model\":");
        push_string(&mut head, model.as_str());
        head.extend_from_slice(b",\"choices\":[");
        head
    }

    /// The chunk that opens a choice, once.
    fn open(&mut self, choice: u32, out: &mut Vec<u8>) {
        if self.opened.contains(&choice) {
            return;
        }
        self.opened.push(choice);
        self.delta(choice, out, |out| {
            out.extend_from_slice(b"\"role\":\"assistant\",\"content\":\"\",\"refusal\":null");
        });
    }

    /// A chunk with one choice; `write` adds the inside of its delta.
    fn delta(&self, choice: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        self.begin_delta(choice, out);
        write(out);
        out.extend_from_slice(b"},\"logprobs\":null,\"finish_reason\":null}]");
        self.close(out);
    }

    fn begin_delta(&self, choice: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b"{\"index\":");
        push_json(out, &choice);
        out.extend_from_slice(b",\"delta\":{");
    }

    fn close(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.tail);
        out.extend_from_slice(b"}\n\n");
    }

    fn piece(&mut self, chunk: Chunk, out: &mut Vec<u8>) {
        match chunk {
            Chunk::Text { choice, text } if self.shape.logprobs => {
                self.wait(choice, Some(text), None, out);
            }
            Chunk::Logprobs { choice, content } if self.shape.logprobs => {
                self.wait(choice, None, Some(content), out);
            }
            Chunk::Text { choice, text } => {
                self.open(choice, out);
                self.delta(choice, out, |out| push_field(out, "content", &text));
            }
            Chunk::Reasoning { choice, text } => {
                self.open(choice, out);
                self.delta(choice, out, |out| push_field(out, "reasoning_content", &text));
            }
            Chunk::ToolCall { choice, index, id, name, arguments, extra } => {
                self.flush(out);
                self.open(choice, out);
                let piece = CallPiece { index, id, name, arguments, extra };
                let function_call = self.shape.function_call;
                self.delta(choice, out, |out| piece.write(function_call, out));
            }
            Chunk::Extra { dialect: Dialect::OpenAi, choice: Some(choice), fields } => {
                self.flush(out);
                self.open(choice, out);
                self.delta(choice, out, |out| push_fields(out, &fields, b""));
            }
            Chunk::Extra { dialect: Dialect::OpenAi, choice: None, fields } => self.keep(fields),
            Chunk::Finish { choice, reason, .. } => self.finishes.push((choice, reason)),
            // Started, usage and log probabilities that were asked for by the judge alone; what
            // only another vendor's format can say.
            Chunk::Started { .. }
            | Chunk::Usage(_)
            | Chunk::Logprobs { .. }
            | Chunk::Extra { .. }
            | Chunk::ReasoningSignature { .. }
            | Chunk::RedactedReasoning { .. } => {}
        }
    }

    /// A text and its log probabilities belong into one chunk, but come one after the other.
    fn wait(
        &mut self,
        choice: u32,
        text: Option<String>,
        logprobs: Option<Vec<Value>>,
        out: &mut Vec<u8>,
    ) {
        let waiting = &mut self.waiting;
        let pairs = waiting.choice == choice
            && !(waiting.text.is_some() && text.is_some())
            && !(waiting.logprobs.is_some() && logprobs.is_some());
        if !pairs {
            self.flush(out);
        }
        let waiting = &mut self.waiting;
        waiting.choice = choice;
        waiting.text = text.or(waiting.text.take());
        waiting.logprobs = logprobs.or(waiting.logprobs.take());
        if self.waiting.text.is_some() && self.waiting.logprobs.is_some() {
            self.flush(out);
        }
    }

    /// Writes what waits, alone if it must be.
    fn flush(&mut self, out: &mut Vec<u8>) {
        let Waiting { choice, text, logprobs } = std::mem::take(&mut self.waiting);
        if text.is_none() && logprobs.is_none() {
            return;
        }
        self.open(choice, out);
        self.begin_delta(choice, out);
        if let Some(text) = text {
            push_field(out, "content", &text);
        }
        out.extend_from_slice(b"},\"logprobs\":");
        match logprobs {
            Some(content) => push_json(out, &json!({ "content": content, "refusal": null })),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"finish_reason\":null}]");
        self.close(out);
    }

    /// Fields of the whole reply, such as `service_tier`, ride on every chunk that follows.
    fn keep(&mut self, mut fields: Map<String, Value>) {
        fields.retain(|key, _| !TAKEN.contains(&key.as_str()));
        push_fields(&mut self.tail, &fields, b",");
    }

    /// A chunk without content that says what happened behind the answer.
    fn note(&mut self, what: &serde_json::Value, out: &mut Vec<u8>) {
        self.begin_delta(0, out);
        out.extend_from_slice(b"},\"logprobs\":null,\"finish_reason\":null}]");
        out.extend_from_slice(b",\"stellwerk\":");
        push_json(out, what);
        self.close(out);
    }

    fn done(&mut self, done: &Done, out: &mut Vec<u8>) {
        if self.head.is_empty() {
            self.head = self.head_for(&done.model);
        }
        self.open(0, out);
        self.flush(out);
        let mut finishes = std::mem::take(&mut self.finishes);
        if finishes.is_empty() {
            finishes.push((0, FinishReason::Stop));
        }
        let last = finishes.len() - 1;
        for (index, (choice, reason)) in finishes.into_iter().enumerate() {
            self.begin_delta(choice, out);
            out.extend_from_slice(b"},\"logprobs\":null,\"finish_reason\":\"");
            out.extend_from_slice(finish_word(reason, self.shape).as_bytes());
            out.extend_from_slice(b"\"}]");
            if index == last && !self.shape.include_usage {
                self.push_stellwerk(done, out);
            }
            self.close(out);
        }
        if self.shape.include_usage {
            // The tail says `usage: null`, as OpenAI's other chunks do; this one tells it.
            self.tail.drain(..b",\"usage\":null".len());
            out.extend_from_slice(&self.head);
            out.extend_from_slice(b"],\"usage\":");
            push_json(out, &usage(&done.usage));
            self.push_stellwerk(done, out);
            self.close(out);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn push_stellwerk(&self, done: &Done, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"stellwerk\":");
        push_json(out, &stellwerk(done, self.shape.explain));
    }
}

/// A piece of a tool call.
struct CallPiece {
    index: u32,
    id: Option<String>,
    name: Option<String>,
    arguments: String,
    extra: Option<Map<String, Value>>,
}

impl CallPiece {
    fn write(&self, function_call: bool, out: &mut Vec<u8>) {
        if function_call {
            out.extend_from_slice(b"\"function_call\":{");
            self.write_function(out);
            out.push(b'}');
            return;
        }
        out.extend_from_slice(b"\"tool_calls\":[{\"index\":");
        push_json(out, &self.index);
        if let Some(id) = &self.id {
            out.extend_from_slice(b",\"id\":");
            push_string(out, id);
            out.extend_from_slice(b",\"type\":\"function\"");
        }
        out.extend_from_slice(b",\"function\":{");
        self.write_function(out);
        out.push(b'}');
        if let Some(extra) = &self.extra {
            push_fields(out, extra, b",");
        }
        out.extend_from_slice(b"}]");
    }

    fn write_function(&self, out: &mut Vec<u8>) {
        if let Some(name) = &self.name {
            push_field(out, "name", name);
            out.push(b',');
        }
        push_field(out, "arguments", &self.arguments);
    }
}

fn push_field(out: &mut Vec<u8>, key: &str, text: &str) {
    push_string(out, key);
    out.push(b':');
    push_string(out, text);
}

/// Writes fields with commas between them, the first behind `before`.
fn push_fields(out: &mut Vec<u8>, fields: &Map<String, Value>, before: &[u8]) {
    for (index, (key, value)) in fields.iter().enumerate() {
        out.extend_from_slice(if index == 0 { before } else { b"," });
        push_string(out, key);
        out.push(b':');
        push_json(out, value);
    }
}

#[cfg(test)]
mod tests;
