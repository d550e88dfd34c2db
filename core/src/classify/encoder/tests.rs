//! The encoder on a small model of random numbers, and the tokenizer on a small vocabulary.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use proptest::prelude::*;

use crate::classify::encoder::entities::{self, Entity};
use crate::classify::encoder::quantize::tensors as tensors_of;
use crate::classify::encoder::tokenizer::{CONTEXT, TEXT, shape, shape_of};
use crate::classify::encoder::{
    Config, Encoder, EncoderError, Graph, Output, Tokenizer, Tokens, Weights, quantize,
};

const VOCABULARY: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nder\nkunde\nmull\n##er\n##s\nrechnung\n\
                          ##en\n.\n,\na\n##a\nn\n##n\n##1\n1\ne\n##e\nbayer\ngmbh\nliefert\nbitte\n";

pub(super) fn small() -> Config {
    Config {
        vocabulary: VOCABULARY.lines().count(),
        width: 32,
        layers: 2,
        heads: 4,
        feed_forward: 64,
        positions: 64,
        types: 2,
        epsilon: 1e-12,
        shapes: shape::COUNT,
        max_tokens: 32,
        classes: 7,
        tags: 9,
    }
}

/// Weights of a model that has never learned anything, in safetensors format; the same each time.
pub(super) fn random_weights(config: &Config) -> Vec<u8> {
    weights_with(config, |_| 1.0)
}

/// Weights as a trained model has them: most columns quiet, a few loud.
fn realistic(config: &Config) -> Vec<u8> {
    weights_with(config, |column| if column % 13 == 5 { 4.0 } else { 0.7 })
}

fn weights_with(config: &Config, gain: impl Fn(usize) -> f32) -> Vec<u8> {
    let mut state = 1u64;
    // The sum of four even numbers is nearly a normal one, of variance one third of four.
    let mut next = || {
        let mut even = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
        };
        even() + even() + even() + even()
    };
    let mut tensors = Vec::new();
    for (name, shape) in tensors_of(config) {
        let columns = shape[shape.len() - 1];
        let is_norm = name.contains("LayerNorm.weight");
        let spread = if shape.len() == 2 { (columns as f32).sqrt().recip() } else { 0.05 };
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|at| f32::from(u8::from(is_norm)) + next() * spread * gain(at % columns))
            .collect();
        tensors.push((name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap()));
    }
    safetensors::serialize(tensors.iter().map(|(name, tensor)| (name, tensor)), None).unwrap()
}

fn tokenizer() -> Tokenizer {
    Tokenizer::from_vocabulary(VOCABULARY.as_bytes()).unwrap()
}

fn close(one: &Output, other: &Output) {
    assert_eq!(one.tags.len(), other.tags.len());
    let pairs = one.classes.iter().zip(&other.classes).chain(one.tags.iter().zip(&other.tags));
    for (left, right) in pairs.chain(one.pooled.iter().zip(&other.pooled)) {
        assert!((left - right).abs() < 1e-4, "{left} and {right}");
    }
}

fn words<'t>(tokens: &Tokens, text: &'t str) -> Vec<&'t str> {
    tokens.spans.iter().map(|span| &text[span.clone()]).collect()
}

#[test]
fn every_head_answers_with_its_own_width() {
    let config = small();
    let encoder = Encoder::load(&config, random_weights(&config), &Device::Cpu).unwrap();
    let tokens = tokenizer().encode("Der Kunde liefert.", "", 32).unwrap();
    let output = &encoder.forward(&[&tokens]).unwrap()[0];
    assert_eq!(output.classes.len(), 7);
    assert_eq!(output.tags.len(), 9 * tokens.len());
    assert_eq!(output.pooled.len(), 64);
    assert!(output.classes.iter().all(|logit| logit.is_finite()));
}

