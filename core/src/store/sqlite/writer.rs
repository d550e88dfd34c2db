//! The one writer of this process.
//!
//! A thread takes every job that waits, up to a few hundred, runs them in one `BEGIN IMMEDIATE …
//! COMMIT`, and answers each after the commit: the more callers there are, the less a commit
//! costs each. While hardly anybody asks there is nothing to group, and waking a thread twice
//! costs more than the commit itself; then the caller does the job on the spot, see
//! [`Desk::at_once`]. What a job wants to know is decided inside the transaction. When a batch fails it
//! is rolled back, everything in memory is forgotten, and the jobs run again one by one, so that
//! a bad one fails alone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use tokio::sync::{mpsc, oneshot};

use crate::ids::ProcessId;
use crate::store::StoreError;
use crate::store::sqlite::board::Board;
use crate::store::sqlite::books::Books;
use crate::store::sqlite::process::ProcessLock;

/// Jobs in one transaction. Above a few hundred the commit is no longer what costs.
const MOST_JOBS: usize = 256;

/// Jobs that may wait before callers do.
pub(super) const MOST_WAITING: usize = 4096;

/// Jobs that make a commit worth its price: its fixed part is then a tenth of what it costs.
const WORTH_A_COMMIT: usize = 12;

/// While the last commit is no longer ago than this, callers come quickly …
const BUSY: Duration = Duration::from_micros(300);

/// … and for so long the writer lets a few more of them come. Measured with 16 callers, where it
/// costs nobody anything since all wait for the processor: a quarter less of it for each call.
const GATHERING: Duration = Duration::from_micros(50);

/// Something to be done in the write transaction. It may run twice, if the first transaction
/// failed.
pub(super) trait Job: Send {
    /// What is being done, for the error.
    fn doing(&self) -> &'static str;
    /// Does it. An error rolls the transaction back.
    fn run(&mut self, books: &mut Books, connection: &Connection) -> rusqlite::Result<()>;
    /// Tells the caller, after the commit or instead of it.
    fn finish(self: Box<Self>, failure: Option<StoreError>);
}

/// A job with someone who waits for what comes out.
pub(super) struct Asked<T, W> {
    pub(super) doing: &'static str,
    pub(super) work: W,
    pub(super) outcome: Option<T>,
    pub(super) reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, W> Job for Asked<T, W>
where
    T: Send,
    W: FnMut(&mut Books, &Connection) -> rusqlite::Result<T> + Send,
{
    fn doing(&self) -> &'static str {
        self.doing
    }

    fn run(&mut self, books: &mut Books, connection: &Connection) -> rusqlite::Result<()> {
        self.outcome = Some((self.work)(books, connection)?);
        Ok(())
    }

    fn finish(self: Box<Self>, failure: Option<StoreError>) {
        let told = match (failure, self.outcome) {
            (Some(failure), _) => Err(failure),
            (None, Some(outcome)) => Ok(outcome),
            (None, None) => Err(StoreError::Closed),
        };
        // A caller that has gone does not want to know; what it asked for is done all the same.
        let _gone = self.reply.send(told);
    }
}

/// What the writer is told.
pub(super) enum Message {
    /// Do this.
    Job(Box<dyn Job>),
    /// Stop after what came before.
    Stop(oneshot::Sender<Result<(), StoreError>>),
}

/// Where the writer's belongings lie: whoever holds the lock is the writer. Taken away when the
/// store is closed.
#[derive(Clone)]
pub(super) struct Desk(Arc<Mutex<Option<Writer>>>);

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Desk")
    }
}

impl Desk {
    pub(super) fn new(writer: Writer) -> Self {
        Desk(Arc::new(Mutex::new(Some(writer))))
    }

    /// Does a job here and now, in some tens of microseconds, if nobody else is writing, in this
    /// process or in another one. Else gives it back, to be queued.
    pub(super) fn at_once(&self, job: Box<dyn Job>) -> Result<(), Box<dyn Job>> {
        let Ok(mut desk) = self.0.try_lock() else { return Err(job) };
        match desk.as_mut() {
            Some(writer) => writer.at_once(job),
            None => Err(job),
        }
    }

