//! The list of words that say something about a request, compiled once.
//!
//! `cues.txt` is data that anyone can extend; this file finds all its phrases in one pass over
//! the text. Knows nothing of what a label means.

use std::collections::HashMap;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

/// A group of phrases that say the same thing.
#[derive(Debug)]
pub(super) struct Group {
    /// A task, `domain.X`, `level.X`, or a sign.
    pub(super) label: &'static str,
    /// How much one hit counts.
    pub(super) weight: f32,
    /// `de`, `en`, `any`.
    pub(super) language: &'static str,
}

/// One phrase that was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hit {
    /// Index of the group.
    pub(super) group: usize,
    /// Where it begins, in bytes.
    pub(super) start: usize,
    /// Whether it counts only at a beginning.
    pub(super) anchored: bool,
}

pub(super) struct Cues {
    pub(super) groups: Vec<Group>,
    finder: Option<AhoCorasick>,
    /// By pattern: what it stands for.
    roles: Vec<Vec<Role>>,
    gaps: usize,
}

#[derive(Debug, Clone, Copy)]
struct Role {
    group: usize,
    anchored: bool,
    /// The word may begin, or end, before the phrase does.
    open_left: bool,
    open_right: bool,
    part: Part,
}

/// `fasse * zusammen` is one phrase with a gap: its end counts after its beginning.
#[derive(Debug, Clone, Copy)]
enum Part {
    Whole,
    Begin(usize),
    End(usize),
}

/// How far the end of a phrase with a gap may be from its beginning, in bytes.
const GAP: usize = 90;

/// The list that ships with the program.
pub(super) static CUES: LazyLock<Cues> = LazyLock::new(|| Cues::read(include_str!("cues.txt")));

impl Cues {
    fn read(list: &'static str) -> Self {
        let mut cues = Cues { groups: Vec::new(), finder: None, roles: Vec::new(), gaps: 0 };
        let mut patterns: Vec<String> = Vec::new();
        let mut known: HashMap<String, usize> = HashMap::new();
        for line in list.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if line.starts_with('#') {
                continue;
            }
            if let Some(group) = header(line) {
                cues.groups.push(group);
                continue;
            }
            for phrase in line.split('|').map(str::trim) {
                for (pattern, role) in cues.roles_of(phrase) {
                    let id = *known.entry(pattern.clone()).or_insert_with(|| {
                        patterns.push(pattern);
                        patterns.len() - 1
                    });
                    cues.roles.resize_with(patterns.len(), Vec::new);
                    cues.roles[id].push(role);
                }
            }
        }
        // A contiguous NFA takes a tenth of a DFA's memory and is quick enough: a question has a
        // few hundred bytes.
        cues.finder = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(&patterns)
            .ok();
        cues
    }

    fn roles_of(&mut self, phrase: &str) -> Vec<(String, Role)> {
        let group = self.groups.len().saturating_sub(1);
        let anchored = phrase.starts_with('^');
        let phrase = phrase.trim_start_matches('^');
        let role = |written: &str, part: Part| {
            let open_left = written.starts_with('*');
            let open_right = written.ends_with('*');
            let pattern = written.trim_matches('*').to_owned();
            (pattern, Role { group, anchored, open_left, open_right, part })
        };
        match phrase.split_once(" * ") {
            Some((begin, end)) => {
                let gap = self.gaps;
                self.gaps += 1;
                vec![role(begin, Part::Begin(gap)), role(end, Part::End(gap))]
            }
            None if phrase.trim_matches('*').is_empty() => Vec::new(),
            None => vec![role(phrase, Part::Whole)],
        }
    }

    /// Every phrase that stands in a text in lower case, in the order of their ends.
    pub(super) fn hits(&self, text: &str) -> Vec<Hit> {
        let Some(finder) = &self.finder else { return Vec::new() };
        let mut hits = Vec::new();
        let mut begun: Vec<(usize, usize, usize)> = Vec::new();
        for found in finder.find_overlapping_iter(text) {
            let is_begin = !goes_on(text, found.start());
            let is_end = !goes_on(text, found.end());
            for role in &self.roles[found.pattern().as_usize()] {
                if !(is_begin || role.open_left) || !(is_end || role.open_right) {
                    continue;
                }
                let start = match role.part {
                    Part::Whole => found.start(),
                    Part::Begin(gap) => {
                        begun.push((gap, found.start(), found.end()));
                        continue;
                    }
                    Part::End(gap) => {
                        let before = begun.iter().rev().find(|(of, _, end)| {
                            *of == gap && *end <= found.start() && found.start() - end <= GAP
                        });
                        match before {
                            Some((_, start, _)) => *start,
                            None => continue,
                        }
                    }
                };
                hits.push(Hit { group: role.group, start, anchored: role.anchored });
            }
        }
        hits
    }
}

/// `[LABEL WEIGHT LANGUAGE]`.
fn header(line: &'static str) -> Option<Group> {
    let inside = line.strip_prefix('[')?.strip_suffix(']')?;
    let mut words = inside.split_whitespace();
    let label = words.next()?;
    let weight = words.next()?.parse().ok()?;
    Some(Group { label, weight, language: words.next()? })
}

/// Whether a word goes on across this place.
fn goes_on(text: &str, at: usize) -> bool {
    let is_word = |c: char| c.is_alphanumeric();
    text[..at].chars().next_back().is_some_and(is_word)
        && text[at..].chars().next().is_some_and(is_word)
}
