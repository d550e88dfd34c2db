//! Where Anthropic, Gemini and Bedrock are called, and with which headers, over loopback.

use futures::StreamExt;
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::config::{ProviderConfig, ProviderKind, ProviderLimits, SimulatedConfig};
use crate::provider::{ProviderCall, ProviderErrorKind, build};
use crate::reply::{Chunk, Usage};
use crate::request::{ChatRequest, EmbedRequest, Extra, Zone};

/// A vendor that answers every request with the same bytes and tells what it was asked.
async fn vendor(answer: &str) -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let (told, requests) = mpsc::unbounded_channel();
    let answer = answer.to_owned();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket, answer.clone(), told.clone()));
        }
    });
    (address, requests)
}

async fn serve(mut socket: TcpStream, answer: String, told: mpsc::UnboundedSender<String>) {
    let mut request = String::new();
    let mut bytes = [0; 4096];
    while !is_whole(&request) {
        match socket.read(&mut bytes).await {
            Ok(read) if read > 0 => request.push_str(&String::from_utf8_lossy(&bytes[..read])),
            _ => return,
        }
    }
    // The test may have what it wanted and be gone.
    let _ = told.send(request);
    let _ = socket.write_all(answer.as_bytes()).await;
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
    });
    body.len() >= length.unwrap_or(0)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

const JSON: &str = "content-type: application/json\r\n";
const EVENTS: &str = "content-type: text/event-stream\r\n";

fn config(kind: ProviderKind, base_url: String) -> ProviderConfig {
    ProviderConfig {
        id: "vendor".into(),
        kind,
        base_url,
        api_key: Some(SecretString::from("key-1")),
        zone: Zone::World,
        api_version: None,
        region: Some("eu-central-1".to_owned()),
        access_key: None,
        secret_key: None,
        headers: vec![("x-company".to_owned(), SecretString::from("ACME"))],
        limits: ProviderLimits::default(),
        simulated: SimulatedConfig::default(),
    }
}

fn call(model: &str, stream: bool, n: u32) -> ProviderCall {
    let request =
        ChatRequest { max_output_tokens: Some(64), stream, n, ..ChatRequest::ask("Hallo") };
    ProviderCall { model: model.to_owned(), request: request.into(), logprobs_for_judge: false }
}

async fn chat(config: &ProviderConfig, call: ProviderCall) -> Vec<Chunk> {
    let provider = build(config).expect("a provider");
    let pieces: Vec<_> = provider.chat(call).await.expect("an answer").collect().await;
    pieces.into_iter().collect::<Result<_, _>>().expect("a whole answer")
}

fn text_of(chunks: &[Chunk]) -> String {
    let text = chunks.iter().filter_map(|chunk| match chunk {
        Chunk::Text { text, .. } => Some(text.as_str()),
        _ => None,
    });
    text.collect()
}

fn has_header(request: &str, header: &str) -> bool {
    let head = request.split("\r\n\r\n").next().unwrap_or_default();
    head.lines().any(|line| line.eq_ignore_ascii_case(header))
}

const MESSAGE: &str = r#"{"id":"m","model":"claude-sonnet-4-5","content":[{"type":"text","text":"Hallo"}],
    "stop_reason":"end_turn","usage":{"input_tokens":5,"output_tokens":2}}"#;

#[tokio::test]
async fn anthropic_is_called_with_its_key_and_version() {
    let (address, mut requests) = vendor(&answer("200 OK", JSON, MESSAGE)).await;
    let config = config(ProviderKind::Anthropic, address);
    let chunks = chat(&config, call("claude-sonnet-4-5", false, 1)).await;
    assert_eq!(text_of(&chunks), "Hallo");
    let request = requests.recv().await.expect("a request");
    assert!(request.starts_with("POST /v1/messages HTTP/1.1\r\n"), "{request}");
    for header in ["x-api-key: key-1", "anthropic-version: 2023-06-01", "x-company: ACME"] {
        assert!(has_header(&request, header), "{header} is missing in {request}");
    }
}

#[tokio::test]
async fn several_answers_of_anthropic_are_several_calls_and_one_sum() {
    let (address, mut requests) = vendor(&answer("200 OK", JSON, MESSAGE)).await;
    let config = config(ProviderKind::Anthropic, address);
    let chunks = chat(&config, call("claude-sonnet-4-5", false, 3)).await;
    let mut choices: Vec<u32> = chunks
        .iter()
        .filter_map(|chunk| match chunk {
            Chunk::Finish { choice, .. } => Some(*choice),
            _ => None,
        })
        .collect();
    choices.sort_unstable();
    assert_eq!(choices, [0, 1, 2]);
    let sum = chunks.iter().rev().find_map(|chunk| match chunk {
        Chunk::Usage(usage) => Some(*usage),
        _ => None,
    });
    let expected = Usage { input_tokens: Some(15), output_tokens: Some(6), ..Usage::default() };
    assert_eq!(sum, Some(expected));
    for _ in 0..3 {
        requests.recv().await.expect("three requests");
    }
    assert_eq!(build(&config).expect("a provider").inputs_billed(3), 3);
}

#[tokio::test]
async fn an_overloaded_anthropic_may_be_tried_again() {
    let body = r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#;
    let (address, _requests) = vendor(&answer("529 Overloaded", JSON, body)).await;
    let provider = build(&config(ProviderKind::Anthropic, address)).expect("a provider");
    let Err(error) = provider.chat(call("claude-sonnet-4-5", true, 1)).await else {
        panic!("an error status is no answer");
    };
    assert_eq!((error.kind, error.status), (ProviderErrorKind::Server, Some(529)));
    assert!(error.may_retry());
}

