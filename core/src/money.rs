//! Money: whole numbers of nano-units of the company's currency. No floats, ever.
//!
//! Knows prices and exchange rates; knows nothing of models, budgets or ledgers. Start with
//! [`Cost`], then [`Price::cost`], where the only rounding of the house happens.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::sync::Arc;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// Nano-units in one unit: 1 EUR is 1,000,000,000 nano-euros.
pub const NANOS: i64 = 1_000_000_000;

/// An amount in nano-units of the company's currency.
///
/// Sums of real ledgers stay far below the limit of nine billion units; arithmetic saturates
/// rather than wraps, so an absurd amount can refuse a call but never make one free.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Cost(i64);

impl Cost {
    /// Nothing.
    pub const ZERO: Cost = Cost(0);
    /// The largest amount there is.
    pub const MAX: Cost = Cost(i64::MAX);

    /// An amount in nano-units.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// The amount in nano-units.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// The amount, or nothing if it is less than nothing.
    pub fn at_least_zero(self) -> Self {
        Self(self.0.max(0))
    }

    /// `n` times the amount; an absurd product is [`Cost::MAX`].
    pub fn times(self, n: u32) -> Self {
        Self(self.0.saturating_mul(i64::from(n)))
    }
}

impl Add for Cost {
    type Output = Cost;
    fn add(self, other: Cost) -> Cost {
        Cost(self.0.saturating_add(other.0))
    }
}

impl Sub for Cost {
    type Output = Cost;
    fn sub(self, other: Cost) -> Cost {
        Cost(self.0.saturating_sub(other.0))
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        *self = *self + other;
    }
}

impl SubAssign for Cost {
    fn sub_assign(&mut self, other: Cost) {
        *self = *self - other;
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(amounts: I) -> Cost {
        amounts.fold(Cost::ZERO, Add::add)
    }
}

/// Nine decimal places, `0.004500000`, as `x-stellwerk-cost` and the exports show it.
impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let nanos = self.0.unsigned_abs();
        let unit = NANOS.unsigned_abs();
        write!(f, "{sign}{}.{:09}", nanos / unit, nanos % unit)
    }
}

/// An amount or price that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not a decimal number.
    #[error("`{0}` is no decimal number; write for example 12.50")]
    NotANumber(String),
    /// More decimal places than are kept.
    #[error("`{0}` has more than nine decimal places")]
    TooFine(String),
    /// Less than zero, or too large to be meant.
    #[error("`{0}` is out of range")]
    OutOfRange(String),
}

fn nanos_of(written: &str) -> Result<i64, AmountError> {
    let not_a_number = || AmountError::NotANumber(written.to_owned());
    // The library also takes `1e3` and `1_000`, the first one depending on its version. An amount
    // is written as people write it.
    if !written.trim().bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-')) {
        return Err(not_a_number());
    }
    let decimal: Decimal = written.trim().parse().map_err(|_| not_a_number())?;
    if decimal.normalize().scale() > 9 {
        return Err(AmountError::TooFine(written.to_owned()));
    }
    let out_of_range = || AmountError::OutOfRange(written.to_owned());
    let nanos = decimal.checked_mul(Decimal::from(NANOS)).ok_or_else(out_of_range)?;
    let nanos = i64::try_from(nanos.normalize()).map_err(|_| out_of_range())?;
    if nanos < 0 { Err(out_of_range()) } else { Ok(nanos) }
}

/// A decimal number of at least zero with up to nine places, `12.5`.
impl std::str::FromStr for Cost {
    type Err = AmountError;
    fn from_str(written: &str) -> Result<Self, AmountError> {
        nanos_of(written).map(Cost)
    }
}

/// A currency by its ISO 4217 code, `EUR`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Currency(Arc<str>);

impl Currency {
    /// Takes three capital letters.
    pub fn new(code: &str) -> Option<Self> {
        let is_code = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase());
        is_code.then(|| Self(code.into()))
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A price of one kind of token: nano-units of the price's currency for a million tokens.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct PerMillion(i64);

impl PerMillion {
    /// A price from its nano-units for a million tokens.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nano-units of the price's currency for a million tokens.
    pub const fn nanos(self) -> i64 {
        self.0
    }
}

impl std::str::FromStr for PerMillion {
    type Err = AmountError;
    fn from_str(written: &str) -> Result<Self, AmountError> {
        // A million units for a million tokens is far above any vendor's price; beyond it
        // someone has written a price in the wrong unit.
        const CEILING: i64 = 1_000_000 * NANOS;
        match nanos_of(written)? {
            nanos if nanos <= CEILING => Ok(Self(nanos)),
            _ => Err(AmountError::OutOfRange(written.to_owned())),
        }
    }
}

/// Units of the company's currency for one unit of a price's currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExchangeRate(Decimal);

impl ExchangeRate {
    /// The rate of the company's own currency.
    pub const ONE: ExchangeRate = ExchangeRate(Decimal::ONE);

    /// A rate above zero with at most nine decimal places, at most a million.
    pub fn new(rate: Decimal) -> Option<Self> {
        let rate = rate.normalize();
        let in_range = rate > Decimal::ZERO && rate <= Decimal::from(1_000_000);
        (in_range && rate.scale() <= 9).then_some(Self(rate))
    }

    /// The rate in billionths.
    fn nanos(self) -> i128 {
        (self.0 * Decimal::from(NANOS)).mantissa()
            / 10_i128.pow((self.0 * Decimal::from(NANOS)).scale())
    }
}

/// The shortest decimal, `0.92`; `1` for the company's own currency.
impl fmt::Display for ExchangeRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.normalize())
    }
}

