//! The organisation file as it is written: rows with named cells, from TOML or from CSV.
//!
//! Both formats become the same rows, so that everything that can be wrong in a row is looked
//! for in one place. Knows nothing of what the rows mean together.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::org::import::ImportFinding;
use crate::request::word_enum;

word_enum! {
    /// What a row describes.
    Kind {
        /// The company.
        Company = "company",
        /// A department.
        Department = "department",
        /// A team.
        Team = "team",
        /// A person.
        Person = "person",
        /// A budget.
        Budget = "budget",
    }
}

impl Kind {
    fn keys(self) -> &'static [&'static str] {
        match self {
            Kind::Company => &["id", "name"],
            Kind::Department | Kind::Team => &["id", "name", "parent"],
            Kind::Person => {
                &["id", "name", "parent", "email", "groups", "locale", "roles", "clearance"]
            }
            Kind::Budget => &["node", "amount", "period", "soft"],
        }
    }
}

/// One table of the TOML file, or one line of the CSV file.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) kind: Kind,
    /// From 1.
    pub(super) line: usize,
    pub(super) findings: Vec<ImportFinding>,
    cells: BTreeMap<String, (Cell, usize)>,
}

#[derive(Debug)]
enum Cell {
    Text(String),
    List(Vec<String>),
    Flag(bool),
}

/// The longest id, in bytes: ids stand in every row of the ledger.
const LONGEST_ID: usize = 200;

impl Row {
    fn new(kind: Kind, line: usize) -> Self {
        Row { kind, line, findings: Vec::new(), cells: BTreeMap::new() }
    }

    /// Notes that something is wrong in this row.
    pub(super) fn wrong(&mut self, en: impl Into<String>, de: impl Into<String>) {
        self.wrong_on(self.line, en, de);
    }

    fn wrong_on(&mut self, line: usize, en: impl Into<String>, de: impl Into<String>) {
        self.findings.push(ImportFinding::new(Some(line), en, de));
    }

    fn take(&mut self, key: &str, cell: Cell, line: usize) {
        if self.kind.keys().contains(&key) {
            self.cells.insert(key.to_owned(), (cell, line));
            return;
        }
        let (kind, keys) = (self.kind, self.kind.keys().join(", "));
        self.wrong_on(
            line,
            format!("`{key}` is unknown for a {kind}; there are {keys}"),
            format!("`{key}` ist bei `{kind}` unbekannt; es gibt {keys}"),
        );
    }

    /// The id, without which a row is nothing.
    pub(super) fn id(&mut self) -> Option<String> {
        let id = self.needed("id")?;
        if id.len() > LONGEST_ID || id.chars().any(char::is_control) {
            self.wrong(
                format!("an id has at most {LONGEST_ID} bytes and no control characters"),
                format!("eine Kennung hat höchstens {LONGEST_ID} Bytes und keine Steuerzeichen"),
            );
            return None;
        }
        Some(id)
    }

    /// A text that must be there.
    pub(super) fn needed(&mut self, key: &str) -> Option<String> {
        let is_missing = !self.cells.contains_key(key);
        let text = self.text(key);
        if is_missing || text.as_ref().is_some_and(String::is_empty) {
            let kind = self.kind;
            self.wrong(format!("a {kind} needs `{key}`"), format!("bei `{kind}` fehlt `{key}`"));
            return None;
        }
        text
    }

