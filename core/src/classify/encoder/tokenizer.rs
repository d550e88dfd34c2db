//! Text to tokens: WordPiece as BERT cuts it, the case that lower-casing throws away, and where
//! in the text each token came from.
//!
//! A text longer than the model reads is taken at its head and its tail. Only as many bytes are
//! looked at as those can need, so a megabyte costs no more than a page. Knows nothing of what
//! the tokens are for.

use std::ops::Range;

use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::tokenizer::normalizer::Range as In;
use tokenizers::{
    Model, NormalizedString, Normalizer, OffsetType, PreTokenizedString, PreTokenizer,
};

use crate::classify::encoder::EncoderError;

/// Token type of what was asked.
pub const TEXT: u8 = 0;
/// Token type of what stands around it: earlier turns, standing instructions.
pub const CONTEXT: u8 = 1;

/// What a token's letters look like before they are lower-cased. The numbers are rows of the
/// shape embeddings, so they must never change their meaning.
pub mod shape {
    /// `[CLS]`, `[SEP]`, padding.
    pub const SPECIAL: u8 = 0;
    /// haus; also letters of scripts without case.
    pub const LOWER: u8 = 1;
    /// Haus.
    pub const TITLE: u8 = 2;
    /// HAUS.
    pub const UPPER: u8 = 3;
    /// eBay, A4, HAUSnummer.
    pub const MIXED: u8 = 4;
    /// 2026.
    pub const DIGITS: u8 = 5;
    /// Punctuation, symbols, emoji.
    pub const SYMBOL: u8 = 6;
    /// A further piece of the word before, `##` in the vocabulary.
    pub const CONTINUED: u8 = 7;
    /// How many there are.
    pub const COUNT: usize = 8;
}

/// Bytes that are read for each token that fits: German runs to about five a token, and tables
/// padded with spaces to about ten.
const BYTES_PER_TOKEN: usize = 12;

/// WordPiece tries every end of a word, so its cost grows with the square of the length. Longer
/// than the longest German compound it is no word any more and is cut.
const LONGEST_WORD: usize = 64;

/// One text, ready for the model. All lists have the same length.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Rows of the vocabulary.
    pub ids: Vec<u32>,
    /// [`TEXT`] or [`CONTEXT`].
    pub types: Vec<u8>,
    /// One of [`shape`].
    pub shapes: Vec<u8>,
    /// Bytes of the original text (or of the context, by type); empty for special tokens.
    pub spans: Vec<Range<usize>>,
}

/// Spans and shapes of a prompt tell little, its tokens tell all.
impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({})", self.len())
    }
}

impl Tokens {
    /// How many tokens there are, special ones included.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none at all.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    fn push(&mut self, piece: Piece, token_type: u8) {
        self.ids.push(piece.id);
        self.types.push(token_type);
        self.shapes.push(piece.shape);
        self.spans.push(piece.span);
    }
}

/// One token without its place in a sequence.
#[derive(Debug, Clone)]
struct Piece {
    id: u32,
    shape: u8,
    span: Range<usize>,
}

/// Cuts text as BERT does: lower case, no accents, words and punctuation, then pieces.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    model: WordPiece,
    normalizer: BertNormalizer,
    start: u32,
    end: u32,
}

impl Tokenizer {
    /// Reads a `vocab.txt`: one piece a line, its number is its line.
    ///
    /// # Errors
    /// [`EncoderError::Vocabulary`] when it is no text or lacks a special piece.
    pub fn from_vocabulary(vocabulary: &[u8]) -> Result<Self, EncoderError> {
        let vocabulary = WordPiece::read_bytes(vocabulary).map_err(damaged)?;
        let special = |name: &str| {
            let found = vocabulary.get(name).copied();
            found.ok_or_else(|| EncoderError::Vocabulary(format!("it has no {name}")))
        };
        let (start, end, _unknown) = (special("[CLS]")?, special("[SEP]")?, special("[UNK]")?);
        let model = WordPiece::builder()
            .vocab(vocabulary)
            .max_input_chars_per_word(LONGEST_WORD)
            .build()
            .map_err(damaged)?;
        Ok(Tokenizer { model, normalizer: BertNormalizer::default(), start, end })
    }

