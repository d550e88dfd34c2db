//! Learns a classifier of one's own from labelled lines, and says how good it will be.
//!
//! A tenth of the lines of each class is held out first, learnt without, and scored; then all is
//! learnt once more for what is kept. A pass is written down when it is done, so that an
//! interrupted run goes on where it stopped. Knows nothing of the command line.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::classify::Input;
use crate::classify::deep::Vectors;
use crate::classify::fast::{Features, features};
use crate::classify::heads::{likeliest, softmax};
use crate::classify::own::{Dense, FILES, Own, OwnFile, TUNED, Weights, each};
use crate::classify::train::calibrate::above;
use crate::classify::train::data::FileFact;
use crate::classify::train::fast::Lot;
use crate::classify::train::manifest::{FolderError, Manifest, Score, Stage, key, write};
use crate::classify::train::metrics::{Confusion, accuracy, ece, macro_f1};
use crate::classify::train::recipe::Progress;

#[cfg(test)]
mod tests;
pub mod tuned;

/// How to learn.
#[derive(Debug, Clone, PartialEq, serde::Serialize, Deserialize)]
pub struct OwnSettings {
    /// Passes over the lines.
    pub epochs: usize,
    /// AdaGrad's step.
    pub rate: f32,
    /// The share of features left out of each update.
    pub drop: f32,
    /// Label smoothing.
    pub smoothing: f32,
    /// The share of each class that is held out to be scored on.
    pub held_out: f32,
    /// How often an answer above the suggested threshold should be right.
    pub precision: f64,
    /// For everything that is drawn by lot.
    pub seed: u64,
}

impl Default for OwnSettings {
    fn default() -> Self {
        OwnSettings {
            epochs: 20,
            rate: 0.25,
            drop: 0.4,
            smoothing: 0.02,
            held_out: 0.1,
            precision: 0.95,
            seed: 13,
        }
    }
}

/// A labelled line.
#[derive(Clone, PartialEq, Eq)]
pub struct Line {
    /// The text.
    pub text: String,
    /// Its class.
    pub label: String,
}

/// Shows the label, never the text: the lines are a company's own.
impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Line({})", self.label)
    }
}

/// Labelled lines with what the manifest says of them.
#[derive(Debug, Clone)]
pub struct Data {
    /// The lines.
    pub lines: Vec<Line>,
    /// The file.
    pub file: FileFact,
}

