//! Who should do it?
//!
//! [`choose`] filters the models that a policy or a name brings up (governance, zone, abilities,
//! context, health), puts those that are left in order, and says why. Governance and zone come
//! first: nothing later can widen them. Knows nothing of SQL, vendors or text; [`health`] keeps
//! how each place does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::caller::Caller;
use crate::catalog::{Deployment, Model, ModelKind, Tokenizer};
use crate::config::{Config, Grantee, PiiAction, Policy, Rule, Strategy};
use crate::ids::{ModelId, Node, PolicyId, UseCase};
use crate::money::Cost;
use crate::reply::{FailureKind, Words};
use crate::request::{ChatRequest, Native, ResponseFormat, Sensitivity, Target, Tier};
use crate::route::health::{HealthBook, PlaceHealth, PlaceKey, Standing};
use crate::trace::{Candidate, Classification, Decision, Place, Rejected, Rejection};

pub mod health;
#[cfg(test)]
mod tests;

/// The output limit where neither the caller nor a policy gives one (CONTRACT 15).
pub const DEFAULT_OUTPUT_TOKENS: u32 = 2048;
/// How long an answer is taken to be when models are compared by price.
const TYPICAL_OUTPUT_TOKENS: u64 = 400;
/// Below this complexity an economy model will do, for the `task` strategy.
const ECONOMY_BELOW: f32 = 0.35;
/// From this complexity on only a premium model will, for the `task` strategy.
const PREMIUM_FROM: f32 = 0.7;

/// What a request needs of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Which kind.
    pub kind: ModelKind,
    /// Tools are offered.
    pub tools: bool,
    /// There are images.
    pub images: bool,
    /// There are documents.
    pub documents: bool,
    /// There is sound.
    pub audio: bool,
    /// The answer must keep to a JSON schema.
    pub json_schema: bool,
    /// A part that only vendors of one format can be told.
    pub native: Option<Native>,
    /// The caller's output limit.
    pub max_output_tokens: Option<u32>,
}

impl Needs {
    /// What a chat request needs.
    pub fn of(request: &ChatRequest) -> Self {
        Needs {
            kind: ModelKind::Chat,
            tools: !request.tools.is_empty(),
            images: request.has_images(),
            documents: request.has_documents(),
            audio: request.has_audio(),
            json_schema: matches!(request.response_format, ResponseFormat::JsonSchema { .. }),
            native: request.native(),
            max_output_tokens: request.max_output_tokens,
        }
    }

    /// What texts to be embedded need.
    pub fn embedding() -> Self {
        Needs {
            kind: ModelKind::Embedding,
            tools: false,
            images: false,
            documents: false,
            audio: false,
            json_schema: false,
            native: None,
            max_output_tokens: Some(0),
        }
    }
}

/// What `choose` has to know of a request; no text.
pub struct Question<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// For what.
    pub use_case: Option<&'a UseCase>,
    /// Which model or policy was asked for.
    pub target: &'a Target,
    /// What is needed.
    pub needs: Needs,
    /// What kind of work it is.
    pub classification: &'a Classification,
    /// The level of what stays when findings are hidden: the classifier's, raised by request
    /// and key.
    pub level: Sensitivity,
    /// The level that the findings mean where they are not hidden; `None`: nothing was found.
    pub findings: Option<Sensitivity>,
    /// Models that the caller would like when those asked for fail.
    pub fallback: &'a [ModelId],
    /// The budget level nearest to its limit, and its share.
    pub pressure: Option<(&'a Node, f64)>,
    /// Counts the input for a tokenizer, unbiased; only called where a context limit is near.
    pub input_tokens: &'a dyn Fn(Tokenizer) -> u64,
    /// Bytes of everything that is sent: no tokenizer makes more tokens of them.
    pub input_bytes: u64,
    /// Now, for circuits.
    pub now: Instant,
}

/// Nobody may or can answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// What faces branch on.
    pub kind: FailureKind,
    /// Reason and way out.
    pub message: Words,
    /// Seconds after which another try may succeed.
    pub retry_after: Option<Duration>,
    /// Everyone that was looked at.
    pub rejected: Vec<Rejected>,
}

