//! The engine of Stellwerk: guard, classify, route, hold, call, judge, settle.
//!
//! Knows nothing of HTTP servers, chat platforms or windows. Start reading in [`engine`]: the
//! walk is one function there, and every step is a room of its own.

pub mod budget;
pub mod caller;
pub mod catalog;
pub mod classify;
pub mod config;
pub mod engine;
pub mod guard;
pub mod ids;
pub mod judge;
pub mod ledger;
pub mod money;
pub mod org;
pub mod period;
pub mod provider;
pub mod reply;
pub mod request;
pub mod route;
pub mod store;
pub mod trace;
