//! The command line: what it says, and with which exit code.

use serde_json::{Value, json};
use stellwerk_tests::World;
use stellwerk_tests::world::{command, run};
use tempfile::TempDir;

#[tokio::test]
async fn check_names_key_and_line_of_what_is_wrong() {
    let world = World::usual().await.quiet();
    world.cli(["check"]).success();
    let good = world.configuration();
    world.write("stellwerk.toml", &good.replace("tier = \"economy\"", "teir = \"economy\""));
    let output = world.cli(["check"]).exits(1);
    let said = format!("{}{}", output.stdout, output.stderr);
    assert!(said.contains("teir"), "{said}");
    let line = good.lines().position(|line| line.contains("tier =")).expect("the line") + 1;
    assert!(said.contains(&format!(":{line}")), "no line {line} in {said}");
}

#[tokio::test]
async fn check_says_not_yet_to_what_is_not_built() {
    let world = World::usual().await.quiet();
    let good = world.configuration();
    for strategy in ["ensemble", "dynamic"] {
        world.write("stellwerk.toml", &good.replace("\"fixed\"", &format!("\"{strategy}\"")));
        let output = world.cli(["check"]).exits(1);
        let said = format!("{}{}", output.stdout, output.stderr).to_lowercase();
        assert!(said.contains("not yet"), "{strategy}: {said}");
    }
}

#[tokio::test]
async fn commands_that_are_not_built_say_not_yet_and_exit_with_1() {
    let folder = TempDir::new().expect("a folder");
    let commands: [&[&str]; 7] = [
        &["knowledge", "search", "text", "--as", "anna"],
        &["models", "impact", "mini"],
        &["models", "pause", "mini", "--reason", "x"],
        &["privacy", "rules"],
        &["audit", "verify"],
        &["backup", "file"],
        &["restore", "file"],
    ];
    for words in commands {
        let output = run(command(folder.path()).args(words));
        assert_eq!(output.code, Some(1), "{words:?}: {}", output.stderr);
        let said = output.stderr.to_lowercase();
        assert!(said.contains("not yet") || said.contains("noch nicht"), "{words:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ask_streams_an_answer_and_explains_it() {
    let world = World::usual().await.quiet();
    let plain = world.cli(["ask", "Was ist eine Weiche?"]).success();
    assert_eq!(plain.stdout.trim(), "Eine Weiche stellt das Gleis.");
    let explained = world.cli(["ask", "Was ist eine Weiche?", "--explain"]).success();
    let said = format!("{}{}", explained.stdout, explained.stderr);
    assert!(said.contains("mini") && said.contains("0.0000"), "{said}");
    let told = world.cli(["ask", "Was ist eine Weiche?", "--json"]).success().json();
    assert_eq!(told["answer"], "Eine Weiche stellt das Gleis.");
    assert_eq!(told["model"], "mini");
    assert_eq!(told["cost"], "0.000060000");
    let rows = world.ledger();
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row["channel"] == "cli" && row["node"] == "company"));

    world.cli(["ask", "Hello", "--as", "anna"]).success();
    assert_eq!(world.ledger()[3]["person"], "anna");
    world.cli(["ask", "Hello", "--as", "nobody"]).exits(1);
    world.cli(["ask", "Hello", "--model", "nothing"]).exits(1);
}

#[tokio::test]
async fn a_classifier_of_ones_own_is_trained_tried_and_used_in_a_rule() {
    let world = World::usual().await.quiet();
    let lines: String = (0..60)
        .map(|n| {
            let (label, text) =
                [("refund", "Geld zurück bitte"), ("delivery", "wo bleibt mein Paket")][n % 2];
            format!("{}\n", json!({ "text": format!("{text} {n}"), "label": label }))
        })
        .collect();
    world.write("tickets.jsonl", &lines);
    let trained =
        world.cli(["train", "--data", "tickets.jsonl", "--out", "support", "--json"]).success();
    let scores: Value = serde_json::from_str(&trained.stdout).expect("JSON");
    assert!(scores["accuracy"].as_f64().is_some_and(|share| share > 0.9), "{scores}");
    let tried =
        world.cli(["classify", "--classifier", "support", "Geld zurück bitte 99"]).success();
    let row: Value = serde_json::from_str(&tried.stdout).expect("JSON");
    assert_eq!(row["custom"]["label"], "refund");
    let wrong = world.cli(["classify", "--classifier", "nowhere", "x"]).exits(1);
    assert!(wrong.stderr.contains("stellwerk train"), "{}", wrong.stderr);
}