/// The ordered list of those who may answer, or why nobody may.
pub fn choose(
    config: &Config,
    health: &HealthBook,
    question: &Question<'_>,
) -> Result<Decision, Box<Refused>> {
    let brought_up = bring_up(config, question)?;
    let mut reasons = brought_up.reasons;
    let mut candidates: Vec<(Candidate, Arc<Model>)> = Vec::new();
    let mut rejected = Vec::new();
    let mut shortest_rest = None;
    for model in &brought_up.models {
        match admit(config, health, question, brought_up.policy, model) {
            Ok(places) => {
                let candidate = Candidate {
                    model: model.id.clone(),
                    tier: model.tier,
                    places,
                    reasons: Vec::new(),
                };
                candidates.push((candidate, model.clone()));
            }
            Err(no) => {
                shortest_rest = [shortest_rest, no.rest].into_iter().flatten().min();
                rejected.push(Rejected { model: model.id.clone(), why: no.why, reason: no.reason });
            }
        }
    }
    if candidates.is_empty() {
        return Err(Box::new(refusal(question, rejected, shortest_rest)));
    }
    if let Some(policy) = brought_up.policy {
        let ranked = Ranking { config, health, question, policy, by_rule: brought_up.by_rule };
        ranked.order(&mut candidates, &mut reasons);
    }
    Ok(Decision {
        policy: brought_up.policy.map(|policy| policy.id.clone()),
        strategy: brought_up.policy.map_or("named", |policy| policy.strategy.as_str()).to_owned(),
        candidates: candidates.into_iter().map(|(candidate, _)| candidate).collect(),
        rejected,
        reasons,
    })
}

/// Refuses a request that is certainly too long for every model that it might reach, before
/// anything reads it closely: guard and classifier would take seconds over megabytes that nobody
/// can answer. `exceeds` says whether its texts are more tokens than so many. A model that the
/// policy might choose counts whatever the rest of the walk would say of it, so nothing that
/// could be answered is refused here.
pub fn too_long(
    config: &Config,
    caller: &Caller,
    use_case: Option<&UseCase>,
    target: &Target,
    fallback: &[ModelId],
    exceeds: &dyn Fn(Tokenizer, u64) -> bool,
) -> Option<Box<Refused>> {
    let mut largest: Vec<(Tokenizer, u64)> = Vec::new();
    let models = reachable(config, target, fallback);
    for model in models.filter(|model| may_use(config, caller, use_case, &model.id, false)) {
        // A model without a known limit may take any length.
        let context = model.context_tokens?;
        let tokenizer = model.deployments.first().map_or(Tokenizer::Unpublished, |d| d.tokenizer);
        match largest.iter_mut().find(|(known, _)| *known == tokenizer) {
            Some((_, most)) => *most = context.max(*most),
            None => largest.push((tokenizer, context)),
        }
    }
    let too_long = !largest.is_empty()
        && largest.iter().all(|(tokenizer, context)| exceeds(*tokenizer, *context));
    let most = largest.iter().map(|(_, context)| *context).max().filter(|_| too_long)?;
    Some(refused(
        FailureKind::TooLarge,
        format!(
            "The request is too long for every permitted model; the longest takes {most} tokens. Shorten it."
        ),
        format!(
            "Die Anfrage ist für jedes erlaubte Modell zu lang; das längste fasst {most} Token. Bitte kürzen."
        ),
    ))
}

/// Every model that a target could lead to, whatever the request turns out to be.
fn reachable<'a>(
    config: &'a Config,
    target: &'a Target,
    fallback: &'a [ModelId],
) -> impl Iterator<Item = &'a Arc<Model>> {
    let (named, policy) = match target {
        Target::Model(id) => (config.catalog.get(id), None),
        Target::Policy(id) => (None, config.policies.get(id)),
    };
    let of_model = named.iter().flat_map(|model| &model.fallback).collect::<Vec<_>>();
    let of_policy = policy.into_iter().flat_map(|policy| {
        policy.models.iter().chain(policy.rules.iter().flat_map(|rule| &rule.models))
    });
    let others = of_model.into_iter().chain(of_policy).chain(fallback);
    named.into_iter().chain(others.filter_map(|id| config.catalog.get(id)))
}

