//! `[[model]]`: names, places, prices and abilities, joined with the shipped catalogue.
//!
//! Decides which figure counts: the deployment's own, else the model's, else the catalogue's at
//! that place. A model without a price is an error by name and never free. Knows nothing of
//! policies.

use std::collections::BTreeSet;

use jiff::civil::Date;

use crate::catalog::shipped::{self, Fact};
use crate::catalog::{Abilities, Catalog, Deployment, Lifecycle, Model, ModelKind, Tokenizer};
use crate::config::check::access::{Providers, twice};
use crate::config::file::{Located, Reader, Section, finding, nearest};
use crate::config::{Finding, Money, Origin, ProviderConfig};
use crate::ids::{ModelId, ProviderId};
use crate::money::{AmountError, Currency, ExchangeRate, PerMillion, Price, PriceSource};
use crate::reply::Words;
use crate::request::Tier;

/// Sound models, and the names of those that were meant to be one.
pub struct Models {
    pub catalog: Catalog,
    pub named: BTreeSet<String>,
}

impl Models {
    /// Whether a model of this id is meant to exist; notes it where not.
    pub fn has(&self, id: &Located<String>, reader: &Reader<'_>) -> bool {
        let known = self.named.contains(&id.value);
        if !known {
            let names = self.named.iter().map(String::as_str);
            reader.wrong_at(id, unknown("model", "Modell", id, names));
        }
        known
    }

    /// The kind of a sound model.
    pub fn kind(&self, id: &str) -> Option<ModelKind> {
        self.catalog.get(&ModelId::from(id)).map(|model| model.kind)
    }
}

/// The words for a name that stands for nothing.
pub fn unknown<'n>(
    what_en: &str,
    what_de: &str,
    id: &Located<String>,
    known: impl Iterator<Item = &'n str>,
) -> Words {
    let shown = id.shown();
    match nearest(&id.value, known) {
        Some(near) => Words::new(
            format!("there is no {what_en} `{shown}`; did you mean `{near}`?"),
            format!("{what_de} `{shown}` gibt es nicht; ist `{near}` gemeint?"),
        ),
        None => Words::new(
            format!("there is no {what_en} `{shown}`"),
            format!("{what_de} `{shown}` gibt es nicht"),
        ),
    }
}

/// What every model is checked against.
struct Around<'a> {
    reader: &'a Reader<'a>,
    providers: &'a Providers,
    money: &'a Money,
    today: Date,
}

pub fn catalog(
    sections: Vec<Section<'_>>,
    reader: &Reader<'_>,
    providers: &Providers,
    money: &Money,
    today: Date,
    warnings: &mut Vec<Finding>,
) -> Models {
    let around = Around { reader, providers, money, today };
    let mut named = BTreeSet::new();
    let mut sound = Vec::new();
    let mut fallbacks = Vec::new();
    for section in sections {
        let id = section.required_text("id").filter(|id| is_free_id(id, &named, reader));
        if let Some(id) = &id {
            named.insert(id.value.clone());
        }
        let model = model(&section, id, &around, &mut fallbacks, warnings);
        section.finish();
        sound.extend(model);
    }
    let models = Models { catalog: Catalog::new(sound), named };
    for fallback in fallbacks {
        models.has(&fallback, reader);
    }
    models
}

fn is_free_id(id: &Located<String>, named: &BTreeSet<String>, reader: &Reader<'_>) -> bool {
    let name = id.value.as_str();
    if name == "auto" || name.starts_with("auto:") {
        let words = Words::new(
            "`auto` and `auto:…` ask for a policy; give the model another id",
            "`auto` und `auto:…` fragen nach einer Regel; bitte dem Modell eine andere id geben",
        );
        reader.wrong_at(id, words);
        return false;
    }
    // The id stands in headers and in one-line traces.
    if name.len() > 200
        || name.chars().any(|c| c.is_whitespace() || c.is_control() || !c.is_ascii())
    {
        let words = Words::new(
            "a model's id is at most 200 ASCII characters without spaces",
            "die id eines Modells hat höchstens 200 ASCII-Zeichen ohne Leerzeichen",
        );
        reader.wrong_at(id, words);
        return false;
    }
    if named.contains(name) {
        reader.wrong_at(id, twice(name));
        return false;
    }
    true
}

