//! The recipe of the deep stage: MiniLM's encoder learns German, then all heads.
//!
//! Each stage leaves a file in the work folder and is not done again when it is there, so an
//! interrupted run goes on where it stopped: `vocab.txt`, `distilled.safetensors`,
//! `tuned.safetensors`. Within a stage a checkpoint is written every few hundred steps; the
//! optimiser's moments are not kept in it and warm up anew, and the mean of the weights is taken
//! over the steps that are left. Files are known by their names: whoever changes the data empties
//! the folder.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::Device;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::classify::encoder::tokenizer::Tokenizer;

use crate::classify::train::data::{Corpus, Example};

use crate::classify::train::metrics;
use crate::request::{Domain, Sensitivity, TaskKind};

pub mod adam;
mod average;
pub mod checkpoint;
pub mod distill;
mod fused;
pub mod net;
pub mod samples;
pub mod ship;
pub mod tune;
pub mod vocabulary;

#[cfg(test)]
mod tests;

use adam::Pace;
use average::Average;
use distill::{Pair, Stage};
use net::{Batch, Net, Tokens};
use tune::{Heads, Sample};

/// What may be chosen about a run.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Plan {
    /// Layers of the encoder, from the lowest.
    pub layers: usize,
    /// German pieces added to the vocabulary.
    pub german_pieces: usize,
    /// Rounds over the pairs in which only German words learn.
    pub word_rounds: usize,
    /// Rounds over the pairs in which all learns.
    pub full_rounds: usize,
    /// Rounds of fine-tuning.
    pub epochs: usize,
    /// Learning rate of fine-tuning at its highest.
    pub rate: f32,
    /// From which share of the steps on weights are averaged.
    pub averaged_from: f32,
    /// Tokens of a text in training.
    pub max_tokens: usize,
    /// Tokens of a batch.
    pub batch_tokens: usize,
    /// Where the random numbers begin.
    pub seed: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            layers: 4,
            german_pieces: 12_000,
            word_rounds: 1,
            full_rounds: 1,
            epochs: 2,
            rate: 8e-5,
            averaged_from: 0.6,
            max_tokens: 128,
            batch_tokens: 2_048,
            seed: 13,
        }
    }
}

