//! No vendor: made-up answers for the demo and for tests, marked as such in their own text.
//!
//! Length, speed and usage are those of a real model, the language is the question's, and the
//! same request always gets the same answer. A model's *name* decides how good it acts:
//! `economy`, `standard` (also where no word is known) or `premium` somewhere in the name.
//! Names that are a [`Fault`]'s word misbehave on purpose; no prompt can make a model do that.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, Stream, StreamExt};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::config::{ProviderConfig, ProviderLimits, SimulatedConfig};
use crate::provider::http::{at_once, within};
use crate::provider::{
    BuildError, ChunkStream, Embeddings, Provider, ProviderCall, ProviderError, ProviderErrorKind,
};
use crate::reply::{Chunk, FinishReason, Usage};
use crate::request::{ChatRequest, EmbedRequest, Part, Tool, ToolChoice, word_enum};

mod sample;
mod words;

use words::{Ending, Language};

/// The length of a vector where the request names none.
const DIMENSIONS: usize = 256;

/// The longest vector that is made.
const MAX_DIMENSIONS: usize = 8192;

word_enum! {
    /// What a model of this name does wrong.
    Fault {
        /// Status 500.
        Fail500 = "fail-500",
        /// Status 503.
        Fail503 = "fail-503",
        /// Status 429 with a wish to wait one second.
        Fail429 = "fail-429",
        /// Status 400.
        Fail400 = "fail-400",
        /// Status 401.
        Fail401 = "fail-401",
        /// No connection.
        FailConnect = "fail-connect",
        /// Takes the call and says nothing, ever.
        Stall = "stall",
        /// Says five tokens, then nothing, ever.
        StallMidway = "stall-midway",
        /// Says five tokens, then the connection breaks.
        Cut = "cut",
        /// Answers without usage.
        NoUsage = "no-usage",
        /// Answers with a usage of zero.
        ZeroUsage = "zero-usage",
        /// A success that cannot be read; a stream says five tokens first.
        Malformed = "malformed",
        /// Like `malformed`, and tells its usage.
        MalformedWithUsage = "malformed-usage",
        /// Answers that it will not answer.
        Refuse = "refuse",
        /// Answers, but its log probabilities are low.
        Unsure = "unsure",
        /// Answers nothing, and tells its usage.
        Empty = "empty",
        /// Says the question back, so that a test sees what was sent.
        Echo = "echo",
    }
}

/// How good a model acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grade {
    Economy,
    Standard,
    Premium,
}

impl Grade {
    fn of_name(name: &str) -> Self {
        match name {
            _ if name.contains("economy") => Grade::Economy,
            _ if name.contains("premium") => Grade::Premium,
            _ => Grade::Standard,
        }
    }
}

/// The provider that asks nobody.
#[derive(Debug)]
pub struct SimulatedProvider {
    limits: ProviderLimits,
    knobs: SimulatedConfig,
}

/// The simulated access that a configuration describes.
pub fn new(config: &ProviderConfig) -> Result<SimulatedProvider, BuildError> {
    Ok(SimulatedProvider { limits: config.limits.clone(), knobs: config.simulated.clone() })
}

#[async_trait]
impl Provider for SimulatedProvider {
    async fn chat(&self, call: ProviderCall) -> Result<ChunkStream, ProviderError> {
        let started = Instant::now();
        let fault = Fault::from_word(&call.model);
        if let Some(error) = fault.and_then(status) {
            return Err(error);
        }
        let script = script(&call, fault);
        if call.request.stream {
            let played = Box::pin(played(script, self.knobs.clone(), started));
            return Ok(within(self.limits.clone(), started, played).boxed());
        }
        let mut whole = Box::pin(played(script, self.knobs.clone(), started));
        let collecting = async {
            let mut chunks = Vec::new();
            while let Some(chunk) = whole.next().await {
                chunks.push(chunk?);
            }
            Ok(chunks)
        };
        tokio::time::timeout_at(started + self.limits.total, collecting)
            .await
            .map_err(|_| ProviderError::new(ProviderErrorKind::Timeout, "no answer in time"))?
            .map(at_once)
    }

