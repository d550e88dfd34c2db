//! The server over loopback: real sockets, simulated models, a store in a folder of its own.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde_json::{Value, json};
use stellwerk_core::config::check;
use stellwerk_core::ids::{KeyId, Node};
use stellwerk_core::ledger::Entry;
use stellwerk_core::org::{ApiKey, KeyLimits, key};
use stellwerk_core::store::LedgerQuery;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

const CONFIG: &str = r#"
[server]
listen = "127.0.0.1:0"
max_body_bytes = 20000
shutdown_grace_ms = 3000
[store]
url = "sqlite:test.db"
[classify]
mode = "off"
[guard]
pii = "off"
injection = "off"
[[provider]]
id = "sim"
kind = "simulated"
zone = "local"
tokens_per_second = 0
first_token_ms = 0
[[provider]]
id = "slow"
kind = "simulated"
zone = "local"
tokens_per_second = 50
first_token_ms = 20
[[model]]
id = "mini"
provider = "sim"
name = "mini"
tier = "economy"
price_currency = "EUR"
input_per_million = "1"
output_per_million = "10"
[[model]]
id = "slow"
provider = "slow"
name = "slow"
tier = "economy"
price = "free"
[[model]]
id = "vectors"
kind = "embedding"
provider = "sim"
name = "vectors"
price = "free"
[[policy]]
id = "default"
strategy = "fixed"
models = ["mini"]
"#;

/// A running server.
struct World {
    address: SocketAddr,
    engine: Engine,
    path: std::path::PathBuf,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), std::io::Error>>,
    folder: tempfile::TempDir,
}

/// What came back, as it came.
struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }

    fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &'_ str| line.split_once(": ").is_some_and(|(key, _)| key == name);
        let line = self.head.lines().find(|line| named(line))?;
        line.split_once(": ").map(|(_, value)| value)
    }
}

impl World {
    async fn new() -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("stellwerk.toml");
        std::fs::write(&path, CONFIG).expect("written");
        let config =
            check::load(Some(&path), &|_| None).unwrap_or_else(|wrong| panic!("{wrong:?}"));
        let listener = listen(config.server.listen).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let wired = Wired::start(config).await.expect("started");
        let engine = wired.engine.clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(serve(listener, wired, async {
            let _ = stopped.await;
        }));
        World { address, engine, path, stop: Some(stop), running, folder }
    }

    /// A key with these limits.
    async fn key(&self, name: &str, limits: KeyLimits) -> String {
        let shown = format!("sk-stw-{name}");
        let api_key = ApiKey {
            id: KeyId::from(name),
            hash: key::hash(&shown),
            node: Node::Company,
            name: name.to_owned(),
            use_case: None,
            limits,
            floor: None,
            keep_history: false,
            created_at: Timestamp::now(),
            revoked_at: None,
        };
        self.engine.store().create_key(api_key).await.expect("kept");
        self.engine.store().refresh_directory().await.expect("read");
        shown
    }

    async fn send(&self, request: &str) -> Reply {
        let mut socket = TcpStream::connect(self.address).await.expect("connected");
        socket.write_all(request.as_bytes()).await.expect("sent");
        read(&mut socket).await
    }

    async fn post(&self, path: &str, key: &str, body: &Value) -> Reply {
        self.post_text(path, key, &body.to_string()).await
    }

    async fn post_text(&self, path: &str, key: &str, body: &str) -> Reply {
        let length = body.len();
        self.send(&format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {key}\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .await
    }

    async fn get(&self, path: &str, key: &str) -> Reply {
        self.send(&format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-api-key: {key}\r\n\r\n"
        ))
        .await
    }

    async fn rows(&self) -> Vec<Entry> {
        let query = LedgerQuery { limit: 100, ..LedgerQuery::default() };
        let rows = self.engine.store().ledger(query).await.expect("read");
        rows.into_iter().map(|row| row.entry).collect()
    }

    async fn stop(mut self) -> tempfile::TempDir {
        self.stop.take().map(|stop| stop.send(()));
        self.running.await.expect("no panic").expect("a clean end");
        self.folder
    }
}

