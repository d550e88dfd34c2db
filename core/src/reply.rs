//! What comes back: pieces of an answer, what they used, and how a call ended.
//!
//! [`Chunk`] is what a provider says; [`Event`] is what the walk says to a face; [`Failure`] is
//! a refusal or an error, with its reason in German and English.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ids::{ModelId, Node, RequestId};
use crate::money::{Cost, Currency};
use crate::request::{Dialect, Locale};
use crate::trace::Trace;

/// Why a model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// It was done, or met a stop text.
    Stop,
    /// It met a stop text and the vendor said so (Anthropic's `stop_sequence`).
    StopSequence,
    /// The output limit.
    Length,
    /// It wants tools called.
    ToolCalls,
    /// The vendor's filter.
    ContentFilter,
}

/// Tokens as a vendor tells them; `None`: it did not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// All input, cached and cache-written included.
    pub input_tokens: Option<u64>,
    /// Of the input: read from the vendor's cache.
    pub cached_input_tokens: u64,
    /// Of the input: written into the vendor's cache.
    pub cache_write_tokens: u64,
    /// All output, reasoning included.
    pub output_tokens: Option<u64>,
    /// Of the output: reasoning.
    pub reasoning_tokens: u64,
}

impl Usage {
    /// What a later report adds: a later figure replaces an earlier one.
    pub fn merge(&mut self, later: Usage) {
        self.input_tokens = later.input_tokens.or(self.input_tokens);
        self.output_tokens = later.output_tokens.or(self.output_tokens);
        self.cached_input_tokens = later.cached_input_tokens.max(self.cached_input_tokens);
        self.cache_write_tokens = later.cache_write_tokens.max(self.cache_write_tokens);
        self.reasoning_tokens = later.reasoning_tokens.max(self.reasoning_tokens);
    }
}

/// One piece of what a provider says. `choice` counts from 0 where several answers were asked for.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "chunk", rename_all = "snake_case")]
pub enum Chunk {
    /// The vendor has taken the call. No token.
    Started {
        /// The model version that the vendor says it runs.
        vendor_model: Option<String>,
        /// The vendor's id for the answer.
        vendor_id: Option<String>,
    },
    /// A piece of text.
    Text {
        /// Which answer.
        choice: u32,
        /// The piece.
        text: String,
    },
    /// A piece of the model's thinking.
    Reasoning {
        /// Which answer.
        choice: u32,
        /// The piece.
        text: String,
    },
    /// The vendor's signature over the thinking so far.
    ReasoningSignature {
        /// Which answer.
        choice: u32,
        /// The signature.
        signature: String,
    },
    /// A thought that the vendor keeps to itself.
    RedactedReasoning {
        /// Which answer.
        choice: u32,
        /// The vendor's sealed data.
        data: String,
    },
    /// A piece of a tool call. The first piece of a call carries id and name.
    ToolCall {
        /// Which answer.
        choice: u32,
        /// Which call of that answer, from 0.
        index: u32,
        /// The call's id.
        id: Option<String>,
        /// The tool's name.
        name: Option<String>,
        /// A piece of the arguments' JSON text.
        arguments: String,
        /// Fields without a shared word, to be handed back in the next turn.
        extra: Option<Map<String, Value>>,
    },
    /// Log probabilities of the tokens so far, in OpenAI's shape (`{token, logprob, bytes, top_logprobs}`).
    Logprobs {
        /// Which answer.
        choice: u32,
        /// One object per token.
        content: Vec<Value>,
    },
    /// Fields of the answer without a shared word (`annotations`, `refusal`, `service_tier`, …).
    Extra {
        /// Whose format they are.
        dialect: Dialect,
        /// Which answer; `None`: the whole reply.
        choice: Option<u32>,
        /// The fields as they were.
        fields: Map<String, Value>,
    },
    /// Tokens used so far.
    Usage(Usage),
    /// One answer is whole.
    Finish {
        /// Which answer.
        choice: u32,
        /// Why.
        reason: FinishReason,
        /// The stop text that was met, if the vendor tells.
        stop_sequence: Option<String>,
    },
}