/// Whether the key and the grants let this caller use a model. Without a use case, a grant for
/// certain use cases counts only when `any_use_case` is set (to list what may be asked for).
pub fn may_use(
    config: &Config,
    caller: &Caller,
    use_case: Option<&UseCase>,
    model: &ModelId,
    any_use_case: bool,
) -> bool {
    if caller.models.as_ref().is_some_and(|models| !models.contains(model)) {
        return false;
    }
    let mut named = config.grants.iter().filter(|grant| grant.models.contains(model)).peekable();
    if named.peek().is_none() {
        return true;
    }
    named.any(|grant| {
        let to_caller = grant.to.iter().any(|grantee| match grantee {
            Grantee::Node(node) => caller.levels.contains(node) || caller.node == *node,
            Grantee::Group(group) => caller.groups.contains(group),
        });
        let for_this = grant.use_cases.is_empty()
            || (any_use_case && use_case.is_none())
            || use_case.is_some_and(|use_case| grant.use_cases.contains(use_case));
        to_caller && for_this
    })
}

/// The level that counts for what would be sent to a zone: findings count where they are not
/// hidden.
pub fn level_at(
    config: &Config,
    question: &Question<'_>,
    zone: crate::request::Zone,
) -> Sensitivity {
    match (config.guard.pii(zone), question.findings) {
        (PiiAction::Off, Some(findings)) => question.level.max(findings),
        _ => question.level,
    }
}

/// The most output tokens that are asked of a model: the caller's limit, else the policy's, never
/// more than the model can.
pub fn output_limit(
    config: &Config,
    policy: Option<&PolicyId>,
    asked: Option<u32>,
    model: &Model,
) -> u32 {
    let default_id = PolicyId::from("default");
    let of_policy = || {
        let policy = config.policies.get(policy.unwrap_or(&default_id));
        policy.map_or(DEFAULT_OUTPUT_TOKENS, |policy| policy.max_output_tokens)
    };
    let limit = asked.unwrap_or_else(of_policy);
    model.max_output_tokens.map_or(limit, |most| limit.min(most))
}

/// The record of how a deployment does.
pub fn record(health: &HealthBook, model: &Model, deployment: &Deployment) -> Arc<PlaceHealth> {
    health.of(PlaceKey {
        model: model.id.clone(),
        provider: deployment.provider.clone(),
        name: deployment.name.clone(),
    })
}

struct BroughtUp<'a> {
    policy: Option<&'a Policy>,
    by_rule: bool,
    models: Vec<Arc<Model>>,
    reasons: Vec<String>,
}

/// The models that the request brings up, before anyone asks whether they may.
fn bring_up<'a>(
    config: &'a Config,
    question: &Question<'_>,
) -> Result<BroughtUp<'a>, Box<Refused>> {
    let mut brought_up = match question.target {
        Target::Model(id) => {
            let model = config.catalog.get(id).ok_or_else(|| no_such_model(id))?;
            let known = |id: &ModelId| config.catalog.get(id).cloned();
            let mut models = vec![model.clone()];
            models.extend(model.fallback.iter().filter_map(known));
            let reasons = vec![format!("{id} was asked for by name")];
            BroughtUp { policy: None, by_rule: false, models, reasons }
        }
        Target::Policy(id) if question.needs.kind == ModelKind::Embedding => {
            let policy = config.policies.get(id).ok_or_else(|| no_such_policy(id))?;
            let of_kind = |model: &&Arc<Model>| model.kind == ModelKind::Embedding;
            let models = config.catalog.iter().filter(of_kind).cloned().collect();
            let reasons = vec!["every embedding model".to_owned()];
            BroughtUp { policy: Some(policy), by_rule: false, models, reasons }
        }
        Target::Policy(id) => of_policy(config, question, id)?,
    };
    for id in question.fallback {
        let model = config.catalog.get(id).ok_or_else(|| no_such_model(id))?;
        if !brought_up.models.iter().any(|known| known.id == *id) {
            brought_up.models.push(model.clone());
        }
    }
    let mut seen = std::collections::HashSet::new();
    brought_up.models.retain(|model| seen.insert(model.id.clone()));
    Ok(brought_up)
}