/// Why nothing was learnt. The messages say what to do.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The file cannot be read.
    #[error("could not read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// Lines that are none, the first few named by number.
    #[error("{} lines cannot be used; the first: {}", .count, .first.join("; "))]
    Lines {
        /// How many.
        count: usize,
        /// `line 7: "label" is missing`.
        first: Vec<String>,
    },
    /// One class only, or none.
    #[error("there must be at least two different labels; the file has {0}")]
    Classes(usize),
    /// More classes than lines could teach.
    #[error(
        "{0} different labels are more than the {MOST_CLASSES} that can be told apart; is \"label\" the right field?"
    )]
    TooManyClasses(usize),
    /// Too little to learn from and score on.
    #[error("{0} lines are too few; each class needs at least five, better fifty")]
    TooFew(usize),
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The weights cannot be written.
    #[error("could not write the weights")]
    Weights(#[from] safetensors::SafeTensorError),
    /// The encoder could not be tuned.
    #[error("the encoder could not be tuned")]
    Encoder(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What came out.
#[derive(Debug, Clone)]
pub struct OwnScores {
    /// On lines held out.
    pub accuracy: f64,
    /// Mean over classes.
    pub macro_f1: f64,
    /// Calibration error.
    pub ece: f64,
    /// Lines held out.
    pub held_out: usize,
    /// Lines in all.
    pub lines: usize,
    /// Below this confidence the answer should not be relied on.
    pub threshold: f32,
    /// The share of held-out lines that are above it, and how many of those are right.
    pub above: (f64, f64),
    /// Truth by guess.
    pub confusion: Confusion,
    /// Classes with so few lines that none was held out.
    pub unscored: Vec<String>,
}

const MOST_CLASSES: usize = 2_000;
const MOST_TOLD: usize = 10;

/// Reads lines `{"text","label"}`; a label may be a number.
///
/// # Errors
/// [`TrainError`] names each wrong line by its number and quotes no text.
pub fn read(path: &Path) -> Result<Data, TrainError> {
    let error = |cause| TrainError::Read { path: path.to_owned(), cause };
    let bytes = std::fs::read(path).map_err(error)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let is_packed = bytes.starts_with(&[0x1f, 0x8b]);
    let unpacked: Box<dyn std::io::Read + '_> = match is_packed {
        true => Box::new(flate2::read::MultiGzDecoder::new(&bytes[..])),
        false => Box::new(&bytes[..]),
    };
    let mut lines = Vec::new();
    let mut wrong = Vec::new();
    for (number, line) in BufReader::new(unpacked).split(b'\n').enumerate() {
        match line_of(&line.map_err(error)?) {
            Ok(Some(line)) => lines.push(line),
            Ok(None) => {}
            Err(what) => wrong.push(format!("line {}: {what}", number + 1)),
        }
    }
    if !wrong.is_empty() {
        let count = wrong.len();
        wrong.truncate(MOST_TOLD);
        return Err(TrainError::Lines { count, first: wrong });
    }
    let rows = lines.len();
    Ok(Data { lines, file: FileFact { path: name, sha256, rows, dropped: 0 } })
}

fn line_of(bytes: &[u8]) -> Result<Option<Line>, &'static str> {
    #[derive(Deserialize)]
    struct Written {
        text: Option<Value>,
        label: Option<Value>,
    }
    let line = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
    if line.trim().is_empty() {
        return Ok(None);
    }
    let written: Written = serde_json::from_str(line.trim_start_matches('\u{feff}'))
        .map_err(|_| "it is no JSON object")?;
    let text = match written.text {
        Some(Value::String(text)) if !text.trim().is_empty() => text,
        Some(Value::String(_)) => return Err("\"text\" is empty"),
        Some(_) => return Err("\"text\" is no string"),
        None => return Err("\"text\" is missing"),
    };
    let label = match written.label {
        Some(Value::String(label)) if !label.trim().is_empty() => label.trim().to_owned(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Bool(flag)) => flag.to_string(),
        Some(Value::String(_)) => return Err("\"label\" is empty"),
        Some(_) => return Err("\"label\" is neither a word nor a number"),
        None => return Err("\"label\" is missing"),
    };
    Ok(Some(Line { text, label }))
}

