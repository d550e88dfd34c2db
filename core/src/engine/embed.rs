//! Texts to vectors: the walk without judge and stream.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::attempt::{self, Attempt, NoHold, Payload, Plan};
use super::walk::{Next, aside, careful_level, findings_level, floor, levels_of, next_move};
use super::words::{attack_words, budget_words, time_up_words, upstream_words};
use super::{Inner, Live, internal};
use crate::classify::{self, Input};
use crate::config::{ClassifyMode, InjectionAction};
use crate::guard;
use crate::ledger::{AttemptReason, Ending, Entry};
use crate::money::Cost;
use crate::reply::{Done, Embedded, Failure, FailureKind, Words};
use crate::request::{Call, EmbedRequest, Sensitivity};
use crate::route::{self, Needs, Question};
use crate::trace::{Candidate, Decision, Place, Trace};

/// Runs one call for vectors and replies. A caller that goes away cancels and settles it.
pub(super) async fn embed(
    inner: Arc<Inner>,
    call: Call<EmbedRequest>,
    mut reply: oneshot::Sender<Result<Embedded, Box<Failure>>>,
) {
    let live = inner.live.load_full();
    let trace = Trace::new(call.id.clone(), call.caller.node.clone(), call.caller.channel);
    let started = Instant::now();
    let mut walk = Embedding { inner, live, call, trace, cost: Cost::ZERO, started };
    let outcome = walk.run(&mut reply).await;
    // A caller that is gone has nobody to be told.
    let _ = reply.send(outcome);
}

struct Embedding {
    inner: Arc<Inner>,
    live: Arc<Live>,
    call: Call<EmbedRequest>,
    trace: Trace,
    cost: Cost,
    started: Instant,
}

