//! What stands beside names: companies, addresses, places, and numbers with valid check digits.
//!
//! Everything is invented but for well-known organisations, which everyone writes about.

use anyhow::Result;

use super::{Language, Pools, Random};

/// A company or an authority.
pub(super) fn company(
    form: &str,
    language: Language,
    pools: &Pools,
    random: &mut Random,
) -> Result<String> {
    if form == "court" {
        return Ok(format!("Amtsgericht {}", pools.draw("town.de", random)?));
    }
    let kind = match (form, random.below(100)) {
        ("known", _) | ("bare", 0..35) | ("", 0..10) => "known",
        ("gov", _) | ("", 10..18) => "public",
        ("bare", _) => "bare",
        _ => "with form",
    };
    if kind == "known" {
        return Ok(pools.draw("company.known", random)?.to_owned());
    }
    let is_german = language == Language::German;
    if kind == "public" {
        let (pool, towns) = match is_german {
            true => ("org.public.de", "town.de"),
            false => ("org.public.en", "town.en"),
        };
        let pattern = pools.draw(pool, random)?.to_owned();
        return Ok(pattern.replace("{t}", pools.draw(towns, random)?));
    }
    let origin = if is_german { "de" } else { "en" };
    let name = match random.below(10) {
        0..5 if is_german => pools.draw("company.coined", random)?.to_owned(),
        0..5 => pools.draw("company.en", random)?.to_owned(),
        5..8 => {
            let last = pools.draw(&format!("{origin}.last"), random)?.to_owned();
            format!("{last} {}", pools.draw(&format!("branch.{origin}"), random)?)
        }
        8 => {
            let last = pools.draw(&format!("{origin}.last"), random)?.to_owned();
            let other = pools.draw(&format!("{origin}.last"), random)?;
            format!("{last} & {other}")
        }
        _ => {
            let last = pools.draw(&format!("{origin}.last"), random)?.to_owned();
            let with = if is_german { "& Söhne" } else { "& Sons" };
            format!("{last} {with}")
        }
    };
    if kind == "bare" || random.percent(15) {
        // In speech the first word stands for the company.
        let short = name.split(' ').next().unwrap_or(&name);
        let is_clear = !short.starts_with("Die") && short.len() > 4;
        return Ok(if random.percent(40) && is_clear { short.to_owned() } else { name });
    }
    Ok(format!("{name} {}", pools.draw(&format!("form.{origin}"), random)?))
}

/// A street with its number; with the town unless the form is `s`; on two lines if it is `l`.
pub(super) fn address(
    form: &str,
    language: Language,
    pools: &Pools,
    random: &mut Random,
) -> Result<String> {
    let joint = match form {
        "l" => "\n",
        _ => random.choose(&[", ", ", ", ", ", " in ", "\n"]),
    };
    let abroad = random.percent(6);
    if abroad {
        let street = pools.draw("street.world", random)?.to_owned();
        let town = pools.draw(&format!("town.world.{}", language.code()), random)?;
        let number = random.between(1, 180);
        let first = if random.percent(50) {
            format!("{street} {number}")
        } else {
            format!("{number} {street}")
        };
        if form == "s" {
            return Ok(first);
        }
        let code = random.digits(5);
        return Ok(format!("{first}{joint}{code} {town}"));
    }
    match language {
        Language::German => german_address(form, joint, pools, random),
        Language::English => english_address(form, joint, pools, random),
    }
}

fn german_address(form: &str, joint: &str, pools: &Pools, random: &mut Random) -> Result<String> {
    if form != "s" && random.percent(4) {
        let box_number = format!("{} {}", random.between(10, 99), random.digits(2));
        let town = pools.draw("town.de", random)?;
        return Ok(format!("Postfach {box_number}{joint}{} {town}", postcode(random)));
    }
    let street = pools.draw("street.de", random)?.to_owned();
    let number = house_number(random);
    let first = format!("{street} {number}");
    if form == "s" {
        return Ok(first);
    }
    let floor = match random.below(20) {
        0 => ", 3. OG",
        1 => ", Hinterhaus",
        2 => " (Gebäude B)",
        _ => "",
    };
    let (code, town) = if random.percent(8) {
        let country = random.choose(&["", "", "A-", "CH-"]);
        (format!("{country}{}", random.between(1010, 9490)), pools.draw("town.at", random)?)
    } else {
        let country = if random.percent(5) { "D-" } else { "" };
        (format!("{country}{}", postcode(random)), pools.draw("town.de", random)?)
    };
    Ok(match random.below(12) {
        0 if form != "l" => format!("{first}{joint}{town}"),
        _ => format!("{first}{floor}{joint}{code} {town}"),
    })
}