/// Learns, scores, and writes the folder.
///
/// # Errors
/// [`TrainError`].
pub fn train(
    data: &Data,
    settings: &OwnSettings,
    encoder: Option<&Vectors>,
    folder: &Path,
    now: jiff::Timestamp,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<OwnScores, TrainError> {
    let scores = learn(data, settings, encoder, folder, now, tell)?;
    // An encoder of an earlier training goes last: until then the earlier classifier works.
    for name in TUNED {
        remove(&folder.join(name))?;
    }
    debug_assert!(Own::load(folder).is_ok());
    Ok(scores)
}

/// The same beside what lies in the folder.
fn learn(
    data: &Data,
    settings: &OwnSettings,
    encoder: Option<&Vectors>,
    folder: &Path,
    now: jiff::Timestamp,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<OwnScores, TrainError> {
    let labels = labels(&data.lines)?;
    let error = |cause| FolderError::Write { path: folder.to_owned(), cause };
    std::fs::create_dir_all(folder).map_err(error)?;
    let encoder_id = encoder.map(|encoder| encoder.id.as_str());
    let written = serde_json::json!({ "learning": settings, "encoder": encoder_id });
    let key = key(std::slice::from_ref(&data.file), &written);

    let rows = rows(&data.lines, &labels, encoder, tell);
    let vectors: Vec<&[f32]> = rows.iter().filter_map(|row| row.vector.as_deref()).collect();
    let dense = Dense::of(&vectors, labels.len());
    let encoder_id = encoder_id.filter(|_| dense.is_some());
    let (kept, held) = split(&rows, |row| row.class, labels.len(), settings);
    let width = labels.len();
    let mut run = Run { settings, folder, key: &key, width, dense, tell, done: 0 };
    let measured = run.learn(&kept, "held-out")?;
    let (scores, temperature) = score(&measured, &held, &labels, rows.len(), settings);
    let all: Vec<&Row> = rows.iter().collect();
    let weights = run.learn(&all, "everything")?;

    let threshold = scores.threshold;
    let encoder = encoder_id.map(str::to_owned);
    let file = OwnFile { version: 1, labels, temperature, threshold, encoder };
    write(&folder.join(FILES[1]), &weights.to_bytes()?)?;
    write(&folder.join(FILES[0]), &serde_json::to_vec_pretty(&file).unwrap_or_default())?;
    run.forget()?;
    let mut manifest = Manifest::of(folder)?;
    manifest.data = vec![data.file.clone()];
    let stage = Stage { settings: written, key: key.clone(), scores: noted(&scores) };
    manifest.stages.insert("own".to_owned(), stage);
    manifest.write(folder, now)?;
    Ok(scores)
}

fn labels(lines: &[Line]) -> Result<Vec<String>, TrainError> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for line in lines {
        *counts.entry(&line.label).or_default() += 1;
    }
    match counts.len() {
        few @ 0..=1 => return Err(TrainError::Classes(few)),
        many if many > MOST_CLASSES => return Err(TrainError::TooManyClasses(many)),
        _ => {}
    }
    if counts.values().all(|count| *count < FEWEST_TO_HOLD_OUT) {
        return Err(TrainError::TooFew(lines.len()));
    }
    Ok(counts.into_keys().map(str::to_owned).collect())
}

struct Row {
    features: Features,
    /// What the encoder makes of the text, where there is one and the text is more than noise.
    vector: Option<Vec<f32>>,
    class: usize,
}

fn rows(
    lines: &[Line],
    labels: &[String],
    encoder: Option<&Vectors>,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Vec<Row> {
    let mut rows = Vec::with_capacity(lines.len());
    for (done, line) in lines.iter().enumerate() {
        if encoder.is_some() && done.is_multiple_of(100) {
            tell(Progress { done, of: lines.len(), what: "reading" });
        }
        let input = Input::text(&line.text);
        rows.push(Row {
            features: features(&input),
            vector: encoder.and_then(|encoder| (encoder.of)(&input)),
            class: labels.binary_search(&line.label).unwrap_or_default(),
        });
    }
    rows
}

/// Of a class with fewer lines none is held out: it needs them all.
const FEWEST_TO_HOLD_OUT: usize = 5;

/// The same share of every class, drawn by lot.
fn split<'r, T>(
    rows: &'r [T],
    class: impl Fn(&T) -> usize,
    classes: usize,
    settings: &OwnSettings,
) -> (Vec<&'r T>, Vec<&'r T>) {
    let mut by_class: Vec<Vec<&'r T>> = (0..classes).map(|_| Vec::new()).collect();
    rows.iter().for_each(|row| by_class[class(row)].push(row));
    let (mut kept, mut held) = (Vec::new(), Vec::new());
    let mut lot = Lot::new(settings.seed);
    for mut of_class in by_class {
        lot.shuffle(&mut of_class);
        let share = (of_class.len() as f32 * settings.held_out).ceil() as usize;
        let out = if of_class.len() < FEWEST_TO_HOLD_OUT { 0 } else { share.max(1) };
        held.extend(of_class.drain(..out));
        kept.extend(of_class);
    }
    (kept, held)
}

struct Run<'r> {
    settings: &'r OwnSettings,
    folder: &'r Path,
    key: &'r str,
    width: usize,
    /// What learning begins with where there is an encoder.
    dense: Option<Dense>,
    tell: &'r mut dyn FnMut(Progress<'_>),
    done: usize,
}

