//! `cargo xtask bench`: what the gateway costs in time and memory, beside direct calls in the same
//! run. Builds the release binaries and lets `stellwerk-bench` measure.

use anyhow::Result;

use crate::{needs, shell};

/// What `cargo xtask bench` takes.
#[derive(clap::Args)]
pub struct Args {
    /// How often each measurement is taken; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Connections at once where throughput is measured.
    #[arg(long, default_value_t = 16)]
    connections: u32,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Calls after which memory and rows are counted.
    #[arg(long, default_value_t = 100_000)]
    calls: u32,
    /// Measure with wrk too, if it is installed.
    #[arg(long)]
    wrk: bool,
    /// Another OpenAI-compatible gateway to measure, `http://host:port/v1`, that calls any vendor
    /// of its own.
    #[arg(long)]
    gateway: Option<String>,
    /// The key for the other gateway.
    #[arg(long, requires = "gateway")]
    key: Option<String>,
    /// The model to ask the other gateway for.
    #[arg(long, requires = "gateway")]
    model: Option<String>,
}

/// Builds and measures.
pub fn run(args: &Args) -> Result<()> {
    needs::for_building()?;
    let mut build = shell::cargo();
    build.args(["build", "--release", "--locked", "--package", "stellwerk"]);
    shell::check(build.args(["--package", "stellwerk-tests", "--bins"]))?;
    let mut bench = shell::command(shell::binary("release", "stellwerk-bench"));
    shell::without_vendors(&mut bench).arg("run").arg(shell::binary("release", "stellwerk"));
    let numbers = [
        ("--rounds", args.rounds),
        ("--connections", args.connections),
        ("--seconds", args.seconds),
        ("--calls", args.calls),
    ];
    for (name, number) in numbers {
        bench.args([name, &number.to_string()]);
    }
    if args.wrk && shell::exists("wrk") {
        bench.arg("--wrk");
    }
    // Key and model stand before the gateway that they are for.
    let texts = [("--key", &args.key), ("--model", &args.model), ("--gateway", &args.gateway)];
    for (name, text) in texts {
        bench.args(text.iter().flat_map(|text| [name, text]));
    }
    shell::check(&mut bench)
}
