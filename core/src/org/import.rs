//! The organisation file: TOML or CSV → a plan that the store writes whole or not at all.
//!
//! [`ImportPlan::from_toml`] and [`ImportPlan::from_csv`] find what is wrong in the file itself,
//! all of it at once and with its line; [`ImportPlan::check`] finds what does not fit the
//! organisation as it is. Knows nothing of SQL.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::ids::{Node, PersonId};
use crate::money::Cost;
use crate::org::{Company, Directory, Person, Unit};
use crate::period::Budget;
use crate::request::{BudgetPeriod, Locale, Sensitivity};

#[cfg(test)]
mod tests;
mod written;

use written::{Kind, Row};

/// What an organisation file says, checked: ids unique, parents there, no circle.
#[derive(Debug, Clone, Default)]
pub struct ImportPlan {
    /// The company, if the file names it.
    pub company: Option<Company>,
    /// Departments and teams.
    pub units: Vec<Unit>,
    /// People.
    pub people: Vec<Person>,
    /// Budgets.
    pub budgets: Vec<Budget>,
    /// Whether units and people that are not in the file are closed.
    pub prune: bool,
    /// Where each node and budget stands in the file, for the findings of [`ImportPlan::check`].
    pub lines: ImportLines,
}

/// The lines of a file, by what stands there.
#[derive(Debug, Clone, Default)]
pub struct ImportLines(HashMap<Named, usize>);

/// What has a line of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Named {
    Node(Node),
    Budget(Node, BudgetPeriod),
}

/// What an import did.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct ImportReport {
    /// Units and people that were new.
    pub added: u64,
    /// That were changed.
    pub changed: u64,
    /// That were already so.
    pub unchanged: u64,
    /// That were closed.
    pub closed: u64,
    /// Budgets that were set or changed.
    pub budgets: u64,
}

/// Something that is wrong in an organisation file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ImportFinding {
    /// The line, from 1, if it is known.
    pub line: Option<usize>,
    /// What is wrong and what to do, in English.
    pub message: String,
    /// The same in German.
    pub message_de: String,
}

impl ImportFinding {
    fn new(line: Option<usize>, en: impl Into<String>, de: impl Into<String>) -> Self {
        ImportFinding { line, message: en.into(), message_de: de.into() }
    }
}

impl std::fmt::Display for ImportFinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl ImportPlan {
    /// Reads a TOML file: `[company]`, `[[department]]`, `[[team]]`, `[[person]]`, `[[budget]]`.
    pub fn from_toml(text: &str) -> Result<ImportPlan, Vec<ImportFinding>> {
        Reading::of(written::read_toml(text)).finish()
    }

    /// Reads a CSV file with a header line; each line says in `kind` what it is. The delimiter
    /// is a comma or a semicolon, as the header has it; lists are separated by semicolons.
    pub fn from_csv(text: &str) -> Result<ImportPlan, Vec<ImportFinding>> {
        Reading::of(written::read_csv(text)).finish()
    }

    /// What of the plan does not fit the organisation as it is: parents that are nowhere,
    /// circles, addresses that somebody else has, budgets on nothing.
    pub fn check(&self, known: &Directory) -> Vec<ImportFinding> {
        Fitting {
            plan: self,
            known,
            units: self.units.iter().filter_map(keyed).collect(),
            people: self.people.iter().map(|person| &person.id).collect(),
            emails: known.people.values().filter_map(addressed).collect(),
        }
        .check()
    }

    fn line(&self, node: &Node) -> Option<usize> {
        self.lines.0.get(&Named::Node(node.clone())).copied()
    }
}

fn keyed(unit: &Unit) -> Option<(&str, &Unit)> {
    unit.id().map(|id| (&**id, unit))
}

fn addressed(person: &Person) -> Option<(&str, &Person)> {
    person.email.as_deref().filter(|_| !person.closed).map(|email| (email, person))
}

/// Turns rows into a plan and collects what is wrong on the way.
#[derive(Default)]
struct Reading {
    plan: ImportPlan,
    findings: Vec<ImportFinding>,
    unit_ids: BTreeSet<Arc<str>>,
    person_ids: BTreeSet<PersonId>,
    emails: BTreeSet<String>,
}

impl Reading {
    fn of((rows, findings): (Vec<Row>, Vec<ImportFinding>)) -> Self {
        let mut reading = Reading { findings, ..Reading::default() };
        for row in rows {
            reading.take(row);
        }
        reading
    }

    fn take(&mut self, mut row: Row) {
        match row.kind {
            Kind::Company => self.company(&mut row),
            Kind::Department => self.unit(&mut row, Node::Department),
            Kind::Team => self.unit(&mut row, Node::Team),
            Kind::Person => self.person(&mut row),
            Kind::Budget => self.budget(&mut row),
        }
        self.findings.append(&mut row.findings);
    }

    fn company(&mut self, row: &mut Row) {
        let Some(id) = row.id() else { return };
        if self.plan.company.is_some() {
            row.wrong("the company is named twice", "die Firma ist zweimal genannt");
        }
        let name = row.text("name").unwrap_or_else(|| id.clone());
        self.plan.company = Some(Company { id, name });
    }

