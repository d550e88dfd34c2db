//! Names for things: every id is a type of its own, so that the compiler notices a swap.
//!
//! Knows nothing of what the ids stand for. Ids that people write (models, providers, policies,
//! nodes) are cheap to clone; ids that the house makes are time-ordered.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the name as it is written.
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }

            /// The name as it was written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.into())
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self(name.into())
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_id!(
    /// The name that callers and policies use for a model, `mini`.
    ModelId
);
name_id!(
    /// A configured access to a vendor, `openai-eu`.
    ProviderId
);
name_id!(
    /// A routing policy, `default`.
    PolicyId
);
name_id!(
    /// A person of the organisation, by the id that the organisation file gives.
    PersonId
);
name_id!(
    /// The public part of an API key; never the key itself.
    KeyId
);
name_id!(
    /// A label for what a call is for, `offers`.
    UseCase
);
name_id!(
    /// A group of people, `leads`.
    Group
);
name_id!(
    /// One running process of Stellwerk; its holds carry it.
    ProcessId
);
name_id!(
    /// One request through the walk, `req_018f…`; time-ordered.
    RequestId
);
name_id!(
    /// One hold, from reserving to settling.
    HoldId
);

impl RequestId {
    /// A new id, later ones sort after earlier ones.
    pub fn fresh() -> Self {
        // The library's own `now_v7` asks the system for every few random bytes; the thread's
        // generator, seeded by the system, answers in nanoseconds.
        let moment = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let moment = moment.unwrap_or_default().as_millis();
        let moment = u64::try_from(moment).unwrap_or(u64::MAX);
        let random: [u8; 10] = rand::random();
        let id = uuid::Builder::from_unix_timestamp_millis(moment, &random).into_uuid();
        let mut written = String::with_capacity(36);
        written.push_str("req_");
        written.push_str(id.simple().encode_lower(&mut uuid::Uuid::encode_buffer()));
        Self::from(written)
    }
}

impl HoldId {
    /// The hold of one attempt of one request.
    pub fn of(request: &RequestId, attempt: u32) -> Self {
        Self::from(format!("{request}/{attempt}"))
    }
}

impl ProcessId {
    /// A new id for this process.
    pub fn fresh() -> Self {
        Self::from(uuid::Uuid::now_v7().simple().to_string())
    }
}

/// A place where money is counted, written `company`, `department:ID`, `team:ID`, `person:ID`,
/// `key:ID` or `use-case:NAME`, in commands and in every output.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// The whole company.
    Company,
    /// A department.
    Department(Arc<str>),
    /// A team.
    Team(Arc<str>),
    /// One person.
    Person(PersonId),
    /// One API key.
    Key(KeyId),
    /// One use case, wherever in the tree it is called from.
    UseCase(UseCase),
}

impl Node {
    /// The word before the colon: `company`, `department`, `team`, `person`, `key`, `use-case`.
    pub fn kind(&self) -> &'static str {
        match self {
            Node::Company => "company",
            Node::Department(_) => "department",
            Node::Team(_) => "team",
            Node::Person(_) => "person",
            Node::Key(_) => "key",
            Node::UseCase(_) => "use-case",
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Company => f.write_str("company"),
            Node::Department(id) | Node::Team(id) => write!(f, "{}:{id}", self.kind()),
            Node::Person(id) => write!(f, "person:{id}"),
            Node::Key(id) => write!(f, "key:{id}"),
            Node::UseCase(name) => write!(f, "use-case:{name}"),
        }
    }
}

/// A node that was not written as one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no node; write company, department:ID, team:ID, person:ID, key:ID or use-case:NAME"
)]
pub struct NotANode(String);

impl std::str::FromStr for Node {
    type Err = NotANode;

    fn from_str(written: &str) -> Result<Self, NotANode> {
        if written == "company" {
            return Ok(Node::Company);
        }
        let not_a_node = || NotANode(written.to_owned());
        let (kind, id) = written.split_once(':').ok_or_else(not_a_node)?;
        if id.trim().is_empty() {
            return Err(not_a_node());
        }
        match kind {
            "department" => Ok(Node::Department(id.into())),
            "team" => Ok(Node::Team(id.into())),
            "person" => Ok(Node::Person(id.into())),
            "key" => Ok(Node::Key(id.into())),
            "use-case" => Ok(Node::UseCase(id.into())),
            _ => Err(not_a_node()),
        }
    }
}

impl Serialize for Node {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = String::deserialize(deserializer)?;
        written.parse().map_err(serde::de::Error::custom)
    }
}
