//! One frame, filled: literals stay, slots become names with their places.
//!
//! Knows the slots' words (assets/training/names/README.md) and nothing of pools' contents.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};

use super::person::Person;
use super::{Frame, Language, Pools, Random, values};

/// A filled frame.
pub(super) struct Row {
    pub(super) text: String,
    pub(super) spans: Vec<Span>,
}

/// Where something stands, in Unicode code points.
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) kind: &'static str,
}

/// How a whole row is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writing {
    AsItIs,
    /// People in a hurry.
    Lower,
    /// Keyboards without umlauts.
    Folded,
}

/// What a model is asked to do with a pasted text.
const TASKS_DE: &[&str] = &[
    "Fasse das zusammen:\n\n",
    "Kannst du das freundlicher formulieren?\n\n",
    "Übersetze ins Englische:\n",
    "Korrigiere bitte die Rechtschreibung: ",
    "Was muss ich darauf antworten?\n\n",
    "bitte kürzen: ",
    "Schreib eine Antwort auf diese Nachricht:\n\n",
    "Wer ist hier gemeint? ",
    "Welche Aufgaben ergeben sich daraus?\n---\n",
    "Extrahiere alle Namen und Orte als JSON:\n",
];
const TASKS_EN: &[&str] = &[
    "Summarise this:\n\n",
    "Can you make this friendlier?\n\n",
    "Translate into German:\n",
    "Fix the spelling: ",
    "What should I reply?\n\n",
    "shorten this please: ",
    "Write an answer to this message:\n\n",
    "Who is meant here? ",
    "Which action items follow from this?\n---\n",
    "Extract all names and places as JSON:\n",
];

/// The frame with its slots filled; now and then with a task before it, or another frame of the
/// same language behind it.
pub(super) fn row(
    frame: &Frame,
    family: &[Frame],
    pools: &Pools,
    random: &mut Random,
) -> Result<Row> {
    let writing = match random.below(100) {
        0..10 => Writing::Lower,
        10..14 if frame.language == Language::German => Writing::Folded,
        _ => Writing::AsItIs,
    };
    let mut page = Page { text: String::new(), characters: 0, spans: Vec::new(), writing };
    if random.percent(12) {
        let tasks = if frame.language == Language::German { TASKS_DE } else { TASKS_EN };
        page.literal(random.choose(tasks));
    }
    page.fill(frame, pools, random)?;
    if random.percent(15) {
        page.literal(random.choose(&["\n", "\n\n", " "]));
        let other = &family[random.below(family.len())];
        page.fill(other, pools, random)?;
    }
    Ok(Row { text: page.text, spans: page.spans })
}

struct Page {
    text: String,
    characters: usize,
    spans: Vec<Span>,
    writing: Writing,
}

impl Page {
    fn literal(&mut self, piece: &str) {
        let mut written = String::with_capacity(piece.len());
        for c in piece.chars() {
            match (self.writing, c) {
                (Writing::Lower, 'İ') => written.push('i'),
                (Writing::Lower, c) => written.extend(c.to_lowercase()),
                (Writing::Folded, 'ä') => written.push_str("ae"),
                (Writing::Folded, 'ö') => written.push_str("oe"),
                (Writing::Folded, 'ü') => written.push_str("ue"),
                (Writing::Folded, 'Ä') => written.push_str("Ae"),
                (Writing::Folded, 'Ö') => written.push_str("Oe"),
                (Writing::Folded, 'Ü') => written.push_str("Ue"),
                (Writing::Folded, 'ß') => written.push_str("ss"),
                (_, c) => written.push(c),
            }
        }
        self.characters += written.chars().count();
        self.text.push_str(&written);
    }

    fn named(&mut self, kind: &'static str, name: &str) {
        let (start, byte) = (self.characters, self.text.len());
        self.literal(name);
        // `{p.first} {p.last}` is one name.
        if let Some(before) = self.spans.last_mut()
            && (before.kind, before.end + 1) == (kind, start)
            && kind == "PERSON"
            && self.text[..byte].ends_with(' ')
        {
            before.end = self.characters;
            return;
        }
        self.spans.push(Span { start, end: self.characters, kind });
    }

    fn fill(&mut self, frame: &Frame, pools: &Pools, random: &mut Random) -> Result<()> {
        let text = chosen(&frame.text, random);
        let mut people: HashMap<&str, Person> = HashMap::new();
        let mut rest = text.as_str();
        while let Some((before, behind)) = next_slot(rest) {
            self.literal(before);
            let (slot, after) = behind.split_once('}').context("a slot has no end")?;
            let (who, form) = slot.split_once('.').unwrap_or((slot, ""));
            match who {
                "p" | "q" | "r" | "s" => {
                    if !people.contains_key(who) {
                        people.insert(who, Person::draw(frame.language, pools, random)?);
                    }
                    for (kind, piece) in people[who].written(form)? {
                        self.piece(kind, &piece);
                    }
                }
                _ => {
                    let (kind, piece) = value(who, form, frame.language, pools, random)?;
                    self.piece(kind, &piece);
                }
            }
            rest = after;
        }
        self.literal(rest);
        Ok(())
    }

    fn piece(&mut self, kind: &'static str, piece: &str) {
        if kind.is_empty() {
            self.literal(piece);
        } else {
            self.named(kind, piece);
        }
    }
}

/// The text up to the next slot, and from inside the slot on. Braces of JSON are none: a slot
/// begins with a small letter.
fn next_slot(text: &str) -> Option<(&str, &str)> {
    let at = text.match_indices('{').map(|(at, _)| at).find(|at| {
        text[at + 1..].starts_with(|c: char| c.is_ascii_lowercase()) && text[at + 1..].contains('}')
    })?;
    Some((&text[..at], &text[at + 1..]))
}

/// Choices `<a|b>` decided. `<name>` without a bar is XML and stays.
fn chosen(text: &str, random: &mut Random) -> String {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('<') {
        done.push_str(&rest[..open]);
        let inside = &rest[open + 1..];
        match inside.find('>') {
            Some(close) if inside[..close].contains('|') => {
                let choices: Vec<&str> = inside[..close].split('|').collect();
                done.push_str(random.choose(&choices));
                rest = &inside[close + 1..];
            }
            _ => {
                done.push('<');
                rest = inside;
            }
        }
    }
    done.push_str(rest);
    done
}

fn value(
    word: &str,
    form: &str,
    language: Language,
    pools: &Pools,
    random: &mut Random,
) -> Result<(&'static str, String)> {
    let of_language = |pool: &str| format!("{pool}.{}", language.code());
    Ok(match word {
        "o" | "o2" | "o3" => ("ORGANIZATION", values::company(form, language, pools, random)?),
        "a" if form == "street" => {
            ("LOCATION", pools.draw(&of_language("street"), random)?.to_owned())
        }
        "a" => ("ADDRESS", values::address(form, language, pools, random)?),
        "l" => values::place(form, language, pools, random)?,
        "job" | "ill" | "month" | "day" => ("", pools.draw(&of_language(word), random)?.to_owned()),
        "product" => ("", pools.draw(word, random)?.to_owned()),
        "email" => {
            let person = Person::draw(language, pools, random)?;
            let pieces = person.written("mail")?;
            let (_, address) = pieces.into_iter().next().context("a mail address is empty")?;
            ("EMAIL", address)
        }
        _ => match values::number(word, language, random) {
            Some(found) => found,
            None => bail!("no slot {{{word}}}"),
        },
    })
}
