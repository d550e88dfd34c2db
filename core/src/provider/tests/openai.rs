//! OpenAI, Azure and the servers that speak their format, in the shapes that each documents or
//! is known to send.

use serde_json::json;

use super::{decode, encoded, streamed, whole};
use crate::provider::http::Decoder as _;
use crate::provider::openai::decode::{Stream, embeddings, whole as read_whole};
use crate::provider::openai::encode::{self, Flavour};
use crate::provider::{ProviderCall, ProviderErrorKind};
use crate::reply::{Chunk, FinishReason, Usage};
use crate::request::{
    ChatRequest, Dialect, EmbedRequest, Extra, Message, Part, Reasoning, Role, ToolCall,
};

#[test]
fn what_openai_is_sent() {
    encoded("openai", "gpt-4.1-mini", |call| encode::chat(call, Flavour::OpenAi));
}

#[test]
fn what_an_openai_reasoning_model_is_sent() {
    encoded("openai_reasoning", "gpt-5-mini", |call| encode::chat(call, Flavour::OpenAi));
}

#[test]
fn what_azure_is_sent() {
    encoded("azure", "unser-modell", |call| encode::chat(call, Flavour::Azure));
}

#[test]
fn what_an_old_azure_version_is_sent() {
    encoded("azure_old", "unser-modell", |call| encode::chat(call, Flavour::OldAzure));
}

#[test]
fn what_mistral_is_sent() {
    encoded("mistral", "mistral-small-latest", |call| encode::chat(call, Flavour::Mistral));
}

#[test]
fn what_a_compatible_server_is_sent() {
    encoded("compatible", "qwen3", |call| encode::chat(call, Flavour::Compatible));
}

fn body(request: ChatRequest, flavour: Flavour) -> serde_json::Value {
    let call = ProviderCall {
        model: "gpt-4.1".to_owned(),
        request: request.into(),
        logprobs_for_judge: false,
    };
    encode::chat(&call, flavour).expect("everything has a form")
}

fn openai_extra(fields: serde_json::Value) -> Extra {
    Extra { dialect: Dialect::OpenAi, fields: fields.as_object().expect("an object").clone() }
}

#[test]
fn unknown_fields_go_on_but_cannot_undo_the_limit_that_the_hold_rests_on() {
    let request = ChatRequest {
        max_output_tokens: Some(100),
        stream: true,
        extra: openai_extra(json!({
            "max_tokens": 1_000_000,
            "n": 50,
            "model": "gpt-5-pro",
            "stellwerk": { "use_case": "offers" },
            "stream_options": { "include_usage": false, "include_obfuscation": false },
            "service_tier": "flex",
            "logit_bias": { "7": -100 },
        })),
        ..ChatRequest::ask("Hallo")
    };
    let body = body(request, Flavour::OpenAi);
    assert_eq!(body["max_tokens"], 100);
    for absent in ["max_completion_tokens", "n", "stellwerk"] {
        assert!(body.get(absent).is_none(), "{absent}");
    }
    assert_eq!(body["model"], "gpt-4.1");
    assert_eq!(
        body["stream_options"],
        json!({ "include_usage": true, "include_obfuscation": false })
    );
    assert_eq!(body["service_tier"], "flex");
    assert_eq!(body["logit_bias"], json!({ "7": -100 }));
}

#[test]
fn unknown_fields_of_messages_and_calls_go_back_where_they_came_from() {
    let call = ToolCall {
        id: "call_1".to_owned(),
        name: "weather".to_owned(),
        arguments: String::new(),
        extra: openai_extra(json!({ "extra_content": { "google": { "thought_signature": "s" } } })),
    };
    let message = Message {
        tool_calls: vec![call],
        extra: openai_extra(json!({ "refusal": null, "content": "not this" })),
        ..Message::text(Role::Assistant, "")
    };
    let request = ChatRequest { messages: vec![message], ..ChatRequest::default() };
    let sent = &body(request.clone(), Flavour::Compatible)["messages"][0];
    assert_eq!(sent["content"], json!(null));
    assert_eq!(sent["tool_calls"][0]["extra_content"]["google"]["thought_signature"], "s");
    assert_eq!(sent["tool_calls"][0]["function"]["arguments"], "{}");
    assert!(sent.get("refusal").is_some());

    let mut other = request;
    other.messages[0].extra.dialect = Dialect::Anthropic;
    assert!(body(other, Flavour::Compatible)["messages"][0].get("refusal").is_none());
}

