//! The arithmetic of holds, pure: the store calls it inside its transaction.
//!
//! Knows one budget per level and nothing of how it is kept. All sums are taken in 128 bits
//! before they are compared, so no absurd amount wraps around into a budget that fits.

use crate::budget::Budget;
use crate::money::Cost;

/// One budget in its running period, as the transaction sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// The budget.
    pub budget: Budget,
    /// Settled in this period.
    pub spent: Cost,
    /// Set aside right now.
    pub held: Cost,
}

/// A threshold that what was spent has crossed. Holds cross none: most of them are far larger
/// than what they settle to, and an alarm that the next minute takes back is soon ignored.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// The budget.
    pub budget: Budget,
    /// The share that was crossed, 0…1.
    pub threshold: f64,
    /// The share that is spent now.
    pub share: f64,
}

impl Notice {
    /// Tells the admin's log, once, where the crossing is handled.
    pub fn log(&self) {
        tracing::warn!(
            node = %self.budget.node, period = %self.budget.period,
            threshold = self.threshold, share = self.share,
            "a budget crossed a threshold"
        );
    }
}

impl Level {
    /// Limit less spent and held; below zero where a soft budget or a bill went over.
    pub fn left(&self) -> Cost {
        self.budget.limit - self.spent - self.held
    }

    /// The share that is spent and held; a limit of nothing is used up by the first nano.
    pub fn share(&self) -> f64 {
        share(self.spent + self.held, self.budget.limit)
    }

    /// Whether a hold of this amount is allowed. A hold of nothing is allowed until the limit is
    /// passed: a free model costs a department nothing that it has not got.
    fn allows(&self, amount: Cost) -> bool {
        let wanted = [self.spent, self.held, amount].map(|cost| i128::from(cost.nanos()));
        self.budget.soft || wanted.iter().sum::<i128>() <= i128::from(self.budget.limit.nanos())
    }
}

/// What part of `limit` is `used`: for steering and for showing, never for deciding.
pub(crate) fn share(used: Cost, limit: Cost) -> f64 {
    match (used.nanos(), limit.nanos()) {
        (..=0, _) => 0.0,
        (_, ..=0) => f64::INFINITY,
        (used, limit) => used as f64 / limit as f64,
    }
}

/// Sets `amount` aside at every level, or at none: then the index of the first level that has
/// not enough left.
pub fn reserve(levels: &mut [Level], amount: Cost) -> Result<(), usize> {
    let amount = amount.at_least_zero();
    if let Some(refused) = levels.iter().position(|level| !level.allows(amount)) {
        return Err(refused);
    }
    for level in levels {
        level.held += amount;
    }
    Ok(())
}

/// Gives `held` back and books `cost` at every level.
pub fn settle(levels: &mut [Level], held: Cost, cost: Cost) {
    for level in levels {
        // Never below zero: a soft budget whose holds saturated must not turn the excess that
        // was never counted into money that a later hold could use.
        level.held = (level.held - held.at_least_zero()).at_least_zero();
        level.spent += cost;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::Node;
    use crate::request::BudgetPeriod;

    fn level(limit: i64, spent: i64, held: i64, soft: bool) -> Level {
        Level {
            budget: Budget {
                node: Node::Company,
                period: BudgetPeriod::Month,
                limit: Cost::from_nanos(limit),
                soft,
            },
            spent: Cost::from_nanos(spent),
            held: Cost::from_nanos(held),
        }
    }

    fn nanos(amount: i64) -> Cost {
        Cost::from_nanos(amount)
    }

    #[test]
    fn a_hold_that_fits_to_the_last_nano_is_granted_and_the_next_is_not() {
        let mut levels = [level(10, 3, 2, false)];
        assert_eq!(reserve(&mut levels, nanos(5)), Ok(()));
        assert_eq!(reserve(&mut levels, nanos(1)), Err(0));
        assert_eq!(levels[0].held, nanos(7));
    }

    #[test]
    fn one_level_without_money_leaves_all_levels_untouched() {
        let mut levels = [level(100, 0, 0, false), level(4, 0, 0, false)];
        let before = levels.clone();
        assert_eq!(reserve(&mut levels, nanos(5)), Err(1));
        assert_eq!(levels, before);
    }

    #[test]
    fn a_free_call_passes_an_exhausted_budget_but_not_an_overspent_one() {
        assert_eq!(reserve(&mut [level(10, 10, 0, false)], Cost::ZERO), Ok(()));
        assert_eq!(reserve(&mut [level(10, 11, 0, false)], Cost::ZERO), Err(0));
    }

    #[test]
    fn a_soft_budget_never_refuses() {
        let mut levels = [level(1, 5, 5, true)];
        assert_eq!(reserve(&mut levels, Cost::MAX), Ok(()));
        assert_eq!(levels[0].held, Cost::MAX);
    }

    #[test]
    fn absurd_amounts_are_refused_and_never_wrap_around() {
        let mut levels = [level(i64::MAX, i64::MAX, 0, false)];
        assert_eq!(reserve(&mut levels, Cost::MAX), Err(0));
    }

    proptest! {
        #[test]
        fn holds_never_overspend_and_never_refuse_what_fits(
            limits in prop::collection::vec((0_i64..1_000, any::<bool>()), 1..6),
            steps in prop::collection::vec((0_i64..300, 0_i64..300, any::<bool>()), 0..60),
        ) {
            let mut levels: Vec<Level> =
                limits.iter().map(|&(limit, soft)| level(limit, 0, 0, soft)).collect();
            let mut open: Vec<i64> = Vec::new();
            let mut spent = 0_i64;
            for (amount, cost, settles) in steps {
                let held: i64 = open.iter().sum();
                let short = limits
                    .iter()
                    .position(|&(limit, soft)| !soft && spent + held + amount > limit);
                prop_assert_eq!(reserve(&mut levels, nanos(amount)).err(), short);
                if short.is_none() {
                    open.push(amount);
                }
                if settles && let Some(amount) = open.pop() {
                    let cost = cost.min(amount);
                    settle(&mut levels, nanos(amount), nanos(cost));
                    spent += cost;
                }
                for (level, &(limit, soft)) in levels.iter().zip(&limits) {
                    prop_assert_eq!(level.spent, nanos(spent));
                    prop_assert_eq!(level.held, nanos(open.iter().sum()));
                    prop_assert!(soft || (level.spent + level.held).nanos() <= limit);
                }
            }
        }

        #[test]
        fn settling_gives_back_exactly_what_was_held(
            spent in 0_i64..1_000_000, held in 0_i64..1_000_000,
            amount in 0_i64..1_000_000, cost in 0_i64..2_000_000,
        ) {
            let mut levels = [level(i64::MAX, spent, held, false)];
            reserve(&mut levels, nanos(amount)).unwrap();
            settle(&mut levels, nanos(amount), nanos(cost));
            prop_assert_eq!(levels[0].held, nanos(held));
            prop_assert_eq!(levels[0].spent, nanos(spent + cost));
        }
    }
}
