//! An upstream that nobody here wrote: aimock, from npm, in the dialects of three vendors.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use stellwerk_tests::World;
use stellwerk_tests::world::ask;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Where `cargo xtask test` installed it.
fn program() -> PathBuf {
    let folder = std::env::var_os("STELLWERK_TEST_NODE");
    let folder = folder.expect("STELLWERK_TEST_NODE; `cargo xtask test upstream` sets it");
    Path::new(&folder).join("node_modules/@copilotkit/aimock/dist/cli.js")
}

/// A running aimock and its address. It ends with the test.
async fn aimock() -> (Child, String) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("node/fixtures.json");
    let mut command = Command::new("node");
    command.arg(program()).args(["--port", "0", "--strict", "--fixtures"]).arg(fixtures);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().expect("node starts");
    let mut lines = BufReader::new(child.stdout.take().expect("its stdout")).lines();
    let address = tokio::time::timeout(Duration::from_secs(20), async {
        while let Some(line) = lines.next_line().await.expect("its words") {
            if let Some((_, address)) = line.split_once("listening on ") {
                return address.trim().to_owned();
            }
        }
        panic!("aimock ended");
    });
    let address = address.await.expect("aimock listens");
    // Whatever it says later is read away, so that it never waits for us.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, address)
}

async fn dialect(kind: &str) {
    let (_aimock, address) = aimock().await;
    let path = if kind == "openai" { "/v1" } else { "" };
    let providers = format!(
        "[[provider]]\nid = \"aimock\"\nkind = \"{kind}\"\nbase_url = \"{address}{path}\"\n\
         api_key = \"mock\"\nzone = \"world\"\n"
    );
    let builder = World::empty().await.section(&providers);
    let world = builder.model("mini", "aimock", "economy").start().await;

    let whole = world.chat(ask("mini", "Was ist eine Weiche?")).await.expect(200);
    let expected = "Eine Weiche lenkt den Zug auf ein anderes Gleis, ohne dass er anhalten muss.";
    assert_eq!(whole.text(), expected, "{}", whole.body);
    let stream = world.stream(ask("mini", "Was ist eine Weiche?")).await.whole().await;
    assert_eq!(stream.text(), expected, "{:?}", stream.events);
    assert_eq!(stream.finishes(), ["stop"]);
    assert!(stream.done && stream.clean);

    let mut question = ask("mini", "Wie ist das Wetter?");
    question["tools"] = json!([{
        "type": "function",
        "function": { "name": "weather", "parameters": { "type": "object" } },
    }]);
    let called = world.chat(question).await.expect(200);
    let call = called.body.pointer("/choices/0/message/tool_calls/0/function");
    assert_eq!(call.and_then(|call| call["name"].as_str()), Some("weather"), "{}", called.body);
    let arguments = call.and_then(|call| call["arguments"].as_str()).unwrap_or_default();
    let arguments: Value = serde_json::from_str(arguments).unwrap_or_default();
    assert_eq!(arguments, json!({ "city": "Köln" }));
    for row in world.rows(3).await {
        assert_eq!(row["ending"], "complete", "{row:#}");
        assert!(row["output_tokens"].as_u64() > Some(0), "{row:#}");
    }
}

#[tokio::test]
async fn aimock_answers_in_openais_dialect() {
    dialect("openai").await;
}

#[tokio::test]
async fn aimock_answers_in_anthropics_dialect() {
    dialect("anthropic").await;
}

#[tokio::test]
async fn aimock_answers_in_geminis_dialect() {
    dialect("gemini").await;
}
