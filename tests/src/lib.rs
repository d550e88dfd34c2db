//! Whole-product tests: a [`World`] of vendors, people and budgets around the real binary.
//!
//! A test describes the smallest world that shows the point, lets one thing happen, and reads
//! what anybody outside could read: answers, rows of the ledger, budgets, logs, and what reached
//! the vendor. Nothing here looks into the program. Start with [`world`], then [`vendor`].

pub mod client;
pub mod fuzzing;
pub mod vendor;
pub mod world;

pub use client::{Reply, Stream};
pub use vendor::{Script, Vendor};
pub use world::{Output, World};
