//! Learns the fast stage: linear heads over sparse features, by AdaGrad, all heads at once.
//!
//! A row counts only for the heads that it has a label for. Every source counts by the square
//! root of its size, and so does every class, so that a large easy set does not drown a small
//! hard one. Features are dropped at random while learning: what rests on a single word does not
//! carry over to other people's prompts. Deterministic for a seed. Knows nothing of files.

use std::collections::HashMap;
use std::ops::Range;

use crate::classify::fast::{BUCKETS, COLUMNS, Fast, FastError, Features, GROUPS, SIGNS, features};
use crate::classify::heads::{CLASSES, Head, LANGUAGES, Logits, sigmoid, softmax};
use crate::classify::train::data::Example;
use crate::request::{Domain, Sensitivity, TaskKind};

#[cfg(test)]
mod tests;

/// What one row should give: for each head nothing, or a probability for each class.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// By column; only heads in `labelled` count.
    pub wanted: [f32; CLASSES],
    /// How much each head of this row counts, 0 where it has no label.
    pub weights: [f32; 6],
}

impl Target {
    /// The labels of an example, each of weight 1.
    pub fn of(example: &Example) -> Self {
        let mut target = Target { wanted: [0.0; CLASSES], weights: [0.0; 6] };
        let place = |all: &[&str], word: &str| all.iter().position(|each| *each == word);
        if let Some(task) = example.task {
            let class = TaskKind::ALL.iter().position(|each| *each == task);
            target.label(Head::Task, class, 1.0);
        }
        if let Some(domain) = example.domain {
            let class = Domain::ALL.iter().position(|each| *each == domain);
            target.label(Head::Domain, class, 1.0);
        }
        if let Some(level) = example.sensitivity {
            let class = Sensitivity::ALL.iter().position(|each| *each == level);
            target.label(Head::Sensitivity, class, 1.0);
        }
        if let Some(language) = &example.language {
            target.label(Head::Language, place(&LANGUAGES, language), 1.0);
        }
        if let Some(complexity) = example.complexity {
            target.label(Head::Complexity, Some(0), complexity);
        }
        if let Some(is_attack) = example.injection {
            target.label(Head::Injection, Some(0), f32::from(u8::from(is_attack)));
        }
        target
    }

    fn label(&mut self, head: Head, class: Option<usize>, value: f32) {
        let Some(class) = class else { return };
        self.wanted[head.range().start + class] = value;
        self.weights[head as usize] = 1.0;
    }

    /// The labelled class of a head with several; for one number whether it is above a half.
    pub fn class(&self, head: Head) -> Option<usize> {
        if self.weights[head as usize] <= 0.0 {
            return None;
        }
        let wanted = &self.wanted[head.range()];
        match head.is_choice() {
            true => wanted.iter().position(|value| *value > 0.5),
            false => Some(usize::from(wanted[0] > 0.5)),
        }
    }
}

/// How to learn.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Options {
    /// Passes over the rows.
    pub epochs: usize,
    /// AdaGrad's step.
    pub rate: f32,
    /// Pull towards zero, per update.
    pub decay: f32,
    /// The share of hashed features left out of each update.
    pub drop: f32,
    /// The share of signs left out.
    pub drop_signs: f32,
    /// Exponent of a source's size: 1 all rows alike, 0 all sources alike.
    pub source_power: f32,
    /// Exponent of a class's size: 1 all rows alike, 0 all classes alike.
    pub class_power: f32,
    /// How much each head's loss counts, in the order of [`Head::ALL`].
    pub heads: [f32; 6],
    /// Label smoothing.
    pub smoothing: f32,
    /// How many are learnt, each with lots of its own, and averaged.
    pub learners: usize,
    /// For everything that is drawn by lot.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            epochs: 8,
            rate: 0.25,
            decay: 5e-5,
            drop: 0.5,
            drop_signs: 0.3,
            source_power: 0.5,
            class_power: 0.6,
            heads: [1.0, 0.5, 0.7, 1.0, 1.0, 0.3],
            smoothing: 0.05,
            learners: 3,
            seed: 13,
        }
    }
}

/// One row, ready to learn from.
#[derive(Debug, Clone)]
pub struct Row {
    /// What the text has.
    pub features: Features,
    /// What it should give.
    pub target: Target,
}

