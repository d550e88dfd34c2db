//! What is asked: one request, in words that every vendor's format can be made from.
//!
//! The shape follows OpenAI's chat completions, the field's lingua franca, and keeps what other
//! formats can say beyond it (thinking blocks, cache marks, documents). Knows nothing of wires:
//! the faces make these types, `provider` turns them into a vendor's format.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::caller::Caller;
use crate::ids::{ModelId, PolicyId, RequestId, UseCase};

mod native;

pub use native::Native;

macro_rules! word_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The word of the contract.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }

            /// The value that a word stands for.
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == word)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use word_enum;

word_enum! {
    /// How far data may travel: a higher level, a smaller world.
    Sensitivity {
        /// Nothing of the company, or already published.
        Public = "public",
        /// Everyday internal matters.
        Internal = "internal",
        /// Prices, contracts, customers, source code, plans.
        Confidential = "confidential",
        /// Health, pay, discipline, identity and bank data, credentials, insider facts.
        Restricted = "restricted",
    }
}

word_enum! {
    /// Where a provider runs; ordered from the nearest to the farthest.
    Zone {
        /// On the company's own machines.
        Local = "local",
        /// In the European Union, under its law.
        Eu = "eu",
        /// Anywhere.
        World = "world",
    }
}

word_enum! {
    /// The rungs of the cascade.
    Tier {
        /// The cheapest that may do.
        Economy = "economy",
        /// The everyday model.
        Standard = "standard",
        /// The strongest.
        Premium = "premium",
    }
}

word_enum! {
    /// What kind of work a request is.
    TaskKind {
        /// Small talk, thanks, questions about the assistant.
        Chat = "chat",
        /// A question answered from general knowledge.
        OpenQa = "open_qa",
        /// A question answered from text in the prompt.
        ClosedQa = "closed_qa",
        /// Shorten a text.
        Summarization = "summarization",
        /// Pull facts out of a text.
        Extraction = "extraction",
        /// Put something into classes.
        Classification = "classification",
        /// Say a text differently.
        Rewrite = "rewrite",
        /// Say a text in another language.
        Translation = "translation",
        /// Write a text.
        TextGeneration = "text_generation",
        /// Ideas, lists, suggestions.
        Brainstorming = "brainstorming",
        /// Write, mend or explain code.
        CodeGeneration = "code_generation",
        /// Reckoning, logic, comparing with reasons.
        Analysis = "analysis",
        /// Noise, device commands, empty input.
        Other = "other",
    }
}

word_enum! {
    /// Which field a request is about.
    Domain {
        /// None in particular.
        General = "general",
        /// Law and contracts.
        Law = "law",
        /// Money and books.
        Finance = "finance",
        /// People and pay.
        Hr = "hr",
        /// Software and engineering.
        Technology = "technology",
        /// Marketing.
        Marketing = "marketing",
        /// Sales.
        Sales = "sales",
        /// Purchasing.
        Purchasing = "purchasing",
        /// Customer support.
        Support = "support",
        /// Health.
        Health = "health",
        /// Science.
        Science = "science",
        /// Management.
        Management = "management",
    }
}

word_enum! {
    /// How often a budget begins anew, by the calendar of the company's time zone.
    BudgetPeriod {
        /// From midnight.
        Day = "day",
        /// From Monday.
        Week = "week",
        /// From the first.
        Month = "month",
        /// From January, April, July, October.
        Quarter = "quarter",
        /// From the first of January.
        Year = "year",
    }
}

/// The languages that texts to people exist in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Locale {
    /// English.
    #[default]
    En,
    /// German.
    De,
}

impl Locale {
    /// The language that an `accept-language` header or a locale such as `de-DE` prefers;
    /// English where neither is named.
    pub fn preferred(written: &str) -> Self {
        let quality = |entry: &str| -> (String, f32) {
            let mut fields = entry.split(';');
            let tag = fields.next().unwrap_or_default().trim().to_ascii_lowercase();
            let quality = fields
                .find_map(|field| field.trim().strip_prefix("q=")?.parse().ok())
                .unwrap_or(1.0);
            (tag, quality)
        };
        let mut best = (Locale::En, 0.0_f32);
        for (tag, quality) in written.split(',').map(quality) {
            let locale = match tag.split(['-', '_']).next() {
                Some("de") => Locale::De,
                Some("en") => Locale::En,
                _ => continue,
            };
            if quality > best.1 {
                best = (locale, quality);
            }
        }
        best.0
    }
}

