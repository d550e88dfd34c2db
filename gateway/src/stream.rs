//! An answer on its way to a client: events in, bytes out.
//!
//! The bytes are made where they are sent, without a task in between: when the client goes
//! away, the body is dropped, with it the answer, and the vendor's call is cancelled. Knows
//! nothing of paths or keys.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use stellwerk_core::engine::Answer;
use stellwerk_core::ids::ModelId;
use stellwerk_core::reply::{Chunk, Failure};
use tokio::time::{Instant, Sleep};

use crate::errors::{WireError, internal};
use crate::limits::Permit;
use crate::show::{Gate, Shown};
use crate::{anthropic, openai};

/// How long a client hears nothing before it is told that the answer is still on its way.
/// Proxies cut connections that are silent for 60 seconds, some for 30.
pub const SILENCE: Duration = Duration::from_secs(15);

/// So many bytes are handed to the connection at once, when that many are waiting.
const BATCH: usize = 16 * 1024;

/// In which format a stream is written.
#[derive(Debug)]
pub enum Encoder {
    /// OpenAI's.
    OpenAi(openai::encode::Stream),
    /// Anthropic's.
    Anthropic(anthropic::encode::Stream),
}

impl Encoder {
    fn push(&mut self, shown: Shown, out: &mut Vec<u8>) {
        match self {
            Encoder::OpenAi(stream) => stream.push(shown, out),
            Encoder::Anthropic(stream) => stream.push(shown, out),
        }
    }

    fn failed(&mut self, error: &WireError, out: &mut Vec<u8>) {
        match self {
            Encoder::OpenAi(stream) => stream.failed(error, out),
            Encoder::Anthropic(stream) => stream.failed(error, out),
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Encoder::OpenAi(_) => false,
            Encoder::Anthropic(stream) => stream.is_over(),
        }
    }

    /// A comment that every reader of server-sent events skips.
    fn keep_alive(out: &mut Vec<u8>) {
        out.extend_from_slice(b": keep-alive\n\n");
    }
}

/// A stream before its headers.
pub struct Opening {
    answer: Answer,
    gate: Gate,
    encoder: Encoder,
    permit: Permit,
    out: Vec<u8>,
    model: Option<ModelId>,
    ended: bool,
}

/// What a stream begins with.
pub enum Opened {
    /// Pieces, or silence for so long that the headers go out all the same.
    Body(Box<Body>),
    /// A failure before anything was shown: it is told by its status.
    Failed(Box<Failure>),
}

impl Opening {
    /// Takes an answer that is to be streamed.
    pub fn new(answer: Answer, encoder: Encoder, permit: Permit) -> Self {
        Opening {
            answer,
            gate: Gate::default(),
            encoder,
            permit,
            out: Vec::new(),
            model: None,
            ended: false,
        }
    }

    /// Waits until it is known whether the answer begins or fails.
    pub async fn opened(mut self) -> Result<Opened, WireError> {
        let deadline = Instant::now() + SILENCE;
        while self.out.is_empty() {
            match tokio::time::timeout_at(deadline, self.answer.events.recv()).await {
                Ok(Some(event)) => {
                    if let Some(failure) = self.push(event) {
                        self.permit.forgive();
                        return Ok(Opened::Failed(failure));
                    }
                }
                Ok(None) => return Err(internal()),
                Err(_silence) => {
                    self.model = self.answer.chosen.get().cloned();
                    Encoder::keep_alive(&mut self.out);
                }
            }
        }
        Ok(Opened::Body(Box::new(Body { opening: self, alarm: None, heard: Instant::now() })))
    }

    /// Shows an event; gives back a failure before anything was shown.
    fn push(&mut self, event: stellwerk_core::reply::Event) -> Option<Box<Failure>> {
        let Opening { gate, encoder, permit, out, model, ended, .. } = self;
        let mut unseen = None;
        gate.push(event, |shown| {
            match &shown {
                Shown::Begun { model: who, .. } => *model = Some(who.clone()),
                Shown::Piece(chunk) => permit.expect(u64::from(chunk.is_token())),
                Shown::Done(done) => {
                    permit.charge(&done.usage);
                    *ended = true;
                }
                Shown::Failed(_) => *ended = true,
                Shown::FailedOver { .. } | Shown::Escalated { .. } => {}
            }
            match shown {
                Shown::Failed(failure) if out.is_empty() && model.is_none() => {
                    unseen = Some(failure);
                }
                shown => encoder.push(shown, out),
            }
        });
        *ended |= encoder.is_over();
        unseen
    }
}

/// The body of a streamed answer.
pub struct Body {
    opening: Opening,
    alarm: Option<Pin<Box<Sleep>>>,
    /// When the client last heard from us.
    heard: Instant,
}

impl Body {
    /// Who answers first, if that is known.
    pub fn model(&self) -> Option<&ModelId> {
        self.opening.model.as_ref()
    }

    /// Takes every event that waits, up to a batch.
    fn drain(&mut self, context: &mut Context<'_>) {
        let opening = &mut self.opening;
        while !opening.ended && opening.out.len() < BATCH {
            match opening.answer.events.poll_recv(context) {
                Poll::Ready(Some(event)) => {
                    // Headers may be out after a long silence, so the failure goes into the stream.
                    if let Some(failure) = opening.push(event) {
                        opening.encoder.failed(&WireError::from(&*failure), &mut opening.out);
                    }
                }
                Poll::Ready(None) => {
                    opening.ended = true;
                    opening.encoder.failed(&internal(), &mut opening.out);
                }
                Poll::Pending => return,
            }
        }
    }