/// Features and targets of examples, weighted by source and class.
pub fn rows(examples: &[&Example], options: &Options) -> Vec<Row> {
    let mut rows: Vec<Row> = examples
        .iter()
        .map(|example| Row { features: features(&example.input()), target: Target::of(example) })
        .collect();
    for head in Head::ALL {
        weigh(&mut rows, examples, *head, options);
    }
    rows
}

/// Sets the weights of one head so that their mean over labelled rows is 1.
fn weigh(rows: &mut [Row], examples: &[&Example], head: Head, options: &Options) {
    let mut sources: HashMap<&str, f32> = HashMap::new();
    let mut classes: HashMap<usize, f32> = HashMap::new();
    for (row, example) in rows.iter().zip(examples) {
        if let Some(class) = row.target.class(head) {
            *sources.entry(&example.source).or_default() += 1.0;
            *classes.entry(class).or_default() += 1.0;
        }
    }
    let (mut sum, mut count) = (0.0_f32, 0.0_f32);
    for (row, example) in rows.iter_mut().zip(examples) {
        let Some(class) = row.target.class(head) else { continue };
        let of_source = sources[example.source.as_str()].powf(options.source_power - 1.0);
        let of_class = classes[&class].powf(options.class_power - 1.0);
        let weight = example.weight * of_source * of_class;
        row.target.weights[head as usize] = weight;
        sum += weight;
        count += 1.0;
    }
    let mean = sum / count.max(1.0);
    for row in rows.iter_mut() {
        let weight = &mut row.target.weights[head as usize];
        // A single row of a tiny source must not tear the weights about.
        *weight = (*weight / mean.max(f32::MIN_POSITIVE)).min(8.0);
    }
}

/// Weights while they are learnt.
#[derive(Clone)]
pub struct Learner {
    options: Options,
    hashed: Vec<f32>,
    hashed_squares: Vec<f32>,
    signs: Vec<f32>,
    signs_squares: Vec<f32>,
    bias: [f32; COLUMNS],
    bias_squares: [f32; COLUMNS],
    lot: Lot,
    /// Epochs done.
    pub done: usize,
}

