//! Worlds in a few words, and who is chosen in them.

use std::path::Path;
use std::time::Instant;

use super::*;
use crate::caller::Channel;
use crate::catalog::ModelKind;
use crate::classify;
use crate::config::check;
use crate::ids::KeyId;
use crate::request::TaskKind;

/// One premium, one standard, one economy model, in the wrong order on purpose.
const THREE: &str = r#"
[[provider]]
id = "far"
kind = "simulated"
zone = "world"
[[provider]]
id = "near"
kind = "simulated"
zone = "local"
[[model]]
id = "large"
provider = "far"
name = "l"
tier = "premium"
input_per_million = "10"
output_per_million = "40"
price_currency = "EUR"
[[model]]
id = "middle"
provider = "far"
name = "m"
tier = "standard"
input_per_million = "2"
output_per_million = "8"
price_currency = "EUR"
[[model]]
id = "small"
provider = "far"
name = "s"
tier = "economy"
input_per_million = "1"
output_per_million = "4"
price_currency = "EUR"
"#;

fn config(text: &str) -> Config {
    match check::parse(text, Path::new("."), &|_| None) {
        Ok(config) => config,
        Err(findings) => panic!("{findings:#?}"),
    }
}

fn three(policy: &str) -> Config {
    config(&format!(
        "{THREE}[[policy]]\nid = \"default\"\nmodels = [\"large\", \"middle\", \"small\"]\n{policy}"
    ))
}

struct Asked {
    caller: Caller,
    target: Target,
    needs: Needs,
    classification: Classification,
    level: Sensitivity,
    findings: Option<Sensitivity>,
    pressure: Option<(Node, f64)>,
    input_bytes: u64,
    tokens: u64,
}

fn asked(complexity: f32) -> Asked {
    let classification = Classification {
        complexity,
        task: TaskKind::OpenQa,
        stage: "rules".to_owned(),
        unsure: false,
        ..classify::off(None)
    };
    Asked {
        caller: Caller::company(Channel::Api),
        target: Target::from_model_field("auto"),
        needs: Needs::of(&ChatRequest::ask("?")),
        classification,
        level: Sensitivity::Internal,
        findings: None,
        pressure: None,
        input_bytes: 100,
        tokens: 25,
    }
}

impl Asked {
    fn choose(&self, config: &Config, health: &HealthBook) -> Result<Decision, Box<Refused>> {
        let question = Question {
            caller: &self.caller,
            use_case: None,
            target: &self.target,
            needs: self.needs,
            classification: &self.classification,
            level: self.level,
            findings: self.findings,
            fallback: &[],
            pressure: self.pressure.as_ref().map(|(node, share)| (node, *share)),
            input_tokens: &|_| self.tokens,
            input_bytes: self.input_bytes,
            now: Instant::now(),
        };
        choose(config, health, &question)
    }

    fn order(&self, config: &Config) -> String {
        let decision = self.choose(config, &HealthBook::default()).expect("someone may answer");
        decision.models().map(ModelId::as_str).collect::<Vec<_>>().join(">")
    }

    fn refusal(&self, config: &Config) -> Box<Refused> {
        self.choose(config, &HealthBook::default()).expect_err("nobody may answer")
    }
}

#[test]
fn a_cascade_climbs_from_the_cheapest_rung_whatever_the_order_in_the_file() {
    assert_eq!(asked(0.1).order(&three("strategy = \"cascade\"")), "small>middle>large");
}

#[test]
fn a_hard_question_starts_above_economy_and_keeps_it_for_the_worst_case() {
    let config = three("strategy = \"cascade\"\nskip_economy_above = 0.7");
    assert_eq!(asked(0.9).order(&config), "middle>large>small");
}

#[test]
fn fixed_keeps_the_order_of_the_file() {
    assert_eq!(asked(0.1).order(&three("strategy = \"fixed\"")), "large>middle>small");
}

#[test]
fn task_takes_the_cheapest_that_fits_the_complexity() {
    let config = three("strategy = \"task\"");
    assert!(asked(0.1).order(&config).starts_with("small>"));
    assert!(asked(0.5).order(&config).starts_with("middle>"));
    assert!(asked(0.9).order(&config).starts_with("large>"));
}

#[test]
fn the_first_rule_that_matches_names_the_models() {
    let config = three(
        "strategy = \"task\"\n[[policy.rule]]\ntask = [\"translation\"]\nmodels = [\"small\"]\n\
         [[policy.rule]]\ntask = [\"open_qa\"]\nmin_complexity = 0.5\nmodels = [\"middle\", \"small\"]",
    );
    assert_eq!(asked(0.6).order(&config), "middle>small");
    let mut translation = asked(0.6);
    translation.classification.task = TaskKind::Translation;
    assert_eq!(translation.order(&config), "small");
}

#[test]
fn a_budget_under_pressure_puts_the_cheapest_first_and_says_so() {
    let mut pressed = asked(0.9);
    pressed.pressure = Some((Node::Company, 0.85));
    let decision =
        pressed.choose(&three("strategy = \"fixed\""), &HealthBook::default()).expect("a decision");
    assert_eq!(decision.candidates[0].model.as_str(), "small");
    assert!(decision.reasons.iter().any(|reason| reason.contains("company has used 85 %")));
}

