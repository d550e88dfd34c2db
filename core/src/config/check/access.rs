//! `[[provider]]`: which accesses to vendors are sound.
//!
//! Decides addresses, keys, zones and limits. Knows nothing of models and calls nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::catalog::shipped;
use crate::config::file::{Located, Reader, Section, finding};
use crate::config::{Finding, ProviderConfig, ProviderKind, ProviderLimits, SimulatedConfig};
use crate::ids::ProviderId;
use crate::reply::Words;
use crate::request::Zone;

/// Sound accesses, and the names of those that were meant to be one.
pub struct Providers {
    pub sound: BTreeMap<ProviderId, ProviderConfig>,
    pub named: BTreeSet<String>,
}

const KINDS: &str = "openai, azure, anthropic, gemini, bedrock, simulated";

pub fn providers(
    sections: Vec<Section<'_>>,
    reader: &Reader<'_>,
    warnings: &mut Vec<Finding>,
) -> Providers {
    let mut providers = Providers { sound: BTreeMap::new(), named: BTreeSet::new() };
    for section in sections {
        let id = section.required_text("id").filter(|id| is_new_id(id, &providers, reader));
        if let Some(id) = &id {
            providers.named.insert(id.value.clone());
        }
        let sound = provider(&section, id, reader, warnings);
        section.finish();
        if let Some(provider) = sound {
            providers.sound.insert(provider.id.clone(), provider);
        }
    }
    providers
}

fn is_new_id(id: &Located<String>, providers: &Providers, reader: &Reader<'_>) -> bool {
    let new = !providers.named.contains(&id.value);
    if !new {
        reader.wrong_at(id, twice(&id.value));
    }
    new
}

/// The words for an id that is given a second time.
pub fn twice(id: &str) -> Words {
    Words::new(
        format!("`{id}` is there twice; every id must be unique"),
        format!("`{id}` gibt es doppelt; jede id muss eindeutig sein"),
    )
}

fn provider(
    section: &Section<'_>,
    id: Option<Located<String>>,
    reader: &Reader<'_>,
    warnings: &mut Vec<Finding>,
) -> Option<ProviderConfig> {
    if !section.has("kind") {
        let words = Words::new(
            format!("is missing; write one of: {KINDS}"),
            format!("fehlt; bitte eines schreiben von: {KINDS}"),
        );
        section.wrong("kind", words);
    }
    let kind = section.word("kind", ProviderKind::ALL).map(|kind| kind.value);
    let region = section.text("region");
    let written_url = section.text("base_url");
    let api_key = key(section, "api_key", reader);
    let access_key = key(section, "access_key", reader);
    let secret_key = key(section, "secret_key", reader);
    let api_version = section.text("api_version").map(|version| version.value);
    let headers = headers(section, reader);
    let limits = limits(section);
    let simulated = simulated(section);
    let zone = section.word("zone", Zone::ALL).map(|zone| zone.value);
    let has_address = section.has("base_url");
    let (id, kind) = (id?, kind?);

    let base_url = match &written_url {
        Some(written) => base_url(written, kind, reader)?,
        None if has_address => return None,
        None => usual_url(section, kind, region.as_ref().map(|region| region.value.as_str()))?,
    };
    if kind == ProviderKind::Bedrock {
        bedrock_access(section, region.is_some());
    }
    let provider = ProviderConfig {
        id: ProviderId::from(id.value),
        kind,
        base_url,
        api_key,
        zone: zone.unwrap_or(Zone::World),
        api_version,
        region: region.map(|region| region.value),
        access_key,
        secret_key,
        headers,
        limits,
        simulated,
    };
    warnings.extend(remarks(section, &provider, zone.is_none()));
    Some(provider)
}

/// A key must be able to stand in a header; a stray line end or umlaut would fail every call.
fn key(section: &Section<'_>, name: &'static str, reader: &Reader<'_>) -> Option<SecretString> {
    let key = section.secret(name)?;
    if http::HeaderValue::from_str(key.value.expose_secret()).is_err() {
        let words = Words::new(
            "holds characters that no key has; was it copied whole and alone?",
            "enthält Zeichen, die kein Schlüssel hat; ist er ganz und allein kopiert?",
        );
        reader.wrong_at(&key, words);
        return None;
    }
    Some(key.value)
}

