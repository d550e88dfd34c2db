//! Placeholders such as `[PERSON_1]` and their way back.
//!
//! [`Hider`] gives each thing its placeholder, [`Map`] knows the way back, [`Restorer`] walks it
//! in a stream whatever the cut. Knows nothing of how things are found. Where to start: the
//! reading of one placeholder is [`read_placeholder`], everything else is carried by it.
//!
//! The way back is exact: every spelling has a placeholder of its own. Spellings of one thing
//! share the number and differ by a letter (`[IBAN_1]`, `[IBAN_1B]`), so that the model still
//! sees that they are one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use crate::guard::kind::Kind;
use crate::reply::Chunk;

/// Letters that tell spellings of one thing apart. `S` is left out: it is the genitive.
const VARIANTS: &str = "BCDEFGHJKLMNPQR";

/// What stands for what. `Debug` hides the values.
#[derive(Clone, Default)]
pub struct Map {
    known: Option<Arc<Known>>,
    /// Whether the answer is bound to JSON, so that values must be escaped in text too.
    text_is_json: bool,
}

#[derive(Default)]
struct Known {
    /// Letters, number and variant without separators (`PERSON1`, `IBAN1B`) → the value.
    values: HashMap<String, String>,
    /// The letters of the kinds in use.
    kinds: Vec<&'static str>,
    /// Capitals that a bare placeholder (`PERSON_1`) of a kind in use may begin with, one bit each.
    begins: u32,
}

impl std::fmt::Debug for Map {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Map(…)")
    }
}

impl Map {
    /// Whether nothing was hidden.
    pub fn is_empty(&self) -> bool {
        self.known.is_none()
    }

    /// A text with the placeholders restored.
    pub fn restore(&self, text: &str) -> String {
        self.restore_as(text, Form::Text)
    }

    /// JSON text with the placeholders restored; what is put in is escaped as JSON asks.
    pub fn restore_json(&self, json: &str) -> String {
        self.restore_as(json, Form::Json)
    }

