//! The fast stage: which features a text has, and one line of small numbers for each.
//!
//! Pieces of words, words and pairs of words are hashed into rows of int8; signs (phrases of
//! `cues.txt`, shape, length) have rows of their own. A text's answer is the sum of its rows:
//! tens of microseconds, all heads at once, and a misspelt word still has most of its pieces.
//! Knows nothing of how the numbers were learnt (`train::fast`) nor of requests.

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::classify::Input;
use crate::classify::cues::CUES;
use crate::classify::heads::{CLASSES, Logits};
use crate::classify::language;
use crate::classify::rules::{Shape, sample};

#[cfg(test)]
mod tests;

/// Rows of hashed features.
pub const BUCKETS: usize = 1 << 16;
/// Rows of signs.
pub const SIGNS: usize = 1024;
/// Columns of a row: the classes, filled up to three 16-byte lanes.
pub const COLUMNS: usize = 48;

/// Features of one kind share a weight, so that a long pasted text does not drown the order
/// above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Group {
    /// Pieces of three to five characters of what the person orders.
    Pieces,
    /// Words and pairs of words of what the person orders.
    Words,
    /// The first words of the order, and its last line.
    Edges,
    /// Words and pieces of what was pasted.
    Pasted,
    /// Words of what was said before.
    Context,
}

/// How many groups there are.
pub const GROUPS: usize = 5;

/// The features of one text: rows of hashed features by group, rows of signs. No row twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Features {
    /// Hashed rows.
    pub hashed: [Vec<u16>; GROUPS],
    /// Rows of signs.
    pub signs: Vec<u16>,
}

impl Features {
    /// How much one feature of a group counts: together they have the length 1, as in a
    /// normalised bag of words.
    pub fn weight(&self, group: usize) -> f32 {
        let n = self.hashed[group].len();
        if n == 0 { 0.0 } else { 1.0 / (n as f32).sqrt() }
    }

    /// How much one sign counts.
    pub fn sign_weight(&self) -> f32 {
        if self.signs.is_empty() { 0.0 } else { 1.0 / (self.signs.len() as f32).sqrt() }
    }
}

/// Reads a request's features. Long texts are read at head, tail and in windows between.
pub fn features(input: &Input) -> Features {
    let text = sample(&input.text);
    let mut reader = Reader::new();
    reader.read(&text, input);
    reader.features
}

/// Collects features, each once.
struct Reader {
    features: Features,
    seen: Vec<u64>,
    seen_signs: [u64; SIGNS / 64],
}

/// What a feature is about, part of its hash.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
enum Space {
    Piece = 0x9e37_79b1,
    Word = 0x85eb_ca6b,
    Pair = 0xc2b2_ae35,
    First = 0x27d4_eb2f,
    FirstPair = 0x1656_67b1,
    Start = 0x7feb_352d,
    Tail = 0x846c_a68b,
    TailPair = 0x68bc_21eb,
    PastedPiece = 0x02e5_be93,
    PastedWord = 0x967a_889b,
    Context = 0x45d9_f3b1,
    ContextPair = 0x3ade_68b1,
}

/// At most so many words are read of a part, so that the time is bounded.
const MOST_WORDS: usize = 700;
/// At most so many characters of a word are cut into pieces.
const MOST_CHARACTERS: usize = 24;

impl Reader {
    fn new() -> Self {
        Reader {
            features: Features::default(),
            seen: vec![0; BUCKETS / 64],
            seen_signs: [0; SIGNS / 64],
        }
    }

    fn add(&mut self, group: Group, hash: u32) {
        // The upper bits of a multiplicative hash are the good ones.
        let row = (hash.wrapping_mul(0x9e37_79b1) >> 16) as u16;
        let (word, bit) = (usize::from(row >> 6), 1 << (row & 63));
        if self.seen[word] & bit == 0 {
            self.seen[word] |= bit;
            self.features.hashed[group as usize].push(row);
        }
    }

    fn sign(&mut self, row: usize) {
        debug_assert!(row < SIGNS);
        let (word, bit) = (row >> 6, 1 << (row & 63));
        if self.seen_signs[word] & bit == 0 {
            self.seen_signs[word] |= bit;
            self.features.signs.push(row as u16);
        }
    }

    fn read(&mut self, text: &str, input: &Input) {
        let hits = CUES.hits(text);
        let shape = Shape::of(text, input);
        self.order(text, &shape);
        self.pasted(&text[shape.head_end..shape.tail_start]);
        self.context(input);
        self.cues(text, &hits, &shape);
        self.shape(text, &shape, input);
    }

