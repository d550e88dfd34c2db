//! `[classify] custom` and `custom` in policy rules: classifiers of one's own.
//!
//! Decides that each folder holds a classifier and that a rule names classes that it has. Reads
//! the list of classes alone; whether the weights are sound is told when they are loaded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::file::{Located, Reader, Section, list, nearest};
use crate::reply::Words;

/// Classifiers by name, with what is needed to check rules.
#[derive(Debug, Default)]
pub struct Classifiers {
    /// Name → folder.
    pub folders: BTreeMap<String, PathBuf>,
    labels: BTreeMap<String, Vec<String>>,
}

/// `custom = { support = "classifiers/support" }`, relative to the configuration.
pub fn classifiers(
    section: Option<Section<'_>>,
    reader: &Reader<'_>,
    base_dir: &Path,
) -> Classifiers {
    let mut classifiers = Classifiers::default();
    let Some(section) = section else { return classifiers };
    for name in section.names() {
        let Some(folder) = section.named_text(name) else { continue };
        let path = base_dir.join(&folder.value);
        classifiers.folders.insert(name.to_owned(), path.clone());
        match labels(&path) {
            Some(labels) => {
                classifiers.labels.insert(name.to_owned(), labels);
            }
            None => no_classifier(&folder, reader),
        }
    }
    classifiers
}

fn no_classifier(folder: &Located<String>, reader: &Reader<'_>) {
    let shown = folder.shown();
    let words = Words::new(
        format!(
            "`{shown}` holds no classifier; make one by `stellwerk train --data FILE --out {shown}`"
        ),
        format!(
            "in `{shown}` liegt kein Klassifikator; `stellwerk train --data DATEI --out {shown}` \
             macht einen"
        ),
    );
    reader.wrong_at(folder, words);
}

/// The classes that `own.json` lists.
fn labels(folder: &Path) -> Option<Vec<String>> {
    let text = std::fs::read(folder.join("own.json")).ok()?;
    let described: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let labels = described.get("labels")?.as_array()?;
    labels.iter().map(|label| label.as_str().map(str::to_owned)).collect()
}

/// `custom = { support = ["refund"] }` of a policy rule.
pub fn condition(
    section: Option<Section<'_>>,
    reader: &Reader<'_>,
    classifiers: &Classifiers,
) -> BTreeMap<String, Vec<String>> {
    let mut condition = BTreeMap::new();
    let Some(section) = section else { return condition };
    for name in section.names() {
        let Some(classes) = section.named_texts(name) else { continue };
        for class in &classes {
            match classifiers.labels.get(name) {
                Some(known) if known.contains(&class.value) => {}
                Some(known) => unknown(class, known, reader),
                // A folder that is wrong has been told already.
                None if classifiers.folders.contains_key(name) => {}
                None => unnamed(class, name, classifiers, reader),
            }
        }
        let classes = classes.into_iter().map(|class| class.value).collect();
        condition.insert(name.to_owned(), classes);
    }
    condition
}

fn unknown(class: &Located<String>, known: &[String], reader: &Reader<'_>) {
    let shown = class.shown();
    let names = match nearest(&shown, known.iter().map(String::as_str)) {
        Some(near) => format!("`{near}`"),
        None => list(known.iter().take(20)),
    };
    let words = Words::new(
        format!("the classifier has no class `{shown}`; known: {names}"),
        format!("der Klassifikator kennt keine Klasse `{shown}`; bekannt: {names}"),
    );
    reader.wrong_at(class, words);
}

fn unnamed(class: &Located<String>, name: &str, classifiers: &Classifiers, reader: &Reader<'_>) {
    let name: String = name.chars().take(80).collect();
    let known = list(classifiers.folders.keys());
    let known = if known.is_empty() { "–".to_owned() } else { known };
    let words = Words::new(
        format!("no classifier `{name}` in [classify] custom; known: {known}"),
        format!("kein Klassifikator `{name}` in [classify] custom; bekannt: {known}"),
    );
    reader.wrong_at(class, words);
}