#[test]
fn what_a_tool_showed_follows_its_text_as_a_message_of_the_person() {
    let result = Message {
        tool_call_id: Some("call_1".to_owned()),
        parts: vec![
            Part::text("a chart"),
            Part::Image {
                source: crate::request::MediaSource::Url("https://example.com/a.png".to_owned()),
                detail: None,
                cache_control: None,
            },
        ],
        ..Message::text(Role::Tool, "")
    };
    let other =
        Message { tool_call_id: Some("call_2".to_owned()), ..Message::text(Role::Tool, "42") };
    let request = ChatRequest { messages: vec![result, other], ..ChatRequest::default() };
    let sent = &body(request, Flavour::OpenAi)["messages"];
    let roles: Vec<&str> =
        sent.as_array().expect("a list").iter().filter_map(|m| m["role"].as_str()).collect();
    assert_eq!(roles, ["tool", "tool", "user"]);
    assert_eq!(sent[0]["content"], "a chart");
    assert_eq!(sent[2]["content"][1]["type"], "image_url");
}

#[test]
fn the_judge_gets_log_probabilities_though_the_caller_did_not_ask() {
    let call = |model: &str| ProviderCall {
        model: model.to_owned(),
        request: ChatRequest::ask("Hallo").into(),
        logprobs_for_judge: true,
    };
    let sent = |model: &str, flavour| {
        encode::chat(&call(model), flavour).expect("a form").get("logprobs").cloned()
    };
    assert_eq!(sent("gpt-4.1", Flavour::OpenAi), Some(json!(true)));
    // These would refuse the call for it.
    assert_eq!(sent("o4-mini", Flavour::OpenAi), None);
    assert_eq!(sent("mistral-small", Flavour::Mistral), None);
    assert_eq!(sent("llama", Flavour::Groq), None);
}

#[test]
fn a_later_reasoning_model_keeps_its_knobs_until_it_thinks() {
    let sent = |effort: Option<&str>| {
        let request = ChatRequest {
            temperature: Some(0.5),
            reasoning: effort
                .map(|effort| Reasoning { effort: Some(effort.to_owned()), budget_tokens: None }),
            ..ChatRequest::ask("Hallo")
        };
        let call = ProviderCall {
            model: "gpt-5.4-mini".to_owned(),
            request: request.into(),
            logprobs_for_judge: false,
        };
        encode::chat(&call, Flavour::OpenAi).expect("a form").get("temperature").cloned()
    };
    assert_eq!(sent(None), Some(json!(0.5)));
    assert_eq!(sent(Some("none")), Some(json!(0.5)));
    assert_eq!(sent(Some("high")), None);
}

#[test]
fn mistral_gets_the_same_short_id_for_a_call_and_its_result() {
    let (_, request) = super::requests()
        .into_iter()
        .find(|(name, _)| *name == "tools_round_trip")
        .expect("a golden request");
    let sent = body(request, Flavour::Mistral);
    let id = sent["messages"][1]["tool_calls"][0]["id"].as_str().expect("an id");
    assert_eq!(id.len(), 9);
    assert_eq!(sent["messages"][2]["tool_call_id"], id);
}

#[test]
fn a_document_by_address_is_refused_with_the_way_out() {
    let message = Message {
        parts: vec![Part::Document {
            source: crate::request::MediaSource::Url("https://example.com/a.pdf".to_owned()),
            name: None,
            cache_control: None,
        }],
        ..Message::text(Role::User, "")
    };
    let request = ChatRequest { messages: vec![message], ..ChatRequest::default() };
    let call =
        ProviderCall { model: "m".to_owned(), request: request.into(), logprobs_for_judge: false };
    let refused = encode::chat(&call, Flavour::OpenAi).expect_err("no form");
    assert_eq!(refused.kind, ProviderErrorKind::BadRequest);
    assert!(refused.detail.contains("base64"));
}