    /// What the person orders: the beginning, and the end behind what was pasted.
    fn order(&mut self, text: &str, shape: &Shape) {
        let head = words(&text[..shape.head_end]);
        let tail = words(&text[shape.tail_start..]);
        for part in [&head, &tail] {
            for word in part {
                pieces(word, 3..=5, |hash| self.add(Group::Pieces, hash ^ Space::Piece as u32));
                self.add(Group::Words, hash_word(word) ^ Space::Word as u32);
            }
            for pair in part.windows(2) {
                self.add(Group::Words, hash_pair(pair) ^ Space::Pair as u32);
            }
        }
        let first = words(&text[shape.start..shape.head_end]);
        if let Some(word) = head.first() {
            self.add(Group::Edges, hash_word(word) ^ Space::Start as u32);
        }
        for (place, word) in first.iter().take(2).enumerate() {
            let place = (place as u32 + 1).wrapping_mul(Space::First as u32);
            self.add(Group::Edges, hash_word(word) ^ place);
        }
        if let Some(pair) = first.get(..2) {
            self.add(Group::Edges, hash_pair(pair) ^ Space::FirstPair as u32);
        }
        for word in tail.iter().take(30) {
            self.add(Group::Edges, hash_word(word) ^ Space::Tail as u32);
        }
        for pair in tail.windows(2).take(30) {
            self.add(Group::Edges, hash_pair(pair) ^ Space::TailPair as u32);
        }
    }

    fn pasted(&mut self, text: &str) {
        for word in words(text) {
            self.add(Group::Pasted, hash_word(word) ^ Space::PastedWord as u32);
            pieces(word, 4..=4, |hash| self.add(Group::Pasted, hash ^ Space::PastedPiece as u32));
        }
    }

    fn context(&mut self, input: &Input) {
        let context = input.context();
        if context.is_empty() {
            return;
        }
        let lower = context.to_lowercase();
        let words = words(&lower);
        for word in &words {
            self.add(Group::Context, hash_word(word) ^ Space::Context as u32);
        }
        for pair in words.windows(2) {
            self.add(Group::Context, hash_pair(pair) ^ Space::ContextPair as u32);
        }
    }
}

/// Words and single signs such as `?`; what stands between is left out.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices() {
        let is_word = c.is_alphanumeric() || c == '\'' || c == '_';
        match (is_word, start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                words.push(&text[from..at]);
                start = None;
            }
            _ => {}
        }
        if !is_word && !c.is_whitespace() && !matches!(c, ',' | '.' | '-' | '*' | '#') {
            words.push(&text[at..at + c.len_utf8()]);
        }
        if words.len() >= MOST_WORDS {
            return words;
        }
    }
    words.extend(start.map(|from| &text[from..]));
    words
}

fn hash_word(word: &str) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    // Numbers are alike: which one it is says nothing, how long it is does.
    for byte in word.bytes() {
        let byte = if byte.is_ascii_digit() { b'0' } else { byte };
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    hash
}

fn hash_pair(pair: &[&str]) -> u32 {
    hash_word(pair[0]).rotate_left(13).wrapping_mul(5) ^ hash_word(pair[1])
}

/// The pieces of a word with its borders: `_ma mai ail il_ …`.
fn pieces(word: &str, sizes: std::ops::RangeInclusive<usize>, mut each: impl FnMut(u32)) {
    let mut signs = [u32::from('_'); MOST_CHARACTERS + 2];
    let mut n = 1;
    for c in word.chars().take(MOST_CHARACTERS) {
        signs[n] = if c.is_ascii_digit() { u32::from('0') } else { u32::from(c) };
        n += 1;
    }
    n += 1;
    for from in 0..n {
        let mut hash = 0x811c_9dc5_u32;
        for (length, sign) in signs[from..n].iter().take(*sizes.end()).enumerate() {
            hash = (hash ^ sign).wrapping_mul(0x0100_0193).rotate_left(5);
            if length + 1 >= *sizes.start() {
                each(hash.wrapping_add(length as u32));
            }
        }
    }
}

/// Where the rows of signs begin.
mod sign {
    /// Group of `cues.txt` × zone (4).
    pub(super) const CUES: usize = 0;
    pub(super) const ZONES: usize = 4;
    pub(super) const MOST_CUES: usize = 150;
    /// Everything else has sixteen rows.
    pub(super) const REST: usize = CUES + MOST_CUES * ZONES;
    pub(super) const STEP: usize = 16;
}

/// A measured thing, by steps.
#[derive(Debug, Clone, Copy)]
#[repr(usize)]
enum Measure {
    Words,
    Pasted,
    Lines,
    Numbers,
    Operators,
    Code,
    Options,
    Tail,
    History,
    Tools,
    Flags,
    Language,
    Questions,
    FirstLetter,
    HeadWords,
    Longest,
}

