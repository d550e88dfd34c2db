//! Bodies and answers in the format that Anthropic documents.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Reply, betas, encode, whole};
use crate::provider::events::EventDecoder;
use crate::provider::tests as golden;
use crate::provider::{ProviderCall, ProviderError, ProviderErrorKind};
use crate::reply::{Chunk, FinishReason, Usage};
use crate::request::{
    ChatRequest, Dialect, Extra, MediaSource, Message, Part, Reasoning, ResponseFormat, Role, Tool,
    ToolCall, ToolChoice,
};

fn call(model: &str, request: ChatRequest) -> ProviderCall {
    ProviderCall { model: model.to_owned(), request: request.into(), logprobs_for_judge: false }
}

fn asked(text: &str) -> ChatRequest {
    ChatRequest { max_output_tokens: Some(4096), stream: false, ..ChatRequest::ask(text) }
}

fn body(model: &str, request: ChatRequest) -> Value {
    encode(&call(model, request)).expect("the format has a place for it")
}

fn schema() -> ResponseFormat {
    ResponseFormat::JsonSchema {
        name: "track".to_owned(),
        description: None,
        schema: json!({"type": "object", "properties": {"number": {"type": "integer"}}}),
        strict: None,
    }
}

fn anthropic(fields: Value) -> Extra {
    let Value::Object(fields) = fields else { panic!("fields are an object") };
    Extra { dialect: Dialect::Anthropic, fields }
}

// What is sent.

#[test]
fn every_golden_request_has_its_body() {
    golden::encoded("anthropic", "claude-sonnet-4-5-20250929", encode);
    golden::encoded("anthropic-adaptive", "claude-opus-4-8", encode);
}

#[test]
fn cache_marks_and_native_blocks_reach_anthropic_as_they_were() {
    let mark = json!({"type": "ephemeral", "ttl": "1h"});
    let system = Message {
        parts: vec![Part::Text { text: "Regeln".into(), cache_control: Some(mark.clone()) }],
        ..Message::text(Role::System, "")
    };
    let native = json!({"type": "search_result", "source": "s", "title": "t", "content": []});
    let user = Message {
        parts: vec![Part::Other { dialect: Dialect::Anthropic, value: native.clone() }],
        ..Message::text(Role::User, "")
    };
    let tool = Tool {
        name: "web_search".into(),
        description: None,
        parameters: None,
        strict: None,
        cache_control: None,
        native: Some(anthropic(json!({"type": "web_search_20250305", "name": "web_search"}))),
    };
    let request = ChatRequest { messages: vec![system, user], tools: vec![tool], ..asked("") };
    let body = body("claude-sonnet-4-5", request);
    assert_eq!(body["system"][0]["cache_control"], mark);
    assert_eq!(body["messages"][0]["content"], json!([native]));
    assert_eq!(body["tools"], json!([{"type": "web_search_20250305", "name": "web_search"}]));
}

#[test]
fn fields_of_anthropics_own_go_through_and_cannot_change_the_limit() {
    let extra = anthropic(json!({
        "service_tier": "auto",
        "max_tokens": 1_000_000,
        "anthropic_beta": ["context-management-2025-06-27"],
        "output_config": {"task_budget": 5},
    }));
    let request = ChatRequest { response_format: schema(), extra, ..asked("Hallo") };
    assert_eq!(betas(&request).as_deref(), Some("context-management-2025-06-27"));
    let body = body("claude-sonnet-4-5", request);
    assert_eq!(body["service_tier"], "auto");
    assert_eq!(body["max_tokens"], 4096);
    assert_eq!(body.get("anthropic_beta"), None);
    assert_eq!(body["output_config"]["task_budget"], 5);
    assert_eq!(body["output_config"]["format"]["type"], "json_schema");
}

#[test]
fn a_file_by_id_brings_its_beta() {
    let part = Part::Image {
        source: MediaSource::FileId("file_1".into()),
        detail: None,
        cache_control: None,
    };
    let message = Message { parts: vec![part], ..Message::text(Role::User, "") };
    let request = ChatRequest { messages: vec![message], ..asked("") };
    assert_eq!(betas(&request).as_deref(), Some("files-api-2025-04-14"));
    assert_eq!(
        body("claude-sonnet-4-5", request)["messages"][0]["content"][0]["source"],
        json!({"type": "file", "file_id": "file_1"})
    );
}

