//! What a key may do in a minute and at once.
//!
//! Windows slide: the limit holds for any 60 seconds, not for a minute of the clock. Counts are
//! those of this process. Keys without limits cost nothing. Knows nothing of money: budgets are
//! the engine's.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use stellwerk_core::ids::KeyId;
use stellwerk_core::org::{ApiKey, KeyLimits};
use stellwerk_core::reply::{FailureKind, Usage, Words};

use crate::errors::WireError;

const WINDOW: Duration = Duration::from_secs(60);
/// What happens within so long is counted as one moment, the later end of it, so that memory
/// stays small however large a limit is.
const GRAIN_MS: u64 = 10;

/// The counts of all keys that have limits.
#[derive(Debug)]
pub struct Limits {
    begun: Instant,
    // Held for a few additions and never over a wait: a plain mutex is the quickest here.
    keys: Mutex<HashMap<KeyId, Arc<Mutex<Counts>>>>,
}

#[derive(Debug, Default)]
struct Counts {
    requests: Window,
    tokens: Window,
    running: u32,
}

/// Sums over the last 60 seconds.
#[derive(Debug, Default)]
struct Window {
    entries: VecDeque<(u64, u64)>,
    sum: u64,
}

impl Window {
    fn forget(&mut self, now: u64) {
        while let Some(&(at, amount)) = self.entries.front() {
            if at + grains(WINDOW) >= now {
                break;
            }
            self.sum -= amount;
            self.entries.pop_front();
        }
    }

    fn add(&mut self, now: u64, amount: u64) {
        self.sum += amount;
        match self.entries.back_mut() {
            Some((at, sum)) if *at == now => *sum += amount,
            _ => self.entries.push_back((now, amount)),
        }
    }

    /// Seconds until the sum is below the limit, at least one.
    fn wait_s(&self, now: u64, limit: u64) -> u64 {
        let mut sum = self.sum;
        for &(at, amount) in &self.entries {
            sum -= amount;
            if sum < limit {
                let wait = (at + grains(WINDOW) + 1).saturating_sub(now);
                return (wait * GRAIN_MS).div_ceil(1000).max(1);
            }
        }
        WINDOW.as_secs()
    }
}

fn grains(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX) / GRAIN_MS
}

impl Default for Limits {
    fn default() -> Self {
        Limits { begun: Instant::now(), keys: Mutex::default() }
    }
}

/// Leave for one call. While it lives the call counts as running.
#[derive(Debug, Default)]
pub struct Permit {
    counts: Option<(Arc<Mutex<Counts>>, Instant)>,
    /// Tokens that are charged if nobody tells the true number: a client that hangs up before
    /// the end must not get around its limit.
    estimate: u64,
    charged: bool,
}

impl Limits {
    /// Lets one call begin, or says when to come back.
    pub fn enter(&self, key: &ApiKey, now: Instant) -> Result<Permit, WireError> {
        let limits = &key.limits;
        if limits.requests_per_minute.is_none()
            && limits.tokens_per_minute.is_none()
            && limits.parallel.is_none()
        {
            return Ok(Permit::default());
        }
        let counts = lock(&self.keys).entry(key.id.clone()).or_default().clone();
        let moment = grains(now.saturating_duration_since(self.begun));
        lock(&counts).begin(limits, moment)?;
        Ok(Permit { counts: Some((counts, self.begun)), estimate: 0, charged: false })
    }
}

impl Counts {
    fn begin(&mut self, limits: &KeyLimits, now: u64) -> Result<(), WireError> {
        self.requests.forget(now);
        self.tokens.forget(now);
        if let Some(limit) = limits.parallel
            && self.running >= limit
        {
            return Err(refused(
                1,
                &format!("this key may have {limit} calls running at once"),
                &format!("mit diesem Schlüssel dürfen {limit} Anfragen gleichzeitig laufen"),
            ));
        }
        if let Some(limit) = limits.requests_per_minute
            && self.requests.sum >= u64::from(limit)
        {
            return Err(refused(
                self.requests.wait_s(now, u64::from(limit)),
                &format!("this key may send {limit} requests in 60 seconds"),
                &format!("mit diesem Schlüssel sind {limit} Anfragen in 60 Sekunden erlaubt"),
            ));
        }
        if let Some(limit) = limits.tokens_per_minute
            && self.tokens.sum >= limit
        {
            return Err(refused(
                self.tokens.wait_s(now, limit),
                &format!("this key may use {limit} tokens in 60 seconds"),
                &format!("mit diesem Schlüssel sind {limit} Token in 60 Sekunden erlaubt"),
            ));
        }
        self.requests.add(now, 1);
        self.running += 1;
        Ok(())
    }
}

