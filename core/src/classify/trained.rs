//! Two trained stages, one answer.
//!
//! [`Trained::classify`] asks the fast stage; where that is not sure, the deep one decides.
//! [`Trained::scan`] looks through every text of a request for attacks and names. Long texts are
//! read at head, tail and in windows, what was read lately is remembered, and what cannot be read
//! is marked unsure instead of guessed. Knows nothing of zones, guards or models. Start reading at
//! [`Trained::classify`].

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Instant;

use lru::LruCache;

use crate::classify::deep::{Deep, DeepError, DeepFiles, Vectors};
use crate::classify::fast::{Fast, FastError, features};
use crate::classify::heads::{
    Calibration, EntitySpan, Head, HeadsFile, Logits, Shares, decode, likeliest,
};
use crate::classify::plain::{is_noise, plain, said, unnamed_input};
use crate::classify::{Classifier, Input, language};
use crate::trace::Classification;

#[cfg(test)]
mod tests;

/// The files of a trained classifier, as bytes.
#[derive(Debug, Clone)]
pub struct Files<'f> {
    /// `heads.json`: [`HeadsFile`].
    pub heads: &'f [u8],
    /// `fast.safetensors`.
    pub fast: &'f [u8],
    /// The deep stage's; without it the fast stage answers alone.
    pub deep: Option<DeepFiles>,
}

/// Why a classifier could not be loaded. The rules take over, and `doctor` says so.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// `heads.json` is no JSON of this version, or holds numbers that cannot be used.
    #[error("heads.json of the classifier is damaged: {0}")]
    Heads(String),
    /// The fast stage's weights.
    #[error("fast.safetensors of the classifier cannot be used")]
    Fast(#[from] FastError),
    /// The deep stage's files.
    #[error("the encoder of the classifier cannot be used")]
    Deep(#[from] DeepError),
}

/// A trained classifier. Share it: it remembers what it read lately.
pub struct Trained {
    fast: Fast,
    heads: HeadsFile,
    deep: Option<Deep>,
    recent: Mutex<LruCache<u64, Arc<Read>>>,
    hasher: RandomState,
}

impl std::fmt::Debug for Trained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trained").field("deep", &self.deep.is_some()).finish_non_exhaustive()
    }
}

/// What the deep stage said about one text; holds no text.
#[derive(Debug, Clone)]
struct Read {
    logits: Logits,
    entities: Vec<EntitySpan>,
    /// For classifiers of one's own.
    vector: Box<[f32]>,
}

/// What the fast stage said about one text: of the whole, and of each window of a long middle.
struct FastRead {
    logits: Logits,
    shares: Shares,
    windows: Vec<Shares>,
}

/// What stands in the texts of a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scan {
    /// The highest probability of an attack in any of them, 0…1.
    pub injection: f32,
    /// Names and places, for each text.
    pub entities: Vec<Vec<EntitySpan>>,
}

/// How many answers are remembered: about four kilobytes each, most of it the vector.
const REMEMBERED: usize = 1_024;

/// What ships inside the program, on the device that suits best.
pub static SHIPPED: LazyLock<Result<Arc<Trained>, LoadError>> =
    LazyLock::new(|| Trained::load(&shipped_files(), "auto").map(Arc::new));

/// The fast stage of what ships, alone: whoever wants no deep stage does not load one.
static SHIPPED_FAST: LazyLock<Result<Arc<Trained>, LoadError>> = LazyLock::new(|| {
    let files = Files { deep: None, ..shipped_files() };
    Trained::load(&files, "cpu").map(Arc::new)
});

/// What ships, on the device that the configuration names. It is loaded once for `auto`, which
/// nearly everyone has; a device that is named and not there is an error with the way out.
///
/// # Errors
/// [`LoadError`], as words: those of [`SHIPPED`] cannot be handed out twice.
pub fn shipped(device: &str) -> Result<Arc<Trained>, String> {
    match device {
        "auto" => SHIPPED.as_ref().map(Arc::clone).map_err(words),
        _ => Trained::load(&shipped_files(), device).map(Arc::new).map_err(|error| words(&error)),
    }
}

