//! How each deployment does right now: calls on their way, speed, circuit.
//!
//! A circuit opens after several failures in a row and rests for a while that doubles up to a
//! limit; then one call is let through to see. A single odd answer never closes a place off: a
//! gateway that rests its only deployment after one mistake does more harm than the mistake.
//! Time comes in as a parameter.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::ids::{ModelId, ProviderId};

const FAILURES_TO_OPEN: u32 = 5;
const FIRST_REST: Duration = Duration::from_secs(5);
const LONGEST_REST: Duration = Duration::from_secs(60);
/// Weight of the newest figure in the smoothed first-token time.
const SMOOTHING: f64 = 0.2;

/// A place by what stays the same across reloads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PlaceKey {
    /// The model.
    pub model: ModelId,
    /// Whose access.
    pub provider: ProviderId,
    /// The vendor's name for the model.
    pub name: String,
}

/// Everything that is known about places; shared by all calls, kept across reloads.
#[derive(Debug, Default)]
pub struct HealthBook {
    // A std mutex: it is held for a look-up or an insert, never across a wait.
    places: Mutex<HashMap<PlaceKey, Arc<PlaceHealth>>>,
    /// Calls at once of the models that have a limit.
    running: Mutex<HashMap<ModelId, Arc<AtomicU32>>>,
}

/// One of the calls at once that a model may have; free again when it is dropped.
#[derive(Debug)]
pub struct Slot(Arc<AtomicU32>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One place.
#[derive(Debug, Default)]
pub struct PlaceHealth {
    in_flight: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    rests: u32,
    open_until: Option<Instant>,
    probing: bool,
    slow_until: Option<Instant>,
    first_token_ms: Option<f64>,
    refuses_logprobs: bool,
    last_error: Option<String>,
}

/// Whether a place may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Healthy,
    /// It asked for patience (429): others are used first.
    Busy,
    /// It rests for so long yet.
    Resting(Duration),
}

impl HealthBook {
    /// The record of a place, made at the first look.
    pub fn of(&self, key: PlaceKey) -> Arc<PlaceHealth> {
        let mut places = self.places.lock().expect("no thread panics while it holds this lock");
        places.entry(key).or_default().clone()
    }

    fn running(&self, model: &ModelId) -> Arc<AtomicU32> {
        let mut running = self.running.lock().expect("no thread panics while it holds this lock");
        running.entry(model.clone()).or_default().clone()
    }

    /// Whether a model has all the calls at once that it may have. A look, not a claim.
    pub fn is_full(&self, model: &ModelId, limit: u32) -> bool {
        self.running(model).load(Ordering::Relaxed) >= limit
    }

    /// Takes one of a model's calls at once; `None`: all are taken.
    pub fn claim(&self, model: &ModelId, limit: u32) -> Option<Slot> {
        let running = self.running(model);
        let more = |count: u32| (count < limit).then_some(count + 1);
        let claimed = running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        claimed.is_ok().then_some(Slot(running))
    }
}

