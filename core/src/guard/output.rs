//! What comes back: does an answer tell what it should not?
//!
//! Personal data and secrets that the caller did not put in, the standing instructions word by
//! word, images whose address carries data out, and the company's own rules. A [`Watch`] reads a
//! stream after placeholders were restored: what only is noted passes at once; what may be
//! withheld is held back until it is seen whole. Knows nothing of engines or vendors.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

use crate::config::{
    GuardConfig, GuardRule, OutputAction, OutputConfig, Pattern, RuleAction, RuleSide,
};
use crate::guard::GuardError;
use crate::guard::kind::Kind;
use crate::guard::pii::{self, Wanted};
use crate::guard::policy::{Asker, rules_for};
use crate::guard::walk::{self, Origin, Visitor};
use crate::reply::Chunk;
use crate::request::ChatRequest;

mod active;

/// How much of the end of an answer is kept back where something may be withheld: longer than any
/// number, key or word of a rule is.
const TAIL: usize = 160;
/// How long an image may be before its address counts as one that never ends.
const LONGEST_IMAGE: usize = 6000;
/// Words in a row that nobody writes twice by chance.
const SHINGLE: usize = 8;
/// So many words of the instructions must be told before it counts as a leak.
const LEAKED_WORDS: usize = 16;
/// The sign of an image that carries data out.
const ACTIVE: &str = "active content";
/// Answers are read up to here; nobody hides a leak behind a megabyte.
const LONGEST_ANSWER: usize = 1 << 20;

/// What is expected of the answers to one request.
pub struct Expectations {
    config: OutputConfig,
    rules: Vec<GuardRule>,
    /// Everything that the caller said, for telling his own data from others'.
    said: String,
    /// Words of the standing instructions, eight at a time.
    instructions: HashSet<u64>,
    /// What the caller's texts hold that must not leave in an address.
    precious: OnceLock<Vec<String>>,
}

/// Shows what is looked for, never the text.
impl std::fmt::Debug for Expectations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Expectations").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Why an answer is withheld: a short word without text of it, `SECRET`, `rule NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withheld(pub String);

impl Expectations {
    /// What to expect of answers to this request; `None` where nothing is looked for.
    ///
    /// # Errors
    /// Where a text of the request cannot be read.
    pub fn of(
        request: &ChatRequest,
        config: &GuardConfig,
        asker: Asker<'_>,
    ) -> Result<Option<Self>, GuardError> {
        let rules: Vec<GuardRule> =
            rules_for(&config.rules, RuleSide::Answer, asker).cloned().collect();
        let output = config.output;
        let off = |action| action == OutputAction::Off;
        let nothing = off(output.personal)
            && off(output.secrets)
            && off(output.system_prompt)
            && off(output.active);
        if nothing && rules.is_empty() {
            return Ok(None);
        }
        let mut said = Said::default();
        walk::visit(&mut request.clone(), &mut said)?;
        let words = words_of(&said.instructions);
        let instructions = words.windows(SHINGLE).map(hash_of).collect();
        let precious = OnceLock::new();
        Ok(Some(Expectations { config: output, rules, said: said.all, instructions, precious }))
    }

    /// A watch over one answer.
    pub fn watch(self: &Arc<Self>) -> Watch {
        Watch { expectations: self.clone(), answers: BTreeMap::new(), signs: BTreeSet::new() }
    }

    fn blocks_anything(&self) -> bool {
        let blocks = |action| action == OutputAction::Block;
        blocks(self.config.personal)
            || blocks(self.config.secrets)
            || blocks(self.config.system_prompt)
            || self.rules.iter().any(|rule| rule.action == RuleAction::Block)
    }