/// The fast stage alone: for `mode = "fast"`, and for the guard where no classifier is wanted.
///
/// # Errors
/// As [`shipped`]; a damaged encoder is none of them.
pub fn shipped_fast() -> Result<Arc<Trained>, String> {
    SHIPPED_FAST.as_ref().map(Arc::clone).map_err(words)
}

fn words(error: &LoadError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// The bytes that ship.
fn shipped_files() -> Files<'static> {
    Files {
        heads: include_bytes!("../../../assets/classifier/heads.json"),
        fast: include_bytes!("../../../assets/classifier/fast.safetensors"),
        deep: crate::classify::deep::shipped(),
    }
}

impl Trained {
    /// Loads a classifier from its files.
    ///
    /// # Errors
    /// [`LoadError`] says which file is damaged.
    pub fn load(files: &Files<'_>, device: &str) -> Result<Self, LoadError> {
        let heads: HeadsFile = serde_json::from_slice(files.heads)
            .map_err(|error| LoadError::Heads(error.to_string()))?;
        if heads.version != 2 {
            return Err(LoadError::Heads(format!("version {} is not known", heads.version)));
        }
        let calibrations = [Some(heads.fast), heads.deep];
        let is_sound = calibrations.iter().flatten().all(Calibration::is_sound)
            && heads.both.is_none_or(|both| both.is_sound());
        if !is_sound {
            return Err(LoadError::Heads("a number is out of range".to_owned()));
        }
        let deep = files.deep.as_ref().map(|files| Deep::load(files, device)).transpose()?;
        if deep.is_some() && (heads.deep.is_none() || heads.both.is_none()) {
            return Err(LoadError::Heads("there is no calibration of the encoder".to_owned()));
        }
        Ok(Trained {
            fast: Fast::from_bytes(files.fast)?,
            heads,
            deep,
            recent: Mutex::new(LruCache::new(
                NonZeroUsize::new(REMEMBERED).unwrap_or(NonZeroUsize::MIN),
            )),
            hasher: RandomState::new(),
        })
    }

    /// Whether an answer takes microseconds, so that nobody needs to wait aside for it.
    pub fn is_quick(&self) -> bool {
        self.deep.is_none()
    }

    /// What kind of work a request is.
    pub fn classify(&self, input: &Input) -> Classification {
        let began = Instant::now();
        let input = &unnamed_input(input);
        let (read, calibration, stage) = self.read(input);
        let mut found = decode(&read, &calibration, stage);
        found.unsure |= is_noise(&input.text);
        let lower: String = input.text.chars().take(600).flat_map(char::to_lowercase).collect();
        if let Some(language) = language::by_script(&lower) {
            // Neither stage has learnt to read it.
            found.language = language.to_owned();
            found.unsure = true;
        } else if !lower.chars().any(char::is_alphabetic) {
            found.language = "und".to_owned();
        }
        found.micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        found
    }

    fn read(&self, input: &Input) -> (Shares, Calibration, &'static str) {
        let fast = self.fast_read(input);
        // Noise says nothing to a deep reader either, and comes by the megabyte.
        let is_worth_it = !self.heads.alone.is_sure(&fast.shares) && !is_noise(&input.text);
        let Some(deep) = self.deep.as_ref().filter(|_| is_worth_it) else {
            return (fast.shares, self.heads.fast, "fast");
        };
        let text = plain(&input.text);
        let Some(read) = self.deep_read(deep, &text, &input.context()) else {
            // The deep stage has too much to do, or failed: the fast answer, and the safer side.
            let unsure = Calibration { sure_task: 1.0, ..self.heads.fast };
            return (fast.shares, unsure, "fast");
        };
        let (joined, calibration) = self.heads.joined(&fast.logits, &read.logits);
        let mut shares = Shares::of(&joined, &calibration);
        fast.windows.iter().for_each(|window| raise(&mut shares, window));
        // A long text's windows between head and tail, for what must not be missed there.
        for window in middle_windows(&text, DEEP_WINDOW, MOST_DEEP_WINDOWS) {
            if let Some((shares_there, _)) = self.window(deep, window) {
                raise(&mut shares, &shares_there);
            }
        }
        (shares, calibration, "deep")
    }

