//! `stellwerk doctor`: is everything in order, and what to do if not.
//!
//! Calls no model and spends nothing: a provider is reached by opening a connection. Each check
//! is a line with its state and the way out; exit 1 if something is broken.

use std::time::Duration;

use jiff::civil::Date;
use serde::Serialize;
use stellwerk_core::classify::trained;
use stellwerk_core::config::{
    ClassifyMode, Config, Finding, ProviderConfig, ProviderKind, StoreUrl,
};
use stellwerk_core::reply::Words;
use stellwerk_core::request::Locale;
use tokio::net::TcpStream;

use crate::cli::CommandError;
use crate::cli::args::DoctorArgs;
use crate::cli::output::{self, Table};
use crate::cli::setup::{self, Context, Desk};

/// Long enough for a connection across an ocean, short enough to wait for.
const REACH_LIMIT: Duration = Duration::from_secs(3);

/// Vendors change prices a few times a year; older figures deserve a look.
const OLD_PRICE_DAYS: i32 = 180;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Note,
    Warning,
    Broken,
}

/// One line of the report.
#[derive(Debug, Clone, Serialize)]
struct Check {
    state: State,
    /// What was looked at: `store`, `provider openai`.
    what: String,
    /// What was found, and what to do.
    message: String,
}

/// Collects lines in the person's language.
struct Report {
    locale: Locale,
    checks: Vec<Check>,
}

impl Report {
    fn add(&mut self, state: State, what: impl Into<String>, words: Words) {
        let message = words.in_locale(self.locale).to_owned();
        self.checks.push(Check { state, what: what.into(), message });
    }

    fn is_broken(&self) -> bool {
        self.checks.iter().any(|check| check.state == State::Broken)
    }
}

pub(super) async fn run(context: &Context, args: &DoctorArgs) -> Result<(), CommandError> {
    let mut report = Report { locale: context.locale, checks: Vec::new() };
    let path = setup::config_path(context);
    let file = path.as_ref().map(|path| path.display().to_string());
    match setup::load(path.as_deref()) {
        Err(findings) => broken_configuration(&mut report, file.as_deref(), &findings),
        Ok(config) => {
            configuration(&mut report, file.as_deref(), &config);
            store(&mut report, context, &config).await;
            providers(&mut report, &config).await;
            models(&mut report, &config, today());
            classifier(&mut report, &config);
        }
    }
    report.add(
        State::Note,
        "platforms",
        Words::new(
            "Slack, Teams and Discord are not yet built into this version.",
            "Slack, Teams und Discord gibt es in dieser Version noch nicht (not yet).",
        ),
    );
    match args.json {
        true => output::json(&report.checks)?,
        false => output::line(table(&report).to_string().trim_end())?,
    }
    if report.is_broken() { Err(CommandError::Told) } else { Ok(()) }
}

fn today() -> Date {
    jiff::Zoned::now().date()
}

fn broken_configuration(report: &mut Report, file: Option<&str>, findings: &[Finding]) {
    for finding in findings {
        let place = match (file, finding.line) {
            (Some(file), Some(line)) => format!("{file}:{line}: "),
            (Some(file), None) => format!("{file}: "),
            (None, _) => String::new(),
        };
        let message = Words::new(
            format!("{place}{}: {}", finding.key, finding.message),
            format!("{place}{}: {}", finding.key, finding.message_de),
        );
        report.add(State::Broken, "configuration", message);
    }
}

fn configuration(report: &mut Report, file: Option<&str>, config: &Config) {
    let words = match file {
        Some(file) => Words::new(format!("{file} is sound."), format!("{file} ist in Ordnung.")),
        None => Words::new(
            "No file; the defaults and the environment are used.",
            "Keine Datei; es gelten die Vorgaben und die Umgebung.",
        ),
    };
    report.add(State::Ok, "configuration", words);
    for finding in &config.warnings {
        let words = Words::new(
            format!("{}: {}", finding.key, finding.message),
            format!("{}: {}", finding.key, finding.message_de),
        );
        report.add(State::Warning, "configuration", words);
    }
}

async fn store(report: &mut Report, context: &Context, config: &Config) {
    let StoreUrl::Sqlite(path) = &config.store;
    let place = path.display();
    let desk = match Desk::open(context).await {
        Ok(desk) => desk,
        Err(error) => return report.add(State::Broken, "store", store_words(&error)),
    };
    match desk.store.ping().await {
        Ok(()) => report.add(
            State::Ok,
            "store",
            Words::new(
                format!("{place} can be read and written."),
                format!("{place} ist lesbar und beschreibbar."),
            ),
        ),
        Err(error) => report.add(State::Broken, "store", store_words(&error.into())),
    }
    organisation(report, &desk);
    if let Err(error) = desk.close(Ok(())).await {
        report.add(State::Broken, "store", store_words(&error));
    }
}

