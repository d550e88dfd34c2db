//! How good a classifier is: the figures of the field, each from plain pairs of truth and guess.
//!
//! Pure arithmetic. Knows nothing of texts, heads or files. Shares and probabilities are 0…1.

use std::fmt;

/// The share of pairs `(truth, guess)` that agree; 0 where there are none.
pub fn accuracy(pairs: &[(usize, usize)]) -> f64 {
    share(pairs.iter().filter(|(truth, guess)| truth == guess).count(), pairs.len())
}

/// The mean of every class's F1, for classes that occur in the truth.
pub fn macro_f1(pairs: &[(usize, usize)], classes: usize) -> f64 {
    let mut sum = 0.0;
    let mut seen = 0_usize;
    for class in 0..classes {
        let of_class = pairs.iter().filter(|(truth, _)| *truth == class).count();
        if of_class == 0 {
            continue;
        }
        let guessed = pairs.iter().filter(|(_, guess)| *guess == class).count();
        let hits = pairs.iter().filter(|pair| **pair == (class, class)).count();
        sum += share(2 * hits, of_class + guessed);
        seen += 1;
    }
    if seen == 0 { 0.0 } else { sum / seen as f64 }
}

/// Expected calibration error over ten bins of equal width: how far confidence and share of right
/// answers lie apart, weighted by how often. Pairs are `(confidence, right)`.
pub fn ece(pairs: &[(f32, bool)]) -> f64 {
    let mut bins = [(0.0_f64, 0_usize, 0_usize); 10];
    for (confidence, right) in pairs {
        let bin = &mut bins[((confidence * 10.0) as usize).min(9)];
        bin.0 += f64::from(*confidence);
        bin.1 += usize::from(*right);
        bin.2 += 1;
    }
    let gap: f64 = bins.iter().map(|(sum, right, _)| (sum - *right as f64).abs()).sum();
    if pairs.is_empty() { 0.0 } else { gap / pairs.len() as f64 }
}

/// The probability that a positive is scored above a negative; ties count half. Pairs are
/// `(score, positive)`; 0.5 where one side is missing, since then nothing is known.
pub fn auc(pairs: &[(f32, bool)]) -> f64 {
    let (mut below, mut positives, mut wins) = (0.0_f64, 0.0_f64, 0.0_f64);
    for tied in groups(pairs, |pair| pair.0).iter().rev() {
        let up = tied.iter().filter(|(_, positive)| *positive).count() as f64;
        let down = tied.len() as f64 - up;
        wins += up * (below + down / 2.0);
        positives += up;
        below += down;
    }
    if positives * below == 0.0 { 0.5 } else { wins / (positives * below) }
}

/// The recall at the lowest threshold whose share of false alarms is at most `rate`.
pub fn recall_at_false_alarms(pairs: &[(f32, bool)], rate: f64) -> f64 {
    let positives = pairs.iter().filter(|(_, positive)| *positive).count();
    let negatives = pairs.len() - positives;
    let allowed = (negatives as f64 * rate).floor() as usize;
    let (mut hits, mut alarms) = (0, 0);
    for tied in groups(pairs, |pair| pair.0) {
        let up = tied.iter().filter(|(_, positive)| *positive).count();
        if alarms + tied.len() - up > allowed {
            break;
        }
        alarms += tied.len() - up;
        hits += up;
    }
    share(hits, positives)
}

/// What two models made of one prompt, and how hard the router thought it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// The router's score: the higher, the sooner the strong model is asked.
    pub score: f32,
    /// How good the weak model's answer was, 0…1.
    pub weak: f64,
    /// How good the strong model's answer was, 0…1.
    pub strong: f64,
}

/// Average performance gap recovered, as RouteLLM (arXiv 2406.18665) defines it: the area under
/// quality over the share of strong calls, from the weak model's quality (0) to the strong one's
/// (1). A random order gives 0.5. Prompts of equal score are taken in a random order.
pub fn apgr(outcomes: &[Outcome]) -> f64 {
    let gap: f64 = outcomes.iter().map(|outcome| outcome.strong - outcome.weak).sum();
    if gap.abs() < f64::EPSILON {
        return 0.5;
    }
    let n = outcomes.len() as f64;
    let (mut gained, mut area) = (0.0_f64, 0.0_f64);
    for tied in groups(outcomes, |outcome| outcome.score) {
        let gain: f64 = tied.iter().map(|outcome| outcome.strong - outcome.weak).sum();
        area += tied.len() as f64 / n * (gained + gain / 2.0);
        gained += gain;
    }
    area / gap
}

