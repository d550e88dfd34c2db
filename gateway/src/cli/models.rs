//! `stellwerk models` and `models health`: what there is, what it costs, where it runs, how it
//! does.
//!
//! Prices are shown in the currency they are stated in, for a million tokens.

use std::time::Duration;

use serde::Serialize;
use stellwerk_core::catalog::{Abilities, Deployment, Lifecycle, Model, ModelKind};
use stellwerk_core::engine::Health;
use stellwerk_core::ids::{ModelId, ProviderId};
use stellwerk_core::money::{PerMillion, PriceSource};
use stellwerk_core::request::{Locale, Tier, Zone};

use crate::cli::args::{ModelsArgs, ModelsCommand};
use crate::cli::output::{self, Table};
use crate::cli::setup::{self, Context};
use crate::cli::{CommandError, later};

/// A model of `models --json`.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    id: &'a ModelId,
    kind: ModelKind,
    tier: Tier,
    deployments: Vec<Place<'a>>,
    fallback: &'a [ModelId],
    abilities: Abilities,
    context_tokens: Option<u64>,
    max_output_tokens: Option<u32>,
    lifecycle: &'a Lifecycle,
    owner: Option<&'a str>,
    approved: Option<&'a str>,
    simulated: bool,
}

#[derive(Debug, Serialize)]
struct Place<'a> {
    provider: &'a ProviderId,
    name: &'a str,
    zone: Zone,
    weight: u32,
    input_price_nano: PerMillion,
    cached_input_price_nano: PerMillion,
    cache_write_price_nano: PerMillion,
    output_price_nano: PerMillion,
    price_currency: &'a str,
    exchange_rate: String,
    price_date: Option<jiff::civil::Date>,
    price_source: PriceSource,
}

pub(super) async fn run(context: &Context, args: ModelsArgs) -> Result<(), CommandError> {
    match args.command {
        None => list(context, args.json),
        Some(ModelsCommand::Health { json }) => health(context, json).await,
        Some(ModelsCommand::Impact(_)) => later::not_yet("models impact"),
        Some(ModelsCommand::Pause(_)) => later::not_yet("models pause"),
        Some(ModelsCommand::Resume(_)) => later::not_yet("models resume"),
        Some(ModelsCommand::Pin(_)) => later::not_yet("models pin"),
        Some(ModelsCommand::Rollback(_)) => later::not_yet("models rollback"),
    }
}

fn list(context: &Context, json: bool) -> Result<(), CommandError> {
    let config = setup::config(context)?;
    let is_simulated = |place: &Deployment| {
        let provider = config.providers.get(&place.provider);
        provider.is_some_and(|p| p.kind == stellwerk_core::config::ProviderKind::Simulated)
    };
    let models: Vec<Listed<'_>> = config
        .catalog
        .iter()
        .map(|model| listed(model, model.deployments.iter().any(is_simulated)))
        .collect();
    match json {
        true => output::json(&models),
        false => output::line(table(&models, context.locale).to_string().trim_end()),
    }
}

fn listed(model: &Model, simulated: bool) -> Listed<'_> {
    Listed {
        id: &model.id,
        kind: model.kind,
        tier: model.tier,
        deployments: model.deployments.iter().map(place_of).collect(),
        fallback: &model.fallback,
        abilities: model.abilities,
        context_tokens: model.context_tokens,
        max_output_tokens: model.max_output_tokens,
        lifecycle: &model.lifecycle,
        owner: model.owner.as_deref(),
        approved: model.approved.as_deref(),
        simulated,
    }
}

fn place_of(place: &Deployment) -> Place<'_> {
    Place {
        provider: &place.provider,
        name: &place.name,
        zone: place.zone,
        weight: place.weight,
        input_price_nano: place.price.input,
        cached_input_price_nano: place.price.cached_input,
        cache_write_price_nano: place.price.cache_write,
        output_price_nano: place.price.output,
        price_currency: place.price.currency.as_str(),
        exchange_rate: place.price.rate.to_string(),
        price_date: place.price.date,
        price_source: place.price.source,
    }
}

