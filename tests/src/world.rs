//! The fixture: a folder, a configuration, a fake vendor and the real binary.
//!
//! [`World::usual`] gives a company with one OpenAI-like vendor and the model `mini`, classification
//! and guards off, so that a test adds only what it is about. Prices are one euro for a million
//! input tokens and ten for a million output tokens unless a test says otherwise.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Reply, Stream, client, eventually};
use crate::vendor::{REGION, Vendor};

/// How long a server may take to become ready on a machine that builds something beside it.
const READY_LIMIT: Duration = Duration::from_secs(20);

/// A little company: enough levels for every rule, no more people than needed.
pub const COMPANY: &str = r#"
[company]
id = "acme"
name = "Acme GmbH"

[[department]]
id = "sales"
name = "Sales"

[[team]]
id = "inside"
name = "Inside sales"
parent = "sales"

[[department]]
id = "engineering"
name = "Engineering"

[[person]]
id = "anna"
name = "Anna Berger"
email = "anna@acme.example"
parent = "inside"
groups = ["leads"]

[[person]]
id = "bert"
name = "Bert Kurz"
email = "bert@acme.example"
parent = "engineering"
"#;

/// What stands above the parts that a test names.
const HEAD: &str = r#"
[money]
currency = "EUR"
usd = "0.92"
time_zone = "Europe/Berlin"
"#;

/// Describes a world before it starts.
pub struct Builder {
    vendor: Vendor,
    providers: String,
    models: String,
    policies: String,
    rest: String,
    classify: &'static str,
    guard: &'static str,
    log: &'static str,
}

impl Builder {
    /// A further provider of the same vendor, in its dialect, one of
    /// [`KINDS`](crate::vendor::KINDS).
    pub fn provider(self, id: &str, kind: &str, zone: &str) -> Self {
        self.provider_with(id, kind, zone, "")
    }

    /// A provider with further keys; they may give another access, or another version.
    pub fn provider_with(mut self, id: &str, kind: &str, zone: &str, more: &str) -> Self {
        let url = self.vendor.base_url(kind);
        let access = match more.contains("access_key") {
            true => "",
            false => "api_key = \"geheim-vendor-key\"\n",
        };
        let needed = match kind {
            "azure" if !more.contains("api_version") => "api_version = \"2024-10-21\"\n".to_owned(),
            "bedrock" => format!("region = \"{REGION}\"\n"),
            _ => String::new(),
        };
        write!(
            self.providers,
            "\n[[provider]]\nid = \"{id}\"\nkind = \"{kind}\"\nbase_url = \"{url}\"\n\
             zone = \"{zone}\"\n{access}{needed}{more}\n"
        )
        .expect("a string takes everything");
        self
    }

    /// A model that is called the same at the vendor.
    pub fn model(self, id: &str, provider: &str, tier: &str) -> Self {
        self.model_with(id, provider, tier, "")
    }

    /// A model with further keys; they may give other prices.
    pub fn model_with(mut self, id: &str, provider: &str, tier: &str, more: &str) -> Self {
        let prices = if more.contains("price") || more.contains("per_million") {
            ""
        } else {
            "input_per_million = \"1\"\noutput_per_million = \"10\"\nprice_currency = \"EUR\"\n"
        };
        write!(
            self.models,
            "\n[[model]]\nid = \"{id}\"\nprovider = \"{provider}\"\nname = \"{id}\"\n\
             tier = \"{tier}\"\n{prices}{more}\n"
        )
        .expect("a string takes everything");
        self
    }

    /// A policy with further keys and rules.
    pub fn policy(mut self, id: &str, strategy: &str, models: &[&str], more: &str) -> Self {
        let models = json!(models);
        write!(
            self.policies,
            "\n[[policy]]\nid = \"{id}\"\nstrategy = \"{strategy}\"\nmodels = {models}\n{more}\n"
        )
        .expect("a string takes everything");
        self
    }

    /// The mode of the classifier; `off` unless said.
    pub fn classify(self, mode: &'static str) -> Self {
        Builder { classify: mode, ..self }
    }

    /// The lines of `[guard]`; everything off unless said.
    pub fn guard(self, guard: &'static str) -> Self {
        Builder { guard, ..self }
    }

    /// Further sections.
    pub fn section(mut self, text: &str) -> Self {
        self.rest.push_str(text);
        self.rest.push('\n');
        self
    }

    /// How much the server logs.
    pub fn log(self, level: &'static str) -> Self {
        Builder { log: level, ..self }
    }

    fn configuration(&self, listen: &str) -> String {
        let policies = if self.policies.is_empty() {
            "\n[[policy]]\nid = \"default\"\nstrategy = \"fixed\"\nmodels = [\"mini\"]\n"
        } else {
            &self.policies
        };
        format!(
            "[server]\nlisten = \"{listen}\"\n[store]\nurl = \"sqlite:data/stellwerk.db\"\n{HEAD}\n\
             [classify]\nmode = \"{}\"\n[guard]\n{}\n{}\n{}{}{policies}",
            self.classify, self.guard, self.rest, self.providers, self.models
        )
    }

