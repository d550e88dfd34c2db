//! Google's Gemini API (`generateContent`), version v1beta.
//!
//! [`fn@encode`] makes the body, [`whole`] and [`Reply`] read the answer; all three are pure.
//! Vectors are in [`embed`]. Knows nothing of retries, nor of Vertex AI's sign-in.

use async_trait::async_trait;
use reqwest::RequestBuilder;
use secrecy::ExposeSecret;
use serde_json::Value;
use url::Url;

use crate::config::{ProviderConfig, ProviderLimits};
use crate::provider::http::{self, Http};
use crate::provider::{
    BuildError, ChunkStream, Embeddings, Provider, ProviderCall, ProviderError, events, turns,
};
use crate::request::EmbedRequest;

mod decode;
pub mod embed;
mod encode;
#[cfg(test)]
mod tests;

pub use decode::{Reply, whole};
pub use encode::encode;

/// One configured access to Gemini.
#[derive(Debug)]
pub struct GeminiProvider {
    http: Http,
    base: Url,
    api_key: Option<::http::HeaderValue>,
}

/// The access that a configuration describes.
pub fn new(config: &ProviderConfig) -> Result<GeminiProvider, BuildError> {
    let failed = |why: String| BuildError { id: config.id.clone(), why };
    let base = Url::parse(&config.base_url)
        .map_err(|error| failed(format!("`base_url` is no address: {error}")))?;
    if base.cannot_be_a_base() {
        return Err(failed("`base_url` is no address of a server".to_owned()));
    }
    let api_key = config
        .api_key
        .as_ref()
        .map(|key| http::secret_header(key.expose_secret(), "api_key"))
        .transpose()
        .map_err(failed)?;
    Ok(GeminiProvider { http: Http::new(config)?, base, api_key })
}

impl GeminiProvider {
    fn post(&self, model: &str, method: &str, body: &Value) -> RequestBuilder {
        let request = self.http.post(self.url(model, method), body);
        match &self.api_key {
            Some(key) => request.header("x-goog-api-key", key.clone()),
            None => request,
        }
    }

    /// `{base}/v1beta/models/{model}:{method}`; a name that brings its folder keeps it
    /// (`tunedModels/…`).
    fn url(&self, model: &str, method: &str) -> Url {
        let path = embed::resource(model);
        let (folder, name) = path.split_once('/').unwrap_or(("models", &path));
        let mut url = self.base.clone();
        turns::push_segments(&mut url, &["v1beta", folder, &format!("{name}:{method}")]);
        if method == "streamGenerateContent" {
            url.set_query(Some("alt=sse"));
        }
        url
    }
}

#[async_trait]
impl Provider for GeminiProvider {
    async fn chat(&self, call: ProviderCall) -> Result<ChunkStream, ProviderError> {
        let body = encode(&call)?;
        let streamed = call.request.stream;
        let method = if streamed { "streamGenerateContent" } else { "generateContent" };
        let request = self.post(&call.model, method, &body);
        let decoder = events::EventDecoder::new(Reply::default());
        self.http.chat(request, streamed, whole, decoder).await
    }

    async fn embed(&self, call: ProviderCall<EmbedRequest>) -> Result<Embeddings, ProviderError> {
        let mut all = Embeddings { vendor_model: None, ..embed::none() };
        for body in embed::encode(&call) {
            let request = self.post(&call.model, "batchEmbedContents", &body);
            let answer = self.http.whole(request).await?;
            embed::decode(&answer, &call.request, &mut all)?;
        }
        embed::all_there(&call.request, all)
    }

    fn limits(&self) -> &ProviderLimits {
        self.http.limits()
    }
}
