//! Numbers that stand for a person, an account or a company.
//!
//! Most have a check digit (`checks`); those that have none, or are too short to be told from an
//! article number, need a word beside them that says what they are.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use crate::guard::kind::Kind;
use crate::guard::pii::{
    Lazy, Shape, Span, after, before, checks, ends_inside_word, pattern, says,
};

/// Looks for all of them.
pub(super) fn find(text: &str, shape: Shape, spans: &mut Vec<Span>) {
    if shape.digits >= 1 {
        plates(text, shape, spans);
        announced(text, spans);
    }
    if shape.digits >= 2 && shape.capitals >= 3 {
        register(text, spans);
    }
    if shape.digits >= 9 {
        long_digits(text, spans);
        lettered(text, spans);
    }
    if shape.digits >= 10 {
        ibans(text, spans);
    }
    if shape.digits + shape.colons >= 3 {
        network(text, shape, spans);
    }
    if shape.capitals >= 8 {
        bics(text, spans);
        machine_readable(text, spans);
    }
}

fn push(spans: &mut Vec<Span>, kind: Kind, start: usize, end: usize) {
    spans.push(Span { kind, start, end });
}

/// Whether a number stands alone: no letter, digit or number sign goes on with it.
fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    let goes_on = |c: char| c.is_alphanumeric() || c == '_';
    let left = text[..start].chars().next_back();
    let right = text[end..].chars().next();
    !left.is_some_and(goes_on) && !right.is_some_and(goes_on)
}

fn digits_of(text: &str) -> Vec<u8> {
    text.bytes().filter(u8::is_ascii_digit).map(|byte| byte - b'0').collect()
}

fn compact(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect()
}

/// An IBAN is read from its country's letters on, as many characters as the country has, with
/// single separators between them.
fn ibans(text: &str, spans: &mut Vec<Span>) {
    static BEGIN: Lazy = Lazy::new(|| pattern(r"(?i)[A-Z]{2}[ ]?[0-9]{2}[ \-\u{a0}]?[0-9A-Z]{2}"));
    let mut at = 0;
    while let Some(begin) = BEGIN.find_at(text, at) {
        at = begin.start() + 1;
        if ends_inside_word(text, begin.start()) {
            continue;
        }
        let country = text[begin.start()..begin.start() + 2].to_ascii_uppercase();
        let Some(length) = checks::iban_length(&country) else { continue };
        let Some(end) = end_of_characters(text, begin.start(), length) else { continue };
        let is_announced = says(&before(text, begin.start(), 24), &["iban", "konto", "account"]);
        let is_valid = checks::iban(&compact(&text[begin.start()..end]));
        if is_valid || (is_announced && !ends_inside_word(text, end)) {
            push(spans, Kind::Iban, begin.start(), end);
            at = end;
        }
    }
}

/// Where the n-th letter or digit from `start` on ends, if at most one separator stands between
/// any two.
fn end_of_characters(text: &str, start: usize, n: usize) -> Option<usize> {
    let (mut seen, mut separators) = (0, 0);
    for (offset, c) in text[start..].char_indices() {
        if c.is_ascii_alphanumeric() {
            seen += 1;
            separators = 0;
            if seen == n {
                return Some(start + offset + 1);
            }
        } else if matches!(c, ' ' | '-' | '\u{a0}' | '.') && separators == 0 {
            separators += 1;
        } else {
            return None;
        }
    }
    None
}

