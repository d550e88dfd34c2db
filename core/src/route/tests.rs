//! Worlds in a few words, and what is chosen in them.
