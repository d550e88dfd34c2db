//! The sample company with simulated models, for `serve --demo`.
//!
//! Decides what a newcomer finds after one command: a configuration whose models are made up and
//! say so, a company, budgets, a key and a `curl`. Vendors whose keys stand in the environment are
//! set up beside them under a policy of their own: `auto` stays simulated, so that nobody spends
//! money by trying the demo, and `auto:vendor` talks to them. Knows nothing of how the server runs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use stellwerk_core::catalog::{Model, ModelKind};
use stellwerk_core::config::check::{self, Surroundings};
use stellwerk_core::config::{Config, Finding, Origin, ProviderKind};
use stellwerk_core::ids::Node;
use stellwerk_core::money::PriceSource;
use stellwerk_core::org::import::ImportPlan;
use stellwerk_core::org::{ApiKey, KeyLimits, key};
use stellwerk_core::request::Locale;
use stellwerk_core::store::Store;

use crate::cli::CommandError;

/// Where the demo's configuration is written; commands in the same folder find it there.
pub const CONFIG_PATH: &str = "stellwerk-data/stellwerk.toml";

/// What is written there.
pub const CONFIG: &str = include_str!("../../assets/sample-company.stellwerk.toml");

/// The company that is imported.
pub const COMPANY: &str = include_str!("../../assets/sample-company.toml");

/// The name of the demo's key. One is made at each start, since the last one was shown once and
/// is lost; the one before is revoked.
const KEY_NAME: &str = "demo";

/// Whose key it is: somebody with a team, a department and budgets above her.
const KEY_PERSON: &str = "a.kessler";

/// What `serve --demo` starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// There was no configuration; the demo's was written here.
    Written(PathBuf),
    /// A configuration was found; [`refuse_vendors`] decides whether it may be used.
    Found(PathBuf),
}

/// The policy of vendors whose keys stood in the environment.
pub const VENDOR_POLICY: &str = "vendor";

/// How the demo's own configuration begins.
const MARK: &str = "# Written by `stellwerk serve --demo`.";

/// Reads and checks a configuration. The demo's own is joined by the vendors whose keys stand in
/// the environment of whoever reads it: a terminal without the key sees the simulated models only,
/// and nothing is wrong.
pub fn load(path: Option<&Path>, around: &Surroundings<'_>) -> Result<Config, Vec<Finding>> {
    let config = check::load_in(path, around)?;
    let Some(path) = path else { return Ok(config) };
    let of_demo = std::fs::read_to_string(path).ok().filter(|text| text.starts_with(MARK));
    let named = config.providers.values().any(|p| p.kind != ProviderKind::Simulated)
        || config.policies.contains_key(VENDOR_POLICY);
    let (Some(text), false) = (of_demo, named) else { return Ok(config) };
    let vendors = check::load_in(None, around)?;
    let joined = format!("{text}{}", vendor_tables(&vendors));
    let base = path.parent().unwrap_or(Path::new(""));
    let joined = check::parse_in(&joined, base, around)?;
    Ok(Config { path: Some(path.to_owned()), hash: config.hash, ..joined })
}

/// Takes the configuration that was found, or writes the demo's into `folder`.
pub fn start(found: Option<PathBuf>, folder: &Path) -> Result<Start, CommandError> {
    if let Some(path) = found {
        return Ok(Start::Found(path));
    }
    let path = folder.join(CONFIG_PATH);
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    written.and_then(|()| std::fs::write(&path, CONFIG)).map_err(|error| {
        CommandError::refused(
            format!("{} cannot be written: {error}.", path.display()),
            format!("{} ist nicht beschreibbar: {error}.", path.display()),
        )
    })?;
    Ok(Start::Written(path))
}

