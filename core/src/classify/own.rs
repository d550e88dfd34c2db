//! A classifier of one's own: any number of classes, learnt from a company's labelled lines.
//!
//! A folder holds `own.json` (classes, how to read the numbers), `own.safetensors` (a row of
//! weights for each feature that was seen) and the manifest. Reads the same features as the fast
//! stage. Knows nothing of how it was learnt (`train::own`) nor of what the classes mean.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use crate::classify::Input;
use crate::classify::fast::{BUCKETS, Features, GROUPS, SIGNS, features};
use crate::classify::heads::{likeliest, softmax};

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
}

/// A loaded classifier of one's own.
#[derive(Clone)]
pub struct Own {
    file: OwnFile,
    weights: Weights,
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
}

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
        Ok(Own { file, weights })
    }

    /// From what was learnt.
    pub fn new(file: OwnFile, weights: Weights) -> Self {
        Own { file, weights }
    }

    /// The classes.
    pub fn labels(&self) -> &[String] {
        &self.file.labels
    }

    /// Reads a text.
    pub fn classify(&self, input: &Input) -> Found {
        let logits = self.weights.logits(&features(input));
        let (class, confidence) = likeliest(&softmax(&logits, self.file.temperature));
        Found {
            label: self.file.labels[class].clone(),
            confidence,
            is_sure: confidence >= self.file.threshold,
        }
    }
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
    pub fn logits(&self, features: &Features) -> Vec<f32> {
        let mut sums = self.bias.clone();
        each(features, |feature, value| {
            let Some(row) = self.index.get(&feature) else { return };
            let from = *row as usize * self.width;
            for (sum, weight) in sums.iter_mut().zip(&self.values[from..from + self.width]) {
                *sum += weight * value;
            }
        });
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
        let tensors = [
            ("features", TensorView::new(Dtype::U32, vec![rows], &features)?),
            ("weights", TensorView::new(Dtype::I8, vec![rows, self.width], &values)?),
            ("steps", TensorView::new(Dtype::F32, vec![self.width], &steps)?),
            ("bias", TensorView::new(Dtype::F32, vec![self.width], &bias)?),
        ];
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
        let fits = weights.shape() == [features.len(), width]
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
        Ok(Weights { width, index, values, bias })
    }
}
