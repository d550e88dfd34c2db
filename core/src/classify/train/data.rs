//! Labelled examples in one shape, from every set that the classifier learns from.
//!
//! [`Corpus::load`] reads a data folder (one sub-folder a set, JSON lines, gzip) and a folder of
//! our own authored lines. A set that labels only one thing leaves the others `None`: nothing is
//! learnt from what nobody said. `dev_real` is for steering alone, and whatever shares a run of
//! twelve words with it is dropped from the rest. Knows nothing of how anything is learnt.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::classify::Input;
pub use crate::classify::heads::Entity;
use crate::request::{Domain, Sensitivity, TaskKind};

mod sets;
#[cfg(test)]
mod tests;

pub use sets::{STRONG_MODELS, WEAK_MODELS};

/// One text with what is known about it.
#[derive(Clone, Default, PartialEq)]
pub struct Example {
    /// What the person wrote.
    pub text: String,
    /// What stood before it, as [`Input::context`] gives it.
    pub context: String,
    /// `de`, `en`, `mixed`, or another ISO 639-1 code.
    pub lang: String,
    /// Where it is from; validation leaves whole sources out.
    pub source: String,
    /// How much it counts, usually 1.
    pub weight: f32,
    /// The kind of work.
    pub task: Option<TaskKind>,
    /// The field.
    pub domain: Option<Domain>,
    /// The probability that an economy model's answer would not do.
    pub complexity: Option<f32>,
    /// The level of what is said.
    pub sensitivity: Option<Sensitivity>,
    /// Whether it is an attack.
    pub injection: Option<bool>,
    /// ISO 639-1 code, where the text is in one language.
    pub language: Option<String>,
    /// Names and places in the text.
    pub spans: Vec<Span>,
    /// Which kinds the source marks at all. Elsewhere in the text these are known not to stand;
    /// of other kinds nothing is known. Empty: the text was never marked.
    pub span_kinds: Vec<Entity>,
    /// Scores of models on this prompt, 0…1, where they were measured.
    pub scores: BTreeMap<String, f32>,
}

/// Shows labels, never text: examples may be a company's own.
impl std::fmt::Debug for Example {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Example")
            .field("source", &self.source)
            .field("lang", &self.lang)
            .field("task", &self.task)
            .field("sensitivity", &self.sensitivity)
            .field("injection", &self.injection)
            .finish_non_exhaustive()
    }
}

impl Example {
    /// Whether nobody learns from it, so that what ships can be calibrated and scored on it: some
    /// of the rows of ours that are labelled for every head, of the prompts that models were
    /// measured on, and of the texts with marked names.
    pub fn is_kept_back(&self) -> bool {
        let is_ours = self.task.is_some()
            && self.domain.is_some()
            && self.sensitivity.is_some()
            && self.injection.is_some();
        (is_ours || !self.scores.is_empty() || !self.span_kinds.is_empty()) && is_drawn(&self.text)
    }

    /// The example as a classifier reads it.
    pub fn input(&self) -> Input {
        Input {
            total_bytes: self.text.len() + self.context.len(),
            text: self.text.clone(),
            system: self.context.clone(),
            ..Input::default()
        }
    }
}

/// One text in twenty, drawn by the text itself, so that every program draws the same.
pub fn is_drawn(text: &str) -> bool {
    Sha256::digest(text.as_bytes())[0] < 13
}

/// A marked place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// What stands there.
    pub kind: Entity,
    /// The first code point of it, counted from 0.
    pub start: usize,
    /// The code point after it.
    pub end: usize,
}

/// A file that was read, for the manifest.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, Deserialize)]
pub struct FileFact {
    /// Relative to its folder.
    pub path: String,
    /// Of the bytes as they lie there.
    pub sha256: String,
    /// Rows taken.
    pub rows: usize,
    /// Rows left out, for standing in `dev_real` too.
    pub dropped: usize,
}