    /// The fast stage's opinion. What may raise the level or be an attack anywhere in a long
    /// text counts, so that nothing is silently cut.
    fn fast_read(&self, input: &Input) -> FastRead {
        let plain_text = plain(&input.text);
        let tidied;
        let input = match &plain_text {
            Cow::Borrowed(_) => input,
            Cow::Owned(text) => {
                tidied = Input { text: text.clone(), ..input.clone() };
                &tidied
            }
        };
        let logits = self.fast.logits(&features(input)).with_length(&input.text);
        let mut shares = Shares::of(&logits, &self.heads.fast);
        let windows: Vec<Shares> = middle_windows(&input.text, WINDOW, MOST_WINDOWS)
            .into_iter()
            .map(|window| Shares::of(&self.window_logits(window), &self.heads.fast))
            .collect();
        windows.iter().for_each(|window| raise(&mut shares, window));
        FastRead { logits, shares, windows }
    }

    /// What both stages say of a window, read as a person reads it, and the names in it as they
    /// are written.
    fn window(&self, deep: &Deep, window: &str) -> Option<(Shares, Arc<Read>)> {
        let written = self.deep_read(deep, window, "")?;
        let text = plain(window);
        let meant = match &text {
            Cow::Borrowed(_) => written.clone(),
            Cow::Owned(text) => self.deep_read(deep, text, "")?,
        };
        let (joined, calibration) = self.heads.joined(&self.window_logits(&text), &meant.logits);
        Some((Shares::of(&joined, &calibration), written))
    }

    fn window_logits(&self, window: &str) -> Logits {
        self.fast.logits(&features(&Input::text(window)))
    }

    /// The deep stage on one text with what stood before it; `None` where it gave no answer.
    fn deep_read(&self, deep: &Deep, text: &str, context: &str) -> Option<Arc<Read>> {
        let key = self.hasher.hash_one((text, context));
        if let Some(read) = self.remembered(key) {
            return Some(read);
        }
        let seen = deep.read(&[(text, context)])?.pop()?;
        let read = Arc::new(Read {
            logits: seen.logits.with_length(text),
            entities: seen.entities,
            vector: seen.vector,
        });
        self.remember(key, read.clone());
        Some(read)
    }

    fn remembered(&self, key: u64) -> Option<Arc<Read>> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.get(&key).cloned()
    }

    fn remember(&self, key: u64, read: Arc<Read>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.put(key, read);
    }

    /// What the encoder makes of what a person wrote, for classifiers of one's own: as many numbers
    /// as its heads read. Without what stood before it, since they learn from single lines. `None` without a deep stage, for noise, and where it has too much to do.
    pub fn vector(&self, input: &Input) -> Option<Vec<f32>> {
        let read = self.deep_read(self.deep.as_ref()?, &said(input)?, "")?;
        Some(read.vector.to_vec())
    }

    /// The same, for whoever learns from it. `None` without a deep stage.
    pub fn vectors(self: &Arc<Self>) -> Option<Vectors> {
        let (id, own) = (self.encoder_id()?.to_owned(), self.clone());
        Some(Vectors { id, of: Box::new(move |input| own.vector(input)) })
    }

    /// The encoder's name: the SHA-256 of its weights, in hex. `None` without a deep stage.
    pub fn encoder_id(&self) -> Option<&str> {
        self.deep.as_ref().map(Deep::id)
    }

    /// Looks through every text for attacks, and where there is a deep stage for names.
    pub fn scan(&self, texts: &[String]) -> Scan {
        let mut scan = Scan::default();
        for text in texts {
            let (injection, entities) = self.scan_text(text);
            scan.injection = scan.injection.max(injection);
            scan.entities.push(entities);
        }
        scan
    }

    fn scan_text(&self, text: &str) -> (f32, Vec<EntitySpan>) {
        if is_noise(text) {
            return (0.0, Vec::new());
        }
        let Some(deep) = &self.deep else {
            return (self.fast_read(&Input::text(text)).shares.injection(), Vec::new());
        };
        let mut entities: Vec<EntitySpan> = Vec::new();
        let mut injection: Option<f32> = None;
        for (from, window) in all_windows(text, DEEP_WINDOW, MOST_SCANNED) {
            let Some((shares, read)) = self.window(deep, window) else { continue };
            let is_whole = window.len() == text.len();
            let own = if is_whole { shares.injection() } else { far(shares.injection()) };
            injection = Some(injection.map_or(own, |most| most.max(own)));
            let moved = read.entities.iter().map(|entity| EntitySpan {
                start: entity.start + from,
                end: entity.end + from,
                ..*entity
            });
            entities.extend(moved);
        }
        // Windows are read alone. What only the whole shows both stages see at once, where it is
        // short enough for that; beyond it the fast one alone has read all.
        let fast = || self.fast_read(&Input::text(text)).shares.injection();
        let whole = if text.len() <= DEEP_WINDOW {
            injection
        } else if text.len() <= WHOLE {
            self.window(deep, text).map(|(shares, _)| shares.injection())
        } else {
            Some(far(fast()))
        };
        match (injection, whole) {
            (Some(found), Some(whole)) => (found.max(whole), entities),
            _ => (fast(), entities),
        }
    }
}

