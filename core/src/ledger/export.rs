//! Ledger rows on their way out: JSON lines, CSV, and FOCUS cost rows.
//!
//! Turns one [`Entry`] into text and writes it to whatever it is given, so that an export of any
//! size needs the memory of one row. Knows nothing of the store that pages through the rows nor
//! of the command that asks. Start with [`Exporter`]; [`Row`] is the contract's row.

use std::collections::BTreeMap;
use std::io::{self, Write};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;
use serde::Serialize;

use crate::caller::Channel;
use crate::ids::{KeyId, ModelId, Node, PersonId, PolicyId, ProviderId, RequestId, UseCase};
use crate::ledger::{AttemptReason, Ending, Entry, Flag};
use crate::money::{Cost, PerMillion};
use crate::period;
use crate::request::{BudgetPeriod, Sensitivity, TaskKind, Zone, word_enum};

word_enum! {
    /// The shape of an export.
    Format {
        /// One JSON object a line, one line an attempt.
        Jsonl = "jsonl",
        /// The same columns, for a spreadsheet.
        Csv = "csv",
        /// The FinOps Foundation's cost columns, one row for each kind of token of an attempt.
        Focus = "focus",
    }
}

/// Who the exported costs belong to; FOCUS names it in every row.
#[derive(Debug, Clone)]
pub struct Account {
    /// The company's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its calendar: months of billing begin by it.
    pub time_zone: TimeZone,
}

/// Writes rows in one format, one after the other.
pub struct Exporter<W: Write> {
    sink: Sink<W>,
    account: Account,
}

enum Sink<W: Write> {
    Jsonl(W),
    Csv(Box<csv::Writer<W>>),
    Focus(Box<csv::Writer<W>>),
}

impl<W: Write> Exporter<W> {
    /// Begins an export; the tables get their header at once, so that an export of no rows is
    /// still a table.
    pub fn new(format: Format, account: Account, writer: W) -> io::Result<Self> {
        let table = |writer: W, header: &[&str]| -> io::Result<Box<csv::Writer<W>>> {
            let mut table = csv::Writer::from_writer(writer);
            table.write_record(header).map_err(io_error)?;
            Ok(Box::new(table))
        };
        let sink = match format {
            Format::Jsonl => Sink::Jsonl(writer),
            Format::Csv => Sink::Csv(table(writer, &COLUMNS)?),
            Format::Focus => Sink::Focus(table(writer, &FOCUS_COLUMNS)?),
        };
        Ok(Exporter { sink, account })
    }

    /// Writes one attempt.
    pub fn write(&mut self, entry: &Entry) -> io::Result<()> {
        match &mut self.sink {
            Sink::Jsonl(writer) => {
                serde_json::to_writer(&mut *writer, &Row::of(entry)).map_err(io::Error::from)?;
                writer.write_all(b"\n")
            }
            Sink::Csv(table) => table.write_record(csv_record(&Row::of(entry))).map_err(io_error),
            Sink::Focus(table) => focus_records(entry, &self.account)
                .into_iter()
                .try_for_each(|record| table.write_record(record).map_err(io_error)),
        }
    }

    /// Hands everything on to the writer.
    pub fn flush(&mut self) -> io::Result<()> {
        match &mut self.sink {
            Sink::Jsonl(writer) => writer.flush(),
            Sink::Csv(table) | Sink::Focus(table) => table.flush(),
        }
    }
}

/// A pipe that was closed early must stay recognisable as one.
fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

