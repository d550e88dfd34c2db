//! May this caller spend that?
//!
//! Budgets stand on nodes of the tree, one per node and period. [`fn@reserve`] is the arithmetic
//! that the store calls inside its transaction: all levels or none. Knows nothing of SQL, of
//! models or of prices; [`period`] knows the calendar.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{HoldId, Node};
use crate::money::Cost;
use crate::request::BudgetPeriod;

mod reserve;

pub use crate::period::{self, Budget};
pub(crate) use reserve::share;
pub use reserve::{Level, Notice, reserve, settle};

/// A budget with what is spent and held in the period of now: a row of `budget show --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetStatus {
    /// Where.
    pub node: Node,
    /// How often it begins anew.
    pub period: BudgetPeriod,
    /// How much.
    #[serde(rename = "limit_nano")]
    pub limit: Cost,
    /// Settled in this period.
    #[serde(rename = "spent_nano")]
    pub spent: Cost,
    /// Set aside right now.
    #[serde(rename = "held_nano")]
    pub held: Cost,
    /// Limit less spent and held; below zero where a soft budget or a bill above its hold went over.
    #[serde(rename = "left_nano")]
    pub left: Cost,
    /// Whether it only notifies.
    pub soft: bool,
    /// When the next period begins.
    pub renews_at: Timestamp,
}

/// Money set aside before a call at every level above the caller; must be settled.
#[derive(Debug, Clone, PartialEq)]
pub struct Reservation {
    /// Which hold.
    pub hold: HoldId,
    /// How much.
    pub amount: Cost,
}
