//! The deep stage: the encoder with its tokenizer and its thread, from files to answers.
//!
//! Loads what ships or what a folder holds onto a device, and turns texts into logits and marked
//! names. Knows nothing of calibration, windows or when it is asked.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::classify::Input;
use crate::classify::batch::{BatchError, Batcher, Settings};
use crate::classify::encoder::device::{self, DeviceError};
use crate::classify::encoder::{
    Config, Encoder, EncoderError, Output, Tokenizer, Tokens, entities,
};
use crate::classify::heads::{Entity, EntitySpan, Logits};
use crate::classify::plain::said;

/// The encoder's files, as bytes.
#[derive(Debug, Clone)]
pub struct DeepFiles {
    /// `encoder.json`: its shape.
    pub config: Bytes,
    /// `encoder.safetensors`: its weights.
    pub weights: Bytes,
    /// `vocab.txt`: its vocabulary, one piece a line.
    pub vocabulary: Bytes,
}

impl DeepFiles {
    /// The encoder's shape.
    ///
    /// # Errors
    /// [`DeepError::Config`] where it is damaged.
    pub fn config(&self) -> Result<Config, DeepError> {
        serde_json::from_slice(&self.config).map_err(|error| DeepError::Config(error.to_string()))
    }
}

/// Gives vectors of requests, for whoever learns from them.
pub struct Vectors {
    /// The encoder's name: the SHA-256 of its weights, in hex.
    pub id: String,
    /// The vector of a request; `None` for noise.
    pub of: Box<VectorOf>,
}

/// Gives the vector of a request.
pub type VectorOf = dyn Fn(&Input) -> Option<Vec<f32>>;

/// Why the encoder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeepError {
    /// `encoder.json` is no JSON that describes an encoder.
    #[error("encoder.json is damaged: {0}")]
    Config(String),
    /// The encoder has other heads than this version asks.
    #[error("the encoder has {found} classes where {wanted} are asked")]
    Heads {
        /// What the file says.
        found: usize,
        /// What this version has.
        wanted: usize,
    },
    /// Weights or vocabulary.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// The device that was asked for is not there.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The operating system gave no thread.
    #[error("could not start the classifier's thread")]
    Thread(#[source] std::io::Error),
}

/// What the encoder said about one text.
#[derive(Debug, Clone)]
pub struct Seen {
    /// One number for each class.
    pub logits: Logits,
    /// Names and places in the text, in bytes.
    pub entities: Vec<EntitySpan>,
    /// What the heads read.
    pub vector: Box<[f32]>,
}

/// A loaded encoder with the thread that computes.
#[derive(Debug)]
pub struct Deep {
    tokenizer: Tokenizer,
    config: Config,
    batcher: Batcher,
    weights: Bytes,
    id: OnceLock<String>,
}

/// The encoder that ships inside the program; nothing of it is copied.
pub fn shipped() -> Option<DeepFiles> {
    Some(DeepFiles {
        config: Bytes::from_static(include_bytes!("../../../assets/classifier/encoder.json")),
        weights: Bytes::from_static(include_bytes!(
            "../../../assets/classifier/encoder.safetensors"
        )),
        vocabulary: Bytes::from_static(include_bytes!("../../../assets/classifier/vocab.txt")),
    })
}

impl Deep {
    /// Loads an encoder onto a device (`auto`, `cpu`, `cuda`, `metal`).
    ///
    /// # Errors
    /// [`DeepError`] says which file is damaged, or that the device is not there.
    pub fn load(files: &DeepFiles, device: &str) -> Result<Self, DeepError> {
        let deep = Self::load_headless(files, device)?;
        let (found, wanted) = (deep.config.classes, crate::classify::heads::CLASSES);
        match found == wanted {
            true => Ok(deep),
            false => Err(DeepError::Heads { found, wanted }),
        }
    }

    /// Loads an encoder that need not have our heads: for its vectors alone.
    ///
    /// # Errors
    /// As [`Deep::load`].
    pub fn load_headless(files: &DeepFiles, device: &str) -> Result<Self, DeepError> {
        let config = files.config()?;
        let device = device::open(device)?;
        let tokenizer = Tokenizer::from_vocabulary(&files.vocabulary)?;
        let encoder = Arc::new(Encoder::load(&config, files.weights.clone(), &device)?);
        let settings = Settings::suited_to(&device);
        let batcher = Batcher::start(encoder, settings).map_err(DeepError::Thread)?;
        let (weights, id) = (files.weights.clone(), OnceLock::new());
        Ok(Deep { tokenizer, config, batcher, weights, id })
    }

    /// The SHA-256 of its weights, in hex; reckoned when somebody asks, since it takes as long as
    /// ten questions.
    pub fn id(&self) -> &str {
        self.id.get_or_init(|| hex::encode(Sha256::digest(&self.weights)))
    }

    /// Reads texts with what stood before each, and waits for the thread: not for the threads of
    /// an async runtime. `None` where the queue is full or the device gave no answer.
    pub fn read(&self, texts: &[(&str, &str)]) -> Option<Vec<Seen>> {
        let most = self.config.max_tokens;
        let tokens: Vec<Tokens> = texts
            .iter()
            .map(|(text, context)| self.tokenizer.encode(text, context, most))
            .collect::<Result<_, _>>()
            .ok()?;
        let outputs = self.outputs(tokens.clone()).inspect_err(told).ok()?;
        tokens.iter().zip(outputs).map(|(tokens, output)| self.seen(tokens, &output)).collect()
    }

    /// What the encoder makes of what a person wrote, without what stood before it; `None` for
    /// noise, and where it has too much to do.
    pub fn vector(&self, input: &Input) -> Option<Vec<f32>> {
        let text = said(input)?;
        let tokens = self.tokenizer.encode(&text, "", self.config.max_tokens).ok()?;
        Some(self.outputs(vec![tokens]).inspect_err(told).ok()?.pop()?.pooled)
    }

    fn outputs(&self, tokens: Vec<Tokens>) -> Result<Vec<Output>, BatchError> {
        // The thread answers by itself, so that any way of waiting will do; this one also works
        // where somebody tests on a runtime of one thread.
        futures::executor::block_on(self.batcher.submit(tokens)?)
    }

    fn seen(&self, tokens: &Tokens, output: &Output) -> Option<Seen> {
        let found = entities::decode(tokens, &output.tags, self.config.tags);
        let span = |entity: entities::Entity| {
            Some(EntitySpan {
                kind: *Entity::ALL.get(entity.kind)?,
                start: entity.span.start,
                end: entity.span.end,
                confidence: entity.probability,
            })
        };
        Some(Seen {
            logits: Logits::from_slice(&output.classes)?,
            entities: found.into_iter().filter_map(span).collect(),
            vector: output.pooled.clone().into(),
        })
    }
}

/// Too much to do is told by a metric and the stage in the trace; what is broken is logged.
fn told(error: &BatchError) {
    match error {
        BatchError::Full => metrics::counter!("stellwerk_classify_queue_full_total").increment(1),
        BatchError::Stopped | BatchError::Failed(_) => {
            tracing::warn!(%error, "the encoder gave no answer; the fast stage answers");
        }
    }
}
