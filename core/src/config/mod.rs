//! The configuration as believed: types that cannot be wrong.
//!
//! [`mod@file`] is the configuration as written, [`check`] turns it into a [`Config`] or into a list
//! of findings with key and line. After that nobody checks again. Knows nothing of who uses it;
//! the values are taken apart by `engine`, `store` and the faces.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::caller::Channel;
use crate::catalog::Catalog;
use crate::ids::{Group, ModelId, Node, PolicyId, ProviderId, UseCase};
use crate::money::{Currency, ExchangeRate};
use crate::request::{Dialect, Domain, Sensitivity, TaskKind, Zone, word_enum};

pub mod check;
pub mod file;
mod guard;
pub mod locate;
pub mod show;

pub use guard::{
    GuardConfig, GuardRule, InjectionAction, OutputAction, OutputConfig, OwnPattern, PII_KINDS,
    Pattern, PiiAction, RuleAction, RuleSide,
};

/// Everything that the configuration says.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it came from; `None`: defaults and environment.
    pub path: Option<PathBuf>,
    /// SHA-256 of the file's bytes, hexadecimal; empty without a file.
    pub hash: String,
    /// The server.
    pub server: Server,
    /// Where the database is.
    pub store: StoreUrl,
    /// Currency, rate, time zone.
    pub money: Money,
    /// Accesses to vendors, by id.
    pub providers: BTreeMap<ProviderId, ProviderConfig>,
    /// Models with prices and places.
    pub catalog: Catalog,
    /// Policies by id; `default` is one of them.
    pub policies: BTreeMap<PolicyId, Policy>,
    /// Who may use which model for what.
    pub grants: Vec<Grant>,
    /// Which level may go how far.
    pub zones: ZoneRules,
    /// Guards.
    pub guard: GuardConfig,
    /// Budget pressure and thresholds.
    pub budget: BudgetConfig,
    /// The classifier.
    pub classify: ClassifyConfig,
    /// Things that are allowed but should be known: an old rate, a model near its end.
    pub warnings: Vec<Finding>,
    /// Where each value came from: dotted key → origin, for `check` and the UI.
    pub origins: BTreeMap<String, Origin>,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "from")]
pub enum Origin {
    /// The file, on this line (from 1).
    File {
        /// The line.
        line: usize,
    },
    /// The environment variable of this name.
    Environment {
        /// The name.
        name: String,
    },
    /// Another file, named with `file:`.
    OtherFile {
        /// Its path.
        path: String,
    },
    /// The catalogue that ships with the program.
    Catalogue,
    /// The built-in default.
    Default,
}

/// Something that is wrong or worth knowing in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The dotted key, `provider.openai.base_url`.
    pub key: String,
    /// The line of the file, from 1, if it has one.
    pub line: Option<usize>,
    /// What is wrong and what to do, in English.
    pub message: String,
    /// The same in German.
    pub message_de: String,
}

/// `[server]`.
#[derive(Debug, Clone)]
pub struct Server {
    /// Where to listen; loopback unless told otherwise.
    pub listen: SocketAddr,
    /// The address that people use.
    pub public_url: Option<String>,
    /// The largest body that is read, in bytes.
    pub max_body_bytes: usize,
    /// How long a stop waits for running calls before it cancels and settles them.
    pub shutdown_grace: Duration,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            listen: SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 8750)),
            public_url: None,
            max_body_bytes: 32 << 20,
            shutdown_grace: Duration::from_secs(30),
        }
    }
}

/// Where the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A SQLite file, absolute or relative to the working directory.
    Sqlite(PathBuf),
}

/// `[money]`.
#[derive(Debug, Clone)]
pub struct Money {
    /// The company's currency.
    pub currency: Currency,
    /// One US dollar in that currency.
    pub usd: ExchangeRate,
    /// The calendar of periods.
    pub time_zone: jiff::tz::TimeZone,
}

