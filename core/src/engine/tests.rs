//! Whole walks in small worlds: describe a world, say one thing, read the trace.
//!
//! The fixture is text. Lines that begin with `//-` describe, the others are the question:
//!
//! ```text
//! //- model small economy world price=1/4 vendor=unsure
//! //- budget department:ops 5.00
//! //- caller ops/anna
//! Translate this.
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::budget::Budget;
use crate::caller::{Caller, Channel};
use crate::config::{Config, check};
use crate::engine::Engine;
use crate::ids::{ModelId, Node, PersonId, RequestId, UseCase};
use crate::ledger::Entry;
use crate::reply::{Chunk, Event, Failure};
use crate::request::{
    BudgetPeriod, Call, ChatRequest, EmbedRequest, Options, ResponseFormat, Sensitivity, Target,
};
use crate::store::sqlite::SqliteStore;
use crate::store::{LedgerQuery, Store};

/// A world: an engine, a store of its own, and what is asked in it.
struct World {
    engine: Engine,
    store: Arc<SqliteStore>,
    caller: Caller,
    target: Target,
    request: ChatRequest,
    options: Options,
    _folder: tempfile::TempDir,
}

#[derive(Default)]
struct Written {
    models: String,
    policy: String,
    rest: String,
    ids: Vec<String>,
    zones: Vec<String>,
    strategy: Option<String>,
    budgets: Vec<Budget>,
    levels: Vec<Node>,
    target: Option<String>,
    options: Options,
    request: ChatRequest,
    prompt: Vec<String>,
}

impl World {
    async fn new(text: &str) -> World {
        let mut written = Written::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match line.strip_prefix("//-") {
                Some(line) => written.describe(line.trim()),
                None => written.prompt.push(line.to_owned()),
            }
        }
        written.build().await
    }

    fn call(&self) -> Call {
        Call {
            id: RequestId::fresh(),
            caller: self.caller.clone(),
            target: self.target.clone(),
            request: self.request.clone(),
            options: self.options.clone(),
        }
    }

    async fn ask(&self) -> Told {
        let mut answer = self.engine.answer(self.call());
        let mut told = Told::default();
        while let Some(event) = answer.events.recv().await {
            told.take(event);
        }
        told
    }

    async fn rows(&self) -> Vec<Entry> {
        let query = LedgerQuery { limit: 1_000, ..LedgerQuery::default() };
        let rows = self.store.ledger(query).await.expect("the ledger can be read");
        rows.into_iter().map(|row| row.entry).collect()
    }

    async fn held(&self) -> i64 {
        let budgets = self.store.budgets(None, Timestamp::now()).await.expect("budgets");
        budgets.iter().map(|budget| budget.held.nanos()).sum()
    }
}

impl Written {
    fn describe(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut words = rest.split_whitespace();
        let mut next = || words.next().unwrap_or_default().to_owned();
        match word {
            "model" => self.model(rest),
            "strategy" => self.strategy = Some(rest.to_owned()),
            "policy" => self.policy.push_str(&format!("{rest}\n")),
            "config" => self.rest.push_str(&format!("{rest}\n")),
            "caller" => self.levels = levels(rest),
            "target" => self.target = Some(rest.to_owned()),
            "stream" => self.request.stream = true,
            "max" => self.request.max_output_tokens = rest.parse().ok(),
            "json" => self.request.response_format = ResponseFormat::JsonObject,
            "sensitivity" => self.options.sensitivity = Sensitivity::from_word(rest),
            "use-case" => self.options.use_case = Some(UseCase::from(rest)),
            "timeout" => self.options.timeout_ms = rest.parse().ok(),
            "hedge" => self.options.hedge_after_ms = rest.parse().ok(),
            "fallback" => self.options.fallback.push(ModelId::from(rest)),
            "budget" => {
                let (node, limit, soft) = (next(), next(), next() == "soft");
                self.budgets.push(Budget {
                    node: node.parse().expect("a node"),
                    period: BudgetPeriod::Month,
                    limit: limit.parse().expect("an amount"),
                    soft,
                });
            }
            _ => panic!("the fixture does not know `{word}`"),
        }
    }

