//! The deep stage: the encoder with its tokenizer, from files to answers.
//!
//! Loads what ships or what a folder holds, and turns texts into logits and marked names. Knows
//! nothing of calibration, windows or when it is asked.

use std::sync::Arc;

use candle_core::Device;

use crate::classify::encoder::{
    Config, Encoder, EncoderError, Output, Tokenizer, Tokens, entities,
};
use crate::classify::heads::{Entity, EntitySpan, Logits};

/// The encoder's files, as bytes.
#[derive(Debug, Clone, Copy)]
pub struct DeepFiles<'f> {
    /// `encoder.json`: its shape.
    pub config: &'f [u8],
    /// `encoder.safetensors`: its weights.
    pub weights: &'f [u8],
    /// `vocab.txt`: its vocabulary, one piece a line.
    pub vocabulary: &'f [u8],
}

/// Why the encoder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeepError {
    /// `encoder.json` is no JSON that describes an encoder.
    #[error("encoder.json is damaged: {0}")]
    Config(String),
    /// The encoder has other heads than this version asks.
    #[error("the encoder has {found} classes where {wanted} are asked")]
    Heads {
        /// What the file says.
        found: usize,
        /// What this version has.
        wanted: usize,
    },
    /// Weights or vocabulary.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
}

/// What the encoder said about one text.
#[derive(Debug, Clone)]
pub struct Seen {
    /// One number for each class.
    pub logits: Logits,
    /// Names and places in the text, in bytes.
    pub entities: Vec<EntitySpan>,
}

/// A loaded encoder.
#[derive(Debug)]
pub struct Deep {
    tokenizer: Tokenizer,
    encoder: Arc<Encoder>,
}

/// The encoder that ships inside the program, if one does: the recipe makes it, and a program
/// built before that has the fast stage alone.
pub fn shipped() -> Option<DeepFiles<'static>> {
    None
}

impl Deep {
    /// Loads an encoder.
    ///
    /// # Errors
    /// [`DeepError`] says which file is damaged.
    pub fn load(files: &DeepFiles<'_>) -> Result<Self, DeepError> {
        let config: Config = serde_json::from_slice(files.config)
            .map_err(|error| DeepError::Config(error.to_string()))?;
        let wanted = crate::classify::heads::CLASSES;
        if config.classes != wanted {
            return Err(DeepError::Heads { found: config.classes, wanted });
        }
        let tokenizer = Tokenizer::from_vocabulary(files.vocabulary)?;
        let encoder = Arc::new(Encoder::load(&config, files.weights.to_vec(), &Device::Cpu)?);
        Ok(Deep { tokenizer, encoder })
    }

    /// Reads texts with what stood before each; `None` where the device gave no answer.
    pub fn read(&self, texts: &[(&str, &str)]) -> Option<Vec<Seen>> {
        let most = self.encoder.config().max_tokens;
        let tokens: Vec<Tokens> = texts
            .iter()
            .map(|(text, context)| self.tokenizer.encode(text, context, most))
            .collect::<Result<_, _>>()
            .ok()?;
        let outputs = self.encoder.forward(&tokens.iter().collect::<Vec<_>>());
        // The log has the cause once; the caller answers with the fast stage.
        let outputs = outputs
            .inspect_err(|error| tracing::warn!(%error, "the encoder could not read a text"))
            .ok()?;
        tokens.iter().zip(outputs).map(|(tokens, output)| self.seen(tokens, &output)).collect()
    }

    fn seen(&self, tokens: &Tokens, output: &Output) -> Option<Seen> {
        let found = entities::decode(tokens, &output.tags, self.encoder.config().tags);
        let span = |entity: entities::Entity| {
            Some(EntitySpan {
                kind: *Entity::ALL.get(entity.kind)?,
                start: entity.span.start,
                end: entity.span.end,
                confidence: entity.probability,
            })
        };
        Some(Seen {
            logits: Logits::from_slice(&output.classes)?,
            entities: found.into_iter().filter_map(span).collect(),
        })
    }
}
