//! What can be typed: every command with its options, and nothing about what they do.
//!
//! The first line of each comment is the help that `--help` shows. Commands of rooms that are
//! not built yet are listed too, so that `--help` tells the whole contract.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use stellwerk_core::ids::{KeyId, ModelId, Node, PolicyId, UseCase};
use stellwerk_core::ledger::export::Format;
use stellwerk_core::money::{AmountError, Cost};
use stellwerk_core::request::{BudgetPeriod, Sensitivity};

/// The signal box between a company's people and its language models.
#[derive(Debug, Parser)]
#[command(
    name = "stellwerk",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// The configuration; else STELLWERK_CONFIG, ./stellwerk.toml, ./stellwerk-data/stellwerk.toml.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Every command of the contract.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server: the API in OpenAI's and Anthropic's format.
    Serve(ServeArgs),
    /// Say what is wrong in the configuration, with key and line.
    Check(CheckArgs),
    /// Send one question through the whole walk.
    Ask(AskArgs),
    /// Say what kind of work a text is. Needs no configuration and no store.
    Classify(ClassifyArgs),
    /// Say who would answer and why, without calling anyone.
    Route(RouteArgs),
    /// The organisation: departments, teams, people, groups.
    #[command(subcommand)]
    Org(OrgCommand),
    /// Budgets on the company, departments, teams, people, keys and use cases.
    #[command(subcommand)]
    Budget(BudgetCommand),
    /// API keys.
    #[command(subcommand)]
    Key(KeyCommand),
    /// What was spent, by whom, on what, why.
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// The models with prices, places and dates.
    Models(ModelsArgs),
    /// Check configuration, store, providers and prices, and say what to do.
    Doctor(DoctorArgs),
    /// Train a classifier of one's own from labelled lines, or make the one that ships.
    Train(TrainArgs),
    /// Documents that answers may rest on (not yet).
    Knowledge(Later),
    /// Export, erasure and rules of personal data (not yet).
    Privacy(Later),
    /// The chained log of who did what (not yet).
    Audit(Later),
    /// Copy the store while the server runs (not yet).
    Backup(Later),
    /// Put a copy into an empty store (not yet).
    Restore(Later),
    /// The package that a Teams admin uploads (not yet).
    Teams(Later),
}

/// What follows a command that is not built yet: anything, so that the answer is "not yet" and
/// not a complaint about an option.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct Later {
    /// Whatever was typed.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub rest: Vec<OsString>,
}

/// `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Try it out: a sample company and simulated models, in ./stellwerk-data/.
    #[arg(long)]
    pub demo: bool,
    /// Listen here instead of where the configuration says.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
}

/// `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Also show what is believed and where each value comes from.
    #[arg(long)]
    pub show: bool,
    /// Machine-readable.
    #[arg(long)]
    pub json: bool,
}

/// `ask`.
#[derive(Debug, Args)]
pub struct AskArgs {
    /// The question; `-` reads it from standard input.
    pub text: String,
    /// On whose behalf: an id, `person:ID` or an e-mail address; else the company.
    #[arg(long = "as", value_name = "PERSON")]
    pub person: Option<String>,
    /// A model of the catalogue, `auto` or `auto:POLICY`.
    #[arg(long, value_name = "MODEL", conflicts_with = "policy")]
    pub model: Option<String>,
    /// A policy.
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<PolicyId>,
    /// What it is for.
    #[arg(long, value_name = "NAME")]
    pub use_case: Option<UseCase>,
    /// public, internal, confidential or restricted; can only raise what is found.
    #[arg(long, value_name = "LEVEL", value_parser = sensitivity)]
    pub sensitivity: Option<Sensitivity>,
    /// Show what each step decided and why.
    #[arg(long)]
    pub explain: bool,
    /// Machine-readable: answer, request, model, cost, usage and trace in one object.
    #[arg(long)]
    pub json: bool,
}

/// `classify`.
#[derive(Debug, Args)]
pub struct ClassifyArgs {
    /// The text; `-` reads it from standard input.
    #[arg(required_unless_present = "jsonl", conflicts_with = "jsonl")]
    pub text: Option<String>,
    /// Read lines {"id","text"} from standard input, write a line for each, in order.
    #[arg(long)]
    pub jsonl: bool,
    /// Also ask a classifier of one's own, a folder that `train` wrote.
    #[arg(long, value_name = "DIR")]
    pub classifier: Option<PathBuf>,
}

