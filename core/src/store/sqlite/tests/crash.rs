//! What a process leaves behind when it dies, and who settles it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;
use crate::ledger::Flag;

/// Forgets a store as a crash would: its lock is let go of, its holds stay. Waits until the
/// writer has ended, which is when the lock is free.
pub(super) async fn crash(store: Arc<SqliteStore>) {
    let lock = store.processes.join(format!("{}.lock", store.process));
    let lock = std::fs::File::options().write(true).open(lock).unwrap();
    drop(store);
    tokio::task::spawn_blocking(move || lock.lock()).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_a_dead_process_held_is_settled_at_the_held_amount_and_flagged() {
    let world = World::new();
    world.budget("company", 100, BudgetPeriod::Month).await;
    world.budget("team:a", 50, BudgetPeriod::Day).await;
    let second = world.second();
    reserve(&second, "r1", 30, "company team:a", noon()).await.unwrap();
    reserve(&second, "r2", 10, "company", noon()).await.unwrap();
    second.settle(settlement("r2", 4)).await.unwrap();
    world.reserve("alive", 5, "company", noon()).await.unwrap();
    assert_eq!(world.store.recover(noon()).await.unwrap(), 0);
    crash(second).await;
    assert_eq!(world.store.recover(noon()).await.unwrap(), 1);
    assert_eq!(
        world.show(noon()).await,
        ["company month 34/100 held 5", "team:a day 30/50 held 0"]
    );
    let rows = world.ledger().await;
    let row = &rows[1].entry;
    assert_eq!((row.request_id.as_str(), row.cost), ("r1", nanos(30)));
    assert_eq!((row.ending, row.flags.as_slice()), (Ending::Recovered, &[Flag::Recovered][..]));
    assert_eq!(row.levels, levels("company team:a"));
    assert_eq!(world.store.recover(noon()).await.unwrap(), 0);
    let locks = std::fs::read_dir(world.folder.path().join("processes")).unwrap().count();
    assert_eq!(locks, 2, "the dead process's lock file is still there");
}

#[tokio::test]
async fn two_that_recover_at_once_settle_each_hold_once() {
    let world = World::new();
    world.budget("company", 1_000, BudgetPeriod::Month).await;
    let dead = world.second();
    for index in 0..50 {
        reserve(&dead, &format!("r{index}"), 2, "company", noon()).await.unwrap();
    }
    crash(dead).await;
    let second = world.second();
    let (first, second) = tokio::join!(world.store.recover(noon()), second.recover(noon()));
    assert_eq!(first.unwrap() + second.unwrap(), 50);
    assert_eq!(world.show(noon()).await, ["company month 100/1000 held 0"]);
    assert_eq!(world.ledger().await.len(), 50);
}

#[tokio::test]
async fn where_the_lock_file_is_gone_the_lease_decides() {
    let world = World::new();
    let second = world.second();
    reserve(&second, "r1", 30, "company", noon()).await.unwrap();
    let lock = second.processes.join(format!("{}.lock", second.process));
    std::fs::remove_file(lock).unwrap();
    let after_20_s = noon() + Duration::from_secs(20);
    let after_40_s = noon() + Duration::from_secs(40);
    let after_60_s = noon() + Duration::from_secs(60);
    assert_eq!(world.store.recover(after_20_s).await.unwrap(), 0);
    second.renew_leases(after_20_s).await.unwrap();
    assert_eq!(world.store.recover(after_40_s).await.unwrap(), 0);
    assert_eq!(world.store.recover(after_60_s).await.unwrap(), 1);
    // The process that was thought dead is told that its hold is gone; nothing is booked twice.
    let late = second.settle(settlement("r1", 3)).await;
    assert!(matches!(late, Err(StoreError::NoSuchHold(_))), "{late:?}");
    assert_eq!(world.ledger().await.len(), 1);
}

#[tokio::test]
async fn closing_with_open_holds_leaves_them_to_recovery() {
    let world = World::new();
    let second = world.second();
    reserve(&second, "r1", 30, "company", noon()).await.unwrap();
    second.close().await.unwrap();
    assert_eq!(world.store.recover(noon()).await.unwrap(), 1);
}

const DATABASE: &str = "STELLWERK_TEST_CRASH_DATABASE";

/// No test of its own: the process that the next test kills. It holds and settles without end,
/// and says on stdout which settlements it was told are committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_is_killed() {
    let Some(path) = std::env::var_os(DATABASE) else { return };
    let store = open(path.into());
    let workers = (0..8).map(|worker| {
        let store = store.clone();
        tokio::spawn(async move {
            for call in 0.. {
                let request = format!("w{worker}c{call}");
                reserve(&store, &request, 10, "company team:a", noon()).await.unwrap();
                store.settle(settlement(&request, 7)).await.unwrap();
                use std::io::Write;
                writeln!(std::io::stdout(), "settled {request}").unwrap();
            }
        })
    });
    futures::future::join_all(workers).await;
}

#[tokio::test]
async fn after_kill_9_in_the_middle_of_calls_every_hold_is_settled_and_no_row_is_lost() {
    let world = World::new();
    world.budget("company", i64::MAX, BudgetPeriod::Month).await;
    world.budget("team:a", i64::MAX, BudgetPeriod::Day).await;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::sqlite::tests::crash::child_that_is_killed", "--nocapture"])
        .env(DATABASE, world.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut told = Vec::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while told.len() < 300 {
        let line = lines.next().expect("the child ended by itself").unwrap();
        told.extend(line.strip_prefix("settled ").map(str::to_owned));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    told.extend(lines.map_while(Result::ok).filter_map(|line| {
        // The last line may be cut.
        line.strip_prefix("settled ").filter(|id| id.contains('c')).map(str::to_owned)
    }));
    told.pop();

    let recovered = world.store.recover(noon()).await.unwrap();
    let rows = world.ledger().await;
    let booked: std::collections::HashSet<&str> =
        rows.iter().map(|row| row.entry.request_id.as_str()).collect();
    assert_eq!(booked.len(), rows.len(), "a call was booked twice");
    assert!(told.iter().all(|request| booked.contains(request.as_str())), "a row was lost");
    let guessed = rows.iter().filter(|row| row.entry.ending == Ending::Recovered).count();
    assert_eq!(guessed as u64, recovered);
    let spent: Cost = rows.iter().map(|row| row.entry.cost).sum();
    for budget in world.store.budgets(None, noon()).await.unwrap() {
        assert_eq!((budget.spent, budget.held), (spent, nanos(0)), "{}", budget.node);
    }
}
