//! `stellwerk ask`: one question through the whole walk, in this process.
//!
//! On a terminal the answer is shown as it comes; an answer that is taken back is said to be, and
//! the next one follows. Where standard output is a pipe or a file, only the answer that counts
//! is written, once it is whole: what was written there could not be taken back. Ctrl-C cancels
//! the vendor's call, and what had arrived is settled before the command ends.

use std::io::{self, Write};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use stellwerk_core::budget::BudgetStatus;
use stellwerk_core::caller::{Caller, Channel};
use stellwerk_core::engine::{Answer, Engine};
use stellwerk_core::ids::{ModelId, RequestId};
use stellwerk_core::money::{Cost, Currency};
use stellwerk_core::reply::{Chunk, Done, Event, Failure, FailureKind, Usage};
use stellwerk_core::request::{Call, ChatRequest, Options, Target};
use stellwerk_core::trace::Trace;

use crate::cli::args::AskArgs;
use crate::cli::classify::text_or_stdin;
use crate::cli::setup::{self, Context};
use crate::cli::{CommandError, explain, output};
use crate::wiring::Wired;

/// How long a cancelled call may take to settle.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Answered<'a> {
    answer: &'a str,
    request_id: &'a RequestId,
    model: &'a ModelId,
    vendor_model: Option<&'a str>,
    cost: String,
    currency: &'a Currency,
    usage: Usage,
    estimated: bool,
    trace: &'a Trace,
}

/// What `--json` prints where there is no answer.
#[derive(Debug, Serialize)]
pub(super) struct Refused<'a> {
    request_id: &'a RequestId,
    error: RefusedError<'a>,
    cost: String,
    trace: Option<&'a Trace>,
}

#[derive(Debug, Serialize)]
struct RefusedError<'a> {
    code: &'static str,
    message: &'a str,
    budget: Option<&'a stellwerk_core::reply::BudgetRefusal>,
}

pub(super) async fn run(context: &Context, args: AskArgs) -> Result<(), CommandError> {
    let text = text_or_stdin(&args.text)?;
    if text.trim().is_empty() {
        return Err(CommandError::refused("The question is empty.", "Die Frage ist leer."));
    }
    let wired = setup::wired(context).await?;
    let done = ask(context, &wired, &args, text).await;
    wired.stop(SETTLE_LIMIT).await;
    done
}

async fn ask(
    context: &Context,
    wired: &Wired,
    args: &AskArgs,
    text: String,
) -> Result<(), CommandError> {
    let engine = &wired.engine;
    let call = Call {
        id: RequestId::fresh(),
        caller: caller(context, engine, args.person.as_deref())?,
        target: target(args.model.as_deref(), args.policy.as_ref().map(|policy| policy.as_str())),
        request: ChatRequest::ask(text),
        options: Options {
            use_case: args.use_case.clone(),
            sensitivity: args.sensitivity,
            explain: args.explain,
            ..Options::default()
        },
    };
    let levels = call.caller.levels.clone();
    let answer = engine.answer(call);
    let request_id = answer.request_id.clone();
    let shown = show(context, answer, args.json).await?;
    match shown {
        Shown::Done { text, done } if args.json => output::json(&Answered {
            answer: &text,
            request_id: &request_id,
            model: &done.model,
            vendor_model: done.vendor_model.as_deref(),
            cost: done.cost.to_string(),
            currency: &done.currency,
            usage: done.usage,
            estimated: done.estimated,
            trace: &done.trace,
        }),
        Shown::Done { done, .. } => {
            for note in done.trace.guard.iter().flat_map(|found| &found.notes) {
                output::say(note.in_locale(context.locale));
            }
            if args.explain {
                let budgets = budgets_of(engine, &levels).await?;
                let table = explain::render(&done.trace, &budgets, &done.currency, context.locale);
                output::line(&format!("\n{}", table.trim_end()))?;
            } else if output::stdout_is_terminal() {
                output::say(&format!("{} · {} {}", done.model, done.cost, done.currency));
            }
            Ok(())
        }
        Shown::Failed(failure) => failed(context, engine, args, &failure),
        Shown::Cancelled => {
            output::say(&context.words(
                "Cancelled; what had arrived is booked.",
                "Abgebrochen; was schon da war, ist verbucht.",
            ));
            Err(CommandError::Told)
        }
    }
}