/// `train`.
#[derive(Debug, Args)]
#[group(id = "what", required = true, args = ["data", "recipe"])]
pub struct TrainArgs {
    /// Lines {"text","label"}, plain or gzip: a classifier of one's own.
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// A folder of labelled sets: the classifier that ships with the program.
    #[arg(long, value_name = "DIR")]
    pub recipe: Option<PathBuf>,
    /// With --recipe: a folder of further lines of our own.
    #[arg(long, value_name = "DIR", requires = "recipe")]
    pub authored: Option<PathBuf>,
    /// With --recipe: a folder with MiniLM's vocab.txt and model.safetensors, to train the encoder
    /// too (hours on two cores).
    #[arg(long, value_name = "DIR", requires = "recipe")]
    pub base: Option<PathBuf>,
    /// With --base: where the encoder's unfinished weights lie; beside OUT by default.
    #[arg(long, value_name = "DIR", requires = "base")]
    pub work: Option<PathBuf>,
    /// Where the classifier is written; a run that was interrupted goes on there.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Also tune an encoder of its own on the lines: more accurate, minutes to hours on two cores.
    #[arg(long, requires = "data")]
    pub tune: bool,
    /// Machine-readable.
    #[arg(long)]
    pub json: bool,
}

/// `route`.
#[derive(Debug, Args)]
pub struct RouteArgs {
    /// The question; `-` reads it from standard input.
    #[arg(required_unless_present = "jsonl", conflicts_with = "jsonl")]
    pub text: Option<String>,
    /// Read lines {"id","text","as"?} from standard input, write a line for each, in order.
    #[arg(long)]
    pub jsonl: bool,
    /// On whose behalf: an id, `person:ID` or an e-mail address; else the company.
    #[arg(long = "as", value_name = "PERSON")]
    pub person: Option<String>,
    /// A model of the catalogue, `auto` or `auto:POLICY`.
    #[arg(long, value_name = "MODEL", conflicts_with = "policy")]
    pub model: Option<String>,
    /// A policy.
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<PolicyId>,
    /// What it is for.
    #[arg(long, value_name = "NAME")]
    pub use_case: Option<UseCase>,
    /// public, internal, confidential or restricted; can only raise what is found.
    #[arg(long, value_name = "LEVEL", value_parser = sensitivity)]
    pub sensitivity: Option<Sensitivity>,
    /// Machine-readable.
    #[arg(long)]
    pub json: bool,
}

