//! A vendor's stream of server-sent events with JSON inside, as a [`Decoder`].
//!
//! The vendor reads one event at a time; bytes, cuts and the end are handled here.

use serde_json::Value;

use crate::provider::http::Decoder;
use crate::provider::sse::{SseEvent, SseParser};
use crate::provider::{ProviderError, ProviderErrorKind};
use crate::reply::Chunk;

/// What one vendor makes of its events.
pub trait Events: Send + Unpin + 'static {
    /// Takes one event; what it says is added to `chunks`.
    fn event(&mut self, event: &Value, chunks: &mut Vec<Chunk>) -> Result<(), ProviderError>;

    /// The stream has ended. Adds what was held back, or says that the answer is cut.
    fn end(&mut self, chunks: &mut Vec<Chunk>) -> Result<(), ProviderError>;

    /// Whether the vendor has said that nothing more will come.
    fn is_done(&self) -> bool;
}

/// The bytes of such a stream.
#[derive(Debug, Default)]
pub struct EventDecoder<E> {
    parser: SseParser,
    events: E,
}

impl<E: Events> EventDecoder<E> {
    /// A stream at its beginning.
    pub fn new(events: E) -> Self {
        EventDecoder { parser: SseParser::new(), events }
    }

    fn take(&mut self, event: &SseEvent, chunks: &mut Vec<Chunk>) -> Result<(), ProviderError> {
        let data = event.data.trim();
        // Servers that speak another vendor's format often end it in OpenAI's way.
        if self.events.is_done() || data.is_empty() || data == "[DONE]" {
            return Ok(());
        }
        let event = serde_json::from_str(data).map_err(|_| {
            ProviderError::new(ProviderErrorKind::Malformed, "an event of the stream is no JSON")
        })?;
        self.events.event(&event, chunks)
    }
}

impl<E: Events> Decoder for EventDecoder<E> {
    fn push(&mut self, bytes: &[u8], chunks: &mut Vec<Chunk>) -> Result<(), ProviderError> {
        for event in self.parser.push(bytes)? {
            self.take(&event, chunks)?;
        }
        Ok(())
    }

    fn end(&mut self, chunks: &mut Vec<Chunk>) -> Result<(), ProviderError> {
        if let Some(event) = self.parser.finish()? {
            self.take(&event, chunks)?;
        }
        if self.events.is_done() { Ok(()) } else { self.events.end(chunks) }
    }

    fn is_done(&self) -> bool {
        self.events.is_done()
    }
}
