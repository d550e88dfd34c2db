//! OpenAI, and every server that speaks its format: Mistral, vLLM, Ollama, llama.cpp, European
//! hosts.
//!
//! [`encode`] writes requests, [`decode`] reads answers, both pure; what is left here is the
//! address, the key and the two calls. Knows nothing of other vendors' formats.

use async_trait::async_trait;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use reqwest::RequestBuilder;
use secrecy::ExposeSecret;
use serde_json::Value;
use url::Url;

use crate::config::{ProviderConfig, ProviderLimits};
use crate::provider::http::{Http, secret_header};
use crate::provider::{BuildError, ChunkStream, Embeddings, Provider, ProviderCall, ProviderError};
use crate::request::EmbedRequest;

pub mod decode;
pub mod encode;

pub use encode::Flavour;

/// An access to a server that speaks OpenAI's format.
#[derive(Debug)]
pub struct OpenAiProvider {
    http: Http,
    flavour: Flavour,
    chat: Url,
    embeddings: Url,
    key: Option<(HeaderName, HeaderValue)>,
}

/// The access that a configuration describes; its base address ends in `/v1`.
pub fn new(config: &ProviderConfig) -> Result<OpenAiProvider, BuildError> {
    let failed = |why: String| BuildError { id: config.id.clone(), why };
    let base = Url::parse(&config.base_url)
        .map_err(|error| failed(format!("`base_url` is no address: {error}")))?;
    let key = match &config.api_key {
        Some(key) => {
            let bearer = format!("Bearer {}", key.expose_secret());
            Some((AUTHORIZATION, secret_header(&bearer, "api_key").map_err(failed)?))
        }
        // A server in the house often has no key.
        None => None,
    };
    Ok(OpenAiProvider {
        http: Http::new(config)?,
        flavour: Flavour::of_host(base.host_str().unwrap_or_default()),
        chat: below(&base, &["chat", "completions"]),
        embeddings: below(&base, &["embeddings"]),
        key,
    })
}

/// An address below another.
pub(crate) fn below(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

impl OpenAiProvider {
    fn post(&self, url: &Url, body: &Value) -> RequestBuilder {
        let request = self.http.post(url.clone(), body);
        match &self.key {
            Some((name, value)) => request.header(name, value),
            None => request,
        }
    }
}

#[async_trait]
impl Provider for OpenAiProvider {
    async fn chat(&self, call: ProviderCall) -> Result<ChunkStream, ProviderError> {
        let body = encode::chat(&call, self.flavour)?;
        let request = self.post(&self.chat, &body);
        let streamed = call.request.stream;
        self.http.chat(request, streamed, decode::whole, decode::Stream::new()).await
    }

    async fn embed(&self, call: ProviderCall<EmbedRequest>) -> Result<Embeddings, ProviderError> {
        let body = encode::embeddings(&call, self.flavour);
        let answer = self.http.whole(self.post(&self.embeddings, &body)).await?;
        decode::embeddings(&answer, call.request.input.len())
    }

    fn limits(&self) -> &ProviderLimits {
        self.http.limits()
    }
}