    /// `model ID TIER ZONE price=IN/OUT vendor=NAME also=ZONE:NAME`.
    fn model(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [id, tier, zone, options @ ..] = words.as_slice() else {
            panic!("a model needs id, tier and zone: {line}")
        };
        let option = |name: &str| {
            options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
        };
        let (input, output) = option("price").unwrap_or("1/4").split_once('/').expect("in/out");
        let vendor = option("vendor").unwrap_or("plain");
        let also = option("also").and_then(|also| also.split_once(':'));
        let deployments = also.map_or(String::new(), |(zone, name)| {
            self.zones.push(zone.to_owned());
            format!("deployments = [{{ provider = \"{zone}\", name = \"{name}\" }}]\n")
        });
        let kind = option("kind").unwrap_or("chat");
        self.zones.push((*zone).to_owned());
        self.ids.extend((kind == "chat").then(|| (*id).to_owned()));
        self.models.push_str(&format!(
            "[[model]]\nid = \"{id}\"\nprovider = \"{zone}\"\nname = \"{vendor}\"\ntier = \"{tier}\"\nkind = \"{kind}\"\n\
             input_per_million = \"{input}\"\noutput_per_million = \"{output}\"\nprice_currency = \"EUR\"\n{deployments}"
        ));
    }

    async fn build(mut self) -> World {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = Arc::new(self.config(folder.path()));
        let now = Timestamp::now();
        let store = SqliteStore::open(&folder.path().join("test.db"), Default::default(), now)
            .expect("a store");
        for budget in self.budgets.drain(..) {
            store.set_budget(budget, now).await.expect("a budget");
        }
        let mut caller = Caller::company(Channel::Api);
        if let Some(node) = self.levels.last() {
            caller.node = node.clone();
            caller.person = match node {
                Node::Person(id) => Some(PersonId::clone(id)),
                _ => None,
            };
            caller.levels = self.levels.clone().into();
        }
        let question = ChatRequest::ask(self.prompt.join("\n"));
        World {
            engine: Engine::new(config, store.clone()).expect("an engine"),
            store,
            caller,
            target: Target::from_model_field(self.target.as_deref().unwrap_or("auto")),
            request: ChatRequest { messages: question.messages, ..self.request },
            options: self.options,
            _folder: folder,
        }
    }

    fn config(&mut self, folder: &std::path::Path) -> Config {
        self.zones.sort();
        self.zones.dedup();
        let providers: String = self
            .zones
            .iter()
            .map(|zone| {
                format!(
                    "[[provider]]\nid = \"{zone}\"\nkind = \"simulated\"\nzone = \"{zone}\"\n\
                     tokens_per_second = 0\nfirst_token_ms = 0\nfirst_token_timeout_ms = 300\nidle_timeout_ms = 300\n"
                )
            })
            .collect();
        let models = self.ids.iter().map(|id| format!("\"{id}\"")).collect::<Vec<_>>().join(", ");
        let strategy = self.strategy.as_deref().unwrap_or("cascade");
        let classify = match self.rest.contains("[classify]") {
            true => "",
            false => "[classify]\nmode = \"off\"\n",
        };
        let text = format!(
            "[money]\ncurrency = \"EUR\"\nusd = \"1\"\n{providers}{}[[policy]]\nid = \"default\"\n\
             strategy = \"{strategy}\"\nmodels = [{models}]\n{}\n{classify}{}",
            self.models, self.policy, self.rest
        );
        match check::parse(&text, folder, &|_| None) {
            Ok(config) => config,
            Err(findings) => panic!("{findings:#?}\n{text}"),
        }
    }
}

fn levels(path: &str) -> Vec<Node> {
    let mut parts: Vec<&str> = path.split('/').collect();
    let person = parts.pop().unwrap_or_default();
    let mut levels = vec![Node::Company];
    levels.extend(parts.into_iter().map(|unit| Node::Department(unit.into())));
    levels.push(Node::Person(PersonId::from(person)));
    levels
}

