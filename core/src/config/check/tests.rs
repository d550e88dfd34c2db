//! What people see who write a configuration.

use std::path::Path;

use secrecy::ExposeSecret;

use super::*;
use crate::catalog::Model;
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

#[test]
fn all_mistakes_are_told_at_once_with_their_lines() {
    let findings = wrong(
        "[server]\nlisten = \"here\"\nlissten = 1\n[money]\ncurrency = \"euro\"\n\
         [[provider]]\nid = \"a\"\nkind = \"opnai\"\n[[model]]\nid = \"m\"\nprovider = \"b\"\n\
         name = \"x\"\n[[policy]]\nid = \"p\"\nstrategy = \"fixed\"\nmodels = [\"n\"]\n",
    );
    let heads: Vec<&str> = findings.iter().map(|f| f.split_once(": ").unwrap().0).collect();
    assert_eq!(
        heads,
        [
            "2 server.listen",
            "3 server.lissten",
            "5 money.currency",
            "8 provider.a.kind",
            "11 model.m.provider",
            "13 policy",
            "16 policy.p.models",
        ]
    );
}

#[test]
fn a_mistyped_key_is_told_what_was_meant() {
    says("[server]\nlisen = \"x\"", "2 server.lisen: unknown key; did you mean `listen`?");
    says("[serve]", "1 serve: unknown key; did you mean `server`?");
    says("[server]\nzzzzz = 1", "unknown key; known here: listen, public_url");
    says(&format!("{SOUND}tiers = \"economy\""), "did you mean `tier`?");
}

#[test]
fn a_text_that_is_no_toml_is_told_with_its_line() {
    says("[server]\nlisten = \n", "2 : this is not valid TOML");
    says("a = 1\na = 2", "2 : this is not valid TOML");
}

#[test]
fn values_come_from_environment_and_files() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key"), "sk-from-a-file\r\n").unwrap();
    let text = "[[provider]]\nid = \"p\"\nkind = \"anthropic\"\nzone = \"env:ZONE\"\n\
                api_key = \"file:key\"\nheaders = { x-team = \"env:OPENAI_API_KEY\" }";
    let today = jiff::civil::date(2026, 11, 21);
    let around = Surroundings { env: &env, today, ollama: None };
    let config = parse_in(text, folder.path(), &around).unwrap();
    let provider = &config.providers[&ProviderId::from("p")];
    assert_eq!(provider.zone, Zone::Eu);
    assert_eq!(provider.api_key.as_ref().unwrap().expose_secret(), "sk-from-a-file");
    assert_eq!(provider.headers[0].1.expose_secret(), "sk-very-secret");
    assert_eq!(config.origins["provider.p.api_key"], Origin::OtherFile { path: "key".to_owned() });
    assert_eq!(config.origins["provider.p.zone"], Origin::Environment { name: "ZONE".to_owned() });
}

#[test]
fn what_is_referred_to_and_not_there_is_an_error() {
    let provider = |key: &str| format!("[[provider]]\nid = \"p\"\nkind = \"openai\"\n{key}\n");
    says(
        &provider("api_key = \"env:NOT_SET\""),
        "4 provider.p.api_key: the environment variable NOT_SET is not set",
    );
    says(&provider("api_key = \"file:none\""), "4 provider.p.api_key: cannot read the file none");
    says(&provider("api_key = \"file:/dev/zero\""), "not a small file");
}

#[test]
fn no_message_and_no_listing_shows_a_secret() {
    // A secret in the wrong place must not come out in the message about it.
    let texts = [
        "[money]\ncurrency = \"env:OPENAI_API_KEY\"",
        "[server]\nlisten = \"env:OPENAI_API_KEY\"\n[store]\nurl = \"env:OPENAI_API_KEY\"",
        "[budget]\ndegrade_at = \"env:OPENAI_API_KEY\"",
        "[guard]\npii = \"env:OPENAI_API_KEY\"",
    ];
    for text in texts {
        assert!(!format!("{:?}", parse(text).unwrap_err()).contains("very-secret"));
    }
    let written = SOUND.replace("env:OPENAI_API_KEY", "sk-very-secret");
    for text in [SOUND, &written] {
        let config = sound(text);
        let shown = crate::config::show::text(&config);
        assert!(shown.contains("api_key = (secret)"), "{shown}");
        let json = crate::config::show::json(&config).to_string();
        let debug = format!("{config:?}");
        assert!(!(shown + &json + &debug).contains("very-secret"));
    }
}