fn base_url(written: &Located<String>, kind: ProviderKind, reader: &Reader<'_>) -> Option<String> {
    let address = web_address(written, reader)?;
    let last = address.rsplit('/').next().unwrap_or_default();
    let is_version =
        last.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if kind != ProviderKind::OpenAi && is_version {
        let words = Words::new(
            format!("{kind} is written without the version path; take `/{last}` out"),
            format!("{kind} steht ohne Versionspfad; bitte `/{last}` entfernen"),
        );
        reader.wrong_at(written, words);
        return None;
    }
    Some(address)
}

/// An http or https address without credentials, query or fragment, and without a slash at the
/// end.
pub fn web_address(written: &Located<String>, reader: &Reader<'_>) -> Option<String> {
    let no_address = |en: &str, de: &str| {
        reader.wrong_at(written, Words::new(en, de));
        None
    };
    let Ok(url) = url::Url::parse(written.value.trim()) else {
        return no_address(
            "is no web address; write for example https://api.example.com/v1",
            "ist keine Webadresse; bitte zum Beispiel https://api.example.com/v1 schreiben",
        );
    };
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return no_address(
            "must begin with http:// or https://",
            "muss mit http:// oder https:// beginnen",
        );
    }
    if !url.username().is_empty() || url.password().is_some() {
        return no_address(
            "must not hold a user name or password; use api_key or headers",
            "darf weder Benutzername noch Kennwort enthalten; bitte api_key oder headers nehmen",
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return no_address("must end before `?` and `#`", "muss vor `?` und `#` enden");
    }
    Some(url.as_str().trim_end_matches('/').to_owned())
}

fn usual_url(section: &Section<'_>, kind: ProviderKind, region: Option<&str>) -> Option<String> {
    match (usual_base_url(kind, region), kind) {
        (Some(address), _) => Some(address),
        (None, ProviderKind::Bedrock) => {
            let words = Words::new(
                "bedrock needs a region, for example eu-central-1",
                "bedrock braucht eine Region, zum Beispiel eu-central-1",
            );
            section.wrong("region", words);
            None
        }
        (None, _) => {
            let words = Words::new(
                format!("is missing; {kind} has no usual address"),
                format!("fehlt; {kind} hat keine übliche Adresse"),
            );
            section.wrong("base_url", words);
            None
        }
    }
}

/// Either a bearer key, or both halves of a signing key and the region that is signed.
fn bedrock_access(section: &Section<'_>, has_region: bool) {
    let bearer = section.has("api_key");
    let signed = section.has("access_key") && section.has("secret_key");
    let half = section.has("access_key") != section.has("secret_key");
    if (!bearer && !signed) || half {
        let words = Words::new(
            "bedrock needs either api_key, or access_key and secret_key together",
            "bedrock braucht entweder api_key oder access_key und secret_key zusammen",
        );
        section.wrong("api_key", words);
    }
    if signed && !bearer && !has_region && !section.has("region") {
        let words = Words::new(
            "signed calls need the region, for example eu-central-1",
            "signierte Aufrufe brauchen die Region, zum Beispiel eu-central-1",
        );
        section.wrong("region", words);
    }
}

fn headers(section: &Section<'_>, reader: &Reader<'_>) -> Vec<(String, SecretString)> {
    let mut headers = Vec::new();
    let Some(table) = section.section("headers") else { return headers };
    for name in table.names() {
        let Some(value) = table.named_text(name) else { continue };
        let sound = http::HeaderName::from_bytes(name.as_bytes()).is_ok()
            && http::HeaderValue::from_str(&value.value).is_ok();
        if sound {
            headers.push((name.to_ascii_lowercase(), SecretString::from(value.value)));
            continue;
        }
        let words = Words::new(
            "is no HTTP header; a name has letters and dashes, a value printable ASCII",
            "ist kein HTTP-Header; Namen haben Buchstaben und Striche, Werte druckbares ASCII",
        );
        reader.wrong_at(&value, words);
    }
    headers
}

