//! The tuned encoder as it ships: int8 weights, a calibration, its figures.
//!
//! Scored and calibrated is what ships, the int8 encoder as the program runs it, on rows of ours
//! that were kept back and on `dev_real`, none of which it has learnt from.

use std::path::Path;

use super::checkpoint::SHAPE_COUNT;
use super::net::{HEADS, Net, WIDTH};
use super::{DeepError, Plan, samples};
use crate::classify::deep::{Deep, DeepFiles};
use crate::classify::encoder::{Config, quantize};
use crate::classify::heads::{Calibration, Head, HeadsFile, Shares, likeliest};
use crate::classify::train::calibrate::{self, Held};
use crate::classify::train::data::{Corpus, Example};
use crate::classify::train::fast::Target;
use crate::classify::train::manifest::{FolderError, Manifest, Score, Stage, key, write};
use crate::classify::train::metrics::accuracy;
use crate::classify::train::recipe::score;
use crate::classify::{fast, train};

/// The stage's files.
pub const FILES: [&str; 3] = ["encoder.json", "encoder.safetensors", "vocab.txt"];

/// Why the encoder could not be shipped.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// Its making.
    #[error(transparent)]
    Deep(#[from] DeepError),
    /// A file in the folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// What was written cannot be used.
    #[error("the encoder that was written cannot be loaded")]
    Load(#[from] crate::classify::deep::DeepError),
    /// The fast stage is made first.
    #[error("the fast stage of {0} cannot be used; make it first")]
    Fast(String),
}

/// Writes the encoder into `folder`, beside a fast stage, and notes figures in its manifest.
///
/// # Errors
/// [`ShipError`].
pub fn ship(
    net: &Net,
    pieces: &[String],
    corpus: &Corpus,
    plan: &Plan,
    folder: &Path,
    now: jiff::Timestamp,
) -> Result<Vec<Score>, ShipError> {
    let config = config(net);
    let floats = super::checkpoint::bytes(net).map_err(DeepError::from)?;
    let weights = quantize(&config, &floats).map_err(DeepError::from)?;
    let vocabulary = pieces.join("\n") + "\n";
    let described = serde_json::to_vec_pretty(&config).unwrap_or_default();
    write(&folder.join(FILES[0]), &described)?;
    write(&folder.join(FILES[1]), &weights)?;
    write(&folder.join(FILES[2]), vocabulary.as_bytes())?;
    let files = DeepFiles {
        config: described.clone().into(),
        weights: weights.clone().into(),
        vocabulary: vocabulary.clone().into_bytes().into(),
    };
    let deep = Deep::load(&files, "cpu")?;

    let kept: Vec<&Example> =
        corpus.train.iter().filter(|example| samples::is_held(example)).collect();
    let real: Vec<&Example> = corpus.dev_real.iter().collect();
    let (kept_rows, real_rows) = (held(&deep, &kept), held(&deep, &real));
    let both: Vec<Held> = kept_rows.iter().chain(&real_rows).map(|(_, row)| row.clone()).collect();
    let calibration = calibrate::fit(&both);
    let mut scores = score("kept back", &kept_rows, &calibration);
    scores.extend(score("dev_real", &real_rows, &calibration));

    let path = folder.join("heads.json");
    let read =
        std::fs::read(&path).map_err(|cause| FolderError::Read { path: path.clone(), cause })?;
    let mut heads: HeadsFile = serde_json::from_slice(&read)
        .map_err(|error| ShipError::Fast(format!("{}: {error}", folder.display())))?;
    let fast = std::fs::read(folder.join("fast.safetensors"))
        .map_err(|error| ShipError::Fast(format!("{}: {error}", folder.display())))?;
    let fast = fast::Fast::from_bytes(&fast)
        .map_err(|error| ShipError::Fast(format!("{}: {error}", folder.display())))?;
    let (share, mixed) = best_share(&fast, &heads.fast, &real_rows, &calibration);
    heads.deep = Some(calibration);
    heads.share = share;
    scores.extend(mixed);
    let mut text = serde_json::to_vec_pretty(&heads).unwrap_or_default();
    text.push(b'\n');
    write(&path, &text)?;

    let settings = serde_json::to_value(plan).unwrap_or_default();
    let mut manifest = Manifest::of(folder)?;
    let key = key(&corpus.files, &settings);
    manifest.stages.insert("encoder".to_owned(), Stage { settings, key, scores: scores.clone() });
    manifest.write(folder, now)?;
    Ok(scores)
}

/// The shape of what was trained.
pub fn config(net: &Net) -> Config {
    let heads = samples::heads();
    let rows = |name: &str| net.weights.get(name).map_or(0, |weight| weight.shape[0]);
    Config {
        vocabulary: net.words.shape[0],
        width: WIDTH,
        layers: net.layers,
        heads: HEADS,
        feed_forward: rows("encoder.layer.0.intermediate.dense.weight"),
        positions: rows("embeddings.position_embeddings.weight"),
        types: rows("embeddings.token_type_embeddings.weight"),
        epsilon: 1e-12,
        shapes: SHAPE_COUNT,
        max_tokens: 256,
        classes: heads.outputs(),
        tags: heads.tags,
    }
}

/// What the encoder says of examples. Those that it cannot read are left out.
fn held<'e>(deep: &Deep, examples: &[&'e Example]) -> Vec<(&'e Example, Held)> {
    let mut rows = Vec::new();
    for chunk in examples.chunks(16) {
        let texts: Vec<(&str, &str)> =
            chunk.iter().map(|e| (e.text.as_str(), e.context.as_str())).collect();
        for (example, seen) in chunk.iter().zip(deep.read(&texts).unwrap_or_default()) {
            let target = Target::of(example);
            rows.push((*example, Held { logits: seen.logits, target, weight: 1.0 }));
        }
    }
    rows
}

/// How much the fast stage should count beside the encoder, by the task on `dev_real`, which
/// neither has seen; and what both reach together.
fn best_share(
    fast: &fast::Fast,
    fast_calibration: &Calibration,
    rows: &[(&Example, Held)],
    calibration: &Calibration,
) -> (f32, Vec<Score>) {
    let of = |share: f32, lang: &str| {
        let pairs: Vec<(usize, usize)> = rows
            .iter()
            .filter(|(example, _)| example.lang == lang)
            .filter_map(|(example, held)| {
                let input = example.input();
                let logits = fast.logits(&fast::features(&input)).with_length(&example.text);
                let own = Shares::of(&held.logits, calibration);
                let mixed = own.mixed(&Shares::of(&logits, fast_calibration), share);
                Some((held.target.class(Head::Task)?, likeliest(mixed.head(Head::Task)).0))
            })
            .collect();
        (accuracy(&pairs), pairs.len())
    };
    let tenths = (0..=9).map(|tenth| f32::from(tenth as u8) / 10.0);
    // Both languages count alike, however many rows each has.
    let best = tenths
        .map(|share| (share, of(share, "de").0 + of(share, "en").0))
        .fold((0.3, f64::MIN), |best, next| if next.1 > best.1 { next } else { best });
    let scores = ["de", "en"]
        .map(|lang| {
            let (value, count) = of(best.0, lang);
            train::manifest::Score {
                on: "dev_real, both stages".to_owned(),
                head: "task".to_owned(),
                lang: lang.to_owned(),
                figure: "accuracy".to_owned(),
                value: (value * 10_000.0).round() / 10_000.0,
                rows: count,
            }
        })
        .to_vec();
    (best.0, scores)
}
