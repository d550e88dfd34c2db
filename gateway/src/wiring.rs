//! Everything that runs is put together, started and stopped here: store, engine, and the work
//! in the background that keeps them true.
//!
//! `serve` and `ask` use the same wiring, so that both obey the same budgets. Knows nothing of
//! HTTP and nothing of how a configuration is found.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use stellwerk_core::config::{ClassifyMode, Config, InjectionAction, PiiAction, StoreUrl};
use stellwerk_core::engine::Engine;
use stellwerk_core::guard;
use stellwerk_core::provider::BuildError;
use stellwerk_core::store::sqlite::{SqliteOptions, SqliteStore};
use stellwerk_core::store::{Store, StoreError};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A new key or a changed budget takes effect within a second (CONTRACT 5); four looks a second
/// leave room for a slow one.
const DIRECTORY_EVERY: Duration = Duration::from_millis(250);
/// Leases last 30 seconds; two renewals may fail before one runs out.
const LEASES_EVERY: Duration = Duration::from_secs(10);
/// How long what a dead process held stays out of reach, at most.
const RECOVERY_EVERY: Duration = Duration::from_secs(15);

/// The running house.
pub struct Wired {
    /// The engine.
    pub engine: Engine,
    /// Its store.
    pub store: Arc<dyn Store>,
    background: TaskTracker,
    stop: CancellationToken,
}

/// Why the house cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database cannot be used.
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
    /// A provider cannot be made from its configuration.
    #[error("the engine cannot be set up")]
    Engine(#[from] BuildError),
    /// A thread died while the database was opened.
    #[error("the database could not be opened")]
    Opening(#[from] tokio::task::JoinError),
}

impl Wired {
    /// Opens the store, settles what dead processes left behind, makes the engine and starts the
    /// work in the background. What this returns is ready to answer.
    pub async fn start(config: Config) -> Result<Wired, StartError> {
        let config = Arc::new(config);
        let store = open_store(&config).await?;
        let recovered = store.recover(Timestamp::now()).await?;
        if recovered > 0 {
            tracing::warn!(holds = recovered, "settled holds that a dead process left behind");
        }
        store.refresh_directory().await?;
        let engine = Engine::new(config, store.clone())?;
        let wired =
            Wired { engine, store, background: TaskTracker::new(), stop: CancellationToken::new() };
        wired.keep_directory_fresh();
        wired.keep_leases();
        wired.keep_recovering();
        wired.warm_up();
        Ok(wired)
    }

    /// Compiles the patterns of guard and classifier beside the start, so that the first person
    /// does not wait for them. What is switched off takes no memory.
    fn warm_up(&self) {
        let engine = self.engine.clone();
        self.background.spawn_blocking(move || {
            let config = engine.config();
            let zones = [config.guard.pii_local, config.guard.pii_eu, config.guard.pii_world];
            let looks = zones.iter().any(|action| *action != PiiAction::Off)
                || config.guard.injection != InjectionAction::Off;
            if looks {
                guard::warm_up();
            }
            if config.classify.mode != ClassifyMode::Off {
                // The first look compiles the cues; what it says of nothing is of no interest.
                let _ = engine.classify("");
            }
        });
    }

    /// Does something every so often until the house stops.
    pub fn every<F>(&self, period: Duration, mut work: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.background.spawn(async move {
            let mut tick = tokio::time::interval(period);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // The first tick comes at once, and what is done here has just been done.
            tick.tick().await;
            while stop.run_until_cancelled(tick.tick()).await.is_some() {
                work().await;
            }
        });
    }

    /// Runs something until it ends or the house stops.
    pub fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.background.spawn(async move {
            stop.run_until_cancelled(work).await;
        });
    }

    fn keep_directory_fresh(&self) {
        let store = self.store.clone();
        self.every(DIRECTORY_EVERY, move || {
            let store = store.clone();
            async move {
                if let Err(error) = store.refresh_directory().await {
                    tracing::warn!(error = %chain(&error), "could not read the directory");
                }
            }
        });
    }

    fn keep_leases(&self) {
        let store = self.store.clone();
        self.every(LEASES_EVERY, move || {
            let store = store.clone();
            async move {
                if let Err(error) = store.renew_leases(Timestamp::now()).await {
                    tracing::error!(error = %chain(&error), "could not renew the leases of running calls");
                }
            }
        });
    }

    fn keep_recovering(&self) {
        let store = self.store.clone();
        self.every(RECOVERY_EVERY, move || {
            let store = store.clone();
            async move {
                match store.recover(Timestamp::now()).await {
                    Ok(0) => {}
                    Ok(holds) => tracing::warn!(holds, "settled holds that a dead process left behind"),
                    Err(error) => tracing::error!(error = %chain(&error), "could not look for holds of dead processes"),
                }
            }
        });
    }

    /// Takes no new calls, lets running ones finish for so long, then cancels and settles them.
    pub async fn finish_calls(&self, grace: Duration) {
        self.engine.shutdown(grace).await;
    }

    /// Stops: calls first, since their settling needs the store; then the work in the
    /// background; the store last.
    pub async fn stop(&self, grace: Duration) {
        self.finish_calls(grace).await;
        self.stop.cancel();
        self.background.close();
        self.background.wait().await;
        if let Err(error) = self.store.close().await {
            tracing::error!(error = %chain(&error), "could not close the database");
        }
    }
}

/// Opens the store that the configuration names; without the work in the background.
pub async fn open_store(config: &Config) -> Result<Arc<dyn Store>, StartError> {
    let StoreUrl::Sqlite(path) = config.store.clone();
    let options = SqliteOptions {
        time_zone: config.money.time_zone.clone(),
        thresholds: config.budget.thresholds.clone(),
        ..SqliteOptions::default()
    };
    let opening =
        tokio::task::spawn_blocking(move || SqliteStore::open(&path, options, Timestamp::now()));
    Ok(opening.await??)
}

/// An error with its causes, on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        next = cause.source();
    }
    line
}