    /// Every string of a JSON value restored, keys included.
    pub fn restore_value(&self, value: &mut Value) {
        if self.is_empty() {
            return;
        }
        match value {
            Value::String(text) => *text = self.restore(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.restore_value(item)),
            Value::Object(fields) => self.restore_fields(fields),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn restore_fields(&self, fields: &mut serde_json::Map<String, Value>) {
        for value in fields.values_mut() {
            self.restore_value(value);
        }
    }

    fn restore_as(&self, text: &str, form: Form) -> String {
        let Some(known) = &self.known else { return text.to_owned() };
        let mut thread = Thread::new(form);
        let mut restored = thread.push(known, text);
        restored.push_str(&thread.finish(known));
        restored
    }

    /// A restorer for a stream of chunks.
    pub fn stream(&self) -> Restorer {
        Restorer { map: self.clone(), threads: BTreeMap::new() }
    }

    /// The map for an answer that is bound to JSON (CONTRACT: structured output).
    pub(crate) fn with_json_text(mut self, text_is_json: bool) -> Self {
        self.text_is_json = text_is_json;
        self
    }
}

/// Gives things their placeholders: the same thing gets the same one.
#[derive(Default)]
pub(crate) struct Hider {
    /// Kind and raw spelling → placeholder.
    by_spelling: HashMap<(Kind, String), String>,
    /// Kind and normalised thing → its number and how many spellings it has.
    by_thing: HashMap<(Kind, String), (u32, usize)>,
    /// The last number given, by kind.
    last: HashMap<Kind, u32>,
    /// Placeholders that the caller wrote himself, as the reader would read them.
    taken: HashSet<String>,
    known: Known,
}

impl Hider {
    /// Notes the placeholders that stand in a text of the caller: ours never meet them, so they
    /// come back as they were.
    pub(crate) fn avoid(&mut self, text: &str) {
        // Any digits that follow letters may be a placeholder in some bent form; reading too many
        // only makes our numbers begin higher.
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            if !bytes[at].is_ascii_digit() {
                at += 1;
                continue;
            }
            let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits <= 6 {
                self.avoid_number(&text[..at], &text[at..at + digits]);
            }
            at += digits;
        }
        if text.chars().any(is_full_width_digit) {
            self.avoid(&text.chars().map(plain_char).collect::<String>());
        }
    }

    fn avoid_number(&mut self, before: &str, digits: &str) {
        // Only the tail can be a kind: the longest kind with a separator at every letter.
        let mut letters: Vec<u8> = Vec::new();
        for c in before.chars().rev().take(64).map(plain_char) {
            if c.is_ascii_alphabetic() {
                letters.push(c.to_ascii_uppercase() as u8);
            } else if !is_separator(c) && c != '\\' {
                break;
            }
        }
        letters.reverse();
        let Ok(number) = digits.parse::<u32>() else { return };
        for kind in Kind::ALL {
            if letters.ends_with(kind.letters().as_bytes()) {
                self.taken.insert(format!("{}{number}", kind.letters()));
            }
        }
    }

    /// The placeholder of a thing.
    pub(crate) fn hide(&mut self, kind: Kind, spelling: &str) -> String {
        let spelt = (kind, spelling.to_owned());
        if let Some(placeholder) = self.by_spelling.get(&spelt) {
            return placeholder.clone();
        }
        let (number, variant) = self.number_of(kind, spelling);
        let placeholder = format!("[{}_{number}{variant}]", kind.as_str());
        self.known.values.insert(format!("{}{number}{variant}", kind.letters()), spelt.1.clone());
        if !self.known.kinds.contains(&kind.letters()) {
            self.known.kinds.push(kind.letters());
            self.known.begins |= capital_bit(kind.letters().as_bytes()[0]);
        }
        self.by_spelling.insert(spelt, placeholder.clone());
        placeholder
    }

    fn number_of(&mut self, kind: Kind, spelling: &str) -> (u32, String) {
        let thing = (kind, normalised(kind, spelling));
        if let Some((number, spellings)) = self.by_thing.get_mut(&thing)
            && let Some(variant) = VARIANTS.get(*spellings - 1..*spellings)
        {
            *spellings += 1;
            return (*number, variant.to_owned());
        }
        let last = self.last.entry(kind).or_default();
        loop {
            *last += 1;
            if !self.taken.contains(&format!("{}{last}", kind.letters())) {
                break;
            }
        }
        let number = *last;
        self.by_thing.insert(thing, (number, 1));
        (number, String::new())
    }

    /// The way back.
    pub(crate) fn into_map(self) -> Map {
        let known = (!self.known.values.is_empty()).then(|| Arc::new(self.known));
        Map { known, text_is_json: false }
    }
}

/// What makes two spellings the same thing.
fn normalised(kind: Kind, spelling: &str) -> String {
    match kind {
        Kind::Secret => spelling.to_owned(),
        Kind::Person | Kind::Address => {
            let words: Vec<String> = spelling.split_whitespace().map(str::to_lowercase).collect();
            words.join(" ")
        }
        Kind::Email => spelling.to_lowercase(),
        Kind::Phone => phone_digits(spelling),
        _ => {
            spelling.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_uppercase).collect()
        }
    }
}

/// `+49 171 …`, `0049171…` and `0171 …` are one telephone; elsewhere the digits decide.
fn phone_digits(spelling: &str) -> String {
    let trunk_dropped = spelling.replace("(0)", "");
    let digits: String = trunk_dropped.chars().filter(char::is_ascii_digit).collect();
    let national = digits.strip_prefix("0049").or_else(|| {
        spelling.trim_start().starts_with('+').then(|| digits.strip_prefix("49")).flatten()
    });
    match national {
        Some(rest) => format!("0{rest}"),
        None => digits,
    }
}

/// What surrounds a placeholder: plain text, or the text of JSON, where a backslash is written
/// twice and values must be escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Json,
}

