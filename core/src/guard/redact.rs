//! Placeholders such as `[PERSON_1]` and their way back.

use crate::reply::Chunk;

/// What stands for what. `Debug` hides the values.
#[derive(Clone, Default)]
pub struct Map {}

impl std::fmt::Debug for Map {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Map(…)")
    }
}

impl Map {
    /// Whether nothing was hidden.
    pub fn is_empty(&self) -> bool {
        unimplemented!()
    }

    /// A text with the placeholders restored.
    pub fn restore(&self, text: &str) -> String {
        let _ = text;
        unimplemented!()
    }

    /// A restorer for a stream of chunks.
    pub fn stream(&self) -> Restorer {
        unimplemented!()
    }
}

/// Restores placeholders in a stream, whatever the cut: it holds back what may be the beginning
/// of one. One state per choice, kind of text and tool call.
#[derive(Debug)]
pub struct Restorer {}

impl Restorer {
    /// Takes a piece, gives what can be shown.
    pub fn push(&mut self, chunk: Chunk) -> Vec<Chunk> {
        let _ = chunk;
        unimplemented!()
    }

    /// Gives what is still held back, at the end of the stream.
    pub fn finish(&mut self) -> Vec<Chunk> {
        unimplemented!()
    }
}
