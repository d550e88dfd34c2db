//! OpenAI's published vocabularies, kept small: counting, nothing else.
//!
//! A text is cut by the published pattern, and each piece is merged by rank, as byte-pair
//! encoding says. The tokens stay where the program file has them; beside them lies one table of
//! hashes. An encoder with automata over all tokens is faster and takes 68 MB for o200k alone,
//! more than a whole gateway should; this one takes 8. Knows nothing of requests.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::LazyLock;

use regex_automata::meta::Regex;
use regex_automata::{Anchored, Input};

/// What GPT-4o and later count with.
pub fn o200k() -> &'static Vocabulary {
    static O200K: LazyLock<Vocabulary> = LazyLock::new(|| {
        let words = [
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
            r"\s*[\r\n]+",
            r"\s+$",
        ];
        let tokens = include_bytes!("../../../../assets/catalog/vocabulary/o200k.bin");
        Vocabulary::new(tokens, &words.join("|"))
    });
    &O200K
}

/// What GPT-4, GPT-3.5 and the embedding models count with.
pub fn cl100k() -> &'static Vocabulary {
    static CL100K: LazyLock<Vocabulary> = LazyLock::new(|| {
        let words = [
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
            r"[^\r\n\p{L}\p{N}]?\p{L}+",
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n]*",
            r"\s*[\r\n]+",
            r"\s+$",
        ];
        let tokens = include_bytes!("../../../../assets/catalog/vocabulary/cl100k.bin");
        Vocabulary::new(tokens, &words.join("|"))
    });
    &CL100K
}

/// Tokens by rank and the pattern that cuts a text before they are looked for.
pub struct Vocabulary {
    /// Length and bytes of each token, in the order of rank.
    tokens: &'static [u8],
    /// Where each token begins, by rank.
    starts: Vec<u32>,
    /// Open addressing by hash of the bytes: rank + 1, 0 for a free place. Its length is a power
    /// of two and at least twice the number of tokens.
    table: Vec<u32>,
    pattern: Regex,
}

/// A piece is cut here though it goes on: nobody writes a thousand letters without a space, and
/// merging takes longer for each byte the longer the piece is, once its parts leave the nearest
/// cache. A cut keeps two tokens from being one, so that the count is at most one higher for each.
const LONGEST: usize = 1024;

/// The rank of bytes that are no token.
const NONE: u32 = u32::MAX;

impl Vocabulary {
    fn new(tokens: &'static [u8], words: &str) -> Vocabulary {
        let mut starts = Vec::with_capacity(200_000);
        let mut at = 0;
        while let Some(&length) = tokens.get(at) {
            starts.push(u32::try_from(at).unwrap_or(NONE));
            at += 1 + usize::from(length);
        }
        let slots = (starts.len() * 2).next_power_of_two();
        let mut vocabulary = Vocabulary {
            tokens,
            starts,
            table: vec![0; slots],
            // The published pattern ends with "white space not before a word", which needs a look
            // ahead. Here the second pattern takes one character too many, which is given back;
            // the third takes what is left.
            pattern: Regex::new_many(&[words, r"\s+\s", r"\s+"]).expect("a sound pattern"),
        };
        for rank in 0..vocabulary.starts.len() {
            let mut slot = vocabulary.slot(vocabulary.token(rank));
            while vocabulary.table[slot] != 0 {
                slot = (slot + 1) & (slots - 1);
            }
            vocabulary.table[slot] = u32::try_from(rank + 1).unwrap_or(NONE);
        }
        vocabulary
    }

    /// The number of tokens of a text.
    pub fn count(&self, text: &str) -> usize {
        self.count_up_to(text, usize::MAX)
    }

    /// The same, but once it is known to be above `most` nobody looks further.
    pub fn count_up_to(&self, text: &str, most: usize) -> usize {
        let mut count = 0;
        let mut rest = text;
        while !rest.is_empty() && count <= most {
            let (piece, behind) = self.cut(rest);
            count += self.count_piece(piece.as_bytes(), most - count);
            rest = behind;
        }
        count
    }

