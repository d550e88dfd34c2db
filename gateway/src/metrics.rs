//! Figures for Prometheus and logs for people.
//!
//! Counters and histograms are kept where things happen; budgets and the health of models are
//! read when somebody looks, so that a figure can never be stale. No figure names a person, and
//! no log holds a text.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::sync::{OnceLock, PoisonError, RwLock};

use jiff::Timestamp;
use metrics::Unit;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use stellwerk_core::budget::BudgetStatus;
use stellwerk_core::engine::{Engine, Health};
use stellwerk_core::ids::Node;
use stellwerk_core::money::Cost;
use tracing::Level;
use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// Bounds of the histograms of time, in seconds: a gateway adds fractions of a millisecond, a
/// model may think for minutes.
const SECONDS: [f64; 17] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 300.0,
];

/// The recorder of this process; the first call installs it.
pub fn recorder() -> &'static PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .expect("the bounds are not empty")
            .build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another recorder of metrics is installed; /metrics stays empty");
        }
        describe();
        handle
    })
}

fn describe() {
    use metrics::{describe_counter as counter, describe_histogram as histogram};
    counter!("stellwerk_http_requests_total", Unit::Count, "Requests by path and status.");
    histogram!(
        "stellwerk_http_request_duration_seconds",
        Unit::Seconds,
        "From the request to the headers of its answer."
    );
    counter!(
        "stellwerk_rate_limited_total",
        Unit::Count,
        "Requests refused by the limits of their key."
    );
    counter!("stellwerk_calls_total", Unit::Count, "Attempts at models that were booked.");
    counter!(
        "stellwerk_cost_nano_total",
        Unit::Count,
        "What attempts cost, in billionths of the company's currency."
    );
    counter!(
        "stellwerk_retries_total",
        Unit::Count,
        "Attempts that repeated another at the same place."
    );
    counter!(
        "stellwerk_failovers_total",
        Unit::Count,
        "Attempts at another place, because the one before failed."
    );
    counter!(
        "stellwerk_escalations_total",
        Unit::Count,
        "Attempts at a stronger model, because the answer was not good enough."
    );
    counter!(
        "stellwerk_hedges_total",
        Unit::Count,
        "Attempts at a second place, because the first was silent."
    );
    counter!(
        "stellwerk_errors_total",
        Unit::Count,
        "Attempts that did not end whole, by the kind of their end."
    );
    counter!(
        "stellwerk_tokens_total",
        Unit::Count,
        "Tokens by kind: input, cached_input, output, reasoning."
    );
    counter!("stellwerk_refusals_total", Unit::Count, "Calls refused, by reason.");
    counter!("stellwerk_failures_total", Unit::Count, "Calls that failed, by reason.");
    histogram!(
        "stellwerk_call_duration_seconds",
        Unit::Seconds,
        "From the call of a vendor to its end."
    );
    histogram!(
        "stellwerk_first_token_seconds",
        Unit::Seconds,
        "From the call of a vendor to the first token."
    );
    histogram!("stellwerk_queue_seconds", Unit::Seconds, "How long a call waited for its hold.");
}

/// One request was answered.
pub fn http(path: &str, status: u16, seconds: f64) {
    // Paths are those of the router, so there are a few dozen lines at most; finding a figure by
    // its labels takes longer than looking through them.
    static LINES: RwLock<Vec<HttpLine>> = RwLock::new(Vec::new());
    let is_it = |line: &&HttpLine| line.status == status && line.path == path;
    let lines = LINES.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(line) = lines.iter().find(is_it) {
        return line.add(seconds);
    }
    drop(lines);
    let line = HttpLine::new(path, status);
    line.add(seconds);
    // Two that come first at once keep a line each, which add to the same figures.
    LINES.write().unwrap_or_else(PoisonError::into_inner).push(line);
}

/// The figures of one path and one status.
struct HttpLine {
    path: String,
    status: u16,
    requests: metrics::Counter,
    duration: metrics::Histogram,
}

impl HttpLine {
    fn new(path: &str, status: u16) -> Self {
        let (path, word) = (path.to_owned(), status.to_string());
        HttpLine {
            requests: metrics::counter!("stellwerk_http_requests_total", "path" => path.clone(), "status" => word),
            duration: metrics::histogram!("stellwerk_http_request_duration_seconds", "path" => path.clone()),
            path,
            status,
        }
    }

    fn add(&self, seconds: f64) {
        self.requests.increment(1);
        self.duration.record(seconds);
    }
}

/// A request was refused by the limits of its key.
pub fn rate_limited() {
    metrics::counter!("stellwerk_rate_limited_total").increment(1);
}

/// The page that Prometheus reads.
pub async fn page(engine: &Engine) -> String {
    let mut page = recorder().render();
    match engine.store().budgets(None, Timestamp::now()).await {
        Ok(budgets) => push_budgets(&mut page, &budgets, engine.config().money.currency.as_str()),
        Err(error) => tracing::warn!(
            error = %crate::wiring::chain(&error),
            "could not read the budgets for /metrics"
        ),
    }
    push_health(&mut page, &engine.health());
    page
}