word_enum! {
    /// Which vendor's format an access speaks.
    ProviderKind {
        /// OpenAI and every server that speaks its format.
        OpenAi = "openai",
        /// Azure OpenAI.
        Azure = "azure",
        /// Anthropic.
        Anthropic = "anthropic",
        /// Google Gemini.
        Gemini = "gemini",
        /// AWS Bedrock's Converse.
        Bedrock = "bedrock",
        /// No vendor: made-up answers, marked as such.
        Simulated = "simulated",
    }
}

impl ProviderKind {
    /// Whether what only this format can say may be sent there. Made-up answers read everything.
    pub fn speaks(self, dialect: Dialect) -> bool {
        match self {
            ProviderKind::OpenAi | ProviderKind::Azure => dialect == Dialect::OpenAi,
            ProviderKind::Anthropic => dialect == Dialect::Anthropic,
            // Converse has words of its own, also for Claude.
            ProviderKind::Gemini | ProviderKind::Bedrock => false,
            ProviderKind::Simulated => true,
        }
    }
}

/// `[[provider]]`.
#[derive(Debug, Clone)]
pub struct ProviderConfig {
    /// Its id.
    pub id: ProviderId,
    /// Its format.
    pub kind: ProviderKind,
    /// Where it is, without a slash at the end; with `/v1` for `openai`, without the version
    /// path for the others.
    pub base_url: String,
    /// The key or bearer token.
    pub api_key: Option<SecretString>,
    /// Where it runs.
    pub zone: Zone,
    /// Azure's `api-version`.
    pub api_version: Option<String>,
    /// Bedrock's region.
    pub region: Option<String>,
    /// Bedrock's access key id.
    pub access_key: Option<SecretString>,
    /// Bedrock's secret key.
    pub secret_key: Option<SecretString>,
    /// Further headers that every call carries.
    pub headers: Vec<(String, SecretString)>,
    /// Time limits and retries.
    pub limits: ProviderLimits,
    /// Knobs of the simulated provider, for tests and the demo.
    pub simulated: SimulatedConfig,
}

/// Time limits and retries of one access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderLimits {
    /// To a connection.
    pub connect: Duration,
    /// From the call to the first token of a stream.
    pub first_token: Duration,
    /// Between two pieces of a stream.
    pub idle: Duration,
    /// The whole call.
    pub total: Duration,
    /// Tries beyond the first at one deployment, before the first token.
    pub max_retries: u32,
}

impl Default for ProviderLimits {
    fn default() -> Self {
        ProviderLimits {
            connect: Duration::from_secs(5),
            first_token: Duration::from_secs(60),
            idle: Duration::from_secs(30),
            total: Duration::from_secs(600),
            max_retries: 1,
        }
    }
}

/// Knobs of the simulated provider.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulatedConfig {
    /// Output tokens per second; 0: at once.
    pub tokens_per_second: u32,
    /// Milliseconds to the first token.
    pub first_token_ms: u64,
}

impl Default for SimulatedConfig {
    fn default() -> Self {
        SimulatedConfig { tokens_per_second: 80, first_token_ms: 250 }
    }
}

word_enum! {
    /// How a policy chooses.
    Strategy {
        /// The first healthy model.
        Fixed = "fixed",
        /// By what kind of work it is.
        Task = "task",
        /// The cheapest first, a stronger one when the answer is not good enough.
        Cascade = "cascade",
    }
}

/// `[[policy]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Its id.
    pub id: PolicyId,
    /// How it chooses.
    pub strategy: Strategy,
    /// Whom it may choose, in the admin's order.
    pub models: Vec<ModelId>,
    /// An answer whose confidence is below this escalates, 0…1.
    pub escalate_below: f64,
    /// A request whose complexity is at or above this does not start at an economy rung, 0…1.
    pub skip_economy_above: f64,
    /// The output limit where the caller gives none.
    pub max_output_tokens: u32,
    /// A model that is asked whether an answer will do, where the signs do not tell.
    pub judge: Option<ModelId>,
    /// Ask a second place when the first has been silent for so many milliseconds.
    pub hedge_after_ms: Option<u64>,
    /// A level below which nothing of this policy is handled.
    pub floor: Option<Sensitivity>,
    /// The first rule that matches replaces `models`.
    pub rules: Vec<Rule>,
}

