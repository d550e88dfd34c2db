//! Weights as int8: what the shipped file holds, and how it is made and read.
//!
//! The big matrices and the word and position embeddings are int8 with one f32 scale for each
//! row (an output channel, or a word), under `NAME` and `NAME_scale`. Norms, biases, the small
//! embeddings and the heads stay f32. Everything keeps Hugging Face's names for a BERT.

use std::collections::HashMap;

use bytes::Bytes;
use candle_core::{Device, Tensor};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::classify::encoder::{Config, EncoderError};

/// The largest value of a weight. −128 is left out so that both signs reach equally far.
const LARGEST: f32 = 127.0;

/// A matrix of int8 with a scale for each row.
#[derive(Debug, Clone)]
pub struct ByteMatrix {
    /// Row after row, each byte an i8.
    pub bytes: Bytes,
    /// `value = byte × scale`, one for each row.
    pub scales: Vec<f32>,
    /// Rows: outputs, or words.
    pub rows: usize,
    /// Columns: inputs, or the width.
    pub columns: usize,
}

impl ByteMatrix {
    /// One row, as signed bytes.
    pub fn row(&self, row: usize) -> impl Iterator<Item = i8> {
        self.bytes[row * self.columns..][..self.columns].iter().map(|&byte| byte.cast_signed())
    }
}

/// Makes the file that ships from f32 weights in safetensors format. The same weights give the
/// same bytes. Tensors that the model has not (position ids, a pooler) are left out.
///
/// # Errors
/// [`EncoderError`] when a tensor is missing, is not f32 or has another shape.
pub fn quantize(config: &Config, weights: &[u8]) -> Result<Vec<u8>, EncoderError> {
    config.check()?;
    let weights = Weights::read(Bytes::copy_from_slice(weights))?;
    let mut parts: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, shape) in tensors(config) {
        let values = weights.numbers(&name, &shape)?;
        if !is_big(&name) {
            parts.push((name, Dtype::F32, shape, little_endian(&values)));
            continue;
        }
        let (bytes, scales) = rows_to_bytes(&values, shape[1]);
        parts.push((format!("{name}_scale"), Dtype::F32, vec![shape[0]], little_endian(&scales)));
        parts.push((name, Dtype::I8, shape, bytes));
    }
    let views = parts
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes)?))
        })
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    Ok(safetensors::serialize(views, None)?)
}

/// A weights file, read but not copied.
pub struct Weights {
    file: Bytes,
    places: HashMap<String, (Dtype, Vec<usize>, Bytes)>,
}

impl Weights {
    /// Reads the directory of a safetensors file.
    ///
    /// # Errors
    /// [`EncoderError::Weights`] when it is damaged.
    pub fn read(file: Bytes) -> Result<Self, EncoderError> {
        let read = SafeTensors::deserialize(&file)?;
        let places = read
            .iter()
            .map(|(name, view)| {
                let place = (view.dtype(), view.shape().to_vec(), file.slice_ref(view.data()));
                (name.to_owned(), place)
            })
            .collect();
        Ok(Weights { places, file })
    }

    /// Whether the big matrices are int8.
    pub fn are_int8(&self) -> bool {
        self.places.values().any(|(dtype, ..)| *dtype == Dtype::I8)
    }

    /// The whole file.
    pub fn file(&self) -> &[u8] {
        &self.file
    }