impl Run<'_> {
    /// All passes over some rows, from where an earlier run stopped.
    fn learn(&mut self, rows: &[&Row], part: &str) -> Result<Weights, TrainError> {
        let (mut learner, first) = self.resumed(part);
        self.done += first;
        for epoch in first..self.settings.epochs {
            let of = 2 * self.settings.epochs;
            (self.tell)(Progress { done: self.done, of, what: part });
            // The lots of a pass depend on its number alone, so that going on draws the same.
            let mut lot = Lot::new(self.settings.seed + 1 + epoch as u64);
            let mut order: Vec<&Row> = rows.to_vec();
            lot.shuffle(&mut order);
            let rate = self.settings.rate / (1.0 + epoch as f32 * 0.3);
            order.iter().for_each(|row| learner.learn(row, rate, self.settings, &mut lot));
            self.done += 1;
            let is_last = epoch + 1 == self.settings.epochs;
            if is_last || learner.is_worth_writing(rows.len()) {
                self.write_down(part, &learner, epoch + 1)?;
            }
        }
        Ok(learner.weights)
    }

    fn checkpoint(&self, part: &str) -> PathBuf {
        self.folder.join(format!("{part}.part"))
    }

    fn write_down(&self, part: &str, learner: &Learner, epochs: usize) -> Result<(), TrainError> {
        let bytes = learner.to_bytes(self.key, epochs)?;
        // Its name ends in `part` already, so it must be moved from another one.
        let (path, beside) = (self.checkpoint(part), self.folder.join(format!("{part}.new.part")));
        let error = |cause| FolderError::Write { path: path.clone(), cause };
        std::fs::write(&beside, bytes).map_err(error)?;
        std::fs::rename(&beside, &path).map_err(error)?;
        Ok(())
    }

    /// A checkpoint of the same data and settings; anything else is begun anew.
    fn resumed(&self, part: &str) -> (Learner, usize) {
        let read = std::fs::read(self.checkpoint(part)).ok();
        let resumed =
            read.and_then(|bytes| Learner::from_bytes(&bytes, self.key, self.width, &self.dense));
        resumed.unwrap_or_else(|| (Learner::new(self.width, self.dense.clone()), 0))
    }

    fn forget(&self) -> Result<(), FolderError> {
        for part in ["held-out", "everything"] {
            remove(&self.checkpoint(part))?;
        }
        Ok(())
    }
}

/// How often the vector is left out of an update, so that the words alone learn to answer too.
const WITHOUT_VECTOR: f32 = 0.15;

fn remove(path: &Path) -> Result<(), FolderError> {
    match std::fs::remove_file(path) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
            Err(FolderError::Write { path: path.to_owned(), cause })
        }
        _ => Ok(()),
    }
}

struct Learner {
    weights: Weights,
    squares: Vec<f32>,
    dense_squares: Vec<f32>,
    bias_squares: Vec<f32>,
}

impl Learner {
    fn new(width: usize, dense: Option<Dense>) -> Self {
        Learner {
            dense_squares: vec![1e-3; dense.as_ref().map_or(0, |dense| dense.values.len())],
            weights: Weights { dense, ..Weights::new(width) },
            squares: Vec::new(),
            bias_squares: vec![1.0; width],
        }
    }

    /// A short run is over before it can be interrupted.
    fn is_worth_writing(&self, rows: usize) -> bool {
        rows * self.weights.width > 200_000
    }

    fn learn(&mut self, row: &Row, rate: f32, settings: &OwnSettings, lot: &mut Lot) {
        let width = self.weights.width;
        let mut kept: Vec<(usize, f32)> = Vec::new();
        each(&row.features, |feature, value| {
            if lot.share() >= settings.drop {
                let from = self.weights.row(feature);
                kept.push((from, value));
            }
        });
        self.squares.resize(self.weights.values.len(), 1e-3);
        // What is left out is made up for, so that learning and reading see the same size.
        let scale = 1.0 / (1.0 - settings.drop).max(0.1);
        let mut logits = self.weights.bias.clone();
        for (from, value) in &kept {
            let row = &self.weights.values[*from..from + width];
            for (sum, weight) in logits.iter_mut().zip(row) {
                *sum += weight * value * scale;
            }
        }
        let numbers = self.numbers(row, settings.drop, lot);
        if let Some(dense) = &self.weights.dense {
            for (at, value) in &numbers {
                let row = &dense.values[at * width..(at + 1) * width];
                for (sum, weight) in logits.iter_mut().zip(row) {
                    *sum += weight * value * scale;
                }
            }
        }
        let mut gradient = softmax(&logits, 1.0);
        let even = settings.smoothing / width as f32;
        gradient.iter_mut().for_each(|share| *share -= even);
        gradient[row.class] -= 1.0 - settings.smoothing;
        for (from, value) in kept {
            step(
                &mut self.weights.values[from..from + width],
                &mut self.squares[from..from + width],
                &gradient,
                value * scale,
                rate,
            );
        }
        if let Some(dense) = &mut self.weights.dense {
            for (at, value) in numbers {
                let range = at * width..(at + 1) * width;
                step(
                    &mut dense.values[range.clone()],
                    &mut self.dense_squares[range],
                    &gradient,
                    value * scale,
                    rate,
                );
            }
        }
        step(&mut self.weights.bias, &mut self.bias_squares, &gradient, 1.0, rate);
    }

