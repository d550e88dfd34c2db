//! `stellwerk org import|show`: the company's tree, its people and groups.
//!
//! What a file may say is decided in `core::org::import`; here it is read, handed to the store,
//! and what came of it is told.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use stellwerk_core::ids::{Group, Node, PersonId};
use stellwerk_core::org::import::{ImportFinding, ImportPlan, ImportReport};
use stellwerk_core::org::{Company, Directory, Person, Unit};
use stellwerk_core::request::{Locale, Sensitivity};

use crate::cli::args::OrgCommand;
use crate::cli::setup::{Context, Desk};
use crate::cli::{CommandError, output};

/// `org show --json`.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    company: Option<&'a Company>,
    units: Vec<ShownUnit<'a>>,
    people: Vec<ShownPerson<'a>>,
}

#[derive(Debug, Serialize)]
struct ShownUnit<'a> {
    node: &'a Node,
    name: &'a str,
    parent: Option<&'a str>,
    closed: bool,
}

#[derive(Debug, Serialize)]
struct ShownPerson<'a> {
    node: Node,
    id: &'a PersonId,
    name: &'a str,
    email: Option<&'a str>,
    parent: Option<&'a str>,
    groups: &'a [Group],
    roles: &'a [String],
    locale: Option<Locale>,
    clearance: Option<Sensitivity>,
    closed: bool,
}

pub(super) async fn run(context: &Context, command: OrgCommand) -> Result<(), CommandError> {
    let desk = Desk::open(context).await?;
    let done = match command {
        OrgCommand::Import { file, prune, json } => {
            import(context, &desk, &file, prune, json).await
        }
        OrgCommand::Show { all, json: true } => output::json(&shown(&desk.directory, all)),
        OrgCommand::Show { all, json: false } => show(context, &desk.directory, all),
    };
    desk.close(done).await
}

async fn import(
    context: &Context,
    desk: &Desk,
    file: &Path,
    prune: bool,
    json: bool,
) -> Result<(), CommandError> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        CommandError::refused(
            format!("{} cannot be read: {error}.", file.display()),
            format!("{} ist nicht lesbar: {error}.", file.display()),
        )
    })?;
    let mut plan = plan(context, file, &text, &desk.directory)?;
    plan.prune = prune;
    let report = desk.store.import_org(plan, Timestamp::now()).await?;
    match json {
        true => output::json(&report),
        false => output::line(&told(&report, context.locale)),
    }
}

/// What the file says, checked by itself and against who is there already.
fn plan(
    context: &Context,
    file: &Path,
    text: &str,
    known: &Directory,
) -> Result<ImportPlan, CommandError> {
    let is_csv = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    let read = match is_csv {
        true => ImportPlan::from_csv(text),
        false => ImportPlan::from_toml(text),
    };
    let checked = read.and_then(|plan| match plan.check(known) {
        findings if findings.is_empty() => Ok(plan),
        findings => Err(findings),
    });
    checked.map_err(|findings| {
        for finding in &findings {
            output::say(&found(file, finding, context.locale));
        }
        output::say(&context.words("Nothing was imported.", "Nichts wurde übernommen."));
        CommandError::Told
    })
}

fn found(file: &Path, finding: &ImportFinding, locale: Locale) -> String {
    let message = match locale {
        Locale::En => &finding.message,
        Locale::De => &finding.message_de,
    };
    match finding.line {
        Some(line) => format!("{}:{line}: {message}", file.display()),
        None => format!("{}: {message}", file.display()),
    }
}

/// What one import did, in a line.
pub(crate) fn told(report: &ImportReport, locale: Locale) -> String {
    let ImportReport { added, changed, unchanged, closed, budgets } = report;
    match locale {
        Locale::En => format!(
            "{added} added, {changed} changed, {unchanged} unchanged, {closed} closed; {budgets} budgets set"
        ),
        Locale::De => format!(
            "{added} neu, {changed} geändert, {unchanged} unverändert, {closed} geschlossen; {budgets} Budgets gesetzt"
        ),
    }
}

fn show(context: &Context, directory: &Directory, all: bool) -> Result<(), CommandError> {
    if directory.company.is_none() && directory.units.is_empty() && directory.people.is_empty() {
        output::say(&context.words(
            "No organisation yet; take one from a file: stellwerk org import FILE",
            "Noch keine Organisation; so kommt sie aus einer Datei: stellwerk org import DATEI",
        ));
        return Ok(());
    }
    output::line(tree(directory, all, context.locale).trim_end())
}

