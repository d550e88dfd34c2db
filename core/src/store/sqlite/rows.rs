//! Values ↔ columns: how times, words, lists and ledger rows stand in the tables.
//!
//! Knows nothing of transactions. Every word that stands in a table is one of the contract; a
//! table that holds another one was written by somebody else, and the read fails with its name.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::types::{FromSql, Type};
use rusqlite::{Connection, Row, params};
use rust_decimal::Decimal;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::caller::Channel;
use crate::ids::{KeyId, Node, PersonId, PolicyId, RequestId, UseCase};
use crate::ledger::{AttemptReason, Ending, Entry};
use crate::money::{Cost, Currency, ExchangeRate, PerMillion, Price, PriceSource};
use crate::reply::Usage;
use crate::request::{Sensitivity, TaskKind, Zone};
use crate::store::LedgerRow;

/// Nanoseconds since 1970; moments outside of 1677…2262 are moved to the nearest that fits.
pub(super) fn nanos(time: Timestamp) -> i64 {
    let nanos = time.as_nanosecond();
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

/// The moment of so many nanoseconds since 1970.
pub(super) fn timestamp(nanos: i64) -> Timestamp {
    // Every i64 of nanoseconds lies within jiff's years -9999…9999.
    Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A count as SQLite keeps it; absurd ones stop at the largest there is.
pub(super) fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn count_back(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A list or map as it stands in a column.
pub(super) fn to_json<T: Serialize + ?Sized>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|cause| rusqlite::Error::ToSqlConversionFailure(Box::new(cause)))
}

/// A list or map from its column.
pub(super) fn from_json<T: DeserializeOwned>(column: usize, text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|cause| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(cause))
    })
}

/// A column that holds a word which is none of ours.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no known word for this column")]
struct UnknownWord(String);

fn unknown_word(column: usize, word: &str) -> rusqlite::Error {
    let cause = Box::new(UnknownWord(word.to_owned()));
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, cause)
}

/// Reads a row from left to right.
pub(super) struct Columns<'row> {
    row: &'row Row<'row>,
    next: usize,
}

impl<'row> Columns<'row> {
    pub(super) fn of(row: &'row Row<'row>) -> Self {
        Columns { row, next: 0 }
    }

    /// The next column as it is.
    pub(super) fn get<T: FromSql>(&mut self) -> rusqlite::Result<T> {
        self.next += 1;
        self.row.get(self.next - 1)
    }

    /// The next column, read by `parse`.
    pub(super) fn word<T>(&mut self, parse: impl Fn(&str) -> Option<T>) -> rusqlite::Result<T> {
        self.next += 1;
        let word = self.row.get_ref(self.next - 1)?.as_str()?;
        parse(word).ok_or_else(|| unknown_word(self.next - 1, word))
    }

    /// The next column, read by `parse`, if there is something in it.
    pub(super) fn maybe_word<T>(
        &mut self,
        parse: impl Fn(&str) -> Option<T>,
    ) -> rusqlite::Result<Option<T>> {
        self.next += 1;
        let Some(word) = self.row.get_ref(self.next - 1)?.as_str_or_null()? else {
            return Ok(None);
        };
        parse(word).map(Some).ok_or_else(|| unknown_word(self.next - 1, word))
    }

    /// The next column's list or map.
    pub(super) fn json<T: DeserializeOwned>(&mut self) -> rusqlite::Result<T> {
        self.next += 1;
        from_json(self.next - 1, self.row.get_ref(self.next - 1)?.as_str()?)
    }

    /// The next column's text as any id.
    pub(super) fn id<T: From<String>>(&mut self) -> rusqlite::Result<T> {
        self.get::<String>().map(T::from)
    }

    /// The next column's text as any id, if there is one.
    pub(super) fn maybe_id<T: From<String>>(&mut self) -> rusqlite::Result<Option<T>> {
        Ok(self.get::<Option<String>>()?.map(T::from))
    }

    /// The next column's moment.
    pub(super) fn time(&mut self) -> rusqlite::Result<Timestamp> {
        self.get().map(timestamp)
    }

    /// The next column's moment, if there is one.
    pub(super) fn maybe_time(&mut self) -> rusqlite::Result<Option<Timestamp>> {
        Ok(self.get::<Option<i64>>()?.map(timestamp))
    }

    /// The next column's amount.
    pub(super) fn cost(&mut self) -> rusqlite::Result<Cost> {
        self.get().map(Cost::from_nanos)
    }

    /// The next column's node.
    pub(super) fn node(&mut self) -> rusqlite::Result<Node> {
        self.word(|written| written.parse().ok())
    }

    fn count(&mut self) -> rusqlite::Result<u64> {
        self.get().map(count_back)
    }

    fn maybe_count(&mut self) -> rusqlite::Result<Option<u64>> {
        Ok(self.get::<Option<i64>>()?.map(count_back))
    }

    fn per_million(&mut self) -> rusqlite::Result<PerMillion> {
        self.get().map(PerMillion::from_nanos)
    }
}

const INSERT_ENTRY: &str = "\
    INSERT INTO ledger (
        time, request_id, attempt, reason, model, vendor_model, provider, zone, sensitivity,
        person, key, node, levels, use_case, channel, task, policy, duration_ms, first_token_ms,
        metadata, input_tokens, cached_input_tokens, cache_write_tokens, output_tokens,
        reasoning_tokens, cost_nano, currency, input_price_nano, cached_input_price_nano,
        cache_write_price_nano, output_price_nano, price_currency, exchange_rate, price_date,
        price_source, flags, ending)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19,
        ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36, ?37)";

