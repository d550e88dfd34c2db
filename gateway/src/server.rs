//! Paths, handlers and the life of the server.
//!
//! [`router`] lists what can be asked; a handler checks the key, reads, decodes, calls the engine
//! and encodes. [`listen`] and [`serve`] are the beginning and the end. Every error takes its
//! shape in one place, [`around`]. Knows nothing of models or money.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, MatchedPath, Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use axum::http::{Response, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response as AxumResponse};
use axum::routing::{get, post};
use bytes::Bytes;
use futures::FutureExt;
use jiff::Timestamp;
use stellwerk_core::catalog::{Tokenizer, tokens};
use stellwerk_core::config::Config;
use stellwerk_core::engine::Engine;
use stellwerk_core::ids::RequestId;
use stellwerk_core::reply::{Done, Failure, FailureKind, Words};
use stellwerk_core::request::{Call, ChatRequest, Options, Target};
use tokio::net::TcpListener;

use crate::auth::{self, Identity};
use crate::errors::{self, Api, WireError, header};
use crate::limits::{Limits, Permit};
use crate::server::body::Patience;
use crate::stream::{self, Encoder, Opened, Opening};
use crate::wiring::Wired;
use crate::{anthropic, metrics, openai, reload};

mod body;
mod connections;

pub use connections::{ListenError, listen, stop_signal};

/// How long a stop waits for connections after every call has ended.
const LAST_BYTES: Duration = Duration::from_secs(5);
/// How often histograms are folded, so that they stay small when nobody reads them.
const FOLD_FIGURES_EVERY: Duration = Duration::from_secs(5);
/// How long `/readyz` waits for the store.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// What the handlers share.
pub struct Gateway {
    engine: Engine,
    limits: Limits,
    stopping: AtomicBool,
    patience: Patience,
}

impl Gateway {
    /// The faces of an engine.
    pub fn new(engine: Engine) -> Arc<Gateway> {
        Arc::new(Gateway {
            engine,
            limits: Limits::default(),
            stopping: AtomicBool::new(false),
            patience: Patience::default(),
        })
    }
}

/// Every path there is.
pub fn router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/embeddings", post(embeddings))
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .route("/v1/messages", post(messages))
        .route("/v1/messages/count_tokens", post(count_tokens))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(figures))
        .route("/", get(front))
        .fallback(unknown_path)
        .method_not_allowed_fallback(async || errors::method_not_allowed())
        // The limit is the configuration's and is kept where bodies are read.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(gateway.clone(), around))
        .with_state(gateway)
}

/// Answers until told to stop; then takes no new calls, lets running ones finish within the
/// configured grace, settles the rest, and lets go of everything.
pub async fn serve(
    listener: TcpListener,
    wired: Wired,
    stop: impl Future<Output = ()>,
) -> Result<(), std::io::Error> {
    metrics::recorder();
    let gateway = Gateway::new(wired.engine.clone());
    reload::watch(&wired);
    wired.every(FOLD_FIGURES_EVERY, async || metrics::recorder().run_upkeep());
    tracing::info!(address = %listener.local_addr()?, "listening");
    let connections = connections::accept(listener, router(gateway.clone()), stop).await;
    gateway.stopping.store(true, Ordering::Relaxed);
    let grace = wired.engine.config().server.shutdown_grace;
    tracing::info!(
        grace_s = grace.as_secs(),
        "stopping; running calls may finish, a second signal breaks them off and settles them"
    );
    let closing = tokio::time::timeout(grace + LAST_BYTES, connections.shutdown());
    let patience = async { tokio::join!(closing, wired.finish_calls(grace)).0 };
    tokio::select! {
        closed = patience => if closed.is_err() {
            tracing::warn!("some connections were still open at the end");
        },
        () = connections::stop_signal() => wired.finish_calls(Duration::ZERO).await,
    }
    wired.stop(Duration::ZERO).await;
    tracing::info!("stopped");
    Ok(())
}