#[test]
fn an_answer_does_not_depend_on_who_shares_the_batch() {
    let config = small();
    let weights = random_weights(&config);
    let graph = Encoder::load(&config, weights.clone(), &Device::Cpu).unwrap();
    let tokenizer = tokenizer();
    let short = tokenizer.encode("Bitte", "", 32).unwrap();
    let long =
        tokenizer.encode("Der Kunde Müller, Bayer GmbH, liefert Rechnungen.", "a a", 32).unwrap();
    let alone = graph.forward(&[&short]).unwrap();
    let together = graph.forward(&[&long, &short]).unwrap();
    close(&alone[0], &together[1]);

    // What a GPU would do: one padded launch.
    let graph = Graph::new(
        &config,
        VarBuilder::from_slice_safetensors(&weights, DType::F32, &Device::Cpu).unwrap(),
    )
    .unwrap();
    let padded = graph.forward_together(&[&long, &short]).unwrap();
    close(&padded[0], &together[0]);
    close(&padded[1], &together[1]);

    // What training does: operations that have gradients.
    let trained = graph.training(0.0).forward_together(&[&long, &short]).unwrap();
    close(&trained[0], &together[0]);
}

#[test]
fn an_empty_batch_and_a_text_without_tokens_are_answered() {
    let config = small();
    let encoder = Encoder::load(&config, random_weights(&config), &Device::Cpu).unwrap();
    assert!(encoder.forward(&[]).unwrap().is_empty());
    let none = Tokens::default();
    assert_eq!(encoder.forward(&[&none]).unwrap(), [Output::default()]);
}

#[test]
fn more_tokens_than_positions_are_refused_by_number() {
    let config = small();
    let encoder = Encoder::load(&config, random_weights(&config), &Device::Cpu).unwrap();
    let long = tokenizer().encode(&"a ".repeat(200), "", 65).unwrap();
    assert_eq!(long.len(), 65);
    let refused = encoder.forward(&[&long]).unwrap_err();
    assert!(matches!(refused, EncoderError::TooLong { tokens: 65, most: 64 }));
}

#[test]
fn a_damaged_file_is_an_error_and_no_panic() {
    let config = small();
    let weights = random_weights(&config);
    for cut in [0, 7, 100, weights.len() - 1] {
        assert!(Encoder::load(&config, weights[..cut].to_vec(), &Device::Cpu).is_err());
    }
    let other = Config { width: 36, ..config.clone() };
    assert!(Encoder::load(&other, weights.clone(), &Device::Cpu).is_err());
    let odd = Config { heads: 5, ..config };
    let said = Encoder::load(&odd, weights.clone(), &Device::Cpu).unwrap_err().to_string();
    assert!(said.contains("5 heads do not share a width of 32"), "{said}");
}

#[test]
fn a_bert_of_hugging_face_is_read_by_its_own_names() {
    let config: Config = serde_json::from_str(
        r#"{"vocab_size": 30522, "hidden_size": 384, "num_hidden_layers": 6,
            "num_attention_heads": 12, "intermediate_size": 1536, "layer_norm_eps": 1e-12,
            "max_position_embeddings": 512, "type_vocab_size": 2, "model_type": "bert"}"#,
    )
    .unwrap();
    assert_eq!((config.layers, config.shapes, config.max_tokens), (6, 0, 256));
    let written = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&written).unwrap(), config);
}

#[test]
fn words_are_cut_into_pieces_that_know_their_case_and_place() {
    let text = "Der Kunde Müllers, BAYER 11.";
    let tokens = tokenizer().encode(text, "", 32).unwrap();
    assert_eq!(
        words(&tokens, text),
        ["", "Der", "Kunde", "Müll", "er", "s", ",", "BAYER", "1", "1", ".", ""]
    );
    use shape::{CONTINUED as C, DIGITS as D, SPECIAL as S, SYMBOL as P, TITLE as T, UPPER as U};
    assert_eq!(tokens.shapes, [S, T, T, T, C, C, P, U, D, C, P, S]);
    assert!(tokens.types.iter().all(|&of| of == TEXT));
    assert_eq!(&tokens.ids[..4], [2, 5, 6, 7]);
}

#[test]
fn each_shape_has_its_number() {
    let seen = ["haus", "Haus", "HAUS", "eBay", "A4", "2026", "…", "🙂", "Ä", "世界"];
    let shapes: Vec<u8> = seen.iter().map(|word| shape_of(word)).collect();
    assert_eq!(shapes, [1, 2, 3, 4, 4, 5, 6, 6, 2, 1]);
}

#[test]
fn special_words_in_the_text_are_only_words() {
    let tokens = tokenizer().encode("[SEP] [CLS]", "", 32).unwrap();
    assert_eq!(tokens.ids.iter().filter(|&&id| id == 2 || id == 3).count(), 2);
}