/// Budgets down to teams, never of a person, nor of a key, behind which a person may stand.
fn push_budgets(page: &mut String, budgets: &[BudgetStatus], currency: &str) {
    let shown: Vec<&BudgetStatus> = budgets
        .iter()
        .filter(|budget| !matches!(budget.node, Node::Person(_) | Node::Key(_)))
        .collect();
    type Figure = (&'static str, &'static str, fn(&BudgetStatus) -> Cost);
    let figures: [Figure; 3] = [
        ("limit", "Limit of a budget", |budget| budget.limit),
        ("spent", "Settled in the running period of a budget", |budget| budget.spent),
        ("held", "Set aside right now in a budget", |budget| budget.held),
    ];
    for (name, help, figure) in figures {
        heading(page, &format!("stellwerk_budget_{name}"), &format!("{help}, in {currency}."));
        for budget in &shown {
            let node = escaped(&budget.node.to_string());
            let (period, amount) = (budget.period, figure(budget));
            line(
                page,
                format_args!(
                    "stellwerk_budget_{name}{{node=\"{node}\",period=\"{period}\",currency=\"{currency}\"}} {amount}"
                ),
            );
        }
    }
}

fn push_health(page: &mut String, places: &[Health]) {
    heading(page, "stellwerk_calls_in_flight", "Calls on their way, by model and place.");
    for place in places {
        let (model, provider) = labels(place);
        let in_flight = place.in_flight;
        line(
            page,
            format_args!(
                "stellwerk_calls_in_flight{{model=\"{model}\",provider=\"{provider}\"}} {in_flight}"
            ),
        );
    }
    heading(page, "stellwerk_calls_limit", "Calls that a model may have at once.");
    let mut limited = None;
    for place in places {
        // The places of a model stand together, and the limit is the model's.
        let (Some(limit), true) = (place.limit, limited != Some(&place.model)) else { continue };
        limited = Some(&place.model);
        let model = escaped(place.model.as_str());
        line(page, format_args!("stellwerk_calls_limit{{model=\"{model}\"}} {limit}"));
    }
    heading(page, "stellwerk_place_healthy", "Whether calls are sent to this place: 1 or 0.");
    for place in places {
        let (model, provider) = labels(place);
        let healthy = u8::from(place.healthy);
        line(
            page,
            format_args!(
                "stellwerk_place_healthy{{model=\"{model}\",provider=\"{provider}\"}} {healthy}"
            ),
        );
    }
}

fn labels(place: &Health) -> (String, String) {
    (escaped(place.model.as_str()), escaped(place.provider.as_str()))
}

fn heading(page: &mut String, name: &str, help: &str) {
    line(page, format_args!("# HELP {name} {help}"));
    line(page, format_args!("# TYPE {name} gauge"));
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing into a string cannot fail.
    let _ = writeln!(page, "{text}");
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Starts the log on standard error. `STELLWERK_LOG` (else `RUST_LOG`) sets the level, `info`
/// where neither is set; `STELLWERK_LOG_FORMAT=json` writes one object per line.
///
/// Libraries are held to warnings whatever is set: at lower levels some of them print headers
/// and bodies, which hold keys and texts.
pub fn start_log() {
    let env = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    let wanted = env("STELLWERK_LOG").or_else(|| env("RUST_LOG"));
    let filter = EnvFilter::try_new(wanted.as_deref().unwrap_or("info"));
    let unread = filter.is_err();
    let ours =
        filter_fn(|event| event.target().starts_with("stellwerk") || *event.level() <= Level::WARN);
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info")).and(ours);
    let colours = std::io::stderr().is_terminal();
    let lines = fmt::layer().with_writer(std::io::stderr);
    let started = match env("STELLWERK_LOG_FORMAT").as_deref() {
        Some("json") => {
            let lines = lines.json().flatten_event(true).with_filter(filter);
            tracing_subscriber::registry().with(lines).try_init()
        }
        _ => {
            let lines = lines.with_ansi(colours).with_filter(filter);
            tracing_subscriber::registry().with(lines).try_init()
        }
    };
    // A log that is running already is that of a test or of a program around us.
    if started.is_ok() && unread {
        tracing::warn!("the log level of STELLWERK_LOG or RUST_LOG cannot be read; `info` is used");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stellwerk_core::request::BudgetPeriod;

    #[test]
    fn no_figure_names_a_person_or_a_key() {
        let budget = |node: &str| BudgetStatus {
            node: node.parse().expect("a node"),
            period: BudgetPeriod::Month,
            limit: Cost::from_nanos(5_000_000_000),
            spent: Cost::from_nanos(1),
            held: Cost::ZERO,
            left: Cost::ZERO,
            soft: false,
            renews_at: Timestamp::UNIX_EPOCH,
        };
        let budgets = ["company", "team:a\"b", "person:anna", "key:k1"].map(budget);
        let mut page = String::new();
        push_budgets(&mut page, &budgets, "EUR");
        assert!(!page.contains("anna") && !page.contains("k1"), "{page}");
        let company = "stellwerk_budget_limit{node=\"company\",period=\"month\",currency=\"EUR\"} 5.000000000";
        assert!(page.lines().any(|line| line == company), "{page}");
        assert!(page.contains("node=\"team:a\\\"b\""), "{page}");
    }
}
