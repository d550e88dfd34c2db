//! Where would a cheap model fail? What the fast stage tells on sets that it has not learnt from,
//! beside the length of the prompt alone.
//!
//! ```sh
//! cargo run --release --package stellwerk-core --example score_complexity -- DATA assets/training
//! ```
//!
//! Each of the two collections of measured prompts is left out in turn. APGR is taken within each
//! set (RouteLLM, arXiv 2406.18665) and over all sets of a collection together; 0.5 is chance.

#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::path::Path;

use stellwerk_core::classify::fast::features;
use stellwerk_core::classify::heads::Head;
use stellwerk_core::classify::train::data::{Corpus, Example};
use stellwerk_core::classify::train::fast::{Learner, Options, rows};
use stellwerk_core::classify::train::metrics::{Outcome, apgr};
use stellwerk_core::classify::train::recipe::outcome;

/// How much the logarithm of the length counts beside the words; infinite: alone.
const WEIGHTS: [f32; 9] = [0.0, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, f32::INFINITY];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [data, authored] = &words[..] else {
        eprintln!("usage: score_complexity DATA AUTHORED");
        return;
    };
    let corpus = match Corpus::load(Path::new(data), Some(Path::new(authored))) {
        Ok(corpus) => corpus,
        Err(error) => {
            eprintln!("{error}");
            return;
        }
    };
    println!(
        "| left out | weight of length | within sets | all sets together |\n|---|---|---|---|"
    );
    for family in ["mmlu_pro", "llmrouter"] {
        let is_out = |example: &&Example| example.source.starts_with(family);
        let kept: Vec<&Example> = corpus
            .train
            .iter()
            .filter(|example| !is_out(example) && example.complexity.is_some())
            .collect();
        let options = Options::default();
        let rows = rows(&kept, &options);
        let mut learner = Learner::new(options.clone());
        while learner.done < options.epochs {
            learner.epoch(&rows);
        }
        let left_out: Vec<&Example> = corpus.train.iter().filter(is_out).collect();
        for weight in WEIGHTS {
            let score = |example: &Example| {
                let length = (example.text.len().max(4) as f32).ln();
                let logits = learner.logits(&features(&example.input()));
                match weight.is_finite() {
                    true => logits.of(Head::Complexity)[0] + weight * length,
                    false => length,
                }
            };
            let mut sets: BTreeMap<&str, Vec<Outcome>> = BTreeMap::new();
            for example in &left_out {
                if let Some(outcome) = outcome(example, score(example)) {
                    sets.entry(&example.source).or_default().push(outcome);
                }
            }
            let all: Vec<Outcome> = sets.values().flatten().copied().collect();
            let within: Vec<f64> =
                sets.values().filter(|set| set.len() >= 100).map(|set| apgr(set)).collect();
            let mean = within.iter().sum::<f64>() / within.len().max(1) as f64;
            println!("| {family} | {weight} | {mean:.3} | {:.3} |", apgr(&all));
        }
    }
}
