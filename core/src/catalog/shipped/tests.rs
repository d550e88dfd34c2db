//! The shipped files are sound, and names find what they stand for.

use super::*;

fn name(found: Option<&'static Fact>) -> Option<(&'static str, &'static str)> {
    found.map(|fact| (fact.host.as_str(), fact.name.as_str()))
}

fn figure(text: &str) -> PerMillion {
    text.parse().unwrap()
}

#[test]
fn every_line_is_sound_and_nothing_is_free() {
    assert!(all().len() > 600);
    for fact in all() {
        let Some(price) = fact.price else { continue };
        assert!(price.input > PerMillion::default(), "{}/{} is free", fact.host, fact.name);
        let answers = fact.kind == ModelKind::Chat;
        assert!(!answers || price.output > PerMillion::default(), "{}", fact.name);
    }
    // A figure that could not be read would silently be unknown.
    let text = include_str!("../../../../assets/catalog/models.jsonl");
    let priced = text.lines().filter(|line| line.contains("\"in\":")).count();
    assert_eq!(all().iter().filter(|fact| fact.price.is_some()).count(), priced);
    assert_eq!(price_date().to_string(), "2026-07-02");
}

#[test]
fn known_prices_are_those_of_the_source() {
    let fact = find("openai", "https://api.openai.com/v1", "gpt-5.4-mini").unwrap();
    let price = fact.price.unwrap();
    assert_eq!((price.input, price.output), (figure("0.75"), figure("4.5")));
    assert_eq!(fact.context_tokens, Some(400_000));
    assert_eq!(fact.tokenizer, Tokenizer::O200k);
    let usd = ExchangeRate::new("0.92".parse().unwrap()).unwrap();
    let price = price.at(usd);
    assert_eq!(price.rate, usd);
    assert_eq!(price.source, PriceSource::Catalogue);
}

#[test]
fn a_place_decides_whose_prices_count() {
    let mistral = find("openai", "https://api.mistral.ai/v1", "mistral-small-2603");
    assert_eq!(name(mistral), Some(("mistral", "mistral-small-2603")));
    let scaleway = find("openai", "https://api.scaleway.ai/v1", "gpt-oss-120b").unwrap();
    let ovh = "https://oai.endpoints.kepler.ai.cloud.ovh.net/v1";
    let ovh = find("openai", ovh, "gpt-oss-120b").unwrap();
    assert_ne!(scaleway.price, ovh.price);
    // A proxy of one's own speaks for the vendor whose format it has; a model that this vendor
    // does not sell has no price there.
    assert!(find("openai", "http://127.0.0.1:9999/v1", "gpt-5.4-mini").is_some());
    assert!(find("openai", "http://127.0.0.1:9999/v1", "mistral-small-2603").is_none());
    assert!(find("simulated", "simulated:", "gpt-5.4-mini").is_none());
    // The end of a name decides, not a part of it.
    assert!(find("openai", "https://notapi.mistral.ai.evil.example/v1", "mistral-embed").is_none());
}

#[test]
fn dated_and_regional_names_find_their_model() {
    let openai = "https://api.openai.com/v1";
    let dated = find("openai", openai, "gpt-5.4-mini-2026-03-17");
    assert_eq!(name(dated), Some(("openai", "gpt-5.4-mini")));
    // A snapshot with a price of its own keeps it.
    let old = find("openai", openai, "gpt-4o-2024-05-13").unwrap();
    assert_eq!(old.price.unwrap().input, figure("5"));
    assert_eq!(find("openai", openai, "ft:gpt-4o-mini:acme::x").map(|f| &f.name), None);

    let azure = "https://acme.openai.azure.com";
    assert_eq!(name(find("azure", azure, "gpt-4o-2024-08-06")), Some(("azure", "gpt-4o")));
    assert!(find("azure", azure, "gpt-35-turbo-0125").is_some());
    assert!(find("azure", azure, "our-deployment").is_none());

    let gemini = "https://generativelanguage.googleapis.com";
    let flash = find("gemini", gemini, "models/gemini-3.5-flash");
    assert_eq!(name(flash), Some(("google", "gemini-3.5-flash")));

    let anthropic = "https://api.anthropic.com";
    assert!(find("anthropic", anthropic, "claude-3-5-haiku-latest").is_some());
}