/// Whose wire format a field came from that no shared word exists for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// OpenAI's chat completions, spoken by most servers.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
}

/// Fields that no shared word exists for; a provider of the same dialect passes them on as they
/// were. Others leave them out where they are wishes; what the answer depends on is
/// [`Native`] and is never left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Extra {
    /// Whose format they came from.
    pub dialect: Dialect,
    /// The fields as they were.
    pub fields: Map<String, Value>,
}

impl Default for Extra {
    fn default() -> Self {
        Extra { dialect: Dialect::OpenAi, fields: Map::new() }
    }
}

impl Extra {
    /// The fields, if they are of this dialect; else none.
    pub fn of(&self, dialect: Dialect) -> Option<&Map<String, Value>> {
        (self.dialect == dialect && !self.fields.is_empty()).then_some(&self.fields)
    }
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Standing instructions; OpenAI's `developer` is one too.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of a tool.
    Tool,
}

/// One message of a conversation.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub parts: Vec<Part>,
    /// A name for the speaker, where the format has one.
    pub name: Option<String>,
    /// What the assistant asked tools to do.
    pub tool_calls: Vec<ToolCall>,
    /// Of a tool message: which call it answers.
    pub tool_call_id: Option<String>,
    /// Of a tool message: whether the tool failed (Anthropic's `is_error`).
    pub tool_failed: bool,
    /// Fields without a shared word.
    pub extra: Extra,
}

/// Shows the shape and never the text: messages must not reach a log.
impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("role", &self.role)
            .field("parts", &self.parts.len())
            .field("tool_calls", &self.tool_calls.len())
            .finish_non_exhaustive()
    }
}

impl Message {
    /// A message of one text.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Message {
            role,
            parts: vec![Part::text(text)],
            name: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
            tool_failed: false,
            extra: Extra::default(),
        }
    }

    /// Every text of the message, in order.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text { text, .. } => Some(text.as_str()),
            _ => None,
        })
    }

    /// Its texts, joined by line ends.
    pub fn joined_text(&self) -> String {
        self.texts().collect::<Vec<_>>().join("\n")
    }
}

/// One piece of a message.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "snake_case")]
pub enum Part {
    /// Text.
    Text {
        /// The text.
        text: String,
        /// Anthropic's `cache_control`, as it was.
        cache_control: Option<Value>,
    },
    /// An image.
    Image {
        /// Where it is.
        source: MediaSource,
        /// OpenAI's `detail`: `low`, `high`, `auto`.
        detail: Option<String>,
        /// Anthropic's `cache_control`, as it was.
        cache_control: Option<Value>,
    },
    /// A document, such as a PDF.
    Document {
        /// Where it is.
        source: MediaSource,
        /// Its name.
        name: Option<String>,
        /// Anthropic's `cache_control`, as it was.
        cache_control: Option<Value>,
    },
    /// Sound, base64.
    Audio {
        /// The bytes in base64.
        data: String,
        /// `wav`, `mp3`, …
        format: String,
    },
    /// What the model thought in an earlier turn, to be handed back to its vendor.
    Thinking {
        /// The thought.
        text: String,
        /// The vendor's signature over it.
        signature: Option<String>,
    },
    /// A thought that the vendor keeps to itself, to be handed back.
    RedactedThinking {
        /// The vendor's sealed data.
        data: String,
    },
    /// A piece without a shared word; goes to providers of its dialect only.
    Other {
        /// Whose format it came from.
        dialect: Dialect,
        /// The piece as it was.
        value: Value,
    },
}