fn of_policy<'a>(
    config: &'a Config,
    question: &Question<'_>,
    id: &PolicyId,
) -> Result<BroughtUp<'a>, Box<Refused>> {
    let policy = config.policies.get(id).ok_or_else(|| no_such_policy(id))?;
    let rule = policy.rules.iter().position(|rule| applies(rule, config, question));
    let (ids, reason) = match rule {
        Some(index) => (
            &policy.rules[index].models,
            format!("policy {id}, {}, rule {}", policy.strategy, index + 1),
        ),
        None => (&policy.models, format!("policy {id}, {}", policy.strategy)),
    };
    let models = ids.iter().filter_map(|id| config.catalog.get(id).cloned()).collect();
    Ok(BroughtUp { policy: Some(policy), by_rule: rule.is_some(), models, reasons: vec![reason] })
}

fn applies(rule: &Rule, config: &Config, question: &Question<'_>) -> bool {
    fn among<T: PartialEq>(list: &[T], value: &T) -> bool {
        list.is_empty() || list.contains(value)
    }
    let found = question.classification;
    let level = level_at(config, question, crate::request::Zone::World);
    let use_case_fits = rule.use_case.is_empty()
        || question.use_case.is_some_and(|use_case| rule.use_case.contains(use_case));
    let custom_fits = rule.custom.iter().all(|(classifier, classes)| {
        found.custom.get(classifier).is_some_and(|class| classes.contains(class))
    });
    among(&rule.task, &found.task)
        && among(&rule.domain, &found.domain)
        && among(&rule.language, &found.language)
        && among(&rule.sensitivity, &level)
        && among(&rule.channel, &question.caller.channel)
        && use_case_fits
        && rule.min_complexity.is_none_or(|least| f64::from(found.complexity) >= least)
        && custom_fits
}

struct No {
    why: Rejection,
    reason: String,
    rest: Option<Duration>,
}

impl No {
    fn new(why: Rejection, reason: impl Into<String>) -> Self {
        No { why, reason: reason.into(), rest: None }
    }
}

/// The places of a model where this request may and can run, in the order to be tried.
fn admit(
    config: &Config,
    health: &HealthBook,
    question: &Question<'_>,
    policy: Option<&Policy>,
    model: &Arc<Model>,
) -> Result<Vec<Place>, No> {
    if !may_use(config, question.caller, question.use_case, &model.id, false) {
        let reason = match &question.caller.models {
            Some(models) if !models.contains(&model.id) => "the key may not use it",
            _ => "no grant lets the caller use it for this",
        };
        return Err(No::new(Rejection::Governance, reason));
    }
    let permitted = permitted_places(config, question, policy, model)?;
    able(question, model)?;
    let permitted = speaking_places(config, question, permitted)?;
    fits_context(config, question, policy, model)?;
    if let Some(limit) = model.max_parallel.filter(|limit| health.is_full(&model.id, *limit)) {
        let reason = format!("its limit of {limit} calls at once is reached");
        return Err(No { why: Rejection::Health, reason, rest: Some(Duration::from_secs(1)) });
    }
    healthy_places(health, question, model, permitted)
}

fn permitted_places(
    config: &Config,
    question: &Question<'_>,
    policy: Option<&Policy>,
    model: &Model,
) -> Result<Vec<Place>, No> {
    let floor = policy.and_then(|policy| policy.floor).unwrap_or(Sensitivity::Public);
    let mut why = No::new(Rejection::Zone, "it runs nowhere");
    let mut places = Vec::new();
    for (index, deployment) in model.deployments.iter().enumerate() {
        let action = config.guard.pii(deployment.zone);
        if action == PiiAction::Block && question.findings.is_some() {
            why.reason = format!("personal data is blocked for zone {}", deployment.zone);
            continue;
        }
        let level = level_at(config, question, deployment.zone).max(floor);
        if !config.zones.allow(level, deployment.zone) {
            why.reason = format!("{level} data may not go to zone {}", deployment.zone);
            continue;
        }
        places.push(Place {
            deployment: index,
            provider: deployment.provider.clone(),
            zone: deployment.zone,
            redact: action == PiiAction::Redact && question.findings.is_some(),
        });
    }
    if places.is_empty() { Err(why) } else { Ok(places) }
}

