//! Check digits, by the rules of those who issue the numbers.
//!
//! Pure arithmetic on letters and digits that stand without separators.

/// ISO 13616: lengths of an IBAN by country, from the SWIFT registry.
const IBAN_LENGTHS: &[(&str, usize)] = &[
    ("AD", 24),
    ("AE", 23),
    ("AL", 28),
    ("AT", 20),
    ("AZ", 28),
    ("BA", 20),
    ("BE", 16),
    ("BG", 22),
    ("BH", 22),
    ("BI", 27),
    ("BR", 29),
    ("BY", 28),
    ("CH", 21),
    ("CR", 22),
    ("CY", 28),
    ("CZ", 24),
    ("DE", 22),
    ("DJ", 27),
    ("DK", 18),
    ("DO", 28),
    ("EE", 20),
    ("EG", 29),
    ("ES", 24),
    ("FI", 18),
    ("FK", 18),
    ("FO", 18),
    ("FR", 27),
    ("GB", 22),
    ("GE", 22),
    ("GI", 23),
    ("GL", 18),
    ("GR", 27),
    ("GT", 28),
    ("HR", 21),
    ("HU", 28),
    ("IE", 22),
    ("IL", 23),
    ("IQ", 23),
    ("IS", 26),
    ("IT", 27),
    ("JO", 30),
    ("KW", 30),
    ("KZ", 20),
    ("LB", 28),
    ("LC", 32),
    ("LI", 21),
    ("LT", 20),
    ("LU", 20),
    ("LV", 21),
    ("LY", 25),
    ("MC", 27),
    ("MD", 24),
    ("ME", 22),
    ("MK", 19),
    ("MN", 20),
    ("MR", 27),
    ("MT", 31),
    ("MU", 30),
    ("NI", 28),
    ("NL", 18),
    ("NO", 15),
    ("OM", 23),
    ("PK", 24),
    ("PL", 28),
    ("PS", 29),
    ("PT", 25),
    ("QA", 29),
    ("RO", 24),
    ("RS", 22),
    ("RU", 33),
    ("SA", 24),
    ("SC", 31),
    ("SD", 18),
    ("SE", 24),
    ("SI", 19),
    ("SK", 24),
    ("SM", 27),
    ("SO", 23),
    ("ST", 25),
    ("SV", 28),
    ("TL", 23),
    ("TN", 24),
    ("TR", 26),
    ("UA", 29),
    ("VA", 22),
    ("VG", 24),
    ("XK", 20),
    ("YE", 30),
];

/// How many characters an IBAN of this country has.
pub fn iban_length(country: &str) -> Option<usize> {
    IBAN_LENGTHS.iter().find(|(code, _)| *code == country).map(|(_, length)| *length)
}

/// ISO 7064 mod 97-10, as IBANs use it.
pub fn iban(compact: &str) -> bool {
    if compact.len() < 15 || !compact.is_ascii() {
        return false;
    }
    let (head, tail) = compact.split_at(4);
    let mut remainder = 0_u32;
    for c in tail.chars().chain(head.chars()) {
        let Some(value) = c.to_digit(36) else { return false };
        remainder = if value < 10 { remainder * 10 + value } else { remainder * 100 + value } % 97;
    }
    remainder == 1
}

/// Luhn's sum, as payment cards use it.
pub fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let value = u32::from(*digit);
            let doubled = if place % 2 == 1 { value * 2 } else { value };
            if doubled > 9 { doubled - 9 } else { doubled }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// ISO 7064 mod 11,10, as the German tax id and VAT id use it; the last digit checks the others.
pub fn mod_11_10(digits: &[u8]) -> bool {
    let Some((check, rest)) = digits.split_last() else { return false };
    let mut product = 10_u32;
    for digit in rest {
        let sum = match (u32::from(*digit) + product) % 10 {
            0 => 10,
            sum => sum,
        };
        product = sum * 2 % 11;
    }
    let expected = match 11 - product {
        10 => 0,
        other => other % 10,
    };
    u32::from(*check) == expected
}

/// The German tax id: eleven digits, no leading zero, among the first ten exactly one digit two
/// or three times, and the check digit.
pub fn tax_id(digits: &[u8]) -> bool {
    if digits.len() != 11 || digits[0] == 0 {
        return false;
    }
    let mut counts = [0_u8; 10];
    for digit in &digits[..10] {
        counts[usize::from(*digit % 10)] += 1;
    }
    let repeated = counts.iter().filter(|count| **count > 1).count();
    let most = counts.iter().max().copied().unwrap_or_default();
    repeated == 1 && most <= 3 && mod_11_10(digits)
}

/// The German pension insurance number, `65 070649 J 003` without spaces: the letter counts as
/// two digits, every digit is weighed, cross sums are added.
pub fn pension_insurance(compact: &str) -> bool {
    const WEIGHTS: [u32; 12] = [2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1];
    let Some((digits, check)) = with_letter_as_digits(compact, 8, 12) else { return false };
    let sum: u32 =
        digits.iter().zip(WEIGHTS).map(|(digit, weight)| cross_sum(digit * weight)).sum();
    sum % 10 == check
}

/// The German health insurance number, `A123456780`.
pub fn health_insurance(compact: &str) -> bool {
    let Some((digits, check)) = with_letter_as_digits(compact, 0, 10) else { return false };
    let weights = [1_u32, 2].into_iter().cycle();
    let sum: u32 =
        digits.iter().zip(weights).map(|(digit, weight)| cross_sum(digit * weight)).sum();
    sum % 10 == check
}

fn cross_sum(number: u32) -> u32 {
    number / 10 + number % 10
}

/// The digits before the last one, with the letter at `place` as its place in the alphabet in
/// two digits, and the last digit.
fn with_letter_as_digits(compact: &str, place: usize, length: usize) -> Option<(Vec<u32>, u32)> {
    if compact.len() != length {
        return None;
    }
    let mut digits = Vec::with_capacity(length + 1);
    for (at, c) in compact.chars().enumerate() {
        if at == place {
            let letter = u32::from(c).checked_sub(u32::from('A')).filter(|l| *l < 26)? + 1;
            digits.extend([letter / 10, letter % 10]);
        } else {
            digits.push(c.to_digit(10)?);
        }
    }
    let check = digits.pop()?;
    Some((digits, check))
}

/// ICAO 9303's check digit, as German identity cards and passports carry it at the end.
pub fn travel_document(compact: &str) -> bool {
    let values: Option<Vec<u32>> = compact.chars().map(|c| c.to_digit(36)).collect();
    let Some(values) = values.filter(|values| values.len() == 10) else { return false };
    let sum: u32 = values[..9].iter().zip([7, 3, 1].into_iter().cycle()).map(|(v, w)| v * w).sum();
    sum % 10 == values[9]
}