/// What a face was told.
#[derive(Default)]
struct Told {
    texts: BTreeMap<u32, String>,
    story: Vec<String>,
    done: Option<crate::reply::Done>,
    failed: Option<Failure>,
}

impl Told {
    fn take(&mut self, event: Event) {
        match event {
            Event::Started { attempt, model, provisional, .. } => {
                let provisional = if provisional { "?" } else { "" };
                self.story.push(format!("started {attempt} {model}{provisional}"));
            }
            Event::Chunk { attempt, chunk: Chunk::Text { text, .. } } => {
                self.texts.entry(attempt).or_default().push_str(&text);
            }
            Event::Chunk { .. } => {}
            Event::Accepted { attempt } => self.story.push(format!("accepted {attempt}")),
            Event::Escalated { attempt, from, to } => {
                self.story.push(format!("escalated {attempt} {from}>{to}"));
            }
            Event::FailedOver { attempt, from, to } => {
                self.story.push(format!("failed over {attempt} {from}>{to}"));
            }
            Event::Done(done) => {
                self.story.push(format!("done {} {}", done.attempt, done.model));
                self.done = Some(*done);
            }
            Event::Failed(failure) => {
                self.story.push(format!("failed {}", failure.kind.code()));
                self.failed = Some(*failure);
            }
        }
    }

    fn story(&self) -> String {
        self.story.join(" | ")
    }
}

fn rows_in_short(rows: &[Entry]) -> String {
    rows.iter()
        .map(|row| format!("{} {} {}", row.reason, row.model, row.ending))
        .collect::<Vec<_>>()
        .join(" | ")
}

async fn story(world: &str) -> (String, String) {
    let world = World::new(world).await;
    let told = world.ask().await;
    assert_eq!(world.held().await, 0, "a hold was left behind");
    (told.story(), rows_in_short(&world.rows().await))
}

#[tokio::test]
async fn an_easy_question_is_answered_by_the_cheapest_rung() {
    let (told, rows) = story(
        "//- model large premium world price=10/40
         //- model small economy world
         Wie spät ist es?",
    )
    .await;
    assert_eq!(told, "started 1 small? | accepted 1 | done 1 small");
    assert_eq!(rows, "first small complete");
}

#[tokio::test]
async fn an_unsure_answer_escalates_and_both_are_booked() {
    let (told, rows) = story(
        "//- model small economy world vendor=unsure
         //- model large premium world price=10/40
         //- stream
         Wie spät ist es?",
    )
    .await;
    assert_eq!(told, "started 1 small? | escalated 1 small>large | started 2 large | done 2 large");
    assert_eq!(rows, "first small complete | escalation large complete");
}

#[tokio::test]
async fn a_rejected_answer_is_better_than_none() {
    let (told, rows) = story(
        "//- model small economy world vendor=refuse
         //- model large premium world vendor=fail-500
         Wie spät ist es?",
    )
    .await;
    assert_eq!(told, "started 1 small? | accepted 1 | done 1 small");
    assert_eq!(rows, "first small complete | escalation large error | retry large error");
}

#[tokio::test]
async fn a_failing_vendor_is_retried_then_left_for_another() {
    let (told, rows) = story(
        "//- strategy fixed
         //- model a standard world vendor=fail-500
         //- model b standard world
         Hallo",
    )
    .await;
    assert_eq!(told, "started 3 b | done 3 b");
    assert_eq!(rows, "first a error | retry a error | failover b complete");
}

#[tokio::test]
async fn a_stream_that_breaks_goes_on_with_another_model() {
    let (told, rows) = story(
        "//- strategy fixed
         //- model a standard world vendor=cut
         //- model b standard world
         //- stream
         Hallo",
    )
    .await;
    assert_eq!(told, "started 1 a | failed over 1 a>b | started 2 b | done 2 b");
    assert_eq!(rows, "first a cut | failover b complete");
}