impl Reader {
    fn cues(&mut self, text: &str, hits: &[crate::classify::cues::Hit], shape: &Shape) {
        for hit in hits {
            let begins = hit.start == shape.start || hit.start == 0;
            if hit.anchored && !begins && !shape.begins_tail(text, hit.start) {
                continue;
            }
            let zone = match hit.start {
                _ if begins => 0,
                at if at < shape.head_end => 1,
                at if at >= shape.tail_start => 2,
                _ => 3,
            };
            if hit.group < sign::MOST_CUES {
                self.sign(sign::CUES + hit.group * sign::ZONES + zone);
            }
        }
    }

    fn measure(&mut self, measure: Measure, step: usize) {
        self.sign(sign::REST + measure as usize * sign::STEP + step.min(sign::STEP - 1));
    }

    fn shape(&mut self, text: &str, shape: &Shape, input: &Input) {
        self.measure(Measure::Words, steps(shape.total_words as usize));
        self.measure(Measure::Pasted, steps(shape.payload));
        self.measure(Measure::Lines, steps(text.lines().count()));
        self.measure(Measure::Numbers, steps(shape.numbers));
        self.measure(Measure::Operators, steps(shape.operators));
        self.measure(Measure::Code, (shape.code * 2.0) as usize);
        self.measure(Measure::Options, shape.options);
        self.measure(Measure::Tail, steps(text.len() - shape.tail_start));
        self.measure(Measure::History, input.history.len() + usize::from(!input.system.is_empty()));
        self.measure(Measure::Tools, steps(input.tools) + usize::from(input.attachments) * 8);
        self.measure(Measure::Questions, text.matches('?').count());
        self.measure(Measure::HeadWords, steps(shape.head_end - shape.start));
        let longest = text.split_whitespace().map(str::len).max().unwrap_or(0);
        self.measure(Measure::Longest, steps(longest));
        let flags = [
            shape.asks,
            input.attachments,
            text.contains("http"),
            text.contains('@'),
            text.contains("\n\n"),
            text.contains(['„', '"', '“']),
            text.contains(['€', '$']),
            input.text.chars().next().is_some_and(char::is_uppercase),
            input.text.trim_end().ends_with('?'),
            input.text.trim_end().ends_with(':'),
            text.contains(['ä', 'ö', 'ü', 'ß']),
            text.contains("<|") || text.contains("[/"),
            text.contains('\t') || text.contains('|'),
        ];
        for (place, _) in flags.iter().enumerate().filter(|(_, is_set)| **is_set) {
            self.measure(Measure::Flags, place);
        }
        let language = language::detect(text, (0.0, 0.0));
        let place = crate::classify::heads::LANGUAGES.iter().position(|each| *each == language);
        self.measure(Measure::Language, place.unwrap_or(sign::STEP - 1));
        let first = text[shape.start..].chars().next().map_or(0, |c| u32::from(c) as usize);
        self.measure(Measure::FirstLetter, first % 16);
    }
}

/// 0, 1, 2, 3–4, 5–8, …: what matters about a length is its order of magnitude.
fn steps(n: usize) -> usize {
    match n {
        0..=2 => n,
        _ => (usize::BITS - (n - 1).leading_zeros()) as usize + 1,
    }
}

/// What was learnt: a row of weights for each feature.
#[derive(Clone)]
pub struct Fast {
    /// `BUCKETS × COLUMNS` of int8, as bytes: a file of three megabytes is taken as it lies.
    hashed: Vec<u8>,
    /// `SIGNS × COLUMNS`.
    signs: Vec<f32>,
    /// What one step of a hashed weight is worth, by column.
    steps: [f32; COLUMNS],
    bias: [f32; COLUMNS],
}

impl std::fmt::Debug for Fast {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fast").finish_non_exhaustive()
    }
}