#[test]
fn a_listing_says_where_each_value_came_from() {
    let config = sound(&format!("{SOUND}output_per_million = \"5\"\n[guard]\npii = \"block\""));
    let origin = |key: &str| {
        let values = crate::config::show::values(&config);
        let shown = values.into_iter().find(|shown| shown.key == key).unwrap();
        (shown.value, crate::config::show::origin(&shown.origin))
    };
    let is = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(origin("server.listen"), is("127.0.0.1:8750", "default"));
    assert_eq!(origin("provider.openai.api_key"), is("(secret)", "env:OPENAI_API_KEY"));
    assert_eq!(origin("model.mini.input_per_million"), is("0.75", "catalogue"));
    assert_eq!(origin("model.mini.output_per_million"), is("5", "line 11"));
    assert_eq!(origin("money.usd"), is("0.895095", "catalogue"));
    assert_eq!(origin("guard.pii_eu"), is("block", "line 13"));
    assert_eq!(origin("policy.default.models"), is("mini", "default"));
}

#[test]
fn a_model_without_a_price_is_named() {
    let model = "[[model]]\nid = \"local\"\nprovider = \"openai\"\nname = \"our-llama\"\n";
    says(
        &format!("{SOUND}{model}"),
        "11 model.local.input_per_million: model `local` has no price",
    );
    let half = format!("{SOUND}{model}input_per_million = 1\n");
    says(&half, "model.local.output_per_million: model `local` has no price");
    let zero = format!("{SOUND}{model}input_per_million = 0\noutput_per_million = \"0\"\n");
    says(&zero, "must be said: write price = \"free\"");
    let both = format!("{SOUND}{model}price = \"free\"\ninput_per_million = 1\n");
    says(&both, "is free and has a price");
    let free = sound(&format!("{SOUND}{model}price = \"free\"\n"));
    let price = &free.catalog.get(&ModelId::from("local")).unwrap().deployments[0].price;
    assert_eq!((price.source, price.output.nanos()), (PriceSource::Free, 0));
    says(&format!("{SOUND}price = \"cheap\""), "can only be \"free\"");
}

#[test]
fn prices_keep_every_digit_and_are_in_range() {
    let price = |written: &str| {
        let config =
            sound(&format!("{SOUND}input_per_million = {written}\nprice_currency=\"USD\""));
        config.catalog.get(&ModelId::from("mini")).unwrap().deployments[0].price.input.nanos()
    };
    assert_eq!(price("\"0.123456789\""), 123_456_789);
    // The literal text counts, not the nearest binary float.
    assert_eq!(price("0.1"), 100_000_000);
    assert_eq!(price("3"), 3_000_000_000);
    let wrong = |written: &str| format!("{SOUND}input_per_million = {written}");
    says(
        &wrong("\"0.1234567891\""),
        "11 model.mini.input_per_million: `0.1234567891` has more than nine",
    );
    says(&wrong("-1"), "must be from 0 to 1000000");
    says(&wrong("\"1,50\""), "is no price");
    says(&wrong("nan"), "is no price");
    says(&wrong("true"), "is no price");
}

#[test]
fn what_the_catalogue_does_not_say_of_the_cache_costs_the_full_input() {
    let own = "[[model]]\nid = \"own\"\nprovider = \"openai\"\nname = \"x\"\n\
               input_per_million = \"2\"\noutput_per_million = \"8\"\nprice_currency = \"EUR\"\n";
    let config = sound(&format!("{SOUND}{own}"));
    let price =
        |id: &str| config.catalog.get(&ModelId::from(id)).unwrap().deployments[0].price.clone();
    assert_eq!(price("own").cached_input, price("own").input);
    assert_eq!(price("own").cache_write, price("own").input);
    assert_eq!(price("own").rate, ExchangeRate::ONE);
    assert!(price("mini").cached_input < price("mini").input);
    says(&format!("{SOUND}{own}").replace("EUR", "GBP"), "there is no rate for GBP");
}

#[test]
fn a_price_without_a_currency_is_in_dollars_and_told_so() {
    let config = sound(&format!("{SOUND}input_per_million = \"1\""));
    let mini = config.catalog.get(&ModelId::from("mini")).unwrap();
    assert_eq!(mini.deployments[0].price.currency.as_str(), "USD");
    assert!(config.warnings.iter().any(|warning| warning.key == "model.mini.price_currency"));
}

