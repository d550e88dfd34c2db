//! The figures of CONTRACT 44, counted where things happen. Never a text, never a person.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use metrics::{Counter, Histogram, Label, counter, histogram};

use crate::caller::Channel;
use crate::ids::{ModelId, ProviderId};
use crate::ledger::{AttemptReason, Ending, Entry};
use crate::reply::{Failure, FailureKind};
use crate::request::TaskKind;

/// What tells one line of figures from another.
type Line = (ModelId, ProviderId, Option<TaskKind>, Channel);

/// The figures of one line. Finding a figure by name and labels takes longer than adding to it,
/// and a booked call adds to eight of them.
struct Figures {
    labels: [Label; 4],
    calls: Counter,
    cost: Counter,
    tokens: [Counter; 4],
    duration: Histogram,
    first_token: Histogram,
}

/// As many lines as models, places, tasks and channels that really met; none has a name that a
/// caller can make up.
static LINES: LazyLock<Mutex<HashMap<Line, Arc<Figures>>>> = LazyLock::new(Mutex::default);

/// One attempt has been booked.
pub(super) fn booked(entry: &Entry) {
    let figures = figures_of(entry);
    figures.calls.increment(1);
    figures.cost.increment(entry.cost.nanos().unsigned_abs());
    let again = match entry.reason {
        AttemptReason::Retry => Some("stellwerk_retries_total"),
        AttemptReason::Failover => Some("stellwerk_failovers_total"),
        AttemptReason::Escalation => Some("stellwerk_escalations_total"),
        AttemptReason::Hedge => Some("stellwerk_hedges_total"),
        AttemptReason::First | AttemptReason::Judge => None,
    };
    if let Some(name) = again {
        counter!(name, figures.labels.iter()).increment(1);
    }
    if entry.ending != Ending::Complete {
        let kind = entry.ending.as_str();
        counter!("stellwerk_errors_total", "kind" => kind, "model" => entry.model.to_string(), "provider" => entry.provider.to_string())
            .increment(1);
    }
    let usage = &entry.usage;
    let counts = [
        usage.input_tokens.unwrap_or(0),
        usage.cached_input_tokens,
        usage.output_tokens.unwrap_or(0),
        usage.reasoning_tokens,
    ];
    for (figure, count) in figures.tokens.iter().zip(counts).filter(|(_, count)| *count > 0) {
        figure.increment(count);
    }
    if let Some(ms) = entry.duration_ms {
        figures.duration.record(ms as f64 / 1000.0);
    }
    if let Some(ms) = entry.first_token_ms {
        figures.first_token.record(ms as f64 / 1000.0);
    }
}

fn figures_of(entry: &Entry) -> Arc<Figures> {
    let line = (entry.model.clone(), entry.provider.clone(), entry.task, entry.channel);
    // Held for a look-up, never across a wait; figures are whole at any moment.
    let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    lines.entry(line).or_insert_with(|| Arc::new(Figures::of(entry))).clone()
}

impl Figures {
    fn of(entry: &Entry) -> Figures {
        let labels = [
            Label::new("model", entry.model.to_string()),
            Label::new("provider", entry.provider.to_string()),
            Label::new("task", entry.task.map_or("none", TaskKind::as_str)),
            Label::new("channel", entry.channel.as_str()),
        ];
        let place = &labels[..2];
        let tokens = |kind: &'static str| {
            let labels = place.iter().cloned().chain([Label::new("kind", kind)]);
            counter!("stellwerk_tokens_total", labels.collect::<Vec<_>>())
        };
        Figures {
            calls: counter!("stellwerk_calls_total", labels.iter()),
            cost: counter!("stellwerk_cost_nano_total", labels.iter()),
            tokens: ["input", "cached_input", "output", "reasoning"].map(tokens),
            duration: histogram!("stellwerk_call_duration_seconds", place.iter()),
            first_token: histogram!("stellwerk_first_token_seconds", place.iter()),
            labels,
        }
    }
}

/// A call waited so long for its hold.
pub(super) fn held_after(seconds: f64) {
    histogram!("stellwerk_queue_seconds").record(seconds);
}

/// A call was refused or failed.
pub(super) fn refused_or_failed(failure: &Failure) {
    let reason = failure.kind.code();
    let refused = matches!(
        failure.kind,
        FailureKind::OverBudget | FailureKind::Zone | FailureKind::Governance | FailureKind::Guard
    );
    let name = if refused { "stellwerk_refusals_total" } else { "stellwerk_failures_total" };
    counter!(name, "reason" => reason).increment(1);
}
