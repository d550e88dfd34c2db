//! The configuration as written: TOML with the line of every key, and where each value came from.
//!
//! A [`Section`] hands out values by key and remembers which keys were asked for; what nobody
//! asked for is unknown, and [`Section::finish`] says so. Nothing stops at the first mistake: all
//! are collected in the [`Reader`]. Knows nothing of what the values mean; that is `check`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

use secrecy::SecretString;
use toml::de::{DeTable, DeValue};

use crate::config::{Finding, Origin};
use crate::reply::Words;

/// A `file:` value larger than this is no secret or setting but a mistake.
const MAX_VALUE_FILE_BYTES: u64 = 1 << 20;

/// What all sections of one file share: the text, the surroundings, and what was found.
pub struct Reader<'a> {
    line_starts: Vec<usize>,
    env: &'a dyn Fn(&str) -> Option<String>,
    base_dir: &'a Path,
    findings: RefCell<Vec<Finding>>,
    origins: RefCell<BTreeMap<String, Origin>>,
}

/// A value with its dotted key, its line, and where it came from.
#[derive(Debug, Clone)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// The dotted key, `provider.openai.base_url`.
    pub key: String,
    /// The line of the file, from 1.
    pub line: usize,
    /// Where it came from.
    pub origin: Origin,
}

impl<T> Located<T> {
    fn map<U>(self, change: impl FnOnce(T) -> U) -> Located<U> {
        Located { value: change(self.value), key: self.key, line: self.line, origin: self.origin }
    }
}

impl Located<String> {
    /// The value for a message: as written in the file, but never what an environment variable
    /// or another file holds, since that may be a secret.
    pub fn shown(&self) -> String {
        match &self.origin {
            Origin::Environment { name } => format!("env:{name}"),
            Origin::OtherFile { path } => format!("file:{path}"),
            _ => self.value.chars().take(80).collect(),
        }
    }
}

impl<'a> Reader<'a> {
    /// A reader for this text, whose `file:` values are relative to `base_dir`.
    pub fn new(
        text: &str,
        base_dir: &'a Path,
        env: &'a dyn Fn(&str) -> Option<String>,
    ) -> Reader<'a> {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Reader {
            line_starts: std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect(),
            env,
            base_dir,
            findings: RefCell::default(),
            origins: RefCell::default(),
        }
    }

    /// Notes a mistake.
    pub fn wrong(&self, key: &str, line: Option<usize>, words: Words) {
        self.findings.borrow_mut().push(finding(key, line, words));
    }

    /// Notes a mistake of a value.
    pub fn wrong_at<T>(&self, at: &Located<T>, words: Words) {
        self.wrong(&at.key, Some(at.line), words);
    }

    /// Notes the mistakes of a text that is no TOML at all.
    pub fn syntax(&self, error: &toml::de::Error) {
        let line = error.span().map(|span| self.line(span.start));
        let message = error.message().replace('\n', "; ");
        let words = Words::new(
            format!("this is not valid TOML: {message}"),
            format!("das ist kein gültiges TOML: {message}"),
        );
        self.wrong("", line, words);
    }

    /// Whether anything is wrong so far.
    pub fn is_sound(&self) -> bool {
        self.findings.borrow().is_empty()
    }

    /// Where a value came from that the file does not say.
    pub fn set_origin(&self, key: impl Into<String>, origin: Origin) {
        self.origins.borrow_mut().insert(key.into(), origin);
    }

    /// Everything that is wrong, by line, and where each value came from.
    pub fn into_parts(self) -> (Vec<Finding>, BTreeMap<String, Origin>) {
        let mut findings = self.findings.into_inner();
        findings.sort_by_key(|finding| finding.line.unwrap_or(usize::MAX));
        (findings, self.origins.into_inner())
    }

    fn line(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at)
    }
}

/// A finding in both languages.
pub fn finding(key: &str, line: Option<usize>, words: Words) -> Finding {
    Finding { key: key.to_owned(), line, message: words.en, message_de: words.de }
}

/// One table of the file.
pub struct Section<'a> {
    reader: &'a Reader<'a>,
    table: &'a DeTable<'a>,
    /// Its dotted key; empty for the whole file.
    pub key: String,
    /// Its line, from 1; `None` for the whole file.
    pub line: Option<usize>,
    asked: RefCell<Vec<&'static str>>,
}

