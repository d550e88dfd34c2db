//! Teaches the encoder a company's own classes first; then the classifier learns from its vectors.
//!
//! The lines that are held out are held out here too, so that the scores stay honest. What is
//! tuned lies beside the classifier, in int8, and belongs to it alone. An interrupted run goes on
//! from its last checkpoint. Knows nothing of the command line.

use std::path::{Path, PathBuf};

use candle_core::Device;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use sha2::{Digest, Sha256};

use super::{Data, OwnScores, OwnSettings, TrainError, labels, learn, split};
use crate::classify::deep::{Deep, DeepFiles, Vectors};
use crate::classify::encoder::{Config, Tokenizer, Weights, quantize};
use crate::classify::own::{Own, TUNED};
use crate::classify::plain::plain;
use crate::classify::train::deep::adam::Pace;
use crate::classify::train::deep::net::Net;
use crate::classify::train::deep::tune::{self, Heads, Sample, Target};
use crate::classify::train::deep::{by_tokens, checkpoint, samples};
use crate::classify::train::manifest::{FolderError, key, write};
use crate::classify::train::recipe::Progress;

/// How to tune.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TuneSettings {
    /// Passes over the lines.
    pub epochs: usize,
    /// Learning rate at its highest.
    pub rate: f32,
    /// Tokens of a line.
    pub max_tokens: usize,
    /// Tokens of a batch.
    pub batch_tokens: usize,
    /// For everything that is drawn by lot.
    pub seed: u64,
}

impl Default for TuneSettings {
    fn default() -> Self {
        TuneSettings { epochs: 4, rate: 1e-4, max_tokens: 96, batch_tokens: 768, seed: 13 }
    }
}

/// Steps between two checkpoints: about a minute's work.
const CHECKPOINT: usize = 150;