impl Form {
    fn backslash(self) -> &'static str {
        match self {
            Form::Text => "\\",
            Form::Json => "\\\\",
        }
    }

    fn write(self, value: &str, into: &mut String) {
        match self {
            Form::Text => into.push_str(value),
            Form::Json => escape_json(value, into),
        }
    }
}

fn escape_json(value: &str, into: &mut String) {
    for c in value.chars() {
        match c {
            '"' => into.push_str("\\\""),
            '\\' => into.push_str("\\\\"),
            '\n' => into.push_str("\\n"),
            '\r' => into.push_str("\\r"),
            '\t' => into.push_str("\\t"),
            c if u32::from(c) < 0x20 => into.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => into.push(c),
        }
    }
}

/// What stands at a place of a text.
#[derive(Debug, PartialEq, Eq)]
enum Reading<'a> {
    /// No placeholder of ours.
    Nothing,
    /// What is here so far may become one.
    Unfinished,
    /// One of ours: so many bytes, the value, and an ending that the model put inside (`'s`).
    Found { bytes: usize, value: &'a str, ending: &'a str },
}

/// A cursor over text that may go on: each step says whether it could read, or whether more text
/// could still change that.
struct Cursor<'t> {
    text: &'t str,
    at: usize,
    whole: bool,
}

/// The text may go on with what is being read.
struct MoreNeeded;

impl<'t> Cursor<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Result<Option<char>, MoreNeeded> {
        match self.rest().chars().next() {
            Some(c) => Ok(Some(c)),
            None if self.whole => Ok(None),
            None => Err(MoreNeeded),
        }
    }

    fn skip(&mut self, c: char) {
        self.at += c.len_utf8();
    }

    fn take(&mut self, literal: &str) -> Result<bool, MoreNeeded> {
        if self.rest().starts_with(literal) {
            self.at += literal.len();
            return Ok(true);
        }
        if !self.whole && literal.starts_with(self.rest()) {
            return Err(MoreNeeded);
        }
        Ok(false)
    }
}

/// Reads the placeholder that may begin at `at`, in any of the forms that models bend it into:
/// other case, spaces or hyphens for underscores, escaped or full-width brackets, a genitive
/// inside, and bare, without brackets, if it is otherwise exact.
fn read_placeholder<'a>(
    known: &'a Known,
    text: &'a str,
    at: usize,
    whole: bool,
    form: Form,
) -> Reading<'a> {
    let mut cursor = Cursor { text, at, whole };
    match read_bracketed(known, &mut cursor, form) {
        Err(MoreNeeded) => Reading::Unfinished,
        Ok(Some(found)) => found,
        Ok(None) => {
            let mut cursor = Cursor { text, at, whole };
            match read_bare(known, &mut cursor) {
                Err(MoreNeeded) => Reading::Unfinished,
                Ok(Some(found)) => found,
                Ok(None) => Reading::Nothing,
            }
        }
    }
}

fn read_bracketed<'a>(
    known: &'a Known,
    cursor: &mut Cursor<'a>,
    form: Form,
) -> Result<Option<Reading<'a>>, MoreNeeded> {
    let start = cursor.at;
    let escaped = cursor.take(form.backslash())?;
    match cursor.peek()? {
        Some(c @ ('[' | '［')) => cursor.skip(c),
        _ => return Ok(None),
    }
    skip_separators(cursor, 2, form)?;
    let Some(mut name) = read_letters(known, cursor, form)? else { return Ok(None) };
    let Some(digits) = read_digits(cursor)? else { return Ok(None) };
    name.push_str(&digits);
    let mut value = known.values.get(&name);
    if let Some(c) = cursor.peek()?
        && let Some(of_variant) = value_of_variant(known, &name, c)
    {
        value = Some(of_variant);
        cursor.skip(c);
    }
    let Some(value) = value else { return Ok(None) };
    let ending = read_ending(cursor)?;
    skip_separators(cursor, 2, form)?;
    if escaped {
        cursor.take(form.backslash())?;
    }
    match cursor.peek()? {
        Some(c @ (']' | '］')) => cursor.skip(c),
        _ => return Ok(None),
    }
    Ok(Some(Reading::Found { bytes: cursor.at - start, value, ending }))
}

