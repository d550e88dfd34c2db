//! What all vendors share on the wire: the client, the limits, and what a status means.
//!
//! One [`Http`] per provider keeps its connections. [`Http::chat`] sends one request and gives
//! its answer as [`Chunk`]s, whole or piece by piece, under the time limits of the
//! configuration. Knows nothing of any vendor's format beyond the shapes that error bodies have.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Once;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, Stream, StreamExt};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use reqwest::{Client, RequestBuilder, Response};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::time::{Instant, Sleep};
use url::Url;

use crate::config::{ProviderConfig, ProviderLimits};
use crate::provider::{BuildError, ChunkStream, ProviderError, ProviderErrorKind, VendorMessage};
use crate::reply::Chunk;

/// The largest answer that is read, in bytes; more is no answer.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// How much of an error's body is read, in bytes.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// How long an error's body is waited for: its status has already told the most.
const ERROR_BODY_WAIT: Duration = Duration::from_secs(2);

/// How long a vendor may take to close an answer that is whole, so that its connection can be
/// used again.
const DRAIN_WAIT: Duration = Duration::from_secs(2);

/// The longest `retry-after` that is believed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Turns the bytes that a vendor streams into chunks. Pure, so that it can be cut, tested and
/// fuzzed without a socket.
pub trait Decoder: Send + Unpin + 'static {
    /// Takes the next bytes; what they complete is added to `chunks`.
    fn push(&mut self, bytes: &[u8], chunks: &mut Vec<Chunk>) -> Result<(), ProviderError>;

    /// The bytes have ended. Adds what was held back, or says that the answer is cut.
    fn end(&mut self, chunks: &mut Vec<Chunk>) -> Result<(), ProviderError>;

    /// Whether the vendor has said that nothing more will come.
    fn is_done(&self) -> bool;
}

/// The HTTP client of one provider.
#[derive(Debug, Clone)]
pub struct Http {
    client: Client,
    limits: ProviderLimits,
}