impl std::fmt::Debug for Learner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Learner").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Learner {
    /// Knows nothing yet.
    pub fn new(options: Options) -> Self {
        Learner {
            hashed: vec![0.0; BUCKETS * COLUMNS],
            hashed_squares: vec![1e-3; BUCKETS * COLUMNS],
            signs: vec![0.0; SIGNS * COLUMNS],
            signs_squares: vec![1e-3; SIGNS * COLUMNS],
            bias: [0.0; COLUMNS],
            bias_squares: [1.0; COLUMNS],
            lot: Lot(options.seed.max(1)),
            done: 0,
            options,
        }
    }

    /// One pass over all rows in a drawn order; the mean loss of a labelled head.
    pub fn epoch(&mut self, rows: &[Row]) -> f32 {
        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        self.lot.shuffle(&mut order);
        let (mut loss, mut count) = (0.0_f64, 0.0_f64);
        for at in order {
            let (row_loss, heads) = self.learn(&rows[at as usize]);
            loss += f64::from(row_loss);
            count += heads as f64;
        }
        self.done += 1;
        (loss / count.max(1.0)) as f32
    }

    fn learn(&mut self, row: &Row) -> (f32, usize) {
        let kept = self.keep(&row.features);
        let sums = self.sums(&kept);
        let (gradient, loss, heads) = self.gradient(&sums, &row.target);
        if heads == 0 {
            return (0.0, 0);
        }
        // Steps become smaller, as usual, so that the last pass settles.
        let rate = self.options.rate / (1.0 + self.done as f32 * 0.5);
        let step = Step { rate, decay: self.options.decay, gradient: &gradient };
        for group in 0..GROUPS {
            let weight = kept.weight(group);
            for feature in &kept.hashed[group] {
                let range = range(*feature);
                step.take(&mut self.hashed[range.clone()], &mut self.hashed_squares[range], weight);
            }
        }
        let weight = kept.sign_weight();
        for sign in &kept.signs {
            let range = range(*sign);
            step.take(&mut self.signs[range.clone()], &mut self.signs_squares[range], weight);
        }
        step.take(&mut self.bias, &mut self.bias_squares, 1.0);
        (loss, heads)
    }

    fn keep(&mut self, features: &Features) -> Features {
        let mut kept = Features::default();
        for group in 0..GROUPS {
            let share = 1.0 - self.options.drop;
            kept.hashed[group]
                .extend(features.hashed[group].iter().filter(|_| self.lot.share() < share));
        }
        let share = 1.0 - self.options.drop_signs;
        kept.signs.extend(features.signs.iter().filter(|_| self.lot.share() < share));
        kept
    }

    fn sums(&self, features: &Features) -> [f32; COLUMNS] {
        let mut sums = self.bias;
        for group in 0..GROUPS {
            let weight = features.weight(group);
            for feature in &features.hashed[group] {
                add(&mut sums, &self.hashed[range(*feature)], weight);
            }
        }
        let weight = features.sign_weight();
        for sign in &features.signs {
            add(&mut sums, &self.signs[range(*sign)], weight);
        }
        sums
    }

    /// The logits of a text, as the quantised model will give them but for rounding.
    pub fn logits(&self, features: &Features) -> Logits {
        let sums = self.sums(features);
        let mut logits = Logits([0.0; CLASSES]);
        logits.0.copy_from_slice(&sums[..CLASSES]);
        logits
    }

    fn gradient(&self, sums: &[f32; COLUMNS], target: &Target) -> ([f32; COLUMNS], f32, usize) {
        let mut gradient = [0.0; COLUMNS];
        let (mut loss, mut heads) = (0.0, 0);
        for head in Head::ALL {
            let weight = target.weights[*head as usize] * self.options.heads[*head as usize];
            if weight <= 0.0 {
                continue;
            }
            let found = match head.is_choice() {
                true => softmax(&sums[head.range()], 1.0),
                false => vec![sigmoid(sums[head.range().start])],
            };
            heads += 1;
            for (column, found) in head.range().zip(found) {
                let wanted = self.smoothed(*head, target.wanted[column]);
                gradient[column] = weight * (found - wanted);
                loss -= weight * wanted * found.max(1e-9).ln();
            }
        }
        (gradient, loss, heads)
    }

    fn smoothed(&self, head: Head, wanted: f32) -> f32 {
        let smoothing = match head {
            // Already a soft number.
            Head::Complexity => 0.0,
            _ => self.options.smoothing,
        };
        let even = if head.is_choice() { 1.0 / head.range().len() as f32 } else { 0.5 };
        wanted * (1.0 - smoothing) + smoothing * even
    }

    /// Adds another learner's weights in equal shares, `n` being how many are in already. A sum of
    /// linear models is a linear model: the mean of several that saw the rows in another order
    /// errs less than each, and costs nothing when it answers.
    pub fn join(&mut self, other: &Learner, n: usize) {
        let mean = |own: &mut [f32], other: &[f32]| {
            for (own, other) in own.iter_mut().zip(other) {
                *own += (other - *own) / (n as f32 + 1.0);
            }
        };
        mean(&mut self.hashed, &other.hashed);
        mean(&mut self.signs, &other.signs);
        mean(&mut self.bias, &other.bias);
    }

    /// The learnt weights as they ship.
    ///
    /// # Errors
    /// Never for a sound learner; sizes are checked all the same.
    pub fn finish(&self) -> Result<Fast, FastError> {
        Fast::quantize(&self.hashed, &self.signs, &self.bias)
    }
}

/// One update of one row of weights.
struct Step<'g> {
    rate: f32,
    decay: f32,
    gradient: &'g [f32; COLUMNS],
}

impl Step<'_> {
    fn take(&self, weights: &mut [f32], squares: &mut [f32], value: f32) {
        for ((weight, square), gradient) in weights.iter_mut().zip(squares).zip(self.gradient) {
            let gradient = gradient * value;
            *square += gradient * gradient;
            *weight -= self.rate * (gradient / square.sqrt() + self.decay * *weight);
        }
    }
}

fn range(row: u16) -> Range<usize> {
    let from = usize::from(row) * COLUMNS;
    from..from + COLUMNS
}

fn add(sums: &mut [f32; COLUMNS], weights: &[f32], value: f32) {
    for (sum, weight) in sums.iter_mut().zip(weights) {
        *sum += weight * value;
    }
}

/// xorshift64*: the same lots on every machine and in every version, which a crate's own
/// generator does not promise.
#[derive(Debug, Clone)]
pub struct Lot(u64);

impl Lot {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Lot(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).max(1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// 0 ≤ x < 1.
    pub fn share(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u32 << 24) as f32
    }

    /// Fisher and Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, (self.next() % (last as u64 + 1)) as usize);
        }
    }
}
