//! Server-sent events, read piece by piece from bytes that may be cut anywhere.
//!
//! A pure push parser: bytes go in, whole events come out, nothing waits. Knows nothing of
//! vendors or sockets. Lines and events are bounded, so a lying server cannot fill the memory.

use crate::provider::{ProviderError, ProviderErrorKind};

/// The longest line and the longest event, in bytes. An image in base64 inside one event is the
/// largest honest thing; 32 MiB of it is beyond what any vendor sends.
pub const MAX_EVENT_BYTES: usize = 32 * 1024 * 1024;

/// One event.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SseEvent {
    /// What `event:` named; empty where nothing did.
    pub name: String,
    /// What the `data:` lines said, joined by line ends.
    pub data: String,
}

/// Shows sizes and never the text.
impl std::fmt::Debug for SseEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SseEvent({:?}, {} bytes)", self.name, self.data.len())
    }
}

/// Reads server-sent events as the WHATWG describes them: line ends are LF, CR LF or CR, lines
/// that begin with a colon are comments, `id` and `retry` are of no use here.
#[derive(Debug, Default)]
pub struct SseParser {
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    name: String,
    data: Vec<u8>,
    /// Whether the event has a `data:` line: an empty one counts too.
    has_data: bool,
    /// The last byte was CR, so an LF that follows belongs to it.
    after_cr: bool,
    /// Whether any byte was read; a byte order mark may stand before the first.
    begun: bool,
}

impl SseParser {
    /// A parser at the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and returns the events that they complete.
    ///
    /// Fails with `Malformed` when a line or an event grows beyond [`MAX_EVENT_BYTES`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<SseEvent>, ProviderError> {
        let mut events = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_cr) && rest[0] == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                self.keep(rest)?;
                break;
            };
            self.after_cr = rest[end] == b'\r';
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            rest = after;
            if self.line.is_empty() {
                self.take_line(line, &mut events)?;
            } else {
                self.keep(line)?;
                let line = std::mem::take(&mut self.line);
                self.take_line(&line, &mut events)?;
            }
        }
        Ok(events)
    }

    /// The event that the end of the stream cut off from its blank line, if there is one. The
    /// standard drops it, but there are servers that leave out the last blank line.
    pub fn finish(&mut self) -> Result<Option<SseEvent>, ProviderError> {
        let mut events = Vec::new();
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.take_line(&line, &mut events)?;
        }
        self.dispatch(&mut events);
        Ok(events.pop())
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), ProviderError> {
        if self.line.len() + bytes.len() > MAX_EVENT_BYTES {
            return Err(too_long());
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn take_line(&mut self, line: &[u8], events: &mut Vec<SseEvent>) -> Result<(), ProviderError> {
        let line = if std::mem::replace(&mut self.begun, true) {
            line
        } else {
            line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line)
        };
        if line.is_empty() {
            self.dispatch(events);
            return Ok(());
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => self.take_data(value)?,
            b"event" => self.name = String::from_utf8_lossy(value).into_owned(),
            // Comments, `id`, `retry`, and what a later standard may bring.
            _ => {}
        }
        Ok(())
    }

    fn take_data(&mut self, value: &[u8]) -> Result<(), ProviderError> {
        if self.data.len() + value.len() >= MAX_EVENT_BYTES {
            return Err(too_long());
        }
        if self.has_data {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
        self.has_data = true;
        Ok(())
    }

    fn dispatch(&mut self, events: &mut Vec<SseEvent>) {
        let name = std::mem::take(&mut self.name);
        if !std::mem::take(&mut self.has_data) {
            return;
        }
        let data = String::from_utf8(std::mem::take(&mut self.data))
            .unwrap_or_else(|broken| String::from_utf8_lossy(broken.as_bytes()).into_owned());
        events.push(SseEvent { name, data });
    }
}

fn too_long() -> ProviderError {
    ProviderError::new(ProviderErrorKind::Malformed, "an event of the stream is too long")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(bytes: &[u8]) -> Vec<SseEvent> {
        let mut parser = SseParser::new();
        let mut events = parser.push(bytes).expect("within bounds");
        events.extend(parser.finish().expect("within bounds"));
        events
    }

    fn event(name: &str, data: &str) -> SseEvent {
        SseEvent { name: name.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn names_data_and_comments_are_told_apart() {
        let read = events(b": hello\nevent: ping\ndata: {}\n\ndata:a\ndata: b\nid: 7\n\n");
        assert_eq!(read, [event("ping", "{}"), event("", "a\nb")]);
    }

    #[test]
    fn every_kind_of_line_end_ends_a_line() {
        let read = events(b"data: a\r\n\r\ndata: b\r\rdata: c\n\n");
        assert_eq!(read, [event("", "a"), event("", "b"), event("", "c")]);
    }

    #[test]
    fn an_event_without_data_is_none_and_its_name_is_forgotten() {
        assert_eq!(events(b"event: ping\n\ndata: x\n\n"), [event("", "x")]);
    }

    #[test]
    fn an_empty_data_line_is_an_event() {
        assert_eq!(events(b"data:\n\n"), [event("", "")]);
    }

    #[test]
    fn a_missing_last_blank_line_does_not_lose_the_last_event() {
        assert_eq!(events(b"data: [DONE]"), [event("", "[DONE]")]);
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        assert_eq!(events(b"\xEF\xBB\xBFdata: x\n\n"), [event("", "x")]);
    }

    #[test]
    fn an_endless_line_is_refused_before_it_fills_the_memory() {
        let mut parser = SseParser::new();
        let piece = vec![b'x'; 1024 * 1024];
        let refused = (0..64).find_map(|_| parser.push(&piece).err()).expect("refused");
        assert_eq!(refused.kind, ProviderErrorKind::Malformed);
    }

    #[test]
    fn an_endless_event_of_short_lines_is_refused() {
        let mut parser = SseParser::new();
        let piece = format!("data: {}\n", "x".repeat(1024 * 1024));
        let refused = (0..64).find_map(|_| parser.push(piece.as_bytes()).err()).expect("refused");
        assert_eq!(refused.kind, ProviderErrorKind::Malformed);
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_events(
            lines in proptest::collection::vec(
                prop_oneof![
                    "data: ?[ -~äöü€😀]{0,12}", "event: [a-z]{0,6}", ": [a-z]{0,6}", "", "id: 1",
                    "data",
                ],
                0..24,
            ),
            ends in proptest::collection::vec(prop_oneof!["\n", "\r\n", "\r"], 24),
            cuts in proptest::collection::vec(0_usize..400, 0..12),
        ) {
            let text: String =
                lines.iter().zip(&ends).map(|(line, end)| format!("{line}{end}")).collect();
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let mut parser = SseParser::new();
            let mut read = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([bytes.len()]) {
                read.extend(parser.push(&bytes[from..cut]).expect("within bounds"));
                from = cut;
            }
            read.extend(parser.finish().expect("within bounds"));
            prop_assert_eq!(read, events(bytes));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            events(&bytes);
        }
    }
}
