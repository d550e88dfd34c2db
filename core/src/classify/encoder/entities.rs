//! Tags per token to spans of the text: B begins a thing, I goes on with it, O is nothing.
//!
//! Tag 0 is O; kind k has B at 1 + 2k and I at 2 + 2k. Knows nothing of what the kinds are called.

use std::ops::Range;

use crate::classify::encoder::tokenizer::{TEXT, Tokens, shape};

/// A thing that the tags mark in the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Entity {
    /// Which kind, counted from 0.
    pub kind: usize,
    /// Bytes of the original text.
    pub span: Range<usize>,
    /// Mean probability of the kind over its words, 0…1.
    pub probability: f32,
}

/// Reads the things out of tag logits (`tags` for each token). Each word is what its first piece
/// says: the later pieces of a rare name are crumbs that say little. An I without a beginning
/// begins. The context is not looked at.
pub fn decode(tokens: &Tokens, logits: &[f32], tags: usize) -> Vec<Entity> {
    let mut entities = Vec::new();
    if tags == 0 {
        return entities;
    }
    let mut open: Option<Open> = None;
    for (index, scores) in logits.chunks_exact(tags).take(tokens.len()).enumerate() {
        let span = &tokens.spans[index];
        if tokens.types[index] != TEXT || tokens.shapes[index] == shape::SPECIAL {
            entities.extend(open.take().map(Open::close));
            continue;
        }
        if tokens.shapes[index] == shape::CONTINUED {
            if let Some(open) = &mut open {
                open.span.end = span.end;
            }
            continue;
        }
        let Some((kind, begins, probability)) = read(scores) else {
            entities.extend(open.take().map(Open::close));
            continue;
        };
        match &mut open {
            Some(open) if open.kind == kind && !begins => open.go_on(span, probability),
            _ => {
                let next = Open { kind, span: span.clone(), sum: probability, words: 1 };
                entities.extend(open.replace(next).map(Open::close));
            }
        }
    }
    entities.extend(open.map(Open::close));
    entities
}

struct Open {
    kind: usize,
    span: Range<usize>,
    sum: f32,
    words: u16,
}

impl Open {
    fn go_on(&mut self, span: &Range<usize>, probability: f32) {
        self.span.end = span.end;
        self.sum += probability;
        self.words += 1;
    }

    fn close(self) -> Entity {
        Entity { kind: self.kind, span: self.span, probability: self.sum / f32::from(self.words) }
    }
}

/// The kind of the best tag, whether it begins, and how probable B and I of it are together.
fn read(scores: &[f32]) -> Option<(usize, bool, f32)> {
    let best = (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b]))?;
    if best == 0 {
        return None;
    }
    let kind = (best - 1) / 2;
    let sum: f32 = scores.iter().map(|score| (score - scores[best]).exp()).sum();
    let of_kind: f32 = (1 + 2 * kind..3 + 2 * kind)
        .filter_map(|tag| scores.get(tag))
        .map(|score| (score - scores[best]).exp())
        .sum();
    Some((kind, best % 2 == 1, of_kind / sum))
}