fn value_of_variant<'a>(known: &'a Known, name: &str, c: char) -> Option<&'a String> {
    let letter = plain_char(c).to_ascii_uppercase();
    VARIANTS.contains(letter).then(|| known.values.get(&format!("{name}{letter}"))).flatten()
}

/// The letters of a kind in use, whatever separates them; `None` as soon as they can be none.
fn read_letters(
    known: &Known,
    cursor: &mut Cursor<'_>,
    form: Form,
) -> Result<Option<String>, MoreNeeded> {
    let mut letters = String::new();
    loop {
        skip_separators(cursor, 3, form)?;
        let Some(c) = cursor.peek()? else { return Ok(None) };
        let plain = plain_char(c);
        if !plain.is_ascii_alphabetic() {
            let is_kind = known.kinds.iter().any(|kind| *kind == letters);
            return Ok((is_kind && plain.is_ascii_digit()).then_some(letters));
        }
        letters.push(plain.to_ascii_uppercase());
        if !known.kinds.iter().any(|kind| kind.starts_with(&letters)) {
            return Ok(None);
        }
        cursor.skip(c);
    }
}

fn skip_separators(cursor: &mut Cursor<'_>, at_most: usize, form: Form) -> Result<(), MoreNeeded> {
    for _ in 0..at_most {
        // Markdown writes `PERSON\_1`.
        let before = cursor.at;
        if cursor.take(form.backslash())? && cursor.peek()? != Some('_') {
            cursor.at = before;
            return Ok(());
        }
        match cursor.peek()? {
            Some(c) if is_separator(c) => cursor.skip(c),
            _ => return Ok(()),
        }
    }
    Ok(())
}

fn read_digits(cursor: &mut Cursor<'_>) -> Result<Option<String>, MoreNeeded> {
    let mut digits = String::new();
    while let Some(c) = cursor.peek()? {
        let plain = plain_char(c);
        if !plain.is_ascii_digit() {
            break;
        }
        if digits.len() == 6 || (digits.is_empty() && plain == '0') {
            return Ok(None);
        }
        digits.push(plain);
        cursor.skip(c);
    }
    Ok((!digits.is_empty()).then_some(digits))
}

/// A genitive that the model put inside the brackets: `[PERSON_1's]`, `[PERSON_1s]`.
fn read_ending<'t>(cursor: &mut Cursor<'t>) -> Result<&'t str, MoreNeeded> {
    let start = cursor.at;
    if let Some(c @ ('\'' | '’')) = cursor.peek()? {
        cursor.skip(c);
    }
    match cursor.peek()? {
        Some('s') => cursor.skip('s'),
        _ => cursor.at = start,
    }
    Ok(&cursor.text[start..cursor.at])
}

/// `PERSON_1` without brackets counts only in its exact spelling and as a word of its own.
fn read_bare<'a>(
    known: &'a Known,
    cursor: &mut Cursor<'a>,
) -> Result<Option<Reading<'a>>, MoreNeeded> {
    let start = cursor.at;
    let mut letters = String::new();
    while let Some(c) = cursor.peek()? {
        if c == '_' {
            cursor.skip(c);
        } else if c.is_ascii_uppercase() {
            letters.push(c);
            if !known.kinds.iter().any(|kind| kind.starts_with(&letters)) {
                return Ok(None);
            }
            cursor.skip(c);
        } else {
            break;
        }
        if cursor.at - start > 40 {
            return Ok(None);
        }
    }
    let Some(kind) = Kind::ALL.iter().find(|kind| kind.letters() == letters) else {
        return Ok(None);
    };
    let written = &cursor.text[start..cursor.at];
    if written.strip_suffix('_') != Some(kind.as_str()) {
        return Ok(None);
    }
    let Some(digits) = read_digits(cursor)? else { return Ok(None) };
    let name = letters + &digits;
    let mut value = known.values.get(&name);
    if let Some(c) = cursor.peek()?
        && c.is_ascii_uppercase()
        && let Some(of_variant) = value_of_variant(known, &name, c)
    {
        value = Some(of_variant);
        cursor.skip(c);
    }
    if matches!(cursor.peek()?, Some(c) if c.is_alphanumeric() || c == '_') {
        return Ok(None);
    }
    Ok(value.map(|value| Reading::Found { bytes: cursor.at - start, value, ending: "" }))
}

