//! Names of people, as far as rules can tell them from other words with a capital.
//!
//! A title (`Frau Demir`), an introduction (`mein Name ist …`), a greeting or a role
//! (`Kontoinhaber: …`) gives a name away. A first name with a surname counts only where the text
//! already speaks of a private person: who asks about Angela Merkel asks about the world.

use std::collections::HashSet;
use std::sync::LazyLock;

use crate::guard::kind::Kind;
use crate::guard::pii::{Lazy, Shape, Span, after, before, pattern, says};

/// A name: one to four words with a capital, initials and particles among them.
macro_rules! name {
    () => {
        r"(?:(?:Dr|Prof)\.? (?:(?:med|jur|rer|nat|phil|h\. ?c|Ing)\.? ){0,3})?(?:(?:\p{Lu}[\p{Ll}'’]+(?:-\p{Lu}[\p{Ll}]+)?|\p{Lu}\.(?:-?\p{Lu}\.)?|von der|van der|van den|von|van|de|da|di|zu|el|al|bin|O'\p{Lu}\p{Ll}+|Mc\p{Lu}\p{Ll}+)[ \u{a0}]){0,3}(?:\p{Lu}[\p{Ll}'’]+(?:-\p{Lu}[\p{Ll}]+)?|O['’]\p{Lu}\p{Ll}+|Mc\p{Lu}\p{Ll}+)"
    };
}

/// Looks for names. `before_people`: other personal data was found, so the text is about people.
pub(super) fn find(text: &str, shape: Shape, before_people: bool, spans: &mut Vec<Span>) {
    if shape.capitals < 1 {
        return;
    }
    titled(text, spans);
    introduced(text, spans);
    in_a_role(text, spans);
    if shape.capitals >= 2 && (before_people || !spans.is_empty() || speaks_of_a_person(text)) {
        first_names(text, spans);
    }
}

fn titled(text: &str, spans: &mut Vec<Span>) {
    static TITLED: Lazy = Lazy::new(|| {
        pattern(concat!(
            r"\b(?:Herrn?|Frau|Fräulein|Hr\.|Fr\.|Mr\.?|Mrs\.?|Ms\.?|Miss|Mx\.?|Sir|Madam|Kollegin|Kollegen?)[ \u{a0}](?P<name>",
            name!(),
            r")"
        ))
    });
    static DOCTOR: Lazy =
        Lazy::new(|| pattern(concat!(r"\b(?P<name>(?:Dr|Prof)\.? ", name!(), r")")));
    let beginnings =
        ["Herr", "Frau", "Fräu", "Hr.", "Fr.", "Mr", "Ms", "Mx", "Miss", "Sir", "Mada", "Koll"];
    if says_exactly(text, &beginnings) {
        push_names(text, &TITLED, spans);
    }
    if says_exactly(text, &["Dr", "Prof"]) {
        push_names(text, &DOCTOR, spans);
    }
}

fn introduced(text: &str, spans: &mut Vec<Span>) {
    static INTRODUCED: Lazy = Lazy::new(|| {
        pattern(concat!(
            r"(?i:\b(?:mein name ist|ich heiße|ich heisse|my name is|my name's|i am called|this is|hier spricht|hier ist|namens|named|name:|name ist|vorname:|nachname:|surname:|full name:|patient(?:in)?:)) {0,2}(?P<name>",
            name!(),
            r")"
        ))
    });
    static GREETED: Lazy = Lazy::new(|| {
        pattern(concat!(
            r"(?m)(?:^|[.!?:\n„“]\s{0,3})(?:Hallo|Hi|Hey|Lieber|Liebe|Dear|Hello|Servus|Moin|Guten (?:Tag|Morgen|Abend)) (?P<name>",
            name!(),
            r")\s?[,!]"
        ))
    });
    static SIGNED: Lazy = Lazy::new(|| {
        pattern(concat!(
            r"(?i:grüßen?|gruß|grüsse|gruss|regards|sincerely|best wishes|cheers|yours|vg|lg|mfg),?[ \t]*\n{1,3}[ \t]*(?P<name>",
            name!(),
            r")"
        ))
    });
    push_names(text, &INTRODUCED, spans);
    if text.contains([',', '!']) {
        push_names(text, &GREETED, spans);
    }
    if text.contains('\n') {
        push_names(text, &SIGNED, spans);
    }
}

