//! The encoder on a small model of random numbers, and the tokenizer on a small vocabulary.

use candle_core::{DType, Device};
use candle_nn::{VarBuilder, VarMap};
use proptest::prelude::*;

use crate::classify::encoder::entities::{self, Entity};
use crate::classify::encoder::tokenizer::{CONTEXT, TEXT, shape, shape_of};
use crate::classify::encoder::{Config, Encoder, EncoderError, Graph, Output, Tokenizer, Tokens};

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

/// Weights of a model that has never learned anything, in safetensors format.
pub(super) fn random_weights(config: &Config) -> Vec<u8> {
    let map = VarMap::new();
    Graph::new(config, VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu)).unwrap();
    let data = map.data().lock().unwrap();
    let tensors = data.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone()));
    let views: Vec<_> = tensors.collect();
    safetensors::serialize(views.iter().map(|(name, tensor)| (name, tensor)), None).unwrap()
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
    let encoder = Encoder::load(&config, &random_weights(&config), &Device::Cpu).unwrap();
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
    let graph = Encoder::load(&config, &weights, &Device::Cpu).unwrap();
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
    let encoder = Encoder::load(&config, &random_weights(&config), &Device::Cpu).unwrap();
    assert!(encoder.forward(&[]).unwrap().is_empty());
    let none = Tokens::default();
    assert_eq!(encoder.forward(&[&none]).unwrap(), [Output::default()]);
}

#[test]
fn more_tokens_than_positions_are_refused_by_number() {
    let config = small();
    let encoder = Encoder::load(&config, &random_weights(&config), &Device::Cpu).unwrap();
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
        assert!(Encoder::load(&config, &weights[..cut], &Device::Cpu).is_err());
    }
    let other = Config { width: 36, ..config.clone() };
    assert!(Encoder::load(&other, &weights, &Device::Cpu).is_err());
    let odd = Config { heads: 5, ..config };
    let said = Encoder::load(&odd, &weights, &Device::Cpu).unwrap_err().to_string();
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
