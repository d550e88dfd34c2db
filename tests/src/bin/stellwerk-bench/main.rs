//! The measuring side of `cargo xtask bench`: a fast vendor, a load of our own kind of traffic,
//! and a table of what lies between them.
//!
//! Every figure stands beside a direct call to the same vendor in the same run, in rounds that
//! take turns, because a shared machine is never as quick twice. Load, vendor and gateway are
//! processes of their own, as they would be.

// Printing the table is what this program is for.
#![allow(clippy::print_stdout)]

use std::process::ExitCode;

mod load;
mod measure;
mod mock;
mod setup;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    let done = match words.first().map(String::as_str) {
        Some("vendor") => runtime.block_on(mock::serve()),
        Some("run") => runtime.block_on(measure::run(&words[1..])),
        _ => Err("usage: stellwerk-bench run BINARY [OPTIONS] | vendor".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stellwerk-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
