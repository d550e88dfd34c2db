//! What must be on the machine before a door opens, and how it gets there: by apt on Debian and
//! Ubuntu, elsewhere by saying what is missing. Rust and Node are taken for given.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// Something a door needs: how to see that it is there, and which package brings it.
struct Need {
    what: &'static str,
    package: &'static str,
    there: fn() -> bool,
}

const COMPILER: Need = Need {
    what: "a C compiler (SQLite and the TLS library are compiled from source)",
    package: "build-essential",
    there: || shell::exists("cc") || cfg!(windows),
};

const PYTHON: Need = Need {
    what: "Python 3 with venv (the official SDKs are tested against the server)",
    package: "python3-venv",
    there: python_makes_venvs,
};

/// To build the program.
pub fn for_building() -> Result<()> {
    install(&[COMPILER])
}

/// To run every test.
pub fn for_testing() -> Result<()> {
    install(&[COMPILER, PYTHON])?;
    if !shell::exists("npm") {
        bail!("Node with npm is missing; install Node 20 or later from https://nodejs.org");
    }
    Ok(())
}

fn install(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !(need.there)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for need in &missing {
        eprintln!("xtask: missing: {} (Debian package {})", need.what, need.package);
    }
    if !shell::exists("apt-get") {
        bail!("install what is missing with your system's package manager, then try again");
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    apt(&packages).with_context(|| format!("could not install {}", packages.join(" ")))?;
    match missing.iter().find(|need| !(need.there)()) {
        Some(need) => bail!("{} is still missing after installing {}", need.what, need.package),
        None => Ok(()),
    }
}

fn apt(packages: &[&str]) -> Result<()> {
    shell::check(as_root("apt-get").args(["update", "--quiet"]))?;
    let mut install = as_root("apt-get");
    install.args(["install", "--yes", "--no-install-recommends"]).args(packages);
    shell::check(install.env("DEBIAN_FRONTEND", "noninteractive"))
}

/// apt needs root. Without it sudo is asked, which fails with a word where it would need a
/// password that nobody can type.
fn as_root(program: &str) -> Command {
    let root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    if root || !shell::exists("sudo") {
        return shell::command(program);
    }
    let mut sudo = shell::command("sudo");
    sudo.args(["--non-interactive", program]);
    sudo
}

fn python_makes_venvs() -> bool {
    // Debian's python3 has the module `venv` without `ensurepip`, and then makes folders without
    // pip; so both are asked for.
    shell::exists("python3")
        && Command::new("python3")
            .args(["-c", "import venv, ensurepip"])
            .output()
            .is_ok_and(|output| output.status.success())
}

/// A virtual environment with the pinned SDKs, kept beside the build so that a second run finds
/// it. Returns its Python.
pub fn python() -> Result<PathBuf> {
    let wanted_file = shell::root().join("tests/python/requirements.txt");
    let wanted = std::fs::read_to_string(&wanted_file).context("tests/python/requirements.txt")?;
    let folder = shell::target_dir().join("python-sdks");
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let stamp = folder.join("installed.txt");
    if python.is_file() && std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(python);
    }
    shell::check(shell::command("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let mut install = shell::command(&python);
    install.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&wanted_file);
    shell::check(&mut install)?;
    std::fs::write(&stamp, wanted).context("could not note what was installed")?;
    Ok(python)
}

/// The pinned upstream that nobody here wrote, from npm; returns the folder that holds
/// `node_modules`.
pub fn aimock() -> Result<PathBuf> {
    let source = shell::root().join("tests/node");
    let lock = source.join("package-lock.json");
    let wanted = std::fs::read_to_string(&lock).context("tests/node/package-lock.json")?;
    let folder = shell::target_dir().join("node-upstream");
    let stamp = folder.join("installed.json");
    if std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(folder);
    }
    std::fs::create_dir_all(&folder).context("could not make the folder for npm")?;
    for name in ["package.json", "package-lock.json"] {
        std::fs::copy(source.join(name), folder.join(name)).with_context(|| name.to_owned())?;
    }
    let mut install = shell::command("npm");
    install.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&folder);
    shell::check(&mut install)?;
    std::fs::write(&stamp, wanted).context("could not note what was installed")?;
    Ok(folder)
}
