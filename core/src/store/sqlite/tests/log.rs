//! The write-ahead log under steady load: it is moved away and begun anew, and never lost.

use super::*;
use crate::store::sqlite::upkeep::{self, Done, Upkeep};

/// Upkeep without its thread and its clock.
fn upkeep_of(world: &World) -> Upkeep {
    Upkeep {
        connection: crate::store::sqlite::opening::connect_upkeep(&world.path()).unwrap(),
        log_path: crate::store::sqlite::log_path(&world.path()),
        zone: jiff::tz::TimeZone::UTC,
        board: Default::default(),
        directory: Default::default(),
        commits: Arc::default(),
    }
}

#[tokio::test]
async fn a_log_that_was_moved_is_begun_anew_and_does_not_grow() {
    let world = World::new();
    let upkeep = upkeep_of(&world);
    let mut done = Done::default();
    let mut largest_after_first = 0;
    for round in 0..6 {
        for call in 0..100 {
            let request = format!("r{round}c{call}");
            world.reserve(&request, 1, "company", noon()).await.unwrap();
            world.settle(&request, 1).await;
        }
        upkeep
            .commits
            .fetch_add(upkeep::COMMITS_PER_CHECKPOINT, std::sync::atomic::Ordering::Relaxed);
        upkeep.sync(&mut done);
        upkeep.checkpoint(&mut done).unwrap();
        let bytes = std::fs::metadata(&upkeep.log_path).unwrap().len();
        if round == 0 {
            largest_after_first = bytes * 3 / 2;
        }
        assert!(bytes <= largest_after_first, "{bytes} bytes of log after round {round}");
    }
    assert_eq!(world.ledger().await.len(), 600);
}

#[tokio::test]
async fn a_large_log_is_given_back_to_the_disk_when_nothing_happens() {
    let world = World::new();
    let upkeep = upkeep_of(&world);
    for call in 0..40 {
        let mut big = hold(&format!("r{call}"), 1, "company");
        big.draft.metadata.insert("x".into(), "y".repeat(200_000));
        world.store.reserve(vec![big], noon()).await.unwrap().unwrap();
    }
    let mut done = Done::default();
    upkeep.commits.fetch_add(40, std::sync::atomic::Ordering::Relaxed);
    for _second in 0..3 {
        upkeep.sync(&mut done);
        upkeep.checkpoint(&mut done).unwrap();
    }
    assert_eq!(std::fs::metadata(&upkeep.log_path).unwrap().len(), 0);
    world.settle("r7", 1).await;
    assert_eq!(world.ledger().await.len(), 1);
}
