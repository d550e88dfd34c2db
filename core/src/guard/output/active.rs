//! Images in an answer whose address carries the conversation out.
//!
//! Whoever shows an image asks its host for it, unasked by the person, so an attacker who can
//! write into a document lets the model put secrets into the address. Plain images, badges and
//! charts have addresses too: only one that holds words, data or codes of the conversation
//! counts. Links need a click and are left alone. Knows nothing of what is done about it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use crate::guard::pii::{Lazy, pattern};

/// Words of the conversation in a row that are no name of a picture.
const TELLING_WORDS: usize = 7;

/// Whether an image in the text carries something out. `precious` are values of the conversation
/// that must not leave; they are only asked for where there is an image.
pub(super) fn carriers<'p>(text: &str, said: &str, precious: impl Fn() -> &'p [String]) -> bool {
    static IMAGE: Lazy = Lazy::new(|| {
        pattern(concat!(
            r"(?i)!\[[^\]]{0,200}\]\(\s{0,3}<?(?P<markdown>(?:https?:)?//[^)\s>]+)",
            r#"|<(?:img|iframe|object|embed|source|video|audio|link|script)\b[^>]{0,300}?\b(?:src|srcset|data|href|poster)\s{0,3}=\s{0,3}["']?(?P<html>(?:https?:)?//[^"'\s>]+)"#,
            r"|!\[[^\]]{0,200}\]\[(?P<reference>[^\]]{1,100})\]",
            r#"|(?:background(?:-image)?\s{0,3}:\s{0,3})url\(["']?(?P<style>(?:https?:)?//[^"')\s]+)"#,
        ))
    });
    if !text.contains("//") {
        return false;
    }
    IMAGE.captures_iter(text).any(|image| {
        let named = ["markdown", "html", "style"].iter().find_map(|name| image.name(name));
        let address = match (named, image.name("reference")) {
            (Some(address), _) => Some(address.as_str()),
            (None, Some(reference)) => referred(text, reference.as_str()),
            (None, None) => None,
        };
        address.is_some_and(|address| carries(address, said, &precious))
    })
}

/// Where an image begins that is not whole yet.
pub(super) fn open_image(text: &str) -> Option<usize> {
    let from = text.rfind("![").or_else(|| text.ends_with('!').then(|| text.len() - 1));
    let markdown = from.filter(|at| {
        let rest = &text[*at..];
        match (rest.find("]("), rest.find("][")) {
            (Some(bracket), _) => !rest[bracket..].contains(')'),
            (None, Some(bracket)) => !rest[bracket + 1..].contains(']'),
            // `![alt` goes on; `![alt] and more` is no image.
            (None, None) => rest.find(']').is_none_or(|at| at + 1 == rest.len()),
        }
    });
    let html = text.rfind('<').filter(|at| {
        let rest = &text[*at..];
        let begins = rest[1..].chars().next().is_none_or(|c| c.is_ascii_alphabetic());
        begins && !rest.contains('>')
    });
    match (markdown, html) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The address of `![alt][name]`, where it stands in the same text.
fn referred<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let begin = format!("[{name}]:");
    let at = text.find(&begin)? + begin.len();
    text[at..].split_whitespace().next()
}

fn carries<'p>(address: &str, said: &str, precious: &impl Fn() -> &'p [String]) -> bool {
    let path = address.split_once("//").map_or(address, |(_, rest)| rest);
    // A host's own name can carry data too: `secret.evil.example`.
    let plain = unescaped(path, true);
    if precious().iter().any(|value| plain.contains(value.as_str())) {
        return true;
    }
    // A picture that the caller linked himself tells nothing new.
    if said.contains(address) {
        return false;
    }
    tells_words(&plain, said)
        || codes(&unescaped(path, false)).any(|decoded| tells(&decoded, said, precious))
}

fn tells<'p>(decoded: &str, said: &str, precious: &impl Fn() -> &'p [String]) -> bool {
    precious().iter().any(|value| decoded.contains(value.as_str()))
        || tells_words(decoded, said)
        || said.contains(decoded)
}

/// Whether several words of the conversation stand in a row.
fn tells_words(plain: &str, said: &str) -> bool {
    let words = super::words_of(plain);
    if words.len() < TELLING_WORDS {
        return false;
    }
    let said = format!(" {} ", super::words_of(said).join(" "));
    words.windows(TELLING_WORDS).any(|row| {
        let row = row.join(" ");
        row.len() >= 35 && said.contains(&format!(" {row} "))
    })
}

/// Texts that are hidden in codes: base64 and hexadecimal runs that decode to words.
fn codes(plain: &str) -> impl Iterator<Item = String> {
    let is_code = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+' | '/');
    let runs = plain.split(move |c: char| !is_code(c)).flat_map(|run| {
        // A slash is a letter of base64 and a border in addresses: both readings are tried.
        std::iter::once(run).chain(run.split('/')).filter(|run| run.len() >= 12)
    });
    let decoded: Vec<String> = runs
        .flat_map(|run| {
            [
                STANDARD_NO_PAD.decode(run).ok(),
                URL_SAFE_NO_PAD.decode(run).ok(),
                hex::decode(run).ok(),
            ]
        })
        .flatten()
        .filter_map(|bytes| String::from_utf8(bytes).ok())
        .filter(|text| text.chars().all(|c| !c.is_control() || c.is_whitespace()))
        .collect();
    decoded.into_iter()
}

/// Percent escapes read, and pluses as spaces where they are.
fn unescaped(address: &str, pluses: bool) -> String {
    let mut bytes = Vec::with_capacity(address.len());
    let raw = address.as_bytes();
    let mut at = 0;
    while at < raw.len() {
        let escape = (raw[at] == b'%').then(|| raw.get(at + 1..at + 3)).flatten();
        let value = escape
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match value {
            Some(byte) => {
                bytes.push(byte);
                at += 3;
            }
            None => {
                bytes.push(if pluses && raw[at] == b'+' { b' ' } else { raw[at] });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