fn refused(wait_s: u64, en: &str, de: &str) -> WireError {
    let words = Words::new(
        format!("{en}; try again in {wait_s} s"),
        format!("{de}; bitte in {wait_s} s erneut versuchen"),
    );
    WireError {
        retry_after_s: Some(wait_s),
        ..WireError::new(StatusCode::TOO_MANY_REQUESTS, FailureKind::RateLimited.code(), words)
    }
}

impl Permit {
    /// Charges what was used.
    pub fn charge(&mut self, usage: &Usage) {
        self.charge_tokens(usage.input_tokens.unwrap_or(0) + usage.output_tokens.unwrap_or(0));
    }

    /// Charges nothing: the call was refused, or it failed before anything came.
    pub fn forgive(&mut self) {
        self.charged = true;
    }

    /// Adds to what is charged where nobody tells the true number.
    pub fn expect(&mut self, tokens: u64) {
        self.estimate += tokens;
    }

    fn charge_tokens(&mut self, tokens: u64) {
        self.charged = true;
        if let Some((counts, begun)) = &self.counts {
            lock(counts).tokens.add(grains(begun.elapsed()), tokens);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.charged {
            self.charge_tokens(self.estimate);
        }
        if let Some((counts, _)) = &self.counts {
            lock(counts).running -= 1;
        }
    }
}

/// The counts are whole between any two statements, so a panic elsewhere leaves nothing broken.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stellwerk_core::ids::Node;

    fn key(limits: KeyLimits) -> ApiKey {
        ApiKey {
            id: KeyId::from("k1"),
            hash: String::new(),
            node: Node::Company,
            name: String::new(),
            use_case: None,
            limits,
            floor: None,
            keep_history: false,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            revoked_at: None,
        }
    }

    fn wait(outcome: Result<Permit, WireError>) -> Option<u64> {
        outcome.err().map(|error| error.retry_after_s.expect("a refusal says how long to wait"))
    }

    #[test]
    fn requests_are_counted_over_any_sixty_seconds() {
        let limits = Limits::default();
        let key = key(KeyLimits { requests_per_minute: Some(2), ..KeyLimits::default() });
        let at = |seconds| limits.begun + Duration::from_secs(seconds);
        assert_eq!(wait(limits.enter(&key, at(50))), None);
        assert_eq!(wait(limits.enter(&key, at(55))), None);
        // A new minute of the clock changes nothing.
        assert_eq!(wait(limits.enter(&key, at(61))), Some(50));
        assert_eq!(wait(limits.enter(&key, at(111))), None);
        assert_eq!(wait(limits.enter(&key, at(111))), Some(5));
    }

    #[test]
    fn a_call_that_ends_makes_room_for_the_next() {
        let limits = Limits::default();
        let key = key(KeyLimits { parallel: Some(1), ..KeyLimits::default() });
        let now = limits.begun;
        let first = limits.enter(&key, now).expect("leave");
        assert_eq!(wait(limits.enter(&key, now)), Some(1));
        drop(first);
        assert_eq!(wait(limits.enter(&key, now)), None);
    }

    #[test]
    fn tokens_are_charged_at_the_end_also_of_a_call_that_was_hung_up() {
        let limits = Limits::default();
        let key = key(KeyLimits { tokens_per_minute: Some(100), ..KeyLimits::default() });
        let mut told = limits.enter(&key, Instant::now()).expect("leave");
        told.expect(1_000);
        told.charge(&Usage { input_tokens: Some(30), output_tokens: Some(20), ..Usage::default() });
        drop(told);
        let mut hung_up = limits.enter(&key, Instant::now()).expect("50 of 100 are left");
        hung_up.expect(60);
        drop(hung_up);
        let wait = wait(limits.enter(&key, Instant::now())).expect("nothing is left");
        assert!((59..=61).contains(&wait), "{wait}");
    }

    #[test]
    fn keys_without_limits_leave_no_trace() {
        let limits = Limits::default();
        for _ in 0..1_000 {
            limits.enter(&key(KeyLimits::default()), limits.begun).expect("leave");
        }
        assert!(lock(&limits.keys).is_empty());
    }
}
