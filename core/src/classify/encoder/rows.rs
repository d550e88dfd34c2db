//! The arithmetic between two multiplications, one row of numbers at a time, in vectors as wide
//! as the processor has.
//!
//! Each operation goes over its rows once: what comes out of the multiplication as i32 is scaled,
//! biased, bent and normalised before it leaves the cache. Knows nothing of layers.

use rten_simd::ops::{BitOps, FloatOps, NarrowSaturate, NumOps, ToFloat};
use rten_simd::{Isa, SimdOp, SimdUnaryOp};
use rten_vecmath::{Gelu, MinMax, Softmax};

/// Rows of bytes that stand for rows of numbers: `value = (byte - zero) × scale`.
#[derive(Debug, Default)]
pub struct ByteRows {
    /// Row after row; what lies behind the last row is left from before.
    pub bytes: Vec<u8>,
    /// One for each row.
    pub scales: Vec<f32>,
    /// One for each row.
    pub zeros: Vec<u8>,
}

impl ByteRows {
    /// Takes rows of `width` numbers, each with a scale and a zero of its own, so that one loud
    /// token does not drown the others. `levels` is the largest byte that is used.
    pub fn fill(&mut self, rows: &[f32], width: usize, levels: u8) {
        let count = rows.len() / width;
        self.scales.resize(count, 0.0);
        self.zeros.resize(count, 0);
        let bytes = room(&mut self.bytes, rows.len());
        let (scales, zeros) = (&mut self.scales[..], &mut self.zeros[..]);
        ToBytes { rows, width, levels, bytes, scales, zeros }.dispatch();
    }
}

/// A slice of a buffer that only grows: shrinking and growing it again would clear it each time.
pub fn room<T: Copy + Default>(buffer: &mut Vec<T>, length: usize) -> &mut [T] {
    if buffer.len() < length {
        buffer.resize(length, T::default());
    }
    &mut buffer[..length]
}

/// The crate has this operation too; its closures stay calls, which cost a fifth of all time.
struct ToBytes<'a> {
    rows: &'a [f32],
    width: usize,
    levels: u8,
    bytes: &'a mut [u8],
    scales: &'a mut [f32],
    zeros: &'a mut [u8],
}

impl SimdOp for ToBytes<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let rows = self.rows.chunks_exact(self.width).zip(self.bytes.chunks_exact_mut(self.width));
        let levels = self.zeros.iter_mut().zip(self.scales);
        for ((row, bytes), (zero, scale)) in rows.zip(levels) {
            let (low, high) = MinMax::new(row).eval(isa);
            // Zero must be exact, since GELU makes much that is nearly zero.
            let (low, high) = (low.min(0.0), high.max(0.0));
            *scale = (high - low) / f32::from(self.levels);
            // A row of zeros, or of something that is no number, has nothing to tell.
            if !scale.is_normal() {
                *scale = 1.0;
            }
            let factor = scale.recip();
            *zero = (-low * factor).round_ties_even() as u8;
            to_bytes(isa, row, bytes, factor, i32::from(*zero));
        }
    }
}

#[inline(always)]
fn to_bytes<I: Isa>(isa: I, row: &[f32], bytes: &mut [u8], factor: f32, zero: i32) {
    let (ops, whole, half) = (isa.f32(), isa.i32(), isa.i16());
    let step = ops.len();
    let (factors, zeros) = (ops.splat(factor), whole.splat(zero));
    let mut rows = row.chunks_exact(4 * step);
    let mut places = bytes.chunks_exact_mut(4 * step);
    for (row, place) in rows.by_ref().zip(places.by_ref()) {
        let first = whole.add(ops.to_int_round(ops.mul(ops.load(row), factors)), zeros);
        let second = &row[step..];
        let second = whole.add(ops.to_int_round(ops.mul(ops.load(second), factors)), zeros);
        let third = &row[2 * step..];
        let third = whole.add(ops.to_int_round(ops.mul(ops.load(third), factors)), zeros);
        let fourth = &row[3 * step..];
        let fourth = whole.add(ops.to_int_round(ops.mul(ops.load(fourth), factors)), zeros);
        let low = whole.narrow_saturate(first, second);
        let high = whole.narrow_saturate(third, fourth);
        isa.u8().store(half.narrow_saturate(low, high), place);
    }
    for (value, place) in rows.remainder().iter().zip(places.into_remainder()) {
        let byte = (value * factor).round_ties_even() as i32 + zero;
        *place = byte.clamp(0, 255) as u8;
    }
}

/// What comes out of a multiplication of bytes, and what its sums stand for:
/// `(sum − row zero × column sum) × row scale × column scale + bias`.
#[derive(Clone, Copy)]
pub struct Sums<'a> {
    /// Row after row.
    pub sums: &'a [i32],
    /// One for each row.
    pub row_scales: &'a [f32],
    /// One for each row.
    pub row_zeros: &'a [u8],
    /// One for each column.
    pub column_scales: &'a [f32],
    /// Sum of the weights of each column.
    pub column_sums: &'a [i32],
    /// One for each column.
    pub bias: &'a [f32],
}

