//! The catalogue that ships with the program: facts on models, each of a known day.
//!
//! Decides which fact a vendor's name for a model stands for, and derives from it the rung, the
//! tokenizer and what it can do. Facts are read when first asked for. Knows nothing of the
//! configuration, which can override every figure. Start with [`find`].

use std::collections::HashMap;
use std::sync::LazyLock;

use jiff::civil::Date;
use rust_decimal::Decimal;
use serde::Deserialize;

use crate::catalog::{Abilities, Lifecycle, ModelKind, Tokenizer};
use crate::money::{Currency, ExchangeRate, PerMillion, Price, PriceSource};
use crate::reply::Words;
use crate::request::{Tier, Zone};

#[cfg(test)]
mod tests;

/// One model at one host.
#[derive(Debug, Clone)]
pub struct Fact {
    /// Who sells it, `openai`, `azure`, `amazon-bedrock`.
    pub host: String,
    /// The host's name for it.
    pub name: String,
    /// What it is for.
    pub kind: ModelKind,
    /// What it costs there; `None`: unknown, which is never zero.
    pub price: Option<ShippedPrice>,
    /// Input and output together.
    pub context_tokens: Option<u64>,
    /// The most output tokens.
    pub max_output_tokens: Option<u32>,
    /// Its rung, by [`tier_of`].
    pub tier: Tier,
    /// How its tokens are counted.
    pub tokenizer: Tokenizer,
    /// The dates of its life.
    pub lifecycle: Lifecycle,
    /// What the vendor says of it now.
    pub status: Status,
    stated: Stated,
}

/// What a vendor says of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// On sale.
    #[default]
    Active,
    /// On trial.
    Beta,
    /// Advised against.
    Deprecated,
    /// Switched off.
    Retired,
}

/// US dollars for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShippedPrice {
    /// Fresh input.
    pub input: PerMillion,
    /// Cached input, if stated.
    pub cached_input: Option<PerMillion>,
    /// Writing into the cache, if stated.
    pub cache_write: Option<PerMillion>,
    /// Output.
    pub output: PerMillion,
}

impl ShippedPrice {
    /// The price with the company's rate; what is not stated costs what fresh input costs.
    pub fn at(&self, usd: ExchangeRate) -> Price {
        Price {
            input: self.input,
            cached_input: self.cached_input.unwrap_or(self.input),
            cache_write: self.cache_write.unwrap_or(self.input),
            output: self.output,
            currency: dollar(),
            rate: usd,
            date: Some(price_date()),
            source: PriceSource::Catalogue,
        }
    }
}

/// Abilities as stated; what nobody states counts as able.
#[derive(Debug, Clone, Copy, Default)]
struct Stated {
    tools: Option<bool>,
    schema: Option<bool>,
    reasoning: Option<bool>,
    images: Option<bool>,
    documents: Option<bool>,
    audio: Option<bool>,
}

impl Fact {
    /// What it can do.
    pub fn abilities(&self) -> Abilities {
        let able = |stated: Option<bool>| stated.unwrap_or(true);
        // OpenAI and Google read PDF with every model that sees, though lists name only images.
        let sees_pages = matches!(self.host.as_str(), "openai" | "azure" | "google")
            && self.stated.images == Some(true);
        Abilities {
            tools: able(self.stated.tools),
            images: able(self.stated.images),
            documents: sees_pages || able(self.stated.documents),
            audio: able(self.stated.audio),
            json_schema: able(self.stated.schema),
            streaming: true,
            logprobs: self.gives_logprobs(),
            reasoning: able(self.stated.reasoning),
        }
    }

    /// By the vendors' API references: Anthropic, Bedrock's Converse and Mistral have no log
    /// probabilities, OpenAI refuses them for its reasoning models, Google for most. Asking in
    /// vain is an error, so only a stated or likely yes is one.
    fn gives_logprobs(&self) -> bool {
        match self.host.as_str() {
            "anthropic" | "amazon-bedrock" | "mistral" | "google" | "google-vertex" | "groq" => {
                false
            }
            "openai" | "azure" => self.stated.reasoning == Some(false),
            _ => true,
        }
    }

    /// Whether it can be advised to anyone on this day.
    fn is_current(&self, today: Date) -> bool {
        let life = &self.lifecycle;
        let goes_soon = life.shutdown_on.is_some_and(|day| days_until(day, today) < SOON_DAYS);
        let is_out = life.released_on.is_none_or(|day| day <= today);
        self.status == Status::Active && is_out && !goes_soon && life.deprecated_on.is_none()
    }
}

