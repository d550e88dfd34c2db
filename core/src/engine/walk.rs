//! The steps of one call, in order, and what happens between attempts.
//!
//! [`Walk::answer`] is the story. Guard, classify and route decide at once; then attempts follow
//! one another until one holds: retries, fail-over and escalation are moves along the decision.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use super::attempt::{self, Attempt, NoHold, Payload, Plan, Settled};
use super::course::{Course, Weighed};
use super::face::Face;
use super::reading::Reading;
use super::words::{attack_words, time_up_words};
use super::{Inner, internal};
use crate::catalog::{Model, Tokenizer, tokens};
use crate::config::{ClassifyMode, InjectionAction, ProviderKind, RuleAction, Strategy};
use crate::guard::{self, Inspection, output, policy, redact};
use crate::ids::ModelId;
use crate::judge;
use crate::ledger::{AttemptReason, Ending};
use crate::provider::{ProviderError, ProviderErrorKind};
use crate::reply::{Chunk, Event, Failure, FailureKind, Words};
use crate::request::{Call, ChatRequest, ResponseFormat, Sensitivity, Target, TaskKind};
use crate::route::{self, Needs, Question, Refused};
use crate::trace::{Candidate, Classification, Decision, Judgement, Place, Trace};

/// The longest wait before the same deployment is tried again.
const LONGEST_PATIENCE: Duration = Duration::from_secs(5);
/// The pause before the first retry; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// How long a face may leave events unread before it counts as gone.
const SLOWEST_READER: Duration = Duration::from_secs(60);
/// Beyond this many bytes the guard and the classifier read on a thread of their own, so that a
/// long document does not stop other people's streams.
pub(super) const LONG_TEXT: usize = 32 * 1024;

/// One call on its way.
pub(super) struct Walk {
    course: Course,
    face: Face,
    /// The request as it came, and as it goes where findings are hidden.
    raw: Arc<ChatRequest>,
    redacted: Option<(Arc<ChatRequest>, Arc<redact::Map>)>,
    /// What the guard looks for in answers.
    expected: Option<Arc<output::Expectations>>,
    /// Whether the face was told to forget a rejected answer.
    replaced: bool,
}

/// What the guard and the classifier said.
struct Read {
    inspection: Inspection,
    classification: Classification,
    level: Sensitivity,
    task: Option<TaskKind>,
}

impl Read {
    fn weighed(&self) -> Weighed {
        let findings = self.inspection.sensitivity();
        Weighed { level: self.level, findings, task: self.task }
    }
}

/// Why the walk must stop though the vendor would go on.
#[derive(Clone, Copy)]
enum Interrupt {
    FaceGone,
    TimeUp,
    Stopping,
}

/// How an attempt came out.
enum Outcome {
    /// Whole and settled.
    Answered(Box<Settled>),
    /// Settled; the error decides what comes next.
    Failed {
        error: ProviderError,
        /// What was shown for good.
        shown: Option<Shown>,
        /// Whether a token had arrived.
        begun: bool,
        /// The vendor refused what only the judge wanted.
        refuses_logprobs: bool,
    },
}

/// What a face has seen of an attempt that broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Shown {
    /// Text: another model may begin again.
    Text,
    /// Tool arguments, or text bound to a schema: nobody may begin again.
    Binding,
}

/// What comes after a failed try.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    SamePlace(Duration),
    OtherPlace,
    OtherModel,
    GiveUp,
}

impl Walk {
    pub(super) fn begin(inner: Arc<Inner>, call: Call<ChatRequest>, face: Face) -> Walk {
        let (course, request) = Course::begin(inner, call);
        Walk {
            course,
            face,
            raw: Arc::new(request),
            redacted: None,
            expected: None,
            replaced: false,
        }
    }

    /// The whole story.
    pub(super) async fn answer(mut self) -> Result<(), Box<Failure>> {
        let (read, decision) = self.decided().await?;
        let answered = self.attempts(&decision, &read).await?;
        self.done(*answered).await;
        Ok(())
    }

    /// The story up to the decision.
    pub(super) async fn decide(mut self) -> Result<Trace, Box<Failure>> {
        self.decided().await?;
        Ok(self.course.trace)
    }

    async fn decided(&mut self) -> Result<(Read, Decision), Box<Failure>> {
        let bytes = self.raw.messages.iter().flat_map(|m| m.texts()).map(str::len).sum();
        let turn = self.uninterrupted(self.course.turn_to_read(bytes)).await;
        let _turn = turn.map_err(|interrupt| self.interruption(interrupt))?;
        self.not_too_long(bytes)?;
        let read = self.read(bytes).await?;
        let decision = self.route(&read)?;
        Ok((read, decision))
    }