impl Http {
    /// The client that a configuration describes. Its `headers` go with every call.
    pub fn new(config: &ProviderConfig) -> Result<Http, BuildError> {
        install_crypto();
        let failed = |why: String| BuildError { id: config.id.clone(), why };
        let base = Url::parse(&config.base_url)
            .map_err(|error| failed(format!("`base_url` is no address: {error}")))?;
        let mut client = Client::builder()
            .default_headers(headers_of(config).map_err(failed)?)
            .connect_timeout(config.limits.connect)
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(60))
            .pool_idle_timeout(Duration::from_secs(90))
            .http2_adaptive_window(true)
            // A redirect would carry the prompt, and perhaps the key, to a place that nobody
            // configured and no zone rule has seen.
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&base) {
            // A company's proxy cannot reach a model on this machine.
            client = client.no_proxy();
        }
        if base.scheme() == "http" {
            // Nothing here will speak TLS, so the system's certificates need not be read; a
            // small container may have none.
            client = client.tls_certs_only([]);
        }
        let client = client.build().map_err(|error| {
            failed(format!(
                "no HTTP client: {} (are the system's ca-certificates installed?)",
                chain(&error)
            ))
        })?;
        Ok(Http { client, limits: config.limits.clone() })
    }

    /// The limits of the configuration.
    pub fn limits(&self) -> &ProviderLimits {
        &self.limits
    }

    /// The beginning of a POST with a JSON body. Further headers may be added.
    pub fn post(&self, url: Url, body: &Value) -> RequestBuilder {
        // Writing a JSON value that is in memory cannot fail: its keys are strings.
        let body = serde_json::to_vec(body).unwrap_or_default();
        self.client.post(url).header(header::CONTENT_TYPE, APPLICATION_JSON).body(body)
    }

    /// Sends a chat request and gives its answer: `whole` reads it at once, `decoder` piece by
    /// piece. What the vendor says it sent decides, then what was asked for: there are servers
    /// that answer a streamed request whole.
    pub async fn chat<D: Decoder>(
        &self,
        request: RequestBuilder,
        streamed: bool,
        whole: impl FnOnce(&[u8]) -> Result<Vec<Chunk>, ProviderError>,
        decoder: D,
    ) -> Result<ChunkStream, ProviderError> {
        let started = Instant::now();
        let response = self.send(request, streamed, started).await?;
        if comes_in_pieces(response.headers(), streamed) {
            let body = response.bytes_stream().boxed();
            return Ok(within(self.limits.clone(), started, Decoded::new(body, decoder)).boxed());
        }
        let body = self.read_whole(response, started).await?;
        Ok(at_once(whole(&body)?))
    }

    /// Sends a request whose answer is read whole.
    pub async fn whole(&self, request: RequestBuilder) -> Result<Bytes, ProviderError> {
        self.whole_with_headers(request).await.map(|(_, body)| body)
    }

    /// The same, with the headers, for vendors that tell their counts there.
    pub async fn whole_with_headers(
        &self,
        request: RequestBuilder,
    ) -> Result<(HeaderMap, Bytes), ProviderError> {
        let started = Instant::now();
        let response = self.send(request, false, started).await?;
        let headers = response.headers().clone();
        Ok((headers, self.read_whole(response, started).await?))
    }

    async fn send(
        &self,
        request: RequestBuilder,
        streamed: bool,
        started: Instant,
    ) -> Result<Response, ProviderError> {
        let (limit, what) = if streamed && self.limits.first_token < self.limits.total {
            (self.limits.first_token, "first token")
        } else {
            (self.limits.total, "answer")
        };
        let response = tokio::time::timeout_at(started + limit, request.send())
            .await
            .map_err(|_| timed_out(what, limit))?
            .map_err(|error| self.not_sent(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = error_body(response).await;
        Err(status_error(status, &headers, &body, Timestamp::now()))
    }

    async fn read_whole(
        &self,
        mut response: Response,
        started: Instant,
    ) -> Result<Bytes, ProviderError> {
        let reading = async {
            let mut body = BytesMut::new();
            loop {
                let piece = response.chunk().await.map_err(|_| {
                    ProviderError::new(ProviderErrorKind::Cut, "connection lost during the answer")
                })?;
                let Some(piece) = piece else { return Ok(body.freeze()) };
                if body.len() + piece.len() > MAX_ANSWER_BYTES {
                    return Err(too_large());
                }
                body.extend_from_slice(&piece);
            }
        };
        tokio::time::timeout_at(started + self.limits.total, reading)
            .await
            .map_err(|_| timed_out("whole answer", self.limits.total))?
    }

    fn not_sent(&self, error: &reqwest::Error) -> ProviderError {
        use ProviderErrorKind::{Connect, Cut};
        if error.is_timeout() {
            // Nothing was sent yet, so nothing can be billed.
            let detail = format!("no connection within {}", seconds(self.limits.connect));
            return ProviderError::new(Connect, detail);
        }
        match error.is_connect() {
            true => ProviderError::new(Connect, format!("no connection{}", cause(error))),
            // The vendor may have taken the call, and may bill it.
            false => {
                ProviderError::new(Cut, format!("connection lost before an answer{}", cause(error)))
            }
        }
    }
}

const APPLICATION_JSON: HeaderValue = HeaderValue::from_static("application/json");

/// rustls wants one source of cryptography for the process; whoever was first has chosen it.
fn install_crypto() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // An error only says that one is installed already, which is what is wanted.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

fn headers_of(config: &ProviderConfig) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        let name: HeaderName =
            name.parse().map_err(|_| format!("`headers`: `{name}` is no header name"))?;
        headers.insert(name.clone(), secret_header(value.expose_secret(), name.as_str())?);
    }
    Ok(headers)
}

