//! AWS's Signature Version 4 over one request.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use http::header::{HeaderName, HeaderValue};
use reqwest::{Request, RequestBuilder};

use crate::provider::{ProviderError, ProviderErrorKind};

/// The name that Bedrock's runtime is signed for.
const SERVICE: &str = "bedrock";

/// The request with its signature, valid for a few minutes around `now`.
pub(super) fn signed(
    request: RequestBuilder,
    credentials: &Credentials,
    region: &str,
    now: SystemTime,
) -> Result<RequestBuilder, ProviderError> {
    let (client, request) = request.build_split();
    let mut request = request.map_err(|_| failed())?;
    for (name, value) in headers(&request, credentials, region, SERVICE, now)? {
        request.headers_mut().insert(name, value);
    }
    Ok(RequestBuilder::from_parts(client, request))
}

/// The headers that sign a request. The path is encoded once in the address and once more in
/// what is signed, as every AWS service but S3 wants it: that is the crate's default.
pub(super) fn headers(
    request: &Request,
    credentials: &Credentials,
    region: &str,
    service: &str,
    now: SystemTime,
) -> Result<Vec<(HeaderName, HeaderValue)>, ProviderError> {
    let identity = credentials.clone().into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(now)
        .settings(SigningSettings::default())
        .build()
        .map_err(|_| failed())?
        .into();
    let body = request.body().and_then(|body| body.as_bytes()).unwrap_or_default();
    // Nothing but the host and the date is signed besides body and path: a proxy may touch the
    // rest, and none of it changes what is asked.
    let signable = SignableRequest::new(
        request.method().as_str(),
        request.url().as_str(),
        std::iter::empty(),
        SignableBody::Bytes(body),
    )
    .map_err(|_| failed())?;
    let (instructions, _) = sign(signable, &parameters).map_err(|_| failed())?.into_parts();
    let headers = instructions.headers().map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| failed())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| failed())?;
        value.set_sensitive(true);
        Ok((name, value))
    });
    headers.collect()
}

fn failed() -> ProviderError {
    ProviderError::new(
        ProviderErrorKind::Auth,
        "the request could not be signed; check `access_key`, `secret_key` and `region`",
    )
}