#[tokio::test]
async fn bound_text_that_went_out_cannot_be_begun_again() {
    let (told, rows) = story(
        "//- strategy fixed
         //- model a standard world vendor=cut
         //- model b standard world
         //- stream
         //- json
         Hallo",
    )
    .await;
    assert_eq!(told, "started 1 a | failed upstream");
    assert_eq!(rows, "first a cut");
}

#[tokio::test]
async fn a_silent_vendor_is_left_and_costs_nothing() {
    let world = World::new(
        "//- strategy fixed
         //- model a standard world vendor=stall
         //- model b standard world
         //- stream
         Hallo",
    )
    .await;
    let told = world.ask().await;
    assert_eq!(told.story(), "started 2 b | done 2 b");
    let rows = world.rows().await;
    assert_eq!(rows_in_short(&rows), "first a stalled | failover b complete");
    assert_eq!(rows[0].cost.nanos(), 0);
}

#[tokio::test]
async fn a_hedge_answers_when_the_first_is_silent_and_both_are_settled() {
    let (told, rows) = story(
        "//- strategy fixed
         //- model a standard world vendor=stall
         //- model b standard world
         //- stream
         //- hedge 20
         Hallo",
    )
    .await;
    assert_eq!(told, "started 2 b | done 2 b");
    assert_eq!(rows, "first a client_gone | hedge b complete");
}

#[tokio::test]
async fn restricted_data_never_leaves_the_house_whatever_fails() {
    let (told, rows) = story(
        "//- strategy fixed
         //- model far standard world
         //- model near standard local vendor=fail-500
         //- sensitivity restricted
         Hallo",
    )
    .await;
    assert_eq!(told, "failed no_candidate");
    assert_eq!(rows, "first near error | retry near error");
}

#[tokio::test]
async fn confidential_data_without_a_near_model_is_refused_with_the_reason() {
    let world = World::new(
        "//- model far standard world
         //- sensitivity confidential
         Hallo",
    )
    .await;
    let told = world.ask().await;
    let failure = told.failed.expect("a refusal");
    assert_eq!(failure.kind.code(), "zone");
    assert!(failure.message.en.contains("confidential"), "{}", failure.message.en);
    assert!(world.rows().await.is_empty(), "a refusal has no row");
}

#[tokio::test]
async fn a_budget_refuses_before_a_token_is_bought_and_names_the_level() {
    let world = World::new(
        "//- model small economy world price=1000/1000
         //- budget department:ops 0.50
         //- budget company 1000000
         //- caller ops/anna
         //- max 1000
         Hallo",
    )
    .await;
    let told = world.ask().await;
    let failure = told.failed.expect("a refusal");
    let budget = failure.budget.expect("the level");
    assert_eq!(budget.node.to_string(), "department:ops");
    assert_eq!(budget.left.to_string(), "0.500000000");
    assert!(failure.message.de.contains("department:ops"));
    assert!(world.rows().await.is_empty());
}

#[tokio::test]
async fn a_budget_that_is_too_small_for_the_first_model_pays_for_a_cheaper_one() {
    let (told, rows) = story(
        "//- strategy fixed
         //- model large premium world price=1000/1000
         //- model small economy world price=1/1
         //- budget company 0.50
         //- max 1000
         Hallo",
    )
    .await;
    assert_eq!(told, "started 1 small | done 1 small");
    assert_eq!(rows, "first small complete");
}

#[tokio::test]
async fn a_nearly_used_budget_prefers_cheaper_models_and_says_so() {
    let world = World::new(
        "//- strategy fixed
         //- model large premium world price=100/100
         //- model small economy world price=1/1
         //- budget company 0.1
         //- max 20
         Hallo",
    )
    .await;
    let first = world.ask().await;
    assert!(first.story().ends_with("done 1 large"), "{}", first.story());
    for _ in 0..60 {
        let done = world.ask().await.done.expect("an answer");
        if done.model.as_str() == "small" {
            let decision = done.trace.decision.clone().expect("a decision");
            let says_so = |reason: &String| reason.contains("company has used");
            assert!(decision.reasons.iter().any(says_so), "{decision:?}");
            return;
        }
    }
    panic!("the budget was used up without a cheaper model");
}

