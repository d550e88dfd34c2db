//! Budgets hold under any concurrency, after any crash, at every level; and every odd ending of a
//! call is booked by its one rule.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stellwerk_tests::client::eventually;
use stellwerk_tests::vendor::{End, KINDS, Script, Told};
use stellwerk_tests::world::ask;
use stellwerk_tests::{Reply, World};
use tokio::task::JoinSet;

/// Nanos of a token at the world's usual prices.
const INPUT: i64 = 1_000;
const OUTPUT: i64 = 10_000;

/// What a command changes is true in the server within this time.
const TAKES_EFFECT: Duration = Duration::from_secs(1);

fn number(row: &Value, field: &str) -> i64 {
    row[field].as_i64().unwrap_or_else(|| panic!("no number {field} in {row:#}"))
}

fn flags(row: &Value) -> Vec<&str> {
    let flags = row["flags"].as_array().unwrap_or_else(|| panic!("no flags in {row:#}"));
    flags.iter().filter_map(Value::as_str).collect()
}

/// The cost that the row's own figures mean, at the world's prices and without a cache.
fn reckoned(row: &Value) -> i64 {
    number(row, "input_tokens") * INPUT + number(row, "output_tokens") * OUTPUT
}

#[track_caller]
fn assert_row(row: &Value, expected: Value) {
    for (field, value) in expected.as_object().expect("an object") {
        assert_eq!(&row[field], value, "{field} of {row:#}");
    }
}

// ---------------------------------------------------------------------------------------------
// Budgets that fit exactly so many calls.

/// 64 callers at once on a budget that fits exactly `FIT` of them.
const CALLERS: usize = 64;
const FIT: usize = 7;

async fn race(node_of: impl Fn(&str) -> String, streamed: bool) {
    let world = World::usual().await.start().await;
    let (key_id, key) = world.new_key_with_id("person:anna", &[]);
    let node = node_of(&key_id);
    world.set_budget(&node, 1_000_000_000_000);
    tokio::time::sleep(TAKES_EFFECT).await;
    world.vendor.plays("mini", [Script::words(12).gated_whole()]);
    let mut question = ask("mini", "Was ist eine Weiche?");
    question["stellwerk"] = json!({ "use_case": "offers" });

    // One call tells how much a call holds and how much it costs.
    let first = tokio::spawn(send(&world, &key, &question, streamed));
    world.vendor.wait_for_calls(1).await;
    let hold = number(&world.budget(&node), "held_nano");
    assert!(hold > 0, "nothing is held while a call runs");
    world.vendor.open();
    assert_eq!(first.await.expect("the first call").status, 200);
    world.rows(1).await;
    world.vendor.shut();
    let spent = number(&world.budget(&node), "spent_nano");
    assert!(spent > 0 && spent <= hold);

    world.set_budget(&node, spent + hold * FIT as i64 + hold - 1);
    tokio::time::sleep(TAKES_EFFECT).await;
    let mut calls = JoinSet::new();
    for _ in 0..CALLERS {
        calls.spawn(send(&world, &key, &question, streamed));
    }
    // No answer comes while the gate is shut, so whoever returns was refused.
    for _ in 0..CALLERS - FIT {
        let refused = calls.join_next().await.expect("a call").expect("no panic");
        refused.expect(402);
    }
    world.vendor.wait_for_calls(1 + FIT).await;
    let held = number(&world.budget(&node), "held_nano");
    assert_eq!(held, hold * FIT as i64, "what is held while they run");
    world.vendor.open();
    while let Some(answered) = calls.join_next().await {
        answered.expect("no panic").expect(200);
    }

    let rows = world.rows(1 + FIT).await;
    assert_eq!(rows.len(), 1 + FIT, "a refusal has no row");
    let after = world.budget(&node);
    assert_eq!(number(&after, "held_nano"), 0);
    let booked: i64 = rows.iter().map(|row| number(row, "cost_nano")).sum();
    assert_eq!(number(&after, "spent_nano"), booked);
    assert_eq!(world.vendor.seen().len(), 1 + FIT, "no refused call reached the vendor");
}

