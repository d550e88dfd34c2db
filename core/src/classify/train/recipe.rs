//! The recipe of the shipped classifier's fast stage: learn, leave sources out, calibrate, score.
//!
//! Sources are left out in turns, so that every figure and every probability rests on texts of
//! another origin than what was learnt from; then all is learnt once more for what ships. Knows
//! nothing of the command line.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use crate::classify::fast::{Fast, FastError, features};
use crate::classify::heads::{Calibration, Head, HeadsFile, Shares, likeliest};
use crate::classify::train::calibrate::{self, Held};
use crate::classify::train::data::{Corpus, Example};
use crate::classify::train::fast::{Learner, Lot, Options, Row, Target, rows};
use crate::classify::train::manifest::{FolderError, Manifest, Score, Stage, key, write};
use crate::classify::train::metrics::{
    self, Confusion, Outcome, accuracy, apgr, auc, ece, macro_f1, recall_at_false_alarms,
};

/// How the fast stage is made.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Settings {
    /// How it learns.
    pub learning: Options,
    /// How often sources are left out, each source once.
    pub folds: usize,
    /// At most so many rows of one source.
    pub most_per_source: usize,
    /// How often the fast stage must be right to answer alone.
    pub alone: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { learning: Options::default(), folds: 4, most_per_source: 1_500, alone: 0.94 }
    }
}

/// How far it is: what is done, of how much, and in words.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'p> {
    /// Passes done.
    pub done: usize,
    /// Passes in all.
    pub of: usize,
    /// What is being done.
    pub what: &'p str,
}

/// Why the recipe failed.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The folder could not be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The weights could not be written.
    #[error(transparent)]
    Fast(#[from] FastError),
}

/// What came out.
#[derive(Debug)]
pub struct Made {
    /// Figures on sources left out and on `dev_real`.
    pub scores: Vec<Score>,
    /// The commonest mistakes of the task head on sources left out.
    pub mistakes: Vec<String>,
    /// Whether it was there already.
    pub was_there: bool,
}

/// Names of the stage's files.
pub const FILES: [&str; 2] = ["fast.safetensors", "heads.json"];

/// Makes `fast.safetensors`, `heads.json` and the manifest's stage `fast` in `folder`; what is
/// there already from the same data and settings is left as it is.
///
/// # Errors
/// [`RecipeError`].
pub fn fast_stage(
    corpus: &Corpus,
    settings: &Settings,
    folder: &Path,
    now: jiff::Timestamp,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<Made, RecipeError> {
    std::fs::create_dir_all(folder)
        .map_err(|cause| FolderError::Write { path: folder.to_owned(), cause })?;
    let mut manifest = Manifest::of(folder)?;
    let written = serde_json::to_value(settings).unwrap_or_default();
    let key = key(&corpus.files, &written);
    if manifest.has(folder, "fast", &key, &FILES) {
        let scores = manifest.stages["fast"].scores.clone();
        return Ok(Made { scores, mistakes: Vec::new(), was_there: true });
    }
    let mut run = Run { settings, tell, done: 0 };
    let examples = chosen(corpus, settings);
    let held = run.leave_out(&examples);
    let rows_held: Vec<Held> = held.iter().map(|(_, held)| held.clone()).collect();
    let calibration = calibrate::fit(&rows_held);
    let model = run.learn(&examples, "learning from everything")?;
    let heads = heads_file(folder, calibration, &rows_held, settings.alone)?;

    let mut scores = score("sources left out", &held, &calibration);
    let steering: Vec<(&Example, Held)> =
        corpus.dev_real.iter().map(|example| (example, read(&model, example, 1.0))).collect();
    scores.extend(score("dev_real", &steering, &calibration));
    write(&folder.join(FILES[0]), &model.to_bytes()?)?;
    let text = serde_json::to_vec_pretty(&heads).unwrap_or_default();
    write(&folder.join(FILES[1]), &text)?;
    manifest.data.clone_from(&corpus.files);
    let stage = Stage { settings: written, key, scores: scores.clone() };
    manifest.stages.insert("fast".to_owned(), stage);
    manifest.write(folder, now)?;
    Ok(Made { scores, mistakes: mistakes(&held, &calibration), was_there: false })
}

/// The new calibration beside what another stage had noted there.
fn heads_file(
    folder: &Path,
    fast: Calibration,
    held: &[Held],
    wanted: f64,
) -> Result<HeadsFile, FolderError> {
    let path = folder.join(FILES[1]);
    let before: Option<HeadsFile> = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).ok(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(cause) => return Err(FolderError::Read { path, cause }),
    };
    let alone = calibrate::alone(held, &fast, wanted);
    let (deep, both) = before.map_or((None, None), |before| (before.deep, before.both));
    Ok(HeadsFile { version: 2, fast, deep, both, alone })
}

