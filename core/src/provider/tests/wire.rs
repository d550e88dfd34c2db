//! The wire itself, over loopback: limits, cuts, cancelling, connections that are used again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::config::{ProviderConfig, ProviderKind, ProviderLimits, SimulatedConfig};
use crate::provider::{
    ChunkStream, Provider, ProviderCall, ProviderError, ProviderErrorKind, build,
};
use crate::reply::Chunk;
use crate::request::{ChatRequest, EmbedRequest, Extra, Zone};

/// What a fake vendor does after it has read a request.
#[derive(Clone)]
enum Step {
    Say(String),
    Rest(u64),
    /// Waits until the other side has gone.
    Hold,
    Close,
}

/// A vendor that does the same with each request.
struct Vendor {
    address: String,
    connections: Arc<AtomicUsize>,
    /// Every request's head and body.
    requests: mpsc::UnboundedReceiver<String>,
    /// One word whenever a connection has gone.
    gone: mpsc::UnboundedReceiver<()>,
}

async fn vendor(steps: Vec<Step>) -> Vendor {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}/v1", listener.local_addr().expect("an address"));
    let connections = Arc::new(AtomicUsize::new(0));
    let (told, requests) = mpsc::unbounded_channel();
    let (left, gone) = mpsc::unbounded_channel();
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let (steps, told, left) = (steps.clone(), told.clone(), left.clone());
            tokio::spawn(async move {
                serve(socket, &steps, &told).await;
                let _ = left.send(());
            });
        }
    });
    Vendor { address, connections, requests, gone }
}

async fn serve(mut socket: TcpStream, steps: &[Step], told: &mpsc::UnboundedSender<String>) {
    while let Some(request) = read_request(&mut socket).await {
        let _ = told.send(request);
        for step in steps {
            match step {
                Step::Say(text) => {
                    if socket.write_all(text.as_bytes()).await.is_err() {
                        return;
                    }
                }
                Step::Rest(ms) => tokio::time::sleep(Duration::from_millis(*ms)).await,
                Step::Hold => {
                    let mut rest = [0; 64];
                    while !matches!(socket.read(&mut rest).await, Ok(0) | Err(_)) {}
                    return;
                }
                Step::Close => return,
            }
        }
    }
}

async fn read_request(socket: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
            });
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        match socket.read(&mut piece).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => request.extend_from_slice(&piece[..read]),
        }
    }
}

fn say(text: impl Into<String>) -> Step {
    Step::Say(text.into())
}

