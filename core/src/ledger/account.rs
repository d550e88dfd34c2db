//! From what a vendor told and how an attempt ended to a bill: one rule for each odd ending.
//!
//! Knows nothing of vendors' formats; counting is handed in, and only done where a rule needs it.

use crate::ledger::{Ending, Flag};
use crate::money::{BilledTokens, Cost, Price};
use crate::reply::Usage;

/// What is known of an attempt when it has ended.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// Tokens as the vendor told them, if it told any.
    pub told: Option<Usage>,
    /// Whether at least one token arrived.
    pub any_token: bool,
    /// Whether the request had been handed over when it ended: what was never sent cannot be
    /// billed by anyone.
    pub sent: bool,
    /// Whether the answer was asked for whole.
    pub whole: bool,
}

/// What a row says about tokens and money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bill {
    /// Tokens after the rules.
    pub usage: Usage,
    /// What they cost.
    pub cost: Cost,
    /// `estimated`, `unknown`.
    pub flags: Vec<Flag>,
}

/// Counts tokens, when a rule asks for it.
pub trait Count {
    /// The input of the request, unbiased.
    fn input(&self) -> u64;
    /// Everything that arrived: text, reasoning, tool arguments.
    fn output(&self) -> u64;
}

/// The bill of an attempt.
///
/// | ending | billed |
/// |---|---|
/// | complete | the vendor's usage; what it did not tell, or told as zero beside text, is counted |
/// | client gone | input, and what had arrived |
/// | cut, stalled, error after a token | input, and what had arrived |
/// | cut, stalled, error before a token | nothing, unless the vendor told usage |
/// | malformed | the vendor's usage, else what had arrived, else nothing |
pub fn bill(price: &Price, outcome: Outcome, count: &impl Count) -> Bill {
    let usage = match outcome.ending {
        Ending::Complete => whole_answer(outcome, count),
        Ending::ClientGone if outcome.sent => part_of_an_answer(outcome, count),
        _ if outcome.any_token => part_of_an_answer(outcome, count),
        _ => told_only(outcome),
    };
    let mut flags = Vec::new();
    if usage.counted {
        flags.push(Flag::Estimated);
    }
    let nothing_known = !outcome.any_token && outcome.told.is_none();
    let may_be_billed = matches!(outcome.ending, Ending::Cut | Ending::Stalled);
    if outcome.whole && outcome.sent && may_be_billed && nothing_known {
        flags.push(Flag::Unknown);
    }
    Bill { cost: price.cost(billed(&usage.tokens)), usage: usage.tokens, flags }
}

/// Usage split into what each price is for. Cached and cache-written tokens are parts of the
/// input and priced once.
pub fn billed(usage: &Usage) -> BilledTokens {
    let input = usage.input_tokens.unwrap_or(0);
    let cached_input = usage.cached_input_tokens.min(input);
    let cache_write = usage.cache_write_tokens.min(input - cached_input);
    BilledTokens {
        input: input - cached_input - cache_write,
        cached_input,
        cache_write,
        output: usage.output_tokens.unwrap_or(0),
    }
}

struct Counted {
    tokens: Usage,
    counted: bool,
}

fn whole_answer(outcome: Outcome, count: &impl Count) -> Counted {
    let told = outcome.told.unwrap_or_default();
    // Zero beside text is a server that does not count, not a gift.
    let believed = |figure: Option<u64>| figure.filter(|&n| n > 0 || !outcome.any_token);
    let (input, output) = (believed(told.input_tokens), believed(told.output_tokens));
    let arrived = output.unwrap_or_else(|| count.output());
    // Zero told and zero counted agree: vectors have no output.
    let agrees = told.output_tokens == Some(arrived);
    let tokens = Usage {
        input_tokens: Some(input.unwrap_or_else(|| count.input())),
        output_tokens: Some(arrived),
        ..told
    };
    Counted { tokens, counted: input.is_none() || !agrees }
}

fn part_of_an_answer(outcome: Outcome, count: &impl Count) -> Counted {
    let told = outcome.told.unwrap_or_default();
    let input = told.input_tokens.filter(|&n| n > 0);
    // A figure told on the way may lag behind what has arrived since, so the larger one counts.
    let arrived = if outcome.any_token { count.output() } else { 0 };
    let output = told.output_tokens.filter(|&told| told >= arrived);
    let counted = input.is_none() || output.is_none();
    let tokens = Usage {
        input_tokens: Some(input.unwrap_or_else(|| count.input())),
        output_tokens: Some(output.unwrap_or(arrived)),
        ..told
    };
    Counted { tokens, counted }
}

