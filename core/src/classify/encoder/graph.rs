//! The encoder as a candle graph: f32 on the CPU, f32 or f16 on CUDA and Metal, and what
//! training runs on.
//!
//! Knows nothing of text. On a CPU each text is computed at its own length; on a device that
//! wants one big launch the batch is padded and the padding masked.

use candle_core::{D, DType, IndexOp, Module, Tensor};
use candle_nn::{Embedding, Linear, VarBuilder};

use crate::classify::encoder::{Config, EncoderError, Output, Tokens};

/// Added to the attention score of a padded place: far below every real one, and still finite in
/// half precision, where minus infinity minus itself would make the whole row no number.
const MASKED: f64 = -10_000.0;

/// The weights of the model and how they are joined.
#[derive(Debug, Clone)]
pub struct Graph {
    config: Config,
    embeddings: Embeddings,
    layers: Vec<Layer>,
    classes: Option<Linear>,
    tags: Option<Linear>,
    training: Option<Training>,
}

/// What is different while gradients are wanted.
#[derive(Debug, Clone, Copy)]
struct Training {
    dropout: f32,
}

/// A padded batch: every tensor is `(texts, longest)`.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Rows of the word embeddings, u32.
    pub ids: Tensor,
    /// Rows of the type embeddings, u32.
    pub types: Tensor,
    /// Rows of the shape embeddings, u32.
    pub shapes: Tensor,
    /// 1 for a token, 0 for padding, f32.
    pub mask: Tensor,
    /// Whether any place is padded.
    padded: bool,
}

impl Graph {
    /// Takes the weights by Hugging Face's names for a BERT.
    ///
    /// # Errors
    /// [`EncoderError::Tensor`] when one is missing or has another shape.
    pub fn new(config: &Config, weights: VarBuilder) -> Result<Self, EncoderError> {
        config.check()?;
        let encoder = weights.pp("encoder.layer");
        let layers = (0..config.layers)
            .map(|index| Layer::new(config, encoder.pp(index)))
            .collect::<Result<_, _>>()?;
        let heads = weights.pp("heads").to_dtype(DType::F32);
        let head = |name, inputs, outputs| -> candle_core::Result<Option<Linear>> {
            if outputs == 0 {
                return Ok(None);
            }
            candle_nn::linear(inputs, outputs, heads.pp(name)).map(Some)
        };
        Ok(Graph {
            embeddings: Embeddings::new(config, weights.pp("embeddings"))?,
            layers,
            classes: head("classes", config.pooled_width(), config.classes)?,
            tags: head("tags", config.width, config.tags)?,
            training: None,
            config: config.clone(),
        })
    }

    /// The same graph built of operations that have gradients, with dropout after the embeddings,
    /// in the attention and after each part. Slower: the fused softmax and LayerNorm have none.
    pub fn training(mut self, dropout: f32) -> Self {
        self.training = Some(Training { dropout });
        self
    }

    /// The shape it was built with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Reads several texts and brings the scores back from the device.
    ///
    /// # Errors
    /// What the device says.
    pub fn forward(&self, batch: &[&Tokens]) -> Result<Vec<Output>, EncoderError> {
        // On a CPU a batch saves nothing, while padding costs as much as text.
        if !self.embeddings.words.embeddings().device().is_cpu() {
            return self.forward_together(batch);
        }
        let mut outputs = Vec::with_capacity(batch.len());
        for text in batch {
            outputs.append(&mut self.forward_together(&[text])?);
        }
        Ok(outputs)
    }

    /// The same in one launch, padded to the longest.
    ///
    /// # Errors
    /// What the device says.
    pub fn forward_together(&self, texts: &[&Tokens]) -> Result<Vec<Output>, EncoderError> {
        if texts.iter().all(|tokens| tokens.is_empty()) {
            return Ok(vec![Output::default(); texts.len()]);
        }
        let batch = self.batch(texts)?;
        let hidden = self.hidden(&batch)?;
        let pooled = self.pool(&hidden, &batch)?;
        let classes: Option<Vec<Vec<f32>>> =
            self.class_logits(&pooled)?.map(|logits| logits.to_vec2()).transpose()?;
        let tags: Option<Vec<Vec<Vec<f32>>>> =
            self.tag_logits(&hidden)?.map(|logits| logits.to_vec3()).transpose()?;
        let pooled: Vec<Vec<f32>> = pooled.to_vec2()?;

        let (mut classes, mut tags) = (classes.unwrap_or_default(), tags.unwrap_or_default());
        let output = |(index, (tokens, pooled)): (usize, (&&Tokens, Vec<f32>))| {
            if tokens.is_empty() {
                return Output::default();
            }
            let tags = tags.get_mut(index).map(std::mem::take).unwrap_or_default();
            Output {
                classes: classes.get_mut(index).map(std::mem::take).unwrap_or_default(),
                tags: tags.into_iter().take(tokens.len()).flatten().collect(),
                pooled,
            }
        };
        Ok(texts.iter().zip(pooled).enumerate().map(output).collect())
    }