/// Nearer to its end than this, a model is spoken of: half a year is what vendors usually give.
const SOON_DAYS: i32 = 180;

fn days_until(day: Date, today: Date) -> i32 {
    (day - today).get_days()
}

/// A line of `models.jsonl`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    host: String,
    name: String,
    #[serde(default)]
    embeds: bool,
    r#in: Option<String>,
    out: Option<String>,
    cached: Option<String>,
    write: Option<String>,
    context: Option<u64>,
    output: Option<u32>,
    tools: Option<bool>,
    schema: Option<bool>,
    reasoning: Option<bool>,
    images: Option<bool>,
    documents: Option<bool>,
    audio: Option<bool>,
    #[serde(default)]
    status: Status,
    released: Option<Date>,
    deprecated: Option<Date>,
    not_before: Option<Date>,
    shutdown: Option<Date>,
    #[serde(default)]
    replacements: Vec<String>,
    #[serde(default)]
    aliases: Vec<String>,
}

impl Line {
    fn price(&self) -> Option<ShippedPrice> {
        let figure = |text: &Option<String>| text.as_ref().and_then(|text| text.parse().ok());
        Some(ShippedPrice {
            input: figure(&self.r#in)?,
            cached_input: figure(&self.cached),
            cache_write: figure(&self.write),
            output: figure(&self.out)?,
        })
    }

    fn into_fact(self) -> Fact {
        let price = self.price();
        Fact {
            kind: if self.embeds { ModelKind::Embedding } else { ModelKind::Chat },
            price,
            context_tokens: self.context,
            max_output_tokens: self.output,
            tier: price.map_or(Tier::Standard, |price| tier_of_output(price.output)),
            tokenizer: tokenizer(&self.host, &self.name),
            lifecycle: Lifecycle {
                released_on: self.released,
                deprecated_on: self.deprecated,
                earliest_shutdown_on: self.not_before,
                shutdown_on: self.shutdown,
                replacements: self.replacements,
            },
            status: self.status,
            stated: Stated {
                tools: self.tools,
                schema: self.schema,
                reasoning: self.reasoning,
                images: self.images,
                documents: self.documents,
                audio: self.audio,
            },
            host: self.host,
            name: self.name,
        }
    }
}

struct Shipped {
    facts: Vec<Fact>,
    /// Host, then name; aliases never hide a name.
    by_name: HashMap<String, HashMap<String, usize>>,
}

/// Parsed when first asked for: a process that answers from its configuration alone, and the
/// start of every other, should not pay for it twice.
static SHIPPED: LazyLock<Shipped> = LazyLock::new(|| {
    let text = include_str!("../../../assets/catalog/models.jsonl");
    let lines: Vec<Line> = text
        .lines()
        .map(|line| {
            serde_json::from_str(line).expect("the shipped catalogue is sound; a test reads it")
        })
        .collect();
    let mut by_name: HashMap<String, HashMap<String, usize>> = HashMap::new();
    for (index, line) in lines.iter().enumerate() {
        by_name.entry(line.host.clone()).or_default().insert(line.name.clone(), index);
    }
    for (index, line) in lines.iter().enumerate() {
        for alias in &line.aliases {
            by_name.entry(line.host.clone()).or_default().entry(alias.clone()).or_insert(index);
        }
    }
    Shipped { facts: lines.into_iter().map(Line::into_fact).collect(), by_name }
});

/// Every fact, by host and name.
pub fn all() -> &'static [Fact] {
    &SHIPPED.facts
}

/// The hosts of the catalogue by the end of their address, with where they answer from if that
/// is known. Mistral, Scaleway, OVHcloud and Nebius are European and say that they answer from
/// the European Union; a contract may say otherwise, so it is a hint and never a setting.
const ADDRESSES: [(&str, &str, Option<Zone>); 19] = [
    ("api.openai.com", "openai", None),
    ("eu.api.openai.com", "openai", Some(Zone::Eu)),
    ("api.anthropic.com", "anthropic", None),
    ("generativelanguage.googleapis.com", "google", None),
    ("aiplatform.googleapis.com", "google-vertex", None),
    ("api.mistral.ai", "mistral", Some(Zone::Eu)),
    ("openai.azure.com", "azure", None),
    ("services.ai.azure.com", "azure", None),
    ("amazonaws.com", "amazon-bedrock", None),
    ("api.scaleway.ai", "scaleway", Some(Zone::Eu)),
    ("ai.cloud.ovh.net", "ovhcloud", Some(Zone::Eu)),
    ("nebius.com", "nebius", Some(Zone::Eu)),
    ("api.groq.com", "groq", None),
    ("api.deepseek.com", "deepseek", None),
    ("api.x.ai", "xai", None),
    ("api.cohere.com", "cohere", None),
    ("api.cohere.ai", "cohere", None),
    ("api.moonshot.ai", "moonshotai", None),
    ("aliyuncs.com", "alibaba", None),
];