#[test]
fn a_whole_answer_of_openai() {
    let body = r#"{
      "id": "chatcmpl-1", "object": "chat.completion", "created": 1700000000,
      "model": "gpt-5.4-mini-2026-03-01", "service_tier": "default", "system_fingerprint": "fp_1",
      "choices": [{
        "index": 0,
        "message": { "role": "assistant", "content": "Guten Tag!", "refusal": null, "annotations": [] },
        "logprobs": { "content": [
          { "token": "Guten", "logprob": -0.1, "bytes": [71, 117, 116, 101, 110], "top_logprobs": [] }
        ], "refusal": null },
        "finish_reason": "stop"
      }],
      "usage": { "prompt_tokens": 20, "completion_tokens": 30, "total_tokens": 50,
        "prompt_tokens_details": { "cached_tokens": 16, "audio_tokens": 0 },
        "completion_tokens_details": { "reasoning_tokens": 12, "audio_tokens": 0 } }
    }"#;
    whole("openai_whole", read_whole(body.as_bytes()));
}

#[test]
fn a_whole_answer_that_calls_tools_and_one_that_calls_a_function() {
    let body = r#"{ "id": "chatcmpl-2", "model": "m", "choices": [
      { "index": 0, "finish_reason": "tool_calls", "message": { "role": "assistant", "content": null,
        "tool_calls": [
          { "id": "call_a", "type": "function", "function": { "name": "weather", "arguments": "{\"place\":\"Köln\"}" } },
          { "id": "call_b", "type": "function", "function": { "name": "now", "arguments": "" } } ] } },
      { "index": 1, "finish_reason": "function_call", "message": { "role": "assistant",
        "content": null, "function_call": { "name": "now", "arguments": "{}" } } }
    ], "usage": null }"#;
    whole("openai_whole_tools", read_whole(body.as_bytes()));
}

#[test]
fn a_whole_refusal_of_openai() {
    let body = r#"{ "id": "c", "model": "m", "choices": [ { "index": 0, "finish_reason": "stop",
      "message": { "role": "assistant", "content": null, "refusal": "I can't." } } ],
      "usage": { "prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9 } }"#;
    whole("openai_whole_refusal", read_whole(body.as_bytes()));
}

#[test]
fn a_streamed_answer_of_openai() {
    let stream = r#"data: {"id":"chatcmpl-3","object":"chat.completion.chunk","created":1,"model":"gpt-4.1","system_fingerprint":"fp","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"xY"}

data: {"id":"chatcmpl-3","object":"chat.completion.chunk","created":1,"model":"gpt-4.1","system_fingerprint":"fp","choices":[{"index":0,"delta":{"content":"Grüß "},"logprobs":{"content":[{"token":"Grüß ","logprob":-0.5,"bytes":null,"top_logprobs":[]}],"refusal":null},"finish_reason":null}],"usage":null}

data: {"id":"chatcmpl-3","object":"chat.completion.chunk","created":1,"model":"gpt-4.1","system_fingerprint":"fp","choices":[{"index":0,"delta":{"content":"Gott 🚂"},"logprobs":null,"finish_reason":null}],"usage":null}

data: {"id":"chatcmpl-3","object":"chat.completion.chunk","created":1,"model":"gpt-4.1","system_fingerprint":"fp","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}

data: {"id":"chatcmpl-3","object":"chat.completion.chunk","created":1,"model":"gpt-4.1","system_fingerprint":"fp","choices":[],"usage":{"prompt_tokens":8,"completion_tokens":5,"total_tokens":13,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}

data: [DONE]

"#;
    streamed("openai_stream", Stream::new, stream.as_bytes());
}

#[test]
fn streamed_tool_calls_of_openai() {
    let stream = r#"data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"call_a","type":"function","function":{"name":"weather","arguments":""}}]},"finish_reason":null}]}

data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"place\":"}}]},"finish_reason":null}]}

data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"Köln\"}"}}]},"finish_reason":null}]}

