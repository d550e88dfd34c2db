//! The rule classifier for German and English, which stays as the fallback.
//!
//! Words (`cues.txt`), shape and length, read where an instruction stands: at the beginning and
//! at the end, hardly inside of what was pasted. Both languages have the same groups of words
//! with the same weights, and German is not held to be easier for needing fewer words. Start
//! reading at [`Rules::classify`].

use std::time::Instant;

use crate::classify::cues::{CUES, Hit};
use crate::classify::{Classifier, Input, language};
use crate::request::{Domain, Sensitivity, TaskKind};
use crate::trace::Classification;

/// Words, shapes and lengths.
#[derive(Debug, Default)]
pub struct Rules;

impl Classifier for Rules {
    fn classify(&self, input: &Input) -> Classification {
        let began = Instant::now();
        let text = sample(&input.text);
        let hits = CUES.hits(&text);
        let shape = Shape::of(&text, input);
        let evidence = Evidence::gather(&text, &hits, &shape);
        let language = language::detect(&text, evidence.languages);
        let (task, task_confidence) = task(&evidence, &shape);
        let (sensitivity, sensitivity_confidence) = sensitivity(&evidence, &shape, task);
        Classification {
            task,
            task_confidence,
            complexity: complexity(&evidence, &shape, task, language),
            sensitivity,
            sensitivity_confidence,
            domain: domain(&evidence),
            language: language.to_owned(),
            custom: Default::default(),
            unsure: task_confidence < 0.4 || sensitivity_confidence < 0.5,
            stage: "rules".to_owned(),
            micros: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        }
    }
}

const HEAD: usize = 3_000;
const TAIL: usize = 2_000;
const WINDOWS: usize = 8;
const WINDOW: usize = 500;

/// The text in lower case; of a long one the head, windows of the middle and the tail.
pub(super) fn sample(text: &str) -> String {
    if text.len() <= HEAD + TAIL + WINDOWS * WINDOW {
        return text.trim().to_lowercase();
    }
    let mut sample = slice(text, 0, HEAD).to_lowercase();
    let middle = text.len() - HEAD - TAIL;
    for window in 0..WINDOWS {
        let from = HEAD + middle / WINDOWS * window;
        sample.push('\n');
        sample.push_str(&slice(text, from, from + WINDOW).to_lowercase());
    }
    sample.push('\n');
    sample.push_str(&slice(text, text.len() - TAIL, text.len()).to_lowercase());
    sample
}

/// The text between two places, moved outward to whole characters.
fn slice(text: &str, from: usize, to: usize) -> &str {
    let mut from = from.min(text.len());
    while !text.is_char_boundary(from) {
        from -= 1;
    }
    let mut to = to.min(text.len());
    while !text.is_char_boundary(to) {
        to += 1;
    }
    &text[from..to]
}

/// What a request looks like, before any word is understood.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// Where the first sentence begins behind politeness.
    pub(super) start: usize,
    /// Where the instruction at the beginning ends and what was pasted begins.
    pub(super) head_end: usize,
    /// Where the instruction or question at the end begins.
    pub(super) tail_start: usize,
    /// Bytes between the two.
    pub(super) payload: usize,
    pub(super) words: usize,
    pub(super) numbers: usize,
    /// Signs of reckoning between numbers.
    pub(super) operators: usize,
    pub(super) asks: bool,
    pub(super) code: f32,
    pub(super) letters: usize,
    /// Answers to choose from, as exams have them.
    pub(super) options: usize,
    pub(super) tools: usize,
    pub(super) attachments: bool,
    pub(super) history: usize,
    pub(super) total_words: f32,
}