/// Words that a person's name follows, where one follows with first name or initial.
fn in_a_role(text: &str, spans: &mut Vec<Span>) {
    static ROLE: Lazy = Lazy::new(|| {
        pattern(concat!(
            r"\b(?:Kunden?|Kundin|Mitarbeiterin|Mitarbeiters?|Bewerberin|Bewerbers?|Patientin|Patienten?|Anruferin|Anrufers?|Kontoinhaber(?:in)?|Fahrzeughalter(?:in)?|Notfallkontakt|Ansprechpartner(?:in)?|Lieferadresse|Rechnungsadresse|Empfänger(?:in)?|Absender(?:in)?|Bewerbung von|Gehaltsabrechnung von|Kündigung von|Abmahnung (?:für|gegen|von)|Gespräch mit|ausgestellt auf|Antwort an|Zeugnis (?:für|von)|Arbeitsvertrag (?:für|mit|von)|Krankmeldung von|Personalakte (?:von|für)|nummer von|Mieter(?:in)?|Schüler(?:in)?|Inhaber(?:in)?|Azubi|Betreff",
            r"|[Cc]ustomer|[Ee]mployee|[Aa]pplicant|[Pp]atient|[Cc]aller|[Aa]ccount holder|[Ee]mergency contact|[Dd]elivery address|[Bb]illing address|[Ii]ssued to|[Rr]eply to|[Cc]onversation with|[Cc]all with|[Mm]eeting with|belongs to|[Tt]enant|[Cc]ontact|[Rr]eport of|[Ll]etter for|[Cc]ontract for|[Cc]ardholder|[Pp]ayslip of|[Ss]alary of|[Cc]olleague)",
            r"(?::|,| ist| is)? {0,2}(?P<name>",
            name!(),
            r")"
        ))
    });
    for captures in ROLE.captures_iter(text) {
        let Some(name) = captures.name("name") else { continue };
        // One word alone behind a role is as likely a firm or a thing (`Kunde Siemens`).
        let words = name.as_str().split([' ', '\u{a0}']).count();
        let first = name.as_str().split([' ', '\u{a0}']).next().unwrap_or_default();
        let is_person = words >= 2 && (is_first_name(first) || first.ends_with('.'));
        if is_person {
            push_name(text, name.start(), name.end(), spans);
        }
    }
}

/// Whether a sentence says something of someone that is said of private people.
fn speaks_of_a_person(text: &str) -> bool {
    static SAID: Lazy = Lazy::new(|| {
        pattern(concat!(
            r"(?i)verdient|gehalt|krank|kündigung|abmahn|bewerb|bewirbt|personalakte|mitarbeiter|kolleg|lohn|arbeitsvertrag|arbeitszeugnis|urlaubsantrag|beförder|schwanger|behinder|elternzeit|gegen uns|zeugnis|gespräch mit|gestohlen|beschwert|protokoll",
            r"|salary|\bearns\b|employee|dismiss|applied|sick leave|medical|payroll|colleague|disciplin|warning letter|pregnan|filed against us|appraisal|complain|meeting with|call with|works for us"
        ))
    });
    SAID.is_match(text)
}

fn first_names(text: &str, spans: &mut Vec<Span>) {
    static PAIR: Lazy = Lazy::new(|| pattern(concat!(r"\b(?P<name>", name!(), r")")));
    for captures in PAIR.captures_iter(text) {
        let Some(name) = captures.name("name") else { continue };
        let mut start = name.start();
        // `Kunde Anna Krüger`: the first words may only be nouns; begin with the first name.
        for word in name.as_str().split_inclusive([' ', '\u{a0}']) {
            let bare = word.trim_end();
            let is_initial = bare.ends_with('.') && bare.chars().count() <= 4;
            let is_title = matches!(bare, "Dr." | "Prof." | "Dr" | "Prof");
            if is_first_name(bare) || is_title || (is_initial && start > 0) {
                break;
            }
            start += word.len();
        }
        let rest = &text[start..name.end()];
        if rest.contains([' ', '\u{a0}']) && start < name.end() && !is_about_the_world(text, start)
        {
            push_name(text, start, name.end(), spans);
        }
    }
}

