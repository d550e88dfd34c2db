//! Who asks: the person, their place in the tree, the channel and the key.
//!
//! A `Caller` is made by a face from a key, a sign-in or a chat identity; the walk trusts it.
//! Knows nothing of how the caller proved who they are.

use std::sync::Arc;

use crate::ids::{Group, KeyId, ModelId, Node, PersonId, UseCase};
use crate::request::{Locale, Sensitivity, word_enum};

word_enum! {
    /// Through which door a request came.
    Channel {
        /// Slack.
        Slack = "slack",
        /// Microsoft Teams.
        Teams = "teams",
        /// Discord.
        Discord = "discord",
        /// The desktop app.
        Desktop = "desktop",
        /// The web app.
        Web = "web",
        /// A program over the API.
        Api = "api",
        /// The command line.
        Cli = "cli",
    }
}

/// Who asks, and where their spending is counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Caller {
    /// The person, if there is one behind the call.
    pub person: Option<PersonId>,
    /// The place that the ledger row names: the key's node, or the person's.
    pub node: Node,
    /// Every level that is checked and charged, from the company down to person and key, without
    /// the use case, which the request may set.
    pub levels: Arc<[Node]>,
    /// The groups of the person.
    pub groups: Arc<[Group]>,
    /// The highest sensitivity that the person may handle, if that is limited.
    pub clearance: Option<Sensitivity>,
    /// The door.
    pub channel: Channel,
    /// The API key.
    pub key: Option<KeyId>,
    /// The use case of the key; a request may name another only where the key has none.
    pub use_case: Option<UseCase>,
    /// Models that the key is limited to.
    pub models: Option<Arc<[ModelId]>>,
    /// A level below which nothing of this key is handled.
    pub floor: Option<Sensitivity>,
    /// The language of texts to the caller.
    pub locale: Locale,
}

impl Caller {
    /// A caller without person or key, booked on the company.
    pub fn company(channel: Channel) -> Self {
        Caller {
            person: None,
            node: Node::Company,
            levels: [Node::Company].into(),
            groups: Arc::default(),
            clearance: None,
            channel,
            key: None,
            use_case: None,
            models: None,
            floor: None,
            locale: Locale::En,
        }
    }
}