/// Why the encoder could not be trained.
#[derive(Debug, thiserror::Error)]
pub enum DeepError {
    /// A file of the recipe.
    #[error("{path}: {what}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The network.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// The tokenizer.
    #[error(transparent)]
    Encoder(#[from] crate::classify::encoder::EncoderError),
}

/// Where things lie.
#[derive(Debug, Clone)]
pub struct Folders {
    /// MiniLM: `vocab.txt` and `model.safetensors`.
    pub base: PathBuf,
    /// What is made.
    pub work: PathBuf,
}

/// A line of progress for people.
pub type Say<'a> = &'a mut dyn FnMut(String);

fn read(path: &Path) -> Result<String, DeepError> {
    std::fs::read_to_string(path)
        .map_err(|error| DeepError::File { path: path.to_owned(), what: error.to_string() })
}

/// A vocabulary: one piece a line.
fn pieces_of(path: &Path) -> Result<Vec<String>, DeepError> {
    Ok(read(path)?.lines().map(str::to_owned).collect())
}

fn write(path: &Path, text: &str) -> Result<(), DeepError> {
    std::fs::write(path, text)
        .map_err(|error| DeepError::File { path: path.to_owned(), what: error.to_string() })
}

/// The vocabulary: made once, then read.
///
/// # Errors
/// [`DeepError::File`] where MiniLM's is missing.
pub fn vocabulary(
    corpus: &Corpus,
    plan: &Plan,
    folders: &Folders,
    say: Say,
) -> Result<Vec<String>, DeepError> {
    let path = folders.work.join("vocab.txt");
    if path.exists() {
        return pieces_of(&path);
    }
    let base = pieces_of(&folders.base.join("vocab.txt"))?;
    let mut counts = HashMap::new();
    for (_, german) in &corpus.pairs {
        vocabulary::count_words(german, &mut counts);
    }
    for example in
        corpus.train.iter().filter(|example| matches!(example.lang.as_str(), "de" | "mixed"))
    {
        vocabulary::count_words(&example.text, &mut counts);
    }
    let pieces = vocabulary::extend(&base, &counts, plan.german_pieces);
    say(format!(
        "vocabulary: {} English pieces, {} German from {} words",
        base.len(),
        pieces.len() - base.len(),
        counts.len()
    ));
    write(&path, &(pieces.join("\n") + "\n"))?;
    Ok(pieces)
}

fn tokenizer_of(pieces: &[String]) -> Result<Tokenizer, DeepError> {
    Ok(Tokenizer::from_vocabulary(pieces.join("\n").as_bytes())?)
}

fn whole(tokenizer: &Tokenizer, text: &str) -> Result<Tokens, DeepError> {
    let read = tokenizer.encode(text, "", 64)?;
    Ok(Tokens {
        ids: read.ids,
        types: read.types.into_iter().map(u32::from).collect(),
        shapes: vec![0; read.shapes.len()],
    })
}

/// The encoder that reads German, distilled from MiniLM; made once, then read.
///
/// # Errors
/// [`DeepError`] where a file is missing or a number is none.
pub fn distilled(
    corpus: &Corpus,
    pieces: &[String],
    plan: &Plan,
    folders: &Folders,
    say: Say,
) -> Result<Net, DeepError> {
    let path = folders.work.join("distilled.safetensors");
    if path.exists() {
        return Ok(checkpoint::load(&path, plan.layers, &Device::Cpu)?);
    }
    let base = pieces_of(&folders.base.join("vocab.txt"))?;
    let (small, large) = (tokenizer_of(&base)?, tokenizer_of(pieces)?);
    let pairs: Vec<Pair> = corpus
        .pairs
        .iter()
        .map(|(english, german)| Pair { english: english.clone(), german: german.clone() })
        .collect();
    let mut net =
        checkpoint::load(&folders.base.join("model.safetensors"), plan.layers, &Device::Cpu)?;
    let teacher_reads =
        pairs.iter().map(|pair| whole(&small, &pair.english)).collect::<Result<Vec<_>, _>>()?;
    let targets = distill::vectors(&net, &teacher_reads)?;
    let crumbs = |word: &str| small.encode_whole(word).map(|read| read.ids).unwrap_or_default();
    net.words = distill::grow(&net.words, pieces, &distill::translations(&pairs, 6), &crumbs);
    let german =
        pairs.iter().map(|pair| whole(&large, &pair.german)).collect::<Result<Vec<_>, _>>()?;
    let english =
        pairs.iter().map(|pair| whole(&large, &pair.english)).collect::<Result<Vec<_>, _>>()?;
    let stages: Vec<Stage> = std::iter::repeat_n(Stage::Words, plan.word_rounds)
        .chain(std::iter::repeat_n(Stage::All, plan.full_rounds))
        .collect();
    let mut random = StdRng::seed_from_u64(plan.seed);
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    let total = (order.len().div_ceil(128) * stages.len()) as f32;
    let mut count = 0u32;
    for (round, stage) in stages.iter().enumerate() {
        order.shuffle(&mut random);
        let mut batches = buckets(&order, 128, |at| german[at].ids.len());
        batches.shuffle(&mut random);
        let mut sum = 0.0;
        for (at, batch) in batches.iter().enumerate() {
            count += 1;
            let highest = if *stage == Stage::Words { 2e-3 } else { 2e-4 };
            let rate =
                highest * (count as f32 / 100.0).min(1.0) * (1.0 - 0.9 * count as f32 / total);
            let mut texts: Vec<&Tokens> = batch.iter().map(|at| &german[*at]).collect();
            let mut wanted: Vec<&[f32]> = batch.iter().map(|at| targets[*at].as_slice()).collect();
            if *stage == Stage::All {
                texts.extend(batch.iter().step_by(2).map(|at| &english[*at]));
                wanted.extend(batch.iter().step_by(2).map(|at| targets[*at].as_slice()));
            }
            sum += distill::step(
                &mut net,
                &texts,
                &wanted,
                Pace { rate, decay: 0.01, step: count },
                *stage,
            )?;
            if at % 50 == 49 {
                say(format!(
                    "distil: round {} of {}, step {} of {}, distance {:.2}",
                    round + 1,
                    stages.len(),
                    at + 1,
                    batches.len(),
                    sum / 50.0
                ));
                sum = 0.0;
            }
        }
    }
    checkpoint::save(&net, &path)?;
    Ok(net)
}

/// Batches of about one length each.
fn buckets(order: &[usize], size: usize, length: impl Fn(usize) -> usize) -> Vec<Vec<usize>> {
    order
        .chunks(size * 20)
        .flat_map(|chunk| {
            let mut chunk = chunk.to_vec();
            chunk.sort_by_key(|at| length(*at));
            chunk.chunks(size).map(<[usize]>::to_vec).collect::<Vec<_>>()
        })
        .collect()
}

/// Batches of at most `tokens` tokens with padding, sequences of about one length together.
pub(in crate::classify::train) fn by_tokens(
    order: &[usize],
    tokens: usize,
    length: impl Fn(usize) -> usize,
) -> Vec<Vec<usize>> {
    let mut batches = Vec::new();
    for chunk in order.chunks(1_024) {
        let mut chunk = chunk.to_vec();
        chunk.sort_by_key(|at| length(*at));
        let mut batch: Vec<usize> = Vec::new();
        for at in chunk {
            if !batch.is_empty() && (batch.len() + 1) * length(at) > tokens {
                batches.push(std::mem::take(&mut batch));
            }
            batch.push(at);
        }
        batches.push(batch);
    }
    batches
}

/// Fine-tunes all heads; made once, then read.
///
/// # Errors
/// [`DeepError`] where a file is missing or a number is none.
pub fn tuned(
    net: Net,
    corpus: &Corpus,
    pieces: &[String],
    plan: &Plan,
    folders: &Folders,
    say: Say,
) -> Result<Net, DeepError> {
    let path = folders.work.join("tuned.safetensors");
    if path.exists() {
        return Ok(checkpoint::load(&path, plan.layers, &Device::Cpu)?);
    }
    let tokenizer = tokenizer_of(pieces)?;
    let heads = samples::heads();
    let (held, train): (Vec<&Example>, Vec<&Example>) =
        corpus.train.iter().partition(|example| example.is_kept_back());
    let train: Vec<Example> = train.into_iter().cloned().collect();
    let make = |example: &Example| samples::sample(example, &tokenizer, plan.max_tokens);
    let all: Vec<Sample> = train.iter().map(make).collect::<Result<_, _>>()?;
    let held: Vec<(Example, Sample)> = held
        .into_iter()
        .map(|example| Ok((example.clone(), make(example)?)))
        .collect::<Result<_, DeepError>>()?;
    let dev: Vec<(Example, Sample)> = corpus
        .dev_real
        .iter()
        .map(|example| Ok((example.clone(), make(example)?)))
        .collect::<Result<_, DeepError>>()?;

    let part = folders.work.join("tuning.safetensors");
    let progress = folders.work.join("tuning.json");
    let mut done = 0u32;
    let mut net = if part.exists() && progress.exists() {
        done = read(&progress)?.trim().parse().map_err(|_| DeepError::File {
            path: progress.clone(),
            what: "not a number of steps".to_owned(),
        })?;
        checkpoint::load(&part, plan.layers, &Device::Cpu)?
    } else {
        net
    };
    net.frozen.clear();
    let mut random = StdRng::seed_from_u64(plan.seed);
    tune::add_heads(&mut net, &heads, &mut || random.random::<f32>());

    let epochs: Vec<Vec<Vec<usize>>> = (0..plan.epochs)
        .map(|epoch| {
            let order = samples::draw(&train, plan.seed + epoch as u64);
            let mut batches = by_tokens(&order, plan.batch_tokens, |at| all[at].tokens.ids.len());
            batches.shuffle(&mut StdRng::seed_from_u64(plan.seed + 1_000 + epoch as u64));
            batches
        })
        .collect();
    let total: usize = epochs.iter().map(Vec::len).sum();
    say(format!(
        "tune: {} examples, {} held back, {} steps, {} of them done",
        all.len(),
        held.len(),
        total,
        done
    ));
    let start = done;
    let mut average = Average::default();
    let mut sum = 0.0;
    for (at, batch) in epochs.iter().flatten().enumerate() {
        if (at as u32) < done {
            continue;
        }
        let warm = ((at as u32 - start + 1) as f32 / 60.0).min(1.0);
        let rate = plan.rate * warm * (1.0 - 0.95 * at as f32 / total as f32);
        let batch: Vec<&Sample> = batch.iter().map(|at| &all[*at]).collect();
        done += 1;
        sum += tune::step(
            &mut net,
            &batch,
            &heads,
            Pace { rate, decay: 0.01, step: done - start },
            0.1,
        )?;
        if done as f32 > plan.averaged_from * total as f32 && done.is_multiple_of(10) {
            average.add(&net);
        }
        if done.is_multiple_of(25) {
            say(format!("tune: step {done} of {total}, loss {:.3}", sum / 25.0));
            sum = 0.0;
        }
        if done.is_multiple_of(300) || done as usize == total {
            checkpoint::save(&net, &part)?;
            write(&progress, &done.to_string())?;
            say(format!("  dev_real: {}", score(&net, &heads, &dev)?));
            say(format!("  held back: {}", score(&net, &heads, &held)?));
        }
    }
    if let Some(steps) = average.replace(&mut net) {
        say(format!("tune: the mean of the weights at {steps} steps"));
        say(format!("  dev_real: {}", score(&net, &heads, &dev)?));
        say(format!("  held back: {}", score(&net, &heads, &held)?));
    }
    checkpoint::save(&net, &path)?;
    Ok(net)
}

/// What the heads say of labelled examples.
#[derive(Debug, Clone, Default)]
pub struct Scores {
    /// Accuracy of the task: English, German.
    pub task: [f64; 2],
    /// Accuracy of the field.
    pub domain: f64,
    /// Accuracy of the level: English, German.
    pub sensitivity: [f64; 2],
    /// Area under the curve of injection.
    pub injection: f64,
}

impl std::fmt::Display for Scores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "task en {:.3} de {:.3}, domain {:.3}, sensitivity en {:.3} de {:.3}, injection AUC {:.3}",
            self.task[0],
            self.task[1],
            self.domain,
            self.sensitivity[0],
            self.sensitivity[1],
            self.injection
        )
    }
}