impl Chunk {
    /// Whether this is a token in the contract's sense: a non-empty piece of text, reasoning or
    /// tool arguments.
    pub fn is_token(&self) -> bool {
        match self {
            Chunk::Text { text, .. } | Chunk::Reasoning { text, .. } => !text.is_empty(),
            Chunk::ToolCall { arguments, name, .. } => !arguments.is_empty() || name.is_some(),
            _ => false,
        }
    }
}

/// Shows the kind and never the text.
impl std::fmt::Debug for Chunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Chunk::Started { vendor_model, .. } => write!(f, "Started({vendor_model:?})"),
            Chunk::Text { text, .. } => write!(f, "Text({} bytes)", text.len()),
            Chunk::Reasoning { text, .. } => write!(f, "Reasoning({} bytes)", text.len()),
            Chunk::ReasoningSignature { .. } => f.write_str("ReasoningSignature"),
            Chunk::RedactedReasoning { .. } => f.write_str("RedactedReasoning"),
            Chunk::ToolCall { index, name, .. } => write!(f, "ToolCall({index}, {name:?})"),
            Chunk::Logprobs { content, .. } => write!(f, "Logprobs({})", content.len()),
            Chunk::Extra { .. } => f.write_str("Extra"),
            Chunk::Usage(usage) => usage.fmt(f),
            Chunk::Finish { reason, .. } => write!(f, "Finish({reason:?})"),
        }
    }
}

/// What the walk tells a face while it answers.
#[derive(Debug, Clone)]
pub enum Event {
    /// An attempt has begun to answer (its first token, or its end, is here).
    Started {
        /// 1, 2, …
        attempt: u32,
        /// Who answers.
        model: ModelId,
        /// Whether the answer may still be rejected by the judge. Faces that cannot take back
        /// what they showed hold the pieces until `Accepted`.
        provisional: bool,
        /// What was decided so far.
        trace: Arc<Trace>,
    },
    /// A piece of the answer.
    Chunk {
        /// Of which attempt.
        attempt: u32,
        /// The piece.
        chunk: Chunk,
    },
    /// A provisional attempt was found good enough.
    Accepted {
        /// Which.
        attempt: u32,
    },
    /// A provisional attempt was rejected: forget its pieces, a stronger model answers.
    Escalated {
        /// The attempt that is taken back.
        attempt: u32,
        /// Whose answer it was.
        from: ModelId,
        /// Who answers next.
        to: ModelId,
    },
    /// An attempt broke after its first token: another model goes on from the beginning.
    FailedOver {
        /// The attempt that broke.
        attempt: u32,
        /// Who broke.
        from: ModelId,
        /// Who answers next.
        to: ModelId,
    },
    /// The answer is whole, judged, settled and booked.
    Done(Box<Done>),
    /// It will not be whole. Nothing follows.
    Failed(Box<Failure>),
}

/// The end of an answered call.
#[derive(Debug, Clone)]
pub struct Done {
    /// Which attempt answered.
    pub attempt: u32,
    /// Who answered.
    pub model: ModelId,
    /// The version that the vendor says it ran.
    pub vendor_model: Option<String>,
    /// Tokens of the answering attempt: the vendor's, or counted where it told none.
    pub usage: Usage,
    /// Whether any figure of `usage` was counted here.
    pub estimated: bool,
    /// What all attempts of the call cost together.
    pub cost: Cost,
    /// Of which currency.
    pub currency: Currency,
    /// Everything that was decided.
    pub trace: Arc<Trace>,
}

/// Vectors, booked.
#[derive(Debug, Clone)]
pub struct Embedded {
    /// One vector per text, in order.
    pub vectors: Vec<Vec<f32>>,
    /// The end of the call.
    pub done: Done,
}

