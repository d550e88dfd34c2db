//! `cargo xtask run`: from a fresh checkout to a server with a sample company in it.

use anyhow::{Context, Result, bail};

use crate::{needs, shell};

/// What `cargo xtask run` takes.
#[derive(clap::Args)]
pub struct Args {
    /// Build with all optimisations: minutes instead of one, for measuring.
    #[arg(long)]
    release: bool,
    /// Further arguments for `stellwerk serve --demo`.
    #[arg(last = true)]
    serve: Vec<String>,
}

/// Builds and starts the demo; returns when the server ends.
pub fn run(args: &Args) -> Result<()> {
    needs::for_building()?;
    let mut build = shell::cargo();
    build.args(["build", "--package", "stellwerk"]);
    if args.release {
        build.arg("--release");
    }
    shell::check(&mut build)?;
    let binary = shell::binary(if args.release { "release" } else { "debug" }, "stellwerk");
    eprintln!("xtask: starting {} serve --demo; Ctrl-C stops it", binary.display());
    eprintln!(
        "xtask: in another terminal: {} ask --explain \"Was ist eine Weiche?\"",
        binary.display()
    );
    // The vendor keys of the environment are left as they are: they are the user's, and what the
    // server does with them it says itself.
    let mut serve = shell::command(&binary);
    serve.args(["serve", "--demo"]).args(&args.serve);
    let status = serve.status().with_context(|| format!("cannot start {}", binary.display()))?;
    if !status.success() {
        bail!("the server ended with {status}");
    }
    Ok(())
}
