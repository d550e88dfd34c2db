//! Keys, tokens, passwords: does something stand here that opens a door?
//!
//! Keys of known vendors are told by their beginnings, everything else by the word before it
//! (`Passwort: …`) and by not looking like a word. Knows nothing of where a secret may go.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use crate::guard::kind::Kind;
use crate::guard::pii::{Lazy, Span, pattern};

/// Beginnings and words without which no secret is looked for; matched without case.
const SIGNS: &[&str] = &[
    "sk-",
    "sk_",
    "pk_",
    "rk_",
    "whsec_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xox",
    "xapp-",
    "akia",
    "asia",
    "aiza",
    "ya29.",
    "eyj",
    "-----begin",
    "npm_",
    "pypi-",
    "sg.",
    "hf_",
    "dop_v1_",
    "shpat_",
    "sq0",
    "key-",
    "gsk_",
    "xai-",
    "hvs.",
    "aws",
    "://",
    "passw",
    "pwd",
    "kennwort",
    "losung",
    "secret",
    "geheim",
    "token",
    "api-key",
    "apikey",
    "api key",
    "api_key",
    "api-schlüssel",
    "zugangs",
    "credential",
    "pin",
    "bearer",
    "private key",
    "access_key",
    "accesskey",
    "client_secret",
    "passphrase",
    "hooks.slack.com",
    "accountkey",
    "tan",
    "passcode",
    "login",
];

/// Looks for secrets.
pub(crate) fn find(text: &str, spans: &mut Vec<Span>) {
    static FINDER: LazyLock<Option<AhoCorasick>> =
        LazyLock::new(|| AhoCorasick::builder().ascii_case_insensitive(true).build(SIGNS).ok());
    // A finder that could not be made finds nothing to skip: then everything is looked at.
    let may_have = FINDER.as_ref().is_none_or(|finder| finder.is_match(text));
    if !may_have {
        return;
    }
    key_blocks(text, spans);
    by_beginning(text, spans);
    in_addresses(text, spans);
    announced(text, spans);
}

/// `-----BEGIN … PRIVATE KEY-----` up to its end line; without one, as far as it looks like key.
fn key_blocks(text: &str, spans: &mut Vec<Span>) {
    const END: &str = "-----END ";
    let mut at = 0;
    while let Some(start) = text[at..].find("-----BEGIN ").map(|offset| at + offset) {
        at = start + 11;
        let Some(head) = text[at..].find("-----").filter(|length| *length < 40) else { continue };
        if !text[at..at + head].contains("PRIVATE KEY") {
            continue;
        }
        let body = at + head + 5;
        let is_key = |c: &char| c.is_ascii_alphanumeric() || "+/=\\ \r\n\t:,-".contains(*c);
        let key: usize = text[body..].chars().take_while(is_key).map(char::len_utf8).sum();
        let end = match text[body..].find(END) {
            Some(foot) if foot < 20_000 => {
                let line = body + foot + END.len();
                line + text[line..].find("-----").filter(|length| *length < 40).map_or(0, |n| n + 5)
            }
            _ => body + text[body..body + key].trim_end().len(),
        };
        spans.push(Span { kind: Kind::Secret, start, end });
        at = end;
    }
}

fn by_beginning(text: &str, spans: &mut Vec<Span>) {
    static KEY: Lazy = Lazy::new(|| {
        pattern(concat!(
            r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
            r"|\b(?:sk|rk|pk)[-_](?:live|test|proj|ant|or|svcacct|admin)?[-_]?[A-Za-z0-9_-]{16,}",
            r"|\b(?:gh[opusr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{22,}|glpat-[A-Za-z0-9_-]{16,})",
            r"|\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\bxapp-[A-Za-z0-9-]{20,}",
            r"|\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}\b",
            r"|\bAIza[A-Za-z0-9_-]{30,}|\bya29\.[A-Za-z0-9_-]{20,}",
            r"|\b(?:npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{30,}|hf_[A-Za-z0-9]{30,}|gsk_[A-Za-z0-9]{30,}|xai-[A-Za-z0-9]{30,}|hvs\.[A-Za-z0-9_-]{20,}|dop_v1_[a-f0-9]{40,}|shpat_[a-f0-9]{30,}|whsec_[A-Za-z0-9+/=]{20,}|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|sq0[a-z]{3}-[A-Za-z0-9_-]{20,})",
            r"|https://hooks\.slack\.com/services/[A-Za-z0-9/]{20,}",
        ))
    });
    for hit in KEY.find_iter(text) {
        // `sk-learn-something-long` is a name: a key has digits or mixed case.
        let body = hit.as_str();
        if body.bytes().any(|byte| byte.is_ascii_digit()) || has_mixed_case(body) {
            spans.push(Span { kind: Kind::Secret, start: hit.start(), end: hit.end() });
        }
    }
}

