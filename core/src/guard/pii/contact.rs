//! What reaches a person: mail addresses, telephones, streets; and the day of birth.
//!
//! Knows the forms of Germany and the English-speaking world, and telephones of any country.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use crate::guard::kind::Kind;
use crate::guard::pii::{Lazy, Shape, Span, after, before, pattern, says};

/// Looks for all of them.
pub(super) fn find(text: &str, shape: Shape, spans: &mut Vec<Span>) {
    if shape.at_signs > 0 {
        emails(text, spans);
    }
    if shape.digits >= 6 {
        phones(text, spans);
    }
    if shape.digits >= 3 {
        births(text, spans);
    }
    if shape.digits >= 1 && shape.capitals >= 1 {
        addresses(text, shape, spans);
    }
}

/// From every `@` to the left and to the right, as far as an address can reach.
fn emails(text: &str, spans: &mut Vec<Span>) {
    let mut floor = 0;
    for (at, _) in text.match_indices('@') {
        let local = text[floor..at]
            .char_indices()
            .rev()
            .take(64)
            .take_while(|(_, c)| c.is_alphanumeric() || "._%+-'&".contains(*c))
            .last();
        let Some((offset, _)) = local else { continue };
        let start = floor + offset;
        let start = at - text[start..at].trim_start_matches(['.', '-', '\'', '&', '%']).len();
        let domain: usize = text[at + 1..]
            .chars()
            .take(253)
            .take_while(|c| c.is_alphanumeric() || matches!(c, '.' | '-'))
            .map(char::len_utf8)
            .sum();
        let domain = text[at + 1..at + 1 + domain].trim_end_matches(['.', '-']);
        let Some((name, top)) = domain.rsplit_once('.') else { continue };
        let is_top = top.len() >= 2 && top.chars().all(char::is_alphabetic);
        let is_name = !name.is_empty() && !name.starts_with(['.', '-']) && !name.contains("..");
        if start < at && is_top && is_name {
            let end = at + 1 + domain.len();
            spans.push(Span { kind: Kind::Email, start, end });
            floor = end;
        }
    }
}

const PHONE_WORDS: &[&str] = &[
    "tel",
    "phone",
    "mobil",
    "handy",
    "fax",
    "erreich",
    "anruf",
    "angeruf",
    "ruf",
    "call",
    "reach",
    "durchwahl",
    "whatsapp",
    "signal",
    "kontakt",
    "contact",
    "nummer",
    "number",
    "dial",
    "sms",
    "text me",
    "unter ",
    "answering at",
    "messages to",
    "office",
    "desk:",
];

fn phones(text: &str, spans: &mut Vec<Span>) {
    static INTERNATIONAL: Lazy = Lazy::new(|| {
        pattern(
            r"(?:\+|\b00)[1-9][0-9]{0,2}(?:[ \u{a0}./-]{0,2}\(0\))?(?:[ \u{a0}./-]{0,3}\(?[0-9]{1,9}\)?){2,6}",
        )
    });
    static NATIONAL: Lazy = Lazy::new(|| {
        pattern(
            r"\(0[1-9][0-9]{1,4}\)[ \u{a0}/-]{0,2}[0-9]{2,8}(?:[ \u{a0}-][0-9]{1,6}){0,4}|\b0[1-9][0-9]{1,4}[ \u{a0}/–-]{1,3}[0-9]{2,8}(?:[ \u{a0}/-][0-9]{1,6}){0,4}|\b0[1-9][0-9]{7,12}",
        )
    });
    static AMERICAN: Lazy = Lazy::new(|| {
        pattern(
            r"\([2-9][0-9]{2}\)[ -]?[0-9]{3}[ .-][0-9]{4}|\([0-9]{3,5}\) [0-9]{3}-[0-9]{4}|\b[2-9][0-9]{2}[.-][0-9]{3}[.-][0-9]{4}(?: ?(?:x|ext\.?) ?[0-9]{1,5})?|\b1[ .-][2-9][0-9]{2}[ .-][0-9]{3}[ .-][0-9]{4}",
        )
    });
    static ANNOUNCED: Lazy = Lazy::new(|| {
        pattern(
            r"(?i)(?:telefon|tel\.?|phone|mobile?|handy|fax|durchwahl|desk|office|call me (?:on|at|back at)|answering at|messages to|reach (?:me|us|him|her) (?:on|at)|erreichbar unter)(?:nummer|nr\.?| number)?[ :\n]{1,3}(\(?[0-9][0-9 ()/.-]{3,18}[0-9])",
        )
    });
    static DOTTED: Lazy = Lazy::new(|| pattern(r"\b0[1-9](?:\.[0-9]{2}){4}\b"));
    for hit in INTERNATIONAL.find_iter(text) {
        push_phone(text, hit.start(), hit.end(), false, spans);
    }
    for hit in NATIONAL.find_iter(text).chain(AMERICAN.find_iter(text)) {
        push_phone(text, hit.start(), hit.end(), true, spans);
    }
    for hit in DOTTED.find_iter(text) {
        push_phone(text, hit.start(), hit.end(), true, spans);
    }
    for hit in ANNOUNCED.captures_iter(text).filter_map(|captures| captures.get(1)) {
        push_phone(text, hit.start(), hit.end(), true, spans);
    }
}

