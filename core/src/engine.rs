//! The walk: the only room that knows all the steps.
//!
//! ```text
//! request ─ guard ─ classify ─ route ─ budget ─ provider ─ judge ─ settle ─ reply
//! ```
//!
//! Start reading at [`Engine::answer`]; the steps stand in `engine/walk.rs`, what answers and
//! vectors share in `engine/course.rs`, one attempt (hold, call, settle) in `engine/attempt.rs`. Knows nothing of HTTP, SQL or any vendor's format.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::caller::Caller;
use crate::catalog::Model;
use crate::classify::Input;
use crate::config::Config;
use crate::engine::face::Face;
use crate::engine::reading::Reader;
use crate::engine::walk::Walk;
use crate::ids::{ModelId, ProviderId, RequestId};
use crate::provider::{BuildError, Provider};
use crate::reply::{Embedded, Event, Failure, FailureKind, Words};
use crate::request::{Call, ChatRequest, EmbedRequest};
use crate::route::health::{HealthBook, Standing};
use crate::store::Store;
use crate::trace::{Classification, Trace};

mod attempt;
mod course;
mod embed;
mod face;
mod figures;
mod reading;
#[cfg(test)]
mod tests;
mod walk;
mod words;

pub use reading::as_hints;

/// How many events wait for a slow face before the vendor has to wait too.
const EVENTS_WAITING: usize = 512;

/// How long a failed call waits for its face to hear of it.
const LAST_WORD: Duration = Duration::from_secs(5);

/// The engine. A cheap handle: clones share everything.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    live: ArcSwap<Live>,
    store: Arc<dyn Store>,
    health: HealthBook,
    running: TaskTracker,
    /// Leave to read a long text: so many are read at once that others keep a core.
    long_texts: Arc<Semaphore>,
    /// Cancelled when running calls must end.
    stop: CancellationToken,
    closed: AtomicBool,
}

/// What a reload replaces as a whole.
struct Live {
    config: Arc<Config>,
    providers: HashMap<ProviderId, Arc<dyn Provider>>,
    reader: Reader,
}

/// An answer on its way. Dropping it, or [`Answer::cancel`], cancels the vendor's call; what ran
/// is settled all the same, by the engine's own task.
#[derive(Debug)]
pub struct Answer {
    /// Of which call.
    pub request_id: RequestId,
    /// What happens, in order. The first is `Started` or `Failed`; the last `Done` or `Failed`.
    pub events: mpsc::Receiver<Event>,
    /// Who will be asked first, once that is decided: a stream whose headers must go out before
    /// anybody has said a word names it.
    pub chosen: Arc<OnceLock<ModelId>>,
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
    /// How many the model may have at once, over all its places.
    pub limit: Option<u32>,
    /// Smoothed milliseconds to the first token, once known.
    pub first_token_ms: Option<f64>,
    /// Why it rests and for how long yet, if it does.
    pub resting: Option<String>,
}

impl Engine {
    /// Makes the engine of a configuration and a store.
    pub fn new(config: Arc<Config>, store: Arc<dyn Store>) -> Result<Engine, BuildError> {
        let inner = Inner {
            live: ArcSwap::from_pointee(Live::build(config)?),
            store,
            health: HealthBook::default(),
            running: TaskTracker::new(),
            long_texts: Arc::new(Semaphore::new(long_texts_at_once())),
            stop: CancellationToken::new(),
            closed: AtomicBool::new(false),
        };
        Ok(Engine { inner: Arc::new(inner) })
    }

    /// Takes a new configuration, whole or not at all; running calls keep the old one.
    pub fn reload(&self, config: Arc<Config>) -> Result<(), BuildError> {
        self.inner.live.store(Arc::new(Live::build(config)?));
        Ok(())
    }

