//! Bodies and answers in the format that Google documents.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{Reply, embed, encode, whole};
use crate::provider::events::EventDecoder;
use crate::provider::tests as golden;
use crate::provider::{ProviderCall, ProviderError, ProviderErrorKind};
use crate::reply::{Chunk, FinishReason, Usage};
use crate::request::{
    ChatRequest, EmbedRequest, Extra, MediaSource, Message, Part, Reasoning, Role, ToolCall,
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

// What is sent.

#[test]
fn every_golden_request_has_its_body() {
    golden::encoded("gemini", "gemini-2.5-flash", encode);
    golden::encoded("gemini-levels", "gemini-3.1-pro-preview", encode);
}

fn called(extra: Map<String, Value>) -> Message {
    let call = ToolCall {
        id: "call_1".into(),
        name: "weather".into(),
        arguments: r#"{"place":"Köln"}"#.into(),
        extra: Extra { fields: extra, ..Extra::default() },
    };
    Message { tool_calls: vec![call], ..Message::text(Role::Assistant, "") }
}

#[test]
fn a_signature_goes_back_with_the_call_that_it_came_with() {
    let answer = json!({
        "candidates": [{"content": {"parts": [
            {"functionCall": {"id": "call_1", "name": "weather", "args": {"place": "Köln"}},
             "thoughtSignature": "c2ln"},
        ]}, "finishReason": "STOP"}],
    });
    let chunks = whole(answer.to_string().as_bytes()).expect("whole");
    let extra = chunks.iter().find_map(|chunk| match chunk {
        Chunk::ToolCall { extra, .. } => extra.clone(),
        _ => None,
    });
    let messages = vec![Message::text(Role::User, "Wetter?"), called(extra.expect("signed"))];
    let body = body("gemini-3-flash-preview", ChatRequest { messages, ..asked("") });
    assert_eq!(body["contents"][1]["parts"][0]["thoughtSignature"], "c2ln");
}

#[test]
fn a_call_without_signature_is_excused_where_the_model_wants_one() {
    let messages = vec![Message::text(Role::User, "Wetter?"), called(Map::new())];
    let request = ChatRequest { messages, ..asked("") };
    let signature = |model| {
        body(model, request.clone())["contents"][1]["parts"][0].get("thoughtSignature").cloned()
    };
    assert_eq!(
        signature("gemini-3.1-pro-preview"),
        Some(json!("skip_thought_signature_validator"))
    );
    assert_eq!(signature("gemini-2.5-flash"), None);
}

#[test]
fn thinking_is_told_as_each_generation_wants_it() {
    let thinking = |model: &str, effort: Option<&str>, budget_tokens| {
        let reasoning = Some(Reasoning { effort: effort.map(str::to_owned), budget_tokens });
        let request = ChatRequest { reasoning, max_output_tokens: Some(10_000), ..asked("Hallo") };
        body(model, request)["generationConfig"].get("thinkingConfig").cloned()
    };
    let on = |field: &str, value: Value| Some(json!({field: value, "includeThoughts": true}));
    assert_eq!(
        thinking("gemini-3-flash-preview", Some("medium"), None),
        on("thinkingLevel", json!("medium"))
    );
    assert_eq!(
        thinking("gemini-3-pro-preview", Some("medium"), None),
        on("thinkingLevel", json!("high"))
    );
    assert_eq!(
        thinking("gemini-3-pro-preview", Some("minimal"), None),
        on("thinkingLevel", json!("low"))
    );
    assert_eq!(thinking("gemini-2.5-pro", Some("medium"), None), on("thinkingBudget", json!(5000)));
    assert_eq!(thinking("gemini-2.5-flash", None, Some(20_000)), on("thinkingBudget", json!(8000)));
    assert_eq!(
        thinking("gemini-2.5-flash", Some("none"), None),
        Some(json!({"thinkingBudget": 0, "includeThoughts": false}))
    );
    assert_eq!(thinking("gemini-2.0-flash", Some("high"), None), None);
    assert_eq!(thinking("gemma-4-31b-it", Some("high"), None), None);
}

fn with_image(url: &str) -> ChatRequest {
    let part =
        Part::Image { source: MediaSource::Url(url.into()), detail: None, cache_control: None };
    let message = Message { parts: vec![part], ..Message::text(Role::User, "") };
    ChatRequest { messages: vec![message], ..asked("") }
}

#[test]
fn addresses_go_to_the_models_that_fetch_them_and_are_refused_for_others() {
    let url = "https://example.com/a.png";
    assert_eq!(
        body("gemini-3-flash-preview", with_image(url))["contents"][0]["parts"][0],
        json!({"fileData": {"mimeType": "image/png", "fileUri": url}})
    );
    let refused = |model, url| encode(&call(model, with_image(url))).expect_err("refused").kind;
    assert_eq!(refused("gemini-2.0-flash", url), ProviderErrorKind::BadRequest);
    assert_eq!(
        refused("gemini-3-flash-preview", "http://example.com/a.png"),
        ProviderErrorKind::BadRequest
    );
}

#[test]
fn a_seed_beyond_32_bits_is_cut_the_same_way_each_time() {
    let seed = |seed| {
        let request = ChatRequest { seed: Some(seed), ..asked("Hallo") };
        body("gemini-2.5-flash", request)["generationConfig"]["seed"].clone()
    };
    assert_eq!(seed(42), 42);
    assert_eq!(seed(-1), -1);
    assert_eq!(seed(i64::MAX), seed(i64::MAX));
    assert!(seed(i64::MAX).as_i64().is_some_and(|seed| i32::try_from(seed).is_ok()));
}

// What is read.

const WHOLE: &str = r#"{
  "candidates": [
    {"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": [
      {"text": "Ich denke.", "thought": true},
      {"text": "Ich sehe nach."},
      {"functionCall": {"name": "weather", "args": {"place": "Köln"}}, "thoughtSignature": "c2ln"},
      {"functionCall": {"id": "fc_2", "name": "now", "args": {}}}
    ]},
     "logprobsResult": {
       "chosenCandidates": [{"token": "Ich", "tokenId": 7, "logProbability": -0.25}],
       "topCandidates": [{"candidates": [{"token": "Ich", "logProbability": -0.25},
                                         {"token": "Du", "logProbability": -2.5}]}]}},
    {"index": 1, "finishReason": "SAFETY"}
  ],
  "usageMetadata": {"promptTokenCount": 100, "cachedContentTokenCount": 60,
    "toolUsePromptTokenCount": 5, "candidatesTokenCount": 20, "thoughtsTokenCount": 30,
    "totalTokenCount": 155},
  "modelVersion": "gemini-2.5-flash", "responseId": "r1"
}"#;