fn address(base_url: &str) -> Option<&'static (&'static str, &'static str, Option<Zone>)> {
    let url = url::Url::parse(base_url).ok()?;
    let name = url.host_str()?;
    let is_at = |end: &str| {
        name.strip_suffix(end).is_some_and(|front| front.is_empty() || front.ends_with('.'))
    };
    ADDRESSES.iter().filter(|(end, ..)| is_at(end)).max_by_key(|(end, ..)| end.len())
}

/// Where a vendor at this address says that it answers from, if it is known.
pub fn zone_hint(base_url: &str) -> Option<Zone> {
    address(base_url)?.2
}

/// Whose names and prices count at an address: its owner's, else (a proxy, a test) those of the
/// vendor whose format it speaks.
fn host_of(format: &str, base_url: &str) -> Option<&'static str> {
    if let Some((_, host, _)) = address(base_url) {
        return Some(host);
    }
    match format {
        "openai" => Some("openai"),
        "azure" => Some("azure"),
        "anthropic" => Some("anthropic"),
        "gemini" => Some("google"),
        "bedrock" => Some("amazon-bedrock"),
        _ => None,
    }
}

/// What is known of a model by the vendor's name at this place, which speaks this format
/// (`openai`, `azure`, …: the words of `kind` in the configuration).
pub fn find(format: &str, base_url: &str, name: &str) -> Option<&'static Fact> {
    at_host(host_of(format, base_url)?, name)
}

/// What is known of `HOST/MODEL`, or of `MODEL` at the first host that has it.
pub fn named(written: &str) -> Option<&'static Fact> {
    if let Some((host, name)) = written.split_once('/')
        && let Some(fact) = at_host(host, name)
    {
        return Some(fact);
    }
    const FIRST: [&str; 4] = ["openai", "anthropic", "google", "mistral"];
    let by_rank = FIRST.iter().copied();
    let others = SHIPPED.facts.iter().find(|fact| fact.name == written);
    by_rank.filter_map(|host| at_host(host, written)).next().or(others)
}

fn at_host(host: &str, name: &str) -> Option<&'static Fact> {
    let names = SHIPPED.by_name.get(host)?;
    let exact = |name: &str| names.get(name).map(|&index| &SHIPPED.facts[index]);
    let mut spellings = spellings(host, name).into_iter();
    if let Some(fact) = spellings.find_map(|name| exact(&name)) {
        return Some(fact);
    }
    (host == "amazon-bedrock").then(|| any_region(name)).flatten()
}

/// The ways in which one model may be written, the most exact first. A fine-tuned model
/// (`ft:…`) has a price of its own and is none of them.
fn spellings(host: &str, name: &str) -> Vec<String> {
    let mut spellings = vec![name.to_owned()];
    let mut add = |spelling: &str| {
        if !spelling.is_empty() && !spellings.iter().any(|known| known == spelling) {
            spellings.push(spelling.to_owned());
        }
    };
    match host {
        "google" => add(name.strip_prefix("models/").unwrap_or(name)),
        // Azure's names have no dots in places.
        "azure" => add(&name.replace("gpt-35", "gpt-3.5")),
        // An ARN ends with the name.
        "amazon-bedrock" => add(name.rsplit('/').next().unwrap_or(name)),
        _ => {}
    }
    for known in spellings.clone() {
        let dateless = without_date(&known);
        if dateless != known {
            spellings.push(dateless.to_owned());
        }
    }
    spellings
}

