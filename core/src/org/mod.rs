//! Who is who: the company's tree, its people, their identities, groups, roles and keys.
//!
//! [`Directory`] is the whole of it at one moment, kept in memory and replaced when it changes.
//! Knows nothing of budgets or SQL; [`import`] reads the organisation file.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::caller::{Caller, Channel};
use crate::ids::{Group, KeyId, ModelId, Node, PersonId, UseCase};
use crate::request::{Locale, Sensitivity};

pub mod import;
pub mod key;

/// The company.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Company {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// A department or a team. Departments and teams nest freely; ids are unique among both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// `Department` or `Team` with its id.
    pub node: Node,
    /// Its name.
    pub name: String,
    /// Id of the unit above; `None`: the company.
    pub parent: Option<Arc<str>>,
    /// Closed units keep their history and take no calls.
    pub closed: bool,
}

impl Unit {
    /// Its id; `None` where the node is no department or team.
    pub fn id(&self) -> Option<&Arc<str>> {
        match &self.node {
            Node::Department(id) | Node::Team(id) => Some(id),
            _ => None,
        }
    }
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The id of the organisation file.
    pub id: PersonId,
    /// The name.
    pub name: String,
    /// The e-mail address, lower case.
    pub email: Option<String>,
    /// Id of the unit they belong to; `None`: the company.
    pub parent: Option<Arc<str>>,
    /// Groups.
    pub groups: Vec<Group>,
    /// Language of texts to them; `None`: the face decides.
    pub locale: Option<Locale>,
    /// Roles such as `admin`, `lead`, `finance`, `auditor`.
    pub roles: Vec<String>,
    /// The highest sensitivity they may handle, if that is limited.
    pub clearance: Option<Sensitivity>,
    /// Closed people keep their history and may not ask.
    pub closed: bool,
}

/// What a key is limited to; `None`: no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyLimits {
    /// Requests in any 60 seconds.
    pub requests_per_minute: Option<u32>,
    /// Tokens, input and output, in any 60 seconds.
    pub tokens_per_minute: Option<u64>,
    /// Calls at once.
    pub parallel: Option<u32>,
    /// Models that may be used.
    pub models: Option<Vec<ModelId>>,
    /// The moment from which the key is dead.
    pub expires_at: Option<Timestamp>,
}

/// An API key, without the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its public id.
    pub id: KeyId,
    /// SHA-256 of the key, hexadecimal, lower case.
    pub hash: String,
    /// Where its calls are booked.
    pub node: Node,
    /// A name for people.
    pub name: String,
    /// What its calls are for.
    pub use_case: Option<UseCase>,
    /// Its limits.
    pub limits: KeyLimits,
    /// A level below which nothing of it is handled.
    pub floor: Option<Sensitivity>,
    /// Whether its calls are kept as conversations of its person.
    pub keep_history: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// Everyone and everything, at one moment.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    /// Counts changes; a larger one is newer.
    pub revision: i64,
    /// The company, once it was imported.
    pub company: Option<Company>,
    /// Departments and teams by id.
    pub units: BTreeMap<Arc<str>, Unit>,
    /// People by id.
    pub people: BTreeMap<PersonId, Person>,
    /// Keys by hash.
    pub keys: HashMap<String, Arc<ApiKey>>,
}

/// Why a node or a person cannot be found or used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownCaller {
    /// Nobody has this id or address.
    #[error("there is no person `{0}`; `stellwerk org show` lists them")]
    Person(String),
    /// The person is closed.
    #[error("the person `{0}` is closed")]
    Closed(String),
    /// No unit, key or person stands behind the node.
    #[error("there is no node `{0}`; `stellwerk org show` lists them")]
    Node(Node),
}

impl Directory {
    /// A person by id, `person:ID` or e-mail address, in any case of letters for the address.
    pub fn person(&self, written: &str) -> Result<&Person, UnknownCaller> {
        let id = written.strip_prefix("person:").unwrap_or(written);
        let by_mail = || {
            let mail = written.to_lowercase();
            self.people.values().find(|person| person.email.as_deref() == Some(mail.as_str()))
        };
        let person = self
            .people
            .get(id)
            .or_else(by_mail)
            .ok_or_else(|| UnknownCaller::Person(written.to_owned()))?;
        if person.closed { Err(UnknownCaller::Closed(written.to_owned())) } else { Ok(person) }
    }

    /// The company and the units above and including the unit of this id, company first. A unit
    /// that is missing or a circle in the data ends the climb.
    pub fn path(&self, unit: Option<&str>) -> Vec<Node> {
        let mut path = Vec::new();
        let mut next = unit;
        while let Some(unit) = next.and_then(|id| self.units.get(id)) {
            if path.contains(&unit.node) {
                break;
            }
            path.push(unit.node.clone());
            next = unit.parent.as_deref();
        }
        path.push(Node::Company);
        path.reverse();
        path
    }

    /// Whether something stands behind the node. Use cases need no declaration.
    pub fn has(&self, node: &Node) -> bool {
        match node {
            Node::Company | Node::UseCase(_) => true,
            Node::Department(id) | Node::Team(id) => {
                self.units.get(id).is_some_and(|unit| unit.node == *node)
            }
            Node::Person(id) => self.people.contains_key(id),
            Node::Key(id) => self.keys.values().any(|key| key.id == *id),
        }
    }

    /// A caller for a person, by any channel.
    pub fn caller_of_person(&self, person: &Person, channel: Channel) -> Caller {
        let mut levels = self.path(person.parent.as_deref());
        let node = Node::Person(person.id.clone());
        levels.push(node.clone());
        Caller {
            person: Some(person.id.clone()),
            node,
            levels: levels.into(),
            groups: person.groups.clone().into(),
            clearance: person.clearance,
            locale: person.locale.unwrap_or_default(),
            ..Caller::company(channel)
        }
    }

    /// A caller for a key. The levels are those above the key's node, the node, and the key.
    pub fn caller_of_key(&self, key: &ApiKey, channel: Channel) -> Result<Caller, UnknownCaller> {
        let mut caller = match &key.node {
            Node::Person(id) => self.caller_of_person(self.person(id.as_str())?, channel),
            Node::Department(id) | Node::Team(id) => {
                let unit = self.units.get(id).filter(|unit| unit.node == key.node && !unit.closed);
                unit.ok_or_else(|| UnknownCaller::Node(key.node.clone()))?;
                Caller { levels: self.path(Some(id)).into(), ..Caller::company(channel) }
            }
            Node::Company => Caller::company(channel),
            Node::UseCase(name) => {
                Caller { use_case: Some(name.clone()), ..Caller::company(channel) }
            }
            Node::Key(_) => return Err(UnknownCaller::Node(key.node.clone())),
        };
        let mut levels = caller.levels.to_vec();
        levels.push(Node::Key(key.id.clone()));
        caller.levels = levels.into();
        caller.node = key.node.clone();
        caller.key = Some(key.id.clone());
        caller.use_case = key.use_case.clone().or(caller.use_case);
        caller.models = key.limits.models.clone().map(Into::into);
        caller.floor = key.floor;
        Ok(caller)
    }
}
