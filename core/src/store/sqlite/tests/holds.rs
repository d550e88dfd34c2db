//! Hold, settle, and the row that is written.

use std::collections::BTreeMap;

use super::*;
use crate::ledger::Flag;
use crate::money::{ExchangeRate, PriceSource};
use crate::request::TaskKind;

const TREE: &str = "company department:sales team:north person:anna";

#[tokio::test]
async fn a_call_is_held_at_every_level_and_billed_at_every_level() {
    let world = World::new();
    for level in TREE.split_whitespace() {
        world.budget(level, 100, BudgetPeriod::Month).await;
    }
    world.reserve("r1", 30, TREE, noon()).await.unwrap();
    assert!(world.show(noon()).await.iter().all(|line| line.ends_with("0/100 held 30")));
    world.settle("r1", 12).await;
    let lines = world.show(noon()).await;
    assert_eq!(lines.len(), 4);
    assert!(lines.iter().all(|line| line.ends_with("12/100 held 0")), "{lines:?}");
    assert_eq!(world.ledger().await[0].entry.cost, nanos(12));
}

#[tokio::test]
async fn a_refusal_names_the_level_what_is_left_and_when_it_renews() {
    let world = World::new();
    world.budget("company", 100, BudgetPeriod::Month).await;
    world.budget("department:sales", 20, BudgetPeriod::Day).await;
    world.reserve("r1", 15, TREE, noon()).await.unwrap();
    let refusal = world.reserve("r2", 6, TREE, noon()).await.unwrap_err();
    assert_eq!(refusal.node, node("department:sales"));
    assert_eq!((refusal.left, refusal.needed, refusal.limit), (nanos(5), nanos(6), nanos(20)));
    assert_eq!(refusal.period, BudgetPeriod::Day);
    assert_eq!(refusal.renews_at, at("2026-03-16T23:00:00Z"));
    assert!(world.show(noon()).await.contains(&"company month 0/100 held 15".to_owned()));
}

#[tokio::test]
async fn an_ensemble_holds_all_members_or_none() {
    let world = World::new();
    world.budget("company", 25, BudgetPeriod::Month).await;
    let three = ["a", "b", "c"].map(|request| hold(request, 10, "company")).to_vec();
    let refusal = world.store.reserve(three.clone(), noon()).await.unwrap().unwrap_err();
    assert_eq!((refusal.left, refusal.needed), (nanos(25), nanos(30)));
    assert_eq!(world.show(noon()).await, ["company month 0/25 held 0"]);
    world.store.reserve(three[..2].to_vec(), noon()).await.unwrap().unwrap();
    assert_eq!(world.show(noon()).await, ["company month 0/25 held 20"]);
}

#[tokio::test]
async fn a_level_that_is_named_twice_is_charged_once() {
    let world = World::new();
    world.budget("company", 10, BudgetPeriod::Month).await;
    world.reserve("r1", 10, "company company", noon()).await.unwrap();
    assert_eq!(world.show(noon()).await, ["company month 0/10 held 10"]);
}

#[tokio::test]
async fn without_a_budget_nothing_is_refused_and_everything_is_booked() {
    let world = World::new();
    world.reserve("r1", i64::MAX, TREE, noon()).await.unwrap();
    world.settle("r1", 7).await;
    assert_eq!(world.ledger().await.len(), 1);
}

#[tokio::test]
async fn a_hold_is_settled_once() {
    let world = World::new();
    world.budget("company", 10, BudgetPeriod::Month).await;
    world.reserve("r1", 5, "company", noon()).await.unwrap();
    world.settle("r1", 5).await;
    let again = world.store.settle(settlement("r1", 5)).await;
    assert!(matches!(again, Err(StoreError::NoSuchHold(_))), "{again:?}");
    assert_eq!(world.show(noon()).await, ["company month 5/10 held 0"]);
    assert_eq!(world.ledger().await.len(), 1);
}

#[tokio::test]
async fn two_holds_of_one_name_are_not_mixed_up() {
    let world = World::new();
    world.reserve("r1", 5, "company", noon()).await.unwrap();
    let twice = world.store.reserve(vec![hold("r1", 5, "company")], noon()).await;
    assert!(matches!(twice, Err(StoreError::Exists(_))), "{twice:?}");
}

#[tokio::test]
async fn a_bill_above_its_hold_is_booked_in_full() {
    let world = World::new();
    world.budget("company", 10, BudgetPeriod::Month).await;
    world.reserve("r1", 5, "company", noon()).await.unwrap();
    world.settle("r1", 50).await;
    let status = &world.store.budgets(None, noon()).await.unwrap()[0];
    assert_eq!((status.spent, status.left), (nanos(50), nanos(-40)));
    assert!(world.reserve("r2", 0, "company", noon()).await.is_err());
}

