//! The trace of a call as a small table for people: a line or a few for each step of the walk.
//!
//! Pure: a trace goes in, text comes out. Knows nothing of where it is shown.

use stellwerk_core::budget::BudgetStatus;
use stellwerk_core::money::{Cost, Currency};
use stellwerk_core::request::Locale;
use stellwerk_core::trace::{AttemptTrace, Classification, Decision, Findings, Trace};

use crate::cli::output::Table;

/// The whole story, and what is left of the budgets that the call counted in.
pub fn render(
    trace: &Trace,
    budgets: &[BudgetStatus],
    currency: &Currency,
    locale: Locale,
) -> String {
    let word = |en: &'static str, de: &'static str| match locale {
        Locale::En => en,
        Locale::De => de,
    };
    let mut steps = Steps(Table::bare());
    steps.add(
        word("request", "Anfrage"),
        [format!("{} · {} · {}", trace.request_id, trace.node, trace.channel)],
    );
    steps.add(word("guard", "Prüfung"), trace.guard.iter().map(|found| guard(found, locale)));
    steps.add(word("classify", "Einordnung"), trace.classification.iter().map(classification));
    steps.add(
        word("sensitivity", "Schutzbedarf"),
        trace.sensitivity.iter().map(|level| level.to_string()),
    );
    steps.add(
        word("pressure", "Auslastung"),
        trace.pressure.iter().map(|(node, share)| format!("{node} {:.0} %", share * 100.0)),
    );
    steps.add(word("route", "Weg"), trace.decision.iter().flat_map(|d| route(d, locale)));
    steps.add(
        word("attempts", "Versuche"),
        trace.attempts.iter().flat_map(|attempt| attempt_lines(attempt, currency, locale)),
    );
    let total: Cost = trace.attempts.iter().map(|attempt| attempt.cost).sum();
    steps.add(word("cost", "Kosten"), [format!("{total} {currency}")]);
    steps.add(
        word("budget left", "Budget übrig"),
        budgets.iter().map(|status| budget(status, currency, locale)),
    );
    steps.0.to_string()
}

struct Steps(Table);

impl Steps {
    /// The name of the step stands before its first line only.
    fn add(&mut self, name: &str, lines: impl IntoIterator<Item = String>) {
        for (number, line) in lines.into_iter().enumerate() {
            let name = if number == 0 { name } else { "" };
            self.0.row([name.to_owned(), line]);
        }
    }
}

fn guard(found: &Findings, locale: Locale) -> String {
    let mut words: Vec<String> =
        found.kinds.iter().map(|(kind, count)| format!("{kind} ×{count}")).collect();
    if words.is_empty() {
        words.push(match locale {
            Locale::En => "nothing found".to_owned(),
            Locale::De => "nichts gefunden".to_owned(),
        });
    }
    words.push(format!("injection {:.2}", found.injection));
    words.extend(found.remarks.iter().cloned());
    words.push(format!("({})", found.stage));
    words.join(" · ")
}

fn classification(found: &Classification) -> String {
    let mut words = vec![
        format!("{} ({:.2})", found.task, found.task_confidence),
        format!("complexity {:.2}", found.complexity),
        found.domain.to_string(),
        found.language.clone(),
        format!("{} ({:.2})", found.sensitivity, found.sensitivity_confidence),
    ];
    words.extend(found.custom.iter().map(|(classifier, class)| format!("{classifier} {class}")));
    if found.unsure {
        words.push("unsure".to_owned());
    }
    words.push(format!("({}, {} µs)", found.stage, found.micros));
    words.join(" · ")
}

fn route(decision: &Decision, locale: Locale) -> Vec<String> {
    let policy = decision.policy.as_ref().map_or("–", |policy| policy.as_str());
    let mut head = vec![policy.to_owned(), decision.strategy.clone()];
    head.extend(decision.reasons.iter().cloned());
    let mut lines = vec![head.join(" · ")];
    for (number, candidate) in decision.candidates.iter().enumerate() {
        let places: Vec<String> = candidate
            .places
            .iter()
            .map(|place| {
                let hidden = match (place.redact, locale) {
                    (false, _) => "",
                    (true, Locale::En) => ", redacted",
                    (true, Locale::De) => ", geschwärzt",
                };
                format!("{} ({}{hidden})", place.provider, place.zone)
            })
            .collect();
        let why = match candidate.reasons.is_empty() {
            true => String::new(),
            false => format!(" – {}", candidate.reasons.join("; ")),
        };
        let (place, number) = (places.join(", "), number + 1);
        lines.push(format!("{number}. {} [{}] → {place}{why}", candidate.model, candidate.tier));
    }
    lines.extend(
        decision
            .rejected
            .iter()
            .map(|rejected| format!("✗ {} – {}", rejected.model, rejected.reason)),
    );
    lines
}

fn attempt_lines(attempt: &AttemptTrace, currency: &Currency, locale: Locale) -> Vec<String> {
    let (held, hidden) = match locale {
        Locale::En => ("held", "redacted"),
        Locale::De => ("reserviert", "geschwärzt"),
    };
    let mut words = vec![
        format!("{}. {} {}", attempt.attempt, attempt.reason, attempt.model),
        format!("{} ({})", attempt.provider, attempt.zone),
    ];
    if attempt.redacted {
        words.push(hidden.to_owned());
    }
    words.push(match &attempt.error {
        Some(error) => format!("{} ({error})", attempt.ending),
        None => attempt.ending.clone(),
    });
    words.push(match attempt.first_token_ms {
        Some(first) => format!("{first} / {} ms", attempt.duration_ms),
        None => format!("{} ms", attempt.duration_ms),
    });
    words.push(format!("{held} {}", attempt.held));
    words.push(format!("{} {currency}", attempt.cost));
    let mut lines = vec![words.join(" · ")];
    if let Some(judged) = &attempt.judged {
        let signs = match (judged.signs.is_empty(), locale) {
            (true, _) => String::new(),
            (false, Locale::En) => format!(" by {}", judged.signs.join(", ")),
            (false, Locale::De) => format!(" nach {}", judged.signs.join(", ")),
        };
        lines.push(match locale {
            Locale::En => format!("   judged {:.2}{signs}", judged.confidence),
            Locale::De => format!("   beurteilt {:.2}{signs}", judged.confidence),
        });
    }
    lines
}

