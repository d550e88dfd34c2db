//! Bad input: a clear error in the API's shape with a request id, nothing lost, nothing sent.

use std::time::Duration;

use serde_json::{Value, json};
use stellwerk_tests::world::ask;
use stellwerk_tests::{Reply, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[track_caller]
fn assert_shape(reply: &Reply, what: &str) {
    assert!(reply.header("x-stellwerk-request-id").is_some(), "{what}: no request id");
    let error = &reply.body["error"];
    let message = error["message"].as_str().unwrap_or_default();
    assert!(message.len() > 5, "{what}: no message in {}", reply.body);
    assert!(error["type"].is_string(), "{what}: {}", reply.body);
    assert!(error.get("code").is_some() && error.get("param").is_some(), "{what}: {}", reply.body);
}

async fn send(world: &World, path: &str, body: impl Into<reqwest::Body>) -> Reply {
    let request = world.client().post(world.url(path)).bearer_auth(&world.key);
    let request = request.header("content-type", "application/json").body(body);
    Reply::read(request.send().await.expect("an answer")).await
}

#[tokio::test]
async fn wrong_questions_are_refused_with_a_word_and_never_sent() {
    let world = World::usual().await.start().await;
    let hello = json!([{ "role": "user", "content": "Hello" }]);
    let wrong = [
        ("no JSON", "{\"model\": \"mini\", ".to_owned()),
        ("empty", String::new()),
        ("a list", "[]".to_owned()),
        ("null", "null".to_owned()),
        ("a number", "7".to_owned()),
        ("no model", json!({ "messages": hello }).to_string()),
        ("model of a wrong type", json!({ "model": 7, "messages": hello }).to_string()),
        ("no messages", json!({ "model": "mini" }).to_string()),
        ("empty messages", json!({ "model": "mini", "messages": [] }).to_string()),
        ("messages of a wrong type", json!({ "model": "mini", "messages": "Hello" }).to_string()),
        ("a message of a wrong type", json!({ "model": "mini", "messages": [7] }).to_string()),
        (
            "an unknown role",
            json!({ "model": "mini", "messages": [{ "role": "king", "content": "x" }] })
                .to_string(),
        ),
        (
            "content of a wrong type",
            json!({ "model": "mini", "messages": [{ "role": "user", "content": 7 }] }).to_string(),
        ),
        (
            "an unfinished part",
            json!({ "model": "mini", "messages": [{ "role": "user", "content": [{}] }] })
                .to_string(),
        ),
        (
            "a tool message without id",
            json!({ "model": "mini", "messages": [{ "role": "tool", "content": "x" }] })
                .to_string(),
        ),
        (
            "a negative limit",
            json!({ "model": "mini", "messages": hello, "max_tokens": -1 }).to_string(),
        ),
        (
            "a zero limit",
            json!({ "model": "mini", "messages": hello, "max_tokens": 0 }).to_string(),
        ),
        (
            "an absurd limit",
            "{\"model\":\"mini\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\
             \"max_tokens\":99999999999999999999999}"
                .to_owned(),
        ),
        ("n of zero", json!({ "model": "mini", "messages": hello, "n": 0 }).to_string()),
        ("an absurd n", json!({ "model": "mini", "messages": hello, "n": 1_000_000 }).to_string()),
        (
            "an absurd temperature",
            json!({ "model": "mini", "messages": hello, "temperature": 1e300 }).to_string(),
        ),
        (
            "stream of a wrong type",
            json!({ "model": "mini", "messages": hello, "stream": "yes" }).to_string(),
        ),
        (
            "an unknown sensitivity",
            json!({ "model": "mini", "messages": hello, "stellwerk": { "sensitivity": "top" } })
                .to_string(),
        ),
        (
            "metadata without end",
            json!({ "model": "mini", "messages": hello,
                    "stellwerk": { "metadata": { "a": "x".repeat(100_000) } } })
            .to_string(),
        ),
        ("a hundred thousand brackets", "[".repeat(100_000)),
        (
            "deep nesting",
            format!("{{\"model\":\"mini\",\"messages\":{}{}}}", "[".repeat(5000), "]".repeat(5000)),
        ),
    ];
    for (what, body) in wrong {
        let reply = send(&world, "/v1/chat/completions", body).await;
        assert_eq!(reply.status, 400, "{what}: {}", reply.body);
        assert_shape(&reply, what);
    }
    assert!(world.vendor.seen().is_empty());
    assert!(world.ledger().is_empty());
}

#[tokio::test]
async fn invalid_utf8_is_a_bad_request() {
    let world = World::usual().await.start().await;
    let mut body = br#"{"model":"mini","messages":[{"role":"user","content":""#.to_vec();
    body.extend([0xff, 0xfe, 0xc3, 0x28]);
    body.extend(br#""}]}"#);
    for path in ["/v1/chat/completions", "/v1/messages", "/v1/embeddings"] {
        let reply = send(&world, path, body.clone()).await;
        assert_eq!(reply.status, 400, "{path}: {}", reply.body);
        assert!(reply.header("x-stellwerk-request-id").is_some());
    }
}

#[tokio::test]
async fn fifty_megabytes_are_refused_as_too_large() {
    let world = World::usual().await.start().await;
    let text = "x".repeat(50_000_000);
    let reply = send(&world, "/v1/chat/completions", ask("mini", &text).to_string()).await;
    assert_eq!(reply.status, 413, "{}", reply.body);
    assert_shape(&reply, "50 MB");
    // And the server is as well as before.
    world.chat(ask("mini", "Hello")).await.expect(200);
}

#[tokio::test]
async fn a_hundred_thousand_messages_are_no_trouble() {
    let world = World::usual().await.start().await;
    let messages: Vec<Value> = (0..100_000)
        .map(|n| json!({ "role": if n % 2 == 0 { "user" } else { "assistant" }, "content": "x" }))
        .collect();
    let body = json!({ "model": "mini", "max_tokens": 5, "messages": messages });
    let reply = world.chat(body).await;
    // Either it is passed on or it is too long for the model; never a hang, never a 500.
    assert!(matches!(reply.status, 200 | 400 | 413), "{}: {}", reply.status, reply.body);
    world.chat(ask("mini", "Hello")).await.expect(200);
}

#[tokio::test]
async fn unknown_names_are_not_found() {
    let world = World::usual().await.start().await;
    let model = world.chat(ask("gpt-unknown", "Hello")).await.expect(404);
    assert_eq!(model.code(), "model_not_found");
    let policy = world.chat(ask("auto:unknown", "Hello")).await.expect(404);
    assert_eq!(policy.code(), "policy_not_found");
    for path in ["/v1/unknown", "/v1/chat"] {
        let reply = send(&world, path, "{}").await;
        assert_eq!(reply.status, 404, "{path}");
        assert_shape(&reply, path);
    }
    let wrong_method = world.get("/v1/chat/completions").await.expect(405);
    assert_shape(&wrong_method, "GET");
}

#[tokio::test]
async fn without_a_key_nobody_is_served_and_the_answer_has_a_request_id() {
    let world = World::usual().await.start().await;
    for path in ["/v1/chat/completions", "/v1/embeddings", "/v1/messages"] {
        let response =
            world.client().post(world.url(path)).json(&ask("mini", "Hello")).send().await;
        let reply = Reply::read(response.expect("an answer")).await.expect(401);
        assert!(reply.header("x-stellwerk-request-id").is_some());
    }
    let response = world.client().get(world.url("/v1/models")).send().await;
    Reply::read(response.expect("an answer")).await.expect(401);
    // `x-api-key` is as good as `Authorization`.
    let request = world.client().get(world.url("/v1/models")).header("x-api-key", &world.key);
    Reply::read(request.send().await.expect("an answer")).await.expect(200);
}

#[tokio::test]
async fn anthropics_errors_have_anthropics_shape() {
    let world = World::usual().await.start().await;
    let reply = send(&world, "/v1/messages", "{\"model\":\"mini\"}").await;
    assert_eq!(reply.status, 400);
    assert_eq!(reply.body["type"], "error");
    assert!(reply.body["error"]["type"].is_string() && reply.body["error"]["message"].is_string());
    assert_eq!(reply.body["request_id"].as_str(), reply.header("x-stellwerk-request-id"));
}

#[tokio::test]
async fn fields_that_nobody_here_knows_reach_the_vendor() {
    let world = World::usual().await.start().await;
    let mut question = ask("mini", "Hello");
    question["logit_bias"] = json!({ "50256": -100 });
    question["a_field_of_tomorrow"] = json!({ "x": [1, 2.5, null] });
    question["stellwerk"] = json!({ "use_case": "offers" });
    world.chat(question).await.expect(200);
    let body = &world.vendor.seen()[0].body;
    assert_eq!(body["logit_bias"], json!({ "50256": -100 }));
    assert_eq!(body["a_field_of_tomorrow"], json!({ "x": [1, 2.5, null] }));
    assert_eq!(body.get("stellwerk"), None, "our own words stay here");
    assert_eq!(world.rows(1).await[0]["use_case"], "offers");
}

#[tokio::test]
async fn what_is_asked_with_explain_is_explained() {
    let world = World::usual().await.start().await;
    let mut question = ask("auto", "Hello");
    question["stellwerk"] = json!({ "explain": true });
    let reply = world.chat(question).await.expect(200);
    let trace = reply.header("x-stellwerk-trace").expect("a trace");
    assert!(trace.is_ascii() && trace.len() <= 1024);
    assert!(trace.contains("mini"), "{trace}");
    assert!(reply.body["stellwerk"].to_string().contains("default"), "{}", reply.body);
}

#[tokio::test]
async fn a_list_of_models_names_what_the_caller_may_use() {
    let grants = "[[grant]]\nmodels = [\"secret\"]\nto = [\"person:bert\"]\n";
    let builder = World::usual().await.model("secret", "one", "premium").section(grants);
    let world = builder.start().await;
    let listed = world.get("/v1/models").await.expect(200);
    let ids: Vec<&str> = listed.body["data"]
        .as_array()
        .map(|models| models.iter().filter_map(|model| model["id"].as_str()).collect())
        .unwrap_or_default();
    assert!(ids.contains(&"mini") && ids.contains(&"auto") && ids.contains(&"auto:default"));
    assert!(!ids.contains(&"secret"), "{ids:?}");
}

#[tokio::test]
async fn a_sender_that_never_finishes_is_let_go() {
    let world = World::usual().await.start().await;
    let mut socket = tokio::net::TcpStream::connect(world.address()).await.expect("a connection");
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 1000\r\n\r\n{{\"model\":",
        world.key
    );
    socket.write_all(head.as_bytes()).await.expect("the head is taken");
    // Others are served meanwhile.
    world.chat(ask("mini", "Hello")).await.expect(200);
    let mut answer = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(60), socket.read_to_end(&mut answer)).await;
    assert!(end.is_ok(), "the server waits without a limit");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn the_server_tells_that_it_is_alive_ready_and_what_it_measured() {
    let world = World::usual().await.start().await;
    world.chat(ask("mini", "Hello")).await.expect(200);
    for path in ["/healthz", "/readyz", "/metrics", "/"] {
        let response = world.client().get(world.url(path)).send().await.expect("an answer");
        assert_eq!(response.status(), 200, "{path}");
    }
    let metrics = world.get("/metrics").await.body.as_str().unwrap_or_default().to_owned();
    for word in ["calls", "tokens", "cost", "duration"] {
        assert!(metrics.contains(word), "no `{word}` in the metrics");
    }
}