/// `Who is …`, `Wer war …`: a question about someone whom everyone may know.
fn is_about_the_world(text: &str, start: usize) -> bool {
    let context = before(text, start, 14);
    ["who is ", "who was ", "wer ist ", "wer war "].iter().any(|end| context.ends_with(end))
}

fn push_names(text: &str, pattern: &Lazy, spans: &mut Vec<Span>) {
    for captures in pattern.captures_iter(text) {
        if let Some(name) = captures.name("name") {
            push_name(text, name.start(), name.end(), spans);
        }
    }
}

/// Cuts what is no name from the end and takes the rest, if anything is left.
fn push_name(text: &str, start: usize, end: usize, spans: &mut Vec<Span>) {
    let words: Vec<&str> = text[start..end].split_inclusive([' ', '\u{a0}']).collect();
    let mut kept = 0;
    let mut length = 0;
    for word in words {
        let bare = word.trim_end();
        if is_no_name(bare) {
            break;
        }
        kept += word.len();
        length = kept - (word.len() - bare.len());
    }
    let name = &text[start..start + length];
    let is_word =
        after(text, start + length, 4).chars().next().is_none_or(|c| !c.is_alphanumeric());
    let has_body = name.split([' ', '.']).any(|word| {
        word.chars().count() >= 2 && !matches!(word, "Dr" | "Prof" | "von" | "van" | "de")
    });
    if is_word && has_body && !says(name, &["  "]) {
        spans.push(Span { kind: Kind::Person, start, end: start + length });
    }
}

fn says_exactly(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

/// Words with a capital that follow a title or a greeting and are no name.
fn is_no_name(word: &str) -> bool {
    const WORDS: &[&str] = &[
        "Doktor",
        "Professor",
        "Direktor",
        "Präsident",
        "Minister",
        "Kollegen",
        "Kolleginnen",
        "Team",
        "Zusammen",
        "Alle",
        "Leute",
        "Welt",
        "World",
        "All",
        "Everyone",
        "Everybody",
        "Sir",
        "Madam",
        "Customer",
        "Kunde",
        "Kunden",
        "Chat",
        "There",
        "Bitte",
        "Ich",
        "Wir",
        "Sie",
        "Der",
        "Die",
        "Das",
        "Ein",
        "Eine",
        "Und",
        "Oder",
        "Hat",
        "Ist",
        "Am",
        "Im",
        "In",
        "Für",
        "Von",
        "Mit",
        "The",
        "A",
        "An",
        "And",
        "Or",
        "Is",
        "Please",
        "My",
        "Your",
        "Our",
        "This",
        "That",
        "I",
        "You",
        "We",
        "Herr",
        "Frau",
        "Mr",
        "Mrs",
        "Ms",
        "Damen",
        "Herren",
        "Monday",
        "Montag",
        "Dienstag",
        "Mittwoch",
        "Donnerstag",
        "Freitag",
        "Samstag",
        "Sonntag",
        "Januar",
        "Februar",
        "März",
        "April",
        "Mai",
        "Juni",
        "Juli",
        "August",
        "September",
        "Oktober",
        "November",
        "Dezember",
        "January",
        "February",
        "March",
        "May",
        "June",
        "July",
        "October",
        "December",
        "GmbH",
        "AG",
        "KG",
        "Telefon",
        "Tel",
        "Email",
        "Mail",
        "Straße",
        "Street",
        "Steuer",
        "IBAN",
        "Kennzeichen",
        "Anschrift",
        "Adresse",
        "Hallo",
        "Assistant",
        "Assistent",
        "ChatGPT",
        "Claude",
        "Bot",
        "Gott",
        "Holle",
        "Nr",
        "What",
        "How",
        "Why",
        "Can",
        "Could",
        "Was",
        "Wie",
        "Kannst",
    ];
    WORDS.contains(&word)
}

fn is_first_name(word: &str) -> bool {
    static NAMES: LazyLock<HashSet<&'static str>> =
        LazyLock::new(|| include_str!("first_names.txt").split_whitespace().collect());
    let first = word.split('-').next().unwrap_or(word);
    NAMES.contains(word) || NAMES.contains(first)
}
