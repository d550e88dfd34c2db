//! What a command starts from: language, configuration, store, and the whole engine.
//!
//! Knows nothing of what the commands do with them.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stellwerk_core::config::check::Surroundings;
use stellwerk_core::config::{Config, Finding, check, locate};
use stellwerk_core::ids::Node;
use stellwerk_core::org::{Directory, UnknownCaller};
use stellwerk_core::reply::Words;
use stellwerk_core::request::Locale;
use stellwerk_core::store::Store;

use crate::cli::check::{Kind, told};
use crate::cli::{CommandError, output};
use crate::wiring::{self, StartError, Wired};

/// What every command knows.
#[derive(Debug, Clone)]
pub struct Context {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// The language of words to the person.
    pub locale: Locale,
}

impl Context {
    /// The words in the person's language.
    pub fn words(&self, en: impl Into<String>, de: impl Into<String>) -> String {
        match self.locale {
            Locale::En => en.into(),
            Locale::De => de.into(),
        }
    }

    /// Runs a command that waits. Two threads are enough for one person's command, and keep its
    /// start quick.
    pub fn block_on(
        &self,
        command: impl Future<Output = Result<(), CommandError>>,
    ) -> Result<(), CommandError> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(command)
    }
}

/// The language of a terminal: `LC_ALL` outranks `LC_MESSAGES` outranks `LANG`; the first that
/// is set decides.
pub fn locale(env: &dyn Fn(&str) -> Option<String>) -> Locale {
    let set = ["LC_ALL", "LC_MESSAGES", "LANG"]
        .into_iter()
        .find_map(|name| env(name).filter(|value| !value.is_empty()));
    Locale::preferred(&set.unwrap_or_default().replace('.', ";"))
}

/// The configuration file that is meant; `None`: defaults and environment.
pub fn config_path(context: &Context) -> Option<PathBuf> {
    locate::find(context.config.as_deref(), &environment, Path::new(""))
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads and checks a configuration.
pub fn load(path: Option<&Path>) -> Result<Config, Vec<Finding>> {
    let ollama = path.is_none().then(super::ollama::ask).flatten();
    let today = jiff::Zoned::now().date();
    crate::demo::load(path, &Surroundings { env: &environment, today, ollama })
}

/// The configuration of this command, or a refusal that has been told line by line.
pub fn config(context: &Context) -> Result<Config, CommandError> {
    let path = config_path(context);
    load(path.as_deref()).map_err(|findings| {
        let file = path.map(|path| path.display().to_string());
        for line in told(file.as_deref(), &findings, Kind::Error, context.locale) {
            output::say(&line);
        }
        CommandError::Told
    })
}

/// Neither file nor environment name anyone who could answer.
pub fn nobody_to_ask() -> Words {
    Words::new(
        "No provider is configured and none was found in the environment. Either try it out with \
         `stellwerk serve --demo` in an empty folder, or set a key such as OPENAI_API_KEY, \
         ANTHROPIC_API_KEY, GEMINI_API_KEY, MISTRAL_API_KEY or AZURE_OPENAI_ENDPOINT with its \
         key, or start an Ollama, or write a stellwerk.toml.",
        "Kein Anbieter ist eingetragen, und in der Umgebung steht keiner. Entweder mit \
         `stellwerk serve --demo` in einem leeren Ordner ausprobieren, oder einen Schlüssel wie \
         OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY, MISTRAL_API_KEY oder \
         AZURE_OPENAI_ENDPOINT mit Schlüssel setzen, oder einen Ollama starten, oder eine \
         stellwerk.toml schreiben.",
    )
}

/// Configuration and store, for commands that call no model.
pub struct Desk {
    /// What is believed.
    pub config: Arc<Config>,
    /// What is remembered.
    pub store: Arc<dyn Store>,
    /// Who is who, as of now.
    pub directory: Arc<Directory>,
}

impl Desk {
    /// Reads the configuration and opens the store beside whoever else uses it.
    ///
    /// A key can be revoked from a terminal that has none of the server's secrets: variables that
    /// are not set here are taken as set, since nothing on the desk calls a vendor.
    pub async fn open(context: &Context) -> Result<Desk, CommandError> {
        let without_secrets = |name: &str| environment(name).or_else(|| Some("unset".to_owned()));
        let today = jiff::Zoned::now().date();
        let around = Surroundings { env: &without_secrets, today, ollama: None };
        let of_desk = config_path(context).map(|path| check::load_in(Some(&path), &around));
        let config = Arc::new(match of_desk {
            Some(Ok(config)) => config,
            Some(Err(_)) | None => config(context)?,
        });
        let store = wiring::open_store(&config).await.map_err(start_error)?;
        let directory = store.refresh_directory().await?;
        Ok(Desk { config, store, directory })
    }

    /// Closes the store, and tells of whichever went wrong first.
    pub async fn close<T>(self, done: Result<T, CommandError>) -> Result<T, CommandError> {
        let closed = self.store.close().await;
        let done = done?;
        closed?;
        Ok(done)
    }

    /// The node, if something stands behind it; a person may also be named by e-mail address.
    pub fn node(&self, node: Node) -> Result<Node, CommandError> {
        if self.directory.has(&node) {
            return Ok(node);
        }
        if let Node::Person(written) = &node
            && let Ok(person) = self.directory.person(written.as_str())
        {
            return Ok(Node::Person(person.id.clone()));
        }
        Err(unknown(UnknownCaller::Node(node)))
    }
}

/// The whole house, for commands that go through the walk; stop it at the end.
pub async fn wired(context: &Context) -> Result<Wired, CommandError> {
    let config = config(context)?;
    if config.providers.is_empty() {
        return Err(CommandError::Refused(nobody_to_ask()));
    }
    Wired::start(config).await.map_err(start_error)
}

/// Why the house does not start: a provider that cannot be made is a matter of the
/// configuration, all else of the machine.
pub fn start_error(error: StartError) -> CommandError {
    match error {
        StartError::Engine(cause) => CommandError::refused(
            format!("{cause}."),
            format!("Der Anbieter `{}` ist nicht einzurichten: {}.", cause.id, cause.why),
        ),
        error => CommandError::Internal(error.into()),
    }
}

/// A person or node that is not there, in both languages.
pub fn unknown(error: UnknownCaller) -> CommandError {
    let german = match &error {
        UnknownCaller::Person(written) => {
            format!("Die Person `{written}` gibt es nicht; `stellwerk org show` zeigt alle.")
        }
        UnknownCaller::Closed(written) => format!("Die Person `{written}` ist geschlossen."),
        UnknownCaller::Node(node) => {
            format!("Den Knoten `{node}` gibt es nicht; `stellwerk org show` zeigt alle.")
        }
    };
    CommandError::refused(format!("{error}."), german)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terminal_speaks_german_where_the_system_does() {
        let with = |pairs: &'static [(&str, &str)]| {
            locale(&move |name| {
                pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(with(&[("LANG", "de_DE.UTF-8")]), Locale::De);
        assert_eq!(with(&[("LANG", "de_DE.UTF-8"), ("LC_ALL", "C.UTF-8")]), Locale::En);
        assert_eq!(with(&[("LANG", "de_AT"), ("LC_ALL", "")]), Locale::De);
        assert_eq!(with(&[]), Locale::En);
    }
}