#[test]
fn bedrock_names_of_a_region_have_its_price_else_the_dearest() {
    let place = "https://bedrock-runtime.eu-central-1.amazonaws.com";
    let price = |name: &str| find("bedrock", place, name).unwrap().price.unwrap().input;
    assert_eq!(price("eu.anthropic.claude-sonnet-4-5-20250929-v1:0"), figure("3.3"));
    assert_eq!(price("anthropic.claude-sonnet-4-5-20250929-v1:0"), figure("3"));
    assert_eq!(price("apac.anthropic.claude-sonnet-4-5-20250929-v1:0"), figure("3.3"));
    let arn =
        "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.anthropic.claude-sonnet-5";
    assert_eq!(price(arn), figure("2.2"));
    assert_eq!(price("eu.amazon.nova-lite-v1:0"), figure("0.06"));
    assert!(find("bedrock", place, "acme.model-v1:0").is_none());
}

#[test]
fn without_a_choice_the_rungs_are_current_and_priced() {
    let today = jiff::civil::date(2026, 11, 21);
    let names = |format, place| -> Vec<(Tier, &str)> {
        let facts = rungs(format, place, today).into_iter();
        facts.filter(|f| f.kind == ModelKind::Chat).map(|f| (f.tier, f.name.as_str())).collect()
    };
    let openai = names("openai", "https://api.openai.com/v1");
    assert_eq!(
        openai,
        [(Tier::Economy, "gpt-5.4-mini"), (Tier::Standard, "gpt-5.4"), (Tier::Premium, "gpt-5.5"),]
    );
    let anthropic = names("anthropic", "https://api.anthropic.com");
    assert_eq!(
        anthropic,
        [
            (Tier::Economy, "claude-haiku-4-5"),
            (Tier::Standard, "claude-sonnet-5"),
            (Tier::Premium, "claude-opus-4-8"),
        ]
    );
    let gemini = names("gemini", "https://generativelanguage.googleapis.com");
    assert_eq!(
        gemini,
        [(Tier::Economy, "gemini-3.1-flash-lite"), (Tier::Standard, "gemini-3.5-flash"),]
    );
    let mistral = names("openai", "https://api.mistral.ai/v1");
    assert_eq!(
        mistral,
        [(Tier::Economy, "mistral-small-2603"), (Tier::Standard, "mistral-medium-2604"),]
    );
}

#[test]
fn a_model_at_its_end_is_spoken_of_with_its_successor() {
    let place = "https://api.anthropic.com";
    let fact = find("anthropic", place, "claude-opus-4-1-20250805").unwrap();
    let said = |year, month, day| {
        end_of_life("opus", fact, jiff::civil::date(year, month, day)).map(|words| words.en)
    };
    let after = said(2026, 11, 21).unwrap();
    assert!(after.contains("switched") && after.contains("2026-08-05"), "{after}");
    assert!(after.contains("anthropic/claude-opus-4-8"), "{after}");
    let before = said(2026, 7, 6).unwrap();
    assert!(before.contains("in 30 days"), "{before}");
    let current = find("anthropic", place, "claude-sonnet-5").unwrap();
    assert_eq!(end_of_life("x", current, jiff::civil::date(2026, 11, 21)), None);
}

#[test]
fn rates_come_from_one_day_by_way_of_the_euro() {
    let usd_in = |code| usd_in(&Currency::new(code).unwrap()).map(|dated| dated.rate.to_string());
    // 1 EUR was 1.1172 USD and 0.9194 CHF on that day.
    assert_eq!(usd_in("EUR").as_deref(), Some("0.895095"));
    assert_eq!(usd_in("CHF").as_deref(), Some("0.82295"));
    assert_eq!(usd_in("USD").as_deref(), Some("1"));
    assert_eq!(usd_in("XAU"), None);
}

#[test]
fn what_nobody_states_counts_as_able() {
    let fact = find("openai", "https://api.openai.com/v1", "gpt-5.6-sol").unwrap();
    assert_eq!(fact.price, None);
    assert!(fact.abilities().tools && fact.abilities().images);
    let blind = find("openai", "https://api.openai.com/v1", "gpt-3.5-turbo").unwrap();
    assert!(!blind.abilities().images);
    let claude = find("anthropic", "https://api.anthropic.com", "claude-sonnet-5").unwrap();
    assert!(!claude.abilities().logprobs && claude.abilities().documents);
}

#[test]
fn the_rung_follows_the_price_of_output() {
    let tier = |output: &str| tier_of_output(figure(output));
    assert_eq!(tier("0.4"), Tier::Economy);
    assert_eq!(tier("5"), Tier::Economy);
    assert_eq!(tier("5.000000001"), Tier::Standard);
    assert_eq!(tier("15"), Tier::Standard);
    assert_eq!(tier("15.01"), Tier::Premium);
}
