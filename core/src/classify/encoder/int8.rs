//! The encoder on a CPU: int8 multiplications over plain slices, everything between them fused.
//!
//! Weights are int8 per output channel, activations are made bytes row by row as they come. Texts
//! lie behind each other without padding, and attention looks at one text at a time. Why this is
//! no candle graph stands in `docs/adr/0004-int8-on-the-cpu.md`.

use std::sync::{Mutex, PoisonError};

use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_simd::SimdOp;
use rten_tensor::{Matrix, NdTensorView};

use crate::classify::encoder::quantize::{ByteMatrix, Weights};
use crate::classify::encoder::rows::{
    self, AddAndNorm, ByteRows, Norm, Normalize, Scale, Sums, room,
};
use crate::classify::encoder::{Config, EncoderError, Output, Tokens};

/// Rows of the feed-forward part that are computed together: their inner sums and the weights
/// stay in a core's second cache, 2 MB where it was tuned. More rows cost memory and gain nothing.
const BLOCK: usize = 64;

/// Texts are computed together until they have this many tokens, so that short ones share the
/// cost of reading the weights.
const TOGETHER: usize = 128;

/// The model, with its matrices in the order that the processor's instructions want.
pub struct Int8 {
    config: Config,
    embeddings: Embeddings,
    layers: Vec<Layer>,
    classes: Option<Head>,
    tags: Option<Head>,
    // One for each thread that computes at once; taken out while it does, so that the lock is
    // held for a push or a pop only. Fresh memory each time cost a fifth of a short text's time.
    scratch: Mutex<Vec<Scratch>>,
}

/// Who multiplies. Found anew for each pass, which costs nothing: the features of the processor
/// are cached, and the crate's executors may not move between threads.
struct Kernels {
    bytes: GemmExecutor<u8, i8, i32>,
    numbers: GemmExecutor<f32>,
    /// The largest byte of an activation. Without VNNI, x86 adds two products in 16 bits first,
    /// and only 7-bit activations are sure not to overflow there.
    levels: u8,
}

struct Embeddings {
    words: ByteMatrix,
    positions: Vec<f32>,
    types: Vec<f32>,
    shapes: Vec<f32>,
    norm: Norm,
}

struct Layer {
    query_key_value: Linear,
    joined: Linear,
    attention_norm: Norm,
    inner: Linear,
    outer: Linear,
    output_norm: Norm,
}

struct Linear {
    packed: PackedBMatrix<i8>,
    /// Sum of the weights of each output: what the zeros of the bytes have to be multiplied by.
    column_sums: Vec<i32>,
    scales: Vec<f32>,
    bias: Vec<f32>,
}

struct Head {
    packed: PackedBMatrix<f32>,
    bias: Vec<f32>,
}

/// What a forward pass writes on.
#[derive(Default)]
struct Scratch {
    hidden: Vec<f32>,
    bytes: ByteRows,
    sums: Vec<i32>,
    wide: Vec<f32>,
    attended: Vec<f32>,
    scores: Vec<f32>,
    seen: Vec<f32>,
}

