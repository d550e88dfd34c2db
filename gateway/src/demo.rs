//! The sample company with simulated models.
