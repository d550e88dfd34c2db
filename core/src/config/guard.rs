//! What the guards do: `[guard]` as believed.
//!
//! Actions, the company's own patterns and its rules for what may not be asked or answered. Knows
//! nothing of how a guard looks at a text.

use std::collections::BTreeMap;

use crate::ids::{Group, UseCase};
use crate::reply::Words;
use crate::request::{Zone, word_enum};

word_enum! {
    /// What happens with personal data.
    PiiAction {
        /// Nothing is looked for.
        Off = "off",
        /// It is hidden from the vendor and restored in the answer.
        Redact = "redact",
        /// The request is refused.
        Block = "block",
    }
}

word_enum! {
    /// What happens with an attack.
    InjectionAction {
        /// Nothing is looked for.
        Off = "off",
        /// It is noted.
        Flag = "flag",
        /// The request is refused.
        Block = "block",
    }
}

/// The kinds of personal data, as the guard tells them (CONTRACT 35); a test keeps them in step.
pub const PII_KINDS: &[&str] = &[
    "SECRET",
    "IBAN",
    "CREDIT_CARD",
    "TAX_ID",
    "SOCIAL_SECURITY",
    "HEALTH_INSURANCE",
    "ID_CARD",
    "PASSPORT",
    "DATE_OF_BIRTH",
    "EMAIL",
    "PHONE",
    "ADDRESS",
    "LICENSE_PLATE",
    "EMPLOYEE_NUMBER",
    "PERSON",
    "ORGANIZATION",
    "LOCATION",
    "CUSTOMER_NUMBER",
    "CUSTOM",
    "IP_ADDRESS",
    "MAC_ADDRESS",
    "BIC",
    "VAT_ID",
    "COMMERCIAL_REGISTER",
];

/// A regular expression of the configuration, known to be one.
#[derive(Debug, Clone)]
pub struct Pattern(regex::Regex);

impl Pattern {
    /// Compiles it, without case where it does not ask for case itself.
    ///
    /// # Errors
    /// Where it is none, or one that would take too much memory.
    pub fn new(written: &str) -> Result<Self, regex::Error> {
        regex::RegexBuilder::new(written).size_limit(1 << 20).build().map(Pattern)
    }

    /// The compiled pattern.
    pub fn regex(&self) -> &regex::Regex {
        &self.0
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

/// `[[guard.pattern]]`: numbers that only this company knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnPattern {
    /// One of [`PII_KINDS`].
    pub kind: String,
    /// What it looks like.
    pub pattern: Pattern,
}

/// `[guard]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardConfig {
    /// Personal data that would go to a local provider.
    pub pii_local: PiiAction,
    /// … to one in the EU.
    pub pii_eu: PiiAction,
    /// … to one anywhere.
    pub pii_world: PiiAction,
    /// Attacks.
    pub injection: InjectionAction,
    /// Kinds that are told and not hidden: by default companies and places, without which most
    /// questions of an office would lose their sense.
    pub leave: Vec<String>,
    /// The company's own patterns.
    pub patterns: Vec<OwnPattern>,
    /// What may not be asked or answered.
    pub rules: Vec<GuardRule>,
    /// What is looked for in answers.
    pub output: OutputConfig,
}

impl GuardConfig {
    /// What happens with personal data that would go to this zone.
    pub fn pii(&self, zone: Zone) -> PiiAction {
        match zone {
            Zone::Local => self.pii_local,
            Zone::Eu => self.pii_eu,
            Zone::World => self.pii_world,
        }
    }
}

impl Default for GuardConfig {
    fn default() -> Self {
        GuardConfig {
            pii_local: PiiAction::Redact,
            pii_eu: PiiAction::Redact,
            pii_world: PiiAction::Redact,
            injection: InjectionAction::Block,
            leave: vec!["ORGANIZATION".to_owned(), "LOCATION".to_owned()],
            patterns: Vec::new(),
            rules: Vec::new(),
            output: OutputConfig::default(),
        }
    }
}

word_enum! {
    /// Which side a rule of the company looks at.
    RuleSide {
        /// What is asked.
        Question = "question",
        /// What is answered.
        Answer = "answer",
        /// Both.
        Both = "both",
    }
}

word_enum! {
    /// What a rule of the company does.
    RuleAction {
        /// The question is refused, the answer withheld.
        Block = "block",
        /// It is noted in the trace.
        Flag = "flag",
        /// The person is told something; the call goes on.
        Note = "note",
    }
}

/// `[[guard.rule]]`: one thing that may not be asked or answered. It speaks where any of its words
/// or patterns stands, or a classifier of the company's own says one of the classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardRule {
    /// Its name in traces and messages.
    pub id: String,
    /// What it looks for; words are patterns too.
    pub patterns: Vec<Pattern>,
    /// Classes of classifiers of one's own: `support` → `refund`.
    pub custom: BTreeMap<String, Vec<String>>,
    /// Only for these use cases; empty: for all.
    pub use_cases: Vec<UseCase>,
    /// Only for members of these groups; empty: for everyone.
    pub groups: Vec<Group>,
    /// Where it looks.
    pub on: RuleSide,
    /// What it does.
    pub action: RuleAction,
    /// What the person is told.
    pub note: Option<Words>,
}

impl GuardRule {
    /// Whether it is for this caller, with these groups, in this use case.
    pub fn is_for(&self, use_case: Option<&UseCase>, groups: &[Group]) -> bool {
        let in_case = self.use_cases.is_empty()
            || use_case.is_some_and(|asked| self.use_cases.contains(asked));
        let in_group =
            self.groups.is_empty() || groups.iter().any(|group| self.groups.contains(group));
        in_case && in_group
    }

    /// Whether one of its words or patterns stands in a text.
    pub fn speaks_of(&self, text: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.regex().is_match(text))
    }
}

word_enum! {
    /// What happens with something in an answer.
    OutputAction {
        /// Nothing is looked for.
        Off = "off",
        /// It is noted in the trace.
        Flag = "flag",
        /// The answer is withheld.
        Block = "block",
    }
}

/// `[guard.output]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputConfig {
    /// Personal data that does not stand in the question.
    pub personal: OutputAction,
    /// Keys and passwords that do not stand in the question.
    pub secrets: OutputAction,
    /// The standing instructions, told word by word.
    pub system_prompt: OutputAction,
    /// Images whose address carries data out.
    pub active: OutputAction,
}

/// Whoever shows such an image sends the data away unasked, so that alone is withheld; the others
/// are common in honest answers and noted.
impl Default for OutputConfig {
    fn default() -> Self {
        OutputConfig {
            personal: OutputAction::Flag,
            secrets: OutputAction::Flag,
            system_prompt: OutputAction::Flag,
            active: OutputAction::Block,
        }
    }
}
