//! What a client of Anthropic's format sees.

use stellwerk_core::reply::{Failure, FailureKind, Words};

use super::*;
use crate::fixtures::{begun, call, done, request_id, text};

fn streamed(shown: Vec<Shown>) -> String {
    let mut stream = Stream::new(request_id(), false, Locale::De);
    let mut out = Vec::new();
    for shown in shown {
        stream.push(shown, &mut out);
    }
    let text = String::from_utf8(out).expect("UTF-8");
    let events = text.split_terminator("\n\n").map(|event| {
        let (name, data) = event.split_once('\n').expect("two lines");
        let data = data.strip_prefix("data: ").expect("data");
        let json: Value = serde_json::from_str(data).expect("JSON");
        assert_eq!(name.strip_prefix("event: "), json["type"].as_str());
        data.to_owned() + "\n"
    });
    events.collect()
}

fn finish(reason: FinishReason) -> Shown {
    Shown::Piece(Chunk::Finish { choice: 0, reason, stop_sequence: None })
}

#[test]
fn thinking_text_and_tools_become_blocks_that_open_and_close() {
    let shown = vec![
        begun("mini"),
        Shown::Piece(Chunk::Reasoning { choice: 0, text: "Hm".to_owned() }),
        Shown::Piece(Chunk::ReasoningSignature { choice: 0, signature: "sig".to_owned() }),
        text("Ich "),
        text("sehe."),
        call(0, Some("weather"), ""),
        call(0, None, "{}"),
        call(1, Some("time"), "{}"),
        finish(FinishReason::ToolCalls),
        Shown::Done(Box::new(done("mini"))),
    ];
    insta::assert_snapshot!(streamed(shown), @r#"
    {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"mini","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}}
    {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}
    {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm"}}
    {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"sig"}}
    {"type":"content_block_stop","index":0}
    {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}
    {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Ich "}}
    {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"sehe."}}
    {"type":"content_block_stop","index":1}
    {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"call_weather","name":"weather","input":{}}}
    {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{}"}}
    {"type":"content_block_stop","index":2}
    {"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"call_time","name":"time","input":{}}}
    {"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{}"}}
    {"type":"content_block_stop","index":3}
    {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":5,"cache_creation_input_tokens":1,"cache_read_input_tokens":4,"output_tokens":3},"stellwerk":{"request_id":"req_1","model":"mini","cost":"0.004500000","currency":"EUR","trace":""}}
    {"type":"message_stop"}
    "#);
}

#[test]
fn a_started_stream_that_fails_ends_with_an_error_event() {
    let words = Words::new("the vendor broke off", "der Anbieter brach ab");
    let failure = Failure::new(request_id(), FailureKind::Upstream, words);
    let shown = vec![begun("mini"), text("Hal"), Shown::Failed(Box::new(failure))];
    let seen = streamed(shown);
    let last = r#"{"type":"error","error":{"type":"api_error","message":"der Anbieter brach ab","code":"upstream","param":null},"request_id":"req_1"}"#;
    assert_eq!(seen.lines().last(), Some(last));
    assert!(!seen.contains("message_stop"));
}

#[test]
fn a_fail_over_closes_the_block_and_begins_another() {
    let failed_over = Shown::FailedOver { from: ModelId::from("mini"), to: ModelId::from("big") };
    let shown = vec![begun("mini"), text("Hal"), failed_over, begun("big"), text("Hallo")];
    insta::assert_snapshot!(streamed(shown), @r#"
    {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"mini","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}}
    {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}
    {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hal"}}
    {"type":"content_block_stop","index":0}
    {"type":"ping","stellwerk":{"failover":{"from":"mini","to":"big"}}}
    {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}
    {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Hallo"}}
    "#);
}

#[test]
fn a_whole_answer_is_a_message_with_its_blocks_in_order() {
    let mut collected = Collected::default();
    let pieces = [
        Chunk::Reasoning { choice: 0, text: "Hm".to_owned() },
        Chunk::ReasoningSignature { choice: 0, signature: "sig".to_owned() },
        Chunk::Text { choice: 0, text: "Ja".to_owned() },
        Chunk::Finish {
            choice: 0,
            reason: FinishReason::StopSequence,
            stop_sequence: Some("###".to_owned()),
        },
    ];
    pieces.into_iter().for_each(|chunk| collected.push(chunk));
    let body: Value =
        serde_json::from_slice(&whole(&collected, &done("mini"), false)).expect("JSON");
    assert_eq!(
        body["content"],
        json!([{ "type": "thinking", "thinking": "Hm", "signature": "sig" }, { "type": "text", "text": "Ja" }])
    );
    assert_eq!(body["stop_reason"], "stop_sequence");
    assert_eq!(body["stop_sequence"], "###");
    assert_eq!(body["usage"]["input_tokens"], 5);
    assert_eq!(body["stellwerk"]["cost"], "0.004500000");
}

#[test]
fn arguments_that_were_cut_off_are_not_lost() {
    let call = Call { arguments: "{\"city\": \"Kö".to_owned(), ..Call::default() };
    assert_eq!(tool_use(&call)["input"], json!({ "arguments": "{\"city\": \"Kö" }));
    assert_eq!(tool_use(&Call::default())["input"], json!({}));
}

#[test]
fn what_only_anthropic_says_comes_back_where_it_was() {
    let extra = |json: Value| Chunk::Extra {
        dialect: Dialect::Anthropic,
        choice: Some(0),
        fields: json.as_object().cloned().unwrap_or_default(),
    };
    let search =
        json!({ "type": "server_tool_use", "id": "s1", "name": "web_search", "input": {} });
    let pieces = || {
        [
            extra(json!({ "content_block": search })),
            Chunk::Text { choice: 0, text: "Ja".to_owned() },
            extra(json!({ "citations": [{ "url": "u" }] })),
            extra(json!({ "stop_reason": "pause_turn" })),
            Chunk::Finish { choice: 0, reason: FinishReason::Stop, stop_sequence: None },
        ]
    };
    let mut collected = Collected::default();
    pieces().into_iter().for_each(|chunk| collected.push(chunk));
    let body: Value =
        serde_json::from_slice(&whole(&collected, &done("mini"), false)).expect("JSON");
    let text = json!({ "type": "text", "text": "Ja", "citations": [{ "url": "u" }] });
    assert_eq!(body["content"], json!([search, text]));
    assert_eq!(body["stop_reason"], "pause_turn");

    let mut shown = vec![begun("mini")];
    shown.extend(pieces().map(Shown::Piece));
    shown.push(Shown::Done(Box::new(done("mini"))));
    let seen = streamed(shown);
    assert!(seen.contains(
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use""#
    ));
    assert!(
        seen.contains(r#""index":1,"delta":{"type":"citations_delta","citation":{"url":"u"}}"#)
    );
    assert!(seen.contains(r#""delta":{"stop_reason":"pause_turn","stop_sequence":null}"#));
}