async fn read(socket: &mut TcpStream) -> Reply {
    let mut bytes = Vec::new();
    // The end of a connection that was reset is the end all the same.
    let _ = socket.read_to_end(&mut bytes).await;
    let text = String::from_utf8(bytes).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let is_chunked = head.contains("transfer-encoding: chunked");
    let body = if is_chunked { unchunked(body) } else { body.to_owned() };
    Reply { status, head: head.to_owned(), body }
}

fn unchunked(body: &str) -> String {
    let mut whole = String::new();
    let mut rest = body;
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).expect("a length");
        whole.push_str(after.get(..length).unwrap_or_default());
        rest = after.get(length + 2..).unwrap_or_default();
    }
    whole
}

fn question(more: Value) -> Value {
    let mut body =
        json!({ "model": "auto", "messages": [{ "role": "user", "content": "Guten Tag!" }] });
    for (key, value) in more.as_object().into_iter().flatten() {
        body[key.as_str()] = value.clone();
    }
    body
}

#[tokio::test]
async fn a_question_is_answered_priced_and_booked() {
    let world = World::new().await;
    let key = world.key("k", KeyLimits::default()).await;
    let reply = world.post("/v1/chat/completions", &key, &question(json!({}))).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let json = reply.json();
    assert!(!json["choices"][0]["message"]["content"].as_str().expect("text").is_empty());
    assert_eq!(reply.header("x-stellwerk-model"), Some("mini"));
    assert_eq!(reply.header("x-stellwerk-cost"), json["stellwerk"]["cost"].as_str());
    assert_eq!(reply.header("x-stellwerk-request-id"), json["stellwerk"]["request_id"].as_str());
    assert!(reply.header("x-stellwerk-trace").is_some_and(|trace| trace.contains("mini")));
    let rows = world.rows().await;
    assert_eq!(rows.len(), 1);
    assert_eq!(Some(rows[0].cost.to_string().as_str()), reply.header("x-stellwerk-cost"));
    assert_eq!(rows[0].key, Some(KeyId::from("k")));
    world.stop().await;
}

#[tokio::test]
async fn a_stream_ends_with_its_cost_in_both_formats() {
    let world = World::new().await;
    let key = world.key("k", KeyLimits::default()).await;
    let options = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let reply = world.post("/v1/chat/completions", &key, &question(options)).await;
    assert_eq!(reply.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let events: Vec<&str> = reply.body.split_terminator("\n\n").collect();
    assert_eq!(events.last(), Some(&"data: [DONE]"), "{}", reply.body);
    let last: Value =
        serde_json::from_str(&events[events.len() - 2]["data: ".len()..]).expect("JSON");
    assert_eq!(last["stellwerk"]["cost"], world.rows().await[0].cost.to_string());
    assert!(last["usage"]["completion_tokens"].as_u64().expect("a number") > 0);

    let body = json!({ "model": "auto", "max_tokens": 50, "stream": true, "messages": [{ "role": "user", "content": "Guten Tag!" }] });
    let reply = world.post("/v1/messages", &key, &body).await;
    assert!(reply.body.starts_with("event: message_start\n"), "{}", reply.body);
    assert!(reply.body.ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
    let delta =
        reply.body.lines().find(|line| line.contains("\"message_delta\"")).expect("a delta");
    assert!(delta.contains(&format!("\"cost\":\"{}\"", world.rows().await[1].cost)), "{delta}");
    world.stop().await;
}

#[tokio::test]
async fn every_error_has_the_shape_of_its_api_and_a_request_id() {
    let world = World::new().await;
    let key = world.key("k", KeyLimits::default()).await;
    let chat = "/v1/chat/completions";
    let large = "x".repeat(20_001);
    let cases = [
        (world.post(chat, "wrong", &question(json!({}))).await, 401, "invalid_api_key"),
        (world.get("/v1/models", "wrong").await, 401, "invalid_api_key"),
        (world.post_text(chat, &key, "{").await, 400, "bad_input"),
        (world.post_text(chat, &key, &large).await, 413, "too_large"),
        (
            world.post(chat, &key, &question(json!({ "model": "nobody" }))).await,
            404,
            "model_not_found",
        ),
        (
            world.post(chat, &key, &question(json!({ "model": "auto:nobody" }))).await,
            404,
            "policy_not_found",
        ),
        (world.get("/v1/models/nobody", &key).await, 404, "model_not_found"),
        (world.get("/v1/nowhere", &key).await, 404, "not_found"),
        (world.get(chat, &key).await, 405, "method_not_allowed"),
    ];
    for (reply, status, code) in cases {
        assert_eq!(reply.status, status, "{code}: {}", reply.body);
        let error = &reply.json()["error"];
        assert_eq!(error["code"], code);
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()));
        assert!(error.get("type").is_some() && error.get("param").is_some());
        assert!(reply.header("x-stellwerk-request-id").is_some_and(|id| id.starts_with("req_")));
    }
    let reply = world.post("/v1/messages", &key, &json!({})).await;
    assert_eq!(reply.status, 400);
    assert_eq!(reply.json()["type"], "error");
    assert_eq!(reply.json()["error"]["type"], "invalid_request_error");
    assert_eq!(reply.json()["request_id"].as_str(), reply.header("x-stellwerk-request-id"));
    assert!(world.rows().await.is_empty(), "a refusal has no row");
    world.stop().await;
}

