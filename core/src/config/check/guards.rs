//! The lists of `[guard]`: kinds that stay, the company's own patterns and rules, the output.
//!
//! Knows nothing of how a guard looks at a text; a pattern that does not compile never reaches it.

use std::collections::BTreeSet;

use crate::config::check::own::{self, Classifiers};
use crate::config::file::{Located, Reader, Section, list, nearest};
use crate::config::{
    GuardConfig, GuardRule, OutputAction, OwnPattern, PII_KINDS, Pattern, RuleAction, RuleSide,
};
use crate::ids::{Group, UseCase};
use crate::reply::Words;

/// Reads `leave`, `[[guard.pattern]]`, `[[guard.rule]]` and `[guard.output]`.
pub fn lists(
    section: &Section<'_>,
    reader: &Reader<'_>,
    classifiers: &Classifiers,
    guard: &mut GuardConfig,
) {
    if let Some(kinds) = section.texts("leave") {
        let known = kinds.into_iter().filter(|kind| is_kind(kind, reader));
        guard.leave = known.map(|kind| kind.value).collect();
    }
    for own in section.sections("pattern") {
        let kind = own.text("kind").filter(|kind| is_kind(kind, reader));
        let pattern = own.required_text("pattern").and_then(|at| compiled(&at, reader));
        if let Some(pattern) = pattern {
            let kind = kind.map_or_else(|| "CUSTOM".to_owned(), |kind| kind.value);
            guard.patterns.push(OwnPattern { kind, pattern });
        }
        own.finish();
    }
    let mut known = BTreeSet::new();
    for written in section.sections("rule") {
        if let Some(rule) = rule(&written, reader, classifiers, &mut known) {
            guard.rules.push(rule);
        }
        written.finish();
    }
    if let Some(output) = section.section("output") {
        let set = |key, place: &mut OutputAction| {
            if let Some(action) = output.word(key, OutputAction::ALL) {
                *place = action.value;
            }
        };
        set("personal", &mut guard.output.personal);
        set("secrets", &mut guard.output.secrets);
        set("system_prompt", &mut guard.output.system_prompt);
        set("active", &mut guard.output.active);
        output.finish();
    }
}

fn rule(
    section: &Section<'_>,
    reader: &Reader<'_>,
    classifiers: &Classifiers,
    known: &mut BTreeSet<String>,
) -> Option<GuardRule> {
    let id = section.required_text("id")?;
    if !known.insert(id.value.clone()) {
        reader.wrong_at(&id, super::access::twice(&id.value));
    }
    let words: Vec<String> = section
        .texts("words")
        .unwrap_or_default()
        .iter()
        .map(|word| word.value.trim().to_owned())
        .filter(|word| !word.is_empty())
        .collect();
    let mut patterns: Vec<Pattern> = section
        .texts("patterns")
        .unwrap_or_default()
        .iter()
        .filter_map(|pattern| compiled(pattern, reader))
        .collect();
    if !words.is_empty() {
        patterns.extend(Pattern::new(&any_word(&words)).ok());
    }
    let custom = own::condition(section.section("custom"), reader, classifiers);
    if patterns.is_empty() && custom.is_empty() {
        section.wrong(
            "words",
            Words::new(
                "a rule looks for something: give it `words`, `patterns` or `custom`",
                "eine Regel sucht etwas: bitte `words`, `patterns` oder `custom` angeben",
            ),
        );
    }
    let names = |key| section.texts(key).unwrap_or_default().into_iter().map(|name| name.value);
    let action = section.word("action", RuleAction::ALL).map_or(RuleAction::Block, |at| at.value);
    let note = note(section);
    if action == RuleAction::Note && note.is_none() {
        section.wrong(
            "note",
            Words::new(
                "this rule tells the person something: write it into `note`",
                "diese Regel sagt der Person etwas: bitte in `note` schreiben",
            ),
        );
    }
    Some(GuardRule {
        id: id.value,
        patterns,
        custom,
        use_cases: names("use_case").map(UseCase::from).collect(),
        groups: names("groups").map(Group::from).collect(),
        on: section.word("on", RuleSide::ALL).map_or(RuleSide::Question, |at| at.value),
        action,
        note,
    })
}

/// One pattern for all words: whole words without case; a star at the end lets a word go on.
fn any_word(words: &[String]) -> String {
    let edge = |c: Option<char>| if c.is_some_and(char::is_alphanumeric) { r"\b" } else { "" };
    let one = |word: &String| match word.strip_suffix('*') {
        Some(begin) => format!(r"{}{}\w*", edge(begin.chars().next()), regex::escape(begin)),
        None => {
            let (first, last) = (word.chars().next(), word.chars().next_back());
            format!("{}{}{}", edge(first), regex::escape(word), edge(last))
        }
    };
    let all: Vec<String> = words.iter().map(one).collect();
    format!("(?i)(?:{})", all.join("|"))
}

/// `note = "…"` for both languages, or a table with `en` and `de`.
fn note(section: &Section<'_>) -> Option<Words> {
    if !section.is_table("note") {
        return section.text("note").map(|note| Words::new(note.value.clone(), note.value));
    }
    let both = section.section("note")?;
    let (en, de) = (both.required_text("en"), both.required_text("de"));
    both.finish();
    Some(Words::new(en?.value, de?.value))
}

/// A pattern that compiles and does not match nothing.
pub fn compiled(written: &Located<String>, reader: &Reader<'_>) -> Option<Pattern> {
    let shown = written.shown();
    match Pattern::new(&written.value) {
        Ok(pattern) if !pattern.regex().is_match("") => Some(pattern),
        Ok(_) => {
            reader.wrong_at(
                written,
                Words::new(
                    format!("`{shown}` matches the empty text, so it would match everywhere"),
                    format!("`{shown}` passt auf den leeren Text und damit überall"),
                ),
            );
            None
        }
        Err(_) => {
            reader.wrong_at(
                written,
                Words::new(
                    format!(
                        "`{shown}` is no regular expression that can be used; try it with the \
                         syntax of Rust's regex crate, without look-around"
                    ),
                    format!(
                        "`{shown}` ist kein brauchbarer regulärer Ausdruck; es gilt die Syntax \
                         von Rusts regex, ohne Vor- und Rückschau"
                    ),
                ),
            );
            None
        }
    }
}

fn is_kind(written: &Located<String>, reader: &Reader<'_>) -> bool {
    if PII_KINDS.contains(&written.value.as_str()) {
        return true;
    }
    let shown = written.shown();
    let known = list(PII_KINDS.iter());
    let (en, de) = match nearest(&written.value, PII_KINDS.iter().copied()) {
        Some(near) => (format!("; did you mean {near}?"), format!("; ist {near} gemeint?")),
        None => (format!("; known are {known}"), format!("; bekannt sind {known}")),
    };
    let words = Words::new(
        format!("`{shown}` is no kind of personal data{en}"),
        format!("`{shown}` ist keine Art personenbezogener Daten{de}"),
    );
    reader.wrong_at(written, words);
    false
}