#[test]
fn a_key_for_one_model_reaches_no_other_not_even_by_name() {
    let config = three("strategy = \"cascade\"");
    let mut limited = asked(0.1);
    limited.caller.key = Some(KeyId::from("k"));
    limited.caller.models = Some([ModelId::from("middle")].into());
    assert_eq!(limited.order(&config), "middle");
    limited.target = Target::from_model_field("small");
    assert_eq!(limited.refusal(&config).kind, FailureKind::Governance);
}

#[test]
fn governance_is_asked_before_zone_and_zone_before_everything_else() {
    let config = three("strategy = \"cascade\"");
    let mut secret = asked(0.1);
    secret.level = Sensitivity::Restricted;
    secret.needs.images = true;
    assert_eq!(secret.refusal(&config).kind, FailureKind::Zone);
}

#[test]
fn findings_count_only_where_they_are_not_hidden() {
    let base = format!(
        "{THREE}[[policy]]\nid = \"default\"\nstrategy = \"cascade\"\nmodels = [\"small\"]\n"
    );
    let mut found = asked(0.1);
    found.findings = Some(Sensitivity::Restricted);
    assert_eq!(found.order(&config(&base)), "small");
    let open = format!("{base}[guard]\npii = \"off\"\n");
    assert_eq!(found.refusal(&config(&open)).kind, FailureKind::Zone);
    let closed = format!("{base}[guard]\npii = \"block\"\n");
    assert_eq!(found.refusal(&config(&closed)).kind, FailureKind::Guard);
}

#[test]
fn a_request_that_is_too_long_for_one_goes_to_another() {
    let text = THREE.replace(
        "id = \"small\"\n",
        "id = \"small\"\ncontext_tokens = 1000\nmax_output_tokens = 500\n",
    );
    let config = config(&format!(
        "{text}[[policy]]\nid = \"default\"\nstrategy = \"cascade\"\nmodels = [\"small\", \"large\"]"
    ));
    let mut long = asked(0.1);
    long.input_bytes = 4_000;
    long.tokens = 400;
    assert_eq!(long.order(&config), "small>large", "400 and 500 tokens fit into 1000");
    long.tokens = 600;
    assert_eq!(long.order(&config), "large");
}

#[test]
fn what_no_model_could_take_is_refused_before_anyone_reads_it() {
    let limited = |large: &str| {
        let text = THREE
            .replace("id = \"small\"\n", "id = \"small\"\ncontext_tokens = 1000\n")
            .replace("id = \"large\"\n", &format!("id = \"large\"\n{large}\n"));
        config(&format!(
            "{text}[[policy]]\nid = \"default\"\nstrategy = \"cascade\"\nmodels = [\"small\"]\n\
             [[policy.rule]]\ntask = [\"analysis\"]\nmodels = [\"large\"]\n"
        ))
    };
    let asked = asked(0.1);
    let refused = |config: &Config, tokens: u64| {
        let exceeds = |_: Tokenizer, most: u64| tokens > most;
        too_long(config, &asked.caller, None, &asked.target, &[], &exceeds).map(|no| no.kind)
    };
    let both = limited("context_tokens = 5000");
    assert_eq!(refused(&both, 5_000), None, "a rule may lead to the large one");
    assert_eq!(refused(&both, 5_001), Some(FailureKind::TooLarge));
    assert_eq!(refused(&limited(""), 1 << 40), None, "nobody knows what the large one takes");
}

#[test]
fn a_model_whose_calls_are_all_taken_is_passed_over_and_the_limit_is_told() {
    let text = THREE.replace("id = \"small\"\n", "id = \"small\"\nmax_parallel = 1\n");
    let config = config(&format!(
        "{text}[[policy]]\nid = \"default\"\nstrategy = \"cascade\"\nmodels = [\"small\", \"large\"]"
    ));
    let health = HealthBook::default();
    let slot = health.claim(&ModelId::from("small"), 1).expect("the only call");
    let decision = asked(0.1).choose(&config, &health).expect("the other may answer");
    assert_eq!(decision.candidates[0].model.as_str(), "large");
    assert!(decision.rejected[0].reason.contains("limit of 1 calls"));
    drop(slot);
    let decision = asked(0.1).choose(&config, &health).expect("a decision");
    assert_eq!(decision.candidates[0].model.as_str(), "small");
}

#[test]
fn an_ability_that_is_missing_everywhere_is_a_wrong_request() {
    let text = THREE
        .replace("tier = \"economy\"\n", "tier = \"economy\"\nabilities = { images = false }\n");
    let config = config(&format!(
        "{text}[[policy]]\nid = \"default\"\nstrategy = \"cascade\"\nmodels = [\"small\"]"
    ));
    let mut seeing = asked(0.1);
    seeing.needs.images = true;
    assert_eq!(seeing.refusal(&config).kind, FailureKind::BadInput);
}

