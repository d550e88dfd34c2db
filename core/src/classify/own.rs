//! A classifier of one's own: any number of classes, learnt from a company's labelled lines.
//!
//! A folder holds `own.json` (classes, how to read the numbers), `own.safetensors` (a row of
//! weights for each feature that was seen, and for each number of the encoder's vector) and the
//! manifest. Reads the same features as the fast stage, and what the encoder makes of the text
//! where it was learnt with one. Knows nothing of how it was learnt (`train::own`) nor of what
//! the classes mean.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use crate::classify::Input;
use crate::classify::deep::{Deep, DeepError, DeepFiles};
use crate::classify::fast::{BUCKETS, Features, GROUPS, SIGNS, features};
use crate::classify::heads::{likeliest, softmax};
use crate::classify::plain::is_noise;

/// Rows that a feature may have: hashed ones first, then signs.
pub const ROWS: usize = BUCKETS + SIGNS;

/// `own.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OwnFile {
    /// 1.
    pub version: u32,
    /// The classes, in the order of the columns.
    pub labels: Vec<String>,
    /// Divides the numbers before they become probabilities.
    pub temperature: f32,
    /// Below this confidence nothing is said.
    pub threshold: f32,
    /// The encoder whose vectors were learnt from, by the SHA-256 of its weights; `None`: words
    /// alone.
    #[serde(default)]
    pub encoder: Option<String>,
}

/// A loaded classifier of one's own.
#[derive(Clone)]
pub struct Own {
    file: OwnFile,
    weights: Weights,
    /// An encoder of its own, where one was tuned.
    tuned: Option<Arc<Deep>>,
}

impl std::fmt::Debug for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Own").field("classes", &self.file.labels.len()).finish_non_exhaustive()
    }
}

/// A row of weights for each feature that was seen, and none for others.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Weights {
    /// Columns: one a class.
    pub width: usize,
    /// By feature: its row.
    pub index: HashMap<u32, u32>,
    /// Rows of `width`.
    pub values: Vec<f32>,
    /// Of `width`.
    pub bias: Vec<f32>,
    /// What is made of the encoder's vector, where it was learnt with one.
    pub dense: Option<Dense>,
}

/// A row of weights for each number of the encoder's vector.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dense {
    /// Taken off each number: its mean over the lines that were learnt from.
    pub center: Vec<f32>,
    /// What is left is multiplied by this: one over its spread.
    pub scale: Vec<f32>,
    /// Rows of the weights' width.
    pub values: Vec<f32>,
}

impl Dense {
    /// Nothing learnt yet of vectors such as these.
    pub fn of(vectors: &[&[f32]], width: usize) -> Option<Self> {
        let length = vectors.first()?.len();
        let count = vectors.len() as f32;
        let mut center = vec![0.0; length];
        let mut squares = vec![0.0; length];
        for vector in vectors {
            for ((sum, square), value) in center.iter_mut().zip(&mut squares).zip(*vector) {
                *sum += value / count;
                *square += value * value / count;
            }
        }
        let spread = |(mean, square): (&f32, f32)| (square - mean * mean).max(1e-6).sqrt();
        let scale = center.iter().zip(squares).map(spread).map(|s| DENSE_WEIGHT / s).collect();
        Some(Dense { center, scale, values: vec![0.0; length * width] })
    }

    /// The vector as it is read.
    pub fn read(&self, vector: &[f32]) -> Vec<f32> {
        let scales = self.center.iter().zip(&self.scale);
        vector.iter().zip(scales).map(|(value, (mean, scale))| (value - mean) * scale).collect()
    }
}

/// What a number of the vector counts beside a piece of a word: seven hundred of them together
/// about as much as all words.
const DENSE_WEIGHT: f32 = 0.08;

/// What it says of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The likeliest class.
    pub label: String,
    /// How sure, 0…1, calibrated.
    pub confidence: f32,
    /// Whether that is enough: below the threshold a rule must not rely on it.
    pub is_sure: bool,
}

/// Why a folder is no classifier.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// A file is missing or cannot be read.
    #[error("could not read {path}; `stellwerk train --data FILE --out DIR` makes it")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// A file holds something else.
    #[error("{path} is damaged: {what}; train again")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// Names of its files.
pub const FILES: [&str; 2] = ["own.json", "own.safetensors"];

impl Own {
    /// Reads a folder that `train` wrote.
    ///
    /// # Errors
    /// [`OwnError`] names the file and the way out.
    pub fn load(folder: &Path) -> Result<Self, OwnError> {
        Self::load_on(folder, "auto")
    }

