//! Lines of any number from standard input, each of a bounded length.
//!
//! Knows nothing of what is in them.

use std::io::{self, BufRead, Read};

/// A longer line is no question to a model but a file without line ends; it is skipped without
/// being kept in memory.
pub const MAX_LINE_BYTES: usize = 32 << 20;

/// One line of input.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A line, without its end.
    Text(String),
    /// A line that is not UTF-8.
    NotUtf8,
    /// A line longer than [`MAX_LINE_BYTES`].
    TooLong,
}

/// Reads the next line; `None` at the end of the input.
pub fn next(input: &mut impl BufRead) -> io::Result<Option<Line>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX);
    if input.by_ref().take(limit).read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    } else if bytes.len() == MAX_LINE_BYTES {
        skip_line(input)?;
        return Ok(Some(Line::TooLong));
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    Ok(Some(String::from_utf8(bytes).map_or(Line::NotUtf8, Line::Text)))
}

fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(buffer.len(), |end| end + 1);
        input.consume(used);
        if end.is_some() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Vec<Line> {
        let mut input = io::BufReader::with_capacity(7, bytes);
        std::iter::from_fn(|| next(&mut input).unwrap()).collect()
    }

    #[test]
    fn lines_come_whole_whatever_their_end() {
        let lines = read("eins\r\nzwei ü\n\nletzte".as_bytes());
        let text = |line: &str| Line::Text(line.to_owned());
        assert_eq!(lines, [text("eins"), text("zwei ü"), text(""), text("letzte")]);
    }

    #[test]
    fn a_line_that_cannot_be_read_costs_only_itself() {
        assert_eq!(read(b"\xff\xfe\nok\n"), [Line::NotUtf8, Line::Text("ok".to_owned())]);
        let mut long = vec![b'a'; MAX_LINE_BYTES + 10];
        long.extend(b"\nok");
        assert_eq!(read(&long), [Line::TooLong, Line::Text("ok".to_owned())]);
    }
}
