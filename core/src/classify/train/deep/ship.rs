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
use crate::classify::fast;
use crate::classify::heads::HeadsFile;
use crate::classify::train::data::{Corpus, Example};
use crate::classify::train::fast::Target;
use crate::classify::train::join::{self, Stages};
use crate::classify::train::manifest::{FolderError, Manifest, Score, Stage, key, write};

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

    let path = folder.join("heads.json");
    let read =
        std::fs::read(&path).map_err(|cause| FolderError::Read { path: path.clone(), cause })?;
    let unusable = |error: String| ShipError::Fast(format!("{}: {error}", folder.display()));
    let mut heads: HeadsFile =
        serde_json::from_slice(&read).map_err(|error| unusable(error.to_string()))?;
    let fast = std::fs::read(folder.join("fast.safetensors"))
        .map_err(|error| unusable(error.to_string()))?;
    let fast = fast::Fast::from_bytes(&fast).map_err(|error| unusable(error.to_string()))?;

    let kept: Vec<&Example> =
        corpus.train.iter().filter(|example| example.is_kept_back()).collect();
    let real: Vec<&Example> = corpus.dev_real.iter().collect();
    let kept = stages(&fast, &deep, &kept, 1.0);
    // Few rows of another origin say as much as many of our own.
    let weight = kept.len() as f32 / real.len().max(1) as f32;
    let real = stages(&fast, &deep, &real, weight.max(1.0));
    let scores = join::fit(&mut heads, &kept, &real);

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

/// What both stages say of examples. Those that the encoder cannot read are left out.
fn stages<'e>(
    fast: &fast::Fast,
    deep: &Deep,
    examples: &[&'e Example],
    weight: f32,
) -> Vec<Stages<'e>> {
    let mut rows = Vec::new();
    for chunk in examples.chunks(16) {
        let texts: Vec<(&str, &str)> =
            chunk.iter().map(|e| (e.text.as_str(), e.context.as_str())).collect();
        for (example, seen) in chunk.iter().zip(deep.read(&texts).unwrap_or_default()) {
            let features = fast::features(&example.input());
            rows.push(Stages {
                example,
                fast: fast.logits(&features).with_length(&example.text),
                deep: seen.logits.with_length(&example.text),
                target: Target::of(example),
                weight,
            });
        }
    }
    rows
}