fn limits(section: &Section<'_>) -> ProviderLimits {
    const DAY_MS: u64 = 86_400_000;
    let usual = ProviderLimits::default();
    let wait = |key, usual| {
        let written = section.whole(key, 1, DAY_MS);
        written.map_or(usual, |limit| Duration::from_millis(limit.value))
    };
    let retries = section.whole("max_retries", 0, 10);
    ProviderLimits {
        connect: wait("connect_timeout_ms", usual.connect),
        first_token: wait("first_token_timeout_ms", usual.first_token),
        idle: wait("idle_timeout_ms", usual.idle),
        total: wait("total_timeout_ms", usual.total),
        max_retries: retries
            .and_then(|retries| u32::try_from(retries.value).ok())
            .unwrap_or(usual.max_retries),
    }
}

fn simulated(section: &Section<'_>) -> SimulatedConfig {
    let usual = SimulatedConfig::default();
    let speed = section.whole("tokens_per_second", 0, 1_000_000);
    let first = section.whole("first_token_ms", 0, 3_600_000);
    SimulatedConfig {
        tokens_per_second: speed
            .and_then(|speed| u32::try_from(speed.value).ok())
            .unwrap_or(usual.tokens_per_second),
        first_token_ms: first.map_or(usual.first_token_ms, |first| first.value),
    }
}

/// What is allowed and should be known.
fn remarks(section: &Section<'_>, provider: &ProviderConfig, zone_unstated: bool) -> Vec<Finding> {
    let mut remarks = Vec::new();
    let mut remark = |key: &'static str, words| {
        remarks.push(finding(&section.dotted(key), section.line_of(key), words));
    };
    if zone_unstated {
        let hint = shipped::zone_hint(&provider.base_url);
        let (hint_en, hint_de) = match hint {
            Some(zone) => (
                format!(" (this vendor says that it answers from `{zone}`)"),
                format!(" (dieser Anbieter antwortet nach eigenen Angaben aus `{zone}`)"),
            ),
            None => (String::new(), String::new()),
        };
        remark(
            "zone",
            Words::new(
                format!(
                    "not set: `world` is assumed, the safe side; write local, eu or world{hint_en}"
                ),
                format!(
                    "nicht gesetzt: `world` wird angenommen, die sichere Seite; bitte local, eu \
                     oder world schreiben{hint_de}"
                ),
            ),
        );
    }
    let holds_secret = provider.api_key.is_some() || !provider.headers.is_empty();
    if holds_secret && provider.base_url.starts_with("http://") && !is_near(&provider.base_url) {
        remark(
            "base_url",
            Words::new(
                "the key and every question travel unencrypted; use https://",
                "Schlüssel und alle Fragen gehen unverschlüsselt; bitte https:// nehmen",
            ),
        );
    }
    let own_host = usual_base_url(provider.kind, provider.region.as_deref())
        .is_some_and(|usual| usual == provider.base_url);
    let bearer_kind = !matches!(provider.kind, ProviderKind::Simulated | ProviderKind::Bedrock);
    if bearer_kind && own_host && provider.api_key.is_none() && provider.headers.is_empty() {
        remark(
            "api_key",
            Words::new(
                "is missing; the vendor will refuse every call",
                "fehlt; der Anbieter wird jeden Aufruf ablehnen",
            ),
        );
    }
    remarks
}

/// On this machine or in a private network, where nobody gets certificates.
fn is_near(base_url: &str) -> bool {
    let Ok(url) = url::Url::parse(base_url) else { return false };
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback() || address.is_private(),
        Some(url::Host::Ipv6(address)) => address.is_loopback() || address.is_unique_local(),
        Some(url::Host::Domain(name)) => name == "localhost" || !name.contains('.'),
        None => false,
    }
}

/// The address that an access has where nobody writes one.
fn usual_base_url(kind: ProviderKind, region: Option<&str>) -> Option<String> {
    match kind {
        ProviderKind::OpenAi => Some("https://api.openai.com/v1".to_owned()),
        ProviderKind::Anthropic => Some("https://api.anthropic.com".to_owned()),
        ProviderKind::Gemini => Some("https://generativelanguage.googleapis.com".to_owned()),
        ProviderKind::Bedrock => {
            region.map(|region| format!("https://bedrock-runtime.{region}.amazonaws.com"))
        }
        ProviderKind::Simulated => Some("simulated:".to_owned()),
        ProviderKind::Azure => None,
    }
}