/// The vendors of the environment as tables of the configuration; the keys stay where they are.
fn vendor_tables(vendors: &Config) -> String {
    let models: Vec<&Model> = vendors.catalog.iter().map(Arc::as_ref).collect();
    let chat: Vec<String> = models
        .iter()
        .filter(|model| model.kind == ModelKind::Chat)
        .map(|model| Value::from(model.id.as_str()).to_string())
        .collect();
    if chat.is_empty() {
        return String::new();
    }
    let mut tables = String::from("\n# Found in the environment; not written to any file.\n");
    for provider in vendors.providers.values() {
        let mut table = toml::Table::new();
        table.insert("id".into(), provider.id.as_str().into());
        table.insert("kind".into(), provider.kind.as_str().into());
        table.insert("base_url".into(), provider.base_url.as_str().into());
        table.insert("zone".into(), provider.zone.as_str().into());
        let origin = vendors.origins.get(&format!("provider.{}.api_key", provider.id));
        if let Some(Origin::Environment { name }) = origin {
            table.insert("api_key".into(), format!("env:{name}").into());
        }
        if let Some(version) = &provider.api_version {
            table.insert("api_version".into(), version.as_str().into());
        }
        tables.push_str(&format!("\n[[provider]]\n{table}"));
    }
    for model in &models {
        let place = &model.deployments[0];
        let mut table = toml::Table::new();
        table.insert("id".into(), model.id.as_str().into());
        table.insert("kind".into(), model.kind.as_str().into());
        table.insert("provider".into(), place.provider.as_str().into());
        table.insert("name".into(), place.name.as_str().into());
        table.insert("tier".into(), model.tier.as_str().into());
        if place.price.source == PriceSource::Free {
            table.insert("price".into(), "free".into());
        }
        tables.push_str(&format!("\n[[model]]\n{table}"));
    }
    tables.push_str(&format!(
        "\n[[policy]]\nid = \"{VENDOR_POLICY}\"\nstrategy = \"cascade\"\nmodels = [{}]\n\
         max_output_tokens = 1024\n",
        chat.join(", ")
    ));
    tables
}

/// The demo must not mix invented people into a real company: of configurations that name a
/// vendor only its own are taken.
pub fn refuse_vendors(config: &Config) -> Result<(), CommandError> {
    let real = config.providers.values().find(|provider| provider.kind != ProviderKind::Simulated);
    let Some(provider) = real else { return Ok(()) };
    let written = config.path.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
    if written.is_some_and(|text| text.starts_with(MARK)) {
        return Ok(());
    }
    let place = config.path.as_deref().unwrap_or(Path::new(CONFIG_PATH)).display();
    Err(CommandError::refused(
        format!(
            "--demo uses simulated models only, but {place} names the provider `{}`. Start without --demo, or in an empty folder.",
            provider.id
        ),
        format!(
            "--demo nutzt nur simulierte Modelle, aber {place} nennt den Anbieter `{}`. Bitte ohne --demo starten oder in einem leeren Ordner.",
            provider.id
        ),
    ))
}

/// What a newcomer is shown.
#[derive(Debug)]
pub struct Welcome {
    /// The demo's key; shown once.
    pub key: SecretString,
    /// For the one-time link.
    pub token: SecretString,
    /// Whose key it is.
    pub node: Node,
    /// The vendors that `auto:vendor` talks to.
    pub vendors: Vec<String>,
}

/// Imports the sample company where no company is known yet, and makes a fresh key.
pub async fn prepare(
    store: &Arc<dyn Store>,
    config: &Config,
    now: Timestamp,
) -> Result<Welcome, CommandError> {
    let mut directory = store.refresh_directory().await?;
    if directory.company.is_none() {
        store.import_org(company()?, now).await?;
        directory = store.refresh_directory().await?;
    }
    let earlier = directory
        .keys
        .values()
        .filter(|key| key.name == KEY_NAME && key.revoked_at.is_none())
        .map(|key| key.id.clone());
    for id in earlier {
        store.revoke_key(id, now).await?;
    }
    let person = Node::Person(KEY_PERSON.into());
    // Whoever has imported a company of their own into the demo gets a key on that company.
    let node = if directory.has(&person) { person } else { Node::Company };
    let secret = key::fresh();
    store
        .create_key(ApiKey {
            id: crate::cli::fresh_key_id(),
            hash: key::hash(secret.expose_secret()),
            node: node.clone(),
            name: KEY_NAME.to_owned(),
            use_case: None,
            limits: KeyLimits::default(),
            floor: None,
            keep_history: false,
            created_at: now,
            revoked_at: None,
        })
        .await?;
    let real = config.providers.values().filter(|p| p.kind != ProviderKind::Simulated);
    let vendors = real.map(|provider| provider.id.to_string()).collect();
    Ok(Welcome { key: secret, token: one_time_token(), node, vendors })
}