/// Sends on its own task, so that many can run at once.
fn send(
    world: &World,
    key: &str,
    question: &Value,
    streamed: bool,
) -> impl Future<Output = Reply> + Send + use<> {
    let mut question = question.clone();
    if streamed {
        question["stream"] = json!(true);
    }
    let request = world.post("/v1/chat/completions", key, &question);
    async move { Reply::read(request.send().await.expect("an answer")).await }
}

#[tokio::test]
async fn a_company_budget_fits_exactly_its_calls() {
    race(|_| "company".to_owned(), false).await;
}

#[tokio::test]
async fn a_department_budget_fits_exactly_its_calls() {
    race(|_| "department:sales".to_owned(), true).await;
}

#[tokio::test]
async fn a_team_budget_fits_exactly_its_calls() {
    race(|_| "team:inside".to_owned(), false).await;
}

#[tokio::test]
async fn a_persons_budget_fits_exactly_its_calls() {
    race(|_| "person:anna".to_owned(), true).await;
}

#[tokio::test]
async fn a_keys_budget_fits_exactly_its_calls() {
    race(|key| format!("key:{key}"), false).await;
}

#[tokio::test]
async fn a_use_cases_budget_fits_exactly_its_calls() {
    race(|_| "use-case:offers".to_owned(), true).await;
}

