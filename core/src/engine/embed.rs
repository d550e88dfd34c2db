//! Texts to vectors: the walk without judge and stream.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::attempt::{self, NoHold, Payload, Plan};
use super::course::{Course, Weighed};
use super::walk::{Next, aside, findings_level, next_move};
use super::words::{attack_words, time_up_words};
use super::{Inner, internal};
use crate::classify::Input;
use crate::config::InjectionAction;
use crate::guard;
use crate::ledger::{AttemptReason, Ending};
use crate::reply::{Embedded, Failure, FailureKind, Words};
use crate::request::{Call, EmbedRequest};
use crate::route::{self, Needs, Question};
use crate::trace::{Candidate, Place};

/// Runs one call for vectors and replies. A caller that goes away cancels and settles it.
pub(super) async fn embed(
    inner: Arc<Inner>,
    call: Call<EmbedRequest>,
    mut reply: oneshot::Sender<Result<Embedded, Box<Failure>>>,
) {
    let (course, request) = Course::begin(inner, call);
    let outcome = Embedding { course, raw: Arc::new(request) }.run(&mut reply).await;
    // A caller that is gone has nobody to be told.
    let _ = reply.send(outcome);
}

struct Embedding {
    course: Course,
    raw: Arc<EmbedRequest>,
}

impl Embedding {
    async fn run(
        mut self,
        reply: &mut oneshot::Sender<Result<Embedded, Box<Failure>>>,
    ) -> Result<Embedded, Box<Failure>> {
        let live = self.course.live.clone();
        let config = &live.config;
        let raw = self.raw.clone();
        let bytes: usize = raw.input.iter().map(String::len).sum();
        let _turn = tokio::select! {
            turn = self.course.turn_to_read(bytes) => turn,
            failure = self.broken_off(reply) => return Err(failure),
        };
        let inspecting = || guard::inspect_texts(&raw, &config.guard);
        let inspection = aside(bytes as u64, inspecting).map_err(|_| self.course.fail_closed())?;
        if config.guard.injection == InjectionAction::Block && inspection.is_attack() {
            return Err(self.course.failure(FailureKind::Guard, attack_words()));
        }
        let redacted = match inspection.has_findings() {
            true => {
                let redacting = || inspection.redact_texts(&raw);
                Arc::new(aside(bytes as u64, redacting).map_err(|_| self.course.fail_closed())?)
            }
            false => raw.clone(),
        };
        let said = self.course.call.options.sensitivity;
        let input = Input::text(redacted.input.join("\n"));
        let reading = || live.reader.classify(&input, said);
        let takes_long = if live.reader.is_quick() { bytes as u64 } else { u64::MAX };
        let classification = aside(takes_long, reading);
        let level = self.course.level(&classification);
        let decision = {
            let question = Question {
                caller: &self.course.call.caller,
                use_case: self.course.use_case.as_ref(),
                target: &self.course.call.target,
                needs: Needs::embedding(),
                classification: &classification,
                level,
                findings: findings_level(&inspection),
                fallback: &self.course.call.options.fallback,
                pressure: None,
                input_tokens: &|_| 0,
                // The context limit of an embedding model counts for each text alone; the
                // vendor checks it.
                input_bytes: 0,
                now: Instant::now(),
            };
            route::choose(config, &self.course.inner.health, &question)
        };
        self.course.trace.guard = Some(inspection.findings.clone());
        self.course.trace.classification = Some(classification);
        self.course.trace.sensitivity = Some(level);
        let decision = decision.map_err(|refused| self.course.refused(*refused))?;
        self.course.trace.decision = Some(decision.clone());
        // Vectors have no kind of work.
        let weighed = Weighed { level, findings: inspection.sensitivity(), task: None };
        let places: Vec<(&Candidate, &Place)> = decision
            .candidates
            .iter()
            .flat_map(|candidate| candidate.places.iter().map(move |place| (candidate, place)))
            .collect();
        let (mut at, mut tries, mut reason) = (0, 0, AttemptReason::First);
        let mut last_error = None;
        let mut full = false;
        while let Some((candidate, place)) = places.get(at) {
            let Some(model) = config.catalog.get(&candidate.model).cloned() else { break };
            let request = if place.redact { redacted.clone() } else { raw.clone() };
            let plan = Plan {
                payload: Payload::Embed(request),
                output_limit: 0,
                hidden: Arc::default(),
                expected: None,
                logprobs_for_judge: false,
                draft: self.course.draft(reason, &model, place, &decision, weighed),
                place: (*place).clone(),
                model,
            };
            let mut attempt = match self.course.hold(plan).await {
                Ok(attempt) => attempt,
                Err(NoHold::Refused(refusal)) => return Err(self.course.over_budget(refusal)),
                Err(NoHold::Full) => {
                    self.course.attempts -= 1;
                    full = true;
                    at += 1;
                    continue;
                }
                Err(NoHold::Failed(error)) => return Err(self.course.store_failed(error)),
            };
            let outcome = tokio::select! {
                biased;
                outcome = attempt.embed() => Ok(outcome),
                stop = self.broken_off(reply) => Err(stop),
            };
            let error = match outcome {
                Ok(Ok(embeddings)) => {
                    let settled = self.course.settle(attempt, Ending::Complete, None).await?;
                    let done = self.course.done(settled);
                    return Ok(Embedded { vectors: embeddings.vectors, done });
                }
                Ok(Err(error)) => error,
                Err(failure) => {
                    self.course.settle(attempt, Ending::ClientGone, None).await?;
                    return Err(failure);
                }
            };
            self.course.settle(attempt, attempt::ending_of(&error), Some(&error)).await?;
            let retries = self.course.max_retries(place);
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
            Some(error) => Err(self.course.upstream_failed(&error)),
            None if full => Err(self.course.all_busy()),
            None => Err(internal(self.course.call.id.clone(), "no candidate was tried")),
        }
    }

    /// Resolves when the caller has gone, its time is up or the server stops, with what to say.
    async fn broken_off(
        &self,
        reply: &mut oneshot::Sender<Result<Embedded, Box<Failure>>>,
    ) -> Box<Failure> {
        let stopped = || {
            let words = Words::new("The call was broken off.", "Der Aufruf wurde abgebrochen.");
            self.course.failure(FailureKind::ShuttingDown, words)
        };
        tokio::select! {
            () = reply.closed() => stopped(),
            () = self.course.inner.stop.cancelled() => stopped(),
            () = self.course.time_up() => self.course.failure(FailureKind::CallerTimeout, time_up_words()),
        }
    }
}