/// A header value that is never shown, such as a key.
pub fn secret_header(value: &str, of: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| format!("the value of `{of}` holds characters that no header may have"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn comes_in_pieces(headers: &HeaderMap, asked_for: bool) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    match kind {
        "application/json" => false,
        "text/event-stream" => true,
        _ => asked_for,
    }
}

async fn error_body(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    let reading = async {
        while let Ok(Some(piece)) = response.chunk().await {
            let room = MAX_ERROR_BYTES - body.len();
            body.extend_from_slice(&piece[..piece.len().min(room)]);
            if body.len() == MAX_ERROR_BYTES {
                break;
            }
        }
    };
    // What came in time is what there is to read; the status counts anyway.
    let _ = tokio::time::timeout(ERROR_BODY_WAIT, reading).await;
    body
}

fn timed_out(what: &str, limit: Duration) -> ProviderError {
    let detail = format!("no {what} within {}", seconds(limit));
    ProviderError::new(ProviderErrorKind::Timeout, detail)
}

fn too_large() -> ProviderError {
    let detail = format!("the answer is larger than {} MiB", MAX_ANSWER_BYTES / 1024 / 1024);
    ProviderError::new(ProviderErrorKind::Malformed, detail)
}

/// `60 s`, `0.25 s`.
fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_millis() as f64 / 1000.0)
}

/// Why a connection failed, in our words: the libraries' texts may name addresses.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            if let Some(tls) =
                error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
            {
                return format!(" (TLS: {tls})");
            }
            if let Some(word) = io_word(error.kind()) {
                return format!(" ({word})");
            }
        }
        if error.to_string() == "dns error" {
            return " (the host name is not known)".to_owned();
        }
        next = error.source();
    }
    String::new()
}

fn io_word(kind: std::io::ErrorKind) -> Option<&'static str> {
    use std::io::ErrorKind::*;
    Some(match kind {
        ConnectionRefused => "refused",
        ConnectionReset | BrokenPipe => "reset",
        ConnectionAborted => "aborted",
        HostUnreachable | NetworkUnreachable => "unreachable",
        UnexpectedEof => "closed",
        _ => return None,
    })
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        words.push_str(&format!(": {error}"));
        next = error.source();
    }
    words
}

/// The pieces of an answer that is already here.
pub fn at_once(chunks: Vec<Chunk>) -> ChunkStream {
    stream::iter(chunks.into_iter().map(Ok)).boxed()
}

