//! Bedrock's Converse and ConverseStream, as the fake vendor speaks them.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::openai::halves;
use super::{Format, PIECE, REGION, Script, Shared, Told, Wire, play};

/// `POST /model/MODEL/converse` and `/model/MODEL/converse-stream`.
pub(super) async fn converse(
    State(shared): State<Arc<Shared>>,
    Path((model, operation)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return (StatusCode::BAD_REQUEST, "no JSON").into_response();
    };
    if !is_known(&headers) {
        return (StatusCode::FORBIDDEN, "neither a bearer key nor a signature for this place")
            .into_response();
    }
    // The address says which form is wanted; the body has no word for it.
    match operation.as_str() {
        "converse" => {
            play(shared, Format::Bedrock, model, headers, body, |script, _| {
                Wire::Whole(whole(script))
            })
            .await
        }
        "converse-stream" => {
            play(shared, Format::Bedrock, model, headers, body, |script, _| {
                Wire::Frames(stream(script))
            })
            .await
        }
        _ => (StatusCode::NOT_FOUND, "no such operation").into_response(),
    }
}

// Who asks.

fn is_known(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(told) = text("authorization") else { return false };
    let key = told.strip_prefix("Bearer ").filter(|key| !key.is_empty());
    key.is_some() || is_signed(told, text("x-amz-date").unwrap_or_default())
}

/// `AWS4-HMAC-SHA256 Credential=KEY/SCOPE, SignedHeaders=…, Signature=…`, where the scope names
/// day, region and service. The signature's own figure is not computed again: it is as AWS's
/// published suite has it in the product's tests.
fn is_signed(told: &str, date: &str) -> bool {
    let Some(fields) = told.strip_prefix("AWS4-HMAC-SHA256 ") else { return false };
    let field = |name: &str| {
        let found = fields.split(',').find_map(|field| field.trim().strip_prefix(name));
        found.unwrap_or_default()
    };
    let day = date.split('T').next().unwrap_or_default();
    let scope = format!("/{day}/{REGION}/bedrock/aws4_request");
    let key = field("Credential=").strip_suffix(scope.as_str()).unwrap_or_default();
    let signed: Vec<&str> = field("SignedHeaders=").split(';').collect();
    let signature = field("Signature=");
    day.len() == 8
        && !key.is_empty()
        && ["host", "x-amz-date"].iter().all(|name| signed.contains(name))
        && signature.len() == 64
        && signature.bytes().all(|byte| byte.is_ascii_hexdigit())
}

// What is answered.

/// Converse's `inputTokens` leaves out what came from the cache, and thoughts are not told apart.
fn usage(told: Told) -> Value {
    match told {
        Told::Full { input, cached, output, .. } => json!({
            "inputTokens": input - cached, "cacheReadInputTokens": cached,
            "cacheWriteInputTokens": 0, "outputTokens": output, "totalTokens": input + output,
        }),
        Told::Zero => json!({ "inputTokens": 0, "outputTokens": 0, "totalTokens": 0 }),
        Told::Nothing => Value::Null,
    }
}

/// Usage and times, with which an answer ends in both forms.
fn measured(mut answer: Value, told: Told) -> Value {
    answer["metrics"] = json!({ "latencyMs": 1 });
    let usage = usage(told);
    if !usage.is_null() {
        answer["usage"] = usage;
    }
    answer
}

fn whole(script: &Script) -> Value {
    let (block, stop) = match &script.tool {
        Some((name, arguments)) => {
            let call = json!({ "toolUseId": "tooluse_1", "name": name, "input": arguments });
            (json!({ "toolUse": call }), "tool_use")
        }
        None => (json!({ "text": script.pieces.concat() }), "end_turn"),
    };
    let message = json!({ "role": "assistant", "content": [block] });
    measured(json!({ "output": { "message": message }, "stopReason": stop }), script.told)
}

