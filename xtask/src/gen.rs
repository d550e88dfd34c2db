//! `xtask gen`: builds shipped data from facts.
//!
//! [`catalog`] joins the two files of facts on models into the compact lines that the program
//! carries. It joins and drops, and judges nothing: tiers, tokenizers and spellings are rules in
//! `core/src/catalog/shipped.rs`.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use serde_json::{Map, Value, json};

/// What to build.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The catalogue of models: assets/catalog/models.jsonl and cut.json.
    Catalog {
        /// The folder with prices.jsonl, lifecycle.jsonl and their README.md.
        #[arg(long)]
        data: PathBuf,
        /// Where to write.
        #[arg(long, default_value = "assets/catalog")]
        out: PathBuf,
    },
    /// A vocabulary: assets/catalog/vocabulary/NAME.bin from a published `.tiktoken` file.
    Vocabulary {
        /// Lines of a token in base64 and its rank.
        #[arg(long)]
        tiktoken: PathBuf,
        /// Where to write.
        #[arg(long)]
        out: PathBuf,
    },
    /// Training rows for names: filled frames of assets/training/names.
    Names(crate::names::Args),
}

/// Runs `xtask gen …`.
pub fn run(args: Args) -> Result<()> {
    match args.what {
        What::Catalog { data, out } => catalog(&data, &out),
        What::Vocabulary { tiktoken, out } => vocabulary(&tiktoken, &out),
        What::Names(args) => crate::names::run(&args),
    }
}

/// Hosts are named as `prices.jsonl` names them; `lifecycle.jsonl` calls some differently.
const LIFECYCLE_HOSTS: [(&str, &str); 3] =
    [("moonshot", "moonshotai"), ("bedrock", "amazon-bedrock"), ("vertex", "google-vertex")];

/// Models that neither answer in text nor make vectors.
const OTHER_WORK: [&str; 27] = [
    "image",
    "imagen",
    "dall-e",
    "tts",
    "whisper",
    "transcribe",
    "rerank",
    "moderation",
    "ocr",
    "realtime",
    "-live",
    "sora",
    "veo",
    "speech",
    "music",
    "video",
    "voice",
    "asr",
    "audio",
    "hailuo",
    "guard",
    "canvas",
    "reel",
    "sonic",
    "MiniMax-H",
    "model-router",
    "computer-use",
];

type Row = Map<String, Value>;
type Rows = BTreeMap<(String, String), Row>;

/// Joins prices and lifecycle dates and writes `models.jsonl` and `cut.json` into `out`.
pub fn catalog(data: &Path, out: &Path) -> Result<()> {
    let mut rows = Rows::new();
    for fact in lines(&data.join("prices.jsonl"))? {
        let (host, name) = (text(&fact, "provider")?, text(&fact, "model")?);
        if let Some(row) = price_row(&host, &name, &fact) {
            rows.insert((host, name), row);
        }
    }
    borrow_facts(&mut rows);
    for fact in lines(&data.join("lifecycle.jsonl"))? {
        add_lifecycle(&mut rows, &fact)?;
    }
    complete_snapshots(&mut rows);
    let written: Vec<String> =
        rows.into_values().map(|row| Value::Object(row).to_string()).collect();
    fs::create_dir_all(out)?;
    fs::write(out.join("models.jsonl"), written.join("\n") + "\n")?;
    fs::write(out.join("cut.json"), cut(data)? + "\n")?;
    eprintln!("{} models in {}", written.len(), out.join("models.jsonl").display());
    Ok(())
}

/// Writes the length and the bytes of each token, in the order of rank.
pub fn vocabulary(tiktoken: &Path, out: &Path) -> Result<()> {
    let published = fs::read_to_string(tiktoken)?;
    let mut tokens = Vec::new();
    for (rank, line) in published.lines().filter(|line| !line.is_empty()).enumerate() {
        let (token, number) = line.split_once(' ').context("a line is no token and rank")?;
        if number.parse() != Ok(rank) {
            bail!("rank {number} stands where {rank} should");
        }
        let token = base64::engine::general_purpose::STANDARD.decode(token)?;
        tokens.push(u8::try_from(token.len()).context("a token is longer than 255 bytes")?);
        tokens.extend(token);
    }
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(out, tokens)?;
    Ok(())
}