/// Cards, tax ids and their like: runs of digits, told apart by grouping and check digit.
fn long_digits(text: &str, spans: &mut Vec<Span>) {
    static RUN: Lazy = Lazy::new(|| {
        pattern(concat!(
            r"[0-9]{4}[ \-\u{a0}][0-9]{4}[ \-\u{a0}][0-9]{4}[ \-\u{a0}][0-9]{1,7}",
            r"|3[0-9]{3}[ \-][0-9]{6}[ \-][0-9]{5}",
            r"|[0-9]{2}[ \u{a0}][0-9]{3}[ \u{a0}][0-9]{3}[ \u{a0}][0-9]{3}",
            r"|[0-9]{3}-[0-9]{2}-[0-9]{4}",
            r"|[0-9]{2,3}/[0-9]{3}/[0-9]{4,5}",
            r"|[0-9]{10,19}",
        ))
    });
    for run in RUN.find_iter(text) {
        if !stands_alone(text, run.start(), run.end()) {
            continue;
        }
        let digits = digits_of(run.as_str());
        let context = before(text, run.start(), 48);
        if let Some(kind) = kind_of_run(run.as_str(), &digits, &context) {
            push(spans, kind, run.start(), run.end());
        }
    }
}

fn kind_of_run(run: &str, digits: &[u8], context: &str) -> Option<Kind> {
    const TAX: &[&str] = &["steuer", "idnr", "id-nr", "tax", "tin", "st.-nr", "stnr", "finanzamt"];
    let about_tax = says(context, TAX);
    if run.contains('/') {
        let is_grouped = run.len() >= 12 || about_tax;
        return is_grouped.then_some(Kind::TaxId);
    }
    if digits.len() == 9 && run.contains('-') {
        let area = u16::from(digits[0]) * 100 + u16::from(digits[1]) * 10 + u16::from(digits[2]);
        let is_issued = area != 0 && area != 666 && area < 900 && digits[5..] != [0, 0, 0, 0];
        return is_issued.then_some(Kind::SocialSecurity);
    }
    if digits.len() == 11 && (about_tax || (run.contains(' ') && checks::tax_id(digits))) {
        return Some(Kind::TaxId);
    }
    if (10..=13).contains(&digits.len()) && about_tax && !context.contains("betrag") {
        return Some(Kind::TaxId);
    }
    let begins_like_card = matches!(digits[0], 3..=6) || (digits[0] == 2 && digits.len() == 16);
    let is_card = (12..=19).contains(&digits.len()) && begins_like_card && checks::luhn(digits);
    let about_card = says(context, &["karte", "card", "visa", "mastercard", "amex"]);
    let is_long = (15..=16).contains(&digits.len());
    ((is_card && (is_long || about_card)) || (is_long && about_card && begins_like_card))
        .then_some(Kind::CreditCard)
}

/// Numbers with letters in them that carry a check digit.
fn lettered(text: &str, spans: &mut Vec<Span>) {
    static PENSION: Lazy =
        Lazy::new(|| pattern(r"[0-9]{2}[ \-]?[0-9]{6}[ \-]?[A-Z][ \-]?[0-9]{3}"));
    static HEALTH: Lazy = Lazy::new(|| pattern(r"[A-Z][ ]?[0-9]{3}[ ]?[0-9]{3}[ ]?[0-9]{3}"));
    static VAT: Lazy = Lazy::new(|| {
        pattern(
            r"(?:DE[ ]?[0-9]{3}[ ]?[0-9]{3}[ ]?[0-9]{3}|ATU[0-9]{8}|CHE-?[0-9]{3}[.]?[0-9]{3}[.]?[0-9]{3}|(?:BE0|FR[0-9A-Z]{2}|IT[0-9]{2}|LU|NL|PL|ES[A-Z0-9]|DK|SE[0-9]{2})[0-9]{8,9}B?[0-9]{0,2})",
        )
    });
    for hit in PENSION.find_iter(text).filter(|hit| stands_alone(text, hit.start(), hit.end())) {
        let is_announced = says(
            &before(text, hit.start(), 60),
            &["versicherung", "rvnr", "sv-n", "svnr", "rente"],
        );
        if is_announced || checks::pension_insurance(&compact(hit.as_str())) {
            push(spans, Kind::SocialSecurity, hit.start(), hit.end());
        }
    }
    for hit in HEALTH.find_iter(text).filter(|hit| stands_alone(text, hit.start(), hit.end())) {
        let words = &["versichert", "krankenkass", "kvnr", "gesundheitskarte", "insurance", "egk"];
        let is_announced = says(&before(text, hit.start(), 60), words);
        let is_tight = hit.len() == 10;
        if is_announced || (is_tight && checks::health_insurance(hit.as_str())) {
            push(spans, Kind::HealthInsurance, hit.start(), hit.end());
        }
    }
    for hit in VAT.find_iter(text).filter(|hit| stands_alone(text, hit.start(), hit.end())) {
        let is_announced = says(
            &before(text, hit.start(), 40),
            &["ust", "umsatzsteuer", "vat", "uid", "mwst", "tva"],
        );
        let digits = digits_of(hit.as_str());
        let is_valid = hit.as_str().starts_with("DE") && checks::mod_11_10(&digits);
        if is_announced || is_valid {
            push(spans, Kind::VatId, hit.start(), hit.end());
        }
    }
}

