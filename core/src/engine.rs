//! The walk: the only room that knows all the steps.
//!
//! Start reading at [`Engine::answer`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::caller::Caller;
use crate::catalog::Model;
use crate::config::Config;
use crate::ids::{ModelId, ProviderId, RequestId};
use crate::provider::BuildError;
use crate::reply::{Embedded, Event, Failure};
use crate::request::{Call, ChatRequest, EmbedRequest};
use crate::store::Store;
use crate::trace::{Classification, Trace};

/// The engine. A cheap handle: clones share everything.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {}

/// An answer on its way. Dropping it, or [`Answer::cancel`], cancels the vendor's call; what ran
/// is settled all the same, by the engine's own task.
#[derive(Debug)]
pub struct Answer {
    /// Of which call.
    pub request_id: RequestId,
    /// What happens, in order. The first is `Started` or `Failed`; the last `Done` or `Failed`.
    pub events: mpsc::Receiver<Event>,
}

/// How one deployment of a model does right now.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Health {
    /// The model.
    pub model: ModelId,
    /// The place.
    pub provider: ProviderId,
    /// Whether the circuit is closed.
    pub healthy: bool,
    /// Calls on their way.
    pub in_flight: u32,
    /// Smoothed milliseconds to the first token, once known.
    pub first_token_ms: Option<f64>,
    /// Why it rests and for how long yet, if it does.
    pub resting: Option<String>,
}

impl Engine {
    /// Makes the engine of a configuration and a store.
    pub fn new(config: Arc<Config>, store: Arc<dyn Store>) -> Result<Engine, BuildError> {
        let _ = (config, store);
        unimplemented!()
    }

    /// Takes a new configuration, whole or not at all; running calls keep the old one.
    pub fn reload(&self, config: Arc<Config>) -> Result<(), BuildError> {
        let _ = config;
        unimplemented!()
    }

    /// The configuration that new calls use.
    pub fn config(&self) -> Arc<Config> {
        unimplemented!()
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        unimplemented!()
    }

    /// One question through the whole walk. Returns at once.
    pub fn answer(&self, call: Call<ChatRequest>) -> Answer {
        let _ = (call, &self.inner);
        unimplemented!()
    }

    /// Texts to vectors, held, settled and booked like an answer.
    pub async fn embed(&self, call: Call<EmbedRequest>) -> Result<Embedded, Box<Failure>> {
        let _ = call;
        unimplemented!()
    }

    /// The decision without the call: guard, classify, route.
    pub async fn decide(&self, call: Call<ChatRequest>) -> Result<Trace, Box<Failure>> {
        let _ = call;
        unimplemented!()
    }

    /// What kind of work a text is, as the engine's classifier sees it.
    pub fn classify(&self, text: &str) -> Classification {
        let _ = text;
        unimplemented!()
    }

    /// The models that this caller may use, by key and grants.
    pub fn models_for(&self, caller: &Caller) -> Vec<Arc<Model>> {
        let _ = caller;
        unimplemented!()
    }

    /// How every deployment does right now.
    pub fn health(&self) -> Vec<Health> {
        unimplemented!()
    }

    /// Refuses new calls, lets running ones finish for `grace`, then cancels and settles them.
    pub async fn shutdown(&self, grace: Duration) {
        let _ = grace;
        unimplemented!()
    }
}

impl Answer {
    /// Cancels the vendor's call; what had arrived is booked.
    pub fn cancel(&mut self) {
        self.events.close();
    }
}
