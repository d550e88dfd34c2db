//! The way back to whoever asked, and the moment at which they are gone.

use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;

use crate::ids::ModelId;
use crate::reply::Event;

/// Where events go. Telling a face that is gone does nothing: the walk notices by
/// [`Face::gone`], cancels and settles.
#[derive(Debug, Clone)]
pub(super) struct Face {
    events: mpsc::Sender<Event>,
    chosen: Arc<OnceLock<ModelId>>,
}

impl Face {
    pub(super) fn new(events: mpsc::Sender<Event>, chosen: Arc<OnceLock<ModelId>>) -> Self {
        Face { events, chosen }
    }

    /// Puts up who will be asked first.
    pub(super) fn chosen(&self, model: &ModelId) {
        // Decided once for each call; should it be twice, the first one stands.
        let _ = self.chosen.set(model.clone());
    }

    /// Hands an event over, waiting for room.
    pub(super) async fn tell(&self, event: Event) {
        // The only error is a receiver that is gone, which `gone` reports to the walk.
        let _ = self.events.send(event).await;
    }

    /// Whether nobody listens any more.
    pub(super) fn is_gone(&self) -> bool {
        self.events.is_closed()
    }

    /// Resolves when nobody listens any more.
    pub(super) async fn gone(&self) {
        self.events.closed().await;
    }
}
