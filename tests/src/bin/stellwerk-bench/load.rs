//! The load: kept-alive connections that write a prepared request and read its answer, with as
//! little work of their own as possible.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::mock::now_nanos;

/// A place that answers OpenAI's chat completions.
#[derive(Debug, Clone)]
pub struct Target {
    /// `host:port`.
    pub address: String,
    /// `/v1/chat/completions`.
    pub path: String,
    /// The bearer key.
    pub key: String,
    /// The model to ask for.
    pub model: String,
}

/// A question of sixty words, as an employee would ask it.
const PROMPT: &str = "Bitte erkläre mir in einfachen Worten, wie ein elektronisches Stellwerk die \
    Fahrstrassen der Züge sichert, welche Rolle die Weichen und Signale dabei spielen, warum zwei \
    Züge niemals auf demselben Abschnitt fahren dürfen, und was geschieht, wenn eine Störung \
    auftritt, zum Beispiel weil ein Achszähler ausfällt oder ein Kabel beschädigt wurde, damit ich \
    es morgen unseren neuen Auszubildenden in der Werkstatt erklären kann.";

/// What one call showed.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// From the first byte written to the last byte read.
    pub whole: Duration,
    /// From the first byte written to the first piece of text of a stream.
    pub first: Option<Duration>,
    /// How long each piece travelled.
    pub pieces: Vec<Duration>,
}

/// Every measured call, and what failed.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// Answered calls.
    pub calls: Vec<Call>,
    /// Calls with another status than 200.
    pub refused: usize,
    /// From the first to the last.
    pub took: Duration,
}

impl Measured {
    /// Calls a second.
    pub fn rate(&self) -> f64 {
        self.calls.len() as f64 / self.took.as_secs_f64()
    }

    /// The whole calls' durations, sorted.
    pub fn durations(&self) -> Vec<Duration> {
        sorted(self.calls.iter().map(|call| call.whole))
    }
}

/// Sorted, for [`percentile`].
pub fn sorted(durations: impl Iterator<Item = Duration>) -> Vec<Duration> {
    let mut durations: Vec<Duration> = durations.collect();
    durations.sort_unstable();
    durations
}

/// The duration that `share` of all stay below.
pub fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * share).round() as usize;
    sorted.get(at.min(last)).copied().unwrap_or_default()
}

/// How many calls, or for how long.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// So many calls over all connections.
    Calls(usize),
    /// So long.
    Time(Duration),
}

/// Calls on so many connections at once, each the next as soon as the last is answered.
pub async fn run(
    target: &Target,
    connections: usize,
    until: Until,
    streamed: bool,
) -> Result<Measured, String> {
    let request = request(target, streamed);
    let started = Instant::now();
    let mut workers = Vec::new();
    for number in 0..connections {
        let share = match until {
            Until::Calls(calls) => {
                Until::Calls(calls / connections + usize::from(number < calls % connections))
            }
            time => time,
        };
        let (request, address) = (request.clone(), target.address.clone());
        workers.push(tokio::spawn(worker(address, request, share, started)));
    }
    let mut measured = Measured::default();
    for worker in workers {
        let part = worker.await.map_err(|error| error.to_string())??;
        measured.calls.extend(part.calls);
        measured.refused += part.refused;
    }
    measured.took = started.elapsed();
    Ok(measured)
}

async fn worker(
    address: String,
    request: Vec<u8>,
    until: Until,
    started: Instant,
) -> Result<Measured, String> {
    let mut connection = Connection::open(&address).await?;
    let mut measured = Measured::default();
    loop {
        let done = match until {
            Until::Calls(calls) => measured.calls.len() + measured.refused >= calls,
            Until::Time(limit) => started.elapsed() >= limit,
        };
        if done {
            return Ok(measured);
        }
        match connection.call(&request).await? {
            (200, call) => measured.calls.push(call),
            _ => measured.refused += 1,
        }
    }
}

fn request(target: &Target, streamed: bool) -> Vec<u8> {
    let body = serde_json::json!({
        "model": target.model,
        "stream": streamed,
        "max_tokens": 100,
        "messages": [{ "role": "user", "content": PROMPT }],
    })
    .to_string();
    format!(
        "POST {} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        target.path,
        target.address,
        target.key,
        body.len()
    )
    .into_bytes()
}

struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: &str) -> Result<Self, String> {
        let socket = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        socket.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(Connection { socket, buffer: Vec::with_capacity(16 * 1024) })
    }

    /// One call and its status.
    async fn call(&mut self, request: &[u8]) -> Result<(u16, Call), String> {
        self.buffer.clear();
        let started = Instant::now();
        self.socket.write_all(request).await.map_err(|error| error.to_string())?;
        let mut call = Call::default();
        let mut seen = 0;
        loop {
            let read = self.socket.read_buf(&mut self.buffer).await;
            if read.map_err(|error| error.to_string())? == 0 {
                return Err("the connection was closed in the middle of an answer".to_owned());
            }
            seen = self.note_pieces(seen, started, &mut call);
            if let Some(status) = self.complete() {
                call.whole = started.elapsed();
                return Ok((status, call));
            }
        }
    }

    /// Reads the moments that the vendor wrote into the pieces that have arrived since.
    fn note_pieces(&self, mut from: usize, started: Instant, call: &mut Call) -> usize {
        const DIGITS: usize = 19;
        while let Some(at) = self.buffer[from..].iter().position(|byte| *byte == b'@') {
            let begin = from + at + 1;
            let Some(digits) = self.buffer.get(begin..begin + DIGITS) else { return from + at };
            from = begin + DIGITS;
            let sent = std::str::from_utf8(digits).ok().and_then(|text| text.parse::<u128>().ok());
            if let Some(sent) = sent {
                let travelled = now_nanos().saturating_sub(sent);
                call.first.get_or_insert_with(|| started.elapsed());
                call.pieces.push(Duration::from_nanos(travelled.try_into().unwrap_or(u64::MAX)));
            }
        }
        self.buffer.len()
    }

    /// The status, once the whole answer is here.
    fn complete(&self) -> Option<u16> {
        let head_end = find(&self.buffer, b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&self.buffer[..head_end]).ok()?.to_ascii_lowercase();
        let status = head.get(9..12)?.parse().ok()?;
        let body = &self.buffer[head_end..];
        let whole = match head.split("\r\ncontent-length:").nth(1) {
            Some(rest) => body.len() >= rest.split("\r\n").next()?.trim().parse::<usize>().ok()?,
            None => body == b"0\r\n\r\n" || body.ends_with(b"\r\n0\r\n\r\n"),
        };
        whole.then_some(status)
    }
}

fn find(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    bytes.windows(mark.len()).position(|window| window == mark)
}
