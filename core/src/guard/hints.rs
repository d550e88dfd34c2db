//! What a trained model believes of a request, and how that joins with what the rules found.
//!
//! Rules are certain where a check digit or a word speaks; a model sees names that no rule knows.
//! So a hint adds and widens, and never removes or shrinks what a rule found. Knows nothing of
//! classifiers: the engine asks one and hands over plain values. Start reading at [`join`].

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::guard::kind::Kind;
use crate::guard::pii::Span;

/// What a model believes of the texts of one request.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    /// The probability of an attack, 0…1, calibrated so that 0.5 is where it counts.
    pub injection: Option<f32>,
    texts: HashMap<(usize, u64), Vec<Entity>>,
}

/// A thing that a model marked in a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entity {
    /// [`Kind::Person`], [`Kind::Organization`], [`Kind::Location`] or [`Kind::Address`].
    pub kind: Kind,
    /// The first byte.
    pub start: usize,
    /// The byte after it.
    pub end: usize,
    /// How sure, 0…1.
    pub probability: f32,
}

impl Hints {
    /// With what a model thinks of the whole request as an attack; names are added by text.
    pub fn with_injection(probability: f32) -> Self {
        Hints { injection: Some(probability), ..Hints::default() }
    }

    /// Notes what stands in a text; [`crate::guard::texts`] tells which texts of a request are
    /// looked at. Bounds that are no characters of the text are dropped.
    pub fn add(&mut self, text: &str, mut entities: Vec<Entity>) {
        entities.retain(|entity| text.get(entity.start..entity.end).is_some_and(|t| !t.is_empty()));
        if !entities.is_empty() {
            self.texts.insert(fingerprint(text), entities);
        }
    }

    /// Whether a model marked nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    pub(crate) fn of(&self, text: &str) -> &[Entity] {
        if self.texts.is_empty() {
            return &[];
        }
        self.texts.get(&fingerprint(text)).map_or(&[], Vec::as_slice)
    }
}

/// A text without keeping it.
pub(crate) fn fingerprint(text: &str) -> (usize, u64) {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    (text.len(), hasher.finish())
}

/// From which probability on a hint counts. A name that goes out hurts more than one hidden
/// without need; a company or a town hidden without need only makes a worse answer.
fn threshold(kind: Kind) -> f32 {
    match kind {
        Kind::Person | Kind::Address => 0.4,
        _ => 0.55,
    }
}

/// Adds what a model saw to what the rules found; both are in order and never overlap afterwards.
pub(crate) fn join(text: &str, entities: &[Entity], spans: &mut Vec<Span>) {
    for entity in entities.iter().filter(|entity| entity.probability >= threshold(entity.kind)) {
        let Some(mut span) = tidied(text, *entity) else { continue };
        let touching: Vec<Span> =
            spans.iter().filter(|s| s.start < span.end && span.start < s.end).copied().collect();
        let may_widen = touching.iter().all(|found| widens(span.kind, found.kind));
        if touching.is_empty() {
            spans.push(span);
        } else if may_widen {
            for found in &touching {
                span.start = span.start.min(found.start);
                span.end = span.end.max(found.end);
            }
            span.kind = touching[0].kind;
            spans.retain(|s| !touching.contains(s));
            spans.push(span);
        } else {
            let rest = rests(text, span, &touching);
            spans.extend(rest);
        }
    }
    spans.sort_by_key(|span| span.start);
}

/// Whether a hint of one kind only says where a finding of the other begins and ends.
fn widens(hint: Kind, found: Kind) -> bool {
    hint == found || (hint == Kind::Location && found == Kind::Address)
}

/// What is left of a hint around findings, where that still has a word of its own: of a name
/// with its mail address the name.
fn rests(text: &str, span: Span, findings: &[Span]) -> Vec<Span> {
    if span.kind != Kind::Person && span.kind != Kind::Address {
        return Vec::new();
    }
    let mut rests = Vec::new();
    let mut at = span.start;
    let mut findings: Vec<&Span> = findings.iter().collect();
    findings.sort_by_key(|found| found.start);
    for found in findings {
        rests.push((at, found.start.max(at)));
        at = at.max(found.end);
    }
    rests.push((at, span.end.max(at)));
    let piece = |(start, end): (usize, usize)| {
        let hint = Entity { kind: span.kind, start, end, probability: 1.0 };
        tidied(text, hint)
    };
    rests.into_iter().filter_map(piece).collect()
}

/// The hint without marks around it and without words of politeness before it; `None` where no
/// word is left.
fn tidied(text: &str, entity: Entity) -> Option<Span> {
    let (mut start, mut end) = (entity.start, entity.end);
    loop {
        let named = text.get(start..end)?;
        let trimmed = named.trim_start_matches(|c: char| !c.is_alphanumeric());
        start = end - trimmed.len();
        let trimmed = trimmed.trim_end_matches(|c: char| {
            c.is_whitespace()
                || matches!(
                    c,
                    ',' | ';' | ':' | '!' | '?' | '"' | '“' | '”' | '(' | '<' | '[' | '*' | '_'
                )
        });
        end = start + trimmed.len();
        let polite = POLITE.iter().find(|word| {
            entity.kind == Kind::Person
                && trimmed.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
                && trimmed[word.len()..].starts_with(char::is_whitespace)
        });
        match polite {
            Some(word) => start += word.len(),
            None => break,
        }
    }
    let named = &text[start..end];
    let end = if entity.kind == Kind::Person && (named.ends_with("'s") || named.ends_with("’s")) {
        start + named.trim_end_matches('s').len() - if named.ends_with("'s") { 1 } else { 3 }
    } else {
        end
    };
    let letters = text[start..end].chars().filter(|c| c.is_alphabetic()).count();
    (letters >= 2).then_some(Span { kind: entity.kind, start, end })
}

const POLITE: &[&str] = &[
    "herrn", "herr", "frau", "hr.", "fr.", "mr.", "mr", "mrs.", "mrs", "ms.", "ms", "miss",
    "liebe", "lieber", "hallo", "hi", "dear", "kollege", "kollegin", "familie",
];