impl Embedding {
    async fn run(
        &mut self,
        reply: &mut oneshot::Sender<Result<Embedded, Box<Failure>>>,
    ) -> Result<Embedded, Box<Failure>> {
        let live = self.live.clone();
        let config = &live.config;
        let raw = Arc::new(self.call.request.clone());
        let bytes: usize = raw.input.iter().map(String::len).sum();
        let inspecting = || guard::inspect_texts(&raw, &config.guard);
        let inspection = aside(bytes as u64, inspecting).map_err(|_| self.closed())?;
        if config.guard.injection == InjectionAction::Block && inspection.is_attack() {
            return Err(self.failure(FailureKind::Guard, attack_words()));
        }
        let redacted = match inspection.has_findings() {
            true => {
                let redacting = || inspection.redact_texts(&raw);
                Arc::new(aside(bytes as u64, redacting).map_err(|_| self.closed())?)
            }
            false => raw.clone(),
        };
        let said = self.call.options.sensitivity;
        let classification = match config.classify.mode {
            ClassifyMode::Off => classify::off(said),
            _ => {
                let input = Input::text(redacted.input.join("\n"));
                aside(bytes as u64, || live.classifier.classify(&input))
            }
        };
        let level = careful_level(&classification)
            .max(said.unwrap_or(Sensitivity::Public))
            .max(floor(config, &self.call.caller, &self.call.target));
        let use_case =
            self.call.caller.use_case.clone().or_else(|| self.call.options.use_case.clone());
        let levels = levels_of(&self.call.caller.levels, use_case.as_ref());
        let decision = {
            let question = Question {
                caller: &self.call.caller,
                use_case: use_case.as_ref(),
                target: &self.call.target,
                needs: Needs::embedding(),
                classification: &classification,
                level,
                findings: findings_level(&inspection),
                fallback: &self.call.options.fallback,
                pressure: None,
                input_tokens: &|_| 0,
                // The context limit of an embedding model counts for each text alone; the
                // vendor checks it.
                input_bytes: 0,
                now: Instant::now(),
            };
            route::choose(config, &self.inner.health, &question).map_err(|refused| {
                let mut failure = self.failure(refused.kind, refused.message);
                failure.retry_after_s = refused.retry_after.map(|rest| rest.as_secs().max(1));
                failure
            })?
        };
        self.trace.guard = Some(inspection.findings.clone());
        self.trace.classification = Some(classification);
        self.trace.sensitivity = Some(level);
        self.trace.decision = Some(decision.clone());
        let draft = self.draft(&decision, level, use_case, levels);
        let places: Vec<(&Candidate, &Place)> = decision
            .candidates
            .iter()
            .flat_map(|candidate| candidate.places.iter().map(move |place| (candidate, place)))
            .collect();
        let (mut at, mut tries, mut reason, mut number) = (0, 0, AttemptReason::First, 0);
        let mut last_error = None;
        while let Some((candidate, place)) = places.get(at) {
            let Some(model) = config.catalog.get(&candidate.model).cloned() else { break };
            number += 1;
            let request = if place.redact { redacted.clone() } else { raw.clone() };
            let plan = Plan {
                payload: Payload::Embed(request),
                output_limit: 0,
                hidden: Arc::default(),
                logprobs_for_judge: false,
                draft: Entry {
                    time: attempt::now(),
                    attempt: number,
                    reason,
                    model: model.id.clone(),
                    provider: place.provider.clone(),
                    zone: place.zone,
                    price: model.deployments[place.deployment].price.clone(),
                    ..draft.clone()
                },
                place: (*place).clone(),
                model,
            };
            let mut attempt = self.hold(plan).await?;
            let outcome = tokio::select! {
                biased;
                outcome = attempt.embed() => Ok(outcome),
                stop = self.broken_off(reply) => Err(stop),
            };
            let error = match outcome {
                Ok(Ok(embeddings)) => {
                    let done = self.settle(attempt, Ending::Complete, None).await?;
                    return Ok(Embedded { vectors: embeddings.vectors, done });
                }
                Ok(Err(error)) => error,
                Err(failure) => {
                    self.settle(attempt, Ending::ClientGone, None).await?;
                    return Err(failure);
                }
            };
            self.settle(attempt, attempt::ending_of(&error), Some(&error)).await?;
            let provider = live.providers.get(&place.provider);
            let retries = provider.map_or(0, |provider| provider.limits().max_retries);
            let next = next_move(&error, tries, retries, false, at + 1 < places.len());
            last_error = Some(error);
            match next {
                Next::SamePlace(pause) => {
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        failure = self.broken_off(reply) => return Err(failure),
                    }
                    tries += 1;
                    reason = AttemptReason::Retry;
                }
                Next::OtherPlace | Next::OtherModel => {
                    at += 1;
                    tries = 0;
                    reason = AttemptReason::Failover;
                }
                Next::GiveUp => break,
            }
        }
        match last_error {
            Some(error) => Err(self.upstream_failed(&error)),
            None => Err(internal(self.call.id.clone(), "no candidate was tried")),
        }
    }

    fn draft(
        &self,
        decision: &Decision,
        level: Sensitivity,
        use_case: Option<crate::ids::UseCase>,
        levels: Vec<crate::ids::Node>,
    ) -> Entry {
        let caller = &self.call.caller;
        let first = &decision.candidates[0];
        let model = &self.live.config.catalog.get(&first.model);
        let currency = self.live.config.money.currency.clone();
        let price = model
            .map(|model| model.deployments[first.places[0].deployment].price.clone())
            .unwrap_or_else(|| crate::money::Price::free(currency.clone()));
        Entry {
            time: attempt::now(),
            request_id: self.call.id.clone(),
            attempt: 0,
            reason: AttemptReason::First,
            model: first.model.clone(),
            vendor_model: None,
            provider: first.places[0].provider.clone(),
            zone: first.places[0].zone,
            sensitivity: level,
            person: caller.person.clone(),
            key: caller.key.clone(),
            node: caller.node.clone(),
            levels,
            use_case,
            channel: caller.channel,
            task: None,
            policy: decision.policy.clone(),
            duration_ms: None,
            first_token_ms: None,
            metadata: self.call.options.metadata.clone(),
            usage: Default::default(),
            cost: Cost::ZERO,
            currency,
            price,
            flags: Vec::new(),
            ending: Ending::Recovered,
        }
    }

    async fn hold(&self, plan: Plan) -> Result<Attempt, Box<Failure>> {
        let provider = self.live.providers.get(&plan.place.provider).cloned();
        let Some(provider) = provider else {
            return Err(internal(self.call.id.clone(), "a provider is gone"));
        };
        match Attempt::hold(&self.inner, provider, plan).await {
            Ok(attempt) => Ok(attempt),
            Err(NoHold::Refused(refusal)) => {
                let money = &self.live.config.money;
                let words = budget_words(&refusal, &money.currency, &money.time_zone);
                let mut failure = self.failure(FailureKind::OverBudget, words);
                failure.budget = Some(refusal);
                Err(failure)
            }
            Err(NoHold::Failed(error)) => Err(self.store_failed(&error)),
        }
    }

    async fn settle(
        &mut self,
        attempt: Attempt,
        ending: Ending,
        error: Option<&crate::provider::ProviderError>,
    ) -> Result<Done, Box<Failure>> {
        let settled = match attempt.settle(ending, error).await {
            Ok(settled) => settled,
            Err(error) => return Err(self.store_failed(&error)),
        };
        self.cost += settled.entry.cost;
        self.trace.attempts.push(settled.trace.clone());
        Ok(Done {
            attempt: settled.attempt,
            model: settled.entry.model,
            vendor_model: settled.entry.vendor_model,
            usage: settled.usage,
            estimated: settled.estimated,
            cost: self.cost,
            currency: settled.entry.currency,
            trace: Arc::new(self.trace.clone()),
        })
    }

    /// Resolves when the caller has gone, its time is up or the server stops, with what to say.
    async fn broken_off(
        &self,
        reply: &mut oneshot::Sender<Result<Embedded, Box<Failure>>>,
    ) -> Box<Failure> {
        let time_up = async {
            match self.call.options.timeout_ms {
                Some(ms) => {
                    let deadline = self.started + Duration::from_millis(ms);
                    tokio::time::sleep_until(deadline.into()).await;
                }
                None => std::future::pending().await,
            }
        };
        let stopped = || {
            let words = Words::new("The call was broken off.", "Der Aufruf wurde abgebrochen.");
            self.failure(FailureKind::ShuttingDown, words)
        };
        tokio::select! {
            () = reply.closed() => stopped(),
            () = self.inner.stop.cancelled() => stopped(),
            () = time_up => self.failure(FailureKind::CallerTimeout, time_up_words()),
        }
    }

    fn failure(&self, kind: FailureKind, message: Words) -> Box<Failure> {
        let mut failure = Failure::new(self.call.id.clone(), kind, message);
        failure.trace = Some(Arc::new(self.trace.clone()));
        failure.cost = self.cost;
        Box::new(failure)
    }

    fn closed(&self) -> Box<Failure> {
        self.failure(
            FailureKind::Guard,
            Words::new(
                "The safety check could not run, so nothing was sent. Try again, or tell your admin.",
                "Die Sicherheitsprüfung konnte nicht laufen, daher wurde nichts gesendet. Versuchen Sie es erneut oder informieren Sie Ihre Administration.",
            ),
        )
    }

    fn upstream_failed(&self, error: &crate::provider::ProviderError) -> Box<Failure> {
        let (kind, words) = upstream_words(error);
        let mut failure = self.failure(kind, words);
        failure.retry_after_s = error.retry_after.map(|wait| wait.as_secs().max(1));
        failure
    }

    fn store_failed(&self, error: &crate::store::StoreError) -> Box<Failure> {
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        tracing::error!(request.id = %self.call.id, %error, cause, "the store failed");
        internal(self.call.id.clone(), "the database failed")
    }
}