    /// Refuses at once what is too long for anybody.
    fn not_too_long(&self, bytes: usize) -> Result<(), Box<Failure>> {
        if bytes < LONG_TEXT {
            return Ok(());
        }
        let exceeds = |tokenizer, most| {
            // A token is at least one byte.
            bytes as u64 > most && tokens::exceeds(&self.raw, tokenizer, most)
        };
        let Call { caller, target, options, .. } = &self.course.call;
        let (config, use_case) = (&self.course.live.config, self.course.use_case.as_ref());
        let looking =
            || route::too_long(config, caller, use_case, target, &options.fallback, &exceeds);
        match aside(bytes as u64, looking) {
            None => Ok(()),
            Some(refused) => {
                let Refused { kind, message, .. } = *refused;
                Err(self.course.failure(kind, message))
            }
        }
    }

    // ---- guard, classify -------------------------------------------------------------------

    async fn read(&mut self, bytes: usize) -> Result<Read, Box<Failure>> {
        let (request, live) = (self.raw.clone(), self.course.live.clone());
        let said = self.course.call.options.sensitivity;
        let is_quick = bytes < LONG_TEXT && live.reader.is_quick();
        let reading = move || live.reader.read(&request, &live.config.guard, said);
        let outcome = match is_quick {
            true => reading(),
            // The encoder takes milliseconds, and a long text does too.
            false => match tokio::task::spawn_blocking(reading).await {
                Ok(outcome) => outcome,
                Err(_) => return Err(self.course.fail_closed()),
            },
        };
        let Ok(Reading { inspection, classification, redacted }) = outcome else {
            return Err(self.course.fail_closed());
        };
        self.redacted = redacted.map(|(request, map)| (Arc::new(request), Arc::new(map)));
        let level = self.course.level(&classification);
        self.course.trace.guard = Some(inspection.findings.clone());
        self.course.trace.classification = Some(classification.clone());
        self.course.trace.sensitivity = Some(level);
        let blocks = self.course.live.config.guard.injection == InjectionAction::Block;
        if blocks && inspection.is_attack() {
            return Err(self.course.failure(FailureKind::Guard, attack_words()));
        }
        self.rules(&classification, bytes)?;
        let classified = self.course.live.config.classify.mode != ClassifyMode::Off;
        let task = classified.then_some(classification.task);
        Ok(Read { inspection, classification, level, task })
    }

    /// The company's own rules for what may not be asked, and what is expected of answers.
    fn rules(&mut self, found: &Classification, bytes: usize) -> Result<(), Box<Failure>> {
        let live = self.course.live.clone();
        let guard = &live.config.guard;
        let caller = &self.course.call.caller;
        let asker =
            policy::Asker { use_case: self.course.use_case.as_ref(), groups: &caller.groups };
        let reading = || {
            let speaking = policy::of_question(&guard.rules, asker, &self.raw, found)?;
            Ok((speaking, output::Expectations::of(&self.raw, guard, asker)?))
        };
        let read: Result<_, guard::GuardError> = aside(bytes as u64, reading);
        let Ok((speaking, expected)) = read else { return Err(self.course.fail_closed()) };
        self.expected = expected.map(Arc::new);
        if let Some(told) = &mut self.course.trace.guard {
            told.remarks.extend(speaking.iter().map(|r| format!("rule {}: {}", r.id, r.action)));
            let notes = speaking.iter().filter(|rule| rule.action == RuleAction::Note);
            told.notes.extend(notes.filter_map(|rule| rule.note.clone()));
        }
        match policy::forbidding(&speaking) {
            Some(rule) => Err(self.course.failure(FailureKind::Guard, policy::refusal(rule))),
            None => Ok(()),
        }
    }

    // ---- route -----------------------------------------------------------------------------

    fn route(&mut self, read: &Read) -> Result<Decision, Box<Failure>> {
        let pressure = self.course.inner.store.pressure(&self.course.levels, attempt::now());
        let raw = self.raw.clone();
        let estimate = move |tokenizer: Tokenizer| tokens::estimate(&raw, tokenizer);
        let question = Question {
            caller: &self.course.call.caller,
            use_case: self.course.use_case.as_ref(),
            target: &self.course.call.target,
            needs: Needs::of(&self.raw),
            classification: &read.classification,
            level: read.level,
            findings: findings_level(&read.inspection),
            fallback: &self.course.call.options.fallback,
            pressure: pressure.as_ref().map(|(node, share)| (node, *share)),
            input_tokens: &estimate,
            input_bytes: tokens::bound(&self.raw, Tokenizer::Unpublished),
            now: self.course.started,
        };
        let choosing =
            || route::choose(&self.course.live.config, &self.course.inner.health, &question);
        let chosen = aside(question.input_bytes, choosing);
        self.course.trace.pressure = pressure;
        match chosen {
            Ok(decision) => {
                if let Some(first) = decision.candidates.first() {
                    self.face.chosen(&first.model);
                }
                self.course.trace.decision = Some(decision.clone());
                Ok(decision)
            }
            Err(refused) => Err(self.course.refused(*refused)),
        }
    }

