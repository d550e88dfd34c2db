//! The store in one SQLite file.
//!
//! [`writer`] is the one thread of this process that writes; it groups what waits into one
//! transaction. [`books`] is what it knows of budgets and holds; [`process`] tells which other
//! processes live; [`upkeep`] syncs, moves the log and looks at what others wrote; [`readers`]
//! answer questions; [`board`] tells how full budgets are without asking anybody. Knows nothing
//! of who calls.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rusqlite::{Connection, params};
use tokio::sync::{mpsc, oneshot};

use crate::budget::{Budget, BudgetStatus, Notice, Reservation};
use crate::ids::{HoldId, KeyId, Node, ProcessId};
use crate::org::import::{ImportPlan, ImportReport};
use crate::org::{ApiKey, Directory};
use crate::reply::BudgetRefusal;
use crate::request::BudgetPeriod;
use crate::store::{HoldRequest, LedgerQuery, LedgerRow, Settlement, Store, StoreError};

mod board;
mod books;
mod directory;
mod importing;
mod opening;
mod process;
mod questions;
mod readers;
mod recovering;
mod rows;
mod upkeep;
mod writer;

#[cfg(test)]
mod tests;

use board::Board;
use books::{Books, PreparedHold, PreparedSettlement};
use opening::Unusable;
use process::{OpeningLock, ProcessLock};
use readers::Readers;
use upkeep::Upkeep;
use writer::{Asked, Desk, Job, Message, Writer, query_error};

/// How long a start waits for another start on the same file.
const OPENING_PATIENCE: Duration = Duration::from_secs(20);

/// What the store needs to know of the configuration.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The calendar of periods.
    pub time_zone: TimeZone,
    /// Shares of a budget that notify once per period.
    pub thresholds: Vec<f64>,
    /// How long a process whose lock file is gone counts as alive after it last renewed.
    pub lease: Duration,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        SqliteOptions {
            // The time zones are inside the program, so this one is always found.
            time_zone: TimeZone::get("Europe/Berlin").unwrap_or(TimeZone::UTC),
            thresholds: vec![0.5, 0.8, 1.0],
            lease: Duration::from_secs(30),
        }
    }
}

/// Up to so many calls on their way there is nothing to group, and whoever asks writes on the
/// spot: at one call at a time this spares four thread switches, more than the commits cost.
const QUIET: usize = 2;

/// The store in one file. Several processes may work on it at once.
#[derive(Debug)]
pub struct SqliteStore {
    writer: mpsc::Sender<Message>,
    desk: Desk,
    /// Holds that are neither refused nor settled, to tell a quiet moment from a busy one.
    calls: AtomicUsize,
    readers: Arc<Readers>,
    upkeep: std::sync::mpsc::Sender<std::sync::mpsc::Sender<()>>,
    directory: Arc<ArcSwap<Directory>>,
    board: Arc<Board>,
    processes: PathBuf,
    process: ProcessId,
    zone: TimeZone,
    lease: Duration,
}

impl SqliteStore {
    /// Opens the file, makes it and its folder where they are missing, and brings its tables up
    /// to date. Holds of dead processes are left to [`Store::recover`].
    pub fn open(
        path: &Path,
        options: SqliteOptions,
        now: Timestamp,
    ) -> Result<Arc<SqliteStore>, StoreError> {
        Self::try_open(path, options, now).map_err(|cause| StoreError::Open {
            path: path.display().to_string(),
            cause: Arc::new(cause),
        })
    }

    fn try_open(
        path: &Path,
        options: SqliteOptions,
        now: Timestamp,
    ) -> Result<Arc<SqliteStore>, Unusable> {
        let processes = process::folder_of(path);
        std::fs::create_dir_all(&processes).map_err(Unusable::Folder)?;
        let _opening = OpeningLock::take(&processes, OPENING_PATIENCE).map_err(Unusable::Lock)?;
        let connection = opening::open_current(path)?;
        let process = ProcessId::fresh();
        let lease_until = lease_end(now, options.lease);
        let lock = register(&connection, &processes, &process, now, lease_until)?;

        let board = Arc::new(Board::default());
        let directory = Arc::new(ArcSwap::from_pointee(Directory::default()));
        let commits = Arc::new(AtomicU64::new(0));
        let (stop_upkeep, upkeep_stopped) = std::sync::mpsc::channel();
        let upkeep = Upkeep {
            connection: opening::connect_upkeep(path)?,
            log_path: log_path(path),
            zone: options.time_zone.clone(),
            board: board.clone(),
            directory: directory.clone(),
            commits: commits.clone(),
        };
        // The first answers are those of the file, not of an empty memory.
        upkeep.look_again()?;
        let writer = Writer {
            data_version: writer::data_version(&connection)?,
            connection,
            books: Books::new(options.time_zone.clone(), options.thresholds, process.clone()),
            board: board.clone(),
            process: process.clone(),
            lock,
            commits,
        };
        let (sender, inbox) = mpsc::channel(writer::MOST_WAITING);
        let desk = Desk::new(writer);
        let working = desk.clone();
        spawn("stellwerk-writer", move || working.work(inbox))?;
        spawn("stellwerk-upkeep", move || upkeep.run(upkeep_stopped))?;
        Ok(Arc::new(SqliteStore {
            writer: sender,
            desk,
            calls: AtomicUsize::new(0),
            readers: Arc::new(Readers::new(path.to_owned())),
            upkeep: stop_upkeep,
            directory,
            board,
            processes,
            process,
            zone: options.time_zone,
            lease: options.lease,
        }))
    }

