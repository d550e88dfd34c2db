//! What of an answer may be shown, and the pieces of it put together.
//!
//! OpenAI's and Anthropic's formats cannot take back what they sent. [`Gate`] therefore holds
//! back an attempt that the judge may still reject, and [`Collected`] puts the shown pieces
//! together for a reply that is not streamed. Knows nothing of wire formats.

use std::sync::Arc;

use serde_json::{Map, Value};
use stellwerk_core::ids::ModelId;
use stellwerk_core::reply::{Chunk, Done, Event, Failure, FinishReason};
use stellwerk_core::request::Dialect;
use stellwerk_core::trace::Trace;

/// What a client may see.
#[derive(Debug)]
pub enum Shown {
    /// Somebody answers.
    Begun {
        /// Who.
        model: ModelId,
        /// What was decided so far.
        trace: Arc<Trace>,
    },
    /// A piece of the answer.
    Piece(Chunk),
    /// The answer broke after pieces of it were shown; another model begins anew.
    FailedOver {
        /// Who broke.
        from: ModelId,
        /// Who answers now.
        to: ModelId,
    },
    /// An answer that nobody saw was rejected; a stronger model answers.
    Escalated {
        /// Whose answer was rejected.
        from: ModelId,
        /// Who answers now.
        to: ModelId,
    },
    /// The answer is whole and booked.
    Done(Box<Done>),
    /// It will not be whole.
    Failed(Box<Failure>),
}

/// Holds back what may still be rejected.
#[derive(Debug, Default)]
pub struct Gate {
    attempt: u32,
    held: Option<Vec<Shown>>,
    /// Rejected and taken over, told once the next one begins.
    escalated: Option<(ModelId, ModelId)>,
}

impl Gate {
    /// Takes an event, shows what can be shown now.
    pub fn push(&mut self, event: Event, mut show: impl FnMut(Shown)) {
        match event {
            Event::Started { attempt, model, provisional, trace } => {
                self.attempt = attempt;
                self.held = provisional.then(Vec::new);
                self.or_hold(Shown::Begun { model, trace }, &mut show);
                if let Some((from, to)) = self.escalated.take() {
                    self.or_hold(Shown::Escalated { from, to }, show);
                }
            }
            Event::Chunk { attempt, chunk } if attempt == self.attempt => {
                self.or_hold(Shown::Piece(chunk), show);
            }
            // A piece of an attempt that was taken back.
            Event::Chunk { .. } => {}
            Event::Accepted { attempt } if attempt == self.attempt => self.release(show),
            Event::Accepted { .. } => {}
            Event::Escalated { from, to, .. } => {
                self.held = None;
                self.escalated = Some((from, to));
            }
            Event::FailedOver { from, to, .. } => match self.held.take() {
                // Nothing of the broken attempt was shown, so there is nothing to tell.
                Some(_) => {}
                None => show(Shown::FailedOver { from, to }),
            },
            Event::Done(done) => {
                self.release(&mut show);
                show(Shown::Done(done));
            }
            Event::Failed(failure) => {
                self.held = None;
                show(Shown::Failed(failure));
            }
        }
    }

    fn or_hold(&mut self, shown: Shown, mut show: impl FnMut(Shown)) {
        match &mut self.held {
            Some(held) => held.push(shown),
            None => show(shown),
        }
    }

    fn release(&mut self, show: impl FnMut(Shown)) {
        self.held.take().into_iter().flatten().for_each(show);
    }
}

/// The pieces of an answer, put together.
#[derive(Debug, Default)]
pub struct Collected {
    /// The answers, by their number.
    pub choices: Vec<Choice>,
    /// Fields of the whole reply without a shared word.
    pub extra: Vec<(Dialect, Map<String, Value>)>,
}

/// One of the answers.
#[derive(Default)]
pub struct Choice {
    /// What was said, in order.
    pub blocks: Vec<Block>,
    /// Log probabilities, if they were told.
    pub logprobs: Option<Vec<Value>>,
    /// Fields without a shared word.
    pub extra: Vec<(Dialect, Map<String, Value>)>,
    /// Why it ended, and at which stop text.
    pub finish: Option<(FinishReason, Option<String>)>,
}

