//! `stellwerk route`: who would answer and why, without calling anyone or holding any money.
//!
//! With `--jsonl` a line in is a line out, in order. A question that would be refused has an
//! empty `decision`, and its `reasons` say why.

use std::io::{self, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stellwerk_core::engine::Engine;
use stellwerk_core::ids::{ModelId, PolicyId, RequestId};
use stellwerk_core::reply::{Failure, FailureKind};
use stellwerk_core::request::{Call, ChatRequest, Options, Sensitivity, TaskKind};
use stellwerk_core::trace::{Decision, Rejected, Trace};
use tokio::sync::mpsc;

use crate::cli::args::RouteArgs;
use crate::cli::classify::{BadLine, BadLines, parse, text_of, text_or_stdin};
use crate::cli::lines::{self, Line};
use crate::cli::setup::{self, Context};
use crate::cli::{CommandError, ask, explain, output};

/// Nothing runs when a decision is made, so stopping takes no time.
const STOP_LIMIT: Duration = Duration::from_secs(1);

#[derive(Debug, Deserialize)]
struct Question {
    #[serde(default)]
    id: Value,
    text: String,
    #[serde(rename = "as")]
    person: Option<String>,
}

/// The row of the contract, and what the decision rests on.
#[derive(Debug, Serialize)]
struct Row<'a> {
    id: Value,
    decision: Vec<&'a ModelId>,
    reasons: Vec<String>,
    rejected: &'a [Rejected],
    policy: Option<&'a PolicyId>,
    strategy: Option<&'a str>,
    sensitivity: Option<Sensitivity>,
    task: Option<TaskKind>,
    complexity: Option<f32>,
    refused: Option<&'static str>,
}

pub(super) async fn run(context: &Context, args: RouteArgs) -> Result<(), CommandError> {
    let wired = setup::wired(context).await?;
    let done = match args.jsonl {
        true => jsonl(context, &wired.engine, &args).await,
        false => one(context, &wired.engine, &args).await,
    };
    wired.stop(STOP_LIMIT).await;
    done
}

async fn one(context: &Context, engine: &Engine, args: &RouteArgs) -> Result<(), CommandError> {
    let text = text_or_stdin(args.text.as_deref().unwrap_or("-"))?;
    let decided = decide(context, engine, args, None, text).await?;
    if args.json {
        output::json(&row(context, Value::Null, &decided))?;
    } else if let Some(trace) = trace_of(&decided) {
        let currency = &engine.config().money.currency;
        output::line(explain::render(trace, &[], currency, context.locale).trim_end())?;
    }
    match decided {
        Ok(_) => Ok(()),
        Err(failure) => {
            output::say(failure.message.in_locale(context.locale));
            Err(CommandError::Told)
        }
    }
}

async fn jsonl(context: &Context, engine: &Engine, args: &RouteArgs) -> Result<(), CommandError> {
    let mut lines = stdin_lines();
    let mut out = io::BufWriter::with_capacity(1 << 16, io::stdout());
    let mut bad = BadLines::default();
    let progress = output::counter("{spinner} {human_pos} · {per_sec}");
    let mut number = 0_u64;
    while let Some(line) = lines.recv().await {
        number += 1;
        match answer_line(context, engine, args, line?).await? {
            LineAnswer::Blank => continue,
            LineAnswer::Row(row) => out.write_all(row.as_bytes())?,
            LineAnswer::Bad(row) => {
                bad.note(number, &row.error);
                serde_json::to_writer(&mut out, &row)?;
            }
        }
        out.write_all(b"\n")?;
        progress.inc(1);
        if lines.is_empty() {
            out.flush()?;
        }
    }
    out.flush()?;
    progress.finish_and_clear();
    bad.end(context)
}

enum LineAnswer {
    Blank,
    Row(String),
    Bad(BadRow),
}

/// What stands in the place of a line that cannot be read or names nobody: a row like the others,
/// with no model, and the field `error`.
#[derive(Debug, Serialize)]
struct BadRow {
    id: Value,
    decision: [ModelId; 0],
    reasons: [String; 1],
    error: String,
}

impl From<BadLine> for BadRow {
    fn from(BadLine { id, error }: BadLine) -> Self {
        BadRow { id, decision: [], reasons: [error.clone()], error }
    }
}

async fn answer_line(
    context: &Context,
    engine: &Engine,
    args: &RouteArgs,
    line: Line,
) -> Result<LineAnswer, CommandError> {
    let question = match text_of(line) {
        Ok(line) if line.trim().is_empty() => return Ok(LineAnswer::Blank),
        Ok(line) => parse::<Question>(&line),
        Err(bad) => Err(bad),
    };
    let Question { id, text, person } = match question {
        Ok(question) => question,
        Err(bad) => return Ok(LineAnswer::Bad(bad.into())),
    };
    match decide(context, engine, args, person.as_deref(), text).await {
        Ok(decided) => Ok(LineAnswer::Row(serde_json::to_string(&row(context, id, &decided))?)),
        Err(CommandError::Refused(words)) => {
            let error = words.in_locale(context.locale).to_owned();
            Ok(LineAnswer::Bad(BadLine { id, error }.into()))
        }
        Err(error) => Err(error),
    }
}