fn able(question: &Question<'_>, model: &Model) -> Result<(), No> {
    let (needs, abilities) = (&question.needs, &model.abilities);
    if needs.kind != model.kind {
        let reason = match model.kind {
            ModelKind::Chat => "it answers in text and makes no embeddings",
            ModelKind::Embedding => "it makes embeddings and does not chat",
        };
        return Err(No::new(Rejection::Ability, reason));
    }
    let missing = [
        (needs.tools && !abilities.tools, "it calls no tools"),
        (needs.images && !abilities.images, "it reads no images"),
        (needs.documents && !abilities.documents, "it reads no documents"),
        (needs.audio && !abilities.audio, "it hears no sound"),
        (needs.json_schema && !abilities.json_schema, "it keeps to no JSON schema"),
    ];
    match missing.into_iter().find(|(lacks, _)| *lacks) {
        Some((_, reason)) => Err(No::new(Rejection::Ability, reason)),
        None => Ok(()),
    }
}

/// The places whose vendors can be told everything that the request says. A part that is left
/// out would be answered as if it had never been there.
fn speaking_places(
    config: &Config,
    question: &Question<'_>,
    mut permitted: Vec<Place>,
) -> Result<Vec<Place>, No> {
    let Some(native) = question.needs.native else { return Ok(permitted) };
    permitted.retain(|place| {
        let provider = config.providers.get(&place.provider);
        provider.is_some_and(|provider| provider.kind.speaks(native.dialect))
    });
    match permitted.is_empty() {
        true => Err(No::new(Rejection::Ability, format!("it cannot be told {native}"))),
        false => Ok(permitted),
    }
}

fn fits_context(
    config: &Config,
    question: &Question<'_>,
    policy: Option<&Policy>,
    model: &Model,
) -> Result<(), No> {
    let Some(context) = model.context_tokens else { return Ok(()) };
    let asked = question.needs.max_output_tokens;
    let output = output_limit(config, policy.map(|policy| &policy.id), asked, model);
    let room = context.saturating_sub(u64::from(output));
    // Bytes bound tokens from above, so the tokenizer is only asked when it could matter.
    if question.input_bytes <= room {
        return Ok(());
    }
    let tokenizer = model.deployments.first().map_or(Tokenizer::Unpublished, |d| d.tokenizer);
    let input = (question.input_tokens)(tokenizer);
    if input <= room {
        return Ok(());
    }
    let reason = format!("{input} input and {output} output tokens exceed its {context}");
    Err(No::new(Rejection::Context, reason))
}

fn healthy_places(
    health: &HealthBook,
    question: &Question<'_>,
    model: &Model,
    permitted: Vec<Place>,
) -> Result<Vec<Place>, No> {
    let mut shortest_rest: Option<Duration> = None;
    let mut healthy: Vec<(bool, f64, f64, Place)> = Vec::new();
    for place in permitted {
        let deployment = &model.deployments[place.deployment];
        let record = record(health, model, deployment);
        let busy = match record.standing(question.now) {
            Standing::Resting(rest) => {
                shortest_rest = Some(shortest_rest.map_or(rest, |known| known.min(rest)));
                continue;
            }
            standing => standing == Standing::Busy,
        };
        let weight = f64::from(deployment.weight.max(1));
        // The least busy first, by its share; among equals chance decides by weight (the
        // exponential race: the smallest of -ln(u)/w falls on each with probability w/Σw).
        let load = f64::from(record.in_flight()) / weight;
        let chance = -rand::random::<f64>().max(f64::MIN_POSITIVE).ln() / weight;
        healthy.push((busy, load, chance, place));
    }
    if healthy.is_empty() {
        let rest = shortest_rest.unwrap_or_default();
        let reason = format!("it is failing and rests for {} s", rest.as_secs().max(1));
        return Err(No { why: Rejection::Health, reason, rest: Some(rest) });
    }
    healthy.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.total_cmp(&b.2)));
    Ok(healthy.into_iter().map(|(_, _, _, place)| place).collect())
}

