//! Anthropic's Messages API, and every server that speaks it.
//!
//! [`fn@encode`] makes the body, [`whole`] and [`Reply`] read the answer; all three are pure. Knows
//! nothing of retries. The format is that of API version 2023-06-01.

use async_trait::async_trait;
use futures::future::try_join_all;
use reqwest::RequestBuilder;
use secrecy::ExposeSecret;
use url::Url;

use crate::config::{ProviderConfig, ProviderLimits};
use crate::provider::claude::Generation;
use crate::provider::http::{self, Http};
use crate::provider::{
    BuildError, ChunkStream, Embeddings, Provider, ProviderCall, ProviderError, ProviderErrorKind,
    events, fanout,
};
use crate::request::{ChatRequest, EmbedRequest, ResponseFormat};

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use decode::{Reply, whole};
pub use encode::{betas, encode};

/// The version of the format; Anthropic adds fields within it and removes none.
const VERSION: &str = "2023-06-01";

/// One configured access to Anthropic.
#[derive(Debug)]
pub struct AnthropicProvider {
    http: Http,
    messages: Url,
    api_key: Option<::http::HeaderValue>,
}

/// The access that a configuration describes.
pub fn new(config: &ProviderConfig) -> Result<AnthropicProvider, BuildError> {
    let failed = |why: String| BuildError { id: config.id.clone(), why };
    let messages = format!("{}/v1/messages", config.base_url.trim_end_matches('/'));
    let messages = Url::parse(&messages)
        .map_err(|error| failed(format!("`base_url` is no address: {error}")))?;
    let api_key = config
        .api_key
        .as_ref()
        .map(|key| http::secret_header(key.expose_secret(), "api_key"))
        .transpose()
        .map_err(failed)?;
    Ok(AnthropicProvider { http: Http::new(config)?, messages, api_key })
}

impl AnthropicProvider {
    fn request(&self, call: &ProviderCall) -> Result<RequestBuilder, ProviderError> {
        let body = encode(call)?;
        let mut request =
            self.http.post(self.messages.clone(), &body).header("anthropic-version", VERSION);
        if let Some(key) = &self.api_key {
            request = request.header("x-api-key", key.clone());
        }
        if let Some(betas) = betas(&call.request) {
            request = request.header("anthropic-beta", betas);
        }
        Ok(request)
    }

    async fn one(&self, call: &ProviderCall) -> Result<ChunkStream, ProviderError> {
        let request = self.request(call)?;
        let reply = Reply::to(call);
        let decoder = events::EventDecoder::new(reply.clone());
        let streamed = call.request.stream;
        let answer = self.http.chat(request, streamed, |body| whole(reply, body), decoder).await;
        answer.map_err(reread)
    }
}

/// An empty account is told as a wrong request; it is our access that is wrong, and another
/// deployment may take the call.
fn reread(error: ProviderError) -> ProviderError {
    let is_account = error.kind == ProviderErrorKind::BadRequest
        && error.vendor_says(&["credit balance is too low"]);
    match is_account {
        true => ProviderError { kind: ProviderErrorKind::Auth, vendor_message: None, ..error },
        false => error,
    }
}

#[async_trait]
impl Provider for AnthropicProvider {
    async fn chat(&self, call: ProviderCall) -> Result<ChunkStream, ProviderError> {
        // The format gives one answer to a call.
        if call.request.n <= 1 {
            return self.one(&call).await;
        }
        let answers = (0..call.request.n).map(|_| self.one(&call));
        Ok(fanout::merge(try_join_all(answers).await?))
    }

    async fn embed(&self, _call: ProviderCall<EmbedRequest>) -> Result<Embeddings, ProviderError> {
        Err(ProviderError::new(
            ProviderErrorKind::Unsupported,
            "Anthropic has no embeddings; configure an embedding model of another provider",
        ))
    }

    fn inputs_billed(&self, n: u32) -> u32 {
        n.max(1)
    }

    fn limits(&self) -> &ProviderLimits {
        self.http.limits()
    }
}

/// Older models keep to a schema only in the input of a tool; this is the tool's name.
const ANSWER_TOOL: &str = "json_answer";

/// Whether the answer's JSON comes as the input of [`ANSWER_TOOL`].
fn answers_by_tool(model: &str, request: &ChatRequest) -> bool {
    let wants_schema = matches!(request.response_format, ResponseFormat::JsonSchema { .. });
    wants_schema && !Generation::of(model).keeps_to_schema()
}
