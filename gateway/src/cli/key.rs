//! `stellwerk key create|list|revoke`: API keys.
//!
//! A key is shown once; the store keeps its hash. A running server takes a new key and refuses a
//! revoked one within a second.

use std::sync::Arc;

use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde::Serialize;
use stellwerk_core::config::Config;
use stellwerk_core::ids::{KeyId, ModelId, Node, UseCase};
use stellwerk_core::ledger::export::moment;
use stellwerk_core::org::{ApiKey, KeyLimits, key};
use stellwerk_core::request::{Locale, Sensitivity};

use crate::cli::args::{KeyCommand, KeyCreateArgs};
use crate::cli::output::{self, Table};
use crate::cli::setup::{Context, Desk};
use crate::cli::{CommandError, later};

/// What `key create --json` prints.
#[derive(Debug, Serialize)]
struct Created<'a> {
    id: &'a KeyId,
    key: &'a str,
    node: &'a Node,
    name: &'a str,
    use_case: Option<&'a UseCase>,
}

/// A row of `key list --json`; never the key, nor its hash.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    id: &'a KeyId,
    node: &'a Node,
    name: &'a str,
    use_case: Option<&'a UseCase>,
    state: &'static str,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    requests_per_minute: Option<u32>,
    tokens_per_minute: Option<u64>,
    parallel: Option<u32>,
    models: Option<&'a [ModelId]>,
    sensitivity: Option<Sensitivity>,
    keep_history: bool,
}

pub(super) async fn run(context: &Context, command: KeyCommand) -> Result<(), CommandError> {
    if let KeyCommand::Create(KeyCreateArgs { keep_history: true, .. }) = command {
        return later::not_yet("key create --keep-history");
    }
    let desk = Desk::open(context).await?;
    let done = match command {
        KeyCommand::Create(args) => create(&desk, args).await,
        KeyCommand::List { limit, offset, json } => list(context, &desk, limit, offset, json),
        KeyCommand::Revoke { id } => revoke(context, &desk, id).await,
    };
    desk.close(done).await
}

async fn create(desk: &Desk, args: KeyCreateArgs) -> Result<(), CommandError> {
    let now = Timestamp::now();
    let node = bookable(desk, args.node.clone())?;
    let secret = key::fresh();
    let kept = ApiKey {
        id: fresh_id(),
        hash: key::hash(secret.expose_secret()),
        node,
        name: args.name.clone(),
        use_case: args.use_case.clone(),
        limits: limits(&desk.config, &args, now)?,
        floor: args.sensitivity,
        keep_history: false,
        created_at: now,
        revoked_at: None,
    };
    desk.store.create_key(kept.clone()).await?;
    if !args.json {
        return output::line(secret.expose_secret());
    }
    output::json(&Created {
        id: &kept.id,
        key: secret.expose_secret(),
        node: &kept.node,
        name: &kept.name,
        use_case: kept.use_case.as_ref(),
    })
}

/// The public part of a key, which rows and nodes name.
pub(crate) fn fresh_id() -> KeyId {
    let bits: [u8; 8] = rand::random();
    KeyId::from(format!("key_{}", hex::encode(bits)))
}

/// A node that calls can be booked on now. The same question that each call of the key will be
/// asked is asked here, so that a key never fails on its first use.
fn bookable(desk: &Desk, node: Node) -> Result<Node, CommandError> {
    let node = match node {
        Node::Key(_) => {
            return Err(CommandError::refused(
                "A key cannot hang on another key; name a person, team, department, use case or company.",
                "Ein Schlüssel kann nicht an einem anderen hängen; bitte person, team, department, use-case oder company angeben.",
            ));
        }
        node => desk.node(node)?,
    };
    let closed = match &node {
        Node::Department(id) | Node::Team(id) => {
            desk.directory.units.get(id).is_some_and(|unit| unit.closed)
        }
        Node::Person(id) => desk.directory.people.get(id).is_some_and(|person| person.closed),
        _ => false,
    };
    match closed {
        false => Ok(node),
        true => Err(CommandError::refused(
            format!("{node} is closed; a key on it could not be used."),
            format!("{node} ist geschlossen; ein Schlüssel daran wäre nicht zu gebrauchen."),
        )),
    }
}

fn limits(
    config: &Config,
    args: &KeyCreateArgs,
    now: Timestamp,
) -> Result<KeyLimits, CommandError> {
    for model in args.models.iter().flatten() {
        if config.catalog.get(model).is_none() {
            return Err(CommandError::refused(
                format!("There is no model `{model}`; `stellwerk models` lists them."),
                format!("Das Modell `{model}` gibt es nicht; `stellwerk models` zeigt alle."),
            ));
        }
    }
    Ok(KeyLimits {
        requests_per_minute: args.requests_per_minute,
        tokens_per_minute: args.tokens_per_minute,
        parallel: args.parallel,
        models: args.models.clone(),
        expires_at: args.expires.as_deref().map(|date| expiry(config, date, now)).transpose()?,
    })
}

fn expiry(config: &Config, written: &str, now: Timestamp) -> Result<Timestamp, CommandError> {
    let expires = moment(written, &config.money.time_zone).map_err(|error| {
        CommandError::refused(
            format!("--expires: {error}."),
            format!(
                "--expires: `{written}` ist kein Zeitpunkt; etwa 2027-01-01 oder 2027-01-01T08:00:00Z."
            ),
        )
    })?;
    if expires > now {
        return Ok(expires);
    }
    Err(CommandError::refused(
        format!("--expires: {written} is over; the key would be dead from the start."),
        format!("--expires: {written} ist vorbei; der Schlüssel wäre von Anfang an tot."),
    ))
}