    async fn embed(&self, call: ProviderCall<EmbedRequest>) -> Result<Embeddings, ProviderError> {
        let fault = Fault::from_word(&call.model);
        if let Some(error) = fault.and_then(status) {
            return Err(error);
        }
        if self.knobs.tokens_per_second > 0 {
            tokio::time::sleep(Duration::from_millis(self.knobs.first_token_ms)).await;
        }
        let request = &*call.request;
        let length = request.dimensions.map_or(DIMENSIONS, |length| length as usize);
        let length = length.clamp(1, MAX_DIMENSIONS);
        let counted = request.input.iter().map(|text| words::count(text)).sum();
        let usage = match fault {
            Some(Fault::NoUsage) => Usage::default(),
            _ => Usage { input_tokens: Some(counted), output_tokens: Some(0), ..Usage::default() },
        };
        Ok(Embeddings {
            vectors: request.input.iter().map(|text| words::vector(text, length)).collect(),
            usage,
            vendor_model: Some(vendor_model(&call.model)),
        })
    }

    fn limits(&self) -> &ProviderLimits {
        &self.limits
    }
}

/// The faults that end a call before it is answered.
fn status(fault: Fault) -> Option<ProviderError> {
    use ProviderErrorKind::{Auth, BadRequest, Connect, RateLimited, Server};
    let (kind, status) = match fault {
        Fault::Fail500 => (Server, Some(500)),
        Fault::Fail503 => (Server, Some(503)),
        Fault::Fail429 => (RateLimited, Some(429)),
        Fault::Fail400 => (BadRequest, Some(400)),
        Fault::Fail401 => (Auth, Some(401)),
        Fault::FailConnect => (Connect, None),
        _ => return None,
    };
    let detail = status.map_or("no connection".to_owned(), |status| format!("status {status}"));
    Some(ProviderError {
        status,
        retry_after: (fault == Fault::Fail429).then_some(Duration::from_secs(1)),
        ..ProviderError::new(kind, detail)
    })
}

fn vendor_model(name: &str) -> String {
    if name.starts_with("simulated") { name.to_owned() } else { format!("simulated-{name}") }
}

/// One thing to say.
#[derive(Debug)]
enum Line {
    /// At once, with what came before.
    Say(Chunk),
    /// After the time that one token takes.
    Token(Chunk),
    /// The end, badly.
    Fail(ProviderError),
    /// Nothing more, ever.
    Silence,
}

/// Everything that will be said, without the time. Pure: the same call gives the same script.
fn script(call: &ProviderCall, fault: Option<Fault>) -> Vec<Line> {
    let request = &*call.request;
    let input = input_tokens(request);
    let mut lines = vec![Line::Say(Chunk::Started {
        vendor_model: Some(vendor_model(&call.model)),
        vendor_id: Some(format!("sim-{:016x}", words::hash(&call.model, &seed_text(request)))),
    })];
    let mut output = 0;
    let mut finishes = Vec::new();
    for choice in 0..request.n.max(1) {
        let answer = Answer::to(call, fault, choice);
        output += answer.tokens;
        finishes.push(Line::Say(answer.finish));
        lines.extend(answer.lines);
    }
    let usage =
        Usage { input_tokens: Some(input), output_tokens: Some(output), ..Usage::default() };
    match fault {
        Some(Fault::Stall) => {
            lines.truncate(1);
            lines.push(Line::Silence);
            return lines;
        }
        Some(Fault::StallMidway) => return after_five_tokens(lines, Line::Silence),
        Some(Fault::Cut) => {
            let cut = ProviderError::new(ProviderErrorKind::Cut, "the connection broke");
            return after_five_tokens(lines, Line::Fail(cut));
        }
        Some(fault @ (Fault::Malformed | Fault::MalformedWithUsage)) => {
            let told = (fault == Fault::MalformedWithUsage).then_some(usage);
            let error = ProviderErrorKind::Malformed;
            let error = ProviderError { usage: told, ..ProviderError::new(error, "no JSON") };
            return after_five_tokens(lines, Line::Fail(error));
        }
        _ => {}
    }
    lines.extend(finishes);
    match fault {
        Some(Fault::NoUsage) => {}
        Some(Fault::ZeroUsage) => lines.push(Line::Say(Chunk::Usage(Usage {
            input_tokens: Some(0),
            output_tokens: Some(0),
            ..Usage::default()
        }))),
        _ => lines.push(Line::Say(Chunk::Usage(usage))),
    }
    lines
}