    /// The same with the device that an encoder of its own is to compute on.
    ///
    /// # Errors
    /// As [`Own::load`].
    pub fn load_on(folder: &Path, device: &str) -> Result<Self, OwnError> {
        let [described, weights] = FILES.map(|name| folder.join(name));
        let read = |path: &Path| {
            std::fs::read(path).map_err(|cause| OwnError::Read { path: path.to_owned(), cause })
        };
        let damaged = |path: &Path, what: String| OwnError::Damaged { path: path.to_owned(), what };
        let file: OwnFile = serde_json::from_slice(&read(&described)?)
            .map_err(|error| damaged(&described, error.to_string()))?;
        let is_sound = file.version == 1
            && file.labels.len() >= 2
            && file.temperature.is_finite()
            && file.temperature > 0.0
            && (0.0..=1.0).contains(&file.threshold);
        if !is_sound {
            return Err(damaged(&described, "it does not fit this version".to_owned()));
        }
        let bytes = read(&weights)?;
        let weights = Weights::from_bytes(&bytes, file.labels.len())
            .map_err(|what| damaged(&folder.join(FILES[1]), what))?;
        if weights.dense.is_some() != file.encoder.is_some() {
            let what = "its two files are not of one training".to_owned();
            return Err(damaged(&described, what));
        }
        let tuned = tuned(folder, device)?.map(Arc::new);
        if let Some(deep) = &tuned
            && file.encoder.as_deref() != Some(deep.id())
        {
            let what = "its encoder is of another training".to_owned();
            return Err(damaged(&folder.join(TUNED[1]), what));
        }
        Ok(Own { file, weights, tuned })
    }

    /// The classes.
    pub fn labels(&self) -> &[String] {
        &self.file.labels
    }

    /// The house's encoder that it needs, by the SHA-256 of its weights; `None` where words will
    /// do or it has one of its own.
    pub fn encoder(&self) -> Option<&str> {
        self.file.encoder.as_deref().filter(|_| self.tuned.is_none())
    }

    /// Whether an answer takes microseconds.
    pub fn is_quick(&self) -> bool {
        self.file.encoder.is_none()
    }

    /// Reads a text with the house's encoder's vector of it. Without the vector that it was learnt
    /// with it still names the likeliest class, by the words alone, and is not sure of it.
    pub fn classify(&self, input: &Input, vector: Option<&[f32]>) -> Found {
        let own = self.tuned.as_ref().and_then(|deep| deep.vector(input));
        let vector = if self.tuned.is_some() { own.as_deref() } else { vector };
        let logits = self.weights.logits(&features(input), vector);
        let (class, confidence) = likeliest(&softmax(&logits, self.file.temperature));
        // Noise has no vector, and was learnt without one.
        let has_read_all =
            self.weights.dense.is_none() || vector.is_some() || is_noise(&input.text);
        Found {
            label: self.file.labels[class].clone(),
            confidence,
            is_sure: has_read_all && confidence >= self.file.threshold,
        }
    }
}

/// Names of a tuned encoder's files.
pub const TUNED: [&str; 3] = ["encoder.json", "encoder.safetensors", "vocab.txt"];

/// The encoder that lies beside a classifier, if one does.
fn tuned(folder: &Path, device: &str) -> Result<Option<Deep>, OwnError> {
    let [config, weights, vocabulary] = TUNED.map(|name| folder.join(name));
    if !weights.exists() {
        return Ok(None);
    }
    let read = |path: &Path| match std::fs::read(path) {
        Ok(bytes) => Ok(bytes.into()),
        Err(cause) => Err(OwnError::Read { path: path.to_owned(), cause }),
    };
    let (config, vocabulary) = (read(&config)?, read(&vocabulary)?);
    let files = DeepFiles { config, weights: read(&weights)?, vocabulary };
    let damaged = |error: DeepError| OwnError::Damaged { path: weights, what: error.to_string() };
    Deep::load_headless(&files, device).map(Some).map_err(damaged)
}

/// How much each group counts here, and the signs last: with a few dozen lines a class, shape and
/// place say little that words do not (measured on Banking77: 0.893 with all alike, 0.902 so).
const GROUP_WEIGHTS: [f32; GROUPS] = [1.0, 1.0, 0.5, 1.0, 1.0];
const SIGN_WEIGHT: f32 = 0.1;

/// Every feature of a text with its value.
pub fn each(features: &Features, mut take: impl FnMut(u32, f32)) {
    for (group, share) in GROUP_WEIGHTS.iter().enumerate() {
        let weight = features.weight(group) * share;
        features.hashed[group].iter().for_each(|row| take(u32::from(*row), weight));
    }
    let weight = features.sign_weight() * SIGN_WEIGHT;
    let first = BUCKETS as u32;
    features.signs.iter().for_each(|row| take(first + u32::from(*row), weight));
}

impl Weights {
    /// Nothing learnt yet.
    pub fn new(width: usize) -> Self {
        Weights { width, bias: vec![0.0; width], ..Weights::default() }
    }