#[test]
fn what_only_one_format_can_say_goes_to_its_vendors_or_is_refused_by_name() {
    let place = "[[provider]]\nid = \"ID\"\nkind = \"KIND\"\nbase_url = \"http://127.0.0.1:9\"\napi_key = \"k\"\nzone = \"world\"\n\
                 [[model]]\nid = \"ID\"\nprovider = \"ID\"\nname = \"x\"\ntier = \"economy\"\nprice = \"free\"\n";
    let of = |kind: &str| place.replace("ID", kind).replace("KIND", kind);
    let policy = |models: &str| {
        format!("[[policy]]\nid = \"default\"\nstrategy = \"fixed\"\nmodels = [{models}]\n")
    };
    let world = |models: &str| {
        config(&format!("{}{}{}{}", of("openai"), of("gemini"), of("anthropic"), policy(models)))
    };
    let mut searching = asked(0.1);
    searching.needs.native =
        Some(Native { dialect: crate::request::Dialect::Anthropic, what: "search_result" });
    let all = world("\"openai\", \"gemini\", \"anthropic\"");
    assert_eq!(searching.order(&all), "anthropic", "also no fail-over to the others");
    let refused = searching.refusal(&world("\"openai\", \"gemini\""));
    assert_eq!(refused.kind, FailureKind::BadInput);
    assert!(refused.message.en.contains("`search_result`"), "{}", refused.message.en);
}

#[test]
fn an_embedding_model_does_not_chat() {
    let text = THREE.replace("tier = \"economy\"\n", "tier = \"economy\"\nkind = \"embedding\"\n");
    let config = config(&format!(
        "{text}[[policy]]\nid = \"default\"\nstrategy = \"cascade\"\nmodels = [\"large\"]"
    ));
    let mut wrong = asked(0.1);
    wrong.target = Target::from_model_field("small");
    assert_eq!(wrong.refusal(&config).kind, FailureKind::BadInput);
    let mut vectors = asked(0.1);
    vectors.needs = Needs::embedding();
    assert_eq!(vectors.needs.kind, ModelKind::Embedding);
    assert_eq!(vectors.order(&config), "small");
}

#[test]
fn a_place_that_rests_is_left_out_and_the_wait_is_told() {
    let config = three("strategy = \"cascade\"");
    let health = HealthBook::default();
    let small = config.catalog.get(&ModelId::from("small")).expect("a model");
    let place = record(&health, small, &small.deployments[0]);
    (0..5).for_each(|_| place.failed(Instant::now(), "status 500"));
    let decision = asked(0.1).choose(&config, &health).expect("the others may answer");
    assert_eq!(decision.candidates[0].model.as_str(), "middle");
    assert_eq!(decision.rejected[0].why, Rejection::Health);
    let mut only = asked(0.1);
    only.target = Target::from_model_field("small");
    let refused = only.choose(&config, &health).expect_err("it rests");
    assert_eq!(refused.kind, FailureKind::NoCandidate);
    assert!(refused.retry_after.is_some());
}

#[test]
fn load_is_spread_by_weight_over_the_places_of_a_model() {
    let text = THREE.replace(
        "id = \"small\"\n",
        "id = \"small\"\ndeployments = [{ provider = \"near\", name = \"s\", weight = 3 }]\n",
    );
    let config = config(&format!(
        "{text}[[policy]]\nid = \"default\"\nstrategy = \"cascade\"\nmodels = [\"small\"]"
    ));
    let health = HealthBook::default();
    let near = (0..2_000)
        .filter(|_| {
            let decision = asked(0.1).choose(&config, &health).expect("a decision");
            decision.candidates[0].places[0].provider.as_str() == "near"
        })
        .count();
    // Three quarters of 2,000 is 1,500; seven standard deviations are 136.
    assert!((1_364..=1_636).contains(&near), "{near} of 2,000 went to the heavier place");
    // The least busy comes first, whatever its weight.
    let small = config.catalog.get(&ModelId::from("small")).expect("a model");
    let heavy = record(&health, small, &small.deployments[1]);
    let _calls: Vec<_> = (0..4).map(|_| heavy.begin()).collect();
    let decision = asked(0.1).choose(&config, &health).expect("a decision");
    assert_eq!(decision.candidates[0].places[0].provider.as_str(), "far");
}

#[test]
fn the_output_limit_is_the_callers_then_the_policys_never_more_than_the_model_can() {
    let config = three("strategy = \"cascade\"\nmax_output_tokens = 700");
    let small = config.catalog.get(&ModelId::from("small")).expect("a model");
    let default = PolicyId::from("default");
    assert_eq!(output_limit(&config, Some(&default), None, small), 700);
    assert_eq!(
        output_limit(&config, None, None, small),
        700,
        "a model by name takes the default's"
    );
    assert_eq!(output_limit(&config, Some(&default), Some(50), small), 50);
    let short = Model { max_output_tokens: Some(20), ..Model::clone(small) };
    assert_eq!(output_limit(&config, Some(&default), Some(50), &short), 20);
}