/// `gpt-5.4-mini` for `gpt-5.4-mini-2026-03-17`, `claude-x` for `claude-x-20260101` or
/// `claude-x@20260101`, `gemini-x` for `gemini-x-001`.
fn without_date(name: &str) -> &str {
    static DATE: LazyLock<regex::Regex> = LazyLock::new(|| {
        regex::Regex::new(r"(-20\d{2}-\d{2}-\d{2}|[-@]20\d{6}|-00\d)$").expect("a sound pattern")
    });
    DATE.find(name).map_or(name, |date| &name[..date.start()])
}

/// Bedrock sells one model under names of regions, with and without a version. Of the rows that
/// are this model anywhere the dearest is taken, so that a hold is never too small; a region's
/// own row was found before.
fn any_region(name: &str) -> Option<&'static Fact> {
    let name = name.rsplit('/').next().unwrap_or(name);
    let wanted = regionless(name);
    let same = |fact: &&Fact| fact.host == "amazon-bedrock" && regionless(&fact.name) == wanted;
    let price = |fact: &&Fact| fact.price.map(|price| (price.output, price.input));
    SHIPPED.facts.iter().filter(same).max_by_key(price)
}

fn regionless(name: &str) -> &str {
    static AROUND: LazyLock<regex::Regex> = LazyLock::new(|| {
        let pattern =
            r"^(?:(?:eu|us|us-gov|apac|global|jp|au|ca)\.)?(.*?)(?:-20\d{6})?(?:-v\d+)?(?::\d+)?$";
        regex::Regex::new(pattern).expect("a sound pattern")
    });
    AROUND.captures(name).and_then(|found| found.get(1)).map_or(name, |found| found.as_str())
}

/// Which models make the rungs where nobody chose: at this place, for each tier the newest that
/// is current, priced, calls tools and is made for everyday chat; beside them one for vectors.
/// Of equally new ones the dearer, which is the stronger.
pub fn rungs(format: &str, base_url: &str, today: Date) -> Vec<&'static Fact> {
    let Some(host) = host_of(format, base_url) else { return Vec::new() };
    let current: Vec<&Fact> = SHIPPED
        .facts
        .iter()
        .filter(|fact| fact.host == host && fact.price.is_some() && fact.is_current(today))
        .collect();
    let newest = |tier: Tier| {
        let chats = current.iter().copied().filter(|fact| fact.tier == tier && is_everyday(fact));
        chats.max_by_key(|fact| {
            let output = fact.price.map(|price| price.output);
            (fact.lifecycle.released_on, output, std::cmp::Reverse(fact.name.len()))
        })
    };
    let vectors = current
        .iter()
        .copied()
        .filter(|fact| fact.kind == ModelKind::Embedding && !fact.name.ends_with("-latest"))
        .max_by_key(|fact| {
            let input = fact.price.map(|price| price.input);
            (fact.lifecycle.released_on, std::cmp::Reverse(input))
        });
    Tier::ALL.iter().filter_map(|tier| newest(*tier)).chain(vectors).collect()
}

/// Not a name that changes its meaning, not a trial, not made for one special work, not priced
/// for research.
fn is_everyday(fact: &Fact) -> bool {
    const SPECIAL: [&str; 10] = [
        "-latest",
        "preview",
        "codex",
        "codestral",
        "devstral",
        "research",
        "-chat",
        "labs-",
        "-pro",
        "search",
    ];
    const CEILING: PerMillion = PerMillion::from_nanos(30 * crate::money::NANOS);
    let affordable = fact.price.is_some_and(|price| price.output <= CEILING);
    let special = SPECIAL.iter().any(|word| fact.name.contains(word));
    fact.kind == ModelKind::Chat && affordable && !special && fact.stated.tools != Some(false)
}

/// The rung of a price: economy up to 5 units for a million output tokens, standard up to 15,
/// premium above. Output dominates a chat's bill, and vendors' own families (nano and mini,
/// Haiku, Flash; GPT, Sonnet, Pro; Opus) fall apart at these marks. A price in another currency
/// is taken by its number.
pub fn tier_of(price: &Price) -> Tier {
    tier_of_output(price.output)
}

fn tier_of_output(output: PerMillion) -> Tier {
    match output.nanos() / crate::money::NANOS {
        0..5 => Tier::Economy,
        5 if output.nanos() % crate::money::NANOS == 0 => Tier::Economy,
        5..15 => Tier::Standard,
        15 if output.nanos() % crate::money::NANOS == 0 => Tier::Standard,
        _ => Tier::Premium,
    }
}