fn stream(script: &Script) -> Vec<Vec<u8>> {
    let mut events = vec![event("messageStart", json!({ "role": "assistant" }))];
    let (deltas, stop): (Vec<Value>, _) = match &script.tool {
        Some((name, arguments)) => {
            let call = json!({ "toolUse": { "toolUseId": "tooluse_1", "name": name } });
            let begin = json!({ "contentBlockIndex": 0, "start": call });
            events.push(event("contentBlockStart", begin));
            let parts = halves(&arguments.to_string());
            (parts.iter().map(|part| json!({ "toolUse": { "input": part } })).collect(), "tool_use")
        }
        // A text has no start of its own.
        None => (script.pieces.iter().map(|piece| json!({ "text": piece })).collect(), "end_turn"),
    };
    for delta in deltas {
        let more = json!({ "contentBlockIndex": 0, "delta": delta });
        let mut marked = vec![PIECE as u8];
        marked.extend(event("contentBlockDelta", more));
        events.push(marked);
    }
    events.push(event("contentBlockStop", json!({ "contentBlockIndex": 0 })));
    events.push(event("messageStop", json!({ "stopReason": stop })));
    events.push(event("metadata", measured(json!({}), script.told)));
    events
}

/// The name of the error that has this status.
pub(super) fn exception(status: u16) -> &'static str {
    match status {
        400 => "ValidationException",
        401 | 403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        408 => "ModelTimeoutException",
        424 => "ModelErrorException",
        429 => "ThrottlingException",
        503 => "ServiceUnavailableException",
        _ => "InternalServerException",
    }
}

// How it is framed.

/// An event with this payload, whatever it is.
pub(super) fn event(name: &str, payload: impl ToString) -> Vec<u8> {
    let kind = [(":event-type", name), (":message-type", "event")];
    frame(kind, payload.to_string().as_bytes())
}

/// What ends a stream that fails: a frame of another type than an event.
pub(super) fn broken_off(message: &str) -> Vec<u8> {
    let kind = [(":exception-type", "internalServerException"), (":message-type", "exception")];
    frame(kind, json!({ "message": message }).to_string().as_bytes())
}

/// A frame of AWS's event stream: the length of it all, the length of its headers, the check sum
/// of the two, the headers, the payload, and the check sum of everything before. Every figure is
/// big-endian.
fn frame(kind: [(&str, &str); 2], payload: &[u8]) -> Vec<u8> {
    let mut headers: Vec<u8> = Vec::new();
    for (name, value) in kind.into_iter().chain([(":content-type", "application/json")]) {
        headers.extend(header(name, value));
    }
    let total = 12 + headers.len() + payload.len() + 4;
    let mut bytes = Vec::with_capacity(total);
    bytes.extend((total as u32).to_be_bytes());
    bytes.extend((headers.len() as u32).to_be_bytes());
    let prelude = crc32(&bytes);
    bytes.extend(prelude.to_be_bytes());
    bytes.extend(headers);
    bytes.extend_from_slice(payload);
    let message = crc32(&bytes);
    bytes.extend(message.to_be_bytes());
    bytes
}

/// The name after its length in one byte, the type, the value after its length in two.
fn header(name: &str, value: &str) -> Vec<u8> {
    const STRING: u8 = 7;
    let mut bytes = vec![name.len() as u8];
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(STRING);
    bytes.extend((value.len() as u16).to_be_bytes());
    bytes.extend_from_slice(value.as_bytes());
    bytes
}

/// The CRC-32 of Ethernet and gzip, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = sum & 1 == 1;
            sum >>= 1;
            if carry {
                sum ^= 0xedb8_8320;
            }
        }
    }
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The empty message of AWS's published examples has nothing but lengths and check sums.
    #[test]
    fn check_sums_are_those_of_aws_own_examples() {
        assert_eq!(crc32(&[0, 0, 0, 16, 0, 0, 0, 0]), 0x05c2_48eb);
        assert_eq!(crc32(&[0, 0, 0, 16, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb]), 0x7d98_c8ff);
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_signature_of_another_day_or_region_is_none() {
        let told = |scope: &str| {
            let signature = "0".repeat(64);
            format!(
                "AWS4-HMAC-SHA256 Credential=KEY/{scope}, SignedHeaders=host;x-amz-date, \
                 Signature={signature}"
            )
        };
        let now = "20260102T030405Z";
        assert!(is_signed(&told(&format!("20260102/{REGION}/bedrock/aws4_request")), now));
        assert!(!is_signed(&told(&format!("20260101/{REGION}/bedrock/aws4_request")), now));
        assert!(!is_signed(&told("20260102/us-east-1/bedrock/aws4_request"), now));
        assert!(!is_signed(&told(&format!("20260102/{REGION}/s3/aws4_request")), now));
        assert!(!is_signed("Basic eDp5", now));
    }
}