/// The row of the contract: every field always there, `null` where empty. The two fields about
/// writing into a vendor's cache stand at the end; with them a bill can be checked from its row
/// alone.
#[derive(Debug, Serialize)]
pub struct Row<'a> {
    /// The time of the hold.
    pub time: Timestamp,
    /// The call.
    pub request_id: &'a RequestId,
    /// 1, 2, …
    pub attempt: u32,
    /// Why it was made.
    pub reason: AttemptReason,
    /// The id in the catalogue.
    pub model: &'a ModelId,
    /// The version that the vendor says it ran.
    pub vendor_model: Option<&'a str>,
    /// Whose access.
    pub provider: &'a ProviderId,
    /// Where it ran.
    pub zone: Zone,
    /// The level that counted.
    pub sensitivity: Sensitivity,
    /// Who asked.
    pub person: Option<&'a PersonId>,
    /// With which key.
    pub key: Option<&'a KeyId>,
    /// Where it is booked.
    pub node: &'a Node,
    /// For what.
    pub use_case: Option<&'a UseCase>,
    /// Through which door.
    pub channel: Channel,
    /// What kind of work.
    pub task: Option<TaskKind>,
    /// Which policy decided.
    pub policy: Option<&'a PolicyId>,
    /// Milliseconds to the end.
    pub duration_ms: Option<u64>,
    /// Milliseconds to the first token.
    pub first_token_ms: Option<u64>,
    /// The caller's pairs.
    pub metadata: Option<&'a BTreeMap<String, String>>,
    /// All input.
    pub input_tokens: Option<u64>,
    /// Of the input: read from the vendor's cache.
    pub cached_input_tokens: u64,
    /// All output.
    pub output_tokens: Option<u64>,
    /// Of the output: reasoning.
    pub reasoning_tokens: u64,
    /// What it cost, in nanos of `currency`.
    pub cost_nano: Cost,
    /// The company's currency.
    pub currency: &'a str,
    /// Nanos of `price_currency` for a million tokens.
    pub input_price_nano: PerMillion,
    /// The same for cached input.
    pub cached_input_price_nano: PerMillion,
    /// The same for output.
    pub output_price_nano: PerMillion,
    /// The currency of the prices.
    pub price_currency: &'a str,
    /// Units of `currency` for one of `price_currency`.
    pub exchange_rate: String,
    /// The day of the prices.
    pub price_date: Option<Date>,
    /// What is special.
    pub flags: &'a [Flag],
    /// How it ended.
    pub ending: Ending,
    /// Of the input: written into the vendor's cache.
    pub cache_write_tokens: u64,
    /// The price of that.
    pub cache_write_price_nano: PerMillion,
}

/// The columns of [`Row`], in order.
pub const COLUMNS: [&str; 35] = [
    "time",
    "request_id",
    "attempt",
    "reason",
    "model",
    "vendor_model",
    "provider",
    "zone",
    "sensitivity",
    "person",
    "key",
    "node",
    "use_case",
    "channel",
    "task",
    "policy",
    "duration_ms",
    "first_token_ms",
    "metadata",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_nano",
    "currency",
    "input_price_nano",
    "cached_input_price_nano",
    "output_price_nano",
    "price_currency",
    "exchange_rate",
    "price_date",
    "flags",
    "ending",
    "cache_write_tokens",
    "cache_write_price_nano",
];

impl<'a> Row<'a> {
    /// The contract's view of a row.
    pub fn of(entry: &'a Entry) -> Self {
        Row {
            time: entry.time,
            request_id: &entry.request_id,
            attempt: entry.attempt,
            reason: entry.reason,
            model: &entry.model,
            vendor_model: entry.vendor_model.as_deref(),
            provider: &entry.provider,
            zone: entry.zone,
            sensitivity: entry.sensitivity,
            person: entry.person.as_ref(),
            key: entry.key.as_ref(),
            node: &entry.node,
            use_case: entry.use_case.as_ref(),
            channel: entry.channel,
            task: entry.task,
            policy: entry.policy.as_ref(),
            duration_ms: entry.duration_ms,
            first_token_ms: entry.first_token_ms,
            metadata: (!entry.metadata.is_empty()).then_some(&entry.metadata),
            input_tokens: entry.usage.input_tokens,
            cached_input_tokens: entry.usage.cached_input_tokens,
            output_tokens: entry.usage.output_tokens,
            reasoning_tokens: entry.usage.reasoning_tokens,
            cost_nano: entry.cost,
            currency: entry.currency.as_str(),
            input_price_nano: entry.price.input,
            cached_input_price_nano: entry.price.cached_input,
            output_price_nano: entry.price.output,
            price_currency: entry.price.currency.as_str(),
            exchange_rate: entry.price.rate.to_string(),
            price_date: entry.price.date,
            flags: &entry.flags,
            ending: entry.ending,
            cache_write_tokens: entry.usage.cache_write_tokens,
            cache_write_price_nano: entry.price.cache_write,
        }
    }
}

