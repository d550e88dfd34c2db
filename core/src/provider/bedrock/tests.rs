//! Bodies, signatures and answers as AWS documents them.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message as Frame};
use bytes::Bytes;
use http::HeaderMap;
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::Url;

use super::{Frames, Reply, embed, encode, sign, url, whole};
use crate::provider::tests as golden;
use crate::provider::{ProviderCall, ProviderError, ProviderErrorKind};
use crate::reply::{Chunk, FinishReason, Usage};
use crate::request::{
    ChatRequest, EmbedRequest, Extra, MediaSource, Message, Part, Reasoning, ResponseFormat, Role,
    ToolChoice,
};

const CLAUDE: &str = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0";
const NOVA: &str = "amazon.nova-pro-v1:0";

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
    golden::encoded("bedrock", CLAUDE, encode);
    golden::encoded("bedrock-nova", NOVA, encode);
}

fn of_parts(parts: Vec<Part>) -> ChatRequest {
    let message = Message { parts, ..Message::text(Role::User, "") };
    ChatRequest { messages: vec![message], ..asked("") }
}

#[test]
fn an_image_by_address_is_refused_and_never_fetched() {
    let image = |url: &str| {
        of_parts(vec![Part::Image {
            source: MediaSource::Url(url.into()),
            detail: None,
            cache_control: None,
        }])
    };
    let refused = encode(&call(CLAUDE, image("https://example.com/a.png"))).expect_err("refused");
    assert_eq!(refused.kind, ProviderErrorKind::BadRequest);
    assert!(refused.detail.contains("base64"), "{}", refused.detail);
    assert_eq!(
        body(NOVA, image("s3://bucket/a.jpg"))["messages"][0]["content"][0],
        json!({"image": {"format": "jpeg", "source": {"s3Location": {"uri": "s3://bucket/a.jpg"}}}})
    );
}

#[test]
fn documents_get_names_that_differ_and_a_text_beside_them() {
    let document = |name: &str| Part::Document {
        source: MediaSource::Base64 {
            media_type: "application/pdf".into(),
            data: "JVBERi0xLjQK".into(),
        },
        name: Some(name.into()),
        cache_control: None,
    };
    let request = of_parts(vec![document("Angebot_Nr. 7.pdf"), document("Angebot_Nr. 7.pdf")]);
    let body = body(CLAUDE, request);
    let content = body["messages"][0]["content"].as_array().expect("blocks").clone();
    assert_eq!(content[0]["document"]["name"], "Angebot Nr 7");
    assert_eq!(content[1]["document"]["name"], "Angebot Nr 7 2");
    assert!(content[2]["text"].is_string());
}

#[test]
fn cache_marks_become_points_only_where_there_is_a_cache() {
    let request = of_parts(vec![Part::Text {
        text: "Lang".into(),
        cache_control: Some(json!({"type": "ephemeral", "ttl": "1h"})),
    }]);
    assert_eq!(
        body(CLAUDE, request.clone())["messages"][0]["content"],
        json!([{"text": "Lang"}, {"cachePoint": {"type": "default", "ttl": "1h"}}])
    );
    assert_eq!(
        body("meta.llama3-3-70b-instruct-v1:0", request)["messages"][0]["content"],
        json!([{"text": "Lang"}])
    );
}

#[test]
fn thinking_is_told_as_each_family_wants_it() {
    let fields = |model: &str, effort: &str| {
        let reasoning = Some(Reasoning { effort: Some(effort.into()), budget_tokens: None });
        let request = ChatRequest { reasoning, temperature: Some(0.5), ..asked("Hallo") };
        body(model, request)
    };
    let older = fields(CLAUDE, "medium");
    assert_eq!(
        older["additionalModelRequestFields"],
        json!({"thinking": {"type": "enabled", "budget_tokens": 2048}})
    );
    assert_eq!(older["inferenceConfig"].get("temperature"), None);
    assert_eq!(
        fields("eu.anthropic.claude-opus-4-8", "high")["additionalModelRequestFields"],
        json!({
            "thinking": {"type": "adaptive", "display": "summarized"},
            "output_config": {"effort": "high"},
        })
    );
    assert_eq!(
        fields("amazon.nova-2-lite-v1:0", "high")["additionalModelRequestFields"],
        json!({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "medium"}})
    );
    assert_eq!(
        fields("openai.gpt-oss-120b-1:0", "minimal")["additionalModelRequestFields"],
        json!({"reasoning_effort": "low"})
    );
    assert_eq!(fields(NOVA, "high").get("additionalModelRequestFields"), None);
}

