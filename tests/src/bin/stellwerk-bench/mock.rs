//! A vendor that costs as little as possible: OpenAI's chat completions with an answer of twelve
//! words, whole or streamed, on one thread.

use std::convert::Infallible;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes};
use futures::{StreamExt, stream};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

/// How many pieces a streamed answer has.
pub const PIECES: usize = 12;

/// The pause between two pieces: long enough that each travels alone.
const PAUSE: Duration = Duration::from_millis(2);

const WHOLE: &str = concat!(
    r#"{"id":"chatcmpl-1","object":"chat.completion","created":1760000000,"model":"bench","#,
    r#""choices":[{"index":0,"message":{"role":"assistant","content":"#,
    r#""Eine Weiche lenkt den Zug auf ein anderes Gleis, ganz ohne Halt."},"#,
    r#""finish_reason":"stop"}],"usage":{"prompt_tokens":80,"completion_tokens":16,"#,
    r#""total_tokens":96}}"#
);

/// Serves until it is killed; says on stdout where.
pub async fn serve() -> Result<(), String> {
    let told = |error: std::io::Error| format!("the vendor cannot listen: {error}");
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(told)?;
    println!("{}", listener.local_addr().map_err(told)?);
    loop {
        let (socket, _) = listener.accept().await.map_err(told)?;
        tokio::spawn(connection(socket));
    }
}

async fn connection(socket: TcpStream) {
    socket.set_nodelay(true).ok();
    // A connection that breaks is the load's to notice.
    hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(socket), service_fn(answer))
        .await
        .ok();
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let body = axum::body::to_bytes(Body::new(request.into_body()), usize::MAX).await;
    let body = body.unwrap_or_default();
    let streamed = [&b"\"stream\":true"[..], b"\"stream\": true"]
        .iter()
        .any(|mark| body.windows(mark.len()).any(|window| window == *mark));
    Ok(if streamed { stream_of_pieces() } else { whole() })
}

fn whole() -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from_static(WHOLE.as_bytes())));
    let json = axum::http::HeaderValue::from_static("application/json");
    response.headers_mut().insert("content-type", json);
    response
}

/// Nanoseconds since 1970: the two ends of a measurement are different processes.
pub fn now_nanos() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}

/// Each piece's text is `@` and the moment at which it was sent.
fn stream_of_pieces() -> Response<Body> {
    let pieces = stream::iter(0..=PIECES).then(|number| async move {
        if number > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        Ok::<_, Infallible>(Bytes::from(if number < PIECES { piece() } else { end() }))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let kind = axum::http::HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert("content-type", kind);
    response
}

fn frame(delta: &str, finish: &str) -> String {
    format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,\
         \"model\":\"bench\",\"choices\":[{{\"index\":0,\"delta\":{delta},\
         \"finish_reason\":{finish}}}]}}\n\n"
    )
}

fn piece() -> String {
    frame(&format!("{{\"content\":\"@{} \"}}", now_nanos()), "null")
}

fn end() -> String {
    let finish = frame("{}", "\"stop\"");
    format!(
        "{finish}data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,\
         \"model\":\"bench\",\"choices\":[],\"usage\":{{\"prompt_tokens\":80,\
         \"completion_tokens\":48,\"total_tokens\":128}}}}\n\ndata: [DONE]\n\n"
    )
}