/// A call on its way; counts until it is dropped.
#[derive(Debug)]
pub struct InFlight(Arc<PlaceHealth>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PlaceHealth {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds this lock")
    }

    /// Calls on their way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Smoothed milliseconds to the first token, once known.
    pub fn first_token_ms(&self) -> Option<f64> {
        self.state().first_token_ms
    }

    /// What went wrong last, in a word.
    pub fn last_error(&self) -> Option<String> {
        self.state().last_error.clone()
    }

    /// Whether the place has refused log probabilities that the judge wanted.
    pub fn refuses_logprobs(&self) -> bool {
        self.state().refuses_logprobs
    }

    /// Remembers that it does.
    pub fn note_refuses_logprobs(&self) {
        self.state().refuses_logprobs = true;
    }

    /// Whether the place may be used now. A look, not a claim: see [`PlaceHealth::begin`].
    pub fn standing(&self, now: Instant) -> Standing {
        let state = self.state();
        match state.open_until {
            Some(until) if until > now => return Standing::Resting(until - now),
            Some(_) if state.probing => return Standing::Resting(Duration::from_secs(1)),
            _ => {}
        }
        match state.slow_until {
            Some(until) if until > now => Standing::Busy,
            _ => Standing::Healthy,
        }
    }

    /// A call begins. Of a place that has rested, it is the one that sees how it does.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        if state.open_until.is_some() {
            state.probing = true;
        }
        drop(state);
        InFlight(self.clone())
    }

    /// A call went well; milliseconds to its first token, if it streamed.
    pub fn succeeded(&self, first_token: Option<Duration>) {
        let mut state = self.state();
        state.failures = 0;
        state.rests = 0;
        state.open_until = None;
        state.probing = false;
        state.slow_until = None;
        if let Some(first_token) = first_token {
            let ms = first_token.as_secs_f64() * 1000.0;
            let smoothed = state.first_token_ms.map_or(ms, |old| old + SMOOTHING * (ms - old));
            state.first_token_ms = Some(smoothed);
        }
    }

    /// A call failed by the place's fault.
    pub fn failed(&self, now: Instant, error: &str) {
        let mut state = self.state();
        state.last_error = Some(error.to_owned());
        state.failures += 1;
        let was_probe = std::mem::take(&mut state.probing);
        if was_probe || state.failures >= FAILURES_TO_OPEN {
            let rest = FIRST_REST.saturating_mul(1 << state.rests.min(6)).min(LONGEST_REST);
            state.open_until = Some(now + rest);
            state.rests += 1;
            state.failures = 0;
        }
    }

    /// The place asked for patience.
    pub fn asked_for_patience(&self, now: Instant, wait: Duration) {
        let mut state = self.state();
        state.probing = false;
        state.slow_until = Some(now + wait.min(LONGEST_REST));
    }

    /// A call ended without saying anything about the place (the caller left, or asked wrongly).
    pub fn undecided(&self) {
        self.state().probing = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Arc<PlaceHealth> {
        Arc::default()
    }

    #[test]
    fn one_failure_closes_nothing_and_five_in_a_row_rest_the_place() {
        let (place, now) = (place(), Instant::now());
        for _ in 0..4 {
            place.failed(now, "status 500");
            assert_eq!(place.standing(now), Standing::Healthy);
        }
        place.failed(now, "status 500");
        assert_eq!(place.standing(now), Standing::Resting(FIRST_REST));
    }

    #[test]
    fn a_success_between_failures_starts_the_count_anew() {
        let (place, now) = (place(), Instant::now());
        for _ in 0..20 {
            for _ in 0..4 {
                place.failed(now, "status 500");
            }
            place.succeeded(None);
        }
        assert_eq!(place.standing(now), Standing::Healthy);
    }

    #[test]
    fn after_the_rest_one_call_sees_and_decides_for_all() {
        let (place, start) = (place(), Instant::now());
        (0..5).for_each(|_| place.failed(start, "status 500"));
        let later = start + FIRST_REST;
        assert_eq!(place.standing(later), Standing::Healthy);
        let probe = place.begin();
        assert!(matches!(place.standing(later), Standing::Resting(_)), "a second call got in");
        place.failed(later, "status 500");
        assert_eq!(place.standing(later), Standing::Resting(FIRST_REST * 2));
        drop(probe);
        let much_later = later + FIRST_REST * 2;
        let _probe = place.begin();
        place.succeeded(Some(Duration::from_millis(100)));
        assert_eq!(place.standing(much_later), Standing::Healthy);
        assert_eq!(place.first_token_ms(), Some(100.0));
    }

    #[test]
    fn a_model_with_a_limit_takes_exactly_so_many_calls_at_once() {
        let (book, model) = (HealthBook::default(), ModelId::from("small"));
        let first = book.claim(&model, 2).expect("the first of two");
        let _second = book.claim(&model, 2).expect("the second of two");
        assert!(book.is_full(&model, 2));
        assert!(book.claim(&model, 2).is_none(), "a third call got in");
        drop(first);
        assert!(!book.is_full(&model, 2));
        assert!(book.claim(&model, 2).is_some());
    }

    #[test]
    fn a_rate_limit_puts_a_place_last_but_never_out() {
        let (place, now) = (place(), Instant::now());
        (0..50).for_each(|_| place.asked_for_patience(now, Duration::from_secs(3)));
        assert_eq!(place.standing(now), Standing::Busy);
        assert_eq!(place.standing(now + Duration::from_secs(3)), Standing::Healthy);
    }
}