#[test]
fn further_deployments_have_the_models_price_or_their_own() {
    let config = sound(&format!(
        "{SOUND}output_per_million = \"9\"\nprice_currency = \"USD\"\ndeployments = [\n\
         {{ provider = \"openai\", name = \"gpt-5.4-nano\", weight = 3 }},\n\
         {{ provider = \"openai\", name = \"x\", input_per_million = 1, output_per_million = 2 }},\n]"
    ));
    let mini = config.catalog.get(&ModelId::from("mini")).unwrap();
    let of = |index: usize| {
        let place = &mini.deployments[index];
        let price = &place.price;
        (place.weight, price.input.nanos() / 10_000_000, price.output.nanos() / 10_000_000)
    };
    assert_eq!([of(0), of(1), of(2)], [(1, 75, 900), (3, 20, 900), (1, 100, 200)]);
    let dead = format!("{SOUND}deployments = [{{ provider = \"opena\", name = \"x\" }}]");
    says(&dead, "there is no provider `opena`; did you mean `openai`?");
    let weightless =
        format!("{SOUND}deployments = [{{ provider = \"openai\", name = \"x\", weight = 0 }}]");
    says(&weightless, "must be a whole number from 1");
}

#[test]
fn abilities_and_limits_override_the_catalogue() {
    let mini = |more: &str| {
        let config = sound(&format!("{SOUND}{more}"));
        Model::clone(config.catalog.get(&ModelId::from("mini")).unwrap())
    };
    assert!(mini("").abilities.images);
    let listed = mini("abilities = [\"tools\"]\ncontext_tokens = 1000").abilities;
    assert!(listed.tools && listed.streaming && !listed.images && !listed.json_schema);
    let changed = mini("abilities = { images = false }");
    assert!(changed.abilities.tools && !changed.abilities.images);
    assert_eq!(mini("context_tokens = 1000").context_tokens, Some(1000));
    says(&format!("{SOUND}abilities = [\"vision\"]"), "`vision` is not one of: tools, images");
    says(&format!("{SOUND}abilities = {{ tool = true }}"), "did you mean `tools`?");
}

#[test]
fn names_must_stand_for_something_and_be_unique() {
    says(
        &format!("{SOUND}fallback = [\"minni\"]"),
        "11 model.mini.fallback: there is no model `minni`; did you mean `mini`?",
    );
    says(&format!("{SOUND}fallback = [\"mini\"]"), "cannot fall back on itself");
    says(&format!("{SOUND}{SOUND}"), "13 provider.openai.id: `openai` is there twice");
    says(&format!("{SOUND}{SOUND}"), "18 model.mini.id: `mini` is there twice");
    says(&SOUND.replace("\"mini\"", "\"auto\""), "ask for a policy");
    says(&SOUND.replace("\"mini\"", "\"my model\""), "without spaces");
    let policy = "[[policy]]\nid = \"default\"\nstrategy = \"fixed\"\nmodels = [\"mini\"]\n";
    says(&format!("{SOUND}{policy}{policy}"), "policy.default.id: `default` is there twice");
    says(&format!("{SOUND}{policy}judge = \"x\""), "there is no model `x`");
    let no_default = policy.replace("\"default\"", "\"other\"");
    says(&format!("{SOUND}{no_default}"), "no policy has the id `default`");
    says(&format!("{SOUND}{}", policy.replace("[\"mini\"]", "[]")), "names no model");
    says(&format!("{SOUND}{}", policy.replace("[\"mini\"]", "\"mini\"")), "must be a list");
    says(&format!("{SOUND}{}", policy.replace("[\"mini\"]", "[\"mini\", \"mini\"]")), "twice");
}

#[test]
fn a_list_may_come_from_the_environment() {
    let text = SOUND.to_owned()
        + &SOUND[SOUND.find("[[model]]").unwrap()..].replace("\"mini\"", "\"big\"")
        + "[[policy]]\nid = \"default\"\nstrategy = \"fixed\"\nmodels = \"env:LIST\"";
    let policy = sound(&text).policies[&PolicyId::from("default")].clone();
    assert_eq!(policy.models, [ModelId::from("mini"), ModelId::from("big")]);
}

