//! The lists of `[guard]`: kinds that stay, patterns of the company's own.
//!
//! Knows nothing of how a guard looks at a text; a pattern that does not compile never reaches it.

use crate::config::file::{Located, Reader, Section, list, nearest};
use crate::config::{GuardConfig, OwnPattern, PII_KINDS, Pattern};
use crate::reply::Words;

/// Reads `leave` and `[[guard.pattern]]`.
pub fn lists(section: &Section<'_>, reader: &Reader<'_>, guard: &mut GuardConfig) {
    if let Some(kinds) = section.texts("leave") {
        let known = kinds.into_iter().filter(|kind| is_kind(kind, reader));
        guard.leave = known.map(|kind| kind.value).collect();
    }
    for own in section.sections("pattern") {
        let kind = own.text("kind").filter(|kind| is_kind(kind, reader));
        let pattern = own.required_text("pattern").and_then(|at| compiled(&at, reader));
        if let Some(pattern) = pattern {
            let kind = kind.map_or_else(|| "CUSTOM".to_owned(), |kind| kind.value);
            guard.patterns.push(OwnPattern { kind, pattern });
        }
        own.finish();
    }
}

/// A pattern that compiles and does not match nothing.
pub fn compiled(written: &Located<String>, reader: &Reader<'_>) -> Option<Pattern> {
    let shown = written.shown();
    match Pattern::new(&written.value) {
        Ok(pattern) if !pattern.regex().is_match("") => Some(pattern),
        Ok(_) => {
            reader.wrong_at(
                written,
                Words::new(
                    format!("`{shown}` matches the empty text, so it would match everywhere"),
                    format!("`{shown}` passt auf den leeren Text und damit überall"),
                ),
            );
            None
        }
        Err(_) => {
            reader.wrong_at(
                written,
                Words::new(
                    format!(
                        "`{shown}` is no regular expression that can be used; try it with the \
                         syntax of Rust's regex crate, without look-around"
                    ),
                    format!(
                        "`{shown}` ist kein brauchbarer regulärer Ausdruck; es gilt die Syntax \
                         von Rusts regex, ohne Vor- und Rückschau"
                    ),
                ),
            );
            None
        }
    }
}

fn is_kind(written: &Located<String>, reader: &Reader<'_>) -> bool {
    if PII_KINDS.contains(&written.value.as_str()) {
        return true;
    }
    let shown = written.shown();
    let known = list(PII_KINDS.iter());
    let (en, de) = match nearest(&written.value, PII_KINDS.iter().copied()) {
        Some(near) => (format!("; did you mean {near}?"), format!("; ist {near} gemeint?")),
        None => (format!("; known are {known}"), format!("; bekannt sind {known}")),
    };
    let words = Words::new(
        format!("`{shown}` is no kind of personal data{en}"),
        format!("`{shown}` ist keine Art personenbezogener Daten{de}"),
    );
    reader.wrong_at(written, words);
    false
}
