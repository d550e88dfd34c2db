//! A changed configuration is taken while running, whole or not at all.
