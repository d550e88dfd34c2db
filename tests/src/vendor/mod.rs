//! A vendor for tests: speaks the formats of OpenAI, Azure, Anthropic, Gemini and Bedrock on
//! loopback, plays what a [`Script`] says for a model name, and remembers what reached it.
//!
//! The formats are written from the vendors' documents, and share no code with the product, so
//! that a misreading there is not repeated here.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

mod anthropic;
mod azure;
mod bedrock;
mod gemini;
mod openai;

/// Every kind of provider that the vendor speaks as.
pub const KINDS: [&str; 5] = ["openai", "azure", "anthropic", "gemini", "bedrock"];

/// The region that the vendor is in, as far as AWS has one; a signature must name it.
pub const REGION: &str = "eu-central-1";

/// What the vendor says that a call used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Everything.
    Full {
        /// All input, cached included.
        input: u64,
        /// Of the input: from the cache.
        cached: u64,
        /// All output, reasoning included.
        output: u64,
        /// Of the output: reasoning.
        reasoning: u64,
    },
    /// No usage at all.
    Nothing,
    /// A usage of zeros, as some servers give it in streams.
    Zero,
}

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Whole.
    Complete,
    /// The connection breaks after so many pieces.
    CutAfter(usize),
    /// Nothing more comes after so many pieces, and the connection stays open.
    StallAfter(usize),
    /// An error instead of an answer.
    Status(u16),
    /// A success whose body is no JSON (in a stream: after so many pieces).
    Malformed(usize),
    /// A success whose body is an error object (in a stream: after the first piece).
    ErrorInSuccess,
}

/// What the vendor does with one call.
#[derive(Debug, Clone)]
pub struct Script {
    pieces: Vec<String>,
    tool: Option<(String, Value)>,
    told: Told,
    end: End,
    retry_after: Option<String>,
    before: Duration,
    between: Duration,
    gated: bool,
    headers_first: bool,
    echo: Option<Echo>,
}

/// What of the question comes back in the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Echo {
    /// The text itself, in pieces of three characters.
    Text,
    /// The text as an argument of this tool.
    Tool(String),
}

impl Script {
    /// A whole answer of these pieces, with a usage of 10 in and one a piece out.
    pub fn answer<S: Into<String>>(pieces: impl IntoIterator<Item = S>) -> Self {
        let pieces: Vec<String> = pieces.into_iter().map(Into::into).collect();
        let output = pieces.len() as u64;
        Script {
            pieces,
            tool: None,
            told: Told::Full { input: 10, cached: 0, output, reasoning: 0 },
            end: End::Complete,
            retry_after: None,
            before: Duration::ZERO,
            between: Duration::ZERO,
            gated: false,
            headers_first: true,
            echo: None,
        }
    }

    /// A whole answer of so many words, `w1 w2 …`.
    pub fn words(count: usize) -> Self {
        Self::answer((1..=count).map(|n| format!("w{n} ")))
    }

    /// A refusal with this status.
    pub fn status(status: u16) -> Self {
        Script { end: End::Status(status), ..Self::words(0) }
    }

    /// A call of this tool.
    pub fn calls_tool(name: &str, arguments: Value) -> Self {
        Script { tool: Some((name.to_owned(), arguments)), ..Self::words(0) }.uses(10, 5)
    }

    /// An answer that repeats the last question word by word, in small pieces.
    pub fn echo() -> Self {
        Script { echo: Some(Echo::Text), ..Self::words(0) }.uses(10, 5)
    }

    /// A call of this tool with the last question as its argument `text`.
    pub fn echo_into_tool(name: &str) -> Self {
        Script { echo: Some(Echo::Tool(name.to_owned())), ..Self::words(0) }.uses(10, 5)
    }

    /// What it says that it used.
    pub fn told(self, told: Told) -> Self {
        Script { told, ..self }
    }

    /// It says that it used so many tokens, none of them cached or reasoning.
    pub fn uses(self, input: u64, output: u64) -> Self {
        self.told(Told::Full { input, cached: 0, output, reasoning: 0 })
    }

    /// How it ends.
    pub fn ends(self, end: End) -> Self {
        Script { end, ..self }
    }

