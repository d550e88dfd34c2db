//! From held-out numbers to honest probabilities, and from where on a stage is sure.
//!
//! Everything is fitted on rows of sources that the model has not learnt from. Pure arithmetic.
//! Knows nothing of texts.

use crate::classify::heads::{
    Alone, CLASSES, Calibration, Head, Logits, Platt, Shares, likeliest, probabilities, sigmoid,
    softmax,
};
use crate::classify::train::fast::Target;

/// What a model said about a row that it never saw, and what is true.
#[derive(Debug, Clone)]
pub struct Held {
    /// The model's numbers.
    pub logits: Logits,
    /// The truth.
    pub target: Target,
    /// How much the row counts.
    pub weight: f32,
}

/// Temperatures and Platt's two numbers for every head that has labels.
pub fn fit(held: &[Held]) -> Calibration {
    let mut calibration = Calibration {
        task: temperature(held, Head::Task),
        domain: temperature(held, Head::Domain),
        sensitivity: temperature(held, Head::Sensitivity),
        language: temperature(held, Head::Language),
        complexity: platt(held, Head::Complexity),
        injection: platt(held, Head::Injection),
        ..Calibration::default()
    };
    calibration.injection = careful(held, calibration.injection);
    // Unsure is where a guess is right less often than not quite half the time.
    calibration.sure_task = bound(held, Head::Task, &calibration, 0.5).min(0.6);
    calibration.sure_sensitivity = bound(held, Head::Sensitivity, &calibration, 0.55).min(0.65);
    calibration
}

/// How badly a head is read at its best temperature, or scale and shift: the mean of the negative
/// logarithm of what the truth was given.
pub fn loss(held: &[Held], head: Head) -> f64 {
    let total: f64 = held.iter().map(|row| f64::from(row.weight)).sum();
    if total <= 0.0 {
        return f64::INFINITY;
    }
    let sum: f64 = match head.is_choice() {
        true => {
            let temperature = temperature(held, head);
            held.iter()
                .filter_map(|row| {
                    let share =
                        softmax(row.logits.of(head), temperature)[row.target.class(head)?];
                    Some(f64::from(-row.weight) * f64::from(share.max(1e-9)).ln())
                })
                .sum()
        }
        false => {
            let platt = platt(held, head);
            held.iter()
                .map(|row| {
                    let logit = platt.scale * row.logits.of(head)[0] + platt.shift;
                    let found = f64::from(sigmoid(logit)).clamp(1e-9, 1.0 - 1e-9);
                    let wanted = f64::from(row.target.wanted[head.range().start]);
                    -f64::from(row.weight)
                        * (wanted * found.ln() + (1.0 - wanted) * (1.0 - found).ln())
                })
                .sum()
        }
    };
    sum / total
}

/// The temperature with the smallest loss, by golden section over its logarithm: the loss has one
/// valley there.
fn temperature(held: &[Held], head: Head) -> f32 {
    let rows: Vec<(&[f32], usize, f32)> = held
        .iter()
        .filter_map(|row| Some((row.logits.of(head), row.target.class(head)?, row.weight)))
        .collect();
    if rows.is_empty() {
        return 1.0;
    }
    let loss = |log: f32| -> f64 {
        let of = |(logits, class, weight): &(&[f32], usize, f32)| {
            let share = softmax(logits, log.exp())[*class].max(1e-9);
            f64::from(-weight * share.ln())
        };
        rows.iter().map(of).sum()
    };
    const GOLDEN: f32 = 0.618_034;
    let (mut low, mut high) = (-2.0_f32, 2.0_f32);
    for _ in 0..24 {
        let (left, right) = (high - GOLDEN * (high - low), low + GOLDEN * (high - low));
        match loss(left) < loss(right) {
            true => high = right,
            false => low = left,
        }
    }
    f32::midpoint(low, high).exp()
}