#[test]
fn a_thinking_model_gets_no_temperature_and_a_forced_tool_no_thinking() {
    let request = ChatRequest {
        temperature: Some(0.2),
        reasoning: Some(Reasoning { effort: Some("low".into()), budget_tokens: None }),
        ..asked("Hallo")
    };
    let thinking = body("claude-sonnet-4-5", request.clone());
    assert_eq!(thinking["thinking"], json!({"type": "enabled", "budget_tokens": 1024}));
    assert_eq!(thinking.get("temperature"), None);

    let forced = ChatRequest { tool_choice: Some(ToolChoice::Required), ..request };
    let forced = body("claude-sonnet-4-5", forced);
    assert_eq!(forced.get("thinking"), None);
    assert_eq!(forced["temperature"], 0.2);
}

#[test]
fn an_absurd_temperature_is_clamped_to_the_vendors_scale() {
    let request = ChatRequest { temperature: Some(1.8), ..asked("Hallo") };
    assert_eq!(body("claude-haiku-4-5", request)["temperature"], 1.0);
}

#[test]
fn an_older_model_keeps_to_a_schema_by_a_tool() {
    let request = ChatRequest { response_format: schema(), ..asked("Gleis?") };
    let body = body("claude-3-5-haiku-20241022", request);
    assert_eq!(body["tool_choice"], json!({"type": "tool", "name": "json_answer"}));
    assert_eq!(body.get("output_config"), None);
}

#[test]
fn tools_of_the_past_stay_declared_and_are_not_called_again() {
    let called = Message {
        tool_calls: vec![ToolCall {
            id: "call_1".into(),
            name: "weather".into(),
            arguments: "{}".into(),
            extra: Extra::default(),
        }],
        ..Message::text(Role::Assistant, "")
    };
    let result =
        Message { tool_call_id: Some("call_1".into()), ..Message::text(Role::Tool, "Regen") };
    let messages = vec![Message::text(Role::User, "Wetter?"), called, result];
    let body = body("claude-sonnet-4-5", ChatRequest { messages, ..asked("") });
    assert_eq!(body["tools"][0]["name"], "weather");
    assert_eq!(body["tool_choice"], json!({"type": "none"}));
}

#[test]
fn a_conversation_that_the_model_opens_is_opened_by_the_user() {
    let messages =
        vec![Message::text(Role::Assistant, "Guten Tag!"), Message::text(Role::User, "Hallo")];
    let body = body("claude-sonnet-4-5", ChatRequest { messages, ..asked("") });
    let roles: Vec<_> = body["messages"].as_array().expect("a list").iter().collect();
    assert_eq!(
        roles.iter().map(|turn| &turn["role"]).collect::<Vec<_>>(),
        ["user", "assistant", "user"]
    );
}

#[test]
fn sound_and_silence_are_refused_with_a_reason() {
    let sound = Part::Audio { data: "AAAA".into(), format: "wav".into() };
    let message = Message { parts: vec![sound], ..Message::text(Role::User, "") };
    let refused =
        encode(&call("claude-sonnet-4-5", ChatRequest { messages: vec![message], ..asked("") }));
    assert_eq!(refused.expect_err("refused").kind, ProviderErrorKind::BadRequest);
    let blank = encode(&call("claude-sonnet-4-5", asked("  ")));
    assert!(blank.expect_err("refused").detail.contains("no text"));
}

// What is read.

const WHOLE: &str = r#"{
  "id": "msg_01", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5-20250929",
  "content": [
    {"type": "thinking", "thinking": "Ich brauche das Wetter.", "signature": "c2ln"},
    {"type": "redacted_thinking", "data": "c2VhbGVk"},
    {"type": "text", "text": "Ich sehe nach."},
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
    {"type": "tool_use", "id": "toolu_01", "name": "weather", "input": {"place": "Köln"}},
    {"type": "tool_use", "id": "toolu_02", "name": "now", "input": {}}
  ],
  "stop_reason": "tool_use", "stop_sequence": null,
  "usage": {"input_tokens": 10, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 30,
            "output_tokens": 40, "service_tier": "standard"}
}"#;

#[test]
fn a_whole_answer_is_read_with_all_its_blocks() {
    golden::whole("anthropic_whole", whole(Reply::default(), WHOLE.as_bytes()));
}

#[test]
fn a_stop_text_and_a_refusal_keep_their_reason() {
    let finish = |reason: &str, sequence: Value| {
        let answer = json!({
            "id": "m", "model": "c", "content": [{"type": "text", "text": "A"}],
            "stop_reason": reason, "stop_sequence": sequence, "usage": {},
        });
        let chunks = whole(Reply::default(), answer.to_string().as_bytes()).expect("whole");
        assert!(!chunks.iter().any(|chunk| matches!(chunk, Chunk::Usage(_))), "none was told");
        chunks.last().expect("an end").clone()
    };
    let end = |reason, stop_sequence| Chunk::Finish { choice: 0, reason, stop_sequence };
    assert_eq!(
        finish("stop_sequence", json!("ENDE")),
        end(FinishReason::StopSequence, Some("ENDE".into()))
    );
    assert_eq!(finish("refusal", Value::Null), end(FinishReason::ContentFilter, None));
    assert_eq!(finish("pause_turn", Value::Null), end(FinishReason::Stop, None));
    assert_eq!(
        finish("model_context_window_exceeded", Value::Null),
        end(FinishReason::Length, None)
    );
}

