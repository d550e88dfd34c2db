//! An answer in Anthropic's words, whole or streamed, as chunks.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::provider::events::Events;
use crate::provider::{ProviderCall, ProviderError, ProviderErrorKind, http};
use crate::reply::{Chunk, FinishReason, Usage};
use crate::request::Dialect;

use super::{ANSWER_TOOL, answers_by_tool};

/// Reads a whole answer.
pub fn whole(mut reply: Reply, body: &[u8]) -> Result<Vec<Chunk>, ProviderError> {
    let message: Value = serde_json::from_slice(body).map_err(|_| unreadable("no JSON"))?;
    if message["type"] == "error" || message.get("error").is_some_and(|error| !error.is_null()) {
        return Err(http::told_error(&message));
    }
    let mut chunks = Vec::new();
    reply.start(&message, &mut chunks);
    let Some(content) = message["content"].as_array() else {
        return Err(reply.with_usage(unreadable("no content")));
    };
    for (index, block) in (0_u64..).zip(content) {
        reply.open(index, block, &mut chunks);
        reply.close(index, &mut chunks);
    }
    reply.stop(&message, &mut chunks);
    if !reply.finished {
        return Err(reply.with_usage(unreadable("no stop reason")));
    }
    Ok(chunks)
}

/// What was said so far of one answer.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// Whether the answer's JSON comes as the input of a tool.
    by_tool: bool,
    blocks: BTreeMap<u64, Block>,
    counts: Counts,
    calls: u32,
    finished: bool,
    done: bool,
}

/// A block that is open.
#[derive(Clone)]
enum Block {
    /// Text or thoughts: nothing is kept.
    Said,
    /// A call of the caller's tool: its number, and the input that came with its beginning.
    Call { index: u32, told: bool, input: Value },
    /// The call that carries the answer.
    Answer { told: bool, input: Value },
    /// A block without a shared word: as it began, and the pieces of its input.
    Other { block: Value, input: String },
}

/// Shows the kind and never the text.
impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Block::Said => "Said",
            Block::Call { .. } => "Call",
            Block::Answer { .. } => "Answer",
            Block::Other { .. } => "Other",
        })
    }
}

impl Reply {
    /// The answer to this call, before its first piece.
    pub fn to(call: &ProviderCall) -> Self {
        Reply { by_tool: answers_by_tool(&call.model, &call.request), ..Reply::default() }
    }

    fn start(&mut self, message: &Value, chunks: &mut Vec<Chunk>) {
        let text = |field: &str| message[field].as_str().map(str::to_owned);
        chunks.push(Chunk::Started { vendor_model: text("model"), vendor_id: text("id") });
        self.counts.take(&message["usage"]);
    }

    fn open(&mut self, index: u64, block: &Value, chunks: &mut Vec<Chunk>) {
        let text = |field: &str| block[field].as_str().unwrap_or_default().to_owned();
        let opened = match block["type"].as_str() {
            Some("text") => {
                say(chunks, text("text"));
                cite(chunks, block["citations"].as_array().into_iter().flatten());
                Block::Said
            }
            Some("thinking") => {
                think(chunks, text("thinking"));
                sign(chunks, text("signature"));
                Block::Said
            }
            Some("redacted_thinking") => {
                chunks.push(Chunk::RedactedReasoning { choice: 0, data: text("data") });
                Block::Said
            }
            Some("tool_use") if self.by_tool && block["name"] == ANSWER_TOOL => {
                Block::Answer { told: false, input: block["input"].clone() }
            }
            Some("tool_use") => self.call(block, chunks),
            _ => Block::Other { block: block.clone(), input: String::new() },
        };
        self.blocks.insert(index, opened);
    }