    /// Everything that begins before `limit` in a part of an answer, with what is done about it.
    /// What begins later may still go on: half an account number looks like a telephone.
    fn signs(&self, text: &str, limit: usize) -> Vec<(String, OutputAction)> {
        let mut signs = Vec::new();
        let (personal, secrets) = (self.config.personal, self.config.secrets);
        if personal != OutputAction::Off || secrets != OutputAction::Off {
            let wanted = Wanted { personal: personal != OutputAction::Off, ..Wanted::default() };
            for span in pii::find(text, wanted) {
                let action = if span.kind.is_secret() { secrets } else { personal };
                let is_news = !self.said.contains(&text[span.start..span.end]);
                let counts = span.start < limit && is_telling(span.kind) && is_news;
                if action != OutputAction::Off && counts {
                    signs.push((span.kind.as_str().to_owned(), action));
                }
            }
        }
        if self.config.active != OutputAction::Off {
            let images = active::carriers(text, &self.said, || self.precious());
            signs.extend(images.then(|| (ACTIVE.to_owned(), self.config.active)));
        }
        if self.config.system_prompt != OutputAction::Off && self.leaks(text) {
            signs.push(("system prompt".to_owned(), self.config.system_prompt));
        }
        let begins =
            |pattern: &Pattern| pattern.regex().find(text).is_some_and(|hit| hit.start() < limit);
        for rule in self.rules.iter().filter(|rule| rule.patterns.iter().any(begins)) {
            let action = match rule.action {
                RuleAction::Block => OutputAction::Block,
                RuleAction::Flag | RuleAction::Note => OutputAction::Flag,
            };
            signs.push((format!("rule {}", rule.id), action));
        }
        signs
    }

    /// Whether the instructions are told in their own words.
    fn leaks(&self, text: &str) -> bool {
        if self.instructions.is_empty() {
            return false;
        }
        let told = words_of(text)
            .windows(SHINGLE)
            .filter(|shingle| self.instructions.contains(&hash_of(shingle)))
            .count();
        told > LEAKED_WORDS - SHINGLE
    }

    fn precious(&self) -> &[String] {
        self.precious.get_or_init(|| {
            let wanted = Wanted { personal: true, ..Wanted::default() };
            let found = pii::find(&self.said, wanted);
            let values = found.into_iter().map(|span| self.said[span.start..span.end].to_owned());
            values.filter(|value| value.len() >= 5).collect()
        })
    }
}

/// Kinds that an honest answer rarely has out of nothing. Names, places and companies are what
/// half of all answers are about.
fn is_telling(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::Person
            | Kind::Organization
            | Kind::Location
            | Kind::IpAddress
            | Kind::MacAddress
            | Kind::Bic
            | Kind::VatId
            | Kind::CommercialRegister
    )
}

/// Reads one answer, whatever its cuts.
#[derive(Debug)]
pub struct Watch {
    expectations: Arc<Expectations>,
    answers: BTreeMap<u32, Answer>,
    signs: BTreeSet<String>,
}

/// The text of one choice so far, and how much of it was let through.
#[derive(Default)]
struct Answer {
    text: String,
    passed: usize,
    ended: bool,
}

/// Shows lengths, never the text.
impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answer({} of {} bytes)", self.passed, self.text.len())
    }
}