fn is_separator(c: char) -> bool {
    matches!(
        c,
        '_' | ' ' | '-' | '\u{a0}' | '\u{202f}' | '\u{2009}' | '\u{200b}' | '\n' | '‑' | '–' | '＿'
    )
}

fn is_full_width_digit(c: char) -> bool {
    ('０'..='９').contains(&c)
}

/// Full-width letters and digits as the plain ones they stand for.
fn plain_char(c: char) -> char {
    match u32::from(c) {
        code @ 0xff01..=0xff5e => char::from_u32(code - 0xfee0).unwrap_or(c),
        _ => c,
    }
}

/// One thread of text in a stream: what is held back, and what came before it.
#[derive(Debug, Default)]
struct Thread {
    held: String,
    last: Option<char>,
    json: bool,
}

impl Thread {
    fn new(form: Form) -> Self {
        Thread { held: String::new(), last: None, json: form == Form::Json }
    }

    fn form(&self) -> Form {
        if self.json { Form::Json } else { Form::Text }
    }

    /// Takes a piece, gives what can be shown.
    fn push(&mut self, known: &Known, piece: &str) -> String {
        self.held.push_str(piece);
        self.run(known, false)
    }

    fn finish(&mut self, known: &Known) -> String {
        self.run(known, true)
    }

    fn run(&mut self, known: &Known, whole: bool) -> String {
        let text = std::mem::take(&mut self.held);
        let form = self.form();
        let mut shown = String::with_capacity(text.len());
        let (mut from, mut at) = (0, 0);
        while let Some(begin) = self.next_begin(known, &text, at) {
            match read_placeholder(known, &text, begin, whole, form) {
                Reading::Nothing => at = begin + char_len(&text, begin),
                Reading::Unfinished => {
                    self.emit(&text[from..begin], &mut shown);
                    self.held = text[begin..].to_owned();
                    return shown;
                }
                Reading::Found { bytes, value, ending } => {
                    self.emit(&text[from..begin], &mut shown);
                    form.write(value, &mut shown);
                    self.emit(ending, &mut shown);
                    // What stands behind a placeholder is judged by the placeholder's own end.
                    self.last = Some(']');
                    at = begin + bytes;
                    from = at;
                }
            }
        }
        self.emit(&text[from..], &mut shown);
        shown
    }

    /// The next place at which a placeholder could begin.
    fn next_begin(&self, known: &Known, text: &str, from: usize) -> Option<usize> {
        let bytes = text.as_bytes();
        (from..bytes.len()).find(|&at| match bytes[at] {
            b'[' | b'\\' => true,
            0xef => text[at..].starts_with('［'),
            byte if known.begins & capital_bit(byte) != 0 => self.word_begins(text, at),
            _ => false,
        })
    }

    fn word_begins(&self, text: &str, at: usize) -> bool {
        let before = text[..at].chars().next_back().or(self.last);
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    }

    fn emit(&mut self, piece: &str, into: &mut String) {
        if let Some(last) = piece.chars().next_back() {
            self.last = Some(last);
        }
        into.push_str(piece);
    }
}

fn capital_bit(byte: u8) -> u32 {
    if byte.is_ascii_uppercase() { 1 << (byte - b'A') } else { 0 }
}

fn char_len(text: &str, at: usize) -> usize {
    text[at..].chars().next().map_or(1, char::len_utf8)
}

