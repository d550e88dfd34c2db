//! What every kind of call keeps on its way: who asks, what was decided, what it has cost so far.
//!
//! Answers and vectors take different ways and share this: the row before it is written, holding
//! and settling with the story kept, and how a refusal is made. Knows nothing of streams.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use super::attempt::{self, Attempt, NoHold, Plan, Settled};
use super::walk::LONG_TEXT;
use super::words::{budget_words, upstream_words};
use super::{Inner, Live, internal};
use crate::catalog::Model;
use crate::ids::{Node, UseCase};
use crate::ledger::{AttemptReason, Ending, Entry};
use crate::money::Cost;
use crate::provider::ProviderError;
use crate::reply::{BudgetRefusal, Done, Failure, FailureKind, Words};
use crate::request::{Call, Sensitivity, Target, TaskKind};
use crate::route::Refused;
use crate::store::StoreError;
use crate::trace::{Classification, Decision, Place, Trace};

/// One call on its way, without what it asks.
pub(super) struct Course {
    pub inner: Arc<Inner>,
    pub live: Arc<Live>,
    pub call: Call<()>,
    pub started: Instant,
    pub use_case: Option<UseCase>,
    /// Every level that is charged: the caller's and the use case.
    pub levels: Vec<Node>,
    pub trace: Trace,
    /// Attempts that have a number.
    pub attempts: u32,
    /// What all attempts cost together.
    pub cost: Cost,
}

/// How sensitive a request was found to be, and what kind of work.
#[derive(Clone, Copy)]
pub(super) struct Weighed {
    /// What counts when findings are hidden.
    pub level: Sensitivity,
    /// What the findings mean where they are not; `None`: nothing was found.
    pub findings: Option<Sensitivity>,
    pub task: Option<TaskKind>,
}

impl Course {
    /// Takes the request out of a call and begins its story.
    pub(super) fn begin<R>(inner: Arc<Inner>, call: Call<R>) -> (Course, R) {
        let live = inner.live.load_full();
        let Call { id, caller, target, request, options } = call;
        let use_case = caller.use_case.clone().or_else(|| options.use_case.clone());
        let levels = levels_of(&caller.levels, use_case.as_ref());
        let trace = Trace::new(id.clone(), caller.node.clone(), caller.channel);
        let course = Course {
            inner,
            live,
            started: Instant::now(),
            use_case,
            levels,
            trace,
            attempts: 0,
            cost: Cost::ZERO,
            call: Call { id, caller, target, request: (), options },
        };
        (course, request)
    }

    /// What the classifier found, raised by request, key and policy.
    pub(super) fn level(&self, found: &Classification) -> Sensitivity {
        let said = self.call.options.sensitivity.unwrap_or(Sensitivity::Public);
        careful_level(found).max(said).max(self.floor())
    }

    /// The level below which nothing of this key or this policy is handled. It counts for
    /// everything that follows from the request: places, rules, the judge and the row.
    fn floor(&self) -> Sensitivity {
        let of_policy = match &self.call.target {
            Target::Policy(id) => self.live.config.policies.get(id).and_then(|policy| policy.floor),
            Target::Model(_) => None,
        };
        self.call.caller.floor.max(of_policy).unwrap_or(Sensitivity::Public)
    }

    /// The row of the next attempt as far as it is known before the call.
    pub(super) fn draft(
        &mut self,
        reason: AttemptReason,
        model: &Model,
        place: &Place,
        decision: &Decision,
        weighed: Weighed,
    ) -> Entry {
        self.attempts += 1;
        let caller = &self.call.caller;
        let sent_as_it_is = weighed.findings.filter(|_| !place.redact);
        Entry {
            time: attempt::now(),
            request_id: self.call.id.clone(),
            attempt: self.attempts,
            reason,
            model: model.id.clone(),
            vendor_model: None,
            provider: place.provider.clone(),
            zone: place.zone,
            sensitivity: weighed.level.max(sent_as_it_is.unwrap_or(Sensitivity::Public)),
            person: caller.person.clone(),
            key: caller.key.clone(),
            node: caller.node.clone(),
            levels: self.levels.clone(),
            use_case: self.use_case.clone(),
            channel: caller.channel,
            task: weighed.task,
            policy: decision.policy.clone(),
            duration_ms: None,
            first_token_ms: None,
            metadata: self.call.options.metadata.clone(),
            usage: Default::default(),
            cost: Cost::ZERO,
            currency: self.live.config.money.currency.clone(),
            price: model.deployments[place.deployment].price.clone(),
            flags: Vec::new(),
            ending: Ending::Recovered,
        }
    }

    /// Leave to read so many bytes. Short texts need none; long ones wait for their turn, which a
    /// caller who goes away meanwhile gives up.
    pub(super) async fn turn_to_read(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        if bytes < LONG_TEXT {
            return None;
        }
        // The semaphore is never closed, and an error would only mean that nobody waits.
        self.inner.long_texts.clone().acquire_owned().await.ok()
    }

    pub(super) fn max_retries(&self, place: &Place) -> u32 {
        let provider = self.live.providers.get(&place.provider);
        provider.map_or(1, |provider| provider.limits().max_retries)
    }

