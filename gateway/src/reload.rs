//! A changed configuration is taken while running, whole or not at all.
//!
//! The file is looked at four times a second rather than watched: that also sees what editors,
//! mounted volumes and Kubernetes do by replacing files and links, where the system's watches
//! miss some of it, and it costs one system call. Knows nothing of what the configuration says
//! beyond naming what changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use stellwerk_core::config::check::Surroundings;
use stellwerk_core::config::{Config, Finding};
use stellwerk_core::engine::Engine;

use crate::wiring::{Wired, chain};

const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Watches the file that the configuration came from, if it came from one.
pub fn watch(wired: &Wired) {
    let engine = wired.engine.clone();
    let Some(path) = engine.config().path.clone() else { return };
    wired.in_background(follow(engine, path));
}

async fn follow(engine: Engine, path: PathBuf) {
    let mut hangup = Hangup::new();
    let mut taken = look(&path).await;
    let mut seen = taken;
    let mut tick = tokio::time::interval(LOOK_EVERY);
    loop {
        let told = tokio::select! {
            _ = tick.tick() => false,
            () = hangup.heard() => true,
        };
        let now = look(&path).await;
        // A file that is just being written is left alone until it rests for one look.
        let rests = now == seen;
        seen = now;
        if told || (rests && now != taken) {
            taken = now;
            reload(&engine, &path, told).await;
        }
    }
}

/// What tells a changed file from an unchanged one without reading it.
async fn look(path: &Path) -> Option<(SystemTime, u64)> {
    let data = tokio::fs::metadata(path).await.ok()?;
    Some((data.modified().ok()?, data.len()))
}

/// Takes the file as it is now, or leaves everything as it was. `told`: someone asked for it.
pub(crate) async fn reload(engine: &Engine, path: &Path, told: bool) {
    let old = engine.config();
    let reading = path.to_owned();
    let env = |name: &str| std::env::var(name).ok();
    let read = tokio::task::spawn_blocking(move || {
        let today = jiff::Zoned::now().date();
        crate::demo::load(Some(&reading), &Surroundings { env: &env, today, ollama: None })
    })
    .await;
    let new = match read {
        Ok(Ok(new)) => new,
        Ok(Err(findings)) => return refused(&findings),
        Err(died) => {
            tracing::error!(error = %died, "the configuration could not be read; the one before stays");
            return;
        }
    };
    // Values that stand elsewhere (`file:`) can change while the file does not, so a reload that
    // was asked for is done all the same.
    if new.hash == old.hash && !told {
        return;
    }
    let founded = founded(&old, &new);
    if !founded.is_empty() {
        // Counters and rows are in the old currency and calendar; half of the house in another
        // one would add up what cannot be added.
        tracing::error!(
            keys = founded.join(", "),
            "these cannot change while the server runs; the configuration before stays until a restart"
        );
        return;
    }
    let changes = changes(&old, &new);
    for finding in &new.warnings {
        tracing::warn!(key = %finding.key, line = finding.line, "{}", finding.message);
    }
    match engine.reload(Arc::new(new)) {
        Ok(()) => tracing::info!(changes = %changes.join("; "), "the configuration was reloaded"),
        Err(error) => tracing::error!(
            error = %chain(&error),
            "the configuration was not taken; the one before stays"
        ),
    }
}

fn refused(findings: &[Finding]) {
    for finding in findings {
        tracing::error!(key = %finding.key, line = finding.line, "{}", finding.message);
    }
    tracing::error!(
        findings = findings.len(),
        "the changed configuration is wrong and was not taken; the one before stays"
    );
}

/// What the running house stands on and cannot be changed under it.
fn founded(old: &Config, new: &Config) -> Vec<&'static str> {
    let same = [
        ("store.url", old.store == new.store),
        ("money.time_zone", old.money.time_zone == new.money.time_zone),
        ("money.currency", old.money.currency == new.money.currency),
        ("budget.thresholds", old.budget.thresholds == new.budget.thresholds),
    ];
    same.iter().filter(|(_, same)| !same).map(|(name, _)| *name).collect()
}

/// What is different, by name; never a value, since some are secret.
fn changes(old: &Config, new: &Config) -> Vec<String> {
    let mut changes = Vec::new();
    let same_provider = |id| {
        // The debug form hides secrets, so a changed key alone is not seen here; it is taken.
        format!("{:?}", old.providers.get(id)) == format!("{:?}", new.providers.get(id))
    };
    named(&mut changes, "provider", old.providers.keys(), new.providers.keys(), same_provider);
    let ids = |config: &Config| -> Vec<_> { config.catalog.iter().map(|m| m.id.clone()).collect() };
    let same_model = |id| old.catalog.get(id) == new.catalog.get(id);
    named(&mut changes, "model", ids(old).iter(), ids(new).iter(), same_model);
    let same_policy = |id| old.policies.get(id) == new.policies.get(id);
    named(&mut changes, "policy", old.policies.keys(), new.policies.keys(), same_policy);
    let sections = [
        ("grant", old.grants == new.grants),
        ("sensitivity", old.zones == new.zones),
        ("guard", old.guard == new.guard),
        ("budget", old.budget == new.budget),
        ("classify", old.classify == new.classify),
    ];
    changes.extend(
        sections.iter().filter(|(_, same)| !same).map(|(name, _)| format!("{name} changed")),
    );
    if old.server.listen != new.server.listen {
        changes.push("server.listen changed and takes effect at the next start".to_owned());
    }
    if changes.is_empty() {
        changes.push("nothing that has a name".to_owned());
    }
    changes
}

fn named<'a, Id: std::fmt::Display + PartialEq + 'a>(
    changes: &mut Vec<String>,
    what: &str,
    old: impl Iterator<Item = &'a Id> + Clone,
    new: impl Iterator<Item = &'a Id> + Clone,
    same: impl Fn(&'a Id) -> bool,
) {
    for id in new.clone() {
        if !old.clone().any(|known| known == id) {
            changes.push(format!("{what} {id} added"));
        } else if !same(id) {
            changes.push(format!("{what} {id} changed"));
        }
    }
    for id in old.filter(|id| !new.clone().any(|kept| kept == *id)) {
        changes.push(format!("{what} {id} removed"));
    }
}

/// The signal by which an administrator asks for a reload.
struct Hangup {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Hangup {
    #[cfg(unix)]
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let signal = signal(SignalKind::hangup());
        if let Err(error) = &signal {
            tracing::warn!(%error, "SIGHUP cannot be heard; the file is still looked at");
        }
        Hangup { signal: signal.ok() }
    }

    #[cfg(not(unix))]
    fn new() -> Self {
        Hangup {}
    }

    async fn heard(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}