    // ---- attempts --------------------------------------------------------------------------

    /// Moves along the decision until an attempt holds.
    async fn attempts(
        &mut self,
        decision: &Decision,
        read: &Read,
    ) -> Result<Box<Settled>, Box<Failure>> {
        let mut reason = AttemptReason::First;
        let mut before: Option<Before> = None;
        let mut rejected: Option<Box<Settled>> = None;
        let mut last_error = None;
        let mut full = false;
        let mut rung = 0;
        'models: while let Some(candidate) = decision.candidates.get(rung) {
            let model = self.model(&candidate.model)?;
            let mut tries = 0;
            let mut place = 0;
            let mut asks_logprobs = true;
            while let Some(at) = candidate.places.get(place) {
                let judged = self.next_rung(decision, rung).is_some();
                let plan = self.plan(reason, &model, at, decision, read, judged && asks_logprobs);
                let attempt = match self.course.hold(plan).await {
                    Ok(attempt) => attempt,
                    Err(NoHold::Refused(refusal)) => {
                        // What was never tried has no number: rows count 1, 2, 3.
                        self.course.attempts -= 1;
                        if reason == AttemptReason::First
                            && let Some(cheaper) = self.cheaper(decision, rung)
                        {
                            self.note_unaffordable(&candidate.model);
                            rung = cheaper;
                            continue 'models;
                        }
                        return Err(self.course.over_budget(refusal));
                    }
                    Err(NoHold::Full) => {
                        // Between the decision and now others have taken the last of its calls.
                        self.course.attempts -= 1;
                        full = true;
                        break;
                    }
                    Err(NoHold::Failed(error)) => return Err(self.course.store_failed(error)),
                };
                let hedge = self.hedge(decision, rung, place, reason, read);
                match self.run(attempt, hedge, &mut before, judged).await? {
                    Outcome::Answered(settled) => {
                        if !asks_logprobs {
                            // It answers without them, so they were what it refused.
                            let deployment = &model.deployments[at.deployment];
                            let record =
                                route::record(&self.course.inner.health, &model, deployment);
                            record.note_refuses_logprobs();
                        }
                        let Some(next) = self.next_rung(decision, rung) else {
                            return Ok(settled);
                        };
                        if self.good_enough(&settled, decision, read).await? {
                            self.tell_last(Event::Accepted { attempt: settled.attempt }).await;
                            return Ok(settled);
                        }
                        before = Some(Before::rejected(&settled));
                        rejected = Some(settled);
                        self.replaced = false;
                        reason = AttemptReason::Escalation;
                        rung = next;
                        continue 'models;
                    }
                    Outcome::Failed { error, shown, begun, refuses_logprobs } => {
                        if shown == Some(Shown::Binding) {
                            return Err(self.course.upstream_failed(&error));
                        }
                        if refuses_logprobs && asks_logprobs {
                            asks_logprobs = false;
                            reason = AttemptReason::Retry;
                            continue;
                        }
                        let more = place + 1 < candidate.places.len()
                            || rung + 1 < decision.candidates.len();
                        let retries = self.course.max_retries(at);
                        let next = next_move(&error, tries, retries, begun, more);
                        last_error = Some(error);
                        match next {
                            Next::SamePlace(pause) => {
                                self.pause(pause).await?;
                                tries += 1;
                                reason = AttemptReason::Retry;
                            }
                            Next::OtherPlace => {
                                place += 1;
                                tries = 0;
                                reason = AttemptReason::Failover;
                            }
                            Next::OtherModel => break,
                            Next::GiveUp => break 'models,
                        }
                    }
                }
            }
            if self.course.attempts > 0 {
                reason = AttemptReason::Failover;
            }
            rung += 1;
        }
        // A rejected answer is better than none, as long as the face still has it.
        if let (Some(settled), false) = (rejected, self.replaced) {
            self.tell_last(Event::Accepted { attempt: settled.attempt }).await;
            return Ok(settled);
        }
        match last_error {
            Some(error) => Err(self.course.upstream_failed(&error)),
            None if full => Err(self.course.all_busy()),
            None => Err(internal(self.course.call.id.clone(), "no candidate was tried")),
        }
    }

    fn model(&self, id: &ModelId) -> Result<Arc<Model>, Box<Failure>> {
        let model = self.course.live.config.catalog.get(id).cloned();
        model.ok_or_else(|| internal(self.course.call.id.clone(), "a chosen model is gone"))
    }

    /// The rung that an answer of this one may be given up for: only in a cascade, never down,
    /// and not while the budget presses.
    fn next_rung(&self, decision: &Decision, rung: usize) -> Option<usize> {
        let policy = self.course.live.config.policies.get(decision.policy.as_ref()?)?;
        if policy.strategy != Strategy::Cascade || self.pressed() {
            return None;
        }
        let next = decision.candidates.get(rung + 1)?;
        (next.tier >= decision.candidates[rung].tier).then_some(rung + 1)
    }

    fn pressed(&self) -> bool {
        let degrade_at = self.course.live.config.budget.degrade_at;
        self.course.trace.pressure.as_ref().is_some_and(|(_, share)| *share >= degrade_at)
    }

    /// A later candidate of the policy whose price is lower: for a budget that has little left.
    fn cheaper(&self, decision: &Decision, rung: usize) -> Option<usize> {
        decision.policy.as_ref()?;
        let price = |candidate: &Candidate| {
            let model = self.course.live.config.catalog.get(&candidate.model)?;
            Some(model.deployments[candidate.places[0].deployment].price.worst_case(1_000, 1_000))
        };
        let now = price(&decision.candidates[rung])?;
        (rung + 1..decision.candidates.len())
            .find(|&later| price(&decision.candidates[later]).is_some_and(|cost| cost < now))
    }

    fn note_unaffordable(&mut self, model: &ModelId) {
        if let Some(decision) = self.course.trace.decision.as_mut() {
            decision.reasons.push(format!("{model} would not fit the budget"));
        }
    }

    fn plan(
        &mut self,
        reason: AttemptReason,
        model: &Arc<Model>,
        place: &Place,
        decision: &Decision,
        read: &Read,
        judged: bool,
    ) -> Plan {
        let config = self.course.live.config.clone();
        let asked = self.raw.max_output_tokens;
        let limit = route::output_limit(&config, decision.policy.as_ref(), asked, model);
        let (request, hidden) = self.sent(place.redact, limit);
        let deployment = &model.deployments[place.deployment];
        let record = route::record(&self.course.inner.health, model, deployment);
        let logprobs_for_judge = judged
            && !request.logprobs
            && self.gives_logprobs(model, place)
            && !record.refuses_logprobs();
        Plan {
            model: model.clone(),
            place: place.clone(),
            payload: Payload::Chat(request),
            output_limit: limit,
            hidden,
            expected: self.expected.clone(),
            logprobs_for_judge,
            draft: self.course.draft(reason, model, place, decision, read.weighed()),
        }
    }

    /// Log probabilities are asked of vendors that document them. A place that refuses them all
    /// the same is remembered and asked without.
    fn gives_logprobs(&self, model: &Model, place: &Place) -> bool {
        let kind =
            self.course.live.config.providers.get(&place.provider).map(|provider| provider.kind);
        let documented = matches!(
            kind,
            Some(
                ProviderKind::OpenAi
                    | ProviderKind::Azure
                    | ProviderKind::Gemini
                    | ProviderKind::Simulated
            )
        );
        documented && model.abilities.logprobs
    }

    /// What goes out: redacted or raw, always with an output limit, so that the hold is a bound.
    fn sent(&mut self, redact: bool, limit: u32) -> (Arc<ChatRequest>, Arc<redact::Map>) {
        let with_limit = |request: &mut Arc<ChatRequest>| {
            if request.max_output_tokens != Some(limit) {
                Arc::make_mut(request).max_output_tokens = Some(limit);
            }
            request.clone()
        };
        match self.redacted.as_mut().filter(|_| redact) {
            Some((request, map)) => (with_limit(request), map.clone()),
            None => {
                let mut request = self.raw.clone();
                (with_limit(&mut request), Arc::default())
            }
        }
    }

    /// Where a second try runs when the first is silent: the next place of the same model, else
    /// the next model of the decision.
    fn hedge(
        &mut self,
        decision: &Decision,
        rung: usize,
        place: usize,
        reason: AttemptReason,
        read: &Read,
    ) -> Option<Hedge> {
        let of_policy =
            decision.policy.as_ref().and_then(|id| self.course.live.config.policies.get(id));
        let after_ms = self
            .course
            .call
            .options
            .hedge_after_ms
            .or_else(|| of_policy.and_then(|policy| policy.hedge_after_ms))?;
        if reason != AttemptReason::First {
            return None;
        }
        let candidate = &decision.candidates[rung];
        let (model, place) = match candidate.places.get(place + 1) {
            Some(place) => (&candidate.model, place.clone()),
            None => {
                let next = decision.candidates.get(rung + 1)?;
                (&next.model, next.places[0].clone())
            }
        };
        let model = self.course.live.config.catalog.get(model)?.clone();
        let plan = self.plan(AttemptReason::Hedge, &model, &place, decision, read, false);
        // The number is given when the second try really starts.
        self.course.attempts -= 1;
        Some(Hedge { after: Duration::from_millis(after_ms), plan })
    }

    /// Runs an attempt to its end and settles it.
    async fn run(
        &mut self,
        mut attempt: Attempt,
        hedge: Option<Hedge>,
        before: &mut Option<Before>,
        provisional: bool,
    ) -> Result<Outcome, Box<Failure>> {
        if let Some(interrupt) = self.interrupted_already() {
            return Err(self.interrupted(attempt, interrupt).await);
        }
        let begun = match hedge {
            None => match self.uninterrupted(attempt.begin()).await {
                Ok(begun) => begun,
                Err(interrupt) => return Err(self.interrupted(attempt, interrupt).await),
            },
            Some(hedge) => {
                let (winner, begun) = self.race(attempt, hedge).await?;
                attempt = winner;
                begun
            }
        };
        let pieces = match begun {
            Ok(pieces) => pieces,
            Err(error) => return self.failed(attempt, error, None).await,
        };
        let (number, model) = (attempt.number(), attempt.plan().model.id.clone());
        let mut shown = None;
        let told = match self.announce(number, model, before, provisional).await {
            Ok(()) => self.show(number, pieces, provisional, &mut shown).await,
            Err(interrupt) => Err(interrupt),
        };
        if let Err(interrupt) = told {
            return Err(self.interrupted(attempt, interrupt).await);
        }
        loop {
            let next = match self.uninterrupted(attempt.next()).await {
                Ok(next) => next,
                Err(interrupt) => return Err(self.interrupted(attempt, interrupt).await),
            };
            match next {
                Some(Ok(pieces)) => {
                    let told = self.show(number, pieces, provisional, &mut shown).await;
                    if let Err(interrupt) = told {
                        return Err(self.interrupted(attempt, interrupt).await);
                    }
                }
                Some(Err(error)) => {
                    *before = Some(Before::broken(&attempt));
                    return self.failed(attempt, error, shown).await;
                }
                None => return self.complete(attempt).await,
            }
        }
    }

    /// Starts a second attempt when the first is silent for too long. The first token wins; the
    /// others are cancelled and settled.
    async fn race(
        &mut self,
        first: Attempt,
        hedge: Hedge,
    ) -> Result<(Attempt, Result<Vec<Chunk>, ProviderError>), Box<Failure>> {
        let cancel = CancellationToken::new();
        let mut contenders = FuturesUnordered::new();
        contenders.push(first.contend(cancel.clone()));
        let timer = tokio::time::sleep(hedge.after);
        tokio::pin!(timer);
        let mut waiting = Some(hedge.plan);
        loop {
            let interrupt = tokio::select! {
                Some((attempt, begun)) = contenders.next() => {
                    match begun {
                        // Another one still runs and may do better.
                        Some(Err(error)) if !contenders.is_empty() => {
                            self.failed(attempt, error, None).await?;
                            continue;
                        }
                        Some(begun) => {
                            self.call_off(&cancel, contenders).await?;
                            return Ok((attempt, begun));
                        }
                        None => return Err(self.interrupted(attempt, Interrupt::Stopping).await),
                    }
                }
                () = &mut timer, if waiting.is_some() => {
                    let Some(mut plan) = waiting.take() else { continue };
                    self.course.attempts += 1;
                    plan.draft.attempt = self.course.attempts;
                    plan.draft.time = attempt::now();
                    match self.course.hold(plan).await {
                        Ok(second) => contenders.push(second.contend(cancel.clone())),
                        // No money for a second try: the first goes on alone.
                        Err(_) => self.course.attempts -= 1,
                    }
                    continue;
                }
                interrupt = self.interrupt() => interrupt,
            };
            self.call_off(&cancel, contenders).await?;
            return Err(self.interruption(interrupt));
        }
    }

    /// Cancels and settles what still runs of a race.
    async fn call_off<F>(
        &mut self,
        cancel: &CancellationToken,
        mut contenders: FuturesUnordered<F>,
    ) -> Result<(), Box<Failure>>
    where
        F: Future<Output = (Attempt, Option<Result<Vec<Chunk>, ProviderError>>)>,
    {
        cancel.cancel();
        while let Some((attempt, _)) = contenders.next().await {
            self.course.settle(attempt, Ending::ClientGone, None).await?;
        }
        Ok(())
    }

    async fn announce(
        &mut self,
        attempt: u32,
        model: ModelId,
        before: &mut Option<Before>,
        provisional: bool,
    ) -> Result<(), Interrupt> {
        if let Some(Before { attempt, model: from, rejected }) = before.take() {
            let to = model.clone();
            let event = match rejected {
                true => Event::Escalated { attempt, from, to },
                false => Event::FailedOver { attempt, from, to },
            };
            self.replaced |= rejected;
            self.tell(event).await?;
        }
        let trace = Arc::new(self.course.trace.clone());
        self.tell(Event::Started { attempt, model, provisional, trace }).await
    }

    async fn show(
        &self,
        attempt: u32,
        pieces: Vec<Chunk>,
        provisional: bool,
        shown: &mut Option<Shown>,
    ) -> Result<(), Interrupt> {
        let for_good = self.raw.stream && !provisional;
        for chunk in pieces {
            if for_good && chunk.is_token() {
                let binding = matches!(chunk, Chunk::ToolCall { .. })
                    || (self.raw.response_format != ResponseFormat::Text
                        && matches!(chunk, Chunk::Text { .. }));
                let seen = if binding { Shown::Binding } else { Shown::Text };
                *shown = Some(shown.map_or(seen, |before| before.max(seen)));
            }
            self.tell(Event::Chunk { attempt, chunk }).await?;
        }
        Ok(())
    }

    /// Tells the face, unless it goes, its time is up, the server stops, or it has not read for
    /// so long that nobody can be there: a client that stops reading must not keep a hold open.
    async fn tell(&self, event: Event) -> Result<(), Interrupt> {
        tokio::select! {
            biased;
            () = self.face.tell(event) => Ok(()),
            interrupt = self.interrupt() => Err(interrupt),
            () = tokio::time::sleep(SLOWEST_READER) => Err(Interrupt::FaceGone),
        }
    }

    /// The last words of a call. All is settled, so a face that does not listen misses them.
    async fn tell_last(&self, event: Event) {
        let _ = self.tell(event).await;
    }

    // ---- endings ---------------------------------------------------------------------------

    async fn complete(&mut self, attempt: Attempt) -> Result<Outcome, Box<Failure>> {
        let settled = self.course.settle(attempt, Ending::Complete, None).await?;
        Ok(Outcome::Answered(Box::new(settled)))
    }

    async fn failed(
        &mut self,
        attempt: Attempt,
        error: ProviderError,
        shown: Option<Shown>,
    ) -> Result<Outcome, Box<Failure>> {
        let refuses_logprobs =
            attempt.plan().logprobs_for_judge && error.kind == ProviderErrorKind::BadRequest;
        let begun = attempt.any_token();
        let entry =
            self.course.settle(attempt, attempt::ending_of(&error), Some(&error)).await?.entry;
        tracing::warn!(
            request.id = %self.course.call.id, model.id = %entry.model, provider.id = %entry.provider,
            attempt = entry.attempt, error = %error.detail, "an attempt failed"
        );
        Ok(Outcome::Failed { error, shown, begun, refuses_logprobs })
    }

    async fn interrupted(&mut self, attempt: Attempt, interrupt: Interrupt) -> Box<Failure> {
        match self.course.settle(attempt, Ending::ClientGone, None).await {
            Ok(_) => self.interruption(interrupt),
            Err(failure) => failure,
        }
    }

    async fn done(self, settled: Settled) {
        self.tell_last(Event::Done(Box::new(self.course.done(settled)))).await;
    }

    // ---- judge -----------------------------------------------------------------------------

    /// Whether an answer may stand, by its signs and, where these do not tell, by a judge model.
    async fn good_enough(
        &mut self,
        settled: &Settled,
        decision: &Decision,
        read: &Read,
    ) -> Result<bool, Box<Failure>> {
        let live = self.course.live.clone();
        let policy = decision.policy.as_ref().and_then(|id| live.config.policies.get(id));
        let Some(policy) = policy else { return Ok(true) };
        let complexity = match read.classification.stage.as_str() {
            "off" => 0.0,
            _ => read.classification.complexity,
        };
        let (mut judged, undecided) = judge::by_signs(&self.raw, &settled.answered, complexity);
        if let (true, Some(judge)) = (undecided, &policy.judge)
            && let Some(confidence) = self.ask_judge(judge, settled, read).await?
        {
            judged.confidence = confidence;
            judged.signs.push(format!("judge {judge}"));
        }
        let stands = judged.confidence >= policy.escalate_below;
        self.note_judgement(settled.attempt, judged);
        Ok(stands)
    }

    fn note_judgement(&mut self, attempt: u32, judged: Judgement) {
        let mut attempts = self.course.trace.attempts.iter_mut();
        if let Some(trace) = attempts.find(|trace| trace.attempt == attempt) {
            trace.judged = Some(judged);
        }
    }

    /// Asks a judge model, under the same rules of zone, grant and budget as any other. `None`
    /// where it may not be asked or does not give a number: the signs decide then.
    async fn ask_judge(
        &mut self,
        judge: &ModelId,
        settled: &Settled,
        read: &Read,
    ) -> Result<Option<f64>, Box<Failure>> {
        let request = judge::question(&self.raw, &settled.answered.text);
        let Some((plan, decision)) = self.judge_plan(judge, request, read) else { return Ok(None) };
        let mut attempt = match self.course.hold(plan).await {
            Ok(attempt) => attempt,
            Err(NoHold::Refused(_)) => {
                self.course.attempts -= 1;
                self.note_unaffordable(&decision);
                return Ok(None);
            }
            Err(NoHold::Full) => {
                self.course.attempts -= 1;
                return Ok(None);
            }
            Err(NoHold::Failed(error)) => return Err(self.course.store_failed(error)),
        };
        loop {
            let step = match attempt.has_begun() {
                false => self.uninterrupted(attempt.begin()).await.map(Some),
                true => self.uninterrupted(attempt.next()).await,
            };
            match step {
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(error))) => {
                    self.failed(attempt, error, None).await?;
                    return Ok(None);
                }
                Ok(None) => break,
                Err(interrupt) => return Err(self.interrupted(attempt, interrupt).await),
            }
        }
        let judged = self.course.settle(attempt, Ending::Complete, None).await?;
        Ok(judge::verdict(&judged.answered.text))
    }

    fn judge_plan(
        &mut self,
        judge: &ModelId,
        request: ChatRequest,
        read: &Read,
    ) -> Option<(Plan, ModelId)> {
        let live = &self.course.live;
        let looking = || {
            let hints = live.reader.hints(&request, &live.config.guard)?;
            guard::inspect_with(&request, &live.config.guard, hints)
        };
        // What a model must find in the answer it finds in milliseconds, too long for this thread.
        let takes_long = if live.reader.is_quick() { 0 } else { u64::MAX };
        let inspection = aside(takes_long, looking).ok()?;
        let target = Target::Model(judge.clone());
        let question = Question {
            caller: &self.course.call.caller,
            use_case: self.course.use_case.as_ref(),
            target: &target,
            needs: Needs::of(&request),
            classification: &read.classification,
            level: read.level,
            findings: findings_level(&inspection),
            fallback: &[],
            pressure: None,
            input_tokens: &|tokenizer| tokens::estimate(&request, tokenizer),
            input_bytes: tokens::bound(&request, Tokenizer::Unpublished),
            now: Instant::now(),
        };
        let live = self.course.live.clone();
        let decision = route::choose(&live.config, &self.course.inner.health, &question).ok()?;
        let place = decision.candidates.first()?.places.first()?.clone();
        let model = live.config.catalog.get(&decision.candidates[0].model)?.clone();
        let payload = match place.redact {
            true => inspection.redact(&request).ok()?.0,
            false => request,
        };
        let plan = Plan {
            output_limit: payload.max_output_tokens.unwrap_or(16),
            payload: Payload::Chat(Arc::new(payload)),
            hidden: Arc::default(),
            expected: None,
            logprobs_for_judge: false,
            draft: self.course.draft(
                AttemptReason::Judge,
                &model,
                &place,
                &decision,
                read.weighed(),
            ),
            place,
            model: model.clone(),
        };
        Some((plan, model.id.clone()))
    }

    // ---- interruptions ---------------------------------------------------------------------

    /// Waits for `work`, unless the face goes, the caller's time is up or the server stops.
    async fn uninterrupted<T>(&self, work: impl Future<Output = T>) -> Result<T, Interrupt> {
        tokio::select! {
            biased;
            outcome = work => Ok(outcome),
            interrupt = self.interrupt() => Err(interrupt),
        }
    }

    /// Whether the call must stop before anything was sent; then nothing is billed.
    fn interrupted_already(&self) -> Option<Interrupt> {
        let time_up = |ms| self.course.started.elapsed() >= Duration::from_millis(ms);
        match () {
            () if self.face.is_gone() => Some(Interrupt::FaceGone),
            () if self.course.call.options.timeout_ms.is_some_and(time_up) => {
                Some(Interrupt::TimeUp)
            }
            () if self.course.inner.stop.is_cancelled() => Some(Interrupt::Stopping),
            () => None,
        }
    }

    async fn interrupt(&self) -> Interrupt {
        tokio::select! {
            () = self.face.gone() => Interrupt::FaceGone,
            () = self.course.time_up() => Interrupt::TimeUp,
            () = self.course.inner.stop.cancelled() => Interrupt::Stopping,
        }
    }

    async fn pause(&self, pause: Duration) -> Result<(), Box<Failure>> {
        let waited = self.uninterrupted(tokio::time::sleep(pause)).await;
        waited.map_err(|interrupt| self.interruption(interrupt))
    }

    fn interruption(&self, interrupt: Interrupt) -> Box<Failure> {
        match interrupt {
            Interrupt::TimeUp => self.course.failure(FailureKind::CallerTimeout, time_up_words()),
            Interrupt::FaceGone | Interrupt::Stopping => self.course.failure(
                FailureKind::ShuttingDown,
                Words::new(
                    "The answer was broken off because the server is stopping. Try again shortly.",
                    "Die Antwort wurde abgebrochen, weil der Server anhält. Bitte gleich noch einmal versuchen.",
                ),
            ),
        }
    }
}

