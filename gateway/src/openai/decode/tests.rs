//! What is taken, what is refused, and how it is named.

use serde_json::json;
use stellwerk_core::ids::PolicyId;
use stellwerk_core::request::Sensitivity;

use super::*;

fn asked(body: Value) -> Asked {
    decode(body.to_string().as_bytes()).unwrap_or_else(|invalid| panic!("{invalid:?}"))
}

/// The whole request around some fields.
fn with(fields: Value) -> Value {
    let mut body = json!({ "model": "auto", "messages": [{ "role": "user", "content": "?" }] });
    for (key, value) in fields.as_object().into_iter().flatten() {
        body[key.as_str()] = value.clone();
    }
    body
}

fn refusal(body: Value) -> String {
    match decode(body.to_string().as_bytes()) {
        Err(invalid) => format!("{}: {}", invalid.param.unwrap_or_default(), invalid.message.en),
        Ok(_) => "taken".to_owned(),
    }
}

#[test]
fn a_conversation_with_tools_and_images_is_read() {
    let asked = asked(with(json!({
        "messages": [
            { "role": "developer", "content": "Kurz." },
            { "role": "user", "content": [
                { "type": "text", "text": "Was ist das?" },
                { "type": "image_url", "image_url": { "url": "data:image/png;base64,AAAA", "detail": "low" } },
                { "type": "file", "file": { "file_data": "data:application/pdf;base64,BBBB", "filename": "a.pdf" } }] },
            { "role": "assistant", "content": null, "tool_calls": [
                { "id": "c1", "type": "function", "function": { "name": "look", "arguments": "{}" } }] },
            { "role": "tool", "tool_call_id": "c1", "content": "eine Katze" }],
        "tools": [{ "type": "function", "function": { "name": "look", "parameters": { "type": "object" } } }],
        "tool_choice": { "type": "function", "function": { "name": "look" } },
        "max_tokens": 5, "max_completion_tokens": 7, "stop": "###", "n": 2, "seed": -3,
    })));
    let request = asked.request;
    assert_eq!(request.messages[0].role, Role::System);
    assert!(request.has_images() && request.has_documents());
    assert_eq!(request.messages[2].tool_calls[0].name, "look");
    assert_eq!(request.messages[3].tool_call_id.as_deref(), Some("c1"));
    assert_eq!(request.tool_choice, Some(ToolChoice::Named("look".to_owned())));
    assert_eq!(request.max_output_tokens, Some(7));
    assert_eq!((request.n, request.seed, request.stop.len()), (2, Some(-3), 1));
}

#[test]
fn what_is_not_known_is_passed_on_as_it_was() {
    let asked = asked(with(json!({
        "metadata": { "a": "b" }, "store": true, "logit_bias": { "5": -100 }, "user": null,
        "tool_choice": { "type": "allowed_tools" }, "tools": [{ "type": "custom", "custom": { "name": "x" } }],
    })));
    let extra = asked.request.extra.of(Dialect::OpenAi).expect("fields");
    let keys: Vec<&str> = extra.keys().map(String::as_str).collect();
    assert_eq!(keys, ["metadata", "store", "logit_bias", "tool_choice"]);
    assert!(asked.request.tools[0].native.is_some());
}

#[test]
fn the_older_functions_are_tools() {
    let asked = asked(with(json!({
        "functions": [{ "name": "f" }], "function_call": { "name": "f" },
        "messages": [
            { "role": "user", "content": "?" },
            { "role": "assistant", "content": null, "function_call": { "name": "f", "arguments": "{}" } },
            { "role": "function", "name": "f", "content": "4" }],
    })));
    assert!(asked.shape.function_call);
    assert_eq!(asked.request.tool_choice, Some(ToolChoice::Named("f".to_owned())));
    let messages = &asked.request.messages;
    assert_eq!(messages[2].tool_call_id.as_ref(), Some(&messages[1].tool_calls[0].id));
}