fn push_phone(text: &str, start: usize, end: usize, national: bool, spans: &mut Vec<Span>) {
    let left = text[..start].chars().next_back();
    if left.is_some_and(|c| c.is_alphanumeric() || matches!(c, '-' | '.' | '/' | '_' | ',' | '#')) {
        return;
    }
    if text[end..].chars().next().is_some_and(|c| c.is_alphanumeric() || c == '_') {
        return;
    }
    // A decimal or a price goes on behind a point or a comma.
    let mut right = text[end..].chars();
    if matches!(right.next(), Some('.' | ',')) && right.next().is_some_and(|c| c.is_ascii_digit()) {
        return;
    }
    let body = &text[start..end];
    let digits = body.bytes().filter(u8::is_ascii_digit).count();
    if !(6..=15).contains(&digits) || (!national && digits < 8) {
        return;
    }
    if national {
        let is_date = DATE.find(body).is_some_and(|date| date.start() == 0);
        let is_tight = body.bytes().all(|byte| byte.is_ascii_digit());
        let is_mobile = ["015", "016", "017"].iter().any(|begin| body.starts_with(begin));
        let is_announced = says(&before(text, start, 40), PHONE_WORDS);
        if is_date || (digits < 8 && !is_announced) || (is_tight && !is_mobile && !is_announced) {
            return;
        }
    }
    spans.push(Span { kind: Kind::Phone, start, end });
}

static DATE: Lazy = Lazy::new(|| {
    pattern(concat!(
        r"(?i)\b(?:[0-9]{1,2}[./-][0-9]{1,2}[./-](?:[0-9]{4}|[0-9]{2})\b",
        r"|(?:19|20)[0-9]{2}[-/.][0-9]{1,2}[-/.][0-9]{1,2}\b",
        r"|[0-9]{1,2}(?:\.|st|nd|rd|th)? ?(?:of )?(?:jan|feb|mär|mar|apr|mai|may|jun|jul|aug|sep|okt|oct|nov|dez|dec)[a-zä]{0,6}\.?,? (?:[0-9]{4}|[0-9]{2})\b",
        r"|(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.? [0-9]{1,2}(?:st|nd|rd|th)?,? [0-9]{4}\b)",
    ))
});

/// A date is a day of birth when a word says so.
fn births(text: &str, spans: &mut Vec<Span>) {
    static WORD: Lazy = Lazy::new(|| {
        pattern(
            r"(?i)geb\.|geboren|geburtsdatum|geburtstag|gebdat|born|date of birth|birth ?da(?:y|te)|\bd\.?o\.?b\b",
        )
    });
    for word in WORD.find_iter(text) {
        let limit = end_of_stretch(text, word.end(), 40);
        if let Some(date) = DATE.find(&text[word.end()..limit]) {
            let start = word.end() + date.start();
            spans.push(Span { kind: Kind::DateOfBirth, start, end: word.end() + date.end() });
            continue;
        }
        let from = start_of_stretch(text, word.start(), 32);
        if let Some(date) = DATE.find_iter(&text[from..word.start()]).last() {
            let start = from + date.start();
            spans.push(Span { kind: Kind::DateOfBirth, start, end: from + date.end() });
        }
    }
    // `*14.03.1985`, as obituaries and family trees write it.
    for (star, _) in text.match_indices('*') {
        let limit = end_of_stretch(text, star + 1, 12);
        if let Some(date) = DATE.find(&text[star + 1..limit])
            && date.start() <= 1
        {
            let start = star + 1 + date.start();
            spans.push(Span { kind: Kind::DateOfBirth, start, end: star + 1 + date.end() });
        }
    }
}

fn end_of_stretch(text: &str, from: usize, bytes: usize) -> usize {
    let mut to = (from + bytes).min(text.len());
    while !text.is_char_boundary(to) {
        to -= 1;
    }
    to
}

fn start_of_stretch(text: &str, to: usize, bytes: usize) -> usize {
    let mut from = to.saturating_sub(bytes);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    from
}

