//! Without a configuration file: what the environment offers.
//!
//! Decides which vendors there is a key for and which of their models make the rungs of the
//! default cascade. Knows nothing of files and calls nobody; whether an Ollama answers is asked
//! by the caller.

use std::collections::BTreeMap;

use secrecy::SecretString;

use crate::catalog::shipped::{self, Fact};
use crate::catalog::{Abilities, Catalog, Deployment, Lifecycle, Model, ModelKind, Tokenizer};
use crate::config::check::{Surroundings, default_currency, default_store, policies};
use crate::config::file::finding;
use crate::config::{
    BudgetConfig, ClassifyConfig, Config, Finding, GuardConfig, Money, Origin, ProviderConfig,
    ProviderKind, ProviderLimits, Server, SimulatedConfig, ZoneRules,
};
use crate::ids::{ModelId, ProviderId};
use crate::money::{ExchangeRate, Price, PriceSource};
use crate::reply::Words;
use crate::request::{Tier, Zone};

/// Where an Ollama usually answers, in the form that `openai` providers take.
pub const OLLAMA_URL: &str = "http://127.0.0.1:11434/v1";

/// An Ollama that answered, with the models that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ollama {
    /// Its address with `/v1`.
    pub base_url: String,
    /// The names of its models.
    pub models: Vec<String>,
}

/// A vendor that is known by a variable of the environment.
struct Vendor {
    id: &'static str,
    kind: ProviderKind,
    base_url: &'static str,
    variables: &'static [&'static str],
    zone: Zone,
}

/// Mistral is a European company that answers from the European Union unless told otherwise;
/// the others may answer from anywhere.
const VENDORS: [Vendor; 4] = [
    Vendor {
        id: "openai",
        kind: ProviderKind::OpenAi,
        base_url: "https://api.openai.com/v1",
        variables: &["OPENAI_API_KEY"],
        zone: Zone::World,
    },
    Vendor {
        id: "anthropic",
        kind: ProviderKind::Anthropic,
        base_url: "https://api.anthropic.com",
        variables: &["ANTHROPIC_API_KEY"],
        zone: Zone::World,
    },
    Vendor {
        id: "gemini",
        kind: ProviderKind::Gemini,
        base_url: "https://generativelanguage.googleapis.com",
        variables: &["GEMINI_API_KEY"],
        zone: Zone::World,
    },
    Vendor {
        id: "mistral",
        kind: ProviderKind::OpenAi,
        base_url: "https://api.mistral.ai/v1",
        variables: &["MISTRAL_API_KEY"],
        zone: Zone::Eu,
    },
];

/// The configuration of a machine without a file.
pub fn config(surroundings: &Surroundings<'_>) -> Config {
    let mut found = Found::default();
    let currency = default_currency();
    let shipped_rate = shipped::usd_in(&currency);
    let money = Money {
        usd: shipped_rate.as_ref().map_or(ExchangeRate::ONE, |rate| rate.rate),
        currency,
        time_zone: jiff::tz::TimeZone::get(super::DEFAULT_TIME_ZONE)
            .unwrap_or(jiff::tz::TimeZone::UTC),
    };
    if let Some(rate) = &shipped_rate {
        found.origins.insert("money.usd".to_owned(), Origin::Catalogue);
        let warning = super::rate_warning(&money.currency, rate, None, surroundings.today);
        found.warnings.push(warning);
    }
    for vendor in &VENDORS {
        found.vendor(vendor, surroundings, &money);
    }
    found.azure(surroundings, &money);
    found.ollama(surroundings.ollama.as_ref(), &money);
    if found.providers.is_empty() {
        found.warnings.push(nobody());
    }
    let catalog = Catalog::new(found.models);
    let default = policies::default_cascade(&catalog);
    Config {
        path: None,
        hash: String::new(),
        server: Server::default(),
        store: default_store(std::path::Path::new("")),
        money,
        providers: found.providers,
        catalog,
        policies: BTreeMap::from([(default.id.clone(), default)]),
        grants: Vec::new(),
        zones: ZoneRules::default(),
        guard: GuardConfig::default(),
        budget: BudgetConfig::default(),
        classify: ClassifyConfig::default(),
        warnings: found.warnings,
        origins: found.origins,
    }
}

fn nobody() -> Finding {
    let words = Words::new(
        "no vendor was found: set OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY, \
         MISTRAL_API_KEY or AZURE_OPENAI_*, start an Ollama, write a stellwerk.toml, or try \
         `stellwerk serve --demo`",
        "kein Anbieter gefunden: bitte OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY, \
         MISTRAL_API_KEY oder AZURE_OPENAI_* setzen, ein Ollama starten, eine stellwerk.toml \
         schreiben oder `stellwerk serve --demo` ausprobieren",
    );
    finding("provider", None, words)
}

#[derive(Default)]
struct Found {
    providers: BTreeMap<ProviderId, ProviderConfig>,
    models: Vec<Model>,
    warnings: Vec<Finding>,
    origins: BTreeMap<String, Origin>,
}

impl Found {
    fn vendor(&mut self, vendor: &Vendor, surroundings: &Surroundings<'_>, money: &Money) {
        let Some((name, key)) = first_set(surroundings, vendor.variables) else { return };
        self.note_key(vendor.id, name);
        let provider = provider(vendor.id, vendor.kind, vendor.base_url, vendor.zone, Some(key));
        for fact in shipped::rungs(vendor.kind.as_str(), vendor.base_url, surroundings.today) {
            let price = fact.price.as_ref().map(|price| price.at(money.usd));
            let Some(price) = price else { continue };
            self.models.push(model(&provider, &fact.name, &fact.name, Some(fact), price));
        }
        self.providers.insert(provider.id.clone(), provider);
    }

