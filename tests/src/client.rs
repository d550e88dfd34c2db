//! Asking the server as any program would: one call, and what came back of it.

use std::time::{Duration, Instant};

use futures::StreamExt;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// No answer of a test takes longer; what hangs fails instead.
const LIMIT: Duration = Duration::from_secs(30);

/// A client that waits long enough and takes no proxy from the environment.
pub fn client() -> reqwest::Client {
    // The client's library wants to know its TLS library even where nothing is encrypted. A second
    // test in the same process finds it installed already.
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder().no_proxy().timeout(LIMIT).build().expect("an HTTP client")
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; a string where it is no JSON.
    pub body: Value,
}

impl Reply {
    /// Reads an answer to its end.
    pub async fn read(response: reqwest::Response) -> Self {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let bytes = response.bytes().await.expect("a whole body");
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Reply { status, headers, body }
    }

    /// A header, or nothing.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The answer's text, in OpenAI's format.
    pub fn text(&self) -> &str {
        self.body.pointer("/choices/0/message/content").and_then(Value::as_str).unwrap_or_default()
    }

    /// The error's code, in OpenAI's shape.
    pub fn code(&self) -> &str {
        self.body.pointer("/error/code").and_then(Value::as_str).unwrap_or_default()
    }

    /// Asserts the status and shows the body where it differs.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "answered {}", self.body);
        self
    }
}

/// A streamed answer, read event by event.
pub struct Stream {
    /// The headers.
    pub headers: HeaderMap,
    /// The status.
    pub status: u16,
    body: futures::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    buffer: String,
    raw: Vec<u8>,
}

/// A stream, read to its end.
#[derive(Debug, Clone, Default)]
pub struct Whole {
    /// The data of every event that is JSON.
    pub events: Vec<Value>,
    /// Whether `[DONE]` came, and last.
    pub done: bool,
    /// Whether the connection ended in the ordinary way.
    pub clean: bool,
}

impl Stream {
    /// Begins to read.
    pub fn new(response: reqwest::Response) -> Self {
        Stream {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes_stream().boxed(),
            buffer: String::new(),
            raw: Vec::new(),
        }
    }

    /// The data of the next event; `None` at the end. A broken connection is an error.
    pub async fn next(&mut self) -> Option<Result<String, reqwest::Error>> {
        loop {
            if let Some(data) = self.take_event() {
                return Some(Ok(data));
            }
            match self.body.next().await? {
                Ok(bytes) => {
                    self.raw.extend_from_slice(&bytes);
                    // A cut inside a character waits for its other half.
                    let valid = match std::str::from_utf8(&self.raw) {
                        Ok(text) => text.len(),
                        Err(error) => error.valid_up_to(),
                    };
                    let text: Vec<u8> = self.raw.drain(..valid).collect();
                    self.buffer.push_str(&String::from_utf8_lossy(&text));
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// The JSON of the next event that carries a piece of text in OpenAI's format.
    pub async fn next_text(&mut self) -> Option<String> {
        while let Some(Ok(data)) = self.next().await {
            let event: Value = serde_json::from_str(&data).unwrap_or_default();
            let text = event.pointer("/choices/0/delta/content").and_then(Value::as_str);
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                return Some(text.to_owned());
            }
        }
        None
    }

    /// Reads to the end.
    pub async fn whole(mut self) -> Whole {
        let mut whole = Whole { clean: true, ..Whole::default() };
        while let Some(data) = self.next().await {
            match data.as_deref() {
                Ok("[DONE]") => whole.done = true,
                Ok(data) => {
                    whole.done = false;
                    whole.events.extend(serde_json::from_str::<Value>(data));
                }
                Err(_) => whole.clean = false,
            }
        }
        whole
    }

    fn take_event(&mut self) -> Option<String> {
        loop {
            let end = self.buffer.find("\n\n")?;
            let event: String = self.buffer.drain(..end + 2).collect();
            let data: Vec<&str> = event
                .lines()
                .filter_map(|line| line.strip_prefix("data:"))
                .map(|data| data.strip_prefix(' ').unwrap_or(data))
                .collect();
            if !data.is_empty() {
                return Some(data.join("\n"));
            }
        }
    }
}

impl Whole {
    /// The text of the first choice, in OpenAI's format.
    pub fn text(&self) -> String {
        let texts = self
            .events
            .iter()
            .filter_map(|event| event.pointer("/choices/0/delta/content")?.as_str());
        texts.collect()
    }

    /// Every finish reason that was sent.
    pub fn finishes(&self) -> Vec<&str> {
        let reasons = self
            .events
            .iter()
            .filter_map(|event| event.pointer("/choices/0/finish_reason")?.as_str());
        reasons.collect()
    }

    /// The error that ended the stream, if one did.
    pub fn error(&self) -> Option<&Value> {
        self.events.iter().find_map(|event| event.get("error"))
    }

    /// The `stellwerk` object of the last event that has one.
    pub fn stellwerk(&self) -> Option<&Value> {
        self.events.iter().rev().find_map(|event| event.get("stellwerk"))
    }
}

/// Asks again and again until the answer is there; fails after `limit` with what was last seen.
pub async fn eventually<T, F, Fut>(limit: Duration, what: &str, mut ask: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    let started = Instant::now();
    loop {
        match ask().await {
            Ok(found) => return found,
            Err(seen) if started.elapsed() > limit => panic!("{what}: {seen}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
