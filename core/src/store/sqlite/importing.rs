//! Writes an organisation file into the tables, whole or not at all.
//!
//! Compares first and writes only what differs, so that the same file twice changes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::Connection;

use crate::budget::Budget;
use crate::ids::PersonId;
use crate::org::import::{ImportPlan, ImportReport};
use crate::org::{Directory, Person, Unit};
use crate::store::StoreError;
use crate::store::sqlite::books::Books;
use crate::store::sqlite::directory;

/// Imports the plan, if it fits what the tables say.
pub(super) fn import(
    books: &mut Books,
    connection: &Connection,
    plan: &ImportPlan,
    now: Timestamp,
) -> rusqlite::Result<Result<ImportReport, StoreError>> {
    let known = directory::read(connection)?;
    let findings = plan.check(&known);
    if !findings.is_empty() {
        return Ok(Err(StoreError::Import(findings)));
    }
    let mut report = ImportReport::default();
    let mut changes = write_company(connection, plan, &known)?;
    for unit in &plan.units {
        changes |= write_unit(connection, unit, &known, &mut report)?;
    }
    for person in &plan.people {
        changes |= write_person(connection, person, &known, &mut report)?;
    }
    if plan.prune {
        changes |= close_missing(connection, plan, &known, &mut report)?;
    }
    if changes {
        directory::raise_revision(connection)?;
    }
    for budget in &plan.budgets {
        report.budgets += u64::from(set_budget(books, connection, budget, now)?);
    }
    Ok(Ok(report))
}

fn write_company(
    connection: &Connection,
    plan: &ImportPlan,
    known: &Directory,
) -> rusqlite::Result<bool> {
    let Some(company) =
        plan.company.as_ref().filter(|named| known.company.as_ref() != Some(*named))
    else {
        return Ok(false);
    };
    directory::write_company(connection, company)?;
    Ok(true)
}

fn write_unit(
    connection: &Connection,
    unit: &Unit,
    known: &Directory,
    report: &mut ImportReport,
) -> rusqlite::Result<bool> {
    let Some(id) = unit.id() else { return Ok(false) };
    let differs = count(known.units.get(id), unit, report);
    if differs {
        directory::write_unit(connection, id, unit)?;
    }
    Ok(differs)
}

fn write_person(
    connection: &Connection,
    person: &Person,
    known: &Directory,
    report: &mut ImportReport,
) -> rusqlite::Result<bool> {
    let differs = count(known.people.get(&person.id), person, report);
    if differs {
        directory::write_person(connection, person)?;
    }
    Ok(differs)
}

/// Counts a row as new, changed or unchanged; whether it has to be written.
fn count<T: PartialEq>(known: Option<&T>, wanted: &T, report: &mut ImportReport) -> bool {
    let counter = match known {
        None => &mut report.added,
        Some(known) if known == wanted => &mut report.unchanged,
        Some(_) => &mut report.changed,
    };
    *counter += 1;
    known != Some(wanted)
}

/// Closes who is no longer in the file. Nothing is deleted: rows of the ledger name them.
fn close_missing(
    connection: &Connection,
    plan: &ImportPlan,
    known: &Directory,
    report: &mut ImportReport,
) -> rusqlite::Result<bool> {
    let units: BTreeSet<&Arc<str>> = plan.units.iter().filter_map(Unit::id).collect();
    let people: BTreeSet<&PersonId> = plan.people.iter().map(|person| &person.id).collect();
    let before = report.closed;
    for (id, unit) in &known.units {
        if !unit.closed && !units.contains(id) {
            directory::write_unit(connection, id, &Unit { closed: true, ..unit.clone() })?;
            report.closed += 1;
        }
    }
    for (id, person) in &known.people {
        if !person.closed && !people.contains(id) {
            directory::write_person(connection, &Person { closed: true, ..person.clone() })?;
            report.closed += 1;
        }
    }
    Ok(report.closed > before)
}

/// Sets a budget unless it is so already; whether it was set.
fn set_budget(
    books: &mut Books,
    connection: &Connection,
    budget: &Budget,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    if books.has_budget(connection, budget)? {
        return Ok(false);
    }
    books.set_budget(connection, budget, now)?;
    Ok(true)
}
