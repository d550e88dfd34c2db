//! The whole product, by area. One binary, so that it is linked once.

mod api;
mod cli;
mod data;
mod doors;
mod fixture;
mod money;
mod resilience;
mod sdk;
mod upstream;