#[test]
fn vectors_cannot_answer() {
    let embed =
        "[[model]]\nid = \"embed\"\nprovider = \"openai\"\nname = \"text-embedding-3-small\"\n";
    let config = sound(&format!("{SOUND}{embed}"));
    let model = config.catalog.get(&ModelId::from("embed")).unwrap();
    assert_eq!(model.kind, crate::catalog::ModelKind::Embedding);
    // The made-up default policy leaves it out, and nobody may name it in one.
    assert_eq!(config.policies[&PolicyId::from("default")].models, [ModelId::from("mini")]);
    let policy = "[[policy]]\nid = \"default\"\nstrategy = \"fixed\"\nmodels = [\"embed\"]\n";
    says(&format!("{SOUND}{embed}{policy}"), "makes vectors and cannot answer");
    says(&format!("{SOUND}{embed}{policy}judge = \"embed\""), "makes vectors and cannot answer");
}

#[test]
fn what_later_versions_bring_is_refused_as_not_yet() {
    let policy = "[[policy]]\nid = \"default\"\nmodels = [\"mini\"]\n";
    let cases = [
        "[slack]\nbot_token = \"env:SLACK_BOT_TOKEN\"".to_owned(),
        "[teams]\napp_id = \"x\"".to_owned(),
        "[discord]\ntoken = \"x\"".to_owned(),
        "[store]\nurl = \"postgres://db/stellwerk\"".to_owned(),
        format!("{policy}strategy = \"ensemble\""),
        format!("{policy}strategy = \"dynamic\""),
        format!("{policy}strategy = \"fixed\"\ncache = \"15m\""),
    ];
    for case in cases {
        let findings = wrong(&format!("{SOUND}{case}"));
        assert_eq!(findings.len(), 1, "{findings:#?}");
        assert!(findings[0].contains(": not yet: "), "{findings:#?}");
    }
}

#[test]
fn addresses_keys_and_limits_of_a_provider_are_checked() {
    let provider = |kind: &str, more: &str| {
        format!("[[provider]]\nid = \"p\"\nkind = \"{kind}\"\nzone = \"eu\"\n{more}\n")
    };
    says(&provider("azure", ""), "provider.p.base_url: is missing; azure has no usual address");
    says(
        &provider("openai", "base_url = \"api.openai.com\""),
        "5 provider.p.base_url: is no web address",
    );
    says(&provider("openai", "base_url = \"ftp://x/v1\""), "must begin with http");
    says(&provider("openai", "base_url = \"https://a:b@x/v1\""), "user name or password");
    says(&provider("anthropic", "base_url = \"https://x/v1\""), "take `/v1` out");
    says(&provider("gemini", "base_url = \"https://x/v1beta\""), "take `/v1beta` out");
    says(&provider("bedrock", "api_key = \"k\""), "bedrock needs a region");
    says(&provider("bedrock", "region = \"eu-central-1\""), "either api_key, or access_key");
    says(
        &provider("bedrock", "region = \"eu-central-1\"\naccess_key = \"k\""),
        "either api_key, or access_key",
    );
    says(&provider("openai", "api_key = \"two\\nlines\""), "characters that no key has");
    says(&provider("openai", "headers = { \"a b\" = \"x\" }"), "is no HTTP header");
    says(&provider("openai", "idle_timeout_ms = 0"), "must be a whole number from 1");
    says(&provider("openai", "max_retries = 99"), "must be a whole number from 0 to 10");
    says(&provider("openai", "zone = \"eu\""), "not valid TOML");
    says(&provider("opnai", ""), "3 provider.p.kind: `opnai` is not one of: openai, azure");
    let config = sound(&provider(
        "bedrock",
        "region = \"eu-central-1\"\naccess_key = \"a\"\nsecret_key = \"s\"",
    ));
    let address = &config.providers[&ProviderId::from("p")].base_url;
    assert_eq!(address, "https://bedrock-runtime.eu-central-1.amazonaws.com");
    let config = sound(&provider("openai", "base_url = \"http://127.0.0.1:1/v1/\""));
    assert_eq!(config.providers[&ProviderId::from("p")].base_url, "http://127.0.0.1:1/v1");
}

