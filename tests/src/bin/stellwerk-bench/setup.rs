//! Starting what is measured: the vendor, and a Stellwerk with a company, budgets at four levels
//! and a key in a folder of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use stellwerk_tests::world::COMPANY;
use tempfile::TempDir;

use crate::load::Target;

/// A process that ends with its owner.
pub struct Process(Child);

impl Process {
    /// Its number.
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The running vendor.
pub struct Vendor {
    /// How to call it directly.
    pub target: Target,
    _process: Process,
}

impl Vendor {
    /// Starts it as a process of its own.
    pub fn start() -> Result<Self, String> {
        let this = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(this);
        let mut child = command
            .arg("vendor")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start the vendor: {error}"))?;
        let mut address = String::new();
        let stdout = child.stdout.take().ok_or("the vendor has no stdout")?;
        BufReader::new(stdout).read_line(&mut address).map_err(|error| error.to_string())?;
        let target = Target {
            address: address.trim().to_owned(),
            path: "/v1/chat/completions".to_owned(),
            key: "none".to_owned(),
            model: "bench".to_owned(),
        };
        Ok(Vendor { target, _process: Process(child) })
    }
}

/// How much of the walk runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walk {
    /// Classification and guards off; keys, holds, rows and metrics on.
    Accounting,
    /// Rule classification besides.
    Classify,
    /// And guards for personal data and attacks.
    Guards,
}

/// A running Stellwerk.
pub struct Gateway {
    /// How to call it.
    pub target: Target,
    /// From its start to its first 200 on `/readyz`.
    pub ready: Duration,
    binary: PathBuf,
    folder: TempDir,
    process: Process,
}

impl Gateway {
    /// Starts with an empty database.
    pub fn start(binary: &Path, vendor: &Vendor, walk: Walk) -> Result<Self, String> {
        let folder = TempDir::new().map_err(|error| error.to_string())?;
        let port = stellwerk_tests::world::free_port();
        let address = format!("127.0.0.1:{port}");
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).map_err(|error| error.to_string())
        };
        write("stellwerk.toml", &configuration(&address, &vendor.target.address, walk))?;
        write("company.toml", &format!("{COMPANY}{BUDGETS}"))?;
        command(binary, folder.path(), &["org", "import", "company.toml"])?;
        let key = ["key", "create", "--node", "person:anna", "--name", "bench"];
        let key = command(binary, folder.path(), &key)?;
        let started = Instant::now();
        let process = spawn(binary, folder.path())?;
        let ready = wait_until_ready(&address, started)?;
        let target = Target {
            address,
            path: "/v1/chat/completions".to_owned(),
            key: key.trim().to_owned(),
            model: "bench".to_owned(),
        };
        Ok(Gateway { target, ready, binary: binary.to_owned(), folder, process })
    }

    /// Resident memory in MB, as the kernel counts it.
    pub fn resident_mb(&self) -> Option<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: f64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        Some(kilobytes / 1024.0)
    }

    /// Rows of the ledger.
    pub fn rows(&self) -> Result<usize, String> {
        let words = ["ledger", "export", "--format", "jsonl"];
        Ok(command(&self.binary, self.folder.path(), &words)?.lines().count())
    }

    /// What the budgets say, as JSON.
    pub fn budgets(&self) -> Result<serde_json::Value, String> {
        let told = command(&self.binary, self.folder.path(), &["budget", "show", "--json"])?;
        serde_json::from_str(&told).map_err(|error| error.to_string())
    }
}

/// Budgets at four levels, so that every call is held at each of them.
const BUDGETS: &str = r#"
[[budget]]
node = "company"
amount = "1000000"
period = "month"
[[budget]]
node = "department:sales"
amount = "1000000"
period = "month"
[[budget]]
node = "team:inside"
amount = "1000000"
period = "month"
[[budget]]
node = "person:anna"
amount = "1000000"
period = "month"
"#;

fn configuration(listen: &str, vendor: &str, walk: Walk) -> String {
    let mode = if walk == Walk::Accounting { "off" } else { "rules" };
    let (pii, injection) = if walk == Walk::Guards { ("redact", "block") } else { ("off", "off") };
    // What is read of answers is a guard too.
    let output = match walk {
        Walk::Guards => "",
        Walk::Accounting | Walk::Classify => {
            "[guard.output]\npersonal = \"off\"\nsecrets = \"off\"\nsystem_prompt = \"off\"\nactive = \"off\""
        }
    };
    format!(
        r#"[server]
listen = "{listen}"
[store]
url = "sqlite:data/stellwerk.db"
[classify]
mode = "{mode}"
[guard]
pii = "{pii}"
injection = "{injection}"
{output}
[[provider]]
id = "vendor"
kind = "openai"
base_url = "http://{vendor}/v1"
api_key = "none"
zone = "local"
[[model]]
id = "bench"
provider = "vendor"
name = "bench"
tier = "economy"
input_per_million = "0.75"
output_per_million = "4.50"
price_currency = "USD"
[[policy]]
id = "default"
strategy = "fixed"
models = ["bench"]
"#
    )
}

fn base(binary: &Path, folder: &Path) -> Command {
    let mut command = Command::new(binary);
    command.current_dir(folder).env_clear().env("HOME", folder).stdin(Stdio::null());
    command
}

fn command(binary: &Path, folder: &Path, words: &[&str]) -> Result<String, String> {
    let output = base(binary, folder)
        .args(words)
        .args(["--config", "stellwerk.toml"])
        .output()
        .map_err(|error| format!("cannot start {}: {error}", binary.display()))?;
    if !output.status.success() {
        return Err(format!("{words:?}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    String::from_utf8(output.stdout).map_err(|error| error.to_string())
}

fn spawn(binary: &Path, folder: &Path) -> Result<Process, String> {
    let log =
        std::fs::File::create(folder.join("server.log")).map_err(|error| error.to_string())?;
    let mut serve = base(binary, folder);
    serve.args(["serve", "--config", "stellwerk.toml"]).stdout(Stdio::null()).stderr(log);
    serve.spawn().map(Process).map_err(|error| format!("cannot start the server: {error}"))
}

fn wait_until_ready(address: &str, started: Instant) -> Result<Duration, String> {
    use std::io::{Read, Write};
    while started.elapsed() < Duration::from_secs(20) {
        if let Ok(mut socket) = std::net::TcpStream::connect(address) {
            let ask = "GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            let mut answer = String::new();
            let asked = socket.write_all(ask.as_bytes());
            if asked.and_then(|()| socket.read_to_string(&mut answer)).is_ok()
                && answer.starts_with("HTTP/1.1 200")
            {
                return Ok(started.elapsed());
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err("the server did not become ready".to_owned())
}