impl std::fmt::Debug for Int8 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Int8").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Int8 {
    /// Takes int8 weights.
    ///
    /// # Errors
    /// [`EncoderError::Shape`] when one is missing or is another.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self, EncoderError> {
        config.check()?;
        let kernels = Kernels::found();
        let layers = (0..config.layers)
            .map(|index| Layer::load(config, weights, &kernels, index))
            .collect::<Result<_, _>>()?;
        let head = |name: &str, outputs, inputs| match outputs {
            0 => Ok(None),
            _ => Head::load(weights, &kernels, name, outputs, inputs).map(Some),
        };
        Ok(Int8 {
            embeddings: Embeddings::load(config, weights)?,
            layers,
            classes: head("classes", config.classes, config.pooled_width())?,
            tags: head("tags", config.tags, config.width)?,
            scratch: Mutex::default(),
            config: config.clone(),
        })
    }

    /// The shape it was loaded with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The instructions it found, for `doctor` and benchmarks.
    pub fn instructions(&self) -> String {
        Kernels::found().bytes.kernel_name().to_owned()
    }

    /// Reads several texts.
    ///
    /// # Errors
    /// [`EncoderError::Multiply`], which would be a mistake of ours.
    pub fn forward(&self, batch: &[&Tokens]) -> Result<Vec<Output>, EncoderError> {
        // A poisoned lock only means that a thread panicked elsewhere: the buffers are refilled.
        let taken = self.scratch.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut scratch = taken.unwrap_or_default();
        let kernels = Kernels::found();
        let mut outputs = Vec::with_capacity(batch.len());
        let mut rest = batch;
        while !rest.is_empty() {
            let (group, after) = rest.split_at(first_group(rest));
            self.forward_group(&kernels, group, &mut scratch, &mut outputs)?;
            rest = after;
        }
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
        Ok(outputs)
    }

    fn forward_group(
        &self,
        kernels: &Kernels,
        group: &[&Tokens],
        scratch: &mut Scratch,
        outputs: &mut Vec<Output>,
    ) -> Result<(), EncoderError> {
        self.embeddings.forward(group, &mut scratch.hidden);
        for layer in &self.layers {
            self.attend(kernels, layer, group, scratch)?;
            self.feed_forward(kernels, layer, scratch)?;
        }
        let width = self.config.width;
        let mut rest = scratch.hidden.as_slice();
        for text in group {
            let hidden;
            (hidden, rest) = rest.split_at(text.len() * width);
            outputs.push(self.read_out(kernels, hidden)?);
        }
        Ok(())
    }

    fn read_out(&self, kernels: &Kernels, hidden: &[f32]) -> Result<Output, EncoderError> {
        if hidden.is_empty() {
            return Ok(Output::default());
        }
        let width = self.config.width;
        let pooled = pool(hidden, width);
        let by = |head: &Option<Head>, rows: &[f32], width| match head {
            Some(head) => head.run(kernels, rows, width),
            None => Ok(Vec::new()),
        };
        Ok(Output {
            classes: by(&self.classes, &pooled, pooled.len())?,
            tags: by(&self.tags, hidden, width)?,
            pooled,
        })
    }

    fn attend(
        &self,
        kernels: &Kernels,
        layer: &Layer,
        group: &[&Tokens],
        scratch: &mut Scratch,
    ) -> Result<(), EncoderError> {
        let Scratch { hidden, bytes, sums, wide, attended, scores, seen } = scratch;
        let (width, levels) = (self.config.width, kernels.levels);
        let tokens = hidden.len() / width;

        bytes.fill(hidden, width, levels);
        layer.query_key_value.multiply(kernels, bytes, sums)?;
        let wide = room(wide, tokens * 3 * width);
        layer.query_key_value.scale(sums, bytes, wide, false);

        let attended = room(attended, tokens * width);
        let mut at = 0;
        for text in group {
            let places = at..at + text.len();
            at = places.end;
            if !places.is_empty() {
                let wide = &wide[places.start * 3 * width..places.end * 3 * width];
                let attended = &mut attended[places.start * width..places.end * width];
                self.attend_within(kernels, wide, text.len(), scores, seen, attended)?;
            }
        }

        bytes.fill(attended, width, levels);
        layer.joined.multiply(kernels, bytes, sums)?;
        layer.joined.add_and_norm(sums, bytes, hidden, &layer.attention_norm);
        Ok(())
    }

    /// Attention inside one text. `wide` holds query, key and value of each token side by side;
    /// the query is scaled already.
    fn attend_within(
        &self,
        kernels: &Kernels,
        wide: &[f32],
        tokens: usize,
        scores: &mut Vec<f32>,
        seen: &mut Vec<f32>,
        attended: &mut [f32],
    ) -> Result<(), EncoderError> {
        let (width, of_head) = (self.config.width, self.config.head_width());
        let row = 3 * width;
        let scores = room(scores, tokens * tokens);
        let seen = room(seen, tokens * of_head);
        for head in 0..self.config.heads {
            let from = head * of_head;
            let query = strided(&wide[from..], [tokens, of_head], [row, 1])?;
            let key = strided(&wide[width + from..], [of_head, tokens], [1, row])?;
            let value = strided(&wide[2 * width + from..], [tokens, of_head], [row, 1])?;
            kernels.multiply(scores, query, key)?;
            rows::softmax(scores, tokens);
            kernels.multiply(seen, strided(scores, [tokens, tokens], [tokens, 1])?, value)?;
            let places = attended.chunks_exact_mut(width).zip(seen.chunks_exact(of_head));
            for (place, seen) in places {
                place[from..from + of_head].copy_from_slice(seen);
            }
        }
        Ok(())
    }

    fn feed_forward(
        &self,
        kernels: &Kernels,
        layer: &Layer,
        scratch: &mut Scratch,
    ) -> Result<(), EncoderError> {
        let Scratch { hidden, bytes, sums, wide, .. } = scratch;
        let (width, inner) = (self.config.width, self.config.feed_forward);
        let levels = kernels.levels;
        for hidden in hidden.chunks_mut(BLOCK * width) {
            let rows = hidden.len() / width;
            bytes.fill(hidden, width, levels);
            layer.inner.multiply(kernels, bytes, sums)?;
            let wide = room(wide, rows * inner);
            layer.inner.scale(sums, bytes, wide, true);

            bytes.fill(wide, inner, levels);
            layer.outer.multiply(kernels, bytes, sums)?;
            layer.outer.add_and_norm(sums, bytes, hidden, &layer.output_norm);
        }
        Ok(())
    }
}