/// The person of `--as`, or the company.
pub(super) fn caller(
    context: &Context,
    engine: &Engine,
    person: Option<&str>,
) -> Result<Caller, CommandError> {
    let caller = match person {
        None => Caller::company(Channel::Cli),
        Some(written) => {
            let directory = engine.store().directory();
            let person = directory.person(written).map_err(setup::unknown)?;
            directory.caller_of_person(person, Channel::Cli)
        }
    };
    Ok(Caller { locale: context.locale, ..caller })
}

/// `--model` or `--policy`, else the policy `default`.
pub(super) fn target(model: Option<&str>, policy: Option<&str>) -> Target {
    match (model, policy) {
        (Some(model), _) => Target::from_model_field(model),
        (None, Some(policy)) => Target::Policy(policy.into()),
        (None, None) => Target::from_model_field("auto"),
    }
}

async fn budgets_of(
    engine: &Engine,
    levels: &[stellwerk_core::ids::Node],
) -> Result<Vec<BudgetStatus>, CommandError> {
    let mut budgets = engine.store().budgets(None, Timestamp::now()).await?;
    budgets.retain(|status| levels.contains(&status.node));
    Ok(budgets)
}

fn failed(
    context: &Context,
    engine: &Engine,
    args: &AskArgs,
    failure: &Failure,
) -> Result<(), CommandError> {
    let currency = engine.config().money.currency.clone();
    if args.json {
        output::json(&refused(context, failure))?;
    } else if let (true, Some(trace)) = (args.explain, &failure.trace) {
        let table = explain::render(trace, &[], &currency, context.locale);
        output::line(table.trim_end())?;
    }
    output::say(&format!(
        "{} ({}, {})",
        failure.message.in_locale(context.locale),
        failure.kind.code(),
        failure.request_id
    ));
    if failure.cost > Cost::ZERO {
        output::say(&format!("{} {currency}", failure.cost));
    }
    match failure.kind {
        FailureKind::Internal => Err(CommandError::Internal(anyhow::anyhow!(
            "the request {} failed",
            failure.request_id
        ))),
        _ => Err(CommandError::Told),
    }
}

/// A failure as JSON, for `ask` and `route`.
pub(super) fn refused<'a>(context: &Context, failure: &'a Failure) -> Refused<'a> {
    Refused {
        request_id: &failure.request_id,
        error: RefusedError {
            code: failure.kind.code(),
            message: failure.message.in_locale(context.locale),
            budget: failure.budget.as_ref(),
        },
        cost: failure.cost.to_string(),
        trace: failure.trace.as_deref(),
    }
}

/// How it ended.
enum Shown {
    Done { text: String, done: Box<Done> },
    Failed(Box<Failure>),
    Cancelled,
}

async fn show(context: &Context, mut answer: Answer, json: bool) -> Result<Shown, CommandError> {
    let live = !json && output::stdout_is_terminal();
    let mut screen = Screen::new(live, io::stdout());
    let interrupted = interrupted();
    tokio::pin!(interrupted);
    loop {
        let event = tokio::select! {
            event = answer.events.recv() => event,
            () = &mut interrupted => {
                // The engine's own task settles what ran; stopping the engine waits for it.
                answer.cancel();
                screen.end()?;
                return Ok(Shown::Cancelled);
            }
        };
        match event {
            Some(Event::Done(done)) => {
                let text = screen.finish(json)?;
                return Ok(Shown::Done { text, done });
            }
            Some(Event::Failed(failure)) => {
                screen.end()?;
                return Ok(Shown::Failed(failure));
            }
            Some(event) => screen.take(context, event)?,
            None => {
                return Err(CommandError::Internal(anyhow::anyhow!(
                    "the answer to {} ended without an end",
                    answer.request_id
                )));
            }
        }
    }
}

/// Ctrl-C, or being told to stop.
async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminated) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminated.recv() => {}
            }
            return;
        }
    }
    if tokio::signal::ctrl_c().await.is_err() {
        // Without a handler Ctrl-C ends the process the system's way; the next start recovers.
        std::future::pending::<()>().await;
    }
}

/// Where the answer is shown or kept.
struct Screen<W: Write> {
    /// Whether pieces are written as they come.
    live: bool,
    out: W,
    /// The answer so far, of the attempt that counts now.
    text: String,
    attempt: u32,
}

