//! The sample company with simulated models, for `serve --demo`.
//!
//! Decides what a newcomer finds after one command: a configuration whose models are made up and
//! say so, a company, budgets, a key and a `curl`. Knows nothing of how the server runs. No
//! vendor is called, whatever keys stand in the environment: a configuration that names any
//! vendor is refused here.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use stellwerk_core::config::{Config, ProviderKind};
use stellwerk_core::ids::Node;
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

/// A demo must not spend money at a vendor nor mix invented people into a real company.
pub fn refuse_vendors(config: &Config) -> Result<(), CommandError> {
    let real = config.providers.values().find(|provider| provider.kind != ProviderKind::Simulated);
    let Some(provider) = real else { return Ok(()) };
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
}

/// Imports the sample company where no company is known yet, and makes a fresh key.
pub async fn prepare(store: &Arc<dyn Store>, now: Timestamp) -> Result<Welcome, CommandError> {
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
    Ok(Welcome { key: secret, token: one_time_token(), node })
}

/// Prepares the demo and says what a newcomer is shown.
pub async fn welcome(
    store: &Arc<dyn Store>,
    address: SocketAddr,
    locale: Locale,
    now: Timestamp,
) -> Result<String, CommandError> {
    let program = std::env::args().next().unwrap_or_else(|| "stellwerk".to_owned());
    Ok(words(&prepare(store, now).await?, address, &program, locale))
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
            "DEMO · The models are simulated: answers are made up and say so; no vendor is called.\n       Die Modelle sind simuliert: Antworten sind ausgedacht; kein Anbieter wird gerufen.",
            "One-time link for the browser:",
            "(The web UI is not built into this version yet; the page says so, and the link signs nobody in.)",
            "Key, shown once, of",
            "Ask over the API:",
            "In another terminal, in this folder:",
        ],
        Locale::De => [
            "DEMO · Die Modelle sind simuliert: Antworten sind ausgedacht und sagen es; kein Anbieter wird gerufen.\n       The models are simulated: answers are made up; no vendor is called.",
            "Einmal-Link für den Browser:",
            "(Die Weboberfläche gibt es in dieser Version noch nicht; die Seite sagt es, und der Link meldet niemanden an.)",
            "Schlüssel, nur jetzt gezeigt, von",
            "Fragen über die API:",
            "In einem anderen Terminal, in diesem Ordner:",
        ],
    };
    format!(
        "{simulated}\n\n{browser}\n  {link}\n  {no_ui}\n\n{key_words} {node}:\n  {key}\n\n{ask}\n{curl}\n\n{spent}\n  {program} ask --explain \"{question}\"\n  {program} budget show\n"
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
