//! Vendors fail, stall, lie and cut; the person still gets an answer or a clear word.

use std::time::{Duration, Instant};

use serde_json::json;
use stellwerk_tests::client::eventually;
use stellwerk_tests::vendor::{End, KINDS, Script};
use stellwerk_tests::world::{Builder, ask};
use stellwerk_tests::{Reply, World};

/// Two places: `mini` at the first, `other` behind it.
async fn pair() -> Builder {
    World::usual().await.provider("two", "openai", "world").model("other", "two", "economy").policy(
        "default",
        "fixed",
        &["mini", "other"],
        "",
    )
}

#[tokio::test]
async fn a_passing_failure_is_tried_again_at_the_same_place() {
    for status in [429, 500, 503] {
        let world = World::usual().await.start().await;
        world.vendor.plays("mini", [Script::status(status).retry_after("0"), Script::words(2)]);
        world.chat(ask("mini", "Hello")).await.expect(200);
        let rows = world.rows(2).await;
        let reasons: Vec<&str> = rows.iter().filter_map(|row| row["reason"].as_str()).collect();
        assert_eq!(reasons, ["first", "retry"], "status {status}");
    }
}

/// One place of this kind, with the model `mini`.
async fn alone(kind: &str, more: &str) -> World {
    let builder = World::empty().await.provider_with("one", kind, "world", more);
    builder.model("mini", "one", "economy").start().await
}

#[tokio::test]
async fn a_refusal_means_the_same_in_every_dialect() {
    for kind in KINDS {
        let world = alone(kind, "").await;
        world.vendor.plays("mini", [Script::status(429).retry_after("0"), Script::words(2)]);
        world.chat(ask("mini", "Hello")).await.expect(200);
        let rows = world.rows(2).await;
        let reasons: Vec<&str> = rows.iter().filter_map(|row| row["reason"].as_str()).collect();
        assert_eq!(reasons, ["first", "retry"], "{kind}");

        world.vendor.plays("mini", [Script::status(400)]);
        world.chat(ask("mini", "Hello")).await.expect(400);
        assert_eq!(world.vendor.seen().len(), 3, "{kind}: a wrong question was tried again");
    }
}

#[tokio::test]
async fn a_stream_that_fails_is_told_alike_in_every_dialect() {
    let endings = [
        (End::CutAfter(2), "cut"),
        (End::StallAfter(2), "stalled"),
        (End::Malformed(2), "malformed"),
        (End::ErrorInSuccess, "error"),
    ];
    for kind in KINDS {
        let world = alone(kind, "idle_timeout_ms = 300").await;
        for (position, (end, ending)) in endings.into_iter().enumerate() {
            world.vendor.plays("mini", [Script::words(9).ends(end)]);
            let stream = world.stream(ask("mini", "Hello")).await.whole().await;
            assert!(stream.text().starts_with("w1 "), "{kind} {end:?}: {:?}", stream.events);
            assert!(stream.error().is_some(), "{kind} {end:?}: {:?}", stream.events);
            assert!(stream.finishes().is_empty() && !stream.done, "{kind} {end:?}");
            assert!(!format!("{:?}", stream.events).contains("GEHEIM-VENDOR"), "{kind} {end:?}");
            let rows = world.rows(position + 1).await;
            assert_eq!(rows[position]["ending"], ending, "{kind} {end:?}: {:#}", rows[position]);
        }
    }
}

#[tokio::test]
async fn tool_calls_arrive_alike_in_every_dialect() {
    let arguments = json!({ "city": "Köln" });
    for kind in KINDS {
        let world = alone(kind, "").await;
        world.vendor.plays("mini", [Script::calls_tool("weather", arguments.clone())]);
        let mut question = ask("mini", "Hello");
        question["tools"] = json!([{
            "type": "function",
            "function": { "name": "weather", "parameters": { "type": "object" } },
        }]);
        let stream = world.stream(question).await.whole().await;
        assert_eq!(stream.finishes(), ["tool_calls"], "{kind}: {:?}", stream.events);
        let told = |path: &str| -> String {
            let events = stream.events.iter();
            events.filter_map(|event| event.pointer(path)?.as_str()).collect()
        };
        assert_eq!(told("/choices/0/delta/tool_calls/0/function/name"), "weather", "{kind}");
        let said = told("/choices/0/delta/tool_calls/0/function/arguments");
        let said: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
        assert_eq!(said, arguments, "{kind}: {:?}", stream.events);
    }
}

#[tokio::test]
async fn a_wrong_question_is_not_tried_again_and_the_callers_own_fault() {
    let world = pair().await.start().await;
    world.vendor.plays("mini", [Script::status(400)]);
    world.chat(ask("auto", "Hello")).await.expect(400);
    assert_eq!(world.vendor.seen().len(), 1);
}