#[test]
fn a_whole_answer_is_read_with_all_its_parts() {
    golden::whole("gemini_whole", whole(WHOLE.as_bytes()));
}

fn finished(reason: &str) -> Result<Vec<Chunk>, ProviderError> {
    let answer = json!({
        "candidates": [{"content": {"parts": [{"text": "A"}]}, "finishReason": reason}],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 1},
    });
    whole(answer.to_string().as_bytes())
}

#[test]
fn every_way_to_finish_has_its_reason() {
    let reason = |told: &str| match finished(told).expect("an end").pop() {
        Some(Chunk::Finish { reason, .. }) => reason,
        other => panic!("no end but {other:?}"),
    };
    assert_eq!(reason("STOP"), FinishReason::Stop);
    assert_eq!(reason("MAX_TOKENS"), FinishReason::Length);
    assert_eq!(reason("RECITATION"), FinishReason::ContentFilter);
    assert_eq!(reason("PROHIBITED_CONTENT"), FinishReason::ContentFilter);
    let failed = finished("MALFORMED_FUNCTION_CALL").expect_err("failed");
    assert_eq!(failed.kind, ProviderErrorKind::Malformed);
    assert_eq!(failed.usage.expect("told").input_tokens, Some(3));
}

#[test]
fn a_refused_prompt_is_the_filters_and_not_an_empty_answer() {
    let body = r#"{"promptFeedback": {"blockReason": "SAFETY"},
                   "usageMetadata": {"promptTokenCount": 8}}"#;
    let refused = whole(body.as_bytes()).expect_err("refused");
    assert_eq!(refused.kind, ProviderErrorKind::ContentFilter);
    let usage = Usage { input_tokens: Some(8), ..Usage::default() };
    assert_eq!(refused.usage, Some(usage));
}

#[test]
fn an_empty_answer_with_usage_is_an_answer() {
    let body = r#"{"candidates": [{"finishReason": "STOP"}],
                   "usageMetadata": {"promptTokenCount": 8}}"#;
    let chunks = whole(body.as_bytes()).expect("an answer");
    assert!(matches!(chunks.last(), Some(Chunk::Finish { reason: FinishReason::Stop, .. })));
}

#[test]
fn a_success_that_is_none_is_malformed_or_the_error_that_it_tells() {
    let kind = |body: &str| whole(body.as_bytes()).expect_err("no answer").kind;
    assert_eq!(kind("nope"), ProviderErrorKind::Malformed);
    assert_eq!(kind("{}"), ProviderErrorKind::Malformed);
    let busy = r#"[{"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}]"#;
    assert_eq!(kind(busy), ProviderErrorKind::Server);
}

fn sse(events: &[Value]) -> String {
    events.iter().map(|event| format!("data: {event}\r\n\r\n")).collect()
}

fn piece(parts: Value, finish: Option<&str>, usage: Value) -> Value {
    let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
    if let Some(finish) = finish {
        candidate["finishReason"] = json!(finish);
    }
    json!({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-2.5-flash",
           "responseId": "r1"})
}

fn streamed() -> String {
    sse(&[
        piece(
            json!([{"text": "Hm.", "thought": true}]),
            None,
            json!({"promptTokenCount": 9, "thoughtsTokenCount": 4}),
        ),
        piece(
            json!([{"text": "Grüß "}]),
            None,
            json!({"promptTokenCount": 9, "thoughtsTokenCount": 4, "candidatesTokenCount": 2}),
        ),
        piece(
            json!([{"text": "Gott 👋"}]),
            None,
            json!({"promptTokenCount": 9, "thoughtsTokenCount": 4, "candidatesTokenCount": 4}),
        ),
        piece(
            json!([{"functionCall": {"name": "now", "args": {}}, "thoughtSignature": "c2ln"}]),
            None,
            Value::Null,
        ),
        piece(
            json!([{"text": ""}]),
            Some("STOP"),
            json!({"promptTokenCount": 9, "thoughtsTokenCount": 4, "candidatesTokenCount": 6}),
        ),
    ])
}