fn shown(directory: &Directory, all: bool) -> Shown<'_> {
    let units = directory.units.values().filter(|unit| all || !unit.closed);
    let people = directory.people.values().filter(|person| all || !person.closed);
    Shown {
        company: directory.company.as_ref(),
        units: units
            .map(|unit| ShownUnit {
                node: &unit.node,
                name: &unit.name,
                parent: unit.parent.as_deref(),
                closed: unit.closed,
            })
            .collect(),
        people: people
            .map(|person| ShownPerson {
                node: Node::Person(person.id.clone()),
                id: &person.id,
                name: &person.name,
                email: person.email.as_deref(),
                parent: person.parent.as_deref(),
                groups: &person.groups,
                roles: &person.roles,
                locale: person.locale,
                clearance: person.clearance,
                closed: person.closed,
            })
            .collect(),
    }
}

/// The tree with an indent for each level: units before people, both by id.
fn tree(directory: &Directory, all: bool, locale: Locale) -> String {
    let mut children: BTreeMap<Option<&str>, (Vec<&Unit>, Vec<&Person>)> = BTreeMap::new();
    for unit in directory.units.values().filter(|unit| all || !unit.closed) {
        children.entry(unit.parent.as_deref()).or_default().0.push(unit);
    }
    for person in directory.people.values().filter(|person| all || !person.closed) {
        children.entry(person.parent.as_deref()).or_default().1.push(person);
    }
    let name = directory.company.as_ref().map_or("", |company| &company.name);
    let mut lines = vec![format!("company  {name}")];
    branch(&children, None, 1, locale, &mut lines);
    lines.push(String::new());
    lines.join("\n")
}

fn branch(
    children: &BTreeMap<Option<&str>, (Vec<&Unit>, Vec<&Person>)>,
    parent: Option<&str>,
    depth: usize,
    locale: Locale,
    lines: &mut Vec<String>,
) {
    // The import refuses circles; a store that was changed by hand must not hang the command.
    const DEEPEST: usize = 64;
    let Some((units, people)) = children.get(&parent).filter(|_| depth < DEEPEST) else { return };
    let indent = "  ".repeat(depth);
    let closed = |closed: bool| match (closed, locale) {
        (false, _) => "",
        (true, Locale::En) => " (closed)",
        (true, Locale::De) => " (geschlossen)",
    };
    for unit in units {
        lines.push(output::printable(&format!(
            "{indent}{}  {}{}",
            unit.node,
            unit.name,
            closed(unit.closed)
        )));
        let id: Option<&Arc<str>> = match &unit.node {
            Node::Department(id) | Node::Team(id) => Some(id),
            _ => None,
        };
        if let Some(id) = id {
            branch(children, Some(id), depth + 1, locale, lines);
        }
    }
    for person in people {
        let groups: Vec<&str> = person.groups.iter().map(Group::as_str).collect();
        let mail = person.email.as_deref().map(|mail| format!(" <{mail}>")).unwrap_or_default();
        let groups = match groups.is_empty() {
            true => String::new(),
            false => format!(" [{}]", groups.join(", ")),
        };
        lines.push(output::printable(&format!(
            "{indent}person:{}  {}{mail}{groups}{}",
            person.id,
            person.name,
            closed(person.closed)
        )));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(node: &str, name: &str, parent: Option<&str>) -> Unit {
        Unit {
            node: node.parse().unwrap(),
            name: name.to_owned(),
            parent: parent.map(Into::into),
            closed: false,
        }
    }

    fn person(id: &str, parent: Option<&str>, closed: bool) -> Person {
        Person {
            id: id.into(),
            name: id.to_uppercase(),
            email: Some(format!("{id}@werk.example")),
            parent: parent.map(Into::into),
            groups: vec!["leads".into()],
            locale: None,
            roles: Vec::new(),
            clearance: None,
            closed,
        }
    }

    fn directory() -> Directory {
        let units = [
            unit("department:vertrieb", "Vertrieb", None),
            unit("team:innen", "Innendienst", Some("vertrieb")),
        ];
        let people = [
            person("anna", Some("innen"), false),
            person("bert", Some("innen"), true),
            person("carl", None, false),
        ];
        Directory {
            company: Some(Company { id: "werk".to_owned(), name: "Werk GmbH".to_owned() }),
            units: units
                .into_iter()
                .map(|unit| (unit.node.to_string().split_once(':').unwrap().1.into(), unit))
                .collect(),
            people: people.into_iter().map(|person| (person.id.clone(), person)).collect(),
            ..Directory::default()
        }
    }

    #[test]
    fn the_tree_shows_who_belongs_where() {
        insta::assert_snapshot!(tree(&directory(), false, Locale::En), @r"
        company  Werk GmbH
          department:vertrieb  Vertrieb
            team:innen  Innendienst
              person:anna  ANNA <anna@werk.example> [leads]
          person:carl  CARL <carl@werk.example> [leads]
        ");
        assert!(
            tree(&directory(), true, Locale::De)
                .contains("BERT <bert@werk.example> [leads] (geschlossen)")
        );
    }
}
