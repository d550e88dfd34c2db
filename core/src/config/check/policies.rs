//! `[[policy]]` and `[[grant]]`: who is chosen how, and who may use what.
//!
//! Decides that every name stands for something and that exactly one policy is `default`. Knows
//! nothing of prices beyond their order.

use std::collections::{BTreeMap, BTreeSet};

use crate::caller::Channel;
use crate::catalog::{Catalog, ModelKind};
use crate::config::check::access::twice;
use crate::config::check::models::Models;
use crate::config::check::own::{self, Classifiers};
use crate::config::file::{Located, Reader, Section, finding};
use crate::config::{Finding, Grant, Grantee, Policy, Rule, Strategy};
use crate::ids::{Group, ModelId, Node, PolicyId, UseCase};
use crate::reply::Words;
use crate::request::{Domain, Sensitivity, TaskKind};

/// The policy that `auto` means.
pub const DEFAULT: &str = "default";

const ESCALATE_BELOW: f64 = 0.6;
const SKIP_ECONOMY_ABOVE: f64 = 0.75;
const MAX_OUTPUT_TOKENS: u32 = 2048;

pub fn policies(
    sections: Vec<Section<'_>>,
    reader: &Reader<'_>,
    models: &Models,
    classifiers: &Classifiers,
    warnings: &mut Vec<Finding>,
) -> BTreeMap<PolicyId, Policy> {
    if sections.is_empty() {
        let cascade = default_cascade(&models.catalog);
        if cascade.models.is_empty() && models.named.is_empty() {
            warnings.push(no_models());
        }
        return BTreeMap::from([(cascade.id.clone(), cascade)]);
    }
    let mut named = BTreeSet::new();
    let mut sound = BTreeMap::new();
    let last_line = sections.last().and_then(|section| section.line);
    for section in sections {
        let id = section.required_text("id");
        if let Some(id) = &id
            && !named.insert(id.value.clone())
        {
            reader.wrong_at(id, twice(&id.value));
        }
        let policy = policy(&section, id, reader, models, classifiers);
        section.finish();
        sound.extend(policy.map(|policy| (policy.id.clone(), policy)));
    }
    if !named.contains(DEFAULT) {
        let words = Words::new(
            "no policy has the id `default`, which `auto` means; name one so",
            "keine Regel hat die id `default`, die `auto` bedeutet; bitte eine so nennen",
        );
        reader.wrong("policy", last_line, words);
    }
    sound
}

fn no_models() -> Finding {
    let words = Words::new(
        "there is no model, so nothing can be answered; write a [[provider]] and a [[model]]",
        "es gibt kein Modell, also keine Antwort; bitte [[provider]] und [[model]] schreiben",
    );
    finding("model", None, words)
}

/// Where nobody wrote a policy: every chat model, rung by rung, the cheaper first.
pub fn default_cascade(catalog: &Catalog) -> Policy {
    let mut models: Vec<_> =
        catalog.iter().filter(|model| model.kind == ModelKind::Chat).cloned().collect();
    models.sort_by_key(|model| {
        let price = &model.deployments[0].price;
        // A typical exchange: three times as much is read as is written.
        (model.tier, price.worst_case(3_000_000, 1_000_000))
    });
    Policy {
        id: PolicyId::from(DEFAULT),
        strategy: Strategy::Cascade,
        models: models.iter().map(|model| model.id.clone()).collect(),
        escalate_below: ESCALATE_BELOW,
        skip_economy_above: SKIP_ECONOMY_ABOVE,
        max_output_tokens: MAX_OUTPUT_TOKENS,
        judge: None,
        hedge_after_ms: None,
        floor: None,
        rules: Vec::new(),
    }
}

fn policy(
    section: &Section<'_>,
    id: Option<Located<String>>,
    reader: &Reader<'_>,
    models: &Models,
    classifiers: &Classifiers,
) -> Option<Policy> {
    let strategy = strategy(section, reader);
    let whom = chat_models(section, reader, models);
    let escalate_below = section.number("escalate_below", 0.0, 1.0);
    let skip_economy_above = section.number("skip_economy_above", 0.0, 1.0);
    let max_output_tokens = section.whole("max_output_tokens", 1, 10_000_000);
    let hedge_after_ms = section.whole("hedge_after_ms", 1, 3_600_000);
    let floor = section.word("sensitivity", Sensitivity::ALL);
    let judge = section.text("judge").filter(|judge| is_chat(judge, reader, models));
    section.not_yet("cache", "the answer cache", "den Antwort-Cache");
    let rules = section.sections("rule").into_iter();
    let rules = rules.map(|rule| self::rule(rule, reader, models, classifiers)).collect();
    Some(Policy {
        id: PolicyId::from(id?.value),
        strategy: strategy?,
        models: whom,
        escalate_below: escalate_below.map_or(ESCALATE_BELOW, |share| share.value),
        skip_economy_above: skip_economy_above.map_or(SKIP_ECONOMY_ABOVE, |share| share.value),
        max_output_tokens: max_output_tokens
            .and_then(|limit| u32::try_from(limit.value).ok())
            .unwrap_or(MAX_OUTPUT_TOKENS),
        judge: judge.map(|judge| ModelId::from(judge.value)),
        hedge_after_ms: hedge_after_ms.map(|wait| wait.value),
        floor: floor.map(|floor| floor.value),
        rules,
    })
}