fn model(
    section: &Section<'_>,
    id: Option<Located<String>>,
    around: &Around<'_>,
    fallbacks: &mut Vec<Located<String>>,
    warnings: &mut Vec<Finding>,
) -> Option<Model> {
    let place = place(section, around);
    let kind = section.word("kind", ModelKind::ALL).map(|kind| kind.value);
    let tier = section.word("tier", Tier::ALL).map(|tier| tier.value);
    let context_tokens = section.whole("context_tokens", 1, 1 << 40).map(|limit| limit.value);
    let max_output_tokens = section.whole("max_output_tokens", 1, u64::from(u32::MAX));
    let max_parallel = section.whole("max_parallel", 1, u64::from(u32::MAX));
    let fallback = section.texts("fallback").unwrap_or_default();
    let owner = section.text("owner").map(|owner| owner.value);
    let approved = section.text("approved").map(|approved| approved.value);
    let written = WrittenPrice::of(section, around.reader);
    let fact = place.as_ref().and_then(|place| place.fact);
    let abilities = abilities(section, fact.map_or(Abilities::ALL, Fact::abilities), around.reader);
    let kind = kind.or(fact.map(|fact| fact.kind)).unwrap_or(ModelKind::Chat);

    let mut deployments = Vec::new();
    if let (Some(place), Some(id)) = (&place, &id) {
        deployments.extend(deployment(section, id, place, &written, None, kind, around, warnings));
        for further in section.sections("deployments") {
            let own = WrittenPrice::of(&further, around.reader);
            if let Some(place) = self::place(&further, around) {
                let own = Some(&own);
                deployments.extend(deployment(
                    &further, id, &place, &written, own, kind, around, warnings,
                ));
            }
            further.finish();
        }
        warnings.extend(lifecycle_warning(section, id, fact, around.today));
    } else {
        section.has("deployments");
        section.has("weight");
    }
    let id = id?;
    for name in &fallback {
        if name.value == id.value {
            let words = Words::new(
                "a model cannot fall back on itself",
                "ein Modell kann nicht auf sich selbst ausweichen",
            );
            around.reader.wrong_at(name, words);
        }
    }
    let price = deployments.first().map(|deployment| deployment.price.clone())?;
    note_origins(section, fact, &written, around.reader);
    let model = Model {
        id: ModelId::from(id.value),
        kind,
        tier: tier.or(fact.map(|fact| fact.tier)).unwrap_or_else(|| shipped::tier_of(&price)),
        deployments,
        fallback: fallback.iter().map(|name| ModelId::from(name.value.as_str())).collect(),
        abilities,
        context_tokens: context_tokens.or(fact.and_then(|fact| fact.context_tokens)),
        max_output_tokens: max_output_tokens
            .and_then(|limit| u32::try_from(limit.value).ok())
            .or(fact.and_then(|fact| fact.max_output_tokens)),
        max_parallel: max_parallel.and_then(|limit| u32::try_from(limit.value).ok()),
        lifecycle: fact.map_or_else(Lifecycle::default, |fact| fact.lifecycle.clone()),
        owner,
        approved,
    };
    fallbacks.extend(fallback);
    Some(model)
}

/// A place where a model is said to run.
struct Place<'a> {
    /// `None`: the provider is named and not sound, which is noted elsewhere.
    provider: Option<&'a ProviderConfig>,
    name: String,
    weight: u32,
    fact: Option<&'static Fact>,
}