/// How many of the first texts are computed together: at least one.
fn first_group(texts: &[&Tokens]) -> usize {
    let mut tokens = 0;
    let fit = texts.iter().take_while(|text| {
        tokens += text.len();
        tokens <= TOGETHER
    });
    fit.count().max(1)
}

/// Mean and maximum over the rows, side by side.
fn pool(hidden: &[f32], width: usize) -> Vec<f32> {
    let mut pooled = vec![0.0; 2 * width];
    let (mean, most) = pooled.split_at_mut(width);
    most.fill(f32::NEG_INFINITY);
    for row in hidden.chunks_exact(width) {
        for ((mean, most), &value) in mean.iter_mut().zip(most.iter_mut()).zip(row) {
            *mean += value;
            *most = most.max(value);
        }
    }
    let tokens = (hidden.len() / width) as f32;
    mean.iter_mut().for_each(|sum| *sum /= tokens);
    pooled
}

impl Kernels {
    fn found() -> Self {
        let bytes = GemmExecutor::new();
        let levels = if bytes.may_saturate() { 127 } else { 255 };
        Kernels { bytes, numbers: GemmExecutor::new(), levels }
    }

    fn multiply(
        &self,
        output: &mut [f32],
        left: Matrix<f32>,
        right: Matrix<f32>,
    ) -> Result<(), EncoderError> {
        let (left, right) = (GemmInputA::Unpacked(left), GemmInputB::Unpacked(right));
        Ok(self.numbers.gemm(output, left, right, GemmOptions::default())?)
    }
}

fn strided(
    data: &[f32],
    shape: [usize; 2],
    strides: [usize; 2],
) -> Result<Matrix<'_, f32>, EncoderError> {
    // The last row of a strided matrix ends before its stride does.
    let needed = (shape[0] - 1) * strides[0] + (shape[1] - 1) * strides[1] + 1;
    NdTensorView::from_data_with_strides(shape, &data[..needed], strides)
        .map_err(|cause| EncoderError::Shape(cause.to_string()))
}

impl Embeddings {
    fn load(config: &Config, weights: &Weights) -> Result<Self, EncoderError> {
        let width = config.width;
        let table = |name: &str, rows| {
            weights.numbers(&format!("embeddings.{name}_embeddings.weight"), &[rows, width])
        };
        let positions =
            weights.matrix("embeddings.position_embeddings.weight", config.positions, width)?;
        let widened = |row: usize| {
            let scale = positions.scales[row];
            positions.row(row).map(move |byte| f32::from(byte) * scale)
        };
        Ok(Embeddings {
            words: weights.matrix("embeddings.word_embeddings.weight", config.vocabulary, width)?,
            positions: (0..positions.rows).flat_map(widened).collect(),
            types: table("token_type", config.types)?,
            shapes: if config.shapes == 0 { Vec::new() } else { table("shape", config.shapes)? },
            norm: norm(config, weights, "embeddings.LayerNorm")?,
        })
    }