    /// The id that this process's holds carry.
    pub fn process(&self) -> &ProcessId {
        &self.process
    }

    /// Has something done in the write transaction and waits for its commit.
    async fn ask<T, W>(&self, doing: &'static str, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnMut(&mut Books, &Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.queue(Box::new(Asked { doing, work, outcome: None, reply })).await?;
        answer.await.map_err(|_stopped| StoreError::Closed)?
    }

    /// The same for what is quick: in a quiet moment it is done on the spot.
    async fn ask_quickly<T, W>(&self, doing: &'static str, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnMut(&mut Books, &Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Box<dyn Job> = Box::new(Asked { doing, work, outcome: None, reply });
        let waiting = match self.calls.load(Ordering::Relaxed) {
            0..=QUIET => self.desk.at_once(job),
            _ => Err(job),
        };
        if let Err(job) = waiting {
            self.queue(job).await?;
        }
        answer.await.map_err(|_stopped| StoreError::Closed)?
    }

    async fn queue(&self, job: Box<dyn Job>) -> Result<(), StoreError> {
        self.writer.send(Message::Job(job)).await.map_err(|_stopped| StoreError::Closed)
    }
}

fn log_path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

fn lease_end(now: Timestamp, lease: Duration) -> Timestamp {
    now.checked_add(lease).unwrap_or(Timestamp::MAX)
}

/// Signs on: the lock and the row belong together, so both are made in one write transaction,
/// in which nobody else looks for dead processes.
fn register(
    connection: &Connection,
    processes: &Path,
    process: &ProcessId,
    now: Timestamp,
    lease_until: Timestamp,
) -> Result<ProcessLock, Unusable> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let lock = ProcessLock::take(processes, process).map_err(Unusable::Lock)?;
    connection.execute(
        "INSERT INTO processes (id, started_at, lease_until) VALUES (?1, ?2, ?3)",
        params![process.as_str(), rows::nanos(now), rows::nanos(lease_until)],
    )?;
    connection.execute_batch("COMMIT")?;
    Ok(lock)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Unusable> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(work).map_err(Unusable::Folder)?;
    Ok(())
}

/// Lets go of holds whose caller stopped waiting before it knew that it had them.
struct Unwanted {
    writer: mpsc::Sender<Message>,
    holds: Vec<HoldId>,
}

impl Drop for Unwanted {
    fn drop(&mut self) {
        if self.holds.is_empty() {
            return;
        }
        let holds = std::mem::take(&mut self.holds);
        let (reply, _nobody_waits) = oneshot::channel();
        let job = Box::new(Asked {
            doing: "let go of a hold",
            work: move |books: &mut Books, connection: &Connection| {
                books.release(connection, &holds)
            },
            outcome: None,
            reply,
        });
        // Behind the job that makes the holds, so it finds them. Where the queue is full someone
        // else has to wait for a place.
        let Err(mpsc::error::TrySendError::Full(message)) = self.writer.try_send(Message::Job(job))
        else {
            return;
        };
        let writer = self.writer.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { writer.send(message).await });
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn reserve(
        &self,
        holds: Vec<HoldRequest>,
        now: Timestamp,
    ) -> Result<Result<Vec<Reservation>, BudgetRefusal>, StoreError> {
        const DOING: &str = "set money aside";
        let prepared: Result<Vec<PreparedHold>, rusqlite::Error> =
            holds.into_iter().map(|hold| PreparedHold::of(hold, now)).collect();
        let prepared = prepared.map_err(|cause| query_error(DOING, cause))?;
        let holds = prepared.iter().map(|hold| hold.id().clone()).collect();
        let mut unwanted = Unwanted { writer: self.writer.clone(), holds };
        let count = unwanted.holds.len();
        self.calls.fetch_add(count, Ordering::Relaxed);
        let decided = self
            .ask_quickly(DOING, move |books, connection| books.reserve(connection, &prepared, now))
            .await;
        unwanted.holds.clear();
        if !matches!(decided, Ok(Ok(Ok(_)))) {
            self.calls.fetch_sub(count, Ordering::Relaxed);
        }
        decided?
    }