impl Classifier for Trained {
    fn classify(&self, input: &Input) -> Classification {
        Trained::classify(self, input)
    }
}

/// Bytes of a window of the fast stage, and how many are read at most: a megabyte whole.
const WINDOW: usize = 1_800;
const MOST_WINDOWS: usize = 640;
/// Bytes of a window of the deep stage: about 200 tokens of German.
const DEEP_WINDOW: usize = 800;
/// How many windows of a long text the deep stage reads for the classification …
const MOST_DEEP_WINDOWS: usize = 4;
/// … and for names: some ten pages of text. Beyond that the rules look alone.
const MOST_SCANNED: usize = 48;
/// Shorter texts have no middle: the stages read them whole.
const WHOLE: usize = 5_000;

/// One window of many is believed only where it is very sure: among six hundred, some are one in
/// a hundred by chance.
const VERY_SURE: f32 = 0.9;

fn far(probability: f32) -> f32 {
    if probability >= VERY_SURE { probability } else { probability.min(0.5) }
}

/// Raises level and attack by what one window says.
fn raise(shares: &mut Shares, window: &Shares) {
    if window.injection() > shares.injection().max(VERY_SURE) {
        shares.take(Head::Injection, window);
    }
    let (level, share) = likeliest(window.head(Head::Sensitivity));
    let (own, _) = likeliest(shares.head(Head::Sensitivity));
    if level > own && share >= VERY_SURE {
        shares.take(Head::Sensitivity, window);
    }
}

/// Windows of a long text's middle, evenly spread where they are too many.
fn middle_windows(text: &str, size: usize, most: usize) -> Vec<&str> {
    if text.len() <= WHOLE {
        return Vec::new();
    }
    let windows: Vec<(usize, &str)> = all_windows(text, size, usize::MAX);
    let step = windows.len().div_ceil(most).max(1);
    windows.into_iter().step_by(step).map(|(_, window)| window).collect()
}

/// The whole text in pieces that end between words where that is possible.
fn all_windows(text: &str, size: usize, most: usize) -> Vec<(usize, &str)> {
    let mut windows = Vec::new();
    let mut from = 0;
    while from < text.len() && windows.len() < most {
        let mut to = text.floor_char_boundary((from + size).min(text.len()));
        if to < text.len() {
            let space = text[from..to].rfind(char::is_whitespace).filter(|at| *at > size / 2);
            to = space.map_or(to, |at| from + at + 1);
            while !text.is_char_boundary(to) {
                to += 1;
            }
        }
        windows.push((from, &text[from..to]));
        from = to;
    }
    windows
}
