//! What a hold and its settling at four levels cost: one caller alone, and 64 at once.
//!
//! `cargo bench -p stellwerk-core --bench hold_settle`. The budgets are in a file in the system's
//! folder for temporary files; put `TMPDIR` on the disk that is to be measured.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use jiff::Timestamp;
use stellwerk_core::budget::Budget;
use stellwerk_core::caller::Channel;
use stellwerk_core::ids::{HoldId, Node, RequestId};
use stellwerk_core::ledger::{AttemptReason, Ending, Entry};
use stellwerk_core::money::{Cost, Currency, Price};
use stellwerk_core::reply::Usage;
use stellwerk_core::request::{BudgetPeriod, Sensitivity, Zone};
use stellwerk_core::store::sqlite::{SqliteOptions, SqliteStore};
use stellwerk_core::store::{HoldRequest, Settlement, Store};
use tokio::runtime::Runtime;

fn entry(request_id: RequestId, time: Timestamp, levels: &[Node]) -> Entry {
    let currency = Currency::new("EUR").expect("three letters");
    Entry {
        time,
        request_id,
        attempt: 1,
        reason: AttemptReason::First,
        model: "mini".into(),
        vendor_model: Some("gpt-5.4-mini-2026-01-01".into()),
        provider: "openai".into(),
        zone: Zone::World,
        sensitivity: Sensitivity::Internal,
        person: Some("anna".into()),
        key: Some("key_1".into()),
        node: Node::Person("anna".into()),
        levels: levels.to_vec(),
        use_case: None,
        channel: Channel::Api,
        task: None,
        policy: Some("default".into()),
        duration_ms: Some(120),
        first_token_ms: Some(30),
        metadata: Default::default(),
        usage: Usage { input_tokens: Some(80), output_tokens: Some(16), ..Usage::default() },
        cost: Cost::from_nanos(1_104_000),
        price: Price::free(currency.clone()),
        currency,
        flags: Vec::new(),
        ending: Ending::Complete,
    }
}

/// One call's money: set aside, then replaced by the bill and its row.
async fn hold_and_settle(store: &SqliteStore, levels: &[Node]) {
    let now = Timestamp::now();
    let request_id = RequestId::fresh();
    let hold = HoldId::of(&request_id, 1);
    let draft = entry(request_id, now, levels);
    let request = HoldRequest {
        hold: hold.clone(),
        amount: Cost::from_nanos(9_000_000),
        levels: levels.to_vec(),
        draft: draft.clone(),
    };
    let reserved = store.reserve(vec![request], now).await.expect("the store answers");
    black_box(reserved).expect("the budget is ample");
    store.settle(Settlement { hold, entry: draft }).await.expect("the hold is there");
}

fn benches(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let runtime = Runtime::new().expect("a runtime");
    let path = folder.path().join("stellwerk.db");
    let store = SqliteStore::open(&path, SqliteOptions::default(), Timestamp::now())
        .expect("a new database");
    let levels: Arc<[Node]> = ["company", "department:sales", "team:north", "person:anna"]
        .map(|node| node.parse().expect("a node"))
        .into();
    for node in levels.iter().cloned() {
        let budget = Budget {
            node,
            period: BudgetPeriod::Month,
            limit: Cost::from_nanos(i64::MAX / 2),
            soft: false,
        };
        let set = store.set_budget(budget, Timestamp::now());
        runtime.block_on(set).expect("the budget is set");
    }

    let mut group = criterion.benchmark_group("hold and settle at four levels");
    group.throughput(Throughput::Elements(1));
    group.bench_function("one caller", |bencher| {
        bencher.to_async(&runtime).iter(|| hold_and_settle(&store, &levels));
    });
    group.bench_function("64 callers", |bencher| {
        bencher.iter_custom(|calls| runtime.block_on(crowd(&store, &levels, calls)));
    });
    group.finish();
    runtime.block_on(store.close()).expect("the store closes");
}

/// How long so many calls take when 64 callers share them.
async fn crowd(store: &Arc<SqliteStore>, levels: &Arc<[Node]>, calls: u64) -> Duration {
    const CALLERS: u64 = 64;
    let started = Instant::now();
    let callers = (0..CALLERS).map(|caller| {
        let share = calls / CALLERS + u64::from(caller < calls % CALLERS);
        let (store, levels) = (store.clone(), levels.clone());
        tokio::spawn(async move {
            for _ in 0..share {
                hold_and_settle(&store, &levels).await;
            }
        })
    });
    futures::future::join_all(callers).await;
    started.elapsed()
}

criterion_group!(hold_settle, benches);
criterion_main!(hold_settle);