fn csv_record(row: &Row<'_>) -> [String; COLUMNS.len()] {
    let flags: Vec<&str> = row.flags.iter().map(|flag| flag.as_str()).collect();
    [
        // Always nine digits, so that a spreadsheet sees one form of time in the whole column.
        format!("{:.9}", row.time),
        row.request_id.to_string(),
        row.attempt.to_string(),
        row.reason.to_string(),
        cell(row.model),
        optional_cell(row.vendor_model),
        cell(row.provider),
        row.zone.to_string(),
        row.sensitivity.to_string(),
        optional_cell(row.person),
        optional_cell(row.key),
        cell(row.node),
        optional_cell(row.use_case),
        row.channel.to_string(),
        optional_cell(row.task),
        optional_cell(row.policy),
        optional_cell(row.duration_ms),
        optional_cell(row.first_token_ms),
        row.metadata.map(json_text).unwrap_or_default(),
        optional_cell(row.input_tokens),
        row.cached_input_tokens.to_string(),
        optional_cell(row.output_tokens),
        row.reasoning_tokens.to_string(),
        row.cost_nano.nanos().to_string(),
        row.currency.to_owned(),
        row.input_price_nano.nanos().to_string(),
        row.cached_input_price_nano.nanos().to_string(),
        row.output_price_nano.nanos().to_string(),
        row.price_currency.to_owned(),
        row.exchange_rate.clone(),
        optional_cell(row.price_date),
        flags.join(";"),
        row.ending.to_string(),
        row.cache_write_tokens.to_string(),
        row.cache_write_price_nano.nanos().to_string(),
    ]
}

/// Text for a spreadsheet. A cell that begins like a formula would be run by Excel when the file
/// is opened, and names such as a use case come from callers; the apostrophe makes it text again.
fn cell(value: impl ToString) -> String {
    let text = value.to_string();
    match text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{text}"),
        false => text,
    }
}

fn optional_cell(value: Option<impl ToString>) -> String {
    value.map(cell).unwrap_or_default()
}

fn json_text(pairs: &BTreeMap<String, String>) -> String {
    let object: serde_json::Map<String, serde_json::Value> =
        pairs.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    serde_json::Value::Object(object).to_string()
}

/// The columns of FOCUS 1.0 that a bill of tokens can fill, then our own with the `x_` that the
/// specification asks for.
pub const FOCUS_COLUMNS: [&str; 46] = [
    "AvailabilityZone",
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "CommitmentDiscountCategory",
    "CommitmentDiscountId",
    "CommitmentDiscountName",
    "CommitmentDiscountStatus",
    "CommitmentDiscountType",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "ContractedUnitPrice",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "ListUnitPrice",
    "PricingCategory",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "RegionId",
    "RegionName",
    "ResourceId",
    "ResourceName",
    "ResourceType",
    "ServiceCategory",
    "ServiceName",
    "SkuId",
    "SkuPriceId",
    "SubAccountId",
    "SubAccountName",
    "Tags",
    "x_Attempt",
    "x_RequestId",
    "x_Zone",
];