/// Numbers that only the word before them tells: `Ausweisnummer L01X00T47`.
fn announced(text: &str, spans: &mut Vec<Span>) {
    static ANNOUNCED: Lazy = Lazy::new(|| {
        pattern(concat!(
            r"(?i)\b(?:",
            r"(?P<id>(?:personal)?ausweis(?:nummer|[- ]?nr\.?|[- ]?no\.?)?|perso[- ]?nr\.?|identity card(?: number| no\.?)?|id[- ]card(?: number| no\.?)?|ausweis-?id)",
            r"|(?P<passport>reisepass(?:nummer|[- ]?nr\.?)?|pass(?:nummer|[- ]nr\.?)|passport(?: number| no\.?| nr\.?)?|passport-?id)",
            r"|(?P<tax>steuer-?(?:id(?:entifikationsnummer)?|nummer|nr\.?)|st\.?-?nr\.?|idnr\.?)",
            r"|(?P<social>sozialversicherungs(?:nummer|[- ]nr\.?)|rentenversicherungs(?:nummer|[- ]nr\.?)|sv-?nummer|social security(?: number| no\.?)?|ssn|national insurance(?: number| no\.?)?|nino)",
            r"|(?P<health>krankenversicher(?:ten|ungs)(?:nummer|[- ]nr\.?)|versichertennummer|kvnr|health insurance(?: number| no\.?)?)",
            r"|(?P<employee>personal(?:nummer|[- ]?nr\.?)|mitarbeiter(?:nummer|[- ]?nr\.?|[- ]?id)|employee (?:number|no\.?|id)|staff (?:number|id))",
            r")(?:\s{0,2}(?:lautet|ist|is|von [\p{L}.\- ]{2,40}|of [\p{L}.\- ]{2,40}|[:=#]|nr\.?|no\.?))?\s{0,2}[:=#]?\s{0,2}",
            r"(?P<value>[A-Z0-9](?:[ /\-]?[A-Z0-9]){3,17})",
        ))
    });
    static WORDS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
        AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build([
                "ausweis",
                "perso",
                "pass",
                "steuer",
                "st.-nr",
                "st-nr",
                "stnr",
                "st.nr",
                "idnr",
                "versicher",
                "sv-nummer",
                "svnummer",
                "ssn",
                "social sec",
                "national ins",
                "nino",
                "kvnr",
                "mitarbeiter",
                "employee",
                "staff",
                "identity card",
                "id card",
                "id-card",
                "health insurance",
            ])
            .ok()
    });
    if !WORDS.as_ref().is_none_or(|words| words.is_match(text)) {
        return;
    }
    for hit in ANNOUNCED.captures_iter(text) {
        let Some(value) = hit.name("value") else { continue };
        let kind = if hit.name("id").is_some() {
            Kind::IdCard
        } else if hit.name("passport").is_some() {
            Kind::Passport
        } else if hit.name("tax").is_some() {
            Kind::TaxId
        } else if hit.name("social").is_some() {
            Kind::SocialSecurity
        } else if hit.name("health").is_some() {
            Kind::HealthInsurance
        } else {
            Kind::EmployeeNumber
        };
        if let Some(end) = end_of_number(text, value.start(), value.end(), kind) {
            push(spans, kind, value.start(), end);
        }
    }
}