/// Does what takes long with long texts without stopping other people's streams: the thread's
/// other tasks are moved away first. Short texts are not worth it.
pub(super) fn aside<T>(bytes: u64, work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    match bytes >= LONG_TEXT as u64 && matches!(flavor, Ok(RuntimeFlavor::MultiThread)) {
        true => tokio::task::block_in_place(work),
        false => work(),
    }
}

/// A second try that waits for its moment.
struct Hedge {
    after: Duration,
    plan: Plan,
}

/// An attempt whose pieces a face may have seen, and which another one now replaces.
struct Before {
    attempt: u32,
    model: ModelId,
    /// Rejected by the judge, rather than broken.
    rejected: bool,
}

impl Before {
    fn rejected(settled: &Settled) -> Self {
        Before { attempt: settled.attempt, model: settled.entry.model.clone(), rejected: true }
    }

    fn broken(attempt: &Attempt) -> Self {
        Before {
            attempt: attempt.number(),
            model: attempt.plan().model.id.clone(),
            rejected: false,
        }
    }
}

/// What comes after a failed try: the rules of retry and fail-over in one place.
pub(super) fn next_move(
    error: &ProviderError,
    tries: u32,
    max_retries: u32,
    begun: bool,
    more: bool,
) -> Next {
    use ProviderErrorKind::*;
    match error.kind {
        BadRequest | ContentFilter | Withheld => Next::GiveUp,
        ContextLength => Next::OtherModel,
        Timeout | Malformed | Auth | NotFound | Unsupported => Next::OtherPlace,
        // After the first token the same deployment is not tried again (CONTRACT 11).
        Connect | Cut | RateLimited | Server if begun || tries >= max_retries => Next::OtherPlace,
        Connect | Cut | RateLimited | Server => {
            let asked = error.retry_after.unwrap_or_default();
            if asked > LONGEST_PATIENCE {
                return if more { Next::OtherPlace } else { Next::GiveUp };
            }
            let jitter = 0.5 + rand::random::<f64>();
            let pause = (FIRST_PAUSE * 2_u32.pow(tries.min(5))).mul_f64(jitter);
            Next::SamePlace(pause.max(asked))
        }
    }
}

