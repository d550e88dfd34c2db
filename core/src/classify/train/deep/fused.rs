//! GELU, layer norm and softmax with their gradients, each in one pass over memory on the CPU.
//!
//! On other devices candle's own operations are composed; the numbers are the same to rounding.

use candle_core::{CpuStorage, CustomOp1, CustomOp3, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// GELU with the error function (Hendrycks and Gimpel 2016, arXiv 1606.08415).
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() { x.contiguous()?.apply_op1(Gelu) } else { x.gelu_erf() }
}

/// Softmax over the last dimension.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() {
        x.contiguous()?.apply_op1(Softmax)
    } else {
        candle_nn::ops::softmax(x, D::Minus1)
    }
}

/// Layer norm over the last dimension of a matrix, epsilon 1e-12 as BERT's.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() {
        return x.contiguous()?.apply_op3(weight, bias, Norm);
    }
    let mean = x.mean_keepdim(D::Minus1)?;
    let centred = x.broadcast_sub(&mean)?;
    let spread = (centred.sqr()?.mean_keepdim(D::Minus1)? + EPSILON as f64)?.sqrt()?;
    centred.broadcast_div(&spread)?.broadcast_mul(weight)?.broadcast_add(bias)
}

const EPSILON: f32 = 1e-12;

/// The error function to 1.5e-7 (Abramowitz and Stegun 7.1.26), and the Gaussian that it needs.
#[inline(always)]
fn erf_and_gauss(x: f32) -> (f32, f32) {
    let a = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * a);
    let gauss = (-a * a).exp();
    let poly = t
        * (0.254_829_6
            + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4))));
    ((1.0 - poly * gauss).copysign(x), gauss)
}

fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let all = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&all[from..to]),
        None => candle_core::bail!("a fused operation needs contiguous numbers"),
    }
}

fn flat(x: &Tensor) -> Result<Vec<f32>> {
    x.flatten_all()?.to_vec1()
}

fn last(shape: &Shape) -> usize {
    shape.dims().last().copied().unwrap_or(1).max(1)
}

/// Rows that one task works on.
const ROWS: usize = 16;

struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        let mut out = vec![0f32; x.len()];
        out.par_chunks_mut(1 << 13).zip(x.par_chunks(1 << 13)).for_each(|(out, x)| {
            for (out, x) in out.iter_mut().zip(x) {
                *out = 0.5 * x * (1.0 + erf_and_gauss(x * std::f32::consts::FRAC_1_SQRT_2).0);
            }
        });
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (x, mut grad_values) = (flat(arg)?, flat(grad)?);
        grad_values.par_chunks_mut(1 << 13).zip(x.par_chunks(1 << 13)).for_each(|(grad, x)| {
            for (grad, x) in grad.iter_mut().zip(x) {
                let (erf, gauss) = erf_and_gauss(x * std::f32::consts::FRAC_1_SQRT_2);
                // d/dx = Φ(x) + x·φ(x), with φ(x) = exp(−x²/2)/√(2π).
                *grad *= 0.5 * (1.0 + erf) + x * gauss * 0.398_942_3;
            }
        });
        Ok(Some(Tensor::from_vec(grad_values, arg.shape(), arg.device())?))
    }
}

struct Softmax;

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        let width = last(layout.shape());
        let mut out = vec![0f32; x.len()];
        out.par_chunks_mut(width * ROWS).zip(x.par_chunks(width * ROWS)).for_each(|(out, x)| {
            for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                let top = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let mut sum = 0.0;
                for (out, x) in out.iter_mut().zip(x) {
                    *out = (x - top).exp();
                    sum += *out;
                }
                out.iter_mut().for_each(|out| *out /= sum);
            }
        });
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, arg: &Tensor, res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let width = last(arg.shape());
        let (y, mut grad_values) = (flat(res)?, flat(grad)?);
        grad_values.par_chunks_mut(width * ROWS).zip(y.par_chunks(width * ROWS)).for_each(
            |(grad, y)| {
                for (grad, y) in grad.chunks_exact_mut(width).zip(y.chunks_exact(width)) {
                    let inner: f32 = grad.iter().zip(y).map(|(g, y)| g * y).sum();
                    grad.iter_mut().zip(y).for_each(|(g, y)| *g = y * (*g - inner));
                }
            },
        );
        Ok(Some(Tensor::from_vec(grad_values, arg.shape(), arg.device())?))
    }
}

struct Norm;

fn moments(x: &[f32]) -> (f32, f32) {
    let count = x.len() as f32;
    let mean = x.iter().sum::<f32>() / count;
    let spread = x.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / count;
    (mean, 1.0 / (spread + EPSILON).sqrt())
}

impl CustomOp3 for Norm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight, bias) =
            (slice(x, x_layout)?, slice(weight, weight_layout)?, slice(bias, bias_layout)?);
        let width = last(x_layout.shape());
        let mut out = vec![0f32; x.len()];
        out.par_chunks_mut(width * ROWS).zip(x.par_chunks(width * ROWS)).for_each(|(out, x)| {
            for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                let (mean, scale) = moments(x);
                for i in 0..width {
                    out[i] = (x[i] - mean) * scale * weight[i] + bias[i];
                }
            }
        });
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _bias: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let width = last(x.shape());
        let (values, scales) = (flat(x)?, flat(weight)?);
        let mut grads = flat(grad)?;
        let empty = || (vec![0f32; width], vec![0f32; width]);
        let (for_weight, for_bias) = grads
            .par_chunks_mut(width * ROWS)
            .zip(values.par_chunks(width * ROWS))
            .fold(empty, |(mut for_weight, mut for_bias), (grad, x)| {
                for (grad, x) in grad.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    norm_back(grad, x, &scales, &mut for_weight, &mut for_bias);
                }
                (for_weight, for_bias)
            })
            .reduce(empty, |mut a, b| {
                a.0.iter_mut().zip(&b.0).for_each(|(a, b)| *a += b);
                a.1.iter_mut().zip(&b.1).for_each(|(a, b)| *a += b);
                a
            });
        let device = x.device();
        Ok((
            Some(Tensor::from_vec(grads, x.shape(), device)?),
            Some(Tensor::from_vec(for_weight, width, device)?),
            Some(Tensor::from_vec(for_bias, width, device)?),
        ))
    }
}

/// One row: the gradient in place, those of weight and bias added up.
fn norm_back(
    grad: &mut [f32],
    x: &[f32],
    weight: &[f32],
    for_weight: &mut [f32],
    for_bias: &mut [f32],
) {
    let width = x.len();
    let (mean, scale) = moments(x);
    let (mut sum, mut inner) = (0.0f32, 0.0f32);
    for i in 0..width {
        let normed = (x[i] - mean) * scale;
        for_weight[i] += grad[i] * normed;
        for_bias[i] += grad[i];
        grad[i] *= weight[i];
        sum += grad[i];
        inner += grad[i] * normed;
    }
    let (sum, inner) = (sum / width as f32, inner / width as f32);
    for i in 0..width {
        let normed = (x[i] - mean) * scale;
        grad[i] = scale * (grad[i] - sum - normed * inner);
    }
}
