//! What each step decided and why. The log, the UI, the tests and `ask --explain` print it.
//!
//! The values that one step hands to the next live here, since steps never use each other. No
//! field of a trace may hold text of a prompt or an answer.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::caller::Channel;
use crate::ids::{ModelId, Node, PolicyId, ProviderId, RequestId};
use crate::money::Cost;
use crate::reply::Words;
use crate::request::{Domain, Sensitivity, TaskKind, Tier, Zone};

/// The whole story of one call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// Of which call.
    pub request_id: RequestId,
    /// Where it is booked.
    pub node: Node,
    /// Through which door it came.
    pub channel: Channel,
    /// What the guard found.
    pub guard: Option<Findings>,
    /// What kind of work it is.
    pub classification: Option<Classification>,
    /// The level that counts, after request, key, policy and what was found.
    pub sensitivity: Option<Sensitivity>,
    /// Who may do it, in which order, and why.
    pub decision: Option<Decision>,
    /// What was tried.
    pub attempts: Vec<AttemptTrace>,
    /// The budget level that is nearest to its limit: node and share used, 0…1.
    pub pressure: Option<(Node, f64)>,
}

impl Trace {
    /// The beginning of a story.
    pub fn new(request_id: RequestId, node: Node, channel: Channel) -> Self {
        Trace {
            request_id,
            node,
            channel,
            guard: None,
            classification: None,
            sensitivity: None,
            decision: None,
            attempts: Vec::new(),
            pressure: None,
        }
    }

    /// One line of ASCII, at most 1 KB, as `x-stellwerk-trace` carries it:
    /// `guard allow | classify translation 0.12 | route default mini>premium | mini complete …`.
    pub fn line(&self) -> String {
        let mut line = String::with_capacity(256);
        // Writing into a string cannot fail.
        let _ = self.write_line(&mut line);
        if !line.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            let plain = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
            line = line.chars().map(plain).collect();
        }
        if line.len() > 1000 {
            line.truncate(997);
            line.push_str("...");
        }
        line
    }

    fn write_line(&self, line: &mut String) -> std::fmt::Result {
        if let Some(found) = &self.guard {
            write!(step(line), "guard {}", found.summary())?;
        }
        if let Some(classification) = &self.classification {
            let Classification { task, complexity, language, .. } = classification;
            write!(step(line), "classify {task} {complexity:.2} {language}")?;
        }
        if let Some(sensitivity) = self.sensitivity {
            write!(step(line), "sensitivity {sensitivity}")?;
        }
        if let Some((node, share)) = &self.pressure {
            write!(step(line), "budget {node} {:.0}%", share * 100.0)?;
        }
        if let Some(decision) = &self.decision {
            write!(step(line), "route {} ", decision.policy_name())?;
            if decision.candidates.is_empty() {
                line.push_str("none");
            }
            for (index, model) in decision.models().enumerate() {
                line.push_str(if index == 0 { "" } else { ">" });
                line.push_str(model.as_str());
            }
        }
        self.attempts.iter().try_for_each(|attempt| attempt.write(step(line)))
    }
}

/// The line, ready for its next step.
fn step(line: &mut String) -> &mut String {
    if !line.is_empty() {
        line.push_str(" | ");
    }
    line
}

/// What the guard found, by kind and count; never the text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// Kind (`PERSON`, `IBAN`, `SECRET`, …) and how often.
    pub kinds: Vec<(String, u32)>,
    /// The probability of an attack, 0…1.
    pub injection: f32,
    /// The level that the findings themselves mean while they are not redacted.
    pub sensitivity: Option<Sensitivity>,
    /// Remarks such as a flagged attack.
    pub remarks: Vec<String>,
    /// What rules of the company tell the person.
    #[serde(default)]
    pub notes: Vec<Words>,
    /// What checked: `rules`, `model`, `off`.
    pub stage: String,
}

impl Findings {
    fn summary(&self) -> String {
        let mut words: Vec<String> =
            self.kinds.iter().map(|(kind, count)| format!("{kind}x{count}")).collect();
        if self.injection > 0.5 {
            words.push(format!("injection {:.2}", self.injection));
        }
        if words.is_empty() { "allow".to_owned() } else { words.join(",") }
    }
}