#[test]
fn shares_words_and_grantees_are_checked() {
    says("[budget]\ndegrade_at = 80", "2 budget.degrade_at: `80` must be a number from 0 to 1");
    says("[budget]\nthresholds = [0.5, 1.5]", "`1.5` must be a number from 0 to 1");
    says("[guard]\npii = \"hide\"", "`hide` is not one of: off, redact, block");
    says("[guard.pii]\nlokal = \"off\"", "2 guard.pii.lokal: unknown key; did you mean `local`?");
    says("[sensitivity]\nrestricted = \"moon\"", "`moon` is not one of: local, eu, world");
    says("[classify]\nmode = \"deep\"", "`deep` is not one of: full, fast, rules, off");
    says("[money]\ntime_zone = \"Mars\"", "`Mars` is no time zone");
    says("[money]\nusd = \"-1\"", "`-1` is no rate");
    says("[money]\ncurrency = \"USD\"\nusd = \"0.92\"", "take usd out");
    says("[money]\ncurrency = \"XAU\"", "no shipped rate for XAU");
    says("[store]\nurl = \"mysql://x\"", "is no database address");
    let grant = |to: &str| format!("{SOUND}[[grant]]\nmodels = [\"mini\"]\nto = [\"{to}\"]");
    says(&grant("sales"), "13 grant.1.to: `sales` is nobody");
    says(&grant("use-case:offers"), "is nobody");
    says(&grant("group:"), "is nobody");
    says(&format!("{SOUND}[[grant]]\nmodels = [\"mini\"]"), "11 grant.1.to: names nothing");
    let rule = "[[policy]]\nid = \"default\"\nstrategy = \"task\"\nmodels = [\"mini\"]\n\
                [[policy.rule]]\nmodels = [\"mini\"]\n";
    says(&format!("{SOUND}{rule}task = [\"coding\"]"), "`coding` is not one of: chat, open_qa");
    says(&format!("{SOUND}{rule}language = [\"German\"]"), "is no language code");
    says(&format!("{SOUND}{rule}min_complexity = 2"), "must be a number from 0 to 1");
}

#[test]
fn personal_data_can_be_loosened_for_one_zone() {
    let guard = sound("[guard.pii]\nlocal = \"off\"").guard;
    assert_eq!(guard.pii(Zone::Local), PiiAction::Off);
    assert_eq!(guard.pii(Zone::Eu), PiiAction::Redact);
    assert_eq!(guard.pii(Zone::World), PiiAction::Redact);
}

#[test]
fn what_is_allowed_and_odd_is_warned_of() {
    let warned = |text: &str, expected: &str| {
        let warnings = sound(text).warnings;
        assert!(warnings.iter().any(|w| w.message.contains(expected)), "{warnings:#?}");
    };
    warned("", "the shipped rate of 2026-10-30 is taken, 1 USD = 0.895095 EUR; it is 22 days old");
    warned("", "there is no model");
    let unzoned = SOUND.replace("zone = \"world\"\n", "");
    warned(&unzoned, "`world` is assumed");
    warned("[sensitivity]\nrestricted = \"world\"", "may travel farther than confidential");
    let old = SOUND.replace("gpt-5.4-mini", "gpt-3.5-turbo-instruct");
    warned(
        &format!("{old}input_per_million=1\noutput_per_million=1"),
        "switched gpt-3.5-turbo-instruct off",
    );
    let plain = "[[provider]]\nid = \"p\"\nkind = \"openai\"\nzone = \"eu\"\napi_key = \"k\"\n";
    warned(&format!("{plain}base_url = \"http://vllm.example.com/v1\""), "unencrypted");
    let near = sound(&format!("{plain}base_url = \"http://127.0.0.1:8000/v1\"")).warnings;
    assert!(!near.iter().any(|warning| warning.message.contains("unencrypted")));
}

#[test]
fn without_a_policy_a_cascade_goes_up_the_rungs() {
    let model = |id: &str, name: &str| {
        format!("[[model]]\nid = \"{id}\"\nprovider = \"openai\"\nname = \"{name}\"\n")
    };
    let text = format!("{SOUND}{}{}", model("top", "gpt-5.5"), model("middle", "gpt-5.4"));
    let policy = sound(&text).policies[&PolicyId::from("default")].clone();
    assert_eq!(policy.strategy, Strategy::Cascade);
    let ids: Vec<&str> = policy.models.iter().map(ModelId::as_str).collect();
    assert_eq!(ids, ["mini", "middle", "top"]);
}

fn found(variables: &[(&str, &str)], ollama: Option<Ollama>) -> Config {
    let env = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let today = jiff::civil::date(2026, 11, 21);
    load_in(None, &Surroundings { env: &env, today, ollama }).unwrap()
}