    /// The `retry-after` of a refusal.
    pub fn retry_after(self, seconds: &str) -> Self {
        Script { retry_after: Some(seconds.to_owned()), ..self }
    }

    /// Waits before the first piece.
    pub fn after(self, wait: Duration) -> Self {
        Script { before: wait, ..self }
    }

    /// Waits between two pieces.
    pub fn pausing(self, wait: Duration) -> Self {
        Script { between: wait, ..self }
    }

    /// Waits before the first piece until the test calls [`Vendor::open`].
    pub fn gated(self) -> Self {
        Script { gated: true, ..self }
    }

    /// Like [`Script::gated`], but not even the status is sent before.
    pub fn gated_whole(self) -> Self {
        Script { gated: true, headers_first: false, ..self }
    }
}

/// The dialect that a call came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenAI's chat completions and embeddings.
    OpenAi,
    /// The same at Azure's addresses.
    Azure,
    /// Anthropic's messages.
    Anthropic,
    /// Gemini's generateContent.
    Gemini,
    /// Bedrock's Converse and ConverseStream.
    Bedrock,
}

/// One call that reached the vendor.
#[derive(Debug, Clone)]
pub struct Seen {
    /// In which dialect.
    pub format: Format,
    /// For which of the vendor's models.
    pub model: String,
    /// The whole body.
    pub body: Value,
    /// The headers.
    pub headers: HeaderMap,
    gone: Arc<watch::Sender<Option<Instant>>>,
    finished: Arc<AtomicBool>,
}

impl Seen {
    /// Whether the caller let go before the vendor was done.
    pub fn was_dropped(&self) -> bool {
        self.gone.borrow().is_some() && !self.finished.load(Ordering::SeqCst)
    }

    /// When the connection was let go, waiting for at most `limit`; `None`: it was not.
    pub async fn dropped_within(&self, limit: Duration) -> Option<Instant> {
        let mut gone = self.gone.subscribe();
        tokio::time::timeout(limit, gone.wait_for(Option::is_some)).await.ok()?.ok()?;
        let moment = *self.gone.borrow();
        moment.filter(|_| !self.finished.load(Ordering::SeqCst))
    }
}

/// Tells, however a call ends, that it has ended.
struct Guard {
    gone: Arc<watch::Sender<Option<Instant>>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.gone.send_replace(Some(Instant::now()));
    }
}

#[derive(Default)]
struct Book {
    scripts: HashMap<String, VecDeque<Script>>,
    seen: Vec<Seen>,
}

struct Shared {
    // A plain mutex: held for a look-up, never across an await.
    book: Mutex<Book>,
    arrived: Notify,
    gate: watch::Sender<bool>,
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running fake vendor. It ends with the process of the test.
#[derive(Clone)]
pub struct Vendor {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl Vendor {
    /// Starts on a free port of loopback.
    pub fn start() -> Self {
        let shared = Arc::new(Shared {
            book: Mutex::default(),
            arrived: Notify::new(),
            gate: watch::Sender::new(false),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener that waits");
        let address = listener.local_addr().expect("the port");
        let routes = Router::new()
            .route("/openai/v1/chat/completions", post(openai::chat))
            .route("/openai/v1/embeddings", post(openai::embeddings))
            .route("/azure/openai/{*call}", post(azure::answer))
            .route("/anthropic/v1/messages", post(anthropic::messages))
            .route("/gemini/v1beta/models/{call}", post(gemini_call))
            .route("/bedrock/model/{model}/{operation}", post(bedrock::converse))
            .layer(DefaultBodyLimit::disable())
            .with_state(shared.clone());
        // A thread of its own: a test that waits for a command would else stop the vendor that
        // the command waits for.
        std::thread::spawn(move || serve(listener, routes));
        Vendor { shared, address }
    }

    /// The base URL for a provider of this kind, one of [`KINDS`].
    pub fn base_url(&self, kind: &str) -> String {
        match kind {
            "openai" => format!("http://{}/openai/v1", self.address),
            other => format!("http://{}/{other}", self.address),
        }
    }

    /// What the vendor does with calls for its model of this name, one script a call; the last
    /// one is played again and again.
    pub fn plays(&self, model: &str, scripts: impl IntoIterator<Item = Script>) {
        self.shared.book().scripts.insert(model.to_owned(), scripts.into_iter().collect());
    }

    /// Everything that reached the vendor so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.book().seen.clone()
    }

    /// What reached this model.
    pub fn seen_by(&self, model: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.model == model).collect()
    }