/// Everything to learn from and to steer by.
#[derive(Debug, Clone, Default)]
pub struct Corpus {
    /// To learn from.
    pub train: Vec<Example>,
    /// The task set's own validation split; flatters.
    pub valid: Vec<Example>,
    /// Prompts of other origin, to steer by; never to learn from.
    pub dev_real: Vec<Example>,
    /// The same sentence in English and German.
    pub pairs: Vec<(String, String)>,
    /// What was read.
    pub files: Vec<FileFact>,
}

/// Why data could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file cannot be opened or read.
    #[error("could not read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A line is no row of this set.
    #[error("{path}, line {line}: {what}")]
    Line {
        /// In which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong, without the text itself.
        what: String,
    },
    /// There is nothing to learn from.
    #[error("{0} holds none of the sets that are known (task_type/train.jsonl.gz, …)")]
    Empty(PathBuf),
}

impl Corpus {
    /// Reads every known set below `folder`; what is not there is left out. `authored` is a file
    /// or a folder of our own lines, each `FILE.jsonl` or `FILE.jsonl.gz` in it a source, each
    /// `FILE.tsv` pairs of German and English.
    ///
    /// # Errors
    /// [`DataError`] where a file cannot be read, a line is malformed, or nothing is there at all.
    pub fn load(folder: &Path, authored: Option<&Path>) -> Result<Self, DataError> {
        let mut corpus = Corpus::default();
        let dev_real = folder.join("task_type/dev_real.jsonl.gz");
        if dev_real.exists() {
            corpus.dev_real = corpus.rows(folder, &dev_real, sets::task, &Held::default())?;
        }
        let held = Held::of(&corpus.dev_real);
        for (name, read) in sets::TRAIN {
            let path = folder.join(name);
            if path.exists() {
                let rows = corpus.rows(folder, &path, *read, &held)?;
                corpus.train.extend(rows);
            }
        }
        let valid = folder.join("task_type/valid.jsonl.gz");
        if valid.exists() {
            corpus.valid = corpus.rows(folder, &valid, sets::task, &held)?;
        }
        for path in authored.map(authored_files).transpose()?.unwrap_or_default() {
            let root = path.parent().unwrap_or(Path::new("")).to_owned();
            let rows = corpus.rows(&root, &path, sets::authored, &held)?;
            corpus.train.extend(rows);
        }
        for path in authored.map(authored_pairs).transpose()?.unwrap_or_default() {
            let root = path.parent().unwrap_or(Path::new("")).to_owned();
            let ours = corpus.pairs(&root, &path)?;
            // Ours stand German first, as one writes a glossary.
            corpus.pairs.extend(ours.into_iter().map(|(german, english)| (english, german)));
        }
        let pairs = folder.join("parallel/tatoeba_en_de.tsv.gz");
        if pairs.exists() {
            let sentences = corpus.pairs(folder, &pairs)?;
            corpus.pairs.extend(sentences);
        }
        if corpus.train.is_empty() {
            return Err(DataError::Empty(folder.to_owned()));
        }
        Ok(corpus)
    }

    fn rows(
        &mut self,
        root: &Path,
        path: &Path,
        read: sets::Reader,
        held: &Held,
    ) -> Result<Vec<Example>, DataError> {
        let source = source_name(path);
        let mut rows = Vec::new();
        let mut dropped = 0;
        for (number, line) in lines(path)?.enumerate() {
            let line = line.map_err(|cause| DataError::Read { path: path.to_owned(), cause })?;
            if line.trim().is_empty() {
                continue;
            }
            let wrong =
                |what: String| DataError::Line { path: path.to_owned(), line: number + 1, what };
            let row: Row = serde_json::from_str(&line).map_err(|error| wrong(describe(&error)))?;
            let example = read(row, &source).map_err(wrong)?;
            if held.shares(&example.text) {
                dropped += 1;
                continue;
            }
            rows.push(example);
        }
        self.files.push(fact(root, path, rows.len(), dropped)?);
        Ok(rows)
    }