/// The days on which the two sources were cut, as their README tells them.
fn cut(data: &Path) -> Result<String> {
    let readme = fs::read_to_string(data.join("README.md"))?;
    let of = |file: &str| {
        let line = readme.lines().find(|line| line.starts_with(&format!("| `{file}`")));
        let date = line.and_then(|line| {
            let dates = line.match_indices('(').map(|(at, _)| &line[at + 1..]);
            dates.filter_map(|rest| rest.get(..10)).find(|text| is_date(text))
        });
        date.map(str::to_owned).with_context(|| format!("README.md does not date {file}"))
    };
    let cut = json!({ "prices": of("prices.jsonl")?, "lifecycle": of("lifecycle.jsonl")? });
    Ok(cut.to_string())
}

fn price_row(host: &str, name: &str, fact: &Row) -> Option<Row> {
    if does_other_work(name) || !answers_in_text(fact) {
        return None;
    }
    let mut row = Row::new();
    row.insert("host".into(), host.into());
    row.insert("name".into(), name.into());
    let embeds = ["embed", "bge-"].iter().any(|word| name.to_lowercase().contains(word));
    if embeds {
        row.insert("embeds".into(), true.into());
    }
    add_price(&mut row, fact, embeds);
    add_limit(&mut row, "context", fact.get("context_tokens"));
    if !embeds {
        // For embedding models the source keeps the length of the vector here.
        add_limit(&mut row, "output", fact.get("max_output_tokens"));
    }
    add_abilities(&mut row, fact);
    if let Some(day) = fact.get("released_on").and_then(Value::as_str).and_then(day) {
        row.insert("released".into(), day.into());
    }
    if let Some(status) = fact.get("status") {
        row.insert("status".into(), status.clone());
    }
    Some(row)
}

fn does_other_work(name: &str) -> bool {
    OTHER_WORK.iter().any(|word| name.contains(word))
}

fn answers_in_text(fact: &Row) -> bool {
    let output = fact.get("output").and_then(Value::as_array);
    output.is_none_or(|kinds| kinds.iter().any(|kind| kind == "text"))
}

/// A price of nothing is not taken over: for input and output alike it is a vendor's trial offer
/// or a gap, and unknown is never zero.
fn add_price(row: &mut Row, fact: &Row, embeds: bool) {
    let figure = |key: &str| fact.get(&format!("usd_per_million_{key}")).and_then(decimal);
    let (Some(input), Some(output)) = (figure("input"), figure("output")) else { return };
    if input == "0" || (output == "0" && !embeds) {
        return;
    }
    row.insert("in".into(), input.into());
    row.insert("out".into(), output.into());
    let mut add = |name: &str, figure: Option<String>| {
        if let Some(figure) = figure.filter(|figure| figure != "0") {
            row.insert(name.into(), figure.into());
        }
    };
    add("cached", figure("cache_read"));
    add("write", figure("cache_write"));
}

fn add_limit(row: &mut Row, name: &str, limit: Option<&Value>) {
    if let Some(limit) = limit.and_then(Value::as_u64).filter(|limit| *limit > 0) {
        row.insert(name.into(), limit.into());
    }
}

fn add_abilities(row: &mut Row, fact: &Row) {
    let stated = [
        ("tools", fact.get("tool_call").and_then(Value::as_bool)),
        ("schema", fact.get("structured_output").and_then(Value::as_bool)),
        ("reasoning", fact.get("reasoning").and_then(Value::as_bool)),
    ];
    let reads = fact.get("input").and_then(Value::as_array);
    let read = |kind: &str| reads.map(|kinds| kinds.iter().any(|known| known == kind));
    let read = [("images", read("image")), ("documents", read("pdf")), ("audio", read("audio"))];
    for (name, able) in stated.into_iter().chain(read) {
        if let Some(able) = able {
            row.insert(name.into(), able.into());
        }
    }
}

