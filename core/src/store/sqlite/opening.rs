//! Opening the file: is it ours, is it of a version that we know, and the settings of each
//! connection.
//!
//! Whatever is wrong is said in words with the way out, and nothing in the file is touched
//! before it is known to be ours.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

mod migrations {
    // A migration that is added is picked up when this crate is built anew.
    refinery::embed_migrations!("../migrations/sqlite");
}

/// How long a question waits for another process's transaction.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// `STLW`: SQLite keeps this number in the header for programs to know their files by.
const APPLICATION_ID: i32 = 0x5354_4C57;

/// Why the file cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("the folder cannot be made or written to; check its permissions and the free space")]
    Folder(#[source] std::io::Error),
    #[error(
        "the lock file cannot be locked; the folder must be on a disk of this machine that supports file locks, and no start of Stellwerk may hang"
    )]
    Lock(#[source] std::io::Error),
    #[error("the file belongs to another program; give another path in `[store] url`")]
    Foreign,
    #[error("the file is no SQLite database or it is damaged; move it away, or restore a backup")]
    NotADatabase(#[source] rusqlite::Error),
    #[error(
        "the file was written by a newer Stellwerk (tables of version {found}, this one knows {known}); use the newer program"
    )]
    Newer { found: i64, known: i64 },
    #[error(
        "the file cannot be opened for writing; check the permissions of the file and its folder"
    )]
    ReadOnly(#[source] rusqlite::Error),
    #[error("the disk is full")]
    DiskFull(#[source] rusqlite::Error),
    #[error("the tables could not be brought up to date; the file is as it was")]
    Migrate(#[source] refinery::Error),
    #[error("SQLite refused")]
    Sql(#[source] rusqlite::Error),
}

impl From<rusqlite::Error> for Unusable {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                Unusable::NotADatabase(error)
            }
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Unusable::ReadOnly(error)
            }
            Some(ErrorCode::DiskFull) => Unusable::DiskFull(error),
            _ => Unusable::Sql(error),
        }
    }
}

/// Opens the file, or makes it, and brings its tables up to date.
pub(super) fn open_current(path: &Path) -> Result<Connection, Unusable> {
    let mut connection = connect(path)?;
    check_ours(&connection)?;
    check_version(&connection)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    migrations::migrations::runner()
        .set_grouped(true)
        .run(&mut connection)
        .map_err(Unusable::Migrate)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    Ok(connection)
}

/// A further connection for writing, with the settings of the house.
pub(super) fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(PATIENCE)?;
    connection.set_prepared_statement_cache_capacity(64);
    // A commit reaches the operating system at once and the disk within a second: a crash of
    // the process loses nothing, a power cut at most that second.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // Checkpoints are upkeep's; in the writer they would make one caller in a thousand wait.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

/// The connection of upkeep. It gives up soon: while it waits for a reader to begin the log
/// anew, no one can write.
pub(super) fn connect_upkeep(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = connect(path)?;
    connection.busy_timeout(Duration::from_millis(50))?;
    Ok(connection)
}

/// A connection that only reads.
pub(super) fn connect_reader(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = connect(path)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn check_ours(connection: &Connection) -> Result<(), Unusable> {
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let application: i32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    // A crash between the first migration and the mark leaves our tables without it.
    let ours = application == APPLICATION_ID || version(connection)?.is_some();
    if tables > 0 && !ours { Err(Unusable::Foreign) } else { Ok(()) }
}

fn check_version(connection: &Connection) -> Result<(), Unusable> {
    let known = known_version();
    match version(connection)? {
        Some(found) if found > known => Err(Unusable::Newer { found, known }),
        _ => Ok(()),
    }
}

fn known_version() -> i64 {
    let runner = migrations::migrations::runner();
    runner
        .get_migrations()
        .iter()
        .map(|migration| i64::from(migration.version()))
        .max()
        .unwrap_or(0)
}

/// The version of the tables; `None` where migrations never ran.
fn version(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let history: Option<i64> = connection
        .query_row(
            "SELECT 1 FROM sqlite_schema WHERE name = 'refinery_schema_history'",
            [],
            |row| row.get(0),
        )
        .optional()?;
    if history.is_none() {
        return Ok(None);
    }
    connection.query_row("SELECT max(version) FROM refinery_schema_history", [], |row| row.get(0))
}
