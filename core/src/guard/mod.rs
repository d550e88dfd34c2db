//! Is this safe, and what must be hidden?
//!
//! [`inspect`] looks once at everything that a request would send: secrets and personal data by
//! checked patterns, attacks by rules. [`Inspection::redact`] hides what was found, per attempt;
//! a [`redact::Map`] restores it in what comes back. Knows nothing of zones' rules (`route` asks
//! which places are permitted) nor of models. Images, sound and files that are no text are not
//! looked into. Start reading at [`inspect`], then `walk`, which says what is looked at.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use crate::config::{GuardConfig, InjectionAction, OwnPattern, PiiAction};
use crate::guard::hints::{Hints, fingerprint};
use crate::guard::kind::Kind;
use crate::guard::pii::{Span, Wanted};
use crate::guard::walk::{Origin, Visitor};
use crate::request::{ChatRequest, EmbedRequest, ResponseFormat, Sensitivity};
use crate::trace::Findings;

pub mod hints;
pub mod injection;
pub mod kind;
pub mod output;
pub mod pii;
pub mod policy;
pub mod redact;
pub mod secrets;
mod walk;

#[cfg(test)]
mod tests;

/// One place in a text where something personal or secret stands.
#[derive(Clone, PartialEq, Eq)]
pub struct PiiSpan {
    /// The kind (CONTRACT 35), `IBAN`.
    pub kind: &'static str,
    /// The first code point of it, counted from 0.
    pub start: usize,
    /// The code point after it.
    pub end: usize,
    /// The text itself. Never for logs.
    pub text: String,
}

/// Shows where and what kind, never the text.
impl std::fmt::Debug for PiiSpan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}({}..{})", self.kind, self.start, self.end)
    }
}

/// What stands in a text, by rules alone; in order, never overlapping.
pub fn pii(text: &str) -> Vec<PiiSpan> {
    pii_with(text, &Hints::default())
}

/// What stands in a text, as the `classify` command tells it; in order, never overlapping.
pub fn pii_with(text: &str, hints: &Hints) -> Vec<PiiSpan> {
    let mut spans = Vec::new();
    let (mut bytes, mut points) = (0, 0);
    let wanted = Wanted { personal: true, hints: hints.of(text), ..Wanted::default() };
    for span in pii::find(text, wanted) {
        points += text[bytes..span.start].chars().count();
        let start = points;
        points += text[span.start..span.end].chars().count();
        bytes = span.end;
        let found = text[span.start..span.end].to_owned();
        spans.push(PiiSpan { kind: span.kind.as_str(), start, end: points, text: found });
    }
    spans
}

/// The probability that a text is an attack, 0…1; above 0.5 it counts as one (CONTRACT 42).
pub fn injection(text: &str) -> f32 {
    injection::probability(text)
}

/// What was found in a request, with where it is. Holds no text but names and secrets that must
/// be hidden wherever they stand again; `Debug` hides them.
#[derive(Clone, Default)]
pub struct Inspection {
    /// What the trace tells: kinds and counts.
    pub findings: Findings,
    found: Arc<Found>,
}

impl std::fmt::Debug for Inspection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inspection").field("findings", &self.findings).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Found {
    /// Whether personal data was looked for; secrets always are.
    personal: bool,
    /// The company's own patterns.
    own: Vec<OwnPattern>,
    /// Kinds that are told and not hidden.
    left: Vec<Kind>,
    /// Whether anything must be hidden.
    hides: bool,
    /// What a model saw, for texts that are looked at anew.
    hints: Hints,
    /// Texts that were looked at, by length and hash, with what stands in them. A text that is
    /// not here (someone changed the request since) is looked at anew, never sent unseen.
    seen: HashMap<(usize, u64), Vec<Span>>,
    /// Names and secrets: where they stand again without their context they are hidden too.
    again: Vec<(Kind, String)>,
    /// Finds all of `again` in one pass.
    matcher: Option<aho_corasick::AhoCorasick>,
}

/// A guard could not do its work; the call does not go out.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the {guard} guard failed")]
pub struct GuardError {
    /// Which.
    pub guard: &'static str,
}

/// Looks at everything that the request would send.
///
/// Where all three zones say `pii = "off"`, only secrets are looked for: they always raise the
/// sensitivity, and are hidden where `pii` is `redact`.
pub fn inspect(request: &ChatRequest, config: &GuardConfig) -> Result<Inspection, GuardError> {
    inspect_with(request, config, Hints::default())
}

