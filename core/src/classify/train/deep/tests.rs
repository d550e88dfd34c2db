//! The parts of the recipe, each against what it must equal: candle's own gradients, a padded batch
//! against a lone text, learning against what was to be learnt.

use std::collections::{BTreeMap, HashMap};

use candle_core::{D, Device, Tensor, Var};

use super::adam::{Pace, Weight};
use super::distill::{Pair, translations};
use super::net::{Batch, Net, Tokens, WIDTH};
use super::tune::{self, Heads, Sample, Target};
use super::{fused, vocabulary};

fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    (0..count)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        })
        .collect()
}

fn matrix(rows: usize, columns: usize, seed: u64) -> Var {
    let values = numbers(rows * columns, seed).into_iter().map(|v| v * 4.0).collect::<Vec<_>>();
    Var::from_tensor(&Tensor::from_vec(values, (rows, columns), &Device::Cpu).expect("a matrix"))
        .expect("a leaf")
}

fn assert_close(ours: &Tensor, theirs: &Tensor) {
    let worst = (ours - theirs)
        .and_then(|d| d.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>())
        .expect("numbers");
    assert!(worst < 2e-4, "differs by {worst}");
}

/// Forward and backward of `ours` agree with `theirs`, which candle differentiates by itself.
fn agrees(
    leaves: &[&Var],
    ours: impl Fn() -> candle_core::Result<Tensor>,
    theirs: impl Fn() -> candle_core::Result<Tensor>,
) {
    let (ours, theirs) = (ours().expect("ours"), theirs().expect("theirs"));
    assert_close(&ours, &theirs);
    let weights = Tensor::from_vec(numbers(ours.elem_count(), 9), ours.shape(), &Device::Cpu)
        .expect("weights");
    let back =
        |y: &Tensor| (y * &weights).and_then(|y| y.sum_all()?.backward()).expect("gradients");
    let (ours, theirs) = (back(&ours), back(&theirs));
    for leaf in leaves {
        let of = |g: &candle_core::backprop::GradStore| {
            g.get(leaf.as_tensor()).expect("a gradient").clone()
        };
        assert_close(&of(&ours), &of(&theirs));
    }
}

#[test]
fn fused_gelu_is_candles_gelu() {
    let x = matrix(7, 33, 1);
    agrees(&[&x], || fused::gelu(&x), || x.gelu_erf());
}

#[test]
fn fused_softmax_is_candles_softmax() {
    let x = matrix(7, 33, 2);
    agrees(&[&x], || fused::softmax(&x), || candle_nn::ops::softmax(&x, D::Minus1));
}

#[test]
fn fused_layer_norm_is_the_composed_one() {
    let (x, weight, bias) = (matrix(7, 33, 3), matrix(1, 33, 4), matrix(1, 33, 5));
    let flat = |v: &Var| v.as_tensor().flatten_all();
    agrees(
        &[&x, &weight, &bias],
        || fused::layer_norm(&x, &flat(&weight)?, &flat(&bias)?),
        || {
            let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
            let spread = (centred.sqr()?.mean_keepdim(D::Minus1)? + 1e-12)?.sqrt()?;
            centred.broadcast_div(&spread)?.broadcast_mul(&weight)?.broadcast_add(&bias)
        },
    );
}

#[test]
fn german_words_come_into_the_vocabulary_whole_and_in_parts() {
    let base: Vec<String> =
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "in"].map(str::to_owned).to_vec();
    let mut counts = HashMap::new();
    for _ in 0..20 {
        vocabulary::count_words("Rechnung Rechnungen Mahnung in Höhe", &mut counts);
    }
    let pieces = vocabulary::extend(&base, &counts, 40);
    assert_eq!(pieces[..base.len()], base);
    assert!(pieces.iter().any(|piece| piece == "rechnung"), "{pieces:?}");
    assert!(
        pieces.iter().any(|piece| piece == "hohe"),
        "accents are dropped as the tokenizer does"
    );
    assert_eq!(pieces.iter().filter(|piece| *piece == "in").count(), 1, "nothing is listed twice");
    assert_eq!(
        pieces,
        vocabulary::extend(&base, &counts, 40),
        "the recipe gives the same each time"
    );
}

#[test]
fn words_that_stand_side_by_side_translate_each_other() {
    let pair = |english: &str, german: &str| Pair {
        english: english.to_owned(),
        german: german.to_owned(),
    };
    let pairs = [
        pair("the house", "das Haus"),
        pair("the book", "das Buch"),
        pair("a book", "ein Buch"),
        pair("a house", "ein Haus"),
    ];
    let table = translations(&pairs, 12);
    assert_eq!(table["haus"][0].0, "house");
    assert_eq!(table["buch"][0].0, "book");
    assert!(table["haus"][0].1 > 0.8, "{:?}", table["haus"]);
}

