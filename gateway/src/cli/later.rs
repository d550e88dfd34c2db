//! Commands and options of rooms that are not built yet: refused in plain words, never taken
//! silently.

use crate::cli::CommandError;

/// Refuses what is not built yet.
pub fn not_yet(what: &str) -> Result<(), CommandError> {
    Err(CommandError::refused(
        format!("`{what}` is not yet built into this version. Nothing was done."),
        format!("`{what}` gibt es in dieser Version noch nicht (not yet). Nichts wurde getan."),
    ))
}
