//! `stellwerk check`: what is wrong in the configuration, with key and line.
//!
//! Says everything at once. What is only worth knowing is told as a warning and does not fail
//! the check. With `--show` it also prints what is believed and where each value comes from.

use serde::Serialize;
use stellwerk_core::config::{Config, Finding, show};
use stellwerk_core::request::Locale;

use crate::cli::args::CheckArgs;
use crate::cli::setup::{self, Context};
use crate::cli::{CommandError, output};

/// `check --json`.
#[derive(Debug, Serialize)]
struct Checked<'a> {
    file: Option<String>,
    ok: bool,
    errors: &'a [Finding],
    warnings: &'a [Finding],
    #[serde(skip_serializing_if = "Option::is_none")]
    believed: Option<serde_json::Value>,
}

pub(super) fn run(context: &Context, args: &CheckArgs) -> Result<(), CommandError> {
    let path = setup::config_path(context);
    let file = path.as_ref().map(|path| path.display().to_string());
    match setup::load(path.as_deref()) {
        Ok(config) => sound(context, args, file, &config),
        Err(errors) => wrong(context, args, file, &errors),
    }
}

fn sound(
    context: &Context,
    args: &CheckArgs,
    file: Option<String>,
    config: &Config,
) -> Result<(), CommandError> {
    if args.json {
        return output::json(&Checked {
            file,
            ok: true,
            errors: &[],
            warnings: &config.warnings,
            believed: args.show.then(|| show::json(config)),
        });
    }
    for line in told(file.as_deref(), &config.warnings, Kind::Warning, context.locale) {
        output::say(&line);
    }
    if args.show {
        output::line(show::text(config).trim_end())?;
    }
    output::say(&match &file {
        Some(file) => context.words(format!("{file} is sound."), format!("{file} ist in Ordnung.")),
        None => context.words(
            "No configuration file; the defaults and the environment are used.",
            "Keine Konfigurationsdatei; es gelten die Vorgaben und die Umgebung.",
        ),
    });
    Ok(())
}

fn wrong(
    context: &Context,
    args: &CheckArgs,
    file: Option<String>,
    errors: &[Finding],
) -> Result<(), CommandError> {
    if args.json {
        output::json(&Checked { file, ok: false, errors, warnings: &[], believed: None })?;
        return Err(CommandError::Told);
    }
    // The findings are what was asked for, so they are the result and go to standard output.
    output::line(&told(file.as_deref(), errors, Kind::Error, context.locale).join("\n"))?;
    Err(CommandError::Told)
}

/// How a finding is introduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Error,
    Warning,
}

/// `file:line: key: message`, as editors understand it.
pub(super) fn told(
    file: Option<&str>,
    findings: &[Finding],
    kind: Kind,
    locale: Locale,
) -> Vec<String> {
    let tell = |finding: &Finding| {
        let place = match (file, finding.line) {
            (Some(file), Some(line)) => format!("{file}:{line}: "),
            (Some(file), None) => format!("{file}: "),
            (None, _) => String::new(),
        };
        let key = match finding.key.as_str() {
            "" => String::new(),
            key => format!("{key}: "),
        };
        let kind = match (kind, locale) {
            (Kind::Error, _) => "",
            (Kind::Warning, Locale::En) => "warning: ",
            (Kind::Warning, Locale::De) => "Warnung: ",
        };
        let message = match locale {
            Locale::En => &finding.message,
            Locale::De => &finding.message_de,
        };
        format!("{place}{kind}{key}{message}")
    };
    findings.iter().map(tell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_like_a_compilers() {
        let finding = Finding {
            key: "model.mini.provider".to_owned(),
            line: Some(12),
            message: "there is no provider `x`".to_owned(),
            message_de: "den Anbieter `x` gibt es nicht".to_owned(),
        };
        let tell = |file, kind, locale| {
            told(file, std::slice::from_ref(&finding), kind, locale).join("\n")
        };
        assert_eq!(
            tell(Some("a.toml"), Kind::Error, Locale::En),
            "a.toml:12: model.mini.provider: there is no provider `x`"
        );
        assert_eq!(
            tell(Some("a.toml"), Kind::Warning, Locale::De),
            "a.toml:12: Warnung: model.mini.provider: den Anbieter `x` gibt es nicht"
        );
        assert_eq!(
            tell(None, Kind::Error, Locale::En),
            "model.mini.provider: there is no provider `x`"
        );
    }
}
