//! What the deep stage costs on one core: 64 and 256 tokens, one text and eight, int8 and f32.
//!
//! The weights are random, of the shape that ships unless `ENCODER_LAYERS` says otherwise: time
//! does not depend on what a model has learned. Tokens and their cutting are measured apart.

use candle_core::{DType, Device};
use candle_nn::{VarBuilder, VarMap};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use stellwerk_core::classify::encoder::{
    Config, Encoder, Graph, Tokenizer, Tokens, quantize, tokenizer::shape,
};

const QUESTION: &str = "Bitte erkläre mir in einfachen Worten, wie ein elektronisches Stellwerk \
    die Fahrstrassen der Züge sichert, und was geschieht, wenn ein Achszähler ausfällt. ";

fn config() -> Config {
    let layers = std::env::var("ENCODER_LAYERS").ok().and_then(|text| text.parse().ok());
    Config {
        vocabulary: 40_000,
        width: 384,
        layers: layers.unwrap_or(6),
        heads: 12,
        feed_forward: 1536,
        positions: 512,
        types: 2,
        epsilon: 1e-12,
        shapes: shape::COUNT,
        max_tokens: 256,
        classes: 50,
        tags: 9,
    }
}

fn weights(config: &Config) -> Vec<u8> {
    let map = VarMap::new();
    Graph::new(config, VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu))
        .expect("the shape is possible");
    let data = map.data().lock().expect("nobody panicked");
    let tensors: Vec<_> =
        data.iter().map(|(name, variable)| (name.clone(), variable.as_tensor().clone())).collect();
    safetensors::serialize(tensors.iter().map(|(name, tensor)| (name, tensor)), None)
        .expect("the tensors have different names")
}

fn text(tokens: usize, seed: usize) -> Tokens {
    let id = |at: usize| u32::try_from((at * 7919 + seed * 104_729) % 40_000).unwrap_or(0);
    Tokens {
        ids: (0..tokens).map(id).collect(),
        types: vec![0; tokens],
        shapes: vec![1; tokens],
        spans: vec![0..0; tokens],
    }
}

fn reading(criterion: &mut Criterion) {
    // One core, as the thread that owns the model has it.
    let _pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
    let config = config();
    let plain = weights(&config);
    let bytes = quantize(&config, &plain).expect("the weights are whole");
    let models = [("int8", bytes), ("f32", plain)].map(|(name, file)| {
        (name, Encoder::load(&config, file, &Device::Cpu).expect("the weights are whole"))
    });
    let mut group = criterion.benchmark_group("encoder");
    group.sample_size(20);
    for (name, encoder) in &models {
        for (texts, tokens) in [(1, 16), (1, 64), (1, 256), (8, 64)] {
            let texts: Vec<Tokens> = (0..texts).map(|seed| text(tokens, seed)).collect();
            let batch: Vec<&Tokens> = texts.iter().collect();
            let id = BenchmarkId::new(*name, format!("{}x{tokens}", batch.len()));
            group.bench_function(id, |bencher| {
                bencher.iter(|| encoder.forward(&batch).expect("the texts fit"));
            });
        }
    }
    group.finish();
}

fn cutting(criterion: &mut Criterion) {
    let mut vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n".to_owned();
    for letter in 'a'..='z' {
        vocabulary.push_str(&format!("{letter}\n##{letter}\n"));
    }
    for word in QUESTION.to_lowercase().split_whitespace() {
        vocabulary.push_str(&format!("{}\n", word.trim_end_matches(['.', ','])));
    }
    let tokenizer = Tokenizer::from_vocabulary(vocabulary.as_bytes()).expect("it is whole");
    let cases = [
        ("a question", QUESTION.to_owned()),
        ("a page", QUESTION.repeat(20)),
        ("a megabyte", QUESTION.repeat(6_500)),
        ("a megabyte of one letter", "a".repeat(1 << 20)),
    ];
    for (name, text) in cases {
        criterion.bench_function(&format!("tokenizer/{name}"), |bencher| {
            bencher.iter(|| tokenizer.encode(&text, "", 256));
        });
    }
}

criterion_group!(benches, reading, cutting);
criterion_main!(benches);
