//! The mean of the weights over the last part of a run.
//!
//! The last steps wander about a good place; their mean lies nearer to it than any of them, and
//! costs nothing when it answers (Izmailov et al. 2018, arXiv 1803.05407). Knows nothing of
//! learning rates or files.

use std::collections::BTreeMap;

use super::net::Net;

/// Weights seen so far, averaged.
#[derive(Default)]
pub(super) struct Average {
    count: u32,
    words: Vec<f32>,
    weights: BTreeMap<String, Vec<f32>>,
}

impl Average {
    /// Counts the weights as they are now.
    pub(super) fn add(&mut self, net: &Net) {
        let share = 1.0 / (self.count + 1) as f32;
        blend(&mut self.words, &net.words.values, share);
        for (name, weight) in &net.weights {
            blend(self.weights.entry(name.clone()).or_default(), &weight.values, share);
        }
        self.count += 1;
    }

    /// Puts the mean in place of the weights; over how many steps it was taken. `None`: over none.
    pub(super) fn replace(self, net: &mut Net) -> Option<u32> {
        if self.count == 0 {
            return None;
        }
        net.words.values = self.words;
        for (name, values) in self.weights {
            if let Some(weight) = net.weights.get_mut(&name) {
                weight.values = values;
            }
        }
        Some(self.count)
    }
}

fn blend(mean: &mut Vec<f32>, values: &[f32], share: f32) {
    if mean.is_empty() {
        mean.extend_from_slice(values);
        return;
    }
    for (mean, value) in mean.iter_mut().zip(values) {
        *mean += (value - *mean) * share;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_weights_become_their_mean() {
        let mut mean = Vec::new();
        for (count, value) in [1.0, 2.0, 6.0].into_iter().enumerate() {
            blend(&mut mean, &[value, -value], 1.0 / (count + 1) as f32);
        }
        assert!((mean[0] - 3.0).abs() < 1e-6 && (mean[1] + 3.0).abs() < 1e-6, "{mean:?}");
    }
}