/// `[[policy.rule]]`: all its conditions must hold; an empty list is no condition.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rule {
    /// Kinds of work.
    pub task: Vec<TaskKind>,
    /// Fields.
    pub domain: Vec<Domain>,
    /// Languages, ISO 639-1.
    pub language: Vec<String>,
    /// Levels.
    pub sensitivity: Vec<Sensitivity>,
    /// Doors.
    pub channel: Vec<Channel>,
    /// Use cases.
    pub use_case: Vec<UseCase>,
    /// At least this complex, 0…1.
    pub min_complexity: Option<f64>,
    /// Classes of classifiers of one's own.
    pub custom: BTreeMap<String, Vec<String>>,
    /// Whom the rule chooses from.
    pub models: Vec<ModelId>,
}

/// `[[grant]]`: a model named in a grant is for those only; one named in none is for all.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// Which models.
    pub models: Vec<ModelId>,
    /// For whom.
    pub to: Vec<Grantee>,
    /// For which use cases; empty: for all.
    pub use_cases: Vec<UseCase>,
}

/// Whom a grant names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grantee {
    /// Everyone at or below this node.
    Node(Node),
    /// Everyone in this group, `group:leads`.
    Group(Group),
}

/// `[sensitivity]`: how far each level may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZoneRules {
    /// The farthest zone for `public`.
    pub public: Zone,
    /// The farthest zone for `internal`.
    pub internal: Zone,
    /// The farthest zone for `confidential`.
    pub confidential: Zone,
    /// The farthest zone for `restricted`.
    pub restricted: Zone,
}

impl Default for ZoneRules {
    fn default() -> Self {
        ZoneRules {
            public: Zone::World,
            internal: Zone::World,
            confidential: Zone::Eu,
            restricted: Zone::Local,
        }
    }
}

impl ZoneRules {
    /// Whether data of this level may go to this zone.
    pub fn allow(&self, sensitivity: Sensitivity, zone: Zone) -> bool {
        let farthest = match sensitivity {
            Sensitivity::Public => self.public,
            Sensitivity::Internal => self.internal,
            Sensitivity::Confidential => self.confidential,
            Sensitivity::Restricted => self.restricted,
        };
        zone <= farthest
    }
}

/// `[budget]`.
#[derive(Debug, Clone, PartialEq)]
pub struct BudgetConfig {
    /// Share of any level from which cheaper models are preferred, 0…1.
    pub degrade_at: f64,
    /// Shares that notify once per period.
    pub thresholds: Vec<f64>,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        BudgetConfig { degrade_at: 0.8, thresholds: vec![0.5, 0.8, 1.0] }
    }
}

word_enum! {
    /// How much of the classifier runs.
    ClassifyMode {
        /// Fast and deep stage.
        Full = "full",
        /// Fast stage only.
        Fast = "fast",
        /// Rules only.
        Rules = "rules",
        /// None: what the request says, else `internal`.
        Off = "off",
    }
}

/// `[classify]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassifyConfig {
    /// How much of it runs.
    pub mode: ClassifyMode,
    /// `auto`, `cpu`, `cuda`, `metal`.
    pub device: String,
    /// Classifiers of one's own: name → folder that `train` wrote, relative to the configuration.
    pub custom: BTreeMap<String, PathBuf>,
}

impl Default for ClassifyConfig {
    fn default() -> Self {
        ClassifyConfig {
            mode: ClassifyMode::Full,
            device: "auto".to_owned(),
            custom: BTreeMap::new(),
        }
    }
}
