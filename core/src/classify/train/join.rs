//! How two stages become one: whom to believe on which head, and when the fast one will do.
//!
//! Everything is fitted on rows that neither stage has learnt from. Pure arithmetic over what the
//! stages said; knows nothing of texts or encoders.

use crate::classify::heads::{
    Alone, Both, Calibration, Head, HeadsFile, Logits, Shares, likeliest,
};
use crate::classify::train::calibrate::{self, Held};
use crate::classify::train::data::Example;
use crate::classify::train::fast::Target;
use crate::classify::train::manifest::Score;
use crate::classify::train::metrics::{Outcome, apgr, auc};
use crate::classify::train::recipe::{HARD, outcome, score};

/// What both stages said of one example, and what is true.
#[derive(Debug)]
pub struct Stages<'e> {
    /// The example.
    pub example: &'e Example,
    /// The fast stage's numbers.
    pub fast: Logits,
    /// The deep stage's.
    pub deep: Logits,
    /// The truth.
    pub target: Target,
    /// How much it counts.
    pub weight: f32,
}

impl Stages<'_> {
    fn held(&self, logits: Logits) -> Held {
        Held { logits, target: self.target.clone(), weight: self.weight }
    }
}

/// How much of the accuracy the fast stage may cost where it answers alone.
const LOST: f32 = 0.005;

/// Calibrates the deep stage and both together, and says from where on the fast one answers
/// alone. `kept` are rows of ours that were kept back, `real` prompts of another origin. Gives
/// the figures of each.
pub fn fit(heads: &mut HeadsFile, kept: &[Stages<'_>], real: &[Stages<'_>]) -> Vec<Score> {
    let all = || kept.iter().chain(real);
    let deep: Vec<Held> = all().map(|row| row.held(row.deep)).collect();
    let deep = calibrate::fit(&deep);
    let read: Vec<Stages<'_>> = all()
        .map(|row| Stages {
            example: row.example,
            fast: row.fast.calibrated(&heads.fast),
            deep: row.deep.calibrated(&deep),
            target: row.target.clone(),
            weight: row.weight,
        })
        .collect();
    let shares = std::array::from_fn(|head| best_share(&read, Head::ALL[head]));
    let both = Both { shares, calibration: Calibration::default() };
    let joined: Vec<Held> =
        read.iter().map(|row| row.held(both.join(&row.fast, &row.deep))).collect();
    let both = Both { calibration: calibrate::fit(&joined), ..both };
    heads.deep = Some(deep);
    heads.both = Some(both);
    heads.alone = alone(heads, &read, &joined, &both.calibration);

    let mut scores = Vec::new();
    for (on, rows) in [("kept back", kept), ("dev_real", real)] {
        let of = |logits: &dyn Fn(&Stages<'_>) -> Logits| -> Vec<(&Example, Held)> {
            rows.iter().map(|row| (row.example, row.held(logits(row)))).collect()
        };
        scores.extend(score(&format!("{on}, fast"), &of(&|row| row.fast), &heads.fast));
        scores.extend(score(&format!("{on}, encoder"), &of(&|row| row.deep), &deep));
        let joined = of(&|row| heads.joined(&row.fast, &row.deep).0);
        scores.extend(score(&format!("{on}, both"), &joined, &both.calibration));
        scores.push(alone_share(on, heads, rows));
    }
    scores
}