impl<W: Write> Screen<W> {
    fn new(live: bool, out: W) -> Self {
        Screen { live, out, text: String::new(), attempt: 0 }
    }

    fn take(&mut self, context: &Context, event: Event) -> Result<(), CommandError> {
        match event {
            Event::Started { attempt, .. } => self.begin(attempt),
            Event::Chunk { attempt, chunk } if attempt == self.attempt => self.piece(chunk)?,
            Event::Escalated { from, to, .. } => self.replace(&context.words(
                format!("The answer of {from} was not good enough; {to} answers instead:"),
                format!("Die Antwort von {from} genügte nicht; stattdessen antwortet {to}:"),
            ))?,
            Event::FailedOver { from, to, .. } => self.replace(&context.words(
                format!("{from} broke off; {to} answers from the beginning:"),
                format!("{from} brach ab; {to} antwortet von vorn:"),
            ))?,
            // An accepted answer was shown already; pieces of an attempt that no longer counts
            // are dropped.
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, attempt: u32) {
        self.attempt = attempt;
        self.text.clear();
    }

    fn piece(&mut self, chunk: Chunk) -> io::Result<()> {
        let Chunk::Text { choice: 0, text } = chunk else { return Ok(()) };
        if self.live {
            self.out.write_all(output::printable(&text).as_bytes())?;
            self.out.flush()?;
        }
        self.text.push_str(&text);
        Ok(())
    }

    fn replace(&mut self, words: &str) -> io::Result<()> {
        if self.live && !self.text.is_empty() {
            writeln!(self.out, "\n\n─── {words}\n")?;
        }
        self.text.clear();
        self.attempt = 0;
        Ok(())
    }

    /// Ends a line that was begun.
    fn end(&mut self) -> io::Result<()> {
        if self.live && !self.text.is_empty() {
            writeln!(self.out)?;
        }
        self.out.flush()
    }

    /// The whole answer; written now, where it was not shown as it came.
    fn finish(mut self, json: bool) -> io::Result<String> {
        if !self.live && !json {
            writeln!(self.out, "{}", self.text)?;
        }
        self.end()?;
        Ok(self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use stellwerk_core::ids::Node;
    use stellwerk_core::request::Locale;

    fn context() -> Context {
        Context { config: None, locale: Locale::En }
    }

    fn started(attempt: u32, model: &str) -> Event {
        let trace = Trace::new("req_1".into(), Node::Company, Channel::Cli);
        Event::Started { attempt, model: model.into(), provisional: true, trace: Arc::new(trace) }
    }

    fn text(attempt: u32, text: &str) -> Event {
        Event::Chunk { attempt, chunk: Chunk::Text { choice: 0, text: text.to_owned() } }
    }

    fn escalated() -> Event {
        Event::Escalated { attempt: 1, from: "mini".into(), to: "gross".into() }
    }

    fn shown(live: bool, events: Vec<Event>) -> String {
        let mut out = Vec::new();
        let mut screen = Screen::new(live, &mut out);
        for event in events {
            screen.take(&context(), event).unwrap();
        }
        screen.finish(false).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn escalation() -> Vec<Event> {
        vec![
            started(1, "mini"),
            text(1, "Perhaps."),
            escalated(),
            text(1, "late"),
            started(2, "gross"),
            text(2, "Cer"),
            text(2, "tainly."),
        ]
    }

    #[test]
    fn a_pipe_gets_only_the_answer_that_counts() {
        assert_eq!(shown(false, escalation()), "Certainly.\n");
    }

    #[test]
    fn a_terminal_is_told_that_an_answer_is_replaced() {
        let seen = shown(true, escalation());
        assert!(seen.starts_with("Perhaps.\n\n─── The answer of mini"), "{seen}");
        assert!(seen.ends_with("Certainly.\n"), "{seen}");
    }

    #[test]
    fn without_a_model_the_default_policy_is_asked() {
        assert_eq!(target(None, None), Target::Policy("default".into()));
        assert_eq!(target(None, Some("law")), Target::Policy("law".into()));
        assert_eq!(target(Some("auto:law"), None), Target::Policy("law".into()));
        assert_eq!(target(Some("mini"), None), Target::Model("mini".into()));
    }
}