/// The rows to learn from: those with a label that a head of the fast stage has, not too many of
/// one source, in a drawn order. What is kept back from the encoder is kept back here too, so
/// that what both make of it together is honest.
fn chosen<'c>(corpus: &'c Corpus, settings: &Settings) -> Vec<&'c Example> {
    let is_labelled = |example: &&Example| {
        Target::of(example).weights.iter().any(|weight| *weight > 0.0)
            && (example.span_kinds.is_empty() || example.task.is_some())
            && !example.is_kept_back()
    };
    let mut examples: Vec<&Example> = corpus.train.iter().filter(is_labelled).collect();
    Lot::new(settings.learning.seed).shuffle(&mut examples);
    let mut taken: HashMap<&str, usize> = HashMap::new();
    examples.retain(|example| {
        let of_source = taken.entry(example.source.as_str()).or_default();
        *of_source += 1;
        *of_source <= settings.most_per_source
    });
    examples
}

struct Run<'r> {
    settings: &'r Settings,
    tell: &'r mut dyn FnMut(Progress<'_>),
    done: usize,
}

impl Run<'_> {
    fn learn(&mut self, examples: &[&Example], what: &str) -> Result<Fast, FastError> {
        let rows = rows(examples, &self.settings.learning);
        self.learner(&rows, what).finish()
    }

    fn learner(&mut self, rows: &[Row], what: &str) -> Learner {
        let mut joined: Option<Learner> = None;
        for n in 0..self.settings.learning.learners.max(1) {
            let seed = self.settings.learning.seed + n as u64;
            let learner = self.one(rows, what, seed);
            match &mut joined {
                Some(joined) => joined.join(&learner, n),
                None => joined = Some(learner),
            }
        }
        joined.unwrap_or_else(|| Learner::new(self.settings.learning.clone()))
    }

    fn one(&mut self, rows: &[Row], what: &str, seed: u64) -> Learner {
        let learning = &self.settings.learning;
        let epochs = learning.epochs;
        let of = (self.settings.folds + 1) * learning.learners.max(1) * epochs;
        let mut learner = Learner::new(Options { seed, ..learning.clone() });
        while learner.done < epochs {
            (self.tell)(Progress { done: self.done, of, what });
            learner.epoch(rows);
            self.done += 1;
        }
        learner
    }

    /// Every row as a model sees it that has not learnt from its source.
    fn leave_out<'e>(&mut self, examples: &[&'e Example]) -> Vec<(&'e Example, Held)> {
        let folds = self.settings.folds;
        let fold_of = folds_of(examples, folds);
        let all = rows(examples, &self.settings.learning);
        let mut sizes: HashMap<&str, f32> = HashMap::new();
        for example in examples {
            *sizes.entry(family(&example.source)).or_default() += 1.0;
        }
        let mut held = Vec::new();
        for fold in 0..folds {
            let is_out = |example: &Example| fold_of[family(&example.source)] == fold;
            let kept: Vec<Row> = examples
                .iter()
                .zip(&all)
                .filter(|(example, _)| !is_out(example))
                .map(|(_, row)| row.clone())
                .collect();
            let learner = self.learner(&kept, "leaving sources out");
            for (example, row) in examples.iter().zip(&all).filter(|(e, _)| is_out(e)) {
                let weight = example.weight / sizes[family(&example.source)].sqrt();
                let logits = learner.logits(&row.features).with_length(&example.text);
                held.push((*example, Held { logits, target: row.target.clone(), weight }));
            }
        }
        held
    }
}

/// `mmlu_pro:math` and `mmlu_pro:law` are left out together.
fn family(source: &str) -> &str {
    source.split(':').next().unwrap_or(source)
}

/// Families by size, dealt out in turns, so that no fold leaves out all that is large.
fn folds_of<'e>(examples: &[&'e Example], folds: usize) -> HashMap<&'e str, usize> {
    let mut sizes: HashMap<&str, usize> = HashMap::new();
    for example in examples {
        *sizes.entry(family(&example.source)).or_default() += 1;
    }
    let mut families: Vec<(&str, usize)> = sizes.into_iter().collect();
    families.sort_by_key(|(name, size)| (usize::MAX - size, *name));
    families.into_iter().enumerate().map(|(at, (name, _))| (name, at % folds.max(1))).collect()
}

