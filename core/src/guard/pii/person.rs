//! Names of people, as far as rules can tell them from other words with a capital.
//!
//! A title (`Frau Demir`), an introduction (`mein Name ist …`), a greeting or a role
//! (`Kontoinhaber: …`) gives a name away. A first name with a surname counts only where the text
//! already speaks of a private person: who asks about Angela Merkel asks about the world.

use std::collections::HashSet;
use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use crate::guard::kind::Kind;
use crate::guard::pii::{Lazy, Shape, Span, after, before, ends_inside_word, pattern, says};

/// A name: one to four words with a capital, initials and particles among them.
macro_rules! name {
    () => {
        r"(?:(?:Dr|Prof)\.? (?:(?:med|jur|rer|nat|phil|h\. ?c|Ing)\.? ){0,3})?(?:(?:[A-ZÀ-ÖØ-ÞŁŚŻČŘŠŽŞİĞ][a-zß-öø-ÿąćčďęěğıłńňřśşšťůżźž'’]+(?:-[A-ZÀ-ÖØ-ÞŁŚŻČŘŠŽŞİĞ][a-zß-öø-ÿąćčďęěğıłńňřśşšťůżźž]+)?|[A-ZÀ-ÖØ-ÞŁŚŻČŘŠŽŞİĞ]\.(?:-?[A-ZÀ-ÖØ-ÞŁŚŻČŘŠŽŞİĞ]\.)?|von der|van der|van den|von|van|de|da|di|zu|el|al|bin|O'[A-ZÀ-ÖØ-ÞŁŚŻČŘŠŽŞİĞ][a-zß-öø-ÿąćčďęěğıłńňřśşšťůżźž]+|Mc[A-ZÀ-ÖØ-ÞŁŚŻČŘŠŽŞİĞ][a-zß-öø-ÿąćčďęěğıłńňřśşšťůżźž]+)[ \u{a0}]){0,3}(?:[A-ZÀ-ÖØ-ÞŁŚŻČŘŠŽŞİĞ][a-zß-öø-ÿąćčďęěğıłńňřśşšťůżźž'’]+(?:-[A-ZÀ-ÖØ-ÞŁŚŻČŘŠŽŞİĞ][a-zß-öø-ÿąćčďęěğıłńňřśşšťůżźž]+)?|O['’][A-ZÀ-ÖØ-ÞŁŚŻČŘŠŽŞİĞ][a-zß-öø-ÿąćčďęěğıłńňřśşšťůżźž]+|Mc[A-ZÀ-ÖØ-ÞŁŚŻČŘŠŽŞİĞ][a-zß-öø-ÿąćčďęěğıłńňřśşšťůżźž]+)"
    };
}

/// What stands before a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trigger {
    /// `Frau`, `Mr`: one capital word is enough.
    Title,
    /// `Dr.`: belongs to the name.
    Doctor,
    /// `my name is`: one capital word is enough.
    Introduction,
    /// `Dear`, at the beginning of a line; a comma must follow the name.
    Greeting,
    /// `Regards`, and the name on the next line.
    SignOff,
    /// `Kontoinhaber`: a first name or initial and a surname must follow.
    Role,
}

