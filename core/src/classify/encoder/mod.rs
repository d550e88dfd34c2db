//! The deep stage's model: a small BERT that reads a question once, for all heads.
//!
//! [`tokenizer`] turns text into [`Tokens`], [`Encoder::forward`] turns tokens into an [`Output`]
//! of raw scores. What the columns mean, how they are calibrated and when to be unsure is decided
//! by whoever asks; nothing here knows labels, files or threads.

use bytes::Bytes;
use candle_core::{DType, Device};
use candle_nn::VarBuilder;

pub mod device;
pub mod entities;
pub mod graph;
pub mod int8;
pub mod quantize;
mod rows;
pub mod tokenizer;

#[cfg(test)]
mod rows_tests;
#[cfg(test)]
mod tests;

pub use graph::Graph;
pub use int8::Int8;
pub use quantize::{Weights, quantize};
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

    /// Whether every number of a text has its row in the tables.
    fn fits(&self, tokens: &Tokens) -> Result<(), EncoderError> {
        if tokens.len() > self.positions {
            return Err(EncoderError::TooLong { tokens: tokens.len(), most: self.positions });
        }
        let is_known = tokens.ids.iter().all(|&id| (id as usize) < self.vocabulary)
            && tokens.types.iter().all(|&of| usize::from(of) < self.types)
            && tokens.shapes.iter().all(|&of| self.shapes == 0 || usize::from(of) < self.shapes);
        if is_known {
            return Ok(());
        }
        Err(EncoderError::Shape("the vocabulary has more pieces than the model".to_owned()))
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
    /// The weights are no safetensors file.
    #[error("the classifier's weights are damaged")]
    Weights(#[from] safetensors::SafeTensorError),
    /// Two matrices do not fit: a mistake of ours.
    #[error("the classifier's model could not be run")]
    Multiply(#[from] rten_gemm::GemmError),
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
#[derive(Debug)]
pub struct Encoder {
    model: Model,
}

#[derive(Debug)]
enum Model {
    Graph(Box<Graph>),
    Int8(Box<Int8>),
}

impl Encoder {
    /// Loads weights in safetensors format onto a device: what [`quantize()`] made, or plain f32.
    ///
    /// On a CPU int8 weights stay int8 and what is inside the binary is not copied twice. A GPU
    /// gets them as f16, which it multiplies faster than anything else that it has everywhere.
    ///
    /// # Errors
    /// [`EncoderError`] when the file is damaged or does not fit the shape.
    pub fn load(
        config: &Config,
        weights: impl Into<Bytes>,
        device: &Device,
    ) -> Result<Self, EncoderError> {
        config.check()?;
        let weights = Weights::read(weights.into())?;
        let float = if device.is_cpu() { DType::F32 } else { DType::F16 };
        let model = match (weights.are_int8(), device.is_cpu()) {
            (true, true) => Model::Int8(Box::new(Int8::load(config, &weights)?)),
            (true, false) => {
                let tensors = weights.widened(config, device)?;
                let weights = VarBuilder::from_tensors(tensors, float, device);
                Model::Graph(Box::new(Graph::new(config, weights)?))
            }
            (false, _) => {
                let weights = VarBuilder::from_slice_safetensors(weights.file(), float, device)?;
                Model::Graph(Box::new(Graph::new(config, weights)?))
            }
        };
        Ok(Encoder { model })
    }

    /// The shape it was loaded with.
    pub fn config(&self) -> &Config {
        match &self.model {
            Model::Graph(graph) => graph.config(),
            Model::Int8(int8) => int8.config(),
        }
    }

    /// What computes, for `doctor` and benchmarks: the instructions on a CPU, else `candle`.
    pub fn computes_by(&self) -> String {
        match &self.model {
            Model::Graph(_) => "candle".to_owned(),
            Model::Int8(int8) => int8.instructions(),
        }
    }

    /// Reads several texts in one go and answers in their order. An empty batch gives an empty
    /// answer; so does a text without tokens.
    ///
    /// # Errors
    /// [`EncoderError::TooLong`] and [`EncoderError::Shape`] before anything is computed, or
    /// what the device says.
    pub fn forward(&self, batch: &[&Tokens]) -> Result<Vec<Output>, EncoderError> {
        batch.iter().try_for_each(|tokens| self.config().fits(tokens))?;
        match &self.model {
            Model::Graph(graph) => graph.forward(batch),
            Model::Int8(int8) => int8.forward(batch),
        }
    }
}
