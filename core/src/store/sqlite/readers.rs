//! A few connections that only read, for questions that may take a while.
//!
//! Questions run on the runtime's blocking threads, never on those that carry requests, and never
//! more than a few at once: a ledger export cannot take the machine away from the calls.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::store::StoreError;
use crate::store::sqlite::opening;
use crate::store::sqlite::writer::query_error;

/// Questions at once.
const MOST_READERS: usize = 4;

/// The pool. The mutex is held for a push or a pop.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Readers { path, idle: Mutex::default(), permits: Semaphore::new(MOST_READERS) }
    }

    /// Asks on a blocking thread.
    pub(super) async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        doing: &'static str,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let _permit = self.permits.acquire().await.map_err(|_closed| StoreError::Closed)?;
        let readers = self.clone();
        let asked = move || readers.ask_here(question);
        let answered = tokio::task::spawn_blocking(asked)
            .await
            .map_err(|cause| StoreError::Query { doing, cause: Arc::new(cause) })?;
        answered.map_err(|cause| query_error(doing, cause))
    }

    /// Asks on this thread.
    fn ask_here<T>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => opening::connect_reader(&self.path)?,
        };
        let answer = question(&connection)?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok(answer)
    }

    /// Takes no more questions and closes what is open.
    pub(super) fn close(&self) {
        self.permits.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
