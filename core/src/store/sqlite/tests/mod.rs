//! One story per file; the world they share is here.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tempfile::TempDir;

use crate::budget::{Budget, BudgetStatus, Notice, Reservation};
use crate::caller::Channel;
use crate::ids::{HoldId, Node, RequestId};
use crate::ledger::{AttemptReason, Ending, Entry};
use crate::money::{Cost, Currency, Price};
use crate::reply::{BudgetRefusal, Usage};
use crate::request::{BudgetPeriod, Sensitivity, Zone};
use crate::store::sqlite::{SqliteOptions, SqliteStore};
use crate::store::{HoldRequest, LedgerQuery, LedgerRow, Settlement, Store, StoreError};

mod budgets;
mod crash;
mod holds;
mod keys;
mod log;
mod model;
mod opening;
mod organisation;
mod parallel;
mod periods;

/// A database in a folder of its own, at noon of a day in March.
struct World {
    folder: TempDir,
    store: Arc<SqliteStore>,
}

/// Noon in Berlin on Monday, 16 March 2026.
fn noon() -> Timestamp {
    at("2026-03-16T11:00:00Z")
}

fn at(written: &str) -> Timestamp {
    written.parse().unwrap()
}

fn nanos(amount: i64) -> Cost {
    Cost::from_nanos(amount)
}

fn node(written: &str) -> Node {
    written.parse().unwrap()
}

/// `company department:sales person:anna` → the levels.
fn levels(written: &str) -> Vec<Node> {
    written.split_whitespace().map(node).collect()
}

fn entry(request: &RequestId, attempt: u32, cost: i64) -> Entry {
    let currency = Currency::new("EUR").unwrap();
    Entry {
        time: noon(),
        request_id: request.clone(),
        attempt,
        reason: AttemptReason::First,
        model: "mini".into(),
        vendor_model: Some("gpt-5.4-mini-2026-01-01".into()),
        provider: "openai".into(),
        zone: Zone::World,
        sensitivity: Sensitivity::Internal,
        person: None,
        key: None,
        node: Node::Company,
        levels: vec![Node::Company],
        use_case: None,
        channel: Channel::Api,
        task: None,
        policy: None,
        duration_ms: Some(12),
        first_token_ms: None,
        metadata: Default::default(),
        usage: Usage { input_tokens: Some(10), output_tokens: Some(5), ..Usage::default() },
        cost: nanos(cost),
        price: Price::free(currency.clone()),
        currency,
        flags: Vec::new(),
        ending: Ending::Complete,
    }
}

fn hold(request: &str, amount: i64, at_levels: &str) -> HoldRequest {
    let request = RequestId::from(request);
    HoldRequest {
        hold: HoldId::of(&request, 1),
        amount: nanos(amount),
        levels: levels(at_levels),
        draft: entry(&request, 1, amount),
    }
}

fn settlement(request: &str, cost: i64) -> Settlement {
    let request = RequestId::from(request);
    Settlement { hold: HoldId::of(&request, 1), entry: entry(&request, 1, cost) }
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path().join("stellwerk.db"));
        World { folder, store }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("stellwerk.db")
    }

    /// A further handle on the same file, as another process would have it.
    fn second(&self) -> Arc<SqliteStore> {
        open(self.path())
    }

    async fn budget(&self, at_node: &str, limit: i64, period: BudgetPeriod) -> BudgetStatus {
        self.budget_at(at_node, limit, period, noon()).await
    }

    async fn budget_at(
        &self,
        at_node: &str,
        limit: i64,
        period: BudgetPeriod,
        now: Timestamp,
    ) -> BudgetStatus {
        let budget = Budget { node: node(at_node), period, limit: nanos(limit), soft: false };
        self.store.set_budget(budget, now).await.unwrap()
    }

    async fn reserve(
        &self,
        request: &str,
        amount: i64,
        at_levels: &str,
        now: Timestamp,
    ) -> Result<Reservation, BudgetRefusal> {
        reserve(&self.store, request, amount, at_levels, now).await
    }

    async fn settle(&self, request: &str, cost: i64) -> Vec<Notice> {
        self.store.settle(settlement(request, cost)).await.unwrap()
    }

    /// `company month 3/10 held 2`, one line each.
    async fn show(&self, now: Timestamp) -> Vec<String> {
        let budgets = self.store.budgets(None, now).await.unwrap();
        budgets
            .iter()
            .map(|budget| {
                format!(
                    "{} {} {}/{} held {}",
                    budget.node,
                    budget.period,
                    budget.spent.nanos(),
                    budget.limit.nanos(),
                    budget.held.nanos()
                )
            })
            .collect()
    }

    async fn ledger(&self) -> Vec<LedgerRow> {
        self.store.ledger(LedgerQuery { limit: 100_000, ..LedgerQuery::default() }).await.unwrap()
    }
}

fn open(path: PathBuf) -> Arc<SqliteStore> {
    SqliteStore::open(&path, SqliteOptions::default(), noon()).unwrap()
}

async fn reserve(
    store: &SqliteStore,
    request: &str,
    amount: i64,
    at_levels: &str,
    now: Timestamp,
) -> Result<Reservation, BudgetRefusal> {
    let granted = store.reserve(vec![hold(request, amount, at_levels)], now).await.unwrap();
    granted.map(|mut reservations| reservations.remove(0))
}

/// The error with everything that stands behind it.
fn chain(error: &StoreError) -> String {
    let mut chain = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        chain.push_str(&format!(": {error}"));
        cause = error.source();
    }
    chain
}
