//! `cargo xtask test`: every check and test that guards the main branch, in the order in which a
//! mistake is cheapest to find.
//!
//! No child sees a variable that leads to a vendor, so whatever keys stand in the environment,
//! nothing is called outside this machine.

use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use crate::{needs, shell, tidy};

/// What `cargo xtask test` takes.
#[derive(clap::Args)]
pub struct Args {
    /// Only the tests whose name contains this.
    filter: Option<String>,
}

/// Runs everything, or with a filter only the tests that match.
pub fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    needs::for_testing()?;
    if args.filter.is_none() {
        format()?;
        tidy::run()?;
        lints()?;
    }
    tests(args.filter.as_deref())?;
    if args.filter.is_none() {
        documentation()?;
    }
    eprintln!("xtask: all green after {} s", started.elapsed().as_secs());
    Ok(())
}

fn cargo() -> Command {
    let mut cargo = shell::cargo();
    shell::without_vendors(&mut cargo);
    cargo
}

fn format() -> Result<()> {
    shell::check(cargo().args(["fmt", "--all", "--check"]))
}

fn lints() -> Result<()> {
    shell::check(cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "--deny",
        "warnings",
    ]))
}

fn tests(filter: Option<&str>) -> Result<()> {
    // The whole-product tests start the real program, so it must be built first.
    shell::check(cargo().args(["build", "--locked", "--package", "stellwerk"]))?;
    let python = needs::python()?;
    let upstream = needs::aimock()?;
    let mut test = cargo();
    if shell::exists("cargo-nextest") {
        test.args(["nextest", "run", "--workspace", "--locked", "--no-fail-fast"]);
    } else {
        // Building nextest from source costs more than it saves in a single run.
        eprintln!(
            "xtask: without cargo-nextest; `cargo install --locked cargo-nextest` is quicker"
        );
        test.args([
            "test",
            "--workspace",
            "--locked",
            "--no-fail-fast",
            "--lib",
            "--bins",
            "--tests",
        ]);
    }
    test.args(filter);
    test.env("STELLWERK_TEST_BINARY", shell::binary("debug", "stellwerk"));
    test.env("STELLWERK_TEST_PYTHON", python);
    test.env("STELLWERK_TEST_NODE", upstream);
    shell::check(&mut test)
}

fn documentation() -> Result<()> {
    shell::check(cargo().args(["test", "--workspace", "--locked", "--doc"]))?;
    let mut doc = cargo();
    doc.args(["doc", "--workspace", "--locked", "--no-deps", "--document-private-items"]);
    // The sign of a room speaks to those who work in it and may point at what is private there.
    let flags = "--deny warnings --allow rustdoc::private-intra-doc-links";
    shell::check(doc.env("RUSTDOCFLAGS", flags))
}