fn budget(status: &BudgetStatus, currency: &Currency, locale: Locale) -> String {
    let (of, soft, period) = match locale {
        Locale::En => ("of", "soft", status.period.to_string()),
        Locale::De => ("von", "weich", period_de(status.period).to_owned()),
    };
    let soft = if status.soft { format!(" ({soft})") } else { String::new() };
    format!("{} {period}: {} {of} {} {currency}{soft}", status.node, status.left, status.limit)
}

/// The German word for a period.
pub fn period_de(period: stellwerk_core::request::BudgetPeriod) -> &'static str {
    use stellwerk_core::request::BudgetPeriod::*;
    match period {
        Day => "Tag",
        Week => "Woche",
        Month => "Monat",
        Quarter => "Quartal",
        Year => "Jahr",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stellwerk_core::caller::Channel;
    use stellwerk_core::ids::Node;
    use stellwerk_core::request::{BudgetPeriod, Domain, Sensitivity, TaskKind, Tier, Zone};
    use stellwerk_core::trace::{Candidate, Judgement, Place, Rejected, Rejection};

    fn attempt(number: u32, model: &str, cost: i64) -> AttemptTrace {
        AttemptTrace {
            attempt: number,
            reason: if number == 1 { "first" } else { "escalation" }.to_owned(),
            model: model.into(),
            provider: "eu-host".into(),
            zone: Zone::Eu,
            redacted: true,
            held: Cost::from_nanos(2_000_000),
            cost: Cost::from_nanos(cost),
            ending: "complete".to_owned(),
            judged: Some(Judgement { confidence: 0.41, signs: vec!["logprobs".to_owned()] }),
            first_token_ms: Some(120),
            duration_ms: 900,
            error: None,
            remarks: Vec::new(),
        }
    }

    fn candidate(model: &str, tier: Tier) -> Candidate {
        Candidate {
            model: model.into(),
            tier,
            places: vec![Place {
                deployment: 0,
                provider: "eu-host".into(),
                zone: Zone::Eu,
                redact: true,
            }],
            reasons: vec!["cheapest that will do".to_owned()],
        }
    }

    fn trace() -> Trace {
        Trace {
            guard: Some(Findings {
                kinds: vec![("PERSON".to_owned(), 2), ("IBAN".to_owned(), 1)],
                injection: 0.02,
                sensitivity: Some(Sensitivity::Restricted),
                remarks: Vec::new(),
                notes: Vec::new(),
                stage: "rules".to_owned(),
            }),
            classification: Some(Classification {
                task: TaskKind::Rewrite,
                task_confidence: 0.81,
                complexity: 0.3,
                sensitivity: Sensitivity::Confidential,
                sensitivity_confidence: 0.7,
                domain: Domain::Hr,
                language: "de".to_owned(),
                custom: Default::default(),
                unsure: false,
                stage: "rules".to_owned(),
                micros: 41,
            }),
            sensitivity: Some(Sensitivity::Confidential),
            decision: Some(Decision {
                policy: Some("default".into()),
                strategy: "cascade".to_owned(),
                candidates: vec![
                    candidate("mini", Tier::Economy),
                    candidate("gross", Tier::Premium),
                ],
                rejected: vec![Rejected {
                    model: "world".into(),
                    why: Rejection::Zone,
                    reason: "confidential data may not leave the EU".to_owned(),
                }],
                reasons: vec!["cheapest first".to_owned()],
            }),
            attempts: vec![attempt(1, "mini", 12_000), attempt(2, "gross", 345_000)],
            pressure: Some((Node::Team("hr".into()), 0.42)),
            ..Trace::new("req_1".into(), Node::Person("anna".into()), Channel::Cli)
        }
    }

    fn budgets() -> Vec<BudgetStatus> {
        vec![BudgetStatus {
            node: Node::Team("hr".into()),
            period: BudgetPeriod::Month,
            limit: "50".parse().unwrap(),
            spent: "20.5".parse().unwrap(),
            held: Cost::ZERO,
            left: "29.5".parse().unwrap(),
            soft: true,
            renews_at: "2026-07-31T22:00:00Z".parse().unwrap(),
        }]
    }

    #[test]
    fn every_step_tells_what_it_decided_and_why() {
        let euro = Currency::new("EUR").unwrap();
        insta::assert_snapshot!("english", render(&trace(), &budgets(), &euro, Locale::En));
        insta::assert_snapshot!("german", render(&trace(), &budgets(), &euro, Locale::De));
    }

    #[test]
    fn a_refused_request_shows_the_steps_that_were_taken() {
        let euro = Currency::new("EUR").unwrap();
        let early = Trace { decision: None, attempts: Vec::new(), ..trace() };
        let shown = render(&early, &[], &euro, Locale::En);
        assert!(shown.contains("guard") && !shown.contains("route"), "{shown}");
    }
}