fn read(model: &Fast, example: &Example, weight: f32) -> Held {
    let logits = model.logits(&features(&example.input())).with_length(&example.text);
    Held { logits, target: Target::of(example), weight }
}

/// Every figure of every head, German and English apart.
pub fn score(on: &str, held: &[(&Example, Held)], calibration: &Calibration) -> Vec<Score> {
    let mut scores = Vec::new();
    for lang in ["de", "en"] {
        let rows: Vec<&(&Example, Held)> =
            held.iter().filter(|(example, _)| example.lang == lang).collect();
        for head in Head::ALL {
            let labelled: Vec<&(&Example, Held)> = rows
                .iter()
                .copied()
                .filter(|(_, held)| held.target.weights[*head as usize] > 0.0)
                .collect();
            if labelled.len() < 20 {
                continue;
            }
            for (figure, value) in figures(*head, &labelled, calibration) {
                scores.push(Score {
                    on: on.to_owned(),
                    head: head.as_str().to_owned(),
                    lang: lang.to_owned(),
                    figure: figure.to_owned(),
                    value: (value * 10_000.0).round() / 10_000.0,
                    rows: labelled.len(),
                });
            }
        }
    }
    scores
}

fn figures(
    head: Head,
    rows: &[&(&Example, Held)],
    calibration: &Calibration,
) -> Vec<(&'static str, f64)> {
    let shares = |held: &Held| Shares::of(&held.logits, calibration);
    match head {
        Head::Complexity => complexity_figures(rows, calibration),
        Head::Injection => {
            let pairs: Vec<(f32, bool)> = rows
                .iter()
                .map(|(_, held)| (shares(held).injection(), held.target.class(head) == Some(1)))
                .collect();
            let alarms = pairs.iter().filter(|(score, attack)| *score > 0.5 && !attack).count();
            let harmless = pairs.iter().filter(|(_, attack)| !attack).count();
            vec![
                ("auc", auc(&pairs)),
                ("recall_at_1_percent", recall_at_false_alarms(&pairs, 0.01)),
                ("false_alarms", alarms as f64 / harmless.max(1) as f64),
            ]
        }
        _ => {
            let guesses: Vec<(usize, usize, f32)> = rows
                .iter()
                .filter_map(|(_, held)| {
                    let (guess, share) = likeliest(shares(held).head(head));
                    Some((held.target.class(head)?, guess, share))
                })
                .collect();
            let pairs: Vec<(usize, usize)> = guesses.iter().map(|(t, g, _)| (*t, *g)).collect();
            let sure: Vec<(f32, bool)> = guesses.iter().map(|(t, g, c)| (*c, t == g)).collect();
            vec![
                ("accuracy", accuracy(&pairs)),
                ("macro_f1", macro_f1(&pairs, head.range().len())),
                ("ece", ece(&sure)),
            ]
        }
    }
}

/// From which judged complexity on a prompt counts as hard.
pub const HARD: f32 = 0.35;

/// APGR where models were measured; else how well it tells hard from easy.
fn complexity_figures(
    rows: &[&(&Example, Held)],
    calibration: &Calibration,
) -> Vec<(&'static str, f64)> {
    let score = |held: &Held| Shares::of(&held.logits, calibration).head(Head::Complexity)[0];
    let column = Head::Complexity.range().start;
    let measured: Vec<Outcome> =
        rows.iter().filter_map(|(example, held)| outcome(example, score(held))).collect();
    let judged: Vec<(f32, bool)> = rows
        .iter()
        .filter(|(example, _)| example.scores.is_empty())
        .map(|(_, held)| (score(held), held.target.wanted[column] > HARD))
        .collect();
    let mut figures = Vec::new();
    if measured.len() >= 20 {
        figures.push(("apgr", apgr(&measured)));
        figures.extend(within_sets(rows, score).map(|worth| ("apgr_within_sets", worth)));
    }
    if judged.len() >= 20 {
        figures.push(("auc", auc(&judged)));
    }
    figures
}