impl Sums<'_> {
    fn width(&self) -> usize {
        self.bias.len()
    }

    /// A vector's length of numbers from column `at` of `row`.
    #[inline(always)]
    fn numbers<I: Isa>(&self, isa: I, row: usize, at: usize) -> I::F32 {
        let (ops, whole) = (isa.f32(), isa.i32());
        let place = row * self.width() + at..row * self.width() + at + ops.len();
        let columns = at..at + ops.len();
        let zero = whole.splat(i32::from(self.row_zeros[row]));
        let taken = whole.mul(zero, whole.load(&self.column_sums[columns.clone()]));
        let sums = whole.to_float(whole.sub(whole.load(&self.sums[place]), taken));
        let column_scales = ops.load(&self.column_scales[columns.clone()]);
        let scale = ops.mul(ops.splat(self.row_scales[row]), column_scales);
        ops.mul_add(sums, scale, ops.load(&self.bias[columns]))
    }

    /// One number, for the columns that fill no vector.
    #[inline(always)]
    fn number(&self, row: usize, at: usize) -> f32 {
        let taken = i32::from(self.row_zeros[row]) * self.column_sums[at];
        let sum = self.sums[row * self.width() + at] - taken;
        sum as f32 * self.row_scales[row] * self.column_scales[at] + self.bias[at]
    }
}

/// Sums back to numbers, bent by GELU at once if wished.
pub struct Scale<'a> {
    /// What was multiplied.
    pub sums: Sums<'a>,
    /// Where the numbers go; as long as the sums.
    pub output: &'a mut [f32],
    /// Whether GELU bends them.
    pub gelu: bool,
}

impl SimdOp for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let (width, step) = (self.sums.width(), isa.f32().len());
        let whole = width - width % step;
        for (row, output) in self.output.chunks_exact_mut(width).enumerate() {
            for at in (0..whole).step_by(step) {
                let value = self.sums.numbers(isa, row, at);
                let value = if self.gelu { Gelu {}.eval(isa, value) } else { value };
                isa.f32().store(value, &mut output[at..at + step]);
            }
            for (at, output) in output.iter_mut().enumerate().skip(whole) {
                let value = self.sums.number(row, at);
                *output = if self.gelu { Gelu {}.scalar_eval(value) } else { value };
            }
        }
    }
}

/// Adds what a part of a layer computed to what went into it, and normalises each row.
pub struct AddAndNorm<'a> {
    /// What was multiplied.
    pub sums: Sums<'a>,
    /// What went in; becomes what comes out.
    pub hidden: &'a mut [f32],
    /// How the rows are normalised.
    pub norm: &'a Norm,
}

impl SimdOp for AddAndNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let (width, step) = (self.sums.width(), ops.len());
        let whole = width - width % step;
        for (row, hidden) in self.hidden.chunks_exact_mut(width).enumerate() {
            for at in (0..whole).step_by(step) {
                let value = self.sums.numbers(isa, row, at);
                let place = &mut hidden[at..at + step];
                ops.store(ops.add(value, ops.load(place)), place);
            }
            for (at, place) in hidden.iter_mut().enumerate().skip(whole) {
                *place += self.sums.number(row, at);
            }
            normalize(isa, hidden, self.norm);
        }
    }
}

/// The weights of a LayerNorm.
#[derive(Debug, Clone)]
pub struct Norm {
    /// One for each column.
    pub weight: Vec<f32>,
    /// One for each column.
    pub bias: Vec<f32>,
    /// Added to the variance.
    pub epsilon: f32,
}

/// Normalises each row.
pub struct Normalize<'a> {
    /// Rows, changed where they are.
    pub rows: &'a mut [f32],
    /// How.
    pub norm: &'a Norm,
}

impl SimdOp for Normalize<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        for row in self.rows.chunks_exact_mut(self.norm.weight.len()) {
            normalize(isa, row, self.norm);
        }
    }
}

/// Turns each row of scores into shares that sum to one.
pub fn softmax(rows: &mut [f32], width: usize) {
    for row in rows.chunks_exact_mut(width) {
        Softmax::new_mut(row).dispatch();
    }
}

#[inline(always)]
fn normalize<I: Isa>(isa: I, row: &mut [f32], norm: &Norm) {
    let ops = isa.f32();
    let (width, step) = (row.len(), ops.len());
    let whole = width - width % step;
    let (body, rest) = row.split_at_mut(whole);

    let mut sum = ops.zero();
    for chunk in body.chunks_exact(step) {
        sum = ops.add(sum, ops.load(chunk));
    }
    let mean = (ops.sum(sum) + rest.iter().sum::<f32>()) / width as f32;

    // Two passes: the mean of squares minus the square of the mean would lose what matters.
    let means = ops.splat(mean);
    let mut squares = ops.zero();
    for chunk in body.chunks_exact(step) {
        let off = ops.sub(ops.load(chunk), means);
        squares = ops.mul_add(off, off, squares);
    }
    let rest_squares: f32 = rest.iter().map(|value| (value - mean).powi(2)).sum();
    let variance = (ops.sum(squares) + rest_squares) / width as f32;
    let factor = (variance + norm.epsilon).sqrt().recip();

    let factors = ops.splat(factor);
    let weights = norm.weight.chunks_exact(step).zip(norm.bias.chunks_exact(step));
    for (chunk, (weight, bias)) in body.chunks_exact_mut(step).zip(weights) {
        let off = ops.mul(ops.sub(ops.load(chunk), means), factors);
        ops.store(ops.mul_add(off, ops.load(weight), ops.load(bias)), chunk);
    }
    for (at, value) in (whole..).zip(rest) {
        *value = (*value - mean) * factor * norm.weight[at] + norm.bias[at];
    }
}
