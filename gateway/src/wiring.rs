//! Everything that runs is put together, started and stopped here.