fn addresses(text: &str, shape: Shape, spans: &mut Vec<Span>) {
    // A street whose name says that it is one, and a number; the town where it follows.
    static STREET: Lazy = Lazy::new(|| {
        pattern(concat!(
            r"(?:(?:[A-ZÄÖÜ][a-zäöüß]+[ -]){0,3}[A-ZÄÖÜ][a-zäöüß]*(?:straße|strasse|str\.|weg|platz|allee|gasse|ring|damm|ufer|chaussee|steig|graben|wall|markt|hof|berg|kamp|stieg|twiete|zeile)|(?:[A-ZÄÖÜ][a-zäöüß]+[ -]){1,3}(?:Straße|Strasse|Str\.|Weg|Platz|Allee|Gasse|Ring|Damm|Ufer|Chaussee|Wall|Markt))",
            r" ?[0-9]{1,4} ?[a-zA-Z]?\b(?: ?[-–/] ?[0-9]{1,4}[a-z]?)?",
            r"(?:(?:,| in|\n)? {0,2}(?:D-)?[0-9]{5} [A-ZÄÖÜ][\p{L}.]+(?:[ -](?:am|an der|im|bei|ob der|[A-ZÄÖÜ][a-zäöüß]+)){0,3})?",
        ))
    });
    // `Am Markt 12, 50667 Köln`: no ending tells the street, so the town must follow.
    static NAMED: Lazy = Lazy::new(|| {
        pattern(concat!(
            r"\b(?:Am|An der|An den|Auf dem|Auf der|Im|In der|In den|Zum|Zur|Unter den|Hinter der|Vor dem|Alte[rs]?|Neue[rs]?)? ?(?:[A-ZÄÖÜ][a-zäöüß]+[ -]?){1,3} [0-9]{1,4} ?[a-z]?",
            r",? {0,2}\n?(?:D-)?[0-9]{5} [A-ZÄÖÜ][\p{L}.]+(?:[ -](?:am|an der|im|bei|[A-ZÄÖÜ][a-zäöüß]+)){0,3}",
        ))
    });
    static ENGLISH: Lazy = Lazy::new(|| {
        pattern(concat!(
            r"\b[0-9]{1,5}[A-Za-z]?,? (?:[NSEW]\.? )?(?:[A-Z][a-z'’]+ ){1,3}(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Dr|Court|Ct|Square|Sq|Boulevard|Blvd|Way|Place|Pl|Terrace|Close|Crescent|Gardens|Parkway|Pkwy|Highway|Hwy|Grove|Hill|Mews|Row)\b\.?",
            r"(?:,? (?:Apt|Suite|Unit|Flat|#)\.? ?[0-9A-Z]{1,5})?",
            r"(?:, ?[A-Z][a-zA-Z'’]+(?: [A-Z][a-z]+){0,2})?(?:,? [A-Z]{2}(?: [0-9]{5}(?:-[0-9]{4})?)?\b)?(?:,? [A-Z]{1,2}[0-9][0-9A-Z]? [0-9][A-Z]{2}\b)?",
        ))
    });
    // Endings without which the pattern cannot match, found a hundred times as quickly.
    static GERMAN_ENDINGS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
        AhoCorasick::builder()
            .build([
                "straße", "strasse", "str.", "weg ", "platz ", "allee ", "gasse ", "ring ",
                "damm ", "ufer ", "chaussee", "steig ", "graben ", "wall ", "markt ", "hof ",
                "berg ", "kamp ", "stieg ", "twiete", "zeile ", "Straße", "Strasse", "Str.",
                "Weg ", "Platz ", "Allee ", "Gasse ", "Ring ", "Damm ", "Ufer ", "Chaussee",
                "Wall ", "Markt ",
            ])
            .ok()
    });
    static ENGLISH_ENDINGS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
        AhoCorasick::builder()
            .build([
                " Street",
                " St",
                " Road",
                " Rd",
                " Ave",
                " Lane",
                " Ln",
                " Dr",
                " Court",
                " Ct",
                " Sq",
                " Boulevard",
                " Blvd",
                " Way",
                " Pl",
                " Terrace",
                " Close",
                " Crescent",
                " Gardens",
                " Parkway",
                " Pkwy",
                " Highway",
                " Hwy",
                " Grove",
                " Hill",
                " Mews",
                " Row",
            ])
            .ok()
    });
    let has = |endings: &LazyLock<Option<AhoCorasick>>| {
        endings.as_ref().is_none_or(|endings| endings.is_match(text))
    };
    let searches = [
        (&STREET, has(&GERMAN_ENDINGS)),
        (&NAMED, shape.longest_number >= 5),
        (&ENGLISH, has(&ENGLISH_ENDINGS)),
    ];
    for (street, _) in searches.iter().filter(|(_, may_match)| *may_match) {
        for hit in street.find_iter(text) {
            let start = hit.start() + leading_words(hit.as_str());
            // The point behind a town ends the sentence.
            let hit_end = hit.start() + hit.as_str().trim_end_matches(['.', ' ', ',', '\n']).len();
            let inside = text[..start].chars().next_back().is_some_and(char::is_alphanumeric);
            let unit = after(text, hit_end, 8);
            let is_measure = says(&unit, &[" km", " m ", " uhr", " prozent", "%", " euro", " €"]);
            if !inside && !is_measure && start < hit_end {
                spans.push(Span { kind: Kind::Address, start, end: hit_end });
            }
        }
    }
}

/// Words with a capital that only begin the sentence: `Meine Adresse Bergstraße 5`.
fn leading_words(address: &str) -> usize {
    const WORDS: &[&str] = &[
        "Adresse",
        "Anschrift",
        "Lieferadresse",
        "Rechnungsadresse",
        "Meine",
        "Unsere",
        "In",
        "Die",
        "Der",
        "Das",
        "Treffpunkt",
        "Standort",
        "Firmensitz",
        "Sitz",
        "Wohnort",
    ];
    let mut at = 0;
    for word in address.split_inclusive(' ') {
        if !WORDS.contains(&word.trim_end()) {
            break;
        }
        at += word.len();
    }
    at
}
