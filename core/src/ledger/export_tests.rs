//! What a finance department finds in the three kinds of export.

use std::collections::BTreeMap;

use crate::caller::Channel;
use crate::ids::Node;
use crate::ledger::export::{Account, COLUMNS, Exporter, FOCUS_COLUMNS, Format, moment};
use crate::ledger::{AttemptReason, Ending, Entry, Flag};
use crate::money::{BilledTokens, Cost, Currency, ExchangeRate, Price, PriceSource};
use crate::reply::Usage;
use crate::request::{Sensitivity, TaskKind, Zone};

fn account() -> Account {
    Account {
        id: "werk".to_owned(),
        name: "Werk GmbH".to_owned(),
        time_zone: jiff::tz::TimeZone::get("Europe/Berlin").unwrap(),
    }
}

fn full_entry() -> Entry {
    let price = Price {
        input: "0.75".parse().unwrap(),
        cached_input: "0.075".parse().unwrap(),
        cache_write: "0.9375".parse().unwrap(),
        output: "4.50".parse().unwrap(),
        currency: Currency::new("USD").unwrap(),
        rate: ExchangeRate::new("0.92".parse().unwrap()).unwrap(),
        date: Some("2026-07-02".parse().unwrap()),
        source: PriceSource::Catalogue,
    };
    let billed = BilledTokens { input: 871, cached_input: 100, cache_write: 29, output: 57 };
    Entry {
        time: "2026-06-30T22:30:00.25Z".parse().unwrap(),
        request_id: "req_1".into(),
        attempt: 2,
        reason: AttemptReason::Escalation,
        model: "mini".into(),
        vendor_model: Some("gpt-5.4-mini-2026-03-17".to_owned()),
        provider: "openai".into(),
        zone: Zone::World,
        sensitivity: Sensitivity::Internal,
        person: Some("anna".into()),
        key: Some("key_1".into()),
        node: Node::Person("anna".into()),
        levels: vec![Node::Company, Node::Person("anna".into())],
        use_case: Some("offers".into()),
        channel: Channel::Api,
        task: Some(TaskKind::Translation),
        policy: Some("default".into()),
        duration_ms: Some(2_250),
        first_token_ms: Some(310),
        metadata: BTreeMap::from([("order".to_owned(), "4711".to_owned())]),
        usage: Usage {
            input_tokens: Some(1_000),
            cached_input_tokens: 100,
            cache_write_tokens: 29,
            output_tokens: Some(57),
            reasoning_tokens: 12,
        },
        cost: price.cost(billed),
        currency: Currency::new("EUR").unwrap(),
        price,
        flags: vec![Flag::Estimated, Flag::Cached],
        ending: Ending::Complete,
    }
}

/// An attempt that broke before anything was known of it.
fn empty_entry() -> Entry {
    Entry {
        attempt: 1,
        reason: AttemptReason::First,
        vendor_model: None,
        person: None,
        key: None,
        node: Node::Company,
        use_case: None,
        channel: Channel::Cli,
        task: None,
        policy: None,
        duration_ms: None,
        first_token_ms: None,
        metadata: BTreeMap::new(),
        usage: Usage::default(),
        cost: Cost::ZERO,
        price: Price::free(Currency::new("EUR").unwrap()),
        flags: Vec::new(),
        ending: Ending::Error,
        ..full_entry()
    }
}

fn export(format: Format, entries: &[Entry]) -> String {
    let mut written = Vec::new();
    let mut exporter = Exporter::new(format, account(), &mut written).unwrap();
    for entry in entries {
        exporter.write(entry).unwrap();
    }
    exporter.flush().unwrap();
    drop(exporter);
    String::from_utf8(written).unwrap()
}

fn table(format: Format, entries: &[Entry]) -> Vec<BTreeMap<String, String>> {
    let written = export(format, entries);
    let mut reader = csv::Reader::from_reader(written.as_bytes());
    reader.deserialize().collect::<Result<_, _>>().unwrap()
}

fn nanos(decimal: &str) -> i64 {
    decimal.parse::<Cost>().unwrap().nanos()
}

