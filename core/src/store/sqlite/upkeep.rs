//! What happens beside the writer: sync, checkpoints, and a look at what other processes wrote.
//!
//! One thread with a connection of its own. Every second it makes durable what was committed;
//! it moves the log into the database while calls go on, and before the log grows too long it
//! makes the writer begin it anew. Knows nothing of budgets beyond reading them for the board.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::tz::TimeZone;
use rusqlite::Connection;

use crate::org::Directory;
use crate::store::sqlite::board::{self, Board};
use crate::store::sqlite::{directory, writer};

/// How often another process's writing is looked for; half of what the contract allows, since
/// the look itself takes time.
const TICK: Duration = Duration::from_millis(250);

/// How many ticks pass between two syncs: one second.
const TICKS_PER_SYNC: u32 = 4;

/// Commits after which the log is moved into the database even under load. Some thousand pages,
/// like SQLite's own default, but away from the writer.
pub(super) const COMMITS_PER_CHECKPOINT: u64 = 500;

/// Pages of log (4 KiB each) beyond which the writer has to begin it anew: 64 MiB.
const MOST_LOG_PAGES: i64 = 16_384;

/// Bytes of log file that are given back to the disk when nothing happens.
const LARGE_LOG_BYTES: u64 = 4 * 1024 * 1024;

/// The thread's belongings.
pub(super) struct Upkeep {
    pub(super) connection: Connection,
    pub(super) log_path: PathBuf,
    pub(super) zone: TimeZone,
    pub(super) board: Arc<Board>,
    pub(super) directory: Arc<ArcSwap<Directory>>,
    pub(super) commits: Arc<AtomicU64>,
}

/// What was last seen and done.
#[derive(Default)]
pub(super) struct Done {
    data_version: i64,
    synced: u64,
    checkpointed: u64,
    /// Ticks without a commit.
    quiet: u32,
    log_given_back: bool,
}

impl Upkeep {
    /// Works until the other end of `stop` sends or goes away.
    pub(super) fn run(self, stop: Receiver<Sender<()>>) {
        let mut done = Done::default();
        let mut ticks = 0_u32;
        loop {
            match stop.recv_timeout(TICK) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
                Ok(stopped) => {
                    self.sync(&mut done);
                    drop(self);
                    let _gone = stopped.send(());
                    return;
                }
            }
            ticks = ticks.wrapping_add(1);
            if let Err(error) = self.look(&mut done) {
                tracing::warn!(%error, "the database could not be looked at for changes");
            }
            if ticks.is_multiple_of(TICKS_PER_SYNC) {
                self.sync(&mut done);
                if let Err(error) = self.checkpoint(&mut done) {
                    tracing::warn!(%error, "the log could not be moved into the database");
                }
            }
        }
    }

    /// Sees what was written, by whomever.
    fn look(&self, done: &mut Done) -> rusqlite::Result<()> {
        let data_version = writer::data_version(&self.connection)?;
        if data_version == done.data_version {
            return Ok(());
        }
        self.look_again()?;
        done.data_version = data_version;
        Ok(())
    }

    /// Reads the directory, if it has changed, and the board.
    pub(super) fn look_again(&self) -> rusqlite::Result<()> {
        directory::refresh(&self.connection, &self.directory)?;
        let commits = self.commits.load(Ordering::Acquire);
        let gauges = board::read(&self.connection, &self.zone)?;
        // Under steady load the writer is always ahead of this look; it puts up itself what it
        // touches, and sees the others' writing when it does.
        self.board.replace(gauges, || self.commits.load(Ordering::Acquire) == commits);
        Ok(())
    }

    /// Makes durable what was committed up to now.
    pub(super) fn sync(&self, done: &mut Done) {
        let commits = self.commits.load(Ordering::Acquire);
        if commits == done.synced {
            done.quiet = done.quiet.saturating_add(TICKS_PER_SYNC);
            return;
        }
        done.quiet = 0;
        done.log_given_back = false;
        // The log is a plain file without locks, so a handle of our own does no harm; the locks
        // are on the database and its shared memory.
        match File::open(&self.log_path).and_then(|log| log.sync_data()) {
            Ok(()) => done.synced = commits,
            Err(error) => tracing::error!(%error, "the log could not be synced to the disk"),
        }
    }

    pub(super) fn checkpoint(&self, done: &mut Done) -> rusqlite::Result<()> {
        let commits = self.commits.load(Ordering::Acquire);
        let since = commits - done.checkpointed;
        let is_idle = done.quiet >= TICKS_PER_SYNC;
        if since >= COMMITS_PER_CHECKPOINT || (is_idle && since > 0) {
            let pages = self.move_log("PASSIVE")?;
            done.checkpointed = commits;
            if pages > MOST_LOG_PAGES {
                // Nearly all of it has just been moved without anybody waiting; what is left is
                // small, and only then does the writer stand still.
                self.move_log("RESTART")?;
            }
        }
        if is_idle && !done.log_given_back && self.log_bytes() > LARGE_LOG_BYTES {
            self.move_log("TRUNCATE")?;
            done.log_given_back = true;
        }
        Ok(())
    }

    /// Runs a checkpoint; how many pages the log has.
    fn move_log(&self, how: &str) -> rusqlite::Result<i64> {
        let pragma = format!("PRAGMA wal_checkpoint({how})");
        self.connection.prepare_cached(&pragma)?.query_row([], |row| row.get(1))
    }

    fn log_bytes(&self) -> u64 {
        std::fs::metadata(&self.log_path).map_or(0, |log| log.len())
    }
}