fn place<'a>(section: &Section<'_>, around: &Around<'a>) -> Option<Place<'a>> {
    let provider = section.required_text("provider");
    let name = section.required_text("name");
    let catalogue = section.text("catalogue");
    let weight = section.whole("weight", 1, 1_000_000);
    let weight = weight.and_then(|weight| u32::try_from(weight.value).ok()).unwrap_or(1);
    let (provider, name) = (provider?, name?);
    if !around.providers.named.contains(&provider.value) {
        let names = around.providers.named.iter().map(String::as_str);
        let words = unknown("provider", "Anbieter", &provider, names);
        around.reader.wrong_at(&provider, words);
        return None;
    }
    let provider = around.providers.sound.get(&ProviderId::from(provider.value));
    let fact = match (&catalogue, provider) {
        (Some(like), _) => {
            let fact = shipped::named(&like.value);
            if fact.is_none() {
                let shown = like.shown();
                let words = Words::new(
                    format!("the catalogue has no `{shown}`; write VENDOR/MODEL"),
                    format!("der Katalog hat kein `{shown}`; bitte ANBIETER/MODELL schreiben"),
                );
                around.reader.wrong_at(like, words);
            }
            fact
        }
        (None, Some(provider)) => {
            shipped::find(provider.kind.as_str(), &provider.base_url, &name.value)
        }
        (None, None) => None,
    };
    Some(Place { provider, name: name.value, weight, fact })
}

#[allow(clippy::too_many_arguments, reason = "one place joins everything that a price depends on")]
fn deployment(
    section: &Section<'_>,
    model: &Located<String>,
    place: &Place<'_>,
    of_model: &WrittenPrice,
    own: Option<&WrittenPrice>,
    kind: ModelKind,
    around: &Around<'_>,
    warnings: &mut Vec<Finding>,
) -> Option<Deployment> {
    let provider = place.provider?;
    let written = own.map_or_else(|| of_model.clone(), |own| own.clone().or(of_model));
    let price = price(section, model, place, &written, kind, around, warnings)?;
    Some(Deployment {
        provider: provider.id.clone(),
        name: place.name.clone(),
        zone: provider.zone,
        weight: place.weight,
        price,
        tokenizer: place.fact.map_or(Tokenizer::Unpublished, |fact| fact.tokenizer),
    })
}

/// Price keys as written, on a model or on one of its deployments.
#[derive(Clone, Default)]
struct WrittenPrice {
    free: bool,
    input: Option<PerMillion>,
    cached_input: Option<PerMillion>,
    cache_write: Option<PerMillion>,
    output: Option<PerMillion>,
    currency: Option<Located<Currency>>,
    date: Option<Date>,
    /// Something was written and is wrong, which is noted already.
    broken: bool,
}

impl WrittenPrice {
    fn of(section: &Section<'_>, reader: &Reader<'_>) -> WrittenPrice {
        let mut written = WrittenPrice::default();
        let mut broken = false;
        let mut figure = |key| {
            let text = section.decimal(key);
            broken |= section.has(key) && text.is_none();
            match text?.parse_with(reader) {
                Some(price) => Some(price),
                None => {
                    broken = true;
                    None
                }
            }
        };
        written.input = figure("input_per_million");
        written.output = figure("output_per_million");
        written.cached_input = figure("cached_input_per_million");
        written.cache_write = figure("cache_write_per_million");
        written.date = section.date("price_date").map(|date| date.value);
        written.broken = broken;
        if let Some(code) = section.text("price_currency") {
            match Currency::new(&code.value) {
                Some(currency) => {
                    written.currency = Some(Located {
                        value: currency,
                        key: code.key.clone(),
                        line: code.line,
                        origin: code.origin.clone(),
                    });
                }
                None => {
                    written.broken = true;
                    reader.wrong_at(&code, super::no_currency(&code.shown()));
                }
            }
        }
        if let Some(price) = section.text("price") {
            written.free = price.value == "free";
            if !written.free {
                written.broken = true;
                let words = Words::new(
                    "can only be \"free\"; write other prices as input_per_million and \
                     output_per_million",
                    "kann nur \"free\" sein; andere Preise bitte als input_per_million und \
                     output_per_million schreiben",
                );
                reader.wrong_at(&price, words);
            } else if written.has_figures() {
                written.broken = true;
                let words = Words::new(
                    "is free and has a price; take one of them out",
                    "ist kostenlos und hat einen Preis; bitte eines von beiden entfernen",
                );
                reader.wrong_at(&price, words);
            }
        }
        written
    }

    fn has_figures(&self) -> bool {
        [self.input, self.output, self.cached_input, self.cache_write].iter().any(Option::is_some)
    }

