//! One invented person, and every way in which a frame may write the name.
//!
//! Titles of politeness (`Frau`, `Mr`) stand outside of the name, `Dr.` inside.

use anyhow::{Result, bail};

use super::{Language, Pools, Random};

/// A person of a frame: `{p}`, `{p.first}`, …
pub(super) struct Person {
    first: String,
    last: String,
    is_woman: bool,
    nick: String,
    /// As `{p}` writes the person, the same all over the frame.
    full: String,
    host: String,
    handle: usize,
}

/// Pieces of text; one with a kind is a span.
type Pieces = Vec<(&'static str, String)>;

impl Person {
    pub(super) fn draw(language: Language, pools: &Pools, random: &mut Random) -> Result<Self> {
        let at_home = language == Language::English && random.percent(55);
        let origin = if at_home { "en" } else { random.of(&pools.origins) };
        let is_woman = random.percent(50);
        let sex = if is_woman { "f" } else { "m" };
        let mut first = pools.draw(&format!("{origin}.{sex}"), random)?.to_owned();
        // Children of families who came from elsewhere have names of here.
        let elsewhere = if random.percent(15) { random.of(&pools.origins) } else { origin };
        let mut last = pools.draw(&format!("{elsewhere}.last"), random)?.to_owned();
        match random.below(100) {
            0..7 => last = format!("{last}-{}", pools.draw(&format!("{origin}.last"), random)?),
            7..10 if origin == "de" => {
                last = format!("{} {last}", random.choose(&["von", "von der", "zu", "vom"]));
            }
            10..14 if !first.contains('-') => {
                first = format!("{first}-{}", pools.draw(&format!("{origin}.{sex}"), random)?);
            }
            14..18 => {
                first = format!("{first} {}", pools.draw(&format!("{origin}.{sex}"), random)?)
            }
            _ => {}
        }
        let initial = first.chars().next().unwrap_or('A');
        let full = match random.below(100) {
            0..5 => format!("{initial}. {last}"),
            5..9 => format!("Dr. {first} {last}"),
            9..11 => format!("Prof. Dr. {first} {last}"),
            11..15 => format!("{first} {}. {last}", random.choose(&["A", "B", "J", "M", "R", "K"])),
            15..17 => last.clone(),
            17..19 => format!("{initial}.{last}"),
            _ => format!("{first} {last}"),
        };
        let host = random.choose(&[
            "firma.example",
            "example.com",
            "mail.example.org",
            "web.example",
            "kontor.example",
        ]);
        Ok(Person {
            nick: pools.draw("nick", random)?.to_owned(),
            host: host.to_owned(),
            handle: random.below(4),
            first,
            last,
            is_woman,
            full,
        })
    }

    /// The person in one form.
    pub(super) fn written(&self, form: &str) -> Result<Pieces> {
        let (first, last) = (&self.first, &self.last);
        let polite =
            |word: &str, name: &str| vec![("", format!("{word} ")), ("PERSON", name.to_owned())];
        let name = |name: String| vec![("PERSON", name)];
        let word =
            |man: &str, woman: &str| vec![("", if self.is_woman { woman } else { man }.to_owned())];
        Ok(match form {
            "" => name(self.full.clone()),
            "first" => name(first.clone()),
            "last" => name(last.clone()),
            "nick" => name(self.nick.clone()),
            "rev" => name(format!("{last}, {first}")),
            "init" => name(format!("{}. {last}", first.chars().next().unwrap_or('A'))),
            "prof" => name(format!("Prof. {last}")),
            "dr" => name(format!("Dr. {last}")),
            "UP" => name(format!("{first} {last}").to_uppercase()),
            "LASTUP" => name(format!("{} {first}", last.to_uppercase())),
            "gen" => name(genitive(&self.full)),
            "lastgen" => name(genitive(last)),
            "firstgen" => vec![("PERSON", first.clone()), ("", "'s".to_owned())],
            "engen" => vec![("PERSON", self.full.clone()), ("", "'s".to_owned())],
            "hf" => polite(self.one("Herr", "Frau"), last),
            "hfd" => polite(self.one("Herrn", "Frau"), last),
            "mr" => polite(self.one("Mr", "Ms"), last),
            "mrfull" => polite(self.one("Mr", "Mrs"), &format!("{first} {last}")),
            "anrede" => polite(self.one("Sehr geehrter Herr", "Sehr geehrte Frau"), last),
            "lieb" => polite(self.one("Lieber", "Liebe"), first),
            "er" => word("er", "sie"),
            "ihm" => word("ihm", "ihr"),
            "sein" => word("sein", "ihr"),
            "in" => word("", "in"),
            "he" => word("he", "she"),
            "him" => word("him", "her"),
            "his" => word("his", "her"),
            "mail" => vec![("EMAIL", format!("{}@{}", self.handle(), self.host))],
            "user" => vec![("", self.handle())],
            _ => bail!("no form {form} of a person"),
        })
    }

    fn one<'a>(&self, man: &'a str, woman: &'a str) -> &'a str {
        if self.is_woman { woman } else { man }
    }

    fn handle(&self) -> String {
        let (first, last) = (plain(&self.first), plain(&self.last));
        let initial = &first[..first.len().min(1)];
        match self.handle {
            0 => format!("{first}.{last}"),
            1 => format!("{initial}.{last}"),
            2 => format!("{last}{initial}"),
            _ => format!("{first}_{last}"),
        }
    }
}

/// The German genitive; it belongs to the name, since hiding half a word helps nobody.
fn genitive(name: &str) -> String {
    let ending = if name.ends_with(['s', 'ß', 'x', 'z']) { "’" } else { "s" };
    format!("{name}{ending}")
}

/// Letters as mail addresses have them.
fn plain(name: &str) -> String {
    let mut written = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        match c {
            'ä' => written.push_str("ae"),
            'ö' => written.push_str("oe"),
            'ü' => written.push_str("ue"),
            'ß' => written.push_str("ss"),
            'ş' | 'š' | 'ś' | 'ș' => written.push('s'),
            'ç' | 'ć' | 'č' => written.push('c'),
            'ı' | 'í' | 'î' => written.push('i'),
            'ł' => written.push('l'),
            'ń' | 'ñ' => written.push('n'),
            'á' | 'ã' | 'å' | 'ą' => written.push('a'),
            'é' | 'è' | 'ę' => written.push('e'),
            'ó' | 'ø' => written.push('o'),
            'ğ' => written.push('g'),
            'ž' | 'ź' | 'ż' => written.push('z'),
            c if c.is_ascii_alphanumeric() || c == '-' => written.push(c),
            _ => {}
        }
    }
    written
}