    fn call(&mut self, block: &Value, chunks: &mut Vec<Chunk>) -> Block {
        let index = self.calls;
        self.calls += 1;
        chunks.push(Chunk::ToolCall {
            choice: 0,
            index,
            id: block["id"].as_str().map(str::to_owned),
            name: block["name"].as_str().map(str::to_owned),
            arguments: String::new(),
            extra: None,
        });
        Block::Call { index, told: false, input: block["input"].clone() }
    }

    fn delta(&mut self, index: u64, delta: &Value, chunks: &mut Vec<Chunk>) {
        let text = |field: &str| delta[field].as_str().unwrap_or_default().to_owned();
        match delta["type"].as_str() {
            Some("text_delta") => say(chunks, text("text")),
            Some("thinking_delta") => think(chunks, text("thinking")),
            Some("signature_delta") => sign(chunks, text("signature")),
            Some("citations_delta") => cite(chunks, std::iter::once(&delta["citation"])),
            Some("input_json_delta") => self.input(index, text("partial_json"), chunks),
            _ => {}
        }
    }

    fn input(&mut self, index: u64, piece: String, chunks: &mut Vec<Chunk>) {
        if piece.is_empty() {
            return;
        }
        match self.blocks.get_mut(&index) {
            Some(Block::Call { index, told, .. }) => {
                *told = true;
                chunks.push(arguments(*index, piece));
            }
            Some(Block::Answer { told, .. }) => {
                *told = true;
                say(chunks, piece);
            }
            Some(Block::Other { input, .. }) => input.push_str(&piece),
            _ => {}
        }
    }

    /// A call without any piece of input has the input that it began with: `{}`, or all of it
    /// where the answer is whole.
    fn close(&mut self, index: u64, chunks: &mut Vec<Chunk>) {
        match self.blocks.remove(&index) {
            Some(Block::Call { index, told: false, input }) => {
                chunks.push(arguments(index, object(&input)));
            }
            Some(Block::Answer { told: false, input }) => say(chunks, object(&input)),
            Some(Block::Other { mut block, input }) => {
                if let (Ok(input), Value::Object(fields)) = (input.parse::<Value>(), &mut block) {
                    fields.insert("input".to_owned(), input);
                }
                chunks.push(extra("content_block", block));
            }
            _ => {}
        }
    }

    fn stop(&mut self, message: &Value, chunks: &mut Vec<Chunk>) {
        self.counts.take(&message["usage"]);
        let Some(reason) = message["stop_reason"].as_str() else { return };
        self.tell_usage(chunks);
        // Two reasons become one of ours here; their own word is kept beside it.
        if matches!(reason, "pause_turn" | "model_context_window_exceeded" | "refusal") {
            chunks.push(extra("stop_reason", json!(reason)));
        }
        self.finished = true;
        chunks.push(Chunk::Finish {
            choice: 0,
            reason: self.finish_reason(reason),
            stop_sequence: message["stop_sequence"].as_str().map(str::to_owned),
        });
    }

    fn finish_reason(&self, reason: &str) -> FinishReason {
        match reason {
            "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
            "stop_sequence" => FinishReason::StopSequence,
            "tool_use" if self.calls > 0 => FinishReason::ToolCalls,
            "refusal" => FinishReason::ContentFilter,
            _ => FinishReason::Stop,
        }
    }

    fn tell_usage(&self, chunks: &mut Vec<Chunk>) {
        chunks.extend(self.counts.told().map(Chunk::Usage));
    }

    fn with_usage(&self, error: ProviderError) -> ProviderError {
        ProviderError { usage: self.counts.told(), ..error }
    }
}