fn after_five_tokens(mut lines: Vec<Line>, end: Line) -> Vec<Line> {
    let sixth = lines.iter().enumerate().filter(|(_, line)| matches!(line, Line::Token(_))).nth(5);
    let keep = sixth.map_or(lines.len(), |(position, _)| position);
    lines.truncate(keep);
    lines.push(end);
    lines
}

/// One of the answers to a request.
struct Answer {
    lines: Vec<Line>,
    tokens: u64,
    finish: Chunk,
}

impl Answer {
    fn to(call: &ProviderCall, fault: Option<Fault>, choice: u32) -> Self {
        let request = &*call.request;
        if let Some(tool) = tool_to_call(request) {
            return Answer::calling(tool, request, choice);
        }
        let (text, ending) = said(call, fault, choice);
        let wants_logprobs = request.logprobs || call.logprobs_for_judge;
        let mut lines = Vec::new();
        let mut tokens = 0;
        for token in words::tokens(&text) {
            tokens += 1;
            lines.push(Line::Token(Chunk::Text { choice, text: token.to_owned() }));
            if wants_logprobs {
                let content = vec![logprob(token, tokens, fault, request.top_logprobs)];
                lines.push(Line::Say(Chunk::Logprobs { choice, content }));
            }
        }
        let (reason, stop_sequence) = match ending {
            Ending::Stop => (FinishReason::Stop, None),
            Ending::Met(stop) => (FinishReason::StopSequence, Some(stop)),
            Ending::Length => (FinishReason::Length, None),
        };
        Answer { lines, tokens, finish: Chunk::Finish { choice, reason, stop_sequence } }
    }

    fn calling(tool: &Tool, request: &ChatRequest, choice: u32) -> Self {
        let language = Language::of(&seed_text(request));
        let none = json!({ "type": "object", "properties": {} });
        let schema = tool.parameters.as_ref().unwrap_or(&none);
        let arguments = sample::of(schema, language.mark()).to_string();
        let id = format!("call_sim{:012x}", words::hash(&tool.name, &seed_text(request)) >> 16);
        let piece = |id: Option<String>, name: Option<String>, arguments: &str| Chunk::ToolCall {
            choice,
            index: 0,
            id,
            name,
            arguments: arguments.to_owned(),
            extra: None,
        };
        let mut lines = vec![Line::Token(piece(Some(id), Some(tool.name.clone()), ""))];
        lines.extend(words::tokens(&arguments).map(|token| Line::Token(piece(None, None, token))));
        let finish = Chunk::Finish { choice, reason: FinishReason::ToolCalls, stop_sequence: None };
        Answer { tokens: lines.len() as u64, lines, finish }
    }
}

/// The tool that must be called, if one must.
fn tool_to_call(request: &ChatRequest) -> Option<&Tool> {
    match request.tool_choice.as_ref()? {
        ToolChoice::Required => request.tools.first(),
        ToolChoice::Named(name) => request.tools.iter().find(|tool| tool.name == *name),
        ToolChoice::Auto | ToolChoice::None => None,
    }
}

