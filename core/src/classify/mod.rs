//! What kind of work is it?
//!
//! A [`Classifier`] reads a question and says task, domain, complexity, sensitivity and
//! language, with how sure it is. [`rules`] is the classifier that is always there; the trained
//! one comes beside it. Knows nothing of models or prices.

use crate::request::{ChatRequest, Sensitivity};
use crate::trace::Classification;

pub mod batch;
mod cues;
pub mod deep;
pub mod encoder;
pub mod fast;
pub mod heads;
mod language;
pub mod own;
mod plain;
pub mod rules;
pub mod train;
pub mod trained;

#[cfg(test)]
mod tests;

/// Characters of each turn, and of all together: what a follow-up such as "and now shorter" refers
/// to stands at the beginnings of the last few turns.
const CONTEXT_TURN: usize = 600;
const CONTEXT: usize = 2_000;

/// What the classifier reads: the question and what stands around it.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// The last message of the person.
    pub text: String,
    /// Standing instructions.
    pub system: String,
    /// The turns before, newest first, shortened.
    pub history: Vec<String>,
    /// Bytes of everything that is sent.
    pub total_bytes: usize,
    /// Names of tools that the model may call.
    pub tools: usize,
    /// Whether there are images, documents or sound.
    pub attachments: bool,
}

impl Input {
    /// Reads a request.
    pub fn of(request: &ChatRequest) -> Self {
        let of_role = |role| request.messages.iter().filter(move |message| message.role == role);
        let text = request.last_user().map(crate::request::Message::joined_text);
        let system: Vec<String> =
            of_role(crate::request::Role::System).map(|message| message.joined_text()).collect();
        let last_user = request.messages.iter().rposition(|m| m.role == crate::request::Role::User);
        let history = request.messages[..last_user.unwrap_or(0)]
            .iter()
            .rev()
            .filter(|message| message.role != crate::request::Role::System)
            .take(6)
            .map(|message| message.joined_text().chars().take(2_000).collect())
            .collect();
        Input {
            text: text.unwrap_or_default(),
            system: system.join("\n"),
            history,
            total_bytes: request.messages.iter().flat_map(|m| m.texts()).map(str::len).sum(),
            tools: request.tools.len(),
            attachments: request.has_images() || request.has_documents() || request.has_audio(),
        }
    }

    /// What stands around the question, nearest first: the turns before, then the standing
    /// instructions, cut to what a classifier has time for.
    pub fn context(&self) -> String {
        let turns = self.history.iter().map(|turn| (turn, CONTEXT_TURN));
        let mut context = String::new();
        let mut left = CONTEXT;
        for (part, most) in turns.chain([(&self.system, CONTEXT)]) {
            let part = part.trim();
            if part.is_empty() || left < 2 {
                continue;
            }
            if !context.is_empty() {
                context.push('\n');
                left -= 1;
            }
            let before = context.len();
            context.extend(part.chars().take(most.min(left)));
            left -= context[before..].chars().count();
        }
        context
    }

    /// A question alone.
    pub fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Input { total_bytes: text.len(), text, ..Input::default() }
    }
}

/// Reads a question and says what kind of work it is. Synchronous: the caller decides where it
/// runs.
pub trait Classifier: Send + Sync + 'static {
    /// Never fails: what it cannot tell it marks unsure.
    fn classify(&self, input: &Input) -> Classification;
}

/// With `mode = "off"`: what the request says, else `internal`.
pub fn off(said: Option<Sensitivity>) -> Classification {
    Classification {
        task: crate::request::TaskKind::Other,
        task_confidence: 0.0,
        complexity: 0.5,
        sensitivity: said.unwrap_or(Sensitivity::Internal),
        sensitivity_confidence: 1.0,
        domain: crate::request::Domain::General,
        language: "und".to_owned(),
        custom: Default::default(),
        unsure: true,
        stage: "off".to_owned(),
        micros: 0,
    }
}
