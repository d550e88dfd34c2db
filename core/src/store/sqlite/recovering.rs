//! Settles what dead processes left behind.
//!
//! Everything happens in one write transaction, so of two processes that recover at once the
//! second finds nothing left. Living processes keep their locks; their holds are not touched.

use std::path::Path;

use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::ids::ProcessId;
use crate::store::sqlite::books::Books;
use crate::store::sqlite::process::{self, DeadProcess, Fate};
use crate::store::sqlite::rows::{self, Columns};

/// What a recovery did, and the lock files that may go once it is committed.
#[derive(Debug)]
pub(super) struct Recovered {
    holds: u64,
    dead: Vec<DeadProcess>,
}

impl Recovered {
    /// Removes the lock files; how many holds were settled.
    pub(super) fn clear_away(self) -> u64 {
        self.dead.into_iter().for_each(DeadProcess::remove);
        self.holds
    }
}

/// A process as the table knows it.
struct Known {
    id: ProcessId,
    lease_until: Timestamp,
}

/// Settles the holds of every dead process but `own`.
pub(super) fn recover(
    books: &mut Books,
    connection: &Connection,
    folder: &Path,
    own: &ProcessId,
    now: Timestamp,
) -> rusqlite::Result<Recovered> {
    let known = known_processes(connection)?;
    let mut recovered = Recovered { holds: 0, dead: Vec::new() };
    for process in known.iter().filter(|process| process.id != *own) {
        match process::fate(folder, &process.id).map_err(unreadable)? {
            Fate::Alive => continue,
            Fate::Unknown if process.lease_until > now => continue,
            Fate::Unknown => {}
            Fate::Dead(corpse) => recovered.dead.push(corpse),
        }
        recovered.holds += books.recover(connection, &process.id)?;
        connection.execute("DELETE FROM processes WHERE id = ?1", params![process.id.as_str()])?;
    }
    Ok(recovered)
}

fn unreadable(cause: std::io::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(cause))
}

/// Every process that signed on, and those of which only holds are left.
fn known_processes(connection: &Connection) -> rusqlite::Result<Vec<Known>> {
    let mut statement = connection.prepare(
        "SELECT id, lease_until FROM processes
         UNION ALL
         SELECT DISTINCT process, 0 FROM holds
         WHERE process NOT IN (SELECT id FROM processes)",
    )?;
    let known = statement.query_map([], |row| {
        let mut columns = Columns::of(row);
        Ok(Known { id: columns.id()?, lease_until: columns.time()? })
    })?;
    known.collect()
}

/// Extends the lease of a process.
pub(super) fn renew(
    connection: &Connection,
    process: &ProcessId,
    now: Timestamp,
    lease_until: Timestamp,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO processes (id, started_at, lease_until) VALUES (?1, ?2, ?3)
             ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until",
        )?
        .execute(params![process.as_str(), rows::nanos(now), rows::nanos(lease_until)])?;
    Ok(())
}
