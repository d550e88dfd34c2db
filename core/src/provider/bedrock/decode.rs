//! An answer in Converse's words, whole or in frames of AWS's event stream, as chunks.

use std::collections::BTreeMap;

use aws_smithy_eventstream::frame::{DecodedFrame, MessageFrameDecoder};
use aws_smithy_types::event_stream::Message;
use bytes::BytesMut;
use serde_json::{Value, json};

use crate::provider::http::{self, Decoder};
use crate::provider::{ProviderCall, ProviderError, ProviderErrorKind};
use crate::reply::{Chunk, FinishReason, Usage};

use super::{ANSWER_TOOL, answers_by_tool, unreadable};

/// The longest frame, in bytes. AWS's own limit is 24 MiB.
const MAX_FRAME_BYTES: usize = 32 * 1024 * 1024;

/// Reads a whole answer.
pub fn whole(mut reply: Reply, body: &[u8]) -> Result<Vec<Chunk>, ProviderError> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| unreadable("no JSON"))?;
    reply.usage = usage(&answer["usage"]);
    let mut chunks = vec![Chunk::Started { vendor_model: None, vendor_id: None }];
    let Some(content) = answer["output"]["message"]["content"].as_array() else {
        return Err(reply.with_usage(unreadable("no content")));
    };
    for (index, block) in (0_u64..).zip(content) {
        reply.whole_block(index, block, &mut chunks);
    }
    chunks.extend(reply.usage.map(Chunk::Usage));
    reply.stop(&answer, &mut chunks);
    reply.check_end(ProviderErrorKind::Malformed)?;
    Ok(chunks)
}

/// What was said so far of one answer.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// Whether the answer's JSON comes as the input of a tool.
    by_tool: bool,
    calls: u32,
    open: BTreeMap<u64, Call>,
    usage: Option<Usage>,
    finished: bool,
    /// Why the model failed; told when the usage is known.
    failed: Option<&'static str>,
    done: bool,
}

/// A tool call that is open, and whether any of its input was told.
#[derive(Debug, Clone)]
struct Call {
    /// `None`: the call that carries the answer.
    index: Option<u32>,
    told: bool,
}

impl Reply {
    /// The answer to this call, before its first piece.
    pub fn to(call: &ProviderCall) -> Self {
        Reply { by_tool: answers_by_tool(&call.model, &call.request), ..Reply::default() }
    }

    fn whole_block(&mut self, index: u64, block: &Value, chunks: &mut Vec<Chunk>) {
        if let Some(text) = block["text"].as_str() {
            say(chunks, text);
        }
        let reasoning = &block["reasoningContent"];
        reason(chunks, &reasoning["reasoningText"]);
        reason(chunks, reasoning);
        let call = &block["toolUse"];
        if call.is_object() {
            self.open(index, call, chunks);
            let input = &call["input"];
            let input = if input.is_object() { input.to_string() } else { "{}".to_owned() };
            self.input(index, &input, chunks);
            self.close(index, chunks);
        }
    }

    /// One event of the stream.
    fn event(&mut self, kind: &str, event: &Value, chunks: &mut Vec<Chunk>) {
        let index = event["contentBlockIndex"].as_u64().unwrap_or_default();
        match kind {
            "messageStart" => {
                chunks.push(Chunk::Started { vendor_model: None, vendor_id: None });
            }
            "contentBlockStart" if event["start"]["toolUse"].is_object() => {
                self.open(index, &event["start"]["toolUse"], chunks);
            }
            "contentBlockDelta" => self.delta(index, &event["delta"], chunks),
            "contentBlockStop" => self.close(index, chunks),
            "messageStop" if !self.finished => self.stop(event, chunks),
            "metadata" => {
                self.usage = usage(&event["usage"]).or(self.usage);
                chunks.extend(self.usage.map(Chunk::Usage));
                // The counts are the last thing that is said.
                self.done = self.finished;
            }
            // What later versions add.
            _ => {}
        }
    }