    /// One number a class.
    pub fn logits(&self, features: &Features, vector: Option<&[f32]>) -> Vec<f32> {
        let mut sums = self.bias.clone();
        each(features, |feature, value| {
            let Some(row) = self.index.get(&feature) else { return };
            let from = *row as usize * self.width;
            for (sum, weight) in sums.iter_mut().zip(&self.values[from..from + self.width]) {
                *sum += weight * value;
            }
        });
        if let (Some(dense), Some(vector)) = (&self.dense, vector) {
            for (value, row) in dense.read(vector).iter().zip(dense.values.chunks(self.width)) {
                for (sum, weight) in sums.iter_mut().zip(row) {
                    *sum += weight * value;
                }
            }
        }
        sums
    }

    /// The row of a feature, made where there is none; where it begins in `values`.
    pub fn row(&mut self, feature: u32) -> usize {
        let next = self.index.len() as u32;
        let row = *self.index.entry(feature).or_insert(next);
        if row == next {
            self.values.resize((next as usize + 1) * self.width, 0.0);
        }
        row as usize * self.width
    }

    /// As a safetensors file with int8 weights.
    ///
    /// # Errors
    /// What the library says; a sound table is always written.
    pub fn to_bytes(&self) -> Result<Vec<u8>, safetensors::SafeTensorError> {
        let mut steps = vec![f32::MIN_POSITIVE; self.width];
        for row in self.values.chunks_exact(self.width) {
            for (step, weight) in steps.iter_mut().zip(row) {
                *step = step.max(weight.abs() / 127.0);
            }
        }
        let small = |(at, weight): (usize, &f32)| {
            ((weight / steps[at % self.width]).round() as i8).cast_unsigned()
        };
        let values: Vec<u8> = self.values.iter().enumerate().map(small).collect();
        let mut features: Vec<(u32, u32)> = self.index.iter().map(|(f, row)| (*row, *f)).collect();
        features.sort_unstable();
        let features: Vec<u8> = features.iter().flat_map(|(_, f)| f.to_le_bytes()).collect();
        let floats = |values: &[f32]| -> Vec<u8> {
            values.iter().flat_map(|value| value.to_le_bytes()).collect()
        };
        let (steps, bias) = (floats(&steps), floats(&self.bias));
        let rows = self.index.len();
        let mut tensors = vec![
            ("features", TensorView::new(Dtype::U32, vec![rows], &features)?),
            ("weights", TensorView::new(Dtype::I8, vec![rows, self.width], &values)?),
            ("steps", TensorView::new(Dtype::F32, vec![self.width], &steps)?),
            ("bias", TensorView::new(Dtype::F32, vec![self.width], &bias)?),
        ];
        let dense = self.dense.as_ref().map(|dense| {
            [("center", &dense.center), ("scale", &dense.scale), ("dense", &dense.values)]
                .map(|(name, values)| (name, floats(values)))
        });
        for (name, bytes) in dense.iter().flatten() {
            tensors.push((*name, TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes)?));
        }
        safetensors::serialize(tensors, None)
    }

    /// Reads what [`Weights::to_bytes`] wrote; what is wrong, in words, where it is something else.
    ///
    /// # Errors
    /// A sentence about the damage.
    pub fn from_bytes(bytes: &[u8], width: usize) -> Result<Self, String> {
        let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
        let tensor = |name: &str| file.tensor(name).map_err(|error| error.to_string());
        let floats = |bytes: &[u8]| -> Vec<f32> {
            bytes
                .chunks_exact(4)
                .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
                .collect()
        };
        let features: Vec<u32> = tensor("features")?
            .data()
            .chunks_exact(4)
            .map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            .collect();
        let weights = tensor("weights")?;
        let (steps, bias) = (floats(tensor("steps")?.data()), floats(tensor("bias")?.data()));
        let part = |name: &str| file.tensor(name).ok().map(|tensor| floats(tensor.data()));
        let dense = match (part("center"), part("scale"), part("dense")) {
            (Some(center), Some(scale), Some(values)) => Some(Dense { center, scale, values }),
            _ => None,
        };
        let dense_fits = dense.as_ref().is_none_or(|dense| {
            let values = dense.center.iter().chain(&dense.scale).chain(&dense.values);
            dense.scale.len() == dense.center.len()
                && dense.values.len() == dense.center.len() * width
                && values.into_iter().all(|value| value.is_finite())
        });
        let fits = dense_fits
            && weights.shape() == [features.len(), width]
            && weights.dtype() == Dtype::I8
            && steps.len() == width
            && bias.len() == width
            && steps.iter().chain(&bias).all(|value| value.is_finite());
        if !fits {
            return Err("it holds another number of classes or features".to_owned());
        }
        let value = |(at, byte): (usize, &u8)| f32::from(byte.cast_signed()) * steps[at % width];
        let values = weights.data().iter().enumerate().map(value).collect();
        let index = features.into_iter().zip(0..).collect();
        Ok(Weights { width, index, values, bias, dense })
    }
}