#[test]
fn a_success_that_is_none_is_malformed_or_the_error_that_it_tells() {
    let kind = |body: &str| whole(Reply::default(), body.as_bytes()).expect_err("no answer");
    assert_eq!(kind("<html>").kind, ProviderErrorKind::Malformed);
    assert_eq!(kind("{}").kind, ProviderErrorKind::Malformed);
    let overloaded = r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#;
    assert_eq!(kind(overloaded).kind, ProviderErrorKind::Server);
    let cut = r#"{"content":[],"usage":{"input_tokens":5,"output_tokens":1}}"#;
    assert_eq!(kind(cut).usage.expect("told").input_tokens, Some(5));
}

fn sse(events: &[Value]) -> String {
    let event = |event: &Value| {
        let name = event["type"].as_str().unwrap_or_default();
        format!("event: {name}\ndata: {event}\n\n")
    };
    events.iter().map(event).collect()
}

fn start(usage: Value) -> Value {
    let message = json!({
        "id": "msg_01", "type": "message", "role": "assistant", "content": [],
        "model": "claude-sonnet-4-5-20250929", "stop_reason": null, "usage": usage,
    });
    json!({"type": "message_start", "message": message})
}

fn block(index: u64, block: Value, deltas: &[Value]) -> Vec<Value> {
    let mut events =
        vec![json!({"type": "content_block_start", "index": index, "content_block": block})];
    events.extend(
        deltas
            .iter()
            .map(|delta| json!({"type": "content_block_delta", "index": index, "delta": delta})),
    );
    events.push(json!({"type": "content_block_stop", "index": index}));
    events
}

fn stop(reason: &str, usage: Value) -> Vec<Value> {
    vec![
        json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null},
               "usage": usage}),
        json!({"type": "message_stop"}),
    ]
}

fn streamed_text() -> String {
    let text = block(
        0,
        json!({"type": "text", "text": ""}),
        &[
            json!({"type": "text_delta", "text": "Grüß "}),
            json!({"type": "text_delta", "text": "Gott 👋"}),
        ],
    );
    let usage = json!({"input_tokens": 7, "cache_creation_input_tokens": 2,
                       "cache_read_input_tokens": 1, "output_tokens": 1});
    let mut events = vec![start(usage), json!({"type": "ping"})];
    events.extend(text);
    events.extend(stop("end_turn", json!({"output_tokens": 12})));
    sse(&events)
}

