//! Where does personal data stand in a text?
//!
//! Checked patterns: check digits where a number has one, words beside it where it has none.
//! Each file looks for one family; [`find`] asks them and settles overlaps. Knows nothing of
//! requests or placeholders. The rules prefer silence to a false alarm, but for secrets and
//! numbers that a word announces.

use std::collections::HashSet;
use std::sync::LazyLock;

use regex::Regex;

use crate::config::OwnPattern;
use crate::guard::hints::{self, Entity};
use crate::guard::kind::Kind;
use crate::guard::secrets;

pub mod checks;
mod contact;
mod numbers;
mod person;

/// A place in a text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// What stands there.
    pub kind: Kind,
    /// The first byte.
    pub start: usize,
    /// The byte after it.
    pub end: usize,
}

/// What a text is made of, counted once, so that a search that cannot succeed is not begun.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shape {
    pub(crate) digits: usize,
    pub(crate) capitals: usize,
    pub(crate) colons: usize,
    pub(crate) at_signs: usize,
    /// The longest run of digits.
    pub(crate) longest_number: usize,
}

impl Shape {
    fn of(text: &str) -> Self {
        let mut shape = Shape::default();
        let mut run = 0;
        for byte in text.bytes() {
            run = if byte.is_ascii_digit() { run + 1 } else { 0 };
            shape.longest_number = shape.longest_number.max(run);
            match byte {
                b'0'..=b'9' => shape.digits += 1,
                b'A'..=b'Z' => shape.capitals += 1,
                b':' => shape.colons += 1,
                b'@' => shape.at_signs += 1,
                _ => {}
            }
        }
        shape
    }
}

/// What to look for beside secrets, which always are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// Personal data at all.
    pub personal: bool,
    /// The company's own patterns.
    pub own: &'a [OwnPattern],
    /// What a trained model saw in this text.
    pub hints: &'a [Entity],
    /// Leaves out people whom everyone may know, unless a word beside them (`Frau`, `my name is`)
    /// says that a person of here is meant: hidden, a question about Einstein has no answer.
    pub spare_known: bool,
}

/// Everything that stands in a text, in order and never overlapping.
pub fn find(text: &str, wanted: Wanted<'_>) -> Vec<Span> {
    let mut spans = Vec::new();
    if text.len() < 3 {
        return spans;
    }
    secrets::find(text, &mut spans);
    if wanted.personal {
        for own in wanted.own {
            let kind = own_kind(&own.kind);
            let hits = own.pattern.regex().find_iter(text).filter(|hit| !hit.is_empty());
            spans.extend(hits.map(|hit| Span { kind, start: hit.start(), end: hit.end() }));
        }
        let shape = Shape::of(text);
        numbers::find(text, shape, &mut spans);
        contact::find(text, shape, &mut spans);
        let before_people = !spans.is_empty();
        let spare_known = wanted.spare_known && !before_people;
        person::find(text, shape, before_people, spare_known, &mut spans);
    }
    settle(&mut spans);
    if wanted.personal {
        let is_spared = |hint: &Entity| {
            wanted.spare_known
                && hint.kind == Kind::Person
                && text.get(hint.start..hint.end).is_some_and(is_known_to_all)
        };
        let hints: Vec<Entity> = wanted.hints.iter().copied().filter(|h| !is_spared(h)).collect();
        hints::join(text, &hints, &mut spans);
    }
    spans
}

/// Whether a name is one that everyone may know, from history, politics or a book: a question
/// about such a person is a question about the world. Names that many people bear are not there.
pub(crate) fn is_known_to_all(name: &str) -> bool {
    static KNOWN: LazyLock<HashSet<String>> = LazyLock::new(|| {
        include_str!("known_people.txt").trim().split(';').map(str::to_lowercase).collect()
    });
    let name = name.to_lowercase();
    let bare = name.strip_suffix("’").or(name.strip_suffix("'")).unwrap_or(&name);
    KNOWN.contains(bare) || bare.strip_suffix('s').is_some_and(|stem| KNOWN.contains(stem))
}

/// The kind that a pattern of the company's own names; the configuration was checked.
fn own_kind(word: &str) -> Kind {
    Kind::ALL.iter().copied().find(|kind| kind.as_str() == word).unwrap_or(Kind::Custom)
}

/// Adds places where a known thing stands again, as words of their own and outside of what is
/// already found.
pub(crate) fn add_again(text: &str, again: impl Iterator<Item = Span>, spans: &mut Vec<Span>) {
    let known = spans.len();
    for span in again {
        let is_word = !ends_inside_word(text, span.start) && !begins_inside_word(text, span.end);
        let overlaps = spans[..known].iter().any(|s| s.start < span.end && span.start < s.end);
        if is_word && !overlaps {
            spans.push(span);
        }
    }
    spans.sort_by_key(|span| span.start);
}

/// Where findings overlap, the one that weighs more stays; of equals the longer.
fn settle(spans: &mut Vec<Span>) {
    spans.retain(|span| span.start < span.end);
    // The order of `Kind` is that of weight.
    spans.sort_by_key(|span| (span.kind, usize::MAX - (span.end - span.start), span.start));
    let mut taken: std::collections::BTreeMap<usize, usize> = std::collections::BTreeMap::new();
    spans.retain(|span| {
        let before = taken.range(..span.end).next_back();
        let is_free = before.is_none_or(|(_, end)| *end <= span.start);
        if is_free {
            taken.insert(span.start, span.end);
        }
        is_free
    });
    spans.sort_by_key(|span| span.start);
}

/// A compiled pattern. All patterns are literals of this house, so a broken one is a bug that
/// the first test finds. `\b` is that of ASCII: the one that knows every script of the world
/// costs a hundred times as much on German text, and the patterns begin with plain letters.
pub(crate) fn pattern(written: &str) -> LazyPattern {
    let plain = written.replace(r"", r"(?-u:)");
    let built = regex::RegexBuilder::new(&plain).dfa_size_limit(8 << 20).build();
    LazyPattern(built.unwrap_or_else(|error| panic!("pattern {written}: {error}")))
}

/// See [`pattern`].
pub(crate) struct LazyPattern(Regex);

impl std::ops::Deref for LazyPattern {
    type Target = Regex;
    fn deref(&self) -> &Regex {
        &self.0
    }
}

/// A pattern that is compiled at its first use.
pub(crate) type Lazy = LazyLock<LazyPattern>;

/// Whether the character before `at` belongs to the same word.
pub(crate) fn ends_inside_word(text: &str, at: usize) -> bool {
    text[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_')
        && text[at..].chars().next().is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// Whether the character at `at` goes on with the word before it.
pub(crate) fn begins_inside_word(text: &str, at: usize) -> bool {
    ends_inside_word(text, at)
}

/// At most so many bytes before `at`, in lower case, cut at a character.
pub(crate) fn before(text: &str, at: usize, bytes: usize) -> String {
    let mut from = at.saturating_sub(bytes);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text[from..at].to_lowercase()
}

/// At most so many bytes after `at`, in lower case, cut at a character.
pub(crate) fn after(text: &str, at: usize, bytes: usize) -> String {
    let mut to = (at + bytes).min(text.len());
    while !text.is_char_boundary(to) {
        to -= 1;
    }
    text[at..to].to_lowercase()
}

/// Whether one of the words stands in it.
pub(crate) fn says(context: &str, words: &[&str]) -> bool {
    words.iter().any(|word| context.contains(word))
}