/// Standard input is read by a thread of its own: reading blocks, and the engine must not.
fn stdin_lines() -> mpsc::Receiver<io::Result<Line>> {
    let (sender, receiver) = mpsc::channel(256);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        while let Some(line) = lines::next(&mut input).transpose() {
            let is_last = line.is_err();
            if sender.blocking_send(line).is_err() || is_last {
                return;
            }
        }
    });
    receiver
}

type Decided = Result<Trace, Box<Failure>>;

async fn decide(
    context: &Context,
    engine: &Engine,
    args: &RouteArgs,
    person: Option<&str>,
    text: String,
) -> Result<Decided, CommandError> {
    let person = person.or(args.person.as_deref());
    let call = Call {
        id: RequestId::fresh(),
        caller: ask::caller(context, engine, person)?,
        target: ask::target(
            args.model.as_deref(),
            args.policy.as_ref().map(|policy| policy.as_str()),
        ),
        request: ChatRequest::ask(text),
        options: Options {
            use_case: args.use_case.clone(),
            sensitivity: args.sensitivity,
            ..Options::default()
        },
    };
    match engine.decide(call).await {
        Err(failure) if failure.kind == FailureKind::Internal => {
            Err(CommandError::Internal(anyhow::anyhow!("{failure}")))
        }
        decided => Ok(decided),
    }
}

fn trace_of(decided: &Decided) -> Option<&Trace> {
    match decided {
        Ok(trace) => Some(trace),
        Err(failure) => failure.trace.as_deref(),
    }
}

fn row<'a>(context: &Context, id: Value, decided: &'a Decided) -> Row<'a> {
    let trace = trace_of(decided);
    let decision = trace.and_then(|trace| trace.decision.as_ref());
    let classification = trace.and_then(|trace| trace.classification.as_ref());
    let refusal = decided.as_ref().err();
    let mut reasons: Vec<String> = Vec::new();
    reasons.extend(refusal.map(|failure| failure.message.in_locale(context.locale).to_owned()));
    reasons.extend(decision.into_iter().flat_map(reasons_of));
    Row {
        id,
        decision: match refusal {
            Some(_) => Vec::new(),
            None => decision.into_iter().flat_map(Decision::models).collect(),
        },
        reasons,
        rejected: decision.map_or(&[], |decision| &decision.rejected),
        policy: decision.and_then(|decision| decision.policy.as_ref()),
        strategy: decision.map(|decision| decision.strategy.as_str()),
        sensitivity: trace.and_then(|trace| trace.sensitivity),
        task: classification.map(|found| found.task),
        complexity: classification.map(|found| found.complexity),
        refused: refusal.map(|failure| failure.kind.code()),
    }
}

/// Why the list is as it is, then why each model stands where it stands, then why others do not.
fn reasons_of(decision: &Decision) -> Vec<String> {
    let candidates = decision.candidates.iter().flat_map(|candidate| {
        candidate.reasons.iter().map(|reason| format!("{}: {reason}", candidate.model))
    });
    let rejected = decision
        .rejected
        .iter()
        .map(|rejected| format!("not {}: {}", rejected.model, rejected.reason));
    decision.reasons.iter().cloned().chain(candidates).chain(rejected).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use stellwerk_core::caller::Channel;
    use stellwerk_core::ids::Node;
    use stellwerk_core::reply::Words;
    use stellwerk_core::request::{Locale, Tier};
    use stellwerk_core::trace::{Candidate, Rejection};

    fn decision(candidates: Vec<Candidate>) -> Decision {
        Decision {
            policy: Some("default".into()),
            strategy: "cascade".to_owned(),
            candidates,
            rejected: vec![Rejected {
                model: "world".into(),
                why: Rejection::Zone,
                reason: "restricted data stays local".to_owned(),
            }],
            reasons: vec!["cheapest first".to_owned()],
        }
    }

    fn trace(candidates: Vec<Candidate>) -> Trace {
        Trace {
            decision: Some(decision(candidates)),
            ..Trace::new("req_1".into(), Node::Company, Channel::Cli)
        }
    }

    fn shown(decided: &Decided) -> Value {
        let context = Context { config: None, locale: Locale::En };
        serde_json::to_value(row(&context, Value::from(1), decided)).unwrap()
    }

    #[test]
    fn a_row_names_the_models_in_order_and_why() {
        let mini = Candidate {
            model: "mini".into(),
            tier: Tier::Economy,
            places: Vec::new(),
            reasons: vec!["cheapest that will do".to_owned()],
        };
        insta::assert_json_snapshot!(shown(&Ok(trace(vec![mini]))));
    }

    #[test]
    fn a_refused_question_has_no_model_and_says_why() {
        let failure = Failure {
            trace: Some(trace(Vec::new()).into()),
            ..Failure::new(
                "req_1".into(),
                FailureKind::Zone,
                Words::new("No permitted model.", "Kein erlaubtes Modell."),
            )
        };
        let row = shown(&Err(Box::new(failure)));
        assert_eq!(row["decision"], serde_json::json!([]));
        assert_eq!(row["refused"], "zone");
        assert_eq!(row["reasons"][0], "No permitted model.");
    }
}