/// What an error status means, from the status, the vendor's code and its retry headers.
///
/// `body` may be any vendor's error shape, cut, or no JSON at all; `now` is what an HTTP date
/// in `retry-after` is counted from.
pub fn status_error(
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> ProviderError {
    let told = VendorError::read(body);
    let kind = told.kind(Some(status));
    let error = told.into_error(kind);
    ProviderError {
        status: Some(status),
        retry_after: retry_after(headers, now).or(error.retry_after),
        detail: match status {
            300..=399 => format!("status {status}: redirects are not followed; correct `base_url`"),
            _ => format!("status {status}{}", error.detail),
        },
        ..error
    }
}

/// What an error object inside a success means: a stream or a body with status 200 may hold one.
pub fn told_error(body: &Value) -> ProviderError {
    let told = VendorError::of(body);
    let kind = told.kind(None);
    let error = told.into_error(kind);
    ProviderError { detail: format!("the vendor told an error{}", error.detail), ..error }
}

/// An error as a vendor tells it: OpenAI's and Azure's `{"error":{message,type,code}}`,
/// Anthropic's `{"type":"error","error":{type,message}}`, Google's
/// `{"error":{code,message,status,details}}` (also in a list), AWS's and Mistral's
/// `{"message",…}`, FastAPI's `{"detail"}`, Ollama's `{"error":"text"}`.
#[derive(Default)]
struct VendorError {
    /// Every code, type and status that was told, in lower case.
    codes: Vec<String>,
    /// A status inside the body (Google, vLLM, OpenRouter).
    status: Option<u16>,
    message: String,
    retry_after: Option<Duration>,
}

impl VendorError {
    fn read(body: &[u8]) -> Self {
        serde_json::from_slice(body).map(|body| Self::of(&body)).unwrap_or_default()
    }

    fn of(body: &Value) -> Self {
        let body = body.as_array().and_then(|list| list.first()).unwrap_or(body);
        let error = match body.get("error") {
            Some(error) if !error.is_null() => error,
            _ => body,
        };
        let mut told = VendorError::default();
        for holder in [error, &error["innererror"], body] {
            for field in ["code", "type", "status", "__type"] {
                told.take_code(&holder[field]);
            }
        }
        for detail in error["details"].as_array().into_iter().flatten() {
            told.take_code(&detail["reason"]);
            told.retry_after =
                told.retry_after.or(detail["retryDelay"].as_str().and_then(in_seconds));
        }
        let message =
            [&error["message"], error, &body["message"], &body["Message"], &body["detail"]];
        told.message = message.iter().find_map(|text| text.as_str()).unwrap_or("").to_owned();
        told
    }

    fn take_code(&mut self, code: &Value) {
        if let Some(code) = code.as_str() {
            if let Ok(status) = code.parse() {
                self.status = self.status.or(Some(status));
            }
            self.codes.push(code.to_ascii_lowercase());
        }
        if let Some(status) = code.as_u64().and_then(|status| u16::try_from(status).ok()) {
            self.status = self.status.or(Some(status));
        }
    }

    fn has(&self, codes: &[&str]) -> bool {
        self.codes.iter().any(|code| codes.contains(&code.as_str()))
    }

    fn says(&self, phrases: &[&str]) -> bool {
        let message = self.message.to_lowercase();
        phrases.iter().any(|phrase| message.contains(phrase))
    }

    /// The status decides; within the 400s the vendor's code does, for a wrong request, a long
    /// prompt and a filtered one call for different next steps. Messages are looked at only
    /// where vendors have no code for it.
    fn kind(&self, status: Option<u16>) -> ProviderErrorKind {
        let in_success = status.is_none();
        let status = status.or(self.status).unwrap_or(0);
        match status {
            401..=403 => return ProviderErrorKind::Auth,
            404 | 405 | 410 | 300..=399 => return ProviderErrorKind::NotFound,
            408 | 409 | 425 | 498 | 499 | 500.. => return ProviderErrorKind::Server,
            429 => return ProviderErrorKind::RateLimited,
            _ => {}
        }
        if self.has(CONTENT_FILTER_CODES) {
            return ProviderErrorKind::ContentFilter;
        }
        if self.has(CONTEXT_LENGTH_CODES) || self.says(CONTEXT_LENGTH_PHRASES) {
            return ProviderErrorKind::ContextLength;
        }
        if self.has(RATE_LIMIT_CODES) {
            return ProviderErrorKind::RateLimited;
        }
        if self.has(AUTH_CODES) {
            return ProviderErrorKind::Auth;
        }
        if self.has(NOT_FOUND_CODES) {
            return ProviderErrorKind::NotFound;
        }
        let wrong_request = status >= 400 || self.has(BAD_REQUEST_CODES);
        if in_success && !wrong_request {
            return ProviderErrorKind::Server;
        }
        ProviderErrorKind::BadRequest
    }

    fn into_error(self, kind: ProviderErrorKind) -> ProviderError {
        use ProviderErrorKind::{BadRequest, ContentFilter, ContextLength};
        // Only words that we know ourselves: a code of the vendor's could quote anything.
        let known = KNOWN_CODES.iter().flat_map(|codes| codes.iter());
        let word = known.copied().find(|code| self.codes.iter().any(|told| told == code));
        let for_caller = matches!(kind, BadRequest | ContextLength | ContentFilter);
        let mut message = self.message;
        truncate(&mut message, 2000);
        ProviderError {
            retry_after: self.retry_after,
            vendor_message: (for_caller && !message.is_empty())
                .then_some(VendorMessage(message.into())),
            ..ProviderError::new(kind, word.map(|word| format!(" ({word})")).unwrap_or_default())
        }
    }
}

const CONTENT_FILTER_CODES: &[&str] = &[
    "content_filter",
    "responsibleaipolicyviolation",
    "content_policy_violation",
    "moderation_blocked",
    "data_inspection_failed",
];
const CONTEXT_LENGTH_CODES: &[&str] =
    &["context_length_exceeded", "exceed_context_size_error", "string_above_max_length"];
const RATE_LIMIT_CODES: &[&str] = &[
    "rate_limit_exceeded",
    "rate_limit_error",
    "insufficient_quota",
    "resource_exhausted",
    "throttlingexception",
    "too_many_requests",
];
const AUTH_CODES: &[&str] = &[
    "invalid_api_key",
    "api_key_invalid",
    "authentication_error",
    "permission_error",
    "permission_denied",
    "unauthenticated",
    "accessdeniedexception",
    "billing_error",
];
const NOT_FOUND_CODES: &[&str] = &[
    "model_not_found",
    "not_found_error",
    "deploymentnotfound",
    "resourcenotfoundexception",
    "not_found",
];
const BAD_REQUEST_CODES: &[&str] = &[
    "invalid_request_error",
    "invalid_argument",
    "validationexception",
    "badrequesterror",
    "invalid_prompt",
    "request_too_large",
];
const SERVER_CODES: &[&str] = &[
    "overloaded_error",
    "api_error",
    "server_error",
    "internal_error",
    "unavailable",
    "timeout_error",
    "serviceunavailableexception",
    "modelnotreadyexception",
];
const KNOWN_CODES: &[&[&str]] = &[
    CONTENT_FILTER_CODES,
    CONTEXT_LENGTH_CODES,
    RATE_LIMIT_CODES,
    AUTH_CODES,
    NOT_FOUND_CODES,
    BAD_REQUEST_CODES,
    SERVER_CODES,
];

/// How the vendors that have no code for it say that a prompt is too long.
const CONTEXT_LENGTH_PHRASES: &[&str] = &[
    "maximum context length",
    "context length",
    "context window",
    "context size",
    "prompt is too long",
    "input is too long",
    "input token count",
    "too many input tokens",
    "exceeds the maximum number of tokens",
    "input length and `max_tokens` exceed",
];

fn truncate(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        text.truncate(text.floor_char_boundary(bytes));
    }
}

