//! Files that cannot be used, and what is said about them.

use std::fs;

use rusqlite::Connection;

use super::*;

fn refusal(path: &std::path::Path) -> String {
    chain(&SqliteStore::open(path, SqliteOptions::default(), noon()).unwrap_err())
}

#[test]
fn a_missing_folder_is_made() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path().join("a/b/stellwerk.db"));
    assert!(folder.path().join("a/b/stellwerk.db").exists());
}

#[test]
fn a_file_that_is_no_database_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stellwerk.db");
    let text = "these are not the bytes of a database ".repeat(100);
    fs::write(&path, &text).unwrap();
    let said = refusal(&path);
    assert!(said.contains("stellwerk.db: the file is no SQLite database"), "{said}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_database_of_another_program_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stellwerk.db");
    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE bookmarks (url TEXT)").unwrap();
    drop(other);
    let before = fs::read(&path).unwrap();
    let said = refusal(&path);
    assert!(said.contains("belongs to another program"), "{said}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn tables_of_a_newer_stellwerk_are_left_as_they_are() {
    let world = World::new();
    let other = Connection::open(world.path()).unwrap();
    other
        .execute_batch(
            "INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
             VALUES (99, 'future', '2030-01-01T00:00:00Z', '1')",
        )
        .unwrap();
    let said = refusal(&world.path());
    assert!(said.contains("written by a newer Stellwerk (tables of version 99"), "{said}");
}

#[test]
fn a_damaged_file_is_told_and_not_repaired_behind_your_back() {
    let world = World::new();
    let path = world.folder.path().join("copy").join("stellwerk.db");
    fs::create_dir(path.parent().unwrap()).unwrap();
    let other = Connection::open(world.path()).unwrap();
    other.execute("VACUUM INTO ?1", [path.to_str().unwrap()]).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[100..4096].fill(0xFF);
    fs::write(&path, &bytes).unwrap();
    let said = refusal(&path);
    assert!(said.contains("it is damaged"), "{said}");
}

#[test]
fn a_folder_that_is_a_file_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let said = refusal(&file.join("stellwerk.db"));
    assert!(said.contains("the folder cannot be made or written to"), "{said}");
}

#[test]
fn many_first_starts_at_once_make_one_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stellwerk.db");
    std::thread::scope(|scope| {
        let starts: Vec<_> = (0..6).map(|_| scope.spawn(|| open(path.clone()))).collect();
        for start in starts {
            start.join().unwrap();
        }
    });
}

#[tokio::test]
async fn a_full_disk_refuses_and_loses_nothing() {
    let world = World::new();
    world.budget("company", 100, BudgetPeriod::Month).await;
    world.reserve("r1", 10, "company", noon()).await.unwrap();
    // SQLite says that the disk is full when the file may not grow.
    let pages = |limit: i64| {
        world.store.ask("limit the file", move |_, connection| {
            connection.pragma_query_value(None, "page_count", |row| row.get::<_, i64>(0))?;
            connection
                .query_row(&format!("PRAGMA max_page_count = {limit}"), [], |row| {
                    row.get::<_, i64>(0)
                })
                .map(|_| ())
        })
    };
    pages(1).await.unwrap();
    let mut failed = None;
    for index in 0..200 {
        let request = format!("big{index}");
        let mut big = hold(&request, 0, "company");
        big.draft.metadata.insert("x".into(), "y".repeat(2_000));
        if let Err(error) = world.store.reserve(vec![big], noon()).await {
            failed = Some(error);
            break;
        }
    }
    let said = chain(&failed.expect("the disk was never full"));
    assert!(said.starts_with("the database could not set money aside"), "{said}");
    assert_eq!(world.show(noon()).await, ["company month 0/100 held 10"]);
    pages(1_000_000).await.unwrap();
    world.settle("r1", 4).await;
    assert_eq!(world.show(noon()).await, ["company month 4/100 held 0"]);
}