    /// A text, without the space around it.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        match self.cells.get(key)? {
            (Cell::Text(text), _) => Some(text.trim().to_owned()),
            (_, line) => {
                let line = *line;
                self.wrong_on(
                    line,
                    format!("`{key}` must be a text"),
                    format!("`{key}` muss ein Text sein"),
                );
                None
            }
        }
    }

    /// A list of texts; a single text is a list with semicolons.
    pub(super) fn list(&mut self, key: &str) -> Vec<String> {
        let items = match self.cells.get(key) {
            None => return Vec::new(),
            Some((Cell::List(items), _)) => items.clone(),
            Some((Cell::Text(text), _)) => text.split(';').map(str::to_owned).collect(),
            Some((Cell::Flag(_), line)) => {
                let line = *line;
                self.wrong_on(
                    line,
                    format!("`{key}` must be a list of texts"),
                    format!("`{key}` muss eine Liste von Texten sein"),
                );
                return Vec::new();
            }
        };
        let mut once: Vec<String> = Vec::new();
        for item in items.iter().map(|item| item.trim()).filter(|item| !item.is_empty()) {
            if !once.iter().any(|seen| seen == item) {
                once.push(item.to_owned());
            }
        }
        once
    }

    /// A word out of `words`, read by `parse`.
    pub(super) fn word<T>(
        &mut self,
        key: &str,
        words: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let written = self.text(key)?;
        self.read_word(key, &written, words, parse)
    }

    /// A word that is at hand already.
    pub(super) fn read_word<T>(
        &mut self,
        key: &str,
        written: &str,
        words: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let value = parse(written);
        if value.is_none() {
            self.wrong(
                format!("`{written}` is no `{key}`; there are {words}"),
                format!("`{written}` gibt es bei `{key}` nicht; es gibt {words}"),
            );
        }
        value
    }

    /// Yes or no; no where nothing is said.
    pub(super) fn flag(&mut self, key: &str) -> bool {
        let written = match self.cells.get(key) {
            None => return false,
            Some((Cell::Flag(flag), _)) => return *flag,
            Some((Cell::Text(text), _)) => text.trim().to_lowercase(),
            Some((Cell::List(_), _)) => String::from("[…]"),
        };
        match written.as_str() {
            "true" | "yes" | "ja" | "1" => true,
            "false" | "no" | "nein" | "0" | "" => false,
            _ => {
                self.wrong(
                    format!("`{key}` must be true or false"),
                    format!("`{key}` muss true oder false sein"),
                );
                false
            }
        }
    }
}

/// Finds lines by offsets in a text.
struct Lines<'text> {
    text: &'text str,
    /// Where each line ends.
    ends: Vec<usize>,
}

impl<'text> Lines<'text> {
    fn new(text: &'text str) -> Self {
        Lines { text, ends: text.match_indices('\n').map(|(offset, _)| offset).collect() }
    }

    /// The line of an offset in bytes, from 1.
    fn of(&self, offset: usize) -> usize {
        self.ends.partition_point(|end| *end < offset) + 1
    }
}

/// Reads the tables of a TOML file.
pub(super) fn read_toml(text: &str) -> (Vec<Row>, Vec<ImportFinding>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = Lines::new(text);
    let root = match DeTable::parse(text) {
        Ok(root) => root,
        Err(error) => {
            let line = error.span().map(|span| lines.of(span.start));
            let message = error.message();
            let en = format!("this is no valid TOML: {message}");
            let de = format!("das ist kein gültiges TOML: {message}");
            return (Vec::new(), vec![ImportFinding::new(line, en, de)]);
        }
    };
    let mut rows = Vec::new();
    let mut findings = Vec::new();
    for (key, value) in root.get_ref() {
        let line = lines.of(key.span().start);
        let Some(kind) = Kind::from_word(key.get_ref()) else {
            findings.push(unknown_kind(line, key.get_ref()));
            continue;
        };
        match (kind, value.get_ref()) {
            (Kind::Company, DeValue::Table(table)) => {
                rows.push(toml_row(kind, line, table, &lines));
            }
            (Kind::Company, _) => findings.push(ImportFinding::new(
                Some(line),
                "write [company]",
                "schreiben Sie [company]",
            )),
            (_, DeValue::Array(tables)) => {
                for table in tables.iter() {
                    let line = lines.of(table.span().start);
                    match table.get_ref() {
                        DeValue::Table(table) => rows.push(toml_row(kind, line, table, &lines)),
                        _ => findings.push(write_double_brackets(kind, line)),
                    }
                }
            }
            _ => findings.push(write_double_brackets(kind, line)),
        }
    }
    // Tables of one kind come together; people read findings by line.
    rows.sort_by_key(|row| row.line);
    (rows, findings)
}

fn unknown_kind(line: usize, written: &str) -> ImportFinding {
    ImportFinding::new(
        Some(line),
        format!("`{written}` is unknown; there are company, department, team, person, budget"),
        format!("`{written}` ist unbekannt; es gibt company, department, team, person, budget"),
    )
}

fn write_double_brackets(kind: Kind, line: usize) -> ImportFinding {
    ImportFinding::new(
        Some(line),
        format!("write [[{kind}]], with two brackets"),
        format!("schreiben Sie [[{kind}]], mit zwei Klammern"),
    )
}