#[test]
fn without_a_file_every_key_in_the_environment_makes_a_vendor() {
    let keys = [
        ("OPENAI_API_KEY", "a"),
        ("ANTHROPIC_API_KEY", "b"),
        ("GEMINI_API_KEY", " "),
        ("MISTRAL_API_KEY", "d"),
    ];
    let config = found(&keys, None);
    let vendors: Vec<&str> = config.providers.keys().map(ProviderId::as_str).collect();
    assert_eq!(vendors, ["anthropic", "mistral", "openai"]);
    assert_eq!(config.store, StoreUrl::Sqlite("stellwerk-data/stellwerk.db".into()));
    let default = &config.policies[&PolicyId::from("default")];
    assert_eq!(default.strategy, Strategy::Cascade);
    assert!(default.models.contains(&ModelId::from("gpt-5.4-mini")));
    assert!(config.catalog.get(&ModelId::from("text-embedding-3-small")).is_some());
    for model in config.catalog.iter() {
        assert!(
            model.deployments[0].price.output.nanos() > 0
                || model.kind == crate::catalog::ModelKind::Embedding
        );
    }
}

#[test]
fn without_a_file_or_a_key_it_is_said_what_to_do() {
    let config = found(&[], None);
    assert!(config.providers.is_empty());
    assert!(config.warnings.iter().any(|w| w.message.contains("set OPENAI_API_KEY")));
}

#[test]
fn an_azure_deployment_is_offered_where_its_price_is_known() {
    let azure = |more: &[(&'static str, &'static str)]| {
        let mut keys = vec![
            ("AZURE_OPENAI_ENDPOINT", "https://acme.openai.azure.com/"),
            ("AZURE_OPENAI_API_KEY", "k"),
        ];
        keys.extend(more);
        found(&keys, None)
    };
    let named = azure(&[("AZURE_OPENAI_DEPLOYMENT", "gpt-4o")]);
    assert!(named.catalog.get(&ModelId::from("azure-gpt-4o")).is_some());
    let told = azure(&[("AZURE_OPENAI_DEPLOYMENT", "prod"), ("AZURE_OPENAI_MODEL", "gpt-5-mini")]);
    let model = told.catalog.get(&ModelId::from("azure-prod")).unwrap();
    assert_eq!(model.deployments[0].name, "prod");
    for unknown in [azure(&[]), azure(&[("AZURE_OPENAI_DEPLOYMENT", "prod")])] {
        assert_eq!(unknown.catalog.iter().count(), 0);
        assert!(unknown.warnings.iter().any(|warning| warning.key == "provider.azure"));
    }
    let broken = [
        ("AZURE_OPENAI_ENDPOINT", "acme"),
        ("AZURE_OPENAI_API_KEY", "k"),
        ("AZURE_OPENAI_DEPLOYMENT", "gpt-4o"),
    ];
    assert!(found(&broken, None).providers.is_empty());
}

#[test]
fn an_ollama_that_answered_is_local_and_free() {
    let ollama = Ollama {
        base_url: found::OLLAMA_URL.to_owned(),
        models: vec!["llama3.3:70b".to_owned(), "nomic-embed-text".to_owned()],
    };
    let config = found(&[], Some(ollama));
    let llama = config.catalog.get(&ModelId::from("llama3.3:70b")).unwrap();
    assert_eq!(llama.deployments[0].zone, Zone::Local);
    assert_eq!(llama.deployments[0].price.source, PriceSource::Free);
    assert_eq!(config.policies[&PolicyId::from("default")].models, std::slice::from_ref(&llama.id));
}

#[test]
fn a_missing_file_and_one_that_is_no_text_are_told() {
    let none = |_: &str| None;
    let folder = tempfile::tempdir().unwrap();
    let findings = load(Some(&folder.path().join("no.toml")), &none).unwrap_err();
    assert!(findings[0].message.contains("cannot read the configuration file"));
    let path = folder.path().join("bytes.toml");
    std::fs::write(&path, [0xff, 0xfe, 0]).unwrap();
    assert!(load(Some(&path), &none).unwrap_err()[0].message.contains("not UTF-8"));
    std::fs::write(&path, "[server]\n").unwrap();
    assert_eq!(load(Some(&path), &none).unwrap().path, Some(path));
}

#[test]
fn a_file_in_the_data_folder_has_the_database_beside_it() {
    let around = |folder: &str| default_store(Path::new(folder));
    assert_eq!(around("stellwerk-data"), StoreUrl::Sqlite("stellwerk-data/stellwerk.db".into()));
    assert_eq!(around(""), StoreUrl::Sqlite("stellwerk-data/stellwerk.db".into()));
    assert_eq!(around("/etc"), StoreUrl::Sqlite("/etc/stellwerk-data/stellwerk.db".into()));
}

