//! Which processes work on this database, and which of them have died.
//!
//! Each process keeps a lock of the operating system on a file of its own for as long as it
//! lives; the kernel lets go of it however the process ends. A lock that somebody else can take
//! therefore belongs to a dead process. Where the file itself is gone the lease decides.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::ids::ProcessId;

/// The folder of the lock files, beside the database.
pub(super) fn folder_of(database: &Path) -> PathBuf {
    database.parent().unwrap_or(Path::new(".")).join("processes")
}

/// The lock of a living process. Dropping it, or dying, lets go.
#[derive(Debug)]
pub(super) struct ProcessLock {
    path: PathBuf,
    _file: File,
}

impl ProcessLock {
    /// Takes the lock of a new process. Must be called inside a write transaction that also
    /// registers the process, so that nobody looks at a file that is not locked yet.
    pub(super) fn take(folder: &Path, process: &ProcessId) -> io::Result<Self> {
        let path = lock_path(folder, process);
        let file = File::create_new(&path)?;
        file.try_lock()?;
        Ok(ProcessLock { path, _file: file })
    }

    /// Takes the file away, for a process that leaves nothing behind.
    pub(super) fn remove(self) {
        remove_file(&self.path);
    }
}

fn lock_path(folder: &Path, process: &ProcessId) -> PathBuf {
    folder.join(format!("{process}.lock"))
}

fn remove_file(path: &Path) {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // A file that stays behind costs nothing but a look at the next recovery.
        Err(error) => tracing::warn!(%error, path = %path.display(), "a lock file stays behind"),
    }
}

/// What became of a process.
#[derive(Debug)]
pub(super) enum Fate {
    /// Its lock is held.
    Alive,
    /// Its lock is free. The file is held here until the corpse is cleared away.
    Dead(DeadProcess),
    /// There is no lock file; the lease must decide.
    Unknown,
}

/// The lock file of a dead process, locked by us.
#[derive(Debug)]
pub(super) struct DeadProcess {
    path: PathBuf,
    _file: File,
}

impl DeadProcess {
    /// Takes the file away once its holds are settled and committed.
    pub(super) fn remove(self) {
        remove_file(&self.path);
    }
}

/// Looks whether a process lives.
pub(super) fn fate(folder: &Path, process: &ProcessId) -> io::Result<Fate> {
    let path = lock_path(folder, process);
    let file = match File::options().read(true).write(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Fate::Unknown),
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        Ok(()) => Ok(Fate::Dead(DeadProcess { path, _file: file })),
        Err(TryLockError::WouldBlock) => Ok(Fate::Alive),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

const OPENING: &str = "opening";

/// Lets one process at a time create and migrate the database: two first starts at once would
/// otherwise both run the first migration.
#[derive(Debug)]
pub(super) struct OpeningLock {
    _file: File,
}

impl OpeningLock {
    /// Waits for the lock, at most `patience`.
    pub(super) fn take(folder: &Path, patience: Duration) -> io::Result<Self> {
        let path = folder.join(format!("{OPENING}.lock"));
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(OpeningLock { _file: file }),
                Err(TryLockError::WouldBlock) if started.elapsed() < patience => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