    fn unit(&mut self, row: &mut Row, node: impl Fn(Arc<str>) -> Node) {
        let Some(written) = row.id() else { return };
        let id: Arc<str> = written.clone().into();
        if !self.unit_ids.insert(id.clone()) {
            row.wrong(
                format!("the id `{id}` is used twice; departments and teams share their ids"),
                format!(
                    "die Kennung `{id}` kommt zweimal vor; Abteilungen und Teams teilen sich ihre Kennungen"
                ),
            );
        }
        let unit = Unit {
            node: node(id),
            name: row.text("name").unwrap_or(written),
            parent: row.text("parent").map(Into::into),
            closed: false,
        };
        self.note(Named::Node(unit.node.clone()), row);
        self.plan.units.push(unit);
    }

    fn person(&mut self, row: &mut Row) {
        let Some(written) = row.id() else { return };
        let id = PersonId::from(written.clone());
        if !self.person_ids.insert(id.clone()) {
            row.wrong(
                format!("the person `{id}` is there twice"),
                format!("die Person `{id}` kommt zweimal vor"),
            );
        }
        let email = row.text("email").map(|email| email.to_lowercase());
        if let Some(email) = &email {
            self.email(email, row);
        }
        let person = Person {
            name: row.text("name").unwrap_or(written),
            email,
            parent: row.text("parent").map(Into::into),
            groups: row.list("groups").into_iter().map(Into::into).collect(),
            locale: row.word("locale", "de, en", locale_of),
            roles: row.list("roles"),
            clearance: row.word(
                "clearance",
                "public, internal, confidential, restricted",
                Sensitivity::from_word,
            ),
            closed: false,
            id,
        };
        self.note(Named::Node(Node::Person(person.id.clone())), row);
        self.plan.people.push(person);
    }

    fn email(&mut self, email: &str, row: &mut Row) {
        let (user, host) = email.split_once('@').unwrap_or(("", ""));
        if user.is_empty() || host.is_empty() || email.contains(char::is_whitespace) {
            row.wrong(
                format!("`{email}` is no e-mail address"),
                format!("`{email}` ist keine E-Mail-Adresse"),
            );
        }
        if !self.emails.insert(email.to_owned()) {
            row.wrong(
                format!("the e-mail address `{email}` is used twice"),
                format!("die E-Mail-Adresse `{email}` kommt zweimal vor"),
            );
        }
    }

    fn budget(&mut self, row: &mut Row) {
        let node = row.needed("node").and_then(|written| {
            written.parse::<Node>().map_err(|error| {
                let de = format!(
                    "`{written}` ist kein Knoten; schreiben Sie company, department:ID, team:ID, person:ID, key:ID oder use-case:NAME"
                );
                row.wrong(error.to_string(), de);
            }).ok()
        });
        let limit = row.needed("amount").and_then(|written| {
            written.parse::<Cost>().map_err(|error| {
                let de = format!(
                    "`{written}` ist kein Betrag; schreiben Sie zum Beispiel 12.50 mit höchstens neun Nachkommastellen"
                );
                row.wrong(error.to_string(), de);
            }).ok()
        });
        let words = "day, week, month, quarter, year";
        // `budget set` needs the period said too: a budget for a year that was meant for a month
        // is found when the money is gone.
        let period = row
            .needed("period")
            .and_then(|written| row.read_word("period", &written, words, BudgetPeriod::from_word));
        let soft = row.flag("soft");
        let (Some(node), Some(limit), Some(period)) = (node, limit, period) else { return };
        let named = Named::Budget(node.clone(), period);
        if self.plan.lines.0.contains_key(&named) {
            row.wrong(
                format!("the budget of `{node}` for a {period} is there twice"),
                format!("das Budget von `{node}` für `{period}` kommt zweimal vor"),
            );
        }
        self.note(named, row);
        self.plan.budgets.push(Budget { node, period, limit, soft });
    }

    fn note(&mut self, named: Named, row: &Row) {
        self.plan.lines.0.insert(named, row.line);
    }

    fn finish(mut self) -> Result<ImportPlan, Vec<ImportFinding>> {
        if self.findings.is_empty() {
            return Ok(self.plan);
        }
        self.findings.sort_by_key(|finding| finding.line);
        Err(self.findings)
    }
}

/// `de`, `de-DE`, `en_GB`: the languages that texts to people exist in.
fn locale_of(word: &str) -> Option<Locale> {
    let language = word.split(['-', '_']).next().unwrap_or_default();
    match language.to_ascii_lowercase().as_str() {
        "de" => Some(Locale::De),
        "en" => Some(Locale::En),
        _ => None,
    }
}

/// Compares a plan with the organisation as it is.
struct Fitting<'a> {
    plan: &'a ImportPlan,
    known: &'a Directory,
    units: BTreeMap<&'a str, &'a Unit>,
    people: BTreeSet<&'a PersonId>,
    /// Who has which address now.
    emails: BTreeMap<&'a str, &'a Person>,
}