/// The same model at another host has the same limits and abilities; a host that leaves them out
/// takes its maker's, else another's. Prices are never borrowed.
fn borrow_facts(rows: &mut Rows) {
    const MAKERS: [&str; 9] = [
        "openai",
        "anthropic",
        "google",
        "mistral",
        "cohere",
        "deepseek",
        "xai",
        "alibaba",
        "moonshotai",
    ];
    const FACTS: [&str; 9] = [
        "context",
        "output",
        "tools",
        "schema",
        "reasoning",
        "images",
        "documents",
        "audio",
        "released",
    ];
    let mut known: HashMap<String, Vec<Row>> = HashMap::new();
    for ((_, name), row) in rows.iter() {
        known.entry(bare(name)).or_default().push(row.clone());
    }
    let is_maker = |row: &&Row| MAKERS.iter().any(|maker| row["host"] == *maker);
    for ((_, name), row) in rows.iter_mut() {
        if row.contains_key("embeds") {
            continue;
        }
        let others = known.get(&bare(name)).into_iter().flatten();
        let by_rank =
            others.clone().filter(is_maker).chain(others.clone().filter(|row| !is_maker(row)));
        for other in by_rank {
            for fact in FACTS {
                if let (false, Some(value)) = (row.contains_key(fact), other.get(fact)) {
                    row.insert(fact.into(), value.clone());
                }
            }
        }
    }
}

/// A dated snapshot of which only the dates of its life are known costs and can what the model
/// of its name does at the same host.
fn complete_snapshots(rows: &mut Rows) {
    let known = rows.clone();
    for ((host, name), row) in rows.iter_mut().filter(|(_, row)| !row.contains_key("in")) {
        let Some(model) =
            undated(name).and_then(|name| known.get(&(host.clone(), name.to_owned())))
        else {
            continue;
        };
        const OWN: [&str; 8] = [
            "name",
            "released",
            "deprecated",
            "not_before",
            "shutdown",
            "status",
            "replacements",
            "aliases",
        ];
        for (key, value) in model.iter().filter(|(key, _)| !OWN.contains(&key.as_str())) {
            if !row.contains_key(key) {
                row.insert(key.clone(), value.clone());
            }
        }
    }
}

/// `gpt-x` for `gpt-x-2026-01-31`.
fn undated(name: &str) -> Option<&str> {
    let at = name.len().checked_sub("-2026-01-31".len())?;
    let (front, date) = (name.get(..at)?, name.get(at..)?);
    (date.starts_with("-20") && is_date(&date[1..])).then_some(front)
}

/// A model's name without what hosts put around it: regions, makers, versions and dates.
fn bare(name: &str) -> String {
    let name = name.to_lowercase();
    let name = name.rsplit('/').next().unwrap_or_default();
    let name = name.split('@').next().unwrap_or_default();
    let mut name = name.split(':').next().unwrap_or_default().to_owned();
    for region in ["eu.", "us.", "global.", "jp.", "au.", "apac."] {
        name = name.strip_prefix(region).unwrap_or(&name).to_owned();
    }
    for maker in ["anthropic.", "openai.", "mistral.", "deepseek.", "moonshotai.", "xai."] {
        name = name.strip_prefix(maker).unwrap_or(&name).to_owned();
    }
    for suffix in ["-v1", "-1", "-maas"] {
        name = name.strip_suffix(suffix).unwrap_or(&name).to_owned();
    }
    if let Some((front, date)) = name.rsplit_once('-')
        && date.len() == 8
        && date.bytes().all(|byte| byte.is_ascii_digit())
    {
        name = front.to_owned();
    }
    name
}