/// An announced number ends before the first group that has no digit: `L01X00T47 für Herrn`.
fn end_of_number(text: &str, start: usize, end: usize, kind: Kind) -> Option<usize> {
    let mut last = start;
    let mut at = start;
    for group in text[start..end].split_inclusive([' ', '/', '-']) {
        let group_end = at + group.trim_end_matches([' ', '/', '-']).len();
        let body = &text[at..group_end];
        let has_digit = body.bytes().any(|byte| byte.is_ascii_digit());
        let is_code = body.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
        let is_short_letter = body.len() == 1 && is_code && last > start;
        if !(is_code && (has_digit || is_short_letter || (last == start && body.len() >= 8))) {
            break;
        }
        last = group_end;
        at += group.len();
    }
    // The word must end with the number.
    let goes_on = text[last..].chars().next().is_some_and(char::is_alphanumeric);
    let body = &text[start..last];
    let digits = body.bytes().filter(u8::is_ascii_digit).count();
    let length = body.bytes().filter(u8::is_ascii_alphanumeric).count();
    let (shortest, least_digits) = match kind {
        Kind::EmployeeNumber => (4, 3),
        Kind::IdCard | Kind::Passport => (6, 1),
        _ => (8, 6),
    };
    (!goes_on && length >= shortest && digits >= least_digits).then_some(last)
}

/// `HRB 12345`, `HRA 987 B`.
fn register(text: &str, spans: &mut Vec<Span>) {
    static REGISTER: Lazy =
        Lazy::new(|| pattern(r"HR[AB][ -]?(?:Nr\.? ?)?[0-9]{2,6}(?: [A-Z]\b)?"));
    for hit in REGISTER.find_iter(text).filter(|hit| stands_alone(text, hit.start(), hit.end())) {
        push(spans, Kind::CommercialRegister, hit.start(), hit.end());
    }
}

/// A SWIFT code is eight or eleven capitals that could be any word; a word must announce it.
fn bics(text: &str, spans: &mut Vec<Span>) {
    static BIC: Lazy = Lazy::new(|| pattern(r"[A-Z]{6}[A-Z0-9]{2}(?:[A-Z0-9]{3})?"));
    for hit in BIC.find_iter(text).filter(|hit| stands_alone(text, hit.start(), hit.end())) {
        if says(&before(text, hit.start(), 16), &["bic", "swift"]) {
            push(spans, Kind::Bic, hit.start(), hit.end());
        }
    }
}

/// The lines at the foot of passports and cards.
fn machine_readable(text: &str, spans: &mut Vec<Span>) {
    static LINE: Lazy = Lazy::new(|| pattern(r"(?:P[A-Z<]|I[A-Z<])[A-Z0-9]{1,3}[A-Z0-9<]{20,40}"));
    for hit in LINE.find_iter(text).filter(|hit| hit.as_str().contains("<<")) {
        let kind = if hit.as_str().starts_with('P') { Kind::Passport } else { Kind::IdCard };
        push(spans, kind, hit.start(), hit.end());
    }
}