    /// The numbers of the encoder's vector that this update sees.
    fn numbers(&self, row: &Row, drop: f32, lot: &mut Lot) -> Vec<(usize, f32)> {
        let (Some(dense), Some(vector)) = (&self.weights.dense, &row.vector) else {
            return Vec::new();
        };
        if lot.share() < WITHOUT_VECTOR {
            return Vec::new();
        }
        dense.read(vector).into_iter().enumerate().filter(|_| lot.share() >= drop).collect()
    }

    fn to_bytes(&self, key: &str, epochs: usize) -> Result<Vec<u8>, safetensors::SafeTensorError> {
        use safetensors::tensor::{Dtype, TensorView};
        let floats = |values: &[f32]| -> Vec<u8> {
            values.iter().flat_map(|value| value.to_le_bytes()).collect()
        };
        let mut features: Vec<(u32, u32)> =
            self.weights.index.iter().map(|(feature, row)| (*row, *feature)).collect();
        features.sort_unstable();
        let features: Vec<u8> = features.iter().flat_map(|(_, f)| f.to_le_bytes()).collect();
        let dense: &[f32] = self.weights.dense.as_ref().map_or(&[], |dense| &dense.values);
        let parts = [
            ("features", features, Dtype::U32),
            ("values", floats(&self.weights.values), Dtype::F32),
            ("squares", floats(&self.squares), Dtype::F32),
            ("bias", floats(&self.weights.bias), Dtype::F32),
            ("bias_squares", floats(&self.bias_squares), Dtype::F32),
            ("dense", floats(dense), Dtype::F32),
            ("dense_squares", floats(&self.dense_squares), Dtype::F32),
        ];
        let views = parts
            .iter()
            .map(|(name, bytes, dtype)| {
                Ok((*name, TensorView::new(*dtype, vec![bytes.len() / 4], bytes)?))
            })
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
        let noted = [("key", key.to_owned()), ("epochs", epochs.to_string())];
        let noted = noted.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        safetensors::serialize(views, Some(noted))
    }

    /// `begun` is what learning with an encoder begins with: how its vectors are read is not
    /// written down twice.
    fn from_bytes(
        bytes: &[u8],
        key: &str,
        width: usize,
        begun: &Option<Dense>,
    ) -> Option<(Self, usize)> {
        let (_, header) = safetensors::SafeTensors::read_metadata(bytes).ok()?;
        let noted = header.metadata().as_ref()?;
        if noted.get("key")? != key {
            return None;
        }
        let epochs = noted.get("epochs")?.parse().ok()?;
        let file = safetensors::SafeTensors::deserialize(bytes).ok()?;
        let words = |name: &str| -> Option<Vec<[u8; 4]>> {
            let tensor = file.tensor(name).ok()?;
            Some(tensor.data().chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]).collect())
        };
        let floats = |name: &str| -> Option<Vec<f32>> {
            Some(words(name)?.into_iter().map(f32::from_le_bytes).collect())
        };
        let index = words("features")?.into_iter().map(u32::from_le_bytes).zip(0..).collect();
        let values = floats("dense")?;
        let dense = begun.clone().map(|begun| Dense { values, ..begun });
        let (values, bias) = (floats("values")?, floats("bias")?);
        let weights = Weights { width, index, values, bias, dense };
        let (squares, dense_squares) = (floats("squares")?, floats("dense_squares")?);
        let dense_length = weights.dense.as_ref().map_or(0, |dense| dense.values.len());
        let begun_length = begun.as_ref().map_or(0, |begun| begun.values.len());
        let fits = weights.values.len() == weights.index.len() * width
            && squares.len() == weights.values.len()
            && weights.bias.len() == width
            && (dense_length, dense_squares.len()) == (begun_length, begun_length);
        let bias_squares = floats("bias_squares")?;
        fits.then_some((Learner { weights, squares, dense_squares, bias_squares }, epochs))
    }
}