fn streamed_blocks() -> String {
    let mut events = vec![start(json!({"input_tokens": 7, "output_tokens": 1}))];
    events.extend(block(
        0,
        json!({"type": "thinking", "thinking": "", "signature": ""}),
        &[
            json!({"type": "thinking_delta", "thinking": "Erst denken."}),
            json!({"type": "signature_delta", "signature": "c2ln"}),
        ],
    ));
    events.extend(block(1, json!({"type": "redacted_thinking", "data": "c2VhbGVk"}), &[]));
    let search = json!({"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}});
    events.extend(block(
        2,
        search,
        &[
            json!({"type": "input_json_delta", "partial_json": "{\"query\":"}),
            json!({"type": "input_json_delta", "partial_json": "\"Bahn\"}"}),
        ],
    ));
    events.extend(block(
        3,
        json!({"type": "text", "text": ""}),
        &[
            json!({"type": "citations_delta", "citation": {"type": "web_search_result_location"}}),
            json!({"type": "text_delta", "text": "Laut Quelle."}),
        ],
    ));
    let weather = json!({"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}});
    events.extend(block(
        4,
        weather,
        &[
            json!({"type": "input_json_delta", "partial_json": ""}),
            json!({"type": "input_json_delta", "partial_json": "{\"place\": \"Kö"}),
            json!({"type": "input_json_delta", "partial_json": "ln\"}"}),
        ],
    ));
    let now = json!({"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}});
    events.extend(block(5, now, &[]));
    events.extend(stop("tool_use", json!({"input_tokens": 9, "output_tokens": 40})));
    sse(&events)
}

fn decoder() -> EventDecoder<Reply> {
    EventDecoder::new(Reply::default())
}

#[test]
fn a_stream_is_read_the_same_however_it_is_cut() {
    golden::streamed("anthropic_stream_text", decoder, streamed_text().as_bytes());
    golden::streamed("anthropic_stream_blocks", decoder, streamed_blocks().as_bytes());
}

#[allow(clippy::result_large_err, reason = "a test helper tells both what came and what broke")]
fn read(bytes: &str) -> Result<Vec<Chunk>, (Vec<Chunk>, ProviderError)> {
    golden::decode(decoder(), std::iter::once(bytes.as_bytes()))
}

#[test]
fn a_stream_that_breaks_off_is_cut_and_its_input_is_known() {
    let bytes = streamed_text();
    let until = bytes.find("event: message_delta").expect("an end");
    let (chunks, error) = read(&bytes[..until]).expect_err("cut");
    assert_eq!(error.kind, ProviderErrorKind::Cut);
    let usage = Usage {
        input_tokens: Some(10),
        cached_input_tokens: 1,
        cache_write_tokens: 2,
        ..Usage::default()
    };
    assert_eq!(error.usage, Some(usage), "the output is for us to count");
    assert!(chunks.contains(&Chunk::Text { choice: 0, text: "Gott 👋".into() }));
}

#[test]
fn an_error_inside_a_stream_is_an_error_with_what_was_used() {
    let told = json!({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}});
    let bytes = sse(&[start(json!({"input_tokens": 3, "output_tokens": 1})), told]);
    let (_, error) = read(&bytes).expect_err("overloaded");
    assert_eq!(error.kind, ProviderErrorKind::Server);
    assert_eq!(error.usage.expect("told").input_tokens, Some(3));
}

#[test]
fn a_stream_without_usage_tells_none() {
    let mut events = vec![start(Value::Null)];
    events.extend(block(0, json!({"type": "text", "text": "Hallo"}), &[]));
    events.extend(stop("end_turn", Value::Null));
    let chunks = read(&sse(&events)).expect("whole");
    assert!(!chunks.iter().any(|chunk| matches!(chunk, Chunk::Usage(_))));
}

#[test]
fn json_by_a_tool_comes_back_as_text() {
    let request = ChatRequest { response_format: schema(), ..asked("Gleis?") };
    let reply = Reply::to(&call("claude-3-5-haiku-20241022", request));
    let answer = json!({"type": "tool_use", "id": "t", "name": "json_answer", "input": {}});
    let mut events = vec![start(json!({"input_tokens": 3}))];
    events.extend(block(
        0,
        answer,
        &[
            json!({"type": "input_json_delta", "partial_json": "{\"number\""}),
            json!({"type": "input_json_delta", "partial_json": ": 7}"}),
        ],
    ));
    events.extend(stop("tool_use", json!({"output_tokens": 5})));
    let bytes = sse(&events);
    let decoder = EventDecoder::new(reply);
    let chunks = golden::decode(decoder, std::iter::once(bytes.as_bytes())).expect("whole");
    let text: String = chunks
        .iter()
        .filter_map(|chunk| match chunk {
            Chunk::Text { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(text, r#"{"number": 7}"#);
    let end = Chunk::Finish { choice: 0, reason: FinishReason::Stop, stop_sequence: None };
    assert_eq!(chunks.last(), Some(&end));
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_chunks(cuts in proptest::collection::vec(0_usize..4000, 0..16)) {
        for bytes in [streamed_text(), streamed_blocks()] {
            let at_once = read(&bytes).expect("whole");
            prop_assert_eq!(golden::cut(decoder(), bytes.as_bytes(), &cuts).expect("whole"), at_once);
        }
    }

    #[test]
    fn no_event_makes_it_panic(
        kinds in proptest::collection::vec(0_usize..10, 0..12),
        index in 0_u64..3,
        text in "[a-z{}\":0-9]{0,12}",
    ) {
        let events: Vec<Value> = kinds.iter().map(|kind| match kind {
            0 => start(json!({"input_tokens": text})),
            1 => json!({"type": "content_block_start", "index": index, "content_block": text}),
            2 => json!({"type": "content_block_start", "content_block": {"type": "tool_use"}}),
            3 => json!({"type": "content_block_delta", "index": index, "delta": {
                "type": "input_json_delta", "partial_json": text}}),
            4 => json!({"type": "content_block_delta", "delta": 7}),
            5 => json!({"type": "content_block_stop", "index": index}),
            6 => json!({"type": "message_delta", "delta": {"stop_reason": text}}),
            7 => json!({"type": "message_stop"}),
            8 => json!({"type": "error"}),
            _ => json!([text]),
        }).collect();
        let _ = read(&sse(&events));
        let _ = whole(Reply::default(), sse(&events).as_bytes());
        for event in &events {
            let _ = whole(Reply::default(), event.to_string().as_bytes());
        }
    }
}