/// Words before a name, in lower case; a name is only looked for behind one of them.
const TRIGGERS: &[(Trigger, &[&str])] = &[
    (
        Trigger::Title,
        &[
            "herr",
            "herrn",
            "frau",
            "fräulein",
            "hr.",
            "fr.",
            "mr",
            "mr.",
            "mrs",
            "mrs.",
            "ms",
            "ms.",
            "miss",
            "mx.",
            "sir",
            "madam",
            "kollegin",
            "kollege",
            "kollegen",
        ],
    ),
    (Trigger::Doctor, &["dr.", "dr", "prof.", "prof"]),
    (
        Trigger::Introduction,
        &[
            "mein name ist",
            "ich heiße",
            "ich heisse",
            "my name is",
            "my name's",
            "i am called",
            "this is",
            "hier spricht",
            "hier ist",
            "namens",
            "named",
            "name:",
            "name ist",
            "vorname:",
            "nachname:",
            "surname:",
            "full name:",
            "patient:",
            "patientin:",
        ],
    ),
    (
        Trigger::Greeting,
        &[
            "hallo",
            "hi",
            "hey",
            "lieber",
            "liebe",
            "dear",
            "hello",
            "servus",
            "moin",
            "guten tag",
            "guten morgen",
            "guten abend",
        ],
    ),
    (
        Trigger::SignOff,
        &[
            "grüßen",
            "grüße",
            "gruß",
            "grüsse",
            "grüssen",
            "gruss",
            "regards",
            "sincerely",
            "best wishes",
            "cheers",
            "yours",
            "vg",
            "lg",
            "mfg",
        ],
    ),
    (
        Trigger::Role,
        &[
            "kunde",
            "kunden",
            "kundin",
            "mitarbeiter",
            "mitarbeiters",
            "mitarbeiterin",
            "bewerber",
            "bewerbers",
            "bewerberin",
            "patient",
            "patienten",
            "patientin",
            "anrufer",
            "anruferin",
            "anrufers",
            "kontoinhaber",
            "kontoinhaberin",
            "fahrzeughalter",
            "fahrzeughalterin",
            "notfallkontakt",
            "ansprechpartner",
            "ansprechpartnerin",
            "lieferadresse",
            "rechnungsadresse",
            "empfänger",
            "empfängerin",
            "absender",
            "absenderin",
            "bewerbung von",
            "gehaltsabrechnung von",
            "kündigung von",
            "kündigung für",
            "abmahnung für",
            "abmahnung gegen",
            "abmahnung von",
            "gespräch mit",
            "ausgestellt auf",
            "antwort an",
            "zeugnis für",
            "zeugnis von",
            "arbeitsvertrag für",
            "arbeitsvertrag mit",
            "krankmeldung von",
            "personalakte von",
            "nummer von",
            "mieter",
            "mieterin",
            "schüler",
            "schülerin",
            "inhaber",
            "inhaberin",
            "azubi",
            "customer",
            "employee",
            "applicant",
            "caller",
            "account holder",
            "emergency contact",
            "delivery address",
            "billing address",
            "issued to",
            "reply to",
            "conversation with",
            "call with",
            "meeting with",
            "belongs to",
            "tenant",
            "contact",
            "report of",
            "letter for",
            "contract for",
            "cardholder",
            "payslip of",
            "salary of",
            "colleague",
        ],
    ),
];

static FINDER: LazyLock<Option<(AhoCorasick, Vec<Trigger>)>> = LazyLock::new(|| {
    let words: Vec<(&str, Trigger)> = TRIGGERS
        .iter()
        .flat_map(|(trigger, words)| words.iter().map(|word| (*word, *trigger)))
        .collect();
    let finder = AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .match_kind(aho_corasick::MatchKind::LeftmostLongest)
        .build(words.iter().map(|(word, _)| word))
        .ok()?;
    Some((finder, words.into_iter().map(|(_, trigger)| trigger).collect()))
});

/// Looks for names. `before_people`: other personal data was found, so the text is about people.
/// `spare_known`: people whom everyone may know are left out where no word says that they are of
/// here.
pub(super) fn find(
    text: &str,
    shape: Shape,
    before_people: bool,
    spare_known: bool,
    spans: &mut Vec<Span>,
) {
    if shape.capitals < 1 {
        return;
    }
    let known = spans.len();
    behind_triggers(text, spans);
    let about_people = before_people || spans.len() > known;
    if shape.capitals >= 2 {
        let about_people = about_people || speaks_of_a_person(text);
        first_names(text, about_people, spare_known, spans);
    }
}

fn behind_triggers(text: &str, spans: &mut Vec<Span>) {
    let Some((finder, triggers)) = FINDER.as_ref() else { return };
    for hit in finder.find_iter(text) {
        let goes_on = ends_inside_word(text, hit.start()) || ends_inside_word(text, hit.end());
        if goes_on && !text[hit.start()..hit.end()].ends_with("nummer von") {
            continue;
        }
        let trigger = triggers[hit.pattern().as_usize()];
        if let Some((start, end)) = name_behind(text, hit.start(), hit.end(), trigger) {
            push_name(text, start, end, spans);
        }
    }
}

/// The name behind a trigger, if what stands there is one.
fn name_behind(
    text: &str,
    before: usize,
    after: usize,
    trigger: Trigger,
) -> Option<(usize, usize)> {
    let begins_capital = text[before..].chars().next().is_some_and(char::is_uppercase);
    match trigger {
        Trigger::Doctor => begins_capital.then(|| name_at(text, before)).flatten(),
        Trigger::Title => {
            let start = skip(text, after, &[' ', '\u{a0}'], 1)?;
            begins_capital.then(|| name_at(text, start)).flatten()
        }
        Trigger::Introduction => name_at(text, skip(text, after, &[' '], 2).unwrap_or(after)),
        Trigger::Greeting => {
            let line = text[..before].trim_end_matches([' ', '\t', '„', '“', '"']);
            let begins = line.is_empty() || line.ends_with(['\n', '.', '!', '?', ':']);
            let (start, end) = name_at(text, skip(text, after, &[' '], 1)?)?;
            let is_called = text[end..].trim_start_matches(' ').starts_with([',', '!']);
            (begins && is_called).then_some((start, end))
        }
        Trigger::SignOff => {
            let rest = text[after..].trim_start_matches([',', ' ', '\t', '\r']);
            let line = rest.trim_start_matches(['\n', '\r', ' ', '\t']);
            let is_next_line = rest.starts_with('\n');
            is_next_line.then(|| name_at(text, text.len() - line.len())).flatten()
        }
        Trigger::Role => {
            let rest = text[after..].trim_start_matches([':', ',']);
            let rest = rest.strip_prefix(" ist").or(rest.strip_prefix(" is")).unwrap_or(rest);
            let rest = rest.trim_start_matches(' ');
            let (start, end) = name_at(text, text.len() - rest.len())?;
            let mut words = text[start..end].split([' ', '\u{a0}']);
            let first = words.next().unwrap_or_default();
            let is_person = is_first_name(first) || first.ends_with('.');
            (is_person && words.next().is_some()).then_some((start, end))
        }
    }
}