/// The vendor's wish, from `retry-after-ms` and `retry-after` (seconds or an HTTP date).
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let milliseconds = |text: &str| text.parse::<f64>().ok().and_then(|ms| sane(ms / 1000.0));
    if let Some(wait) = text("retry-after-ms").and_then(milliseconds) {
        return Some(wait);
    }
    let wish = text("retry-after")?;
    in_seconds(wish).or_else(|| {
        let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(wish).ok()?;
        let wait = Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO);
        Some(wait.min(MAX_RETRY_AFTER))
    })
}

/// `34`, `0.5`, and Google's `34s`.
fn in_seconds(text: &str) -> Option<Duration> {
    text.trim().trim_end_matches('s').parse().ok().and_then(sane)
}

fn sane(seconds: f64) -> Option<Duration> {
    let in_range = seconds.is_finite() && seconds >= 0.0;
    in_range.then(|| Duration::from_secs_f64(seconds.min(MAX_RETRY_AFTER.as_secs_f64())))
}

/// The bytes of a vendor's stream, turned into chunks by its decoder.
struct Decoded<D> {
    /// Gone once the answer has ended, so that its connection is closed or used again.
    body: Option<BoxStream<'static, reqwest::Result<Bytes>>>,
    decoder: D,
    ready: VecDeque<Chunk>,
    failed: Option<ProviderError>,
    read: usize,
}

impl<D: Decoder> Decoded<D> {
    fn new(body: BoxStream<'static, reqwest::Result<Bytes>>, decoder: D) -> Self {
        Decoded { body: Some(body), decoder, ready: VecDeque::new(), failed: None, read: 0 }
    }

    fn take(&mut self, piece: Option<reqwest::Result<Bytes>>) {
        let mut chunks = Vec::new();
        let outcome = match piece {
            Some(Ok(bytes)) => self.take_bytes(&bytes, &mut chunks),
            Some(Err(_)) | None => {
                self.body = None;
                self.decoder.end(&mut chunks)
            }
        };
        self.ready.extend(chunks);
        if let Err(error) = outcome {
            self.body = None;
            self.failed = Some(error);
        } else if self.decoder.is_done() {
            self.body.take().into_iter().for_each(drain);
        }
    }