/// [`inspect`], with what a trained model believes of the same request.
pub fn inspect_with(
    request: &ChatRequest,
    config: &GuardConfig,
    hints: Hints,
) -> Result<Inspection, GuardError> {
    let mut finder = Finder::new(config, hints);
    if finder.looks_for_attacks && !injection::is_ready() {
        return Err(GuardError { guard: "injection" });
    }
    walk::visit(&mut request.clone(), &mut finder)?;
    finder.done(config)
}

/// The texts of a request in which a model should look for names, longest conversations
/// included: what people, tools and documents say. Fields and JSON are left to the rules.
pub fn texts(request: &ChatRequest) -> Result<Vec<String>, GuardError> {
    let mut reader = Reader::default();
    walk::visit(&mut request.clone(), &mut reader)?;
    Ok(reader.texts)
}

/// Compiles every pattern, so that the first request does not wait for it.
pub fn warm_up() {
    // Each line makes one family of patterns look.
    const SAMPLE: &str = "Frau Dr. Erika Muster, geb. 1.2.1980, Musterstr. 1, 12345 Ort, Main Street 5\n\
        12 Main Street, mail a@b.de, Telefon 030 1234567, IBAN DE89 3704 0044 0532 0130 00, BIC\n\
        COBADEFFXXX, HRB 12345, Ausweis L01X00T471, 10.1.2.3, ::1:2:3, B-AB 123, Passwort: x1!x2,\n\
        a://b:c@d, ignore all previous instructions";
    let _ = pii(SAMPLE);
    let _ = injection(SAMPLE);
}

/// The same for texts to be embedded. They are data: nothing follows instructions in them, so
/// attacks are not looked for.
pub fn inspect_texts(
    request: &EmbedRequest,
    config: &GuardConfig,
) -> Result<Inspection, GuardError> {
    let mut finder = Finder::new(config, Hints::default());
    for text in &request.input {
        finder.look(Origin::Field, text);
    }
    if let Some(user) = &request.user {
        finder.look(Origin::Field, user);
    }
    finder.done(config)
}

impl Inspection {
    /// The level that the findings mean where they are sent as they are; `None`: nothing found.
    pub fn sensitivity(&self) -> Option<Sensitivity> {
        self.findings.sensitivity
    }

    /// Whether there is anything to hide.
    pub fn has_findings(&self) -> bool {
        self.found.hides
    }

    /// Whether it is an attack: `injection` above 0.5 (CONTRACT 42).
    pub fn is_attack(&self) -> bool {
        self.findings.injection > 0.5
    }

    /// The request with what was found hidden, and the map that restores it.
    ///
    /// The same request always gives the same placeholders, so every attempt at every place sends
    /// the same text, and a conversation keeps its numbers as long as its beginning stays.
    pub fn redact(&self, request: &ChatRequest) -> Result<(ChatRequest, redact::Map), GuardError> {
        let mut redacted = request.clone();
        if !self.has_findings() {
            return Ok((redacted, redact::Map::default()));
        }
        let mut hiding = Hiding { found: &self.found, hider: redact::Hider::default() };
        let mut avoiding = Avoiding { hider: &mut hiding.hider };
        walk::visit(&mut redacted, &mut avoiding)?;
        walk::visit(&mut redacted, &mut hiding)?;
        let bound_to_json = !matches!(request.response_format, ResponseFormat::Text);
        Ok((redacted, hiding.hider.into_map().with_json_text(bound_to_json)))
    }

    /// The same for texts to be embedded; nothing needs restoring in vectors.
    pub fn redact_texts(&self, request: &EmbedRequest) -> Result<EmbedRequest, GuardError> {
        let mut redacted = request.clone();
        if !self.has_findings() {
            return Ok(redacted);
        }
        let mut hiding = Hiding { found: &self.found, hider: redact::Hider::default() };
        for text in &redacted.input {
            hiding.hider.avoid(text);
        }
        for text in &mut redacted.input {
            hiding.text(Origin::Field, text);
        }
        if let Some(user) = &mut redacted.user {
            hiding.text(Origin::Field, user);
        }
        Ok(redacted)
    }
}

impl Found {
    fn find(&self, text: &str) -> Vec<Span> {
        let hints = self.hints.of(text);
        let wanted = Wanted { personal: self.personal, own: &self.own, hints, spare_known: true };
        pii::find(text, wanted)
    }
}

/// Collects plain texts.
#[derive(Default)]
struct Reader {
    texts: Vec<String>,
}

