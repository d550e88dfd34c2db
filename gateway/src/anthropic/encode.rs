//! Writes answers as Anthropic's messages, whole or as a stream of named events.
//!
//! Anthropic streams one block at a time, each opened and closed by an event of its own; what
//! comes in pieces of changing kinds is sorted into such blocks here.

use serde_json::{Map, Value, json};
use stellwerk_core::ids::{ModelId, RequestId};
use stellwerk_core::reply::{Chunk, Done, FinishReason, Usage};
use stellwerk_core::request::{Dialect, Locale};

use crate::errors::{Api, WireError, internal};
use crate::openai::encode::stellwerk;
use crate::show::{Block, Call, Collected, Shown};
use crate::wire::{push_json, push_string};

/// The format has no event for what happens behind an answer; its clients skip what they do not
/// know in a ping.
fn note(what: &Value, out: &mut Vec<u8>) {
    event(out, "ping", &json!({ "type": "ping", "stellwerk": what }));
}

fn stop_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "end_turn",
        FinishReason::StopSequence => "stop_sequence",
        FinishReason::Length => "max_tokens",
        FinishReason::ToolCalls => "tool_use",
        FinishReason::ContentFilter => "refusal",
    }
}

fn message_id(request_id: &RequestId) -> String {
    let id = request_id.as_str();
    format!("msg_{}", id.strip_prefix("req_").unwrap_or(id))
}

