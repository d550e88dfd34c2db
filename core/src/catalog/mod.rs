//! Which models there are, what they cost, can do, and where they run.
//!
//! A [`Model`] is what callers and policies name; a [`Deployment`] is a place where it runs.
//! Everything here is as believed: prices exist, providers exist, names are unique. Knows
//! nothing of how the configuration was written, nor of what is healthy right now.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::ids::{ModelId, ProviderId};
use crate::money::Price;
use crate::request::{Tier, Zone, word_enum};

pub mod shipped;
pub mod tokens;

word_enum! {
    /// What a model is for.
    ModelKind {
        /// Answers in text.
        Chat = "chat",
        /// Turns text into vectors.
        Embedding = "embedding",
    }
}

/// What a model can do. What nobody states counts as able.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abilities {
    /// Calls tools.
    pub tools: bool,
    /// Reads images.
    pub images: bool,
    /// Reads documents such as PDF.
    pub documents: bool,
    /// Hears.
    pub audio: bool,
    /// Keeps to a JSON schema.
    pub json_schema: bool,
    /// Streams.
    pub streaming: bool,
    /// Gives log probabilities.
    pub logprobs: bool,
    /// Thinks before it answers, and bills it as output.
    pub reasoning: bool,
}

impl Abilities {
    /// Able to do everything.
    pub const ALL: Abilities = Abilities {
        tools: true,
        images: true,
        documents: true,
        audio: true,
        json_schema: true,
        streaming: true,
        logprobs: true,
        reasoning: true,
    };
}

/// Which tokenizer counts a model's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tokenizer {
    /// OpenAI's, published; counts are exact.
    O200k,
    /// OpenAI's older one, published; counts are exact.
    Cl100k,
    /// Not published: holds over-count, bills take an unbiased count.
    Unpublished,
}

/// The dates of a model's life that its vendor announced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// First day.
    pub released_on: Option<Date>,
    /// The day from which the vendor advises against it.
    pub deprecated_on: Option<Date>,
    /// Not before this day it is switched off.
    pub earliest_shutdown_on: Option<Date>,
    /// The day on which it is switched off.
    pub shutdown_on: Option<Date>,
    /// What the vendor recommends instead, `provider/model`.
    pub replacements: Vec<String>,
}

/// A place where a model runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// Whose access is used.
    pub provider: ProviderId,
    /// The vendor's name for the model.
    pub name: String,
    /// Where it runs; the provider's zone.
    pub zone: Zone,
    /// Share of the load among the model's healthy deployments; at least 1.
    pub weight: u32,
    /// What it costs there.
    pub price: Price,
    /// How its tokens are counted.
    pub tokenizer: Tokenizer,
}

/// A model as callers and policies name it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Its name here.
    pub id: ModelId,
    /// What it is for.
    pub kind: ModelKind,
    /// Its rung.
    pub tier: Tier,
    /// Where it runs; at least one.
    pub deployments: Vec<Deployment>,
    /// Models to try when it fails and was asked for by name.
    pub fallback: Vec<ModelId>,
    /// What it can do.
    pub abilities: Abilities,
    /// Input and output together; `None`: unknown, any length is tried.
    pub context_tokens: Option<u64>,
    /// The vendor's limit of output tokens; `None`: unknown.
    pub max_output_tokens: Option<u32>,
    /// Calls at once over all its places in this process; `None`: any number.
    pub max_parallel: Option<u32>,
    /// The dates of its life.
    pub lifecycle: Lifecycle,
    /// Who is responsible for it here, free text.
    pub owner: Option<String>,
    /// Who approved it and when, free text.
    pub approved: Option<String>,
}

/// All models, by id, in the order of the configuration.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    models: Vec<Arc<Model>>,
    by_id: HashMap<ModelId, usize>,
}

impl Catalog {
    /// Takes models with unique ids; of two with one id the later is kept.
    pub fn new(models: Vec<Model>) -> Self {
        let mut catalog = Catalog::default();
        for model in models {
            let model = Arc::new(model);
            match catalog.by_id.get(&model.id) {
                Some(&index) => catalog.models[index] = model,
                None => {
                    catalog.by_id.insert(model.id.clone(), catalog.models.len());
                    catalog.models.push(model);
                }
            }
        }
        catalog
    }

    /// The model of this id.
    pub fn get(&self, id: &ModelId) -> Option<&Arc<Model>> {
        self.by_id.get(id).map(|&index| &self.models[index])
    }

    /// Every model, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.models.iter()
    }
}
