//! The questions that the trained classifier answers, and how numbers become an answer.
//!
//! Both stages give [`Logits`], one row of numbers with a place for every class of every
//! [`Head`]. [`Calibration`], fitted on sources held out of training, turns them into
//! probabilities, and [`decode`] turns those into a classification with an honest "unsure". Knows
//! nothing of how the numbers came about.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::request::{Domain, Sensitivity, TaskKind, word_enum};
use crate::trace::Classification;

#[cfg(test)]
mod tests;

word_enum! {
    /// One question about a text. The order is that of the columns.
    Head {
        /// The kind of work, 13 classes.
        Task = "task",
        /// The field, 12 classes.
        Domain = "domain",
        /// Whether an economy model's answer would not do, one number.
        Complexity = "complexity",
        /// The level of what is said, 4 classes.
        Sensitivity = "sensitivity",
        /// Whether it is an attack, one number.
        Injection = "injection",
        /// The language, one class for each of [`LANGUAGES`].
        Language = "language",
    }
}

word_enum! {
    /// What the tag head marks in a text.
    Entity {
        /// A person's name.
        Person = "PERSON",
        /// A company, authority, club.
        Organization = "ORGANIZATION",
        /// A town, country, region.
        Location = "LOCATION",
        /// Street and number, with or without town.
        Address = "ADDRESS",
    }
}

/// The languages that are told apart by learning; other scripts are told by their letters.
pub const LANGUAGES: [&str; 11] =
    ["cs", "de", "en", "es", "fr", "it", "nl", "pl", "pt", "sv", "tr"];

/// Classes of all heads together: 13 + 12 + 1 + 4 + 1 + 11.
pub const CLASSES: usize = 42;

impl Head {
    /// Its columns among the [`CLASSES`].
    pub const fn range(self) -> Range<usize> {
        match self {
            Head::Task => 0..13,
            Head::Domain => 13..25,
            Head::Complexity => 25..26,
            Head::Sensitivity => 26..30,
            Head::Injection => 30..31,
            Head::Language => 31..42,
        }
    }

    /// Whether exactly one of its classes holds (softmax), or its one number stands alone
    /// (sigmoid).
    pub const fn is_choice(self) -> bool {
        !matches!(self, Head::Complexity | Head::Injection)
    }

    /// The names of its classes, in the order of the columns.
    pub fn labels(self) -> Vec<&'static str> {
        match self {
            Head::Task => TaskKind::ALL.iter().map(|task| task.as_str()).collect(),
            Head::Domain => Domain::ALL.iter().map(|domain| domain.as_str()).collect(),
            Head::Sensitivity => Sensitivity::ALL.iter().map(|level| level.as_str()).collect(),
            Head::Language => LANGUAGES.to_vec(),
            Head::Complexity => vec!["complexity"],
            Head::Injection => vec!["injection"],
        }
    }
}

/// One number for each class of each head, as a model gives them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Logits(pub [f32; CLASSES]);

impl Logits {
    /// Those of one head.
    pub fn of(&self, head: Head) -> &[f32] {
        &self.0[head.range()]
    }

    /// With the length of the text counted into the complexity. Words alone predict badly where a
    /// cheap model fails, and on some sets of exam questions length alone does better; the weight
    /// is a compromise between sets (`cargo run --example score_complexity`).
    #[must_use]
    pub fn with_length(mut self, text: &str) -> Self {
        const WEIGHT: f32 = 1.0;
        const USUAL: f32 = 120.0;
        self.0[Head::Complexity.range().start] += WEIGHT * (text.len().max(4) as f32 / USUAL).ln();
        self
    }

    /// As the calibration reads them: what it divides, scales and shifts is done.
    #[must_use]
    pub fn calibrated(&self, calibration: &Calibration) -> Self {
        let mut read = *self;
        for head in Head::ALL {
            let logits = &mut read.0[head.range()];
            match head {
                Head::Complexity => logits[0] = calibration.complexity.logit(logits[0]),
                Head::Injection => logits[0] = calibration.injection.logit(logits[0]),
                _ => {
                    let temperature = calibration.temperature(*head);
                    logits.iter_mut().for_each(|logit| *logit /= temperature);
                }
            }
        }
        read
    }

    /// From a model's output; `None` where it has another width or a number that is none.
    pub fn from_slice(values: &[f32]) -> Option<Self> {
        let values: [f32; CLASSES] = values.try_into().ok()?;
        values.iter().all(|value| value.is_finite()).then_some(Logits(values))
    }
}