#[tokio::test]
async fn a_caller_that_stops_waiting_leaves_no_hold_behind() {
    let world = World::new();
    world.budget("company", 10, BudgetPeriod::Month).await;
    // In a quiet moment there is no waiting; so many calls are none.
    for busy in ["b1", "b2", "b3", "b4"] {
        world.reserve(busy, 0, "department:elsewhere", noon()).await.unwrap();
    }
    // Polled once, so that the question is on its way, and dropped before the answer. A writer
    // that was quicker than the poll has granted the hold, which is then settled.
    for attempt in 0.. {
        let request = format!("r1-{attempt}");
        let asked = world.store.reserve(vec![hold(&request, 10, "company")], noon());
        let mut asked = Box::pin(asked);
        if futures::poll!(asked.as_mut()).is_pending() {
            break;
        }
        world.settle(&request, 0).await;
    }
    // The release stands in the queue behind the hold and before this.
    world.reserve("r2", 10, "company", noon()).await.unwrap();
    assert!(world.ledger().await.iter().all(|row| row.entry.cost == nanos(0)));
}

#[tokio::test]
async fn every_field_of_a_row_comes_back_as_it_was_written() {
    let world = World::new();
    let mut request = hold("r1", 100, TREE);
    request.draft.levels = levels(TREE);
    let mut full = Entry {
        person: Some("anna".into()),
        key: Some("key_1".into()),
        node: node("person:anna"),
        levels: levels(TREE),
        use_case: Some("offers".into()),
        task: Some(TaskKind::Translation),
        policy: Some("default".into()),
        first_token_ms: Some(3),
        metadata: BTreeMap::from([("ticket".to_owned(), "4711 \"ä\"".to_owned())]),
        flags: vec![Flag::Estimated, Flag::Unknown],
        ..request.draft.clone()
    };
    full.usage = Usage {
        input_tokens: Some(1),
        cached_input_tokens: 2,
        cache_write_tokens: 3,
        output_tokens: None,
        reasoning_tokens: 4,
    };
    full.price.input = "0.75".parse().unwrap();
    full.price.output = "4.5".parse().unwrap();
    full.price.currency = Currency::new("USD").unwrap();
    full.price.rate = ExchangeRate::new("0.92".parse().unwrap()).unwrap();
    full.price.date = Some(jiff::civil::date(2026, 7, 2));
    full.price.source = PriceSource::Catalogue;
    world.store.reserve(vec![request], noon()).await.unwrap().unwrap();
    let settled = Settlement { hold: HoldId::of(&"r1".into(), 1), entry: full.clone() };
    world.store.settle(settled).await.unwrap();
    assert_eq!(world.ledger().await[0].entry, full);
}

#[tokio::test]
async fn the_ledger_is_read_page_by_page_in_order_of_settling() {
    let world = World::new();
    for (request, day) in [("a", "2026-03-01"), ("b", "2026-03-03"), ("c", "2026-03-02")] {
        let now = at(&format!("{day}T12:00:00Z"));
        world.reserve(request, 1, "company", now).await.unwrap();
        world.settle(request, 1).await;
    }
    let page = |query: LedgerQuery| {
        let store = world.store.clone();
        async move {
            let rows = store.ledger(query).await.unwrap();
            rows.iter().map(|row| row.entry.request_id.to_string()).collect::<Vec<_>>()
        }
    };
    let first = world.store.ledger(LedgerQuery { limit: 2, ..Default::default() }).await.unwrap();
    assert_eq!(first.len(), 2);
    let after = first[1].position;
    assert_eq!(page(LedgerQuery { limit: 2, after, ..Default::default() }).await, ["c"]);
    let march_2 = Some(at("2026-03-02T12:00:00Z"));
    let from = LedgerQuery { from: march_2, limit: 9, ..Default::default() };
    assert_eq!(page(from).await, ["b", "c"]);
    let to = LedgerQuery { to: march_2, limit: 9, ..Default::default() };
    assert_eq!(page(to).await, ["a"]);
    let one = LedgerQuery { request_id: Some("b".into()), limit: 9, ..Default::default() };
    assert_eq!(page(one).await, ["b"]);
}

#[tokio::test]
async fn after_closing_everything_says_that_the_database_is_closed() {
    let world = World::new();
    world.reserve("r1", 1, "company", noon()).await.unwrap();
    world.settle("r1", 1).await;
    world.store.ping().await.unwrap();
    world.store.close().await.unwrap();
    world.store.close().await.unwrap();
    assert!(matches!(world.store.ping().await, Err(StoreError::Closed)));
    assert!(matches!(world.store.budgets(None, noon()).await, Err(StoreError::Closed)));
    let locks = std::fs::read_dir(world.folder.path().join("processes")).unwrap();
    let names: Vec<_> = locks.map(|lock| lock.unwrap().file_name()).collect();
    assert_eq!(names, ["opening.lock"]);
}