/// Why a file of the fast stage cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FastError {
    /// Not a file of tensors, or cut.
    #[error("the weights of the fast stage are damaged")]
    Damaged(#[source] safetensors::SafeTensorError),
    /// A tensor of another size or type: made for another version.
    #[error("the weights of the fast stage do not fit this version ({0})")]
    Unfit(&'static str),
}

impl Fast {
    /// From learnt weights: `hashed` of `BUCKETS × COLUMNS`, `signs` of `SIGNS × COLUMNS`,
    /// `bias` of `COLUMNS`. Hashed weights are rounded to 255 steps a column.
    ///
    /// # Errors
    /// [`FastError::Unfit`] where a size differs.
    pub fn quantize(hashed: &[f32], signs: &[f32], bias: &[f32]) -> Result<Self, FastError> {
        if hashed.len() != BUCKETS * COLUMNS {
            return Err(FastError::Unfit("hashed"));
        }
        if signs.len() != SIGNS * COLUMNS {
            return Err(FastError::Unfit("signs"));
        }
        let bias = bias.try_into().map_err(|_| FastError::Unfit("bias"))?;
        let mut steps = [0.0_f32; COLUMNS];
        for row in hashed.chunks_exact(COLUMNS) {
            for (step, weight) in steps.iter_mut().zip(row) {
                *step = step.max(weight.abs() / 127.0);
            }
        }
        let round = |(at, weight): (usize, &f32)| match steps[at % COLUMNS] {
            0.0 => 0,
            step => ((weight / step).round() as i8).cast_unsigned(),
        };
        let hashed = hashed.iter().enumerate().map(round).collect();
        Ok(Fast { hashed, signs: signs.to_vec(), steps, bias })
    }

    /// Reads what [`Fast::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`FastError`] where the bytes are damaged or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FastError> {
        let file = SafeTensors::deserialize(bytes).map_err(FastError::Damaged)?;
        let hashed = tensor(&file, "hashed", Dtype::I8, &[BUCKETS, COLUMNS])?;
        let signs = floats(tensor(&file, "signs", Dtype::F32, &[SIGNS, COLUMNS])?);
        let steps = floats(tensor(&file, "steps", Dtype::F32, &[COLUMNS])?);
        let bias = floats(tensor(&file, "bias", Dtype::F32, &[COLUMNS])?);
        let all_finite = signs.iter().chain(&steps).chain(&bias).all(|value| value.is_finite());
        if !all_finite {
            return Err(FastError::Unfit("a number that is none"));
        }
        Ok(Fast {
            hashed: hashed.to_vec(),
            signs,
            steps: steps.try_into().map_err(|_| FastError::Unfit("steps"))?,
            bias: bias.try_into().map_err(|_| FastError::Unfit("bias"))?,
        })
    }

    /// As a safetensors file.
    ///
    /// # Errors
    /// [`FastError::Damaged`] where a tensor cannot be written, which a sound `Fast` never is.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FastError> {
        let bytes = |values: &[f32]| -> Vec<u8> {
            values.iter().flat_map(|value| value.to_le_bytes()).collect()
        };
        let (signs, steps, bias) = (bytes(&self.signs), bytes(&self.steps), bytes(&self.bias));
        let view = |dtype, shape: &[usize], data| {
            TensorView::new(dtype, shape.to_vec(), data).map_err(FastError::Damaged)
        };
        let tensors = [
            ("hashed", view(Dtype::I8, &[BUCKETS, COLUMNS], &self.hashed)?),
            ("signs", view(Dtype::F32, &[SIGNS, COLUMNS], &signs)?),
            ("steps", view(Dtype::F32, &[COLUMNS], &steps)?),
            ("bias", view(Dtype::F32, &[COLUMNS], &bias)?),
        ];
        safetensors::serialize(tensors, None).map_err(FastError::Damaged)
    }

    /// The numbers for a text's features.
    pub fn logits(&self, features: &Features) -> Logits {
        let mut sums = self.bias;
        for (group, rows) in features.hashed.iter().enumerate() {
            let total = self.sum(rows);
            let weight = features.weight(group);
            for column in 0..COLUMNS {
                sums[column] += total[column] as f32 * self.steps[column] * weight;
            }
        }
        let weight = features.sign_weight();
        for row in &features.signs {
            let from = usize::from(*row) * COLUMNS;
            for (sum, value) in sums.iter_mut().zip(&self.signs[from..from + COLUMNS]) {
                *sum += value * weight;
            }
        }
        let mut logits = Logits([0.0; CLASSES]);
        logits.0.copy_from_slice(&sums[..CLASSES]);
        logits
    }

    fn sum(&self, rows: &[u16]) -> [i32; COLUMNS] {
        let mut sums = [0_i32; COLUMNS];
        // 250 rows of at most 127 fit sixteen bits, and adding sixteen bits is twice as quick.
        for rows in rows.chunks(250) {
            let mut part = [0_i16; COLUMNS];
            for row in rows {
                let from = usize::from(*row) * COLUMNS;
                for (sum, value) in part.iter_mut().zip(&self.hashed[from..from + COLUMNS]) {
                    *sum += i16::from(value.cast_signed());
                }
            }
            for (sum, value) in sums.iter_mut().zip(part) {
                *sum += i32::from(value);
            }
        }
        sums
    }
}

fn tensor<'f>(
    file: &'f SafeTensors<'f>,
    name: &'static str,
    dtype: Dtype,
    shape: &[usize],
) -> Result<&'f [u8], FastError> {
    let tensor = file.tensor(name).map_err(FastError::Damaged)?;
    match tensor.dtype() == dtype && tensor.shape() == shape {
        true => Ok(tensor.data()),
        false => Err(FastError::Unfit(name)),
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let float = |four: &[u8]| f32::from_le_bytes([four[0], four[1], four[2], four[3]]);
    bytes.chunks_exact(4).map(float).collect()
}
