//! `xtask gen names`: training rows for the head that finds people, organisations, places and
//! addresses.
//!
//! Fills the hand-written frames of assets/training/names from its pools. Decides nothing of what
//! is a name: the frames do. The same seed gives the same rows.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;

mod fill;
mod person;
mod values;

/// What to write.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder with pools.txt, de.txt and en.txt.
    #[arg(long, default_value = "assets/training/names")]
    source: PathBuf,
    /// Where to write the rows.
    #[arg(long)]
    out: PathBuf,
    /// How many rows at most; what would stand there twice is dropped.
    #[arg(long, default_value_t = 8000)]
    rows: usize,
    /// The same seed gives the same rows.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A language of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    German,
    English,
}

impl Language {
    fn code(self) -> &'static str {
        match self {
            Language::German => "de",
            Language::English => "en",
        }
    }
}

/// Writes the rows.
pub fn run(args: &Args) -> Result<()> {
    let pools = Pools::read(&args.source.join("pools.txt"))?;
    let german = frames(&args.source.join("de.txt"), Language::German)?;
    let english = frames(&args.source.join("en.txt"), Language::English)?;
    let mut random = Random(args.seed);
    let mut known = HashSet::new();
    let mut lines = String::new();
    let mut rows = 0;
    // Frame by frame, so that each is drawn about as often as the others.
    for round in 0..args.rows {
        let frames = if round % 5 < 3 { &german } else { &english };
        if rows == args.rows || round > args.rows {
            break;
        }
        let frame = &frames[(round / 5 * 3 + round % 5) % frames.len()];
        let row = fill::row(frame, frames, &pools, &mut random)
            .with_context(|| format!("frame {:?}", frame.text))?;
        if !known.insert(row.text.clone()) {
            continue;
        }
        let spans: Vec<_> = row
            .spans
            .iter()
            .map(|span| json!({"start": span.start, "end": span.end, "type": span.kind}))
            .collect();
        let line = json!({"text": row.text, "lang": frame.language.code(), "spans": spans});
        lines.push_str(&line.to_string());
        lines.push('\n');
        rows += 1;
    }
    fs::write(&args.out, lines)?;
    eprintln!("{rows} rows from {} frames", german.len() + english.len());
    Ok(())
}

/// One hand-written text with slots.
#[derive(Debug, Clone)]
struct Frame {
    text: String,
    language: Language,
}

fn frames(path: &Path, language: Language) -> Result<Vec<Frame>> {
    let written = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let frames: Vec<Frame> = written
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("# "))
        .map(|line| Frame { text: line.replace("\\n", "\n"), language })
        .collect();
    if frames.is_empty() {
        bail!("{} has no frame", path.display());
    }
    Ok(frames)
}

/// What slots are filled with.
#[derive(Debug)]
struct Pools {
    sections: HashMap<String, Vec<String>>,
    /// Origins of people, each as often as its weight says.
    origins: Vec<String>,
}

impl Pools {
    fn read(path: &Path) -> Result<Self> {
        let written = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let mut sections: HashMap<String, Vec<String>> = HashMap::new();
        let mut section = String::new();
        for line in written.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                name.clone_into(&mut section);
                continue;
            }
            let entries = line.split(',').map(|entry| entry.trim().to_owned());
            sections.entry(section.clone()).or_default().extend(entries);
        }
        let mut origins = Vec::new();
        for weight in sections.remove("weights").context("pools have no [weights]")? {
            let (origin, times) = weight.split_once(' ').context("a weight is `de 46`")?;
            origins.extend(std::iter::repeat_n(origin.to_owned(), times.parse()?));
        }
        Ok(Pools { sections, origins })
    }

    fn draw<'p>(&'p self, section: &str, random: &mut Random) -> Result<&'p str> {
        let entries = self.sections.get(section).with_context(|| format!("no pool {section}"))?;
        Ok(random.of(entries))
    }
}

/// SplitMix64: small, and the same on every machine.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn between(&mut self, from: usize, to: usize) -> usize {
        from + self.below(to - from + 1)
    }

    fn of<'a>(&mut self, entries: &'a [String]) -> &'a str {
        &entries[self.below(entries.len())]
    }

    fn choose<'a>(&mut self, entries: &[&'a str]) -> &'a str {
        entries[self.below(entries.len())]
    }

    /// Whether something that happens so many times in a hundred happens.
    fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn digits(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(b'0' + self.below(10) as u8)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_span_is_the_name_that_was_filled_in() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/training/names");
        let pools = Pools::read(&source.join("pools.txt")).unwrap();
        let german = frames(&source.join("de.txt"), Language::German).unwrap();
        let english = frames(&source.join("en.txt"), Language::English).unwrap();
        assert!(german.len() + english.len() >= 250);
        let mut random = Random(7);
        for frame in german.iter().chain(&english) {
            let family = if frame.language == Language::German { &german } else { &english };
            let row = fill::row(frame, family, &pools, &mut random).unwrap();
            let characters: Vec<char> = row.text.chars().collect();
            for span in &row.spans {
                let named: String = characters[span.start..span.end].iter().collect();
                assert!(!named.is_empty() && named.trim() == named, "{named:?} in {}", row.text);
            }
            // Only JSON has braces left: every slot was filled.
            let unfilled = row.text.split('{').skip(1).find(|rest| !rest.starts_with('"'));
            assert!(unfilled.is_none(), "{}", row.text);
            assert!(row.spans.windows(2).all(|pair| pair[0].end <= pair[1].start));
        }
    }
}
