//! Starting programs: where the checkout is, which variables children may see, how a failure is
//! told. Knows nothing of which programs there are.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The variables by which a program could find an account at a vendor, by their beginnings. The
/// tests must call nobody, whatever stands in the environment of the person who starts them.
const VENDOR_PREFIXES: &[&str] = &[
    "OPENAI_",
    "ANTHROPIC_",
    "GEMINI_",
    "GOOGLE_",
    "MISTRAL_",
    "AZURE_",
    "AWS_",
    "SLACK_",
    "TEAMS_",
    "DISCORD_",
    "OLLAMA_",
];

/// Our own variables would lead a test to a configuration that is not its own.
const OWN_PREFIX: &str = "STELLWERK_";

/// The root of the checkout.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The folder that cargo builds into.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) if !dir.is_empty() => root().join(dir),
        _ => root().join("target"),
    }
}

/// The built program, in `debug` or `release`.
pub fn binary(profile: &str, name: &str) -> PathBuf {
    target_dir().join(profile).join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

/// A program started in the root of the checkout.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// The same cargo that runs us.
pub fn cargo() -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Whether children that must call nobody may not see this variable.
pub fn leads_outside(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    name.starts_with(OWN_PREFIX) || VENDOR_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Takes every variable that leads to a vendor, or to a configuration of ours, from the child.
pub fn without_vendors(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if leads_outside(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    command
}

/// Runs to the end, with the child's own words on our terminal and nothing on its stdin.
pub fn check(command: &mut Command) -> Result<()> {
    let told = describe(command);
    eprintln!("xtask: {told}");
    let status =
        command.stdin(Stdio::null()).status().with_context(|| format!("cannot start `{told}`"))?;
    if !status.success() {
        bail!("`{told}` ended with {status}");
    }
    Ok(())
}

/// Whether a program of this name can be started.
pub fn exists(program: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else { return false };
    std::env::split_paths(&path)
        .any(|dir| dir.join(format!("{program}{}", std::env::consts::EXE_SUFFIX)).is_file())
}

fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut words = vec![program.file_name().unwrap_or_default().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::leads_outside;

    #[test]
    fn keys_of_every_vendor_are_kept_from_the_tests() {
        let vendors = [
            "OPENAI_API_KEY",
            "OPENAI_BASE_URL",
            "ANTHROPIC_API_KEY",
            "GEMINI_API_KEY",
            "GOOGLE_API_KEY",
            "MISTRAL_API_KEY",
            "AZURE_OPENAI_ENDPOINT",
            "AWS_SECRET_ACCESS_KEY",
            "SLACK_BOT_TOKEN",
            "STELLWERK_CONFIG",
        ];
        for name in vendors {
            assert!(leads_outside(name), "{name} reaches the tests");
        }
    }

    #[test]
    fn what_a_build_needs_stays() {
        for name in ["PATH", "HOME", "CARGO_TARGET_DIR", "RUSTFLAGS", "CI"] {
            assert!(!leads_outside(name), "{name} is taken away");
        }
    }
}
