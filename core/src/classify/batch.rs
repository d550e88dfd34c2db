//! Who computes: threads that own a device, and the bounded queue before them.
//!
//! Whoever asks hands over [`Tokens`] and gets a [`Pending`] at once, or hears that the queue is
//! full and answers without the deep stage. What waits together is computed together, up to a
//! number of tokens. Knows nothing of what the scores mean.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use candle_core::Device;
use tokio::sync::oneshot;

use crate::classify::encoder::{Encoder, EncoderError, Output, Tokens};

/// How much is computed at once, and how much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Threads that compute. A GPU wants one; each on a CPU keeps one core busy.
    pub threads: usize,
    /// How long a batch that is not full waits for company while the queue is busy. A request
    /// that comes alone never waits.
    pub window: Duration,
    /// Tokens that are computed together. A request with more is computed alone.
    pub tokens_at_once: usize,
    /// Tokens that may wait. This bounds the time that anybody waits, whatever the length.
    pub tokens_waiting: usize,
}

impl Settings {
    /// What suits a device. On a CPU a batch only shares the reading of the weights, and 128
    /// tokens are enough for that; a GPU is not full before some ten thousand.
    pub fn suited_to(device: &Device) -> Self {
        if device.is_cpu() {
            return Settings {
                threads: 1,
                window: Duration::ZERO,
                tokens_at_once: 128,
                tokens_waiting: 16_384,
            };
        }
        Settings {
            threads: 1,
            window: Duration::from_micros(300),
            tokens_at_once: 16_384,
            tokens_waiting: 262_144,
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BatchError {
    /// Too much waits already; whoever asks does without.
    #[error("the classifier has too much to do")]
    Full,
    /// The thread ended, or panicked over these texts.
    #[error("the classifier gave no answer")]
    Stopped,
    /// The model could not read these texts.
    #[error("the classifier could not read the text")]
    Failed(#[source] Arc<EncoderError>),
}

/// An answer that is being computed: await it, or [`Pending::wait`] where nothing is async.
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Result<Vec<Output>, BatchError>>);

impl Pending {
    /// Blocks until the answer is there. Not for the threads of an async runtime, which panics.
    ///
    /// # Errors
    /// [`BatchError::Stopped`] or [`BatchError::Failed`].
    pub fn wait(self) -> Result<Vec<Output>, BatchError> {
        self.0.blocking_recv().unwrap_or(Err(BatchError::Stopped))
    }
}

impl Future for Pending {
    type Output = Result<Vec<Output>, BatchError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|got| got.unwrap_or(Err(BatchError::Stopped)))
    }
}

/// A handle on the threads. When the last one is dropped they finish what waits, and end.
#[derive(Debug)]
pub struct Batcher {
    queue: Arc<Queue>,
}

type Read = dyn Fn(&[&Tokens]) -> Result<Vec<Output>, EncoderError> + Send + Sync;

impl Batcher {
    /// Starts threads for a model.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(encoder: Arc<Encoder>, settings: Settings) -> std::io::Result<Self> {
        Batcher::start_with(Arc::new(move |batch: &[&Tokens]| encoder.forward(batch)), settings)
    }

    fn start_with(read: Arc<Read>, settings: Settings) -> std::io::Result<Self> {
        let batcher = Batcher { queue: Arc::new(Queue::new(settings)) };
        for number in 0..settings.threads.max(1) {
            let (queue, read) = (Arc::clone(&batcher.queue), Arc::clone(&read));
            std::thread::Builder::new()
                .name(format!("classify-{number}"))
                .spawn(move || own(&queue, read.as_ref()))?;
        }
        Ok(batcher)
    }

    /// Hands over texts, which are answered together and in order. Never blocks.
    ///
    /// # Errors
    /// [`BatchError::Full`].
    pub fn submit(&self, texts: Vec<Tokens>) -> Result<Pending, BatchError> {
        let (answer, pending) = oneshot::channel();
        self.queue.push(Job::new(texts, answer))?;
        Ok(Pending(pending))
    }

