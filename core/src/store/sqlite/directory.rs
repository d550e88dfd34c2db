//! The organisation and the keys: read whole, written row by row.
//!
//! Every write raises the revision in the same transaction, so that a process can ask with one
//! row whether its directory is still the one in the file.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use crate::ids::{KeyId, Node, PersonId};
use crate::org::{ApiKey, Company, Directory, KeyLimits, Person, Unit};
use crate::request::{Locale, Sensitivity};
use crate::store::sqlite::rows::{self, Columns};

/// Reads the directory anew if the file has a newer one.
pub(super) fn refresh(connection: &Connection, kept: &ArcSwap<Directory>) -> rusqlite::Result<()> {
    if revision(connection)? == kept.load().revision {
        return Ok(());
    }
    let read = Arc::new(read(connection)?);
    // Two that read at once must not leave the older one behind.
    kept.rcu(|kept| if kept.revision > read.revision { kept.clone() } else { read.clone() });
    Ok(())
}

fn revision(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT value FROM revision")?.query_row([], |row| row.get(0))
}

/// Says that organisation or keys have changed.
pub(super) fn raise_revision(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("UPDATE revision SET value = value + 1", [])?;
    Ok(())
}

/// Reads everything, as of one moment.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<Directory> {
    // Within the writer's transaction there is one moment already.
    let own = connection.is_autocommit();
    if own {
        connection.execute_batch("BEGIN")?;
    }
    let directory = read_tables(connection);
    if own {
        connection.execute_batch("COMMIT")?;
    }
    directory
}

fn read_tables(connection: &Connection) -> rusqlite::Result<Directory> {
    Ok(Directory {
        revision: revision(connection)?,
        company: read_company(connection)?,
        units: read_units(connection)?,
        people: read_people(connection)?,
        keys: read_keys(connection)?,
    })
}

fn read_company(connection: &Connection) -> rusqlite::Result<Option<Company>> {
    connection
        .query_row("SELECT id, name FROM company", [], |row| {
            Ok(Company { id: row.get(0)?, name: row.get(1)? })
        })
        .optional()
}

fn read_units(connection: &Connection) -> rusqlite::Result<BTreeMap<Arc<str>, Unit>> {
    let mut statement = connection.prepare("SELECT id, kind, name, parent, closed FROM units")?;
    let units = statement.query_map([], |row| {
        let mut columns = Columns::of(row);
        let id: Arc<str> = columns.id()?;
        let node = columns.word(|kind| match kind {
            "department" => Some(Node::Department(id.clone())),
            "team" => Some(Node::Team(id.clone())),
            _ => None,
        })?;
        let name = columns.get()?;
        let parent = columns.maybe_id()?;
        Ok((id, Unit { node, name, parent, closed: columns.get()? }))
    })?;
    units.collect()
}

fn read_people(connection: &Connection) -> rusqlite::Result<BTreeMap<PersonId, Person>> {
    let mut statement = connection.prepare(
        "SELECT id, name, email, parent, groups, locale, roles, clearance, closed FROM people",
    )?;
    let people = statement.query_map([], |row| {
        let mut columns = Columns::of(row);
        let person = Person {
            id: columns.id()?,
            name: columns.get()?,
            email: columns.get()?,
            parent: columns.maybe_id()?,
            groups: columns.json()?,
            locale: columns.maybe_word(locale_of)?,
            roles: columns.json()?,
            clearance: columns.maybe_word(Sensitivity::from_word)?,
            closed: columns.get()?,
        };
        Ok((person.id.clone(), person))
    })?;
    people.collect()
}

fn read_keys(connection: &Connection) -> rusqlite::Result<HashMap<String, Arc<ApiKey>>> {
    let mut statement = connection.prepare(
        "SELECT id, hash, node, name, use_case, requests_per_minute, tokens_per_minute, parallel,
                models, expires_at, floor, keep_history, created_at, revoked_at
         FROM keys",
    )?;
    let keys = statement.query_map([], |row| {
        let mut columns = Columns::of(row);
        let key = ApiKey {
            id: columns.id()?,
            hash: columns.get()?,
            node: columns.node()?,
            name: columns.get()?,
            use_case: columns.maybe_id()?,
            limits: KeyLimits {
                requests_per_minute: columns.get()?,
                tokens_per_minute: columns.get::<Option<i64>>()?.map(i64::unsigned_abs),
                parallel: columns.get()?,
                models: columns.maybe_word(|models| serde_json::from_str(models).ok())?,
                expires_at: columns.maybe_time()?,
            },
            floor: columns.maybe_word(Sensitivity::from_word)?,
            keep_history: columns.get()?,
            created_at: columns.time()?,
            revoked_at: columns.maybe_time()?,
        };
        Ok((key.hash.clone(), Arc::new(key)))
    })?;
    keys.collect()
}

/// The word of a locale, `de`.
fn locale_word(locale: Locale) -> &'static str {
    match locale {
        Locale::En => "en",
        Locale::De => "de",
    }
}

/// The locale of a word.
fn locale_of(word: &str) -> Option<Locale> {
    [Locale::En, Locale::De].into_iter().find(|locale| locale_word(*locale) == word)
}

/// Names the company.
pub(super) fn write_company(connection: &Connection, company: &Company) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO company (singleton, id, name) VALUES (1, ?1, ?2)
         ON CONFLICT (singleton) DO UPDATE SET id = excluded.id, name = excluded.name",
        params![company.id, company.name],
    )?;
    Ok(())
}

/// Writes a department or team, new or changed.
pub(super) fn write_unit(connection: &Connection, id: &str, unit: &Unit) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO units (id, kind, name, parent, closed)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![id, unit.node.kind(), unit.name, unit.parent.as_deref(), unit.closed])?;
    Ok(())
}

/// Writes a person, new or changed.
pub(super) fn write_person(connection: &Connection, person: &Person) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO people
                (id, name, email, parent, groups, locale, roles, clearance, closed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            person.id.as_str(),
            person.name,
            person.email,
            person.parent.as_deref(),
            rows::to_json(&person.groups)?,
            person.locale.map(locale_word),
            rows::to_json(&person.roles)?,
            person.clearance.map(Sensitivity::as_str),
            person.closed,
        ])?;
    Ok(())
}

/// Keeps a new key.
pub(super) fn insert_key(connection: &Connection, key: &ApiKey) -> rusqlite::Result<()> {
    let limits = &key.limits;
    connection.execute(
        "INSERT INTO keys (id, hash, node, name, use_case, requests_per_minute, tokens_per_minute,
            parallel, models, expires_at, floor, keep_history, created_at, revoked_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        params![
            key.id.as_str(),
            key.hash,
            key.node.to_string(),
            key.name,
            key.use_case.as_ref().map(|use_case| use_case.as_str()),
            limits.requests_per_minute,
            limits.tokens_per_minute.map(rows::count),
            limits.parallel,
            limits.models.as_ref().map(rows::to_json).transpose()?,
            limits.expires_at.map(rows::nanos),
            key.floor.map(Sensitivity::as_str),
            key.keep_history,
            rows::nanos(key.created_at),
            key.revoked_at.map(rows::nanos),
        ],
    )?;
    raise_revision(connection)
}

/// Revokes a key; one that was revoked before keeps its first moment. Whether it exists.
pub(super) fn revoke_key(
    connection: &Connection,
    id: &KeyId,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let found = connection.execute(
        "UPDATE keys SET revoked_at = coalesce(revoked_at, ?2) WHERE id = ?1",
        params![id.as_str(), rows::nanos(now)],
    )?;
    if found > 0 {
        raise_revision(connection)?;
    }
    Ok(found > 0)
}