/// A value as written, before it is known what it should be.
struct Field<'a> {
    key: String,
    line: usize,
    value: &'a DeValue<'a>,
}

/// The text of a scalar, and whether it stood in quotes.
struct Scalar {
    text: String,
    quoted: bool,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub fn root(reader: &'a Reader<'a>, table: &'a DeTable<'a>) -> Section<'a> {
        Section { reader, table, key: String::new(), line: None, asked: RefCell::default() }
    }

    /// Whether the key is there, whatever it holds.
    pub fn has(&self, key: &'static str) -> bool {
        self.field(key).is_some()
    }

    /// The line of a key, else that of the section.
    pub fn line_of(&self, key: &'static str) -> Option<usize> {
        self.field(key).map(|field| field.line).or(self.line)
    }

    /// The dotted name of a key of this section.
    pub fn dotted(&self, key: &str) -> String {
        match self.key.as_str() {
            "" => key.to_owned(),
            section => format!("{section}.{key}"),
        }
    }

    /// Notes a mistake of one key, whether or not it is there.
    pub fn wrong(&self, key: &'static str, words: Words) {
        self.reader.wrong(&self.dotted(key), self.line_of(key), words);
    }

    /// Notes that something of the design is not built yet, if the key is there.
    pub fn not_yet(&self, key: &'static str, what_en: &str, what_de: &str) {
        if self.has(key) {
            let words = Words::new(
                format!("not yet: {what_en} is not built yet; take it out"),
                format!("noch nicht: {what_de} gibt es noch nicht; bitte entfernen"),
            );
            self.wrong(key, words);
        }
    }

    /// A text in quotes.
    pub fn text(&self, key: &'static str) -> Option<Located<String>> {
        let scalar = self.scalar(key)?;
        let in_file = matches!(scalar.origin, Origin::File { .. });
        if in_file && !scalar.value.quoted {
            self.reader.wrong_at(
                &scalar,
                Words::new(
                    format!("must be text; write {key} = \"{}\"", scalar.value.text),
                    format!("muss Text sein; bitte {key} = \"{}\" schreiben", scalar.value.text),
                ),
            );
            return None;
        }
        let text = scalar.map(|scalar| scalar.text);
        if text.value.trim().is_empty() {
            let words = Words::new(
                "is empty; write a value or take the key out",
                "ist leer; bitte einen Wert schreiben oder den Schlüssel entfernen",
            );
            self.reader.wrong_at(&text, words);
            return None;
        }
        Some(text)
    }

    /// A text that must be there.
    pub fn required_text(&self, key: &'static str) -> Option<Located<String>> {
        if !self.has(key) {
            let words = Words::new(
                format!("is missing; write {key} = \"…\""),
                format!("fehlt; bitte {key} = \"…\" schreiben"),
            );
            self.wrong(key, words);
            return None;
        }
        self.text(key)
    }

    /// A text that is shown nowhere.
    pub fn secret(&self, key: &'static str) -> Option<Located<SecretString>> {
        self.text(key).map(|text| text.map(SecretString::from))
    }

    /// One word of a closed set.
    pub fn word<T: Copy + Display>(
        &self,
        key: &'static str,
        all: &'static [T],
    ) -> Option<Located<T>> {
        let text = self.text(key)?;
        let value = self.reader.one_of(&text, all)?;
        Some(text.map(|_| value))
    }

    /// A list of words of a closed set; empty if the key is not there.
    pub fn words<T: Copy + Display>(&self, key: &'static str, all: &'static [T]) -> Vec<T> {
        let texts = self.texts(key).unwrap_or_default();
        texts.iter().filter_map(|text| self.reader.one_of(text, all)).collect()
    }

    /// Yes or no.
    pub fn flag(&self, key: &'static str) -> Option<Located<bool>> {
        let text = self.scalar(key)?.map(|scalar| scalar.text);
        let value = self.reader.one_of(&text, &[true, false])?;
        Some(text.map(|_| value))
    }

    /// A share or another number between two ends, both included.
    pub fn number(&self, key: &'static str, least: f64, most: f64) -> Option<Located<f64>> {
        let scalar = self.scalar(key)?;
        self.reader.number_of(scalar.map(|scalar| scalar.text), least, most)
    }

    /// A whole number between two ends, both included.
    pub fn whole(&self, key: &'static str, least: u64, most: u64) -> Option<Located<u64>> {
        let text = self.scalar(key)?.map(|scalar| scalar.text);
        match text.value.trim().parse::<u64>() {
            Ok(number) if (least..=most).contains(&number) => Some(text.map(|_| number)),
            _ => {
                let shown = text.shown();
                let words = Words::new(
                    format!("`{shown}` must be a whole number from {least} to {most}"),
                    format!("`{shown}` muss eine ganze Zahl von {least} bis {most} sein"),
                );
                self.reader.wrong_at(&text, words);
                None
            }
        }
    }

    /// The literal text of a number, quoted or not, so that no digit is lost on the way to a
    /// decimal.
    pub fn decimal(&self, key: &'static str) -> Option<Located<String>> {
        self.scalar(key).map(|scalar| scalar.map(|scalar| scalar.text))
    }

    /// A date, quoted or not.
    pub fn date(&self, key: &'static str) -> Option<Located<jiff::civil::Date>> {
        let text = self.scalar(key)?.map(|scalar| scalar.text);
        match text.value.trim().parse() {
            Ok(date) => Some(text.map(|_| date)),
            Err(_) => {
                let shown = text.shown();
                let words = Words::new(
                    format!("`{shown}` is no date; write for example 2026-07-02"),
                    format!("`{shown}` ist kein Datum; bitte zum Beispiel 2026-07-02 schreiben"),
                );
                self.reader.wrong_at(&text, words);
                None
            }
        }
    }

    /// A list of texts; `None` if the key is not there or no list. What an environment variable
    /// or a file holds is split at commas.
    pub fn texts(&self, key: &'static str) -> Option<Vec<Located<String>>> {
        let field = self.field(key)?;
        if let DeValue::Array(items) = field.value {
            return Some(
                self.items(&field, items.iter().map(|item| (item.span(), item.get_ref()))),
            );
        }
        let referred = matches!(field.value, DeValue::String(text) if is_reference(text));
        if !referred {
            let words = Words::new(
                format!("must be a list; write {key} = [\"…\"]"),
                format!("muss eine Liste sein; bitte {key} = [\"…\"] schreiben"),
            );
            self.wrong(key, words);
            return None;
        }
        let text = self.text(key)?;
        let parts = text.value.split(',').map(str::trim).filter(|part| !part.is_empty());
        Some(parts.map(|part| text.clone().map(|_| part.to_owned())).collect())
    }

    /// A list of numbers between two ends.
    pub fn numbers(&self, key: &'static str, least: f64, most: f64) -> Option<Vec<f64>> {
        let field = self.field(key)?;
        let DeValue::Array(items) = field.value else {
            let words = Words::new(
                format!("must be a list of numbers; write {key} = [0.5, 0.8]"),
                format!("muss eine Liste von Zahlen sein; bitte {key} = [0.5, 0.8] schreiben"),
            );
            self.wrong(key, words);
            return None;
        };
        let fields = items.iter().map(|item| Field {
            key: field.key.clone(),
            line: self.reader.line(item.span().start),
            value: item.get_ref(),
        });
        let numbers = fields.filter_map(|field| {
            let scalar = self.reader.scalar_of(&field)?;
            self.reader.number_of(scalar.map(|scalar| scalar.text), least, most)
        });
        self.reader.set_origin(&*field.key, Origin::File { line: field.line });
        Some(numbers.map(|number| number.value).collect())
    }

    /// A table under this key.
    pub fn section(&self, key: &'static str) -> Option<Section<'a>> {
        let field = self.field(key)?;
        match field.value {
            DeValue::Table(table) => Some(self.below(field.key, field.line, table)),
            _ => {
                self.not_a_table(key, &format!("[{}]", field.key));
                None
            }
        }
    }

    /// Whether the value under this key is a table.
    pub fn is_table(&self, key: &'static str) -> bool {
        self.field(key).is_some_and(|field| field.value.is_table())
    }

    /// The tables of a list such as `[[provider]]`, each named by its id where it has one.
    pub fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let Some(field) = self.field(key) else { return Vec::new() };
        let DeValue::Array(items) = field.value else {
            self.not_a_table(key, &format!("[[{}]]", field.key));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let DeValue::Table(table) = item.get_ref() else {
                self.not_a_table(key, &format!("[[{}]]", field.key));
                continue;
            };
            let name = match table.get("id").map(|id| id.get_ref()) {
                Some(DeValue::String(id)) if !id.is_empty() && !is_reference(id) => id.to_string(),
                _ => (index + 1).to_string(),
            };
            let line = self.reader.line(item.span().start);
            sections.push(self.below(format!("{}.{name}", field.key), line, table));
        }
        sections
    }

    /// Every key of a table whose keys are names that people choose.
    pub fn names(&self) -> Vec<&'a str> {
        self.table.keys().map(|key| key.get_ref().as_ref()).collect()
    }

    /// The text under a key that people chose.
    pub fn named_text(&self, name: &str) -> Option<Located<String>> {
        let field = self.field_named(name)?;
        let scalar = self.reader.scalar_of(&field)?;
        Some(scalar.map(|scalar| scalar.text))
    }

    /// The list of texts under a key that people chose.
    pub fn named_texts(&self, name: &str) -> Option<Vec<Located<String>>> {
        let field = self.field_named(name)?;
        match field.value {
            DeValue::Array(items) => {
                let items = items.iter().map(|item| (item.span(), item.get_ref()));
                Some(self.items(&field, items))
            }
            _ => Some(vec![self.named_text(name)?]),
        }
    }

    /// Says which keys nobody knows. A section that is not finished has no unknown keys.
    pub fn finish(self) {
        let asked = self.asked.borrow();
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if asked.contains(&name) {
                continue;
            }
            let line = self.reader.line(key.span().start);
            let shown: String = name.chars().take(80).collect();
            let words = match nearest(name, asked.iter().copied()) {
                Some(near) => Words::new(
                    format!("unknown key; did you mean `{near}`?"),
                    format!("unbekannter Schlüssel; ist `{near}` gemeint?"),
                ),
                None => Words::new(
                    format!("unknown key; known here: {}", list(asked.iter())),
                    format!("unbekannter Schlüssel; bekannt sind hier: {}", list(asked.iter())),
                ),
            };
            self.reader.wrong(&self.dotted(&shown), Some(line), words);
        }
    }

    fn below(&self, key: String, line: usize, table: &'a DeTable<'a>) -> Section<'a> {
        Section { reader: self.reader, table, key, line: Some(line), asked: RefCell::default() }
    }

    fn not_a_table(&self, key: &'static str, header: &str) {
        let words = Words::new(
            format!("must be a table; write it under {header}"),
            format!("muss eine Tabelle sein; bitte unter {header} schreiben"),
        );
        self.wrong(key, words);
    }

    fn field(&self, key: &'static str) -> Option<Field<'a>> {
        if !self.asked.borrow().contains(&key) {
            self.asked.borrow_mut().push(key);
        }
        self.field_named(key)
    }

    fn field_named(&self, name: &str) -> Option<Field<'a>> {
        let (key, value) = self.table.get_key_value(name)?;
        let line = self.reader.line(key.span().start);
        Some(Field { key: self.dotted(name), line, value: value.get_ref() })
    }

    fn scalar(&self, key: &'static str) -> Option<Located<Scalar>> {
        let field = self.field(key)?;
        self.reader.scalar_of(&field)
    }

    fn items(
        &self,
        field: &Field<'a>,
        items: impl Iterator<Item = (std::ops::Range<usize>, &'a DeValue<'a>)>,
    ) -> Vec<Located<String>> {
        let mut texts = Vec::new();
        for (span, value) in items {
            let line = self.reader.line(span.start);
            let item = Field { key: field.key.clone(), line, value };
            let Some(scalar) = self.reader.scalar_of(&item) else { continue };
            let empty = scalar.value.text.trim().is_empty();
            if empty || !scalar.value.quoted {
                let words = Words::new(
                    "every entry of this list must be text in quotes and not empty",
                    "jeder Eintrag dieser Liste muss Text in Anführungszeichen und nicht leer sein",
                );
                self.reader.wrong_at(&scalar, words);
                continue;
            }
            texts.push(scalar.map(|scalar| scalar.text));
        }
        self.reader.set_origin(&*field.key, Origin::File { line: field.line });
        texts
    }
}

