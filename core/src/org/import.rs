//! The organisation file: TOML or CSV → a plan that the store writes whole or not at all.

use crate::budget::Budget;
use crate::org::{Company, Person, Unit};

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

impl ImportPlan {
    /// What of the plan does not fit the organisation as it is.
    pub fn check(&self, known: &crate::org::Directory) -> Vec<ImportFinding> {
        let _ = known;
        Vec::new()
    }
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