/// Why a parent will not do.
enum BadParent {
    Nowhere,
    Closed,
}

impl Fitting<'_> {
    fn check(&self) -> Vec<ImportFinding> {
        let mut findings = Vec::new();
        for (id, unit) in &self.units {
            findings.extend(self.parent(&unit.node, unit.parent.as_deref()));
            findings.extend(self.kind(id, unit));
            findings.extend(self.circle(id, unit));
        }
        for person in &self.plan.people {
            let node = Node::Person(person.id.clone());
            findings.extend(self.parent(&node, person.parent.as_deref()));
            findings.extend(self.email(person));
        }
        findings.extend(self.plan.budgets.iter().filter_map(|budget| self.budget(budget)));
        findings.sort_by_key(|finding| finding.line);
        findings
    }

    /// The unit of this id as it will be after the import.
    fn unit(&self, id: &str) -> Result<&Unit, BadParent> {
        if let Some(unit) = self.units.get(id) {
            return Ok(unit);
        }
        match self.known.units.get(id) {
            None => Err(BadParent::Nowhere),
            Some(unit) if unit.closed || self.plan.prune => Err(BadParent::Closed),
            Some(unit) => Ok(unit),
        }
    }

    fn parent(&self, node: &Node, parent: Option<&str>) -> Option<ImportFinding> {
        let parent = parent?;
        let line = self.plan.line(node);
        match self.unit(parent).err()? {
            BadParent::Nowhere => Some(ImportFinding::new(
                line,
                format!(
                    "the parent `{parent}` of `{node}` is no department or team; add it to the file or correct the id"
                ),
                format!(
                    "das übergeordnete `{parent}` von `{node}` ist keine Abteilung und kein Team; ergänzen Sie es in der Datei oder berichtigen Sie die Kennung"
                ),
            )),
            BadParent::Closed => Some(ImportFinding::new(
                line,
                format!(
                    "the parent `{parent}` of `{node}` is closed; add it to the file to open it again, or name another"
                ),
                format!(
                    "das übergeordnete `{parent}` von `{node}` ist geschlossen; nehmen Sie es in die Datei auf, um es wieder zu öffnen, oder nennen Sie ein anderes"
                ),
            )),
        }
    }

    /// Rows and budgets name a unit by kind and id, so it cannot become the other kind.
    fn kind(&self, id: &str, unit: &Unit) -> Option<ImportFinding> {
        let before = self.known.units.get(id).filter(|known| known.node != unit.node)?;
        Some(ImportFinding::new(
            self.plan.line(&unit.node),
            format!(
                "`{}` cannot become `{}`: its budgets and its history name it so; use another id",
                before.node, unit.node
            ),
            format!(
                "`{}` kann nicht zu `{}` werden: Budgets und Verlauf nennen es so; nehmen Sie eine andere Kennung",
                before.node, unit.node
            ),
        ))
    }

    fn circle(&self, id: &str, unit: &Unit) -> Option<ImportFinding> {
        let mut seen = BTreeSet::from([id]);
        let mut parent = unit.parent.as_deref();
        while let Some(above) = parent {
            if above == id {
                return Some(ImportFinding::new(
                    self.plan.line(&unit.node),
                    format!("`{}` stands below itself", unit.node),
                    format!("`{}` ist sich selbst untergeordnet", unit.node),
                ));
            }
            // A circle further up is told where it is.
            if !seen.insert(above) {
                return None;
            }
            parent = self.unit(above).ok().and_then(|unit| unit.parent.as_deref());
        }
        None
    }

    fn email(&self, person: &Person) -> Option<ImportFinding> {
        let email = person.email.as_ref()?;
        let other = self.emails.get(email.as_str())?;
        let keeps_it =
            other.id != person.id && !self.plan.prune && !self.people.contains(&other.id);
        if !keeps_it {
            return None;
        }
        Some(ImportFinding::new(
            self.plan.line(&Node::Person(person.id.clone())),
            format!("the e-mail address `{email}` belongs to the person `{}` already", other.id),
            format!("die E-Mail-Adresse `{email}` gehört schon der Person `{}`", other.id),
        ))
    }

    fn budget(&self, budget: &Budget) -> Option<ImportFinding> {
        let node = &budget.node;
        let in_file = match node {
            Node::Department(id) | Node::Team(id) => {
                self.units.get(&**id).is_some_and(|unit| unit.node == *node)
            }
            Node::Person(id) => self.people.contains(id),
            _ => false,
        };
        if in_file || self.known.has(node) {
            return None;
        }
        let named = Named::Budget(node.clone(), budget.period);
        Some(ImportFinding::new(
            self.plan.lines.0.get(&named).copied(),
            format!("there is no `{node}` for this budget; add it to the file or correct the id"),
            format!(
                "es gibt kein `{node}` für dieses Budget; ergänzen Sie es in der Datei oder berichtigen Sie die Kennung"
            ),
        ))
    }
}