fn step(weights: &mut [f32], squares: &mut [f32], gradient: &[f32], value: f32, rate: f32) {
    for ((weight, square), gradient) in weights.iter_mut().zip(squares).zip(gradient) {
        let gradient = gradient * value;
        *square += gradient * gradient;
        *weight -= rate * gradient / square.sqrt();
    }
}

fn score(
    weights: &Weights,
    held: &[&Row],
    labels: &[String],
    lines: usize,
    settings: &OwnSettings,
) -> (OwnScores, f32) {
    let logits: Vec<(Vec<f32>, usize)> = held
        .iter()
        .map(|row| (weights.logits(&row.features, row.vector.as_deref()), row.class))
        .collect();
    let temperature = temperature(&logits);
    let guesses: Vec<(usize, usize, f32)> = logits
        .iter()
        .map(|(logits, class)| {
            let (guess, confidence) = likeliest(&softmax(logits, temperature));
            (*class, guess, confidence)
        })
        .collect();
    let pairs: Vec<(usize, usize)> = guesses.iter().map(|(t, g, _)| (*t, *g)).collect();
    let weighed: Vec<(f32, bool, f32)> =
        guesses.iter().map(|(t, g, c)| (*c, t == g, 1.0)).collect();
    // Held out in small numbers, nothing may reach the wanted precision; then be careful.
    let threshold = above(&weighed, settings.precision).min(0.95);
    let sure: Vec<&(f32, bool, f32)> = weighed.iter().filter(|row| row.0 >= threshold).collect();
    let right = sure.iter().filter(|row| row.1).count();
    let unscored = (0..labels.len()).filter(|class| pairs.iter().all(|(truth, _)| truth != class));
    let scores = OwnScores {
        accuracy: accuracy(&pairs),
        macro_f1: macro_f1(&pairs, labels.len()),
        ece: ece(&weighed.iter().map(|row| (row.0, row.1)).collect::<Vec<_>>()),
        held_out: pairs.len(),
        lines,
        threshold,
        above: (
            sure.len() as f64 / pairs.len().max(1) as f64,
            right as f64 / sure.len().max(1) as f64,
        ),
        confusion: Confusion::of(labels, &pairs),
        unscored: unscored.map(|class| labels[class].clone()).collect(),
    };
    (scores, temperature)
}

/// The temperature with the smallest loss on held-out lines, on a grid fine enough for that.
fn temperature(rows: &[(Vec<f32>, usize)]) -> f32 {
    let loss = |temperature: f32| -> f64 {
        let of = |(logits, class): &(Vec<f32>, usize)| {
            f64::from(-softmax(logits, temperature)[*class].max(1e-9).ln())
        };
        rows.iter().map(of).sum()
    };
    let mut best = (f64::MAX, 1.0);
    for step in -12..=12 {
        let temperature = 1.15_f32.powi(step);
        let loss = loss(temperature);
        if loss < best.0 {
            best = (loss, temperature);
        }
    }
    best.1
}

fn noted(scores: &OwnScores) -> Vec<Score> {
    let figure = |figure: &str, value: f64| Score {
        on: "held out".to_owned(),
        head: "own".to_owned(),
        lang: "all".to_owned(),
        figure: figure.to_owned(),
        value: (value * 10_000.0).round() / 10_000.0,
        rows: scores.held_out,
    };
    vec![
        figure("accuracy", scores.accuracy),
        figure("macro_f1", scores.macro_f1),
        figure("ece", scores.ece),
        figure("threshold", f64::from(scores.threshold)),
    ]
}