    /// An f32 tensor.
    ///
    /// # Errors
    /// [`EncoderError::Shape`] when it is missing or is another.
    pub fn numbers(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, EncoderError> {
        let bytes = self.place(name, Dtype::F32, shape)?;
        let numbers = bytes.as_chunks::<4>().0.iter();
        Ok(numbers.map(|&four| f32::from_le_bytes(four)).collect())
    }

    /// An int8 matrix and its scales.
    ///
    /// # Errors
    /// As [`Weights::numbers`].
    pub fn matrix(
        &self,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<ByteMatrix, EncoderError> {
        let bytes = self.place(name, Dtype::I8, &[rows, columns])?.clone();
        let scales = self.numbers(&format!("{name}_scale"), &[rows])?;
        Ok(ByteMatrix { bytes, scales, rows, columns })
    }

    /// All tensors as f32 on a device, for a back end that has no int8 path of ours.
    ///
    /// # Errors
    /// As [`Weights::numbers`], or what the device says.
    pub fn widened(
        &self,
        config: &Config,
        device: &Device,
    ) -> Result<HashMap<String, Tensor>, EncoderError> {
        let mut widened = HashMap::new();
        for (name, shape) in tensors(config) {
            let values = if is_big(&name) {
                let matrix = self.matrix(&name, shape[0], shape[1])?;
                let scaled = |row: usize| {
                    let scale = matrix.scales[row];
                    matrix.row(row).map(move |byte| f32::from(byte) * scale)
                };
                (0..matrix.rows).flat_map(scaled).collect()
            } else {
                self.numbers(&name, &shape)?
            };
            widened.insert(name, Tensor::from_vec(values, shape, device)?);
        }
        Ok(widened)
    }

    fn place(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&Bytes, EncoderError> {
        let wrong = |why: String| EncoderError::Shape(format!("{name} {why}"));
        let (found, has, bytes) =
            self.places.get(name).ok_or_else(|| wrong("is missing".to_owned()))?;
        if *found != dtype || has != shape {
            return Err(wrong(format!("is {found:?} {has:?} instead of {dtype:?} {shape:?}")));
        }
        Ok(bytes)
    }
}

/// The names of all tensors of a model and their shapes.
pub fn tensors(config: &Config) -> Vec<(String, Vec<usize>)> {
    let (width, inner) = (config.width, config.feed_forward);
    let mut all: Vec<(String, Vec<usize>)> = Vec::new();
    let mut add = |name: String, shape: &[usize]| all.push((name, shape.to_vec()));
    let tables = [
        ("word", config.vocabulary),
        ("position", config.positions),
        ("token_type", config.types),
        ("shape", config.shapes),
    ];
    for (table, rows) in tables.into_iter().filter(|(_, rows)| *rows > 0) {
        add(format!("embeddings.{table}_embeddings.weight"), &[rows, width]);
    }
    add("embeddings.LayerNorm.weight".to_owned(), &[width]);
    add("embeddings.LayerNorm.bias".to_owned(), &[width]);
    for index in 0..config.layers {
        let linears = [
            ("attention.self.query", width, width),
            ("attention.self.key", width, width),
            ("attention.self.value", width, width),
            ("attention.output.dense", width, width),
            ("intermediate.dense", inner, width),
            ("output.dense", width, inner),
        ];
        for (part, outputs, inputs) in linears {
            add(format!("encoder.layer.{index}.{part}.weight"), &[outputs, inputs]);
            add(format!("encoder.layer.{index}.{part}.bias"), &[outputs]);
        }
        for part in ["attention.output.LayerNorm", "output.LayerNorm"] {
            add(format!("encoder.layer.{index}.{part}.weight"), &[width]);
            add(format!("encoder.layer.{index}.{part}.bias"), &[width]);
        }
    }
    let heads = [("classes", config.classes, config.pooled_width()), ("tags", config.tags, width)];
    for (head, outputs, inputs) in heads.into_iter().filter(|(_, outputs, _)| *outputs > 0) {
        add(format!("heads.{head}.weight"), &[outputs, inputs]);
        add(format!("heads.{head}.bias"), &[outputs]);
    }
    all
}

/// Whether a tensor is kept as int8. The heads are small and decide everything, so they are not.
fn is_big(name: &str) -> bool {
    let is_table = name.contains("word_embeddings") || name.contains("position_embeddings");
    let is_linear = name.starts_with("encoder.layer.") && !name.contains("LayerNorm");
    name.ends_with(".weight") && (is_table || is_linear)
}

fn rows_to_bytes(values: &[f32], columns: usize) -> (Vec<u8>, Vec<f32>) {
    let mut bytes = Vec::with_capacity(values.len());
    let mut scales = Vec::with_capacity(values.len() / columns);
    for row in values.chunks_exact(columns) {
        let largest = row.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let scale = if largest > 0.0 { largest / LARGEST } else { 1.0 };
        bytes.extend(row.iter().map(|value| ((value / scale).round() as i8).cast_unsigned()));
        scales.push(scale);
    }
    (bytes, scales)
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