fn has_mixed_case(text: &str) -> bool {
    let upper = text.bytes().filter(u8::is_ascii_uppercase).count();
    let lower = text.bytes().filter(u8::is_ascii_lowercase).count();
    upper >= 3 && lower >= 3
}

/// `postgres://user:password@host`: only the password is hidden.
fn in_addresses(text: &str, spans: &mut Vec<Span>) {
    static ADDRESS: Lazy = Lazy::new(|| {
        pattern(
            r"[a-zA-Z][a-zA-Z0-9+.-]{1,20}://[^\s:/@'\x22]{0,128}:(?P<value>[^\s/@'\x22]{1,128})@",
        )
    });
    if !text.contains("://") {
        return;
    }
    for captures in ADDRESS.captures_iter(text) {
        if let Some(value) = captures.name("value").filter(|value| !is_stand_in(value.as_str())) {
            spans.push(Span { kind: Kind::Secret, start: value.start(), end: value.end() });
        }
    }
}

/// A password behind the word for it.
fn announced(text: &str, spans: &mut Vec<Span>) {
    static ANNOUNCED: Lazy = Lazy::new(|| {
        pattern(concat!(
            r"(?i)(?P<word>passw(?:or[dt]|ör?t)e?r?s?|passphrase|passcode|pwd|kennw(?:ort|örter)|losung(?:swort)?|zugangscode|geheimnis|client[_ -]?secret|secret(?:[_ -]?(?:access)?[_ -]?key)?|api[_ -]?(?:key|token|schlüssel)|access[_ -]?(?:key|token)(?:[_ -]?id)?|auth[_ -]?token|account[_ -]?key|private[_ -]?key|bearer|token|(?:bank|karten|kredit|handy|geräte|sim)?-?pin(?:[- ]?(?:code|nummer))?|login)",
            r"(?P<between>[\x22'`*]{0,3}(?: ?\([^)]{0,20}\))?(?:\s{0,3}(?:=>|->|:=|[:=])\s{0,3}|\s{1,3}(?:lautet|ist|is|was|war|heißt|wäre|are|sind)\s{1,2}(?:jetzt |now |noch |still )?:?\s?|\s{1,2}))",
            r"(?P<quote>[\x22'`„“«*]{0,3})(?P<value>[^\s\x22'`„“”«»,;<>\\]{4,256})",
        ))
    });
    for captures in ANNOUNCED.captures_iter(text) {
        let (Some(word), Some(between), Some(value)) =
            (captures.name("word"), captures.name("between"), captures.name("value"))
        else {
            continue;
        };
        let end = value.start()
            + value.as_str().trim_end_matches(['.', '!', '?', ')', ']', '*', ':']).len();
        let body = &text[value.start()..end];
        let certainty = Certainty::of(between.as_str(), captures.name("quote").map(|q| q.as_str()));
        let said = word.as_str().to_lowercase();
        let is_pin = said.contains("pin");
        let is_password = said.starts_with("pass") || said.starts_with("kennw");
        if is_inside_word(text, word.start()) && !is_pin_or_key_name(text, word.start()) {
            continue;
        }
        if looks_secret(body, certainty, is_pin, is_password) {
            spans.push(Span { kind: Kind::Secret, start: value.start(), end });
        }
    }
}

fn is_inside_word(text: &str, at: usize) -> bool {
    text[..at].chars().next_back().is_some_and(char::is_alphabetic)
}