fn whole(status: &str, headers: &str, body: &str) -> Step {
    say(format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

fn stream_head() -> Step {
    say("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
}

fn piece(text: &str) -> Step {
    say(format!("{:x}\r\n{text}\r\n", text.len()))
}

const TEXT: &str = "data: {\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Ja\"}}]}\n\n";
const END: &str = "data: {\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";
const WHOLE: &str = r#"{"id":"c","model":"m","choices":[{"index":0,"message":{"content":"Ja"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;

fn config(address: &str) -> ProviderConfig {
    ProviderConfig {
        id: "test".into(),
        kind: ProviderKind::OpenAi,
        base_url: address.to_owned(),
        api_key: Some("sk-very-secret".into()),
        zone: Zone::World,
        api_version: None,
        region: None,
        access_key: None,
        secret_key: None,
        headers: vec![("x-team".to_owned(), "rails".into())],
        limits: ProviderLimits {
            connect: Duration::from_millis(1000),
            first_token: Duration::from_millis(400),
            idle: Duration::from_millis(200),
            total: Duration::from_millis(3000),
            max_retries: 0,
        },
        simulated: SimulatedConfig::default(),
    }
}

fn provider(address: &str) -> Arc<dyn Provider> {
    build(&config(address)).expect("a provider")
}

async fn ask(provider: &Arc<dyn Provider>, stream: bool) -> Result<ChunkStream, ProviderError> {
    let request = ChatRequest { stream, ..ChatRequest::ask("Geht das?") };
    let call =
        ProviderCall { model: "m".to_owned(), request: request.into(), logprobs_for_judge: false };
    provider.chat(call).await
}

async fn heard(mut chunks: ChunkStream) -> (String, Option<ProviderErrorKind>) {
    let mut text = String::new();
    while let Some(chunk) = chunks.next().await {
        match chunk {
            Ok(Chunk::Text { text: piece, .. }) => text.push_str(&piece),
            Ok(_) => {}
            Err(error) => return (text, Some(error.kind)),
        }
    }
    (text, None)
}

async fn refused(vendor: &Vendor, stream: bool) -> ProviderError {
    match ask(&provider(&vendor.address), stream).await {
        Ok(_) => panic!("it was not refused"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_streamed_answer_arrives_whatever_its_packets() {
    let cut = TEXT.len() / 2;
    let steps = vec![
        stream_head(),
        piece(&TEXT[..cut]),
        Step::Rest(20),
        piece(&TEXT[cut..]),
        piece(END),
        piece(DONE),
        say("0\r\n\r\n"),
    ];
    let vendor = vendor(steps).await;
    let chunks = ask(&provider(&vendor.address), true).await.expect("begun");
    assert_eq!(heard(chunks).await, ("Ja".to_owned(), None));
}

#[tokio::test]
async fn key_and_headers_are_sent_and_no_debug_output_shows_them() {
    let mut vendor = vendor(vec![whole("200 OK", "", WHOLE)]).await;
    let provider = crate::provider::openai::new(&config(&vendor.address)).expect("a provider");
    let shown = format!("{provider:?}");
    assert!(!shown.contains("very-secret") && !shown.contains("rails"), "{shown}");
    let provider: Arc<dyn Provider> = Arc::new(provider);
    drop(ask(&provider, false).await.expect("an answer"));
    let request = vendor.requests.recv().await.expect("a request");
    assert!(request.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("authorization: Bearer sk-very-secret\r\n"));
    assert!(request.contains("x-team: rails\r\n"));
}

#[tokio::test]
async fn a_connection_is_used_again_after_whole_and_streamed_answers() {
    let streamed =
        vec![stream_head(), piece(TEXT), piece(END), piece(DONE), Step::Rest(5), say("0\r\n\r\n")];
    for (stream, steps) in [(false, vec![whole("200 OK", "", WHOLE)]), (true, streamed)] {
        let vendor = vendor(steps).await;
        let provider = provider(&vendor.address);
        for _ in 0..4 {
            let chunks = ask(&provider, stream).await.expect("begun");
            assert_eq!(heard(chunks).await, ("Ja".to_owned(), None));
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        assert_eq!(vendor.connections.load(Ordering::SeqCst), 1, "streamed: {stream}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_mid_answer_is_a_cut() {
    let vendor = vendor(vec![stream_head(), piece(TEXT), Step::Close]).await;
    let chunks = ask(&provider(&vendor.address), true).await.expect("begun");
    assert_eq!(heard(chunks).await, ("Ja".to_owned(), Some(ProviderErrorKind::Cut)));
}

#[tokio::test]
async fn a_whole_answer_that_breaks_is_a_cut() {
    let half =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"id\"";
    let vendor = vendor(vec![say(half), Step::Close]).await;
    assert_eq!(refused(&vendor, false).await.kind, ProviderErrorKind::Cut);
}

#[tokio::test]
async fn nobody_there_and_nobody_answering_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}/v1", listener.local_addr().expect("an address"));
    drop(listener);
    let error = ask(&provider(&address), true).await.err().expect("refused");
    assert_eq!(
        (error.kind, error.detail.as_str()),
        (ProviderErrorKind::Connect, "no connection (refused)")
    );

    // Here the vendor has read the question and may bill it.
    let vendor = vendor(vec![Step::Close]).await;
    assert_eq!(refused(&vendor, true).await.kind, ProviderErrorKind::Cut);
}

#[tokio::test]
async fn a_vendor_that_says_nothing_is_given_up() {
    let silent = vendor(vec![Step::Hold]).await;
    let error = refused(&silent, true).await;
    assert_eq!(error.kind, ProviderErrorKind::Timeout);
    assert_eq!(error.detail, "no first token within 0.4 s");

    // Headers and pings are no token.
    let pinging = vendor(vec![stream_head(), piece(": ping\n\n"), Step::Hold]).await;
    let chunks = ask(&provider(&pinging.address), true).await.expect("begun");
    assert_eq!(heard(chunks).await, (String::new(), Some(ProviderErrorKind::Timeout)));

    let stalling = vendor(vec![stream_head(), piece(TEXT), Step::Hold]).await;
    let chunks = ask(&provider(&stalling.address), true).await.expect("begun");
    assert_eq!(heard(chunks).await, ("Ja".to_owned(), Some(ProviderErrorKind::Timeout)));
}

#[tokio::test]
async fn a_whole_answer_may_take_longer_than_a_first_token() {
    let vendor = vendor(vec![Step::Rest(700), whole("200 OK", "", WHOLE)]).await;
    let chunks = ask(&provider(&vendor.address), false).await.expect("an answer");
    assert_eq!(heard(chunks).await, ("Ja".to_owned(), None));
}

#[tokio::test]
async fn dropping_the_answer_closes_the_vendors_connection_within_a_second() {
    // Once while it streams, once before it has said anything.
    let mut streaming = vendor(vec![stream_head(), piece(TEXT), Step::Hold]).await;
    let mut chunks = ask(&provider(&streaming.address), true).await.expect("begun");
    chunks.next().await.expect("something").expect("no error");
    let dropped = Instant::now();
    drop(chunks);
    timeout(Duration::from_secs(1), streaming.gone.recv()).await.expect("closed in time");
    assert!(dropped.elapsed() < Duration::from_secs(1));

    let mut silent = vendor(vec![Step::Hold]).await;
    let provider = provider(&silent.address);
    let asking = tokio::spawn(async move { ask(&provider, false).await.map(drop) });
    silent.requests.recv().await.expect("a request");
    asking.abort();
    timeout(Duration::from_secs(1), silent.gone.recv()).await.expect("closed in time");
}

#[tokio::test]
async fn a_refusal_keeps_its_status_and_its_wish() {
    let busy = vendor(vec![whole("429 Too Many Requests", "retry-after: 7\r\n", "{}")]).await;
    let error = refused(&busy, true).await;
    assert_eq!(error.kind, ProviderErrorKind::RateLimited);
    assert_eq!((error.status, error.retry_after), (Some(429), Some(Duration::from_secs(7))));
}

#[tokio::test]
async fn an_endless_error_body_ends_with_its_status() {
    let endless = vec![
        say("HTTP/1.1 500 Oops\r\ntransfer-encoding: chunked\r\n\r\n"),
        piece(&"x".repeat(100_000)),
        Step::Hold,
    ];
    let vendor = vendor(endless).await;
    let error = timeout(Duration::from_secs(2), refused(&vendor, true)).await.expect("in time");
    assert_eq!(error.kind, ProviderErrorKind::Server);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = vendor(vec![whole("200 OK", "", WHOLE)]).await;
    let location = format!("location: {}/chat/completions\r\n", elsewhere.address);
    let vendor = vendor(vec![whole("307 Temporary Redirect", &location, "")]).await;
    let error = refused(&vendor, false).await;
    assert_eq!(error.kind, ProviderErrorKind::NotFound);
    assert_eq!(elsewhere.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_streamed_request_that_is_answered_whole_is_read_whole() {
    let vendor = vendor(vec![whole("200 OK", "", WHOLE)]).await;
    let chunks = ask(&provider(&vendor.address), true).await.expect("an answer");
    assert_eq!(heard(chunks).await, ("Ja".to_owned(), None));
}

#[tokio::test]
async fn an_error_in_the_body_of_a_success_is_no_answer() {
    let body = r#"{"error":{"message":"boom","type":"server_error"}}"#;
    let vendor = vendor(vec![whole("200 OK", "", body)]).await;
    assert_eq!(refused(&vendor, false).await.kind, ProviderErrorKind::Server);
    assert_eq!(refused(&vendor, true).await.kind, ProviderErrorKind::Server);
}

#[tokio::test]
async fn vectors_come_over_the_same_wire() {
    let body = r#"{"data":[{"index":0,"embedding":[1,0]}],"usage":{"prompt_tokens":2}}"#;
    let mut vendor = vendor(vec![whole("200 OK", "", body)]).await;
    let request = EmbedRequest {
        input: vec!["Gleis".to_owned()],
        dimensions: None,
        user: None,
        extra: Extra::default(),
    };
    let call =
        ProviderCall { model: "m".to_owned(), request: request.into(), logprobs_for_judge: false };
    let read = provider(&vendor.address).embed(call).await.expect("vectors");
    assert_eq!(read.vectors, [vec![1.0, 0.0]]);
    assert!(vendor.requests.recv().await.expect("a request").starts_with("POST /v1/embeddings "));
}
