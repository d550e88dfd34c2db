//! Is this safe, and what must be hidden?
//!
//! [`inspect`] looks once at everything that a request would send: secrets and personal data by
//! checked patterns, attacks by rules. [`Inspection::redact`] hides what was found, per attempt;
//! a [`redact::Map`] restores it in what comes back. Knows nothing of zones' rules (`route` asks
//! which places are permitted) nor of models.

use crate::config::GuardConfig;
use crate::request::{ChatRequest, EmbedRequest, Sensitivity};
use crate::trace::Findings;

pub mod redact;

/// What was found in a request, with where it is.
#[derive(Debug, Clone, Default)]
pub struct Inspection {
    /// What the trace tells: kinds and counts.
    pub findings: Findings,
}

/// A guard could not do its work; the call does not go out.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the {guard} guard failed")]
pub struct GuardError {
    /// Which.
    pub guard: &'static str,
}

/// Looks at everything that the request would send.
pub fn inspect(request: &ChatRequest, config: &GuardConfig) -> Result<Inspection, GuardError> {
    let _ = (request, config);
    unimplemented!()
}

/// The same for texts to be embedded.
pub fn inspect_texts(
    request: &EmbedRequest,
    config: &GuardConfig,
) -> Result<Inspection, GuardError> {
    let _ = (request, config);
    unimplemented!()
}

impl Inspection {
    /// The level that the findings mean where they are sent as they are; `None`: nothing found.
    pub fn sensitivity(&self) -> Option<Sensitivity> {
        self.findings.sensitivity
    }

    /// Whether there is anything to hide.
    pub fn has_findings(&self) -> bool {
        !self.findings.kinds.is_empty()
    }

    /// Whether it is an attack: `injection` above 0.5 (CONTRACT 42).
    pub fn is_attack(&self) -> bool {
        self.findings.injection > 0.5
    }

    /// The request with what was found hidden, and the map that restores it.
    pub fn redact(&self, request: &ChatRequest) -> Result<(ChatRequest, redact::Map), GuardError> {
        let _ = request;
        unimplemented!()
    }

    /// The same for texts to be embedded; nothing needs restoring in vectors.
    pub fn redact_texts(&self, request: &EmbedRequest) -> Result<EmbedRequest, GuardError> {
        let _ = request;
        unimplemented!()
    }
}