/// One priced quantity of an attempt.
#[derive(Debug, Clone, PartialEq)]
struct Meter {
    /// `Input tokens`, for people and in the SKU.
    name: &'static str,
    /// How many, of `unit`.
    consumed: u64,
    unit: &'static str,
    /// How many of what the price is for.
    priced: Decimal,
    priced_unit: &'static str,
    /// In the company's currency, for one of `priced_unit`.
    unit_price: Decimal,
    cost: Cost,
}

/// FOCUS wants each quantity with its own unit price, so an attempt becomes a row for each kind
/// of token it used. Their costs add up to the ledger's to the nano: the ledger rounds once, and
/// the last row takes the rest. What was not billed by tokens (a recovered hold, a flat bill)
/// becomes one row for the request.
fn meters(entry: &Entry) -> Vec<Meter> {
    let usage = &entry.usage;
    let input = usage.input_tokens.unwrap_or_default();
    let fresh = input.saturating_sub(usage.cached_input_tokens + usage.cache_write_tokens);
    let price = &entry.price;
    let by_tokens = [
        ("Input tokens", fresh, price.input),
        ("Cached input tokens", usage.cached_input_tokens, price.cached_input),
        ("Cache write tokens", usage.cache_write_tokens, price.cache_write),
        ("Output tokens", usage.output_tokens.unwrap_or_default(), price.output),
    ];
    let rate: Decimal = price.rate.to_string().parse().unwrap_or(Decimal::ONE);
    let mut meters: Vec<Meter> = by_tokens
        .into_iter()
        .filter(|(_, tokens, _)| *tokens > 0)
        .map(|(name, tokens, per_million)| {
            let unit_price = Decimal::new(per_million.nanos(), 9) * rate;
            let priced = Decimal::from(tokens) / Decimal::from(1_000_000);
            let cost = (unit_price * priced * Decimal::from(crate::money::NANOS)).trunc();
            Meter {
                name,
                consumed: tokens,
                unit: "Tokens",
                priced,
                priced_unit: "1M Tokens",
                unit_price,
                cost: Cost::from_nanos(i64::try_from(cost).unwrap_or(i64::MAX)),
            }
        })
        .collect();
    let rest = entry.cost - meters.iter().map(|meter| meter.cost).sum();
    // Cutting each row down loses less than a nano a row; more than that is another bill.
    let is_rounding = (0..=i64::try_from(meters.len()).unwrap_or(0)).contains(&rest.nanos());
    match meters.last_mut() {
        Some(last) if is_rounding => last.cost += rest,
        _ => meters = vec![whole_request(entry)],
    }
    meters
}

fn whole_request(entry: &Entry) -> Meter {
    Meter {
        name: "Request",
        consumed: 1,
        unit: "Requests",
        priced: Decimal::ONE,
        priced_unit: "Requests",
        unit_price: Decimal::new(entry.cost.nanos(), 9),
        cost: entry.cost,
    }
}

fn focus_records(entry: &Entry, account: &Account) -> Vec<[String; FOCUS_COLUMNS.len()]> {
    meters(entry).into_iter().map(|meter| focus_record(entry, account, &meter)).collect()
}

