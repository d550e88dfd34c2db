//! How the trained classifier comes to be: data, learning, scores.
//!
//! [`data`] reads labelled sets into one shape, [`metrics`] says how good a classifier is,
//! [`recipe`] makes what ships: its fast stage by [`fast`], its encoder by [`deep`]. Runs on a
//! developer's or an admin's machine, never while serving. Knows nothing of requests, models or
//! prices.

pub mod calibrate;
pub mod data;
pub mod deep;
pub mod fast;
pub mod join;
pub mod manifest;
pub mod metrics;
pub mod own;
pub mod recipe;