    /// Azure names deployments, not models: one is offered where its name, or
    /// `AZURE_OPENAI_MODEL`, tells the price.
    fn azure(&mut self, surroundings: &Surroundings<'_>, money: &Money) {
        let set = |names: &[&'static str]| first_set(surroundings, names);
        let Some((_, endpoint)) = set(&["AZURE_OPENAI_ENDPOINT"]) else { return };
        let Some((key_name, key)) = set(&["AZURE_OPENAI_API_KEY", "AZURE_OPENAI_KEY"]) else {
            return;
        };
        let deployment = set(&["AZURE_OPENAI_DEPLOYMENT", "AZURE_OPENAI_DEPLOYMENT_NAME"]);
        let version = set(&["AZURE_OPENAI_API_VERSION", "OPENAI_API_VERSION"]);
        self.note_key("azure", key_name);
        let base_url = endpoint.trim().trim_end_matches('/');
        if !url::Url::parse(base_url).is_ok_and(|url| url.has_host()) {
            self.warn(
                "AZURE_OPENAI_ENDPOINT is no web address; write https://NAME.openai.azure.com",
                "AZURE_OPENAI_ENDPOINT ist keine Webadresse; bitte \
                 https://NAME.openai.azure.com schreiben",
            );
            return;
        }
        let access = provider("azure", ProviderKind::Azure, base_url, Zone::World, Some(key));
        let access = ProviderConfig { api_version: version.map(|(_, version)| version), ..access };
        let Some((_, deployment)) = deployment else {
            self.warn(
                "AZURE_OPENAI_DEPLOYMENT is not set, so it is not known which deployment to call",
                "AZURE_OPENAI_DEPLOYMENT ist nicht gesetzt, also ist unbekannt, welche \
                 Bereitstellung gerufen werden soll",
            );
            return;
        };
        let is = set(&["AZURE_OPENAI_MODEL"]).map_or_else(|| deployment.clone(), |(_, is)| is);
        let fact = shipped::find(ProviderKind::Azure.as_str(), base_url, &is);
        let price = fact.and_then(|fact| fact.price.as_ref()).map(|price| price.at(money.usd));
        let (Some(fact), Some(price)) = (fact, price) else {
            self.warn(
                "the price of the Azure deployment is unknown, so it is not called; say which \
                 model it is in AZURE_OPENAI_MODEL",
                "der Preis der Azure-Bereitstellung ist unbekannt, deshalb wird sie nicht \
                 gerufen; bitte in AZURE_OPENAI_MODEL sagen, welches Modell es ist",
            );
            return;
        };
        let id = format!("azure-{deployment}");
        self.models.push(model(&access, &id, &deployment, Some(fact), price));
        self.providers.insert(access.id.clone(), access);
    }

    fn ollama(&mut self, ollama: Option<&Ollama>, money: &Money) {
        let Some(ollama) = ollama else { return };
        let kind = ProviderKind::OpenAi;
        let access = provider("ollama", kind, &ollama.base_url, Zone::Local, None);
        for name in &ollama.models {
            let price = Price::free(money.currency.clone());
            let mut local = model(&access, name, name, None, price);
            if name.contains("embed") {
                local.kind = ModelKind::Embedding;
            }
            self.models.push(local);
        }
        self.providers.insert(access.id.clone(), access);
    }

    fn note_key(&mut self, id: &str, variable: &str) {
        let origin = Origin::Environment { name: variable.to_owned() };
        self.origins.insert(format!("provider.{id}.api_key"), origin);
    }

    fn warn(&mut self, en: &str, de: &str) {
        self.warnings.push(finding("provider.azure", None, Words::new(en, de)));
    }
}

fn first_set(
    surroundings: &Surroundings<'_>,
    names: &[&'static str],
) -> Option<(&'static str, String)> {
    names.iter().find_map(|name| {
        let value = (surroundings.env)(name).filter(|value| !value.trim().is_empty())?;
        Some((*name, value.trim().to_owned()))
    })
}

fn provider(
    id: &str,
    kind: ProviderKind,
    base_url: &str,
    zone: Zone,
    key: Option<String>,
) -> ProviderConfig {
    ProviderConfig {
        id: ProviderId::from(id),
        kind,
        base_url: base_url.to_owned(),
        api_key: key.map(SecretString::from),
        zone,
        api_version: None,
        region: None,
        access_key: None,
        secret_key: None,
        headers: Vec::new(),
        limits: ProviderLimits::default(),
        simulated: SimulatedConfig::default(),
    }
}

fn model(
    provider: &ProviderConfig,
    id: &str,
    name: &str,
    fact: Option<&'static Fact>,
    price: Price,
) -> Model {
    let free = price.source == PriceSource::Free;
    Model {
        id: ModelId::from(id),
        kind: fact.map_or(ModelKind::Chat, |fact| fact.kind),
        tier: fact.map_or(if free { Tier::Economy } else { Tier::Standard }, |fact| fact.tier),
        deployments: vec![Deployment {
            provider: provider.id.clone(),
            name: name.to_owned(),
            zone: provider.zone,
            weight: 1,
            price,
            tokenizer: fact.map_or(Tokenizer::Unpublished, |fact| fact.tokenizer),
        }],
        fallback: Vec::new(),
        abilities: fact.map_or(Abilities::ALL, Fact::abilities),
        context_tokens: fact.and_then(|fact| fact.context_tokens),
        max_output_tokens: fact.and_then(|fact| fact.max_output_tokens),
        max_parallel: None,
        lifecycle: fact.map_or_else(Lifecycle::default, |fact| fact.lifecycle.clone()),
        owner: None,
        approved: None,
    }
}