    /// Works until told to stop or until nobody is left who could ask.
    pub(super) fn work(&self, mut inbox: mpsc::Receiver<Message>) {
        let mut last_commit = Instant::now();
        while let Some(first) = inbox.blocking_recv() {
            let mut jobs: Vec<Box<dyn Job>> = Vec::new();
            if last_commit.elapsed() < BUSY && inbox.len() < WORTH_A_COMMIT {
                std::thread::sleep(GATHERING);
            }
            let mut next = Some(first);
            let mut stop = None;
            while let Some(message) = next.take() {
                match message {
                    Message::Job(job) => jobs.push(job),
                    Message::Stop(reply) => stop = Some(reply),
                }
                if stop.is_none() && jobs.len() < MOST_JOBS {
                    next = inbox.try_recv().ok();
                }
            }
            // A panic in the middle of a transaction leaves nothing that could be trusted: the
            // store is closed from then on.
            let Ok(mut desk) = self.0.lock() else { return };
            if let (Some(writer), false) = (desk.as_mut(), jobs.is_empty()) {
                writer.turn(jobs);
            }
            last_commit = Instant::now();
            if let Some(reply) = stop {
                // Whoever asks from here on is told that the database is closed.
                drop(inbox);
                let left = desk.take().map_or(Ok(()), Writer::leave);
                let _gone = reply.send(left);
                return;
            }
        }
    }
}

/// The writer's belongings.
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) books: Books,
    pub(super) board: Arc<Board>,
    pub(super) process: ProcessId,
    pub(super) lock: ProcessLock,
    /// Counts commits, so that upkeep knows whether there is anything to do.
    pub(super) commits: Arc<AtomicU64>,
    /// `PRAGMA data_version` as it was when the books were read.
    pub(super) data_version: i64,
}

/// Why a transaction did not become true.
enum Rollback {
    /// It could not begin: no job has run.
    Begin(rusqlite::Error),
    /// It was undone.
    Undone(rusqlite::Error),
}

impl Writer {
    fn at_once(&mut self, job: Box<dyn Job>) -> Result<(), Box<dyn Job>> {
        let mut jobs = vec![job];
        let patient = self.connection.busy_timeout(Duration::ZERO);
        let outcome = patient.map_err(Rollback::Begin).and_then(|()| self.transact(&mut jobs));
        if let Err(error) = self.connection.busy_timeout(super::opening::PATIENCE) {
            tracing::error!(%error, "the database's patience could not be restored");
        }
        let Some(job) = jobs.pop() else { return Ok(()) };
        match outcome {
            Ok(()) => job.finish(None),
            // Another process writes: the thread has the patience to wait for it.
            Err(Rollback::Begin(_)) => return Err(job),
            Err(Rollback::Undone(cause)) => fail(vec![job], cause),
        }
        Ok(())
    }

    fn turn(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        match self.transact(&mut jobs) {
            Ok(()) => jobs.into_iter().for_each(|job| job.finish(None)),
            // Whoever holds the lock for so long holds it for all of them.
            Err(Rollback::Begin(cause)) => fail(jobs, cause),
            Err(Rollback::Undone(cause)) if jobs.len() == 1 => fail(jobs, cause),
            Err(Rollback::Undone(_)) => jobs.into_iter().for_each(|job| self.turn(vec![job])),
        }
    }

    fn transact(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), Rollback> {
        let begun = self.connection.prepare_cached("BEGIN IMMEDIATE").and_then(|mut begin| {
            begin.execute([])?;
            Ok(())
        });
        begun.map_err(Rollback::Begin)?;
        match self.work(jobs) {
            Ok(()) => {
                self.commits.fetch_add(1, Ordering::Release);
                self.books.publish(&self.board);
                Ok(())
            }
            Err(cause) => {
                self.roll_back();
                Err(Rollback::Undone(cause))
            }
        }
    }

    fn work(&mut self, jobs: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
        let data_version = data_version(&self.connection)?;
        if data_version != self.data_version {
            self.books.forget_accounts();
            self.data_version = data_version;
        }
        for job in jobs {
            job.run(&mut self.books, &self.connection)?;
        }
        self.books.flush(&self.connection)?;
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }

    fn roll_back(&mut self) {
        self.books.forget_all();
        // Some failures, a full disk for one, have already undone the transaction.
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a transaction could not be rolled back");
        }
    }

    /// Signs off, if no hold is left that somebody would have to recover.
    fn leave(mut self) -> Result<(), StoreError> {
        let left_behind = |cause| query_error("sign off", cause);
        if self.books.open_count(&self.connection).map_err(left_behind)? > 0 {
            return Ok(());
        }
        self.connection
            .execute("DELETE FROM processes WHERE id = ?1", params![self.process.as_str()])
            .map_err(left_behind)?;
        self.lock.remove();
        Ok(())
    }
}

fn fail(jobs: Vec<Box<dyn Job>>, cause: rusqlite::Error) {
    let cause: Arc<dyn std::error::Error + Send + Sync> = Arc::new(cause);
    for job in jobs {
        let doing = job.doing();
        job.finish(Some(StoreError::Query { doing, cause: cause.clone() }));
    }
}

/// Changes whenever another connection has committed.
pub(super) fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

/// A question that failed.
pub(super) fn query_error(doing: &'static str, cause: rusqlite::Error) -> StoreError {
    StoreError::Query { doing, cause: Arc::new(cause) }
}