/// Prepares the demo and says what a newcomer is shown.
pub async fn welcome(
    store: &Arc<dyn Store>,
    config: &Config,
    address: SocketAddr,
    locale: Locale,
    now: Timestamp,
) -> Result<String, CommandError> {
    let program = std::env::args().next().unwrap_or_else(|| "stellwerk".to_owned());
    Ok(words(&prepare(store, config, now).await?, address, &program, locale))
}

fn company() -> Result<ImportPlan, CommandError> {
    ImportPlan::from_toml(COMPANY).map_err(|findings| {
        CommandError::Internal(anyhow::anyhow!("the sample company is wrong: {findings:?}"))
    })
}

fn one_time_token() -> SecretString {
    let bits: [u8; 16] = rand::random();
    SecretString::from(hex::encode(bits))
}

/// The words at the start of a demo, with a `curl` that works as it stands.
///
/// `program` is how the person called it, so that the commands work as they stand too.
pub fn words(welcome: &Welcome, address: SocketAddr, program: &str, locale: Locale) -> String {
    let url = format!("http://{}", reachable(address));
    let link = format!("{url}/?token={}", welcome.token.expose_secret());
    let key = welcome.key.expose_secret();
    let node = &welcome.node;
    let question = match locale {
        Locale::En => "What does a signal box do?",
        Locale::De => "Was tut ein Stellwerk?",
    };
    let curl = format!(
        "curl {url}/v1/chat/completions \\\n  -H \"Authorization: Bearer {key}\" \\\n  -H \"Content-Type: application/json\" \\\n  -d '{{\"model\":\"auto\",\"messages\":[{{\"role\":\"user\",\"content\":\"{question}\"}}]}}'"
    );
    let [simulated, browser, no_ui, key_words, ask, spent] = match locale {
        Locale::En => [
            "DEMO · The models are simulated: answers are made up and say so; `auto` calls no vendor.\n       Die Modelle sind simuliert: Antworten sind ausgedacht; `auto` ruft keinen Anbieter.",
            "One-time link for the browser:",
            "(The web UI is not built into this version yet; the page says so, and the link signs nobody in.)",
            "Key, shown once, of",
            "Ask over the API:",
            "In another terminal, in this folder:",
        ],
        Locale::De => [
            "DEMO · Die Modelle sind simuliert: Antworten sind ausgedacht und sagen es; `auto` ruft keinen Anbieter.\n       The models are simulated: answers are made up; `auto` calls no vendor.",
            "Einmal-Link für den Browser:",
            "(Die Weboberfläche gibt es in dieser Version noch nicht; die Seite sagt es, und der Link meldet niemanden an.)",
            "Schlüssel, nur jetzt gezeigt, von",
            "Fragen über die API:",
            "In einem anderen Terminal, in diesem Ordner:",
        ],
    };
    let real = match (welcome.vendors.join(", "), locale) {
        (vendors, _) if vendors.is_empty() => String::new(),
        (vendors, Locale::En) => format!(
            "\nKeys were found for: {vendors}. The same curl with \"model\":\"auto:{VENDOR_POLICY}\", or `ask --model auto:{VENDOR_POLICY}`,\ntalks to them and costs real money.\n"
        ),
        (vendors, Locale::De) => format!(
            "\nGefundene Schlüssel: {vendors}. Derselbe curl mit \"model\":\"auto:{VENDOR_POLICY}\" oder `ask --model auto:{VENDOR_POLICY}`\nspricht mit ihnen und kostet echtes Geld.\n"
        ),
    };
    format!(
        "{simulated}\n\n{browser}\n  {link}\n  {no_ui}\n\n{key_words} {node}:\n  {key}\n\n{ask}\n{curl}\n\n{spent}\n  {program} ask --explain \"{question}\"\n  {program} budget show\n{real}"
    )
}