#[test]
fn a_long_text_keeps_its_head_and_its_tail() {
    let text = format!("  Der {}Rechnung.\n", "a ".repeat(500_000));
    let tokens = tokenizer().encode(&text, "", 20).unwrap();
    assert_eq!(tokens.len(), 20);
    let words = words(&tokens, &text);
    assert_eq!((words[1], words[17], words[18]), ("Der", "Rechnung", "."));
    assert_eq!(
        tokens.ids.iter().filter(|&&id| id == 3).count(),
        2,
        "one at the cut, one at the end"
    );
}

#[test]
fn one_word_of_a_megabyte_is_cut_and_not_lost() {
    let text = "a".repeat(1 << 20);
    let tokens = tokenizer().encode(&text, "", 32).unwrap();
    assert_eq!(tokens.len(), 32);
    assert!(!tokens.ids.contains(&1), "nothing is unknown");
}

#[test]
fn a_context_gets_what_the_text_leaves_and_never_less_than_a_quarter() {
    let tokenizer = tokenizer();
    let of_context = |text: &str, context: &str| {
        let tokens = tokenizer.encode(text, context, 32).unwrap();
        assert!(tokens.len() <= 32);
        tokens.types.iter().filter(|&&of| of == CONTEXT).count()
    };
    assert_eq!(of_context("Bitte", &"a ".repeat(90)), 29);
    assert_eq!(of_context(&"a ".repeat(90), &"a ".repeat(90)), 8);
    assert_eq!(of_context(&"a ".repeat(90), "a"), 2);
    assert_eq!(of_context("Bitte", " \n"), 0);
}

#[test]
fn a_vocabulary_without_its_special_pieces_is_refused_by_name() {
    let said = Tokenizer::from_vocabulary(b"[PAD]\n[CLS]\n[SEP]\nder").unwrap_err().to_string();
    assert!(said.contains("[UNK]"), "{said}");
    assert!(Tokenizer::from_vocabulary(&[0xff, 0xfe, 0x00]).is_err());
}

#[test]
fn tags_become_spans_of_the_text() {
    let text = "Müller Bayer GmbH, Kunde";
    let tokens = tokenizer().encode(text, "Müller", 32).unwrap();
    let tag = |tag: usize| {
        let mut scores = vec![0.0; 5];
        scores[tag] = 9.0;
        scores
    };
    // [CLS] mull ##er bayer gmbh , kunde [SEP] mull ##er [SEP]
    let logits: Vec<f32> = [0, 1, 0, 3, 4, 0, 2, 0, 1, 1, 0].into_iter().flat_map(tag).collect();
    let found = entities::decode(&tokens, &logits, 5);
    let spans: Vec<_> = found.iter().map(|e: &Entity| (e.kind, &text[e.span.clone()])).collect();
    assert_eq!(spans, [(0, "Müller"), (1, "Bayer GmbH"), (0, "Kunde")]);
    assert!(found.iter().all(|entity| entity.probability > 0.99));
    assert!(entities::decode(&tokens, &[], 5).is_empty());
    assert!(entities::decode(&tokens, &logits, 0).is_empty());
}

/// How alike two lists of numbers point, −1…1.
fn cosine(left: &[f32], right: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}

#[test]
fn int8_answers_as_f32_does() {
    // Odd sizes, so that no row is a whole number of vectors.
    let config = Config { width: 100, feed_forward: 204, layers: 4, ..small() };
    let weights = realistic(&config);
    let exact = Encoder::load(&config, weights.clone(), &Device::Cpu).unwrap();
    let bytes = Encoder::load(&config, quantize(&config, &weights).unwrap(), &Device::Cpu).unwrap();
    assert_ne!(bytes.computes_by(), "candle");
    let tokenizer = tokenizer();
    let texts = ["Bitte", "Der Kunde Müller liefert.", &"a Bayer n ".repeat(40), "11 €"];
    let texts: Vec<Tokens> =
        texts.iter().map(|text| tokenizer.encode(text, "der n", 64).unwrap()).collect();
    let batch: Vec<&Tokens> = texts.iter().collect();
    let (exact, bytes) = (exact.forward(&batch).unwrap(), bytes.forward(&batch).unwrap());
    for (exact, bytes) in exact.iter().zip(&bytes) {
        for (exact, bytes) in [
            (&exact.classes, &bytes.classes),
            (&exact.tags, &bytes.tags),
            (&exact.pooled, &bytes.pooled),
        ] {
            assert_eq!(exact.len(), bytes.len());
            assert!(cosine(exact, bytes) > 0.99, "{}", cosine(exact, bytes));
        }
    }
}