    pub(super) async fn hold(&self, plan: Plan) -> Result<Attempt, NoHold> {
        let provider = self.live.providers.get(&plan.place.provider).cloned();
        let Some(provider) = provider else {
            let missing = StoreError::NotFound(format!("provider {}", plan.place.provider));
            return Err(NoHold::Failed(missing));
        };
        Attempt::hold(&self.inner, provider, plan).await
    }

    /// Settles an attempt and keeps its part of the story.
    pub(super) async fn settle(
        &mut self,
        attempt: Attempt,
        ending: Ending,
        error: Option<&ProviderError>,
    ) -> Result<Settled, Box<Failure>> {
        let settled = match attempt.settle(ending, error).await {
            Ok(settled) => settled,
            Err(error) => return Err(self.store_failed(error)),
        };
        self.cost += settled.entry.cost;
        self.trace.attempts.push(settled.trace.clone());
        Ok(settled)
    }

    /// The end of a call that this attempt answered.
    pub(super) fn done(&self, settled: Settled) -> Done {
        Done {
            attempt: settled.attempt,
            model: settled.entry.model,
            vendor_model: settled.entry.vendor_model,
            usage: settled.usage,
            estimated: settled.estimated,
            cost: self.cost,
            currency: settled.entry.currency,
            trace: Arc::new(self.trace.clone()),
        }
    }

    /// Resolves when the caller's own time limit is reached; never without one.
    pub(super) async fn time_up(&self) {
        match self.call.options.timeout_ms {
            Some(ms) => {
                let deadline = self.started + Duration::from_millis(ms);
                tokio::time::sleep_until(deadline.into()).await;
            }
            None => std::future::pending().await,
        }
    }

    // ---- failures --------------------------------------------------------------------------

    pub(super) fn failure(&self, kind: FailureKind, message: Words) -> Box<Failure> {
        let mut failure = Failure::new(self.call.id.clone(), kind, message);
        failure.trace = Some(Arc::new(self.trace.clone()));
        failure.cost = self.cost;
        Box::new(failure)
    }

    pub(super) fn fail_closed(&self) -> Box<Failure> {
        tracing::error!(request.id = %self.call.id, "a guard failed; the request was not sent");
        self.failure(
            FailureKind::Guard,
            Words::new(
                "The safety check could not run, so nothing was sent. Try again, or tell your admin.",
                "Die Sicherheitsprüfung konnte nicht laufen, daher wurde nichts gesendet. Versuchen Sie es erneut oder informieren Sie Ihre Administration.",
            ),
        )
    }

    pub(super) fn refused(&mut self, refused: Refused) -> Box<Failure> {
        self.trace.decision = Some(Decision {
            policy: None,
            strategy: "refused".to_owned(),
            candidates: Vec::new(),
            rejected: refused.rejected,
            reasons: Vec::new(),
        });
        let mut failure = self.failure(refused.kind, refused.message);
        failure.retry_after_s = refused.retry_after.map(|rest| rest.as_secs().max(1));
        failure
    }

    pub(super) fn over_budget(&self, refusal: BudgetRefusal) -> Box<Failure> {
        let money = &self.live.config.money;
        let words = budget_words(&refusal, &money.currency, &money.time_zone);
        let mut failure = self.failure(FailureKind::OverBudget, words);
        failure.budget = Some(refusal);
        failure
    }

    pub(super) fn store_failed(&self, error: StoreError) -> Box<Failure> {
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        tracing::error!(request.id = %self.call.id, %error, cause, "the store failed");
        internal(self.call.id.clone(), "the database failed")
    }

    /// Every model that may answer has all the calls at once that it may have.
    pub(super) fn all_busy(&self) -> Box<Failure> {
        let mut failure = self.failure(
            FailureKind::NoCandidate,
            Words::new(
                "Every permitted model has reached its limit of calls at once. Try again in a moment.",
                "Jedes erlaubte Modell hat seine Grenze gleichzeitiger Aufrufe erreicht. Bitte gleich noch einmal versuchen.",
            ),
        );
        failure.retry_after_s = Some(1);
        failure
    }

    pub(super) fn upstream_failed(&self, error: &ProviderError) -> Box<Failure> {
        let (kind, message) = upstream_words(error);
        let mut failure = self.failure(kind, message);
        failure.retry_after_s = error.retry_after.map(|wait| wait.as_secs().max(1));
        failure
    }
}

/// What the classifier found; where it is unsure, at least internal.
fn careful_level(found: &Classification) -> Sensitivity {
    match found.stage.as_str() {
        "off" => found.sensitivity,
        _ if found.unsure => found.sensitivity.max(Sensitivity::Internal),
        _ => found.sensitivity,
    }
}

/// Caller's levels and the use case, each once.
fn levels_of(levels: &[Node], use_case: Option<&UseCase>) -> Vec<Node> {
    let mut all = levels.to_vec();
    if let Some(use_case) = use_case {
        let node = Node::UseCase(use_case.clone());
        if !all.contains(&node) {
            all.push(node);
        }
    }
    all
}