fn postcode(random: &mut Random) -> String {
    format!("{:05}", random.between(1067, 99998))
}

fn house_number(random: &mut Random) -> String {
    let number = random.between(1, 160);
    match random.below(12) {
        0 => format!("{number}{}", random.choose(&["a", "b", "c", "d"])),
        1 => format!("{number} {}", random.choose(&["a", "b", "A"])),
        2 => format!("{number}-{}", number + 2),
        3 => format!("{number}/{}", random.between(1, 20)),
        _ => number.to_string(),
    }
}

fn english_address(form: &str, joint: &str, pools: &Pools, random: &mut Random) -> Result<String> {
    let joint = if joint == " in " { ", " } else { joint };
    let street = pools.draw("street.en", random)?.to_owned();
    let number = random.between(1, 999);
    let flat = match random.below(12) {
        0 => format!("Flat {}, {number} {street}", random.between(1, 40)),
        1 => format!("{number} {street}, Apt {}", random.between(1, 40)),
        2 => format!("{number} {street}, Suite {}", random.between(100, 900)),
        _ => format!("{number} {street}"),
    };
    if form == "s" {
        return Ok(flat);
    }
    let rest = match random.below(4) {
        0 => pools.draw("town.en", random)?.to_owned(),
        1 => format!("{} {}", pools.draw("town.us", random)?, random.digits(5))
            .replacen(' ', ", ", 1),
        _ => {
            let town = pools.draw("town.uk", random)?.to_owned();
            let letters = random.choose(&["AB", "DE", "GH", "JL", "NP", "QR", "TW", "XY"]);
            format!("{town}{} {}{letters}", random.between(1, 19), random.between(1, 9))
        }
    };
    Ok(format!("{flat}{joint}{rest}"))
}

/// A place without a street.
pub(super) fn place(
    form: &str,
    language: Language,
    pools: &Pools,
    random: &mut Random,
) -> Result<(&'static str, String)> {
    let code = language.code();
    let pool = match (form, language, random.below(10)) {
        ("land", ..) => format!("land.{code}"),
        ("quarter", ..) => "quarter.de".to_owned(),
        ("water", ..) => "water".to_owned(),
        ("place", ..) => "place.de".to_owned(),
        (_, Language::German, 0..7) => "town.de".to_owned(),
        (_, Language::German, 7) => "town.at".to_owned(),
        (_, Language::English, 0..6) => "town.en".to_owned(),
        _ => format!("town.world.{code}"),
    };
    Ok(("LOCATION", pools.draw(&pool, random)?.to_owned()))
}

/// Numbers and dates; those that mean a person have their kind.
pub(super) fn number(
    word: &str,
    language: Language,
    random: &mut Random,
) -> Option<(&'static str, String)> {
    let is_german = language == Language::German;
    let year = random.between(1948, 2007);
    Some(match word {
        "phone" => ("PHONE", phone(is_german, random)),
        "iban" => ("IBAN", iban(random)),
        "card" => ("CREDIT_CARD", card(random)),
        "taxid" => ("TAX_ID", tax_id(random)),
        "dob" => ("DATE_OF_BIRTH", date(year, language, random)),
        "plate" => ("LICENSE_PLATE", plate(random)),
        "ip" => {
            let (third, fourth) = (random.below(255), random.between(2, 254));
            ("IP_ADDRESS", format!("10.{}.{third}.{fourth}", random.below(255)))
        }
        "idcard" => {
            ("ID_CARD", format!("L{}X{}T{}", random.digits(2), random.digits(2), random.digits(2)))
        }
        "passport" => ("PASSPORT", format!("C{}K{}", random.digits(2), random.digits(5))),
        "pw" => (
            "SECRET",
            format!(
                "{}{}{}",
                random.choose(&["Lager", "Sonne", "Tr0st", "Kiwi", "maple"]),
                random.choose(&["!", "#", "%", "_"]),
                random.digits(4)
            ),
        ),
        "dobword" => {
            ("", random.choose(&["geb.", "geboren am", "geb. am", "Geburtsdatum:"]).to_owned())
        }
        "date" => {
            let year = random.between(2023, 2027);
            ("", date(year, language, random))
        }
        "year" => ("", random.between(1990, 2026).to_string()),
        "time" => ("", format!("{:02}:{:02}", random.between(7, 19), random.below(60))),
        "amount" => {
            let whole = random.between(40, 9800);
            ("", if is_german { format!("{whole},00 €") } else { format!("${whole}") })
        }
        "num" => {
            let digits = random.between(3, 6);
            ("", format!("{}{}", random.between(1, 9), random.digits(digits)))
        }
        "num1" => ("", random.between(2, 20).to_string()),
        "num2" => ("", random.between(18, 66).to_string()),
        "num3" => ("", random.between(100, 420).to_string()),
        _ => return None,
    })
}