/// The kinds that faces branch on; `gateway` maps them to a status and a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The request is wrong.
    BadInput,
    /// No key, or not one of ours.
    Unauthenticated,
    /// A budget would be overspent.
    OverBudget,
    /// The data may not go to any model that could answer.
    Zone,
    /// The caller may not use any model that could answer.
    Governance,
    /// A guard stopped the request.
    Guard,
    /// There is no such model.
    ModelNotFound,
    /// There is no such policy.
    PolicyNotFound,
    /// The request is too large for every model that may answer, or for us.
    TooLarge,
    /// Too many requests, tokens or calls at once.
    RateLimited,
    /// The caller's own time limit.
    CallerTimeout,
    /// A vendor took too long.
    UpstreamTimeout,
    /// A vendor failed.
    Upstream,
    /// What is permitted is not healthy.
    NoCandidate,
    /// The server is stopping.
    ShuttingDown,
    /// Our own fault.
    Internal,
}

impl FailureKind {
    /// The code of the contract.
    pub fn code(self) -> &'static str {
        match self {
            FailureKind::BadInput => "bad_input",
            FailureKind::Unauthenticated => "invalid_api_key",
            FailureKind::OverBudget => "budget_exceeded",
            FailureKind::Zone => "zone",
            FailureKind::Governance => "governance",
            FailureKind::Guard => "guard",
            FailureKind::ModelNotFound => "model_not_found",
            FailureKind::PolicyNotFound => "policy_not_found",
            FailureKind::TooLarge => "too_large",
            FailureKind::RateLimited => "rate_limited",
            FailureKind::CallerTimeout | FailureKind::UpstreamTimeout => "timeout",
            FailureKind::Upstream => "upstream",
            FailureKind::NoCandidate => "no_candidate",
            FailureKind::ShuttingDown => "shutting_down",
            FailureKind::Internal => "internal",
        }
    }
}

/// What a refused budget tells: which level, what is left, when it renews.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetRefusal {
    /// The level that has not enough left.
    pub node: Node,
    /// `day`, `week`, `month`, `quarter`, `year`.
    pub period: crate::request::BudgetPeriod,
    /// Its limit.
    pub limit: Cost,
    /// What is neither spent nor held.
    pub left: Cost,
    /// What the call would have held.
    pub needed: Cost,
    /// When the next period begins.
    pub renews_at: Timestamp,
}

/// A text in both languages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Words {
    /// English.
    pub en: String,
    /// German.
    pub de: String,
}

impl Words {
    /// Both languages at once, English first.
    pub fn new(en: impl Into<String>, de: impl Into<String>) -> Self {
        Words { en: en.into(), de: de.into() }
    }

    /// The text in this language.
    pub fn in_locale(&self, locale: Locale) -> &str {
        match locale {
            Locale::En => &self.en,
            Locale::De => &self.de,
        }
    }
}

/// A call that was refused or failed, with the reason and the way out for the person.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// Of which request.
    pub request_id: RequestId,
    /// What faces branch on.
    pub kind: FailureKind,
    /// Reason and way out. Never contains text of prompt or answer, nor a vendor's error body.
    pub message: Words,
    /// The field of the request that is wrong, for bad input.
    pub param: Option<String>,
    /// Set for `OverBudget`.
    pub budget: Option<BudgetRefusal>,
    /// Seconds after which another try may succeed.
    pub retry_after_s: Option<u64>,
    /// What was decided up to here.
    pub trace: Option<Arc<Trace>>,
    /// What the attempts so far cost.
    pub cost: Cost,
}

impl Failure {
    /// A failure without further detail.
    pub fn new(request_id: RequestId, kind: FailureKind, message: Words) -> Self {
        Failure {
            request_id,
            kind,
            message,
            param: None,
            budget: None,
            retry_after_s: None,
            trace: None,
            cost: Cost::ZERO,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind.code(), self.message.en)
    }
}

impl std::error::Error for Failure {}