impl Visitor for Reader {
    fn text(&mut self, origin: Origin, text: &mut String) {
        if origin != Origin::Field && !text.trim().is_empty() && !self.texts.contains(text) {
            self.texts.push(text.clone());
        }
    }

    fn json(&mut self, _: Origin, _: &mut String) {}

    fn value(&mut self, _: Origin, _: &mut Value) {}
}

/// Looks at texts and counts.
struct Finder {
    found: Found,
    /// Different things, for counting each once.
    things: HashSet<(Kind, String)>,
    counts: BTreeMap<&'static str, u32>,
    sensitivity: Option<Sensitivity>,
    looks_for_attacks: bool,
    /// The probability of an attack by the trained model.
    model_says: Option<f32>,
    injection: f32,
    signs: Vec<&'static str>,
}

impl Finder {
    fn new(config: &GuardConfig, hints: Hints) -> Self {
        let off = |action| action == PiiAction::Off;
        let personal = !(off(config.pii_local) && off(config.pii_eu) && off(config.pii_world));
        let is_left = |kind: &Kind| config.leave.iter().any(|word| word == kind.as_str());
        let left = Kind::ALL.iter().copied().filter(is_left).collect();
        let own = config.patterns.clone();
        let injection = hints.injection;
        Finder {
            found: Found { personal, own, left, hints, ..Found::default() },
            model_says: injection,
            things: HashSet::new(),
            counts: BTreeMap::new(),
            sensitivity: None,
            looks_for_attacks: config.injection != InjectionAction::Off,
            injection: 0.0,
            signs: Vec::new(),
        }
    }

    fn look(&mut self, origin: Origin, text: &str) {
        let spans = self.found.find(text);
        for span in &spans {
            self.count(span.kind, &text[span.start..span.end]);
            self.found.hides |= !self.found.left.contains(&span.kind);
        }
        if !spans.is_empty() {
            self.found.seen.insert(fingerprint(text), spans);
        }
        if self.looks_for_attacks && matches!(origin, Origin::Person | Origin::Data) {
            let judged = injection::judge(text);
            if judged.probability > self.injection {
                self.injection = judged.probability;
                self.signs = judged.signs;
            }
        }
    }

    fn count(&mut self, kind: Kind, spelling: &str) {
        if !self.things.insert((kind, spelling.to_owned())) {
            return;
        }
        *self.counts.entry(kind.as_str()).or_default() += 1;
        self.sensitivity = self.sensitivity.max(Some(kind.sensitivity()));
        if is_hidden_again(kind, spelling) {
            self.found.again.push((kind, spelling.to_owned()));
        }
    }

    fn done(mut self, config: &GuardConfig) -> Result<Inspection, GuardError> {
        // The rules know few attacks for certain, the model many by their likeness: either is
        // enough.
        if let Some(probability) = self.model_says.filter(|_| self.looks_for_attacks)
            && probability > self.injection
        {
            self.injection = probability;
            self.signs = vec!["model"];
        }
        if !self.found.again.is_empty() {
            // Leftmost longest: `Anna Meyer-Schulz` before `Anna Meyer`.
            let matcher = aho_corasick::AhoCorasick::builder()
                .match_kind(aho_corasick::MatchKind::LeftmostLongest)
                .build(self.found.again.iter().map(|(_, value)| value))
                .map_err(|_| GuardError { guard: "personal data" })?;
            self.found.matcher = Some(matcher);
        }
        let mut remarks = Vec::new();
        if self.injection > 0.5 {
            remarks.push(format!("attack: {}", self.signs.join(", ")));
        }
        let off = !self.found.personal && config.injection == InjectionAction::Off;
        let stage = match off {
            true => "off",
            false if self.model_says.is_some() || !self.found.hints.is_empty() => "model",
            false => "rules",
        };
        let findings = Findings {
            kinds: self.counts.into_iter().map(|(kind, n)| (kind.to_owned(), n)).collect(),
            injection: self.injection,
            sensitivity: self.sensitivity,
            remarks,
            notes: Vec::new(),
            stage: stage.to_owned(),
        };
        Ok(Inspection { findings, found: Arc::new(self.found) })
    }
}

/// A surname alone may be a word (`Koch`, `Lang`), but beside the title that gave it away once
/// it is far more likely the person; very short ones are left.
fn is_hidden_again(kind: Kind, spelling: &str) -> bool {
    match kind {
        Kind::Person => spelling.chars().count() >= 4,
        Kind::Secret => spelling.len() >= 8,
        _ => false,
    }
}

impl Visitor for Finder {
    fn text(&mut self, origin: Origin, text: &mut String) {
        self.look(origin, text);
    }

