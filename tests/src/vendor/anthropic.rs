//! Anthropic's messages, as the fake vendor speaks them.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::openai::halves;
use super::{Format, PIECE, Script, Shared, Told, Wire, play};

/// `POST /v1/messages`.
pub(super) async fn messages(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return (StatusCode::BAD_REQUEST, "no JSON").into_response();
    };
    if !headers.contains_key("anthropic-version") || !body["max_tokens"].is_u64() {
        return (StatusCode::BAD_REQUEST, "anthropic-version and max_tokens are required")
            .into_response();
    }
    let model = body["model"].as_str().unwrap_or_default().to_owned();
    play(shared, Format::Anthropic, model, headers, body, encode).await
}

fn encode(script: &Script, body: &Value) -> Wire {
    match body["stream"].as_bool() {
        Some(true) => Wire::Stream(stream(script, body)),
        _ => Wire::Whole(whole(script, body)),
    }
}

/// Anthropic's `input_tokens` leaves out what came from the cache.
fn usage(told: Told) -> Value {
    match told {
        Told::Full { input, cached, output, .. } => json!({
            "input_tokens": input - cached, "cache_read_input_tokens": cached,
            "cache_creation_input_tokens": 0, "output_tokens": output,
        }),
        Told::Zero => json!({ "input_tokens": 0, "output_tokens": 0 }),
        Told::Nothing => json!({}),
    }
}

fn message(body: &Value, content: Value, stop: Value, usage: Value) -> Value {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant",
        "model": format!("{}-20260101", body["model"].as_str().unwrap_or_default()),
        "content": content, "stop_reason": stop, "stop_sequence": null, "usage": usage,
    })
}

fn whole(script: &Script, body: &Value) -> Value {
    let (content, stop) = match &script.tool {
        Some((name, arguments)) => {
            let call =
                json!({ "type": "tool_use", "id": "toolu_1", "name": name, "input": arguments });
            (json!([call]), "tool_use")
        }
        None => (json!([{ "type": "text", "text": script.pieces.concat() }]), "end_turn"),
    };
    message(body, content, json!(stop), usage(script.told))
}

fn stream(script: &Script, body: &Value) -> Vec<String> {
    let event = |name: &str, data: Value| format!("event: {name}\ndata: {data}\n\n");
    let mut at_start = usage(script.told);
    if at_start.get("output_tokens").is_some() {
        at_start["output_tokens"] = json!(1);
    }
    let begun = message(body, json!([]), Value::Null, at_start);
    let mut events = vec![
        event("message_start", json!({ "type": "message_start", "message": begun })),
        event("ping", json!({ "type": "ping" })),
    ];
    let (block, deltas, stop) = match &script.tool {
        Some((name, arguments)) => {
            let block = json!({ "type": "tool_use", "id": "toolu_1", "name": name, "input": {} });
            let deltas: Vec<Value> = halves(&arguments.to_string())
                .into_iter()
                .map(|part| json!({ "type": "input_json_delta", "partial_json": part }))
                .collect();
            (block, deltas, "tool_use")
        }
        None => {
            let deltas = script
                .pieces
                .iter()
                .map(|piece| json!({ "type": "text_delta", "text": piece }))
                .collect();
            (json!({ "type": "text", "text": "" }), deltas, "end_turn")
        }
    };
    let begin = json!({ "type": "content_block_start", "index": 0, "content_block": block });
    events.push(event("content_block_start", begin));
    for delta in deltas {
        let more = json!({ "type": "content_block_delta", "index": 0, "delta": delta });
        events.push(format!("{PIECE}{}", event("content_block_delta", more)));
    }
    events.push(event("content_block_stop", json!({ "type": "content_block_stop", "index": 0 })));
    let mut last = json!({
        "type": "message_delta", "delta": { "stop_reason": stop, "stop_sequence": null },
    });
    if let Told::Full { output, .. } = script.told {
        last["usage"] = json!({ "output_tokens": output });
    }
    events.push(event("message_delta", last));
    events.push(event("message_stop", json!({ "type": "message_stop" })));
    events
}