async fn refused(kind: ProviderKind, model: &str, message: &str) -> ProviderErrorKind {
    let body = format!(
        r#"{{"message":"{message}","error":{{"type":"invalid_request_error","message":"{message}"}}}}"#
    );
    let (address, _requests) = vendor(&answer("400 Bad Request", JSON, &body)).await;
    let provider = build(&config(kind, address)).expect("a provider");
    let Err(error) = provider.chat(call(model, false, 1)).await else {
        panic!("an error status is no answer");
    };
    error.kind
}

#[tokio::test]
async fn what_the_caller_did_not_do_is_not_told_as_his_mistake() {
    let account = "Your credit balance is too low to access the Anthropic API.";
    let model = "The provided model identifier is invalid.";
    let wrong = "messages.0: roles must alternate";
    use ProviderKind::{Anthropic, Bedrock};
    assert_eq!(refused(Anthropic, "claude-sonnet-4-5", account).await, ProviderErrorKind::Auth);
    assert_eq!(refused(Bedrock, "x", model).await, ProviderErrorKind::NotFound);
    assert_eq!(refused(Anthropic, "claude-sonnet-4-5", wrong).await, ProviderErrorKind::BadRequest);
    assert_eq!(refused(Bedrock, "x", wrong).await, ProviderErrorKind::BadRequest);
}

#[tokio::test]
async fn gemini_is_streamed_from_its_own_address() {
    let event =
        r#"{"candidates":[{"content":{"parts":[{"text":"Hallo"}]},"finishReason":"STOP"}]}"#;
    let (address, mut requests) =
        vendor(&answer("200 OK", EVENTS, &format!("data: {event}\n\n"))).await;
    let config = config(ProviderKind::Gemini, format!("{address}/"));
    let chunks = chat(&config, call("gemini-2.5-flash", true, 1)).await;
    assert_eq!(text_of(&chunks), "Hallo");
    let request = requests.recv().await.expect("a request");
    let line = "POST /v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse HTTP/1.1\r\n";
    assert!(request.starts_with(line), "{request}");
    assert!(has_header(&request, "x-goog-api-key: key-1"), "{request}");
}

#[tokio::test]
async fn gemini_is_asked_for_vectors() {
    let body = r#"{"embeddings":[{"values":[1.0,0.0]}]}"#;
    let (address, mut requests) = vendor(&answer("200 OK", JSON, body)).await;
    let provider = build(&config(ProviderKind::Gemini, address)).expect("a provider");
    let request = EmbedRequest {
        input: vec!["Hallo".to_owned()],
        dimensions: None,
        user: None,
        extra: Extra::default(),
    };
    let call = ProviderCall {
        model: "gemini-embedding-001".to_owned(),
        request: request.into(),
        logprobs_for_judge: false,
    };
    let embeddings = provider.embed(call).await.expect("vectors");
    assert_eq!(embeddings.vectors, vec![vec![1.0, 0.0]]);
    let request = requests.recv().await.expect("a request");
    let line = "POST /v1beta/models/gemini-embedding-001:batchEmbedContents HTTP/1.1\r\n";
    assert!(request.starts_with(line), "{request}");
}

const CONVERSED: &str =
    r#"{"output":{"message":{"content":[{"text":"Hallo"}]}},"stopReason":"end_turn"}"#;

#[tokio::test]
async fn bedrock_is_called_with_a_bearer_key() {
    let (address, mut requests) = vendor(&answer("200 OK", JSON, CONVERSED)).await;
    let config = config(ProviderKind::Bedrock, address);
    let chunks = chat(&config, call("amazon.nova-lite-v1:0", false, 1)).await;
    assert_eq!(text_of(&chunks), "Hallo");
    let request = requests.recv().await.expect("a request");
    assert!(request.starts_with("POST /model/amazon.nova-lite-v1%3A0/converse HTTP/1.1\r\n"));
    assert!(has_header(&request, "authorization: Bearer key-1"), "{request}");
}

#[tokio::test]
async fn bedrock_is_called_with_a_signature() {
    let (address, mut requests) = vendor(&answer("200 OK", JSON, CONVERSED)).await;
    let config = ProviderConfig {
        api_key: None,
        access_key: Some(SecretString::from("AKIDEXAMPLE")),
        secret_key: Some(SecretString::from("secret-1")),
        ..config(ProviderKind::Bedrock, address)
    };
    chat(&config, call("amazon.nova-lite-v1:0", false, 1)).await;
    let request = requests.recv().await.expect("a request");
    let authorization = request.lines().find(|line| line.starts_with("authorization: "));
    let authorization = authorization.expect("signed");
    assert!(authorization.contains("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"), "{authorization}");
    assert!(authorization.contains("/eu-central-1/bedrock/aws4_request"), "{authorization}");
    assert!(!request.contains("secret-1"));
}

#[test]
fn bedrock_without_any_key_cannot_be_set_up() {
    let config = ProviderConfig {
        api_key: None,
        ..config(ProviderKind::Bedrock, "https://bedrock-runtime.eu-central-1.amazonaws.com".into())
    };
    let Err(error) = build(&config) else { panic!("there is no key") };
    assert!(error.why.contains("access_key"), "{}", error.why);
}