fn store_words(error: &CommandError) -> Words {
    let cause = match error {
        CommandError::Internal(cause) => format!("{cause:#}"),
        CommandError::Refused(words) => return words.clone(),
        CommandError::Told | CommandError::Closed => String::new(),
    };
    Words::new(
        format!("{cause}. Check the path `[store] url`, its rights and the space on the disk."),
        format!("{cause}. Bitte den Pfad `[store] url`, seine Rechte und den freien Platz prüfen."),
    )
}

fn organisation(report: &mut Report, desk: &Desk) {
    let directory = &desk.directory;
    let keys = directory.keys.values().filter(|key| key.revoked_at.is_none()).count();
    let people = directory.people.values().filter(|person| !person.closed).count();
    let (state, words) = match &directory.company {
        Some(company) => (
            State::Ok,
            Words::new(
                format!("{}: {people} people, {keys} keys.", company.name),
                format!("{}: {people} Personen, {keys} Schlüssel.", company.name),
            ),
        ),
        None => (
            State::Note,
            Words::new(
                "Nobody is known yet; `stellwerk org import FILE` takes departments, teams and people from a file.",
                "Noch ist niemand bekannt; `stellwerk org import DATEI` nimmt Abteilungen, Teams und Personen aus einer Datei.",
            ),
        ),
    };
    report.add(state, "organisation", words);
}

async fn providers(report: &mut Report, config: &Config) {
    if config.providers.is_empty() {
        let words = setup::nobody_to_ask();
        return report.add(State::Broken, "providers", words);
    }
    // All at once: ten providers that cannot be reached take as long as one.
    let probes =
        config.providers.values().map(|provider| async move { (provider, reach(provider).await) });
    for (provider, reached) in futures::future::join_all(probes).await {
        let what = format!("provider {}", provider.id);
        let (state, words) = provider_words(provider, reached);
        report.add(state, what, words);
        if lacks_key(provider) {
            report.add(
                State::Warning,
                format!("provider {}", provider.id),
                Words::new(
                    "It has no key; most calls will be refused. Write api_key = \"env:NAME\".",
                    "Es fehlt ein Schlüssel; die meisten Aufrufe werden abgewiesen. Bitte api_key = \"env:NAME\" eintragen.",
                ),
            );
        }
    }
}

/// What a provider's address said.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reached {
    /// There is nothing to reach.
    Simulated,
    Yes,
    /// Host and port, and why not.
    No {
        address: String,
        why: String,
    },
    /// No address can be read.
    NoAddress,
}

async fn reach(provider: &ProviderConfig) -> Reached {
    if provider.kind == ProviderKind::Simulated {
        return Reached::Simulated;
    }
    let Some((host, port)) = host_and_port(&provider.base_url) else { return Reached::NoAddress };
    let connection = TcpStream::connect((host.as_str(), port));
    let address = format!("{host}:{port}");
    match tokio::time::timeout(REACH_LIMIT, connection).await {
        Ok(Ok(_)) => Reached::Yes,
        Ok(Err(error)) => Reached::No { address, why: error.to_string() },
        Err(_) => Reached::No { address, why: format!("{} s", REACH_LIMIT.as_secs()) },
    }
}