/// Which thread of a stream a piece belongs to. Ends come in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Strand {
    Reasoning(u32),
    Text(u32),
    Arguments(u32, u32),
}

impl Strand {
    fn choice(self) -> u32 {
        match self {
            Strand::Reasoning(choice) | Strand::Text(choice) | Strand::Arguments(choice, _) => {
                choice
            }
        }
    }

    fn chunk(self, text: String) -> Chunk {
        match self {
            Strand::Reasoning(choice) => Chunk::Reasoning { choice, text },
            Strand::Text(choice) => Chunk::Text { choice, text },
            Strand::Arguments(choice, index) => Chunk::ToolCall {
                choice,
                index,
                id: None,
                name: None,
                arguments: text,
                extra: None,
            },
        }
    }
}

/// Restores placeholders in a stream, whatever the cut: it holds back what may be the beginning
/// of one. One state per choice, kind of text and tool call. Log probabilities stay as the
/// vendor gave them: they speak of the vendor's tokens.
#[derive(Debug)]
pub struct Restorer {
    map: Map,
    threads: BTreeMap<Strand, Thread>,
}

impl Restorer {
    /// Takes a piece, gives what can be shown.
    pub fn push(&mut self, chunk: Chunk) -> Vec<Chunk> {
        let Some(known) = self.map.known.clone() else { return vec![chunk] };
        match chunk {
            Chunk::Text { choice, text } => {
                let form = if self.map.text_is_json { Form::Json } else { Form::Text };
                self.turn(&known, Strand::Text(choice), form, &text)
            }
            Chunk::Reasoning { choice, text } => {
                self.turn(&known, Strand::Reasoning(choice), Form::Text, &text)
            }
            Chunk::ToolCall { choice, index, id, name, arguments, extra } => {
                let strand = Strand::Arguments(choice, index);
                let thread = self.threads.entry(strand).or_insert_with(|| Thread::new(Form::Json));
                let arguments = thread.push(&known, &arguments);
                if id.is_none() && name.is_none() && extra.is_none() && arguments.is_empty() {
                    return Vec::new();
                }
                vec![Chunk::ToolCall { choice, index, id, name, arguments, extra }]
            }
            // Thinking ends with its signature: what is held back of it comes first.
            Chunk::ReasoningSignature { choice, .. } => {
                let mut chunks = self.end(&known, |strand| strand == Strand::Reasoning(choice));
                chunks.push(chunk);
                chunks
            }
            Chunk::Finish { choice, .. } => {
                let mut chunks = self.end(&known, |strand| strand.choice() == choice);
                chunks.push(chunk);
                chunks
            }
            Chunk::Extra { dialect, choice, mut fields } => {
                self.map.restore_fields(&mut fields);
                vec![Chunk::Extra { dialect, choice, fields }]
            }
            Chunk::Started { .. }
            | Chunk::RedactedReasoning { .. }
            | Chunk::Logprobs { .. }
            | Chunk::Usage(_) => vec![chunk],
        }
    }

    /// Gives what is still held back, at the end of the stream.
    pub fn finish(&mut self) -> Vec<Chunk> {
        match self.map.known.clone() {
            Some(known) => self.end(&known, |_| true),
            None => Vec::new(),
        }
    }

    fn turn(&mut self, known: &Known, strand: Strand, form: Form, piece: &str) -> Vec<Chunk> {
        let thread = self.threads.entry(strand).or_insert_with(|| Thread::new(form));
        let shown = thread.push(known, piece);
        if shown.is_empty() { Vec::new() } else { vec![strand.chunk(shown)] }
    }

    fn end(&mut self, known: &Known, which: impl Fn(Strand) -> bool) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        for (strand, thread) in &mut self.threads {
            if !which(*strand) {
                continue;
            }
            let shown = thread.finish(known);
            if !shown.is_empty() {
                chunks.push(strand.chunk(shown));
            }
        }
        chunks
    }
}