    /// Lays texts side by side, padded to the longest.
    ///
    /// # Errors
    /// What the device says.
    pub fn batch(&self, texts: &[&Tokens]) -> Result<Batch, EncoderError> {
        let longest = texts.iter().map(|tokens| tokens.len()).max().unwrap_or(0);
        let device = self.embeddings.words.embeddings().device();
        let laid = |of: &dyn Fn(&Tokens, usize) -> u32| {
            let rows = texts.iter().flat_map(|tokens| {
                (0..longest).map(move |at| if at < tokens.len() { of(tokens, at) } else { 0 })
            });
            Tensor::from_vec(rows.collect::<Vec<u32>>(), (texts.len(), longest), device)
        };
        Ok(Batch {
            ids: laid(&|tokens, at| tokens.ids[at])?,
            types: laid(&|tokens, at| u32::from(tokens.types[at]))?,
            shapes: laid(&|tokens, at| u32::from(tokens.shapes[at]))?,
            mask: laid(&|_, _| 1)?.to_dtype(DType::F32)?,
            padded: texts.iter().any(|tokens| tokens.len() < longest),
        })
    }

    /// What stands for each token after the last layer: `(texts, longest, width)`, f32.
    ///
    /// # Errors
    /// What the device says.
    pub fn hidden(&self, batch: &Batch) -> Result<Tensor, EncoderError> {
        let mut hidden = self.embeddings.forward(batch, self.training)?;
        let bias = if batch.padded {
            // 0 where there is text, far below zero where there is none: (texts, 1, 1, longest).
            let bias = batch.mask.affine(-MASKED, MASKED)?.unsqueeze(1)?.unsqueeze(1)?;
            Some(bias.to_dtype(hidden.dtype())?)
        } else {
            None
        };
        for layer in &self.layers {
            hidden = layer.forward(&hidden, bias.as_ref(), self.training)?;
        }
        // The heads read f32 whatever the layers are: a sum over hundreds of tokens wants it.
        Ok(hidden.to_dtype(DType::F32)?)
    }

    /// Mean and maximum over the tokens, side by side: `(texts, 2 × width)`.
    ///
    /// # Errors
    /// What the device says.
    pub fn pool(&self, hidden: &Tensor, batch: &Batch) -> Result<Tensor, EncoderError> {
        if !batch.padded {
            return Ok(Tensor::cat(&[hidden.mean(1)?, hidden.max(1)?], D::Minus1)?);
        }
        let mask = batch.mask.unsqueeze(D::Minus1)?;
        let kept = hidden.broadcast_mul(&mask)?;
        // A text without tokens would divide by zero; its row is thrown away later.
        let count = batch.mask.sum_keepdim(1)?.maximum(1.0)?;
        let mean = kept.sum(1)?.broadcast_div(&count)?;
        let max = hidden.broadcast_add(&mask.affine(-MASKED, MASKED)?)?.max(1)?;
        Ok(Tensor::cat(&[mean, max], D::Minus1)?)
    }

    /// Logits of all class heads, `(texts, classes)`; none where there is no such head.
    ///
    /// # Errors
    /// What the device says.
    pub fn class_logits(&self, pooled: &Tensor) -> Result<Option<Tensor>, EncoderError> {
        Ok(self.classes.as_ref().map(|head| head.forward(pooled)).transpose()?)
    }

    /// Logits of the entity tags, `(texts, longest, tags)`; none where there is no such head.
    ///
    /// # Errors
    /// What the device says.
    pub fn tag_logits(&self, hidden: &Tensor) -> Result<Option<Tensor>, EncoderError> {
        Ok(self.tags.as_ref().map(|head| head.forward(hidden)).transpose()?)
    }
}

#[derive(Debug, Clone)]
struct Embeddings {
    words: Embedding,
    positions: Embedding,
    types: Embedding,
    shapes: Option<Embedding>,
    norm: Norm,
}

impl Embeddings {
    fn new(config: &Config, weights: VarBuilder) -> candle_core::Result<Self> {
        let table = |name, rows| candle_nn::embedding(rows, config.width, weights.pp(name));
        let shapes = match config.shapes {
            0 => None,
            rows => Some(table("shape_embeddings", rows)?),
        };
        Ok(Embeddings {
            words: table("word_embeddings", config.vocabulary)?,
            positions: table("position_embeddings", config.positions)?,
            types: table("token_type_embeddings", config.types)?,
            shapes,
            norm: Norm::new(config, weights.pp("LayerNorm"))?,
        })
    }