fn add_lifecycle(rows: &mut Rows, fact: &Row) -> Result<()> {
    let (host, name) = (text(fact, "provider")?, text(fact, "model")?);
    let host = LIFECYCLE_HOSTS
        .iter()
        .find(|(from, _)| *from == host)
        .map_or(host.clone(), |(_, to)| (*to).to_owned());
    let aliases: Vec<String> = fact
        .get("aliases")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|alias| alias.as_str().map(str::to_owned))
        .collect();
    let names: Vec<&String> = std::iter::once(&name).chain(&aliases).collect();
    let known: Vec<&&String> =
        names.iter().filter(|name| rows.contains_key(&(host.clone(), (**name).clone()))).collect();
    if known.is_empty() {
        if does_other_work(&name) {
            return Ok(());
        }
        let mut row = Row::new();
        row.insert("host".into(), host.clone().into());
        row.insert("name".into(), name.clone().into());
        if name.contains("embed") {
            row.insert("embeds".into(), true.into());
        }
        add_dates(&mut row, fact, &names);
        rows.insert((host, name), row);
        return Ok(());
    }
    for known in known.into_iter().map(|name| (host.clone(), (**name).clone())).collect::<Vec<_>>()
    {
        if let Some(row) = rows.get_mut(&known) {
            add_dates(row, fact, &names);
        }
    }
    Ok(())
}

fn add_dates(row: &mut Row, fact: &Row, names: &[&String]) {
    let dates = [
        ("released", "released_on"),
        ("deprecated", "deprecated_on"),
        ("not_before", "earliest_shutdown_on"),
        ("shutdown", "shutdown_on"),
    ];
    for (to, from) in dates {
        if let Some(day) = fact.get(from).and_then(Value::as_str).and_then(day) {
            row.insert(to.into(), day.into());
        }
    }
    if let Some(status) = fact.get("status").filter(|status| **status != "active") {
        row.insert("status".into(), status.clone());
    }
    if let Some(replacements) = fact.get("replacements") {
        row.insert("replacements".into(), replacements.clone());
    }
    let others: Vec<Value> =
        names.iter().filter(|name| row["name"] != ***name).map(|name| json!(name)).collect();
    if !others.is_empty() {
        row.insert("aliases".into(), others.into());
    }
}

/// A figure as a plain decimal with at most nine places: the sources carry traces of binary
/// floats such as 0.049999999999999996.
fn decimal(value: &Value) -> Option<String> {
    let figure = value.as_f64().filter(|figure| *figure >= 0.0)?;
    let text = format!("{figure:.9}");
    Some(text.trim_end_matches('0').trim_end_matches('.').to_owned())
}

/// A whole date; a month alone is its first day, and what is neither is left out.
fn day(written: &str) -> Option<String> {
    let day = if written.len() == 7 { format!("{written}-01") } else { written.to_owned() };
    is_date(&day).then_some(day)
}

fn is_date(text: &str) -> bool {
    let fields: Vec<&str> = text.split('-').collect();
    let [year, month, day] = fields[..] else { return false };
    let number = |text: &str| text.parse::<u32>().ok();
    year.len() == 4
        && number(year).is_some()
        && number(month).is_some_and(|month| (1..=12).contains(&month))
        && number(day).is_some_and(|day| (1..=31).contains(&day))
}

fn lines(path: &Path) -> Result<Vec<Row>> {
    let written = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut rows = Vec::new();
    for (number, line) in written.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        match serde_json::from_str(line) {
            Ok(Value::Object(row)) => rows.push(row),
            _ => bail!("{}:{} is no JSON object", path.display(), number + 1),
        }
    }
    Ok(rows)
}

fn text(row: &Row, key: &str) -> Result<String> {
    row.get(key).and_then(Value::as_str).map(str::to_owned).with_context(|| format!("no {key}"))
}