    fn json(&mut self, origin: Origin, json: &mut String) {
        match serde_json::from_str::<Value>(json) {
            Ok(mut value) => self.value(origin, &mut value),
            Err(_) => self.look(origin, json),
        }
    }

    fn value(&mut self, origin: Origin, value: &mut Value) {
        each_leaf(value, "", &mut |key, leaf| {
            let text = leaf_text(leaf)?;
            let labelled = labelled(key, &text);
            self.look(origin, &labelled);
            None
        });
    }
}

/// A name in JSON stands behind its key: `{"password": "hunter2"}` is read as `password: hunter2`.
fn labelled(key: &str, text: &str) -> String {
    if key.is_empty() { text.to_owned() } else { format!("{key}: {text}") }
}

fn leaf_text(leaf: &Value) -> Option<String> {
    match leaf {
        Value::String(text) => Some(text.clone()),
        // Small numbers are quantities; only long ones are cards, accounts and telephones.
        Value::Number(number) => Some(number.to_string()).filter(|digits| digits.len() >= 7),
        _ => None,
    }
}

/// Shows every string and number with the key it stands under; what is given back replaces it.
fn each_leaf(value: &mut Value, key: &str, change: &mut impl FnMut(&str, &Value) -> Option<Value>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| each_leaf(item, key, change)),
        Value::Object(fields) => {
            for (key, value) in fields {
                each_leaf(value, key, change);
            }
        }
        leaf => {
            if let Some(changed) = change(key, leaf) {
                *leaf = changed;
            }
        }
    }
}

/// Notes the placeholders that the caller wrote himself.
struct Avoiding<'h> {
    hider: &'h mut redact::Hider,
}

impl Visitor for Avoiding<'_> {
    fn text(&mut self, _: Origin, text: &mut String) {
        self.hider.avoid(text);
    }

    fn json(&mut self, _: Origin, json: &mut String) {
        self.hider.avoid(json);
    }

    fn value(&mut self, origin: Origin, value: &mut Value) {
        each_leaf(value, "", &mut |_, leaf| {
            if let Value::String(text) = leaf {
                self.text(origin, &mut text.clone());
            }
            None
        });
    }
}

/// Puts placeholders in place of what was found.
struct Hiding<'f> {
    found: &'f Found,
    hider: redact::Hider,
}

impl Hiding<'_> {
    /// What stands in a text: what was seen there, and the names and secrets of other texts.
    fn spans(&self, text: &str) -> Vec<Span> {
        let mut spans = match self.found.seen.get(&fingerprint(text)) {
            Some(spans) => spans.clone(),
            None => self.found.find(text),
        };
        spans.retain(|span| !self.found.left.contains(&span.kind));
        if let Some(matcher) = &self.found.matcher {
            let again = matcher.find_iter(text).map(|hit| Span {
                kind: self.found.again[hit.pattern().as_usize()].0,
                start: hit.start(),
                end: hit.end(),
            });
            pii::add_again(text, again, &mut spans);
        }
        spans
    }

    /// The text from `from` on, with placeholders.
    fn hidden(&mut self, text: &str, from: usize) -> Option<String> {
        let spans = self.spans(text);
        let mut hidden = String::with_capacity(text.len());
        let mut at = from;
        for span in spans.iter().filter(|span| span.end > from) {
            let start = span.start.max(at);
            hidden.push_str(&text[at..start]);
            hidden.push_str(&self.hider.hide(span.kind, &text[start..span.end]));
            at = span.end;
        }
        hidden.push_str(&text[at..]);
        (at > from).then_some(hidden)
    }
}

impl Visitor for Hiding<'_> {
    fn text(&mut self, _: Origin, text: &mut String) {
        if let Some(hidden) = self.hidden(text, 0) {
            *text = hidden;
        }
    }

    fn json(&mut self, origin: Origin, json: &mut String) {
        match serde_json::from_str::<Value>(json) {
            Ok(before) => {
                let mut after = before.clone();
                self.value(origin, &mut after);
                // What is not touched stays byte for byte as the model wrote it.
                if after != before {
                    *json = after.to_string();
                }
            }
            Err(_) => self.text(origin, json),
        }
    }

    fn value(&mut self, _: Origin, value: &mut Value) {
        each_leaf(value, "", &mut |key, leaf| {
            let text = labelled(key, &leaf_text(leaf)?);
            let from = if key.is_empty() { 0 } else { key.len() + 2 };
            self.hidden(&text, from).map(Value::String)
        });
    }
}
