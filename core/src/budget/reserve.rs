//! The arithmetic of holds, pure: the store calls it inside its transaction.

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

/// A threshold that was crossed.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// The budget.
    pub budget: Budget,
    /// The share that was crossed, 0…1.
    pub threshold: f64,
    /// The share that is used now.
    pub share: f64,
}

/// Sets `amount` aside at every level, or at none: then the index of the first level that has
/// not enough left.
pub fn reserve(levels: &mut [Level], amount: Cost) -> Result<(), usize> {
    let _ = (levels, amount);
    unimplemented!()
}

/// Gives `held` back and books `cost` at every level.
pub fn settle(levels: &mut [Level], held: Cost, cost: Cost) {
    let _ = (levels, held, cost);
    unimplemented!()
}
