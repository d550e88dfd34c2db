//! What a client of the OpenAI format sees.

use stellwerk_core::reply::{Failure, FailureKind, Words};

use super::*;
use crate::fixtures::{begun, call, done, request_id, text};

fn streamed(shape: Shape, shown: Vec<Shown>) -> String {
    let mut stream = Stream::new(request_id(), shape, Locale::En, 7);
    let mut out = Vec::new();
    for shown in shown {
        stream.push(shown, &mut out);
    }
    let text = String::from_utf8(out).expect("UTF-8");
    // Every event is `data:` and JSON, or the end; what is the same in each is left out here.
    let fixed = r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"#;
    for event in text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ")) {
        let event = event.expect("an event begins with data:");
        assert!(event == "[DONE]" || serde_json::from_str::<Value>(event).is_ok(), "{event}");
    }
    text.replace(fixed, "{…").replace("\n\n", "\n")
}

fn finish(reason: FinishReason) -> Shown {
    Shown::Piece(Chunk::Finish { choice: 0, reason, stop_sequence: None })
}

fn ended() -> Shown {
    Shown::Done(Box::new(done("mini")))
}

#[test]
fn a_stream_ends_with_one_finish_that_tells_the_cost() {
    let shown =
        vec![begun("mini"), text("Gr"), text("ü\"ße\n"), finish(FinishReason::Stop), ended()];
    insta::assert_snapshot!(streamed(Shape::default(), shown), @r#"
    data: {…"model":"mini","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}]}
    data: {…"model":"mini","choices":[{"index":0,"delta":{"content":"Gr"},"logprobs":null,"finish_reason":null}]}
    data: {…"model":"mini","choices":[{"index":0,"delta":{"content":"ü\"ße\n"},"logprobs":null,"finish_reason":null}]}
    data: {…"model":"mini","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"stellwerk":{"request_id":"req_1","model":"mini","cost":"0.004500000","currency":"EUR","trace":""}}
    data: [DONE]
    "#);
}

#[test]
fn usage_comes_in_a_chunk_of_its_own_where_it_was_asked_for() {
    let shape = Shape { include_usage: true, ..Shape::default() };
    let shown = vec![begun("mini"), text("Ja"), finish(FinishReason::Length), ended()];
    insta::assert_snapshot!(streamed(shape, shown), @r#"
    data: {…"model":"mini","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null}
    data: {…"model":"mini","choices":[{"index":0,"delta":{"content":"Ja"},"logprobs":null,"finish_reason":null}],"usage":null}
    data: {…"model":"mini","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}],"usage":null}
    data: {…"model":"mini","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":3,"total_tokens":13,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":1}},"stellwerk":{"request_id":"req_1","model":"mini","cost":"0.004500000","currency":"EUR","trace":""}}
    data: [DONE]
    "#);
}

#[test]
fn tool_calls_come_in_pieces_with_their_id_first() {
    let shown = vec![
        begun("mini"),
        call(0, Some("weather"), ""),
        call(0, None, "{\"city\":"),
        call(0, None, "\"Köln\"}"),
        finish(FinishReason::ToolCalls),
    ];
    insta::assert_snapshot!(streamed(Shape::default(), shown), @r#"
    data: {…"model":"mini","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}]}
    data: {…"model":"mini","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_weather","type":"function","function":{"name":"weather","arguments":""}}]},"logprobs":null,"finish_reason":null}]}
    data: {…"model":"mini","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"city\":"}}]},"logprobs":null,"finish_reason":null}]}
    data: {…"model":"mini","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"Köln\"}"}}]},"logprobs":null,"finish_reason":null}]}
    "#);
}