/// Logits of all class heads, one row an example.
///
/// # Errors
/// The network's.
pub fn logits(net: &Net, texts: &[&Tokens]) -> Result<Vec<Vec<f32>>, DeepError> {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|at| texts[*at].ids.len());
    let mut found = vec![Vec::new(); texts.len()];
    for batch in by_tokens(&order, 4_096, |at| texts[at].ids.len()) {
        let pass =
            net.pass(&Batch::of(&batch.iter().map(|at| texts[*at]).collect::<Vec<_>>()), 0.0)?;
        for (at, row) in batch.iter().zip(tune::classes(&pass)?.to_vec2::<f32>()?) {
            found[*at] = row;
        }
    }
    Ok(found)
}

fn score(net: &Net, heads: &Heads, examples: &[(Example, Sample)]) -> Result<Scores, DeepError> {
    let rows = logits(net, &examples.iter().map(|(_, sample)| &sample.tokens).collect::<Vec<_>>())?;
    let starts: Vec<usize> = heads
        .widths
        .iter()
        .scan(0, |at, width| {
            *at += width;
            Some(*at - width)
        })
        .collect();
    let best = |row: &[f32], head: usize| {
        let own = &row[starts[head]..starts[head] + heads.widths[head]];
        own.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(at, _)| at)
    };
    let of = |lang: &str, head: usize, truth: &dyn Fn(&Example) -> Option<usize>| {
        let pairs: Vec<(usize, usize)> = examples
            .iter()
            .zip(&rows)
            .filter(|((example, _), _)| lang.is_empty() || example.lang == lang)
            .filter_map(|((example, _), row)| Some((truth(example)?, best(row, head))))
            .collect();
        metrics::accuracy(&pairs)
    };
    let task =
        |example: &Example| TaskKind::ALL.iter().position(|kind| Some(*kind) == example.task);
    let domain =
        |example: &Example| Domain::ALL.iter().position(|kind| Some(*kind) == example.domain);
    let level = |example: &Example| {
        Sensitivity::ALL.iter().position(|kind| Some(*kind) == example.sensitivity)
    };
    let attacks: Vec<(f32, bool)> = examples
        .iter()
        .zip(&rows)
        .filter_map(|((example, _), row)| Some((row[starts[4]], example.injection?)))
        .collect();
    Ok(Scores {
        task: [of("en", 0, &task), of("de", 0, &task)],
        domain: of("", 1, &domain),
        sensitivity: [of("en", 3, &level), of("de", 3, &level)],
        injection: metrics::auc(&attacks),
    })
}
