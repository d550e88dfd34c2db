//! The configuration as believed, for people and programs, with where each value came from.
//!
//! Secrets are placeholders here, whether they were written out or referred to. Knows nothing of
//! where it is printed: `check` prints [`text`], the faces take [`json`].

use std::fmt::Display;
use std::fmt::Write as _;

use serde::Serialize;

use crate::catalog::{Abilities, Deployment, Model};
use crate::config::{Config, Grantee, Origin, Policy, ProviderConfig, ProviderKind, StoreUrl};
use crate::money::PriceSource;

/// What stands where a secret is.
const SECRET: &str = "(secret)";

/// One value with its dotted key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// The dotted key, `provider.openai.base_url`.
    pub key: String,
    /// The value as text; a placeholder for secrets.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// Every value, section by section.
pub fn values(config: &Config) -> Vec<Shown> {
    let mut list = List { config, shown: Vec::new() };
    list.house();
    for provider in config.providers.values() {
        list.provider(provider);
    }
    for model in config.catalog.iter() {
        list.model(model);
    }
    for policy in config.policies.values() {
        list.policy(policy);
    }
    list.grants();
    list.shown
}

/// The values as JSON: `[{"key", "value", "origin"}]`.
pub fn json(config: &Config) -> serde_json::Value {
    let shown = values(config).into_iter().map(|shown| {
        serde_json::json!({ "key": shown.key, "value": shown.value, "origin": shown.origin })
    });
    shown.collect()
}

/// The values as a small table, a heading for each section and the origin behind each value.
pub fn text(config: &Config) -> String {
    let mut text = String::new();
    let mut heading = String::new();
    for shown in values(config) {
        let (section, key) = shown.key.rsplit_once('.').unwrap_or(("", &shown.key));
        if section != heading {
            heading = section.to_owned();
            // Writing to a string cannot fail.
            let _ = writeln!(text, "[{heading}]");
        }
        let value = format!("{key} = {}", shown.value);
        let _ = writeln!(text, "  {value:<58} # {}", origin(&shown.origin));
    }
    text
}

/// An origin in a few words.
pub fn origin(origin: &Origin) -> String {
    match origin {
        Origin::File { line } => format!("line {line}"),
        Origin::Environment { name } => format!("env:{name}"),
        Origin::OtherFile { path } => format!("file:{path}"),
        Origin::Catalogue => "catalogue".to_owned(),
        Origin::Default => "default".to_owned(),
    }
}

struct List<'a> {
    config: &'a Config,
    shown: Vec<Shown>,
}

