//! What a trained classifier is made of, beside its weights: data, settings, scores, hashes.
//!
//! `manifest.json` is read by people who ask where a judgement comes from, and by the recipe to
//! skip what is already made. Knows nothing of how anything is learnt.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::classify::train::data::FileFact;

/// `manifest.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The program's version that made it.
    pub version: String,
    /// RFC 3339.
    pub made: String,
    /// What was learnt from.
    pub data: Vec<FileFact>,
    /// `fast`, `encoder`, …: each with its settings and scores.
    pub stages: BTreeMap<String, Stage>,
    /// The files beside it.
    pub files: Vec<FileHash>,
}

/// One thing that was learnt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Hyperparameters, as given.
    pub settings: Value,
    /// Of data and settings: equal means that there is nothing to be done again.
    pub key: String,
    /// What it reached.
    pub scores: Vec<Score>,
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// On what: `dev_real`, `sources left out`, `held out`.
    pub on: String,
    /// Which question: `task`, `injection`, …
    pub head: String,
    /// `de`, `en`, `all`.
    pub lang: String,
    /// Which figure: `accuracy`, `macro_f1`, `ece`, `auc`, …
    pub figure: String,
    /// 0…1.
    pub value: f64,
    /// On how many rows.
    pub rows: usize,
}

/// A file and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHash {
    /// Its name in the folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Of its bytes.
    pub sha256: String,
}

/// Why a folder of a classifier could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file could not be written.
    #[error("could not write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A file could not be read.
    #[error("could not read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A file holds something else than it should.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// Its name in every folder.
pub const MANIFEST: &str = "manifest.json";

impl Manifest {
    /// The folder's manifest; an empty one where there is none yet.
    ///
    /// # Errors
    /// [`FolderError`] where there is one that cannot be read.
    pub fn of(folder: &Path) -> Result<Self, FolderError> {
        let path = folder.join(MANIFEST);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| FolderError::Damaged { path, what: error.to_string() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Manifest::default()),
            Err(cause) => Err(FolderError::Read { path, cause }),
        }
    }

    /// Whether a stage was made from just this, and its files still lie there unchanged.
    pub fn has(&self, folder: &Path, stage: &str, key: &str, files: &[&str]) -> bool {
        let is_same = self.stages.get(stage).is_some_and(|made| made.key == key);
        let is_there = |name: &&str| {
            let noted = self.files.iter().find(|file| file.name == **name);
            noted.is_some_and(|noted| hashed(folder, name).is_ok_and(|found| found == *noted))
        };
        is_same && files.iter().all(is_there)
    }

    /// Writes it, with the hashes of every file in the folder as they are now.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn write(&mut self, folder: &Path, now: jiff::Timestamp) -> Result<(), FolderError> {
        env!("CARGO_PKG_VERSION").clone_into(&mut self.version);
        self.made = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        self.files.clear();
        for name in names(folder)? {
            self.files.push(hashed(folder, &name)?);
        }
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| FolderError::Damaged {
            path: folder.join(MANIFEST),
            what: error.to_string(),
        })?;
        text.push(b'\n');
        write(&folder.join(MANIFEST), &text)
    }
}

/// Writes a file whole or not at all: beside its place first, then moved there.
///
/// # Errors
/// [`FolderError::Write`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    let error = |cause| FolderError::Write { path: path.to_owned(), cause };
    let beside = path.with_extension("part");
    std::fs::write(&beside, bytes).map_err(error)?;
    std::fs::rename(&beside, path).map_err(error)
}

/// A stage's key: what it depends on.
pub fn key(data: &[FileFact], settings: &Value) -> String {
    let mut hasher = Sha256::new();
    for file in data {
        hasher.update(file.path.as_bytes());
        hasher.update(file.sha256.as_bytes());
    }
    hasher.update(settings.to_string().as_bytes());
    hex::encode(hasher.finalize())
}

fn names(folder: &Path) -> Result<Vec<String>, FolderError> {
    let error = |cause| FolderError::Read { path: folder.to_owned(), cause };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(error)? {
        let entry = entry.map_err(error)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_file = entry.file_type().map_err(error)?.is_file();
        if is_file && name != MANIFEST && !name.ends_with(".part") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn hashed(folder: &Path, name: &str) -> Result<FileHash, FolderError> {
    let path = folder.join(name);
    let bytes = std::fs::read(&path).map_err(|cause| FolderError::Read { path, cause })?;
    Ok(FileHash {
        name: name.to_owned(),
        bytes: bytes.len() as u64,
        sha256: hex::encode(Sha256::digest(&bytes)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_not_made_again_until_something_changes() {
        let folder = tempfile::tempdir().expect("a folder");
        write(&folder.path().join("fast.safetensors"), b"weights").expect("written");
        let mut manifest = Manifest::of(folder.path()).expect("none yet");
        let stage = Stage { key: "a".to_owned(), ..Stage::default() };
        manifest.stages.insert("fast".to_owned(), stage);
        manifest.write(folder.path(), jiff::Timestamp::UNIX_EPOCH).expect("written");

        let read = Manifest::of(folder.path()).expect("read");
        assert_eq!(read, manifest);
        let has = |key: &str| read.has(folder.path(), "fast", key, &["fast.safetensors"]);
        assert!(has("a") && !has("b"));
        std::fs::write(folder.path().join("fast.safetensors"), b"others").expect("written");
        assert!(!has("a"), "the file is another one now");
    }

    #[test]
    fn a_damaged_manifest_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(MANIFEST), b"{").expect("written");
        let error = Manifest::of(folder.path()).expect_err("damaged");
        assert!(error.to_string().contains("manifest.json is damaged"), "{error}");
    }
}