fn toml_row(kind: Kind, line: usize, table: &DeTable<'_>, lines: &Lines<'_>) -> Row {
    let mut row = Row::new(kind, line);
    for (key, value) in table {
        let line = lines.of(key.span().start);
        let key = key.get_ref();
        match cell_of(value, lines.text) {
            Some(cell) => row.take(key, cell, line),
            None => row.wrong_on(
                line,
                format!("`{key}` must be a text, a number, true or false, or a list of texts"),
                format!("`{key}` muss ein Text, eine Zahl, true oder false oder eine Liste von Texten sein"),
            ),
        }
    }
    row
}

fn cell_of(value: &Spanned<DeValue<'_>>, text: &str) -> Option<Cell> {
    match value.get_ref() {
        DeValue::String(written) => Some(Cell::Text(written.to_string())),
        // As it is written: an amount never passes through a float.
        DeValue::Integer(_) | DeValue::Float(_) => {
            text.get(value.span()).map(|written| Cell::Text(written.replace('_', "")))
        }
        DeValue::Boolean(flag) => Some(Cell::Flag(*flag)),
        DeValue::Array(items) => {
            let texts = items.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
            texts.collect::<Option<Vec<String>>>().map(Cell::List)
        }
        DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

/// Every column that a CSV file may have.
const COLUMNS: [&str; 13] = [
    "kind",
    "id",
    "name",
    "parent",
    "email",
    "groups",
    "locale",
    "roles",
    "clearance",
    "node",
    "amount",
    "period",
    "soft",
];

/// Reads the lines of a CSV file. A cell with nothing in it is no cell.
pub(super) fn read_csv(text: &str) -> (Vec<Row>, Vec<ImportFinding>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let header_line = text.lines().next().unwrap_or_default();
    let delimiter = if header_line.contains(';') { b';' } else { b',' };
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(error) => return (Vec::new(), vec![bad_csv(&error)]),
    };
    let findings = check_header(&header);
    if !findings.is_empty() {
        return (Vec::new(), findings);
    }
    let mut rows = Vec::new();
    let mut findings = Vec::new();
    for record in reader.records() {
        match record {
            Ok(record) => match csv_row(&header, &record) {
                Ok(row) => rows.push(row),
                Err(finding) => findings.push(finding),
            },
            Err(error) => findings.push(bad_csv(&error)),
        }
    }
    (rows, findings)
}

fn check_header(header: &csv::StringRecord) -> Vec<ImportFinding> {
    let columns = COLUMNS.join(", ");
    let mut findings: Vec<ImportFinding> = header
        .iter()
        .filter(|column| !COLUMNS.contains(column))
        .map(|column| {
            ImportFinding::new(
                Some(1),
                format!("the column `{column}` is unknown; there are {columns}"),
                format!("die Spalte `{column}` ist unbekannt; es gibt {columns}"),
            )
        })
        .collect();
    if !header.iter().any(|column| column == "kind") {
        findings.push(ImportFinding::new(
            Some(1),
            format!("the first line must name the columns, among them `kind`; there are {columns}"),
            format!("die erste Zeile muss die Spalten nennen, darunter `kind`; es gibt {columns}"),
        ));
    }
    findings
}

fn csv_row(header: &csv::StringRecord, record: &csv::StringRecord) -> Result<Row, ImportFinding> {
    let line = record.position().map_or(0, |position| position.line());
    let line = usize::try_from(line).unwrap_or(usize::MAX);
    let cells = || header.iter().zip(record.iter()).filter(|(_, cell)| !cell.is_empty());
    let kind = cells().find(|(column, _)| *column == "kind").map_or("", |(_, kind)| kind);
    let Some(kind) = Kind::from_word(kind) else { return Err(unknown_kind(line, kind)) };
    let mut row = Row::new(kind, line);
    for (column, cell) in cells().filter(|(column, _)| *column != "kind") {
        row.take(column, Cell::Text(cell.to_owned()), line);
    }
    Ok(row)
}

fn bad_csv(error: &csv::Error) -> ImportFinding {
    let line = error.position().and_then(|position| usize::try_from(position.line()).ok());
    let (en, de) = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => (
            format!(
                "this line has {len} cells, the first line has {expected_len}; cells with the delimiter in them need quotes"
            ),
            format!(
                "diese Zeile hat {len} Zellen, die erste hat {expected_len}; Zellen, die das Trennzeichen enthalten, brauchen Anführungszeichen"
            ),
        ),
        _ => {
            ("this line is no valid CSV".to_owned(), "diese Zeile ist kein gültiges CSV".to_owned())
        }
    };
    ImportFinding::new(line, en, de)
}