#[test]
fn a_forbidden_tool_is_not_offered() {
    let (_, offered) =
        golden::requests().into_iter().find(|(name, _)| *name == "tools_offered").expect("there");
    let request = ChatRequest { tool_choice: Some(ToolChoice::None), ..offered };
    assert_eq!(body(CLAUDE, request).get("toolConfig"), None);
}

// How it is signed.

fn credentials() -> Credentials {
    let (key, secret) = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
    Credentials::new(key, secret, None, None, "test")
}

/// 2015-08-30T12:36:00Z, the date of AWS's test suite.
fn then() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160)
}

fn signature(request: &reqwest::Request, region: &str, service: &str) -> String {
    let headers = sign::headers(request, &credentials(), region, service, then()).expect("signed");
    let authorization = headers.iter().find(|(name, _)| name == "authorization").expect("there");
    authorization.1.to_str().expect("ASCII").to_owned()
}

/// `post-vanilla` of AWS's published suite for Signature Version 4.
#[test]
fn a_signature_is_that_of_aws_own_test_suite() {
    let url = "https://example.amazonaws.com/".parse().expect("an address");
    let request = reqwest::Request::new(reqwest::Method::POST, url);
    assert_eq!(
        signature(&request, "us-east-1", "service"),
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
         SignedHeaders=host;x-amz-date, \
         Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
    );
}

