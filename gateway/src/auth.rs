//! Who is calling: a key becomes a caller.
//!
//! Only the hash of a key is known here and in the directory. Knows nothing of what the caller
//! then asks for.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::http::header::{ACCEPT_LANGUAGE, AUTHORIZATION, HeaderMap};
use jiff::Timestamp;
use stellwerk_core::caller::{Caller, Channel};
use stellwerk_core::org::{ApiKey, Directory, UnknownCaller, key};
use stellwerk_core::reply::{FailureKind, Words};
use stellwerk_core::request::Locale;

use crate::errors::WireError;

/// A caller who has shown a key.
#[derive(Debug)]
pub struct Identity {
    /// Who.
    pub caller: Caller,
    /// With which key.
    pub key: Arc<ApiKey>,
}

/// The language that a request prefers; English where it names none.
pub fn locale(headers: &HeaderMap) -> Locale {
    let written = headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    written.map(Locale::preferred).unwrap_or_default()
}

/// Checks the key of a request.
pub fn identify(
    directory: &Directory,
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<Identity, WireError> {
    let shown = shown_key(headers).ok_or_else(missing)?;
    let key = directory.keys.get(&key::hash(shown)).ok_or_else(unknown)?;
    if key.revoked_at.is_some() {
        return Err(dead("this key has been revoked", "dieser Schlüssel ist widerrufen"));
    }
    if key.limits.expires_at.is_some_and(|end| end <= now) {
        return Err(dead("this key has expired", "dieser Schlüssel ist abgelaufen"));
    }
    let caller = directory.caller_of_key(key, Channel::Api).map_err(|error| closed(&error))?;
    let caller = Caller { locale: locale(headers), ..caller };
    Ok(Identity { caller, key: key.clone() })
}

/// The key as it was shown, in either of the two headers.
fn shown_key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
    let bare = || headers.get("x-api-key").and_then(|value| value.to_str().ok());
    bearer.or_else(bare).map(str::trim).filter(|key| !key.is_empty())
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key)
}

fn unauthenticated(words: Words) -> WireError {
    WireError::new(StatusCode::UNAUTHORIZED, FailureKind::Unauthenticated.code(), words)
}

fn missing() -> WireError {
    unauthenticated(Words::new(
        "no key was given; send `Authorization: Bearer KEY` or `x-api-key: KEY`; `stellwerk key create` makes one",
        "kein Schlüssel angegeben; `Authorization: Bearer SCHLÜSSEL` oder `x-api-key: SCHLÜSSEL` senden; `stellwerk key create` legt einen an",
    ))
}

fn unknown() -> WireError {
    unauthenticated(Words::new(
        "this key is not known here; `stellwerk key list` shows the keys, `stellwerk key create` makes one",
        "dieser Schlüssel ist hier unbekannt; `stellwerk key list` zeigt die Schlüssel, `stellwerk key create` legt einen an",
    ))
}

fn dead(en: &str, de: &str) -> WireError {
    unauthenticated(Words::new(
        format!("{en}; ask your administrator for a new one"),
        format!("{de}; bitte den Administrator um einen neuen"),
    ))
}

/// The key is good, but its person or place may not ask any more.
fn closed(error: &UnknownCaller) -> WireError {
    tracing::info!(%error, "a key was refused");
    let words = Words::new(
        "the person or unit behind this key is closed; ask your administrator for another key",
        "die Person oder Einheit hinter diesem Schlüssel ist geschlossen; bitte den Administrator um einen anderen Schlüssel",
    );
    WireError::new(StatusCode::FORBIDDEN, FailureKind::Governance.code(), words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use stellwerk_core::ids::{KeyId, Node};
    use stellwerk_core::org::{KeyLimits, Person};

    fn now() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().expect("a moment")
    }

    fn directory(change: impl FnOnce(&mut ApiKey)) -> Directory {
        let mut api_key = ApiKey {
            id: KeyId::from("k1"),
            hash: key::hash("sk-stw-1"),
            node: Node::Company,
            name: "test".to_owned(),
            use_case: None,
            limits: KeyLimits::default(),
            floor: None,
            keep_history: false,
            created_at: now(),
            revoked_at: None,
        };
        change(&mut api_key);
        let mut directory = Directory::default();
        directory.keys.insert(api_key.hash.clone(), Arc::new(api_key));
        directory
    }

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(
            axum::http::HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )])
    }

    fn outcome(directory: &Directory, headers: &HeaderMap) -> String {
        match identify(directory, headers, now()) {
            Ok(identity) => identity.caller.levels.iter().map(|node| format!("{node} ")).collect(),
            Err(error) => format!("{} {}", error.status.as_u16(), error.code),
        }
    }

    #[test]
    fn a_key_is_taken_from_either_header() {
        let directory = directory(|_| {});
        for headers in [
            headers("authorization", "Bearer sk-stw-1"),
            headers("authorization", "bearer  sk-stw-1"),
            headers("x-api-key", "sk-stw-1"),
        ] {
            assert_eq!(outcome(&directory, &headers), "company key:k1 ");
        }
    }

    #[test]
    fn unknown_revoked_and_expired_keys_are_401() {
        let shown = headers("x-api-key", "sk-stw-1");
        let refused = "401 invalid_api_key";
        assert_eq!(outcome(&directory(|_| {}), &HeaderMap::new()), refused);
        assert_eq!(outcome(&directory(|_| {}), &headers("x-api-key", "sk-stw-2")), refused);
        assert_eq!(
            outcome(&directory(|_| {}), &headers("authorization", "Basic sk-stw-1")),
            refused
        );
        assert_eq!(outcome(&directory(|key| key.revoked_at = Some(now())), &shown), refused);
        assert_eq!(outcome(&directory(|key| key.limits.expires_at = Some(now())), &shown), refused);
    }

    #[test]
    fn the_key_of_a_closed_person_is_403() {
        let mut directory = directory(|key| key.node = "person:anna".parse().expect("a node"));
        let person = Person {
            id: "anna".into(),
            name: "Anna".to_owned(),
            email: None,
            parent: None,
            groups: Vec::new(),
            locale: None,
            roles: Vec::new(),
            clearance: None,
            closed: true,
        };
        directory.people.insert(person.id.clone(), person);
        assert_eq!(outcome(&directory, &headers("x-api-key", "sk-stw-1")), "403 governance");
    }
}