fn list(
    context: &Context,
    desk: &Desk,
    limit: Option<usize>,
    offset: usize,
    json: bool,
) -> Result<(), CommandError> {
    let mut keys: Vec<&Arc<ApiKey>> = desk.directory.keys.values().collect();
    keys.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    let total = keys.len();
    let now = Timestamp::now();
    let page: Vec<Listed<'_>> = keys
        .into_iter()
        .skip(offset)
        .take(limit.unwrap_or(usize::MAX))
        .map(|key| listed(key, now))
        .collect();
    if json {
        return output::json(&page);
    }
    if page.len() < total {
        output::say(&context.words(
            format!("{} of {total} keys", page.len()),
            format!("{} von {total} Schlüsseln", page.len()),
        ));
    }
    output::line(table(&page, context.locale).to_string().trim_end())
}

fn listed(key: &ApiKey, now: Timestamp) -> Listed<'_> {
    let expired = key.limits.expires_at.is_some_and(|expires| expires <= now);
    Listed {
        id: &key.id,
        node: &key.node,
        name: &key.name,
        use_case: key.use_case.as_ref(),
        state: match (key.revoked_at, expired) {
            (Some(_), _) => "revoked",
            (None, true) => "expired",
            (None, false) => "active",
        },
        created_at: key.created_at,
        expires_at: key.limits.expires_at,
        revoked_at: key.revoked_at,
        requests_per_minute: key.limits.requests_per_minute,
        tokens_per_minute: key.limits.tokens_per_minute,
        parallel: key.limits.parallel,
        models: key.limits.models.as_deref(),
        sensitivity: key.floor,
        keep_history: key.keep_history,
    }
}

fn table(keys: &[Listed<'_>], locale: Locale) -> Table {
    let mut table = Table::new(match locale {
        Locale::En => ["id", "state", "node", "name", "use case", "limits", "created"],
        Locale::De => ["Id", "Stand", "Knoten", "Name", "Zweck", "Grenzen", "angelegt"],
    });
    for key in keys {
        let state = match (locale, key.state) {
            (Locale::De, "active") => "gültig",
            (Locale::De, "revoked") => "gesperrt",
            (Locale::De, "expired") => "abgelaufen",
            (_, state) => state,
        };
        table.row([
            key.id.to_string(),
            state.to_owned(),
            key.node.to_string(),
            key.name.to_owned(),
            key.use_case.map(ToString::to_string).unwrap_or_default(),
            limits_line(key),
            key.created_at.strftime("%Y-%m-%d").to_string(),
        ]);
    }
    table
}

fn limits_line(key: &Listed<'_>) -> String {
    let mut limits = Vec::new();
    limits.extend(key.requests_per_minute.map(|n| format!("{n} requests/min")));
    limits.extend(key.tokens_per_minute.map(|n| format!("{n} tokens/min")));
    limits.extend(key.parallel.map(|n| format!("{n} parallel")));
    limits.extend(
        key.models.map(|models| models.iter().map(ModelId::as_str).collect::<Vec<_>>().join(",")),
    );
    limits.extend(key.sensitivity.map(|level| format!("≥ {level}")));
    limits.extend(key.expires_at.map(|expires| format!("until {expires}")));
    limits.join(" · ")
}

async fn revoke(context: &Context, desk: &Desk, id: KeyId) -> Result<(), CommandError> {
    // The node form is what `budget show` prints, so it is taken too.
    let id = id.as_str().strip_prefix("key:").map(KeyId::from).unwrap_or(id);
    let kept = desk.store.directory().keys.values().find(|key| key.id == id).cloned();
    desk.store.revoke_key(id.clone(), Timestamp::now()).await?;
    let (name, node) = match &kept {
        Some(key) => (key.name.as_str(), key.node.to_string()),
        None => ("?", "?".to_owned()),
    };
    output::say(&context.words(
        format!("Revoked {id} ({name}, {node}). A running server refuses it within a second."),
        format!("{id} gesperrt ({name}, {node}). Ein laufender Server lehnt ihn binnen einer Sekunde ab."),
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(name: &str) -> ApiKey {
        ApiKey {
            id: "key_1".into(),
            hash: "0".repeat(64),
            node: Node::Team("vertrieb".into()),
            name: name.to_owned(),
            use_case: Some("offers".into()),
            limits: KeyLimits {
                requests_per_minute: Some(60),
                tokens_per_minute: None,
                parallel: Some(2),
                models: Some(vec!["mini".into(), "gross".into()]),
                expires_at: Some("2027-01-01T00:00:00Z".parse().unwrap()),
            },
            floor: Some(Sensitivity::Confidential),
            keep_history: false,
            created_at: "2026-07-02T08:00:00Z".parse().unwrap(),
            revoked_at: None,
        }
    }

    #[test]
    fn a_list_never_shows_a_key_nor_its_hash() {
        let key = kept("laptop");
        let row = listed(&key, "2026-08-01T00:00:00Z".parse().unwrap());
        let json = serde_json::to_string(&row).unwrap();
        assert!(!json.contains("0000") && !json.contains("hash"), "{json}");
        insta::assert_snapshot!(table(&[row], Locale::En).to_string());
    }

    #[test]
    fn a_key_past_its_date_is_listed_as_expired() {
        let key = kept("laptop");
        let at = |moment: &str| listed(&key, moment.parse().unwrap()).state;
        assert_eq!(at("2026-12-31T23:59:59Z"), "active");
        assert_eq!(at("2027-01-01T00:00:00Z"), "expired");
        let revoked = ApiKey { revoked_at: Some(key.created_at), ..key.clone() };
        assert_eq!(listed(&revoked, key.created_at).state, "revoked");
    }
}
