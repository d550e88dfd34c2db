//! What people see when their organisation file is right, and when it is not.

use super::*;

const FILE: &str = r#"
[company]
id = "nordwind"
name = "Nordwind GmbH"

[[department]]
id = "sales"
name = "Vertrieb"

[[team]]
id = "north"
parent = "sales"

[[person]]
id = "anna"
name = "Anna Müller"
email = "Anna.Mueller@Nordwind.example"
parent = "north"
groups = ["leads", "leads", " works-council "]
locale = "de-DE"
roles = ["lead"]
clearance = "confidential"

[[budget]]
node = "department:sales"
amount = "500.25"
period = "month"

[[budget]]
node = "person:anna"
amount = 20
period = "day"
soft = true
"#;

fn messages(result: Result<ImportPlan, Vec<ImportFinding>>) -> Vec<String> {
    result.unwrap_err().iter().map(ToString::to_string).collect()
}

fn fits(plan: &ImportPlan, known: &Directory) -> Vec<String> {
    plan.check(known).iter().map(ToString::to_string).collect()
}

#[test]
fn a_toml_file_becomes_units_people_and_budgets() {
    let plan = ImportPlan::from_toml(FILE).unwrap();
    assert_eq!(plan.company.as_ref().unwrap().name, "Nordwind GmbH");
    assert_eq!(plan.units[1].name, "north");
    assert_eq!(plan.units[1].parent.as_deref(), Some("sales"));
    let anna = &plan.people[0];
    assert_eq!(anna.email.as_deref(), Some("anna.mueller@nordwind.example"));
    assert_eq!(anna.groups, ["leads".into(), "works-council".into()]);
    assert_eq!((anna.locale, anna.clearance), (Some(Locale::De), Some(Sensitivity::Confidential)));
    assert_eq!(plan.budgets[0].limit.nanos(), 500_250_000_000);
    assert_eq!((plan.budgets[1].limit.nanos(), plan.budgets[1].soft), (20_000_000_000, true));
    assert!(fits(&plan, &Directory::default()).is_empty());
}