    fn forward(&self, batch: &Batch, training: Option<Training>) -> candle_core::Result<Tensor> {
        let longest = batch.ids.dim(1)?;
        let positions = self.positions.embeddings().i(..longest)?;
        let mut sum = (self.words.forward(&batch.ids)? + self.types.forward(&batch.types)?)?;
        if let Some(shapes) = &self.shapes {
            sum = (sum + shapes.forward(&batch.shapes)?)?;
        }
        let sum = sum.broadcast_add(&positions)?;
        drop_out(self.norm.forward(&sum, training)?, training)
    }
}

#[derive(Debug, Clone)]
struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    joined: Linear,
    attention_norm: Norm,
    inner: Linear,
    outer: Linear,
    output_norm: Norm,
    heads: usize,
}

impl Layer {
    fn new(config: &Config, weights: VarBuilder) -> candle_core::Result<Self> {
        let (width, inner) = (config.width, config.feed_forward);
        let linear =
            |name: &str, inputs, outputs| candle_nn::linear(inputs, outputs, weights.pp(name));
        Ok(Layer {
            query: linear("attention.self.query", width, width)?,
            key: linear("attention.self.key", width, width)?,
            value: linear("attention.self.value", width, width)?,
            joined: linear("attention.output.dense", width, width)?,
            attention_norm: Norm::new(config, weights.pp("attention.output.LayerNorm"))?,
            inner: linear("intermediate.dense", width, inner)?,
            outer: linear("output.dense", inner, width)?,
            output_norm: Norm::new(config, weights.pp("output.LayerNorm"))?,
            heads: config.heads,
        })
    }

    fn forward(
        &self,
        hidden: &Tensor,
        bias: Option<&Tensor>,
        training: Option<Training>,
    ) -> candle_core::Result<Tensor> {
        let attended = self.attend(hidden, bias, training)?;
        let attended = drop_out(self.joined.forward(&attended)?, training)?;
        let hidden = self.attention_norm.forward(&(attended + hidden)?, training)?;
        let inner = self.inner.forward(&hidden)?.gelu_erf()?;
        let outer = drop_out(self.outer.forward(&inner)?, training)?;
        self.output_norm.forward(&(outer + hidden)?, training)
    }

    fn attend(
        &self,
        hidden: &Tensor,
        bias: Option<&Tensor>,
        training: Option<Training>,
    ) -> candle_core::Result<Tensor> {
        let (texts, longest, width) = hidden.dims3()?;
        let split = |linear: &Linear| {
            linear
                .forward(hidden)?
                .reshape((texts, longest, self.heads, width / self.heads))?
                .transpose(1, 2)?
                .contiguous()
        };
        let (query, key, value) = (split(&self.query)?, split(&self.key)?, split(&self.value)?);
        let scale = ((width / self.heads) as f64).powf(-0.5);
        let mut scores = (query.matmul(&key.t()?)? * scale)?;
        if let Some(bias) = bias {
            scores = scores.broadcast_add(bias)?;
        }
        let shares = match training {
            Some(_) => candle_nn::ops::softmax(&scores, D::Minus1)?,
            None => candle_nn::ops::softmax_last_dim(&scores)?,
        };
        drop_out(shares, training)?
            .matmul(&value)?
            .transpose(1, 2)?
            .reshape((texts, longest, width))
    }
}

#[derive(Debug, Clone)]
struct Norm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f32,
}

impl Norm {
    fn new(config: &Config, weights: VarBuilder) -> candle_core::Result<Self> {
        Ok(Norm {
            weight: weights.get_with_hints(config.width, "weight", candle_nn::Init::Const(1.0))?,
            bias: weights.get_with_hints(config.width, "bias", candle_nn::Init::Const(0.0))?,
            epsilon: config.epsilon as f32,
        })
    }

    fn forward(&self, input: &Tensor, training: Option<Training>) -> candle_core::Result<Tensor> {
        match training {
            Some(_) => {
                candle_nn::ops::layer_norm_slow(input, &self.weight, &self.bias, self.epsilon)
            }
            None => candle_nn::ops::layer_norm(input, &self.weight, &self.bias, self.epsilon),
        }
    }
}

fn drop_out(input: Tensor, training: Option<Training>) -> candle_core::Result<Tensor> {
    match training {
        Some(Training { dropout }) if dropout > 0.0 => candle_nn::ops::dropout(&input, dropout),
        _ => Ok(input),
    }
}