#[test]
fn a_json_line_carries_every_field_of_the_contract() {
    insta::assert_snapshot!(export(Format::Jsonl, &[full_entry(), empty_entry()]));
}

#[test]
fn json_lines_and_csv_have_the_same_columns_in_the_same_order() {
    let lines = export(Format::Jsonl, &[full_entry()]);
    let row: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&lines).unwrap();
    assert_eq!(row.keys().collect::<Vec<_>>(), COLUMNS.iter().collect::<Vec<_>>());
    insta::assert_snapshot!(export(Format::Csv, &[full_entry(), empty_entry()]));
}

#[test]
fn an_export_of_nothing_is_still_a_table() {
    assert_eq!(export(Format::Jsonl, &[]), "");
    assert_eq!(export(Format::Csv, &[]).trim_end(), COLUMNS.join(","));
    assert_eq!(export(Format::Focus, &[]).trim_end(), FOCUS_COLUMNS.join(","));
}

#[test]
fn a_use_case_that_looks_like_a_formula_stays_text_in_a_spreadsheet() {
    let entry = Entry { use_case: Some("=HYPERLINK(\"http://evil\")".into()), ..full_entry() };
    for format in [Format::Csv, Format::Focus] {
        let written = export(format, std::slice::from_ref(&entry));
        assert!(!written.contains(",=") && !written.contains(",\"="), "{written}");
    }
    assert_eq!(table(Format::Csv, &[entry])[0]["use_case"], "'=HYPERLINK(\"http://evil\")");
}

#[test]
fn focus_rows_name_month_meter_and_tags() {
    insta::assert_json_snapshot!(table(Format::Focus, &[full_entry()]));
}

#[test]
fn a_recovered_hold_is_one_focus_row_at_its_cost() {
    let entry = Entry { cost: Cost::from_nanos(12_345), ..empty_entry() };
    let rows = table(Format::Focus, &[entry]);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["BilledCost"], "0.000012345");
    assert_eq!(rows[0]["ConsumedUnit"], "Requests");
}

proptest::proptest! {
    #[test]
    fn focus_costs_add_up_to_the_ledger_to_the_nano(
        fresh in 0_u64..10_000_000, cached in 0_u64..1_000_000,
        written in 0_u64..1_000_000, output in 0_u64..1_000_000,
    ) {
        let mut entry = full_entry();
        entry.usage.input_tokens = Some(fresh + cached + written);
        entry.usage.cached_input_tokens = cached;
        entry.usage.cache_write_tokens = written;
        entry.usage.output_tokens = Some(output);
        entry.cost = entry.price.cost(BilledTokens {
            input: fresh, cached_input: cached, cache_write: written, output,
        });
        let rows = table(Format::Focus, &[entry.clone()]);
        let sum: i64 = rows.iter().map(|row| nanos(&row["BilledCost"])).sum();
        proptest::prop_assert_eq!(sum, entry.cost.nanos());
        let tokens: u64 = rows.iter()
            .filter(|row| row["ConsumedUnit"] == "Tokens")
            .map(|row| row["ConsumedQuantity"].parse::<u64>().unwrap()).sum();
        proptest::prop_assert_eq!(tokens, fresh + cached + written + output);
    }
}

#[test]
fn a_date_alone_begins_at_midnight_of_the_company() {
    let berlin = account().time_zone;
    let read = |written: &str| moment(written, &berlin).map(|moment| moment.to_string());
    assert_eq!(read("2026-07-01").unwrap(), "2026-06-30T22:00:00Z");
    assert_eq!(read("2026-12-01").unwrap(), "2026-11-30T23:00:00Z");
    assert_eq!(read("2026-07-01T08:00").unwrap(), "2026-07-01T06:00:00Z");
    assert_eq!(read("2026-07-01T08:00:00Z").unwrap(), "2026-07-01T08:00:00Z");
    assert_eq!(read("2026-07-01T08:00:00+05:00").unwrap(), "2026-07-01T03:00:00Z");
    for wrong in ["", "yesterday", "2026-13-01", "2026-07-01T25:00"] {
        assert!(read(wrong).is_err(), "{wrong} was taken");
    }
}