/// What kind of work a request is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Classification {
    /// The kind of work.
    pub task: TaskKind,
    /// How sure, 0…1, calibrated.
    pub task_confidence: f32,
    /// The probability that an economy model's answer would not do.
    pub complexity: f32,
    /// The level of what is said.
    pub sensitivity: Sensitivity,
    /// How sure, 0…1, calibrated.
    pub sensitivity_confidence: f32,
    /// The field.
    pub domain: Domain,
    /// ISO 639-1 code of the language, `de`, `en`, …; `und` where it cannot be told.
    pub language: String,
    /// Classes of classifiers of one's own: `support` → `refund`.
    pub custom: std::collections::BTreeMap<String, String>,
    /// Whether the classifier is unsure: the safer side is taken.
    pub unsure: bool,
    /// What decided: `fast`, `deep`, `rules`, `off`.
    pub stage: String,
    /// How long it took.
    pub micros: u64,
}

/// A model that may answer, with the places where it may run for this request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Which.
    pub model: ModelId,
    /// Its rung.
    pub tier: Tier,
    /// Indices into the model's deployments, permitted and healthy, in the order to be tried.
    pub places: Vec<Place>,
    /// Why it stands here, one short phrase each: `cheapest that will do`.
    pub reasons: Vec<String>,
}

/// One deployment that may run a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Index into the model's deployments.
    pub deployment: usize,
    /// Who runs it.
    pub provider: ProviderId,
    /// Where.
    pub zone: Zone,
    /// Whether what was found is hidden before it is sent there.
    pub redact: bool,
}

/// A model that may not or cannot answer, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rejected {
    /// Which.
    pub model: ModelId,
    /// Why.
    pub why: Rejection,
    /// A short phrase for people, without text of the prompt.
    pub reason: String,
}

/// Why a model may not or cannot answer. The order is that of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// The caller may not use it.
    Governance,
    /// The data may not go there.
    Zone,
    /// It lacks an ability that the request needs.
    Ability,
    /// The request does not fit into its context.
    Context,
    /// It is failing right now.
    Health,
    /// Its hold would not fit the budget.
    Budget,
}

/// The ordered list of those who may answer, with reasons.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The policy that decided; `None`: a model was asked for by name.
    pub policy: Option<PolicyId>,
    /// Its strategy, `cascade`; `named` where a model was asked for by name.
    pub strategy: String,
    /// Who may answer, first one first.
    pub candidates: Vec<Candidate>,
    /// Who may not, and why.
    pub rejected: Vec<Rejected>,
    /// Why the list is as it is, one short phrase each.
    pub reasons: Vec<String>,
}

impl Decision {
    /// The models in order.
    pub fn models(&self) -> impl Iterator<Item = &ModelId> {
        self.candidates.iter().map(|candidate| &candidate.model)
    }

    fn policy_name(&self) -> &str {
        self.policy.as_ref().map_or("named", PolicyId::as_str)
    }
}

/// One attempt, as the trace tells it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptTrace {
    /// 1, 2, …
    pub attempt: u32,
    /// `first`, `retry`, `failover`, `escalation`, `hedge`, `judge`.
    pub reason: String,
    /// Which model.
    pub model: ModelId,
    /// At whose place.
    pub provider: ProviderId,
    /// In which zone.
    pub zone: Zone,
    /// Whether what was found was hidden.
    pub redacted: bool,
    /// What was set aside.
    pub held: Cost,
    /// What it cost.
    pub cost: Cost,
    /// How it ended.
    pub ending: String,
    /// What the judge said, if it was asked: confidence 0…1 and why.
    pub judged: Option<Judgement>,
    /// Milliseconds to the first token.
    pub first_token_ms: Option<u64>,
    /// Milliseconds to the end.
    pub duration_ms: u64,
    /// What went wrong, in a word: `status 500`, `timeout first token`.
    pub error: Option<String>,
    /// What the guard noted in the answer: `EMAIL`, `system prompt`, `rule NAME`.
    #[serde(default)]
    pub remarks: Vec<String>,
}

impl AttemptTrace {
    fn write(&self, line: &mut String) -> std::fmt::Result {
        write!(line, "{} {} {}", self.reason, self.model, self.ending)?;
        if let Some(error) = &self.error {
            write!(line, " ({error})")?;
        }
        if !self.remarks.is_empty() {
            write!(line, " holds {}", self.remarks.join(","))?;
        }
        if let Some(judged) = &self.judged {
            write!(line, " judged {:.2}", judged.confidence)?;
        }
        write!(line, " {}", self.cost)
    }
}

/// What the judge thinks of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The probability that the answer will do, 0…1.
    pub confidence: f64,
    /// What it rests on: `logprobs`, `refusal`, `empty`, `schema`, `judge model`, …
    pub signs: Vec<String>,
}
