//! Whatever is done in whatever order, by whichever process: every budget shows exactly what the
//! rows and the open holds say, no budget is overspent, and nothing is refused that fits.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::budget::period::bounds;

const NODES: [&str; 4] = ["company", "team:a", "team:b", "person:anna"];
const PATHS: [&str; 4] =
    ["company", "company team:a person:anna", "company team:b person:anna", "company team:b"];

#[derive(Debug, Clone)]
enum Step {
    Hold { path: usize, amount: i64 },
    Settle { index: usize, percent: i64 },
    SetBudget { node: usize, period: BudgetPeriod, limit: i64, soft: bool },
    RemoveBudget { node: usize, period: BudgetPeriod },
    Wait { hours: u64 },
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let period = || prop::sample::select(vec![BudgetPeriod::Day, BudgetPeriod::Month]);
    prop_oneof![
        6 => (0..PATHS.len(), 0_i64..60).prop_map(|(path, amount)| Step::Hold { path, amount }),
        5 => (any::<usize>(), 0_i64..100)
            .prop_map(|(index, percent)| Step::Settle { index, percent }),
        3 => (0..NODES.len(), period(), 0_i64..200, prop::bool::weighted(0.2))
            .prop_map(|(node, period, limit, soft)| Step::SetBudget { node, period, limit, soft }),
        1 => (0..NODES.len(), period())
            .prop_map(|(node, period)| Step::RemoveBudget { node, period }),
        1 => (1_u64..30).prop_map(|hours| Step::Wait { hours }),
        1 => Just(Step::Crash),
    ]
}

/// A hold or a row: when, where, how much.
#[derive(Debug, Clone)]
struct Sum {
    request: String,
    time: Timestamp,
    levels: Vec<Node>,
    amount: i64,
    process: usize,
}

/// What the store must agree with.
#[derive(Default)]
struct Model {
    budgets: Vec<Budget>,
    held: Vec<Sum>,
    spent: Vec<Sum>,
}

impl Model {
    fn sum(sums: &[Sum], budget: &Budget, now: Timestamp) -> i64 {
        let zone = SqliteOptions::default().time_zone;
        let (begin, end) = bounds(budget.period, now, &zone);
        let counts =
            |sum: &&Sum| begin <= sum.time && sum.time < end && sum.levels.contains(&budget.node);
        sums.iter().filter(counts).map(|sum| sum.amount).sum()
    }

    fn fits(&self, levels: &[Node], amount: i64, now: Timestamp) -> bool {
        let of_levels = |budget: &&Budget| levels.contains(&budget.node) && !budget.soft;
        self.budgets.iter().filter(of_levels).all(|budget| {
            let used = Self::sum(&self.held, budget, now) + Self::sum(&self.spent, budget, now);
            used + amount <= budget.limit.nanos()
        })
    }
}

async fn play(steps: Vec<Step>) {
    let world = World::new();
    let mut stores = [world.store.clone(), world.second()];
    let mut model = Model::default();
    let mut now = noon();
    for (number, step) in steps.into_iter().enumerate() {
        let process = number % 2;
        match step {
            Step::Hold { path, amount } => {
                let request = format!("r{number}");
                let granted = reserve(&stores[process], &request, amount, PATHS[path], now).await;
                let levels = levels(PATHS[path]);
                assert_eq!(granted.is_ok(), model.fits(&levels, amount, now), "step {number}");
                if granted.is_ok() {
                    model.held.push(Sum { request, time: now, levels, amount, process });
                }
            }
            Step::Settle { index, percent } if !model.held.is_empty() => {
                let index = index % model.held.len();
                let mut sum = model.held.remove(index);
                sum.amount = sum.amount * percent / 100;
                let settled = settlement(&sum.request, sum.amount);
                stores[sum.process].settle(settled).await.unwrap();
                model.spent.push(sum);
            }
            Step::SetBudget { node: at_node, period, limit, soft } => {
                let budget =
                    Budget { node: node(NODES[at_node]), period, limit: nanos(limit), soft };
                stores[process].set_budget(budget.clone(), now).await.unwrap();
                model.budgets.retain(|old| (&old.node, old.period) != (&budget.node, period));
                model.budgets.push(budget);
            }
            Step::RemoveBudget { node: at_node, period } => {
                let at_node = node(NODES[at_node]);
                stores[process].remove_budget(at_node.clone(), period).await.unwrap();
                model.budgets.retain(|old| (&old.node, old.period) != (&at_node, period));
            }
            Step::Wait { hours } => now += Duration::from_secs(hours * 3600),
            Step::Crash => {
                crash::crash(std::mem::replace(&mut stores[1], world.second())).await;
                let lost = model.held.extract_if(.., |sum| sum.process == 1);
                let lost: Vec<Sum> = lost.collect();
                assert_eq!(stores[0].recover(now).await.unwrap(), lost.len() as u64);
                model.spent.extend(lost);
            }
            Step::Settle { .. } => {}
        }
        let shown = stores[process].budgets(None, now).await.unwrap();
        assert_eq!(shown.len(), model.budgets.len());
        for budget in &model.budgets {
            let is_same = |shown: &&BudgetStatus| {
                (&shown.node, shown.period) == (&budget.node, budget.period)
            };
            let shown = shown.iter().find(is_same).unwrap();
            let spent = nanos(Model::sum(&model.spent, budget, now));
            let held = nanos(Model::sum(&model.held, budget, now));
            assert_eq!((shown.spent, shown.held), (spent, held), "step {number}, {budget:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn every_budget_shows_exactly_what_rows_and_holds_say(
        steps in prop::collection::vec(step(), 1..50),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(steps));
    }
}