/// Tunes the encoder that ships on the lines, then learns, scores and writes the folder.
///
/// # Errors
/// [`TrainError`].
pub fn train_tuned(
    data: &Data,
    settings: &OwnSettings,
    tuning: &TuneSettings,
    files: &DeepFiles,
    folder: &Path,
    now: jiff::Timestamp,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<OwnScores, TrainError> {
    let failed = |path: &Path, cause| FolderError::Write { path: path.to_owned(), cause };
    std::fs::create_dir_all(folder).map_err(|cause| failed(folder, cause))?;
    let labels = labels(&data.lines)?;
    let unfinished = Unfinished::in_folder(folder, key_of(data, settings, tuning, files));
    let files = tuned(data, &labels, settings, tuning, files, &unfinished, tell)?;
    let deep = Deep::load_headless(&files, "auto").map_err(broken)?;
    let id = deep.id().to_owned();
    let vectors = Vectors { id, of: Box::new(move |input| deep.vector(input)) };
    let scores = learn(data, settings, Some(&vectors), folder, now, tell)?;
    for (name, bytes) in TUNED.iter().zip([&files.config, &files.weights, &files.vocabulary]) {
        write(&folder.join(name), bytes)?;
    }
    unfinished.forget();
    debug_assert!(Own::load(folder).is_ok());
    Ok(scores)
}

/// What a run depends on: data, settings, and the encoder that it begins with.
fn key_of(data: &Data, settings: &OwnSettings, tuning: &TuneSettings, files: &DeepFiles) -> String {
    let begun = [&files.config, &files.weights, &files.vocabulary]
        .map(|bytes| hex::encode(Sha256::digest(bytes)));
    let written = serde_json::json!({ "tuning": tuning, "learning": settings, "encoder": begun });
    key(std::slice::from_ref(&data.file), &written)
}

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> TrainError {
    TrainError::Encoder(Box::new(error))
}

/// Where an unfinished run lies.
struct Unfinished {
    weights: PathBuf,
    step: PathBuf,
    key: String,
}

impl Unfinished {
    fn in_folder(folder: &Path, key: String) -> Self {
        Unfinished {
            weights: folder.join("tuning.part"),
            step: folder.join("tuning-step.part"),
            key,
        }
    }

    /// The weights and how many steps they have learnt; `None` where there are none of this run.
    fn read(&self, layers: usize) -> Option<(Net, usize)> {
        let noted = std::fs::read_to_string(&self.step).ok()?;
        let step = noted.strip_prefix(&self.key)?.trim().parse().ok()?;
        Some((checkpoint::load(&self.weights, layers, &Device::Cpu).ok()?, step))
    }

    fn write(&self, net: &Net, step: usize) -> Result<(), TrainError> {
        let failed = |cause| FolderError::Write { path: self.weights.clone(), cause };
        // Without its step a checkpoint is none: first it goes, last it comes.
        let _was_there = std::fs::remove_file(&self.step);
        std::fs::write(&self.weights, checkpoint::bytes(net).map_err(broken)?).map_err(failed)?;
        std::fs::write(&self.step, format!("{} {step}", self.key)).map_err(failed)?;
        Ok(())
    }

    fn forget(&self) {
        for path in [&self.weights, &self.step] {
            // What is left behind is begun anew next time, and its name says what it is.
            let _was_there = std::fs::remove_file(path);
        }
    }
}

/// The tuned encoder's files.
fn tuned(
    data: &Data,
    labels: &[String],
    settings: &OwnSettings,
    tuning: &TuneSettings,
    files: &DeepFiles,
    unfinished: &Unfinished,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<DeepFiles, TrainError> {
    let config = files.config().map_err(broken)?;
    let tokenizer = Tokenizer::from_vocabulary(&files.vocabulary).map_err(broken)?;
    let classes: Vec<(usize, usize)> = data
        .lines
        .iter()
        .map(|line| labels.binary_search(&line.label).unwrap_or_default())
        .enumerate()
        .collect();
    let (kept, _) = split(&classes, |(_, class)| *class, labels.len(), settings);
    let sample = |&&(at, class): &&(usize, usize)| {
        let text = plain(&data.lines[at].text);
        let read = tokenizer.encode(&text, "", tuning.max_tokens).map_err(broken)?;
        let targets = vec![Target::Class(class)];
        Ok(Sample { tokens: samples::plain(read), weight: 1.0, targets, tags: None })
    };
    let all: Vec<Sample> = kept.iter().map(sample).collect::<Result<_, TrainError>>()?;
    let heads = Heads {
        widths: vec![labels.len()],
        weights: vec![1.0],
        tags: 0,
        tags_weight: 0.0,
        smoothing: 0.05,
    };

    let (mut net, done) = match unfinished.read(config.layers) {
        Some(begun) => begun,
        None => (widened(files, &config)?, 0),
    };
    let mut random = StdRng::seed_from_u64(tuning.seed);
    tune::add_heads(&mut net, &heads, &mut || random.random::<f32>());
    let batches = batches(&all, tuning);
    let total = batches.len();
    for (at, batch) in batches.iter().enumerate().skip(done) {
        tell(Progress { done: at, of: total, what: "tuning" });
        let warm = ((at - done + 1) as f32 / 50.0).min(1.0);
        let rate = tuning.rate * warm * (1.0 - 0.95 * at as f32 / total as f32);
        let batch: Vec<&Sample> = batch.iter().map(|at| &all[*at]).collect();
        let step = u32::try_from(at - done + 1).unwrap_or(u32::MAX);
        let pace = Pace { rate, decay: 0.01, step };
        tune::step(&mut net, &batch, &heads, pace, 0.1).map_err(broken)?;
        if (at + 1).is_multiple_of(CHECKPOINT) || at + 1 == total {
            unfinished.write(&net, at + 1)?;
        }
    }
    written(&net, &config, files)
}

/// All passes' batches in their drawn order, the same for every run.
fn batches(all: &[Sample], tuning: &TuneSettings) -> Vec<Vec<usize>> {
    let mut random = StdRng::seed_from_u64(tuning.seed);
    let mut batches = Vec::new();
    for _ in 0..tuning.epochs {
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.shuffle(&mut random);
        let mut pass = by_tokens(&order, tuning.batch_tokens, |at| all[at].tokens.ids.len());
        pass.shuffle(&mut random);
        batches.extend(pass);
    }
    batches
}

/// The encoder that ships, in numbers that can learn.
fn widened(files: &DeepFiles, config: &Config) -> Result<Net, TrainError> {
    let weights = Weights::read(files.weights.clone()).map_err(broken)?;
    let tensors = weights.widened(config, &Device::Cpu).map_err(broken)?;
    checkpoint::of(tensors, config.layers, &Device::Cpu).map_err(broken)
}

/// The tuned encoder without heads: the classifier reads its vectors.
fn written(net: &Net, config: &Config, files: &DeepFiles) -> Result<DeepFiles, TrainError> {
    let config = Config { classes: 0, tags: 0, ..config.clone() };
    let floats = checkpoint::bytes(net).map_err(broken)?;
    let weights = quantize(&config, &floats).map_err(broken)?;
    let described = serde_json::to_vec_pretty(&config).unwrap_or_default();
    Ok(DeepFiles {
        config: described.into(),
        weights: weights.into(),
        vocabulary: files.vocabulary.clone(),
    })
}