/// The level that findings mean where they are not hidden; there is one as soon as anything was
/// found.
pub(super) fn findings_level(inspection: &Inspection) -> Option<Sensitivity> {
    let found = inspection.has_findings();
    found.then(|| inspection.sensitivity().unwrap_or(Sensitivity::Internal))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: ProviderErrorKind) -> ProviderError {
        ProviderError::new(kind, "status 500")
    }

    #[test]
    fn a_busy_vendor_is_tried_once_more_then_another_place() {
        let busy = error(ProviderErrorKind::RateLimited);
        assert!(matches!(next_move(&busy, 0, 1, false, true), Next::SamePlace(_)));
        assert_eq!(next_move(&busy, 1, 1, false, true), Next::OtherPlace);
        assert!(matches!(next_move(&busy, 1, 2, false, true), Next::SamePlace(_)));
    }

    #[test]
    fn after_the_first_token_the_same_place_is_not_tried_again() {
        let broken = error(ProviderErrorKind::Server);
        assert_eq!(next_move(&broken, 0, 3, true, true), Next::OtherPlace);
    }

    #[test]
    fn retry_after_is_honoured_up_to_a_limit() {
        let mut busy = error(ProviderErrorKind::RateLimited);
        busy.retry_after = Some(Duration::from_secs(2));
        let Next::SamePlace(pause) = next_move(&busy, 0, 1, false, true) else {
            panic!("no retry")
        };
        assert!(pause >= Duration::from_secs(2));
        busy.retry_after = Some(Duration::from_secs(120));
        assert_eq!(next_move(&busy, 0, 1, false, true), Next::OtherPlace);
        assert_eq!(next_move(&busy, 0, 1, false, false), Next::GiveUp);
    }

    #[test]
    fn a_wrong_request_is_wrong_everywhere() {
        assert_eq!(
            next_move(&error(ProviderErrorKind::BadRequest), 0, 3, false, true),
            Next::GiveUp
        );
    }
}