/// Shows the shape and never the text.
impl std::fmt::Debug for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let blocks = self.blocks.len();
        f.debug_struct("Choice").field("blocks", &blocks).finish_non_exhaustive()
    }
}

/// One block of an answer.
pub enum Block {
    /// Text, and where it was found, in Anthropic's words.
    Text(String, Vec<Value>),
    /// Thinking with the vendor's signature.
    Thinking(String, Option<String>),
    /// Thinking that the vendor sealed.
    Redacted(String),
    /// A tool call.
    Tool(Call),
    /// Something of one vendor's format, as it was.
    Native(Map<String, Value>),
}

/// A tool call, put together.
#[derive(Default)]
pub struct Call {
    /// Which call of the answer, from 0.
    pub index: u32,
    /// Its id.
    pub id: String,
    /// The tool.
    pub name: String,
    /// JSON text.
    pub arguments: String,
    /// Fields without a shared word.
    pub extra: Map<String, Value>,
}

impl Collected {
    /// Forgets everything: another model begins anew.
    pub fn clear(&mut self) {
        *self = Collected::default();
    }

    /// Adds a piece.
    pub fn push(&mut self, chunk: Chunk) {
        match chunk {
            Chunk::Started { .. } | Chunk::Usage(_) => {}
            Chunk::Text { choice, text } => self.text(choice, text),
            Chunk::Reasoning { choice, text } => self.thinking(choice, &text, None),
            Chunk::ReasoningSignature { choice, signature } => {
                self.thinking(choice, "", Some(signature));
            }
            Chunk::RedactedReasoning { choice, data } => {
                self.choice(choice).blocks.push(Block::Redacted(data));
            }
            Chunk::ToolCall { choice, index, id, name, arguments, extra } => {
                let call = self.choice(choice).call(index);
                call.id.push_str(&id.unwrap_or_default());
                call.name.push_str(&name.unwrap_or_default());
                call.arguments.push_str(&arguments);
                call.extra.extend(extra.unwrap_or_default());
            }
            Chunk::Logprobs { choice, content } => {
                self.choice(choice).logprobs.get_or_insert_default().extend(content);
            }
            Chunk::Extra { dialect, choice: Some(choice), fields } => {
                self.choice(choice).extra(dialect, fields);
            }
            Chunk::Extra { dialect, choice: None, fields } => self.extra.push((dialect, fields)),
            Chunk::Finish { choice, reason, stop_sequence } => {
                self.choice(choice).finish = Some((reason, stop_sequence));
            }
        }
    }

    fn choice(&mut self, number: u32) -> &mut Choice {
        // A vendor that counts wildly must not make us allocate: `n` is at most 128.
        let index = (number as usize).min(127);
        if self.choices.len() <= index {
            self.choices.resize_with(index + 1, Choice::default);
        }
        &mut self.choices[index]
    }

    fn text(&mut self, choice: u32, piece: String) {
        let blocks = &mut self.choice(choice).blocks;
        match blocks.last_mut() {
            Some(Block::Text(text, _)) => text.push_str(&piece),
            _ if piece.is_empty() => {}
            _ => blocks.push(Block::Text(piece, Vec::new())),
        }
    }

    fn thinking(&mut self, choice: u32, piece: &str, sign: Option<String>) {
        let blocks = &mut self.choice(choice).blocks;
        match blocks.last_mut() {
            // A signature closes its thought; what follows is another one.
            Some(Block::Thinking(text, signature @ None)) => {
                text.push_str(piece);
                *signature = sign;
            }
            _ => blocks.push(Block::Thinking(piece.to_owned(), sign)),
        }
    }
}

impl Choice {
    fn call(&mut self, index: u32) -> &mut Call {
        let found = self
            .blocks
            .iter()
            .position(|block| matches!(block, Block::Tool(call) if call.index == index));
        let at = found.unwrap_or_else(|| {
            self.blocks.push(Block::Tool(Call { index, ..Call::default() }));
            self.blocks.len() - 1
        });
        match &mut self.blocks[at] {
            Block::Tool(call) => call,
            _ => unreachable!("the block at this place is the call just found or pushed"),
        }
    }

