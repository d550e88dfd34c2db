//! What a streamed piece costs on its way in: the events' parser alone, and each vendor's stream
//! read into chunks.

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use stellwerk_core::provider::events::EventDecoder;
use stellwerk_core::provider::http::Decoder;
use stellwerk_core::provider::sse::SseParser;
use stellwerk_core::provider::{ProviderCall, anthropic, gemini, openai};
use stellwerk_core::request::ChatRequest;

const PIECES: u64 = 200;

fn stream(frame: impl Fn(u64) -> String, head: &str, tail: &str) -> Vec<u8> {
    let pieces: String = (0..PIECES).map(frame).collect();
    format!("{head}{pieces}{tail}").into_bytes()
}

fn openai_stream() -> Vec<u8> {
    let frame = |number: u64| {
        format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\
             \"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"Wort {number} \"}},\
             \"finish_reason\":null}}]}}\n\n"
        )
    };
    let tail = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
                data: [DONE]\n\n";
    stream(frame, "", tail)
}

fn anthropic_stream() -> Vec<u8> {
    let frame = |number: u64| {
        format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\
             \"delta\":{{\"type\":\"text_delta\",\"text\":\"Wort {number} \"}}}}\n\n"
        )
    };
    let head = "data: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"m\",\
                \"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\ndata: {\"type\":\
                \"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\
                \"text\":\"\"}}\n\n";
    let tail = "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\
                \"usage\":{\"output_tokens\":400}}\n\ndata: {\"type\":\"message_stop\"}\n\n";
    stream(frame, head, tail)
}

fn gemini_stream() -> Vec<u8> {
    let frame = |number: u64| {
        format!(
            "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"Wort {number} \"}}],\
             \"role\":\"model\"}},\"index\":0}}],\"modelVersion\":\"m\"}}\r\n\r\n"
        )
    };
    let tail = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\"}]},\"finishReason\":\
                \"STOP\",\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":9,\
                \"candidatesTokenCount\":400,\"totalTokenCount\":409}}\r\n\r\n";
    stream(frame, "", tail)
}

/// Reads in pieces of the size that a network gives.
fn read(mut decoder: impl Decoder, bytes: &[u8]) -> usize {
    let mut chunks = Vec::new();
    for piece in bytes.chunks(1400) {
        decoder.push(piece, &mut chunks).expect("the stream is right");
    }
    decoder.end(&mut chunks).expect("the stream ends well");
    chunks.len()
}

fn reading(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read a stream of 200 pieces");
    group.throughput(Throughput::Elements(PIECES));
    let (openai, anthropic, gemini) = (openai_stream(), anthropic_stream(), gemini_stream());
    group.bench_function("events alone", |bencher| {
        bencher.iter(|| {
            let mut parser = SseParser::new();
            let pieces = openai.chunks(1400);
            pieces.map(|piece| parser.push(piece).expect("events").len()).sum::<usize>()
        });
    });
    group.bench_function("openai", |bencher| {
        bencher.iter(|| read(openai::decode::Stream::new(), &openai));
    });
    let call = ProviderCall {
        model: "m".to_owned(),
        request: Arc::new(ChatRequest::ask("x")),
        logprobs_for_judge: false,
    };
    group.bench_function("anthropic", |bencher| {
        bencher.iter(|| read(EventDecoder::new(anthropic::Reply::to(&call)), &anthropic));
    });
    group.bench_function("gemini", |bencher| {
        bencher.iter(|| read(EventDecoder::new(gemini::Reply::default()), &gemini));
    });
    group.finish();
}

criterion_group!(benches, reading);
criterion_main!(benches);