    fn open(&mut self, index: u64, call: &Value, chunks: &mut Vec<Chunk>) {
        if self.by_tool && call["name"] == ANSWER_TOOL {
            self.open.insert(index, Call { index: None, told: false });
            return;
        }
        let number = self.calls;
        self.calls += 1;
        self.open.insert(index, Call { index: Some(number), told: false });
        chunks.push(Chunk::ToolCall {
            choice: 0,
            index: number,
            id: call["toolUseId"].as_str().map(str::to_owned),
            name: call["name"].as_str().map(str::to_owned),
            arguments: String::new(),
            extra: None,
        });
    }

    fn delta(&mut self, index: u64, delta: &Value, chunks: &mut Vec<Chunk>) {
        if let Some(text) = delta["text"].as_str() {
            say(chunks, text);
        }
        reason(chunks, &delta["reasoningContent"]);
        if let Some(input) = delta["toolUse"]["input"].as_str() {
            self.input(index, input, chunks);
        }
    }

    fn input(&mut self, index: u64, piece: &str, chunks: &mut Vec<Chunk>) {
        let Some(call) = self.open.get_mut(&index).filter(|_| !piece.is_empty()) else { return };
        call.told = true;
        match call.index {
            Some(number) => chunks.push(arguments(number, piece)),
            None => say(chunks, piece),
        }
    }

    /// A call without any piece of input takes none.
    fn close(&mut self, index: u64, chunks: &mut Vec<Chunk>) {
        match self.open.remove(&index) {
            Some(Call { index: Some(number), told: false }) => {
                chunks.push(arguments(number, "{}"));
            }
            Some(Call { index: None, told: false }) => say(chunks, "{}"),
            _ => {}
        }
    }

    fn stop(&mut self, event: &Value, chunks: &mut Vec<Chunk>) {
        let Some(reason) = event["stopReason"].as_str() else { return };
        let reason = match reason {
            "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
            "stop_sequence" => FinishReason::StopSequence,
            "guardrail_intervened" | "content_filtered" | "refusal" => FinishReason::ContentFilter,
            "malformed_model_output" => return self.failed = Some("malformed model output"),
            "malformed_tool_use" => return self.failed = Some("malformed tool use"),
            "tool_use" if self.calls > 0 => FinishReason::ToolCalls,
            _ => FinishReason::Stop,
        };
        self.finished = true;
        let stop_sequence = &event["additionalModelResponseFields"]["stop_sequence"];
        chunks.push(Chunk::Finish {
            choice: 0,
            reason,
            stop_sequence: stop_sequence.as_str().map(str::to_owned),
        });
    }

    fn check_end(&self, without_end: ProviderErrorKind) -> Result<(), ProviderError> {
        if let Some(why) = self.failed {
            return Err(self.with_usage(unreadable(why)));
        }
        if self.finished {
            return Ok(());
        }
        let broken = ProviderError::new(without_end, "the answer broke before its end");
        Err(self.with_usage(broken))
    }

    fn with_usage(&self, error: ProviderError) -> ProviderError {
        ProviderError { usage: self.usage, ..error }
    }
}

/// AWS's event stream: frames with headers, a JSON payload and check sums.
#[derive(Debug, Default)]
pub struct Frames {
    reply: Reply,
    bytes: BytesMut,
    decoder: MessageFrameDecoder,
}

impl Frames {
    /// The stream of this answer at its beginning.
    pub fn new(reply: Reply) -> Self {
        Frames { reply, bytes: BytesMut::new(), decoder: MessageFrameDecoder::new() }
    }