    fn take_bytes(&mut self, bytes: &[u8], chunks: &mut Vec<Chunk>) -> Result<(), ProviderError> {
        self.read += bytes.len();
        if self.read > MAX_ANSWER_BYTES {
            return Err(too_large());
        }
        self.decoder.push(bytes, chunks)
    }
}

impl<D: Decoder> Stream for Decoded<D> {
    type Item = Result<Chunk, ProviderError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(chunk) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(chunk)));
            }
            if let Some(error) = this.failed.take() {
                return Poll::Ready(Some(Err(error)));
            }
            let Some(body) = &mut this.body else { return Poll::Ready(None) };
            let piece = std::task::ready!(body.poll_next_unpin(context));
            this.take(piece);
        }
    }
}

/// Reads an answer that is whole to the end of its body: an HTTP/1 connection whose body was
/// dropped before its last few bytes is closed, and the next call would pay for a new one. The
/// answer itself does not wait for it. This task holds nothing but the socket and ends by
/// itself, so a stop of the server need not know of it.
fn drain(mut body: BoxStream<'static, reqwest::Result<Bytes>>) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    runtime.spawn(tokio::time::timeout(DRAIN_WAIT, async move {
        while let Some(Ok(_)) = body.next().await {}
    }));
}

/// Keeps the time limits over a vendor's chunks: `first_token` until the first token or the
/// end of the answer, then `idle` between pieces, `total` over all, counted from `started`. What
/// keeps a connection alive without saying anything (pings, comments, role chunks) is no piece.
pub fn within<S>(
    limits: ProviderLimits,
    started: Instant,
    chunks: S,
) -> impl Stream<Item = Result<Chunk, ProviderError>> + Send + 'static
where
    S: Stream<Item = Result<Chunk, ProviderError>> + Send + Unpin + 'static,
{
    Within {
        chunks: Some(chunks),
        deadline: started + limits.first_token.min(limits.total),
        answering: false,
        begun: 0,
        finished: 0,
        timer: None,
        limits,
        started,
    }
}

fn bit(choice: u32) -> u64 {
    1_u64.checked_shl(choice).unwrap_or(0)
}

struct Within<S> {
    /// Gone after the end or an error: the vendor's call is cancelled at once.
    chunks: Option<S>,
    limits: ProviderLimits,
    started: Instant,
    /// Whether the first token has come.
    answering: bool,
    /// Which of the first 64 answers have begun and which have ended, as bits. One that nobody
    /// asked for beyond that is not watched.
    begun: u64,
    finished: u64,
    deadline: Instant,
    /// Set only when there is something to wait for, and moved only when it rings: setting a
    /// timer anew for every piece would cost more than decoding it.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Within<S> {
    fn note(&mut self, chunk: &Chunk) {
        match chunk {
            Chunk::Text { choice, .. }
            | Chunk::Reasoning { choice, .. }
            | Chunk::ToolCall { choice, .. } => {
                self.begun |= bit(*choice);
                self.answering |= chunk.is_token();
            }
            Chunk::Finish { choice, .. } => {
                self.finished |= bit(*choice);
                self.answering = true;
            }
            _ => {}
        }
        if self.answering {
            let end = self.started + self.limits.total;
            self.deadline = end.min(Instant::now() + self.limits.idle);
        }
    }

    /// Rings when the deadline has passed.
    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if deadline < timer.deadline() {
            timer.as_mut().reset(deadline);
        }
        loop {
            std::task::ready!(timer.as_mut().poll(context));
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }

    /// Whether all answers that began have ended: then the vendor only forgot to say so, and
    /// nobody should lose an answer that is here.
    fn is_whole(&self) -> bool {
        self.finished != 0 && self.begun & !self.finished == 0
    }

    fn late(&self) -> ProviderError {
        if self.deadline >= self.started + self.limits.total {
            return timed_out("whole answer", self.limits.total);
        }
        match self.answering {
            false => timed_out("first token", self.limits.first_token),
            true => timed_out("further piece", self.limits.idle),
        }
    }
}

