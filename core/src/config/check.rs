//! From the configuration as written to the configuration as believed.
//!
//! Collects everything that is wrong at once, each finding with key and line, in English and
//! German; either all of it is sound or there is no [`Config`]. Start with [`load`]; without a
//! file, [`found`] makes a configuration from the environment. Knows nothing of what runs.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use jiff::civil::Date;
use rust_decimal::Decimal;
use sha2::Digest;
use toml::de::DeTable;

use crate::catalog::shipped;
use crate::config::file::{Located, Reader, Section, finding};
use crate::config::{
    BudgetConfig, ClassifyConfig, ClassifyMode, Config, Finding, GuardConfig, InjectionAction,
    Money, Origin, PiiAction, Server, StoreUrl, ZoneRules,
};
use crate::money::{Currency, ExchangeRate};
use crate::reply::Words;
use crate::request::{Sensitivity, Zone};

mod access;
pub mod found;
mod guards;
mod models;
mod own;
mod policies;
#[cfg(test)]
mod tests;

pub use found::Ollama;

/// What a configuration depends on beside its file.
#[derive(Clone)]
pub struct Surroundings<'a> {
    /// The environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Today, for what is said of ageing prices and models near their end.
    pub today: Date,
    /// An Ollama that answered on its usual port; it counts only where there is no file. Asking
    /// it is the caller's part.
    pub ollama: Option<Ollama>,
}

/// Reads and checks the file, or, without one, believes what the environment offers.
///
/// On success look at [`Config::warnings`] too.
pub fn load(
    path: Option<&Path>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Vec<Finding>> {
    load_in(path, &Surroundings { env, today: today(), ollama: None })
}

/// [`load`] with everything that a configuration depends on.
pub fn load_in(
    path: Option<&Path>,
    surroundings: &Surroundings<'_>,
) -> Result<Config, Vec<Finding>> {
    let Some(path) = path else { return Ok(found::config(surroundings)) };
    let bytes = std::fs::read(path).map_err(|cause| vec![unreadable(path, &cause.to_string())])?;
    let text = std::str::from_utf8(&bytes).map_err(|_| vec![unreadable(path, "not UTF-8")])?;
    let base_dir = path.parent().unwrap_or(Path::new(""));
    let config = parse_in(text, base_dir, surroundings)?;
    Ok(Config { path: Some(path.to_owned()), ..config })
}

/// Checks a text as if it stood in a file in `base_dir`.
pub fn parse(
    text: &str,
    base_dir: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Vec<Finding>> {
    parse_in(text, base_dir, &Surroundings { env, today: today(), ollama: None })
}

/// [`parse`] with everything that a configuration depends on.
pub fn parse_in(
    text: &str,
    base_dir: &Path,
    surroundings: &Surroundings<'_>,
) -> Result<Config, Vec<Finding>> {
    let reader = Reader::new(text, base_dir, surroundings.env);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        reader.syntax(error);
    }
    if !errors.is_empty() {
        return Err(reader.into_parts().0);
    }
    let root = Section::root(&reader, table.get_ref());
    let config = believed(root, &reader, base_dir, surroundings.today);
    let (findings, origins) = reader.into_parts();
    if !findings.is_empty() {
        return Err(findings);
    }
    let hash = hex::encode(sha2::Sha256::digest(text.as_bytes()));
    Ok(Config { hash, origins, ..config })
}

/// The whole file, section by section. What cannot be believed is noted in the reader and
/// replaced by its default, so that the rest is checked as well.
fn believed(root: Section<'_>, reader: &Reader<'_>, base_dir: &Path, today: Date) -> Config {
    let mut warnings = Vec::new();
    let server = server(root.section("server"), reader);
    let store = store(root.section("store"), reader, base_dir);
    let money = money(root.section("money"), reader, today, &mut warnings);
    let providers = access::providers(root.sections("provider"), reader, &mut warnings);
    let models =
        models::catalog(root.sections("model"), reader, &providers, &money, today, &mut warnings);
    let (classify, classifiers) = classify(root.section("classify"), reader, base_dir);
    let policies =
        policies::policies(root.sections("policy"), reader, &models, &classifiers, &mut warnings);
    let grants = policies::grants(root.sections("grant"), reader, &models);
    let zones = zones(root.section("sensitivity"), &mut warnings);
    let guard = guard(root.section("guard"), reader, &classifiers);
    let budget = budget(root.section("budget"));
    later_issues(&root);
    root.finish();
    Config {
        path: None,
        hash: String::new(),
        server,
        store,
        money,
        providers: providers.sound,
        catalog: models.catalog,
        policies,
        grants,
        zones,
        guard,
        budget,
        classify,
        warnings,
        origins: BTreeMap::new(),
    }
}

/// Sections of the design that later versions fill. Taking them silently would let someone
/// believe that a bot listens or that data is erased.
fn later_issues(root: &Section<'_>) {
    root.not_yet("slack", "the Slack bot", "den Slack-Bot");
    root.not_yet("teams", "the Teams bot", "den Teams-Bot");
    root.not_yet("discord", "the Discord bot", "den Discord-Bot");
    root.not_yet("knowledge", "the company's knowledge", "das Firmenwissen");
    root.not_yet("privacy", "retention and erasure", "Aufbewahrung und Löschung");
    root.not_yet("cache", "the answer cache", "den Antwort-Cache");
    root.not_yet("audit", "the audit log", "das Prüfprotokoll");
}

fn server(section: Option<Section<'_>>, reader: &Reader<'_>) -> Server {
    let mut server = Server::default();
    let Some(section) = section else { return server };
    if let Some(listen) = section.text("listen") {
        match socket_address(&listen.value) {
            Some(address) => server.listen = address,
            None => {
                let shown = listen.shown();
                let words = Words::new(
                    format!(
                        "`{shown}` is no address to listen on; write for example 127.0.0.1:8750"
                    ),
                    format!(
                        "an `{shown}` kann nicht gelauscht werden; bitte zum Beispiel \
                         127.0.0.1:8750 schreiben"
                    ),
                );
                reader.wrong_at(&listen, words);
            }
        }
    }
    if let Some(public_url) = section.text("public_url") {
        server.public_url = access::web_address(&public_url, reader);
    }
    if let Some(bytes) = section.whole("max_body_bytes", 1024, 1 << 30) {
        server.max_body_bytes = usize::try_from(bytes.value).unwrap_or(usize::MAX);
    }
    if let Some(grace) = section.whole("shutdown_grace_ms", 0, 3_600_000) {
        server.shutdown_grace = Duration::from_millis(grace.value);
    }
    section.finish();
    server
}

/// `localhost` is meant often enough to be taken, though it is a name.
fn socket_address(written: &str) -> Option<SocketAddr> {
    match written.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().ok()?))),
        None => written.parse().ok(),
    }
}