#[test]
fn int8_answers_do_not_depend_on_who_shares_the_batch() {
    let config = small();
    let weights = quantize(&config, &random_weights(&config)).unwrap();
    let encoder = Encoder::load(&config, weights, &Device::Cpu).unwrap();
    let tokenizer = tokenizer();
    let texts: Vec<Tokens> = (1..20)
        .map(|words| tokenizer.encode(&"Bayer ".repeat(words * 3), "", 64).unwrap())
        .chain([Tokens::default()])
        .collect();
    let batch: Vec<&Tokens> = texts.iter().collect();
    let together = encoder.forward(&batch).unwrap();
    for (text, together) in texts.iter().zip(&together) {
        close(&encoder.forward(&[text]).unwrap()[0], together);
    }
}

#[test]
fn a_gpu_gets_what_the_cpu_has() {
    let config = small();
    let file = quantize(&config, &random_weights(&config)).unwrap();
    let bytes = Encoder::load(&config, file.clone(), &Device::Cpu).unwrap();
    let widened = Weights::read(file.into()).unwrap().widened(&config, &Device::Cpu).unwrap();
    let text = tokenizer().encode("Der Kunde Müller, Bayer GmbH", "", 32).unwrap();
    let expected = &bytes.forward(&[&text]).unwrap()[0];
    for float in [DType::F32, DType::F16] {
        let weights = VarBuilder::from_tensors(widened.clone(), float, &Device::Cpu);
        let graph = Graph::new(&config, weights).unwrap();
        let output = &graph.forward_together(&[&text, &Tokens::default()]).unwrap()[0];
        assert!(cosine(&expected.classes, &output.classes) > 0.99);
        assert!(cosine(&expected.tags, &output.tags) > 0.99);
    }
}

#[test]
fn the_same_weights_give_the_same_file_and_a_wrong_one_is_named() {
    let config = small();
    let weights = random_weights(&config);
    let file = quantize(&config, &weights).unwrap();
    assert_eq!(file, quantize(&config, &weights).unwrap());
    assert!(file.len() * 5 < weights.len() * 2, "{} and {}", file.len(), weights.len());

    let more = Config { layers: 3, ..config.clone() };
    let said = quantize(&more, &weights).unwrap_err().to_string();
    assert!(said.contains("encoder.layer.2.attention.self.query.weight is missing"), "{said}");
    for cut in [0, 9, file.len() / 2, file.len() - 1] {
        assert!(Encoder::load(&config, file[..cut].to_vec(), &Device::Cpu).is_err());
    }
    let wider = Config { vocabulary: config.vocabulary + 1, ..config };
    let said = Encoder::load(&wider, file, &Device::Cpu).unwrap_err().to_string();
    assert!(said.contains("word_embeddings"), "{said}");
}

#[test]
fn a_piece_that_the_model_does_not_know_is_refused() {
    let config = small();
    let weights = quantize(&config, &random_weights(&config)).unwrap();
    let encoder = Encoder::load(&config, weights, &Device::Cpu).unwrap();
    let mut text = tokenizer().encode("Bitte", "", 32).unwrap();
    text.ids[1] = u32::try_from(config.vocabulary).unwrap();
    assert!(matches!(encoder.forward(&[&text]), Err(EncoderError::Shape(_))));
}

proptest! {
    #[test]
    fn any_text_gives_tokens_that_lie_in_it(text in ".{0,300}", context in ".{0,80}", most in 3usize..40) {
        let tokens = tokenizer().encode(&text, &context, most).unwrap();
        prop_assert!(tokens.len() <= most);
        prop_assert!(tokens.len() >= 2);
        for (span, of) in tokens.spans.iter().zip(&tokens.types) {
            let source = if *of == TEXT { &text } else { &context };
            prop_assert!(source.get(span.clone()).is_some());
        }
    }
}