/// Behind at least one of these characters and at most so many.
fn skip(text: &str, at: usize, characters: &[char], at_most: usize) -> Option<usize> {
    let rest = &text[at..];
    let skipped: usize =
        rest.chars().take(at_most).take_while(|c| characters.contains(c)).map(char::len_utf8).sum();
    (skipped > 0).then_some(at + skipped)
}

/// A name that begins exactly here.
fn name_at(text: &str, at: usize) -> Option<(usize, usize)> {
    static NAME: Lazy = Lazy::new(|| pattern(concat!("^", name!())));
    // No name is longer, and the pattern need not look further.
    let mut to = (at + 96).min(text.len());
    while !text.is_char_boundary(to) {
        to -= 1;
    }
    NAME.find(&text[at..to]).map(|hit| (at, at + hit.end()))
}

/// Whether a sentence says something of someone that is said of private people.
fn speaks_of_a_person(text: &str) -> bool {
    static SAID: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
        AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build([
                "verdient",
                "gehalt",
                "krank",
                "kündigung",
                "abmahn",
                "bewerb",
                "bewirbt",
                "personalakte",
                "mitarbeiter",
                "kolleg",
                "lohn ",
                "arbeitsvertrag",
                "urlaubsantrag",
                "beförder",
                "schwanger",
                "behinder",
                "elternzeit",
                "gegen uns",
                "zeugnis",
                "gespräch mit",
                "gestohlen",
                "beschwert",
                "protokoll",
                "salary",
                " earns ",
                "employee",
                "dismiss",
                "applied",
                "sick leave",
                "medical",
                "payroll",
                "colleague",
                "disciplin",
                "warning letter",
                "pregnan",
                "filed against us",
                "appraisal",
                "complain",
                "meeting with",
                "call with",
                "works for us",
            ])
            .ok()
    });
    SAID.as_ref().is_none_or(|said| said.is_match(text))
}

/// A first name with a surname that is known as one, or with any word where the text is about
/// people anyway, in English, or where the two stand alone in their line; an initial with a
/// surname where the text is about people; a first name before a colon, as chats begin lines.
fn first_names(text: &str, about_people: bool, spare_known: bool, spans: &mut Vec<Span>) {
    let mut from = 0;
    let is_english = is_english(text);
    for word in
        text.split_inclusive(|c: char| !c.is_alphanumeric() && !matches!(c, '-' | '.' | '\''))
    {
        let at = from;
        from += word.len();
        let bare = word.trim_end_matches(|c: char| !c.is_alphanumeric() && c != '.');
        if !bare.chars().next().is_some_and(char::is_uppercase) {
            continue;
        }
        let is_initial = bare.ends_with('.') && bare.chars().count() == 2;
        if !(is_first_name(bare) || (is_initial && about_people)) || is_about_the_world(text, at) {
            continue;
        }
        let Some((start, end)) = name_at(text, at) else { continue };
        let words: Vec<&str> = text[start..end].split([' ', '\u{a0}']).collect();
        let [_, .., last] = words.as_slice() else {
            if speaks_in_a_chat(text, start, end) {
                push_name(text, start, end, spans);
            }
            continue;
        };
        if spare_known && super::is_known_to_all(&text[start..end]) {
            continue;
        }
        let is_sure = about_people || is_surname(last) || alone_in_line(text, start, end);
        if is_sure || (is_english && !is_ambiguous(bare)) {
            push_name(text, start, end, spans);
        }
    }
}

/// Whether a text reads as English, where a capital inside a sentence is a name.
fn is_english(text: &str) -> bool {
    const WORDS: [&str; 8] = [" the ", " is ", " and ", " to ", " of ", " my ", " has ", " with "];
    let has = |word: &&str| text.contains(*word);
    WORDS.iter().filter(|word| has(word)).count() >= 2 && !text.contains(" der ")
}

