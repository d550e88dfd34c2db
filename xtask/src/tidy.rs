//! `cargo xtask tidy`: the rules of the house that the compiler does not know.
//!
//! The floors of `ARCHITECTURE.md` (which room of `core` may use which), the absences ("`core`
//! knows no HTTP server", "only `store` knows SQL"), and the signs at the doors. It reads text
//! and parses nothing, so it finds what is written plainly, which is how this house writes.

use std::fmt;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// The rooms of `core` from the ground up. A room may use rooms that lie below its floor, and on
/// the floor of the shared words its neighbours.
const FLOORS: &[&[&str]] = &[
    &["ids", "money"],
    &["request", "caller", "trace", "reply", "catalog", "period"],
    &["config"],
    &[
        "guard",
        "classify",
        "route",
        "knowledge",
        "cache",
        "budget",
        "provider",
        "judge",
        "ledger",
        "history",
        "org",
        "approval",
        "audit",
    ],
    &["store"],
    &["engine", "privacy"],
    &["flow", "lifecycle"],
    &["api"],
];

/// The floor whose rooms may use each other: the shared words.
const WORDS: usize = 1;

/// What only certain places of `core` may name.
const ABSENCES: &[Absence] = &[
    Absence { what: "SQL", words: &["rusqlite", "refinery", "tokio_postgres"], only: &["store"] },
    Absence {
        what: "sockets",
        words: &["reqwest::", "tokio::net", "std::net::Tcp", "std::net::Udp", "hyper::"],
        only: &["provider", "flow", "store"],
    },
    Absence { what: "an HTTP server", words: &["axum", "tower_http"], only: &[] },
    Absence { what: "a chat platform", words: &["slack_morphism", "serenity"], only: &[] },
    Absence { what: "a window", words: &["tauri"], only: &[] },
];

/// Longer files are told, not refused: a long flat list is fine.
const LONG: usize = 900;

struct Absence {
    what: &'static str,
    words: &'static [&'static str],
    only: &'static [&'static str],
}

/// One broken rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    file: String,
    line: usize,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// Checks every file that git knows or would take.
pub fn run() -> Result<()> {
    let mut findings = Vec::new();
    let mut long = Vec::new();
    for file in files()? {
        let Ok(text) = std::fs::read_to_string(shell::root().join(&file)) else { continue };
        findings.extend(check(&file, &text));
        let lines = text.lines().count();
        if file.ends_with(".rs") && lines > LONG {
            long.push(format!("{file} ({lines} lines)"));
        }
    }
    if !long.is_empty() {
        eprintln!("xtask: long files, to be read with an eye on splitting: {}", long.join(", "));
    }
    if findings.is_empty() {
        eprintln!("xtask: tidy");
        return Ok(());
    }
    for finding in &findings {
        eprintln!("{finding}");
    }
    bail!("{} findings; ARCHITECTURE.md tells the rules", findings.len())
}

fn files() -> Result<Vec<String>> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(shell::root())
        .output()
        .context("cannot start git")?;
    if !listed.status.success() {
        bail!("git cannot list the files of this checkout");
    }
    let listed = String::from_utf8(listed.stdout).context("a file name is not UTF-8")?;
    Ok(listed.lines().map(str::to_owned).collect())
}

/// Every broken rule of one file.
fn check(file: &str, text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut tell = |line, what| found.push(Finding { file: file.to_owned(), line, what });
    if file.ends_with(".rs") {
        if !text.trim_start().starts_with("//!") {
            tell(1, "the file opens without its sign, two to five lines of `//!`".to_owned());
        }
        let room = room(file);
        for (number, line) in code(text) {
            if let Some(room) = room {
                arrows(room, line).into_iter().for_each(|what| tell(number, what));
                absences(room, line).into_iter().for_each(|what| tell(number, what));
            }
        }
    }
    if is_written_by_hand(file) {
        for (number, line) in text.lines().enumerate() {
            if let Some(what) = leftover(line) {
                tell(number + 1, what);
            }
        }
    }
    found
}

/// The room of `core` that a file belongs to. Tests look at their room from outside, and may
/// bring what they like to do so.
fn room(file: &str) -> Option<&str> {
    let inside = file.strip_prefix("core/src/")?;
    let is_test = inside.ends_with("tests.rs") || inside.contains("/tests/");
    let first = inside.split('/').next()?;
    let room = first.strip_suffix(".rs").unwrap_or(first);
    (!is_test && room != "lib").then_some(room)
}

/// The lines of code with their numbers, without comments, up to the tests at the file's end.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line))
        .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// Arrows that point up or sideways.
fn arrows(room: &str, line: &str) -> Vec<String> {
    let Some(from) = floor(room) else {
        return vec![format!("the room `{room}` stands on no floor; name it in xtask/src/tidy.rs")];
    };
    let mut wrong = Vec::new();
    for rest in line.split("crate::").skip(1) {
        if rest.starts_with('{') {
            wrong.push("import by full path, one room a line, so that arrows show".to_owned());
            continue;
        }
        let used: String =
            rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let Some(to) = floor(&used) else { continue };
        let allowed = used == room || to < from || (to == WORDS && from == WORDS);
        if !allowed {
            wrong.push(format!("`{room}` may not use `{used}`: it does not lie below"));
        }
    }
    wrong
}

