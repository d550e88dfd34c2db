//! The doors at which bytes from outside come in, one function each, for fuzzing.
//!
//! `fuzz/` hands them to cargo-fuzz; the test suite runs each for a moment with mutations of the
//! seeds, the same every time. A door holds if it returns: every function here must take any bytes
//! at all, and reading a stream must not depend on where the network cuts it.

use std::sync::Arc;

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use stellwerk_core::catalog::Tokenizer;
use stellwerk_core::provider::events::EventDecoder;
use stellwerk_core::provider::http::Decoder;
use stellwerk_core::provider::sse::{SseEvent, SseParser};
use stellwerk_core::provider::{
    ProviderCall, ProviderErrorKind, anthropic, bedrock, gemini, openai,
};
use stellwerk_core::reply::Chunk;
use stellwerk_core::request::ChatRequest;

/// A door by the name of its folder of seeds.
pub type Door = (&'static str, fn(&[u8]));

/// Every door.
pub const DOORS: &[Door] = &[
    ("chat", chat),
    ("messages", messages),
    ("embeddings", embeddings),
    ("sse", sse),
    ("openai_whole", openai_whole),
    ("openai_stream", openai_stream),
    ("anthropic_whole", anthropic_whole),
    ("anthropic_stream", anthropic_stream),
    ("gemini_whole", gemini_whole),
    ("gemini_stream", gemini_stream),
    ("bedrock_whole", bedrock_whole),
    ("bedrock_stream", bedrock_stream),
    ("config", config),
];

/// A request in OpenAI's format; what was read must be encodable for every vendor.
pub fn chat(data: &[u8]) {
    if let Ok(asked) = stellwerk::openai::decode::decode(data) {
        encode_everywhere(asked.request);
    }
}

/// A request in Anthropic's format.
pub fn messages(data: &[u8]) {
    if let Ok(asked) = stellwerk::anthropic::decode::decode(data, &[]) {
        encode_everywhere(asked.request);
    }
}

/// A request for vectors.
pub fn embeddings(data: &[u8]) {
    let cl100k = |_: &_| Some(Tokenizer::Cl100k);
    stellwerk::openai::embeddings::decode(data, cl100k).ok();
}

fn encode_everywhere(mut request: ChatRequest) {
    request.max_output_tokens.get_or_insert(100);
    let call = call(request);
    openai::encode::chat(&call, openai::Flavour::of_host("api.openai.com")).ok();
    openai::encode::chat(&call, openai::Flavour::of_host("localhost")).ok();
    anthropic::encode(&call).ok();
    gemini::encode(&call).ok();
    bedrock::encode(&call).ok();
}

fn call(request: ChatRequest) -> ProviderCall {
    ProviderCall { model: "m".to_owned(), request: Arc::new(request), logprobs_for_judge: false }
}

/// Server-sent events.
pub fn sse(data: &[u8]) {
    let read = |size: usize| {
        let mut parser = SseParser::new();
        let mut events: Vec<SseEvent> = Vec::new();
        for piece in data.chunks(size) {
            match parser.push(piece) {
                Ok(more) => events.extend(more),
                Err(_) => return None,
            }
        }
        events.extend(parser.finish().ok()?);
        Some(events.into_iter().map(|event| (event.name, event.data)).collect::<Vec<_>>())
    };
    let at_once = read(data.len().max(1));
    for size in [1, 3, 17] {
        assert_eq!(read(size), at_once, "a cut changes what is read");
    }
}

fn stream<D: Decoder>(decoder: impl Fn() -> D, data: &[u8]) {
    let at_once = read(decoder(), data, data.len().max(1));
    for size in [1, 7] {
        let (chunks, error) = read(decoder(), data, size);
        // What was read before an error may end earlier where more arrived with it.
        let same = chunks.len().min(at_once.0.len());
        assert!(chunks[..same] == at_once.0[..same], "a cut changes what is read");
        assert_eq!(error, at_once.1, "a cut changes how it ends");
    }
}

fn read<D: Decoder>(
    mut decoder: D,
    data: &[u8],
    size: usize,
) -> (Vec<Chunk>, Option<ProviderErrorKind>) {
    let mut chunks = Vec::new();
    let error = read_into(&mut decoder, data.chunks(size), &mut chunks);
    // A vendor that gives its tool calls no ids gets fresh ones, different each time.
    for chunk in &mut chunks {
        if let Chunk::ToolCall { id: Some(id), .. } = chunk {
            id.clear();
        }
    }
    (chunks, error)
}

fn read_into<'a>(
    decoder: &mut impl Decoder,
    pieces: impl Iterator<Item = &'a [u8]>,
    chunks: &mut Vec<Chunk>,
) -> Option<ProviderErrorKind> {
    for piece in pieces {
        if decoder.is_done() {
            return None;
        }
        if let Err(error) = decoder.push(piece, chunks) {
            return Some(error.kind);
        }
    }
    if decoder.is_done() {
        return None;
    }
    decoder.end(chunks).err().map(|error| error.kind)
}