    async fn settle(&self, settlement: Settlement) -> Result<Vec<Notice>, StoreError> {
        const DOING: &str = "settle a hold";
        let prepared = PreparedSettlement::of(settlement);
        let prepared = prepared.map_err(|cause| query_error(DOING, cause))?;
        let settled =
            self.ask_quickly(DOING, move |books, connection| books.settle(connection, &prepared));
        let settled = settled.await?;
        if settled.is_ok() {
            self.calls.fetch_sub(1, Ordering::Relaxed);
        }
        settled
    }

    async fn renew_leases(&self, now: Timestamp) -> Result<(), StoreError> {
        let process = self.process.clone();
        let lease_until = lease_end(now, self.lease);
        self.ask("renew its lease", move |_, connection| {
            recovering::renew(connection, &process, now, lease_until)
        })
        .await
    }

    async fn recover(&self, now: Timestamp) -> Result<u64, StoreError> {
        let (processes, process) = (self.processes.clone(), self.process.clone());
        let recovered = self
            .ask("settle what dead processes left", move |books, connection| {
                recovering::recover(books, connection, &processes, &process, now)
            })
            .await?;
        // Only now, after the commit: until then the lock files say who is being recovered.
        Ok(recovered.clear_away())
    }

    fn pressure(&self, levels: &[Node], now: Timestamp) -> Option<(Node, f64)> {
        self.board.pressure(levels, now)
    }

    async fn set_budget(&self, budget: Budget, now: Timestamp) -> Result<BudgetStatus, StoreError> {
        self.ask("set a budget", move |books, connection| {
            books.set_budget(connection, &budget, now)
        })
        .await
    }

    async fn remove_budget(&self, node: Node, period: BudgetPeriod) -> Result<bool, StoreError> {
        self.ask("remove a budget", move |books, connection| {
            books.remove_budget(connection, &node, period)
        })
        .await
    }

    async fn budgets(
        &self,
        node: Option<Node>,
        now: Timestamp,
    ) -> Result<Vec<BudgetStatus>, StoreError> {
        let zone = self.zone.clone();
        let asked = move |connection: &Connection| {
            questions::budgets(connection, node.as_ref(), now, &zone)
        };
        let mut budgets = self.readers.ask("read the budgets", asked).await?;
        questions::sort_by_tree(&mut budgets, &self.directory());
        Ok(budgets)
    }

    fn directory(&self) -> Arc<Directory> {
        self.directory.load_full()
    }

    async fn refresh_directory(&self) -> Result<Arc<Directory>, StoreError> {
        let kept = self.directory.clone();
        self.readers
            .ask("read the organisation", move |connection| directory::refresh(connection, &kept))
            .await?;
        Ok(self.directory())
    }

    async fn import_org(
        &self,
        plan: ImportPlan,
        now: Timestamp,
    ) -> Result<ImportReport, StoreError> {
        let report = self
            .ask("import the organisation", move |books, connection| {
                importing::import(books, connection, &plan, now)
            })
            .await??;
        self.refresh_directory().await?;
        Ok(report)
    }

    async fn create_key(&self, key: ApiKey) -> Result<(), StoreError> {
        self.ask("keep a key", move |_, connection| directory::insert_key(connection, &key))
            .await?;
        self.refresh_directory().await?;
        Ok(())
    }

    async fn revoke_key(&self, id: KeyId, now: Timestamp) -> Result<(), StoreError> {
        let named = id.clone();
        let found = self
            .ask("revoke a key", move |_, connection| {
                directory::revoke_key(connection, &named, now)
            })
            .await?;
        self.refresh_directory().await?;
        if found { Ok(()) } else { Err(StoreError::NotFound(format!("key `{id}`"))) }
    }

    async fn ledger(&self, query: LedgerQuery) -> Result<Vec<LedgerRow>, StoreError> {
        self.readers
            .ask("read the ledger", move |connection| questions::ledger(connection, &query))
            .await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.ask("write", |_, connection| {
            connection.execute("UPDATE revision SET value = value", [])?;
            Ok(())
        })
        .await?;
        self.readers
            .ask("read", |connection| {
                connection.query_row("SELECT value FROM revision", [], |row| row.get::<_, i64>(0))
            })
            .await?;
        Ok(())
    }

    async fn close(&self) -> Result<(), StoreError> {
        let (reply, left) = oneshot::channel();
        if self.writer.send(Message::Stop(reply)).await.is_err() {
            // Closed before.
            return Ok(());
        }
        let left = left.await.map_err(|_stopped| StoreError::Closed)?;
        let (reply, synced) = std::sync::mpsc::channel();
        if self.upkeep.send(reply).is_ok() {
            // A closed channel means that the thread has ended, which is what is waited for.
            let waited = tokio::task::spawn_blocking(move || synced.recv()).await;
            waited
                .map_err(|cause| StoreError::Query { doing: "sync", cause: Arc::new(cause) })?
                .ok();
        }
        self.readers.close();
        left
    }
}