/// The mean over sets of one origin: which set a prompt is from is easily told, and a company's
/// questions are none of these sets. `None` where no set has a hundred rows.
fn within_sets(rows: &[&(&Example, Held)], score: impl Fn(&Held) -> f32) -> Option<f64> {
    let mut sets: BTreeMap<&str, Vec<Outcome>> = BTreeMap::new();
    for (example, held) in rows {
        if let Some(outcome) = outcome(example, score(held)) {
            sets.entry(&example.source).or_default().push(outcome);
        }
    }
    let worth: Vec<f64> =
        sets.values().filter(|set| set.len() >= 100).map(|set| apgr(set)).collect();
    (!worth.is_empty()).then(|| worth.iter().sum::<f64>() / worth.len() as f64)
}

/// What a cheap and a strong model made of a prompt, where both were measured.
pub fn outcome(example: &Example, score: f32) -> Option<Outcome> {
    const PAIRS: [(&str, &str); 2] = [
        ("Mixtral-8x7B-Instruct-v0.1", "gemini-1.5-pro-002"),
        ("llama-3.1-8b-instruct", "llama-3.1-nemotron-51b-instruct"),
    ];
    PAIRS.iter().find_map(|(weak, strong)| {
        let of = |model: &str| example.scores.get(model).copied().map(f64::from);
        Some(Outcome { score, weak: of(weak)?, strong: of(strong)? })
    })
}

fn mistakes(held: &[(&Example, Held)], calibration: &Calibration) -> Vec<String> {
    let labels: Vec<String> = Head::Task.labels().iter().map(|word| (*word).to_owned()).collect();
    let pairs: Vec<(usize, usize)> = held
        .iter()
        .filter_map(|(_, held)| {
            let shares = Shares::of(&held.logits, calibration);
            Some((held.target.class(Head::Task)?, likeliest(shares.head(Head::Task)).0))
        })
        .collect();
    let table: Confusion = metrics::Confusion::of(&labels, &pairs);
    table.worst(8).into_iter().map(|(truth, guess, n)| format!("{truth} → {guess}: {n}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::TaskKind;

    fn corpus() -> Corpus {
        let mut corpus = Corpus::default();
        for (source, thing) in [("a", "invoice"), ("b", "offer"), ("c:x", "report")] {
            for n in 0..30 {
                let (verb, task) = match n % 2 {
                    0 => ("Translate", TaskKind::Translation),
                    _ => ("Summarize", TaskKind::Summarization),
                };
                corpus.train.push(Example {
                    text: format!("{verb} the {thing} number {n}"),
                    lang: "en".to_owned(),
                    source: source.to_owned(),
                    weight: 1.0,
                    task: Some(task),
                    ..Example::default()
                });
            }
        }
        corpus
    }

    fn settings() -> Settings {
        let learning = Options { epochs: 6, learners: 1, ..Options::default() };
        Settings { learning, folds: 3, ..Settings::default() }
    }

    #[test]
    fn the_folder_holds_a_classifier_that_loads_and_is_not_made_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let (corpus, now) = (corpus(), jiff::Timestamp::UNIX_EPOCH);
        let mut told = Vec::new();
        let made = fast_stage(&corpus, &settings(), folder.path(), now, &mut |progress| {
            told.push((progress.done, progress.of));
        })
        .expect("made");
        assert_eq!(told.len(), 24);
        assert!(told.iter().all(|(done, of)| done < of));
        let accuracy = made.scores.iter().find(|s| s.head == "task" && s.figure == "accuracy");
        assert!(accuracy.expect("scored").value > 0.9, "{:?}", made.scores);

        let [fast, heads] =
            FILES.map(|name| std::fs::read(folder.path().join(name)).expect("there"));
        let files = crate::classify::trained::Files { heads: &heads, fast: &fast, deep: None };
        let trained = crate::classify::trained::Trained::load(&files, "cpu").expect("loads");
        let found = trained.classify(&crate::classify::Input::text("Translate the handbook"));
        assert_eq!(found.task, TaskKind::Translation);

        let again = fast_stage(&corpus, &settings(), folder.path(), now, &mut |_| {
            panic!("nothing is to be done");
        });
        assert!(again.expect("there").was_there);
    }

    #[test]
    fn a_family_of_sources_is_left_out_together() {
        let mut examples = corpus().train;
        examples[0].source = "c:y".to_owned();
        let folds = folds_of(&examples.iter().collect::<Vec<_>>(), 3);
        assert_eq!(folds.len(), 3, "{folds:?}");
    }
}