/// What surrounds every request: its id, the shape of its errors, a net for panics, a figure.
async fn around(
    State(_gateway): State<Arc<Gateway>>,
    mut request: Request,
    next: Next,
) -> AxumResponse {
    let begun = Instant::now();
    let id = RequestId::fresh();
    let path = request.uri().path();
    let (api, is_api) = (Api::of_path(path), path.starts_with("/v1/") || path == "/v1");
    let locale = auth::locale(request.headers());
    let matched = request.extensions().get::<MatchedPath>().cloned();
    request.extensions_mut().insert(id.clone());
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response = answered.unwrap_or_else(|_panic| {
        // The panic's own message has gone to standard error; it may hold a text, so it is not
        // repeated here.
        tracing::error!(request.id = %id, "a handler panicked");
        errors::internal().into_response()
    });
    if let Some(error) = response.extensions_mut().remove::<WireError>() {
        let kept = std::mem::take(response.headers_mut());
        response = error.response(api, locale, &id);
        copy(&kept, response.headers_mut(), "allow");
    }
    if is_api {
        response.headers_mut().entry(errors::REQUEST_ID).or_insert_with(|| header(id.as_str()));
    }
    let path = matched.as_ref().map_or("other", MatchedPath::as_str);
    metrics::http(path, response.status().as_u16(), begun.elapsed().as_secs_f64());
    tracing::debug!(
        request.id = %id,
        path,
        status = response.status().as_u16(),
        "answered"
    );
    response
}

fn copy(from: &HeaderMap, to: &mut HeaderMap, name: &'static str) {
    if let Some(value) = from.get(name) {
        to.insert(name, value.clone());
    }
}

/// An error leaves a handler as it is; [`around`] gives it its shape.
impl IntoResponse for WireError {
    fn into_response(self) -> AxumResponse {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        response.extensions_mut().insert(self);
        response
    }
}

/// A request whose caller is known and may go on.
struct Admitted {
    id: RequestId,
    identity: Identity,
    permit: Permit,
    headers: HeaderMap,
    body: Bytes,
}

/// The beginning of every call that costs money: key, limits, body.
async fn admit(gateway: &Gateway, request: Request) -> Result<Admitted, WireError> {
    let (parts, body) = request.into_parts();
    let identity = identify(gateway, &parts.headers)?;
    let permit = gateway.limits.enter(&identity.key, Instant::now());
    let mut permit = permit.inspect_err(|_refused| metrics::rate_limited())?;
    let most = gateway.engine.config().server.max_body_bytes;
    // A request that never reaches the engine has used no tokens.
    let body = body::read(&parts.headers, body, most, gateway.patience).await;
    let body = body.inspect_err(|_refused| permit.forgive())?;
    let id = request_id(&parts.extensions);
    Ok(Admitted { id, identity, permit, headers: parts.headers, body })
}

fn identify(gateway: &Gateway, headers: &HeaderMap) -> Result<Identity, WireError> {
    auth::identify(&gateway.engine.store().directory(), headers, Timestamp::now())
}

fn request_id(extensions: &axum::http::Extensions) -> RequestId {
    extensions.get::<RequestId>().cloned().unwrap_or_else(RequestId::fresh)
}

impl Admitted {
    /// Decodes the body; a wrong one uses no tokens.
    fn decoded<T>(
        &mut self,
        decode: impl FnOnce(&[u8]) -> Result<T, crate::wire::Invalid>,
    ) -> Result<T, WireError> {
        let decoded = decode(&self.body);
        match &decoded {
            // Until the true number is known: about four bytes to a token.
            Ok(_) => self.permit.expect(self.body.len() as u64 / 4),
            Err(_) => self.permit.forgive(),
        }
        Ok(decoded?)
    }

    fn call<R>(&self, target: Target, request: R, options: Options) -> Call<R> {
        Call { id: self.id.clone(), caller: self.identity.caller.clone(), target, request, options }
    }
}