impl Shape {
    pub(super) fn of(text: &str, input: &Input) -> Self {
        let start = skip_politeness(text);
        let head_end = end_of_head(text, start);
        let tail_start = start_of_tail(text, head_end);
        let asks = text[start..head_end].contains('?')
            || text[tail_start..].contains('?')
            || text.trim_end_matches(['"', '“', '”', ')']).ends_with('?');
        let bytes = text.as_bytes();
        let is_number = |word: &&str| word.bytes().any(|byte| byte.is_ascii_digit());
        let mut shape = Shape {
            start,
            head_end,
            tail_start,
            payload: tail_start.saturating_sub(head_end),
            words: text.split_whitespace().count(),
            numbers: text.split_whitespace().filter(is_number).count(),
            operators: bytes.iter().filter(|byte| b"=+%^".contains(byte)).count(),
            asks,
            code: code_signs(text),
            letters: text.chars().filter(|c| c.is_alphabetic()).count(),
            options: options(text),
            tools: input.tools,
            attachments: input.attachments,
            history: input.history.len(),
            total_words: 0.0,
        };
        // What is not read counts by its length.
        let unread = input.total_bytes.saturating_sub(text.len());
        shape.total_words = shape.words as f32 + unread as f32 / 6.5;
        shape
    }

    /// Whether a phrase at this place is the first of what stands behind the pasted part.
    pub(super) fn begins_tail(&self, text: &str, at: usize) -> bool {
        is_beginning(text, self.tail_start, at)
    }

    /// How much a phrase at this place counts.
    fn zone(&self, at: usize) -> f32 {
        if at < self.head_end {
            1.0
        } else if at >= self.tail_start {
            0.8
        } else {
            0.12
        }
    }

    fn has_payload(&self) -> bool {
        self.payload >= 40
    }
}

/// `bitte`, `kannst du mir mal`, `could you please`: what follows is the first word that counts.
fn skip_politeness(text: &str) -> usize {
    const POLITE: &[&str] = &[
        "bitte",
        "please",
        "kannst du",
        "kannst du mir",
        "könntest du",
        "könnten sie",
        "können sie",
        "würdest du",
        "mir",
        "mal",
        "uns",
        "kurz",
        "can you",
        "could you",
        "would you",
        "will you",
        "i need you to",
        "i want you to",
        "i would like you to",
        "help me",
        "hilf mir",
        "ich möchte",
        "hallo,",
        "hallo!",
        "hallo",
        "hi,",
        "hi",
        "hey,",
        "hello,",
        "guten tag,",
        "moin,",
        "dear all,",
        "das",
        "den",
        "jetzt",
        "now",
        "just",
        "und",
        "and",
        "also",
        "so",
        "ok",
        "okay",
        "ok,",
        "ich brauche",
        "ich bräuchte",
        "schnell",
        "du musst",
        "you need to",
        "in this task,",
        "you have to",
        "bräuchte",
        "gerne",
        "doch",
        "noch",
        "eben",
        "me",
    ];
    let mut at = 0;
    // Greetings alone are small talk, so at least one more word must follow.
    for _ in 0..4 {
        let rest = &text[at..];
        let polite = POLITE
            .iter()
            .filter(|words| {
                rest.strip_prefix(**words).is_some_and(|rest| {
                    rest.starts_with([' ', ','])
                        && rest.trim_start_matches([' ', ',']).contains(' ')
                })
            })
            .max_by_key(|words| words.len());
        match polite {
            Some(words) => {
                at += words.len();
                at += text[at..].len() - text[at..].trim_start_matches([' ', ',']).len();
            }
            None => break,
        }
    }
    at
}

/// The instruction ends where something is pasted: behind a colon, a line end or an opening
/// quote; in a long text without any, behind the first sentence.
fn end_of_head(text: &str, start: usize) -> usize {
    let limit = floor(text, (start + 400).min(text.len()));
    let head = &text[start..limit];
    let mut end = limit;
    for (at, c) in head.char_indices() {
        let place = start + at;
        let rest = text.len() - place;
        let next = text[place + c.len_utf8()..].chars().next();
        let is_break = match c {
            '\n' => at >= 8 && rest > 12,
            ':' => next.is_some_and(char::is_whitespace) && rest > 12,
            '„' | '“' | '"' | '«' => at > 0 && rest > 14,
            _ => false,
        };
        if is_break {
            return place;
        }
        let is_sentence_end = matches!(c, '.' | '?' | '!') && next.is_some_and(char::is_whitespace);
        if is_sentence_end && at >= 15 && text.len() > 320 && end == limit {
            end = place + 1;
        }
    }
    end
}

