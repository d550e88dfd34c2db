//! One attempt: hold, call, settle.
//!
//! An [`Attempt`] exists only with money set aside for it. It ends by [`Attempt::settle`]; one
//! that is dropped unsettled (a panic) is settled by a task of the engine with what had arrived.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use jiff::Timestamp;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::walk::aside;
use super::{Inner, figures};
use crate::budget::Notice;
use crate::catalog::{Deployment, Model, tokens};
use crate::guard::{output, redact};
use crate::ids::HoldId;
use crate::judge::Answered;
use crate::ledger::account::{self, Count, Outcome};
use crate::ledger::{Ending, Entry, Flag};
use crate::money::Cost;
use crate::provider::{
    ChunkStream, Embeddings, Provider, ProviderCall, ProviderError, ProviderErrorKind,
};
use crate::reply::{BudgetRefusal, Chunk, Usage};
use crate::request::{ChatRequest, EmbedRequest};
use crate::route::health::{InFlight, PlaceHealth, Slot};
use crate::store::{HoldRequest, Settlement, StoreError};
use crate::trace::{AttemptTrace, Place};

/// What is sent.
#[derive(Clone)]
pub(super) enum Payload {
    Chat(Arc<ChatRequest>),
    Embed(Arc<EmbedRequest>),
}

/// An attempt before money is set aside for it.
pub(super) struct Plan {
    pub model: Arc<Model>,
    pub place: Place,
    pub payload: Payload,
    pub output_limit: u32,
    /// Restores what was hidden in `payload`.
    pub hidden: Arc<redact::Map>,
    /// What the guard looks for in the answer.
    pub expected: Option<Arc<output::Expectations>>,
    pub logprobs_for_judge: bool,
    /// The row as far as it is known before the call; cost and ending come later.
    pub draft: Entry,
}

impl Plan {
    fn deployment(&self) -> &Deployment {
        &self.model.deployments[self.place.deployment]
    }

    /// Bytes of what is sent, roughly: whether counting it takes long.
    fn bytes(&self) -> u64 {
        let bytes: usize = match &self.payload {
            Payload::Chat(request) => {
                request.messages.iter().flat_map(|m| m.texts()).map(str::len).sum()
            }
            Payload::Embed(request) => request.input.iter().map(String::len).sum(),
        };
        bytes as u64
    }

    /// The worst case: what is set aside.
    fn worst_case(&self, provider: &dyn Provider) -> Cost {
        let deployment = self.deployment();
        let (input, output) = match &self.payload {
            Payload::Chat(request) => {
                let answers = request.n.max(1);
                let inputs = u64::from(provider.inputs_billed(answers));
                let input = tokens::bound_at(request, deployment);
                (input * inputs, u64::from(self.output_limit) * u64::from(answers))
            }
            Payload::Embed(request) => (tokens::embed_bound(request, deployment.tokenizer), 0),
        };
        deployment.price.worst_case(input, output)
    }
}

/// Why no money was set aside.
pub(super) enum NoHold {
    Refused(BudgetRefusal),
    /// The model has all the calls at once that it may have.
    Full,
    Failed(StoreError),
}

/// A running attempt. Its hold is open until it is settled.
pub(super) struct Attempt {
    inner: Arc<Inner>,
    provider: Arc<dyn Provider>,
    plan: Plan,
    hold: HoldId,
    held: Cost,
    record: Arc<PlaceHealth>,
    in_flight: Option<InFlight>,
    slot: Option<Slot>,
    started: Instant,
    stream: Option<ChunkStream>,
    restorer: Option<redact::Restorer>,
    /// Reads what was restored, before anyone sees it.
    watch: Option<output::Watch>,
    tally: Tally,
    settled: bool,
}

/// What has arrived.
#[derive(Default)]
struct Tally {
    sent: bool,
    told: Option<Usage>,
    any_token: bool,
    first_token: Option<Duration>,
    vendor_model: Option<String>,
    /// Text, reasoning and tool arguments of all choices, for counting.
    output: String,
    /// The first choice, for the judge.
    answered: Answered,
}

/// A settled attempt.
pub(super) struct Settled {
    pub attempt: u32,
    pub entry: Entry,
    pub answered: Answered,
    pub usage: Usage,
    pub estimated: bool,
    pub trace: AttemptTrace,
}