#[tokio::test]
async fn a_key_at_its_limit_is_429_with_a_time_to_wait() {
    let world = World::new().await;
    let limits = KeyLimits { requests_per_minute: Some(1), ..KeyLimits::default() };
    let key = world.key("k", limits).await;
    assert_eq!(world.post("/v1/chat/completions", &key, &question(json!({}))).await.status, 200);
    let reply = world.post("/v1/chat/completions", &key, &question(json!({}))).await;
    assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (429, Some("rate_limited")));
    let wait: u64 =
        reply.header("retry-after").and_then(|wait| wait.parse().ok()).expect("seconds");
    assert!((1..=61).contains(&wait));
    world.stop().await;
}

#[tokio::test]
async fn models_and_vectors_are_given() {
    let world = World::new().await;
    let limits =
        KeyLimits { models: Some(vec!["mini".into(), "vectors".into()]), ..KeyLimits::default() };
    let key = world.key("k", limits).await;
    let list = world.get("/v1/models", &key).await.json();
    let ids: Vec<&str> =
        list["data"].as_array().expect("a list").iter().filter_map(|m| m["id"].as_str()).collect();
    assert_eq!(ids, ["auto", "auto:default", "mini", "vectors"]);
    assert_eq!(world.get("/v1/models/mini", &key).await.json()["object"], "model");
    let body = json!({ "model": "vectors", "input": ["a", "b"], "encoding_format": "base64" });
    let reply = world.post("/v1/embeddings", &key, &body).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert!(reply.json()["data"][1]["embedding"].is_string());
    world.stop().await;
}