/// Rows of equal score together, highest first.
fn groups<T: Copy>(rows: &[T], score: impl Fn(&T) -> f32) -> Vec<Vec<T>> {
    let mut sorted = rows.to_vec();
    sorted.sort_by(|a, b| score(b).total_cmp(&score(a)));
    sorted.chunk_by(|a, b| score(a).total_cmp(&score(b)).is_eq()).map(<[T]>::to_vec).collect()
}

/// Truth by guess, countable and printable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    labels: Vec<String>,
    counts: Vec<u32>,
}

impl Confusion {
    /// Counts pairs `(truth, guess)`; places beyond the labels are left out.
    pub fn of(labels: &[String], pairs: &[(usize, usize)]) -> Self {
        let n = labels.len();
        let mut counts = vec![0; n * n];
        for (truth, guess) in pairs.iter().filter(|(truth, guess)| *truth < n && *guess < n) {
            counts[truth * n + guess] += 1;
        }
        Confusion { labels: labels.to_vec(), counts }
    }

    /// The names of the classes.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// How often `truth` was taken for `guess`.
    pub fn count(&self, truth: usize, guess: usize) -> u32 {
        self.counts[truth * self.labels.len() + guess]
    }

    /// The commonest mistakes, `(truth, guess, how often)`, most frequent first.
    pub fn worst(&self, at_most: usize) -> Vec<(&str, &str, u32)> {
        let n = self.labels.len();
        let mut mistakes: Vec<(&str, &str, u32)> = (0..n * n)
            .filter(|at| at / n != at % n && self.counts[*at] > 0)
            .map(|at| (self.labels[at / n].as_str(), self.labels[at % n].as_str(), self.counts[at]))
            .collect();
        mistakes.sort_by_key(|(truth, guess, count)| (u32::MAX - count, *truth, *guess));
        mistakes.truncate(at_most);
        mistakes
    }
}

/// A table: a row for each true label, a numbered column for each guess.
impl fmt::Display for Confusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.labels.len();
        let name = self.labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        let most = self.counts.iter().max().copied().unwrap_or(0);
        let cell = most.to_string().len().max(n.to_string().len()) + 1;
        write!(f, "{:>1$}", "", name + n.to_string().len() + 1)?;
        (1..=n).try_for_each(|column| write!(f, "{column:>cell$}"))?;
        for (row, label) in self.labels.iter().enumerate() {
            let pad = name - label.chars().count();
            write!(f, "\n{:>1$} {label}{2:pad$}", row + 1, n.to_string().len(), "")?;
            for column in 0..n {
                match self.count(row, column) {
                    0 => write!(f, "{:>cell$}", "·")?,
                    count => write!(f, "{count:>cell$}")?,
                }
            }
        }
        Ok(())
    }
}

/// How well places in texts are found, summed over texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpanScore {
    /// Code points that should be found, and those of them that were.
    characters: (usize, usize),
    /// Spans that should be found, and those of them that a finding touches.
    wanted: (usize, usize),
    /// Findings, and those of them that touch what should be found.
    found: (usize, usize),
}

impl SpanScore {
    /// Counts one text: ranges that should be found, and ranges that were.
    pub fn count(&mut self, wanted: &[(usize, usize)], found: &[(usize, usize)]) {
        let touches = |a: &(usize, usize), b: &(usize, usize)| a.0 < b.1 && b.0 < a.1;
        for span in wanted {
            let is_covered = |at: &usize| found.iter().any(|each| each.0 <= *at && *at < each.1);
            self.characters.0 += span.1 - span.0;
            self.characters.1 += (span.0..span.1).filter(is_covered).count();
            self.wanted.0 += 1;
            self.wanted.1 += usize::from(found.iter().any(|each| touches(each, span)));
        }
        for span in found {
            self.found.0 += 1;
            self.found.1 += usize::from(wanted.iter().any(|each| touches(each, span)));
        }
    }

    /// The share of characters found: what a leak is measured by.
    pub fn character_recall(&self) -> f64 {
        share(self.characters.1, self.characters.0)
    }

    /// The share of findings that touch something wanted.
    pub fn precision(&self) -> f64 {
        share(self.found.1, self.found.0)
    }

    /// The share of wanted spans that a finding touches.
    pub fn recall(&self) -> f64 {
        share(self.wanted.1, self.wanted.0)
    }