/// An address that listens everywhere is not one that a browser can open.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip().is_unspecified() {
        false => address,
        true if address.is_ipv4() => SocketAddr::from(([127, 0, 0, 1], address.port())),
        true => SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, address.port())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn welcome() -> Welcome {
        Welcome {
            key: SecretString::from("sk-stw-0123".to_owned()),
            token: SecretString::from("abcd".to_owned()),
            node: Node::Person(KEY_PERSON.into()),
            vendors: Vec::new(),
        }
    }

    fn believed(text: &str) -> Config {
        let env = |_: &str| None;
        stellwerk_core::config::check::parse(text, Path::new("stellwerk-data"), &env).unwrap()
    }

    #[test]
    fn the_welcome_says_simulated_in_both_languages_and_shows_a_curl() {
        let address = "0.0.0.0:8750".parse().unwrap();
        insta::assert_snapshot!("english", words(&welcome(), address, "stellwerk", Locale::En));
        insta::assert_snapshot!("german", words(&welcome(), address, "./stellwerk", Locale::De));
    }

    #[test]
    fn the_configuration_of_the_demo_is_sound_and_calls_no_vendor() {
        let config = believed(CONFIG);
        assert!(refuse_vendors(&config).is_ok());
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        let zones: std::collections::BTreeSet<_> =
            config.providers.values().map(|provider| provider.zone).collect();
        assert_eq!(zones.len(), 3);
        assert!(config.catalog.iter().all(|model| model.id.as_str().starts_with("simulated-")));
    }

    #[test]
    fn a_demo_is_refused_where_a_vendor_is_configured() {
        let config = believed(
            "[[provider]]\nid = \"v\"\nkind = \"openai\"\nbase_url = \"https://v.example/v1\"\n\
             api_key = \"x\"\nzone = \"world\"\n[[model]]\nid = \"m\"\nprovider = \"v\"\n\
             name = \"m\"\ntier = \"economy\"\nprice = \"free\"\n",
        );
        assert!(matches!(refuse_vendors(&config), Err(CommandError::Refused(_))));
    }

    #[test]
    fn a_key_in_the_environment_is_set_up_beside_the_simulated_models() {
        let folder = tempfile::tempdir().unwrap();
        let env = |name: &str| (name == "OPENAI_API_KEY").then(|| "sk-geheim".to_owned());
        start(None, folder.path()).unwrap();
        let path = folder.path().join(CONFIG_PATH);
        let today = jiff::civil::date(2026, 11, 21);
        let around = Surroundings { env: &env, today, ollama: None };
        let config = load(Some(&path), &around).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), CONFIG, "nothing of it is written");
        let without = load(Some(&path), &Surroundings { env: &|_| None, ..around }).unwrap();
        assert!(!without.policies.contains_key(VENDOR_POLICY));
        assert!(refuse_vendors(&config).is_ok());
        let models = |policy: &str| config.policies[policy].models.clone();
        assert!(models("default").iter().all(|id| id.as_str().starts_with("simulated-")));
        assert!(!models(VENDOR_POLICY).is_empty());
        assert!(models(VENDOR_POLICY).iter().all(|id| !id.as_str().starts_with("simulated-")));
    }

    #[test]
    fn the_sample_company_has_the_owner_of_the_key() {
        let plan = company().unwrap();
        assert!(plan.people.iter().any(|person| person.id.as_str() == KEY_PERSON));
        assert!(plan.budgets.len() >= 8);
    }

    #[test]
    fn an_empty_folder_gets_a_configuration_and_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = start(None, folder.path()).unwrap();
        let path = folder.path().join(CONFIG_PATH);
        assert_eq!(first, Start::Written(path.clone()));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), CONFIG);
        assert_eq!(start(Some(path.clone()), folder.path()).unwrap(), Start::Found(path));
    }
}