impl Part {
    /// A piece of text.
    pub fn text(text: impl Into<String>) -> Self {
        Part::Text { text: text.into(), cache_control: None }
    }
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Part::Text { .. } => "Text(…)",
            Part::Image { .. } => "Image(…)",
            Part::Document { .. } => "Document(…)",
            Part::Audio { .. } => "Audio(…)",
            Part::Thinking { .. } => "Thinking(…)",
            Part::RedactedThinking { .. } => "RedactedThinking(…)",
            Part::Other { .. } => "Other(…)",
        })
    }
}

/// Where an image or a document is.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaSource {
    /// At an address; never fetched by us unless a vendor takes no addresses.
    Url(String),
    /// Here, in base64.
    Base64 {
        /// `image/png`, `application/pdf`, …
        media_type: String,
        /// The bytes in base64.
        data: String,
    },
    /// At the vendor, by its file id.
    FileId(String),
}

/// What the assistant asks one tool to do.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The id that the tool's answer names.
    pub id: String,
    /// Which tool.
    pub name: String,
    /// Its arguments as JSON text, exactly as the model wrote them.
    pub arguments: String,
    /// Fields without a shared word (Gemini's thought signatures travel here).
    pub extra: Extra,
}

impl std::fmt::Debug for ToolCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToolCall").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does, for the model.
    pub description: Option<String>,
    /// JSON Schema of its arguments.
    pub parameters: Option<Value>,
    /// Whether the vendor must keep to the schema.
    pub strict: Option<bool>,
    /// Anthropic's `cache_control`, as it was.
    pub cache_control: Option<Value>,
    /// A tool that only one vendor's format knows (server tools), as it was; the other fields
    /// then only describe it.
    pub native: Option<Extra>,
}

/// Whether and which tools must be called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// The model decides.
    Auto,
    /// No tool.
    None,
    /// At least one tool.
    Required,
    /// This one.
    Named(String),
}

/// What form the answer must have.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseFormat {
    /// Any text.
    #[default]
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON that keeps to a schema.
    JsonSchema {
        /// A name for it.
        name: String,
        /// What it is for.
        description: Option<String>,
        /// The schema.
        schema: Value,
        /// Whether the vendor must keep to it.
        strict: Option<bool>,
    },
}

/// How hard a reasoning model should think.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reasoning {
    /// OpenAI's word: `minimal`, `low`, `medium`, `high`, …
    pub effort: Option<String>,
    /// Anthropic's and Gemini's number of tokens.
    pub budget_tokens: Option<u32>,
}

/// A question to a chat model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatRequest {
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// What the model may call.
    pub tools: Vec<Tool>,
    /// Whether it must.
    pub tool_choice: Option<ToolChoice>,
    /// Whether it may call several at once.
    pub parallel_tool_calls: Option<bool>,
    /// The form of the answer.
    pub response_format: ResponseFormat,
    /// The most output tokens, reasoning included; `None`: the route's default is sent.
    pub max_output_tokens: Option<u32>,
    /// 0…2.
    pub temperature: Option<f64>,
    /// 0…1.
    pub top_p: Option<f64>,
    /// Anthropic's and Gemini's.
    pub top_k: Option<u32>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// How many answers; at least 1.
    pub n: u32,
    /// For answers that can be repeated.
    pub seed: Option<i64>,
    /// OpenAI's.
    pub presence_penalty: Option<f64>,
    /// OpenAI's.
    pub frequency_penalty: Option<f64>,
    /// Whether the caller wants log probabilities.
    pub logprobs: bool,
    /// How many alternatives per token.
    pub top_logprobs: Option<u8>,
    /// How hard to think.
    pub reasoning: Option<Reasoning>,
    /// The end user's id, as the caller gave it.
    pub user: Option<String>,
    /// Whether the caller wants the answer piece by piece. A whole answer is asked for whole.
    pub stream: bool,
    /// Fields without a shared word.
    pub extra: Extra,
}

impl Default for ChatRequest {
    fn default() -> Self {
        ChatRequest {
            messages: Vec::new(),
            tools: Vec::new(),
            tool_choice: None,
            parallel_tool_calls: None,
            response_format: ResponseFormat::Text,
            max_output_tokens: None,
            temperature: None,
            top_p: None,
            top_k: None,
            stop: Vec::new(),
            n: 1,
            seed: None,
            presence_penalty: None,
            frequency_penalty: None,
            logprobs: false,
            top_logprobs: None,
            reasoning: None,
            user: None,
            stream: false,
            extra: Extra::default(),
        }
    }
}

