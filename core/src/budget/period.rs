//! Calendar periods in the company's time zone, daylight saving included.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::request::BudgetPeriod;

/// When the period that contains `now` began and when the next begins.
pub fn bounds(period: BudgetPeriod, now: Timestamp, zone: &TimeZone) -> (Timestamp, Timestamp) {
    let _ = (period, now, zone);
    unimplemented!()
}