fn told_only(outcome: Outcome) -> Counted {
    let told = outcome.told.unwrap_or_default();
    let tokens = Usage {
        input_tokens: Some(told.input_tokens.unwrap_or(0)),
        output_tokens: Some(told.output_tokens.unwrap_or(0)),
        ..told
    };
    Counted { tokens, counted: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::{Currency, ExchangeRate, PriceSource};

    struct Fixed;
    impl Count for Fixed {
        fn input(&self) -> u64 {
            100
        }
        fn output(&self) -> u64 {
            10
        }
    }

    fn price() -> Price {
        Price {
            input: "1".parse().unwrap(),
            cached_input: "0.1".parse().unwrap(),
            cache_write: "1.25".parse().unwrap(),
            output: "10".parse().unwrap(),
            currency: Currency::new("EUR").unwrap(),
            rate: ExchangeRate::ONE,
            date: None,
            source: PriceSource::Config,
        }
    }

    fn usage(input: Option<u64>, output: Option<u64>) -> Option<Usage> {
        Some(Usage { input_tokens: input, output_tokens: output, ..Usage::default() })
    }

    fn outcome(ending: Ending, told: Option<Usage>, any_token: bool) -> Outcome {
        Outcome { ending, told, any_token, sent: true, whole: false }
    }

    fn row(outcome: Outcome) -> (u64, u64, i64, Vec<Flag>) {
        let bill = bill(&price(), outcome, &Fixed);
        let tokens = bill.usage;
        (tokens.input_tokens.unwrap(), tokens.output_tokens.unwrap(), bill.cost.nanos(), bill.flags)
    }

    #[test]
    fn usage_given_is_taken() {
        let told = usage(Some(7), Some(3));
        assert_eq!(row(outcome(Ending::Complete, told, true)), (7, 3, 37_000, vec![]));
    }

    #[test]
    fn usage_missing_is_counted_and_flagged() {
        let counted = (100, 10, 200_000, vec![Flag::Estimated]);
        assert_eq!(row(outcome(Ending::Complete, None, true)), counted);
    }

    #[test]
    fn zero_usage_beside_text_is_counted_and_flagged() {
        let told = usage(Some(0), Some(0));
        let counted = (100, 10, 200_000, vec![Flag::Estimated]);
        assert_eq!(row(outcome(Ending::Complete, told, true)), counted);
    }

    #[test]
    fn an_empty_answer_with_usage_takes_the_usage() {
        let told = usage(Some(5), Some(0));
        assert_eq!(row(outcome(Ending::Complete, told, false)), (5, 0, 5_000, vec![]));
    }

    #[test]
    fn usage_known_in_part_is_taken_and_the_rest_counted() {
        let told = usage(Some(7), None);
        let expected = (7, 10, 107_000, vec![Flag::Estimated]);
        assert_eq!(row(outcome(Ending::Complete, told, true)), expected);
        assert_eq!(row(outcome(Ending::Cut, told, true)), expected);
    }

    #[test]
    fn vectors_with_their_usage_told_are_not_an_estimate() {
        struct Vectors;
        impl Count for Vectors {
            fn input(&self) -> u64 {
                100
            }
            fn output(&self) -> u64 {
                0
            }
        }
        let told = usage(Some(7), Some(0));
        let bill = bill(&price(), outcome(Ending::Complete, told, true), &Vectors);
        assert_eq!((bill.cost.nanos(), bill.flags), (7_000, vec![]));
    }

    #[test]
    fn cached_tokens_are_part_of_the_input_and_priced_once() {
        let told = Usage {
            input_tokens: Some(1_000),
            cached_input_tokens: 800,
            cache_write_tokens: 100,
            output_tokens: Some(0),
            reasoning_tokens: 0,
        };
        let bill = bill(&price(), outcome(Ending::Complete, Some(told), false), &Fixed);
        // 100 fresh at 1, 800 cached at 0.1, 100 written at 1.25, for a million each.
        assert_eq!(bill.cost.nanos(), 100_000 + 80_000 + 125_000);
    }

    #[test]
    fn a_client_that_leaves_pays_input_and_what_had_arrived() {
        let nothing_yet = (100, 0, 100_000, vec![Flag::Estimated]);
        assert_eq!(row(outcome(Ending::ClientGone, None, false)), nothing_yet);
        let a_part = (100, 10, 200_000, vec![Flag::Estimated]);
        assert_eq!(row(outcome(Ending::ClientGone, None, true)), a_part);
    }

    #[test]
    fn what_breaks_before_the_first_token_costs_nothing_unless_usage_was_told() {
        for ending in [Ending::Cut, Ending::Stalled, Ending::Error, Ending::Malformed] {
            assert_eq!(row(outcome(ending, None, false)), (0, 0, 0, vec![]));
            let told = usage(Some(7), Some(1));
            assert_eq!(row(outcome(ending, told, false)), (7, 1, 17_000, vec![]));
        }
    }

    #[test]
    fn what_breaks_after_a_token_pays_its_input_too() {
        let expected = (100, 10, 200_000, vec![Flag::Estimated]);
        for ending in [Ending::Cut, Ending::Stalled, Ending::Error, Ending::Malformed] {
            assert_eq!(row(outcome(ending, None, true)), expected);
        }
    }

    #[test]
    fn a_whole_answer_that_never_arrived_may_be_billed_by_the_vendor() {
        let never = |ending| Outcome { whole: true, ..outcome(ending, None, false) };
        assert_eq!(row(never(Ending::Stalled)), (0, 0, 0, vec![Flag::Unknown]));
        assert_eq!(row(never(Ending::Cut)), (0, 0, 0, vec![Flag::Unknown]));
        assert_eq!(row(never(Ending::Error)), (0, 0, 0, vec![]));
        assert_eq!(row(never(Ending::Malformed)), (0, 0, 0, vec![]));
    }
}