impl ChatRequest {
    /// One question, streamed.
    pub fn ask(text: impl Into<String>) -> Self {
        ChatRequest {
            messages: vec![Message::text(Role::User, text)],
            stream: true,
            ..Default::default()
        }
    }

    /// The last message of the person, the part that the classifier weighs most.
    pub fn last_user(&self) -> Option<&Message> {
        self.messages.iter().rev().find(|message| message.role == Role::User)
    }

    /// Whether any message carries an image.
    pub fn has_images(&self) -> bool {
        self.parts().any(|part| matches!(part, Part::Image { .. }))
    }

    /// Whether any message carries a document.
    pub fn has_documents(&self) -> bool {
        self.parts().any(|part| matches!(part, Part::Document { .. }))
    }

    /// Whether any message carries sound.
    pub fn has_audio(&self) -> bool {
        self.parts().any(|part| matches!(part, Part::Audio { .. }))
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.messages.iter().flat_map(|message| &message.parts)
    }
}

/// Texts to be turned into vectors.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct EmbedRequest {
    /// The texts (token lists are decoded or refused by the face).
    pub input: Vec<String>,
    /// How long the vectors should be.
    pub dimensions: Option<u32>,
    /// The end user's id, as the caller gave it.
    pub user: Option<String>,
    /// Fields without a shared word.
    pub extra: Extra,
}

impl std::fmt::Debug for EmbedRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbedRequest").field("input", &self.input.len()).finish_non_exhaustive()
    }
}

/// Which model or policy the caller asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `auto` or `auto:POLICY`.
    Policy(PolicyId),
    /// A model by its id in the catalogue.
    Model(ModelId),
}

impl Target {
    /// Reads the `model` field: `auto`, `auto:POLICY` or a model's id.
    pub fn from_model_field(written: &str) -> Self {
        match written {
            "auto" => Target::Policy(PolicyId::from("default")),
            _ => match written.strip_prefix("auto:") {
                Some(policy) => Target::Policy(PolicyId::from(policy)),
                None => Target::Model(ModelId::from(written)),
            },
        }
    }
}

/// What a request says beyond the question: the `stellwerk` object of the contract.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// What the call is for.
    pub use_case: Option<UseCase>,
    /// A level that the caller sets; it can only raise what is found.
    pub sensitivity: Option<Sensitivity>,
    /// Whether the answer should carry the whole trace.
    pub explain: bool,
    /// At most 16 short pairs, kept in the ledger row.
    pub metadata: BTreeMap<String, String>,
    /// Models to try when the one asked for fails.
    pub fallback: Vec<ModelId>,
    /// A limit for the whole call, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Ask a second place when the first has been silent for so many milliseconds.
    pub hedge_after_ms: Option<u64>,
}

/// One call on its way through the walk.
#[derive(Debug, Clone)]
pub struct Call<R = ChatRequest> {
    /// Its id, given to the client in every answer.
    pub id: RequestId,
    /// Who asks.
    pub caller: Caller,
    /// For what.
    pub target: Target,
    /// The question.
    pub request: R,
    /// What it says beyond the question.
    pub options: Options,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_language_is_read_by_quality() {
        assert_eq!(Locale::preferred("de-DE,de;q=0.9,en;q=0.8"), Locale::De);
        assert_eq!(Locale::preferred("en;q=0.4, de;q=0.6"), Locale::De);
        assert_eq!(Locale::preferred("fr, en;q=0.2, de;q=0.1"), Locale::En);
        assert_eq!(Locale::preferred(""), Locale::En);
        assert_eq!(Locale::preferred("en-US"), Locale::En);
    }

    #[test]
    fn no_text_reaches_a_debug_output() {
        let request = ChatRequest::ask("streng geheim");
        assert!(!format!("{request:?}").contains("geheim"));
    }
}