fn decoder() -> EventDecoder<Reply> {
    EventDecoder::new(Reply::default())
}

#[allow(clippy::result_large_err, reason = "a test helper tells both what came and what broke")]
fn read(bytes: &str) -> Result<Vec<Chunk>, (Vec<Chunk>, ProviderError)> {
    golden::decode(decoder(), std::iter::once(bytes.as_bytes()))
}

#[test]
fn a_stream_is_read_the_same_however_it_is_cut() {
    golden::streamed("gemini_stream", decoder, streamed().as_bytes());
}

#[test]
fn a_stream_that_breaks_off_is_cut_with_what_was_told() {
    let bytes = streamed();
    let until = bytes.find("functionCall").expect("a call");
    let until = bytes[..until].rfind("data:").expect("an event");
    let (_, error) = read(&bytes[..until]).expect_err("cut");
    assert_eq!(error.kind, ProviderErrorKind::Cut);
    let usage = Usage {
        input_tokens: Some(9),
        output_tokens: Some(8),
        reasoning_tokens: 4,
        ..Usage::default()
    };
    assert_eq!(error.usage, Some(usage));
}

#[test]
fn an_error_inside_a_stream_is_an_error() {
    let told = json!({"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED",
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}]}});
    let (_, error) = read(&sse(&[told])).expect_err("told");
    assert_eq!(error.kind, ProviderErrorKind::RateLimited);
    assert_eq!(error.retry_after, Some(std::time::Duration::from_secs(34)));
}

// Vectors.

fn embed_call(texts: usize, dimensions: Option<u32>) -> ProviderCall<EmbedRequest> {
    let request = EmbedRequest {
        input: (0..texts).map(|text| format!("Text {text}")).collect(),
        dimensions,
        user: None,
        extra: Extra::default(),
    };
    ProviderCall {
        model: "gemini-embedding-001".into(),
        request: request.into(),
        logprobs_for_judge: false,
    }
}

#[test]
fn texts_go_in_batches_and_vectors_come_back_in_order() {
    let call = embed_call(101, None);
    let bodies = embed::encode(&call);
    assert_eq!(bodies.len(), 2);
    assert_eq!(
        bodies[1]["requests"],
        json!([{"model": "models/gemini-embedding-001", "content": {"parts": [{"text": "Text 100"}]}}])
    );

    let call = embed_call(2, None);
    let mut all = embed::none();
    let answer = r#"{"embeddings": [{"values": [1, 0]}, {"values": [0.5, 0.25]}],
                     "usageMetadata": {"promptTokenCount": 6}}"#;
    embed::decode(answer.as_bytes(), &call.request, &mut all).expect("vectors");
    assert_eq!(all.vectors, vec![vec![1.0, 0.0], vec![0.5, 0.25]]);
    assert_eq!(all.usage.input_tokens, Some(6));
    assert!(embed::all_there(&embed_call(3, None).request, all).is_err(), "one is missing");
}

#[test]
fn a_shortened_vector_has_length_one() {
    let call = embed_call(1, Some(2));
    assert_eq!(embed::encode(&call)[0]["requests"][0]["outputDimensionality"], 2);
    let mut all = embed::none();
    let answer = r#"{"embeddings": [{"values": [3, 4]}]}"#;
    embed::decode(answer.as_bytes(), &call.request, &mut all).expect("a vector");
    assert_eq!(all.vectors, vec![vec![0.6, 0.8]]);
    assert_eq!(all.usage.input_tokens, None, "what is not told is not zero");
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_chunks(cuts in proptest::collection::vec(0_usize..2000, 0..16)) {
        let bytes = streamed();
        let at_once = read(&bytes).expect("whole");
        prop_assert_eq!(golden::cut(decoder(), bytes.as_bytes(), &cuts).expect("whole"), at_once);
    }

    #[test]
    fn no_answer_makes_it_panic(
        index in any::<u64>(),
        count in any::<i64>(),
        reason in "[A-Z_]{0,8}",
        text in ".{0,8}",
    ) {
        let answers = [
            json!({"candidates": [{"index": index, "finishReason": reason}]}),
            json!({"candidates": text, "usageMetadata": {"promptTokenCount": count}}),
            json!({"candidates": [{"content": {"parts": [{"functionCall": {"args": text}}, text]}}]}),
            json!({"promptFeedback": {"blockReason": text}}),
            json!([]),
            json!({"usageMetadata": {"promptTokenCount": u64::MAX, "toolUsePromptTokenCount": index}}),
        ];
        let _ = read(&sse(&answers));
        for answer in answers {
            let _ = whole(answer.to_string().as_bytes());
        }
    }
}
