//! Which pieces of words the encoder reads: MiniLM's English vocabulary, and German beside it.
//!
//! German pieces are found by byte-pair merging over a German word list with counts (Sennrich et
//! al. 2016, arXiv 1508.07909), written in WordPiece's way (`##` before a piece that goes on), so
//! that the greedy longest match of WordPiece reads whole German words and the parts of
//! compounds. Knows nothing of tensors.

use std::collections::{BTreeMap, HashMap};

use unicode_normalization::UnicodeNormalization;

/// Lower case without accents, as the encoder's tokenizer reads a word.
pub fn plain(word: &str) -> String {
    word.to_lowercase()
        .nfd()
        .filter(|c| !unicode_normalization::char::is_combining_mark(*c))
        .collect()
}

/// Counts the words of a text, plain, letters only.
pub fn count_words(text: &str, counts: &mut HashMap<String, u64>) {
    for word in text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()) {
        *counts.entry(plain(word)).or_default() += 1;
    }
}

/// The base vocabulary with at most `wanted` German pieces after it, most useful first.
///
/// Words that the base vocabulary already holds whole are not learned from: they are read well.
pub fn extend(base: &[String], counts: &HashMap<String, u64>, wanted: usize) -> Vec<String> {
    let known: std::collections::HashSet<&str> = base.iter().map(String::as_str).collect();
    let mut words: Vec<Word> = counts
        .iter()
        .filter(|(word, count)| {
            **count >= 2 && !known.contains(word.as_str()) && word.chars().count() <= 40
        })
        .map(|(word, count)| Word { pieces: letters(word), count: *count })
        .collect();
    // The map's order is random; the recipe must give the same vocabulary every time.
    words.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.pieces.cmp(&b.pieces)));
    let mut found: Vec<String> = Vec::new();
    let mut seen: std::collections::HashSet<String> =
        known.iter().map(|piece| (*piece).to_owned()).collect();
    let mut pairs = Pairs::of(&words);
    while found.len() < wanted {
        let Some((left, right)) = pairs.best() else { break };
        let merged = join(&left, &right);
        pairs.merge(&mut words, &left, &right, &merged);
        if seen.insert(merged.clone()) {
            found.push(merged);
        }
    }
    base.iter().cloned().chain(found).collect()
}

/// A word as the pieces that it is made of so far.
struct Word {
    pieces: Vec<String>,
    count: u64,
}

fn letters(word: &str) -> Vec<String> {
    word.chars()
        .enumerate()
        .map(|(i, c)| if i == 0 { c.to_string() } else { format!("##{c}") })
        .collect()
}

fn join(left: &str, right: &str) -> String {
    format!("{left}{}", right.trim_start_matches("##"))
}

/// How often each pair of neighbours occurs, and in which words.
struct Pairs {
    counts: BTreeMap<(String, String), i64>,
    places: HashMap<(String, String), Vec<usize>>,
}

impl Pairs {
    fn of(words: &[Word]) -> Self {
        let mut pairs = Pairs { counts: BTreeMap::new(), places: HashMap::new() };
        for (at, word) in words.iter().enumerate() {
            pairs.add(at, word);
        }
        pairs
    }

    fn add(&mut self, at: usize, word: &Word) {
        for pair in word.pieces.windows(2) {
            let pair = (pair[0].clone(), pair[1].clone());
            *self.counts.entry(pair.clone()).or_default() += word.count as i64;
            self.places.entry(pair).or_default().push(at);
        }
    }

    fn remove(&mut self, word: &Word) {
        for pair in word.pieces.windows(2) {
            let pair = (pair[0].clone(), pair[1].clone());
            if let Some(count) = self.counts.get_mut(&pair) {
                *count -= word.count as i64;
            }
        }
    }

    /// The most frequent pair; among equals the first in order. `None` when nothing occurs twice.
    fn best(&self) -> Option<(String, String)> {
        let (pair, count) =
            self.counts.iter().max_by(|a, b| a.1.cmp(b.1).then_with(|| b.0.cmp(a.0)))?;
        (*count >= 3).then(|| pair.clone())
    }

    fn merge(&mut self, words: &mut [Word], left: &str, right: &str, merged: &str) {
        let pair = (left.to_owned(), right.to_owned());
        let mut places = self.places.remove(&pair).unwrap_or_default();
        places.sort_unstable();
        places.dedup();
        for at in places {
            self.remove(&words[at]);
            let old = std::mem::take(&mut words[at].pieces);
            words[at].pieces = replaced(old, left, right, merged);
            self.add(at, &words[at]);
        }
        self.counts.remove(&pair);
    }
}

fn replaced(old: Vec<String>, left: &str, right: &str, merged: &str) -> Vec<String> {
    let mut new = Vec::with_capacity(old.len());
    let mut rest = old.into_iter().peekable();
    while let Some(piece) = rest.next() {
        if piece == left && rest.peek().is_some_and(|next| next == right) {
            rest.next();
            new.push(merged.to_owned());
        } else {
            new.push(piece);
        }
    }
    new
}