/// Platt's scale and shift, by Newton's method: the loss has one valley, and two numbers are soon
/// there whatever the size of the logits.
fn platt(held: &[Held], head: Head) -> Platt {
    let column = head.range().start;
    let rows: Vec<(f64, f64, f64)> = held
        .iter()
        .filter(|row| row.target.weights[head as usize] > 0.0)
        .map(|row| (row.logits.0[column], row.target.wanted[column], row.weight))
        .map(|(logit, wanted, weight)| (f64::from(logit), f64::from(wanted), f64::from(weight)))
        .collect();
    let total: f64 = rows.iter().map(|(_, _, weight)| weight).sum();
    let (mut scale, mut shift) = (1.0_f64, 0.0_f64);
    if total <= 0.0 {
        return Platt { scale: 1.0, shift: 0.0 };
    }
    for _ in 0..60 {
        // The gradient, and the matrix of second derivatives with a little on its diagonal, so
        // that rows that are told apart perfectly do not drive the scale to infinity.
        let (mut by_scale, mut by_shift) = (1e-3 * (scale - 1.0), 1e-3 * shift);
        let (mut scales, mut mixed, mut shifts) = (1e-3, 0.0, 1e-3);
        for (logit, wanted, weight) in &rows {
            let found = 1.0 / (1.0 + (-(scale * logit + shift)).exp());
            let (off, bend) =
                (weight * (found - wanted) / total, weight * found * (1.0 - found) / total);
            by_scale += off * logit;
            by_shift += off;
            scales += bend * logit * logit;
            mixed += bend * logit;
            shifts += bend;
        }
        let determinant = scales * shifts - mixed * mixed;
        let scale_step = (shifts * by_scale - mixed * by_shift) / determinant;
        let shift_step = (scales * by_shift - mixed * by_scale) / determinant;
        // Far from the valley Newton overshoots.
        scale = (scale - scale_step.clamp(-0.5, 0.5)).max(0.05);
        shift -= shift_step.clamp(-1.0, 1.0);
    }
    Platt { scale: scale as f32, shift: shift as f32 }
}

/// How many harmless texts may count as attacks: by default an attack is blocked, and one person
/// in two hundred who is refused for nothing is already one too many.
const FALSE_ALARMS: f64 = 0.005;

/// Moves the point where an attack counts (0.5) up until hardly any harmless held-out text is
/// above it.
fn careful(held: &[Held], platt: Platt) -> Platt {
    let column = Head::Injection.range().start;
    let is_harmless = |row: &&Held| {
        row.target.weights[Head::Injection as usize] > 0.0 && row.target.wanted[column] < 0.5
    };
    let mut harmless: Vec<(f32, f64)> = held
        .iter()
        .filter(is_harmless)
        .map(|row| (row.logits.0[column], f64::from(row.weight)))
        .collect();
    harmless.sort_by(|a, b| b.0.total_cmp(&a.0));
    let allowed = FALSE_ALARMS * harmless.iter().map(|(_, weight)| weight).sum::<f64>();
    let mut alarms = 0.0;
    for (logit, weight) in harmless {
        alarms += weight;
        if alarms > allowed {
            return Platt { shift: platt.shift.min(-platt.scale * logit), ..platt };
        }
    }
    platt
}

/// The lowest confidence such that guesses at about this confidence are right with `wanted`.
fn bound(held: &[Held], head: Head, calibration: &Calibration, wanted: f64) -> f32 {
    let rows = guesses(held, head, calibration);
    for step in 20..100 {
        let at = step as f32 / 100.0;
        let near: Vec<_> =
            rows.iter().filter(|(confidence, _, _)| (confidence - at).abs() < 0.05).collect();
        let all: f64 = near.iter().map(|row| f64::from(row.2)).sum();
        let right: f64 = near.iter().filter(|row| row.1).map(|row| f64::from(row.2)).sum();
        if near.len() >= 20 && right >= wanted * all {
            return at;
        }
    }
    0.5
}

fn guesses(held: &[Held], head: Head, calibration: &Calibration) -> Vec<(f32, bool, f32)> {
    held.iter()
        .filter_map(|row| {
            let class = row.target.class(head)?;
            let (guess, share) = likeliest(&probabilities(head, &row.logits, calibration));
            Some((share, guess == class, row.weight))
        })
        .collect()
}

