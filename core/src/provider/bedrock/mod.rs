//! AWS Bedrock: Converse and ConverseStream for chat, InvokeModel for vectors.
//!
//! [`fn@encode`] makes the body, [`whole`] and [`Reply`] read the answer; all three are pure.
//! [`sign`] is Signature Version 4 by AWS's own crate. Knows nothing of retries, nor of where
//! credentials come from.

use std::time::SystemTime;

use async_trait::async_trait;
use aws_credential_types::Credentials;
use bytes::Bytes;
use futures::future::try_join_all;
use futures::stream::{self, StreamExt, TryStreamExt};
use http::HeaderMap;
use reqwest::RequestBuilder;
use secrecy::ExposeSecret;
use serde_json::Value;
use url::Url;

use crate::config::{ProviderConfig, ProviderLimits};
use crate::provider::claude::Generation;
use crate::provider::http::{self as wire, Http};
use crate::provider::{
    BuildError, ChunkStream, Embeddings, Provider, ProviderCall, ProviderError, ProviderErrorKind,
    fanout,
};
use crate::request::{ChatRequest, EmbedRequest, ResponseFormat};

mod decode;
pub mod embed;
mod encode;
mod sign;
#[cfg(test)]
mod tests;

pub use decode::{Frames, Reply, whole};
pub use encode::encode;

/// How many calls for vectors run at once, where the model takes one text to a call.
const VECTORS_AT_ONCE: usize = 8;

/// One configured access to Bedrock.
#[derive(Debug)]
pub struct BedrockProvider {
    http: Http,
    base: Url,
    access: Access,
}

/// How a call shows who it is.
#[derive(Debug)]
enum Access {
    /// A Bedrock API key.
    Bearer(::http::HeaderValue),
    /// An access key and its secret; `Credentials` hides the secret in `Debug`.
    Signed { credentials: Credentials, region: String },
}

/// The access that a configuration describes.
pub fn new(config: &ProviderConfig) -> Result<BedrockProvider, BuildError> {
    let failed = |why: String| BuildError { id: config.id.clone(), why };
    let base = Url::parse(&config.base_url)
        .map_err(|error| failed(format!("`base_url` is no address: {error}")))?;
    let access = access(config).map_err(failed)?;
    Ok(BedrockProvider { http: Http::new(config)?, base, access })
}

fn access(config: &ProviderConfig) -> Result<Access, String> {
    if let Some(key) = &config.api_key {
        let bearer = format!("Bearer {}", key.expose_secret());
        return Ok(Access::Bearer(wire::secret_header(&bearer, "api_key")?));
    }
    let (Some(access_key), Some(secret_key)) = (&config.access_key, &config.secret_key) else {
        return Err("give `api_key`, or `access_key` and `secret_key`".to_owned());
    };
    let Some(region) = config.region.clone() else {
        return Err("give `region`: a signature names it".to_owned());
    };
    let credentials = Credentials::new(
        access_key.expose_secret(),
        secret_key.expose_secret(),
        None,
        None,
        "stellwerk.toml",
    );
    Ok(Access::Signed { credentials, region })
}

impl BedrockProvider {
    fn post(
        &self,
        model: &str,
        operation: &str,
        body: &Value,
    ) -> Result<RequestBuilder, ProviderError> {
        let request = self.http.post(url(&self.base, model, operation), body);
        match &self.access {
            Access::Bearer(key) => Ok(request.header(::http::header::AUTHORIZATION, key.clone())),
            Access::Signed { credentials, region } => {
                sign::signed(request, credentials, region, SystemTime::now())
            }
        }
    }

    async fn one(&self, call: &ProviderCall) -> Result<ChunkStream, ProviderError> {
        let body = encode(call)?;
        let streamed = call.request.stream;
        let operation = if streamed { "converse-stream" } else { "converse" };
        let request = self.post(&call.model, operation, &body)?;
        let reply = Reply::to(call);
        let frames = Frames::new(reply.clone());
        let answer = self.http.chat(request, streamed, |body| whole(reply, body), frames).await;
        answer.map_err(reread)
    }

    async fn invoke(&self, model: &str, body: Value) -> Result<(HeaderMap, Bytes), ProviderError> {
        let request = self.post(model, "invoke", &body)?;
        self.http.whole_with_headers(request).await.map_err(reread)
    }
}

/// A model that is not there, or not without an inference profile, is told as a wrong request;
/// the caller's request is right, and another deployment may take it.
fn reread(error: ProviderError) -> ProviderError {
    let is_model = error.kind == ProviderErrorKind::BadRequest
        && error.vendor_says(&["model identifier is invalid", "on-demand throughput"]);
    match is_model {
        true => ProviderError { kind: ProviderErrorKind::NotFound, vendor_message: None, ..error },
        false => error,
    }
}

/// `{base}/model/{model}/{operation}`. The name is one segment: a colon and the slashes of an
/// ARN are encoded, as the signature wants them.
fn url(base: &Url, model: &str, operation: &str) -> Url {
    let mut url = base.clone();
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("{path}/model/{}/{operation}", percent_encoded(model)));
    url
}

/// As AWS wants it: everything but letters, digits and `-._~`.
fn percent_encoded(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[async_trait]
impl Provider for BedrockProvider {
    async fn chat(&self, call: ProviderCall) -> Result<ChunkStream, ProviderError> {
        // The format gives one answer to a call.
        if call.request.n <= 1 {
            return self.one(&call).await;
        }
        let answers = (0..call.request.n).map(|_| self.one(&call));
        Ok(fanout::merge(try_join_all(answers).await?))
    }

    async fn embed(&self, call: ProviderCall<EmbedRequest>) -> Result<Embeddings, ProviderError> {
        let bodies = embed::encode(&call)?;
        let answers: Vec<(HeaderMap, Bytes)> = stream::iter(bodies)
            .map(|body| self.invoke(&call.model, body))
            .buffered(VECTORS_AT_ONCE)
            .try_collect()
            .await?;
        embed::decode(&answers, &call.request)
    }

    fn inputs_billed(&self, n: u32) -> u32 {
        n.max(1)
    }

    fn limits(&self) -> &ProviderLimits {
        self.http.limits()
    }
}

/// Whose model it is: Converse is one format, its extras are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Claude,
    Nova,
    Cohere,
    Mistral,
    GptOss,
    Other,
}

impl Family {
    /// Reads `eu.anthropic.claude-…`, `amazon.nova-…`, `arn:…/eu.anthropic.…`.
    fn of(model: &str) -> Self {
        let named = |word: &str| model.contains(word);
        match () {
            () if named("claude") => Family::Claude,
            () if named("nova") => Family::Nova,
            () if named("cohere.") => Family::Cohere,
            () if named("mistral.") => Family::Mistral,
            () if named("gpt-oss") => Family::GptOss,
            () => Family::Other,
        }
    }
}

/// Models without structured output keep to a schema only in the input of a tool; this is its
/// name.
const ANSWER_TOOL: &str = "json_answer";

/// Whether the answer's JSON comes as the input of [`ANSWER_TOOL`].
fn answers_by_tool(model: &str, request: &ChatRequest) -> bool {
    let wants_schema = matches!(request.response_format, ResponseFormat::JsonSchema { .. });
    let needs_tool = match Family::of(model) {
        Family::Claude => !Generation::of(model).keeps_to_schema(),
        Family::Nova => true,
        _ => false,
    };
    wants_schema && needs_tool
}

/// An answer, or a piece of one, that is not what AWS documents.
fn unreadable(why: &str) -> ProviderError {
    ProviderError::new(ProviderErrorKind::Malformed, format!("the answer cannot be read: {why}"))
}
