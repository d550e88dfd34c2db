//! The measurements and their table.
//!
//! Latency is taken on one connection, throughput on several; direct calls and calls through the
//! gateway take turns, and each figure is the median of its rounds.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::load::{Measured, Target, Until, percentile, run as load, sorted};
use crate::setup::{Gateway, Vendor, Walk};

/// What was asked for.
struct Options {
    binary: PathBuf,
    rounds: usize,
    connections: usize,
    seconds: f64,
    total_calls: usize,
    wrk: bool,
    others: Vec<Target>,
}

/// Reads the arguments, measures, prints.
pub async fn run(words: &[String]) -> Result<(), String> {
    let options = options(words)?;
    let vendor = Vendor::start()?;
    println!("| | direct | through Stellwerk | added / ratio |\n|---|---|---|---|");
    accounting(&options, &vendor).await?;
    streaming(&options, &vendor).await?;
    deeper_walks(&options, &vendor).await?;
    for other in &options.others {
        other_gateway(&options, &vendor, other).await?;
    }
    Ok(())
}

fn options(words: &[String]) -> Result<Options, String> {
    let mut words = words.iter();
    let binary = words.next().ok_or("which binary is measured?")?.into();
    let mut options = Options {
        binary,
        rounds: 5,
        connections: 16,
        seconds: 3.0,
        total_calls: 100_000,
        wrk: false,
        others: Vec::new(),
    };
    let (mut key, mut model) = (String::new(), "bench".to_owned());
    while let Some(word) = words.next() {
        let mut value = || words.next().cloned().ok_or(format!("{word} needs a value"));
        let number = |text: String| text.parse::<f64>().map_err(|_| format!("{word}: {text}?"));
        match word.as_str() {
            "--rounds" => options.rounds = number(value()?)? as usize,
            "--connections" => options.connections = number(value()?)? as usize,
            "--seconds" => options.seconds = number(value()?)?,
            "--calls" => options.total_calls = number(value()?)? as usize,
            "--wrk" => options.wrk = true,
            "--key" => key = value()?,
            "--model" => model = value()?,
            "--gateway" => {
                let other = other(&value()?, &key, &model)?;
                options.others.push(other);
            }
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(options)
}

/// `http://host:port[/base]`, with the key and model given before it.
fn other(url: &str, key: &str, model: &str) -> Result<Target, String> {
    let rest = url.strip_prefix("http://").ok_or("only http:// gateways can be measured")?;
    let (address, base) = rest.split_once('/').unwrap_or((rest, "v1"));
    Ok(Target {
        address: address.to_owned(),
        path: format!("/{}/chat/completions", base.trim_matches('/')),
        key: key.to_owned(),
        model: model.to_owned(),
    })
}

/// Latency and throughput of two places, taken in turns.
struct Pair {
    latency: [Vec<Measured>; 2],
    throughput: [Vec<Measured>; 2],
}

async fn in_turns(options: &Options, targets: [&Target; 2]) -> Result<Pair, String> {
    let mut pair = Pair { latency: Default::default(), throughput: Default::default() };
    let time = Until::Time(Duration::from_secs_f64(options.seconds));
    for target in targets {
        // Connections, caches and branch predictors are warm before anything counts.
        load(target, options.connections, Until::Calls(2000), false).await?;
    }
    for _ in 0..options.rounds {
        for (place, target) in targets.into_iter().enumerate() {
            pair.latency[place].push(load(target, 1, time, false).await?);
        }
        for (place, target) in targets.into_iter().enumerate() {
            pair.throughput[place].push(load(target, options.connections, time, false).await?);
        }
    }
    Ok(pair)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

fn millis(rounds: &[Measured], share: f64) -> f64 {
    let each = rounds.iter().map(|round| percentile(&round.durations(), share).as_secs_f64() * 1e3);
    median(each.collect())
}

fn rate(rounds: &[Measured]) -> f64 {
    median(rounds.iter().map(Measured::rate).collect())
}

fn answered(rounds: &[Measured]) -> usize {
    rounds.iter().map(|round| round.calls.len()).sum()
}

fn print_pair(name: &str, pair: &Pair) {
    let [direct, through] = &pair.latency;
    for (word, share) in [("p50", 0.5), ("p99", 0.99)] {
        let (before, after) = (millis(direct, share), millis(through, share));
        println!(
            "| {name}: one call at a time, {word} | {before:.3} ms | {after:.3} ms | +{:.3} ms |",
            after - before
        );
    }
    let [direct, through] = &pair.throughput;
    let (before, after) = (rate(direct), rate(through));
    println!(
        "| {name}: calls a second | {before:.0} | {after:.0} | {:.3} of direct |",
        after / before
    );
}

async fn accounting(options: &Options, vendor: &Vendor) -> Result<(), String> {
    let gateway = Gateway::start(&options.binary, vendor, Walk::Accounting)?;
    let pair = in_turns(options, [&vendor.target, &gateway.target]).await?;
    print_pair("accounting", &pair);
    if options.wrk {
        wrk(&vendor.target, &gateway.target, options.connections)?;
    }
    // The warm-up's calls have rows too.
    let mut calls = answered(&pair.latency[1]) + answered(&pair.throughput[1]) + 2000;
    let refused: usize =
        pair.latency[1].iter().chain(&pair.throughput[1]).map(|round| round.refused).sum();
    let missing = options.total_calls.saturating_sub(calls);
    let rest = load(&gateway.target, options.connections, Until::Calls(missing), false).await?;
    calls += rest.calls.len();
    let resident = gateway.resident_mb().map_or("unknown".to_owned(), |mb| format!("{mb:.1} MB"));
    println!("| resident after {calls} calls | | {resident} | |");
    println!("| from start to ready | | {:.0} ms | |", gateway.ready.as_secs_f64() * 1e3);
    if !options.wrk {
        let rows = gateway.rows()?;
        let lost = calls as i64 - rows as i64;
        println!("| rows of the ledger | {calls} calls | {rows} rows | {lost} lost |");
    }
    let refused = refused + rest.refused;
    println!("| refused or failed calls | | {refused} | |");
    let budgets = gateway.budgets()?;
    let levels = budgets.as_array().map_or(0, Vec::len);
    println!("| levels held and settled for each call | | {levels} | |");
    Ok(())
}

async fn streaming(options: &Options, vendor: &Vendor) -> Result<(), String> {
    let gateway = Gateway::start(&options.binary, vendor, Walk::Accounting)?;
    let targets = [&vendor.target, &gateway.target];
    let mut taken: [Vec<Measured>; 2] = Default::default();
    for target in targets {
        load(target, 1, Until::Calls(20), true).await?;
    }
    for _ in 0..options.rounds {
        for (place, target) in targets.into_iter().enumerate() {
            taken[place].push(load(target, 1, Until::Calls(60), true).await?);
        }
    }
    let first = |rounds: &[Measured]| {
        let each = rounds.iter().map(|round| {
            let firsts = sorted(round.calls.iter().filter_map(|call| call.first));
            percentile(&firsts, 0.5).as_secs_f64() * 1e3
        });
        median(each.collect())
    };
    let piece = |rounds: &[Measured], share: f64| {
        let each = rounds.iter().map(|round| {
            // The first piece carries the call's own work; the others show the way alone.
            let pieces = round.calls.iter().flat_map(|call| call.pieces.iter().skip(1).copied());
            percentile(&sorted(pieces), share).as_secs_f64() * 1e6
        });
        median(each.collect())
    };
    let [direct, through] = &taken;
    let (before, after) = (first(direct), first(through));
    println!(
        "| streaming: to the first token, p50 | {before:.3} ms | {after:.3} ms | +{:.3} ms |",
        after - before
    );
    for (word, share) in [("p50", 0.5), ("p99", 0.99)] {
        let (before, after) = (piece(direct, share), piece(through, share));
        println!(
            "| streaming: each further piece, {word} | {before:.0} µs | {after:.0} µs | +{:.0} µs |",
            after - before
        );
    }
    Ok(())
}

async fn deeper_walks(options: &Options, vendor: &Vendor) -> Result<(), String> {
    let walks = [(Walk::Classify, "with rule classification"), (Walk::Guards, "and with guards")];
    for (walk, name) in walks {
        let gateway = Gateway::start(&options.binary, vendor, walk)?;
        let pair = in_turns(options, [&vendor.target, &gateway.target]).await?;
        print_pair(name, &pair);
    }
    Ok(())
}

async fn other_gateway(options: &Options, vendor: &Vendor, other: &Target) -> Result<(), String> {
    let pair = in_turns(options, [&vendor.target, other]).await?;
    print_pair(&other.address, &pair);
    Ok(())
}

/// The same by wrk, which others measure with.
fn wrk(direct: &Target, through: &Target, connections: usize) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    for (name, target) in [("direct", direct), ("through", through)] {
        let script = folder.path().join("post.lua");
        let prompt = vec!["word"; 60].join(" ");
        let body = serde_json::json!({
            "model": target.model, "max_tokens": 100,
            "messages": [{ "role": "user", "content": prompt }],
        });
        let lua = format!(
            "wrk.method = \"POST\"\nwrk.body = [==[{body}]==]\n\
             wrk.headers[\"content-type\"] = \"application/json\"\n\
             wrk.headers[\"authorization\"] = \"Bearer {}\"\n",
            target.key
        );
        std::fs::write(&script, lua).map_err(|error| error.to_string())?;
        for connections in [1, connections] {
            let output = Command::new("wrk")
                .args(["-t1", "-d5s", "--latency", &format!("-c{connections}"), "-s"])
                .arg(&script)
                .arg(format!("http://{}{}", target.address, target.path))
                .output()
                .map_err(|error| format!("cannot start wrk: {error}"))?;
            let told = String::from_utf8_lossy(&output.stdout);
            let find = |mark: &str| {
                let line = told.lines().find(|line| line.trim_start().starts_with(mark));
                line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or("?").to_owned()
            };
            println!(
                "| wrk, {connections} connections, {name} | p50 {} | p99 {} | {} a second |",
                find("50%"),
                find("99%"),
                find("Requests/sec:")
            );
        }
    }
    Ok(())
}
