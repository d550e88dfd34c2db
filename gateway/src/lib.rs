//! The gateway: a company's programs on one side, the engine on the other.
//!
//! It speaks OpenAI's and Anthropic's formats over HTTP, checks keys, and wires everything into
//! one binary. It decides nothing about models or money: that is `core`'s. Start reading in
//! [`wiring`], then [`server`].

pub mod anthropic;
pub mod auth;
pub mod cli;
pub mod demo;
pub mod errors;
#[cfg(test)]
mod fixtures;
pub mod limits;
pub mod metrics;
pub mod openai;
pub mod reload;
pub mod server;
pub mod show;
pub mod stream;
pub mod wire;
pub mod wiring;
