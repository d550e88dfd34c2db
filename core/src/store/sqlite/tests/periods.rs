//! Midnight, the change of clocks, and people who move.

use super::*;

#[tokio::test]
async fn a_new_day_begins_at_midnight_in_berlin() {
    let world = World::new();
    let evening = at("2026-03-16T22:59:59Z"); // 23:59:59 in Berlin.
    let midnight = at("2026-03-16T23:00:00Z");
    world.budget_at("company", 10, BudgetPeriod::Day, evening).await;
    world.reserve("r1", 10, "company", evening).await.unwrap();
    assert!(world.reserve("r2", 1, "company", evening).await.is_err());
    assert_eq!(world.show(midnight).await, ["company day 0/10 held 0"]);
    world.reserve("r2", 10, "company", midnight).await.unwrap();
    assert_eq!(world.show(midnight).await, ["company day 0/10 held 10"]);
}

#[tokio::test]
async fn a_hold_that_is_settled_after_midnight_is_booked_on_the_day_before() {
    let world = World::new();
    let evening = at("2026-03-16T22:59:00Z");
    let morning = at("2026-03-17T06:00:00Z");
    world.budget_at("company", 10, BudgetPeriod::Day, evening).await;
    world.reserve("r1", 10, "company", evening).await.unwrap();
    world.reserve("r2", 4, "company", morning).await.unwrap();
    world.settle("r1", 9).await;
    world.settle("r2", 3).await;
    assert_eq!(world.show(evening).await, ["company day 9/10 held 0"]);
    assert_eq!(world.show(morning).await, ["company day 3/10 held 0"]);
    assert_eq!(world.ledger().await[0].entry.time, evening);
}

#[tokio::test]
async fn a_budget_that_is_set_between_hold_and_settling_counts_both_days_right() {
    let world = World::new();
    let evening = at("2026-03-16T22:59:00Z");
    let morning = at("2026-03-17T06:00:00Z");
    world.reserve("r1", 10, "company", evening).await.unwrap();
    world.budget_at("company", 100, BudgetPeriod::Day, morning).await;
    world.settle("r1", 9).await;
    assert_eq!(world.show(morning).await, ["company day 0/100 held 0"]);
    assert_eq!(world.show(evening).await, ["company day 9/100 held 0"]);
}

#[tokio::test]
async fn the_day_on_which_the_clocks_go_forward_has_23_hours() {
    let world = World::new();
    let first = at("2026-03-28T23:00:00Z"); // Midnight, winter time.
    let last = at("2026-03-29T21:59:59Z"); // A second before midnight, summer time.
    world.budget_at("company", 10, BudgetPeriod::Day, first).await;
    world.reserve("r1", 10, "company", first).await.unwrap();
    assert!(world.reserve("r2", 1, "company", last).await.is_err());
    world.reserve("r3", 10, "company", at("2026-03-29T22:00:00Z")).await.unwrap();
}

#[tokio::test]
async fn the_day_on_which_the_clocks_go_back_has_25_hours() {
    let world = World::new();
    let first = at("2026-10-24T22:00:00Z");
    let last = at("2026-10-25T22:59:59Z");
    let status = world.budget_at("company", 10, BudgetPeriod::Day, first).await;
    assert_eq!(status.renews_at, at("2026-10-25T23:00:00Z"));
    world.reserve("r1", 10, "company", first).await.unwrap();
    assert!(world.reserve("r2", 1, "company", last).await.is_err());
    world.reserve("r3", 10, "company", at("2026-10-25T23:00:00Z")).await.unwrap();
}

#[tokio::test]
async fn spending_stays_where_the_person_was_when_the_money_was_held() {
    let world = World::new();
    for at_node in ["company", "team:a", "team:b", "person:anna"] {
        world.budget(at_node, 100, BudgetPeriod::Month).await;
    }
    world.reserve("r1", 30, "company team:a person:anna", noon()).await.unwrap();
    // Anna moves while the call runs, and asks again.
    world.reserve("r2", 20, "company team:b person:anna", noon()).await.unwrap();
    world.settle("r1", 25).await;
    world.settle("r2", 15).await;
    assert_eq!(
        world.show(noon()).await,
        [
            "company month 40/100 held 0",
            "person:anna month 40/100 held 0",
            "team:a month 25/100 held 0",
            "team:b month 15/100 held 0",
        ]
    );
    assert_eq!(world.ledger().await[0].entry.levels, levels("company team:a person:anna"));
}

#[tokio::test]
async fn another_time_zone_counts_the_running_day_anew() {
    let world = World::new();
    let evening = at("2026-03-16T23:30:00Z"); // The 17th in Berlin, still the 16th in London.
    world.budget_at("company", 10, BudgetPeriod::Day, evening).await;
    world.reserve("r1", 4, "company", at("2026-03-16T12:00:00Z")).await.unwrap();
    world.settle("r1", 4).await;
    world.reserve("r2", 3, "company", evening).await.unwrap();
    let options = SqliteOptions {
        time_zone: jiff::tz::TimeZone::get("Europe/London").unwrap(),
        ..SqliteOptions::default()
    };
    let london = SqliteStore::open(&world.path(), options, noon()).unwrap();
    let refusal = reserve(&london, "r3", 4, "company", evening).await.unwrap_err();
    assert_eq!(refusal.left, nanos(3));
}