/// `sigmoid(scale · x + shift)`: makes one number a probability (Platt).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Platt {
    /// Above 0.
    pub scale: f32,
    /// Added.
    pub shift: f32,
}

impl Platt {
    fn logit(self, logit: f32) -> f32 {
        self.scale * logit + self.shift
    }

    fn probability(self, logit: f32) -> f32 {
        sigmoid(self.logit(logit))
    }
}

/// How a model's numbers become probabilities, and from where on it counts as sure. Fitted on
/// sources that the model has not seen, so that 0.8 means right eight times in ten there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Divides the task's logits.
    pub task: f32,
    /// Divides the domain's logits.
    pub domain: f32,
    /// Divides the sensitivity's logits.
    pub sensitivity: f32,
    /// Divides the language's logits.
    pub language: f32,
    /// Of complexity.
    pub complexity: Platt,
    /// Of injection.
    pub injection: Platt,
    /// Below this confidence the task counts as unsure.
    pub sure_task: f32,
    /// Below this confidence the sensitivity counts as unsure.
    pub sure_sensitivity: f32,
}

/// Nothing fitted yet: numbers are taken as they are.
impl Default for Calibration {
    fn default() -> Self {
        let as_it_is = Platt { scale: 1.0, shift: 0.0 };
        Calibration {
            task: 1.0,
            domain: 1.0,
            sensitivity: 1.0,
            language: 1.0,
            complexity: as_it_is,
            injection: as_it_is,
            sure_task: 0.45,
            sure_sensitivity: 0.5,
        }
    }
}

impl Calibration {
    /// The temperature of a head with several classes; 1 for the others.
    pub fn temperature(&self, head: Head) -> f32 {
        match head {
            Head::Task => self.task,
            Head::Domain => self.domain,
            Head::Sensitivity => self.sensitivity,
            Head::Language => self.language,
            Head::Complexity | Head::Injection => 1.0,
        }
    }

    /// Whether every number can be calculated with.
    pub fn is_sound(&self) -> bool {
        let temperatures = [self.task, self.domain, self.sensitivity, self.language];
        let scales = [self.complexity.scale, self.injection.scale];
        let shares = [self.sure_task, self.sure_sensitivity];
        temperatures.iter().chain(&scales).all(|value| value.is_finite() && *value > 0.0)
            && [self.complexity.shift, self.injection.shift].iter().all(|value| value.is_finite())
            && shares.iter().all(|share| (0.0..=1.0).contains(share))
    }
}

/// `heads.json`: how the stages' numbers are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HeadsFile {
    /// 2.
    pub version: u32,
    /// Of the fast stage.
    pub fast: Calibration,
    /// Of the deep stage, where there is one.
    #[serde(default)]
    pub deep: Option<Calibration>,
    /// Of both together, where there is a deep stage.
    #[serde(default)]
    pub both: Option<Both>,
    /// From where on the fast stage answers alone.
    pub alone: Alone,
}

impl HeadsFile {
    /// What both stages say together; the fast one's answer where nothing was fitted for both.
    pub fn joined(&self, fast: &Logits, deep: &Logits) -> (Logits, Calibration) {
        match (&self.deep, &self.both) {
            (Some(of_deep), Some(both)) => {
                let joined = both.join(&fast.calibrated(&self.fast), &deep.calibrated(of_deep));
                (joined, both.calibration)
            }
            _ => (*fast, self.fast),
        }
    }
}

/// How the stages' opinions become one: two models err in different places, so together they err
/// less. Calibrated logits are added by weight, head by head, and calibrated once more (a
/// logarithmic opinion pool; Genest and Zidek 1986, Statistical Science 1).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Both {
    /// How much the fast stage counts, 0…1, for each head in the order of [`Head::ALL`].
    pub shares: [f32; 6],
    /// Of what comes out.
    pub calibration: Calibration,
}

impl Both {
    /// Joins logits that are calibrated already.
    pub fn join(&self, fast: &Logits, deep: &Logits) -> Logits {
        let mut joined = *deep;
        for (head, share) in Head::ALL.iter().zip(self.shares) {
            let range = head.range();
            for (own, other) in joined.0[range.clone()].iter_mut().zip(&fast.0[range]) {
                *own = *own * (1.0 - share) + other * share;
            }
        }
        joined
    }

    /// Whether every number can be calculated with.
    pub fn is_sound(&self) -> bool {
        self.calibration.is_sound() && self.shares.iter().all(|share| (0.0..=1.0).contains(share))
    }
}

/// Confidences from which on the fast stage's answer stands.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Alone {
    /// Of the task.
    pub task: f32,
    /// Of the sensitivity.
    pub sensitivity: f32,
    /// Of injection: how far from even, so 0.3 means below 0.2 or above 0.8.
    pub injection: f32,
}