    /// Waits until so many calls have reached the vendor.
    pub async fn wait_for_calls(&self, count: usize) {
        let enough = async {
            loop {
                let arrived = self.shared.arrived.notified();
                if self.shared.book().seen.len() >= count {
                    return;
                }
                arrived.await;
            }
        };
        let came = tokio::time::timeout(Duration::from_secs(20), enough).await;
        assert!(came.is_ok(), "{} of {count} calls reached the vendor", self.seen().len());
    }

    /// Lets gated answers go.
    pub fn open(&self) {
        self.shared.gate.send_replace(true);
    }

    /// Holds gated answers again.
    pub fn shut(&self) {
        self.shared.gate.send_replace(false);
    }
}

fn serve(listener: std::net::TcpListener, routes: Router) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        axum::serve(listener, routes).await.expect("the vendor serves");
    });
}

async fn gemini_call(
    state: State<Arc<Shared>>,
    Path(call): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    gemini::generate(state, call, headers, body).await
}

/// What a dialect makes of a script: the whole body, or the events of a stream, as text or as
/// binary frames.
enum Wire {
    Whole(Value),
    Stream(Vec<String>),
    Frames(Vec<Vec<u8>>),
}

/// Notes the call, finds its script and plays it. `encode` is the dialect's part.
async fn play(
    shared: Arc<Shared>,
    format: Format,
    model: String,
    headers: HeaderMap,
    body: Value,
    encode: impl Fn(&Script, &Value) -> Wire,
) -> Response {
    let (guard, finished, script) = note(&shared, format, &model, headers, &body);
    if !script.headers_first {
        wait_for_gate(&shared, &script).await;
    }
    if let End::Status(status) = script.end {
        tokio::time::sleep(script.before).await;
        finished.store(true, Ordering::SeqCst);
        return refusal(format, status, script.retry_after.as_deref());
    }
    match encode(&script, &body) {
        Wire::Whole(body) => {
            wait_for_gate(&shared, &script).await;
            whole(format, script, body, guard, finished).await
        }
        Wire::Stream(events) => {
            let events = events.into_iter().map(String::into_bytes).collect();
            streamed(shared, steps(format, &script, events), "text/event-stream", guard, finished)
        }
        Wire::Frames(events) => {
            let kind = "application/vnd.amazon.eventstream";
            streamed(shared, steps(format, &script, events), kind, guard, finished)
        }
    }
}

fn note(
    shared: &Shared,
    format: Format,
    model: &str,
    headers: HeaderMap,
    body: &Value,
) -> (Guard, Arc<AtomicBool>, Script) {
    let gone = Arc::new(watch::Sender::new(None));
    let finished = Arc::new(AtomicBool::new(false));
    let mut book = shared.book();
    book.seen.push(Seen {
        format,
        model: model.to_owned(),
        body: body.clone(),
        headers,
        gone: gone.clone(),
        finished: finished.clone(),
    });
    let script = match book.scripts.get_mut(model) {
        Some(scripts) if scripts.len() > 1 => scripts.pop_front(),
        Some(scripts) => scripts.front().cloned(),
        None => None,
    };
    drop(book);
    shared.arrived.notify_waiters();
    let script = script.unwrap_or_else(|| fitting(body));
    (Guard { gone }, finished, echoed(script, body))
}

/// Fills in what a script repeats of the question.
fn echoed(mut script: Script, body: &Value) -> Script {
    let text = last_text(body);
    match script.echo.take() {
        Some(Echo::Text) => {
            let characters: Vec<char> = text.chars().collect();
            script.pieces = characters.chunks(3).map(String::from_iter).collect();
        }
        Some(Echo::Tool(name)) => script.tool = Some((name, json!({ "text": text }))),
        None => {}
    }
    script
}

