//! How full each budget is, in memory, for steering.
//!
//! The writer puts up what it has just committed; upkeep puts up what other processes wrote. A
//! question takes a shared lock for some tens of nanoseconds and never waits for the disk. The
//! board never decides: holds are decided by the writer, in its transaction.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rusqlite::Connection;

use crate::budget;
use crate::ids::Node;
use crate::money::Cost;
use crate::request::BudgetPeriod;
use crate::store::sqlite::rows::Columns;

/// One budget in the latest period in which it was used.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Gauge {
    pub(super) limit: Cost,
    /// Spent and held.
    pub(super) used: Cost,
    pub(super) begin: Timestamp,
    pub(super) end: Timestamp,
}

/// All gauges. A std lock is right: it is held for a few lookups or a few stores, never across
/// an await, and a reader that panics leaves nothing half-done, so poison is ignored.
#[derive(Debug, Default)]
pub(super) struct Board {
    gauges: RwLock<HashMap<Node, Vec<Gauge>>>,
}

impl Board {
    /// The fullest budget among these levels.
    pub(super) fn pressure(&self, levels: &[Node], now: Timestamp) -> Option<(Node, f64)> {
        let gauges = self.gauges.read().unwrap_or_else(PoisonError::into_inner);
        let mut fullest: Option<(&Node, f64)> = None;
        for node in levels {
            for gauge in gauges.get(node).into_iter().flatten() {
                let share = gauge.share(now);
                if fullest.is_none_or(|(_, most)| share > most) {
                    fullest = Some((node, share));
                }
            }
        }
        fullest.map(|(node, share)| (node.clone(), share))
    }

    /// Replaces what is up for these nodes; an empty list takes a node down.
    pub(super) fn put(&self, nodes: impl IntoIterator<Item = (Node, Vec<Gauge>)>) {
        let mut gauges = self.gauges.write().unwrap_or_else(PoisonError::into_inner);
        for (node, latest) in nodes {
            if latest.is_empty() {
                gauges.remove(&node);
            } else {
                gauges.insert(node, latest);
            }
        }
    }

    /// Replaces everything, if `still` says that nothing newer was put up meanwhile.
    pub(super) fn replace(&self, all: HashMap<Node, Vec<Gauge>>, still: impl Fn() -> bool) {
        let mut gauges = self.gauges.write().unwrap_or_else(PoisonError::into_inner);
        if still() {
            *gauges = all;
        }
    }
}

impl Gauge {
    /// A new period begins empty, also where nobody has spent in it yet.
    fn share(&self, now: Timestamp) -> f64 {
        let running = self.begin <= now && now < self.end;
        if running { budget::share(self.used, self.limit) } else { 0.0 }
    }
}

/// Reads every budget with its latest counter.
pub(super) fn read(
    connection: &Connection,
    zone: &TimeZone,
) -> rusqlite::Result<HashMap<Node, Vec<Gauge>>> {
    let mut statement = connection.prepare_cached(
        "SELECT b.node, b.period, b.limit_nano, c.period_start, c.spent, c.held
         FROM budgets b JOIN counters c
           ON c.node = b.node AND c.period = b.period AND c.period_start = (
              SELECT max(period_start) FROM counters WHERE node = b.node AND period = b.period)",
    )?;
    let mut rows = statement.query([])?;
    let mut gauges: HashMap<Node, Vec<Gauge>> = HashMap::new();
    while let Some(row) = rows.next()? {
        let mut columns = Columns::of(row);
        let node = columns.node()?;
        let period = columns.word(BudgetPeriod::from_word)?;
        let limit = columns.cost()?;
        let (begin, end) = budget::period::bounds(period, columns.time()?, zone);
        let used = columns.cost()? + columns.cost()?;
        gauges.entry(node).or_default().push(Gauge { limit, used, begin, end });
    }
    Ok(gauges)
}