    /// The world without its server: for commands.
    pub fn quiet(self) -> World {
        let folder = TempDir::new().expect("a temporary folder");
        let mut world = World {
            folder,
            vendor: self.vendor.clone(),
            builder: self,
            server: None,
            address: String::new(),
            key: String::new(),
            client: client(),
        };
        world.write_configuration("127.0.0.1:8750");
        world.write("company.toml", COMPANY);
        world.cli(["org", "import", "company.toml"]).success();
        world.key = world.new_key("company", &[]);
        world
    }

    /// The running world.
    pub async fn start(self) -> World {
        let mut world = self.quiet();
        world.serve().await;
        world
    }
}

/// A running world. It ends with the test.
pub struct World {
    /// The vendor.
    pub vendor: Vendor,
    /// A key that books on the company.
    pub key: String,
    folder: TempDir,
    builder: Builder,
    server: Option<Child>,
    address: String,
    client: reqwest::Client,
}

/// What a command said.
#[derive(Debug)]
pub struct Output {
    /// The exit code; `None`: a signal.
    pub code: Option<i32>,
    /// On stdout.
    pub stdout: String,
    /// On stderr.
    pub stderr: String,
}

impl Output {
    /// Asserts that it went well.
    #[track_caller]
    pub fn success(self) -> Self {
        self.exits(0)
    }

    /// Asserts the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Its stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.stdout))
    }
}

/// The program under test: what `cargo xtask test` built, else what lies beside this test.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("STELLWERK_TEST_BINARY") {
        return path.into();
    }
    let test = std::env::current_exe().expect("the path of this test");
    let folder = test.parent().and_then(Path::parent).expect("the folder of the build");
    let binary = folder.join(format!("stellwerk{}", std::env::consts::EXE_SUFFIX));
    assert!(binary.is_file(), "build the program first: cargo build --package stellwerk");
    binary
}