/// `DB_PASSWORD`, `WLAN-Passwort`, `Datenbankpasswort` go on; `hairpin` does not.
fn is_pin_or_key_name(text: &str, at: usize) -> bool {
    let word = text[at..].get(..4).unwrap_or_default().to_lowercase();
    word == "pass" || word == "kenn"
}

/// How much the form before a value says that a secret follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Certainty {
    /// Only a space: `Passwort x`.
    Beside,
    /// A verb: `das Passwort lautet x`.
    Said,
    /// A colon.
    Named,
    /// An equals sign, or quotes behind a colon.
    Assigned,
}

impl Certainty {
    fn of(between: &str, quote: Option<&str>) -> Self {
        let is_quoted = quote.is_some_and(|quote| !quote.is_empty());
        if between.contains('=') || (between.contains(':') && is_quoted) {
            Certainty::Assigned
        } else if between.contains(':') || between.contains("->") {
            Certainty::Named
        } else if between.trim().is_empty() {
            Certainty::Beside
        } else {
            Certainty::Said
        }
    }
}

fn looks_secret(body: &str, certainty: Certainty, is_pin: bool, is_password: bool) -> bool {
    if is_stand_in(body) || body.contains("://") || body.contains('@') {
        return false;
    }
    let digits = body.bytes().filter(u8::is_ascii_digit).count();
    if is_pin {
        return certainty >= Certainty::Said
            && (4..=8).contains(&body.len())
            && digits == body.len();
    }
    if body.contains(['(', '{', '$']) && body.contains([')', '}', '(']) {
        return false;
    }
    let letters = body.chars().filter(|c| c.is_alphabetic()).count();
    let marks = body.chars().filter(|c| c.is_ascii_punctuation() && *c != '-' && *c != '.').count();
    let has_inner_capital =
        body.chars().skip(1).any(char::is_uppercase) && body.chars().any(char::is_lowercase);
    let length = body.chars().count();
    let is_mixed = digits > 0 && letters > 0;
    // `qDzaExkEqHrd`: no word has capitals strewn into it.
    let capitals = body.chars().skip(1).filter(|c| c.is_uppercase()).count();
    let is_strewn = has_inner_capital && capitals >= 2 && marks == 0;
    match certainty {
        Certainty::Beside => {
            let is_code = is_mixed && (marks > 0 || digits >= 2 || has_inner_capital);
            (length >= 8 && is_code) || (length >= 10 && is_strewn && is_password)
        }
        Certainty::Said => length >= 6 && (is_mixed || marks > 0 || (is_strewn && length >= 8)),
        Certainty::Named => {
            length >= 6 && (is_mixed || marks > 0 || has_inner_capital || digits >= 6)
        }
        Certainty::Assigned => length >= 4 && !body.contains('.') || (is_mixed && length >= 6),
    }
}

/// Words that stand in for a secret and open nothing, and placeholders that are already hidden.
fn is_stand_in(body: &str) -> bool {
    const WORDS: &[&str] = &[
        "string",
        "str",
        "null",
        "none",
        "true",
        "false",
        "required",
        "optional",
        "undefined",
        "nil",
        "reset",
        "change",
        "vergessen",
        "forgotten",
        "password",
        "passwort",
        "xxx",
        "your",
        "dein",
        "ihr",
        "example",
        "changeme",
        "redacted",
        "env",
        "todo",
        "text",
        "input",
        "value",
        "type",
        "field",
        "hidden",
        "self",
        "this",
        "os.environ",
        "process.env",
        "getenv",
        "bitte",
        "please",
    ];
    let lower = body.to_lowercase();
    let masked = lower.chars().all(|c| matches!(c, '*' | 'x' | '•' | '.' | '-' | '_' | '…' | '#'));
    masked
        || lower.starts_with("secret_")
        || lower.starts_with(['<', '[', '{', '$', '%'])
        || WORDS.iter().any(|word| lower == *word || lower.starts_with(&format!("{word}_")))
        || lower.starts_with("os.environ")
        || lower.starts_with("process.env")
        || lower.starts_with("env:")
        || lower.starts_with("file:")
}