/// The algorithm of AWS's documentation, by hand: the path is encoded a second time, the body is
/// part of what is signed.
#[test]
fn a_models_name_is_encoded_twice_in_what_is_signed() {
    let base = Url::parse("https://bedrock-runtime.eu-central-1.amazonaws.com").expect("address");
    let url = url(&base, "eu.anthropic.claude-haiku-4-5-20251001-v1:0", "converse");
    assert_eq!(url.path(), "/model/eu.anthropic.claude-haiku-4-5-20251001-v1%3A0/converse");
    let mut request = reqwest::Request::new(reqwest::Method::POST, url);
    *request.body_mut() = Some(br#"{"messages":[]}"#.to_vec().into());

    let canonical = [
        "POST",
        "/model/eu.anthropic.claude-haiku-4-5-20251001-v1%253A0/converse",
        "",
        "host:bedrock-runtime.eu-central-1.amazonaws.com",
        "x-amz-date:20150830T123600Z",
        "",
        "host;x-amz-date",
        &hex::encode(Sha256::digest(br#"{"messages":[]}"#)),
    ]
    .join("\n");
    let scope = "20150830/eu-central-1/bedrock/aws4_request";
    let hashed = hex::encode(Sha256::digest(canonical));
    let to_sign = format!("AWS4-HMAC-SHA256\n20150830T123600Z\n{scope}\n{hashed}");
    let secret = b"AWS4wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_vec();
    let key = scope.split('/').fold(secret, |key, part| hmac(&key, part.as_bytes()));
    let expected = hex::encode(hmac(&key, to_sign.as_bytes()));

    let told = signature(&request, "eu-central-1", "bedrock");
    assert!(told.ends_with(&format!("Signature={expected}")), "{told}");
}

/// RFC 2104.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; 64];
    match key.len() > 64 {
        true => block[..32].copy_from_slice(&Sha256::digest(key)),
        false => block[..key.len()].copy_from_slice(key),
    }
    let padded = |pad: u8| block.map(|byte| byte ^ pad);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().to_vec()
}

#[test]
fn an_arn_is_one_segment_and_a_path_of_the_base_stays() {
    let base = Url::parse("http://127.0.0.1:8080/aws/").expect("address");
    let arn = "arn:aws:bedrock:eu-central-1:1:inference-profile/eu.x";
    assert_eq!(
        url(&base, arn, "invoke").as_str(),
        "http://127.0.0.1:8080/aws/model/arn%3Aaws%3Abedrock%3Aeu-central-1%3A1%3A\
         inference-profile%2Feu.x/invoke"
    );
}

// What is read.

const WHOLE: &str = r#"{
  "output": {"message": {"role": "assistant", "content": [
    {"reasoningContent": {"reasoningText": {"text": "Ich denke.", "signature": "c2ln"}}},
    {"reasoningContent": {"redactedContent": "c2VhbGVk"}},
    {"text": "Ich sehe nach."},
    {"toolUse": {"toolUseId": "tooluse_1", "name": "weather", "input": {"place": "Köln"}}},
    {"toolUse": {"toolUseId": "tooluse_2", "name": "now", "input": {}}}
  ]}},
  "stopReason": "tool_use",
  "usage": {"inputTokens": 10, "outputTokens": 20, "totalTokens": 65,
            "cacheReadInputTokens": 30, "cacheWriteInputTokens": 5},
  "metrics": {"latencyMs": 700}
}"#;

#[test]
fn a_whole_answer_is_read_with_all_its_blocks() {
    golden::whole("bedrock_whole", whole(Reply::default(), WHOLE.as_bytes()));
}

fn ended(reason: &str) -> Result<Vec<Chunk>, ProviderError> {
    let answer = json!({
        "output": {"message": {"content": [{"text": "A"}]}},
        "stopReason": reason,
        "additionalModelResponseFields": {"stop_sequence": "ENDE"},
        "usage": {"inputTokens": 3, "outputTokens": 1},
    });
    whole(Reply::default(), answer.to_string().as_bytes())
}

#[test]
fn every_way_to_stop_has_its_reason() {
    let reason = |told: &str| match ended(told).expect("an end").pop() {
        Some(Chunk::Finish { reason, .. }) => reason,
        other => panic!("no end but {other:?}"),
    };
    assert_eq!(reason("end_turn"), FinishReason::Stop);
    assert_eq!(reason("max_tokens"), FinishReason::Length);
    assert_eq!(reason("stop_sequence"), FinishReason::StopSequence);
    assert_eq!(reason("guardrail_intervened"), FinishReason::ContentFilter);
    assert_eq!(reason("content_filtered"), FinishReason::ContentFilter);
    let failed = ended("malformed_tool_use").expect_err("failed");
    assert_eq!(failed.kind, ProviderErrorKind::Malformed);
    assert_eq!(failed.usage.expect("told").input_tokens, Some(3));
}

#[test]
fn a_success_that_is_none_is_malformed() {
    for body in ["", "{}", r#"{"output":{"message":{"content":[]}}}"#] {
        let error = whole(Reply::default(), body.as_bytes()).expect_err("no answer");
        assert_eq!(error.kind, ProviderErrorKind::Malformed);
    }
}

fn frame(kind: [(&'static str, &'static str); 2], payload: &Value) -> Vec<u8> {
    let mut message = Frame::new(Bytes::from(payload.to_string()));
    for (name, value) in kind {
        message = message.add_header(Header::new(name, HeaderValue::String(value.into())));
    }
    let mut bytes = Vec::new();
    write_message_to(&message, &mut bytes).expect("a frame");
    bytes
}

fn event(name: &'static str, payload: Value) -> Vec<u8> {
    frame([(":message-type", "event"), (":event-type", name)], &payload)
}

fn streamed() -> Vec<u8> {
    let delta = |index: u64, delta: Value| {
        event("contentBlockDelta", json!({"contentBlockIndex": index, "delta": delta, "p": "abcd"}))
    };
    let stop = |index: u64| event("contentBlockStop", json!({"contentBlockIndex": index}));
    let call = |index: u64, id: &str, name: &str| {
        let start = json!({"toolUse": {"toolUseId": id, "name": name}});
        event("contentBlockStart", json!({"contentBlockIndex": index, "start": start}))
    };
    [
        event("messageStart", json!({"role": "assistant"})),
        delta(0, json!({"reasoningContent": {"text": "Hm."}})),
        delta(0, json!({"reasoningContent": {"signature": "c2ln"}})),
        stop(0),
        delta(1, json!({"text": "Grüß "})),
        delta(1, json!({"text": "Gott 👋"})),
        stop(1),
        call(2, "tooluse_1", "weather"),
        delta(2, json!({"toolUse": {"input": "{\"place\":"}})),
        delta(2, json!({"toolUse": {"input": "\"Köln\"}"}})),
        stop(2),
        call(3, "tooluse_2", "now"),
        stop(3),
        event("messageStop", json!({"stopReason": "tool_use"})),
        event(
            "metadata",
            json!({"usage": {"inputTokens": 7, "outputTokens": 9, "totalTokens": 19,
            "cacheReadInputTokens": 3}, "metrics": {"latencyMs": 1}}),
        ),
    ]
    .concat()
}

fn decoder() -> Frames {
    Frames::new(Reply::default())
}

#[allow(clippy::result_large_err, reason = "a test helper tells both what came and what broke")]
fn read(bytes: &[u8]) -> Result<Vec<Chunk>, (Vec<Chunk>, ProviderError)> {
    golden::decode(decoder(), std::iter::once(bytes))
}

#[test]
fn a_stream_is_read_the_same_however_it_is_cut() {
    golden::streamed("bedrock_stream", decoder, &streamed());
}

#[test]
fn a_stream_that_breaks_off_is_cut() {
    let bytes = [
        event("messageStart", json!({})),
        event(
            "contentBlockDelta",
            json!({
                "contentBlockIndex": 0, "delta": {"text": "Hal"}
            }),
        ),
    ]
    .concat();
    let (_, error) = read(&bytes).expect_err("cut");
    assert_eq!((error.kind, error.usage), (ProviderErrorKind::Cut, None));
}

#[test]
fn a_stream_without_counts_is_whole_and_tells_none() {
    let bytes = [
        event("messageStart", json!({})),
        event(
            "messageStop",
            json!({
                "stopReason": "end_turn"
            }),
        ),
    ]
    .concat();
    let chunks = read(&bytes).expect("whole");
    assert!(!chunks.iter().any(|chunk| matches!(chunk, Chunk::Usage(_))));
}

#[test]
fn a_malformed_end_is_an_error_with_what_was_used() {
    let bytes = [
        event("messageStop", json!({"stopReason": "malformed_model_output"})),
        event("metadata", json!({"usage": {"inputTokens": 7, "outputTokens": 9}})),
    ]
    .concat();
    let (_, error) = read(&bytes).expect_err("malformed");
    assert_eq!(error.kind, ProviderErrorKind::Malformed);
    let usage = Usage { input_tokens: Some(7), output_tokens: Some(9), ..Usage::default() };
    assert_eq!(error.usage, Some(usage));
}

#[test]
fn an_exception_inside_a_stream_is_what_it_would_have_been_before_it() {
    let kind = |name: &'static str, message: &str| {
        let kind = [(":message-type", "exception"), (":exception-type", name)];
        let (_, error) =
            read(&frame(kind, &json!({"message": message}))).expect_err("an exception");
        assert!(!error.detail.contains("geheim"), "{}", error.detail);
        error.kind
    };
    assert_eq!(kind("throttlingException", "geheim"), ProviderErrorKind::RateLimited);
    assert_eq!(kind("validationException", "geheim"), ProviderErrorKind::BadRequest);
    assert_eq!(
        kind("validationException", "Input is too long for requested model."),
        ProviderErrorKind::ContextLength
    );
    assert_eq!(kind("modelStreamErrorException", "geheim"), ProviderErrorKind::Server);
    assert_eq!(kind("serviceUnavailableException", ""), ProviderErrorKind::Server);
}