fn store(section: Option<Section<'_>>, reader: &Reader<'_>, base_dir: &Path) -> StoreUrl {
    let default = default_store(base_dir);
    let Some(section) = section else { return default };
    let url = section.text("url");
    section.finish();
    let Some(url) = url else { return default };
    if let Some(path) = url.value.strip_prefix("sqlite:").filter(|path| !path.is_empty()) {
        let path = path.strip_prefix("//").unwrap_or(path);
        return StoreUrl::Sqlite(base_dir.join(path));
    }
    let postgres = url.value.starts_with("postgres:") || url.value.starts_with("postgresql:");
    let words = if postgres {
        Words::new(
            "not yet: PostgreSQL is not built yet; write sqlite:stellwerk-data/stellwerk.db",
            "noch nicht: PostgreSQL gibt es noch nicht; bitte \
             sqlite:stellwerk-data/stellwerk.db schreiben",
        )
    } else {
        Words::new(
            "is no database address; write sqlite:PATH, for example \
             sqlite:stellwerk-data/stellwerk.db",
            "ist keine Datenbankadresse; bitte sqlite:PFAD schreiben, zum Beispiel \
             sqlite:stellwerk-data/stellwerk.db",
        )
    };
    reader.wrong_at(&url, words);
    default
}

/// The data folder beside the file; a file that already lies in the data folder has the database
/// as its neighbour.
fn default_store(base_dir: &Path) -> StoreUrl {
    let in_data_folder = base_dir.file_name().is_some_and(|name| name == "stellwerk-data");
    let name = if in_data_folder { "stellwerk.db" } else { "stellwerk-data/stellwerk.db" };
    StoreUrl::Sqlite(base_dir.join(name))
}