impl Reader<'_> {
    /// Resolves `env:` and `file:` and notes the origin.
    fn scalar_of(&self, field: &Field<'_>) -> Option<Located<Scalar>> {
        let literal = |text: String| Some(Scalar { text, quoted: false });
        let written = match field.value {
            DeValue::String(text) => Some(Scalar { text: text.to_string(), quoted: true }),
            DeValue::Integer(number) if number.radix() == 10 => literal(number.as_str().to_owned()),
            DeValue::Float(number) => literal(number.as_str().to_owned()),
            DeValue::Boolean(flag) => literal(flag.to_string()),
            DeValue::Datetime(date) => literal(date.to_string()),
            _ => None,
        };
        let Some(scalar) = written else {
            let words = Words::new("must be one value", "muss ein einzelner Wert sein");
            self.wrong(&field.key, Some(field.line), words);
            return None;
        };
        let origin = Origin::File { line: field.line };
        let written = Located { value: scalar, key: field.key.clone(), line: field.line, origin };
        let resolved = self.resolve(written)?;
        self.set_origin(&*field.key, resolved.origin.clone());
        Some(resolved)
    }

    fn resolve(&self, written: Located<Scalar>) -> Option<Located<Scalar>> {
        let text = &written.value.text;
        if !written.value.quoted {
            return Some(written);
        }
        if let Some(name) = text.strip_prefix("env:") {
            return self.in_environment(&written, name.to_owned());
        }
        if let Some(path) = text.strip_prefix("file:") {
            return self.in_file(&written, path.to_owned());
        }
        Some(written)
    }

    fn in_environment(&self, at: &Located<Scalar>, name: String) -> Option<Located<Scalar>> {
        let Some(text) = (self.env)(&name).filter(|text| !text.is_empty()) else {
            let words = Words::new(
                format!("the environment variable {name} is not set; set it, or write the value"),
                format!(
                    "die Umgebungsvariable {name} ist nicht gesetzt; bitte setzen oder den Wert \
                     hinschreiben"
                ),
            );
            self.wrong_at(at, words);
            return None;
        };
        let value = Scalar { text: text.trim_end_matches(['\n', '\r']).to_owned(), quoted: true };
        let origin = Origin::Environment { name };
        Some(Located { value, key: at.key.clone(), line: at.line, origin })
    }

    fn in_file(&self, at: &Located<Scalar>, path: String) -> Option<Located<Scalar>> {
        match read_value(&self.base_dir.join(&path)) {
            Ok(text) => {
                let value = Scalar { text, quoted: true };
                let origin = Origin::OtherFile { path };
                Some(Located { value, key: at.key.clone(), line: at.line, origin })
            }
            Err(cause) => {
                let words = Words::new(
                    format!("cannot read the file {path}: {cause}"),
                    format!("die Datei {path} lässt sich nicht lesen: {cause}"),
                );
                self.wrong_at(at, words);
                None
            }
        }
    }

    fn number_of(&self, text: Located<String>, least: f64, most: f64) -> Option<Located<f64>> {
        match text.value.trim().parse::<f64>() {
            Ok(number) if (least..=most).contains(&number) => Some(text.map(|_| number)),
            _ => {
                let shown = text.shown();
                let words = Words::new(
                    format!("`{shown}` must be a number from {least} to {most}"),
                    format!("`{shown}` muss eine Zahl von {least} bis {most} sein"),
                );
                self.wrong_at(&text, words);
                None
            }
        }
    }

    fn one_of<T: Copy + Display>(&self, text: &Located<String>, all: &[T]) -> Option<T> {
        let found = all.iter().copied().find(|value| value.to_string() == text.value);
        if found.is_none() {
            let shown = text.shown();
            let known = list(all.iter());
            let words = Words::new(
                format!("`{shown}` is not one of: {known}"),
                format!("`{shown}` ist keines von: {known}"),
            );
            self.wrong_at(text, words);
        }
        found
    }
}

fn read_value(path: &Path) -> std::io::Result<String> {
    let about = std::fs::metadata(path)?;
    if !about.is_file() || about.len() > MAX_VALUE_FILE_BYTES {
        return Err(std::io::Error::other("not a small file"));
    }
    let text = std::fs::read_to_string(path)?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

fn is_reference(text: &str) -> bool {
    text.starts_with("env:") || text.starts_with("file:")
}

/// Names for a message, `a, b, c`.
pub fn list<T: Display>(names: impl Iterator<Item = T>) -> String {
    names.map(|name| name.to_string()).collect::<Vec<_>>().join(", ")
}

/// The name that was probably meant.
pub fn nearest<'n>(written: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    // Beyond this length nobody mistypes a key; the measure's time grows with the square.
    if written.len() > 64 {
        return None;
    }
    let most = (written.chars().count() / 3).max(1);
    known
        .map(|name| (strsim::damerau_levenshtein(written, name), name))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, name)| name)
}