/// Tokens in Anthropic's words: `input_tokens` are those that no cache had a part in.
fn usage(usage: &Usage) -> Value {
    let (read, written) = (usage.cached_input_tokens, usage.cache_write_tokens);
    let input = usage.input_tokens.unwrap_or(0);
    json!({
        "input_tokens": input.saturating_sub(read + written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": usage.output_tokens.unwrap_or(0),
    })
}

/// A whole answer.
pub fn whole(collected: &Collected, done: &Done, explain: bool) -> Vec<u8> {
    let choice = collected.choices.first();
    let content: Vec<Value> =
        choice.map(|choice| choice.blocks.iter().map(block).collect()).unwrap_or_default();
    let finish = choice.and_then(|choice| choice.finish.as_ref());
    let reason = finish.map_or(FinishReason::Stop, |(reason, _)| *reason);
    let stop_sequence = finish.and_then(|(_, text)| text.clone());
    let mut message = match json!({
        "id": message_id(&done.trace.request_id),
        "type": "message",
        "role": "assistant",
        "model": done.model,
        "content": content,
        "stop_reason": stop_reason(reason),
        "stop_sequence": stop_sequence,
        "usage": usage(&done.usage),
    }) {
        Value::Object(message) => message,
        _ => Map::new(),
    };
    // Last, so that a vendor's own word (`pause_turn`) outranks the shared one.
    let of_choice = choice.map(|choice| choice.extra.as_slice()).unwrap_or_default();
    for (dialect, fields) in collected.extra.iter().chain(of_choice) {
        if *dialect == Dialect::Anthropic {
            overlay(&mut message, fields);
        }
    }
    message.insert("stellwerk".into(), json!(stellwerk(done, explain)));
    let mut out = Vec::with_capacity(1024);
    push_json(&mut out, &message);
    out
}

/// Adds a vendor's fields, but nothing that is ours to say.
fn overlay(message: &mut Map<String, Value>, fields: &Map<String, Value>) {
    const OURS: [&str; 7] = ["id", "type", "role", "model", "content", "usage", "stellwerk"];
    for (key, value) in fields.iter().filter(|(key, _)| !OURS.contains(&key.as_str())) {
        message.insert(key.clone(), value.clone());
    }
}

fn block(block: &Block) -> Value {
    match block {
        Block::Text(text, citations) if citations.is_empty() => {
            json!({ "type": "text", "text": text })
        }
        Block::Text(text, citations) => {
            json!({ "type": "text", "text": text, "citations": citations })
        }
        Block::Thinking(text, signature) => {
            json!({ "type": "thinking", "thinking": text, "signature": signature.as_deref().unwrap_or_default() })
        }
        Block::Redacted(data) => json!({ "type": "redacted_thinking", "data": data }),
        Block::Tool(call) => tool_use(call),
        Block::Native(block) => Value::Object(block.clone()),
    }
}

/// Anthropic's arguments are an object. What a model wrote that is none (a call cut off by the
/// output limit) is handed on as text in one field rather than lost.
fn tool_use(call: &Call) -> Value {
    let input = match serde_json::from_str::<Value>(&call.arguments) {
        Ok(Value::Object(input)) => Value::Object(input),
        _ if call.arguments.trim().is_empty() => json!({}),
        _ => json!({ "arguments": call.arguments }),
    };
    json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": input })
}

/// Writes a stream of events.
#[derive(Debug)]
pub struct Stream {
    request_id: RequestId,
    locale: Locale,
    explain: bool,
    begun: bool,
    /// How many blocks have been opened.
    blocks: u32,
    /// The block that is open.
    open: Option<Open>,
    /// Tokens told before the first event.
    usage: Usage,
    finish: Option<(FinishReason, Option<String>)>,
    /// Fields of the whole reply without a shared word.
    extra: Map<String, Value>,
    over: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
    /// A thought whose signature has come.
    Signed,
    Tool(u32),
}

impl Stream {
    /// A stream that has not begun.
    pub fn new(request_id: RequestId, explain: bool, locale: Locale) -> Self {
        Stream {
            request_id,
            locale,
            explain,
            begun: false,
            blocks: 0,
            open: None,
            usage: Usage::default(),
            finish: None,
            extra: Map::new(),
            over: false,
        }
    }

    /// Whether the stream has ended though the answer goes on.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Writes what is shown.
    pub fn push(&mut self, shown: Shown, out: &mut Vec<u8>) {
        if self.over {
            return;
        }
        match shown {
            Shown::Begun { model, .. } => self.begin(&model, out),
            Shown::Piece(chunk) => self.piece(chunk, out),
            Shown::FailedOver { from, to } => {
                self.close(out);
                self.finish = None;
                note(&json!({ "failover": { "from": from, "to": to } }), out);
            }
            Shown::Escalated { from, to } => {
                note(&json!({ "escalated": { "from": from, "to": to } }), out);
            }
            Shown::Done(done) => self.done(&done, out),
            Shown::Failed(failure) => self.failed(&WireError::from(&*failure), out),
        }
    }

    /// Ends a started stream that cannot go on.
    pub fn failed(&mut self, error: &WireError, out: &mut Vec<u8>) {
        self.over = true;
        event(out, "error", &error.body(Api::Anthropic, self.locale, &self.request_id));
    }

    fn begin(&mut self, model: &ModelId, out: &mut Vec<u8>) {
        if self.begun {
            return;
        }
        self.begun = true;
        let message = json!({
            "id": message_id(&self.request_id),
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": usage(&self.usage),
        });
        event(out, "message_start", &json!({ "type": "message_start", "message": message }));
    }

    fn piece(&mut self, chunk: Chunk, out: &mut Vec<u8>) {
        match chunk {
            Chunk::Text { text, .. } if !text.is_empty() => {
                self.ensure(Open::Text, out, empty_text);
                self.delta(out, "text_delta", "text", &text);
            }
            Chunk::Reasoning { text, .. } if !text.is_empty() => {
                self.ensure(Open::Thinking, out, empty_thought);
                self.delta(out, "thinking_delta", "thinking", &text);
            }
            Chunk::ReasoningSignature { signature, .. } => {
                self.ensure(Open::Thinking, out, empty_thought);
                self.delta(out, "signature_delta", "signature", &signature);
                self.open = Some(Open::Signed);
            }
            Chunk::RedactedReasoning { data, .. } => {
                self.single(&json!({ "type": "redacted_thinking", "data": data }), out);
            }
            Chunk::ToolCall { index, id, name, arguments, .. } => {
                self.tool(index, id, name, &arguments, out);
            }
            Chunk::Usage(usage) => self.usage.merge(usage),
            Chunk::Extra { dialect: Dialect::Anthropic, mut fields, .. } => {
                if let Some(block) = fields.swap_remove("content_block") {
                    self.single(&block, out);
                }
                if let Some(Value::Array(citations)) = fields.swap_remove("citations") {
                    self.cite(&citations, out);
                }
                self.extra.extend(fields);
            }
            Chunk::Finish { reason, stop_sequence, .. } => {
                self.finish = Some((reason, stop_sequence));
            }
            Chunk::Text { .. }
            | Chunk::Reasoning { .. }
            | Chunk::Started { .. }
            | Chunk::Logprobs { .. }
            | Chunk::Extra { .. } => {}
        }
    }

    fn tool(
        &mut self,
        index: u32,
        id: Option<String>,
        name: Option<String>,
        arguments: &str,
        out: &mut Vec<u8>,
    ) {
        if self.open != Some(Open::Tool(index)) && name.is_none() {
            // Every vendor streams one call after the other. One that came back to a call whose
            // block is closed could only be told wrongly, so the stream ends with an error.
            return self.failed(&internal(), out);
        }
        self.ensure(
            Open::Tool(index),
            out,
            || json!({ "type": "tool_use", "id": id, "name": name, "input": {} }),
        );
        if !arguments.is_empty() {
            self.delta(out, "input_json_delta", "partial_json", arguments);
        }
    }

    /// Where the text of the open block was found.
    fn cite(&mut self, citations: &[Value], out: &mut Vec<u8>) {
        self.ensure(Open::Text, out, empty_text);
        let index = self.blocks.saturating_sub(1);
        for citation in citations {
            let delta = json!({ "type": "citations_delta", "citation": citation });
            event(
                out,
                "content_block_delta",
                &json!({ "type": "content_block_delta", "index": index, "delta": delta }),
            );
        }
    }

    /// Opens a block unless it is the open one.
    fn ensure(&mut self, wanted: Open, out: &mut Vec<u8>, block: impl FnOnce() -> Value) {
        if self.open == Some(wanted) {
            return;
        }
        self.close(out);
        self.start(&block(), out);
        self.open = Some(wanted);
    }

    fn start(&mut self, block: &Value, out: &mut Vec<u8>) {
        let index = self.blocks;
        self.blocks += 1;
        event(
            out,
            "content_block_start",
            &json!({ "type": "content_block_start", "index": index, "content_block": block }),
        );
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if self.open.take().is_some() {
            self.stop(out);
        }
    }

    fn stop(&self, out: &mut Vec<u8>) {
        let index = self.blocks.saturating_sub(1);
        event(out, "content_block_stop", &json!({ "type": "content_block_stop", "index": index }));
    }

    /// A block that comes whole.
    fn single(&mut self, block: &Value, out: &mut Vec<u8>) {
        self.close(out);
        self.start(block, out);
        self.stop(out);
    }

    /// A piece of the open block, written straight into bytes: there is one for every token.
    fn delta(&self, out: &mut Vec<u8>, kind: &str, field: &str, text: &str) {
        out.extend_from_slice(
            b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":",
        );
        push_json(out, &self.blocks.saturating_sub(1));
        out.extend_from_slice(b",\"delta\":{\"type\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",\"");
        out.extend_from_slice(field.as_bytes());
        out.extend_from_slice(b"\":");
        push_string(out, text);
        out.extend_from_slice(b"}}\n\n");
    }

    fn done(&mut self, done: &Done, out: &mut Vec<u8>) {
        self.begin(&done.model, out);
        self.close(out);
        let (reason, stop_sequence) = self.finish.take().unwrap_or((FinishReason::Stop, None));
        let mut delta = Map::new();
        delta.insert("stop_reason".into(), stop_reason(reason).into());
        delta.insert("stop_sequence".into(), stop_sequence.into());
        overlay(&mut delta, &self.extra);
        event(
            out,
            "message_delta",
            &json!({
                "type": "message_delta",
                "delta": delta,
                "usage": usage(&done.usage),
                "stellwerk": stellwerk(done, self.explain),
            }),
        );
        event(out, "message_stop", &json!({ "type": "message_stop" }));
    }
}

fn empty_text() -> Value {
    json!({ "type": "text", "text": "" })
}

fn empty_thought() -> Value {
    json!({ "type": "thinking", "thinking": "", "signature": "" })
}

fn event(out: &mut Vec<u8>, name: &str, data: &Value) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    push_json(out, data);
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests;
