//! Azure OpenAI: OpenAI's words at an address per deployment, with a key header of its own.
//!
//! Two addresses exist. With a dated `api_version` the deployment stands in the path,
//! `{base}/openai/deployments/{name}/chat/completions?api-version=…`; with `v1`, `preview` or
//! none it is `{base}/openai/v1/chat/completions` and the deployment is the body's `model`.
//! What Azure's content filter says arrives as fields of OpenAI's format and goes on as such.

use async_trait::async_trait;
use http::HeaderValue;
use reqwest::RequestBuilder;
use secrecy::ExposeSecret;
use serde_json::Value;
use url::Url;

use crate::config::{ProviderConfig, ProviderLimits};
use crate::provider::http::{Http, secret_header};
use crate::provider::openai::{Flavour, below, decode, encode};
use crate::provider::{BuildError, ChunkStream, Embeddings, Provider, ProviderCall, ProviderError};
use crate::request::EmbedRequest;

/// The first dated version that knows `max_completion_tokens` and `stream_options`.
const FIRST_RECENT: &str = "2024-09-01";

/// An access to one Azure OpenAI resource.
#[derive(Debug)]
pub struct AzureProvider {
    http: Http,
    base: Url,
    address: Address,
    key: HeaderValue,
}

/// How a resource is addressed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    /// By the version-less path; `preview` is asked for by name.
    V1 { preview: bool },
    /// By deployment and date.
    Dated(String),
}

/// The access that a configuration describes; its base address has no path.
pub fn new(config: &ProviderConfig) -> Result<AzureProvider, BuildError> {
    let failed = |why: String| BuildError { id: config.id.clone(), why };
    let base = Url::parse(&config.base_url)
        .map_err(|error| failed(format!("`base_url` is no address: {error}")))?;
    let key = config.api_key.as_ref().ok_or_else(|| failed("`api_key` is missing".to_owned()))?;
    Ok(AzureProvider {
        http: Http::new(config)?,
        base,
        address: Address::of(config.api_version.as_deref()).map_err(failed)?,
        key: secret_header(key.expose_secret(), "api_key").map_err(failed)?,
    })
}

impl Address {
    fn of(version: Option<&str>) -> Result<Self, String> {
        match version {
            None | Some("v1") => Ok(Address::V1 { preview: false }),
            Some("preview") => Ok(Address::V1 { preview: true }),
            Some(date) if date.get(..10).is_some_and(is_date) => {
                Ok(Address::Dated(date.to_owned()))
            }
            Some(other) => Err(format!(
                "`api_version` `{other}` is neither a date such as 2024-10-21 nor `v1` nor `preview`"
            )),
        }
    }

    fn flavour(&self) -> Flavour {
        match self {
            Address::Dated(date) if date.as_str() < FIRST_RECENT => Flavour::OldAzure,
            _ => Flavour::Azure,
        }
    }

    fn url(&self, base: &Url, deployment: &str, operation: &[&str]) -> Url {
        let (path, version) = match self {
            Address::V1 { preview } => (vec!["openai", "v1"], preview.then_some("preview")),
            Address::Dated(date) => {
                (vec!["openai", "deployments", deployment], Some(date.as_str()))
            }
        };
        let mut url = below(base, &[&path, operation].concat());
        if let Some(version) = version {
            url.query_pairs_mut().append_pair("api-version", version);
        }
        url
    }
}

fn is_date(text: &str) -> bool {
    text.parse::<jiff::civil::Date>().is_ok()
}

impl AzureProvider {
    fn post(&self, deployment: &str, operation: &[&str], body: &Value) -> RequestBuilder {
        let url = self.address.url(&self.base, deployment, operation);
        self.http.post(url, body).header("api-key", self.key.clone())
    }
}

#[async_trait]
impl Provider for AzureProvider {
    async fn chat(&self, call: ProviderCall) -> Result<ChunkStream, ProviderError> {
        let body = encode::chat(&call, self.address.flavour())?;
        let request = self.post(&call.model, &["chat", "completions"], &body);
        let streamed = call.request.stream;
        self.http.chat(request, streamed, decode::whole, decode::Stream::new()).await
    }

    async fn embed(&self, call: ProviderCall<EmbedRequest>) -> Result<Embeddings, ProviderError> {
        let body = encode::embeddings(&call, self.address.flavour());
        let answer = self.http.whole(self.post(&call.model, &["embeddings"], &body)).await?;
        decode::embeddings(&answer, call.request.input.len())
    }

    fn limits(&self) -> &ProviderLimits {
        self.http.limits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(version: Option<&str>, deployment: &str) -> String {
        let base = Url::parse("https://firma.openai.azure.com").expect("an address");
        let address = Address::of(version).expect("a version");
        address.url(&base, deployment, &["chat", "completions"]).into()
    }

    #[test]
    fn a_dated_version_names_the_deployment_in_the_path() {
        assert_eq!(
            url(Some("2024-10-21"), "mein modell"),
            "https://firma.openai.azure.com/openai/deployments/mein%20modell/chat/completions?api-version=2024-10-21"
        );
    }

    #[test]
    fn without_a_version_the_v1_path_is_called() {
        let plain = "https://firma.openai.azure.com/openai/v1/chat/completions";
        assert_eq!(url(None, "x"), plain);
        assert_eq!(url(Some("v1"), "x"), plain);
        assert_eq!(url(Some("preview"), "x"), format!("{plain}?api-version=preview"));
    }

    #[test]
    fn old_versions_are_asked_with_the_old_words() {
        let flavour = |version| Address::of(Some(version)).expect("a version").flavour();
        assert_eq!(flavour("2024-02-01"), Flavour::OldAzure);
        assert_eq!(flavour("2024-09-01-preview"), Flavour::Azure);
        assert_eq!(flavour("2024-10-21"), Flavour::Azure);
    }

    #[test]
    fn a_version_that_is_none_is_refused() {
        assert!(Address::of(Some("latest")).is_err());
    }
}