    /// The first piece and what follows it.
    fn cut<'t>(&self, text: &'t str) -> (&'t str, &'t str) {
        const GIVES_ONE_BACK: usize = 1;
        let found = self.pattern.find(Input::new(text).anchored(Anchored::Yes));
        let end = match found {
            Some(found) if found.pattern().as_usize() == GIVES_ONE_BACK => {
                let taken = &text[..found.end()];
                taken.char_indices().next_back().map_or(found.end(), |(last, _)| last)
            }
            Some(found) => found.end(),
            None => text.len(),
        };
        text.split_at(if end == 0 { text.len() } else { end })
    }

    /// The bytes of these tokens; `None`: one of them is no ordinary token of this vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for &id in ids {
            let rank = usize::try_from(id).ok().filter(|rank| *rank < self.starts.len())?;
            bytes.extend_from_slice(self.token(rank));
        }
        Some(bytes)
    }

    fn count_piece(&self, piece: &[u8], most: usize) -> usize {
        /// Longer pieces are rare; for shorter ones the plain walk is the faster way.
        const SHORT: usize = 48;
        if self.rank(piece) != NONE {
            return 1;
        }
        if piece.len() <= SHORT {
            return self.merge_short(piece);
        }
        let mut count = 0;
        for chunk in piece.chunks(LONGEST) {
            if count > most {
                break;
            }
            count += self.merge_long(chunk);
        }
        count
    }

    /// Merges the pair of the lowest rank until none is a token; the square of the length.
    fn merge_short(&self, piece: &[u8]) -> usize {
        let mut ends: Vec<usize> = (1..=piece.len()).collect();
        loop {
            let start = |index: usize| if index == 0 { 0 } else { ends[index - 1] };
            let pairs = 0..ends.len().saturating_sub(1);
            let ranked = pairs.map(|left| (self.rank(&piece[start(left)..ends[left + 1]]), left));
            match ranked.min() {
                Some((rank, left)) if rank != NONE => ends.remove(left),
                _ => return ends.len(),
            };
        }
    }

    /// The same with a heap of pairs, so that a megabyte without a space takes no minute.
    fn merge_long(&self, piece: &[u8]) -> usize {
        // Part `i` begins at byte `i`; a part that was merged into its left neighbour has no end.
        let length = piece.len();
        let mut end: Vec<usize> = (1..=length).collect();
        let mut before: Vec<usize> = (0..length).map(|at| at.wrapping_sub(1)).collect();
        let mut heap = BinaryHeap::new();
        let pair = |left: usize, right_end: usize| {
            let rank = self.rank(&piece[left..right_end]);
            (rank != NONE).then_some(Reverse((rank, left, right_end)))
        };
        heap.extend((0..length - 1).filter_map(|left| pair(left, left + 2)));
        let mut parts = length;
        while let Some(Reverse((_, left, right_end))) = heap.pop() {
            // Stale unless both neighbours are still what they were when the pair was seen.
            let right = end[left];
            if right == 0 || right >= length || end[right] != right_end {
                continue;
            }
            end[left] = right_end;
            end[right] = 0;
            parts -= 1;
            if right_end < length {
                before[right_end] = left;
                heap.extend(pair(left, end[right_end]));
            }
            if left > 0 {
                heap.extend(pair(before[left], right_end));
            }
        }
        parts
    }

    fn rank(&self, bytes: &[u8]) -> u32 {
        let mut slot = self.slot(bytes);
        loop {
            match self.table[slot] {
                0 => return NONE,
                found if self.token(found as usize - 1) == bytes => return found - 1,
                _ => slot = (slot + 1) & (self.table.len() - 1),
            }
        }
    }

    fn token(&self, rank: usize) -> &[u8] {
        let start = self.starts[rank] as usize;
        let length = usize::from(self.tokens[start]);
        &self.tokens[start + 1..=start + length]
    }

    /// Eight bytes at a time by multiplication; the high bits are the well-mixed ones.
    fn slot(&self, bytes: &[u8]) -> usize {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut hash = bytes.len() as u64;
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(ODD);
            hash ^= hash >> 29;
        }
        (hash.wrapping_mul(ODD) >> (64 - self.table.len().trailing_zeros())) as usize
    }
}