#[tokio::test]
async fn classify_needs_no_configuration_and_gives_every_field() {
    let folder = TempDir::new().expect("a folder");
    let input = folder.path().join("in.jsonl");
    let lines = [
        json!({ "id": "1", "text": "Übersetze das bitte ins Englische: Guten Morgen" }),
        json!({ "id": "2", "text": "Ruf mich an: 😀 +49 30 901820" }),
    ];
    std::fs::write(&input, format!("{}\n{}\n", lines[0], lines[1])).expect("a writable folder");
    let mut classify = command(folder.path());
    classify.args(["classify", "--jsonl"]);
    classify.stdin(std::fs::File::open(&input).expect("what was written"));
    let output = run(&mut classify).success();
    let rows: Vec<Value> = output
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    assert_eq!(rows.len(), 2);
    let fields = [
        "id",
        "task",
        "task_confidence",
        "complexity",
        "sensitivity",
        "injection",
        "language",
        "pii",
        "stage",
        "micros",
        "domain",
    ];
    for row in &rows {
        for field in fields {
            assert!(row.get(field).is_some(), "{field} is missing in {row}");
        }
    }
    assert_eq!(rows[0]["task"], "translation");
    assert_eq!(rows[0]["language"], "de");
    // Offsets count characters, not bytes.
    let phone = &rows[1]["pii"][0];
    assert_eq!(phone["kind"], "PHONE", "{}", rows[1]);
    let text: Vec<char> = "Ruf mich an: 😀 +49 30 901820".chars().collect();
    let (start, end) = (phone["start"].as_u64(), phone["end"].as_u64());
    let cut = start.zip(end).map(|(start, end)| &text[start as usize..end as usize]);
    let cut: String = cut.unwrap_or_default().iter().collect();
    assert_eq!(phone["text"], cut);
}

#[tokio::test]
async fn route_decides_without_calling() {
    let world = World::usual()
        .await
        .model("other", "one", "premium")
        .policy("default", "fixed", &["mini", "other"], "")
        .quiet();
    let lines = format!("{}\n", json!({ "id": "a", "text": "Hello", "as": "anna" }));
    let output = world.cli_with(&["route", "--jsonl"], Some(&lines)).success();
    let row: Value = serde_json::from_str(output.stdout.trim()).expect("a line of JSON");
    assert_eq!(row["id"], "a");
    assert_eq!(row["decision"], json!(["mini", "other"]));
    assert!(row["reasons"].is_array());
    assert!(world.vendor.seen().is_empty());
}

#[tokio::test]
async fn an_import_twice_changes_nothing() {
    let world = World::usual().await.quiet();
    world.set_budget("department:sales", 5_000_000_000);
    let before = world.cli(["org", "show", "--json"]).success().stdout;
    world.cli(["org", "import", "company.toml"]).success();
    assert_eq!(world.cli(["org", "show", "--json"]).success().stdout, before);
    let budget = world.budget("department:sales");
    assert_eq!(budget["limit_nano"], 5_000_000_000_i64);
    assert_eq!((&budget["spent_nano"], &budget["soft"]), (&json!(0), &json!(false)));
    for field in ["period", "held_nano", "left_nano", "renews_at"] {
        assert!(budget.get(field).is_some(), "{field} is missing in {budget}");
    }
}

#[tokio::test]
async fn nodes_and_amounts_that_make_no_sense_are_refused() {
    let world = World::usual().await.quiet();
    let wrong = [
        ["budget", "set", "department:nowhere", "5", "--period", "month"],
        ["budget", "set", "the-company", "5", "--period", "month"],
        ["budget", "set", "company", "five", "--period", "month"],
        ["budget", "set", "company", "-5", "--period", "month"],
        ["budget", "set", "company", "1.0000000001", "--period", "month"],
        ["budget", "set", "company", "5", "--period", "fortnight"],
    ];
    for words in wrong {
        let output = world.cli(words);
        assert_eq!(output.code, Some(1), "{words:?}: {}{}", output.stdout, output.stderr);
    }
}