/// How much the fast stage counts for a head: the share with the smallest loss, each with the
/// temperature that suits it. Complexity is there to put prompts in order, so there the order
/// counts.
fn best_share(rows: &[Stages<'_>], head: Head) -> f32 {
    let loss = |share: f32| {
        let both = Both { shares: [share; 6], calibration: Calibration::default() };
        if head == Head::Complexity {
            return -order(rows, &both);
        }
        let joined: Vec<Held> = rows
            .iter()
            .filter(|row| row.target.weights[head as usize] > 0.0)
            .map(|row| row.held(both.join(&row.fast, &row.deep)))
            .collect();
        calibrate::loss(&joined, head)
    };
    let tenths = (0..=10).map(|tenth| f32::from(tenth as u8) / 10.0);
    let losses = tenths.map(|share| (share, loss(share)));
    // Without a row that knows the answer both count alike.
    losses.fold((0.5, f64::INFINITY), |best, next| if next.1 < best.1 { next } else { best }).0
}

/// How well complexity orders: prompts of ours by what authors thought of them (AUC), measured ones
/// by what a strong model gains on them (APGR); the mean of the two, or the one that there is.
fn order(rows: &[Stages<'_>], both: &Both) -> f64 {
    let column = Head::Complexity.range().start;
    let score = |row: &Stages<'_>| both.join(&row.fast, &row.deep).0[column];
    let labelled = || rows.iter().filter(|row| row.target.weights[Head::Complexity as usize] > 0.0);
    let measured: Vec<Outcome> =
        labelled().filter_map(|row| outcome(row.example, score(row))).collect();
    let judged: Vec<(f32, bool)> = labelled()
        .filter(|row| row.example.scores.is_empty())
        .map(|row| (score(row), row.target.wanted[column] > HARD))
        .collect();
    match (measured.is_empty(), judged.is_empty()) {
        (true, true) => 0.0,
        (true, false) => auc(&judged),
        (false, true) => apgr(&measured),
        (false, false) => f64::midpoint(auc(&judged), apgr(&measured)),
    }
}

/// The lowest confidences of the fast stage at which asking the deep one too would bring hardly
/// anything. Rows count by weight, as everywhere here.
fn alone(heads: &HeadsFile, rows: &[Stages<'_>], joined: &[Held], both: &Calibration) -> Alone {
    let plain = Calibration::default();
    let of = |head: Head| {
        let rows: Vec<(f32, f32, f32)> = rows
            .iter()
            .zip(joined)
            .filter_map(|(row, joined)| {
                let class = row.target.class(head)?;
                let (fast, sure) = likeliest(Shares::of(&row.fast, &plain).head(head));
                let (both, _) = likeliest(Shares::of(&joined.logits, both).head(head));
                let right = |guess: usize| f32::from(u8::from(guess == class));
                Some((sure, (right(both) - right(fast)) * row.weight, row.weight))
            })
            .collect();
        lowest(rows)
    };
    let column = Head::Injection.range().start;
    let injection: Vec<(f32, f32, f32)> = rows
        .iter()
        .zip(joined)
        .filter(|(row, _)| row.target.weights[Head::Injection as usize] > 0.0)
        .map(|(row, joined)| {
            let is_attack = row.target.wanted[column] > 0.5;
            let fast = Shares::of(&row.fast, &plain).injection();
            let both = Shares::of(&joined.logits, both).injection();
            let right = |found: f32| f32::from(u8::from((found > 0.5) == is_attack));
            ((fast - 0.5).abs(), (right(both) - right(fast)) * row.weight, row.weight)
        })
        .collect();
    let task = of(Head::Task);
    let sensitivity = of(Head::Sensitivity);
    let sane = |found: f32, before: f32| if found.is_finite() { found } else { before };
    Alone {
        task: sane(task, heads.alone.task),
        sensitivity: sane(sensitivity, heads.alone.sensitivity),
        injection: sane(lowest(injection), heads.alone.injection),
    }
}

/// The lowest confidence such that the rows above it lose at most [`LOST`] of all when only the
/// fast stage reads them; infinite where there are no rows.
fn lowest(mut rows: Vec<(f32, f32, f32)>) -> f32 {
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let all: f32 = rows.iter().map(|(_, _, weight)| weight).sum();
    let (mut lost, mut lowest) = (0.0_f32, f32::INFINITY);
    for (sure, loss, _) in &rows {
        lost += loss;
        // A single lucky row further down must not open the door.
        if lost > 2.0 * LOST * all {
            break;
        }
        if lost <= LOST * all {
            lowest = *sure;
        }
    }
    lowest
}

/// The share of rows that the fast stage answers alone.
fn alone_share(on: &str, heads: &HeadsFile, rows: &[Stages<'_>]) -> Score {
    let is_sure = |row: &&Stages<'_>| heads.alone.is_sure(&Shares::of(&row.fast, &heads.fast));
    let sure = rows.iter().filter(is_sure).count();
    Score {
        on: format!("{on}, both"),
        head: "all".to_owned(),
        lang: "all".to_owned(),
        figure: "answered_by_fast".to_owned(),
        value: (sure as f64 / rows.len().max(1) as f64 * 10_000.0).round() / 10_000.0,
        rows: rows.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::heads::CLASSES;

    fn said(class: usize, strength: f32) -> Logits {
        let mut logits = Logits([0.0; CLASSES]);
        logits.0[Head::Task.range().start + class] = strength;
        logits
    }

    fn heads() -> HeadsFile {
        HeadsFile {
            version: 2,
            fast: Calibration::default(),
            deep: None,
            both: None,
            alone: Alone { task: 0.9, sensitivity: 0.9, injection: 0.4 },
        }
    }

    /// Eighty rows of class 1; the stages are right where they are told to be.
    fn rows(
        example: &Example,
        fast: fn(usize) -> bool,
        deep: fn(usize) -> bool,
    ) -> Vec<Stages<'_>> {
        let guess = |is_right: bool, at: usize| said(usize::from(is_right), 2.0 + at as f32 * 0.01);
        (0..80)
            .map(|at| Stages {
                example,
                fast: guess(fast(at), at),
                deep: guess(deep(at), at),
                target: calibrate::row([0.0; CLASSES], Head::Task, 1).target,
                weight: 1.0,
            })
            .collect()
    }

    #[test]
    fn the_stage_that_is_right_more_often_is_believed() {
        let example = Example { lang: "de".to_owned(), ..Example::default() };
        let mut found = heads();
        fit(&mut found, &rows(&example, |at| at % 4 == 0, |at| at % 10 != 0), &[]);
        assert!(found.both.expect("fitted").shares[Head::Task as usize] < 0.4);
        fit(&mut found, &rows(&example, |at| at % 10 != 0, |at| at % 4 == 0), &[]);
        assert!(found.both.expect("fitted").shares[Head::Task as usize] > 0.6);
    }

    #[test]
    fn the_fast_stage_answers_alone_where_the_other_brings_nothing() {
        let example = Example { lang: "de".to_owned(), ..Example::default() };
        // The fast one is right in the half where it is surer; the deep one everywhere.
        let rows = rows(&example, |at| at >= 40, |_| true);
        let mut found = heads();
        fit(&mut found, &rows, &[]);
        let sure = |row: &Stages<'_>| {
            likeliest(Shares::of(&row.fast, &found.fast).head(Head::Task)).1 >= found.alone.task
        };
        let alone = rows.iter().filter(|row| sure(row)).count();
        assert!((35..=41).contains(&alone), "{alone}");
    }
}