#[tokio::test]
async fn a_caller_that_leaves_is_booked_for_what_had_arrived() {
    let world = World::new(
        "//- model small economy world vendor=stall
         //- budget company 1.00
         //- stream
         Hallo",
    )
    .await;
    let mut answer = world.engine.answer(world.call());
    while world.held().await == 0 {
        tokio::task::yield_now().await;
    }
    answer.cancel();
    drop(answer);
    world.engine.shutdown(std::time::Duration::from_secs(5)).await;
    let rows = world.rows().await;
    assert_eq!(rows_in_short(&rows), "first small client_gone");
    assert!(rows[0].cost.nanos() > 0, "the input is billed");
}

#[tokio::test]
async fn a_callers_time_limit_ends_the_call() {
    let (told, rows) = story(
        "//- model small economy world vendor=stall
         //- stream
         //- timeout 30
         Hallo",
    )
    .await;
    assert_eq!(told, "failed timeout");
    assert_eq!(rows, "first small client_gone");
}

#[tokio::test]
async fn what_was_hidden_comes_back_in_the_answer() {
    let world = World::new(
        "//- model small economy world vendor=echo
         Schreib an anna.schmidt@example.de, bitte.",
    )
    .await;
    let told = world.ask().await;
    assert!(told.texts[&1].contains("anna.schmidt@example.de"), "{:?}", told.texts);
}

const RULE: &str = "//- model small economy world vendor=echo
     //- config [[guard.rule]]
     //- config id = \"falke\"
     //- config words = [\"Projekt Falke\"]";

#[tokio::test]
async fn a_rule_of_the_company_refuses_a_question_before_anything_is_bought() {
    let world = World::new(&format!("{RULE}\nWas ist Projekt Falke?")).await;
    let told = world.ask().await;
    assert_eq!(told.story(), "failed guard");
    let words = told.failed.map(|failure| failure.message.en).unwrap_or_default();
    assert!(words.contains("falke"), "{words}");
    assert!(world.rows().await.is_empty());
}

#[tokio::test]
async fn a_rule_for_answers_withholds_them_and_what_came_is_booked() {
    let world =
        World::new(&format!("{RULE}\n//- config on = \"answer\"\n//- stream\nSag Projekt Falke."))
            .await;
    let told = world.ask().await;
    assert!(told.story().ends_with("failed guard"), "{}", told.story());
    assert!(!told.texts.values().any(|text| text.contains("Falke")), "{:?}", told.texts);
    assert_eq!(rows_in_short(&world.rows().await), "first small error");
    assert_eq!(world.held().await, 0);
}

#[tokio::test]
async fn a_note_is_told_and_the_answer_comes() {
    let note =
        "//- config action = \"note\"\n//- config note = \"Erst die Rechtsabteilung fragen.\"";
    let world = World::new(&format!("{RULE}\n{note}\nWas ist Projekt Falke?")).await;
    let done = world.ask().await.done.expect("an answer");
    let notes = done.trace.guard.as_ref().map(|found| found.notes.clone()).unwrap_or_default();
    assert_eq!(notes[0].de, "Erst die Rechtsabteilung fragen.");
}

#[tokio::test]
async fn data_in_an_answer_that_nobody_put_in_is_noted_in_the_trace() {
    let world = World::new(
        "//- model small economy world vendor=echo
         //- config [guard.output]
         //- config personal = \"flag\"
         Meine Mail ist anna.schmidt@example.de.",
    )
    .await;
    let done = world.ask().await.done.expect("an answer");
    // The echo says what the caller said: nothing of it is news.
    assert!(done.trace.attempts[0].remarks.is_empty(), "{:?}", done.trace.attempts[0].remarks);
}

