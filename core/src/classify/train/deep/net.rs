//! The encoder as it is trained: candle's tensors with gradients.
//!
//! The same network and weight names as `encoder`, which runs it; here every operation has a
//! gradient and sequences of one batch are padded to one length. GELU, layer norm and softmax are
//! fused on the CPU, where candle's own need many passes over memory.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, Var};

use super::adam::{Pace, Weight};
use super::fused;

/// Width of a token's vector.
pub const WIDTH: usize = 384;
/// Attention heads per layer.
pub const HEADS: usize = 12;

/// The weights by name, the word table apart since only rows of it are touched.
pub struct Net {
    /// Layers in use.
    pub layers: usize,
    /// Word vectors, vocabulary × width.
    pub words: Weight,
    /// All others.
    pub weights: BTreeMap<String, Weight>,
    /// Names that are not trained at present, by prefix.
    pub frozen: Vec<String>,
    device: Device,
}

/// A batch of token sequences, padded to the longest.
pub struct Batch {
    /// Rows of the word table that occur, each once.
    pub unique: Vec<u32>,
    /// batch × length, positions in `unique`.
    pub local: Vec<u32>,
    /// batch × length, token types.
    pub types: Vec<u32>,
    /// batch × length, case shapes.
    pub shapes: Vec<u32>,
    /// batch × length, 1 for a token and 0 for padding.
    pub mask: Vec<f32>,
    /// Sequences.
    pub size: usize,
    /// Tokens of the longest.
    pub length: usize,
}

/// One tokenised text.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    /// Rows of the word table.
    pub ids: Vec<u32>,
    /// 0 = text, 1 = context.
    pub types: Vec<u32>,
    /// Case shape of each token.
    pub shapes: Vec<u32>,
}

impl Batch {
    /// Pads texts to the longest of them.
    pub fn of(texts: &[&Tokens]) -> Self {
        let length = texts.iter().map(|text| text.ids.len()).max().unwrap_or(0);
        let mut unique: Vec<u32> =
            texts.iter().flat_map(|text| text.ids.iter().copied()).chain([0]).collect();
        unique.sort_unstable();
        unique.dedup();
        let mut batch = Batch {
            local: Vec::new(),
            types: Vec::new(),
            shapes: Vec::new(),
            mask: Vec::new(),
            size: texts.len(),
            length,
            unique,
        };
        for text in texts {
            let pad = length - text.ids.len();
            let zeros = std::iter::repeat_n(0u32, pad);
            let place = |id: &u32| batch.unique.binary_search(id).unwrap_or(0) as u32;
            batch.local.extend(text.ids.iter().map(place).chain(zeros.clone()));
            batch.types.extend(text.types.iter().copied().chain(zeros.clone()));
            batch.shapes.extend(text.shapes.iter().copied().chain(zeros));
            batch.mask.extend(
                std::iter::repeat_n(1.0f32, text.ids.len()).chain(std::iter::repeat_n(0.0, pad)),
            );
        }
        batch
    }
}

/// What one pass gives: token vectors, and the leaves that gradients are asked for.
pub struct Pass {
    /// batch × length × width.
    pub hidden: Tensor,
    /// batch × length × 1: 1 for a token, 0 for padding.
    pub mask: Tensor,
    /// The rows of the word table that were read.
    rows: Var,
    /// The other weights of this pass.
    pub vars: BTreeMap<String, Var>,
}

impl Pass {
    /// The mean over the tokens, batch × width.
    pub fn mean(&self) -> Result<Tensor> {
        let sum = self.hidden.broadcast_mul(&self.mask)?.sum(1)?;
        sum.broadcast_div(&self.mask.sum(1)?)
    }

    /// The largest value of each dimension over the tokens, batch × width.
    pub fn max(&self) -> Result<Tensor> {
        let away = ((1.0 - &self.mask)? * -1e4)?;
        self.hidden.broadcast_add(&away)?.max(1)
    }
}

impl Net {
    /// Takes weights by name.
    pub fn new(
        layers: usize,
        words: Weight,
        weights: BTreeMap<String, Weight>,
        device: Device,
    ) -> Self {
        Net { layers, words, weights, frozen: Vec::new(), device }
    }

    fn is_frozen(&self, name: &str) -> bool {
        self.frozen.iter().any(|prefix| name.starts_with(prefix.as_str()))
    }