fn absences(room: &str, line: &str) -> Vec<String> {
    ABSENCES
        .iter()
        .filter(|absence| !absence.only.contains(&room))
        .filter(|absence| absence.words.iter().any(|word| line.contains(word)))
        .map(|absence| format!("`{room}` knows nothing of {}", absence.what))
        .collect()
}

fn is_written_by_hand(file: &str) -> bool {
    let ends = [".rs", ".md", ".toml", ".sql", ".sh", ".py", ".yml", ".yaml", "/run"];
    ends.iter().any(|end| file.ends_with(end)) && !file.starts_with("assets/catalog/")
}

/// Words that may stand nowhere: notes to oneself, and paths of the machine something was
/// written on.
fn leftover(line: &str) -> Option<String> {
    // Put together here, so that this file does not find itself.
    let notes = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];
    let paths = [concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
    if let Some(note) = notes.iter().find(|note| line.contains(*note)) {
        return Some(format!("a note to oneself ({note}); do it or make it an issue"));
    }
    let path = paths.iter().find(|path| line.contains(*path))?;
    Some(format!("a path of somebody's machine ({path}…)"))
}

/// Whether a path exists in the checkout; for rules about whole folders.
#[cfg(test)]
fn exists(path: &str) -> bool {
    shell::root().join(path).exists()
}

#[cfg(test)]
mod tests {
    use super::{FLOORS, check, exists};

    fn findings(file: &str, code: &str) -> Vec<String> {
        let text = format!("//! A sign.\n{code}\n");
        check(file, &text).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn a_step_that_uses_another_step_is_found() {
        let found = findings("core/src/route/policy.rs", "use crate::guard::Findings;");
        assert_eq!(found, ["`route` may not use `guard`: it does not lie below"]);
    }

    #[test]
    fn an_arrow_that_points_up_is_found() {
        let found = findings("core/src/money.rs", "fn f(x: crate::engine::Engine) {}");
        assert_eq!(found, ["`money` may not use `engine`: it does not lie below"]);
    }

    #[test]
    fn arrows_that_point_down_are_fine() {
        assert!(findings("core/src/engine.rs", "use crate::guard::Guard;").is_empty());
        assert!(findings("core/src/route/mod.rs", "use crate::config::Policy;").is_empty());
        assert!(findings("core/src/trace.rs", "use crate::request::Zone;").is_empty());
    }

    #[test]
    fn arrows_that_hide_in_a_group_are_found() {
        let found = findings("core/src/route/mod.rs", "use crate::{guard, ids};");
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn sql_outside_the_store_is_found() {
        let found = findings("core/src/ledger/mod.rs", "use rusqlite::Connection;");
        assert_eq!(found, ["`ledger` knows nothing of SQL"]);
        assert!(findings("core/src/store/sqlite/mod.rs", "use rusqlite::Connection;").is_empty());
    }

    #[test]
    fn sockets_outside_the_providers_are_found() {
        let found = findings("core/src/guard/mod.rs", "let client = reqwest::Client::new();");
        assert_eq!(found, ["`guard` knows nothing of sockets"]);
    }

    #[test]
    fn an_http_server_in_core_is_found() {
        let found = findings("core/src/engine.rs", "use axum::Router;");
        assert_eq!(found, ["`engine` knows nothing of an HTTP server"]);
    }

    #[test]
    fn tests_and_comments_may_name_what_they_like() {
        assert!(findings("core/src/guard/tests.rs", "use crate::engine::Engine;").is_empty());
        assert!(findings("core/src/guard/mod.rs", "// See crate::engine.").is_empty());
        let below = "#[cfg(test)]\nmod tests { use crate::engine::Engine; }";
        assert!(findings("core/src/guard/mod.rs", below).is_empty());
    }

    #[test]
    fn a_file_without_its_sign_is_found() {
        let found = check("gateway/src/server.rs", "use std::fmt;\n");
        assert_eq!(found.len(), 1);
        assert!(found[0].what.contains("sign"));
    }

    #[test]
    fn notes_and_paths_of_a_machine_are_found() {
        assert_eq!(check("docs/x.md", concat!("TO", "DO: more")).len(), 1);
        assert_eq!(check("docs/x.md", concat!("see /ho", "me/anna/x")).len(), 1);
        assert!(check("docs/x.md", "all is said").is_empty());
    }

    #[test]
    fn every_room_of_core_stands_on_a_floor() {
        assert!(exists("core/src/engine.rs"), "this test reads the checkout");
        let rooms: Vec<&str> = FLOORS.concat();
        let entries = std::fs::read_dir(crate::shell::root().join("core/src")).unwrap();
        for entry in entries {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let room = name.trim_end_matches(".rs");
            let is_known = room == "lib" || rooms.contains(&room);
            assert!(is_known, "`{room}` stands on no floor");
        }
    }
}
