//! Whole-product tests: a world of vendors, people and budgets around the real binary.