#[tokio::test]
async fn health_figures_and_the_front_page_need_no_key() {
    let world = World::new().await;
    let key = world.key("k", KeyLimits::default()).await;
    world.post("/v1/chat/completions", &key, &question(json!({}))).await;
    assert_eq!(world.get("/healthz", "").await.status, 200);
    assert_eq!(world.get("/readyz", "").await.status, 200);
    assert!(world.get("/", "").await.body.contains("cargo xtask run"));
    let figures = world.get("/metrics", "").await.body;
    for figure in
        ["stellwerk_http_requests_total", "stellwerk_calls_total", "stellwerk_calls_in_flight"]
    {
        assert!(figures.contains(figure), "{figure} is missing:\n{figures}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_leaves_a_settled_row() {
    let world = World::new().await;
    let key = world.key("k", KeyLimits::default()).await;
    let body = question(json!({ "model": "slow", "stream": true })).to_string();
    let mut socket = TcpStream::connect(world.address).await.expect("connected");
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).await.expect("sent");
    let mut first = [0_u8; 64];
    socket.read_exact(&mut first).await.expect("headers");
    drop(socket);
    let settled = async {
        loop {
            let rows = world.rows().await;
            if !rows.is_empty() {
                return rows;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let rows = tokio::time::timeout(Duration::from_secs(5), settled).await.expect("a row");
    assert_eq!(rows[0].ending.as_str(), "client_gone");
    world.stop().await;
}

#[tokio::test]
async fn a_stop_lets_running_calls_finish() {
    let world = World::new().await;
    let key = world.key("k", KeyLimits::default()).await;
    let body = question(json!({ "model": "slow", "stream": true, "max_tokens": 40 })).to_string();
    let mut socket = TcpStream::connect(world.address).await.expect("connected");
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).await.expect("sent");
    let mut first = [0_u8; 1];
    socket.read_exact(&mut first).await.expect("it has begun");
    let address = world.address;
    let (reply, _folder) = tokio::join!(read(&mut socket), world.stop());
    assert!(reply.body.ends_with("data: [DONE]\n\n"), "{}", reply.body);
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_taken_port_is_named_with_a_way_out() {
    let taken = listen("127.0.0.1:0".parse().expect("an address")).await.expect("a port");
    let address = taken.local_addr().expect("an address");
    let error = listen(address).await.expect_err("taken");
    assert!(error.words().en.contains("is in use already"), "{}", error.words().en);
    assert!(error.words().de.contains("server.listen"));
}

#[tokio::test]
async fn a_changed_configuration_is_taken_whole_or_not_at_all() {
    let world = World::new().await;
    let key = world.key("k", KeyLimits::default()).await;
    let ids = async || {
        let list = world.get("/v1/models", &key).await.json();
        let ids = list["data"].as_array().expect("a list").iter();
        ids.filter_map(|model| model["id"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let with_policy = CONFIG.to_owned()
        + "[[policy]]\nid = \"lawyers\"\nstrategy = \"fixed\"\nmodels = [\"mini\"]\n";
    std::fs::write(&world.path, &with_policy).expect("written");
    reload::reload(&world.engine, &world.path, false).await;
    assert!(ids().await.contains(&"auto:lawyers".to_owned()));

    // The new policy is gone from this file, but the file names a model that does not exist.
    let broken = CONFIG.replace("models = [\"mini\"]", "models = [\"nobody\"]");
    std::fs::write(&world.path, broken).expect("written");
    reload::reload(&world.engine, &world.path, false).await;
    assert!(ids().await.contains(&"auto:lawyers".to_owned()));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_finishes_its_headers_gets_408_and_is_let_go() {
    for sent in ["", "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"] {
        let listener = listen("127.0.0.1:0".parse().expect("an address")).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().fallback(async || "never asked");
        tokio::spawn(connections::accept(listener, router, std::future::pending()));
        let mut socket = TcpStream::connect(address).await.expect("connected");
        socket.write_all(sent.as_bytes()).await.expect("sent");
        let reply = read(&mut socket).await;
        assert_eq!(reply.status, 408, "after `{sent}`");
        assert_eq!(reply.json()["error"]["code"], "timeout");
    }
}

#[tokio::test]
async fn a_handler_that_panics_is_500_in_shape() {
    let world = World::new().await;
    let gateway = Gateway::new(world.engine.clone());
    let panics = async || -> &'static str { panic!("on purpose") };
    let router: Router =
        Router::new().route("/v1/panics", get(panics)).layer(from_fn_with_state(gateway, around));
    let listener = listen("127.0.0.1:0".parse().expect("an address")).await.expect("a port");
    let mut other =
        TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connected");
    tokio::spawn(connections::accept(listener, router, std::future::pending()));
    let request = "GET /v1/panics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    other.write_all(request.as_bytes()).await.expect("sent");
    let reply = read(&mut other).await;
    assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (500, Some("internal")));
    assert!(reply.header("x-stellwerk-request-id").is_some());
    assert!(!reply.body.contains("on purpose"));
    world.stop().await;
}
