//! The deep stage's model: a small BERT that reads a question once, for all heads.
//!
//! [`tokenizer`] turns text into [`Tokens`], [`Encoder::forward`] turns tokens into an [`Output`]
//! of raw scores. What the columns mean, how they are calibrated and when to be unsure is decided
//! by whoever asks; nothing here knows labels, files or threads.

use candle_core::{DType, Device};
use candle_nn::VarBuilder;

pub mod entities;
pub mod graph;
pub mod tokenizer;

#[cfg(test)]
mod tests;

pub use graph::Graph;
pub use tokenizer::{Tokenizer, Tokens};

/// The shape of the model, as `encoder.json` holds it. Hugging Face's names for the same things
/// are read too, so that a BERT's own `config.json` will do for what it knows.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Config {
    /// Pieces in the vocabulary, one row of the word embeddings each.
    #[serde(alias = "vocab_size")]
    pub vocabulary: usize,
    /// Numbers that stand for one token between the layers.
    #[serde(alias = "hidden_size")]
    pub width: usize,
    /// Transformer layers.
    #[serde(alias = "num_hidden_layers")]
    pub layers: usize,
    /// Attention heads in each layer; they share the width.
    #[serde(alias = "num_attention_heads")]
    pub heads: usize,
    /// Width of the inner layer of each feed-forward part.
    #[serde(alias = "intermediate_size")]
    pub feed_forward: usize,
    /// Rows of the position embeddings: the longest input that can be read at all.
    #[serde(alias = "max_position_embeddings")]
    pub positions: usize,
    /// Rows of the token-type embeddings: text and context.
    #[serde(alias = "type_vocab_size")]
    pub types: usize,
    /// Added to the variance in each LayerNorm.
    #[serde(alias = "layer_norm_eps")]
    pub epsilon: f64,
    /// Rows of the word-shape embeddings; 0 for a plain BERT, which has none.
    #[serde(default)]
    pub shapes: usize,
    /// Tokens that one forward pass reads at most, special ones included.
    #[serde(default = "default_max_tokens")]
    pub max_tokens: usize,
    /// Columns of all class heads together; 0 where there are no heads yet.
    #[serde(default)]
    pub classes: usize,
    /// Tags per token of the entity head; 0 where there is none.
    #[serde(default)]
    pub tags: usize,
}

fn default_max_tokens() -> usize {
    256
}

impl Config {
    /// Width of what the class heads read: mean and maximum over the tokens, side by side.
    pub fn pooled_width(&self) -> usize {
        2 * self.width
    }

    /// Width of one attention head.
    pub fn head_width(&self) -> usize {
        self.width / self.heads
    }

    /// Says what makes this shape impossible, so that a damaged file is told apart from a bug.
    ///
    /// # Errors
    /// [`EncoderError::Shape`] with the figure that does not fit.
    pub fn check(&self) -> Result<(), EncoderError> {
        let wrong = |why: String| Err(EncoderError::Shape(why));
        if self.width == 0 || self.heads == 0 || !self.width.is_multiple_of(self.heads) {
            return wrong(format!("{} heads do not share a width of {}", self.heads, self.width));
        }
        if self.vocabulary == 0 || self.types == 0 || self.feed_forward == 0 {
            return wrong("vocabulary, types and feed_forward must be above zero".to_owned());
        }
        if self.max_tokens < 3 || self.max_tokens > self.positions {
            return wrong(format!(
                "max_tokens is {}, but must be from 3 to the {} positions",
                self.max_tokens, self.positions
            ));
        }
        Ok(())
    }
}

/// What one forward pass says about one text: raw scores, before any calibration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Output {
    /// Logits of all class heads, [`Config::classes`] long.
    pub classes: Vec<f32>,
    /// Logits per token, [`Config::tags`] for each, token after token.
    pub tags: Vec<f32>,
    /// What the class heads read, [`Config::pooled_width`] long: features for one's own heads.
    pub pooled: Vec<f32>,
}

/// Why the encoder could not be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum EncoderError {
    /// The figures in `encoder.json` contradict each other or the weights.
    #[error("the classifier's model has an impossible shape: {0}")]
    Shape(String),
    /// The vocabulary is no WordPiece vocabulary.
    #[error("the classifier's vocabulary is damaged: {0}")]
    Vocabulary(String),
    /// A tensor is missing or of the wrong shape, or the device failed.
    #[error("the classifier's model could not be loaded or run")]
    Tensor(#[from] candle_core::Error),
    /// More tokens than the model has positions.
    #[error("{tokens} tokens are more than the {most} that the classifier reads at once")]
    TooLong {
        /// How many there were.
        tokens: usize,
        /// How many there may be.
        most: usize,
    },
}

/// A loaded model on one device.
#[derive(Debug, Clone)]
pub struct Encoder {
    graph: Graph,
}

impl Encoder {
    /// Loads weights in safetensors format onto a device.
    ///
    /// # Errors
    /// [`EncoderError`] when the file is damaged or does not fit the shape.
    pub fn load(config: &Config, weights: &[u8], device: &Device) -> Result<Self, EncoderError> {
        config.check()?;
        let weights = VarBuilder::from_slice_safetensors(weights, DType::F32, device)?;
        Ok(Encoder { graph: Graph::new(config, weights)? })
    }

    /// The shape it was loaded with.
    pub fn config(&self) -> &Config {
        self.graph.config()
    }

    /// Reads several texts in one go and answers in their order. An empty batch gives an empty
    /// answer; so does a text without tokens.
    ///
    /// # Errors
    /// [`EncoderError::TooLong`] before anything is computed, or what the device says.
    pub fn forward(&self, batch: &[&Tokens]) -> Result<Vec<Output>, EncoderError> {
        let most = self.config().positions;
        if let Some(long) = batch.iter().find(|tokens| tokens.len() > most) {
            return Err(EncoderError::TooLong { tokens: long.len(), most });
        }
        self.graph.forward(batch)
    }
}