/// A whole answer of OpenAI.
pub fn openai_whole(data: &[u8]) {
    openai::decode::whole(data).ok();
    openai::decode::embeddings(data, 2).ok();
}

/// A stream of OpenAI.
pub fn openai_stream(data: &[u8]) {
    stream(openai::decode::Stream::new, data);
}

/// A whole answer of Anthropic.
pub fn anthropic_whole(data: &[u8]) {
    anthropic::whole(anthropic::Reply::to(&call(ChatRequest::ask("x"))), data).ok();
}

/// A stream of Anthropic.
pub fn anthropic_stream(data: &[u8]) {
    let call = call(ChatRequest::ask("x"));
    stream(|| EventDecoder::new(anthropic::Reply::to(&call)), data);
}

/// A whole answer of Gemini.
pub fn gemini_whole(data: &[u8]) {
    gemini::whole(data).ok();
}

/// A stream of Gemini.
pub fn gemini_stream(data: &[u8]) {
    stream(|| EventDecoder::new(gemini::Reply::default()), data);
}

/// A whole answer of Bedrock.
pub fn bedrock_whole(data: &[u8]) {
    bedrock::whole(bedrock::Reply::to(&call(ChatRequest::ask("x"))), data).ok();
}

/// A stream of Bedrock: the raw bytes, and, since a mutation never meets the check sums, each line
/// `EVENT JSON` in a frame of its own.
pub fn bedrock_stream(data: &[u8]) {
    let call = call(ChatRequest::ask("x"));
    let decoder = || bedrock::Frames::new(bedrock::Reply::to(&call));
    stream(decoder, data);
    stream(decoder, &framed(data));
}

fn framed(data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in data.split(|byte| *byte == b'\n') {
        let space = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        let (name, payload) = line.split_at(space);
        let name: String = String::from_utf8_lossy(name).chars().take(40).collect();
        let message = Message::new(payload.to_vec())
            .add_header(Header::new(":message-type", HeaderValue::String("event".into())))
            .add_header(Header::new(":event-type", HeaderValue::String(name.into())));
        // A frame too large to be written is none that a vendor could send.
        if write_message_to(&message, &mut bytes).is_err() {
            return bytes;
        }
    }
    bytes
}

/// A configuration file.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    // What the file names outside of itself is not there: a mutation must not read this machine.
    let nowhere = std::path::Path::new("/nonexistent");
    stellwerk_core::config::check::parse(&text, nowhere, &|_| None).ok();
}

/// Numbers that look random and are the same every time.
pub struct Dice(u64);

impl Dice {
    /// Begins a sequence.
    pub fn new(seed: u64) -> Self {
        Dice(seed)
    }

    /// The next number below `limit`, which is above zero.
    pub fn below(&mut self, limit: usize) -> usize {
        // SplitMix64, by Steele, Lea and Flood.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }
}

/// Words that parsers trip over.
const TRIPS: &[&str] = &[
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "99999999999999999999",
    "\"\"",
    "[]",
    "{}",
    "\u{feff}",
    "\\ud800",
    "\r\n\r\n",
    "\n\n",
    "data:",
    "[DONE]",
    "😀",
    "\0",
    "\"",
    "\\",
    "NaN",
];

/// A mutation of a seed: bytes flipped, cut, doubled, moved, or replaced by a word to trip over.
pub fn mutate(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len() + 1);
        let to = at + dice.below(bytes.len() - at + 1).min(64);
        match dice.below(6) {
            0 if at < bytes.len() => bytes[at] = dice.below(256) as u8,
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(at..to)),
            3 => {
                let copied = bytes[at..to].to_vec();
                bytes.splice(at..at, copied);
            }
            4 => {
                let word = TRIPS[dice.below(TRIPS.len())];
                bytes.splice(at..to, word.bytes());
            }
            _ => {
                let word = TRIPS[dice.below(TRIPS.len())];
                bytes.splice(at..at, word.bytes());
            }
        }
    }
    bytes
}