    /// What the deployment says, completed by what its model says.
    fn or(self, model: &WrittenPrice) -> WrittenPrice {
        if self.free || (model.free && !self.has_figures()) {
            return WrittenPrice { free: true, ..self };
        }
        WrittenPrice {
            free: false,
            input: self.input.or(model.input),
            cached_input: self.cached_input.or(model.cached_input),
            cache_write: self.cache_write.or(model.cache_write),
            output: self.output.or(model.output),
            currency: self.currency.or_else(|| model.currency.clone()),
            date: self.date.or(model.date),
            broken: self.broken || model.broken,
        }
    }
}

impl Located<String> {
    fn parse_with(&self, reader: &Reader<'_>) -> Option<PerMillion> {
        let cause = match self.value.trim().parse() {
            Ok(price) => return Some(price),
            Err(cause) => cause,
        };
        let shown = self.shown();
        let words = match cause {
            AmountError::NotANumber(_) => Words::new(
                format!("`{shown}` is no price; write for example \"0.75\" for a million tokens"),
                format!(
                    "`{shown}` ist kein Preis; bitte zum Beispiel \"0.75\" für eine Million \
                     Token schreiben"
                ),
            ),
            AmountError::TooFine(_) => Words::new(
                format!("`{shown}` has more than nine decimal places"),
                format!("`{shown}` hat mehr als neun Nachkommastellen"),
            ),
            AmountError::OutOfRange(_) => Words::new(
                format!("`{shown}` must be from 0 to 1000000 for a million tokens"),
                format!("`{shown}` muss zwischen 0 und 1000000 je Million Token liegen"),
            ),
        };
        reader.wrong_at(self, words);
        None
    }
}

/// Joins the written figures with the catalogue's; notes what is missing.
fn price(
    section: &Section<'_>,
    model: &Located<String>,
    place: &Place<'_>,
    written: &WrittenPrice,
    kind: ModelKind,
    around: &Around<'_>,
    warnings: &mut Vec<Finding>,
) -> Option<Price> {
    if written.broken {
        return None;
    }
    if written.free {
        return Some(Price::free(around.money.currency.clone()));
    }
    let dollar = shipped::dollar();
    let shipped = place.fact.and_then(|fact| fact.price.as_ref());
    let currency = written.currency.as_ref().map_or(&dollar, |currency| &currency.value);
    // Figures of two currencies cannot be mixed.
    let shipped = shipped.filter(|_| *currency == dollar);
    let input = written.input.or(shipped.map(|price| price.input));
    let nothing_comes_out = (kind == ModelKind::Embedding).then(PerMillion::default);
    let output = written.output.or(shipped.map(|price| price.output)).or(nothing_comes_out);
    let (Some(input), Some(output)) = (input, output) else {
        let missing = if input.is_none() { "input_per_million" } else { "output_per_million" };
        section.wrong(missing, no_price(&model.value, &place.name));
        return None;
    };
    if input == PerMillion::default() && output == PerMillion::default() {
        let words = Words::new(
            "a price of nothing must be said: write price = \"free\"",
            "dass es nichts kostet, muss dastehen: bitte price = \"free\" schreiben",
        );
        section.wrong("input_per_million", words);
        return None;
    }
    let rate = rate(section, currency, written, around)?;
    if written.has_figures() && written.currency.is_none() && around.money.currency != dollar {
        let words = Words::new(
            "not set: the prices are taken as US dollars; write price_currency",
            "nicht gesetzt: die Preise gelten als US-Dollar; bitte price_currency schreiben",
        );
        warnings.push(finding(&section.dotted("price_currency"), section.line, words));
    }
    let source = if written.has_figures() { PriceSource::Config } else { PriceSource::Catalogue };
    let catalogue_date = (source == PriceSource::Catalogue).then(shipped::price_date);
    Some(Price {
        input,
        cached_input: written
            .cached_input
            .or(shipped.and_then(|price| price.cached_input))
            .unwrap_or(input),
        cache_write: written
            .cache_write
            .or(shipped.and_then(|price| price.cache_write))
            .unwrap_or(input),
        output,
        currency: currency.clone(),
        rate,
        date: written.date.or(catalogue_date),
        source,
    })
}

