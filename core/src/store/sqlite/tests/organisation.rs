//! Importing the organisation: again, changed, pruned.

use super::*;
use crate::org::import::{ImportPlan, ImportReport};

const FILE: &str = "\
[company]
id = \"nordwind\"
name = \"Nordwind\"
[[department]]
id = \"sales\"
[[team]]
id = \"north\"
parent = \"sales\"
[[person]]
id = \"anna\"
email = \"anna@nordwind.example\"
parent = \"north\"
groups = [\"leads\"]
[[budget]]
node = \"department:sales\"
amount = \"500\"
period = \"month\"
";

fn plan(text: &str) -> ImportPlan {
    ImportPlan::from_toml(text).unwrap()
}

async fn import(world: &World, plan: ImportPlan) -> ImportReport {
    world.store.import_org(plan, noon()).await.unwrap()
}

#[tokio::test]
async fn a_file_is_imported_whole_and_the_second_time_changes_nothing() {
    let world = World::new();
    let report = import(&world, plan(FILE)).await;
    assert_eq!(report, ImportReport { added: 3, budgets: 1, ..ImportReport::default() });
    let directory = world.store.directory();
    assert_eq!(directory.company.as_ref().unwrap().name, "Nordwind");
    let anna = directory.person("ANNA@nordwind.example").unwrap();
    let caller = directory.caller_of_person(anna, Channel::Slack);
    assert_eq!(caller.levels.to_vec(), levels("company department:sales team:north person:anna"));
    let again = import(&world, plan(FILE)).await;
    assert_eq!(again, ImportReport { unchanged: 3, ..ImportReport::default() });
    assert_eq!(world.store.directory().revision, directory.revision);
}

#[tokio::test]
async fn who_is_missing_stays_or_is_closed_and_comes_back_when_named_again() {
    let world = World::new();
    import(&world, plan(FILE)).await;
    let without_anna =
        "[[department]]\nid = \"sales\"\n[[team]]\nid = \"north\"\nparent = \"sales\"\n";
    import(&world, plan(without_anna)).await;
    assert!(world.store.directory().person("anna").is_ok());
    let pruned = import(&world, ImportPlan { prune: true, ..plan(without_anna) }).await;
    assert_eq!(pruned.closed, 1);
    assert!(world.store.directory().person("anna").is_err());
    let back = import(&world, plan(FILE)).await;
    assert_eq!((back.changed, back.unchanged), (1, 2));
    assert!(world.store.directory().person("anna").is_ok());
}

#[tokio::test]
async fn a_file_that_does_not_fit_changes_nothing() {
    let world = World::new();
    let bad = "[[department]]\nid = \"new\"\n[[person]]\nid = \"p\"\nparent = \"nowhere\"\n";
    let error = world.store.import_org(plan(bad), noon()).await.unwrap_err();
    let StoreError::Import(findings) = error else { panic!("{error}") };
    assert_eq!(findings[0].line, Some(3));
    assert!(world.store.directory().units.is_empty());
}

#[tokio::test]
async fn a_budget_of_the_file_counts_what_was_spent_before() {
    let world = World::new();
    world.reserve("r1", 7, "company department:sales", noon()).await.unwrap();
    world.settle("r1", 7).await;
    import(&world, plan(FILE)).await;
    assert_eq!(world.show(noon()).await, ["department:sales month 7/500000000000 held 0"]);
}