struct Ranking<'a> {
    config: &'a Config,
    health: &'a HealthBook,
    question: &'a Question<'a>,
    policy: &'a Policy,
    by_rule: bool,
}

impl Ranking<'_> {
    fn order(&self, candidates: &mut Vec<(Candidate, Arc<Model>)>, reasons: &mut Vec<String>) {
        if let Some((node, share)) = self.pressure() {
            candidates.sort_by_key(|(candidate, model)| self.cost(candidate, model));
            candidates[0].0.reasons.push("cheapest, since the budget is nearly used".to_owned());
            reasons.push(format!("{node} has used {:.0} % of its budget", share * 100.0));
            return;
        }
        match self.policy.strategy {
            _ if self.question.needs.kind == ModelKind::Embedding => self.by_price(candidates),
            Strategy::Fixed => candidates[0].0.reasons.push("first of the policy".to_owned()),
            Strategy::Task if self.by_rule => {
                candidates[0].0.reasons.push("first of the rule".to_owned());
            }
            Strategy::Task => self.by_fitness(candidates),
            Strategy::Cascade => self.by_rung(candidates, reasons),
        }
    }

    fn pressure(&self) -> Option<(&Node, f64)> {
        self.question.pressure.filter(|(_, share)| *share >= self.config.budget.degrade_at)
    }

    fn by_price(&self, candidates: &mut [(Candidate, Arc<Model>)]) {
        candidates.sort_by_key(|(candidate, model)| self.cost(candidate, model));
        candidates[0].0.reasons.push("cheapest".to_owned());
    }

    /// The cheapest rung that fits the complexity, then stronger ones, then weaker ones.
    fn by_fitness(&self, candidates: &mut [(Candidate, Arc<Model>)]) {
        let found = self.question.classification;
        let fitting = match found.complexity {
            _ if found.stage == "off" => Tier::Economy,
            c if c >= PREMIUM_FROM => Tier::Premium,
            c if c >= ECONOMY_BELOW || found.unsure => Tier::Standard,
            _ => Tier::Economy,
        };
        self.by_tier_price_latency(candidates);
        candidates.sort_by_key(|(candidate, _)| {
            let too_weak = candidate.tier < fitting;
            let distance = (candidate.tier as i32 - fitting as i32).abs();
            (too_weak, distance)
        });
        candidates[0].0.reasons.push(format!(
            "{} fits {} of complexity {:.2}",
            candidates[0].0.tier, found.task, found.complexity
        ));
    }

    /// From the cheapest rung up; a question that looks too hard for economy starts above it.
    fn by_rung(&self, candidates: &mut Vec<(Candidate, Arc<Model>)>, reasons: &mut Vec<String>) {
        self.by_tier_price_latency(candidates);
        let complexity = self.question.classification.complexity;
        let too_hard = f64::from(complexity) >= self.policy.skip_economy_above
            && self.question.classification.stage != "off";
        let above = candidates.iter().any(|(candidate, _)| candidate.tier > Tier::Economy);
        if too_hard && above {
            let (economy, stronger): (Vec<_>, Vec<_>) =
                candidates.drain(..).partition(|(c, _)| c.tier == Tier::Economy);
            candidates.extend(stronger);
            candidates.extend(economy);
            reasons.push(format!("complexity {complexity:.2} starts above economy"));
        }
        candidates[0].0.reasons.push("cheapest rung that may do".to_owned());
    }

    fn by_tier_price_latency(&self, candidates: &mut [(Candidate, Arc<Model>)]) {
        candidates.sort_by(|(a, a_model), (b, b_model)| {
            let cost = |c, m| self.cost(c, m);
            let latency = |c: &Candidate, m: &Model| {
                let deployment = &m.deployments[c.places[0].deployment];
                record(self.health, m, deployment).first_token_ms().unwrap_or(0.0)
            };
            a.tier
                .cmp(&b.tier)
                .then_with(|| cost(a, a_model).cmp(&cost(b, b_model)))
                .then_with(|| latency(a, a_model).total_cmp(&latency(b, b_model)))
        });
    }

    /// What a typical answer to this question would cost at the first place.
    fn cost(&self, candidate: &Candidate, model: &Model) -> Cost {
        let price = &model.deployments[candidate.places[0].deployment].price;
        price.worst_case(self.question.input_bytes / 4 + 1, TYPICAL_OUTPUT_TOKENS)
    }
}