fn no_price(model: &str, name: &str) -> Words {
    Words::new(
        format!(
            "model `{model}` has no price: the catalogue knows none for `{name}` here; write \
             input_per_million and output_per_million, or price = \"free\""
        ),
        format!(
            "Modell `{model}` hat keinen Preis: der Katalog kennt keinen für `{name}` an dieser \
             Stelle; bitte input_per_million und output_per_million schreiben oder price = \
             \"free\""
        ),
    )
}

fn rate(
    section: &Section<'_>,
    currency: &Currency,
    written: &WrittenPrice,
    around: &Around<'_>,
) -> Option<ExchangeRate> {
    if *currency == around.money.currency {
        return Some(ExchangeRate::ONE);
    }
    if *currency == shipped::dollar() {
        return Some(around.money.usd);
    }
    let own = &around.money.currency;
    let words = Words::new(
        format!("there is no rate for {currency}; write the prices in USD or {own}"),
        format!("für {currency} gibt es keinen Kurs; bitte die Preise in USD oder {own} schreiben"),
    );
    match &written.currency {
        Some(at) => around.reader.wrong_at(at, words),
        None => section.wrong("price_currency", words),
    }
    None
}

/// A list names everything that the model can; a table changes single abilities. Streaming is
/// never meant to be left out by a list, since every chat model streams.
fn abilities(section: &Section<'_>, known: Abilities, reader: &Reader<'_>) -> Abilities {
    let mut abilities = known;
    if section.is_table("abilities") {
        let Some(table) = section.section("abilities") else { return abilities };
        for (name, place) in ability_places(&mut abilities) {
            if let Some(flag) = table.flag(name) {
                *place = flag.value;
            }
        }
        table.finish();
        return abilities;
    }
    let Some(names) = section.texts("abilities") else { return abilities };
    for (name, place) in ability_places(&mut abilities) {
        *place = name == "streaming" || names.iter().any(|written| written.value == name);
    }
    let all: Vec<&str> = ability_places(&mut abilities).into_iter().map(|(name, _)| name).collect();
    for name in names.iter().filter(|name| !all.contains(&name.value.as_str())) {
        let known = crate::config::file::list(all.iter());
        let shown = name.shown();
        let words = Words::new(
            format!("`{shown}` is not one of: {known}"),
            format!("`{shown}` ist keines von: {known}"),
        );
        reader.wrong_at(name, words);
    }
    abilities
}

fn ability_places(abilities: &mut Abilities) -> [(&'static str, &mut bool); 8] {
    [
        ("tools", &mut abilities.tools),
        ("images", &mut abilities.images),
        ("documents", &mut abilities.documents),
        ("audio", &mut abilities.audio),
        ("json_schema", &mut abilities.json_schema),
        ("streaming", &mut abilities.streaming),
        ("logprobs", &mut abilities.logprobs),
        ("reasoning", &mut abilities.reasoning),
    ]
}

fn lifecycle_warning(
    section: &Section<'_>,
    id: &Located<String>,
    fact: Option<&'static Fact>,
    today: Date,
) -> Option<Finding> {
    let fact = fact?;
    let words = shipped::end_of_life(&id.value, fact, today)?;
    Some(finding(&section.dotted("name"), section.line_of("name"), words))
}

/// Where the values came from that the file does not say.
fn note_origins(
    section: &Section<'_>,
    fact: Option<&'static Fact>,
    written: &WrittenPrice,
    reader: &Reader<'_>,
) {
    let Some(fact) = fact else { return };
    let note = |key: &'static str, from_catalogue: bool| {
        if from_catalogue && !section.has(key) {
            reader.set_origin(section.dotted(key), Origin::Catalogue);
        }
    };
    let priced = fact.price.is_some() && !written.free;
    for key in ["input_per_million", "output_per_million"] {
        note(key, priced);
    }
    let price = fact.price.as_ref();
    note("cached_input_per_million", price.is_some_and(|p| p.cached_input.is_some()) && priced);
    note("cache_write_per_million", price.is_some_and(|p| p.cache_write.is_some()) && priced);
    note("price_currency", priced);
    note("kind", true);
    note("tier", true);
    note("abilities", true);
    note("context_tokens", fact.context_tokens.is_some());
    note("max_output_tokens", fact.max_output_tokens.is_some());
}
