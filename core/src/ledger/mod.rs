//! What was spent, by whom, on what, why.
//!
//! One [`Entry`] is one attempt at one model. Knows nothing of SQL (`store` keeps entries) nor
//! of how usage is read from a vendor; [`account`](mod@account) turns usage and an ending into
//! a bill, by the rules of the money chapter.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::caller::Channel;
use crate::ids::{KeyId, ModelId, Node, PersonId, PolicyId, ProviderId, RequestId, UseCase};
use crate::money::{Cost, Currency, Price};
use crate::reply::Usage;
use crate::request::{Sensitivity, TaskKind, Zone, word_enum};

pub mod account;
pub mod export;

word_enum! {
    /// Why an attempt was made.
    AttemptReason {
        /// The first of its call.
        First = "first",
        /// The same deployment again.
        Retry = "retry",
        /// Another deployment or model, because the one before failed.
        Failover = "failover",
        /// A stronger model, because the answer was not good enough.
        Escalation = "escalation",
        /// A second place, because the first was silent.
        Hedge = "hedge",
        /// The judge's question.
        Judge = "judge",
    }
}

word_enum! {
    /// What is special about a row.
    Flag {
        /// Tokens were counted here, not told by the vendor.
        Estimated = "estimated",
        /// Settled after a crash.
        Recovered = "recovered",
        /// Answered from the cache.
        Cached = "cached",
        /// The vendor may bill something that nobody told us.
        Unknown = "unknown",
    }
}

word_enum! {
    /// How an attempt ended.
    Ending {
        /// Whole.
        Complete = "complete",
        /// The client went away.
        ClientGone = "client_gone",
        /// The connection broke.
        Cut = "cut",
        /// Nothing came for too long.
        Stalled = "stalled",
        /// The vendor refused or failed.
        Error = "error",
        /// A success that cannot be read.
        Malformed = "malformed",
        /// The process died.
        Recovered = "recovered",
    }
}

/// One row of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The time of the hold: it decides the period.
    pub time: Timestamp,
    /// The call.
    pub request_id: RequestId,
    /// 1, 2, …
    pub attempt: u32,
    /// Why it was made.
    pub reason: AttemptReason,
    /// Which model.
    pub model: ModelId,
    /// The version that the vendor says it ran.
    pub vendor_model: Option<String>,
    /// Whose access.
    pub provider: ProviderId,
    /// Where it ran.
    pub zone: Zone,
    /// The level that counted for what was sent.
    pub sensitivity: Sensitivity,
    /// Who asked.
    pub person: Option<PersonId>,
    /// With which key.
    pub key: Option<KeyId>,
    /// Where it is booked.
    pub node: Node,
    /// Every level that was charged, company first.
    pub levels: Vec<Node>,
    /// For what.
    pub use_case: Option<UseCase>,
    /// Through which door.
    pub channel: Channel,
    /// What kind of work.
    pub task: Option<TaskKind>,
    /// Which policy decided.
    pub policy: Option<PolicyId>,
    /// Milliseconds from the call to the end.
    pub duration_ms: Option<u64>,
    /// Milliseconds from the call to the first token.
    pub first_token_ms: Option<u64>,
    /// The caller's pairs.
    pub metadata: BTreeMap<String, String>,
    /// Tokens that are billed, after the rules.
    pub usage: Usage,
    /// What it cost.
    pub cost: Cost,
    /// The company's currency.
    pub currency: Currency,
    /// The price and the rate that were used.
    pub price: Price,
    /// What is special.
    pub flags: Vec<Flag>,
    /// How it ended.
    pub ending: Ending,
}