    /// Tokens that wait, for metrics.
    pub fn waiting(&self) -> usize {
        self.queue.state().tokens
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.queue.state().is_closed = true;
        self.queue.wake.notify_all();
    }
}

struct Job {
    texts: Vec<Tokens>,
    tokens: usize,
    answer: oneshot::Sender<Result<Vec<Output>, BatchError>>,
}

impl Job {
    fn new(texts: Vec<Tokens>, answer: oneshot::Sender<Result<Vec<Output>, BatchError>>) -> Self {
        // An empty text is some work too; counting it as none would let any number wait.
        let tokens = texts.iter().map(|text| text.len().max(1)).sum();
        Job { texts, tokens, answer }
    }
}

/// What waits. A plain mutex is right: it is held for a push or for taking a batch, never while
/// anything is computed.
struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    settings: Settings,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    tokens: usize,
    is_closed: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Queue {
    fn new(settings: Settings) -> Self {
        Queue { state: Mutex::default(), wake: Condvar::new(), settings }
    }

    /// A poisoned lock says that a thread panicked between two fields, which never happens while
    /// a model computes; what is in the queue is whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) -> Result<(), BatchError> {
        let mut state = self.state();
        // One request longer than the whole queue must still be answered when nothing waits.
        let fits = state.tokens + job.tokens <= self.settings.tokens_waiting;
        if !fits && !state.jobs.is_empty() {
            return Err(BatchError::Full);
        }
        state.tokens += job.tokens;
        state.jobs.push_back(job);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// The next batch; none when there is nothing left to do, ever. `is_busy` says whether the
    /// batch before had company, so that waiting for more is likely to bring it.
    fn next(&self, is_busy: bool) -> Option<Vec<Job>> {
        let mut state = self.state();
        loop {
            while state.jobs.is_empty() {
                if state.is_closed {
                    return None;
                }
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if is_busy && !self.settings.window.is_zero() {
                state = self.wait_for_company(state);
            }
            let batch = state.take(self.settings.tokens_at_once);
            if !batch.is_empty() {
                return Some(batch);
            }
        }
    }

    fn wait_for_company<'q>(&'q self, state: MutexGuard<'q, State>) -> MutexGuard<'q, State> {
        let at_once = self.settings.tokens_at_once;
        let is_short = |state: &mut State| state.tokens < at_once && !state.is_closed;
        self.wake
            .wait_timeout_while(state, self.settings.window, is_short)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }
}

impl State {
    /// Takes jobs from the front until they have that many tokens, at least one. Those that
    /// nobody waits for any more are dropped.
    fn take(&mut self, tokens_at_once: usize) -> Vec<Job> {
        let (mut batch, mut tokens) = (Vec::new(), 0);
        while let Some(job) = self.jobs.front() {
            let is_wanted = !job.answer.is_closed();
            if is_wanted && !batch.is_empty() && tokens + job.tokens > tokens_at_once {
                break;
            }
            let Some(job) = self.jobs.pop_front() else { break };
            self.tokens -= job.tokens;
            if is_wanted {
                tokens += job.tokens;
                batch.push(job);
            }
        }
        batch
    }
}

/// The life of a thread that owns a device.
fn own(queue: &Queue, read: &Read) {
    // Matrix code splits its work among the threads of the pool it runs in. A pool of this one
    // thread keeps it here: several prompts side by side use the cores better than one prompt
    // spread over all of them, and nobody else's core is taken.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
    if let Err(error) = &pool {
        tracing::warn!(%error, "the classifier shares its thread pool");
    }
    let mut is_busy = false;
    while let Some(batch) = queue.next(is_busy) {
        is_busy = batch.len() > 1;
        // A panic over one text must not take the classifier from everybody else.
        if catch_unwind(AssertUnwindSafe(|| answer(batch, read))).is_err() {
            tracing::error!("the classifier panicked over a batch and goes on");
        }
    }
}

fn answer(batch: Vec<Job>, read: &Read) {
    let texts: Vec<&Tokens> = batch.iter().flat_map(|job| &job.texts).collect();
    match read(&texts) {
        Ok(outputs) => {
            let mut outputs = outputs.into_iter();
            for job in batch {
                let own = outputs.by_ref().take(job.texts.len()).collect();
                send(job, Ok(own));
            }
        }
        // One text that cannot be read must not fail the others.
        Err(_) if batch.len() > 1 => {
            for job in batch {
                answer(vec![job], read);
            }
        }
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the classifier failed");
            let error = Arc::new(error);
            for job in batch {
                send(job, Err(BatchError::Failed(Arc::clone(&error))));
            }
        }
    }
}