data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_b","type":"function","function":{"name":"now","arguments":"{}"}}]},"finish_reason":null}]}

data: {"id":"c","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}

data: [DONE]

"#;
    streamed("openai_stream_tools", Stream::new, stream.as_bytes());
}

#[test]
fn tool_calls_of_servers_that_count_otherwise() {
    // Index 0 for every call, ids and names repeated with every piece, arguments as JSON.
    let same_index = r#"data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"weather","arguments":"{\"place\""}}]}}]}

data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"weather","arguments":":\"Bonn\"}"}}]}}]}

data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"b","function":{"name":"now","arguments":{"zone":"CET"}}}]}}]}

data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

"#;
    streamed("compatible_stream_tools_same_index", Stream::new, same_index.as_bytes());

    // No index at all, no ids: a name begins a call.
    let nothing = r#"data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"function":{"name":"weather","arguments":"{}"}},{"function":{"name":"now","arguments":""}}]}}]}

data: {"choices":[{"index":0,"delta":{"tool_calls":[{"function":{"arguments":"{}"}}]},"finish_reason":"tool_calls"}]}

data: [DONE]

"#;
    streamed("compatible_stream_tools_bare", Stream::new, nothing.as_bytes());
}

#[test]
fn a_streamed_answer_of_azure_with_its_filter() {
    let stream = r#"data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]}

data: {"choices":[{"delta":{"content":"","refusal":null,"role":"assistant"},"finish_reason":null,"index":0,"logprobs":null,"content_filter_results":{}}],"created":1,"id":"chatcmpl-4","model":"gpt-4o-2024-11-20","object":"chat.completion.chunk","system_fingerprint":"fp"}

data: {"choices":[{"delta":{"content":"Hallo"},"finish_reason":null,"index":0,"logprobs":null,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}],"created":1,"id":"chatcmpl-4","model":"gpt-4o-2024-11-20","object":"chat.completion.chunk","system_fingerprint":"fp"}

data: {"choices":[{"content_filter_offsets":{"check_offset":35,"start_offset":35,"end_offset":56},"content_filter_results":{"hate":{"filtered":true,"severity":"high"}},"delta":{},"finish_reason":"content_filter","index":0}],"created":1,"id":"","model":"","object":""}

data: {"choices":[],"created":1,"id":"chatcmpl-4","model":"gpt-4o-2024-11-20","object":"chat.completion.chunk","usage":{"completion_tokens":1,"prompt_tokens":9,"total_tokens":10}}

data: [DONE]

"#;
    streamed("azure_stream_filtered", Stream::new, stream.as_bytes());
}

#[test]
fn a_streamed_answer_of_mistral_that_thinks() {
    let stream = r#"data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"magistral-small-2509","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}

data: {"id":"c","model":"magistral-small-2509","choices":[{"index":0,"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"Hm, 21 = 3·7."}]}]},"finish_reason":null}]}

data: {"id":"c","model":"magistral-small-2509","choices":[{"index":0,"delta":{"content":"Nein."},"finish_reason":"stop"}],"usage":{"prompt_tokens":6,"total_tokens":26,"completion_tokens":20,"num_cached_tokens":4}}

data: [DONE]

"#;
    streamed("mistral_stream_thinking", Stream::new, stream.as_bytes());
}

#[test]
fn a_streamed_answer_of_a_server_that_thinks_aloud_and_counts_all_the_time() {
    // vLLM with continuous usage; DeepSeek's and Ollama's names for the thought.
    let stream = r#": keep-alive

data: {"id":"c","model":"qwen3","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":{"prompt_tokens":11,"total_tokens":11,"completion_tokens":0}}

data: {"id":"c","model":"qwen3","choices":[{"index":0,"delta":{"reasoning_content":"Denk"},"finish_reason":null}],"usage":{"prompt_tokens":11,"total_tokens":12,"completion_tokens":1}}

data: {"id":"c","model":"qwen3","choices":[{"index":0,"delta":{"reasoning":"e."},"finish_reason":null}],"usage":{"prompt_tokens":11,"total_tokens":13,"completion_tokens":2}}

data: {"id":"c","model":"qwen3","choices":[{"index":0,"delta":{"content":"Ja"},"finish_reason":"stop","stop_reason":"ENDE"}],"usage":{"prompt_tokens":11,"total_tokens":14,"completion_tokens":3}}

data: [DONE]

"#;
    streamed("compatible_stream_thinking", Stream::new, stream.as_bytes());
}

#[test]
fn a_streamed_answer_of_llama_cpp_that_only_has_timings() {
    let stream = r#"data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"created":1,"id":"c","model":"qwen.gguf","system_fingerprint":"b1","object":"chat.completion.chunk"}

data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"Ja."}}],"created":1,"id":"c","model":"qwen.gguf","system_fingerprint":"b1","object":"chat.completion.chunk"}