impl<S> Stream for Within<S>
where
    S: Stream<Item = Result<Chunk, ProviderError>> + Unpin,
{
    type Item = Result<Chunk, ProviderError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let Some(chunks) = &mut this.chunks else { return Poll::Ready(None) };
        match chunks.poll_next_unpin(context) {
            Poll::Ready(Some(Ok(chunk))) => {
                this.note(&chunk);
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Ready(ended) => {
                this.chunks = None;
                Poll::Ready(ended)
            }
            Poll::Pending => {
                std::task::ready!(this.poll_deadline(context));
                this.chunks = None;
                Poll::Ready((!this.is_whole()).then(|| Err(this.late())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, body: &str) -> ProviderErrorKind {
        status_error(status, &HeaderMap::new(), body.as_bytes(), Timestamp::UNIX_EPOCH).kind
    }

    #[test]
    fn a_status_says_what_is_to_be_done() {
        use ProviderErrorKind::*;
        for (status, expected) in [
            (302, NotFound),
            (400, BadRequest),
            (401, Auth),
            (402, Auth),
            (403, Auth),
            (404, NotFound),
            (408, Server),
            (413, BadRequest),
            (422, BadRequest),
            (429, RateLimited),
            (500, Server),
            (502, Server),
            (503, Server),
            (529, Server),
        ] {
            assert_eq!(kind(status, "no JSON"), expected, "{status}");
        }
    }

    #[test]
    fn within_the_400s_the_vendors_code_decides() {
        use ProviderErrorKind::*;
        for (body, expected) in [
            // OpenAI, Azure, llama.cpp.
            (
                r#"{"error":{"message":"x","type":"invalid_request_error","code":"context_length_exceeded"}}"#,
                ContextLength,
            ),
            (
                r#"{"error":{"message":"x","code":"content_filter","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#,
                ContentFilter,
            ),
            (
                r#"{"error":{"code":400,"message":"x","type":"exceed_context_size_error"}}"#,
                ContextLength,
            ),
            // Anthropic, Google, AWS, Mistral, vLLM: words only.
            (
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#,
                ContextLength,
            ),
            (
                r#"{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"The input token count (2000000) exceeds the maximum number of tokens allowed (1048576)."}}"#,
                ContextLength,
            ),
            (r#"{"message":"Input is too long for requested model."}"#, ContextLength),
            (
                r#"{"object":"error","message":"Prompt contains 40000 tokens, too large for model with 32768 maximum context length","type":"invalid_request_error"}"#,
                ContextLength,
            ),
            (
                r#"{"object":"error","message":"This model's maximum context length is 4096 tokens.","code":400}"#,
                ContextLength,
            ),
            // Google's wrong key is a 400.
            (
                r#"[{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"API key not valid.","details":[{"reason":"API_KEY_INVALID"}]}}]"#,
                Auth,
            ),
            // Anything else is the caller's.
            (r#"{"error":{"message":"temperature must be at most 2"}}"#, BadRequest),
            (r#"{"error":"unknown field"}"#, BadRequest),
            (r#"{"detail":[{"type":"extra_forbidden"}]}"#, BadRequest),
        ] {
            assert_eq!(kind(400, body), expected, "{body}");
        }
        let too_many = r#"{"error":{"message":"Request too large … tokens per minute","code":"rate_limit_exceeded"}}"#;
        assert_eq!(kind(413, too_many), RateLimited);
    }

    #[test]
    fn the_vendors_words_reach_the_caller_of_a_bad_request_and_nobody_else() {
        let body = br#"{"error":{"message":"secret prompt","code":"secret code"}}"#;
        let told = |status| status_error(status, &HeaderMap::new(), body, Timestamp::UNIX_EPOCH);
        assert_eq!(told(400).vendor_message.expect("for the caller").0.as_ref(), "secret prompt");
        for status in [400, 401, 429, 500] {
            let error = told(status);
            assert!(!format!("{error} {error:?}").contains("secret"), "{status}");
        }
        assert!(told(500).vendor_message.is_none());
    }

    fn wait(name: &'static str, value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).expect("a value"));
        let now = "2015-10-21T07:27:30Z".parse().expect("a time");
        status_error(429, &headers, b"", now).retry_after
    }

    #[test]
    fn retry_after_is_read_in_all_its_forms_and_never_believed_beyond_a_day() {
        assert_eq!(wait("retry-after", "20"), Some(Duration::from_secs(20)));
        assert_eq!(wait("retry-after", "0.5"), Some(Duration::from_millis(500)));
        assert_eq!(wait("retry-after-ms", "1500"), Some(Duration::from_millis(1500)));
        let date = "Wed, 21 Oct 2015 07:28:00 GMT";
        assert_eq!(wait("retry-after", date), Some(Duration::from_secs(30)));
        assert_eq!(wait("retry-after", "Wed, 21 Oct 2015 07:20:00 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("retry-after", "99999999999999999999"), Some(MAX_RETRY_AFTER));
        assert_eq!(wait("retry-after", "-1"), None);
        assert_eq!(wait("retry-after", "soon"), None);
        let google = br#"{"error":{"code":429,"details":[{"retryDelay":"34s"}]}}"#;
        let error = status_error(429, &HeaderMap::new(), google, Timestamp::UNIX_EPOCH);
        assert_eq!(error.retry_after, Some(Duration::from_secs(34)));
    }

    fn text(text: &str) -> Chunk {
        Chunk::Text { choice: 0, text: text.to_owned() }
    }

    fn end() -> Chunk {
        let reason = crate::reply::FinishReason::Stop;
        Chunk::Finish { choice: 0, reason, stop_sequence: None }
    }

    /// What is heard of chunks that come at these milliseconds, and when it ended.
    async fn heard(script: Vec<(u64, Chunk)>) -> (usize, Option<ProviderErrorKind>, u64) {
        let limits = ProviderLimits {
            first_token: Duration::from_millis(1000),
            idle: Duration::from_millis(300),
            total: Duration::from_millis(2500),
            ..ProviderLimits::default()
        };
        let started = Instant::now();
        let said = stream::iter(script).then(move |(at, chunk)| async move {
            tokio::time::sleep_until(started + Duration::from_millis(at)).await;
            Ok(chunk)
        });
        let said = said.chain(stream::pending());
        let mut chunks = Box::pin(within(limits, started, Box::pin(said)));
        let mut count = 0;
        let mut failed = None;
        while let Some(chunk) = chunks.next().await {
            match chunk {
                Ok(_) => count += 1,
                Err(error) => failed = Some(error.kind),
            }
        }
        (count, failed, started.elapsed().as_millis() as u64)
    }

    const TIMEOUT: Option<ProviderErrorKind> = Some(ProviderErrorKind::Timeout);

    #[tokio::test(start_paused = true)]
    async fn silence_before_the_first_token_ends_the_call() {
        assert_eq!(heard(vec![]).await, (0, TIMEOUT, 1000));
    }

    #[tokio::test(start_paused = true)]
    async fn chunks_that_are_no_tokens_do_not_extend_the_first_token_limit() {
        let begun = |at| (at, Chunk::Started { vendor_model: None, vendor_id: None });
        let script = vec![begun(100), begun(700), (900, text("")), begun(990)];
        assert_eq!(heard(script).await, (4, TIMEOUT, 1000));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_after_a_token_ends_the_call_sooner() {
        let script = vec![(900, text("a")), (1150, text("b"))];
        assert_eq!(heard(script).await, (2, TIMEOUT, 1450));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_never_ends_is_ended_by_the_total_limit() {
        let script = (1..100).map(|n| (n * 200, text("a"))).collect();
        assert_eq!(heard(script).await, (12, TIMEOUT, 2500));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_whole_is_not_lost_to_a_vendor_that_forgets_to_close() {
        assert_eq!(heard(vec![(100, text("a")), (200, end())]).await, (2, None, 500));
    }
}
