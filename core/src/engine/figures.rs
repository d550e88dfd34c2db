//! The figures of CONTRACT 44, counted where things happen. Never a text, never a person.

use metrics::{counter, histogram};

use crate::ledger::{AttemptReason, Ending, Entry};
use crate::reply::{Failure, FailureKind};

/// One attempt has been booked.
pub(super) fn booked(entry: &Entry) {
    let labels = [
        ("model", entry.model.to_string()),
        ("provider", entry.provider.to_string()),
        ("task", entry.task.map_or("none", |task| task.as_str()).to_owned()),
        ("channel", entry.channel.as_str().to_owned()),
    ];
    counter!("stellwerk_calls_total", &labels).increment(1);
    counter!("stellwerk_cost_nano_total", &labels).increment(entry.cost.nanos().unsigned_abs());
    let place = &labels[..2];
    match entry.reason {
        AttemptReason::Retry => counter!("stellwerk_retries_total", &labels).increment(1),
        AttemptReason::Failover => counter!("stellwerk_failovers_total", &labels).increment(1),
        AttemptReason::Escalation => counter!("stellwerk_escalations_total", &labels).increment(1),
        AttemptReason::Hedge => counter!("stellwerk_hedges_total", &labels).increment(1),
        AttemptReason::First | AttemptReason::Judge => {}
    }
    if entry.ending != Ending::Complete {
        let kind = entry.ending.as_str();
        counter!("stellwerk_errors_total", "kind" => kind, "model" => entry.model.to_string(), "provider" => entry.provider.to_string())
            .increment(1);
    }
    tokens(entry);
    if let Some(ms) = entry.duration_ms {
        histogram!("stellwerk_call_duration_seconds", place).record(ms as f64 / 1000.0);
    }
    if let Some(ms) = entry.first_token_ms {
        histogram!("stellwerk_first_token_seconds", place).record(ms as f64 / 1000.0);
    }
}

fn tokens(entry: &Entry) {
    let usage = &entry.usage;
    let kinds = [
        ("input", usage.input_tokens.unwrap_or(0)),
        ("cached_input", usage.cached_input_tokens),
        ("output", usage.output_tokens.unwrap_or(0)),
        ("reasoning", usage.reasoning_tokens),
    ];
    for (kind, count) in kinds.into_iter().filter(|(_, count)| *count > 0) {
        counter!("stellwerk_tokens_total", "kind" => kind, "model" => entry.model.to_string(), "provider" => entry.provider.to_string())
            .increment(count);
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
