//! The fake vendor itself: what it plays is what a client reads.

use std::time::Duration;

use aws_smithy_eventstream::frame::{DecodedFrame, MessageFrameDecoder};
use serde_json::{Value, json};
use stellwerk_tests::client::{Reply, Stream, client};
use stellwerk_tests::vendor::{End, Script, Told, Vendor};

async fn ask(vendor: &Vendor, stream: bool) -> reqwest::Response {
    let url = format!("{}/chat/completions", vendor.base_url("openai"));
    let body = json!({ "model": "m", "stream": stream, "messages": [] });
    client().post(url).json(&body).send().await.expect("an answer")
}

#[tokio::test]
async fn a_script_is_played_whole_and_streamed() {
    let vendor = Vendor::start();
    vendor.plays("m", [Script::answer(["Hal", "lo"]).uses(7, 2)]);

    let whole = Reply::read(ask(&vendor, false).await).await;
    assert_eq!(whole.text(), "Hallo");
    assert_eq!(whole.body["usage"]["prompt_tokens"], 7);

    let stream = Stream::new(ask(&vendor, true).await).whole().await;
    assert_eq!(stream.text(), "Hallo");
    assert!(stream.done && stream.clean);
}

#[tokio::test]
async fn scripts_are_played_in_turn_and_the_last_again() {
    let vendor = Vendor::start();
    vendor.plays("m", [Script::status(429).retry_after("3"), Script::words(1)]);
    let statuses =
        [ask(&vendor, false).await, ask(&vendor, false).await, ask(&vendor, false).await]
            .map(|response| response.status().as_u16());
    assert_eq!(statuses, [429, 200, 200]);
}

#[tokio::test]
async fn a_cut_stream_is_a_broken_connection() {
    let vendor = Vendor::start();
    vendor.plays("m", [Script::words(5).ends(End::CutAfter(2))]);
    let stream = Stream::new(ask(&vendor, true).await).whole().await;
    assert_eq!(stream.text(), "w1 w2 ");
    assert!(!stream.clean && !stream.done);
}

#[tokio::test]
async fn leaving_early_is_seen_and_leaving_after_the_end_is_not() {
    let vendor = Vendor::start();
    vendor.plays("m", [Script::words(3).ends(End::StallAfter(1)), Script::words(1)]);
    let mut stream = Stream::new(ask(&vendor, true).await);
    assert_eq!(stream.next_text().await.as_deref(), Some("w1 "));
    drop(stream);
    let seen = &vendor.seen()[0];
    assert!(seen.dropped_within(Duration::from_secs(5)).await.is_some());

    Stream::new(ask(&vendor, true).await).whole().await;
    assert!(!vendor.seen()[1].was_dropped());
}

#[tokio::test]
async fn usage_can_be_missing() {
    let vendor = Vendor::start();
    vendor.plays("m", [Script::words(1).told(Told::Nothing)]);
    let whole = Reply::read(ask(&vendor, false).await).await;
    assert_eq!(whole.body.get("usage"), None::<&Value>);
}

/// The fake writes its frames by hand; what reads them here is AWS's own crate, so that the two
/// check each other.
#[tokio::test]
async fn bedrocks_frames_are_what_aws_own_crate_reads() {
    let vendor = Vendor::start();
    vendor.plays("m", [Script::answer(["Grü", "ße"]).uses(7, 2)]);
    let url = format!("{}/model/m/converse-stream", vendor.base_url("bedrock"));
    let request = client().post(url).bearer_auth("key").json(&json!({ "messages": [] }));
    let answer = request.send().await.expect("an answer").bytes().await.expect("a whole body");
    let mut frames = bytes::BytesMut::from(&answer[..]);
    let mut decoder = MessageFrameDecoder::new();
    let mut events: Vec<Value> = Vec::new();
    while let DecodedFrame::Complete(message) = decoder.decode_frame(&mut frames).expect("a frame")
    {
        events.push(serde_json::from_slice(message.payload()).expect("JSON"));
    }
    let text: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(text, "Grüße");
    let last = events.last().expect("an event");
    assert_eq!(last["usage"]["inputTokens"], 7, "{last}");
    assert!(frames.is_empty(), "nothing is left over");
}

#[tokio::test]
async fn who_shows_nothing_is_not_known_to_azure_and_bedrock() {
    let vendor = Vendor::start();
    let addresses = [
        ("azure", "openai/v1/chat/completions", 401_u16),
        ("azure", "openai/deployments/m/chat/completions?api-version=2024-10-21", 401),
        ("bedrock", "model/m/converse", 403),
    ];
    for (kind, path, status) in addresses {
        let url = format!("{}/{path}", vendor.base_url(kind));
        let answer = client().post(url).json(&json!({ "model": "m" })).send().await;
        assert_eq!(answer.expect("an answer").status(), status, "{kind}");
    }
    assert!(vendor.seen().is_empty());
}