fn money(
    section: Option<Section<'_>>,
    reader: &Reader<'_>,
    today: Date,
    warnings: &mut Vec<Finding>,
) -> Money {
    let mut currency = default_currency();
    let mut usd = None;
    let mut time_zone =
        jiff::tz::TimeZone::get(DEFAULT_TIME_ZONE).unwrap_or(jiff::tz::TimeZone::UTC);
    let mut line = None;
    if let Some(section) = section {
        line = section.line_of("currency");
        if let Some(code) = section.text("currency") {
            match Currency::new(&code.value) {
                Some(known) => currency = known,
                None => reader.wrong_at(&code, no_currency(&code.shown())),
            }
        }
        usd = section.decimal("usd").and_then(|written| exchange_rate(&written, reader));
        if let Some(name) = section.text("time_zone") {
            match jiff::tz::TimeZone::get(&name.value) {
                Ok(zone) => time_zone = zone,
                Err(_) => {
                    let shown = name.shown();
                    let words = Words::new(
                        format!("`{shown}` is no time zone; write for example Europe/Berlin"),
                        format!(
                            "`{shown}` ist keine Zeitzone; bitte zum Beispiel Europe/Berlin \
                             schreiben"
                        ),
                    );
                    reader.wrong_at(&name, words);
                }
            }
        }
        section.finish();
    }
    let usd = dollar(&currency, usd, line, reader, today, warnings);
    Money { currency, usd, time_zone }
}

/// The default of `[money] time_zone`.
pub const DEFAULT_TIME_ZONE: &str = "Europe/Berlin";

fn default_currency() -> Currency {
    Currency::new("EUR").unwrap_or_else(|| unreachable!("EUR is three capital letters"))
}

fn no_currency(shown: &str) -> Words {
    Words::new(
        format!("`{shown}` is no currency code; write three capital letters, for example EUR"),
        format!(
            "`{shown}` ist kein Währungscode; bitte drei Großbuchstaben schreiben, zum Beispiel \
             EUR"
        ),
    )
}

fn exchange_rate(written: &Located<String>, reader: &Reader<'_>) -> Option<Located<ExchangeRate>> {
    let rate = written.value.trim().parse::<Decimal>().ok().and_then(ExchangeRate::new);
    if rate.is_none() {
        let shown = written.shown();
        let words = Words::new(
            format!("`{shown}` is no rate; write one US dollar in your currency, usd = \"0.92\""),
            format!(
                "`{shown}` ist kein Kurs; bitte einen US-Dollar in Ihrer Währung schreiben, \
                 usd = \"0.92\""
            ),
        );
        reader.wrong_at(written, words);
    }
    Some(Located {
        value: rate?,
        key: written.key.clone(),
        line: written.line,
        origin: written.origin.clone(),
    })
}

/// One US dollar in the company's currency: as configured, else the shipped dated rate with a
/// word on its age.
fn dollar(
    currency: &Currency,
    written: Option<Located<ExchangeRate>>,
    line: Option<usize>,
    reader: &Reader<'_>,
    today: Date,
    warnings: &mut Vec<Finding>,
) -> ExchangeRate {
    let is_dollar = currency.as_str() == "USD";
    if let Some(written) = written {
        if is_dollar && written.value != ExchangeRate::ONE {
            let words = Words::new(
                "one US dollar is one US dollar; take usd out where the currency is USD",
                "ein US-Dollar ist ein US-Dollar; bitte usd entfernen, wenn die Währung USD ist",
            );
            reader.wrong_at(&written, words);
        }
        return written.value;
    }
    if is_dollar {
        return ExchangeRate::ONE;
    }
    let Some(shipped) = shipped::usd_in(currency) else {
        let words = Words::new(
            format!("no shipped rate for {currency}; write one US dollar in {currency} as usd"),
            format!(
                "für {currency} ist kein Kurs dabei; bitte einen US-Dollar in {currency} als usd \
                 schreiben"
            ),
        );
        reader.wrong("money.usd", line, words);
        return ExchangeRate::ONE;
    };
    reader.set_origin("money.usd", Origin::Catalogue);
    warnings.push(rate_warning(currency, &shipped, line, today));
    shipped.rate
}

