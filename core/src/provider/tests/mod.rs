//! One request × every vendor: what each vendor is sent, and what its answers are read as.
//!
//! [`encoded`] snapshots the bodies of all [`requests`] for one vendor; [`whole`] and
//! [`streamed`] snapshot what a fixture in the vendor's documented format is read as. A new
//! vendor adds one file beside this one that calls the three. Knows nothing of sockets.

use serde_json::Value;

use crate::provider::http::Decoder;
use crate::provider::{ProviderCall, ProviderError};
use crate::reply::Chunk;

mod doors;
mod openai;
mod requests;
mod wire;

pub(super) use requests::requests;

/// Snapshots what each of the golden requests becomes: `snapshots/REQUEST.VENDOR.snap`.
pub(super) fn encoded(
    vendor: &str,
    model: &str,
    encode: impl Fn(&ProviderCall) -> Result<Value, ProviderError>,
) {
    for (name, request) in requests() {
        let call = ProviderCall {
            model: model.to_owned(),
            request: request.into(),
            logprobs_for_judge: false,
        };
        let body = match encode(&call) {
            Ok(body) => body,
            Err(refused) => serde_json::json!({ "refused": refused.detail }),
        };
        snapshot(&format!("{name}.{vendor}"), &body);
    }
}

/// Snapshots what a whole answer is read as: `snapshots/NAME.snap`.
pub(super) fn whole(name: &str, read: Result<Vec<Chunk>, ProviderError>) {
    snapshot(name, &outcome(read.map_err(|error| (Vec::new(), error))));
}

/// Snapshots what a streamed answer is read as, and makes sure that no cut of its bytes changes
/// it: `snapshots/NAME.snap`.
pub(super) fn streamed<D: Decoder>(name: &str, decoder: impl Fn() -> D, bytes: &[u8]) {
    let at_once = outcome(decode(decoder(), bytes.chunks(bytes.len().max(1))));
    for size in [1, 2, 3, 7, 16, 61, 250] {
        let cut = outcome(decode(decoder(), bytes.chunks(size)));
        assert_eq!(cut, at_once, "{name} reads otherwise in pieces of {size} bytes");
    }
    snapshot(name, &at_once);
}

/// Every chunk that the pieces give, or those before the error and the error.
pub(super) fn decode<'a, D: Decoder>(
    mut decoder: D,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> Result<Vec<Chunk>, (Vec<Chunk>, ProviderError)> {
    let mut chunks = Vec::new();
    for piece in pieces {
        if decoder.is_done() {
            return Ok(chunks);
        }
        if let Err(error) = decoder.push(piece, &mut chunks) {
            return Err((chunks, error));
        }
    }
    if decoder.is_done() {
        return Ok(chunks);
    }
    match decoder.end(&mut chunks) {
        Ok(()) => Ok(chunks),
        Err(error) => Err((chunks, error)),
    }
}

/// Every chunk that the bytes give when they are cut at these places (taken around the end).
pub(super) fn cut<D: Decoder>(
    decoder: D,
    bytes: &[u8],
    cuts: &[usize],
) -> Result<Vec<Chunk>, (Vec<Chunk>, ProviderError)> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    decode(decoder, cuts.windows(2).map(|ends| &bytes[ends[0]..ends[1]]))
}

fn outcome(read: Result<Vec<Chunk>, (Vec<Chunk>, ProviderError)>) -> Value {
    let (chunks, error) = match read {
        Ok(chunks) => (chunks, None),
        Err((chunks, error)) => (chunks, Some(error)),
    };
    let mut told: Vec<Value> =
        chunks.iter().map(|chunk| serde_json::to_value(chunk).expect("chunks are JSON")).collect();
    if let Some(error) = error {
        told.push(serde_json::json!({
            "error": format!("{:?}", error.kind),
            "detail": error.detail,
            "vendor_message": error.vendor_message.map(|message| message.0),
            "usage": error.usage,
        }));
    }
    Value::Array(told)
}

fn snapshot(name: &str, value: &Value) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_json_snapshot!(name, value));
}