    /// Whether the client has heard nothing for too long. The alarm is set anew when it rings,
    /// not at every piece.
    fn is_silent(&mut self, context: &mut Context<'_>) -> bool {
        let until = self.heard + SILENCE;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        while alarm.as_mut().poll(context).is_ready() {
            if Instant::now() >= until {
                return true;
            }
            alarm.as_mut().reset(until);
        }
        false
    }

    fn take(&mut self) -> Poll<Option<Result<Bytes, Infallible>>> {
        self.heard = Instant::now();
        Poll::Ready(Some(Ok(std::mem::take(&mut self.opening.out).into())))
    }
}

impl Stream for Body {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.drain(context);
        if !self.opening.out.is_empty() {
            return self.take();
        }
        if self.opening.ended {
            return Poll::Ready(None);
        }
        if self.is_silent(context) {
            Encoder::keep_alive(&mut self.opening.out);
            self.alarm = None;
            return self.take();
        }
        Poll::Pending
    }
}

/// Collects an answer that is not streamed.
pub async fn collect(
    mut answer: Answer,
    permit: &mut Permit,
) -> Result<
    Result<(crate::show::Collected, Box<stellwerk_core::reply::Done>), Box<Failure>>,
    WireError,
> {
    let mut gate = Gate::default();
    let mut collected = crate::show::Collected::default();
    let mut end = None;
    while let Some(event) = answer.events.recv().await {
        gate.push(event, |shown| match shown {
            Shown::Begun { .. } | Shown::Escalated { .. } => {}
            Shown::Piece(chunk) => {
                permit.expect(u64::from(matches!(&chunk, Chunk::Text { .. })));
                collected.push(chunk);
            }
            Shown::FailedOver { .. } => collected.clear(),
            Shown::Done(done) => end = Some(Ok(done)),
            Shown::Failed(failure) => end = Some(Err(failure)),
        });
        if let Some(end) = end {
            return Ok(end.map(|done| (collected, done)));
        }
    }
    // The walk ends every call with `Done` or `Failed`; without either its task has died.
    Err(internal())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fixtures::{done, request_id, trace};
    use crate::openai::decode::Shape;
    use futures::StreamExt;
    use stellwerk_core::reply::{Event, FailureKind, Words};
    use stellwerk_core::request::Locale;
    use tokio::sync::mpsc;

    fn opening() -> (mpsc::Sender<Event>, Opening) {
        let (sender, events) = mpsc::channel(16);
        let answer = Answer { request_id: request_id(), events, chosen: Arc::default() };
        let encoder = openai::encode::Stream::new(request_id(), Shape::default(), Locale::En, 7);
        (sender, Opening::new(answer, Encoder::OpenAi(encoder), Permit::default()))
    }

    fn started() -> Event {
        let model = ModelId::from("mini");
        Event::Started { attempt: 1, model, provisional: false, trace: trace() }
    }

    fn failed() -> Event {
        let words = Words::new("nobody answers", "niemand antwortet");
        Event::Failed(Box::new(Failure::new(request_id(), FailureKind::NoCandidate, words)))
    }

    async fn rest(body: Body) -> String {
        let pieces: Vec<_> = body.collect().await;
        pieces.into_iter().map(|Ok(bytes)| String::from_utf8_lossy(&bytes).into_owned()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_before_the_first_piece_is_told_by_status() {
        let (sender, opening) = opening();
        sender.send(failed()).await.expect("open");
        assert!(matches!(opening.opened().await, Ok(Opened::Failed(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_long_silence_the_client_is_kept_and_told_of_a_failure_inside() {
        let (sender, opening) = opening();
        let Ok(Opened::Body(body)) = opening.opened().await else { panic!("a body") };
        assert!(body.model().is_none());
        let told = tokio::spawn(rest(*body));
        tokio::time::sleep(SILENCE + Duration::from_secs(1)).await;
        sender.send(failed()).await.expect("open");
        let told = told.await.expect("text");
        assert!(told.starts_with(": keep-alive\n\n: keep-alive\n\ndata: {\"error\""), "{told}");
        assert!(!told.contains("DONE"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_begins_silently_names_the_model_that_was_asked() {
        let (_sender, opening) = opening();
        opening.answer.chosen.set(ModelId::from("mini")).expect("set once");
        let Ok(Opened::Body(body)) = opening.opened().await else { panic!("a body") };
        assert_eq!(body.model().map(ModelId::as_str), Some("mini"));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_pieces_are_sent_together_and_the_stream_ends() {
        let (sender, opening) = opening();
        let chunk = Chunk::Text { choice: 0, text: "a".to_owned() };
        for event in
            [started(), Event::Chunk { attempt: 1, chunk }, Event::Done(Box::new(done("mini")))]
        {
            sender.send(event).await.expect("open");
        }
        let Ok(Opened::Body(body)) = opening.opened().await else { panic!("a body") };
        assert_eq!(body.model().map(ModelId::as_str), Some("mini"));
        let pieces: Vec<_> = body.collect().await;
        assert_eq!(pieces.len(), 1, "what waits goes out at once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_walk_that_dies_is_no_silent_end() {
        let (sender, opening) = opening();
        sender.send(started()).await.expect("open");
        let Ok(Opened::Body(body)) = opening.opened().await else { panic!("a body") };
        drop(sender);
        assert!(rest(*body).await.contains("\"code\":\"internal\""));
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_the_body_cancels_the_answer() {
        let (sender, opening) = opening();
        sender.send(started()).await.expect("open");
        let Ok(Opened::Body(body)) = opening.opened().await else { panic!("a body") };
        drop(body);
        assert!(sender.is_closed());
    }
}