/// What the tokens of one model cost at one place, with where the figures come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Fresh input tokens.
    pub input: PerMillion,
    /// Input tokens that the vendor had cached. Where nobody states it: the input price.
    pub cached_input: PerMillion,
    /// Input tokens written into the vendor's cache. Where nobody states it: the input price.
    pub cache_write: PerMillion,
    /// Output tokens, reasoning included.
    pub output: PerMillion,
    /// The currency of the four figures above.
    pub currency: Currency,
    /// Units of the company's currency for one unit of `currency`.
    pub rate: ExchangeRate,
    /// The day on which the figures were read, `2026-07-02`.
    pub date: Option<jiff::civil::Date>,
    /// Where the figures come from: `catalogue`, `config` or `free`.
    pub source: PriceSource,
}

/// Where a price comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PriceSource {
    /// The catalogue that ships with the program.
    Catalogue,
    /// The configuration file.
    Config,
    /// The configuration says `price = "free"`.
    Free,
}

/// Tokens by what they are billed as. `input` does not contain `cached_input` or `cache_write`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BilledTokens {
    /// Fresh input.
    pub input: u64,
    /// Read from the vendor's cache.
    pub cached_input: u64,
    /// Written into the vendor's cache.
    pub cache_write: u64,
    /// Output, reasoning included.
    pub output: u64,
}

impl Price {
    /// A price of nothing, said out loud.
    pub fn free(currency: Currency) -> Self {
        let zero = PerMillion::default();
        Price {
            input: zero,
            cached_input: zero,
            cache_write: zero,
            output: zero,
            currency,
            rate: ExchangeRate::ONE,
            date: None,
            source: PriceSource::Free,
        }
    }

    /// What the tokens cost in the company's currency: exact, and rounded once, half up to the
    /// nano (CONTRACT: one rounding per ledger row).
    pub fn cost(&self, tokens: BilledTokens) -> Cost {
        let in_price_currency = [
            (tokens.input, self.input),
            (tokens.cached_input, self.cached_input),
            (tokens.cache_write, self.cache_write),
            (tokens.output, self.output),
        ]
        .into_iter()
        .map(|(count, price)| i128::from(count).saturating_mul(i128::from(price.nanos())))
        .fold(0_i128, i128::saturating_add);
        // Nanos for a million tokens × billionths of a rate: undo both factors in one division.
        let divisor = 1_000_000_i128 * i128::from(NANOS);
        let scaled = in_price_currency.saturating_mul(self.rate.nanos());
        let rounded = scaled.saturating_add(divisor / 2) / divisor;
        Cost(i64::try_from(rounded).unwrap_or(i64::MAX))
    }

    /// The dearest that `input` input tokens and `output` output tokens can become, whichever
    /// way the vendor counts the input: the amount of a hold.
    pub fn worst_case(&self, input: u64, output: u64) -> Cost {
        let dearest_input = self.input.max(self.cached_input).max(self.cache_write);
        let price = Price { input: dearest_input, ..self.clone() };
        price.cost(BilledTokens { input, output, ..BilledTokens::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(input: &str, output: &str, rate: &str) -> Price {
        Price {
            input: input.parse().unwrap(),
            cached_input: input.parse().unwrap(),
            cache_write: input.parse().unwrap(),
            output: output.parse().unwrap(),
            currency: Currency::new("USD").unwrap(),
            rate: ExchangeRate::new(rate.parse().unwrap()).unwrap(),
            date: None,
            source: PriceSource::Config,
        }
    }

    #[test]
    fn a_known_bill_comes_out_to_the_nano() {
        let tokens = BilledTokens { input: 1_000, output: 100, ..Default::default() };
        // (1000 × 0.75 + 100 × 4.50) / 1,000,000 USD × 0.92 = 0.001104 EUR
        assert_eq!(price("0.75", "4.50", "0.92").cost(tokens).nanos(), 1_104_000);
    }

    #[test]
    fn rounding_is_half_up_and_happens_once() {
        let one = BilledTokens { input: 1, output: 1, ..Default::default() };
        // Half a nano each: rounded apart they would be two, rounded once they are one.
        assert_eq!(price("0.0005", "0.0005", "1").cost(one).nanos(), 1);
        assert_eq!(price("0.0005", "0", "1").cost(one).nanos(), 1);
        assert_eq!(price("0.0004", "0", "1").cost(one).nanos(), 0);
    }

    #[test]
    fn amounts_are_written_with_nine_places_and_read_back() {
        for written in ["0.000000001", "12.500000000", "0.000000000", "9223372036.854775807"] {
            assert_eq!(written.parse::<Cost>().unwrap().to_string(), written);
        }
        for wrong in ["", "-1", "1.0000000001", "abc", "1e3", "1_000", "99999999999999999999"] {
            assert!(wrong.parse::<Cost>().is_err(), "{wrong} was taken");
        }
    }

    #[test]
    fn absurd_numbers_saturate_and_are_never_free() {
        let absurd = BilledTokens { input: u64::MAX, output: u64::MAX, ..Default::default() };
        assert_eq!(price("1000000", "1000000", "1000000").cost(absurd), Cost::MAX);
    }

    proptest::proptest! {
        #[test]
        fn a_hold_bounds_every_bill_of_its_tokens(
            fresh in 0_u64..1_000_000, cached in 0_u64..1_000_000, written in 0_u64..1_000_000,
            output in 0_u64..1_000_000, spare in 0_u64..1_000,
        ) {
            let mut price = price("3", "15", "0.92");
            price.cached_input = "0.3".parse().unwrap();
            price.cache_write = "3.75".parse().unwrap();
            let bill = price.cost(BilledTokens {
                input: fresh, cached_input: cached, cache_write: written, output,
            });
            let hold = price.worst_case(fresh + cached + written + spare, output + spare);
            proptest::prop_assert!(bill <= hold);
        }
    }
}