proptest::proptest! {
    /// Whatever is written, the answer is a configuration or findings, never a panic.
    #[test]
    fn any_text_is_answered(text in "(\\PC|\n){0,200}") {
        let _ = parse(&text);
    }

    /// The same for texts that are nearly right: lines of a sound file, some changed.
    #[test]
    fn any_mixture_of_sound_lines_is_answered(
        picks in proptest::collection::vec((0_usize..60, proptest::option::of("\\PC{0,12}")), 0..60),
    ) {
        let lines: Vec<&str> = DESIGN.lines().collect();
        let mixed: Vec<String> = picks
            .iter()
            .map(|(at, tail)| match (lines[at % lines.len()], tail) {
                (line, None) => line.to_owned(),
                (line, Some(tail)) => {
                    format!("{} = {tail}", line.split('=').next().unwrap_or_default())
                }
            })
            .collect();
        let _ = parse(&mixed.join("\n"));
    }
}

#[test]
fn rules_of_the_company_are_believed() {
    let config = sound(&format!(
        "{SOUND}[guard]\nleave = [\"LOCATION\"]\n\
         [[guard.pattern]]\nkind = \"CUSTOMER_NUMBER\"\npattern = 'KD-[0-9]{{6}}'\n\
         [[guard.rule]]\nid = \"falke\"\nwords = [\"Projekt Falke\", \"übernahme*\"]\n\
         groups = [\"praktikum\"]\non = \"both\"\naction = \"note\"\n\
         note = {{ de = \"Vorsicht\", en = \"Careful\" }}\n\
         [guard.output]\nsecrets = \"block\"\n"
    ));
    assert_eq!(config.guard.leave, ["LOCATION"]);
    assert!(config.guard.patterns[0].pattern.regex().is_match("KD-123456"));
    let rule = &config.guard.rules[0];
    assert!(rule.speaks_of("Was ist mit projekt falke?") && rule.speaks_of("die Übernahmepläne"));
    assert!(!rule.speaks_of("Projekt Falkenstein"));
    assert_eq!(rule.note.as_ref().map(|note| note.de.as_str()), Some("Vorsicht"));
    assert_eq!(config.guard.output.secrets.as_str(), "block");
}

#[test]
fn rules_that_cannot_work_are_told_with_their_line() {
    says("[guard]\nleave = [\"LOCATON\"]", "did you mean LOCATION");
    says("[[guard.pattern]]\npattern = '('", "no regular expression");
    says("[[guard.pattern]]\npattern = 'a*'", "matches the empty text");
    says("[[guard.rule]]\nid = \"a\"", "looks for something");
    says("[[guard.rule]]\nid = \"a\"\nwords = [\"x\"]\naction = \"note\"", "write it into `note`");
}

#[test]
fn a_classifier_of_ones_own_must_be_there_and_know_its_classes() {
    let folder = tempfile::tempdir().expect("a folder");
    let described = r#"{"labels":["refund","delivery"]}"#;
    std::fs::write(folder.path().join("own.json"), described).expect("written");
    let config = |dir: &str, name: &str, class: &str| {
        format!(
            "{SOUND}[classify]\ncustom = {{ support = \"{dir}\" }}\n[[policy]]\nid = \"default\"\n\
             strategy = \"fixed\"\nmodels = [\"mini\"]\n[[policy.rule]]\nmodels = [\"mini\"]\n\
             custom = {{ {name} = [\"{class}\"] }}\n"
        )
    };
    let there = folder.path().display().to_string();
    let sound = sound(&config(&there, "support", "refund"));
    let rule = &sound.policies.values().next().expect("one").rules[0];
    assert_eq!(rule.custom["support"], ["refund"]);
    assert_eq!(sound.classify.custom["support"], folder.path());
    for (written, said) in [
        (config(&there, "support", "refunt"), "no class `refunt`; known: `refund`"),
        (config(&there, "suport", "refund"), "no classifier `suport` in [classify] custom"),
        (config("nowhere", "support", "refund"), "`nowhere` holds no classifier"),
    ] {
        let findings = wrong(&written);
        assert_eq!(findings.len(), 1, "{findings:#?}");
        assert!(findings[0].contains(said), "{findings:#?}");
    }
}
