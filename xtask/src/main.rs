//! The project's own commands: `cargo xtask run`, `test`, `tidy`, `bench`, `gen`, `dist`.
//!
//! Each door first installs or names what it needs, then calls the ordinary tools and lets their
//! own words through. Knows nothing of the product's insides: it starts programs and reads files.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod dist;
mod r#gen;
mod names;
mod needs;
mod run;
mod shell;
mod test;
mod tidy;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds the program and starts `stellwerk serve --demo`.
    Run(run::Args),
    /// Every check and test that CI runs.
    Test(test::Args),
    /// The checks of the house's own rules: floors, signs, absences.
    Tidy,
    /// What the gateway costs in time and memory, beside direct calls.
    Bench(bench::Args),
    /// Builds shipped data from facts.
    Gen(r#gen::Args),
    /// Builds the release binary.
    Dist,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Tidy => tidy::run(),
        Command::Bench(args) => bench::run(&args),
        Command::Gen(args) => r#gen::run(args),
        Command::Dist => dist::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