/// The text of an answer within its limits, and how it ends.
fn said(call: &ProviderCall, fault: Option<Fault>, choice: u32) -> (String, Ending) {
    use crate::request::ResponseFormat;
    let request = &*call.request;
    let question = seed_text(request);
    let language = Language::of(&question);
    let text = match (&request.response_format, fault) {
        (_, Some(Fault::Empty)) => String::new(),
        (_, Some(Fault::Refuse)) => words::refusal(language),
        (_, Some(Fault::Echo)) => format!("{} {question}", language.mark()),
        (ResponseFormat::JsonSchema { schema, .. }, _) => {
            sample::of(schema, language.mark()).to_string()
        }
        (ResponseFormat::JsonObject, _) => {
            json!({ "simulated": true, "answer": language.mark() }).to_string()
        }
        (ResponseFormat::Text, _) => {
            words::answer(&call.model, &question, language, Grade::of_name(&call.model), choice)
        }
    };
    words::limited(text, &request.stop, request.max_output_tokens)
}

/// What the answer depends on: the last thing that the person said.
fn seed_text(request: &ChatRequest) -> String {
    request.last_user().map(crate::request::Message::joined_text).unwrap_or_default()
}

/// A log probability in OpenAI's shape: near certainty, or near guessing where that is the fault.
fn logprob(token: &str, position: u64, fault: Option<Fault>, alternatives: Option<u8>) -> Value {
    // Steps of a hundredth, so that not every token looks the same.
    let step = (position * 7 % 10) as f64 / 100.0;
    let logprob = if fault == Some(Fault::Unsure) { -2.0 - step } else { -0.01 - step };
    let shape = |token: &str, logprob: f64| json!({ "token": token, "logprob": logprob, "bytes": token.as_bytes() });
    let mut told = shape(token, logprob);
    let others = (1..=alternatives.unwrap_or(0)).map(|rank| {
        let token = if rank == 1 { token.to_owned() } else { format!("{token}{rank}") };
        shape(&token, logprob - f64::from(rank - 1))
    });
    told["top_logprobs"] = Value::Array(others.collect());
    told
}

/// Everything that is sent, in the simulated tokenizer's tokens: never more of them than a real
/// tokenizer would count, so that a hold stays a bound.
fn input_tokens(request: &ChatRequest) -> u64 {
    let parts = |part: &Part| match part {
        Part::Text { text, .. } => words::count(text),
        Part::Image { .. } => 85,
        _ => 0,
    };
    let messages = request.messages.iter().map(|message| {
        let calls = message.tool_calls.iter().map(|call| words::count(&call.arguments) + 3);
        3 + message.parts.iter().map(parts).sum::<u64>() + calls.sum::<u64>()
    });
    let tools = request
        .tools
        .iter()
        .map(|tool| words::count(&tool.name) + tool.description.as_deref().map_or(0, words::count));
    messages.sum::<u64>() + tools.sum::<u64>()
}

/// The script with its time: `first_token_ms` before the first token, then the configured
/// speed; everything at once where the speed is 0.
fn played(
    script: Vec<Line>,
    knobs: SimulatedConfig,
    started: Instant,
) -> impl Stream<Item = Result<Chunk, ProviderError>> + Send {
    let playing = (script.into_iter(), 0_u64);
    stream::unfold(playing, move |(mut lines, mut tokens)| {
        let knobs = knobs.clone();
        async move {
            let said = match lines.next()? {
                Line::Say(chunk) => Ok(chunk),
                Line::Fail(error) => Err(error),
                Line::Silence => std::future::pending().await,
                Line::Token(chunk) => {
                    if let Some(due) = due(&knobs, tokens) {
                        tokio::time::sleep_until(started + due).await;
                    }
                    tokens += 1;
                    Ok(chunk)
                }
            };
            Some((said, (lines, tokens)))
        }
    })
}

/// When a token is due, counted from the call; `None`: at once.
fn due(knobs: &SimulatedConfig, tokens_before: u64) -> Option<Duration> {
    let speed = u64::from(knobs.tokens_per_second);
    let since_first = (tokens_before * 1_000_000).checked_div(speed)?;
    Some(Duration::from_millis(knobs.first_token_ms) + Duration::from_micros(since_first))
}

#[cfg(test)]
mod tests;