/// Whoever asked may have gone meanwhile; then nobody misses the answer.
fn send(job: Job, answer: Result<Vec<Output>, BatchError>) {
    job.answer.send(answer).ok();
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn text(tokens: usize) -> Tokens {
        let id = u32::try_from(tokens).unwrap();
        Tokens {
            ids: vec![id; tokens],
            types: vec![0; tokens],
            shapes: vec![0; tokens],
            spans: vec![0..0; tokens],
        }
    }

    fn settings() -> Settings {
        Settings { threads: 1, window: Duration::ZERO, tokens_at_once: 10, tokens_waiting: 30 }
    }

    /// Answers each text with its length.
    fn lengths(batch: &[&Tokens]) -> Vec<Output> {
        batch
            .iter()
            .map(|text| Output { classes: vec![text.len() as f32], ..Output::default() })
            .collect()
    }

    /// A model that tells which lengths it is asked for and waits until it may answer.
    struct Gate {
        batcher: Batcher,
        seen: mpsc::Receiver<Vec<usize>>,
        go_on: mpsc::Sender<()>,
    }

    fn gated(settings: Settings) -> Gate {
        let (tell, seen) = mpsc::channel();
        let (go_on, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let read = move |batch: &[&Tokens]| {
            tell.send(batch.iter().map(|text| text.len()).collect()).unwrap();
            wait.lock().unwrap().recv().unwrap();
            Ok(lengths(batch))
        };
        Gate { batcher: Batcher::start_with(Arc::new(read), settings).unwrap(), seen, go_on }
    }

    fn first_class(pending: Pending) -> Vec<f32> {
        pending.wait().unwrap().into_iter().map(|output| output.classes[0]).collect()
    }

    #[test]
    fn each_asker_gets_the_answers_to_its_own_texts_in_order() {
        let read = |batch: &[&Tokens]| Ok(lengths(batch));
        let batcher = Batcher::start_with(Arc::new(read), settings()).unwrap();
        let pending: Vec<Pending> =
            (1..=5).map(|length| batcher.submit(vec![text(length), text(1)]).unwrap()).collect();
        let answers: Vec<Vec<f32>> = pending.into_iter().map(first_class).collect();
        assert_eq!(answers, (1..=5).map(|length| vec![length as f32, 1.0]).collect::<Vec<_>>());
    }

    #[test]
    fn what_waits_together_is_computed_together_up_to_a_number_of_tokens() {
        let gate = gated(settings());
        let first = gate.batcher.submit(vec![text(3)]).unwrap();
        assert_eq!(gate.seen.recv().unwrap(), [3], "the first does not wait for company");
        let rest: Vec<Pending> =
            [4, 5, 2, 12].map(|length| gate.batcher.submit(vec![text(length)]).unwrap()).into();
        for expected in [vec![4, 5], vec![2], vec![12]] {
            gate.go_on.send(()).unwrap();
            assert_eq!(gate.seen.recv().unwrap(), expected);
        }
        gate.go_on.send(()).unwrap();
        assert_eq!(first_class(first), [3.0]);
        assert_eq!(
            rest.into_iter().flat_map(first_class).collect::<Vec<_>>(),
            [4.0, 5.0, 2.0, 12.0]
        );
    }

    #[test]
    fn a_full_queue_says_so_at_once() {
        let gate = gated(settings());
        let _running = gate.batcher.submit(vec![text(1)]).unwrap();
        gate.seen.recv().unwrap();
        let _waiting = gate.batcher.submit(vec![text(20)]).unwrap();
        let refused = gate.batcher.submit(vec![text(11)]);
        assert!(matches!(refused, Err(BatchError::Full)));
        assert_eq!(gate.batcher.waiting(), 20);
        let _fits = gate.batcher.submit(vec![text(10)]).unwrap();
        drop(gate.go_on);
    }

    #[test]
    fn a_text_that_nobody_waits_for_is_not_computed() {
        let gate = gated(settings());
        let _running = gate.batcher.submit(vec![text(1)]).unwrap();
        gate.seen.recv().unwrap();
        drop(gate.batcher.submit(vec![text(4)]).unwrap());
        let wanted = gate.batcher.submit(vec![text(5)]).unwrap();
        gate.go_on.send(()).unwrap();
        assert_eq!(gate.seen.recv().unwrap(), [5]);
        gate.go_on.send(()).unwrap();
        assert_eq!(first_class(wanted), [5.0]);
    }

    #[test]
    fn a_bad_text_fails_alone_and_a_panic_is_survived() {
        let read = |batch: &[&Tokens]| {
            assert!(batch.iter().all(|text| text.len() != 6), "a text of six");
            match batch.iter().any(|text| text.len() == 7) {
                true => Err(EncoderError::TooLong { tokens: 7, most: 6 }),
                false => Ok(lengths(batch)),
            }
        };
        let batch = |lengths: &[usize]| {
            let asked = lengths.iter().map(|&length| {
                let (answer, pending) = oneshot::channel();
                (Job::new(vec![text(length)], answer), Pending(pending))
            });
            asked.unzip::<_, _, Vec<Job>, Vec<Pending>>()
        };
        let (jobs, pending) = batch(&[1, 7, 2]);
        answer(jobs, &read);
        let answers: Vec<bool> = pending.into_iter().map(|asked| asked.wait().is_ok()).collect();
        assert_eq!(answers, [true, false, true]);

        let batcher = Batcher::start_with(Arc::new(read), settings()).unwrap();
        let panicked = batcher.submit(vec![text(6)]).unwrap().wait();
        assert!(matches!(panicked, Err(BatchError::Stopped)));
        assert_eq!(first_class(batcher.submit(vec![text(2)]).unwrap()), [2.0]);
    }

    #[test]
    fn a_batch_that_is_full_does_not_wait_for_its_window() {
        let an_hour = Duration::from_secs(3600);
        let queue = Queue::new(Settings { window: an_hour, ..settings() });
        for length in [4, 6] {
            let (answer, pending) = oneshot::channel();
            queue.push(Job::new(vec![text(length)], answer)).unwrap();
            std::mem::forget(pending);
        }
        assert_eq!(queue.next(true).unwrap().len(), 2);
        let (answer, _pending) = oneshot::channel();
        queue.push(Job::new(vec![text(1)], answer)).unwrap();
        assert_eq!(queue.next(false).unwrap().len(), 1, "alone, and still no waiting");
    }

    #[test]
    fn what_waits_is_answered_after_the_handle_is_gone() {
        let gate = gated(settings());
        let running = gate.batcher.submit(vec![text(1)]).unwrap();
        gate.seen.recv().unwrap();
        let waiting = gate.batcher.submit(vec![text(2)]).unwrap();
        drop(gate.batcher);
        gate.go_on.send(()).unwrap();
        gate.go_on.send(()).unwrap();
        assert_eq!((first_class(running), first_class(waiting)), (vec![1.0], vec![2.0]));
    }

    #[tokio::test]
    async fn an_answer_can_be_awaited() {
        let read = |batch: &[&Tokens]| Ok(lengths(batch));
        let batcher = Batcher::start_with(Arc::new(read), settings()).unwrap();
        assert_eq!(batcher.submit(vec![text(3)]).unwrap().await.unwrap().len(), 1);
        assert!(batcher.submit(Vec::new()).unwrap().await.unwrap().is_empty());
    }
}
