//! Questions that only read: budgets as they stand, pages of the ledger.
//!
//! Knows nothing of the writer; what is committed is what is answered.

use std::cmp::Ordering;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rusqlite::{Connection, OptionalExtension, ToSql, params};

use crate::budget::{self, Budget, BudgetStatus, Level};
use crate::ids::Node;
use crate::money::Cost;
use crate::org::Directory;
use crate::request::BudgetPeriod;
use crate::store::sqlite::books::status_of;
use crate::store::sqlite::rows::{self, Columns, ENTRY_COLUMNS};
use crate::store::{LedgerQuery, LedgerRow};

/// Every budget, or those of one node, in the period of now.
pub(super) fn budgets(
    connection: &Connection,
    node: Option<&Node>,
    now: Timestamp,
    zone: &TimeZone,
) -> rusqlite::Result<Vec<BudgetStatus>> {
    let mut statement = connection.prepare_cached(
        "SELECT node, period, limit_nano, soft FROM budgets WHERE ?1 IS NULL OR node = ?1",
    )?;
    let budgets = statement.query_map([node.map(Node::to_string)], |row| {
        let mut columns = Columns::of(row);
        Ok(Budget {
            node: columns.node()?,
            period: columns.word(BudgetPeriod::from_word)?,
            limit: columns.cost()?,
            soft: columns.get()?,
        })
    })?;
    let status = |budget: rusqlite::Result<Budget>| status(connection, budget?, now, zone);
    budgets.map(status).collect()
}

fn status(
    connection: &Connection,
    budget: Budget,
    now: Timestamp,
    zone: &TimeZone,
) -> rusqlite::Result<BudgetStatus> {
    let (begin, end) = budget::period::bounds(budget.period, now, zone);
    // Whoever holds in a period makes its counter first, and so does whoever sets a budget: a
    // counter that is missing is a period in which nobody has asked yet.
    let (spent, held) = connection
        .prepare_cached(
            "SELECT spent, held FROM counters
             WHERE node = ?1 AND period = ?2 AND period_start = ?3",
        )?
        .query_row(
            params![budget.node.to_string(), budget.period.as_str(), rows::nanos(begin)],
            |row| {
                let mut columns = Columns::of(row);
                Ok((columns.cost()?, columns.cost()?))
            },
        )
        .optional()?
        .unwrap_or((Cost::ZERO, Cost::ZERO));
    Ok(status_of(Level { budget, spent, held }, end))
}

/// The company first, then the tree from above, then use cases; within a node by period.
pub(super) fn sort_by_tree(budgets: &mut [BudgetStatus], directory: &Directory) {
    budgets.sort_by_cached_key(|status| TreeKey {
        place: place_of(&status.node, directory),
        period: status.period,
    });
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct TreeKey {
    place: Place,
    period: BudgetPeriod,
}

/// Where a node stands: the names from the company down to it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Tree(Vec<Step>),
    UseCase(String),
    Nowhere(String),
}

/// One step down the tree. People and keys come before the units beside them, so that what
/// belongs to a unit itself is not torn apart by its sub-units.
#[derive(PartialEq, Eq)]
struct Step(Node);

impl Step {
    fn rank(&self) -> u8 {
        match self.0 {
            Node::Company => 0,
            Node::Person(_) => 1,
            Node::Key(_) => 2,
            Node::Department(_) | Node::Team(_) => 3,
            Node::UseCase(_) => 4,
        }
    }
}

impl Ord for Step {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Step {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn place_of(node: &Node, directory: &Directory) -> Place {
    let below = |unit: Option<&str>, last: Option<&Node>| {
        let mut path = directory.path(unit);
        path.extend(last.cloned());
        Place::Tree(path.into_iter().map(Step).collect())
    };
    let nowhere = || Place::Nowhere(node.to_string());
    match node {
        Node::Company => below(None, None),
        Node::Department(id) | Node::Team(id) if directory.units.contains_key(id) => {
            below(Some(id), None)
        }
        Node::Person(id) => match directory.people.get(id) {
            Some(person) => below(person.parent.as_deref(), Some(node)),
            None => nowhere(),
        },
        Node::Key(id) => match directory.keys.values().find(|key| key.id == *id) {
            Some(key) if !matches!(key.node, Node::Key(_)) => {
                match place_of(&key.node, directory) {
                    Place::Tree(mut path) => {
                        path.push(Step(node.clone()));
                        Place::Tree(path)
                    }
                    Place::UseCase(_) => below(None, Some(node)),
                    Place::Nowhere(_) => nowhere(),
                }
            }
            _ => nowhere(),
        },
        Node::UseCase(name) => Place::UseCase(name.to_string()),
        Node::Department(_) | Node::Team(_) => nowhere(),
    }
}

/// A page of the ledger.
pub(super) fn ledger(
    connection: &Connection,
    query: &LedgerQuery,
) -> rusqlite::Result<Vec<LedgerRow>> {
    let mut conditions = vec!["position > ?"];
    let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(query.after)];
    if let Some(from) = query.from {
        conditions.push("time >= ?");
        values.push(Box::new(rows::nanos(from)));
    }
    if let Some(to) = query.to {
        conditions.push("time < ?");
        values.push(Box::new(rows::nanos(to)));
    }
    if let Some(request_id) = &query.request_id {
        conditions.push("request_id = ?");
        values.push(Box::new(request_id.as_str().to_owned()));
    }
    values.push(Box::new(i64::try_from(query.limit).unwrap_or(i64::MAX)));
    // A walk over the whole span goes by position, whatever the times say: sorting what an index
    // on times finds would hold all of it in memory. One request's few rows go by its index.
    let from = match query.request_id {
        Some(_) => "ledger",
        None => "ledger NOT INDEXED",
    };
    let sql = format!(
        "SELECT {ENTRY_COLUMNS} FROM {from} WHERE {} ORDER BY position LIMIT ?",
        conditions.join(" AND ")
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let values = rusqlite::params_from_iter(values.iter());
    statement.query_map(values, rows::read_entry)?.collect()
}