    /// The configuration that new calls use.
    pub fn config(&self) -> Arc<Config> {
        self.inner.live.load().config.clone()
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// One question through the whole walk. Returns at once; a task that the engine owns does
    /// the work, so that a face that goes away cancels a call but never forgets to settle it.
    pub fn answer(&self, call: Call<ChatRequest>) -> Answer {
        let (events, receiver) = mpsc::channel(EVENTS_WAITING);
        let request_id = call.id.clone();
        let chosen = Arc::<OnceLock<ModelId>>::default();
        let face = Face::new(events, chosen.clone());
        let inner = self.inner.clone();
        // Boxed: a walk's state is large, and the runtime moves a task several times on its way
        // in and out. Moving it was nearly a third of the memory that a call moved.
        self.inner.running.spawn(Box::pin(async move {
            let outcome = match inner.open_for(&call.id) {
                Ok(()) => Walk::begin(inner, call, face.clone()).answer().await,
                Err(stopping) => Err(stopping),
            };
            // A face that is gone has neither failed nor anyone to be told.
            if let (Err(failure), false) = (outcome, face.is_gone()) {
                figures::refused_or_failed(&failure);
                let told = face.tell(Event::Failed(failure));
                // Everything is settled; a face that does not read misses its last word.
                let _ = tokio::time::timeout(LAST_WORD, told).await;
            }
        }));
        Answer { request_id, events: receiver, chosen }
    }

    /// Texts to vectors, held, settled and booked like an answer.
    pub async fn embed(&self, call: Call<EmbedRequest>) -> Result<Embedded, Box<Failure>> {
        self.inner.open_for(&call.id)?;
        let (reply, received) = oneshot::channel();
        let (inner, id) = (self.inner.clone(), call.id.clone());
        self.inner.running.spawn(Box::pin(embed::embed(inner, call, reply)));
        let outcome = received.await.unwrap_or_else(|_| Err(internal(id, "the call was lost")));
        outcome.inspect_err(|failure| figures::refused_or_failed(failure))
    }

    /// The decision without the call: guard, classify, route.
    pub async fn decide(&self, call: Call<ChatRequest>) -> Result<Trace, Box<Failure>> {
        let (events, _receiver) = mpsc::channel(1);
        let face = Face::new(events, Arc::default());
        Walk::begin(self.inner.clone(), call, face).decide().await
    }

    /// What kind of work a text is, as the engine's classifier sees it.
    pub fn classify(&self, text: &str) -> Classification {
        self.inner.live.load().reader.classify(&Input::text(text), None)
    }

    /// The models that this caller may use, by key and grants.
    pub fn models_for(&self, caller: &Caller) -> Vec<Arc<Model>> {
        let config = self.config();
        let use_case = caller.use_case.as_ref();
        let may_use =
            |model: &&Arc<Model>| crate::route::may_use(&config, caller, use_case, &model.id, true);
        config.catalog.iter().filter(may_use).cloned().collect()
    }

    /// How every deployment does right now, in this process.
    pub fn health(&self) -> Vec<Health> {
        let (config, now) = (self.config(), Instant::now());
        let places = config.catalog.iter().flat_map(|model| {
            model.deployments.iter().map(move |deployment| (model.clone(), deployment.clone()))
        });
        places.map(|(model, deployment)| self.health_of(&model, &deployment, now)).collect()
    }

    fn health_of(&self, model: &Model, place: &crate::catalog::Deployment, now: Instant) -> Health {
        let record = crate::route::record(&self.inner.health, model, place);
        let resting = match record.standing(now) {
            Standing::Resting(rest) => {
                let why = record.last_error().unwrap_or_else(|| "failures in a row".to_owned());
                Some(format!("{why}; rests for {} s yet", rest.as_secs().max(1)))
            }
            Standing::Healthy | Standing::Busy => None,
        };
        Health {
            model: model.id.clone(),
            provider: place.provider.clone(),
            healthy: resting.is_none(),
            in_flight: record.in_flight(),
            limit: model.max_parallel,
            first_token_ms: record.first_token_ms(),
            resting,
        }
    }

    /// Refuses new calls, lets running ones finish for `grace`, then cancels and settles them.
    pub async fn shutdown(&self, grace: Duration) {
        self.inner.closed.store(true, Ordering::SeqCst);
        self.inner.running.close();
        if tokio::time::timeout(grace, self.inner.running.wait()).await.is_err() {
            self.inner.stop.cancel();
            self.inner.running.wait().await;
        }
    }
}

impl Answer {
    /// Cancels the vendor's call; what had arrived is booked.
    pub fn cancel(&mut self) {
        self.events.close();
    }
}

impl Inner {
    fn open_for(&self, id: &RequestId) -> Result<(), Box<Failure>> {
        if !self.closed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let message = Words::new(
            "The server is stopping. Try again in a moment.",
            "Der Server hält gerade an. Bitte gleich noch einmal versuchen.",
        );
        Err(Box::new(Failure::new(id.clone(), FailureKind::ShuttingDown, message)))
    }
}

impl Live {
    fn build(config: Arc<Config>) -> Result<Live, BuildError> {
        let providers = config
            .providers
            .iter()
            .map(|(id, provider)| Ok((id.clone(), crate::provider::build(provider)?)))
            .collect::<Result<_, BuildError>>()?;
        let reader = Reader::of(&config);
        Ok(Live { config, providers, reader })
    }
}

/// One for each core but one.
fn long_texts_at_once() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    cores.saturating_sub(1).max(1)
}

/// Our own fault: the log has the cause, the caller the request id.
fn internal(id: RequestId, what: &str) -> Box<Failure> {
    let message = Words::new(
        format!("Something went wrong on our side ({what}). Quote {id} to your admin."),
        format!("Bei uns ist etwas schiefgegangen ({what}). Nennen Sie Ihrer Administration {id}."),
    );
    Box::new(Failure::new(id, FailureKind::Internal, message))
}