impl Watch {
    /// Takes pieces, gives those that may be shown.
    ///
    /// # Errors
    /// [`Withheld`] as soon as something stands there that is not to be shown.
    pub fn push(&mut self, chunks: Vec<Chunk>) -> Result<Vec<Chunk>, Withheld> {
        let mut shown = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            match chunk {
                Chunk::Text { choice, text } => {
                    let passed = self.read(choice, &text)?;
                    if !passed.is_empty() {
                        shown.push(Chunk::Text { choice, text: passed });
                    }
                }
                Chunk::Finish { choice, .. } => {
                    shown.extend(self.end(choice)?);
                    shown.push(chunk);
                }
                other => shown.push(other),
            }
        }
        Ok(shown)
    }

    /// What was still held back, at the end of the stream.
    ///
    /// # Errors
    /// As [`Watch::push`].
    pub fn finish(&mut self) -> Result<Vec<Chunk>, Withheld> {
        let choices: Vec<u32> = self.answers.keys().copied().collect();
        let mut shown = Vec::new();
        for choice in choices {
            shown.extend(self.end(choice)?);
        }
        Ok(shown)
    }

    /// What was noted, as short words without text of the answer.
    pub fn signs(&self) -> impl Iterator<Item = &str> {
        self.signs.iter().map(String::as_str)
    }

    fn read(&mut self, choice: u32, piece: &str) -> Result<String, Withheld> {
        let answer = self.answers.entry(choice).or_default();
        if answer.text.len() + piece.len() > LONGEST_ANSWER {
            let mut rest = answer.text.split_off(answer.passed);
            rest.push_str(piece);
            answer.passed = answer.text.len();
            return Ok(rest);
        }
        answer.text.push_str(piece);
        let expectations = &self.expectations;
        let mut safe = match expectations.blocks_anything() {
            true => floor(&answer.text, answer.text.len().saturating_sub(TAIL)),
            false => answer.text.len(),
        };
        if expectations.config.active == OutputAction::Block
            && let Some(open) = active::open_image(&answer.text[answer.passed..])
        {
            let open = answer.passed + open;
            if answer.text.len() - open < LONGEST_IMAGE {
                safe = safe.min(open);
            }
        }
        if expectations.config.active == OutputAction::Block && piece.contains([')', '>']) {
            let part = &answer.text[answer.passed..];
            if active::carriers(part, &expectations.said, || expectations.precious()) {
                return Err(Withheld(ACTIVE.to_owned()));
            }
        }
        let safe = safe.max(answer.passed);
        if expectations.blocks_anything() && safe > answer.passed {
            let from = floor(&answer.text, answer.passed.saturating_sub(TAIL));
            withhold(expectations.signs(&answer.text[from..], safe - from))?;
        }
        let passed = answer.text[answer.passed..safe].to_owned();
        answer.passed = safe;
        Ok(passed)
    }

    /// Reads the whole answer once more and lets the rest through.
    fn end(&mut self, choice: u32) -> Result<Option<Chunk>, Withheld> {
        let Some(answer) = self.answers.get_mut(&choice).filter(|answer| !answer.ended) else {
            return Ok(None);
        };
        answer.ended = true;
        let signs = self.expectations.signs(&answer.text, usize::MAX);
        self.signs.extend(signs.iter().map(|(sign, _)| sign.clone()));
        withhold(signs)?;
        let rest = answer.text[answer.passed..].to_owned();
        answer.passed = answer.text.len();
        Ok((!rest.is_empty()).then_some(Chunk::Text { choice, text: rest }))
    }
}

fn withhold(signs: Vec<(String, OutputAction)>) -> Result<(), Withheld> {
    match signs.into_iter().find(|(_, action)| *action == OutputAction::Block) {
        Some((sign, _)) => Err(Withheld(sign)),
        None => Ok(()),
    }
}

/// The last place at or before `at` where a character begins.
fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Words in lower case, without marks.
fn words_of(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

fn hash_of(words: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    words.hash(&mut hasher);
    hasher.finish()
}

/// Collects what a request says.
#[derive(Default)]
struct Said {
    all: String,
    instructions: String,
}

impl Visitor for Said {
    fn text(&mut self, origin: Origin, text: &mut String) {
        self.all.push_str(text);
        self.all.push('\n');
        if origin == Origin::System {
            self.instructions.push_str(text);
            self.instructions.push('\n');
        }
    }

    fn json(&mut self, origin: Origin, json: &mut String) {
        self.text(origin, json);
    }

    fn value(&mut self, _: Origin, value: &mut serde_json::Value) {
        self.all.push_str(&value.to_string());
        self.all.push('\n');
    }
}

#[cfg(test)]
mod tests;