fn host_and_port(base_url: &str) -> Option<(String, u16)> {
    let url: http::Uri = base_url.parse().ok()?;
    let standard_port = match url.scheme_str()? {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    let host = url.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    Some((host, url.port_u16().unwrap_or(standard_port)))
}

fn provider_words(provider: &ProviderConfig, reached: Reached) -> (State, Words) {
    match reached {
        Reached::Simulated => (
            State::Note,
            Words::new(
                "Simulated: its answers are made up and cost no money at a vendor.",
                "Simuliert: seine Antworten sind ausgedacht und kosten bei keinem Anbieter Geld.",
            ),
        ),
        Reached::Yes => (
            State::Ok,
            Words::new(
                format!("Reachable, zone {}. No call was made.", provider.zone),
                format!("Erreichbar, Zone {}. Es wurde nichts gefragt.", provider.zone),
            ),
        ),
        Reached::No { address, why } => (
            State::Broken,
            Words::new(
                format!("{address} cannot be reached ({why}). Check base_url, network and proxy."),
                format!(
                    "{address} ist nicht erreichbar ({why}). Bitte base_url, Netz und Proxy prüfen."
                ),
            ),
        ),
        Reached::NoAddress => {
            (State::Broken, Words::new("base_url has no host.", "base_url nennt keinen Rechner."))
        }
    }
}

/// Servers of one's own often want no key; vendors always do.
fn lacks_key(provider: &ProviderConfig) -> bool {
    let is_signed = provider.access_key.is_some() && provider.secret_key.is_some();
    let is_own = provider.kind == ProviderKind::Simulated
        || provider.zone == stellwerk_core::request::Zone::Local;
    let has_header = provider.headers.iter().any(|(name, _)| {
        name.eq_ignore_ascii_case("authorization") || name.to_ascii_lowercase().contains("key")
    });
    provider.api_key.is_none() && !is_signed && !is_own && !has_header
}

fn models(report: &mut Report, config: &Config, today: Date) {
    let count = config.catalog.iter().count();
    let state = if count == 0 { State::Broken } else { State::Ok };
    report.add(
        state,
        "models",
        Words::new(
            format!("{count} models; `stellwerk models` lists them."),
            format!("{count} Modelle; `stellwerk models` zeigt sie."),
        ),
    );
    for model in config.catalog.iter() {
        for place in &model.deployments {
            if let Some(days) = place.price.date.and_then(|date| age_days(date, today))
                && days > OLD_PRICE_DAYS
            {
                report.add(
                    State::Warning,
                    format!("model {}", model.id),
                    Words::new(
                        format!("Its price at {} is {days} days old; compare it with the vendor's list.", place.provider),
                        format!("Sein Preis bei {} ist {days} Tage alt; bitte mit der Liste des Anbieters vergleichen.", place.provider),
                    ),
                );
            }
        }
        if let Some(end) = model.lifecycle.shutdown_on
            && let Some(days) = age_days(today, end)
            && days < 90
        {
            let instead = model.lifecycle.replacements.join(", ");
            report.add(
                if days < 0 { State::Broken } else { State::Warning },
                format!("model {}", model.id),
                Words::new(
                    format!("Switched off by its vendor on {end}. Instead: {instead}"),
                    format!("Vom Anbieter abgeschaltet am {end}. Stattdessen: {instead}"),
                ),
            );
        }
    }
}

fn age_days(from: Date, to: Date) -> Option<i32> {
    from.until(to).ok().map(|span| span.get_days())
}

fn classifier(report: &mut Report, config: &Config) {
    let (state, words) = match (config.classify.mode, trained::shipped(&config.classify.device)) {
        (_, Err(error)) => (
            State::Broken,
            Words::new(
                format!(
                    "Rules take over: {error}. If a file is damaged, install the program again."
                ),
                format!(
                    "Es gelten Regeln: {error}. Ist eine Datei beschädigt, das Programm bitte neu \
                     installieren."
                ),
            ),
        ),
        (ClassifyMode::Off, _) => (
            State::Note,
            Words::new(
                "Off: every request counts as internal unless it says otherwise.",
                "Aus: jede Anfrage gilt als intern, wenn sie nichts anderes sagt.",
            ),
        ),
        (ClassifyMode::Rules, _) => {
            (State::Note, Words::new("By rules, as configured.", "Nach Regeln, wie eingestellt."))
        }
        (ClassifyMode::Full, Ok(trained)) if !trained.is_quick() => (
            State::Ok,
            Words::new("Trained, both stages are loaded.", "Trainiert, beide Stufen sind geladen."),
        ),
        (ClassifyMode::Fast | ClassifyMode::Full, Ok(_)) => (
            State::Ok,
            Words::new(
                "Trained, the fast stage answers.",
                "Trainiert, die schnelle Stufe antwortet.",
            ),
        ),
    };
    report.add(state, "classifier", words);
}

fn table(report: &Report) -> Table {
    let mut table = Table::bare();
    for check in &report.checks {
        let state = match (check.state, report.locale) {
            (State::Ok, _) => "ok",
            (State::Note, Locale::En) => "note",
            (State::Note, Locale::De) => "Hinweis",
            (State::Warning, Locale::En) => "warning",
            (State::Warning, Locale::De) => "Warnung",
            (State::Broken, Locale::En) => "BROKEN",
            (State::Broken, Locale::De) => "KAPUTT",
        };
        table.row([state.to_owned(), check.what.clone(), check.message.clone()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart_into_host_and_port() {
        let read = |url: &str| host_and_port(url);
        assert_eq!(read("https://api.openai.com/v1"), Some(("api.openai.com".to_owned(), 443)));
        assert_eq!(read("http://127.0.0.1:11434/v1"), Some(("127.0.0.1".to_owned(), 11434)));
        assert_eq!(read("http://[::1]:8080"), Some(("::1".to_owned(), 8080)));
        assert_eq!(read("nonsense"), None);
    }

    #[test]
    fn days_are_counted_over_months_and_years() {
        let days = |from: &str, to: &str| age_days(from.parse().unwrap(), to.parse().unwrap());
        assert_eq!(days("2026-07-02", "2026-11-21"), Some(142));
        assert_eq!(days("2026-11-21", "2026-11-20"), Some(-1));
    }

    #[test]
    fn something_broken_is_told_apart_from_something_to_know() {
        let mut report = Report { locale: Locale::En, checks: Vec::new() };
        report.add(State::Warning, "model x", Words::new("old", "alt"));
        assert!(!report.is_broken());
        report.add(State::Broken, "store", Words::new("gone", "weg"));
        assert!(report.is_broken());
        insta::assert_snapshot!(table(&report).to_string(), @r"
        warning  model x  old
        BROKEN   store    gone
        ");
    }
}