fn date(year: usize, language: Language, random: &mut Random) -> String {
    const GERMAN: [&str; 12] = [
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
    ];
    const ENGLISH: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let (month, day) = (random.between(1, 12), random.between(1, 28));
    match (language, random.below(4)) {
        (Language::German, 0) => format!("{day}. {} {year}", GERMAN[month - 1]),
        (Language::German, 1) => format!("{day}.{month}.{year}"),
        (Language::German, _) => format!("{day:02}.{month:02}.{year}"),
        (Language::English, 0) => format!("{day} {} {year}", ENGLISH[month - 1]),
        (Language::English, 1) => format!("{} {day}, {year}", ENGLISH[month - 1]),
        (Language::English, 2) => format!("{month:02}/{day:02}/{year}"),
        (Language::English, _) => format!("{year}-{month:02}-{day:02}"),
    }
}

fn phone(is_german: bool, random: &mut Random) -> String {
    let german = [
        "030", "040", "089", "0221", "0341", "0561", "0711", "0911", "06131", "0151", "0171",
        "0176",
    ];
    let area = random.choose(&german);
    match (is_german, random.below(4)) {
        (true, 0) => format!("+49 {} {}", &area[1..], random.digits(7)),
        (true, 1) => format!("{area}/{}", random.digits(7)),
        (true, 2) => format!("{area} {}-{}", random.digits(5), random.digits(2)),
        (true, _) => format!("{area} {}", random.digits(7)),
        (false, 0) => format!("+44 20 7{} {}", random.digits(3), random.digits(4)),
        (false, 1) => format!("({}) 555-{}", random.between(201, 989), random.digits(4)),
        (false, 2) => format!("07{} {}", random.digits(3), random.digits(6)),
        (false, _) => format!("{}-555-{}", random.between(201, 989), random.digits(4)),
    }
}

fn iban(random: &mut Random) -> String {
    let account = random.digits(18);
    // `DE00` at the end, letters as two digits.
    let written = format!("{account}131400");
    let rest =
        written.bytes().fold(0_u32, |rest, digit| (rest * 10 + u32::from(digit - b'0')) % 97);
    let compact = format!("DE{:02}{account}", 98 - rest);
    if random.percent(40) {
        return compact;
    }
    let groups: Vec<&str> =
        (0..compact.len()).step_by(4).map(|at| &compact[at..(at + 4).min(compact.len())]).collect();
    groups.join(" ")
}

fn card(random: &mut Random) -> String {
    let body = format!("4{}", random.digits(14));
    let sum: u32 = body
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let value = u32::from(digit - b'0');
            let doubled = if place % 2 == 0 { value * 2 } else { value };
            if doubled > 9 { doubled - 9 } else { doubled }
        })
        .sum();
    let number = format!("{body}{}", (10 - sum % 10) % 10);
    format!("{} {} {} {}", &number[..4], &number[4..8], &number[8..12], &number[12..])
}

fn tax_id(random: &mut Random) -> String {
    // Ten digits of which exactly one stands twice, then the check digit of ISO 7064 mod 11,10.
    let mut digits: Vec<u32> = (0..10).collect();
    for at in (1..10).rev() {
        digits.swap(at, random.below(at + 1));
    }
    if digits[0] == 0 {
        digits.swap(0, 1);
    }
    digits[9] = digits[0];
    let product = digits.iter().fold(10, |product, digit| {
        let sum = match (digit + product) % 10 {
            0 => 10,
            sum => sum,
        };
        sum * 2 % 11
    });
    let check = (11 - product) % 10;
    digits.push(check);
    digits.iter().map(u32::to_string).collect()
}

fn plate(random: &mut Random) -> String {
    let district =
        random.choose(&["B", "M", "HH", "K", "F", "S", "KS", "LEV", "ERZ", "OS", "GÖ", "FÜ"]);
    let letters = random.choose(&["AB", "K", "TZ", "MX", "R", "EE"]);
    format!("{district}-{letters} {}", random.between(1, 9999))
}
