//! SQL and nothing else.
//!
//! [`Store`] lists the questions that the engine, the commands and the faces ask, one function
//! each. [`sqlite`] answers them from one file: one writer per process that groups commits, a
//! pool of readers. The budget arithmetic is `budget`'s; it is called inside the transaction.
//! Knows nothing of models, vendors or HTTP.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::budget::{Budget, BudgetStatus, Notice, Reservation};
use crate::ids::{HoldId, KeyId, Node};
use crate::ledger::Entry;
use crate::money::Cost;
use crate::org::import::{ImportPlan, ImportReport};
use crate::org::{ApiKey, Directory};
use crate::reply::BudgetRefusal;
use crate::request::BudgetPeriod;

pub mod sqlite;

/// What a hold is for. The draft is the row that a crash would leave behind: its cost is the
/// held amount, its ending and flag are `recovered`.
#[derive(Debug, Clone)]
pub struct HoldRequest {
    /// Which hold.
    pub hold: HoldId,
    /// How much.
    pub amount: Cost,
    /// Every level that is checked and charged: the caller's and the use case.
    pub levels: Vec<Node>,
    /// The row that recovery would write.
    pub draft: Entry,
}

/// What a settled hold was for.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// Which hold.
    pub hold: HoldId,
    /// The row. Its `time` must be that of the hold.
    pub entry: Entry,
}

/// A page of the ledger, in order of settling.
#[derive(Debug, Clone, Default)]
pub struct LedgerQuery {
    /// From this moment of the row's `time`, inclusive.
    pub from: Option<Timestamp>,
    /// Up to this moment, exclusive.
    pub to: Option<Timestamp>,
    /// After this position.
    pub after: i64,
    /// At most so many rows.
    pub limit: usize,
    /// Only this request.
    pub request_id: Option<crate::ids::RequestId>,
}

/// A ledger row with its position in the order of settling.
#[derive(Debug, Clone)]
pub struct LedgerRow {
    /// Grows with every row.
    pub position: i64,
    /// The row.
    pub entry: Entry,
}

/// What the store could not do. The cause is the database's.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be opened.
    #[error("cannot open the database {path}")]
    Open {
        /// Where.
        path: String,
        /// Why.
        #[source]
        cause: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// A question failed.
    #[error("the database could not {doing}")]
    Query {
        /// What was being done, `set money aside`.
        doing: &'static str,
        /// Why.
        #[source]
        cause: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The writer has stopped.
    #[error("the database is closed")]
    Closed,
    /// A hold that does not exist (any more) was settled.
    #[error("there is no hold {0}")]
    NoSuchHold(HoldId),
    /// What was asked for does not exist.
    #[error("there is no {0}")]
    NotFound(String),
    /// What was asked for exists already.
    #[error("there is already a {0}")]
    Exists(String),
    /// An organisation file does not fit what is known; nothing was written.
    #[error("the organisation file does not fit what is known")]
    Import(Vec<crate::org::import::ImportFinding>),
}

/// What the house remembers.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Sets money aside for one or several attempts at once, all of them or none, at every level
    /// that has a budget, in one transaction.
    async fn reserve(
        &self,
        holds: Vec<HoldRequest>,
        now: Timestamp,
    ) -> Result<Result<Vec<Reservation>, BudgetRefusal>, StoreError>;

    /// Replaces a hold by what it really cost and writes its row, in one transaction. Returns
    /// when both are committed, with the thresholds that were crossed for the first time in their
    /// period.
    async fn settle(&self, settlement: Settlement) -> Result<Vec<Notice>, StoreError>;

    /// Extends the lease of every hold of this process.
    async fn renew_leases(&self, now: Timestamp) -> Result<(), StoreError>;

    /// Settles the holds of dead processes; returns how many.
    async fn recover(&self, now: Timestamp) -> Result<u64, StoreError>;

    /// The largest share (spent and held over limit, 0…) among the budgets of these levels, as
    /// last seen; cheap, from memory, for steering and not for deciding.
    fn pressure(&self, levels: &[Node], now: Timestamp) -> Option<(Node, f64)>;

    /// Sets or changes a budget. Spending of the running period counts from its beginning, also
    /// what was spent before the budget existed.
    async fn set_budget(&self, budget: Budget, now: Timestamp) -> Result<BudgetStatus, StoreError>;

    /// Takes a budget away; whether there was one.
    async fn remove_budget(&self, node: Node, period: BudgetPeriod) -> Result<bool, StoreError>;

    /// Every budget with what is spent and held now; only this node's, if one is given.
    async fn budgets(
        &self,
        node: Option<Node>,
        now: Timestamp,
    ) -> Result<Vec<BudgetStatus>, StoreError>;

    /// The directory as it is now, from memory; at most a second old.
    fn directory(&self) -> Arc<Directory>;

    /// Reads the directory anew if it has changed; called in the background at least twice a
    /// second by `serve`, and once by commands.
    async fn refresh_directory(&self) -> Result<Arc<Directory>, StoreError>;

    /// Writes what an organisation file says, whole or not at all.
    async fn import_org(
        &self,
        plan: ImportPlan,
        now: Timestamp,
    ) -> Result<ImportReport, StoreError>;

    /// Keeps a new key.
    async fn create_key(&self, key: ApiKey) -> Result<(), StoreError>;

    /// Revokes a key; `NotFound` if there is none.
    async fn revoke_key(&self, id: KeyId, now: Timestamp) -> Result<(), StoreError>;

    /// A page of the ledger.
    async fn ledger(&self, query: LedgerQuery) -> Result<Vec<LedgerRow>, StoreError>;

    /// Whether a read and a write work, for `doctor` and `/readyz`.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Stops the writer after what waits, syncs, and lets go of the process lock.
    async fn close(&self) -> Result<(), StoreError>;
}