    /// Pieces in the vocabulary.
    pub fn vocabulary_size(&self) -> usize {
        self.model.get_vocab_size()
    }

    /// `[CLS] text [SEP]`, and with a context `[CLS] text [SEP] context [SEP]`, at most
    /// `max_tokens` (at least 3) long.
    ///
    /// The text goes first: the context gets what is left, though never less than a quarter, so
    /// that a long question does not hide who is asked. A text that does not fit keeps its head
    /// and its tail with a `[SEP]` at the cut; a context keeps its head.
    ///
    /// # Errors
    /// [`EncoderError::Vocabulary`]; does not happen with a vocabulary that was loaded.
    pub fn encode(
        &self,
        text: &str,
        context: &str,
        max_tokens: usize,
    ) -> Result<Tokens, EncoderError> {
        let room = max_tokens.saturating_sub(2).max(1);
        let mut text = self.ends(text, room)?;
        let context_room = room.saturating_sub(1);
        let mut context = match context.trim().is_empty() {
            true => Vec::new(),
            false => self.head(context, context_room)?,
        };
        let left = context_room.saturating_sub(text.len()).max(context_room / 4);
        context.truncate(left);
        if !context.is_empty() {
            text.shorten(context_room - context.len());
        }

        let mut tokens = Tokens::default();
        tokens.push(special(self.start), TEXT);
        let is_cut = text.is_cut;
        text.head.into_iter().for_each(|piece| tokens.push(piece, TEXT));
        if is_cut {
            tokens.push(special(self.end), TEXT);
        }
        text.tail.into_iter().for_each(|piece| tokens.push(piece, TEXT));
        tokens.push(special(self.end), TEXT);
        if !context.is_empty() {
            context.into_iter().for_each(|piece| tokens.push(piece, CONTEXT));
            tokens.push(special(self.end), CONTEXT);
        }
        Ok(tokens)
    }

    /// How the vocabulary cuts a text, without special tokens and without an end: for building
    /// vocabularies and aligning labels, not for what strangers send.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_whole(&self, text: &str) -> Result<Tokens, EncoderError> {
        let mut tokens = Tokens::default();
        self.pieces(text, 0)?.into_iter().for_each(|piece| tokens.push(piece, TEXT));
        Ok(tokens)
    }

    /// Head and tail of a text that fit into `room` tokens.
    fn ends(&self, text: &str, room: usize) -> Result<Ends, EncoderError> {
        let start = text.len() - text.trim_start().len();
        let trimmed = text.trim();
        let reach = room.saturating_mul(BYTES_PER_TOKEN);
        let mut ends = if trimmed.len() <= 2 * reach {
            Ends { head: self.pieces(trimmed, start)?, tail: Vec::new(), is_cut: false }
        } else {
            let head = &trimmed[..trimmed.floor_char_boundary(reach)];
            let from = trimmed.ceil_char_boundary(trimmed.len() - reach);
            Ends {
                head: self.pieces(head, start)?,
                tail: self.pieces(&trimmed[from..], start + from)?,
                is_cut: true,
            }
        };
        ends.shorten(room);
        Ok(ends)
    }

    fn head(&self, text: &str, room: usize) -> Result<Vec<Piece>, EncoderError> {
        let start = text.len() - text.trim_start().len();
        let trimmed = text.trim_start();
        let reach = trimmed.floor_char_boundary(room.saturating_mul(BYTES_PER_TOKEN));
        let mut pieces = self.pieces(&trimmed[..reach], start)?;
        pieces.truncate(room);
        Ok(pieces)
    }

    /// All pieces of a text that begins at byte `at` of the original.
    fn pieces(&self, text: &str, at: usize) -> Result<Vec<Piece>, EncoderError> {
        let mut normalized = NormalizedString::from(text);
        self.normalizer.normalize(&mut normalized).map_err(damaged)?;
        let mut words = PreTokenizedString::from(normalized);
        BertPreTokenizer.pre_tokenize(&mut words).map_err(damaged)?;
        words.split(|_, word| Ok(cut(word))).map_err(damaged)?;
        words.tokenize(|word| self.model.tokenize(word.get())).map_err(damaged)?;
        let encoding = words.into_encoding(None, 0, OffsetType::Byte).map_err(damaged)?;

        let (spans, words) = (encoding.get_offsets(), encoding.get_word_ids());
        let mut pieces: Vec<Piece> = Vec::with_capacity(spans.len());
        for (index, &id) in encoding.get_ids().iter().enumerate() {
            let continued = index > 0 && words[index].is_some() && words[index] == words[index - 1];
            let shape = if continued {
                shape::CONTINUED
            } else {
                let last =
                    index + words[index..].iter().take_while(|w| **w == words[index]).count();
                shape_of(&text[spans[index].0..spans[last - 1].1])
            };
            let span = at + spans[index].0..at + spans[index].1;
            pieces.push(Piece { id, shape, span });
        }
        Ok(pieces)
    }
}

