//! `cargo xtask dist`: the binary that people install.
//!
//! Packages, signatures and installers come with their own issue; today it is one file.

use anyhow::Result;

use crate::{needs, shell};

/// Builds the release binary and says where it lies.
pub fn run() -> Result<()> {
    needs::for_building()?;
    shell::check(shell::cargo().args([
        "build",
        "--release",
        "--locked",
        "--package",
        "stellwerk",
    ]))?;
    eprintln!("xtask: {}", shell::binary("release", "stellwerk").display());
    eprintln!("xtask: packages and installers: not yet");
    Ok(())
}