fn focus_record(entry: &Entry, account: &Account, meter: &Meter) -> [String; FOCUS_COLUMNS.len()] {
    let (month, next_month) = period::bounds(BudgetPeriod::Month, entry.time, &account.time_zone);
    let (start, end) = charge_period(entry);
    let none = String::new;
    let cost = decimal(Decimal::new(meter.cost.nanos(), 9));
    let unit_price = decimal(meter.unit_price);
    let provider = cell(&entry.provider);
    let sku = format!("{}/{}/{}", entry.provider, entry.model, meter.name.replace(' ', "-"));
    let priced_on = entry.price.date.map(|date| format!("@{date}")).unwrap_or_default();
    [
        none(),
        cost.clone(),
        cell(&account.id),
        cell(&account.name),
        entry.currency.to_string(),
        utc_second(next_month),
        utc_second(month),
        "Usage".to_owned(),
        none(),
        cell(format!("{} of {} at {}", meter.name, entry.model, entry.provider)),
        "Usage-Based".to_owned(),
        utc_second(end),
        utc_second(start),
        none(),
        none(),
        none(),
        none(),
        none(),
        meter.consumed.to_string(),
        meter.unit.to_owned(),
        cost.clone(),
        unit_price.clone(),
        cost.clone(),
        provider.clone(),
        cost,
        unit_price,
        "Standard".to_owned(),
        decimal(meter.priced),
        meter.priced_unit.to_owned(),
        provider.clone(),
        provider,
        none(),
        none(),
        cell(&entry.model),
        cell(entry.vendor_model.as_deref().unwrap_or(entry.model.as_str())),
        "Model".to_owned(),
        "AI and Machine Learning".to_owned(),
        "Model inference".to_owned(),
        cell(&sku),
        cell(format!("{sku}{priced_on}")),
        cell(&entry.node),
        cell(&entry.node),
        tags(entry),
        entry.attempt.to_string(),
        entry.request_id.to_string(),
        entry.zone.to_string(),
    ]
}

/// The labels that a cost report groups by, with the caller's own pairs under `metadata.`.
fn tags(entry: &Entry) -> String {
    let mut tags: BTreeMap<String, String> = entry
        .metadata
        .iter()
        .map(|(name, value)| (format!("metadata.{name}"), value.clone()))
        .collect();
    let mut tag = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            tags.insert(name.to_owned(), value);
        }
    };
    tag("node", Some(entry.node.to_string()));
    tag("person", entry.person.as_ref().map(ToString::to_string));
    tag("key", entry.key.as_ref().map(ToString::to_string));
    tag("use_case", entry.use_case.as_ref().map(ToString::to_string));
    tag("channel", Some(entry.channel.to_string()));
    tag("task", entry.task.as_ref().map(ToString::to_string));
    tag("policy", entry.policy.as_ref().map(ToString::to_string));
    tag("reason", Some(entry.reason.to_string()));
    tag("sensitivity", Some(entry.sensitivity.to_string()));
    json_text(&tags)
}

/// A decimal without trailing zeros and without an exponent.
fn decimal(value: Decimal) -> String {
    value.normalize().to_string()
}

/// From the second of the hold up to, and without, the second after the end.
fn charge_period(entry: &Entry) -> (Timestamp, Timestamp) {
    let start = Timestamp::from_second(entry.time.as_second()).unwrap_or(entry.time);
    let lasted_ms = i64::try_from(entry.duration_ms.unwrap_or_default()).unwrap_or(i64::MAX);
    let after = entry.time.checked_add(SignedDuration::from_millis(lasted_ms)).unwrap_or(start);
    let end = after.as_second().saturating_add(1);
    (start, Timestamp::from_second(end).unwrap_or(after))
}

fn utc_second(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Why a moment cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no moment; write 2026-07-01, 2026-07-01T08:00 or 2026-07-01T08:00:00Z")]
pub struct NotAMoment(String);

/// Reads a moment: RFC 3339, or a date or a local time without an offset, which are taken in the
/// company's time zone. A date alone is its first moment there.
pub fn moment(written: &str, zone: &TimeZone) -> Result<Timestamp, NotAMoment> {
    let written = written.trim();
    let not_a_moment = || NotAMoment(written.to_owned());
    if let Ok(moment) = written.parse::<Timestamp>() {
        return Ok(moment);
    }
    if let Ok(date) = written.parse::<Date>()
        && !written.contains(['T', 't', ' '])
    {
        let midnight = date.to_zoned(zone.clone()).and_then(|day| day.start_of_day());
        return midnight.map(|day| day.timestamp()).map_err(|_| not_a_moment());
    }
    let local: jiff::civil::DateTime = written.parse().map_err(|_| not_a_moment())?;
    local.to_zoned(zone.clone()).map(|local| local.timestamp()).map_err(|_| not_a_moment())
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