/// What is kept of a text.
struct Ends {
    head: Vec<Piece>,
    tail: Vec<Piece>,
    is_cut: bool,
}

impl Ends {
    fn len(&self) -> usize {
        self.head.len() + self.tail.len() + usize::from(self.is_cut)
    }

    /// Keeps five eighths of the room from the head and the rest from the tail: people say what
    /// they want first or last, first more often. The place of the cut is one token.
    fn shorten(&mut self, room: usize) {
        if self.len() <= room {
            return;
        }
        if !self.is_cut && self.tail.is_empty() {
            self.tail = self.head.split_off((room.saturating_sub(1)) * 5 / 8);
            self.is_cut = true;
        }
        let kept = room.saturating_sub(1);
        // A short end leaves its share to the other.
        let head = (kept * 5 / 8).max(kept.saturating_sub(self.tail.len())).min(self.head.len());
        self.head.truncate(head);
        let tail = (kept - head).min(self.tail.len());
        self.tail.drain(..self.tail.len() - tail);
    }
}

/// Cuts a word that is longer than any word.
fn cut(word: NormalizedString) -> Vec<NormalizedString> {
    if word.get().len() <= LONGEST_WORD || word.get().chars().count() <= LONGEST_WORD {
        return vec![word];
    }
    let starts: Vec<usize> =
        word.get().char_indices().step_by(LONGEST_WORD).map(|(at, _)| at).collect();
    let ends = starts.iter().copied().skip(1).chain([word.get().len()]);
    starts
        .iter()
        .zip(ends)
        .filter_map(|(&start, end)| word.slice(In::Normalized(start..end)))
        .collect()
}

fn special(id: u32) -> Piece {
    Piece { id, shape: shape::SPECIAL, span: 0..0 }
}

fn damaged(cause: tokenizers::Error) -> EncoderError {
    EncoderError::Vocabulary(cause.to_string())
}

/// What a word looks like.
pub fn shape_of(word: &str) -> u8 {
    let (mut letters, mut upper, mut digits) = (0, 0, 0);
    let mut begins_upper = false;
    for (index, letter) in word.chars().enumerate() {
        digits += usize::from(letter.is_numeric());
        letters += usize::from(letter.is_alphabetic());
        upper += usize::from(letter.is_uppercase());
        begins_upper |= index == 0 && letter.is_uppercase();
    }
    match (letters, upper, digits) {
        (0, _, 0) => shape::SYMBOL,
        (0, _, _) => shape::DIGITS,
        (_, _, 1..) => shape::MIXED,
        (_, 0, _) => shape::LOWER,
        (_, 1, _) if begins_upper => shape::TITLE,
        _ if upper == letters => shape::UPPER,
        _ => shape::MIXED,
    }
}