/// `org`.
#[derive(Debug, Subcommand)]
pub enum OrgCommand {
    /// Take departments, teams, people, groups and budgets from a TOML or CSV file.
    Import {
        /// The file.
        file: PathBuf,
        /// Close who is no longer in the file; their history is kept.
        #[arg(long)]
        prune: bool,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Show the tree.
    Show {
        /// Also show who is closed.
        #[arg(long)]
        all: bool,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
}

/// `budget`.
#[derive(Debug, Subcommand)]
pub enum BudgetCommand {
    /// Set or change a budget.
    Set {
        /// company, department:ID, team:ID, person:ID, key:ID or use-case:NAME.
        node: Node,
        /// In the company's currency, `250` or `12.50`.
        #[arg(allow_negative_numbers = true, value_parser = limit)]
        amount: Cost,
        /// day, week, month, quarter or year, by the company's calendar.
        #[arg(long, value_name = "PERIOD", value_parser = period)]
        period: BudgetPeriod,
        /// Only notify, never refuse.
        #[arg(long)]
        soft: bool,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Show every budget with what is spent, held and left.
    Show {
        /// Only this node's.
        node: Option<Node>,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Take a budget away.
    Remove {
        /// company, department:ID, team:ID, person:ID, key:ID or use-case:NAME.
        node: Node,
        /// day, week, month, quarter or year.
        #[arg(long, value_name = "PERIOD", value_parser = period)]
        period: BudgetPeriod,
    },
}

/// `key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key. It is shown once; only a hash is kept.
    Create(KeyCreateArgs),
    /// List keys, never the keys themselves.
    List {
        /// At most so many.
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
        /// After so many.
        #[arg(long, value_name = "N", default_value_t = 0)]
        offset: usize,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Kill a key; a running server refuses it within a second.
    Revoke {
        /// The id that `key create --json` and `key list` show.
        id: KeyId,
    },
}

/// `key create`.
#[derive(Debug, Args)]
pub struct KeyCreateArgs {
    /// Where its calls are booked: company, department:ID, team:ID, person:ID or use-case:NAME.
    #[arg(long, value_name = "NODE")]
    pub node: Node,
    /// A name for people.
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// What its calls are for.
    #[arg(long, value_name = "NAME")]
    pub use_case: Option<UseCase>,
    /// At most so many requests in any 60 seconds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub requests_per_minute: Option<u32>,
    /// At most so many tokens, input and output, in any 60 seconds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub tokens_per_minute: Option<u64>,
    /// At most so many calls at once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub parallel: Option<u32>,
    /// Only these models, separated by commas.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub models: Option<Vec<ModelId>>,
    /// Dead from this moment: 2027-01-01 (midnight in the company's time zone) or RFC 3339.
    #[arg(long, value_name = "DATE")]
    pub expires: Option<String>,
    /// Nothing of this key is handled below this level.
    #[arg(long, value_name = "LEVEL", value_parser = sensitivity)]
    pub sensitivity: Option<Sensitivity>,
    /// Keep its calls as conversations of its person (not yet).
    #[arg(long)]
    pub keep_history: bool,
    /// Machine-readable: id, key, node, name, use case.
    #[arg(long)]
    pub json: bool,
}

/// `ledger`.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Write every attempt, in order of settling, to standard output.
    Export {
        /// jsonl, csv or focus (the FinOps Foundation's cost columns).
        #[arg(long, value_name = "FORMAT", value_parser = format, default_value = "jsonl")]
        format: Format,
        /// From this moment on: 2026-07-01 (midnight in the company's time zone) or RFC 3339.
        #[arg(long, value_name = "DATE")]
        from: Option<String>,
        /// Up to the end of this day, or up to and without this moment.
        #[arg(long, value_name = "DATE")]
        to: Option<String>,
    },
}

/// `models`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ModelsArgs {
    /// What about them; without a command they are listed.
    #[command(subcommand)]
    pub command: Option<ModelsCommand>,
    /// Machine-readable.
    #[arg(long)]
    pub json: bool,
}

/// `models …`.
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// Show every place where a model runs and whether it can be called.
    Health {
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// What would change without a model (not yet).
    Impact(Later),
    /// Take a model out of service for a while (not yet).
    Pause(Later),
    /// Put it back (not yet).
    Resume(Later),
    /// Hold a model at one version (not yet).
    Pin(Later),
    /// Go back to what a policy said before (not yet).
    Rollback(Later),
}

/// `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Machine-readable.
    #[arg(long)]
    pub json: bool,
}

fn sensitivity(word: &str) -> Result<Sensitivity, String> {
    word_of(word, Sensitivity::from_word, Sensitivity::ALL)
}

fn limit(written: &str) -> Result<Cost, String> {
    match written.parse::<Cost>() {
        Err(AmountError::OutOfRange(_)) if written.trim_start().starts_with('-') => {
            Err("a budget cannot be below zero; 0 refuses every call that costs money, and \
             `stellwerk budget remove NODE --period PERIOD` takes a budget away"
                .to_owned())
        }
        read => read.map_err(|error| error.to_string()),
    }
}

fn period(word: &str) -> Result<BudgetPeriod, String> {
    word_of(word, BudgetPeriod::from_word, BudgetPeriod::ALL)
}

fn format(word: &str) -> Result<Format, String> {
    word_of(word, Format::from_word, Format::ALL)
}

fn word_of<T: ToString>(word: &str, read: fn(&str) -> Option<T>, all: &[T]) -> Result<T, String> {
    let choices = || all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    read(word).ok_or_else(|| format!("write one of {}", choices()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn every_command_line_of_the_contract_is_understood() {
        Cli::command().debug_assert();
        for line in [
            "stellwerk serve --config a.toml --demo",
            "stellwerk check --config a.toml",
            "stellwerk --config a.toml check",
            "stellwerk ask hello --config a.toml --as anna --model mini --explain --json",
            "stellwerk classify hello",
            "stellwerk classify --jsonl",
            "stellwerk route --jsonl --config a.toml",
            "stellwerk train --data a.jsonl --out dir",
            "stellwerk org import a.toml --prune",
            "stellwerk org show --json",
            "stellwerk budget set team:a 12.50 --period month --soft",
            "stellwerk budget show --json",
            "stellwerk key create --node person:anna --name laptop --use-case offers --json",
            "stellwerk key create --node company --name x --models a,b --parallel 2",
            "stellwerk key list",
            "stellwerk key revoke key_1",
            "stellwerk ledger export --from 2026-07-01 --to 2026-08-01 --format focus",
            "stellwerk knowledge add dir --groups a b",
            "stellwerk models",
            "stellwerk models --json",
            "stellwerk models health --json",
            "stellwerk models pause mini --reason x --until 2027-01-01",
            "stellwerk privacy erase anna --yes",
            "stellwerk audit verify",
            "stellwerk backup a.db",
            "stellwerk doctor",
        ] {
            if let Err(error) = parse(line) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn amounts_and_nodes_are_checked_while_they_are_read() {
        for line in [
            "stellwerk budget set team:a 1.0000000001 --period month",
            "stellwerk budget set team:a -5 --period month",
            "stellwerk budget set team 5 --period month",
            "stellwerk budget set team:a 5 --period fortnight",
            "stellwerk budget set team:a 5",
            "stellwerk key create --node company --name x --parallel 0",
            "stellwerk classify",
            "stellwerk ask hello --model a --policy b",
        ] {
            assert!(parse(line).is_err(), "{line} was taken");
        }
    }
}