#[tokio::test]
async fn a_key_is_shown_once_and_kept_as_a_hash() {
    let world = World::usual().await.quiet();
    let made = world
        .cli(["key", "create", "--node", "person:anna", "--name", "laptop", "--json"])
        .success()
        .json();
    let key = made["key"].as_str().expect("a key").to_owned();
    assert_eq!(made["node"], "person:anna");
    assert_eq!(made["name"], "laptop");
    assert!(made.get("use_case").is_some());
    let listed = world.cli(["key", "list", "--json"]).success().stdout;
    assert!(listed.contains("laptop") && !listed.contains(&key));
    let alone = world.cli(["key", "create", "--node", "company", "--name", "bare"]).success();
    assert_eq!(alone.stdout.lines().count(), 1, "without --json the key alone is on stdout");
    for entry in std::fs::read_dir(world.folder().join("data")).expect("the data folder") {
        let bytes = std::fs::read(entry.expect("an entry").path()).unwrap_or_default();
        let found = bytes.windows(key.len()).any(|window| window == key.as_bytes());
        assert!(!found, "the key itself is in the database");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_come_in_three_shapes() {
    let world = World::usual().await.quiet();
    world.cli(["ask", "Hello"]).success();
    for (format, head) in [("csv", "time"), ("focus", "BilledCost")] {
        let output = world.cli(["ledger", "export", "--format", format]).success();
        let first = output.stdout.lines().next().unwrap_or_default();
        assert!(first.contains(head), "{format}: {first}");
        assert!(output.stdout.lines().count() >= 2, "{format}");
    }
    let none = world.cli(["ledger", "export", "--format", "jsonl", "--to", "2001-01-01"]).success();
    assert_eq!(none.stdout, "");
}

#[tokio::test]
async fn the_demo_starts_in_an_empty_folder_and_its_curl_works() {
    let folder = TempDir::new().expect("a folder");
    let port = stellwerk_tests::world::free_port();
    let listen = format!("127.0.0.1:{port}");
    let log = folder.path().join("demo.log");
    let mut serve = command(folder.path());
    serve.args(["serve", "--demo", "--listen", &listen]);
    let file = std::fs::File::create(&log).expect("the log");
    serve.stdout(file.try_clone().expect("the log")).stderr(file);
    // Keys of vendors in the environment are not the demo's business.
    serve.env("OPENAI_API_KEY", "sk-not-to-be-used");
    let mut child = serve.spawn().expect("the program starts");
    let said = stellwerk_tests::client::eventually(
        std::time::Duration::from_secs(20),
        "the demo prints its curl",
        || {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let ready = said.contains("curl") && said.contains("Bearer ");
            std::future::ready(if ready { Ok(said) } else { Err(said) })
        },
    )
    .await;
    let after = said.split("Bearer ").nth(1).unwrap_or_default();
    let key: String =
        after.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
    let client = stellwerk_tests::client::client();
    let body = json!({ "model": "auto", "messages": [{ "role": "user", "content": "Hallo" }] });
    let url = format!("http://{listen}/v1/chat/completions");
    let answered = stellwerk_tests::client::eventually(
        std::time::Duration::from_secs(20),
        "the demo answers",
        || async {
            let sent = client.post(&url).bearer_auth(&key).json(&body).send().await;
            sent.map_err(|error| error.to_string())
        },
    )
    .await;
    let reply = stellwerk_tests::Reply::read(answered).await;
    let asked = run(command(folder.path()).args(["ask", "Was ist eine Weiche?", "--explain"]));
    let shown = run(command(folder.path()).args(["budget", "show", "--json"]));
    child.kill().ok();
    child.wait().ok();
    let reply = reply.expect(200);
    assert!(reply.text().to_lowercase().contains("simul"), "{}", reply.text());
    asked.success();
    assert!(folder.path().join("stellwerk-data/stellwerk.toml").is_file());
    let budgets = shown.success().json();
    let spent =
        budgets.as_array().into_iter().flatten().any(|row| row["spent_nano"].as_i64() > Some(0));
    assert!(spent, "{budgets}");
}

#[tokio::test]
async fn without_a_provider_serve_says_the_way_out() {
    let folder = TempDir::new().expect("a folder");
    let output = run(command(folder.path()).arg("serve"));
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert!(output.stderr.contains("--demo") || output.stderr.contains("_API_KEY"));
}