impl Events for Reply {
    fn event(&mut self, event: &Value, chunks: &mut Vec<Chunk>) -> Result<(), ProviderError> {
        let index = event["index"].as_u64().unwrap_or_default();
        match event["type"].as_str() {
            Some("message_start") => {
                self.start(&event["message"], chunks);
                // The output that is told here is a beginning, not a sum.
                self.counts.output = None;
                self.tell_usage(chunks);
            }
            Some("content_block_start") => self.open(index, &event["content_block"], chunks),
            Some("content_block_delta") => self.delta(index, &event["delta"], chunks),
            Some("content_block_stop") => self.close(index, chunks),
            Some("message_delta") if !self.finished => {
                let mut message = event["delta"].clone();
                if let Value::Object(fields) = &mut message {
                    fields.insert("usage".to_owned(), event["usage"].clone());
                    self.stop(&message, chunks);
                }
            }
            Some("message_stop") if self.finished => self.done = true,
            Some("error") => return Err(self.with_usage(http::told_error(event))),
            // `ping`, and what later versions add.
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, _chunks: &mut Vec<Chunk>) -> Result<(), ProviderError> {
        if self.finished {
            return Ok(());
        }
        let cut = ProviderError::new(ProviderErrorKind::Cut, "the stream broke before its end");
        Err(self.with_usage(cut))
    }

    fn is_done(&self) -> bool {
        self.done
    }
}

/// Anthropic's counts: its input is without what the cache took part in.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    input: Option<u64>,
    cache_write: Option<u64>,
    cache_read: Option<u64>,
    output: Option<u64>,
    thinking: Option<u64>,
}

impl Counts {
    fn take(&mut self, usage: &Value) {
        let later = |field: &str, earlier: Option<u64>| match usage[field].as_u64() {
            // Some servers repeat the input as 0 at the end.
            Some(0) => earlier.or(Some(0)),
            count => count.or(earlier),
        };
        self.input = later("input_tokens", self.input);
        self.cache_write = later("cache_creation_input_tokens", self.cache_write);
        self.cache_read = later("cache_read_input_tokens", self.cache_read);
        self.output = later("output_tokens", self.output);
        self.thinking =
            usage["output_tokens_details"]["thinking_tokens"].as_u64().or(self.thinking);
    }

    /// What was told, if anything was.
    fn told(&self) -> Option<Usage> {
        let cache_write = self.cache_write.unwrap_or_default();
        let cache_read = self.cache_read.unwrap_or_default();
        let cached = cache_write.saturating_add(cache_read);
        (self.input.is_some() || self.output.is_some()).then(|| Usage {
            input_tokens: self.input.map(|input| input.saturating_add(cached)),
            cached_input_tokens: cache_read,
            cache_write_tokens: cache_write,
            output_tokens: self.output,
            reasoning_tokens: self.thinking.unwrap_or_default(),
        })
    }
}

fn say(chunks: &mut Vec<Chunk>, text: String) {
    if !text.is_empty() {
        chunks.push(Chunk::Text { choice: 0, text });
    }
}

fn think(chunks: &mut Vec<Chunk>, text: String) {
    if !text.is_empty() {
        chunks.push(Chunk::Reasoning { choice: 0, text });
    }
}

fn sign(chunks: &mut Vec<Chunk>, signature: String) {
    if !signature.is_empty() {
        chunks.push(Chunk::ReasoningSignature { choice: 0, signature });
    }
}

fn cite<'a>(chunks: &mut Vec<Chunk>, citations: impl Iterator<Item = &'a Value>) {
    let citations: Vec<Value> = citations.cloned().collect();
    if !citations.is_empty() {
        chunks.push(extra("citations", Value::Array(citations)));
    }
}

fn extra(field: &str, value: Value) -> Chunk {
    let fields = Map::from_iter([(field.to_owned(), value)]);
    Chunk::Extra { dialect: Dialect::Anthropic, choice: Some(0), fields }
}

fn arguments(index: u32, arguments: String) -> Chunk {
    Chunk::ToolCall { choice: 0, index, id: None, name: None, arguments, extra: None }
}

fn object(input: &Value) -> String {
    if input.is_object() { input.to_string() } else { "{}".to_owned() }
}

fn unreadable(why: &str) -> ProviderError {
    ProviderError::new(ProviderErrorKind::Malformed, format!("the answer cannot be read: {why}"))
}