#[tokio::test]
async fn a_failure_before_the_first_token_fails_over_unseen() {
    let world = pair().await.start().await;
    world.vendor.plays("mini", [Script::status(500)]);
    let stream = world.stream(ask("auto", "Hello")).await;
    assert_eq!(stream.headers["x-stellwerk-model"], "other");
    let stream = stream.whole().await;
    assert!(stream.done);
    let shown = stream.events.iter().any(|event| event.pointer("/stellwerk/failover").is_some());
    assert!(!shown, "nothing had been shown that could fail over");
}

#[tokio::test]
async fn a_silent_vendor_is_given_up_after_its_first_token_limit() {
    let world = World::empty()
        .await
        .provider_with("one", "openai", "world", "first_token_timeout_ms = 300\nmax_retries = 0")
        .model("mini", "one", "economy")
        .start()
        .await;
    world.vendor.plays("mini", [Script::words(3).ends(End::StallAfter(0))]);
    let asked = Instant::now();
    let stream = world.stream(ask("mini", "Hello")).await;
    let status = stream.status;
    let whole = stream.whole().await;
    assert!(asked.elapsed() < Duration::from_secs(10));
    assert!(status == 504 || whole.error().is_some(), "{status} {:?}", whole.events);
    let row = &world.rows(1).await[0];
    assert_eq!((&row["ending"], &row["cost_nano"]), (&json!("stalled"), &json!(0)), "{row:#}");
}

#[tokio::test]
async fn a_stream_that_fails_for_good_ends_with_an_error_and_no_stop() {
    let world = World::usual().await.start().await;
    world.vendor.plays("mini", [Script::words(9).ends(End::CutAfter(2))]);
    let stream = world.stream(ask("mini", "Hello")).await.whole().await;
    assert!(stream.clean, "never a bare cut");
    assert!(stream.error().is_some());
    assert!(stream.finishes().is_empty());
    assert!(!stream.done);

    let body = ask("mini", "Hello");
    let mut question = body.clone();
    question["stream"] = json!(true);
    let response = world.post("/v1/messages", &world.key, &question).send().await;
    let text = response.expect("an answer").text().await.expect("a clean end");
    assert!(text.contains("event: error"), "{text}");
    assert!(!text.contains("message_stop"), "{text}");
}

#[tokio::test]
async fn tool_arguments_that_went_out_forbid_a_fail_over() {
    let world = pair().await.start().await;
    let call = Script::calls_tool("weather", json!({ "city": "Berlin" }));
    world.vendor.plays("mini", [call.ends(End::CutAfter(1))]);
    let mut question = ask("auto", "Hello");
    question["tools"] = json!([{
        "type": "function",
        "function": { "name": "weather", "parameters": { "type": "object" } },
    }]);
    let stream = world.stream(question).await.whole().await;
    assert!(stream.error().is_some(), "{:?}", stream.events);
    assert!(world.vendor.seen_by("other").is_empty());
}

#[tokio::test]
async fn a_failing_place_rests_and_is_not_asked() {
    let world = pair().await.start().await;
    world.vendor.plays("mini", [Script::status(500)]);
    for _ in 0..12 {
        world.chat(ask("auto", "Hello")).await.expect(200);
    }
    let tried = world.vendor.seen_by("mini").len();
    world.chat(ask("auto", "Hello")).await.expect(200);
    assert_eq!(world.vendor.seen_by("mini").len(), tried, "the circuit is open");
    assert!(tried < 24, "{tried} calls reached a place that fails");
}

#[tokio::test]
async fn a_hedge_asks_a_second_place_and_books_both() {
    let world = pair().await.start().await;
    world.vendor.plays("mini", [Script::words(3).gated_whole()]);
    let mut question = ask("auto", "Hello");
    question["stellwerk"] = json!({ "hedge_after_ms": 50 });
    let reply = world.chat(question).await.expect(200);
    assert_eq!(reply.header("x-stellwerk-model"), Some("other"));
    let first = &world.vendor.seen_by("mini")[0];
    assert!(first.dropped_within(Duration::from_secs(2)).await.is_some(), "the loser is cancelled");
    let rows = world.rows(2).await;
    assert!(rows.iter().any(|row| row["reason"] == "hedge"), "{rows:#?}");
}

#[tokio::test]
async fn the_callers_own_time_limit_is_kept() {
    let world = World::usual().await.start().await;
    world.vendor.plays("mini", [Script::words(3).gated_whole()]);
    let mut question = ask("mini", "Hello");
    question["stellwerk"] = json!({ "timeout_ms": 200 });
    let reply = world.chat(question).await;
    assert!(matches!(reply.status, 408 | 504), "{}", reply.body);
    let seen = &world.vendor.seen()[0];
    assert!(seen.dropped_within(Duration::from_secs(2)).await.is_some());
}

