//! Budgets that are set late, changed, taken away; thresholds; pressure.

use super::*;

fn told(notices: &[Notice]) -> Vec<String> {
    let told = |notice: &Notice| format!("{} {}", notice.budget.node, notice.threshold);
    notices.iter().map(told).collect()
}

#[tokio::test]
async fn a_budget_that_is_set_late_counts_what_was_spent_and_is_held() {
    let world = World::new();
    let before = at("2026-02-20T12:00:00Z");
    world.reserve("last_month", 9, "company team:a", before).await.unwrap();
    world.settle("last_month", 9).await;
    world.reserve("r1", 30, "company team:a", noon()).await.unwrap();
    world.settle("r1", 20).await;
    world.reserve("r2", 5, "company team:a", noon()).await.unwrap();
    world.reserve("elsewhere", 5, "company team:b", noon()).await.unwrap();
    let status = world.budget("team:a", 100, BudgetPeriod::Month).await;
    assert_eq!((status.spent, status.held, status.left), (nanos(20), nanos(5), nanos(75)));
    assert_eq!(status.renews_at, at("2026-03-31T22:00:00Z"));
    world.settle("r2", 3).await;
    assert_eq!(world.show(noon()).await, ["team:a month 23/100 held 0"]);
}

#[tokio::test]
async fn a_name_that_contains_another_node_is_not_taken_for_it() {
    let world = World::new();
    let tricky = Node::UseCase("x\",\"team:a".into());
    let mut request = hold("r1", 30, "company");
    request.levels.push(tricky.clone());
    world.store.reserve(vec![request], noon()).await.unwrap().unwrap();
    world.settle("r1", 20).await;
    assert_eq!(world.budget("team:a", 100, BudgetPeriod::Month).await.spent, nanos(0));
    let budget = Budget { node: tricky, period: BudgetPeriod::Day, limit: nanos(50), soft: false };
    assert_eq!(world.store.set_budget(budget, noon()).await.unwrap().spent, nanos(20));
}

#[tokio::test]
async fn one_node_may_have_a_budget_for_the_day_and_one_for_the_month() {
    let world = World::new();
    world.budget("company", 100, BudgetPeriod::Month).await;
    world.budget("company", 10, BudgetPeriod::Day).await;
    world.reserve("r1", 10, "company", noon()).await.unwrap();
    let refusal = world.reserve("r2", 1, "company", noon()).await.unwrap_err();
    assert_eq!(refusal.period, BudgetPeriod::Day);
    world.settle("r1", 10).await;
    let tomorrow = at("2026-03-17T11:00:00Z");
    world.reserve("r2", 1, "company", tomorrow).await.unwrap();
    assert_eq!(
        world.show(tomorrow).await,
        ["company day 0/10 held 1", "company month 10/100 held 1"]
    );
}

#[tokio::test]
async fn a_limit_that_is_changed_keeps_what_was_spent() {
    let world = World::new();
    world.budget("company", 10, BudgetPeriod::Month).await;
    world.reserve("r1", 10, "company", noon()).await.unwrap();
    world.settle("r1", 8).await;
    assert_eq!(world.budget("company", 9, BudgetPeriod::Month).await.left, nanos(1));
    assert!(world.reserve("r2", 2, "company", noon()).await.is_err());
    world.budget("company", 20, BudgetPeriod::Month).await;
    world.reserve("r2", 12, "company", noon()).await.unwrap();
}

#[tokio::test]
async fn a_budget_that_is_taken_away_refuses_no_more_and_forgets_nothing() {
    let world = World::new();
    world.budget("company", 10, BudgetPeriod::Month).await;
    world.reserve("r1", 10, "company", noon()).await.unwrap();
    assert!(world.store.remove_budget(Node::Company, BudgetPeriod::Month).await.unwrap());
    assert!(!world.store.remove_budget(Node::Company, BudgetPeriod::Month).await.unwrap());
    world.reserve("r2", 50, "company", noon()).await.unwrap();
    world.settle("r1", 7).await;
    let again = world.budget("company", 100, BudgetPeriod::Month).await;
    assert_eq!((again.spent, again.held), (nanos(7), nanos(50)));
    world.settle("r2", 40).await;
    assert_eq!(world.show(noon()).await, ["company month 47/100 held 0"]);
}

#[tokio::test]
async fn a_soft_budget_notifies_and_never_refuses() {
    let world = World::new();
    let budget =
        Budget { node: Node::Company, period: BudgetPeriod::Month, limit: nanos(10), soft: true };
    world.store.set_budget(budget, noon()).await.unwrap();
    world.reserve("r1", 25, "company", noon()).await.unwrap();
    let notices = world.settle("r1", 25).await;
    assert_eq!(told(&notices), ["company 0.5", "company 0.8", "company 1"]);
    let status = &world.store.budgets(None, noon()).await.unwrap()[0];
    assert_eq!((status.left, status.soft), (nanos(-15), true));
}