/// A last line or a last question, if what was pasted stands before it.
fn start_of_tail(text: &str, head_end: usize) -> usize {
    let body = &text[head_end..];
    if body.len() < 20 {
        return text.len();
    }
    let trimmed = body.trim_end();
    if let Some(line) = trimmed.rfind('\n') {
        let last = trimmed.len() - line;
        if last < 240 {
            return head_end + line + 1;
        }
    }
    let quote = trimmed.char_indices().rev().find(|(_, c)| matches!(c, '“' | '”' | '"' | '»'));
    if let Some((at, c)) = quote
        && at > 0
        && trimmed.len() - at > 6
        && trimmed.len() - at < 240
    {
        return head_end + at + c.len_utf8();
    }
    if let Some(before) = trimmed.strip_suffix('?') {
        let sentence = before.rfind(['.', '!', '?', '\n']);
        if let Some(at) = sentence.filter(|at| trimmed.len() - at < 240) {
            return head_end + at + 1;
        }
    }
    text.len()
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// How much a text looks like source code, 0…4.
fn code_signs(text: &str) -> f32 {
    const SIGNS: &[&str] = &[
        "def ",
        "){",
        ") {",
        "};",
        "=> ",
        "();",
        "#include",
        "select * from",
        "<?php",
        "```",
        "</",
        "print(",
        "import ",
        "console.log",
        "public static",
        "public class",
        "fn main",
        "self.",
        "return ",
        "null;",
        "!= ",
        "== ",
        "&& ",
        "std::",
        "package main",
        "var ",
        "const ",
        "let ",
        "function ",
        " margin:",
        "for (",
        "if (",
        "while (",
        "/**",
        "elif ",
        "lambda ",
        "void ",
    ];
    let read = &text[..floor(text, text.len().min(2_000))];
    let signs = SIGNS.iter().filter(|sign| read.contains(**sign)).count();
    (signs as f32 * 1.1).min(4.0)
}

/// Lines such as `a. …`, `(b) …` behind a question.
fn options(text: &str) -> usize {
    text.lines()
        .filter(|line| {
            let line = line.trim_start().trim_start_matches('(');
            let mut chars = line.chars();
            matches!(chars.next(), Some('a'..='j')) && matches!(chars.next(), Some('.' | ')'))
        })
        .count()
}

/// What the words of a request say, summed up.
#[derive(Debug, Default)]
struct Evidence {
    tasks: [f32; 13],
    domains: [f32; 12],
    restricted: f32,
    weak_restricted: f32,
    confidential: f32,
    internal: f32,
    public: f32,
    unpublished: f32,
    general: f32,
    marker: f32,
    hard: f32,
    easy: f32,
    /// German and English phrases found.
    languages: (f32, f32),
}

impl Evidence {
    fn gather(text: &str, hits: &[Hit], shape: &Shape) -> Self {
        let mut evidence = Evidence::default();
        let mut heard = vec![0_u32; CUES.groups.len()];
        for hit in hits {
            let begins = hit.start == shape.start || hit.start == 0;
            let begins_tail = shape.begins_tail(text, hit.start);
            if hit.anchored && !begins && !begins_tail {
                continue;
            }
            let group = &CUES.groups[hit.group];
            // The same thing said again says little more.
            let again = match heard[hit.group] {
                0 => 1.0,
                1 => 0.3,
                _ => 0.08,
            };
            heard[hit.group] += 1;
            let begin_bonus = if begins { 1.25 } else { 1.0 };
            let in_zone = group.weight * again * shape.zone(hit.start) * begin_bonus;
            let anywhere = group.weight * again;
            match group.language {
                "de" => evidence.languages.0 += again,
                "en" => evidence.languages.1 += again,
                _ => {}
            }
            evidence.add(group.label, in_zone, anywhere);
        }
        evidence
    }

    fn add(&mut self, label: &str, in_zone: f32, anywhere: f32) {
        if let Some(name) = label.strip_prefix("domain.") {
            if let Some(domain) = Domain::from_word(name) {
                self.domains[place(Domain::ALL, domain)] += in_zone.max(anywhere * 0.3);
            }
            return;
        }
        match label {
            // A pasted text says less about whose it is than the order above it.
            "level.restricted" => self.restricted += in_zone.max(anywhere * 0.7),
            "level.weak_restricted" => self.weak_restricted += in_zone,
            "level.confidential" => self.confidential += in_zone.max(anywhere * 0.7),
            "level.internal" => self.internal += in_zone.max(anywhere * 0.3),
            "level.unpublished" => self.unpublished += anywhere,
            "level.public" => self.public += in_zone,
            "level.general" => self.general += in_zone,
            "marker" => self.marker += in_zone.max(anywhere * 0.3),
            "hard" => self.hard += in_zone.max(anywhere * 0.4),
            "easy" => self.easy += in_zone,
            "fasse" => self.tasks[place(TaskKind::ALL, TaskKind::Summarization)] += in_zone * 0.5,
            _ => {
                if let Some(task) = TaskKind::from_word(label) {
                    self.tasks[place(TaskKind::ALL, task)] += in_zone;
                }
            }
        }
    }

    fn task(&mut self, task: TaskKind) -> &mut f32 {
        &mut self.tasks[place(TaskKind::ALL, task)]
    }
}

fn is_beginning(text: &str, from: usize, at: usize) -> bool {
    from < text.len() && at >= from && text[from..at].chars().all(|c| !c.is_alphanumeric())
}

fn place<T: PartialEq>(all: &[T], value: T) -> usize {
    all.iter().position(|each| *each == value).unwrap_or(0)
}

/// The most likely task, and how sure that is.
fn task(evidence: &Evidence, shape: &Shape) -> (TaskKind, f32) {
    let mut scored = Evidence { tasks: evidence.tasks, ..Evidence::default() };
    let said: f32 = evidence.tasks.iter().sum();
    weigh_question(&mut scored, shape);
    weigh_reckoning(&mut scored, shape);
    *scored.task(TaskKind::CodeGeneration) += shape.code;
    weigh_short(&mut scored, shape, said);
    // A priori: people ask and want texts written.
    *scored.task(TaskKind::OpenQa) += 0.6;
    *scored.task(TaskKind::TextGeneration) += 0.3;
    likeliest(&scored.tasks)
}

fn weigh_question(scored: &mut Evidence, shape: &Shape) {
    if !shape.asks {
        return;
    }
    if shape.has_payload() {
        *scored.task(TaskKind::ClosedQa) += 2.6;
        *scored.task(TaskKind::OpenQa) -= 1.0;
    } else {
        *scored.task(TaskKind::OpenQa) += 1.5;
    }
}

fn weigh_reckoning(scored: &mut Evidence, shape: &Shape) {
    let analysis = *scored.task(TaskKind::Analysis);
    if shape.numbers >= 2 && shape.code < 2.0 && (shape.asks || shape.operators > 0) {
        *scored.task(TaskKind::Analysis) += if analysis > 1.0 { 2.2 } else { 0.9 };
    }
    if shape.options >= 2 {
        *scored.task(TaskKind::Analysis) += 1.0;
    }
}

/// Very short texts: noise, orders to a device, small talk.
fn weigh_short(scored: &mut Evidence, shape: &Shape, said: f32) {
    if shape.letters == 0 {
        *scored.task(TaskKind::Other) += 8.0;
        return;
    }
    if said > 1.5 || shape.asks {
        return;
    }
    match shape.words {
        0..=2 => *scored.task(TaskKind::Other) += 2.2,
        3..=9 if shape.numbers == 0 => *scored.task(TaskKind::Chat) += 1.6,
        _ => {}
    }
}

/// Softmax; the temperature was set on prompts of other origin so that the confidence is about
/// the share that is right.
fn likeliest(scores: &[f32; 13]) -> (TaskKind, f32) {
    const TEMPERATURE: f32 = 1.35;
    let best = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap_or(0);
    let sum: f32 = scores.iter().map(|score| ((score - scores[best]) / TEMPERATURE).exp()).sum();
    (TaskKind::ALL[best], (1.0 / sum).clamp(0.0, 0.95))
}

fn domain(evidence: &Evidence) -> Domain {
    let domains = &evidence.domains;
    let best = (0..domains.len()).max_by(|a, b| domains[*a].total_cmp(&domains[*b])).unwrap_or(0);
    if domains[best] < 1.5 { Domain::General } else { Domain::ALL[best] }
}

/// The level of what is said. Only what clearly belongs to a company or a person rises: a
/// question about salaries in general is public, one about somebody's salary is restricted.
fn sensitivity(evidence: &Evidence, shape: &Shape, task: TaskKind) -> (Sensitivity, f32) {
    let about_us = evidence.internal + evidence.marker;
    let published = if evidence.unpublished > 0.0 { 0.0 } else { evidence.public };
    let names_amount = shape.numbers > 0;
    let is_somebodys = about_us >= 0.5 || names_amount;
    let weak = if is_somebodys { evidence.weak_restricted } else { 0.0 };
    let restricted = evidence.restricted + weak;
    let is_general = evidence.general > 0.0 && about_us < 0.5;
    let is_named = evidence.restricted >= 2.4 && !is_general;
    if restricted >= 2.0 && (is_somebodys || is_named) && published < 2.0 {
        return (Sensitivity::Restricted, sureness(restricted));
    }
    let confidential = evidence.confidential + evidence.unpublished - published;
    if confidential >= 2.0 && !(is_general && confidential < 4.0) {
        return (Sensitivity::Confidential, sureness(confidential));
    }
    if published > 2.0 && (about_us < 2.5 || published >= 2.5) {
        return (Sensitivity::Public, sureness(published));
    }
    if about_us >= 1.0 {
        return (Sensitivity::Internal, sureness(about_us));
    }
    // Nobody's in particular: what is asked of the world is public, a pasted text may be ours.
    let is_worldly = matches!(
        task,
        TaskKind::OpenQa
            | TaskKind::Brainstorming
            | TaskKind::Chat
            | TaskKind::CodeGeneration
            | TaskKind::Analysis
            | TaskKind::Other
            | TaskKind::TextGeneration
    ) && !shape.attachments
        && (!shape.has_payload() || is_general);
    if is_worldly || (is_general && !shape.has_payload()) {
        (Sensitivity::Public, 0.6)
    } else {
        (Sensitivity::Internal, 0.5)
    }
}

fn sureness(score: f32) -> f32 {
    (0.5 + score * 0.08).clamp(0.5, 0.92)
}

/// The probability that an economy model's answer would not do.
fn complexity(evidence: &Evidence, shape: &Shape, task: TaskKind, language: &str) -> f32 {
    let base = match task {
        TaskKind::Chat => -2.4,
        TaskKind::Other => -2.2,
        TaskKind::Translation => -1.6,
        TaskKind::Rewrite | TaskKind::Extraction | TaskKind::Classification => -1.5,
        TaskKind::Summarization | TaskKind::ClosedQa => -1.4,
        TaskKind::OpenQa | TaskKind::Brainstorming => -1.1,
        TaskKind::TextGeneration => -0.9,
        TaskKind::CodeGeneration => -0.2,
        TaskKind::Analysis => -0.2,
    };
    // German says the same in fewer, longer words; without this, German always looks easier.
    let per_word = match language {
        "de" | "nl" | "sv" => 1.2,
        "pl" | "cs" | "tr" => 1.3,
        _ => 1.0,
    };
    let words = (shape.total_words * per_word).max(1.0);
    let length = (words / 25.0).ln().clamp(-1.5, 3.0) * 0.3;
    let hard = (evidence.hard * 0.55).min(2.2);
    let easy = (evidence.easy * 0.35).min(1.2);
    let reckoning = (shape.numbers as f32 / 8.0).min(0.6) + (shape.operators as f32 / 6.0).min(0.5);
    let exam = if shape.options >= 3 { 0.5 } else { 0.0 };
    let around = if shape.tools > 0 { 0.4 } else { 0.0 }
        + if shape.attachments { 0.3 } else { 0.0 }
        + (shape.history as f32 * 0.06).min(0.3);
    let logit = base + length + hard - easy + reckoning + exam + around;
    (1.0 / (1.0 + (-logit).exp())).clamp(0.02, 0.97)
}