fn table(models: &[Listed<'_>], locale: Locale) -> Table {
    let header = match locale {
        Locale::En => {
            ["model", "tier", "place", "zone", "in / out per million", "from", "abilities", "ends"]
        }
        Locale::De => [
            "Modell",
            "Stufe",
            "Ort",
            "Zone",
            "Ein / Aus je Million",
            "vom",
            "Fähigkeiten",
            "endet",
        ],
    };
    let mut table = Table::new(header);
    for model in models {
        for (number, place) in model.deployments.iter().enumerate() {
            let first = |text: String| if number == 0 { text } else { String::new() };
            table.row([
                first(model.id.to_string()),
                first(tier(model)),
                place_name(model, place, locale),
                place.zone.to_string(),
                price(place, locale),
                place.price_date.map(|date| date.to_string()).unwrap_or_default(),
                first(abilities(model)),
                first(end(model.lifecycle)),
            ]);
        }
    }
    table
}

fn tier(model: &Listed<'_>) -> String {
    match model.kind {
        ModelKind::Chat => model.tier.to_string(),
        ModelKind::Embedding => model.kind.to_string(),
    }
}

fn place_name(model: &Listed<'_>, place: &Place<'_>, locale: Locale) -> String {
    let name = format!("{}/{}", place.provider, place.name);
    match (model.simulated, locale) {
        (false, _) => name,
        (true, Locale::En) => format!("{name} (simulated)"),
        (true, Locale::De) => format!("{name} (simuliert)"),
    }
}

fn price(place: &Place<'_>, locale: Locale) -> String {
    if place.price_source == PriceSource::Free {
        return match locale {
            Locale::En => "free".to_owned(),
            Locale::De => "kostenlos".to_owned(),
        };
    }
    let (input, output) = (price_text(place.input_price_nano), price_text(place.output_price_nano));
    format!("{input} / {output} {}", place.price_currency)
}

/// A price with two to nine decimal places: `0.75`, `0.075`.
fn price_text(price: PerMillion) -> String {
    let written = stellwerk_core::money::Cost::from_nanos(price.nanos()).to_string();
    let (units, places) = written.split_once('.').unwrap_or((&written, "0"));
    let places = places.trim_end_matches('0');
    format!("{units}.{places:0<2}")
}

fn abilities(model: &Listed<'_>) -> String {
    let Abilities {
        tools,
        images,
        documents,
        audio,
        json_schema,
        streaming: _,
        logprobs,
        reasoning,
    } = model.abilities;
    let words = [
        (tools, "tools"),
        (images, "images"),
        (documents, "documents"),
        (audio, "audio"),
        (json_schema, "schema"),
        (logprobs, "logprobs"),
        (reasoning, "reasoning"),
    ];
    match model.kind {
        ModelKind::Embedding => String::new(),
        ModelKind::Chat => words
            .iter()
            .filter(|(able, _)| *able)
            .map(|(_, word)| *word)
            .collect::<Vec<_>>()
            .join(" "),
    }
}

fn end(lifecycle: &Lifecycle) -> String {
    let end = lifecycle.shutdown_on.map(|date| date.to_string());
    let earliest = lifecycle.earliest_shutdown_on.map(|date| format!("≥ {date}"));
    end.or(earliest).unwrap_or_default()
}

async fn health(context: &Context, json: bool) -> Result<(), CommandError> {
    let wired = setup::wired(context).await?;
    let health = wired.engine.health();
    wired.stop(Duration::from_secs(1)).await;
    if json {
        return output::json(&health);
    }
    output::say(&context.words(
        "As this process sees it, which has called nobody yet. What a running server has seen \
         stands at its /metrics; whether the providers can be reached, says `stellwerk doctor`.",
        "So sieht es dieser Prozess, der noch niemanden gerufen hat. Was ein laufender Server \
         gesehen hat, steht dort unter /metrics; ob die Anbieter erreichbar sind, sagt \
         `stellwerk doctor`.",
    ));
    output::line(health_table(&health, context.locale).to_string().trim_end())
}

fn health_table(health: &[Health], locale: Locale) -> Table {
    let (header, well, ill) = match locale {
        Locale::En => {
            (["model", "provider", "state", "calls", "first token"], "healthy", "resting")
        }
        Locale::De => {
            (["Modell", "Anbieter", "Stand", "Aufrufe", "erstes Token"], "gesund", "ruht")
        }
    };
    let mut table = Table::new(header).right([3, 4]);
    for place in health {
        let state = match (&place.resting, place.healthy) {
            (Some(why), _) => format!("{ill}: {why}"),
            (None, true) => well.to_owned(),
            (None, false) => ill.to_owned(),
        };
        table.row([
            place.model.to_string(),
            place.provider.to_string(),
            state,
            place.in_flight.to_string(),
            place.first_token_ms.map(|ms| format!("{ms:.0} ms")).unwrap_or_default(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use stellwerk_core::catalog::Tokenizer;
    use stellwerk_core::money::{Currency, ExchangeRate, Price};

    fn model() -> Model {
        let price = Price {
            input: "0.75".parse().unwrap(),
            cached_input: "0.075".parse().unwrap(),
            cache_write: "0.75".parse().unwrap(),
            output: "4.5".parse().unwrap(),
            currency: Currency::new("USD").unwrap(),
            rate: ExchangeRate::new("0.92".parse().unwrap()).unwrap(),
            date: Some("2026-07-02".parse().unwrap()),
            source: PriceSource::Catalogue,
        };
        let place = |provider: &str, zone, price| Deployment {
            provider: provider.into(),
            name: "gpt-5.4-mini".to_owned(),
            zone,
            weight: 1,
            price,
            tokenizer: Tokenizer::O200k,
        };
        Model {
            id: "mini".into(),
            kind: ModelKind::Chat,
            tier: Tier::Economy,
            deployments: vec![
                place("openai", Zone::World, price),
                place("keller", Zone::Local, Price::free(Currency::new("EUR").unwrap())),
            ],
            fallback: Vec::new(),
            abilities: Abilities { audio: false, reasoning: false, ..Abilities::ALL },
            context_tokens: Some(400_000),
            max_output_tokens: Some(128_000),
            max_parallel: None,
            lifecycle: Lifecycle {
                earliest_shutdown_on: Some("2027-03-17".parse().unwrap()),
                ..Lifecycle::default()
            },
            owner: None,
            approved: None,
        }
    }

    #[test]
    fn the_list_shows_price_place_and_end_of_each_model() {
        let model = model();
        insta::assert_snapshot!(table(&[listed(&model, false)], Locale::En).to_string());
        insta::assert_json_snapshot!(listed(&model, false));
    }

    #[test]
    fn prices_keep_the_places_they_need() {
        for (written, shown) in [("3", "3.00"), ("0.075", "0.075"), ("12.5", "12.50")] {
            assert_eq!(price_text(written.parse().unwrap()), shown);
        }
    }
}
