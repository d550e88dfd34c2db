//! Teaching the English encoder German.
//!
//! Reimers and Gurevych 2020 (arXiv 2004.09813): the student's vector of a German sentence is
//! pulled to the teacher's vector of its English translation. The teacher is the encoder itself
//! before it learns, so that English stays where it is. German pieces start at the mean of the
//! English words that they are translated by (IBM model 1, Brown et al. 1993).

use std::collections::HashMap;

use candle_core::{Device, Result, Tensor};

use super::adam::{Pace, Weight};
use super::net::{Batch, Net, Tokens, WIDTH};
use super::vocabulary::plain;

/// Sentences that say the same.
#[derive(Debug, Clone)]
pub struct Pair {
    /// In English.
    pub english: String,
    /// In German.
    pub german: String,
}

fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()).map(plain).collect()
}

/// How likely each English word translates a German one, by expectation maximisation.
pub fn translations(pairs: &[Pair], rounds: usize) -> HashMap<String, Vec<(String, f32)>> {
    let mut names: Vec<String> = Vec::new();
    let mut ids: HashMap<String, u32> = HashMap::new();
    let mut id = |word: String| {
        *ids.entry(word.clone()).or_insert_with(|| {
            names.push(word);
            names.len() as u32 - 1
        })
    };
    let sentences: Vec<(Vec<u32>, Vec<u32>)> = pairs
        .iter()
        .map(|pair| {
            let german = words(&pair.german).into_iter().map(|w| id(format!("de:{w}"))).collect();
            let english = words(&pair.english).into_iter().map(|w| id(format!("en:{w}"))).collect();
            (german, english)
        })
        .collect();
    let mut table: HashMap<(u32, u32), f32> = HashMap::new();
    for (german, english) in &sentences {
        for g in german {
            for e in english {
                table.insert((*g, *e), 1.0);
            }
        }
    }
    for _ in 0..rounds {
        let mut counts: HashMap<(u32, u32), f32> = HashMap::new();
        let mut totals: HashMap<u32, f32> = HashMap::new();
        for (german, english) in &sentences {
            for e in english {
                let sum: f32 = german.iter().map(|g| table[&(*g, *e)]).sum();
                for g in german {
                    let share = table[&(*g, *e)] / sum;
                    *counts.entry((*g, *e)).or_default() += share;
                    *totals.entry(*g).or_default() += share;
                }
            }
        }
        table = counts.into_iter().map(|((g, e), count)| ((g, e), count / totals[&g])).collect();
    }
    let mut found: HashMap<String, Vec<(String, f32)>> = HashMap::new();
    for ((g, e), p) in table {
        if p >= 0.05 {
            let german = names[g as usize].trim_start_matches("de:").to_owned();
            found
                .entry(german)
                .or_default()
                .push((names[e as usize].trim_start_matches("en:").to_owned(), p));
        }
    }
    for list in found.values_mut() {
        list.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        list.truncate(6);
    }
    found
}

/// The word table with a row for every piece of the longer vocabulary.
///
/// `crumbs` cuts a piece by the base vocabulary alone.
pub fn grow(
    base: &Weight,
    pieces: &[String],
    translations: &HashMap<String, Vec<(String, f32)>>,
    crumbs: &dyn Fn(&str) -> Vec<u32>,
) -> Weight {
    let old = base.shape[0];
    let mut values = base.values.clone();
    let mean = |ids: &[u32]| -> Vec<f32> {
        let mut sum = vec![0.0; WIDTH];
        for id in ids {
            let row = &base.values[*id as usize * WIDTH..][..WIDTH];
            sum.iter_mut().zip(row).for_each(|(sum, v)| *sum += v / ids.len() as f32);
        }
        sum
    };
    for piece in &pieces[old..] {
        let word = piece.trim_start_matches("##");
        let translated = translations.get(word).filter(|_| word.chars().count() >= 3);
        let row = match translated {
            Some(list) => {
                let total: f32 = list.iter().map(|(_, p)| p).sum();
                let mut sum = vec![0.0; WIDTH];
                for (english, p) in list {
                    let row = mean(&crumbs(english));
                    sum.iter_mut().zip(row).for_each(|(sum, v)| *sum += v * p / total);
                }
                sum
            }
            None => mean(&crumbs(word)),
        };
        values.extend(row);
    }
    Weight::new(values, vec![pieces.len(), WIDTH])
}

/// What a round of distillation may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The German rows of the word table alone.
    Words,
    /// Everything; English is held where the teacher has it.
    All,
}

/// The teacher's vectors: the mean over the tokens, sentence by sentence.
pub fn vectors(net: &Net, texts: &[Tokens]) -> Result<Vec<Vec<f32>>> {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|at| texts[*at].ids.len());
    let mut found = vec![Vec::new(); texts.len()];
    for chunk in order.chunks(256) {
        let batch = Batch::of(&chunk.iter().map(|at| &texts[*at]).collect::<Vec<_>>());
        let mean = net.pass(&batch, 0.0)?.mean()?.to_vec2::<f32>()?;
        for (at, vector) in chunk.iter().zip(mean) {
            found[*at] = vector;
        }
    }
    Ok(found)
}

/// One step: pulls these sentences to those vectors. Returns the mean squared distance.
pub fn step(
    net: &mut Net,
    texts: &[&Tokens],
    targets: &[&[f32]],
    pace: Pace,
    stage: Stage,
) -> Result<f32> {
    let batch = Batch::of(texts);
    net.frozen = match stage {
        Stage::Words => vec!["embeddings.".into(), "encoder.".into(), "heads.".into()],
        Stage::All => vec!["heads.".into()],
    };
    let pass = net.pass(&batch, 0.0)?;
    let targets = Tensor::from_vec(targets.concat(), (texts.len(), WIDTH), &Device::Cpu)?;
    let loss = (pass.mean()? - targets)?.sqr()?.sum(1)?.mean(0)?;
    // Word vectors are small beside the weights' updates of Adam, and each is seen seldom.
    let words_rate = if stage == Stage::Words { 1.0 } else { 4.0 };
    net.learn(&batch, &pass, &loss, pace, 1.0, words_rate)?;
    loss.to_scalar()
}
