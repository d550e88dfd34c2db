//! What the simulated models say, and in which language. Knows nothing of requests or time.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::Grade;

/// The languages that a simulated model answers in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    English,
    German,
}

/// Words that stand in nearly every German sentence and in no English one.
const GERMAN: &[&str] = &[
    "der", "die", "das", "und", "ist", "nicht", "ein", "eine", "einen", "wie", "ich", "wir", "sie",
    "bitte", "für", "mit", "auf", "von", "zu", "im", "den", "dem", "des", "wann", "warum",
    "welche", "kann", "gibt", "uns", "mir", "mich", "danke", "hallo", "guten", "über", "schreibe",
    "fasse",
];
/// The other way round.
const ENGLISH: &[&str] = &[
    "the",
    "and",
    "is",
    "not",
    "a",
    "an",
    "how",
    "i",
    "we",
    "you",
    "please",
    "for",
    "with",
    "on",
    "of",
    "to",
    "what",
    "when",
    "why",
    "which",
    "can",
    "are",
    "us",
    "me",
    "thanks",
    "hello",
    "hi",
    "this",
    "that",
    "write",
    "summarize",
];

impl Language {
    /// The language of a text; English where nothing speaks for either.
    pub fn of(text: &str) -> Self {
        let lower = text.to_lowercase();
        let count = |known: &[&str]| {
            let words = lower.split(|c: char| !c.is_alphabetic());
            words.filter(|word| known.contains(word)).count()
        };
        let umlauts = lower.chars().filter(|c| "äöüß".contains(*c)).count();
        if count(GERMAN) + umlauts > count(ENGLISH) { Language::German } else { Language::English }
    }

    /// What makes a made-up answer plain to everyone.
    pub fn mark(self) -> &'static str {
        match self {
            Language::English => "[simulated]",
            Language::German => "[simuliert]",
        }
    }
}

/// How a text came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    Stop,
    Met(String),
    Length,
}

/// A number that two texts give, the same one each time.
pub fn hash(one: &str, other: &str) -> u64 {
    // `DefaultHasher::new` is keyed with zeros: the same in every run of one build, which is
    // all that a demo needs.
    let mut hasher = DefaultHasher::new();
    (one, other).hash(&mut hasher);
    hasher.finish()
}

/// The pieces that a text is said in: a word with the space before it, long words in several.
pub fn tokens(text: &str) -> impl Iterator<Item = &str> {
    const LONG: usize = 8;
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut letters = 0;
        let mut within_word = false;
        let mut end = rest.len();
        for (position, letter) in rest.char_indices() {
            if letter.is_whitespace() {
                if within_word {
                    end = position;
                    break;
                }
                continue;
            }
            if letters == LONG {
                end = position;
                break;
            }
            within_word = true;
            letters += 1;
        }
        let (token, after) = rest.split_at(end);
        rest = after;
        (!token.is_empty()).then_some(token)
    })
}