/// OpenAI publishes its vocabularies: o200k from GPT-4o on, cl100k before and for vectors. All
/// others do not (or not for what they sell).
fn tokenizer(host: &str, name: &str) -> Tokenizer {
    if !matches!(host, "openai" | "azure") {
        return Tokenizer::Unpublished;
    }
    const OLDER: [&str; 4] = ["gpt-3.5", "gpt-4-", "text-embedding-", "gpt-4.0"];
    const NEWER: [&str; 8] = ["gpt-4o", "gpt-4.", "gpt-5", "o1", "o3", "o4", "chatgpt-", "codex-"];
    if name == "gpt-4" || OLDER.iter().any(|start| name.starts_with(start)) {
        return Tokenizer::Cl100k;
    }
    if NEWER.iter().any(|start| name.starts_with(start)) {
        return Tokenizer::O200k;
    }
    Tokenizer::Unpublished
}

/// What should be known of a model that is at, near or past its end; `None`: nothing.
pub fn end_of_life(id: &str, fact: &Fact, today: Date) -> Option<Words> {
    let life = &fact.lifecycle;
    let name = &fact.name;
    let (instead_en, instead_de) = match life.replacements.as_slice() {
        [] => (String::new(), String::new()),
        names => {
            let names = names.join(", ");
            (format!("; the vendor recommends {names}"), format!("; der Anbieter rät zu {names}"))
        }
    };
    let words = |en: String, de: String| {
        Some(Words::new(en + instead_en.as_str(), de + instead_de.as_str()))
    };
    if let Some(day) = life.shutdown_on {
        let days = days_until(day, today);
        if days <= 0 {
            return words(
                format!("model `{id}`: the vendor switched {name} off on {day}"),
                format!("Modell `{id}`: der Anbieter hat {name} am {day} abgeschaltet"),
            );
        }
        if days < SOON_DAYS {
            return words(
                format!("model `{id}`: the vendor switches {name} off on {day}, in {days} days"),
                format!("Modell `{id}`: der Anbieter schaltet {name} am {day} ab, in {days} Tagen"),
            );
        }
    }
    match (fact.status, life.deprecated_on) {
        (Status::Retired, _) => words(
            format!("model `{id}`: the vendor has switched {name} off"),
            format!("Modell `{id}`: der Anbieter hat {name} abgeschaltet"),
        ),
        (_, Some(day)) if day <= today => words(
            format!("model `{id}`: the vendor advises against {name} since {day}"),
            format!("Modell `{id}`: der Anbieter rät seit {day} von {name} ab"),
        ),
        (Status::Deprecated, _) => words(
            format!("model `{id}`: the vendor advises against {name}"),
            format!("Modell `{id}`: der Anbieter rät von {name} ab"),
        ),
        _ => None,
    }
}

/// The currency of every shipped price.
pub fn dollar() -> Currency {
    Currency::new("USD").expect("USD is three capital letters")
}

#[derive(Deserialize)]
struct Cut {
    prices: Date,
}

/// The day on which the shipped prices were cut.
pub fn price_date() -> Date {
    static CUT: LazyLock<Cut> = LazyLock::new(|| {
        let text = include_str!("../../../assets/catalog/cut.json");
        serde_json::from_str(text).expect("the shipped dates are sound; a test reads them")
    });
    CUT.prices
}

/// An exchange rate of a known day.
#[derive(Debug, Clone, PartialEq)]
pub struct DatedRate {
    /// Units of the asked currency for one US dollar.
    pub rate: ExchangeRate,
    /// The day.
    pub date: Date,
}

#[derive(Deserialize)]
struct Rates {
    date: Date,
    /// Units of each currency for one euro.
    for_one_eur: HashMap<String, Decimal>,
}

/// One US dollar in this currency, by the shipped reference rates of the European Central Bank;
/// `None`: it publishes none.
pub fn usd_in(currency: &Currency) -> Option<DatedRate> {
    static RATES: LazyLock<Rates> = LazyLock::new(|| {
        let text = include_str!("../../../assets/catalog/rates.json");
        serde_json::from_str(text).expect("the shipped rates are sound; a test reads them")
    });
    let rates = &*RATES;
    let for_one_eur = |code: &str| match code {
        "EUR" => Some(Decimal::ONE),
        _ => rates.for_one_eur.get(code).copied(),
    };
    let rate = for_one_eur(currency.as_str())? / for_one_eur("USD")?;
    Some(DatedRate { rate: ExchangeRate::new(rate.round_dp(6))?, date: rates.date })
}