#[tokio::test]
async fn a_large_hold_that_settles_small_rings_no_alarm() {
    let world = World::new();
    world.budget("company", 100, BudgetPeriod::Month).await;
    world.reserve("a", 100, "company", noon()).await.unwrap();
    assert_eq!(told(&world.settle("a", 3).await), [""; 0]);
    world.reserve("b", 97, "company", noon()).await.unwrap();
    assert_eq!(told(&world.settle("b", 47).await), ["company 0.5"]);
}

#[tokio::test]
async fn a_threshold_is_told_once_per_period() {
    let world = World::new();
    world.budget("company", 100, BudgetPeriod::Day).await;
    let now = noon();
    let mut notices = Vec::new();
    for (request, cost) in [("a", 49), ("b", 1), ("c", 29), ("d", 1), ("e", 20)] {
        world.reserve(request, cost, "company", now).await.unwrap();
        notices.push(told(&world.settle(request, cost).await));
    }
    let expected: [&[&str]; 5] = [&[], &["company 0.5"], &[], &["company 0.8"], &["company 1"]];
    assert_eq!(notices, expected);
    // What was told is no news to another process either.
    let second = world.second();
    reserve(&second, "f", 0, "company", now).await.unwrap();
    assert!(second.settle(settlement("f", 5)).await.unwrap().is_empty());
    let tomorrow = at("2026-03-17T11:00:00Z");
    world.reserve("g", 60, "company", tomorrow).await.unwrap();
    assert_eq!(told(&world.settle("g", 60).await), ["company 0.5"]);
}

#[tokio::test]
async fn a_raised_limit_makes_a_threshold_news_again() {
    let world = World::new();
    world.budget("company", 10, BudgetPeriod::Month).await;
    world.reserve("a", 6, "company", noon()).await.unwrap();
    assert_eq!(told(&world.settle("a", 6).await), ["company 0.5"]);
    world.budget("company", 100, BudgetPeriod::Month).await;
    world.reserve("b", 50, "company", noon()).await.unwrap();
    assert_eq!(told(&world.settle("b", 50).await), ["company 0.5"]);
}

#[tokio::test]
async fn pressure_is_the_fullest_level_and_a_new_period_relieves_it() {
    let world = World::new();
    world.budget("company", 100, BudgetPeriod::Month).await;
    world.budget("team:a", 10, BudgetPeriod::Day).await;
    let at_levels = levels("company team:a person:anna");
    assert_eq!(world.store.pressure(&levels("team:b"), noon()), None);
    world.reserve("r1", 8, "company team:a", noon()).await.unwrap();
    assert_eq!(world.store.pressure(&at_levels, noon()), Some((node("team:a"), 0.8)));
    world.settle("r1", 5).await;
    assert_eq!(world.store.pressure(&at_levels, noon()), Some((node("team:a"), 0.5)));
    let tomorrow = at("2026-03-17T11:00:00Z");
    assert_eq!(world.store.pressure(&at_levels, tomorrow), Some((Node::Company, 0.05)));
}

#[tokio::test]
async fn pressure_is_known_from_the_start() {
    let world = World::new();
    world.budget("company", 10, BudgetPeriod::Month).await;
    world.reserve("r1", 9, "company", noon()).await.unwrap();
    assert_eq!(world.second().pressure(&[Node::Company], noon()), Some((Node::Company, 0.9)));
}

#[tokio::test]
async fn budgets_stand_in_the_order_of_the_tree() {
    let world = World::new();
    let plan = crate::org::import::ImportPlan::from_toml(
        "[[department]]\nid = \"b\"\n[[department]]\nid = \"a\"\n[[team]]\nid = \"z\"\nparent = \"a\"\n\
         [[person]]\nid = \"anna\"\nparent = \"a\"\n",
    );
    world.store.import_org(plan.unwrap(), noon()).await.unwrap();
    for at_node in ["use-case:offers", "department:b", "team:z", "company", "person:anna"] {
        world.budget(at_node, 1, BudgetPeriod::Month).await;
    }
    world.budget("department:a", 1, BudgetPeriod::Year).await;
    world.budget("department:a", 1, BudgetPeriod::Week).await;
    let order: Vec<String> = world
        .show(noon())
        .await
        .iter()
        .map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        order,
        [
            "company month",
            "department:a week",
            "department:a year",
            "person:anna month",
            "team:z month",
            "department:b month",
            "use-case:offers month",
        ]
    );
    let one = world.store.budgets(Some(node("department:a")), noon()).await.unwrap();
    assert_eq!(one.len(), 2);
}