impl Alone {
    /// Whether what the fast stage said will do.
    pub fn is_sure(&self, shares: &Shares) -> bool {
        likeliest(shares.head(Head::Task)).1 >= self.task
            && likeliest(shares.head(Head::Sensitivity)).1 >= self.sensitivity
            && (shares.injection() - 0.5).abs() >= self.injection
    }
}

/// A name or place that the tag head found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EntitySpan {
    /// What.
    pub kind: Entity,
    /// The first byte of it in its text.
    pub start: usize,
    /// The byte after it.
    pub end: usize,
    /// How sure, 0…1.
    pub confidence: f32,
}

/// Probabilities of every class of every head.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shares([f32; CLASSES]);

impl Shares {
    /// What a model's numbers mean after calibration.
    pub fn of(logits: &Logits, calibration: &Calibration) -> Self {
        let mut shares = Shares([0.0; CLASSES]);
        for head in Head::ALL {
            let found = probabilities(*head, logits, calibration);
            shares.0[head.range()].copy_from_slice(&found);
        }
        shares
    }

    /// Those of one head.
    pub fn head(&self, head: Head) -> &[f32] {
        &self.0[head.range()]
    }

    /// The probability of an attack.
    pub fn injection(&self) -> f32 {
        self.head(Head::Injection)[0]
    }

    /// Takes the other's numbers for one head.
    pub fn take(&mut self, head: Head, other: &Shares) {
        self.0[head.range()].copy_from_slice(other.head(head));
    }
}

/// Probabilities of one head's classes.
pub fn probabilities(head: Head, logits: &Logits, calibration: &Calibration) -> Vec<f32> {
    match head {
        Head::Complexity => vec![calibration.complexity.probability(logits.of(head)[0])],
        Head::Injection => vec![calibration.injection.probability(logits.of(head)[0])],
        _ => softmax(logits.of(head), calibration.temperature(head)),
    }
}

/// The answer that the probabilities give. What is below the calibration's bounds is unsure.
pub fn decode(shares: &Shares, calibration: &Calibration, stage: &str) -> Classification {
    let (task, task_confidence) = likeliest(shares.head(Head::Task));
    let (domain, _) = likeliest(shares.head(Head::Domain));
    let (language, language_confidence) = likeliest(shares.head(Head::Language));
    let (sensitivity, sensitivity_confidence) = level(shares.head(Head::Sensitivity));
    let unsure = task_confidence < calibration.sure_task
        || sensitivity_confidence < calibration.sure_sensitivity;
    Classification {
        task: TaskKind::ALL[task],
        task_confidence,
        complexity: shares.head(Head::Complexity)[0],
        sensitivity,
        sensitivity_confidence,
        domain: Domain::ALL[domain],
        language: if language_confidence < 0.5 { "und" } else { LANGUAGES[language] }.to_owned(),
        custom: Default::default(),
        unsure,
        stage: stage.to_owned(),
        micros: 0,
    }
}

/// How close a higher level must come to the likeliest one to be taken instead.
const CLOSE: f32 = 0.12;

/// The likeliest level; of two close ones the higher. Only the next best counts: a far level with
/// little behind it must not send everyday questions to the house's own models.
fn level(probabilities: &[f32]) -> (Sensitivity, f32) {
    let (best, most) = likeliest(probabilities);
    let above = (best + 1..probabilities.len())
        .filter(|level| most - probabilities[*level] <= CLOSE)
        .max_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b]));
    match above {
        Some(higher) => (Sensitivity::ALL[higher], probabilities[higher]),
        None => (Sensitivity::ALL[best], most),
    }
}

/// The likeliest class and its probability; of equal ones the first.
pub fn likeliest(probabilities: &[f32]) -> (usize, f32) {
    let mut best = (0, f32::MIN);
    for (class, probability) in probabilities.iter().enumerate() {
        if *probability > best.1 {
            best = (class, *probability);
        }
    }
    best
}

/// Probabilities that sum to 1; a higher temperature makes them more alike.
pub fn softmax(logits: &[f32], temperature: f32) -> Vec<f32> {
    let most = logits.iter().copied().fold(f32::MIN, f32::max);
    let mut shares: Vec<f32> =
        logits.iter().map(|logit| ((logit - most) / temperature).exp()).collect();
    let sum: f32 = shares.iter().sum();
    shares.iter_mut().for_each(|share| *share /= sum);
    shares
}

/// 1 / (1 + e^-x).
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
