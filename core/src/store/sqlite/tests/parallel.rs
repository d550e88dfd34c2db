//! Many callers at once: exactly as many are granted as fit, in one process and in several.

use super::*;

/// Has `tasks` callers hold `amount` each at once and settle what they were granted; how many
/// were granted.
async fn rush(stores: &[Arc<SqliteStore>], tasks: usize, amount: i64, at_levels: &str) -> usize {
    let callers = (0..tasks).map(|task| {
        let store = stores[task % stores.len()].clone();
        let at_levels = at_levels.to_owned();
        tokio::spawn(async move {
            let request = format!("r{task}");
            let granted = reserve(&store, &request, amount, &at_levels, noon()).await.is_ok();
            if granted {
                tokio::task::yield_now().await;
                store.settle(settlement(&request, amount)).await.unwrap();
            }
            granted
        })
    });
    let granted = futures::future::join_all(callers).await;
    granted.into_iter().filter(|granted| *granted.as_ref().unwrap()).count()
}

const LEVELS: &str = "company department:sales team:north person:anna key:k1 use-case:offers";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_64_callers_exactly_as_many_are_granted_as_fit_at_every_level() {
    for tight in LEVELS.split_whitespace() {
        let world = World::new();
        for level in LEVELS.split_whitespace() {
            let limit = if level == tight { 7 * 10 + 9 } else { 1_000 };
            world.budget(level, limit, BudgetPeriod::Month).await;
        }
        let granted = rush(std::slice::from_ref(&world.store), 64, 10, LEVELS).await;
        assert_eq!(granted, 7, "tight at {tight}");
        for budget in world.store.budgets(None, noon()).await.unwrap() {
            assert_eq!((budget.spent, budget.held), (nanos(70), nanos(0)), "{}", budget.node);
        }
        assert_eq!(world.ledger().await.len(), 7);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_processes_on_one_file_do_not_overspend_together() {
    let world = World::new();
    for level in LEVELS.split_whitespace() {
        world.budget(level, 1_000, BudgetPeriod::Month).await;
    }
    world.budget("team:north", 20 * 10, BudgetPeriod::Day).await;
    let stores = [world.store.clone(), world.second(), world.second()];
    assert_eq!(rush(&stores, 96, 10, LEVELS).await, 20);
    assert_eq!(world.ledger().await.len(), 20);
    for budget in world.store.budgets(None, noon()).await.unwrap() {
        assert_eq!((budget.spent, budget.held), (nanos(200), nanos(0)), "{}", budget.node);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn holds_of_different_people_share_the_budget_above_them() {
    let world = World::new();
    world.budget("company", 100, BudgetPeriod::Month).await;
    let callers = (0..64).map(|task| {
        let store = world.store.clone();
        tokio::spawn(async move {
            let at_levels = format!("company person:p{task}");
            reserve(&store, &format!("r{task}"), 3, &at_levels, noon()).await.is_ok()
        })
    });
    let granted = futures::future::join_all(callers).await;
    assert_eq!(granted.into_iter().filter(|granted| *granted.as_ref().unwrap()).count(), 33);
    assert_eq!(world.show(noon()).await, ["company month 0/100 held 99"]);
}

#[tokio::test]
async fn what_another_process_sets_counts_from_the_next_hold_on() {
    let world = World::new();
    world.reserve("r1", 5, "company", noon()).await.unwrap();
    let second = world.second();
    let budget =
        Budget { node: Node::Company, period: BudgetPeriod::Month, limit: nanos(8), soft: false };
    second.set_budget(budget, noon()).await.unwrap();
    let refusal = world.reserve("r2", 4, "company", noon()).await.unwrap_err();
    assert_eq!(refusal.left, nanos(3));
    second.remove_budget(Node::Company, BudgetPeriod::Month).await.unwrap();
    world.reserve("r2", 4, "company", noon()).await.unwrap();
}

#[tokio::test]
async fn a_bad_job_fails_alone_and_its_neighbours_do_not_notice() {
    let world = World::new();
    world.budget("company", 100, BudgetPeriod::Month).await;
    let key = keys::key("k1", "hash");
    world.store.create_key(key.clone()).await.unwrap();
    // The writer stands still until all three wait, so that they come into one batch; the key
    // cannot be kept twice.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let stand_still = world.store.ask("stand still", move |_, _| {
        let _gone = wait.recv();
        Ok(())
    });
    let (_, first, twice, second, ()) = tokio::join!(
        stand_still,
        world.reserve("r1", 10, "company", noon()),
        world.store.create_key(key),
        world.reserve("r2", 20, "company", noon()),
        // Dropped with it, so that a second run of the job does not wait.
        async move { go.send(()).unwrap() },
    );
    assert!(first.is_ok() && twice.is_err() && second.is_ok());
    assert_eq!(world.show(noon()).await, ["company month 0/100 held 30"]);
    world.settle("r1", 10).await;
    world.settle("r2", 20).await;
    assert_eq!(world.show(noon()).await, ["company month 30/100 held 0"]);
}