#[tokio::test]
async fn a_refusal_names_level_node_rest_and_renewal() {
    let world = World::usual().await.quiet();
    world.set_budget("team:inside", 5);
    let mut world = world;
    world.serve().await;
    let key = world.new_key("person:anna", &[]);
    tokio::time::sleep(TAKES_EFFECT).await;

    let refused = world.chat_as(&key, ask("mini", "Hello")).await.expect(402);
    assert_eq!(refused.code(), "budget_exceeded");
    let detail = &refused.body["error"]["stellwerk"];
    assert_eq!(detail["level"], "team");
    assert_eq!(detail["node"], "team:inside");
    assert_eq!(detail["left"], "0.000000005");
    assert!(detail["renews_at"].as_str().is_some_and(|time| time.contains('T')), "{detail}");
    let message = refused.body["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("team:inside"), "{message}");

    let body = ask("mini", "Hallo");
    let german = world.post("/v1/chat/completions", &key, &body).header("accept-language", "de");
    let german = Reply::read(german.send().await.expect("an answer")).await.expect(402);
    assert_ne!(german.body["error"]["message"], refused.body["error"]["message"]);
    assert!(world.ledger().is_empty(), "a refusal has no row");
    assert!(world.vendor.seen().is_empty());
}

#[tokio::test]
async fn a_soft_budget_refuses_nobody() {
    let world = World::usual().await.quiet();
    world.cli(["budget", "set", "company", "0.000000001", "--period", "day", "--soft"]).success();
    let mut world = world;
    world.serve().await;
    world.chat(ask("mini", "Hello")).await.expect(200);
    let budget = world.budget("company");
    assert!(number(&budget, "left_nano") < 0, "{budget}");
}

#[tokio::test]
async fn a_budget_set_beside_the_server_counts_within_a_second() {
    let world = World::usual().await.start().await;
    world.chat(ask("mini", "Hello")).await.expect(200);
    world.set_budget("company", 1);
    tokio::time::sleep(TAKES_EFFECT).await;
    world.chat(ask("mini", "Hello")).await.expect(402);
    world.set_budget("company", 1_000_000_000);
    tokio::time::sleep(TAKES_EFFECT).await;
    world.chat(ask("mini", "Hello")).await.expect(200);
}

#[tokio::test]
async fn several_processes_share_one_budget() {
    let world = World::usual().await.start().await;
    world.set_budget("company", 1_000_000_000_000);
    tokio::time::sleep(TAKES_EFFECT).await;
    world.vendor.plays("mini", [Script::words(3).gated_whole(), Script::words(3)]);
    let held = tokio::spawn(send(&world, &world.key, &ask("mini", "Hello"), false));
    world.vendor.wait_for_calls(1).await;
    let hold = number(&world.budget("company"), "held_nano");
    // What the server holds is not there for another process.
    world.set_budget("company", hold + 10);
    let refused = world.cli(["ask", "Hello", "--model", "mini"]).exits(1);
    assert!(refused.stderr.contains("company"), "{}", refused.stderr);
    world.vendor.open();
    held.await.expect("no panic").expect(200);

    world.set_budget("company", 1_000_000_000_000);
    world.cli(["ask", "Hello", "--model", "mini"]).success();
    let rows = world.rows(2).await;
    assert_eq!(rows[1]["channel"], "cli");
    assert_eq!(number(&world.budget("company"), "held_nano"), 0, "nobody settled another's hold");
}

// ---------------------------------------------------------------------------------------------
// After a crash.

#[tokio::test]
async fn after_a_crash_every_hold_is_settled_and_no_row_is_lost() {
    let mut world = World::usual().await.start().await;
    world.set_budget("company", 1_000_000_000_000);
    world.chat(ask("mini", "before the crash")).await.expect(200);
    world.vendor.plays("mini", [Script::words(50).ends(End::StallAfter(3))]);
    let mut begun = world.stream(ask("mini", "begun")).await;
    assert!(begun.next_text().await.is_some());
    let waiting =
        tokio::spawn(world.post("/v1/chat/completions", &world.key, &ask("mini", "x")).send());
    world.vendor.wait_for_calls(3).await;
    let before = world.budget("company");
    let held = number(&before, "held_nano");
    assert!(held > 0);

    world.kill();
    waiting.await.expect("no panic").expect_err("the connection breaks");
    world.serve().await;

    let after = world.budget("company");
    assert_eq!(number(&after, "held_nano"), 0, "every hold is settled once the server is ready");
    let rows = world.ledger();
    assert_eq!(rows.len(), 3);
    let recovered: Vec<&Value> =
        rows.iter().filter(|row| flags(row).contains(&"recovered")).collect();
    assert_eq!(recovered.len(), 2);
    let cost: i64 = recovered.iter().map(|row| number(row, "cost_nano")).sum();
    assert_eq!(cost, held, "without usage the held amount counts");
    assert!(recovered.iter().all(|row| row["ending"] == "recovered"));
    let spent = number(&before, "spent_nano") + held;
    assert_eq!(number(&after, "spent_nano"), spent);

    // And the next call is as any other.
    world.vendor.plays("mini", [Script::words(1)]);
    world.chat(ask("mini", "after the crash")).await.expect(200);
}

#[tokio::test]
async fn a_stop_settles_what_runs() {
    let mut world = World::usual().await.start().await;
    world.set_budget("company", 1_000_000_000_000);
    world.vendor.plays("mini", [Script::words(5).pausing(Duration::from_millis(100))]);
    let running =
        tokio::spawn(world.post("/v1/chat/completions", &world.key, &ask("mini", "x")).send());
    world.vendor.wait_for_calls(1).await;
    assert_eq!(world.stop().await, Some(0));
    let answered = running.await.expect("no panic").expect("what runs is finished");
    assert_eq!(answered.status(), 200);
    let rows = world.ledger();
    assert_eq!(rows.len(), 1);
    assert_row(&rows[0], json!({ "ending": "complete" }));
    assert_eq!(number(&world.budget("company"), "held_nano"), 0);
}

// ---------------------------------------------------------------------------------------------
// One rule for each odd ending.

#[tokio::test]
async fn usage_that_the_vendor_tells_is_taken_and_every_field_is_there() {
    let world = World::usual().await.start().await;
    let key = world.new_key("person:anna", &[]);
    tokio::time::sleep(TAKES_EFFECT).await;
    world.vendor.plays("mini", [Script::words(3).uses(10, 5)]);
    let mut question = ask("mini", "Hello");
    question["stellwerk"] = json!({ "use_case": "offers", "metadata": { "ticket": "A-1" } });
    let reply = world.chat_as(&key, question).await.expect(200);
    // The row is there before the last byte of the answer.
    let rows = world.ledger();
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    let request_id = reply.header("x-stellwerk-request-id").expect("a request id");
    assert_row(
        row,
        json!({
            "request_id": request_id, "attempt": 1, "reason": "first", "model": "mini",
            "vendor_model": "mini-2026-01-01", "provider": "one", "zone": "world",
            "sensitivity": "internal", "person": "anna", "node": "person:anna",
            "use_case": "offers", "channel": "api", "metadata": { "ticket": "A-1" },
            "input_tokens": 10, "cached_input_tokens": 0, "output_tokens": 5,
            "reasoning_tokens": 0, "cost_nano": 10 * INPUT + 5 * OUTPUT, "currency": "EUR",
            "input_price_nano": 1_000_000_000, "cached_input_price_nano": 1_000_000_000,
            "output_price_nano": 10_000_000_000_i64, "price_currency": "EUR",
            "exchange_rate": "1", "flags": [], "ending": "complete",
        }),
    );
    let fields = ["time", "key", "task", "policy", "duration_ms", "first_token_ms", "price_date"];
    for field in fields {
        assert!(row.get(field).is_some(), "{field} is missing in {row:#}");
    }
    assert_eq!(reply.header("x-stellwerk-cost"), Some("0.000060000"));
    assert_eq!(reply.header("x-stellwerk-model"), Some("mini"));
}

#[tokio::test]
async fn a_price_in_dollars_is_converted_and_rounded_once() {
    let prices = "input_per_million = \"0.333333333\"\noutput_per_million = \"0.777\"\n\
                  price_currency = \"USD\"";
    let world = World::usual().await.model_with("odd", "one", "economy", prices).start().await;
    world.vendor.plays("odd", [Script::words(3).uses(7, 3)]);
    world.chat(ask("odd", "Hello")).await.expect(200);
    let row = &world.rows(1).await[0];
    // (7 × 0.333333333 + 3 × 0.777) / 1e6 × 0.92 = 4.291186664520e-6 dollars' worth of euros.
    assert_row(row, json!({ "cost_nano": 4291, "exchange_rate": "0.92", "price_currency": "USD" }));
}

#[tokio::test]
async fn cached_tokens_are_part_of_the_input_and_priced_once() {
    let prices = "input_per_million = \"1\"\noutput_per_million = \"10\"\n\
                  cached_input_per_million = \"0.1\"\nprice_currency = \"EUR\"";
    let told = Told::Full { input: 10, cached: 4, output: 5, reasoning: 3 };
    for kind in KINDS {
        let builder = World::usual().await.provider("two", kind, "world");
        let world = builder.model_with("cache", "two", "economy", prices).start().await;
        world.vendor.plays("cache", [Script::words(2).told(told)]);
        world.chat(ask("cache", "whole")).await.expect(200);
        world.stream(ask("cache", "streamed")).await.whole().await;
        for row in world.rows(2).await {
            assert_row(
                &row,
                json!({
                    "input_tokens": 10, "cached_input_tokens": 4, "output_tokens": 5,
                    "cost_nano": 6 * INPUT + 4 * 100 + 5 * OUTPUT, "flags": [],
                }),
            );
            // Anthropic and Bedrock do not tell reasoning apart.
            let reasoning = if matches!(kind, "anthropic" | "bedrock") { 0 } else { 3 };
            assert_row(&row, json!({ "reasoning_tokens": reasoning }));
        }
    }
}

#[tokio::test]
async fn where_usage_is_missing_or_zero_the_tokens_are_counted_and_the_row_says_so() {
    let text = ["Die ", "Weiche ", "stellt ", "das ", "Gleis."];
    for kind in KINDS {
        let builder = World::empty().await.provider("one", kind, "world");
        let world = builder.model("mini", "one", "economy").start().await;
        for told in [Told::Nothing, Told::Zero] {
            world.vendor.plays("mini", [Script::answer(text).told(told)]);
            let before = world.ledger().len();
            world.chat(ask("mini", "Was tut die Weiche?")).await.expect(200);
            world.stream(ask("mini", "Was tut die Weiche?")).await.whole().await;
            let rows = world.rows(before + 2).await;
            for row in &rows[before..] {
                assert_row(row, json!({ "ending": "complete", "flags": ["estimated"] }));
                assert!((5..=30).contains(&number(row, "input_tokens")), "{kind}: {row:#}");
                assert!((5..=20).contains(&number(row, "output_tokens")), "{kind}: {row:#}");
                assert_eq!(number(row, "cost_nano"), reckoned(row));
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_mid_stream_is_billed_what_had_arrived() {
    let world = World::usual().await.start().await;
    world.vendor.plays("mini", [Script::words(50).ends(End::StallAfter(3))]);
    let mut stream = world.stream(ask("mini", "Hello")).await;
    for _ in 0..3 {
        assert!(stream.next_text().await.is_some());
    }
    let left = Instant::now();
    drop(stream);
    let seen = &world.vendor.seen()[0];
    let gone = seen.dropped_within(Duration::from_secs(5)).await.expect("the call is cancelled");
    assert!(gone.duration_since(left) <= Duration::from_secs(1), "cancelled too late");
    let row = &world.rows(1).await[0];
    assert_row(row, json!({ "ending": "client_gone", "flags": ["estimated"] }));
    assert!((3..=12).contains(&number(row, "output_tokens")), "{row:#}");
    assert!(number(row, "input_tokens") > 0);
    assert_eq!(number(row, "cost_nano"), reckoned(row));
}

#[tokio::test]
async fn a_client_that_leaves_before_the_first_token_is_billed_the_input() {
    let world = World::usual().await.start().await;
    world.vendor.plays("mini", [Script::words(5).gated_whole()]);
    let request = world.post("/v1/chat/completions", &world.key, &ask("mini", "Hello")).send();
    let call = tokio::spawn(request);
    world.vendor.wait_for_calls(1).await;
    let left = Instant::now();
    call.abort();
    let seen = &world.vendor.seen()[0];
    let gone = seen.dropped_within(Duration::from_secs(5)).await.expect("the call is cancelled");
    assert!(gone.duration_since(left) <= Duration::from_secs(1), "cancelled too late");
    let row = &world.rows(1).await[0];
    assert_row(row, json!({ "ending": "client_gone", "flags": ["estimated"], "output_tokens": 0 }));
    assert_eq!(number(row, "cost_nano"), reckoned(row));
    assert!(number(row, "cost_nano") > 0);
}

#[tokio::test]
async fn a_cut_stream_is_billed_and_its_fail_over_is_a_row_of_its_own() {
    let world = World::usual()
        .await
        .provider("two", "anthropic", "world")
        .model("other", "two", "economy")
        .policy("default", "fixed", &["mini", "other"], "")
        .start()
        .await;
    world.vendor.plays("mini", [Script::words(20).ends(End::CutAfter(2))]);
    world.vendor.plays("other", [Script::words(4).uses(10, 4)]);
    let stream = world.stream(ask("auto", "Hello")).await.whole().await;
    assert_eq!(stream.text(), "w1 w2 w1 w2 w3 w4 ");
    let failover = stream.events.iter().find_map(|event| event.pointer("/stellwerk/failover"));
    assert_eq!(failover, Some(&json!({ "from": "mini", "to": "other" })));
    assert_eq!(stream.finishes(), ["stop"]);
    assert!(stream.done);

    let rows = world.rows(2).await;
    assert_row(
        &rows[0],
        json!({ "attempt": 1, "reason": "first", "ending": "cut", "flags": ["estimated"] }),
    );
    assert!((2..=8).contains(&number(&rows[0], "output_tokens")), "{:#}", rows[0]);
    assert_eq!(number(&rows[0], "cost_nano"), reckoned(&rows[0]));
    assert_row(
        &rows[1],
        json!({
            "attempt": 2, "reason": "failover", "ending": "complete", "model": "other",
            "cost_nano": 10 * INPUT + 4 * OUTPUT, "request_id": rows[0]["request_id"],
        }),
    );
    let cost = stream.stellwerk().and_then(|end| end["cost"].as_str()).expect("a cost");
    let booked = number(&rows[0], "cost_nano") + number(&rows[1], "cost_nano");
    assert_eq!(cost, format!("0.{booked:09}"));
}

#[tokio::test]
async fn a_cut_stream_of_anthropic_takes_the_input_that_was_told() {
    let world = World::empty()
        .await
        .provider("one", "anthropic", "world")
        .model("mini", "one", "economy")
        .start()
        .await;
    world.vendor.plays("mini", [Script::words(20).uses(123, 20).ends(End::CutAfter(3))]);
    let stream = world.stream(ask("mini", "Hello")).await.whole().await;
    assert!(stream.error().is_some(), "a stream that fails for good says so");
    assert!(stream.finishes().is_empty() && !stream.finishes().contains(&"stop"));
    let row = &world.rows(1).await[0];
    assert_row(row, json!({ "ending": "cut", "flags": ["estimated"], "input_tokens": 123 }));
    assert!((3..=12).contains(&number(row, "output_tokens")), "{row:#}");
    assert_eq!(number(row, "cost_nano"), reckoned(row));
}

#[tokio::test]
async fn a_stream_that_stalls_is_ended_and_billed_what_arrived() {
    let world = World::empty()
        .await
        .provider_with("one", "openai", "world", "idle_timeout_ms = 300")
        .model("mini", "one", "economy")
        .start()
        .await;
    world.vendor.plays("mini", [Script::words(20).ends(End::StallAfter(2))]);
    let stream = world.stream(ask("mini", "Hello")).await.whole().await;
    assert!(stream.error().is_some());
    let row = &world.rows(1).await[0];
    assert_row(row, json!({ "ending": "stalled", "flags": ["estimated"] }));
    assert_eq!(number(row, "cost_nano"), reckoned(row));
    let seen = &world.vendor.seen()[0];
    assert!(seen.dropped_within(Duration::from_secs(2)).await.is_some());
}

#[tokio::test]
async fn an_attempt_that_fails_before_its_first_token_costs_nothing() {
    let endings = [End::Status(500), End::Status(429), End::CutAfter(0), End::Status(529)];
    for end in endings {
        let world = World::usual().await.start().await;
        world.vendor.plays("mini", [Script::words(5).ends(end).retry_after("0"), Script::words(2)]);
        let stream = world.stream(ask("mini", "Hello")).await.whole().await;
        if stream.text().is_empty() {
            // A cut is not tried again at the same place, and there is no other.
            assert!(matches!(end, End::CutAfter(0)), "{end:?}: {:?}", stream.events);
        }
        let rows = world.rows(1).await;
        assert_row(&rows[0], json!({ "attempt": 1, "cost_nano": 0 }));
        assert_ne!(rows[0]["ending"], "complete");
        if let Some(second) = rows.get(1) {
            assert_row(second, json!({ "attempt": 2, "reason": "retry", "ending": "complete" }));
        }
    }
}

#[tokio::test]
async fn a_whole_answer_that_never_arrived_costs_nothing_and_is_flagged() {
    let world = World::usual().await.start().await;
    world.vendor.plays("mini", [Script::words(5).ends(End::CutAfter(0))]);
    let reply = world.chat(ask("mini", "Hello")).await;
    assert!(matches!(reply.status, 502..=504), "{}", reply.body);
    let rows = world.rows(1).await;
    assert_row(&rows[0], json!({ "cost_nano": 0, "ending": "cut" }));
    assert!(flags(&rows[0]).contains(&"unknown"), "{:#}", rows[0]);
}

#[tokio::test]
async fn a_malformed_whole_answer_is_an_upstream_error_and_fails_over() {
    let world = World::usual()
        .await
        .model("other", "one", "economy")
        .policy("default", "fixed", &["mini", "other"], "")
        .start()
        .await;
    world.vendor.plays("mini", [Script::words(5).ends(End::Malformed(0))]);
    let reply = world.chat(ask("auto", "Hello")).await.expect(200);
    assert_eq!(reply.header("x-stellwerk-model"), Some("other"));
    let rows = world.rows(2).await;
    assert_row(&rows[0], json!({ "cost_nano": 0, "ending": "malformed", "model": "mini" }));
    assert_row(&rows[1], json!({ "reason": "failover", "ending": "complete" }));

    let alone = world.chat(ask("mini", "Hello")).await;
    assert!(matches!(alone.status, 502 | 503), "{}", alone.body);
    assert!(!alone.body.to_string().contains("this is"), "the vendor's body is not shown");
}

#[tokio::test]
async fn a_stream_that_turns_malformed_bills_the_text_that_arrived() {
    let world = World::usual().await.start().await;
    world.vendor.plays("mini", [Script::words(9).ends(End::Malformed(2))]);
    let stream = world.stream(ask("mini", "Hello")).await.whole().await;
    assert!(stream.error().is_some());
    let row = &world.rows(1).await[0];
    assert_row(row, json!({ "ending": "malformed", "flags": ["estimated"] }));
    assert!((2..=8).contains(&number(row, "output_tokens")), "{row:#}");
    assert_eq!(number(row, "cost_nano"), reckoned(row));
}

#[tokio::test]
async fn an_error_inside_a_success_is_never_an_answer() {
    let world = World::usual().await.start().await;
    world.vendor.plays("mini", [Script::words(5).ends(End::ErrorInSuccess)]);
    let whole = world.chat(ask("mini", "Hello")).await;
    assert!(matches!(whole.status, 502 | 503), "{}", whole.body);
    let stream = world.stream(ask("mini", "Hello")).await.whole().await;
    assert!(stream.error().is_some());
    assert!(stream.finishes().is_empty());
    assert!(!stream.done);
    let shown = format!("{:?}{}", stream.events, whole.body);
    assert!(!shown.contains("GEHEIM-VENDOR"), "{shown}");
}

#[tokio::test]
async fn an_empty_answer_with_usage_takes_the_usage() {
    let world = World::usual().await.start().await;
    world.vendor.plays("mini", [Script::words(0).uses(9, 4)]);
    world.chat(ask("mini", "Hello")).await.expect(200);
    let row = &world.rows(1).await[0];
    assert_row(
        row,
        json!({ "ending": "complete", "flags": [], "cost_nano": 9 * INPUT + 4 * OUTPUT }),
    );
}

#[tokio::test]
async fn a_second_attempt_that_does_not_fit_ends_with_402_and_the_first_stays_booked() {
    let dear = "input_per_million = \"1\"\noutput_per_million = \"1000\"\nprice_currency = \"EUR\"";
    let world = World::usual()
        .await
        .model_with("dear", "one", "premium", dear)
        .policy("default", "fixed", &["mini", "dear"], "")
        .quiet();
    // Enough for the hold at `mini`, not for that at `dear`.
    world.set_budget("company", 50_000_000);
    let mut world = world;
    world.serve().await;
    world.vendor.plays("mini", [Script::words(20).ends(End::CutAfter(2))]);
    let stream = world.stream(ask("auto", "Hello")).await.whole().await;
    let error = stream.error().expect("the stream ends with an error");
    assert_eq!(error["code"], "budget_exceeded", "{error}");
    let rows = world.rows(1).await;
    assert_eq!(rows.len(), 1);
    assert!(number(&rows[0], "cost_nano") > 0);
    assert!(world.vendor.seen_by("dear").is_empty());
}

#[tokio::test]
async fn several_answers_hold_several_output_limits() {
    let world = World::usual().await.start().await;
    world.set_budget("company", 1_000_000_000_000);
    tokio::time::sleep(TAKES_EFFECT).await;
    world.vendor.plays("mini", [Script::words(2).gated_whole()]);
    let mut question = ask("mini", "Hello");
    let one = tokio::spawn(world.post("/v1/chat/completions", &world.key, &question).send());
    world.vendor.wait_for_calls(1).await;
    let single = number(&world.budget("company"), "held_nano");
    question["n"] = json!(3);
    let three = tokio::spawn(world.post("/v1/chat/completions", &world.key, &question).send());
    world.vendor.wait_for_calls(2).await;
    let both = number(&world.budget("company"), "held_nano");
    assert_eq!(both - single, single + 2 * 100 * OUTPUT);
    world.vendor.open();
    for call in [one, three] {
        let answered = call.await.expect("no panic").expect("an answer");
        assert_eq!(answered.status(), 200);
    }
}

#[tokio::test]
async fn an_answer_without_a_limit_of_its_own_is_bounded_by_the_policys() {
    let world = World::usual().await.start().await;
    let question = json!({ "model": "mini", "messages": [{ "role": "user", "content": "Hi" }] });
    world.chat(question).await.expect(200);
    let body = &world.vendor.seen()[0].body;
    let limit = body.get("max_tokens").or_else(|| body.get("max_completion_tokens"));
    assert_eq!(limit, Some(&json!(2048)), "the hold must be a bound: {body}");
}

#[tokio::test]
async fn a_model_without_a_price_cannot_be_called() {
    let world = World::usual().await.quiet();
    let mystery = "[[model]]\nid = \"mystery\"\nprovider = \"one\"\nname = \"mystery\"\n";
    world.write("stellwerk.toml", &format!("{}{mystery}", world.configuration()));
    let checked = world.cli(["check"]).exits(1);
    assert!(format!("{}{}", checked.stdout, checked.stderr).contains("mystery"));
    let refused = world.cli(["serve"]);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
}

#[tokio::test]
async fn embeddings_are_held_settled_and_booked() {
    let more = "kind = \"embedding\"\ninput_per_million = \"0.1\"\noutput_per_million = \"0\"\n\
                price_currency = \"EUR\"";
    let world = World::usual().await.model_with("vectors", "one", "economy", more).start().await;
    world.vendor.plays("vectors", [Script::words(0).uses(6, 0)]);
    let body = json!({ "model": "vectors", "input": ["Gleis", "Weiche"] });
    let response = world.post("/v1/embeddings", &world.key, &body).send().await;
    let reply = Reply::read(response.expect("an answer")).await.expect(200);
    assert_eq!(reply.body["data"].as_array().map(Vec::len), Some(2));
    let row = &world.rows(1).await[0];
    assert_row(
        row,
        json!({ "input_tokens": 6, "output_tokens": 0, "cost_nano": 600, "ending": "complete" }),
    );
}

#[tokio::test]
async fn sums_of_rows_and_budgets_agree_after_many_parallel_calls() {
    let world = World::usual().await.start().await;
    world.set_budget("company", 1_000_000_000_000);
    world.set_budget("department:sales", 1_000_000_000_000);
    let key = world.new_key("person:anna", &[]);
    tokio::time::sleep(TAKES_EFFECT).await;
    let mut calls = JoinSet::new();
    for number in 0..100_u64 {
        world.vendor.plays("mini", [Script::words(3).uses(10, 3)]);
        let key = if number % 2 == 0 { &key } else { &world.key };
        calls.spawn(send(&world, key, &ask("mini", "Hello"), number % 3 == 0));
    }
    while let Some(answered) = calls.join_next().await {
        answered.expect("no panic").expect(200);
    }
    let rows = world.rows(100).await;
    assert_eq!(rows.len(), 100);
    let each = 10 * INPUT + 3 * OUTPUT;
    assert_eq!(number(&world.budget("company"), "spent_nano"), 100 * each);
    assert_eq!(number(&world.budget("department:sales"), "spent_nano"), 50 * each);
    let held = eventually(Duration::from_secs(2), "nothing stays held", || {
        let held = number(&world.budget("company"), "held_nano");
        std::future::ready(if held == 0 { Ok(held) } else { Err(held.to_string()) })
    });
    held.await;
}
