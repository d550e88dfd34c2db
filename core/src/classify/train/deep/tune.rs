//! Fine-tuning: the encoder learns all heads at once.
//!
//! A sample has a label for some heads and none for others; each head's loss counts only those
//! that have one, so that every set of data teaches what it knows. Knows nothing of files.

use candle_core::{D, Device, Result, Tensor};

use super::adam::{Pace, Weight};
use super::net::{Batch, Net, Pass, Tokens, WIDTH};

/// One text with what is known of it. Class heads are numbers into their label sets.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// The text.
    pub tokens: Tokens,
    /// How much it counts.
    pub weight: f32,
    /// Target of each head, in the heads' order.
    pub targets: Vec<Target>,
    /// Tag of each token, negative where it does not count; `None` when nothing is known.
    pub tags: Option<Vec<i32>>,
}

/// What one head should say.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Target {
    /// Not known.
    #[default]
    None,
    /// One class of several.
    Class(usize),
    /// A probability, for a head of one output.
    Share(f32),
}

/// The widths of the class heads, in order, and how many tags there are.
#[derive(Debug, Clone)]
pub struct Heads {
    /// Outputs of each head; 1 = a probability.
    pub widths: Vec<usize>,
    /// How much each head's loss counts.
    pub weights: Vec<f32>,
    /// Tags of tokens.
    pub tags: usize,
    /// How much the tags' loss counts.
    pub tags_weight: f32,
    /// Share of a class target that is spread over all classes.
    pub smoothing: f32,
}

impl Heads {
    /// All outputs together.
    pub fn outputs(&self) -> usize {
        self.widths.iter().sum()
    }
}

/// Name of the class heads' matrix.
pub const CLASSES: &str = "heads.classes";
/// Name of the tag head's matrix.
pub const TAGS: &str = "heads.tags";

/// Puts fresh heads onto an encoder that has none of this size.
pub fn add_heads(net: &mut Net, heads: &Heads, random: &mut dyn FnMut() -> f32) {
    for (name, outputs, inputs) in
        [(CLASSES, heads.outputs(), 2 * WIDTH), (TAGS, heads.tags, WIDTH)]
    {
        if outputs == 0 {
            net.weights.remove(&format!("{name}.weight"));
            net.weights.remove(&format!("{name}.bias"));
            continue;
        }
        let fits = net
            .weights
            .get(&format!("{name}.weight"))
            .is_some_and(|w| w.shape == [outputs, inputs]);
        if fits {
            continue;
        }
        let values = (0..outputs * inputs).map(|_| 0.04 * (random() - 0.5)).collect();
        net.weights.insert(format!("{name}.weight"), Weight::new(values, vec![outputs, inputs]));
        net.weights.insert(format!("{name}.bias"), Weight::new(vec![0.0; outputs], vec![outputs]));
    }
}

fn linear(pass: &Pass, x: &Tensor, name: &str) -> Result<Tensor> {
    let get = |part: &str| {
        let name = format!("{name}.{part}");
        pass.vars
            .get(&name)
            .ok_or_else(|| candle_core::Error::Msg(format!("no weight named {name}")))
    };
    x.matmul(&get("weight")?.t()?)?.broadcast_add(get("bias")?.as_tensor())
}

/// Logits of the class heads, batch × outputs.
pub fn classes(pass: &Pass) -> Result<Tensor> {
    let pooled = Tensor::cat(&[pass.mean()?, pass.max()?], 1)?;
    linear(pass, &pooled, CLASSES)
}

/// Logits of the tags, batch·length × tags.
pub fn tags(pass: &Pass) -> Result<Tensor> {
    let (size, length, _) = pass.hidden.dims3()?;
    linear(pass, &pass.hidden.reshape((size * length, WIDTH))?, TAGS)
}

fn cross_entropy(logits: &Tensor, wanted: Vec<f32>, total: f32) -> Result<Tensor> {
    let wanted = Tensor::from_vec(wanted, logits.shape(), &Device::Cpu)?;
    let loss = (candle_nn::ops::log_softmax(logits, D::Minus1)? * wanted)?.sum_all()?;
    loss * (-1.0 / f64::from(total))
}

/// The loss of one batch: each head's mean over the samples that know its answer, added up.
pub fn loss(pass: &Pass, samples: &[&Sample], heads: &Heads) -> Result<Tensor> {
    let logits = classes(pass)?;
    let mut sum = Tensor::zeros((), candle_core::DType::F32, &Device::Cpu)?;
    let mut at = 0;
    for (head, width) in heads.widths.iter().copied().enumerate() {
        let own = logits.narrow(1, at, width)?.contiguous()?;
        at += width;
        // A probability is a choice between 0 and its logit.
        let own = if width == 1 { Tensor::cat(&[own.zeros_like()?, own], 1)? } else { own };
        let (wanted, known) = wanted(samples, head, width.max(2), heads.smoothing);
        if known > 0.0 {
            // Few samples that know an answer count less than a batch full of them.
            let part = cross_entropy(&own, wanted, known)?;
            let share = (known / samples.len() as f32).sqrt().min(1.0) * heads.weights[head];
            sum = (sum + (part * f64::from(share))?)?;
        }
    }
    if samples.iter().any(|sample| sample.tags.is_some()) && heads.tags_weight > 0.0 {
        let logits = tags(pass)?;
        let length = logits.dim(0)? / samples.len();
        let mut wanted = vec![0f32; samples.len() * length * heads.tags];
        let mut known = 0.0;
        for (i, sample) in samples.iter().enumerate() {
            for (j, tag) in sample.tags.iter().flatten().enumerate() {
                if *tag >= 0 {
                    wanted[(i * length + j) * heads.tags + *tag as usize] = sample.weight;
                    known += sample.weight;
                }
            }
        }
        sum = (sum
            + (cross_entropy(&logits, wanted, known.max(1.0))? * f64::from(heads.tags_weight))?)?;
    }
    Ok(sum)
}

fn wanted(samples: &[&Sample], head: usize, width: usize, smoothing: f32) -> (Vec<f32>, f32) {
    let mut wanted = vec![0f32; samples.len() * width];
    let mut known = 0.0;
    for (sample, row) in samples.iter().zip(wanted.chunks_exact_mut(width)) {
        match sample.targets.get(head).copied().unwrap_or_default() {
            Target::None => continue,
            Target::Class(class) => {
                row.fill(sample.weight * smoothing / width as f32);
                row[class] += sample.weight * (1.0 - smoothing);
            }
            Target::Share(share) => {
                row[0] = sample.weight * (1.0 - share);
                row[1] = sample.weight * share;
            }
        }
        known += sample.weight;
    }
    (wanted, known)
}

/// One step. Returns the loss.
pub fn step(
    net: &mut Net,
    samples: &[&Sample],
    heads: &Heads,
    pace: Pace,
    dropout: f32,
) -> Result<f32> {
    let batch = Batch::of(&samples.iter().map(|sample| &sample.tokens).collect::<Vec<_>>());
    let pass = net.pass(&batch, dropout)?;
    let loss = loss(&pass, samples, heads)?;
    // Fresh heads learn fast; a word's vector is known from billions of texts and moves slowly.
    net.learn(&batch, &pass, &loss, pace, 10.0, 0.5)?;
    loss.to_scalar()
}