#[tokio::test]
async fn load_is_spread_over_the_places_of_a_model() {
    let more = "deployments = [{ provider = \"two\", name = \"mini-two\", weight = 1 }]";
    let world = World::empty()
        .await
        .provider("one", "openai", "world")
        .provider("two", "openai", "world")
        .model_with(
            "mini",
            "one",
            "economy",
            &format!(
                "{more}\ninput_per_million = \"1\"\noutput_per_million = \"10\"\n\
                 price_currency = \"EUR\""
            ),
        )
        .start()
        .await;
    world.vendor.plays("mini", [Script::words(1)]);
    world.vendor.plays("mini-two", [Script::words(1)]);
    for _ in 0..40 {
        world.chat(ask("mini", "Hello")).await.expect(200);
    }
    let (one, two) = (world.vendor.seen_by("mini").len(), world.vendor.seen_by("mini-two").len());
    assert!(one >= 8 && two >= 8, "{one} and {two}");
}

#[tokio::test]
async fn the_cascade_climbs_when_an_answer_will_not_do() {
    let world = World::usual()
        .await
        .model("strong", "one", "premium")
        .policy("default", "cascade", &["mini", "strong"], "escalate_below = 0.6")
        .start()
        .await;
    world.vendor.plays("mini", [Script::answer(["I'm sorry, ", "but I can't help with that."])]);
    world.vendor.plays("strong", [Script::answer(["Das ", "ist ", "die ", "Antwort."])]);
    let whole = world.chat(ask("auto", "Explain interlocking")).await.expect(200);
    assert_eq!(whole.text(), "Das ist die Antwort.");
    let stream = world.stream(ask("auto", "Explain interlocking")).await.whole().await;
    assert_eq!(stream.text(), "Das ist die Antwort.", "a rejected rung is not shown");
    let rows = world.rows(4).await;
    assert!(rows.iter().filter(|row| row["reason"] == "escalation").count() == 2, "{rows:#?}");
}

#[tokio::test]
async fn a_good_change_of_the_configuration_is_taken_and_a_broken_one_is_not() {
    let world = World::usual().await.start().await;
    let good = world.configuration();
    let added = "\n[[model]]\nid = \"new\"\nprovider = \"one\"\nname = \"new\"\ntier = \"economy\"\n\
                 price = \"free\"\n";
    let with_new = good.replacen("\n[[policy]]", &format!("{added}\n[[policy]]"), 1);
    world.write("stellwerk.toml", &with_new);
    eventually(Duration::from_secs(10), "the new model is there", || async {
        let reply = world.chat(ask("new", "Hello")).await;
        if reply.status == 200 { Ok(()) } else { Err(reply.body.to_string()) }
    })
    .await;

    // Half of a good change is no change.
    let broken = with_new
        .replace("id = \"new\"", "id = \"newer\"")
        .replace("strategy = \"fixed\"", "strategy = \"nonsense\"");
    let logged = world.log().len();
    world.write("stellwerk.toml", &broken);
    eventually(Duration::from_secs(10), "the broken file is told", || {
        let new_lines = world.log().split_off(logged);
        let told = new_lines.contains("strategy") || new_lines.contains("nonsense");
        std::future::ready(if told { Ok(()) } else { Err(new_lines) })
    })
    .await;
    world.chat(ask("newer", "Hello")).await.expect(404);
    world.chat(ask("new", "Hello")).await.expect(200);
}

#[tokio::test]
async fn a_new_key_counts_within_a_second_and_a_revoked_one_no_longer() {
    let world = World::usual().await.start().await;
    let (id, key) = world.new_key_with_id("team:inside", &[]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.chat_as(&key, ask("mini", "Hello")).await.expect(200);
    world.cli(["key", "revoke", &id]).success();
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.chat_as(&key, ask("mini", "Hello")).await.expect(401);
}

#[tokio::test]
async fn a_keys_limits_are_kept() {
    let world = World::usual().await.model("other", "one", "economy").start().await;
    let few = world.new_key("company", &["--requests-per-minute", "2"]);
    let single = world.new_key("company", &["--parallel", "1"]);
    let only = world.new_key("company", &["--models", "other"]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.chat_as(&few, ask("mini", "1")).await.expect(200);
    world.chat_as(&few, ask("mini", "2")).await.expect(200);
    let refused = world.chat_as(&few, ask("mini", "3")).await.expect(429);
    assert!(refused.header("retry-after").is_some());

    world.vendor.plays("mini", [Script::words(1).gated_whole()]);
    let before = world.vendor.seen().len();
    let running =
        tokio::spawn(world.post("/v1/chat/completions", &single, &ask("mini", "1")).send());
    world.vendor.wait_for_calls(before + 1).await;
    world.chat_as(&single, ask("mini", "2")).await.expect(429);
    world.vendor.open();
    let first = Reply::read(running.await.expect("no panic").expect("an answer")).await;
    first.expect(200);
    world.chat_as(&only, ask("mini", "Hello")).await.expect(403);
}