/// A command of the program, in this folder, without anything of the environment that could lead
/// it to a vendor or to another configuration.
pub fn command(folder: &Path) -> Command {
    let mut command = Command::new(binary());
    command.current_dir(folder).env_clear();
    for name in ["PATH", "SYSTEMROOT", "TMPDIR", "TEMP", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.env("HOME", folder).env("LANG", "C.UTF-8").stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().expect("the program starts");
    Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("the port").port()
}

impl World {
    /// An empty world with a vendor; nothing of the configuration is there yet.
    pub async fn empty() -> Builder {
        Builder {
            vendor: Vendor::start(),
            providers: String::new(),
            models: String::new(),
            policies: String::new(),
            rest: String::new(),
            classify: "off",
            guard: "pii = \"off\"\ninjection = \"off\"",
            log: "info",
        }
    }

    /// The usual world: the provider `one`, anywhere, quick to retry, with the model `mini`.
    pub async fn usual() -> Builder {
        Self::empty().await.provider("one", "openai", "world").model("mini", "one", "economy")
    }

    /// The folder of the configuration.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file beside the configuration.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder().join(name), text).expect("the temporary folder is writable");
    }

    /// The configuration as it stands.
    pub fn configuration(&self) -> String {
        std::fs::read_to_string(self.folder().join("stellwerk.toml")).expect("the configuration")
    }

    fn write_configuration(&self, listen: &str) {
        self.write("stellwerk.toml", &self.builder.configuration(listen));
    }

    /// Starts the server and waits until it is ready.
    pub async fn serve(&mut self) {
        // Another test may take the port between looking and listening; then another is taken.
        for _ in 0..5 {
            let listen = format!("127.0.0.1:{}", free_port());
            self.write_configuration(&listen);
            self.address = listen;
            self.server = Some(self.spawn());
            if self.becomes_ready().await {
                return;
            }
        }
        panic!("the server did not start:\n{}", self.log());
    }

    fn spawn(&self) -> Child {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder().join("server.log"))
            .expect("the log");
        let mut serve = command(self.folder());
        serve.args(["serve", "--config", "stellwerk.toml"]);
        serve.env("RUST_LOG", self.builder.log).env("STELLWERK_LOG", self.builder.log);
        serve.stdout(Stdio::null()).stderr(log);
        serve.spawn().expect("the program starts")
    }

    async fn becomes_ready(&mut self) -> bool {
        let started = Instant::now();
        let url = self.url("/readyz");
        while started.elapsed() < READY_LIMIT {
            if let Some(child) = &mut self.server
                && child.try_wait().expect("the state of the server").is_some()
            {
                return false;
            }
            let ready = self.client.get(&url).send().await;
            if ready.is_ok_and(|response| response.status() == 200) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    /// The process of the server.
    pub fn process(&self) -> u32 {
        self.server.as_ref().map(Child::id).expect("a running server")
    }

    /// Ends the server as a crash would.
    pub fn kill(&mut self) {
        let mut server = self.server.take().expect("a running server");
        server.kill().expect("the server can be killed");
        server.wait().expect("the server ends");
    }

    /// Asks the server to stop and gives its exit code.
    pub async fn stop(&mut self) -> Option<i32> {
        let mut server = self.server.take().expect("a running server");
        let asked = Command::new("kill").args(["-TERM", &server.id().to_string()]).status();
        assert!(asked.is_ok_and(|status| status.success()), "no signal could be sent");
        eventually(Duration::from_secs(20), "the server stops", || {
            let ended = server.try_wait().expect("the state of the server");
            std::future::ready(ended.ok_or_else(|| "it runs".to_owned()))
        })
        .await
        .code()
    }

    /// Everything that the server logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder().join("server.log")).unwrap_or_default()
    }

    /// An address of the server.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Where the server listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A command beside the running server.
    pub fn cli<const N: usize>(&self, words: [&str; N]) -> Output {
        self.cli_with(&words, None)
    }

    /// A command with something on its stdin.
    pub fn cli_with(&self, words: &[&str], stdin: Option<&str>) -> Output {
        let mut command = command(self.folder());
        command.args(words).args(["--config", "stellwerk.toml"]);
        if let Some(text) = stdin {
            let name = self.folder().join("stdin.txt");
            std::fs::write(&name, text).expect("the temporary folder is writable");
            command.stdin(std::fs::File::open(&name).expect("what was written"));
        }
        run(&mut command)
    }

    /// A new key on this node.
    pub fn new_key(&self, node: &str, more: &[&str]) -> String {
        self.new_key_with_id(node, more).1
    }

    /// The id of a new key, and the key.
    pub fn new_key_with_id(&self, node: &str, more: &[&str]) -> (String, String) {
        let mut words = vec!["key", "create", "--node", node, "--name", "test", "--json"];
        words.extend(more);
        let made = self.cli_with(&words, None).success().json();
        match (made["id"].as_str(), made["key"].as_str()) {
            (Some(id), Some(key)) => (id.to_owned(), key.to_owned()),
            _ => panic!("no key in {made}"),
        }
    }

    /// Sets a monthly budget in nanos.
    pub fn set_budget(&self, node: &str, nanos: i64) {
        let amount = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
        self.cli(["budget", "set", node, &amount, "--period", "month"]).success();
    }

    /// The budget of a node, as `budget show --json` tells it.
    pub fn budget(&self, node: &str) -> Value {
        let all = self.cli(["budget", "show", "--json"]).success().json();
        let found = all.as_array().and_then(|rows| rows.iter().find(|row| row["node"] == node));
        found.cloned().unwrap_or_else(|| panic!("no budget of {node} in {all}"))
    }

    /// Every row of the ledger.
    pub fn ledger(&self) -> Vec<Value> {
        let exported = self.cli(["ledger", "export", "--format", "jsonl"]).success();
        let rows = exported.stdout.lines().map(serde_json::from_str);
        rows.collect::<Result<_, _>>().expect("rows of JSON")
    }

    /// Waits until the ledger has so many rows.
    pub async fn rows(&self, count: usize) -> Vec<Value> {
        eventually(Duration::from_secs(10), "rows of the ledger", || {
            let rows = self.ledger();
            let enough = rows.len() >= count;
            std::future::ready(if enough { Ok(rows) } else { Err(format!("{rows:#?}")) })
        })
        .await
    }

    /// A request to a path with a key.
    pub fn post(&self, path: &str, key: &str, body: &Value) -> reqwest::RequestBuilder {
        self.client.post(self.url(path)).bearer_auth(key).json(body)
    }

    /// A request without a body.
    pub async fn get(&self, path: &str) -> Reply {
        let response = self.client.get(self.url(path)).bearer_auth(&self.key).send().await;
        Reply::read(response.expect("an answer")).await
    }

    /// A whole answer for this key.
    pub async fn chat_as(&self, key: &str, body: Value) -> Reply {
        let response = self.post("/v1/chat/completions", key, &body).send().await;
        Reply::read(response.expect("an answer")).await
    }

    /// A whole answer.
    pub async fn chat(&self, body: Value) -> Reply {
        self.chat_as(&self.key, body).await
    }

    /// A streamed answer for this key.
    pub async fn stream_as(&self, key: &str, mut body: Value) -> Stream {
        body["stream"] = json!(true);
        let response = self.post("/v1/chat/completions", key, &body).send().await;
        Stream::new(response.expect("an answer"))
    }

    /// A streamed answer.
    pub async fn stream(&self, body: Value) -> Stream {
        self.stream_as(&self.key, body).await
    }

    /// The client, for what is not covered above.
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().ok();
            server.wait().ok();
        }
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
    }
}

/// A question to a model, with an output limit so that its hold is known.
pub fn ask(model: &str, text: &str) -> Value {
    json!({
        "model": model,
        "max_tokens": 100,
        "messages": [{ "role": "user", "content": text }],
    })
}