async fn chat(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<AxumResponse, WireError> {
    let mut admitted = admit(&gateway, request).await?;
    let asked = admitted.decoded(openai::decode::decode)?;
    let (shape, streams) = (asked.shape, asked.request.stream);
    let created = Timestamp::now().as_second();
    let encoder = streams.then(|| {
        let locale = admitted.identity.caller.locale;
        openai::encode::Stream::new(admitted.id.clone(), shape, locale, created)
    });
    let call = admitted.call(asked.target, asked.request, asked.options);
    let write = |collected: &_, done: &_| openai::encode::whole(collected, done, shape, created);
    answer(&gateway, call, admitted.permit, encoder.map(Encoder::OpenAi), write).await
}

async fn messages(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<AxumResponse, WireError> {
    let mut admitted = admit(&gateway, request).await?;
    let headers = std::mem::take(&mut admitted.headers);
    let betas: Vec<&str> =
        headers.get_all("anthropic-beta").iter().filter_map(|value| value.to_str().ok()).collect();
    let asked = admitted.decoded(|body| anthropic::decode::decode(body, &betas))?;
    let (explain, streams) = (asked.options.explain, asked.request.stream);
    let encoder = streams.then(|| {
        let locale = admitted.identity.caller.locale;
        anthropic::encode::Stream::new(admitted.id.clone(), explain, locale)
    });
    let call = admitted.call(asked.target, asked.request, asked.options);
    let write = |collected: &_, done: &_| anthropic::encode::whole(collected, done, explain);
    answer(&gateway, call, admitted.permit, encoder.map(Encoder::Anthropic), write).await
}

/// The walk, streamed where there is an encoder, else put together.
async fn answer(
    gateway: &Gateway,
    call: Call<ChatRequest>,
    mut permit: Permit,
    encoder: Option<Encoder>,
    write: impl FnOnce(&crate::show::Collected, &Done) -> Vec<u8>,
) -> Result<AxumResponse, WireError> {
    let answer = gateway.engine.answer(call);
    if let Some(encoder) = encoder {
        return match Opening::new(answer, encoder, permit).opened().await? {
            Opened::Body(body) => Ok(streamed(body)),
            Opened::Failed(failure) => Err(WireError::from(&*failure)),
        };
    }
    match stream::collect(answer, &mut permit).await? {
        Ok((collected, done)) => {
            permit.charge(&done.usage);
            Ok(whole(write(&collected, &done), &done))
        }
        Err(failure) => {
            permit.forgive();
            Err(WireError::from(&*failure))
        }
    }
}

fn streamed(body: Box<stream::Body>) -> AxumResponse {
    let model = body.model().map(|model| header(model.as_str()));
    let mut response = Response::new(Body::from_stream(*body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Reverse proxies such as nginx would otherwise gather the pieces.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    if let Some(model) = model {
        headers.insert(errors::MODEL, model);
    }
    response
}

fn whole(body: Vec<u8>, done: &Done) -> AxumResponse {
    let mut response = json(body);
    let headers = response.headers_mut();
    headers.insert(errors::MODEL, header(done.model.as_str()));
    headers.insert(errors::COST, header(&done.cost.to_string()));
    headers.insert(errors::TRACE, header(&done.trace.line()));
    response
}

fn json(body: impl Into<Body>) -> AxumResponse {
    let mut response = Response::new(body.into());
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

async fn embeddings(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<AxumResponse, WireError> {
    let mut admitted = admit(&gateway, request).await?;
    let config = gateway.engine.config();
    let tokenizer_of = |target: &_| openai::embeddings::tokenizer_of(target, &config);
    let asked = admitted.decoded(|body| openai::embeddings::decode(body, tokenizer_of))?;
    let (base64, explain) = (asked.base64, asked.options.explain);
    let call = admitted.call(asked.target, asked.request, asked.options);
    let mut permit = admitted.permit;
    match gateway.engine.embed(call).await {
        Ok(embedded) => {
            permit.charge(&embedded.done.usage);
            let body = openai::embeddings::encode(&embedded, base64, explain);
            Ok(whole(body, &embedded.done))
        }
        Err(failure) => {
            permit.forgive();
            Err(WireError::from(&*failure))
        }
    }
}

/// Below `/v1` nobody learns anything without a key, not even what is missing (CONTRACT 17).
async fn unknown_path(State(gateway): State<Arc<Gateway>>, request: Request) -> WireError {
    let path = request.uri().path();
    if path.starts_with("/v1/")
        && let Err(error) = identify(&gateway, request.headers())
    {
        return error;
    }
    errors::not_found()
}

async fn models(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
) -> Result<AxumResponse, WireError> {
    let caller = identify(&gateway, &headers)?.caller;
    let models = gateway.engine.models_for(&caller);
    Ok(json(openai::models::list(&models, &gateway.engine.config()).to_string()))
}

async fn model(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<AxumResponse, WireError> {
    let caller = identify(&gateway, &headers)?.caller;
    let models = gateway.engine.models_for(&caller);
    match openai::models::one(&models, &gateway.engine.config(), &id) {
        Some(model) => Ok(json(model.to_string())),
        None => {
            let words = Words::new(
                "there is no such model for this key; `/v1/models` lists those that there are",
                "dieses Modell gibt es für diesen Schlüssel nicht; `/v1/models` nennt die vorhandenen",
            );
            let failure = Failure::new(RequestId::from(""), FailureKind::ModelNotFound, words);
            Err(WireError::from(&failure))
        }
    }
}

/// How many tokens a request would be, counted here and not by the vendor.
async fn count_tokens(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<AxumResponse, WireError> {
    let mut admitted = admit(&gateway, request).await?;
    let asked = admitted.decoded(anthropic::decode::decode_count)?;
    admitted.permit.forgive();
    let tokens = estimate(&asked.request, &asked.target, &gateway.engine.config());
    Ok(json(serde_json::json!({ "input_tokens": tokens }).to_string()))
}

/// Counted as the model counts that was asked for; a policy's as if nothing were known of it.
fn estimate(request: &ChatRequest, target: &Target, config: &Config) -> u64 {
    let place = match target {
        Target::Model(id) => config.catalog.get(id).and_then(|model| model.deployments.first()),
        Target::Policy(_) => None,
    };
    match place {
        Some(place) => tokens::estimate_at(request, place),
        None => tokens::estimate(request, Tokenizer::Unpublished),
    }
}

async fn ready(State(gateway): State<Arc<Gateway>>) -> (StatusCode, &'static str) {
    if gateway.stopping.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    }
    let store = gateway.engine.store();
    match tokio::time::timeout(READY_WITHIN, store.ping()).await {
        Ok(Ok(())) => (StatusCode::OK, "ready\n"),
        Ok(Err(error)) => {
            tracing::error!(error = %crate::wiring::chain(&error), "the store does not answer");
            (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n")
        }
        Err(_late) => (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer in time\n"),
    }
}

async fn figures(State(gateway): State<Arc<Gateway>>) -> AxumResponse {
    let mut response = Response::new(Body::from(metrics::page(&gateway.engine).await));
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}

/// What stands at `/` until the web UI is built into the binary.
async fn front() -> AxumResponse {
    let mut response = Response::new(Body::from(include_str!("server/front.html")));
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, html);
    response
}

/// The address that people open for a server that listens here.
pub fn address_for_people(address: SocketAddr) -> String {
    let ip = address.ip();
    match (ip.is_unspecified(), ip.is_ipv6()) {
        (true, _) => format!("http://127.0.0.1:{}", address.port()),
        (false, true) => format!("http://[{ip}]:{}", address.port()),
        (false, false) => format!("http://{ip}:{}", address.port()),
    }
}

#[cfg(test)]
mod tests;
