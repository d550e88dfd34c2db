//! OpenAI's chat completions and embeddings, as the fake vendor speaks them.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use serde_json::{Value, json};

use super::{Format, PIECE, Script, Shared, Told, Wire, play};

/// `POST /v1/chat/completions`.
pub(super) async fn chat(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return (StatusCode::BAD_REQUEST, "no JSON").into_response();
    };
    let model = body["model"].as_str().unwrap_or_default().to_owned();
    play(shared, Format::OpenAi, model, headers, body, encode).await
}

pub(super) fn encode(script: &Script, body: &Value) -> Wire {
    match body["stream"].as_bool() {
        Some(true) => Wire::Stream(stream(script, body)),
        _ => Wire::Whole(whole(script, body)),
    }
}

fn usage(told: Told) -> Value {
    let (input, cached, output, reasoning) = match told {
        Told::Full { input, cached, output, reasoning } => (input, cached, output, reasoning),
        Told::Zero => (0, 0, 0, 0),
        Told::Nothing => return Value::Null,
    };
    json!({
        "prompt_tokens": input,
        "completion_tokens": output,
        "total_tokens": input + output,
        "prompt_tokens_details": { "cached_tokens": cached },
        "completion_tokens_details": { "reasoning_tokens": reasoning },
    })
}

fn whole(script: &Script, body: &Value) -> Value {
    let mut message = json!({ "role": "assistant", "content": script.pieces.concat() });
    let mut finish = "stop";
    if let Some((name, arguments)) = &script.tool {
        message["content"] = Value::Null;
        message["tool_calls"] = json!([{
            "id": "call_1", "type": "function",
            "function": { "name": name, "arguments": arguments.to_string() },
        }]);
        finish = "tool_calls";
    }
    let count = body["n"].as_u64().unwrap_or(1);
    let choices: Vec<Value> = (0..count)
        .map(|index| json!({ "index": index, "message": message, "finish_reason": finish }))
        .collect();
    let mut answer = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_760_000_000,
        "model": format!("{}-2026-01-01", body["model"].as_str().unwrap_or_default()),
        "choices": choices,
    });
    if script.told != Told::Nothing {
        answer["usage"] = usage(script.told);
    }
    answer
}

fn stream(script: &Script, body: &Value) -> Vec<String> {
    let model = format!("{}-2026-01-01", body["model"].as_str().unwrap_or_default());
    let frame = |choices: Value, usage: Value| {
        let chunk = json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_760_000_000,
            "model": model, "choices": choices, "usage": usage,
        });
        format!("data: {chunk}\n\n")
    };
    let delta = |delta: Value, finish: Value| json!([{ "index": 0, "delta": delta, "finish_reason": finish }]);
    let role = json!({ "role": "assistant", "content": "" });
    let mut events = vec![frame(delta(role, Value::Null), Value::Null)];
    for piece in &script.pieces {
        let text = delta(json!({ "content": piece }), Value::Null);
        events.push(format!("{PIECE}{}", frame(text, Value::Null)));
    }
    let mut finish = "stop";
    if let Some((name, arguments)) = &script.tool {
        finish = "tool_calls";
        let begin = json!({ "tool_calls": [{
            "index": 0, "id": "call_1", "type": "function",
            "function": { "name": name, "arguments": "" },
        }]});
        events.push(frame(delta(begin, Value::Null), Value::Null));
        for part in halves(&arguments.to_string()) {
            let more = json!({ "tool_calls": [{ "index": 0, "function": { "arguments": part } }] });
            events.push(format!("{PIECE}{}", frame(delta(more, Value::Null), Value::Null)));
        }
    }
    events.push(frame(delta(json!({}), json!(finish)), Value::Null));
    if script.told != Told::Nothing {
        events.push(frame(json!([]), usage(script.told)));
    }
    events.push("data: [DONE]\n\n".to_owned());
    events
}

/// A text in two parts, so that arguments arrive in pieces.
pub(super) fn halves(text: &str) -> [String; 2] {
    let middle = (text.len() / 2..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    [text[..middle].to_owned(), text[middle..].to_owned()]
}

/// `POST /v1/embeddings`: vectors that depend on the text's length only.
pub(super) async fn embeddings(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return (StatusCode::BAD_REQUEST, "no JSON").into_response();
    };
    let model = body["model"].as_str().unwrap_or_default().to_owned();
    play(shared, Format::OpenAi, model, headers, body, |script, body| {
        Wire::Whole(vectors(script, body))
    })
    .await
}

pub(super) fn vectors(script: &Script, body: &Value) -> Value {
    let texts: Vec<&str> = match &body["input"] {
        Value::String(text) => vec![text],
        Value::Array(texts) => texts.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let length = body["dimensions"].as_u64().unwrap_or(4) as usize;
    let as_base64 = body["encoding_format"] == "base64";
    let data: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let vector: Vec<f32> =
                (0..length).map(|place| (text.len() + place) as f32 / 16.0).collect();
            let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
            let shown = match as_base64 {
                true => json!(base64::engine::general_purpose::STANDARD.encode(bytes)),
                false => json!(vector),
            };
            json!({ "object": "embedding", "index": index, "embedding": shown })
        })
        .collect();
    let mut answer = json!({ "object": "list", "data": data, "model": body["model"] });
    if let Told::Full { input, .. } = script.told {
        answer["usage"] = json!({ "prompt_tokens": input, "total_tokens": input });
    }
    answer
}
