//! The only code that calls a model.
//!
//! A [`Provider`] turns one [`ProviderCall`] into its vendor's format, sends it, and turns what
//! comes back into [`Chunk`]s. It makes exactly one try; retries, fail-over, holds and redaction
//! are the engine's. Knows nothing of callers, budgets or policies. Start with [`build`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::config::{ProviderConfig, ProviderKind, ProviderLimits};
use crate::reply::{Chunk, Usage};
use crate::request::{ChatRequest, EmbedRequest};

pub mod anthropic;
pub mod azure;
pub mod bedrock;
mod claude;
pub mod events;
mod fanout;
pub mod gemini;
pub mod http;
pub mod openai;
mod schema;
pub mod simulated;
pub mod sse;
#[cfg(test)]
#[allow(clippy::result_large_err, reason = "a test helper tells both what came and what broke")]
mod tests;
mod turns;

/// One try at one deployment.
#[derive(Debug, Clone)]
pub struct ProviderCall<R = ChatRequest> {
    /// The vendor's name for the model (Azure: the deployment).
    pub model: String,
    /// The question, redacted where it must be; `max_output_tokens` is always set for chat.
    pub request: Arc<R>,
    /// Whether log probabilities are wanted for the judge though the caller did not ask.
    pub logprobs_for_judge: bool,
}

/// What a vendor says, piece by piece. A whole answer is the same pieces at once.
///
/// The stream ends after the last `Finish` and `Usage`, or with one error. A stream that ends
/// without `Finish` is a cut (the provider yields the error itself). Dropping it cancels the
/// vendor's call.
pub type ChunkStream = BoxStream<'static, Result<Chunk, ProviderError>>;

/// Vectors and what they used.
#[derive(Debug, Clone)]
pub struct Embeddings {
    /// One per text, in order.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens.
    pub usage: Usage,
    /// The version that the vendor says it ran.
    pub vendor_model: Option<String>,
}

/// A vendor's access that can be called.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// One try: streamed if the request says so, else asked for whole.
    ///
    /// Resolves when the vendor has answered with a status (so an error status is an error
    /// here), before the first token. Time limits of connection, idle and total are kept here;
    /// the first-token limit too.
    async fn chat(&self, call: ProviderCall) -> Result<ChunkStream, ProviderError>;

    /// Vectors, if the vendor has them.
    async fn embed(&self, call: ProviderCall<EmbedRequest>) -> Result<Embeddings, ProviderError>;

    /// How many times a call that wants `n` answers is billed its input: `n` where the vendor
    /// gives one answer to a call, so that the hold must hold the input `n` times too.
    fn inputs_billed(&self, n: u32) -> u32 {
        let _ = n;
        1
    }

    /// The limits that the configuration gives.
    fn limits(&self) -> &ProviderLimits;
}

/// What went wrong at a vendor; decides about retry and ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderErrorKind {
    /// No connection (refused, DNS, TLS, connection limit). Nothing was sent, nothing is billed.
    Connect,
    /// 429.
    RateLimited,
    /// 5xx and overload (Anthropic's 529).
    Server,
    /// The vendor says that the request is wrong (400, 413, 422, …): the caller's fault, no
    /// other deployment will take it.
    BadRequest,
    /// The prompt is too long for the model: another model may take it.
    ContextLength,
    /// The vendor's content filter refused the prompt.
    ContentFilter,
    /// Our own guard withheld the answer; the detail is its sign. No vendor's fault.
    Withheld,
    /// 401, 403: our access is wrong. Another deployment may work.
    Auth,
    /// 404: no such model there.
    NotFound,
    /// First-token, idle or total limit: nothing for too long.
    Timeout,
    /// The connection broke after the question was sent: the vendor may bill it.
    Cut,
    /// A success that cannot be read.
    Malformed,
    /// This provider cannot do what was asked (embeddings at Anthropic).
    Unsupported,
}

/// One failed try.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{detail}")]
pub struct ProviderError {
    /// What faces and the engine branch on.
    pub kind: ProviderErrorKind,
    /// The vendor's status, if there was one.
    pub status: Option<u16>,
    /// The vendor's `retry-after`.
    pub retry_after: Option<Duration>,
    /// A short phrase without any text of prompt, answer or the vendor's error body:
    /// `status 500`, `no first token within 60 s`.
    pub detail: String,
    /// The vendor's own message, for the caller of a `BadRequest` only: it may quote the prompt,
    /// so it goes to the caller and never to a log.
    pub vendor_message: Option<VendorMessage>,
    /// Usage that the vendor told before or with the failure.
    pub usage: Option<Usage>,
}

/// A vendor's error text. `Debug` hides it.
#[derive(Clone)]
pub struct VendorMessage(pub Box<str>);

impl std::fmt::Debug for VendorMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VendorMessage(…)")
    }
}

impl ProviderError {
    /// An error with nothing but its kind and a phrase.
    pub fn new(kind: ProviderErrorKind, detail: impl Into<String>) -> Self {
        ProviderError {
            kind,
            status: None,
            retry_after: None,
            detail: detail.into(),
            vendor_message: None,
            usage: None,
        }
    }

    /// Whether the vendor's message holds one of these phrases, given in lower case: for what
    /// vendors have no code for.
    fn vendor_says(&self, phrases: &[&str]) -> bool {
        let Some(VendorMessage(message)) = &self.vendor_message else { return false };
        let message = message.to_lowercase();
        phrases.iter().any(|phrase| message.contains(phrase))
    }

    /// Whether the same deployment may be tried again (before the first token).
    pub fn may_retry(&self) -> bool {
        use ProviderErrorKind::*;
        matches!(self.kind, Connect | RateLimited | Server)
    }
}

/// Why a provider cannot be made from its configuration.
#[derive(Debug, thiserror::Error)]
#[error("provider `{id}` cannot be set up: {why}")]
pub struct BuildError {
    /// Which.
    pub id: crate::ids::ProviderId,
    /// Why.
    pub why: String,
}

/// Makes the provider that a configuration describes. One HTTP client per provider, connections
/// kept alive.
pub fn build(config: &ProviderConfig) -> Result<Arc<dyn Provider>, BuildError> {
    Ok(match config.kind {
        ProviderKind::OpenAi => Arc::new(openai::new(config)?),
        ProviderKind::Azure => Arc::new(azure::new(config)?),
        ProviderKind::Anthropic => Arc::new(anthropic::new(config)?),
        ProviderKind::Gemini => Arc::new(gemini::new(config)?),
        ProviderKind::Bedrock => Arc::new(bedrock::new(config)?),
        ProviderKind::Simulated => Arc::new(simulated::new(config)?),
    })
}
