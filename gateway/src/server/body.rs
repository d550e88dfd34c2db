//! Reads the body of a request within limits of size and time.
//!
//! A sender may be slow, but not so slow that it holds a connection for nothing: after a first
//! allowance it must keep up a least rate. Knows nothing of what is in a body.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, EXPECT, HeaderMap};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::time::{Instant, timeout_at};

use crate::errors::{self, WireError};

/// How slow a sender may be.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For the beginning, and between two pieces.
    pub first: Duration,
    /// Beyond that, a second more for so many bytes.
    pub bytes_per_second: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { first: Duration::from_secs(15), bytes_per_second: 16 * 1024 }
    }
}

impl Patience {
    /// Until when the next piece must be here.
    fn deadline(&self, begun: Instant, received: usize) -> Instant {
        let earned = Duration::from_millis(received as u64 * 1000 / self.bytes_per_second);
        begun + self.first + earned
    }
}

/// What is thrown away of a body that is too large, at most: enough that a client that sends
/// first and reads later still gets to read the answer.
const DISCARD_AT_MOST: usize = 256 * 1024 * 1024;

/// Reads a body of at most `most` bytes.
pub async fn read(
    headers: &HeaderMap,
    body: Body,
    most: usize,
    patience: Patience,
) -> Result<Bytes, WireError> {
    let is_plain = |value: &axum::http::HeaderValue| {
        value.as_bytes().trim_ascii().is_empty()
            || value.as_bytes().eq_ignore_ascii_case(b"identity")
    };
    if !headers.get(CONTENT_ENCODING).is_none_or(is_plain) {
        return Err(errors::encoded_body());
    }
    let mut pieces =
        Pieces { stream: body.into_data_stream(), begun: Instant::now(), received: 0, patience };
    if declared(headers).is_some_and(|length| length > most as u64) {
        // Who waits for leave to send (`expect: 100-continue`) is told before sending anything.
        if !headers.contains_key(EXPECT) {
            pieces.discard().await;
        }
        return Err(errors::too_large(most));
    }
    let Some(first) = pieces.next().await? else { return Ok(Bytes::new()) };
    if first.len() > most {
        pieces.discard().await;
        return Err(errors::too_large(most));
    }
    // Most bodies are one piece, which is then not copied.
    let Some(second) = pieces.next().await? else { return Ok(first) };
    let room = declared(headers).map_or(0, |length| usize::try_from(length).unwrap_or(0));
    let mut whole = BytesMut::with_capacity(room.max(first.len() + second.len()).min(most));
    whole.extend_from_slice(&first);
    let mut next = Some(second);
    while let Some(piece) = next {
        if whole.len() + piece.len() > most {
            drop(whole);
            pieces.discard().await;
            return Err(errors::too_large(most));
        }
        whole.extend_from_slice(&piece);
        next = pieces.next().await?;
    }
    Ok(whole.freeze())
}

fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

struct Pieces {
    stream: BodyDataStream,
    begun: Instant,
    received: usize,
    patience: Patience,
}

impl Pieces {
    async fn next(&mut self) -> Result<Option<Bytes>, WireError> {
        let whole = self.patience.deadline(self.begun, self.received);
        let until = whole.min(Instant::now() + self.patience.first);
        match timeout_at(until, self.stream.next()).await {
            Ok(Some(Ok(piece))) => {
                self.received += piece.len();
                Ok(Some(piece))
            }
            Ok(Some(Err(_broken))) => Err(errors::body_broken()),
            Ok(None) => Ok(None),
            Err(_late) => Err(errors::too_slow()),
        }
    }

    /// Reads on without keeping anything, for a while: an answer sent while the client still
    /// sends is lost when the connection is reset.
    async fn discard(&mut self) {
        while self.received < DISCARD_AT_MOST {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use std::convert::Infallible;

    /// A body whose pieces come so many milliseconds after one another.
    fn slow(pieces: Vec<(u64, usize)>) -> Body {
        Body::from_stream(stream::iter(pieces).then(|(after_ms, bytes)| async move {
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            Ok::<_, Infallible>(Bytes::from(vec![b'x'; bytes]))
        }))
    }

    async fn outcome(body: Body, most: usize) -> Result<usize, u16> {
        let read = read(&HeaderMap::new(), body, most, Patience::default()).await;
        read.map(|bytes| bytes.len()).map_err(|error| error.status.as_u16())
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_that_stops_is_408() {
        assert_eq!(outcome(slow(vec![(0, 10), (16_000, 10)]), 100).await, Err(408));
        assert_eq!(outcome(slow(vec![(16_000, 10)]), 100).await, Err(408));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_that_drips_is_408() {
        assert_eq!(outcome(slow(vec![(1_000, 1); 60]), 100).await, Err(408));
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_body_over_a_slow_line_is_taken() {
        let pieces = vec![(1_000, 32 * 1024); 60];
        assert_eq!(outcome(slow(pieces), 10_000_000).await, Ok(60 * 32 * 1024));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_above_the_limit_is_413_whether_or_not_it_says_its_length() {
        assert_eq!(outcome(slow(vec![(0, 101)]), 100).await, Err(413));
        assert_eq!(outcome(slow(vec![(0, 60), (0, 41)]), 100).await, Err(413));
        assert_eq!(outcome(slow(vec![(0, 60), (0, 40)]), 100).await, Ok(100));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, "101".parse().expect("a number"));
        let read = read(&headers, slow(vec![]), 100, Patience::default()).await;
        assert_eq!(read.map_err(|error| error.status.as_u16()), Err(413));
    }

    #[tokio::test(start_paused = true)]
    async fn a_compressed_body_is_refused_by_name() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, "gzip".parse().expect("a word"));
        let read = read(&headers, slow(vec![]), 100, Patience::default()).await;
        assert_eq!(read.map_err(|error| error.status.as_u16()), Err(415));
    }
}