#[test]
fn a_stream_that_fails_over_goes_on_and_ends_once() {
    let failed_over = Shown::FailedOver { from: ModelId::from("mini"), to: ModelId::from("big") };
    let shown = vec![
        begun("mini"),
        text("Hal"),
        finish(FinishReason::Stop),
        failed_over,
        begun("big"),
        text("Hallo"),
        finish(FinishReason::Stop),
        Shown::Done(Box::new(done("big"))),
    ];
    let seen = streamed(Shape::default(), shown);
    assert_eq!(seen.matches("\"finish_reason\":\"stop\"").count(), 1);
    assert_eq!(seen.matches("[DONE]").count(), 1);
    assert_eq!(seen.matches("\"role\"").count(), 1);
    assert!(seen.contains(r#""stellwerk":{"failover":{"from":"mini","to":"big"}}"#));
    assert!(seen.contains(r#""model":"big","choices":[{"index":0,"delta":{"content":"Hallo"}"#));
}

#[test]
fn a_stream_that_fails_for_good_says_neither_stop_nor_done() {
    let words = Words::new("the vendor broke off", "der Anbieter brach ab");
    let failure = Failure::new(request_id(), FailureKind::Upstream, words);
    let shown = vec![
        begun("mini"),
        text("Hal"),
        finish(FinishReason::Stop),
        Shown::Failed(Box::new(failure)),
    ];
    let seen = streamed(Shape::default(), shown);
    assert!(!seen.contains("DONE") && !seen.contains("\"stop\""), "{seen}");
    let last = r#"data: {"error":{"message":"the vendor broke off","type":"server_error","code":"upstream","param":null}}"#;
    assert_eq!(seen.lines().last(), Some(last));
}

#[test]
fn log_probabilities_are_shown_to_those_only_who_asked() {
    let logprobs = |token: &str| {
        let content = vec![json!({ "token": token, "logprob": -0.5 })];
        Shown::Piece(Chunk::Logprobs { choice: 0, content })
    };
    let shown =
        || vec![begun("mini"), text("Ja"), logprobs("Ja"), logprobs("!"), text("!"), ended()];
    assert!(!streamed(Shape::default(), shown()).contains("token\""));
    let seen = streamed(Shape { logprobs: true, ..Shape::default() }, shown());
    for token in ["Ja", "!"] {
        let chunk = format!(
            r#""delta":{{"content":"{token}"}},"logprobs":{{"content":[{{"token":"{token}","logprob":-0.5}}],"refusal":null}}"#
        );
        assert!(seen.contains(&chunk), "{seen}");
    }
}

#[test]
fn fields_that_nobody_knows_reach_the_client() {
    let fields = |json: Value| json.as_object().cloned().unwrap_or_default();
    let extra = |choice, value| {
        let fields = fields(value);
        Shown::Piece(Chunk::Extra { dialect: Dialect::OpenAi, choice, fields })
    };
    let shown = vec![
        begun("mini"),
        extra(None, json!({ "service_tier": "flex", "id": "theirs", "usage": {} })),
        extra(Some(0), json!({ "annotations": [] })),
        ended(),
    ];
    let seen = streamed(Shape { include_usage: true, ..Shape::default() }, shown);
    assert!(seen.contains(r#""delta":{"annotations":[]}"#), "{seen}");
    assert!(seen.contains(r#"],"usage":null,"service_tier":"flex"}"#), "{seen}");
    assert!(!seen.contains("theirs"));
    let last = seen.lines().rev().nth(1).expect("the usage chunk");
    assert!(last.ends_with(r#","service_tier":"flex"}"#), "{last}");
    assert_eq!(last.matches("\"usage\"").count(), 1);
}

#[test]
fn a_whole_answer_has_text_calls_usage_and_cost() {
    let mut collected = Collected::default();
    let shown = vec![
        Shown::Piece(Chunk::Reasoning { choice: 0, text: "Hm.".to_owned() }),
        text("Ich "),
        text("sehe nach."),
        call(0, Some("weather"), "{\"city\":"),
        call(1, Some("time"), "{}"),
        call(0, None, "\"Köln\"}"),
        finish(FinishReason::ToolCalls),
    ];
    for shown in shown {
        if let Shown::Piece(chunk) = shown {
            collected.push(chunk);
        }
    }
    let body = whole(&collected, &done("mini"), Shape::default(), 7);
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    insta::assert_json_snapshot!(body, @r#"
    {
      "id": "chatcmpl-1",
      "object": "chat.completion",
      "created": 7,
      "model": "mini",
      "choices": [
        {
          "index": 0,
          "message": {
            "role": "assistant",
            "content": "Ich sehe nach.",
            "refusal": null,
            "reasoning_content": "Hm.",
            "tool_calls": [
              {
                "id": "call_weather",
                "type": "function",
                "function": {
                  "name": "weather",
                  "arguments": "{\"city\":\"Köln\"}"
                }
              },
              {
                "id": "call_time",
                "type": "function",
                "function": {
                  "name": "time",
                  "arguments": "{}"
                }
              }
            ]
          },
          "logprobs": null,
          "finish_reason": "tool_calls"
        }
      ],
      "usage": {
        "prompt_tokens": 10,
        "completion_tokens": 3,
        "total_tokens": 13,
        "prompt_tokens_details": {
          "cached_tokens": 4
        },
        "completion_tokens_details": {
          "reasoning_tokens": 1
        }
      },
      "stellwerk": {
        "request_id": "req_1",
        "model": "mini",
        "cost": "0.004500000",
        "currency": "EUR",
        "trace": ""
      }
    }
    "#);
}

#[test]
fn who_asks_with_functions_is_answered_with_a_function_call() {
    let shape = Shape { function_call: true, ..Shape::default() };
    let shown =
        vec![begun("mini"), call(0, Some("f"), "{}"), finish(FinishReason::ToolCalls), ended()];
    let seen = streamed(shape, shown);
    assert!(seen.contains(r#""delta":{"function_call":{"name":"f","arguments":"{}"}}"#), "{seen}");
    assert!(seen.contains(r#""finish_reason":"function_call""#));
}
