//! Keys: made, found by hash, revoked.

use super::*;
use crate::org::{ApiKey, KeyLimits};

pub(super) fn key(id: &str, hash: &str) -> ApiKey {
    ApiKey {
        id: id.into(),
        hash: hash.into(),
        node: Node::Company,
        name: "CI".into(),
        use_case: None,
        limits: KeyLimits::default(),
        floor: None,
        keep_history: false,
        created_at: noon(),
        revoked_at: None,
    }
}

#[tokio::test]
async fn a_key_comes_back_as_it_was_made_also_after_a_restart() {
    let world = World::new();
    let full = ApiKey {
        node: node("team:a"),
        use_case: Some("offers".into()),
        limits: KeyLimits {
            requests_per_minute: Some(60),
            tokens_per_minute: Some(100_000),
            parallel: Some(4),
            models: Some(vec!["mini".into()]),
            expires_at: Some(at("2027-01-01T00:00:00Z")),
        },
        floor: Some(Sensitivity::Confidential),
        keep_history: true,
        ..key("k1", "hash1")
    };
    world.store.create_key(full.clone()).await.unwrap();
    world.store.create_key(key("k2", "hash2")).await.unwrap();
    assert_eq!(*world.store.directory().keys["hash1"], full);
    assert_eq!(*world.second().directory().keys["hash1"], full);
}

#[tokio::test]
async fn a_revoked_key_says_since_when() {
    let world = World::new();
    world.store.create_key(key("k1", "hash")).await.unwrap();
    let later = at("2026-03-17T00:00:00Z");
    world.store.revoke_key("k1".into(), noon()).await.unwrap();
    world.store.revoke_key("k1".into(), later).await.unwrap();
    assert_eq!(world.store.directory().keys["hash"].revoked_at, Some(noon()));
    let missing = world.store.revoke_key("k9".into(), noon()).await;
    assert!(matches!(missing, Err(StoreError::NotFound(_))), "{missing:?}");
}

#[tokio::test]
async fn another_process_sees_a_new_key_when_it_looks() {
    let world = World::new();
    let second = world.second();
    world.store.create_key(key("k1", "hash")).await.unwrap();
    assert!(second.refresh_directory().await.unwrap().keys.contains_key("hash"));
    let revision = second.directory().revision;
    second.refresh_directory().await.unwrap();
    assert_eq!(second.directory().revision, revision);
}
