//! What may be spent how often: the words [`Budget`] and the calendar of its periods, in the
//! company's time zone, daylight saving included. Knows nothing of what was spent.
//!
//! A period begins at the first instant at which the calendar of the zone has reached its first
//! day. Days of 23 and 25 hours, midnights that do not exist and dates that a zone left out all
//! follow from asking the calendar; nothing here adds hours.

use jiff::Timestamp;
use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::ids::Node;
use crate::money::Cost;
use crate::request::BudgetPeriod;

/// A limit on a node for a period. One node may have several, one per period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Where.
    pub node: Node,
    /// How often it begins anew.
    pub period: BudgetPeriod,
    /// How much.
    pub limit: Cost,
    /// A soft budget notifies and never refuses.
    pub soft: bool,
}

/// When the period that contains `now` began and when the next begins: `begin <= now < end`, and
/// the end of one period is the beginning of the next.
pub fn bounds(period: BudgetPeriod, now: Timestamp, zone: &TimeZone) -> (Timestamp, Timestamp) {
    let mut first = first_day(period, now.to_zoned(zone.clone()).date());
    let mut begin = midnight(first, zone);
    let mut end = midnight(next_first_day(period, first), zone);
    // A zone that sets its clocks back across midnight (Newfoundland did, at 00:01) shows
    // yesterday's date again after today has begun. The day that has begun stays begun.
    while now >= end && end < Timestamp::MAX {
        first = next_first_day(period, first);
        begin = end;
        end = midnight(next_first_day(period, first), zone);
    }
    (begin, end)
}

/// The day on which the period of `day` begins.
fn first_day(period: BudgetPeriod, day: Date) -> Date {
    match period {
        BudgetPeriod::Day => day,
        BudgetPeriod::Week => {
            let since_monday = i64::from(day.weekday().to_monday_zero_offset());
            day.saturating_sub(since_monday.days())
        }
        BudgetPeriod::Month => day.first_of_month(),
        BudgetPeriod::Quarter => {
            let months_in = i64::from((day.month() - 1) % 3);
            day.first_of_month().saturating_sub(months_in.months())
        }
        BudgetPeriod::Year => day.first_of_year(),
    }
}

fn next_first_day(period: BudgetPeriod, first: Date) -> Date {
    match period {
        BudgetPeriod::Day => first.saturating_add(1.day()),
        BudgetPeriod::Week => first.saturating_add(1.week()),
        BudgetPeriod::Month => first.saturating_add(1.month()),
        BudgetPeriod::Quarter => first.saturating_add(3.months()),
        BudgetPeriod::Year => first.saturating_add(1.year()),
    }
}