#[test]
fn a_damaged_frame_is_malformed() {
    let mut bytes = streamed();
    bytes[30] ^= 1;
    let (_, error) = read(&bytes).expect_err("damaged");
    assert_eq!(error.kind, ProviderErrorKind::Malformed);
}

#[test]
fn json_by_a_tool_comes_back_as_text() {
    let response_format = ResponseFormat::JsonSchema {
        name: "track".into(),
        description: None,
        schema: json!({"type": "object"}),
        strict: None,
    };
    let reply = Reply::to(&call(NOVA, ChatRequest { response_format, ..asked("Gleis?") }));
    let answer = json!({
        "output": {"message": {"content": [
            {"toolUse": {"toolUseId": "t", "name": "json_answer", "input": {"number": 7}}},
        ]}},
        "stopReason": "tool_use",
    });
    let chunks = whole(reply, answer.to_string().as_bytes()).expect("whole");
    assert!(chunks.contains(&Chunk::Text { choice: 0, text: r#"{"number":7}"#.into() }));
    let end = Chunk::Finish { choice: 0, reason: FinishReason::Stop, stop_sequence: None };
    assert_eq!(chunks.last(), Some(&end));
}

// Vectors.

fn embed_call(model: &str, texts: usize) -> ProviderCall<EmbedRequest> {
    let request = EmbedRequest {
        input: (0..texts).map(|text| format!("Text {text}")).collect(),
        dimensions: Some(256),
        user: None,
        extra: Extra::default(),
    };
    ProviderCall { model: model.into(), request: request.into(), logprobs_for_judge: false }
}

#[test]
fn titan_takes_one_text_to_a_call() {
    let call = embed_call("amazon.titan-embed-text-v2:0", 2);
    let bodies = embed::encode(&call).expect("Titan");
    assert_eq!(bodies[1], json!({"inputText": "Text 1", "normalize": true, "dimensions": 256}));
    let answer = |body: &'static str| (HeaderMap::new(), Bytes::from_static(body.as_bytes()));
    let answers = [
        answer(r#"{"embedding": [1, 0], "inputTextTokenCount": 4}"#),
        answer(r#"{"embedding": [0, 1], "inputTextTokenCount": 5}"#),
    ];
    let embeddings = embed::decode(&answers, &call.request).expect("vectors");
    assert_eq!(embeddings.vectors, vec![vec![1.0, 0.0], vec![0.0, 1.0]]);
    assert_eq!(embeddings.usage.input_tokens, Some(9));
}

#[test]
fn cohere_takes_many_and_aws_tells_the_count_beside_the_answer() {
    let call = embed_call("eu.cohere.embed-v4:0", 2);
    let bodies = embed::encode(&call).expect("Cohere");
    assert_eq!(
        bodies,
        [json!({"texts": ["Text 0", "Text 1"], "input_type": "search_document",
                "embedding_types": ["float"], "output_dimension": 256})]
    );
    let body = Bytes::from_static(br#"{"embeddings": {"float": [[1, 0], [0, 1]]}}"#);
    let mut headers = HeaderMap::new();
    headers.insert("x-amzn-bedrock-input-token-count", "12".parse().expect("a value"));
    let told = embed::decode(&[(headers, body.clone())], &call.request).expect("vectors");
    assert_eq!((told.vectors.len(), told.usage.input_tokens), (2, Some(12)));
    let untold = embed::decode(&[(HeaderMap::new(), body)], &call.request).expect("vectors");
    assert_eq!(untold.usage.input_tokens, None, "what is not told is not zero");
    assert!(embed::encode(&embed_call("meta.llama3", 1)).is_err());
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_chunks(cuts in proptest::collection::vec(0_usize..4000, 0..16)) {
        let bytes = streamed();
        let at_once = read(&bytes).expect("whole");
        prop_assert_eq!(golden::cut(decoder(), &bytes, &cuts).expect("whole"), at_once);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = read(&bytes);
        let _ = whole(Reply::default(), &bytes);
    }

    #[test]
    fn no_damage_makes_it_panic(at in 0_usize..2000, byte in any::<u8>()) {
        let mut bytes = streamed();
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = read(&bytes);
    }
}