fn network(text: &str, shape: Shape, spans: &mut Vec<Span>) {
    static V4: Lazy = Lazy::new(|| pattern(r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}"));
    static MAC: Lazy = Lazy::new(|| pattern(r"(?i)[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}"));
    static V6: Lazy = Lazy::new(|| pattern(r"(?i)(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}"));
    if shape.digits >= 4 {
        for hit in V4.find_iter(text) {
            if is_v4(text, hit.start(), hit.end()) {
                push(spans, Kind::IpAddress, hit.start(), hit.end());
            }
        }
        for hit in MAC.find_iter(text).filter(|hit| stands_alone(text, hit.start(), hit.end())) {
            push(spans, Kind::MacAddress, hit.start(), hit.end());
        }
    }
    if shape.colons < 2 {
        return;
    }
    for hit in V6.find_iter(text).filter(|hit| stands_alone(text, hit.start(), hit.end())) {
        let is_address = hit.as_str().parse::<std::net::Ipv6Addr>();
        // `::` and `::1` are code, not somebody's address; few digits are `std::ab`.
        let digits = hit.as_str().bytes().filter(u8::is_ascii_hexdigit).count();
        if digits >= 5 && is_address.is_ok_and(|address| !address.is_loopback()) {
            push(spans, Kind::IpAddress, hit.start(), hit.end());
        }
    }
}

/// Four numbers with dots are an address unless a word says that they are a version or a
/// chapter; addresses that mean "this machine" or "anything" tell nothing.
fn is_v4(text: &str, start: usize, end: usize) -> bool {
    let goes_on = |c: char| c.is_alphanumeric() || c == '_';
    let left = text[..start].chars().next_back();
    if left.is_some_and(|c| goes_on(c) || c == '.') {
        return false;
    }
    let mut right = text[end..].chars();
    match (right.next(), right.next()) {
        (Some(c), _) if goes_on(c) => return false,
        (Some('.'), Some(c)) if c.is_ascii_digit() => return false,
        _ => {}
    }
    let Ok(address) = text[start..end].parse::<std::net::Ipv4Addr>() else { return false };
    if address.is_loopback() || address.is_unspecified() || address.octets()[0] == 255 {
        return false;
    }
    let context = before(text, start, 16);
    !says(
        &context,
        &[
            "version",
            "release",
            "kapitel",
            "abschnitt",
            "section",
            "chapter",
            "build",
            "ziffer",
            "punkt ",
        ],
    )
}

/// Cars. A German plate must begin with a district that exists, or be announced.
fn plates(text: &str, shape: Shape, spans: &mut Vec<Span>) {
    static GERMAN: Lazy = Lazy::new(|| pattern(r"[A-ZÄÖÜ]{1,3}[- ][A-Z]{1,2}[ -]?[0-9]{1,4}[EH]?"));
    static BRITISH: Lazy = Lazy::new(|| pattern(r"[A-Z]{2}[0-9]{2} ?[A-Z]{3}"));
    const WORDS: &[&str] = &[
        "kennzeichen",
        "auto",
        "wagen",
        "fahrzeug",
        "pkw",
        "lkw",
        "plate",
        "registration",
        " car",
        "vehicle",
        "license",
        "licence",
        "van ",
        "reg.",
    ];
    if shape.capitals < 2 {
        return;
    }
    for hit in GERMAN.find_iter(text).filter(|hit| stands_alone(text, hit.start(), hit.end())) {
        if text[..hit.start()].ends_with('-') {
            continue;
        }
        let is_announced = says(&before(text, hit.start(), 40), WORDS);
        let district: String = hit.as_str().chars().take_while(|c| c.is_alphabetic()).collect();
        let has_plate_form = hit.as_str()[district.len()..].starts_with('-')
            && hit.as_str()[district.len()..].contains(' ');
        let is_norm = hit.as_str().starts_with("DIN") || hit.as_str().contains("-EN ");
        let is_known = has_plate_form && !is_norm && DISTRICTS.contains(&district.as_str());
        let digits = hit.as_str().bytes().filter(u8::is_ascii_digit).count();
        if (is_announced && digits >= 1 && !is_norm) || (is_known && digits >= 2) {
            push(spans, Kind::LicensePlate, hit.start(), hit.end());
        }
    }
    for hit in BRITISH.find_iter(text).filter(|hit| stands_alone(text, hit.start(), hit.end())) {
        let beside = before(text, hit.start(), 40) + &after(text, hit.end(), 24);
        if says(&beside, WORDS) {
            push(spans, Kind::LicensePlate, hit.start(), hit.end());
        }
    }
}

/// Districts of German number plates: cities and the larger districts.
const DISTRICTS: &[&str] = &[
    "A", "AA", "AB", "AC", "AK", "AM", "AN", "AÖ", "AW", "AZ", "B", "BA", "BB", "BC", "BI", "BL",
    "BM", "BN", "BO", "BOR", "BOT", "BS", "BT", "BZ", "C", "CB", "CE", "CO", "CUX", "CW", "D",
    "DA", "DAH", "DAN", "DD", "DE", "DEG", "DGF", "DH", "DN", "DO", "DU", "DÜW", "DW", "E", "EA",
    "EBE", "ED", "EF", "EH", "EI", "EL", "EM", "EMD", "EN", "ER", "ERB", "ERH", "ERZ", "ES", "ESW",
    "EU", "F", "FB", "FD", "FDS", "FF", "FFB", "FG", "FL", "FN", "FO", "FR", "FRG", "FRI", "FS",
    "FT", "FÜ", "G", "GAP", "GE", "GER", "GF", "GG", "GI", "GL", "GM", "GÖ", "GP", "GR", "GRZ",
    "GS", "GT", "GTH", "GÜ", "GZ", "H", "HA", "HAL", "HAM", "HAS", "HB", "HBN", "HD", "HDH", "HE",
    "HEF", "HEI", "HER", "HF", "HG", "HGW", "HH", "HI", "HL", "HM", "HN", "HO", "HOL", "HOM", "HP",
    "HR", "HRO", "HS", "HSK", "HST", "HU", "HVL", "HX", "HZ", "IGB", "IK", "IN", "IZ", "J", "JL",
    "K", "KA", "KB", "KC", "KE", "KEH", "KF", "KG", "KH", "KI", "KIB", "KL", "KLE", "KN", "KO",
    "KR", "KS", "KT", "KU", "KÜN", "KUS", "KYF", "L", "LA", "LAU", "LB", "LD", "LDK", "LDS", "LER",
    "LEV", "LG", "LI", "LIF", "LIP", "LL", "LM", "LÖ", "LOS", "LU", "LWL", "M", "MA", "MB", "MD",
    "ME", "MEI", "MG", "MH", "MI", "MIL", "MK", "MKK", "MM", "MN", "MOL", "MOS", "MR", "MS", "MSP",
    "MST", "MTK", "MÜ", "MYK", "MZ", "MZG", "N", "NB", "ND", "NDH", "NE", "NEA", "NES", "NEW",
    "NF", "NI", "NK", "NM", "NMS", "NOH", "NOM", "NR", "NU", "NW", "NWM", "OA", "OAL", "OB", "OD",
    "OE", "OF", "OG", "OH", "OHA", "OHV", "OL", "OPR", "OS", "OSL", "P", "PA", "PAF", "PAN", "PB",
    "PE", "PF", "PI", "PIR", "PLÖ", "PM", "PN", "PR", "PS", "R", "RA", "RD", "RE", "REG", "RH",
    "RO", "ROW", "RP", "RPL", "RS", "RT", "RÜD", "RÜG", "RV", "RW", "RZ", "S", "SAD", "SAW", "SB",
    "SC", "SDL", "SE", "SG", "SHA", "SHG", "SI", "SIG", "SIM", "SK", "SL", "SLF", "SLS", "SM",
    "SN", "SO", "SOK", "SÖM", "SON", "SP", "SPN", "SR", "ST", "STA", "STD", "SU", "SÜW", "SW",
    "SZ", "TBB", "TF", "TIR", "TÖL", "TR", "TS", "TÜ", "TUT", "UE", "UL", "ULM", "UM", "UN", "UNH",
    "V", "VB", "VEC", "VER", "VG", "VIE", "VK", "VR", "VS", "W", "WAF", "WAK", "WB", "WE", "WEN",
    "WES", "WF", "WHV", "WI", "WIL", "WL", "WM", "WN", "WND", "WO", "WOB", "WT", "WÜ", "WUG",
    "WUN", "WW", "Z", "ZW",
];