    /// F with weight `beta` on recall, by overlap: 1 for F1, 2 for the F2 that Presidio reports.
    pub fn f(&self, beta: f64) -> f64 {
        let (precision, recall) = (self.precision(), self.recall());
        let below = beta * beta * precision + recall;
        if below == 0.0 { 0.0 } else { (1.0 + beta * beta) * precision * recall / below }
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn accuracy_and_f1_of_a_known_table() {
        let pairs = [(0, 0), (0, 1), (1, 1), (1, 1), (2, 0)];
        assert!(close(accuracy(&pairs), 0.6));
        // Class 0: 2·1/(2+2); class 1: 2·2/(2+3); class 2: 0.
        assert!(close(macro_f1(&pairs, 3), (0.5 + 0.8 + 0.0) / 3.0));
        assert!(close(macro_f1(&[], 3), 0.0));
    }

    #[test]
    fn somebody_who_is_always_sure_and_half_right_is_off_by_half() {
        assert!(close(ece(&[(1.0, true), (1.0, false)]), 0.5));
        assert!(close(ece(&[(0.5, true), (0.5, false)]), 0.0));
    }

    #[test]
    fn auc_counts_ties_half() {
        assert!(close(auc(&[(0.9, true), (0.1, false)]), 1.0));
        assert!(close(auc(&[(0.1, true), (0.9, false)]), 0.0));
        assert!(close(auc(&[(0.5, true), (0.5, false)]), 0.5));
        assert!(close(auc(&[(0.5, true)]), 0.5));
    }

    #[test]
    fn recall_stops_where_false_alarms_would_be_too_many() {
        let mut pairs: Vec<(f32, bool)> = (0..100).map(|n| (n as f32 / 100.0, false)).collect();
        pairs.extend([(0.995, true), (0.985, true), (0.5, true)]);
        assert!(close(recall_at_false_alarms(&pairs, 0.01), 2.0 / 3.0));
        assert!(close(recall_at_false_alarms(&pairs, 0.0), 1.0 / 3.0));
        assert!(close(recall_at_false_alarms(&pairs, 1.0), 1.0));
    }

    #[test]
    fn a_perfect_router_recovers_three_quarters_where_half_can_be_gained() {
        let gain = Outcome { score: 1.0, weak: 0.0, strong: 1.0 };
        let none = Outcome { score: 0.0, weak: 1.0, strong: 1.0 };
        assert!(close(apgr(&[gain, none]), 0.75));
        let swapped = [Outcome { score: 0.0, ..gain }, Outcome { score: 1.0, ..none }];
        assert!(close(apgr(&swapped), 0.25));
        let blind = [Outcome { score: 0.5, ..gain }, Outcome { score: 0.5, ..none }];
        assert!(close(apgr(&blind), 0.5));
    }

    #[test]
    fn the_table_names_rows_and_counts() {
        let labels = ["chat".to_owned(), "other".to_owned()];
        let table = Confusion::of(&labels, &[(0, 0), (0, 1), (0, 1), (1, 1)]);
        assert_eq!(table.worst(5), [("chat", "other", 2)]);
        assert_eq!(table.to_string(), "        1 2\n1 chat  1 2\n2 other · 1");
    }

    #[test]
    fn spans_are_scored_by_characters_and_by_touch() {
        let mut score = SpanScore::default();
        score.count(&[(0, 4), (10, 14)], &[(2, 6), (20, 22)]);
        assert!(close(score.character_recall(), 0.25));
        assert!(close(score.precision(), 0.5) && close(score.recall(), 0.5));
        assert!(close(score.f(2.0), 0.5));
    }

    proptest! {
        #[test]
        fn reversing_the_scores_mirrors_auc_and_apgr(
            rows in prop::collection::vec((0.0_f32..1.0, any::<bool>(), any::<bool>()), 1..60)
        ) {
            let pairs: Vec<(f32, bool)> = rows.iter().map(|row| (row.0, row.1)).collect();
            let mirrored: Vec<(f32, bool)> = rows.iter().map(|row| (-row.0, row.1)).collect();
            prop_assert!(close(auc(&pairs) + auc(&mirrored), 1.0));
            let outcome = |row: &(f32, bool, bool), sign: f32| Outcome {
                score: sign * row.0,
                weak: f64::from(u8::from(row.1)),
                strong: f64::from(u8::from(row.2)),
            };
            let there: Vec<Outcome> = rows.iter().map(|row| outcome(row, 1.0)).collect();
            let back: Vec<Outcome> = rows.iter().map(|row| outcome(row, -1.0)).collect();
            prop_assert!(close(apgr(&there) + apgr(&back), 1.0));
        }
    }
}