/// The columns of a ledger row in the order that [`read_entry`] reads them.
pub(super) const ENTRY_COLUMNS: &str = "\
    position, time, request_id, attempt, reason, model, vendor_model, provider, zone, sensitivity,
    person, key, node, levels, use_case, channel, task, policy, duration_ms, first_token_ms,
    metadata, input_tokens, cached_input_tokens, cache_write_tokens, output_tokens,
    reasoning_tokens, cost_nano, currency, input_price_nano, cached_input_price_nano,
    cache_write_price_nano, output_price_nano, price_currency, exchange_rate, price_date,
    price_source, flags, ending";

/// The parts of a ledger row that are lists, ready for their columns. Made on the caller's
/// thread, since the writer's time is everybody's.
#[derive(Debug)]
pub(super) struct EntryLists {
    metadata: String,
    flags: String,
}

impl EntryLists {
    pub(super) fn of(entry: &Entry) -> rusqlite::Result<Self> {
        Ok(EntryLists { metadata: to_json(&entry.metadata)?, flags: to_json(&entry.flags)? })
    }
}

/// Writes a row. Time and levels are those of its hold, whatever the entry says.
pub(super) fn insert_entry(
    connection: &Connection,
    entry: &Entry,
    lists: &EntryLists,
    time: i64,
    levels: &str,
) -> rusqlite::Result<()> {
    let usage = &entry.usage;
    let price = &entry.price;
    connection.prepare_cached(INSERT_ENTRY)?.execute(params![
        time,
        entry.request_id.as_str(),
        i64::from(entry.attempt),
        entry.reason.as_str(),
        entry.model.as_str(),
        entry.vendor_model,
        entry.provider.as_str(),
        entry.zone.as_str(),
        entry.sensitivity.as_str(),
        entry.person.as_ref().map(PersonId::as_str),
        entry.key.as_ref().map(KeyId::as_str),
        entry.node.to_string(),
        levels,
        entry.use_case.as_ref().map(UseCase::as_str),
        entry.channel.as_str(),
        entry.task.map(TaskKind::as_str),
        entry.policy.as_ref().map(PolicyId::as_str),
        entry.duration_ms.map(count),
        entry.first_token_ms.map(count),
        lists.metadata,
        usage.input_tokens.map(count),
        count(usage.cached_input_tokens),
        count(usage.cache_write_tokens),
        usage.output_tokens.map(count),
        count(usage.reasoning_tokens),
        entry.cost.nanos(),
        entry.currency.as_str(),
        price.input.nanos(),
        price.cached_input.nanos(),
        price.cache_write.nanos(),
        price.output.nanos(),
        price.currency.as_str(),
        price.rate.to_string(),
        price.date.map(|date| date.to_string()),
        source_word(price.source),
        lists.flags,
        entry.ending.as_str(),
    ])?;
    Ok(())
}

/// Reads a row of [`ENTRY_COLUMNS`].
pub(super) fn read_entry(row: &Row<'_>) -> rusqlite::Result<LedgerRow> {
    let mut columns = Columns::of(row);
    let columns = &mut columns;
    // Struct fields are evaluated in the order in which they are written here, which is the
    // order of the columns; `usage` and `price` stand together in both.
    let position = columns.get()?;
    let time = columns.time()?;
    let request_id: RequestId = columns.id()?;
    let attempt = columns.get()?;
    let entry = Entry {
        time,
        request_id,
        attempt,
        reason: columns.word(AttemptReason::from_word)?,
        model: columns.id()?,
        vendor_model: columns.get()?,
        provider: columns.id()?,
        zone: columns.word(Zone::from_word)?,
        sensitivity: columns.word(Sensitivity::from_word)?,
        person: columns.maybe_id()?,
        key: columns.maybe_id()?,
        node: columns.node()?,
        levels: columns.json()?,
        use_case: columns.maybe_id()?,
        channel: columns.word(Channel::from_word)?,
        task: columns.maybe_word(TaskKind::from_word)?,
        policy: columns.maybe_id()?,
        duration_ms: columns.maybe_count()?,
        first_token_ms: columns.maybe_count()?,
        metadata: columns.json()?,
        usage: Usage {
            input_tokens: columns.maybe_count()?,
            cached_input_tokens: columns.count()?,
            cache_write_tokens: columns.count()?,
            output_tokens: columns.maybe_count()?,
            reasoning_tokens: columns.count()?,
        },
        cost: columns.cost()?,
        currency: columns.word(Currency::new)?,
        price: Price {
            input: columns.per_million()?,
            cached_input: columns.per_million()?,
            cache_write: columns.per_million()?,
            output: columns.per_million()?,
            currency: columns.word(Currency::new)?,
            rate: columns.word(rate_of)?,
            date: columns.maybe_word(|date| date.parse().ok())?,
            source: columns.word(source_of)?,
        },
        flags: columns.json()?,
        ending: columns.word(Ending::from_word)?,
    };
    Ok(LedgerRow { position, entry })
}

fn rate_of(written: &str) -> Option<ExchangeRate> {
    ExchangeRate::new(written.parse::<Decimal>().ok()?)
}

fn source_word(source: PriceSource) -> &'static str {
    match source {
        PriceSource::Catalogue => "catalogue",
        PriceSource::Config => "config",
        PriceSource::Free => "free",
    }
}

fn source_of(word: &str) -> Option<PriceSource> {
    [PriceSource::Catalogue, PriceSource::Config, PriceSource::Free]
        .into_iter()
        .find(|source| source_word(*source) == word)
}

/// Levels as they stand in a column, each once: a node that is named twice is charged once.
pub(super) fn levels_column(levels: &[Node]) -> rusqlite::Result<(Arc<[Node]>, String)> {
    let mut once: Vec<Node> = Vec::with_capacity(levels.len());
    for node in levels {
        if !once.contains(node) {
            once.push(node.clone());
        }
    }
    let json = to_json(&once)?;
    Ok((once.into(), json))
}
