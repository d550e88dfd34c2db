//! What people see who write a configuration.

use std::path::Path;

use secrecy::ExposeSecret;

use super::*;
use crate::config::{Grantee, ProviderKind, Strategy};
use crate::ids::{ModelId, Node, PolicyId, ProviderId};
use crate::money::PriceSource;
use crate::request::Tier;

fn env(name: &str) -> Option<String> {
    match name {
        "OPENAI_API_KEY" => Some("sk-very-secret".to_owned()),
        "ZONE" => Some("eu".to_owned()),
        "LIST" => Some("mini, big".to_owned()),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Config, Vec<Finding>> {
    let today = jiff::civil::date(2026, 11, 21);
    parse_in(text, Path::new("/etc/stellwerk"), &Surroundings { env: &env, today, ollama: None })
}

/// A small sound file; what a test says comes behind it.
const SOUND: &str = r#"
[[provider]]
id = "openai"
kind = "openai"
zone = "world"
api_key = "env:OPENAI_API_KEY"
[[model]]
id = "mini"
provider = "openai"
name = "gpt-5.4-mini"
"#;

fn sound(text: &str) -> Config {
    parse(text).unwrap_or_else(|findings| panic!("{findings:#?}"))
}

/// Every finding as `line key: message`.
fn wrong(text: &str) -> Vec<String> {
    let findings = parse(text).expect_err("it was believed");
    let line = |line: Option<usize>| line.map_or("-".to_owned(), |line| line.to_string());
    for finding in &findings {
        assert!(!finding.message_de.is_empty());
    }
    findings.iter().map(|f| format!("{} {}: {}", line(f.line), f.key, f.message)).collect()
}

#[track_caller]
fn says(text: &str, expected: &str) {
    let findings = wrong(text);
    assert!(findings.iter().any(|finding| finding.contains(expected)), "{findings:#?}");
}

const DESIGN: &str = r#"[server]
listen = "127.0.0.1:8750"
public_url = "https://ki.example.de"
[store]
url = "sqlite:stellwerk-data/stellwerk.db"        # or postgres://…
[money]
currency = "EUR"
usd = "0.92"                                       # one US dollar in that currency
time_zone = "Europe/Berlin"

[[provider]]
id = "openai"
kind = "openai"                                    # openai | azure | anthropic | gemini | bedrock | simulated
base_url = "https://api.openai.com/v1"
api_key = "env:OPENAI_API_KEY"
zone = "world"                                     # local | eu | world

[[model]]
id = "mini"                                        # the name that callers and policies use
provider = "openai"
name = "gpt-5.4-mini"                              # the vendor's name; prices and limits come from the catalogue
tier = "economy"
input_per_million = "0.75"                         # optional: overrides the catalogue; or price = "free"
output_per_million = "4.50"
price_currency = "USD"
[[model]]
id = "standard"
provider = "openai"
name = "gpt-5.4"
[[model]]
id = "premium"
provider = "openai"
name = "gpt-5.5"
[[model]]
id = "coder"
provider = "openai"
name = "gpt-5.3-codex"

[[policy]]
id = "default"
strategy = "cascade"                               # fixed | task | cascade | ensemble | dynamic
models = ["mini", "standard", "premium"]
escalate_below = 0.6
max_output_tokens = 2048
[[policy.rule]]                                    # the first rule that matches; all its conditions must hold
task = ["code_generation"]
models = ["coder", "premium"]

[[grant]]                                          # a model named in a grant is for those only; one named in none is for all
models = ["premium"]
to = ["department:sales", "group:leads"]
use_cases = ["offers"]                             # optional

[sensitivity]
confidential = "eu"
restricted = "local"
[guard]
pii = "redact"                                     # off | redact | block, per zone if a table
injection = "block"
[budget]
degrade_at = 0.8
thresholds = [0.5, 0.8, 1.0]
[classify]
device = "auto"                                    # auto | cpu | cuda | metal
"#;

#[test]
fn the_example_of_the_design_is_believed() {
    let config = sound(DESIGN);
    assert_eq!(config.warnings, []);
    assert_eq!(config.store, StoreUrl::Sqlite("/etc/stellwerk/stellwerk-data/stellwerk.db".into()));
    assert_eq!(config.money.usd.to_string(), "0.92");
    assert_eq!(config.money.time_zone.iana_name(), Some("Europe/Berlin"));
    let provider = &config.providers[&ProviderId::from("openai")];
    assert_eq!(provider.kind, ProviderKind::OpenAi);
    assert_eq!(provider.api_key.as_ref().unwrap().expose_secret(), "sk-very-secret");
    let mini = config.catalog.get(&ModelId::from("mini")).unwrap();
    let price = &mini.deployments[0].price;
    assert_eq!((price.input.nanos(), price.output.nanos()), (750_000_000, 4_500_000_000));
    assert_eq!(price.source, PriceSource::Config);
    assert_eq!(mini.max_output_tokens, Some(128_000));
    let standard = config.catalog.get(&ModelId::from("standard")).unwrap();
    assert_eq!(standard.tier, Tier::Standard);
    assert_eq!(standard.deployments[0].price.source, PriceSource::Catalogue);
    let policy = &config.policies[&PolicyId::from("default")];
    assert_eq!(policy.strategy, Strategy::Cascade);
    assert_eq!(policy.rules[0].models, [ModelId::from("coder"), ModelId::from("premium")]);
    assert_eq!(config.grants[0].to[0], Grantee::Node(Node::Department("sales".into())));
    assert_eq!(config.hash.len(), 64);
}
