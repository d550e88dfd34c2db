//! Gemini's generateContent, as the fake vendor speaks it.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Format, PIECE, Script, Shared, Told, Wire, play};

/// `POST /v1beta/models/MODEL:generateContent`, `:streamGenerateContent` and the embedding calls.
pub(super) async fn generate(
    State(shared): State<Arc<Shared>>,
    call: String,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return (StatusCode::BAD_REQUEST, "no JSON").into_response();
    };
    let Some((model, method)) = call.rsplit_once(':') else {
        return (StatusCode::NOT_FOUND, "no method").into_response();
    };
    let (model, method) = (model.to_owned(), method.to_owned());
    let version = format!("{model}-001");
    play(shared, Format::Gemini, model, headers, body, move |script, body| match method.as_str() {
        "streamGenerateContent" => Wire::Stream(stream(script, &version)),
        "batchEmbedContents" => Wire::Whole(vectors(body)),
        _ => Wire::Whole(whole(script, &version)),
    })
    .await
}

/// Gemini's `candidatesTokenCount` leaves out the thoughts.
fn usage(told: Told) -> Value {
    match told {
        Told::Full { input, cached, output, reasoning } => json!({
            "promptTokenCount": input, "cachedContentTokenCount": cached,
            "candidatesTokenCount": output - reasoning, "thoughtsTokenCount": reasoning,
            "totalTokenCount": input + output,
        }),
        Told::Zero => json!({ "promptTokenCount": 0, "totalTokenCount": 0 }),
        Told::Nothing => Value::Null,
    }
}

fn frame(parts: Value, finish: Option<&str>, usage: Value, version: &str) -> Value {
    let mut candidate = json!({ "index": 0, "content": { "role": "model", "parts": parts } });
    if let Some(finish) = finish {
        candidate["finishReason"] = json!(finish);
    }
    let mut answer =
        json!({ "candidates": [candidate], "modelVersion": version, "responseId": "r" });
    if !usage.is_null() {
        answer["usageMetadata"] = usage;
    }
    answer
}

fn whole(script: &Script, version: &str) -> Value {
    let parts = match &script.tool {
        Some((name, arguments)) => {
            json!([{ "functionCall": { "name": name, "args": arguments } }])
        }
        None => json!([{ "text": script.pieces.concat() }]),
    };
    frame(parts, Some("STOP"), usage(script.told), version)
}

fn stream(script: &Script, version: &str) -> Vec<String> {
    let event = |data: Value| format!("data: {data}\r\n\r\n");
    let mut events: Vec<String> = script
        .pieces
        .iter()
        .map(|piece| frame(json!([{ "text": piece }]), None, Value::Null, version))
        .map(|data| format!("{PIECE}{}", event(data)))
        .collect();
    if let Some((name, arguments)) = &script.tool {
        let call = json!([{ "functionCall": { "name": name, "args": arguments } }]);
        events.push(format!("{PIECE}{}", event(frame(call, None, Value::Null, version))));
    }
    let last = frame(json!([{ "text": "" }]), Some("STOP"), usage(script.told), version);
    events.push(event(last));
    events
}

fn vectors(body: &Value) -> Value {
    let count = body["requests"].as_array().map_or(1, Vec::len);
    let vectors: Vec<Value> =
        (0..count).map(|_| json!({ "values": [0.25, 0.5, 0.75, 1.0] })).collect();
    json!({ "embeddings": vectors })
}