    fn extra(&mut self, dialect: Dialect, mut fields: Map<String, Value>) {
        // A whole block of Anthropic's keeps its place among the others.
        if dialect == Dialect::Anthropic
            && let Some(Value::Object(block)) = fields.swap_remove("content_block")
        {
            self.blocks.push(Block::Native(block));
        }
        if dialect == Dialect::Anthropic
            && let Some(Value::Array(found)) = fields.swap_remove("citations")
        {
            match self.blocks.last_mut() {
                Some(Block::Text(_, citations)) => citations.extend(found),
                _ => self.blocks.push(Block::Text(String::new(), found)),
            }
        }
        if !fields.is_empty() {
            self.extra.push((dialect, fields));
        }
    }

    /// All text, joined.
    pub fn text(&self) -> String {
        self.joined(|block| match block {
            Block::Text(text, _) => Some(text),
            _ => None,
        })
    }

    /// Why it ended; a vendor that does not say has stopped.
    pub fn reason(&self) -> FinishReason {
        self.finish.as_ref().map_or(FinishReason::Stop, |(reason, _)| *reason)
    }

    /// All thinking, joined.
    pub fn reasoning(&self) -> String {
        self.joined(|block| match block {
            Block::Thinking(text, _) => Some(text),
            _ => None,
        })
    }

    /// The tool calls, in order.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.blocks.iter().filter_map(|block| match block {
            Block::Tool(call) => Some(call),
            _ => None,
        })
    }

    fn joined<'a>(&'a self, of: impl Fn(&'a Block) -> Option<&'a String>) -> String {
        self.blocks.iter().filter_map(of).map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stellwerk_core::caller::Channel;
    use stellwerk_core::ids::{Node, RequestId};

    fn started(attempt: u32, provisional: bool) -> Event {
        let trace = Trace::new(RequestId::from("req_1"), Node::Company, Channel::Api);
        let model = ModelId::from(format!("m{attempt}"));
        Event::Started { attempt, model, provisional, trace: Arc::new(trace) }
    }

    fn text(attempt: u32, text: &str) -> Event {
        let chunk = Chunk::Text { choice: 0, text: text.to_owned() };
        Event::Chunk { attempt, chunk }
    }

    fn seen(events: Vec<Event>) -> String {
        let mut gate = Gate::default();
        let mut seen = String::new();
        for event in events {
            gate.push(event, |shown| match shown {
                Shown::Begun { model, .. } => seen.push_str(&format!("<{model}>")),
                Shown::Piece(Chunk::Text { text, .. }) => seen.push_str(&text),
                Shown::FailedOver { from, to } => seen.push_str(&format!("<{from}→{to}>")),
                Shown::Escalated { from, to } => seen.push_str(&format!("<{from}↑{to}>")),
                _ => seen.push('?'),
            });
            seen.push('|');
        }
        seen
    }

    #[test]
    fn a_rejected_rung_is_never_shown() {
        let (from, to) = (ModelId::from("m1"), ModelId::from("m2"));
        let events = vec![
            started(1, true),
            text(1, "Nein"),
            Event::Escalated { attempt: 1, from, to },
            started(2, false),
            text(1, "late"),
            text(2, "Ja"),
        ];
        assert_eq!(seen(events), "|||<m2><m1↑m2>||Ja|");
    }

    #[test]
    fn an_accepted_rung_is_shown_at_once() {
        let events =
            vec![started(1, true), text(1, "Gu"), Event::Accepted { attempt: 1 }, text(1, "t")];
        assert_eq!(seen(events), "||<m1>Gu|t|");
    }

    #[test]
    fn a_fail_over_is_told_only_where_something_was_shown() {
        let (from, to) = (ModelId::from("m1"), ModelId::from("m2"));
        let failed_over = Event::FailedOver { attempt: 1, from, to };
        let shown = vec![started(1, false), text(1, "a"), failed_over.clone(), started(2, false)];
        assert_eq!(seen(shown), "<m1>|a|<m1→m2>|<m2>|");
        let hidden = vec![started(1, true), text(1, "a"), failed_over, started(2, false)];
        assert_eq!(seen(hidden), "|||<m2>|");
    }
}
