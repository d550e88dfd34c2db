//! Several answers from a vendor that gives one: as many calls at once, in one stream.
//!
//! Knows nothing of vendors. Each call's pieces get its number as `choice`; usage is the sum,
//! told only when every call has told it, so that a silent call is counted and not forgotten.

use std::future::ready;

use futures::StreamExt;
use futures::stream;

use crate::provider::{ChunkStream, ProviderError};
use crate::reply::{Chunk, Usage};

/// Merges one stream per answer. The first that breaks ends them all: the others are dropped,
/// which cancels their calls.
pub(crate) fn merge(answers: Vec<ChunkStream>) -> ChunkStream {
    let mut sum = Sum { told: vec![None; answers.len()], started: false, broken: false };
    let numbered = answers
        .into_iter()
        .enumerate()
        .map(|(index, answer)| answer.map(move |piece| (index, piece)).boxed());
    stream::select_all(numbered)
        .map(move |(index, piece)| sum.take(index, piece))
        // An error is the last piece: `Over` follows it at once.
        .take_while(|taken| ready(!matches!(taken, Taken::Over)))
        .filter_map(|taken| {
            ready(match taken {
                Taken::Piece(piece) => Some(piece),
                Taken::Nothing | Taken::Over => None,
            })
        })
        .boxed()
}

enum Taken {
    Piece(Result<Chunk, ProviderError>),
    Nothing,
    Over,
}

struct Sum {
    told: Vec<Option<Usage>>,
    started: bool,
    broken: bool,
}

impl Sum {
    fn take(&mut self, index: usize, piece: Result<Chunk, ProviderError>) -> Taken {
        if self.broken {
            return Taken::Over;
        }
        match piece {
            Ok(Chunk::Usage(usage)) => {
                self.told[index].get_or_insert_default().merge(usage);
                Taken::Piece(Ok(Chunk::Usage(self.usage())))
            }
            Ok(Chunk::Started { .. }) if std::mem::replace(&mut self.started, true) => {
                Taken::Nothing
            }
            Ok(chunk) => Taken::Piece(Ok(numbered(chunk, index))),
            Err(mut error) => {
                self.broken = true;
                if let Some(usage) = error.usage {
                    self.told[index].get_or_insert_default().merge(usage);
                }
                error.usage = self.told.iter().any(Option::is_some).then(|| self.usage());
                Taken::Piece(Err(error))
            }
        }
    }

    fn usage(&self) -> Usage {
        let all = |field: fn(&Usage) -> Option<u64>| {
            self.told.iter().map(|usage| usage.as_ref().and_then(field)).sum()
        };
        let known = |field: fn(&Usage) -> u64| self.told.iter().flatten().map(field).sum();
        Usage {
            input_tokens: all(|usage| usage.input_tokens),
            cached_input_tokens: known(|usage| usage.cached_input_tokens),
            cache_write_tokens: known(|usage| usage.cache_write_tokens),
            output_tokens: all(|usage| usage.output_tokens),
            reasoning_tokens: known(|usage| usage.reasoning_tokens),
        }
    }
}

fn numbered(chunk: Chunk, index: usize) -> Chunk {
    let number = u32::try_from(index).unwrap_or(u32::MAX);
    let mut chunk = chunk;
    match &mut chunk {
        Chunk::Text { choice, .. }
        | Chunk::Reasoning { choice, .. }
        | Chunk::ReasoningSignature { choice, .. }
        | Chunk::RedactedReasoning { choice, .. }
        | Chunk::ToolCall { choice, .. }
        | Chunk::Logprobs { choice, .. }
        | Chunk::Extra { choice: Some(choice), .. }
        | Chunk::Finish { choice, .. } => *choice = number,
        Chunk::Started { .. } | Chunk::Extra { choice: None, .. } | Chunk::Usage(_) => {}
    }
    chunk
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;
    use crate::provider::ProviderErrorKind;
    use crate::provider::http::at_once;
    use crate::reply::FinishReason;

    fn started() -> Chunk {
        Chunk::Started { vendor_model: None, vendor_id: None }
    }

    fn text(choice: u32, text: &str) -> Chunk {
        Chunk::Text { choice, text: text.to_owned() }
    }

    fn usage(input: u64, output: Option<u64>) -> Chunk {
        Chunk::Usage(Usage { input_tokens: Some(input), output_tokens: output, ..Usage::default() })
    }

    fn finish(choice: u32) -> Chunk {
        Chunk::Finish { choice, reason: FinishReason::Stop, stop_sequence: None }
    }

    fn last_usage(pieces: &[Result<Chunk, ProviderError>]) -> Option<Usage> {
        pieces.iter().rev().find_map(|piece| match piece {
            Ok(Chunk::Usage(usage)) => Some(*usage),
            _ => None,
        })
    }

    #[test]
    fn every_answer_keeps_its_number_and_usage_adds_up() {
        let answer = |word: &str, output| {
            at_once(vec![started(), text(0, word), usage(10, output), finish(0)])
        };
        let merged = merge(vec![answer("a", Some(2)), answer("b", Some(3))]);
        let pieces: Vec<_> = block_on(merged.collect());
        let chunks: Vec<_> = pieces.iter().map(|piece| piece.clone().expect("whole")).collect();
        assert_eq!(chunks.iter().filter(|chunk| **chunk == started()).count(), 1);
        assert!(chunks.contains(&text(0, "a")) && chunks.contains(&text(1, "b")));
        assert!(chunks.contains(&finish(0)) && chunks.contains(&finish(1)));
        let sum = last_usage(&pieces).expect("told");
        assert_eq!((sum.input_tokens, sum.output_tokens), (Some(20), Some(5)));
    }

    #[test]
    fn a_call_that_told_nothing_leaves_the_sum_open() {
        let merged = merge(vec![
            at_once(vec![usage(10, Some(2)), finish(0)]),
            at_once(vec![usage(10, None), finish(0)]),
        ]);
        let pieces: Vec<_> = block_on(merged.collect());
        let sum = last_usage(&pieces).expect("told");
        assert_eq!((sum.input_tokens, sum.output_tokens), (Some(20), None));
    }

    #[test]
    fn one_broken_answer_ends_them_all_with_what_was_told() {
        let broken = futures::stream::iter(vec![
            Ok(usage(10, Some(1))),
            Err(ProviderError::new(ProviderErrorKind::Cut, "cut")),
        ]);
        let endless = futures::stream::repeat_with(|| Ok(text(0, "x")));
        let merged = merge(vec![broken.boxed(), endless.boxed()]);
        let pieces: Vec<_> = block_on(merged.collect());
        let error = pieces.last().expect("an end").clone().expect_err("broken");
        assert_eq!(error.kind, ProviderErrorKind::Cut);
        assert_eq!(error.usage.expect("told").input_tokens, None, "the other told nothing");
    }
}