/// From where on the fast stage answers alone: the lowest confidence above which it is right
/// with `wanted`, for task and sensitivity each.
pub fn alone(held: &[Held], calibration: &Calibration, wanted: f64) -> Alone {
    Alone {
        task: above(&guesses(held, Head::Task, calibration), wanted),
        sensitivity: above(&guesses(held, Head::Sensitivity, calibration), wanted),
        injection: 0.4,
    }
}

/// The lowest confidence above which the share of right guesses is at least `wanted`; 1 where
/// there is none.
pub fn above(guesses: &[(f32, bool, f32)], wanted: f64) -> f32 {
    let mut sorted = guesses.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut right, mut all, mut lowest) = (0.0_f64, 0.0_f64, 1.0_f32);
    for (at, (confidence, is_right, weight)) in sorted.iter().enumerate() {
        all += f64::from(*weight);
        right += f64::from(*weight) * f64::from(u8::from(*is_right));
        let is_last_of_ties = sorted.get(at + 1).is_none_or(|next| next.0 < *confidence);
        if at >= 20 && is_last_of_ties && right >= wanted * all {
            lowest = *confidence;
        }
    }
    lowest
}

/// The shares that rows get under a calibration, for scoring.
pub fn shares(held: &[Held], calibration: &Calibration) -> Vec<Shares> {
    held.iter().map(|row| Shares::of(&row.logits, calibration)).collect()
}

/// A row with one label, for tests and for heads of one's own.
pub fn row(values: [f32; CLASSES], head: Head, class: usize) -> Held {
    let mut target = Target { wanted: [0.0; CLASSES], weights: [0.0; 6] };
    target.wanted[head.range().start + class] = 1.0;
    target.weights[head as usize] = 1.0;
    Held { logits: Logits(values), target, weight: 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows whose likeliest class has this logit, of which a share is right.
    fn rows(logit: f32, right: usize, wrong: usize) -> Vec<Held> {
        let mut values = [0.0; CLASSES];
        values[Head::Sensitivity.range().start] = logit;
        let of = |class| row(values, Head::Sensitivity, class);
        (0..right).map(|_| of(0)).chain((0..wrong).map(|_| of(1))).collect()
    }

    #[test]
    fn somebody_too_sure_is_cooled_until_confidence_is_the_share_that_is_right() {
        let held = rows(8.0, 70, 30);
        let calibration = fit(&held);
        assert!(calibration.sensitivity > 1.5);
        let found = shares(&held, &calibration)[0].head(Head::Sensitivity)[0];
        assert!((found - 0.7).abs() < 0.02, "{found}");
    }

    #[test]
    fn one_number_becomes_a_probability() {
        let mut held: Vec<Held> = Vec::new();
        for at in 0..200 {
            let mut values = [0.0; CLASSES];
            values[Head::Injection.range().start] = if at % 2 == 0 { 4.0 } else { -4.0 };
            let mut row = row(values, Head::Injection, 0);
            // Of the high ones nine in ten are attacks, of the low ones none.
            row.target.wanted[Head::Injection.range().start] =
                f32::from(u8::from(at % 2 == 0 && at % 20 != 0));
            held.push(row);
        }
        let platt = platt(&held, Head::Injection);
        let high = sigmoid(platt.scale * 4.0 + platt.shift);
        assert!((high - 0.9).abs() < 0.03, "{high}");
        // One harmless text in ten among the high ones is too many to block them all.
        let careful = fit(&held);
        assert!(shares(&held, &careful)[0].injection() <= 0.5);
    }

    #[test]
    fn the_bound_lets_through_what_is_right_often_enough() {
        let guesses: Vec<(f32, bool, f32)> =
            (0..100).map(|at| (at as f32 / 100.0, at >= 50, 1.0)).collect();
        let bound = above(&guesses, 0.99);
        assert!((0.48..=0.51).contains(&bound), "{bound}");
        assert!(above(&[(0.9, false, 1.0)], 0.5) >= 1.0);
    }
}