#[test]
fn adam_walks_downhill_and_touches_only_the_rows_it_read() {
    let mut weight = Weight::new(vec![1.0; 6], vec![3, 2]);
    for step in 1..=200 {
        let gradient: Vec<f32> = weight.rows(&[1]).iter().map(|v| 2.0 * (v - 3.0)).collect();
        weight.update_rows(&[1], &gradient, Pace { rate: 0.05, decay: 0.0, step });
    }
    assert_eq!(weight.values[..2], [1.0, 1.0]);
    assert_eq!(weight.values[4..], [1.0, 1.0]);
    assert!((weight.values[2] - 3.0).abs() < 0.05, "{:?}", weight.values);
}

/// A network of one layer with random weights and a vocabulary of 50.
fn small_net() -> Net {
    let mut weights = BTreeMap::new();
    let mut add = |name: String, shape: Vec<usize>, scale: f32| {
        let seed = name.len() as u64 * 31 + shape.len() as u64;
        let plain = if name.ends_with("LayerNorm.weight") { 1.0 } else { 0.0 };
        let values =
            numbers(shape.iter().product(), seed).into_iter().map(|v| plain + v * scale).collect();
        weights.insert(name, Weight::new(values, shape));
    };
    for (name, rows) in [("position", 64), ("token_type", 2), ("shape", 8)] {
        add(format!("embeddings.{name}_embeddings.weight"), vec![rows, WIDTH], 0.1);
    }
    add("embeddings.LayerNorm.weight".into(), vec![WIDTH], 0.0);
    add("embeddings.LayerNorm.bias".into(), vec![WIDTH], 0.0);
    for (name, out, inputs) in [
        ("attention.self.query", WIDTH, WIDTH),
        ("attention.self.key", WIDTH, WIDTH),
        ("attention.self.value", WIDTH, WIDTH),
        ("attention.output.dense", WIDTH, WIDTH),
        ("intermediate.dense", 4 * WIDTH, WIDTH),
        ("output.dense", WIDTH, 4 * WIDTH),
    ] {
        add(format!("encoder.layer.0.{name}.weight"), vec![out, inputs], 0.1);
        add(format!("encoder.layer.0.{name}.bias"), vec![out], 0.0);
    }
    for name in ["attention.output.LayerNorm", "output.LayerNorm"] {
        add(format!("encoder.layer.0.{name}.weight"), vec![WIDTH], 0.0);
        add(format!("encoder.layer.0.{name}.bias"), vec![WIDTH], 0.0);
    }
    Net::new(1, Weight::new(numbers(50 * WIDTH, 77), vec![50, WIDTH]), weights, Device::Cpu)
}

fn tokens(ids: &[u32]) -> Tokens {
    Tokens { ids: ids.to_vec(), types: vec![0; ids.len()], shapes: vec![1; ids.len()] }
}

#[test]
fn padding_changes_no_answer() {
    let net = small_net();
    let (short, long) = (tokens(&[1, 7, 9]), tokens(&[1, 2, 3, 4, 5, 6, 7]));
    let alone = net.pass(&Batch::of(&[&short]), 0.0).and_then(|p| p.mean()).expect("a pass");
    let beside = net
        .pass(&Batch::of(&[&short, &long]), 0.0)
        .and_then(|p| p.mean()?.narrow(0, 0, 1))
        .expect("a pass");
    assert_close(&alone, &beside);
}

#[test]
fn all_heads_learn_from_samples_that_each_know_one_answer() {
    let heads = Heads {
        widths: vec![3, 1],
        weights: vec![1.0, 1.0],
        tags: 3,
        tags_weight: 1.0,
        smoothing: 0.0,
    };
    let mut net = small_net();
    let mut state = numbers(10_000, 5).into_iter();
    tune::add_heads(&mut net, &heads, &mut || state.next().unwrap_or(0.0) + 0.5);
    let sample = |ids: &[u32], targets: Vec<Target>, tags: Option<Vec<i32>>| Sample {
        tokens: tokens(ids),
        weight: 1.0,
        targets,
        tags,
    };
    let samples = [
        sample(&[1, 10, 2], vec![Target::Class(0), Target::None], None),
        sample(&[1, 11, 2], vec![Target::Class(2), Target::None], None),
        sample(&[1, 12, 2], vec![Target::None, Target::Share(1.0)], None),
        sample(&[1, 13, 14, 2], vec![Target::None, Target::Share(0.0)], Some(vec![-1, 1, 2, -1])),
    ];
    let batch: Vec<&Sample> = samples.iter().collect();
    let first = tune::step(&mut net, &batch, &heads, Pace { rate: 3e-4, decay: 0.0, step: 1 }, 0.0)
        .expect("a step");
    let mut last = first;
    for step in 2..=25 {
        last = tune::step(&mut net, &batch, &heads, Pace { rate: 3e-4, decay: 0.0, step }, 0.0)
            .expect("a step");
    }
    assert!(last < 0.2 * first, "from {first} to {last}");
}