/// How many tokens a text of the caller's counts: its words, never more than any real tokenizer
/// would find.
pub fn count(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

/// The text up to the first of the stop texts, and up to the limit in tokens.
pub fn limited(mut text: String, stop: &[String], limit: Option<u32>) -> (String, Ending) {
    let mut ending = Ending::Stop;
    let met = stop.iter().filter(|stop| !stop.is_empty());
    let met = met.filter_map(|stop| Some((text.find(stop.as_str())?, stop)));
    if let Some((position, stop)) = met.min_by_key(|(position, _)| *position) {
        text.truncate(position);
        ending = Ending::Met(stop.clone());
    }
    let limit = limit.map_or(usize::MAX, |limit| limit as usize);
    let within: usize = tokens(&text).take(limit).map(str::len).sum();
    if within < text.len() {
        text.truncate(within);
        ending = Ending::Length;
    }
    (text, ending)
}

/// An answer that says no.
pub fn refusal(language: Language) -> String {
    match language {
        Language::English => "[simulated] I'm sorry, but I can't help with that.".to_owned(),
        Language::German => {
            "[simuliert] Es tut mir leid, aber dabei kann ich nicht helfen.".to_owned()
        }
    }
}

/// An answer of the length that a model of this grade gives.
pub fn answer(
    model: &str,
    question: &str,
    language: Language,
    grade: Grade,
    choice: u32,
) -> String {
    let bank = match language {
        Language::English => ENGLISH_SENTENCES,
        Language::German => GERMAN_SENTENCES,
    };
    let start = hash(model, question).wrapping_add(u64::from(choice) * 5) as usize % bank.len();
    let sentence = |offset: usize| bank[(start + offset) % bank.len()];
    let mut text = opening(model, question, language);
    let paragraph = |from: usize, to: usize| (from..to).map(sentence).collect::<Vec<_>>().join(" ");
    match grade {
        Grade::Economy => text.push_str(&paragraph(0, 3)),
        Grade::Standard => {
            text.push_str(&paragraph(0, 4));
            text.push_str("\n\n");
            for offset in 4..7 {
                text.push_str(&format!("- {}\n", sentence(offset)));
            }
        }
        Grade::Premium => {
            text.push_str(&paragraph(0, 5));
            text.push_str("\n\n");
            for offset in 5..9 {
                text.push_str(&format!("{}. {}\n", offset - 4, sentence(offset)));
            }
            text.push_str(match language {
                Language::English => "\n**In short:** ",
                Language::German => "\n**Kurz gesagt:** ",
            });
            text.push_str(sentence(9));
        }
    }
    text.trim_end().to_owned()
}

fn opening(model: &str, question: &str, language: Language) -> String {
    // A few words of the question come back, so that a demo shows what was hidden from the
    // vendor being restored.
    let mut words = question.split_whitespace();
    let quoted: Vec<&str> = words.by_ref().take(12).collect();
    let dots = if words.next().is_some() { " …" } else { "" };
    let quoted = quoted.join(" ");
    match (language, quoted.is_empty()) {
        (Language::English, true) => {
            format!("[simulated] No model was asked; {model} is made up. ")
        }
        (Language::German, true) => {
            format!("[simuliert] Es wurde kein Modell gefragt; {model} ist erfunden. ")
        }
        (Language::English, false) => format!(
            "[simulated] You asked: “{quoted}{dots}”. No model was asked; {model} is made up. "
        ),
        (Language::German, false) => format!(
            "[simuliert] Sie fragten: „{quoted}{dots}“. Es wurde kein Modell gefragt; {model} ist erfunden. "
        ),
    }
}

const ENGLISH_SENTENCES: &[&str] = &[
    "Start with the goal and write it down in one sentence.",
    "Collect the facts that are certain and mark those that are not.",
    "A short table often shows more than a long paragraph.",
    "Ask the people who will work with the result before you decide.",
    "Compare at least two ways, with their cost and their risk.",
    "Name one person who is responsible for the next step.",
    "Set a date on which you will look at the figures again.",
    "Keep the first version small, so that changing it stays cheap.",
    "Check the numbers against the source, not against a copy of it.",
    "If something is unclear, say so instead of guessing.",
    "What can be measured should be measured before and after.",
    "Tell everyone concerned what changes for them, and from when.",
];

const GERMAN_SENTENCES: &[&str] = &[
    "Beginnen Sie mit dem Ziel und schreiben Sie es in einem Satz auf.",
    "Sammeln Sie, was sicher ist, und kennzeichnen Sie, was es nicht ist.",
    "Eine kurze Tabelle zeigt oft mehr als ein langer Absatz.",
    "Fragen Sie vor der Entscheidung die Menschen, die damit arbeiten werden.",
    "Vergleichen Sie mindestens zwei Wege mit ihren Kosten und Risiken.",
    "Benennen Sie eine Person, die für den nächsten Schritt verantwortlich ist.",
    "Legen Sie einen Tag fest, an dem Sie die Zahlen erneut ansehen.",
    "Halten Sie die erste Fassung klein, dann bleibt jede Änderung günstig.",
    "Prüfen Sie die Zahlen an der Quelle und nicht an einer Abschrift davon.",
    "Wo etwas unklar ist, sagen Sie es, statt zu raten.",
    "Was sich messen lässt, sollte vorher und nachher gemessen werden.",
    "Sagen Sie allen Beteiligten, was sich für sie ändert und ab wann.",
];

/// A vector of length one in which texts that share words lie near each other.
pub fn vector(text: &str, length: usize) -> Vec<f32> {
    let mut sums = vec![0.0_f32; length];
    for word in text.to_lowercase().split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty())
    {
        for salt in ["a", "b", "c", "d"] {
            let place = hash(salt, word);
            let sign = if place & (1 << 63) == 0 { 1.0 } else { -1.0 };
            sums[(place % length as u64) as usize] += sign;
        }
    }
    let norm = sums.iter().map(|sum| sum * sum).sum::<f32>().sqrt();
    if norm == 0.0 {
        sums[0] = 1.0;
        return sums;
    }
    sums.iter().map(|sum| sum / norm).collect()
}