fn strategy(section: &Section<'_>, reader: &Reader<'_>) -> Option<Strategy> {
    let written = section.required_text("strategy")?;
    if matches!(written.value.as_str(), "ensemble" | "dynamic") {
        let name = &written.value;
        let words = Words::new(
            format!("not yet: the strategy `{name}` is not built yet; use fixed, task or cascade"),
            format!(
                "noch nicht: die Strategie `{name}` gibt es noch nicht; bitte fixed, task oder \
                 cascade nehmen"
            ),
        );
        reader.wrong_at(&written, words);
        return None;
    }
    section.word("strategy", Strategy::ALL).map(|strategy| strategy.value)
}

/// The models of a policy or rule: at least one, each there once, each a chat model.
fn chat_models(section: &Section<'_>, reader: &Reader<'_>, models: &Models) -> Vec<ModelId> {
    let written = section.texts("models");
    let nothing = written.as_ref().is_some_and(Vec::is_empty) || !section.has("models");
    if nothing {
        let words = Words::new(
            "names no model; write models = [\"…\"]",
            "nennt kein Modell; bitte models = [\"…\"] schreiben",
        );
        section.wrong("models", words);
    }
    let mut seen = BTreeSet::new();
    let mut sound = Vec::new();
    for name in written.unwrap_or_default() {
        if !seen.insert(name.value.clone()) {
            reader.wrong_at(&name, twice(&name.value));
        } else if is_chat(&name, reader, models) {
            sound.push(ModelId::from(name.value));
        }
    }
    sound
}

fn is_chat(name: &Located<String>, reader: &Reader<'_>, models: &Models) -> bool {
    if !models.has(name, reader) {
        return false;
    }
    if models.kind(&name.value) == Some(ModelKind::Embedding) {
        let shown = name.shown();
        let words = Words::new(
            format!("`{shown}` makes vectors and cannot answer; name a chat model"),
            format!("`{shown}` macht Vektoren und kann nicht antworten; bitte ein Chat-Modell"),
        );
        reader.wrong_at(name, words);
        return false;
    }
    true
}

fn rule(
    section: Section<'_>,
    reader: &Reader<'_>,
    models: &Models,
    classifiers: &Classifiers,
) -> Rule {
    let rule = Rule {
        task: section.words("task", TaskKind::ALL),
        domain: section.words("domain", Domain::ALL),
        language: languages(&section, reader),
        sensitivity: section.words("sensitivity", Sensitivity::ALL),
        channel: section.words("channel", Channel::ALL),
        use_case: use_cases(&section, "use_case"),
        min_complexity: section.number("min_complexity", 0.0, 1.0).map(|share| share.value),
        custom: own::condition(section.section("custom"), reader, classifiers),
        models: chat_models(&section, reader, models),
    };
    section.finish();
    rule
}

fn languages(section: &Section<'_>, reader: &Reader<'_>) -> Vec<String> {
    let written = section.texts("language").unwrap_or_default();
    let is_code = |code: &str| {
        (2..=3).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_lowercase())
    };
    for code in written.iter().filter(|code| !is_code(&code.value)) {
        let shown = code.shown();
        let words = Words::new(
            format!("`{shown}` is no language code; write for example de or en"),
            format!("`{shown}` ist kein Sprachcode; bitte zum Beispiel de oder en schreiben"),
        );
        reader.wrong_at(code, words);
    }
    written.into_iter().map(|code| code.value).collect()
}

fn use_cases(section: &Section<'_>, key: &'static str) -> Vec<UseCase> {
    let written = section.texts(key).unwrap_or_default();
    written.into_iter().map(|name| UseCase::from(name.value)).collect()
}

pub fn grants(sections: Vec<Section<'_>>, reader: &Reader<'_>, models: &Models) -> Vec<Grant> {
    sections.into_iter().map(|section| grant(section, reader, models)).collect()
}

fn grant(section: Section<'_>, reader: &Reader<'_>, models: &Models) -> Grant {
    for key in ["models", "to"] {
        let empty = section.texts(key).is_some_and(|names| names.is_empty());
        if empty || !section.has(key) {
            let words = Words::new(
                format!("names nothing; write {key} = [\"…\"]"),
                format!("nennt nichts; bitte {key} = [\"…\"] schreiben"),
            );
            section.wrong(key, words);
        }
    }
    let named = section.texts("models").unwrap_or_default();
    let sound = named.into_iter().filter(|name| models.has(name, reader));
    let to = section.texts("to").unwrap_or_default();
    let grant = Grant {
        models: sound.map(|name| ModelId::from(name.value)).collect(),
        to: to.iter().filter_map(|name| grantee(name, reader)).collect(),
        use_cases: use_cases(&section, "use_cases"),
    };
    section.finish();
    grant
}

fn grantee(written: &Located<String>, reader: &Reader<'_>) -> Option<Grantee> {
    if let Some(group) = written.value.strip_prefix("group:").filter(|name| !name.trim().is_empty())
    {
        return Some(Grantee::Group(Group::from(group)));
    }
    // A use case is no place in the tree; `use_cases` says it.
    match written.value.parse() {
        Ok(node) if !matches!(node, Node::UseCase(_)) => Some(Grantee::Node(node)),
        _ => {
            let shown = written.shown();
            let words = Words::new(
                format!(
                    "`{shown}` is nobody; write company, department:ID, team:ID, person:ID, \
                     key:ID or group:NAME"
                ),
                format!(
                    "`{shown}` ist niemand; bitte company, department:ID, team:ID, person:ID, \
                     key:ID oder group:NAME schreiben"
                ),
            );
            reader.wrong_at(written, words);
            None
        }
    }
}