impl Attempt {
    /// Sets the worst case aside at every level, or says which level refuses.
    pub(super) async fn hold(
        inner: &Arc<Inner>,
        provider: Arc<dyn Provider>,
        mut plan: Plan,
    ) -> Result<Attempt, NoHold> {
        let asked = Instant::now();
        let claim = |limit| inner.health.claim(&plan.model.id, limit).ok_or(NoHold::Full);
        let slot = plan.model.max_parallel.map(claim).transpose()?;
        let amount = aside(plan.bytes(), || plan.worst_case(provider.as_ref()));
        plan.draft.cost = amount;
        let hold = HoldId::of(&plan.draft.request_id, plan.draft.attempt);
        let request = HoldRequest {
            hold: hold.clone(),
            amount,
            levels: plan.draft.levels.clone(),
            draft: plan.draft.clone(),
        };
        match inner.store.reserve(vec![request], plan.draft.time).await {
            Ok(Ok(_reservations)) => {}
            Ok(Err(refusal)) => return Err(NoHold::Refused(refusal)),
            Err(error) => return Err(NoHold::Failed(error)),
        }
        figures::held_after(asked.elapsed().as_secs_f64());
        let record = crate::route::record(&inner.health, &plan.model, plan.deployment());
        let watch = plan.expected.as_ref().map(|expected| expected.watch());
        let restorer = (!plan.hidden.is_empty()).then(|| plan.hidden.stream());
        Ok(Attempt {
            inner: inner.clone(),
            provider,
            hold,
            held: amount,
            in_flight: Some(record.begin()),
            slot,
            record,
            started: Instant::now(),
            stream: None,
            restorer,
            watch,
            tally: Tally::default(),
            settled: false,
            plan,
        })
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(super) fn number(&self) -> u32 {
        self.plan.draft.attempt
    }

    /// Whether a token has arrived.
    pub(super) fn any_token(&self) -> bool {
        self.tally.any_token
    }

    /// Whether the vendor has been called.
    pub(super) fn has_begun(&self) -> bool {
        self.tally.sent
    }

    /// Calls the vendor and reads up to the first token, or to the end. Gives what may be shown.
    pub(super) async fn begin(&mut self) -> Result<Vec<Chunk>, ProviderError> {
        let Payload::Chat(request) = &self.plan.payload else {
            return Err(ProviderError::new(ProviderErrorKind::Unsupported, "no chat request"));
        };
        let call = ProviderCall {
            model: self.plan.deployment().name.clone(),
            request: request.clone(),
            logprobs_for_judge: self.plan.logprobs_for_judge,
        };
        self.tally.sent = true;
        self.stream = Some(self.provider.chat(call).await?);
        let mut shown = Vec::new();
        while !self.tally.any_token {
            match self.next().await {
                Some(chunks) => shown.extend(chunks?),
                None => break,
            }
        }
        Ok(shown)
    }

    /// The next pieces that may be shown (none while a placeholder may be incomplete); `None` at
    /// the end.
    pub(super) async fn next(&mut self) -> Option<Result<Vec<Chunk>, ProviderError>> {
        let stream = self.stream.as_mut()?;
        match stream.next().await {
            Some(Ok(chunk)) => Some(self.take(chunk)),
            Some(Err(error)) => {
                if let Some(usage) = error.usage {
                    self.tally.told.get_or_insert_default().merge(usage);
                }
                self.stream = None;
                Some(Err(error))
            }
            None => {
                self.stream = None;
                let rest = self.restorer.take().map(|mut restorer| restorer.finish());
                let rest = self.watched(rest.unwrap_or_default(), true);
                rest.map(|chunks| (!chunks.is_empty()).then_some(chunks)).transpose()
            }
        }
    }

    /// What the guard lets through; an answer that is withheld ends the vendor's call.
    fn watched(&mut self, chunks: Vec<Chunk>, ends: bool) -> Result<Vec<Chunk>, ProviderError> {
        let Some(watch) = &mut self.watch else { return Ok(chunks) };
        let outcome = watch.push(chunks).and_then(|mut shown| {
            if ends {
                shown.extend(watch.finish()?);
            }
            Ok(shown)
        });
        outcome.map_err(|output::Withheld(sign)| {
            self.stream = None;
            ProviderError::new(ProviderErrorKind::Withheld, sign)
        })
    }

    fn take(&mut self, chunk: Chunk) -> Result<Vec<Chunk>, ProviderError> {
        self.tally.note(&chunk, self.started);
        let shown = match self.restorer.as_mut() {
            Some(restorer) => restorer.push(chunk),
            None => vec![chunk],
        };
        let mut shown = self.watched(shown, false)?;
        let asked = matches!(&self.plan.payload, Payload::Chat(request) if request.logprobs);
        if !asked {
            shown.retain(|chunk| !matches!(chunk, Chunk::Logprobs { .. }));
        }
        Ok(shown)
    }

    /// Asks for vectors.
    pub(super) async fn embed(&mut self) -> Result<Embeddings, ProviderError> {
        let Payload::Embed(request) = &self.plan.payload else {
            return Err(ProviderError::new(ProviderErrorKind::Unsupported, "no texts to embed"));
        };
        let call = ProviderCall {
            model: self.plan.deployment().name.clone(),
            request: request.clone(),
            logprobs_for_judge: false,
        };
        self.tally.sent = true;
        let embeddings = self.provider.embed(call).await?;
        self.tally.any_token = true;
        self.tally.told = Some(Usage { output_tokens: Some(0), ..embeddings.usage });
        self.tally.vendor_model = embeddings.vendor_model.clone();
        Ok(embeddings)
    }

    /// Ends the vendor's call if it still runs, replaces the hold by what it cost and writes the
    /// row. `error` is what went wrong, if something did.
    pub(super) async fn settle(
        mut self,
        ending: Ending,
        error: Option<&ProviderError>,
    ) -> Result<Settled, StoreError> {
        self.stream = None;
        self.in_flight = None;
        self.slot = None;
        self.settled = true;
        self.note_health(ending, error);
        let entry = self.entry(ending);
        settle_with_patience(&self.inner, &self.hold, &entry).await?;
        figures::booked(&entry);
        Ok(Settled {
            attempt: entry.attempt,
            usage: entry.usage,
            estimated: entry.flags.contains(&Flag::Estimated),
            trace: self.trace(&entry, error),
            answered: std::mem::take(&mut self.tally.answered),
            entry,
        })
    }

    /// Begins, for a race with others: gives itself back with how it began, or with `None` when
    /// it was called off.
    pub(super) async fn contend(
        mut self,
        cancel: CancellationToken,
    ) -> (Attempt, Option<Result<Vec<Chunk>, ProviderError>>) {
        let begun = cancel.run_until_cancelled(self.begin()).await;
        (self, begun)
    }

    fn note_health(&self, ending: Ending, error: Option<&ProviderError>) {
        use ProviderErrorKind::*;
        let now = Instant::now();
        let Some(error) = error else {
            return match ending {
                Ending::Complete => self.record.succeeded(self.tally.first_token),
                _ => self.record.undecided(),
            };
        };
        match error.kind {
            RateLimited => {
                let wait = error.retry_after.unwrap_or(Duration::from_secs(1));
                self.record.asked_for_patience(now, wait);
            }
            Connect | Server | Timeout | Cut | Malformed | Auth | NotFound => {
                self.record.failed(now, &error.detail);
            }
            BadRequest | ContextLength | ContentFilter | Withheld | Unsupported => {
                self.record.undecided()
            }
        }
    }

    fn entry(&self, ending: Ending) -> Entry {
        let whole = match &self.plan.payload {
            Payload::Chat(request) => !request.stream,
            Payload::Embed(_) => true,
        };
        let outcome = Outcome {
            ending,
            told: self.tally.told,
            any_token: self.tally.any_token,
            sent: self.tally.sent,
            whole,
        };
        let billing = || account::bill(&self.plan.deployment().price, outcome, self);
        let bill = aside(self.plan.bytes(), billing);
        Entry {
            vendor_model: self.tally.vendor_model.clone(),
            duration_ms: Some(millis(self.started.elapsed())),
            first_token_ms: self.tally.first_token.map(millis),
            usage: bill.usage,
            cost: bill.cost,
            flags: bill.flags,
            ending,
            ..self.plan.draft.clone()
        }
    }

    fn trace(&self, entry: &Entry, error: Option<&ProviderError>) -> AttemptTrace {
        AttemptTrace {
            attempt: entry.attempt,
            reason: entry.reason.as_str().to_owned(),
            model: entry.model.clone(),
            provider: entry.provider.clone(),
            zone: entry.zone,
            redacted: self.plan.place.redact,
            held: self.held,
            cost: entry.cost,
            ending: entry.ending.as_str().to_owned(),
            judged: None,
            first_token_ms: entry.first_token_ms,
            duration_ms: entry.duration_ms.unwrap_or_default(),
            error: error.map(|error| error.detail.clone()),
            remarks: self.watch.iter().flat_map(output::Watch::signs).map(str::to_owned).collect(),
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        // Only a panic comes here. What had arrived is booked as if the client had gone.
        let (inner, hold) = (self.inner.clone(), self.hold.clone());
        let entry = self.entry(Ending::ClientGone);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let tracker = inner.running.clone();
        tracker.spawn_on(
            async move {
                if let Err(error) = settle_with_patience(&inner, &hold, &entry).await {
                    tracing::error!(request.id = %entry.request_id, %error, "a lost attempt could not be settled");
                }
            },
            &runtime,
        );
    }
}

impl Count for Attempt {
    fn input(&self) -> u64 {
        let tokenizer = self.plan.deployment().tokenizer;
        match &self.plan.payload {
            Payload::Chat(request) => {
                // A vendor that gives one answer to a call is asked, and bills its input, `n` times.
                let inputs = u64::from(self.provider.inputs_billed(request.n.max(1)));
                tokens::estimate_at(request, self.plan.deployment()) * inputs
            }
            Payload::Embed(request) => tokens::embed_estimate(request, tokenizer),
        }
    }

    fn output(&self) -> u64 {
        match self.plan.payload {
            Payload::Chat(_) => tokens::text(&self.tally.output, self.plan.deployment().tokenizer),
            Payload::Embed(_) => 0,
        }
    }
}

impl Tally {
    fn note(&mut self, chunk: &Chunk, started: Instant) {
        if chunk.is_token() && !self.any_token {
            self.any_token = true;
            self.first_token = Some(started.elapsed());
        }
        match chunk {
            Chunk::Started { vendor_model, .. } => {
                self.vendor_model = vendor_model.clone().or(self.vendor_model.take());
            }
            Chunk::Text { choice, text } => {
                self.output.push_str(text);
                if *choice == 0 {
                    self.answered.text.push_str(text);
                }
            }
            Chunk::Reasoning { text, .. } => self.output.push_str(text),
            Chunk::ToolCall { choice, index, name, arguments, .. } => {
                self.output.push_str(name.as_deref().unwrap_or_default());
                self.output.push_str(arguments);
                if *choice == 0 {
                    self.note_tool_call(*index, name.as_deref(), arguments);
                }
            }
            Chunk::Logprobs { choice: 0, content } => {
                let logprobs = content.iter().filter_map(|token| token.get("logprob"));
                self.answered.logprobs.extend(logprobs.filter_map(Value::as_f64));
            }
            Chunk::Usage(usage) => self.told.get_or_insert_default().merge(*usage),
            Chunk::Finish { choice: 0, reason, .. } => self.answered.finish = Some(*reason),
            _ => {}
        }
    }

    fn note_tool_call(&mut self, index: u32, name: Option<&str>, arguments: &str) {
        let calls = &mut self.answered.tool_calls;
        let index = index as usize;
        // An index far beyond the calls so far is a vendor's slip, not a reason for memory.
        if index > calls.len() {
            return;
        }
        if index == calls.len() {
            calls.push(Default::default());
        }
        calls[index].0.push_str(name.unwrap_or_default());
        calls[index].1.push_str(arguments);
    }
}

/// Settles, trying again while the database is in trouble: an unsettled hold would keep money
/// from people until the next start.
async fn settle_with_patience(
    inner: &Inner,
    hold: &HoldId,
    entry: &Entry,
) -> Result<(), StoreError> {
    let mut pause = Duration::from_millis(20);
    for _ in 0..4 {
        let settlement = Settlement { hold: hold.clone(), entry: entry.clone() };
        match inner.store.settle(settlement).await {
            Ok(notices) => {
                notices.iter().for_each(Notice::log);
                return Ok(());
            }
            Err(StoreError::Query { doing, cause }) => {
                tracing::warn!(request.id = %entry.request_id, doing, %cause, "settling is tried again");
                tokio::time::sleep(pause).await;
                pause *= 4;
            }
            Err(other) => return Err(other),
        }
    }
    let last = Settlement { hold: hold.clone(), entry: entry.clone() };
    inner.store.settle(last).await.map(|notices| notices.iter().for_each(Notice::log))
}

/// How a failed call ended, in the ledger's words.
pub(super) fn ending_of(error: &ProviderError) -> Ending {
    match error.kind {
        ProviderErrorKind::Timeout => Ending::Stalled,
        ProviderErrorKind::Cut => Ending::Cut,
        ProviderErrorKind::Malformed => Ending::Malformed,
        _ => Ending::Error,
    }
}

/// The time of a hold: what decides the period.
pub(super) fn now() -> Timestamp {
    Timestamp::now()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