    /// Runs a batch. With `dropout` > 0 that share of each layer's output is dropped.
    pub fn pass(&self, batch: &Batch, dropout: f32) -> Result<Pass> {
        let device = &self.device;
        let (size, length) = (batch.size, batch.length);
        let mut vars = BTreeMap::new();
        for (name, weight) in &self.weights {
            vars.insert(
                name.clone(),
                Var::from_tensor(&Tensor::from_slice(
                    &weight.values,
                    weight.shape.as_slice(),
                    device,
                )?)?,
            );
        }
        // A frozen weight is read as a plain tensor: no gradient is kept for it.
        let get = |name: &str| -> Result<Tensor> {
            let var = vars
                .get(name)
                .ok_or_else(|| candle_core::Error::Msg(format!("no weight named {name}")))?;
            Ok(if self.is_frozen(name) {
                var.as_tensor().detach()
            } else {
                var.as_tensor().clone()
            })
        };
        let rows = Var::from_tensor(&Tensor::from_vec(
            self.words.rows(&batch.unique),
            (batch.unique.len(), WIDTH),
            device,
        )?)?;
        let ids = |values: &[u32]| Tensor::from_slice(values, size * length, device);
        let positions: Vec<u32> = (0..size).flat_map(|_| 0..length as u32).collect();
        let embedded = (rows.index_select(&ids(&batch.local)?, 0)?
            + get("embeddings.position_embeddings.weight")?.index_select(&ids(&positions)?, 0)?)?;
        let embedded = (embedded
            + get("embeddings.token_type_embeddings.weight")?
                .index_select(&ids(&batch.types)?, 0)?)?;
        let embedded = (embedded
            + get("embeddings.shape_embeddings.weight")?.index_select(&ids(&batch.shapes)?, 0)?)?;
        let norm = |x: &Tensor, name: &str| -> Result<Tensor> {
            fused::layer_norm(x, &get(&format!("{name}.weight"))?, &get(&format!("{name}.bias"))?)
        };
        let linear = |x: &Tensor, name: &str| -> Result<Tensor> {
            x.matmul(&get(&format!("{name}.weight"))?.t()?)?
                .broadcast_add(&get(&format!("{name}.bias"))?)
        };
        let drop =
            |x: Tensor| if dropout > 0.0 { candle_nn::ops::dropout(&x, dropout) } else { Ok(x) };
        let mask = Tensor::from_slice(&batch.mask, (size, length, 1), device)?;
        let away = ((1.0 - mask.reshape((size, 1, 1, length))?)? * -1e4)?;
        let split = |x: Tensor| {
            x.reshape((size, length, HEADS, WIDTH / HEADS))?.transpose(1, 2)?.contiguous()
        };
        let mut x = norm(&embedded, "embeddings.LayerNorm")?;
        for layer in 0..self.layers {
            let at = format!("encoder.layer.{layer}");
            let query = split(
                (linear(&x, &format!("{at}.attention.self.query"))?
                    * ((WIDTH / HEADS) as f64).powf(-0.5))?,
            )?;
            let key = split(linear(&x, &format!("{at}.attention.self.key"))?)?;
            let value = split(linear(&x, &format!("{at}.attention.self.value"))?)?;
            let scores = query.matmul(&key.transpose(2, 3)?)?.broadcast_add(&away)?;
            let seen = fused::softmax(&scores)?.matmul(&value)?;
            let seen = seen.transpose(1, 2)?.reshape((size * length, WIDTH))?;
            let seen = drop(linear(&seen, &format!("{at}.attention.output.dense"))?)?;
            x = norm(&(x + seen)?, &format!("{at}.attention.output.LayerNorm"))?;
            let wide = fused::gelu(&linear(&x, &format!("{at}.intermediate.dense"))?)?;
            let narrow = drop(linear(&wide, &format!("{at}.output.dense"))?)?;
            x = norm(&(x + narrow)?, &format!("{at}.output.LayerNorm"))?;
        }
        Ok(Pass { hidden: x.reshape((size, length, WIDTH))?, mask, rows, vars })
    }

    /// One step of learning from a loss of this pass. `heads_rate` multiplies the pace for `heads.*`.
    /// Returns the norm of the gradient before clipping at 1.
    pub fn learn(
        &mut self,
        batch: &Batch,
        pass: &Pass,
        loss: &Tensor,
        pace: Pace,
        heads_rate: f32,
        words_rate: f32,
    ) -> Result<f32> {
        let mut gradients = loss.backward()?;
        let mut found: Vec<(String, Vec<f32>)> = Vec::new();
        for (name, var) in &pass.vars {
            if self.is_frozen(name) {
                continue;
            }
            let Some(gradient) = gradients.remove(var.as_tensor()) else { continue };
            found.push((name.clone(), gradient.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?));
        }
        let rows = match gradients.remove(pass.rows.as_tensor()) {
            Some(gradient) => gradient.flatten_all()?.to_vec1::<f32>()?,
            None => Vec::new(),
        };
        let square =
            |values: &[f32]| values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>();
        let norm =
            (found.iter().map(|(_, g)| square(g)).sum::<f64>() + square(&rows)).sqrt() as f32;
        if !norm.is_finite() {
            return Ok(norm);
        }
        let scale = if norm > 1.0 { 1.0 / norm } else { 1.0 };
        for (name, mut gradient) in found {
            gradient.iter_mut().for_each(|g| *g *= scale);
            let plain = name.ends_with("bias")
                || name.contains("LayerNorm")
                || name.starts_with("embeddings");
            let rate = if name.starts_with("heads.") { pace.rate * heads_rate } else { pace.rate };
            let decay = if plain { 0.0 } else { pace.decay };
            if let Some(weight) = self.weights.get_mut(&name) {
                weight.update(&gradient, Pace { rate, decay, ..pace });
            }
        }
        if !rows.is_empty() && words_rate > 0.0 {
            let rows: Vec<f32> = rows.into_iter().map(|g| g * scale).collect();
            self.words.update_rows(
                &batch.unique,
                &rows,
                Pace { rate: pace.rate * words_rate, decay: 0.0, ..pace },
            );
        }
        Ok(norm)
    }
}