/// The first instant of a day. Where midnight is skipped it is the first moment after the gap;
/// where it happens twice it is the earlier one. Beyond the calendar's end: its end.
fn midnight(day: Date, zone: &TimeZone) -> Timestamp {
    if day >= Date::MAX {
        return Timestamp::MAX;
    }
    day.to_zoned(zone.clone()).map_or(Timestamp::MAX, |midnight| midnight.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    fn at(written: &str) -> Timestamp {
        written.parse().unwrap()
    }

    fn berlin(period: BudgetPeriod, now: &str) -> (Timestamp, Timestamp) {
        bounds(period, at(now), &zone("Europe/Berlin"))
    }

    fn hours((begin, end): (Timestamp, Timestamp)) -> i64 {
        end.duration_since(begin).as_hours()
    }

    #[test]
    fn a_day_begins_at_midnight_in_berlin_not_in_greenwich() {
        let (begin, end) = berlin(BudgetPeriod::Day, "2026-07-01T21:59:59Z");
        assert_eq!((begin, end), (at("2026-06-30T22:00:00Z"), at("2026-07-01T22:00:00Z")));
        let (next, _) = berlin(BudgetPeriod::Day, "2026-07-01T22:00:00Z");
        assert_eq!(next, end);
    }

    #[test]
    fn the_days_of_the_clock_change_have_23_and_25_hours() {
        assert_eq!(hours(berlin(BudgetPeriod::Day, "2026-03-29T12:00:00Z")), 23);
        assert_eq!(hours(berlin(BudgetPeriod::Day, "2026-10-25T12:00:00Z")), 25);
        assert_eq!(hours(berlin(BudgetPeriod::Day, "2026-10-26T12:00:00Z")), 24);
    }

    #[test]
    fn weeks_begin_on_monday_also_across_the_year() {
        let (begin, end) = berlin(BudgetPeriod::Week, "2027-01-01T12:00:00Z");
        assert_eq!((begin, end), (at("2026-12-27T23:00:00Z"), at("2027-01-03T23:00:00Z")));
    }

    #[test]
    fn months_quarters_and_years_begin_on_their_first_day() {
        let now = "2026-02-28T23:30:00Z"; // The first of March in Berlin.
        assert_eq!(
            berlin(BudgetPeriod::Month, now),
            (at("2026-02-28T23:00:00Z"), at("2026-03-31T22:00:00Z"))
        );
        assert_eq!(
            berlin(BudgetPeriod::Quarter, now),
            (at("2025-12-31T23:00:00Z"), at("2026-03-31T22:00:00Z"))
        );
        assert_eq!(
            berlin(BudgetPeriod::Year, now),
            (at("2025-12-31T23:00:00Z"), at("2026-12-31T23:00:00Z"))
        );
        let (begin, end) = berlin(BudgetPeriod::Quarter, "2026-12-15T00:00:00Z");
        assert_eq!((begin, end), (at("2026-09-30T22:00:00Z"), at("2026-12-31T23:00:00Z")));
    }

    #[test]
    fn where_midnight_does_not_exist_the_day_begins_after_the_gap() {
        // Beirut goes from 00:00 to 01:00 on the last Sunday of March.
        let (begin, end) =
            bounds(BudgetPeriod::Day, at("2026-03-29T10:00:00Z"), &zone("Asia/Beirut"));
        assert_eq!(begin, at("2026-03-28T22:00:00Z"));
        assert_eq!(hours((begin, end)), 23);
    }

    #[test]
    fn where_midnight_happens_twice_the_day_begins_at_the_first() {
        // Havana goes from 01:00 back to 00:00 on the first of November 2026.
        let (begin, end) =
            bounds(BudgetPeriod::Day, at("2026-11-01T04:30:00Z"), &zone("America/Havana"));
        assert_eq!(begin, at("2026-11-01T04:00:00Z"));
        assert_eq!(hours((begin, end)), 25);
    }

    #[test]
    fn a_clock_set_back_across_midnight_does_not_reopen_yesterday() {
        // Newfoundland: at 00:01 of 29 October 2006 it became 23:01 of the 28th.
        let newfoundland = zone("America/St_Johns");
        let (_, end_of_28th) = bounds(BudgetPeriod::Day, at("2006-10-28T12:00:00Z"), &newfoundland);
        let (begin, end) = bounds(BudgetPeriod::Day, at("2006-10-29T02:45:00Z"), &newfoundland);
        assert_eq!(begin, end_of_28th);
        assert_eq!(hours((begin, end)), 25);
    }

    #[test]
    fn a_date_that_a_zone_left_out_is_no_period() {
        // Samoa had no 30 December 2011.
        let apia = zone("Pacific/Apia");
        let (_, end) = bounds(BudgetPeriod::Day, at("2011-12-29T20:00:00Z"), &apia);
        let (next, _) = bounds(BudgetPeriod::Day, at("2011-12-30T20:00:00Z"), &apia);
        assert_eq!(end, next);
    }

    proptest::proptest! {
        #[test]
        fn every_moment_lies_in_its_period_and_the_next_begins_where_it_ends(
            seconds in 0_i64..4_000_000_000, // 1970 to 2096.
            period in proptest::sample::select(BudgetPeriod::ALL),
            name in proptest::sample::select(vec![
                "Europe/Berlin", "UTC", "America/St_Johns", "America/Havana", "Asia/Beirut",
                "Pacific/Apia", "America/Sao_Paulo", "Asia/Kathmandu", "Australia/Lord_Howe",
            ]),
        ) {
            let zone = zone(name);
            let now = Timestamp::from_second(seconds).unwrap();
            let (begin, end) = bounds(period, now, &zone);
            proptest::prop_assert!(begin <= now && now < end);
            let just_before = Timestamp::from_nanosecond(end.as_nanosecond() - 1).unwrap();
            proptest::prop_assert_eq!(bounds(period, just_before, &zone), (begin, end));
            proptest::prop_assert_eq!(bounds(period, end, &zone).0, end);
            proptest::prop_assert_eq!(bounds(period, begin, &zone), (begin, end));
        }
    }
}
