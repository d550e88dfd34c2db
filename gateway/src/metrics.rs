//! Figures for Prometheus and logs for people.