data: {"choices":[{"finish_reason":"length","index":0,"delta":{}}],"created":1,"id":"c","model":"qwen.gguf","system_fingerprint":"b1","object":"chat.completion.chunk","timings":{"cache_n":30,"prompt_n":6,"prompt_ms":30.9,"predicted_n":2,"predicted_ms":14.1}}

data: [DONE]
"#;
    streamed("llama_cpp_stream", Stream::new, stream.as_bytes());
}

#[test]
fn two_streamed_answers_at_once() {
    let stream = r#"data: {"id":"c","model":"m","choices":[{"index":1,"delta":{"content":"B"},"finish_reason":null},{"index":0,"delta":{"content":"A"},"finish_reason":null}]}

data: {"id":"c","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

data: {"id":"c","model":"m","choices":[{"index":1,"delta":{},"finish_reason":"length"}]}

"#;
    streamed("openai_stream_two_choices", Stream::new, stream.as_bytes());
}

#[test]
fn an_error_inside_a_stream_is_an_error_and_keeps_the_usage_so_far() {
    let stream = r#"data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"Ja"}}],"usage":{"prompt_tokens":4,"completion_tokens":1}}

data: {"error":{"message":"The server had an error","type":"server_error","code":null}}

"#;
    streamed("openai_stream_error", Stream::new, stream.as_bytes());
}

fn read(stream: &str) -> Result<Vec<Chunk>, ProviderErrorKind> {
    decode(Stream::new(), [stream.as_bytes()].into_iter()).map_err(|(_, error)| error.kind)
}

fn piece(inner: &str) -> String {
    format!("data: {{\"id\":\"c\",\"model\":\"m\",\"choices\":[{{\"index\":0,{inner}}}]}}\n\n")
}

#[test]
fn a_stream_without_done_is_complete_when_its_answer_said_why_it_ended() {
    let text = piece(r#""delta":{"content":"Ja"}"#);
    let end = piece(r#""delta":{},"finish_reason":"stop""#);
    assert!(read(&format!("{text}{end}")).is_ok());
    // The very last line end may be missing too.
    assert!(read(format!("{text}{end}").trim_end()).is_ok());
}

#[test]
fn a_stream_whose_answer_did_not_end_is_cut_whatever_else_it_says() {
    let text = piece(r#""delta":{"content":"Ja"}"#);
    assert_eq!(read(&text), Err(ProviderErrorKind::Cut));
    assert_eq!(read(&format!("{text}data: [DONE]\n\n")), Err(ProviderErrorKind::Cut));
    assert_eq!(read(""), Err(ProviderErrorKind::Cut));
    assert_eq!(read(&text[..text.len() - 9]), Err(ProviderErrorKind::Cut));
    let second_open = format!(
        "{}{}",
        r#"data: {"choices":[{"index":0,"delta":{"content":"A"}},{"index":1,"delta":{"content":"B"}}]}
"#,
        "\ndata: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
    );
    assert_eq!(read(&second_open), Err(ProviderErrorKind::Cut));
}

#[test]
fn what_cannot_be_read_is_malformed() {
    let text = piece(r#""delta":{"content":"Ja"}"#);
    for broken in ["data: {\"choices\":\n\n", "data: 7\n\n", "data: {\"choices\":{}}\n\n"] {
        assert_eq!(read(&format!("{text}{broken}")), Err(ProviderErrorKind::Malformed), "{broken}");
    }
    for broken in [
        "<html>Bad gateway</html>",
        "",
        "[]",
        "{}",
        r#"{"choices":[]}"#,
        r#"{"choices":[{"index":0,"message":null,"finish_reason":"stop"}]}"#,
        r#"{"choices":[{"index":0,"message":{"content":17}}]}"#,
    ] {
        let error = read_whole(broken.as_bytes()).expect_err(broken);
        assert_eq!(error.kind, ProviderErrorKind::Malformed, "{broken}");
    }
}

#[test]
fn a_malformed_success_keeps_the_usage_that_it_told() {
    let body = r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#;
    let error = read_whole(body.as_bytes()).expect_err("no choices");
    assert_eq!(error.kind, ProviderErrorKind::Malformed);
    assert_eq!(error.usage.expect("told").input_tokens, Some(7));
}

#[test]
fn an_error_inside_a_success_is_an_error() {
    let kind = |body: &str| read_whole(body.as_bytes()).expect_err(body).kind;
    assert_eq!(
        kind(r#"{"error":{"message":"slow down","type":"rate_limit_error","code":429}}"#),
        ProviderErrorKind::RateLimited
    );
    assert_eq!(
        kind(r#"{"object":"error","message":"too long","type":"invalid_request_error"}"#),
        ProviderErrorKind::BadRequest
    );
    assert_eq!(kind(r#"{"error":"model crashed"}"#), ProviderErrorKind::Server);
    assert_eq!(
        kind(
            r#"{"choices":[{"index":0,"error":{"message":"x","code":502},"message":{"content":""}}]}"#
        ),
        ProviderErrorKind::Server
    );
}

#[test]
fn an_empty_answer_with_usage_is_an_answer() {
    let body = r#"{"choices":[{"index":0,"message":{"content":""},"finish_reason":"stop"}],
                   "usage":{"prompt_tokens":7,"completion_tokens":0}}"#;
    let chunks = read_whole(body.as_bytes()).expect("an answer");
    assert!(!chunks.iter().any(Chunk::is_token));
    assert!(matches!(chunks.last(), Some(Chunk::Finish { reason: FinishReason::Stop, .. })));
}

fn usage(told: serde_json::Value) -> Option<Usage> {
    let body = json!({
        "choices": [{ "index": 0, "message": { "content": "x" }, "finish_reason": "stop" }],
        "usage": told,
    });
    let chunks = read_whole(body.to_string().as_bytes()).expect("an answer");
    chunks.into_iter().find_map(|chunk| match chunk {
        Chunk::Usage(usage) => Some(usage),
        _ => None,
    })
}

#[test]
fn usage_is_read_in_every_vendors_shape() {
    let some = |input, output| Usage {
        input_tokens: Some(input),
        output_tokens: Some(output),
        ..Usage::default()
    };
    assert_eq!(usage(json!(null)), None);
    assert_eq!(usage(json!({})), None);
    assert_eq!(usage(json!({ "prompt_tokens": null, "completion_tokens": null })), None);
    assert_eq!(usage(json!({ "prompt_tokens": 0, "completion_tokens": 0 })), Some(some(0, 0)));
    // DeepSeek.
    assert_eq!(
        usage(json!({ "prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11,
                      "prompt_cache_hit_tokens": 8, "prompt_cache_miss_tokens": 1 })),
        Some(Usage { cached_input_tokens: 8, ..some(9, 2) })
    );
    // xAI: the reasoning stands beside the output.
    assert_eq!(
        usage(json!({ "prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 31,
                      "completion_tokens_details": { "reasoning_tokens": 20 } })),
        Some(Usage { reasoning_tokens: 20, ..some(9, 22) })
    );
    // OpenAI: it is a part of it.
    assert_eq!(
        usage(json!({ "prompt_tokens": 9, "completion_tokens": 22, "total_tokens": 31,
                      "completion_tokens_details": { "reasoning_tokens": 20 } })),
        Some(Usage { reasoning_tokens: 20, ..some(9, 22) })
    );
    // One figure and the total; floats; more cached than sent.
    assert_eq!(usage(json!({ "completion_tokens": 2, "total_tokens": 11 })), Some(some(9, 2)));
    assert_eq!(usage(json!({ "prompt_tokens": 9.0, "completion_tokens": 2.0 })), Some(some(9, 2)));
    assert_eq!(
        usage(json!({ "prompt_tokens": 9, "completion_tokens": 2, "cached_tokens": 50 })),
        Some(Usage { cached_input_tokens: 9, ..some(9, 2) })
    );
    // What is no count is not told.
    assert_eq!(usage(json!({ "prompt_tokens": -3, "completion_tokens": "7" })), None);
    assert_eq!(usage(json!("many")), None);
}

#[test]
fn vectors_are_read_as_numbers_and_as_base64_in_the_order_of_the_texts() {
    let body = r#"{"object":"list","model":"text-embedding-3-small","data":[
        {"object":"embedding","index":1,"embedding":"AACAPwAAAMA="},
        {"object":"embedding","index":0,"embedding":[0.5,-0.25]}],
        "usage":{"prompt_tokens":6,"total_tokens":6}}"#;
    let read = embeddings(body.as_bytes(), 2).expect("vectors");
    assert_eq!(read.vectors, [vec![0.5, -0.25], vec![1.0, -2.0]]);
    assert_eq!(read.usage.input_tokens, Some(6));
    assert_eq!(read.usage.output_tokens, Some(0));
}

#[test]
fn vectors_that_are_not_those_asked_for_are_malformed() {
    let vectors = |data: &str, count| {
        let body = format!(r#"{{"data":{data},"usage":{{"prompt_tokens":6}}}}"#);
        embeddings(body.as_bytes(), count).map_err(|error| (error.kind, error.usage.is_some()))
    };
    let malformed = Some((ProviderErrorKind::Malformed, true));
    assert_eq!(vectors(r#"[{"index":0,"embedding":[1]}]"#, 2).err(), malformed);
    assert_eq!(vectors(r#"[{"index":7,"embedding":[1]}]"#, 1).err(), malformed);
    assert_eq!(vectors(r#"[{"index":0,"embedding":"AAA="}]"#, 1).err(), malformed);
    assert_eq!(vectors(r#"[{"index":0,"embedding":"AADAfw=="}]"#, 1).err(), malformed, "NaN");
    assert_eq!(vectors(r#"[{"index":0,"embedding":[]}]"#, 1).err(), malformed);
}

#[test]
fn what_vectors_are_asked_with() {
    let call = ProviderCall {
        model: "vectors".to_owned(),
        request: EmbedRequest {
            input: vec!["a".to_owned(), "b".to_owned()],
            dimensions: Some(64),
            user: Some("u-17".to_owned()),
            extra: Extra::default(),
        }
        .into(),
        logprobs_for_judge: false,
    };
    assert_eq!(
        encode::embeddings(&call, Flavour::OpenAi),
        json!({ "model": "vectors", "input": ["a", "b"], "encoding_format": "base64",
                "dimensions": 64, "user": "u-17" })
    );
    assert_eq!(
        encode::embeddings(&call, Flavour::Mistral),
        json!({ "model": "vectors", "input": ["a", "b"], "encoding_format": "float",
                "output_dimension": 64 })
    );
}

proptest::proptest! {
    /// Nothing that a server sends may end in a panic, and what was done stays done.
    #[test]
    fn no_bytes_make_the_decoder_panic(
        pieces in proptest::collection::vec(
            proptest::prop_oneof![
                "data: [{]\"(choices|usage|error|delta|index|tool_calls|x)\":[ -~]{0,40}\n\n",
                "[ -~\n]{0,40}",
                r#"data: \{"choices":\[\{"index":[0-9]{1,12},"delta":\{"content":"[a-zäöü]{0,5}"\}\}\]\}"#,
            ],
            0..8,
        ),
    ) {
        let mut decoder = Stream::new();
        let mut chunks = Vec::new();
        for piece in &pieces {
            if decoder.push(piece.as_bytes(), &mut chunks).is_err() {
                return Ok(());
            }
        }
        let _ = decoder.end(&mut chunks);
    }
}