    fn pairs(&mut self, root: &Path, path: &Path) -> Result<Vec<(String, String)>, DataError> {
        let mut pairs = Vec::new();
        for line in lines(path)? {
            let line = line.map_err(|cause| DataError::Read { path: path.to_owned(), cause })?;
            // The first line of the export is a header of column numbers.
            match line.split_once('\t') {
                Some((en, de)) if en != "1" => pairs.push((en.to_owned(), de.to_owned())),
                _ => {}
            }
        }
        self.files.push(fact(root, path, pairs.len(), 0)?);
        Ok(pairs)
    }
}

/// A row of any set, as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Row {
    text: String,
    label: Option<serde_json::Value>,
    lang: Option<String>,
    source: Option<String>,
    group: Option<String>,
    scores: BTreeMap<String, f32>,
    spans: Option<Vec<RowSpan>>,
    task: Option<String>,
    domain: Option<String>,
    sensitivity: Option<String>,
    complexity: Option<f32>,
    injection: Option<serde_json::Value>,
    language: Option<String>,
    weight: Option<f32>,
    system: Option<String>,
    turns: Vec<Turn>,
}

#[derive(Debug, Clone, Deserialize)]
struct RowSpan {
    start: usize,
    end: usize,
    #[serde(rename = "type", alias = "kind")]
    kind: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Turn {
    text: String,
}

/// The lines of a file, unpacked where its name ends in `.gz`.
pub fn lines(path: &Path) -> Result<impl Iterator<Item = io::Result<String>>, DataError> {
    let read = |cause| DataError::Read { path: path.to_owned(), cause };
    let file = File::open(path).map_err(read)?;
    let is_packed = path.extension().is_some_and(|extension| extension == "gz");
    let bytes: Box<dyn Read> = match is_packed {
        true => Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(file))),
        false => Box::new(file),
    };
    Ok(BufReader::with_capacity(1 << 16, bytes).lines())
}

/// A JSON error without the input that it may quote.
fn describe(error: &serde_json::Error) -> String {
    match error.classify() {
        serde_json::error::Category::Data => {
            format!("a field has the wrong type (column {})", error.column())
        }
        _ => format!("not a line of JSON (column {})", error.column()),
    }
}

fn source_name(path: &Path) -> String {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.trim_end_matches(".gz").trim_end_matches(".jsonl").to_owned()
}

fn authored_files(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    files_named(path, &[".jsonl", ".jsonl.gz"])
}

/// Pairs of our own: German, tab, English.
fn authored_pairs(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    if path.is_file() { Ok(Vec::new()) } else { files_named(path, &[".tsv"]) }
}

fn files_named(path: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, DataError> {
    let read = |cause| DataError::Read { path: path.to_owned(), cause };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if endings.iter().any(|ending| name.ends_with(ending)) {
            files.push(path);
        }
    }
    // The order of a folder is the file system's whim; learning must not depend on it.
    files.sort();
    Ok(files)
}

fn fact(root: &Path, path: &Path, rows: usize, dropped: usize) -> Result<FileFact, DataError> {
    let read = |cause| DataError::Read { path: path.to_owned(), cause };
    let bytes = std::fs::read(path).map_err(read)?;
    Ok(FileFact {
        path: path.strip_prefix(root).unwrap_or(path).display().to_string(),
        sha256: hex::encode(Sha256::digest(&bytes)),
        rows,
        dropped,
    })
}

/// What must not be learnt from: runs of twelve words, and whole shorter texts.
#[derive(Debug, Default)]
struct Held {
    runs: HashSet<u64>,
    whole: HashSet<u64>,
}

const RUN: usize = 12;

impl Held {
    fn of(examples: &[Example]) -> Self {
        let mut held = Held::default();
        for example in examples {
            let words = words(&example.text);
            held.runs.extend(words.windows(RUN).map(hash));
            held.whole.insert(hash(&words[..]));
        }
        held
    }

    fn shares(&self, text: &str) -> bool {
        if self.whole.is_empty() {
            return false;
        }
        let words = words(text);
        self.whole.contains(&hash(&words[..]))
            || words.windows(RUN).any(|run| self.runs.contains(&hash(run)))
    }
}

/// Words in lower case, without punctuation, so that a changed comma hides nothing.
fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

fn hash(words: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    words.hash(&mut hasher);
    hasher.finish()
}