    fn forward(&self, group: &[&Tokens], hidden: &mut Vec<f32>) {
        let width = self.words.columns;
        hidden.clear();
        for text in group {
            for at in 0..text.len() {
                let word = text.ids[at] as usize;
                let position = &self.positions[at * width..][..width];
                let of_type = &self.types[usize::from(text.types[at]) * width..][..width];
                let sum = self.words.row(word).zip(position).zip(of_type);
                let scale = self.words.scales[word];
                let begin = hidden.len();
                hidden.extend(
                    sum.map(|((byte, position), of)| f32::from(byte) * scale + position + of),
                );
                if !self.shapes.is_empty() {
                    let shape = &self.shapes[usize::from(text.shapes[at]) * width..][..width];
                    hidden[begin..].iter_mut().zip(shape).for_each(|(sum, shape)| *sum += shape);
                }
            }
        }
        Normalize { rows: hidden, norm: &self.norm }.dispatch();
    }
}

impl Layer {
    fn load(
        config: &Config,
        weights: &Weights,
        kernels: &Kernels,
        index: usize,
    ) -> Result<Self, EncoderError> {
        let (width, inner) = (config.width, config.feed_forward);
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        let linear = |part: &str, outputs, inputs| {
            Linear::load(weights, kernels, &[name(part)], outputs, inputs)
        };
        let parts = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
        let mut query_key_value = Linear::load(weights, kernels, &parts, width, width)?;
        let scale = (config.head_width() as f32).sqrt().recip();
        query_key_value.scales[..width].iter_mut().for_each(|value| *value *= scale);
        query_key_value.bias[..width].iter_mut().for_each(|value| *value *= scale);
        Ok(Layer {
            query_key_value,
            joined: linear("attention.output.dense", width, width)?,
            attention_norm: norm(config, weights, &name("attention.output.LayerNorm"))?,
            inner: linear("intermediate.dense", inner, width)?,
            outer: linear("output.dense", width, inner)?,
            output_norm: norm(config, weights, &name("output.LayerNorm"))?,
        })
    }
}

impl Linear {
    /// Packs one matrix, or several of one shape side by side.
    fn load(
        weights: &Weights,
        kernels: &Kernels,
        names: &[String],
        outputs: usize,
        inputs: usize,
    ) -> Result<Self, EncoderError> {
        let (mut values, mut scales, mut bias) = (Vec::new(), Vec::new(), Vec::new());
        for name in names {
            let mut matrix = weights.matrix(&format!("{name}.weight"), outputs, inputs)?;
            values.extend(matrix.bytes.iter().map(|&byte| byte.cast_signed()));
            scales.append(&mut matrix.scales);
            bias.append(&mut weights.numbers(&format!("{name}.bias"), &[outputs])?);
        }
        let by_output = NdTensorView::from_data([names.len() * outputs, inputs], &values[..]);
        let packed = kernels.bytes.prepack_b(by_output.transposed());
        let sum = |row: &[i8]| row.iter().map(|&weight| i32::from(weight)).sum();
        let column_sums = values.chunks_exact(inputs).map(sum).collect();
        Ok(Linear { packed, column_sums, scales, bias })
    }

    /// Sums of products of bytes. The zeros of the rows are left in: `rten-gemm` 0.27 takes them
    /// away only where all rows have the same (it reads those of the first rows for every tile),
    /// so [`rows::Sums`] does, on its way.
    fn multiply(
        &self,
        kernels: &Kernels,
        input: &ByteRows,
        sums: &mut Vec<i32>,
    ) -> Result<(), EncoderError> {
        let (rows, inputs) = (input.scales.len(), self.packed.rows());
        let left = NdTensorView::from_data([rows, inputs], &input.bytes[..rows * inputs]);
        let sums = room(sums, rows * self.packed.cols());
        let (left, right) = (GemmInputA::Unpacked(left), GemmInputB::Packed(&self.packed));
        Ok(kernels.bytes.gemm(sums, left, right, GemmOptions::default())?)
    }