#[test]
fn the_stellwerk_object_sets_options_and_policy() {
    let asked = asked(with(json!({ "stellwerk": {
        "use_case": "offers", "policy": "lawyers", "sensitivity": "restricted", "explain": true,
        "metadata": { "ticket": "7" }, "fallback": ["big"], "timeout_ms": 500, "hedge_after_ms": 0,
    } })));
    assert_eq!(asked.target, Target::Policy(PolicyId::from("lawyers")));
    assert_eq!(asked.options.sensitivity, Some(Sensitivity::Restricted));
    assert_eq!(asked.options.timeout_ms, Some(500));
    assert!(asked.shape.explain);
    assert_eq!(
        refusal(with(json!({ "stellwerk": { "sensitivty": "restricted" } }))),
        "stellwerk.sensitivty: `stellwerk.sensitivty` is not known; there are use_case, policy, sensitivity, explain, metadata, fallback, timeout_ms, hedge_after_ms"
    );
    assert!(
        refusal(with(json!({ "model": "mini", "stellwerk": { "policy": "p" } })))
            .starts_with("stellwerk.policy")
    );
    let many: serde_json::Map<String, Value> =
        (0..17).map(|i| (i.to_string(), Value::from("x"))).collect();
    assert!(
        refusal(with(json!({ "stellwerk": { "metadata": many } }))).ends_with("at most 16 pairs")
    );
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let cases = [
        (json!({ "model": null }), "model: `model` is missing"),
        (json!({ "model": 7 }), "model: `model` must be a non-empty string"),
        (
            json!({ "messages": [] }),
            "messages: `messages` must be a list with at least one message",
        ),
        (json!({ "messages": "hi" }), "messages: `messages` must be a list"),
        (
            json!({ "messages": [{ "role": "wizard", "content": "?" }] }),
            "messages[0].role: `messages[0].role` must be one of system, developer, user, assistant, tool",
        ),
        (
            json!({ "messages": [{ "role": "user" }] }),
            "messages[0].content: `messages[0].content` is missing",
        ),
        (
            json!({ "messages": [{ "role": "assistant", "content": null }] }),
            "messages[0].content: `messages[0]` has neither `content` nor `tool_calls`",
        ),
        (
            json!({ "messages": [{ "role": "tool", "content": "4" }] }),
            "messages[0].tool_call_id: `messages[0].tool_call_id` is missing",
        ),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "cat" } }] }] }),
            "messages[0].content[0].image_url.url: `messages[0].content[0].image_url.url` must be an address or data:TYPE;base64,DATA",
        ),
        (json!({ "n": 0 }), "n: `n` must be a whole number from 1 to 128"),
        (json!({ "n": 129 }), "n: `n` must be a whole number from 1 to 128"),
        (
            json!({ "max_tokens": -1 }),
            "max_tokens: `max_tokens` must be a whole number from 1 to 4294967295",
        ),
        (
            json!({ "max_tokens": 1e300 }),
            "max_tokens: `max_tokens` must be a whole number from 1 to 4294967295",
        ),
        (
            json!({ "max_tokens": 1.5 }),
            "max_tokens: `max_tokens` must be a whole number from 1 to 4294967295",
        ),
        (
            json!({ "temperature": "hot" }),
            "temperature: `temperature` must be a number from 0 to 2",
        ),
        (json!({ "top_logprobs": 2 }), "top_logprobs: `top_logprobs` needs `logprobs = true`"),
        (json!({ "stream": "yes" }), "stream: `stream` must be true or false"),
        (
            json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "x" } } }),
            "response_format.json_schema.schema: `response_format.json_schema.schema` is missing",
        ),
        (
            json!({ "tools": [{ "type": "function" }] }),
            "tools[0].function: `tools[0].function` is missing",
        ),
    ];
    for (fields, expected) in cases {
        assert_eq!(refusal(with(fields.clone())), expected, "{fields}");
    }
}

#[test]
fn a_body_that_is_no_json_is_named_as_such() {
    let message = |body: &[u8]| decode(body).expect_err("refused").message.en;
    assert_eq!(message(b""), "the body is empty; send a JSON object");
    assert_eq!(message(b"[]"), "the request must be a JSON object");
    assert!(message(b"{\"model\": ").starts_with("the body is not valid JSON: EOF"));
    assert_eq!(message(b"{\"model\": \"\xff\"}"), "the body is not valid UTF-8 (first at byte 11)");
    let deep = format!("{{\"model\":{}", "[".repeat(100_000));
    assert!(message(deep.as_bytes()).contains("recursion limit"));
}

#[test]
fn a_hundred_thousand_messages_are_taken() {
    let messages = vec![json!({ "role": "user", "content": "x" }); 100_000];
    assert_eq!(asked(with(json!({ "messages": messages }))).request.messages.len(), 100_000);
}
