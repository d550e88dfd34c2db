//! AdamW on the host's memory (Loshchilov and Hutter 2019, arXiv 1711.05101).
//!
//! Weights live as plain vectors, so that a step is one pass over them, and the embedding table is
//! updated only in the rows that a batch has read.

use rayon::prelude::*;

/// How fast is learned.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Learning rate of this step.
    pub rate: f32,
    /// Weight decay, decoupled.
    pub decay: f32,
    /// Which step it is, from 1.
    pub step: u32,
}

/// A weight with its two moments.
#[derive(Debug, Clone)]
pub struct Weight {
    /// The numbers, row after row.
    pub values: Vec<f32>,
    /// Their shape.
    pub shape: Vec<usize>,
    first: Vec<f32>,
    second: Vec<f32>,
    /// For a table: how often each row was updated, since rows have steps of their own.
    steps: Vec<u32>,
}

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.98;
const EPSILON: f32 = 1e-8;

impl Weight {
    /// A weight that has not been updated yet.
    pub fn new(values: Vec<f32>, shape: Vec<usize>) -> Self {
        debug_assert_eq!(values.len(), shape.iter().product::<usize>());
        Weight {
            first: vec![0.0; values.len()],
            second: vec![0.0; values.len()],
            steps: Vec::new(),
            values,
            shape,
        }
    }

    /// One step with a gradient of the same shape.
    pub fn update(&mut self, gradient: &[f32], pace: Pace) {
        self.values
            .par_chunks_mut(1 << 15)
            .zip(self.first.par_chunks_mut(1 << 15))
            .zip(self.second.par_chunks_mut(1 << 15))
            .zip(gradient.par_chunks(1 << 15))
            .for_each(|(((values, first), second), gradient)| {
                step(values, first, second, gradient, pace)
            });
    }

    /// One step of the rows `ids` (each at most once) with their gradients, `ids.len()` × width.
    pub fn update_rows(&mut self, ids: &[u32], gradient: &[f32], pace: Pace) {
        let width = self.shape[1];
        self.steps.resize(self.shape[0], 0);
        for (id, gradient) in ids.iter().zip(gradient.chunks_exact(width)) {
            let row = *id as usize;
            self.steps[row] += 1;
            let range = row * width..(row + 1) * width;
            let pace = Pace { step: self.steps[row], ..pace };
            step(
                &mut self.values[range.clone()],
                &mut self.first[range.clone()],
                &mut self.second[range],
                gradient,
                pace,
            );
        }
    }

    /// The rows `ids`, one after the other.
    pub fn rows(&self, ids: &[u32]) -> Vec<f32> {
        let width = self.shape[1];
        ids.iter().flat_map(|id| &self.values[*id as usize * width..][..width]).copied().collect()
    }
}

fn step(values: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32], pace: Pace) {
    let fix1 = 1.0 / (1.0 - BETA1.powi(pace.step as i32));
    let fix2 = 1.0 / (1.0 - BETA2.powi(pace.step as i32));
    for (((value, first), second), gradient) in
        values.iter_mut().zip(first).zip(second).zip(gradient)
    {
        *first = BETA1 * *first + (1.0 - BETA1) * gradient;
        *second = BETA2 * *second + (1.0 - BETA2) * gradient * gradient;
        let moved = *first * fix1 / ((*second * fix2).sqrt() + EPSILON);
        *value -= pace.rate * (moved + pace.decay * *value);
    }
}