/// The text of the last message, in any of the dialects.
fn last_text(body: &Value) -> String {
    let messages = body.get("messages").or_else(|| body.get("contents"));
    let last = messages.and_then(Value::as_array).and_then(|all| all.last());
    let Some(last) = last else { return String::new() };
    let content = last.get("content").or_else(|| last.get("parts")).unwrap_or(&Value::Null);
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

/// Without a script: a tool call where tools are offered and not yet answered, JSON where a
/// schema is asked for, else a few words.
fn fitting(body: &Value) -> Script {
    let weather = json!({ "city": "Berlin", "celsius": 21 });
    let text = body.to_string();
    let answered =
        ["\"role\":\"tool\"", "\"tool_result\"", "\"functionResponse\"", "\"toolResult\""];
    let has_result = answered.iter().any(|mark| text.contains(mark));
    if let Some(name) = first_tool(body).filter(|_| !has_result) {
        return Script::calls_tool(&name, weather);
    }
    let schemas =
        ["json_schema", "output_format", "output_config", "responseSchema", "responseJsonSchema"];
    if schemas.iter().any(|mark| text.contains(mark)) {
        return Script::answer([weather.to_string()]).uses(10, 9);
    }
    Script::answer(["Eine ", "Weiche ", "stellt ", "das ", "Gleis."])
}

fn first_tool(body: &Value) -> Option<String> {
    let tools = body.get("tools").or_else(|| body.pointer("/toolConfig/tools"))?;
    let tool = tools.get(0)?;
    let name = tool
        .pointer("/function/name")
        .or_else(|| tool.get("name"))
        .or_else(|| tool.pointer("/functionDeclarations/0/name"))
        .or_else(|| tool.pointer("/function_declarations/0/name"))
        .or_else(|| tool.pointer("/toolSpec/name"))?;
    Some(name.as_str()?.to_owned())
}

async fn wait_for_gate(shared: &Shared, script: &Script) {
    if script.gated {
        let mut gate = shared.gate.subscribe();
        gate.wait_for(|open| *open).await.ok();
    }
}

fn refusal(format: Format, status: u16, retry_after: Option<&str>) -> Response {
    // The words are a mark: whatever a vendor writes into an error may quote the prompt, and must
    // not be found in a log.
    let message = "the vendor's own words: GEHEIM-VENDOR";
    let body = match format {
        Format::OpenAi => json!({ "error": { "message": message, "type": "x", "code": null } }),
        Format::Azure => json!({ "error": { "code": status.to_string(), "message": message } }),
        Format::Anthropic => {
            json!({ "type": "error", "error": { "type": "api_error", "message": message } })
        }
        Format::Gemini => json!({ "error": { "code": status, "message": message, "status": "X" } }),
        Format::Bedrock => json!({ "__type": bedrock::exception(status), "message": message }),
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, axum::Json(body)).into_response();
    if let Some(value) = retry_after.and_then(|text| text.parse().ok()) {
        response.headers_mut().insert("retry-after", value);
    }
    response
}

async fn whole(
    format: Format,
    script: Script,
    body: Value,
    guard: Guard,
    finished: Arc<AtomicBool>,
) -> Response {
    let _guard = guard;
    tokio::time::sleep(script.before + script.between * script.pieces.len() as u32).await;
    match script.end {
        End::StallAfter(_) => std::future::pending().await,
        End::CutAfter(_) => {
            // Half of the body, and then the connection breaks.
            let text = body.to_string();
            let half = Bytes::from(text[..text.len() / 2].to_owned());
            let steps = vec![Ok(half), Err(std::io::Error::other("cut"))];
            finished.store(true, Ordering::SeqCst);
            return json_response(Body::from_stream(stream::iter(steps)));
        }
        End::Malformed(_) => {
            finished.store(true, Ordering::SeqCst);
            return json_response(Body::from("{\"this is\": no json"));
        }
        End::ErrorInSuccess => {
            finished.store(true, Ordering::SeqCst);
            return json_response(Body::from(error_object(format)));
        }
        End::Complete | End::Status(_) => {}
    }
    finished.store(true, Ordering::SeqCst);
    json_response(Body::from(body.to_string()))
}

fn error_object(format: Format) -> String {
    let message = "GEHEIM-VENDOR";
    let body = match format {
        Format::Bedrock => json!({ "__type": bedrock::exception(500), "message": message }),
        Format::Anthropic => {
            json!({ "type": "error", "error": { "type": "api_error", "message": message } })
        }
        _ => json!({ "error": { "message": message, "type": "server_error", "code": 500 } }),
    };
    body.to_string()
}

fn json_response(body: Body) -> Response {
    ([("content-type", "application/json")], body).into_response()
}

enum Step {
    Send(Bytes),
    Wait(Duration),
    Gate,
    Cut,
    Stall,
    Finished,
}

fn streamed(
    shared: Arc<Shared>,
    steps: Vec<Step>,
    kind: &'static str,
    guard: Guard,
    finished: Arc<AtomicBool>,
) -> Response {
    let steps = VecDeque::from(steps);
    let state = (steps, shared, finished, guard);
    let body = stream::unfold(state, |(mut steps, shared, finished, guard)| async move {
        loop {
            let item = match steps.pop_front()? {
                Step::Send(bytes) => Ok(bytes),
                Step::Cut => Err(std::io::Error::other("cut")),
                Step::Wait(wait) => {
                    tokio::time::sleep(wait).await;
                    continue;
                }
                Step::Gate => {
                    shared.gate.subscribe().wait_for(|open| *open).await.ok();
                    continue;
                }
                Step::Stall => std::future::pending().await,
                Step::Finished => {
                    finished.store(true, Ordering::SeqCst);
                    continue;
                }
            };
            return Some((item, (steps, shared, finished, guard)));
        }
    });
    ([("content-type", kind)], Body::from_stream(body)).into_response()
}

/// The pieces of a stream are marked by their dialect: an event that begins with `\u{1}` is the
/// n-th piece of the answer, the others are frame. No event begins so by itself: a text does not,
/// and a binary frame begins with its length, whose first byte is zero below 16 MiB.
const PIECE: char = '\u{1}';

fn steps(format: Format, script: &Script, events: Vec<Vec<u8>>) -> Vec<Step> {
    let mut steps = Vec::new();
    if script.gated {
        steps.push(Step::Gate);
    }
    steps.push(Step::Wait(script.before));
    let mut sent = 0;
    if let Some(last) = last_step(format, script, sent) {
        steps.extend(last);
        return steps;
    }
    for event in events {
        let event = Bytes::from(event);
        if event.first() != Some(&(PIECE as u8)) {
            steps.push(Step::Send(event));
            continue;
        }
        if sent > 0 {
            steps.push(Step::Wait(script.between));
        }
        steps.push(Step::Send(event.slice(1..)));
        sent += 1;
        if let Some(last) = last_step(format, script, sent) {
            steps.extend(last);
            return steps;
        }
    }
    // What the client lets go of after the last byte was sent is no early leaving.
    let end = steps.pop();
    steps.push(Step::Finished);
    steps.extend(end);
    steps
}

/// What ends a stream after so many pieces, if anything does.
fn last_step(format: Format, script: &Script, sent: usize) -> Option<Vec<Step>> {
    match script.end {
        End::CutAfter(pieces) if pieces == sent => {
            // The server beneath drops what it has not written yet when a body breaks, so what
            // came before the cut gets a moment to leave.
            let moment = Duration::from_millis(20);
            Some(vec![Step::Finished, Step::Wait(moment), Step::Cut])
        }
        End::StallAfter(pieces) if pieces == sent => Some(vec![Step::Stall]),
        End::Malformed(pieces) if pieces == sent => {
            Some(vec![Step::Finished, Step::Send(no_json(format).into())])
        }
        End::ErrorInSuccess if sent == 1 => {
            Some(vec![Step::Finished, Step::Send(error_event(format).into())])
        }
        _ => None,
    }
}

/// An event of this dialect whose data is no JSON.
fn no_json(format: Format) -> Vec<u8> {
    let data = "{\"this is\": no json";
    match format {
        Format::Bedrock => bedrock::event("contentBlockDelta", data),
        _ => format!("data: {data}\n\n").into_bytes(),
    }
}

/// An error of this dialect inside a stream.
fn error_event(format: Format) -> Vec<u8> {
    match format {
        Format::Bedrock => bedrock::broken_off("GEHEIM-VENDOR"),
        _ => format!("data: {}\n\n", error_object(format)).into_bytes(),
    }
}
