//! Examples as the encoder learns from them: tokens, a target for each head, a tag for each token.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::net;
use crate::classify::encoder::EncoderError;
use crate::classify::encoder::tokenizer::{self, Tokenizer, shape};
use crate::classify::heads::LANGUAGES;
use crate::classify::train::data::{Entity, Example};
use crate::classify::train::deep::tune::{Heads, Sample, Target};
use crate::request::{Domain, Sensitivity, TaskKind};

/// The heads: task, domain, complexity, sensitivity, injection, language; and the tags.
pub fn heads() -> Heads {
    Heads {
        widths: vec![
            TaskKind::ALL.len(),
            Domain::ALL.len(),
            1,
            Sensitivity::ALL.len(),
            1,
            LANGUAGES.len(),
        ],
        // Task, sensitivity and injection are what calls are routed and stopped by.
        weights: vec![1.0, 0.5, 0.5, 1.0, 1.0, 0.3],
        tags: 1 + 2 * Entity::ALL.len(),
        tags_weight: 1.0,
        smoothing: 0.05,
    }
}

/// Reads an example as the encoder will.
///
/// # Errors
/// As [`Tokenizer::encode`].
pub fn sample(
    example: &Example,
    tokenizer: &Tokenizer,
    max: usize,
) -> Result<Sample, EncoderError> {
    let read = tokenizer.encode(&example.text, &example.context, max)?;
    let class = |at: Option<usize>| at.map_or(Target::None, Target::Class);
    let task = example.task.and_then(|task| TaskKind::ALL.iter().position(|kind| *kind == task));
    let domain = example.domain.and_then(|domain| Domain::ALL.iter().position(|d| *d == domain));
    let level = example
        .sensitivity
        .and_then(|level| Sensitivity::ALL.iter().position(|known| *known == level));
    let language = example
        .language
        .as_deref()
        .and_then(|language| LANGUAGES.iter().position(|known| *known == language));
    Ok(Sample {
        weight: example.weight,
        targets: vec![
            class(task),
            class(domain),
            example.complexity.map_or(Target::None, Target::Share),
            class(level),
            example.injection.map_or(Target::None, |is| Target::Share(f32::from(u8::from(is)))),
            class(language),
        ],
        tags: (!example.span_kinds.is_empty()).then(|| tags(example, &read)),
        tokens: plain(read),
    })
}

/// What the tokenizer read, as the network takes it.
pub fn plain(read: tokenizer::Tokens) -> net::Tokens {
    net::Tokens {
        ids: read.ids,
        types: read.types.into_iter().map(u32::from).collect(),
        shapes: read.shapes.into_iter().map(u32::from).collect(),
    }
}

/// 0 outside, 1 + 2·kind where a name begins, 2 + 2·kind where it goes on; −1 where nobody said.
fn tags(example: &Example, read: &tokenizer::Tokens) -> Vec<i32> {
    let bytes: Vec<usize> =
        example.text.char_indices().map(|(at, _)| at).chain([example.text.len()]).collect();
    let knows_all = example.span_kinds.len() >= 3;
    let mut tags = Vec::with_capacity(read.ids.len());
    for (at, range) in read.spans.iter().enumerate() {
        let is_text = read.types[at] == tokenizer::TEXT && read.shapes[at] != shape::SPECIAL;
        if !is_text {
            tags.push(-1);
            continue;
        }
        let span = example
            .spans
            .iter()
            .find(|span| bytes[span.start] < range.end && range.start < bytes[span.end]);
        tags.push(match span {
            Some(span) => {
                let kind =
                    Entity::ALL.iter().position(|kind| *kind == span.kind).unwrap_or(0) as i32;
                let begins = range.start <= bytes[span.start];
                1 + 2 * kind + i32::from(!begins)
            }
            // A set that marks no companies may still hold one: only words that cannot be names
            // are known to be none.
            None if knows_all || !could_be_a_name(read.shapes[at]) => 0,
            None => -1,
        });
    }
    tags
}

fn could_be_a_name(of: u8) -> bool {
    matches!(of, shape::TITLE | shape::UPPER | shape::MIXED | shape::CONTINUED)
}

/// The rows of one epoch: large sources are drawn from, small and our own taken whole.
pub fn draw(examples: &[Example], seed: u64) -> Vec<usize> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..examples.len()).collect();
    order.shuffle(&mut random);
    let mut taken: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
    order.retain(|at| {
        let example = &examples[*at];
        let key = format!("{}|{}|{:?}", example.source, example.lang, example.task);
        let count = taken.entry(key).or_default();
        *count += 1;
        *count <= cap(example)
    });
    order
}

/// How many rows of one source, language and task an epoch takes.
fn cap(example: &Example) -> usize {
    match example.source.as_str() {
        "dolly_benign" | "gpteacher_roleplay_benign" => 250,
        "tatoeba" => 80,
        source if source.starts_with("mmlu_pro") => 70,
        source if source.starts_with("llmrouter") => 60,
        "template" => 120,
        "names" | "germeval2014_dev" => 1_000,
        "presidio_synth_v2" | "pii_authored" => 500,
        _ if example.task.is_some() && example.domain.is_none() => 160,
        _ => 2_500,
    }
}