#[test]
fn the_same_file_as_csv_says_the_same_whatever_the_delimiter() {
    let csv = "\u{feff}kind,id,name,parent,email,groups,locale,roles,clearance,node,amount,period,soft\n\
        company,nordwind,Nordwind GmbH,,,,,,,,,,\n\
        department,sales,Vertrieb,,,,,,,,,,\n\
        team,north,,sales,,,,,,,,,\n\
        person,anna,Anna Müller,north,Anna.Mueller@Nordwind.example,leads;works-council,de,lead,confidential,,,,\n\
        budget,,,,,,,,,department:sales,500.25,month,\n\
        budget,,,,,,,,,person:anna,20,day,ja\n";
    let semicolons = csv.replace("leads;works-council", "\"leads|works-council\"");
    let semicolons = semicolons.replace([',', '|'], ";");
    let toml = ImportPlan::from_toml(FILE).unwrap();
    for text in [csv, &semicolons] {
        let plan = ImportPlan::from_csv(text).unwrap();
        assert_eq!(plan.company, toml.company);
        assert_eq!(plan.units, toml.units);
        assert_eq!(plan.people, toml.people);
        assert_eq!(plan.budgets, toml.budgets);
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once_with_its_line() {
    let file = "\
[[person]]
id = \"anna\"
emial = \"anna@x.example\"
clearance = \"secret\"
locale = \"fr\"

[[department]]
name = \"without id\"

[[budget]]
node = \"sales\"
amount = \"12,50\"
period = \"monthly\"

[[cost_centre]]
id = \"x\"
";
    let found = messages(ImportPlan::from_toml(file));
    let expected = [
        "line 1: `fr` is no `locale`; there are de, en",
        "line 1: `secret` is no `clearance`; there are public, internal, confidential, restricted",
        "line 3: `emial` is unknown for a person; there are id, name, parent, email, groups, locale, roles, clearance",
        "line 7: a department needs `id`",
        "line 10: `sales` is no node; write company, department:ID, team:ID, person:ID, key:ID or use-case:NAME",
        "line 10: `12,50` is no decimal number; write for example 12.50",
        "line 10: `monthly` is no `period`; there are day, week, month, quarter, year",
        "line 15: `cost_centre` is unknown; there are company, department, team, person, budget",
    ];
    for message in expected {
        assert!(found.contains(&message.to_owned()), "{message} is missing in {found:#?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn what_is_twice_in_the_file_is_told() {
    let file = "\
[[department]]
id = \"a\"
[[team]]
id = \"a\"
[[person]]
id = \"p\"
email = \"P@x.example\"
[[person]]
id = \"p\"
email = \"p@X.example\"
[[budget]]
node = \"company\"
amount = \"1\"
period = \"day\"
[[budget]]
node = \"company\"
amount = \"2\"
period = \"day\"
";
    let found = messages(ImportPlan::from_toml(file));
    assert_eq!(
        found,
        [
            "line 3: the id `a` is used twice; departments and teams share their ids",
            "line 8: the person `p` is there twice",
            "line 8: the e-mail address `p@x.example` is used twice",
            "line 15: the budget of `company` for a day is there twice",
        ]
    );
}

#[test]
fn a_file_that_is_no_toml_is_told_with_its_line() {
    let found = messages(ImportPlan::from_toml("[company]\nid = \"x\nname = \"y\"\n"));
    assert!(found[0].starts_with("line 2: this is no valid TOML"), "{found:?}");
    let found = messages(ImportPlan::from_toml("company = 1\nperson = { id = \"x\" }\n"));
    assert_eq!(found, ["line 1: write [company]", "line 2: write [[person]], with two brackets"]);
}

#[test]
fn a_csv_line_with_too_many_cells_is_told_with_its_line() {
    let found = messages(ImportPlan::from_csv("kind,id,name\nperson,anna,Anna,extra\n"));
    assert!(found[0].starts_with("line 2: this line has 4 cells"), "{found:?}");
    let found = messages(ImportPlan::from_csv("kind,id,salary\nperson,anna,1\n"));
    assert!(found[0].starts_with("line 1: the column `salary` is unknown"), "{found:?}");
    let found = messages(ImportPlan::from_csv("kind,id,email\ndepartment,sales,a@b.example\n"));
    assert!(found[0].starts_with("line 2: `email` is unknown for a department"), "{found:?}");
    let found = messages(ImportPlan::from_csv("kind,id\nhamster,x\n"));
    assert!(found[0].starts_with("line 2: `hamster` is unknown"), "{found:?}");
}

#[test]
fn a_parent_that_is_nowhere_and_a_circle_are_told() {
    let file = "\
[[department]]
id = \"a\"
parent = \"b\"
[[department]]
id = \"b\"
parent = \"a\"
[[person]]
id = \"p\"
parent = \"nowhere\"
[[budget]]
node = \"team:none\"
amount = \"1\"
period = \"day\"
";
    let plan = ImportPlan::from_toml(file).unwrap();
    assert_eq!(
        fits(&plan, &Directory::default()),
        [
            "line 1: `department:a` stands below itself",
            "line 4: `department:b` stands below itself",
            "line 7: the parent `nowhere` of `person:p` is no department or team; add it to the file or correct the id",
            "line 10: there is no `team:none` for this budget; add it to the file or correct the id",
        ]
    );
}

#[test]
fn a_plan_is_checked_against_what_is_known() {
    let unit = |node: &str, closed| Unit {
        node: node.parse().unwrap(),
        name: "x".into(),
        parent: None,
        closed,
    };
    let mut known = Directory::default();
    known.units.insert("open".into(), unit("team:open", false));
    known.units.insert("shut".into(), unit("team:shut", true));
    let mut plan = ImportPlan::from_toml(
        "[[person]]\nid = \"a\"\nparent = \"open\"\n[[person]]\nid = \"b\"\nparent = \"shut\"\n\
         [[department]]\nid = \"open\"\n",
    )
    .unwrap();
    assert_eq!(
        fits(&plan, &known),
        [
            "line 4: the parent `shut` of `person:b` is closed; add it to the file to open it again, or name another",
            "line 7: `team:open` cannot become `department:open`: its budgets and its history name it so; use another id",
        ]
    );
    // With --prune, whoever is not in the file is closed, so nobody may stand below it.
    plan = ImportPlan::from_toml("[[person]]\nid = \"a\"\nparent = \"open\"\n").unwrap();
    assert!(fits(&plan, &known).is_empty());
    plan.prune = true;
    assert_eq!(fits(&plan, &known).len(), 1);
}

#[test]
fn every_finding_is_there_in_german() {
    let findings = ImportPlan::from_toml("[[person]]\nid = 1.5\nname = true\n").unwrap_err();
    assert!(findings.iter().all(|finding| !finding.message_de.is_empty()));
    assert_eq!(findings[0].message_de, "`name` muss ein Text sein");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_readers_panic(text in "(\\PC|\n|,|;|\"|\\[|\\]|=){0,200}") {
        let _ = ImportPlan::from_toml(&text);
        let _ = ImportPlan::from_csv(&text);
    }
}
