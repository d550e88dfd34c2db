//! The commands: each decodes what was typed, asks the engine or the store, and prints.
//!
//! Results go to standard output, words to people to standard error in their language. Exit
//! codes: 0 done, 1 wrong input or refused, 2 internal. Knows nothing of HTTP; `serve` only hands
//! over to [`crate::server`]. Start with [`run`], the table of contents.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use stellwerk_core::reply::Words;
use stellwerk_core::request::Locale;
use stellwerk_core::store::StoreError;

pub mod args;
mod ask;
mod budget;
mod check;
mod classify;
mod doctor;
mod explain;
mod key;
mod later;
mod ledger;
mod lines;
mod models;
mod ollama;
mod org;
mod output;
mod route;
mod serve;
mod setup;
mod train;

use crate::cli::args::{Cli, Command};
use crate::cli::setup::Context;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub enum CommandError {
    /// Wrong input, or a refusal with its reason: exit 1.
    Refused(Words),
    /// The same, and the person has been told already.
    Told,
    /// Whoever read our output has gone away. Nobody is left to tell, and nothing went wrong.
    Closed,
    /// Our own fault, or the machine's: exit 2.
    Internal(anyhow::Error),
}

impl CommandError {
    /// A refusal in both languages.
    pub fn refused(en: impl Into<String>, de: impl Into<String>) -> Self {
        CommandError::Refused(Words::new(en, de))
    }

    fn exit_code(&self) -> u8 {
        match self {
            CommandError::Closed => 0,
            CommandError::Refused(_) | CommandError::Told => 1,
            CommandError::Internal(_) => 2,
        }
    }

    fn tell(&self, locale: Locale) {
        match self {
            CommandError::Refused(words) => output::say(words.in_locale(locale)),
            CommandError::Internal(cause) => {
                let words = Words::new("Internal error", "Interner Fehler");
                output::say(&format!("{}: {cause:#}", words.in_locale(locale)));
            }
            CommandError::Told | CommandError::Closed => {}
        }
    }
}

impl From<io::Error> for CommandError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => CommandError::Closed,
            _ => CommandError::Internal(error.into()),
        }
    }
}

impl From<serde_json::Error> for CommandError {
    fn from(error: serde_json::Error) -> Self {
        io::Error::from(error).into()
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(what) => CommandError::refused(
                format!("There is no {what}."),
                format!("{what} gibt es nicht."),
            ),
            error => CommandError::Internal(error.into()),
        }
    }
}

pub(crate) use key::fresh_id as fresh_key_id;

/// Reads the command line, runs the command, and turns its end into an exit code.
pub fn main() -> ExitCode {
    let locale = setup::locale(&|name| std::env::var(name).ok());
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match run(cli, locale) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.tell(locale);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Help and version are results; anything else that clap says is wrong input, which exits 1 here
/// and not 2, as clap would.
fn usage(error: &clap::Error) -> ExitCode {
    // A reader that went away before the help was printed is nobody to complain to.
    let _ = error.print();
    ExitCode::from(u8::from(error.use_stderr()))
}

fn run(cli: Cli, locale: Locale) -> Result<(), CommandError> {
    let context = Context { config: cli.config, locale };
    // The log is for whoever runs a server; a command tells its person what matters itself.
    if std::env::var_os("STELLWERK_LOG").is_some() {
        crate::metrics::start_log();
    }
    match cli.command {
        Command::Serve(args) => serve::run(&context, &args),
        Command::Check(args) => check::run(&context, &args),
        Command::Ask(args) => context.block_on(ask::run(&context, args)),
        Command::Classify(args) => classify::run(&context, &args),
        Command::Route(args) => context.block_on(route::run(&context, args)),
        Command::Org(command) => context.block_on(org::run(&context, command)),
        Command::Budget(command) => context.block_on(budget::run(&context, command)),
        Command::Key(command) => context.block_on(key::run(&context, command)),
        Command::Ledger(command) => context.block_on(ledger::run(&context, command)),
        Command::Models(args) => context.block_on(models::run(&context, args)),
        Command::Doctor(args) => context.block_on(doctor::run(&context, &args)),
        Command::Train(args) => train::run(&context, &args),
        Command::Knowledge(_) => later::not_yet("knowledge"),
        Command::Privacy(_) => later::not_yet("privacy"),
        Command::Audit(_) => later::not_yet("audit"),
        Command::Backup(_) => later::not_yet("backup"),
        Command::Restore(_) => later::not_yet("restore"),
        Command::Teams(_) => later::not_yet("teams"),
    }
}
