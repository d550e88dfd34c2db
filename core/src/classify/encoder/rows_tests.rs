//! The vector operations against the plainest way to write them.

use proptest::prelude::*;
use rten_simd::SimdOp;

use crate::classify::encoder::rows::{AddAndNorm, ByteRows, Norm, Normalize, Scale, Sums};

fn erf(x: f64) -> f64 {
    // Beyond four it is one to seven digits, and the series would drown in its own terms.
    if x.abs() > 4.0 {
        return x.signum();
    }
    let mut term = x;
    let mut sum = x;
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    2.0 / std::f64::consts::PI.sqrt() * sum
}

fn gelu(x: f32) -> f32 {
    let x = f64::from(x);
    (0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2))) as f32
}

fn norm_of(row: &[f32], norm: &Norm) -> Vec<f32> {
    let count = row.len() as f64;
    let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count;
    let factor = (variance + f64::from(norm.epsilon)).sqrt().recip();
    let weights = norm.weight.iter().zip(&norm.bias);
    row.iter()
        .zip(weights)
        .map(|(&x, (&w, &b))| ((f64::from(x) - mean) * factor) as f32 * w + b)
        .collect()
}

fn near(left: &[f32], right: &[f32]) -> Result<(), TestCaseError> {
    prop_assert_eq!(left.len(), right.len());
    for (left, right) in left.iter().zip(right) {
        prop_assert!((left - right).abs() <= 1e-4 * right.abs().max(1.0), "{left} and {right}");
    }
    Ok(())
}

/// Rows of 1 to 70 columns, so that whole vectors and what is left over both occur.
fn table() -> impl Strategy<Value = (usize, Vec<f32>)> {
    (1usize..70, 1usize..4).prop_flat_map(|(width, rows)| {
        (Just(width), prop::collection::vec(-30.0f32..30.0, width * rows))
    })
}

proptest! {
    #[test]
    fn bytes_stand_for_the_numbers_they_came_from((width, rows) in table(), levels in prop_oneof![Just(127u8), Just(255)]) {
        let mut bytes = ByteRows::default();
        bytes.fill(&rows, width, levels);
        for (index, row) in rows.chunks(width).enumerate() {
            let (scale, zero) = (bytes.scales[index], f32::from(bytes.zeros[index]));
            for (value, &byte) in row.iter().zip(&bytes.bytes[index * width..]) {
                let back = (f32::from(byte) - zero) * scale;
                prop_assert!((back - value).abs() <= scale * 1.01, "{value} came back as {back}");
                prop_assert!(byte <= levels.saturating_add(1));
            }
        }
    }

    #[test]
    fn sums_are_scaled_biased_and_bent((width, rows) in table(), gelu_too: bool) {
        let sums: Vec<i32> = rows.iter().map(|value| (value * 1000.0) as i32).collect();
        let row_scales: Vec<f32> = (1..).map(|row| row as f32 * 1e-4).take(rows.len() / width).collect();
        let column_scales: Vec<f32> = (0..width).map(|at| 1.0 + at as f32 * 0.01).collect();
        let bias: Vec<f32> = (0..width).map(|at| at as f32 * 0.02 - 0.5).collect();
        let row_zeros: Vec<u8> = (0..rows.len() / width).map(|row| (row * 40) as u8).collect();
        let column_sums: Vec<i32> = (0..width).map(|at| at as i32 * 3 - 7).collect();
        let all = Sums {
            sums: &sums,
            row_scales: &row_scales,
            row_zeros: &row_zeros,
            column_scales: &column_scales,
            column_sums: &column_sums,
            bias: &bias,
        };
        let mut output = vec![0.0; rows.len()];
        Scale { sums: all, output: &mut output, gelu: gelu_too }.dispatch();
        let unbent = |(at, &sum): (usize, &i32)| {
            let (row, column) = (at / width, at % width);
            let sum = sum - i32::from(row_zeros[row]) * column_sums[column];
            sum as f32 * row_scales[row] * column_scales[column] + bias[column]
        };
        let unbent: Vec<f32> = sums.iter().enumerate().map(unbent).collect();
        let bend = |&value: &f32| if gelu_too { gelu(value) } else { value };
        near(&output, &unbent.iter().map(bend).collect::<Vec<_>>())?;

        let norm = Norm { weight: column_scales.clone(), bias: bias.clone(), epsilon: 1e-6 };
        let mut hidden = rows.clone();
        AddAndNorm { sums: all, hidden: &mut hidden, norm: &norm }.dispatch();
        let added: Vec<f32> = rows.iter().zip(&unbent).map(|(row, sum)| row + sum).collect();
        let expected: Vec<f32> = added.chunks(width).flat_map(|row| norm_of(row, &norm)).collect();
        if width > 1 {
            near(&hidden, &expected)?;
        }
    }

    #[test]
    fn rows_are_normalised((width, mut rows) in table()) {
        prop_assume!(width > 1);
        let norm = Norm { weight: vec![1.5; width], bias: vec![-0.5; width], epsilon: 1e-6 };
        let expected: Vec<f32> = rows.chunks(width).flat_map(|row| norm_of(row, &norm)).collect();
        Normalize { rows: &mut rows, norm: &norm }.dispatch();
        near(&rows, &expected)?;
    }
}

#[test]
fn a_row_of_nothing_becomes_bytes_of_nothing() {
    let mut bytes = ByteRows::default();
    bytes.fill(&[0.0; 8], 4, 255);
    assert_eq!(bytes.bytes, [0; 8]);
    assert_eq!(bytes.zeros, [0, 0]);
    bytes.fill(&[f32::NAN, 1.0, 2.0, 3.0], 4, 255);
    assert_eq!(bytes.scales.len(), 1);
}