fn no_such_model(id: &ModelId) -> Box<Refused> {
    refused(
        FailureKind::ModelNotFound,
        format!("There is no model `{id}`. GET /v1/models lists those you may use."),
        format!("Es gibt kein Modell `{id}`. GET /v1/models nennt die erlaubten."),
    )
}

fn no_such_policy(id: &PolicyId) -> Box<Refused> {
    refused(
        FailureKind::PolicyNotFound,
        format!("There is no policy `{id}`. GET /v1/models lists them as auto:POLICY."),
        format!("Es gibt keine Richtlinie `{id}`. GET /v1/models nennt sie als auto:POLICY."),
    )
}

fn refused(kind: FailureKind, en: String, de: String) -> Box<Refused> {
    let message = Words::new(en, de);
    Box::new(Refused { kind, message, retry_after: None, rejected: Vec::new() })
}

/// Why nobody is left: the last check that anyone reached tells.
fn refusal(question: &Question<'_>, rejected: Vec<Rejected>, rest: Option<Duration>) -> Refused {
    let last = rejected.iter().map(|rejected| rejected.why).max();
    let why = rejected
        .iter()
        .filter(|rejected| Some(rejected.why) == last)
        .map(|rejected| format!("{}: {}", rejected.model, rejected.reason))
        .collect::<Vec<_>>()
        .join("; ");
    let level = question.level;
    let (kind, message) = match last {
        Some(Rejection::Governance) => (
            FailureKind::Governance,
            Words::new(
                format!("No model is open to you for this ({why}). Ask your admin for a grant."),
                format!(
                    "Kein Modell ist für Sie hierfür freigegeben ({why}). Bitten Sie Ihre Administration um eine Freigabe."
                ),
            ),
        ),
        Some(Rejection::Zone) if why.contains("is blocked") => (
            FailureKind::Guard,
            Words::new(
                format!(
                    "The request contains personal data that may not leave ({why}). Remove it and ask again."
                ),
                format!(
                    "Die Anfrage enthält personenbezogene Daten, die das Haus nicht verlassen dürfen ({why}). Bitte entfernen und erneut fragen."
                ),
            ),
        ),
        Some(Rejection::Zone) => (
            FailureKind::Zone,
            Words::new(
                format!(
                    "This was found to be {level}, and no permitted model may receive such data ({why}). Remove the sensitive part, or ask your admin for a model in a nearer zone."
                ),
                format!(
                    "Dies wurde als {level} eingestuft, und kein erlaubtes Modell darf solche Daten erhalten ({why}). Entfernen Sie den sensiblen Teil oder bitten Sie Ihre Administration um ein Modell in einer näheren Zone."
                ),
            ),
        ),
        Some(Rejection::Ability) => (
            FailureKind::BadInput,
            Words::new(
                format!("No permitted model can do what the request needs ({why})."),
                format!("Kein erlaubtes Modell kann, was die Anfrage braucht ({why})."),
            ),
        ),
        Some(Rejection::Context) => (
            FailureKind::TooLarge,
            Words::new(
                format!("The request is too long for every permitted model ({why}). Shorten it."),
                format!("Die Anfrage ist für jedes erlaubte Modell zu lang ({why}). Bitte kürzen."),
            ),
        ),
        Some(Rejection::Health | Rejection::Budget) => (
            FailureKind::NoCandidate,
            Words::new(
                format!(
                    "Every permitted model is failing or busy right now ({why}). Try again shortly."
                ),
                format!(
                    "Jedes erlaubte Modell ist gerade gestört oder ausgelastet ({why}). Bitte gleich noch einmal versuchen."
                ),
            ),
        ),
        None => (
            FailureKind::NoCandidate,
            Words::new(
                "No model is configured for this. Add one to the configuration.",
                "Hierfür ist kein Modell eingerichtet. Tragen Sie eines in die Konfiguration ein.",
            ),
        ),
    };
    let retry_after = (kind == FailureKind::NoCandidate).then_some(rest).flatten();
    Refused { kind, message, retry_after, rejected }
}