fn rate_warning(
    currency: &Currency,
    shipped: &shipped::DatedRate,
    line: Option<usize>,
    today: Date,
) -> Finding {
    let shipped::DatedRate { rate, date } = shipped;
    let days = (today - *date).get_days();
    let words = Words::new(
        format!(
            "not set: the shipped rate of {date} is taken, 1 USD = {rate} {currency}; it is \
             {days} days old"
        ),
        format!(
            "nicht gesetzt: der mitgelieferte Kurs vom {date} gilt, 1 USD = {rate} {currency}; \
             er ist {days} Tage alt"
        ),
    );
    finding("money.usd", line, words)
}

fn zones(section: Option<Section<'_>>, warnings: &mut Vec<Finding>) -> ZoneRules {
    let mut rules = ZoneRules::default();
    let Some(section) = section else { return rules };
    let set = |key, place: &mut Zone| {
        if let Some(zone) = section.word(key, Zone::ALL) {
            *place = zone.value;
        }
    };
    set("public", &mut rules.public);
    set("internal", &mut rules.internal);
    set("confidential", &mut rules.confidential);
    set("restricted", &mut rules.restricted);
    let farthest = [rules.public, rules.internal, rules.confidential, rules.restricted];
    for (index, pair) in farthest.windows(2).enumerate() {
        if pair[1] > pair[0] {
            let (lower, higher) = (Sensitivity::ALL[index], Sensitivity::ALL[index + 1]);
            let words = Words::new(
                format!("{higher} data may travel farther than {lower} data; is that meant?"),
                format!("{higher} darf weiter reisen als {lower}; ist das gewollt?"),
            );
            warnings.push(finding(&section.dotted(higher.as_str()), section.line, words));
        }
    }
    section.finish();
    rules
}

fn guard(
    section: Option<Section<'_>>,
    reader: &Reader<'_>,
    classifiers: &own::Classifiers,
) -> GuardConfig {
    let mut guard = GuardConfig::default();
    let Some(section) = section else { return guard };
    if section.is_table("pii") {
        if let Some(by_zone) = section.section("pii") {
            let set = |key, place: &mut PiiAction| {
                if let Some(action) = by_zone.word(key, PiiAction::ALL) {
                    *place = action.value;
                }
            };
            set("local", &mut guard.pii_local);
            set("eu", &mut guard.pii_eu);
            set("world", &mut guard.pii_world);
            by_zone.finish();
        }
    } else if let Some(action) = section.word("pii", PiiAction::ALL) {
        guard.pii_local = action.value;
        guard.pii_eu = action.value;
        guard.pii_world = action.value;
    }
    if let Some(action) = section.word("injection", InjectionAction::ALL) {
        guard.injection = action.value;
    }
    guards::lists(&section, reader, classifiers, &mut guard);
    section.finish();
    guard
}

fn budget(section: Option<Section<'_>>) -> BudgetConfig {
    let mut budget = BudgetConfig::default();
    let Some(section) = section else { return budget };
    if let Some(share) = section.number("degrade_at", 0.0, 1.0) {
        budget.degrade_at = share.value;
    }
    if let Some(mut thresholds) = section.numbers("thresholds", 0.0, 1.0) {
        thresholds.sort_by(f64::total_cmp);
        thresholds.dedup();
        budget.thresholds = thresholds;
    }
    section.finish();
    budget
}

fn classify(
    section: Option<Section<'_>>,
    reader: &Reader<'_>,
    base_dir: &Path,
) -> (ClassifyConfig, own::Classifiers) {
    let mut classify = ClassifyConfig::default();
    let Some(section) = section else { return (classify, own::Classifiers::default()) };
    if let Some(mode) = section.word("mode", ClassifyMode::ALL) {
        classify.mode = mode.value;
    }
    if let Some(device) = section.word("device", &["auto", "cpu", "cuda", "metal"]) {
        classify.device = device.value.to_owned();
    }
    let classifiers = own::classifiers(section.section("custom"), reader, base_dir);
    classify.custom.clone_from(&classifiers.folders);
    section.finish();
    (classify, classifiers)
}

fn unreadable(path: &Path, why: &str) -> Finding {
    let shown = path.display();
    let words = Words::new(
        format!("cannot read the configuration file {shown}: {why}"),
        format!("die Konfigurationsdatei {shown} lässt sich nicht lesen: {why}"),
    );
    finding("", None, words)
}

fn today() -> Date {
    jiff::Zoned::now().date()
}