    fn take(&mut self, message: &Message, chunks: &mut Vec<Chunk>) -> Result<(), ProviderError> {
        let header = |name: &str| {
            let header = message.headers().iter().find(|header| header.name().as_str() == name)?;
            header.value().as_string().ok().map(|value| value.as_str())
        };
        match header(":message-type").unwrap_or("event") {
            "event" => {
                let event = serde_json::from_slice(message.payload())
                    .map_err(|_| self.reply.with_usage(unreadable("an event is no JSON")))?;
                self.reply.event(header(":event-type").unwrap_or_default(), &event, chunks);
                let ended = self.reply.failed.is_some() && self.reply.usage.is_some();
                if ended { self.reply.check_end(ProviderErrorKind::Cut) } else { Ok(()) }
            }
            "exception" => {
                let told = header(":exception-type").unwrap_or_default();
                Err(self.reply.with_usage(exception(told, message.payload())))
            }
            _ => {
                let told = header(":error-code").unwrap_or_default();
                Err(self.reply.with_usage(exception(told, b"")))
            }
        }
    }
}

impl Decoder for Frames {
    fn push(&mut self, bytes: &[u8], chunks: &mut Vec<Chunk>) -> Result<(), ProviderError> {
        if self.bytes.len() + bytes.len() > MAX_FRAME_BYTES {
            return Err(self.reply.with_usage(unreadable("a frame is too long")));
        }
        self.bytes.extend_from_slice(bytes);
        while !self.reply.done {
            let frame = self.decoder.decode_frame(&mut self.bytes);
            match frame.map_err(|_| self.reply.with_usage(unreadable("a frame is broken")))? {
                DecodedFrame::Complete(message) => self.take(&message, chunks)?,
                DecodedFrame::Incomplete => break,
            }
        }
        Ok(())
    }

    fn end(&mut self, _chunks: &mut Vec<Chunk>) -> Result<(), ProviderError> {
        self.reply.check_end(ProviderErrorKind::Cut)
    }

    fn is_done(&self) -> bool {
        self.reply.done
    }
}

/// An exception inside a stream has the status that it would have had before it.
fn exception(told: &str, payload: &[u8]) -> ProviderError {
    let status = match told {
        "throttlingException" => 429,
        "validationException" => 400,
        "accessDeniedException" => 403,
        "modelTimeoutException" => 408,
        "serviceUnavailableException" => 503,
        // `internalServerException`, `modelStreamErrorException`, and what AWS adds.
        _ => 500,
    };
    let mut body: Value = serde_json::from_slice(payload).unwrap_or_default();
    if !body.is_object() {
        body = json!({});
    }
    // The shape that errors before a stream have.
    body["status"] = json!(status);
    let error = http::told_error(&body);
    ProviderError {
        status: None,
        detail: format!("the vendor broke the stream off (as with status {status})"),
        ..error
    }
}

/// Converse counts its input without what the cache took part in.
fn usage(counts: &Value) -> Option<Usage> {
    let count = |field: &str| counts[field].as_u64();
    let (input, output) = (count("inputTokens"), count("outputTokens"));
    let cache_read = count("cacheReadInputTokens").unwrap_or_default();
    let cache_write = count("cacheWriteInputTokens").unwrap_or_default();
    let cached = cache_read.saturating_add(cache_write);
    (input.is_some() || output.is_some()).then(|| Usage {
        input_tokens: input.map(|input| input.saturating_add(cached)),
        cached_input_tokens: cache_read,
        cache_write_tokens: cache_write,
        output_tokens: output,
        reasoning_tokens: 0,
    })
}

fn say(chunks: &mut Vec<Chunk>, text: &str) {
    if !text.is_empty() {
        chunks.push(Chunk::Text { choice: 0, text: text.to_owned() });
    }
}

fn reason(chunks: &mut Vec<Chunk>, reasoning: &Value) {
    let said =
        |field: &str| reasoning[field].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    if let Some(text) = said("text") {
        chunks.push(Chunk::Reasoning { choice: 0, text });
    }
    if let Some(signature) = said("signature") {
        chunks.push(Chunk::ReasoningSignature { choice: 0, signature });
    }
    if let Some(data) = said("redactedContent") {
        chunks.push(Chunk::RedactedReasoning { choice: 0, data });
    }
}

fn arguments(index: u32, arguments: &str) -> Chunk {
    let arguments = arguments.to_owned();
    Chunk::ToolCall { choice: 0, index, id: None, name: None, arguments, extra: None }
}