impl List<'_> {
    fn add(&mut self, section: &str, key: &str, value: impl Display) {
        let origin = self.origin_of(&format!("{section}.{key}"));
        self.add_from(section, key, value, origin);
    }

    fn add_from(&mut self, section: &str, key: &str, value: impl Display, origin: Origin) {
        let key = format!("{section}.{key}");
        self.shown.push(Shown { key, value: value.to_string(), origin });
    }

    fn add_if(&mut self, section: &str, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.add(section, key, value);
        }
    }

    fn origin_of(&self, key: &str) -> Origin {
        self.config.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    fn house(&mut self) {
        let config = self.config;
        let server = &config.server;
        self.add("server", "listen", server.listen);
        self.add_if("server", "public_url", server.public_url.as_ref());
        self.add("server", "max_body_bytes", server.max_body_bytes);
        self.add("server", "shutdown_grace_ms", server.shutdown_grace.as_millis());
        let StoreUrl::Sqlite(path) = &config.store;
        self.add("store", "url", format!("sqlite:{}", path.display()));
        self.add("money", "currency", &config.money.currency);
        self.add("money", "usd", config.money.usd);
        let time_zone = config.money.time_zone.iana_name().unwrap_or("UTC");
        self.add("money", "time_zone", time_zone);
        let zones = &config.zones;
        self.add("sensitivity", "public", zones.public);
        self.add("sensitivity", "internal", zones.internal);
        self.add("sensitivity", "confidential", zones.confidential);
        self.add("sensitivity", "restricted", zones.restricted);
        let guard = &config.guard;
        let pii = [("local", guard.pii_local), ("eu", guard.pii_eu), ("world", guard.pii_world)];
        for (zone, action) in pii {
            // One word for all zones is written as `guard.pii`.
            let own = self.config.origins.get(&format!("guard.pii.{zone}")).cloned();
            let origin = own.unwrap_or_else(|| self.origin_of("guard.pii"));
            self.add_from("guard", &format!("pii_{zone}"), action, origin);
        }
        self.add("guard", "injection", guard.injection);
        self.add("guard", "leave", list(&guard.leave));
        self.add("guard.output", "personal", guard.output.personal);
        self.add("guard.output", "secrets", guard.output.secrets);
        self.add("guard.output", "system_prompt", guard.output.system_prompt);
        self.add("guard.output", "active", guard.output.active);
        for rule in &guard.rules {
            let section = format!("guard.rule.{}", rule.id);
            self.add(&section, "on", rule.on);
            self.add(&section, "action", rule.action);
        }
        self.add("budget", "degrade_at", config.budget.degrade_at);
        self.add("budget", "thresholds", list(&config.budget.thresholds));
        self.add("classify", "mode", config.classify.mode);
        self.add("classify", "device", &config.classify.device);
        for (name, folder) in &config.classify.custom {
            self.add("classify.custom", name, folder.display());
        }
    }

    fn provider(&mut self, provider: &ProviderConfig) {
        let section = format!("provider.{}", provider.id);
        let section = section.as_str();
        self.add(section, "kind", provider.kind);
        self.add(section, "base_url", &provider.base_url);
        self.add(section, "zone", provider.zone);
        self.add_if(section, "api_key", provider.api_key.as_ref().map(|_| SECRET));
        self.add_if(section, "access_key", provider.access_key.as_ref().map(|_| SECRET));
        self.add_if(section, "secret_key", provider.secret_key.as_ref().map(|_| SECRET));
        self.add_if(section, "api_version", provider.api_version.as_ref());
        self.add_if(section, "region", provider.region.as_ref());
        for (name, _) in &provider.headers {
            self.add(&format!("{section}.headers"), name, SECRET);
        }
        let limits = &provider.limits;
        self.add(section, "connect_timeout_ms", limits.connect.as_millis());
        self.add(section, "first_token_timeout_ms", limits.first_token.as_millis());
        self.add(section, "idle_timeout_ms", limits.idle.as_millis());
        self.add(section, "total_timeout_ms", limits.total.as_millis());
        self.add(section, "max_retries", limits.max_retries);
        if provider.kind == ProviderKind::Simulated {
            self.add(section, "tokens_per_second", provider.simulated.tokens_per_second);
            self.add(section, "first_token_ms", provider.simulated.first_token_ms);
        }
    }

    fn model(&mut self, model: &Model) {
        let section = format!("model.{}", model.id);
        let section = section.as_str();
        self.add(section, "kind", model.kind);
        self.add(section, "tier", model.tier);
        if let Some(first) = model.deployments.first() {
            self.add(section, "provider", &first.provider);
            self.add(section, "name", &first.name);
            self.price(section, first);
        }
        let further = model.deployments.iter().skip(1);
        let further: Vec<String> = further
            .map(|place| format!("{}/{} ×{}", place.provider, place.name, place.weight))
            .collect();
        if !further.is_empty() {
            self.add(section, "deployments", further.join(", "));
        }
        if !model.fallback.is_empty() {
            self.add(section, "fallback", list(&model.fallback));
        }
        self.add(section, "abilities", abilities(&model.abilities));
        self.add_if(section, "context_tokens", model.context_tokens);
        self.add_if(section, "max_output_tokens", model.max_output_tokens);
        self.add_if(section, "max_parallel", model.max_parallel);
        self.add_if(section, "owner", model.owner.as_ref());
        self.add_if(section, "approved", model.approved.as_ref());
        self.add_if(section, "shutdown_on", model.lifecycle.shutdown_on);
    }

    fn price(&mut self, section: &str, place: &Deployment) {
        let price = &place.price;
        if price.source == PriceSource::Free {
            return self.add(section, "price", "free");
        }
        let figures = [
            ("input_per_million", price.input),
            ("cached_input_per_million", price.cached_input),
            ("cache_write_per_million", price.cache_write),
            ("output_per_million", price.output),
        ];
        for (key, figure) in figures {
            let amount = crate::money::Cost::from_nanos(figure.nanos()).to_string();
            let short = amount.trim_end_matches('0').trim_end_matches('.').to_owned();
            self.add(section, key, short);
        }
        self.add(section, "price_currency", &price.currency);
        self.add_if(section, "price_date", price.date);
    }

    fn policy(&mut self, policy: &Policy) {
        let section = format!("policy.{}", policy.id);
        let section = section.as_str();
        self.add(section, "strategy", policy.strategy);
        self.add(section, "models", list(&policy.models));
        self.add(section, "escalate_below", policy.escalate_below);
        self.add(section, "skip_economy_above", policy.skip_economy_above);
        self.add(section, "max_output_tokens", policy.max_output_tokens);
        self.add_if(section, "judge", policy.judge.as_ref());
        self.add_if(section, "hedge_after_ms", policy.hedge_after_ms);
        self.add_if(section, "sensitivity", policy.floor);
        for (index, rule) in policy.rules.iter().enumerate() {
            self.add(&format!("{section}.rule.{}", index + 1), "models", list(&rule.models));
        }
    }

    fn grants(&mut self) {
        for (index, grant) in self.config.grants.iter().enumerate() {
            let section = format!("grant.{}", index + 1);
            let to: Vec<String> = grant
                .to
                .iter()
                .map(|grantee| match grantee {
                    Grantee::Node(node) => node.to_string(),
                    Grantee::Group(group) => format!("group:{group}"),
                })
                .collect();
            self.add(&section, "models", list(&grant.models));
            self.add(&section, "to", to.join(", "));
            if !grant.use_cases.is_empty() {
                self.add(&section, "use_cases", list(&grant.use_cases));
            }
        }
    }
}

fn abilities(abilities: &Abilities) -> String {
    let named = [
        ("tools", abilities.tools),
        ("images", abilities.images),
        ("documents", abilities.documents),
        ("audio", abilities.audio),
        ("json_schema", abilities.json_schema),
        ("streaming", abilities.streaming),
        ("logprobs", abilities.logprobs),
        ("reasoning", abilities.reasoning),
    ];
    let able: Vec<&str> = named.iter().filter(|(_, able)| *able).map(|(name, _)| *name).collect();
    able.join(", ")
}

fn list<T: Display>(items: &[T]) -> String {
    crate::config::file::list(items.iter())
}