    fn scale(&self, sums: &[i32], input: &ByteRows, output: &mut [f32], gelu: bool) {
        Scale { sums: self.sums(sums, input), output, gelu }.dispatch();
    }

    fn add_and_norm(&self, sums: &[i32], input: &ByteRows, hidden: &mut [f32], norm: &Norm) {
        AddAndNorm { sums: self.sums(sums, input), hidden, norm }.dispatch();
    }

    fn sums<'a>(&'a self, sums: &'a [i32], input: &'a ByteRows) -> Sums<'a> {
        Sums {
            sums,
            row_scales: &input.scales,
            row_zeros: &input.zeros,
            column_scales: &self.scales,
            column_sums: &self.column_sums,
            bias: &self.bias,
        }
    }
}

impl Head {
    fn load(
        weights: &Weights,
        kernels: &Kernels,
        name: &str,
        outputs: usize,
        inputs: usize,
    ) -> Result<Self, EncoderError> {
        let values = weights.numbers(&format!("heads.{name}.weight"), &[outputs, inputs])?;
        let by_output = NdTensorView::from_data([outputs, inputs], &values[..]);
        Ok(Head {
            packed: kernels.numbers.prepack_b(by_output.transposed()),
            bias: weights.numbers(&format!("heads.{name}.bias"), &[outputs])?,
        })
    }

    fn run(&self, kernels: &Kernels, rows: &[f32], width: usize) -> Result<Vec<f32>, EncoderError> {
        let left = NdTensorView::from_data([rows.len() / width, width], rows);
        let mut logits = vec![0.0; rows.len() / width * self.bias.len()];
        let options =
            GemmOptions { bias: Some(BiasVector::Row(&self.bias)), ..GemmOptions::default() };
        let (left, right) = (GemmInputA::Unpacked(left), GemmInputB::Packed(&self.packed));
        kernels.numbers.gemm(&mut logits, left, right, options)?;
        Ok(logits)
    }
}

fn norm(config: &Config, weights: &Weights, name: &str) -> Result<Norm, EncoderError> {
    Ok(Norm {
        weight: weights.numbers(&format!("{name}.weight"), &[config.width])?,
        bias: weights.numbers(&format!("{name}.bias"), &[config.width])?,
        epsilon: config.epsilon as f32,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The crate's products are taken on trust nowhere: whatever instructions this machine
        /// has, they must be what paper and pencil give.
        #[test]
        fn products_of_bytes_are_exact(
            (rows, inputs, outputs) in (1usize..80, 1usize..200, 1usize..120),
            seed: u64,
        ) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            };
            let kernels = Kernels::found();
            let levels = kernels.levels;
            let weights: Vec<i8> = (0..inputs * outputs).map(|_| next().cast_signed().max(-127)).collect();
            let bytes: Vec<u8> = (0..rows * inputs).map(|_| next().min(levels)).collect();
            let by_output = NdTensorView::from_data([outputs, inputs], &weights[..]);
            let packed = kernels.bytes.prepack_b(by_output.transposed());
            let column_sums = weights.chunks_exact(inputs).map(|row| row.iter().map(|&w| i32::from(w)).sum()).collect();
            let linear = Linear { packed, column_sums, scales: vec![1.0; outputs], bias: vec![0.0; outputs] };
            let zeros: Vec<u8> = (0..rows).map(|_| next()).collect();
            let input = ByteRows { bytes, scales: vec![1.0; rows], zeros };

            let mut sums = Vec::new();
            linear.multiply(&kernels, &input, &mut sums).unwrap();
            let mut numbers = vec![0.0; sums.len()];
            linear.scale(&sums, &input, &mut numbers, false);
            for row in 0..rows {
                for output in 0..outputs {
                    let left = &input.bytes[row * inputs..][..inputs];
                    let right = &weights[output * inputs..][..inputs];
                    let zero = i32::from(input.zeros[row]);
                    let exact: i32 = left.iter().zip(right).map(|(&byte, &weight)| (i32::from(byte) - zero) * i32::from(weight)).sum();
                    let number = numbers[row * outputs + output];
                    prop_assert!((number - exact as f32).abs() <= 1.0, "{number} instead of {exact}");
                }
            }
        }
    }
}
