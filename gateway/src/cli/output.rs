//! How results and words are printed: tables, JSON, text of models, progress.
//!
//! Knows nothing of what is printed. Standard output is locked and buffered once for each
//! command; a reader that goes away ends the command quietly.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::cli::CommandError;

/// Standard output, buffered; flush it at the end.
pub fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::with_capacity(1 << 16, io::stdout().lock())
}

/// Whether a person watches standard output.
pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Words to a person, on standard error.
pub fn say(words: &str) {
    // When standard error is gone there is nowhere left to complain.
    let _ = writeln!(io::stderr().lock(), "{words}");
}

/// One value as pretty JSON with a line end.
pub fn json(value: &impl Serialize) -> Result<(), CommandError> {
    let mut out = stdout();
    serde_json::to_writer_pretty(&mut out, value)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// A text with its line end.
pub fn line(text: &str) -> Result<(), CommandError> {
    let mut out = stdout();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// A small table: columns as wide as their widest cell, numbers to the right.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<usize>,
}

impl Table {
    /// A table with a header.
    pub fn new<const N: usize>(header: [&str; N]) -> Self {
        Table { rows: vec![header.map(str::to_owned).to_vec()], ..Table::default() }
    }

    /// A table without a header.
    pub fn bare() -> Self {
        Table::default()
    }

    /// Sets these columns flush right.
    pub fn right<const N: usize>(mut self, columns: [usize; N]) -> Self {
        self.right = columns.to_vec();
        self
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width_of = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width_of).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let gap = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
                let cell = printable(cell);
                match self.right.contains(&column) {
                    true => line.extend([gap.as_str(), cell.as_str()]),
                    false => line.extend([cell.as_str(), gap.as_str()]),
                }
                line.push_str("  ");
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A text as a terminal may show it: a model's answer or a name from a file must not move the
/// cursor, change colours or write to the clipboard, so control characters other than line ends
/// and tabs are left out.
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// A counter on standard error, drawn only where a person watches and the results go elsewhere.
pub fn counter(template: &str) -> ProgressBar {
    let watched = io::stderr().is_terminal() && !stdout_is_terminal();
    let target = match watched {
        true => ProgressDrawTarget::stderr_with_hz(5),
        false => ProgressDrawTarget::hidden(),
    };
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::with_draw_target(None, target).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_also_with_umlauts() {
        let mut table = Table::new(["name", "left"]).right([1]);
        table.row(["Qualitätsprüfung".to_owned(), "1.50".to_owned()]);
        table.row(["IT".to_owned(), "200.00".to_owned()]);
        insta::assert_snapshot!(table.to_string(), @r"
        name                left
        Qualitätsprüfung    1.50
        IT                200.00
        ");
    }

    #[test]
    fn an_answer_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\r\n\tc\u{9b}0m"), "a[2Jb\n\tc0m");
    }
}