#[tokio::test]
async fn a_grant_keeps_a_model_for_those_it_names() {
    let grant = "//- model small economy world
         //- config [[grant]]
         //- config models = [\"small\"]
         //- config to = [\"department:sales\"]
         Hallo";
    let (told, _) = story(&format!("//- caller ops/anna\n{grant}")).await;
    assert_eq!(told, "failed governance");
    let (told, _) = story(&format!("//- caller sales/bert\n{grant}")).await;
    assert_eq!(told, "started 1 small | done 1 small");
}

#[tokio::test]
async fn an_unknown_model_is_said_to_be_unknown() {
    let (told, _) = story("//- model small economy world\n//- target nobody\nHallo").await;
    assert_eq!(told, "failed model_not_found");
    let (told, _) = story("//- model small economy world\n//- target auto:nobody\nHallo").await;
    assert_eq!(told, "failed policy_not_found");
}

#[tokio::test]
async fn a_model_asked_for_by_name_falls_back_only_where_it_says() {
    let (told, rows) = story(
        "//- model a standard world vendor=fail-500
         //- model b standard world
         //- model c standard world
         //- target a
         //- fallback c
         Hallo",
    )
    .await;
    assert_eq!(told, "started 3 c | done 3 c");
    assert_eq!(rows, "first a error | retry a error | failover c complete");
}

impl World {
    async fn embed(&self, texts: &[&str]) -> crate::reply::Embedded {
        let call = Call {
            id: RequestId::fresh(),
            caller: self.caller.clone(),
            target: Target::from_model_field("vec"),
            request: EmbedRequest {
                input: texts.iter().map(|text| (*text).to_owned()).collect(),
                dimensions: None,
                user: None,
                extra: Default::default(),
            },
            options: Options::default(),
        };
        self.engine.embed(call).await.expect("vectors")
    }
}

#[tokio::test]
async fn vectors_are_held_and_booked() {
    let world = World::new(
        "//- model small economy world
         //- model vec economy world kind=embedding
         x",
    )
    .await;
    assert_eq!(world.embed(&["eins", "zwei"]).await.vectors.len(), 2);
    let rows = world.rows().await;
    assert_eq!(rows_in_short(&rows), "first vec complete");
    assert!(rows[0].usage.input_tokens.unwrap() > 0);
}

#[tokio::test]
async fn the_row_of_vectors_names_the_level_of_what_was_sent_unhidden() {
    let world = World::new(
        "//- model small economy local
         //- model vec economy local kind=embedding
         //- config [guard]
         //- config pii = \"off\"
         x",
    )
    .await;
    world.embed(&["Das Passwort: Xk9!vTq2#pL"]).await;
    assert_eq!(world.rows().await[0].sensitivity, Sensitivity::Restricted);
}

#[tokio::test]
async fn sixty_four_at_once_never_overspend_and_none_is_refused_in_vain() {
    // Each call holds 1000 output tokens at 1000 EUR a million, and a little for its input.
    let world = World::new(
        "//- model small economy world price=0/1000
         //- budget department:ops 10.00
         //- budget company 100.00
         //- caller ops/anna
         //- max 1000
         Hallo",
    )
    .await;
    let calls = (0..64).map(|_| world.ask());
    let told = futures::future::join_all(calls).await;
    let refused = told.iter().filter(|told| told.failed.is_some()).count();
    let answered = told.iter().filter(|told| told.done.is_some()).count();
    assert_eq!(refused + answered, 64);
    assert!(answered >= 10, "{answered} were answered though ten holds fit at once");
    let budgets = world.store.budgets(None, Timestamp::now()).await.expect("budgets");
    let spent: i64 = world.rows().await.iter().map(|row| row.cost.nanos()).sum();
    for budget in budgets {
        assert!(budget.spent <= budget.limit, "{budget:?} is overspent");
        assert_eq!(budget.held.nanos(), 0);
        assert_eq!(budget.spent.nanos(), spent);
    }
}