/// Whether nothing else stands in the line: signatures and address blocks.
fn alone_in_line(text: &str, start: usize, end: usize) -> bool {
    let left = text[..start].trim_end_matches([' ', '\t', '>', '|', '*', '-', '•']);
    let right = text[end..].trim_start_matches([' ', '\t', '\r', ',', '|', '*']);
    let is_line = |beside: &str, edge: Option<char>| beside.is_empty() || edge == Some('\n');
    is_line(left, left.chars().next_back())
        && is_line(right, right.chars().next())
        && text.contains('\n')
}

/// `Nicole: kommst du mit?`
fn speaks_in_a_chat(text: &str, start: usize, end: usize) -> bool {
    let begins = text[..start].trim_end_matches([' ', '\t', ']']).ends_with('\n') || start == 0;
    begins && text[end..].starts_with(':') && text.contains('\n')
}

/// A surname of the list, or one that ends as surnames do and other words do not.
fn is_surname(word: &str) -> bool {
    static NAMES: LazyLock<HashSet<&'static str>> =
        LazyLock::new(|| include_str!("last_names.txt").split_whitespace().collect());
    const ENDINGS: &[&str] = &[
        "ski", "ska", "cki", "czyk", "wicz", "vić", "ić", "ović", "ovic", "enko", "opoulos",
        "akis", "idis", "oğlu", "oglu", "yan", "ová", "sson", "sen", "ssen", "ez", "inho", "elli",
        "etti", "ini", "mann", "meier", "meyer", "mayer", "maier", "huber", "bauer", "berger",
        "inger", "iev", "ova", "eva", "ow", "ov", "quist", "ström", "escu", "nen", "shvili",
    ];
    let last = word.rsplit('-').next().unwrap_or(word);
    let long = last.chars().count() >= 5;
    NAMES.contains(last) || (long && ENDINGS.iter().any(|ending| last.ends_with(ending)))
}

/// First names that are words too: two capitals beside them prove nothing.
fn is_ambiguous(word: &str) -> bool {
    const WORDS: &[&str] = &[
        "April",
        "May",
        "June",
        "Will",
        "Mark",
        "Rose",
        "Grace",
        "Hope",
        "Joy",
        "Faith",
        "Summer",
        "Autumn",
        "Ivy",
        "Ruby",
        "Grant",
        "Chase",
        "Hunter",
        "Mason",
        "Can",
        "Art",
        "Dean",
        "Miles",
        "Drew",
        "Amber",
        "Daisy",
        "Poppy",
        "Virginia",
        "Victoria",
        "Madison",
        "Charlotte",
        "Sofia",
        "Paris",
        "Florence",
        "Jordan",
        "Chelsea",
        "Georgia",
        "Christian",
        "Max",
        "San",
        "Long",
        "Nur",
        "Hao",
        "Roman",
        "August",
        "Ernst",
        "Frank",
        "Wolf",
        "Gloria",
        "Reading",
        "Van",
        "Santa",
        "Saint",
        "Nam",
        "Mai",
        "Fang",
        "Gül",
        "Deniz",
        "Barış",
        "Bill",
        "Penny",
    ];
    WORDS.contains(&word)
}

/// `Who is …`, `Wer war …`: a question about someone whom everyone may know.
fn is_about_the_world(text: &str, start: usize) -> bool {
    let context = before(text, start, 14);
    ["who is ", "who was ", "wer ist ", "wer war "].iter().any(|end| context.ends_with(end))
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
    // `Timo Hoffmann von der (Firma)`: what is left of a cut are particles.
    while let Some(shorter) =
        PARTICLES.iter().find_map(|particle| text[start..start + length].strip_suffix(particle))
    {
        length = shorter.len();
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

/// Words that stand before a surname and end no name.
const PARTICLES: &[&str] = &[
    " von der", " van der", " van den", " von", " van", " de", " da", " di", " zu", " el", " al",
    " bin",
];

/// Words with a capital that follow a title or a greeting and are no name.
fn is_no_name(word: &str) -> bool {
    const WORDS: &[&str] = &[
        "Firma",
        "Abteilung",
        "Agentur",
        "Bank",
        "Behörde",
        "Buchhaltung",
        "Gemeinde",
        "Gesellschaft",
        "Kanzlei",
        "Personalabteilung",
        "Polizei",
        "Praxis",
        "Presse",
        "Schule",
        "Stadt",
        "Uni",
        "Universität",
        "Versicherung",
        "Verwaltung",
        "Werkstatt",
        "Zentrale",
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
