//! An answer in Gemini's words, whole or streamed, as chunks. A stream is a row of whole
//! answers, each with the next piece.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::provider::events::Events;
use crate::provider::{ProviderError, ProviderErrorKind, http};
use crate::reply::{Chunk, FinishReason, Usage};

/// Reads a whole answer.
pub fn whole(body: &[u8]) -> Result<Vec<Chunk>, ProviderError> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| unreadable("no JSON"))?;
    let mut reply = Reply::default();
    let mut chunks = Vec::new();
    reply.event(&answer, &mut chunks)?;
    if !reply.is_whole() {
        return Err(reply.with_usage(unreadable("no finished candidate")));
    }
    Ok(chunks)
}

/// What was said so far of one answer, which may have several candidates.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    started: bool,
    id: Option<String>,
    candidates: BTreeMap<u32, Candidate>,
    usage: Option<Usage>,
}

#[derive(Debug, Clone, Default)]
struct Candidate {
    calls: u32,
    finished: bool,
}

impl Reply {
    fn is_whole(&self) -> bool {
        !self.candidates.is_empty() && self.candidates.values().all(|candidate| candidate.finished)
    }

    fn start(&mut self, event: &Value, chunks: &mut Vec<Chunk>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let text = |field: &str| event[field].as_str().map(str::to_owned);
        self.id = text("responseId");
        chunks.push(Chunk::Started {
            vendor_model: text("modelVersion"),
            vendor_id: self.id.clone(),
        });
    }

    fn candidate(&mut self, candidate: &Value, chunks: &mut Vec<Chunk>) -> Result<(), Reason> {
        let choice = candidate["index"].as_u64().unwrap_or_default();
        let choice = u32::try_from(choice).unwrap_or(u32::MAX);
        if self.candidates.entry(choice).or_default().finished {
            return Ok(());
        }
        for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
            self.part(choice, part, chunks);
        }
        let logprobs = logprobs(&candidate["logprobsResult"]);
        if !logprobs.is_empty() {
            chunks.push(Chunk::Logprobs { choice, content: logprobs });
        }
        self.finish(choice, candidate["finishReason"].as_str(), chunks)
    }

    fn part(&mut self, choice: u32, part: &Value, chunks: &mut Vec<Chunk>) {
        if part["functionCall"].is_object() {
            return self.call(choice, part, chunks);
        }
        let text = part["text"].as_str().unwrap_or_default().to_owned();
        if text.is_empty() {
            return;
        }
        chunks.push(match part["thought"] == true {
            true => Chunk::Reasoning { choice, text },
            false => Chunk::Text { choice, text },
        });
    }

    /// A call comes whole. Its signature must be handed back in the next turn; it travels where
    /// Google's own OpenAI format has it, so that clients which know that place keep it.
    fn call(&mut self, choice: u32, part: &Value, chunks: &mut Vec<Chunk>) {
        let candidate = self.candidates.entry(choice).or_default();
        let index = candidate.calls;
        candidate.calls += 1;
        let call = &part["functionCall"];
        let id = match call["id"].as_str().filter(|id| !id.is_empty()) {
            Some(id) => id.to_owned(),
            None => self.made_id(choice, index),
        };
        let args = &call["args"];
        let signature = part["thoughtSignature"].as_str();
        chunks.push(Chunk::ToolCall {
            choice,
            index,
            id: Some(id),
            name: call["name"].as_str().map(str::to_owned),
            arguments: if args.is_object() { args.to_string() } else { "{}".to_owned() },
            extra: signature.map(|signature| {
                let google = json!({"google": {"thought_signature": signature}});
                Map::from_iter([("extra_content".to_owned(), google)])
            }),
        });
    }

    /// Older models give calls no ids; other vendors want them unique in a conversation.
    fn made_id(&self, choice: u32, index: u32) -> String {
        match &self.id {
            Some(id) => format!("call_{id}_{choice}_{index}"),
            None => format!("call_{}", uuid::Uuid::now_v7().simple()),
        }
    }

    fn finish(
        &mut self,
        choice: u32,
        reason: Option<&str>,
        chunks: &mut Vec<Chunk>,
    ) -> Result<(), Reason> {
        let candidate = self.candidates.entry(choice).or_default();
        let reason = match reason {
            None | Some("FINISH_REASON_UNSPECIFIED") => return Ok(()),
            Some("MAX_TOKENS") => FinishReason::Length,
            Some(
                "SAFETY"
                | "RECITATION"
                | "BLOCKLIST"
                | "PROHIBITED_CONTENT"
                | "SPII"
                | "IMAGE_SAFETY"
                | "IMAGE_PROHIBITED_CONTENT"
                | "IMAGE_RECITATION",
            ) => FinishReason::ContentFilter,
            // The model failed, in a way that no text of it makes good.
            Some(
                failure @ ("MALFORMED_FUNCTION_CALL"
                | "UNEXPECTED_TOOL_CALL"
                | "TOO_MANY_TOOL_CALLS"
                | "MISSING_THOUGHT_SIGNATURE"
                | "MALFORMED_RESPONSE"
                | "LANGUAGE"
                | "OTHER"),
            ) => return Err(Reason(failure.to_owned())),
            Some(_) if candidate.calls > 0 => FinishReason::ToolCalls,
            Some(_) => FinishReason::Stop,
        };
        candidate.finished = true;
        chunks.push(Chunk::Finish { choice, reason, stop_sequence: None });
        Ok(())
    }

    /// The counts are sums so far, on every event; they are told when they change.
    fn take_usage(&mut self, event: &Value, chunks: &mut Vec<Chunk>) {
        let Some(told) = usage(&event["usageMetadata"]) else { return };
        let mut usage = self.usage.unwrap_or_default();
        usage.merge(told);
        if self.usage != Some(usage) {
            self.usage = Some(usage);
            chunks.push(Chunk::Usage(usage));
        }
    }

    fn with_usage(&self, error: ProviderError) -> ProviderError {
        ProviderError { usage: self.usage, ..error }
    }
}

/// Why a model failed, in Google's word.
struct Reason(String);

impl Events for Reply {
    fn event(&mut self, event: &Value, chunks: &mut Vec<Chunk>) -> Result<(), ProviderError> {
        let event = event.as_array().and_then(|list| list.first()).unwrap_or(event);
        if event.get("error").is_some_and(|error| !error.is_null()) {
            return Err(self.with_usage(http::told_error(event)));
        }
        self.start(event, chunks);
        let mut before_usage = Vec::new();
        let mut failed = None;
        for candidate in event["candidates"].as_array().into_iter().flatten() {
            if let Err(Reason(reason)) = self.candidate(candidate, &mut before_usage) {
                failed = Some(unreadable(&reason));
            }
        }
        // Usage first: whoever stops reading at the finish has it.
        self.take_usage(event, chunks);
        chunks.append(&mut before_usage);
        if let Some(failed) = failed {
            return Err(self.with_usage(failed));
        }
        match event["promptFeedback"]["blockReason"].as_str() {
            Some(reason) if self.candidates.is_empty() => Err(self.with_usage(blocked(reason))),
            _ => Ok(()),
        }
    }

    fn end(&mut self, _chunks: &mut Vec<Chunk>) -> Result<(), ProviderError> {
        if self.is_whole() {
            return Ok(());
        }
        let cut = ProviderError::new(ProviderErrorKind::Cut, "the stream broke before its end");
        Err(self.with_usage(cut))
    }

    /// Gemini has no word for the end; the counts may follow the last candidate.
    fn is_done(&self) -> bool {
        false
    }
}

/// Gemini's prompt count contains the cached part, its candidates' count does not contain the
/// thoughts.
fn usage(counts: &Value) -> Option<Usage> {
    let count = |field: &str| counts[field].as_u64();
    let sum = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (None, None) => None,
        (one, other) => Some(one.unwrap_or_default().saturating_add(other.unwrap_or_default())),
    };
    let thoughts = count("thoughtsTokenCount");
    let usage = Usage {
        input_tokens: sum(count("promptTokenCount"), count("toolUsePromptTokenCount")),
        cached_input_tokens: count("cachedContentTokenCount").unwrap_or_default(),
        cache_write_tokens: 0,
        output_tokens: sum(count("candidatesTokenCount"), thoughts),
        reasoning_tokens: thoughts.unwrap_or_default(),
    };
    (usage.input_tokens.is_some() || usage.output_tokens.is_some()).then_some(usage)
}

/// In OpenAI's shape.
fn logprobs(result: &Value) -> Vec<Value> {
    let none = Vec::new();
    let chosen = result["chosenCandidates"].as_array().unwrap_or(&none);
    let tops = result["topCandidates"].as_array().unwrap_or(&none);
    let one = |candidate: &Value| {
        let token = candidate["token"].as_str().unwrap_or_default();
        json!({
            "token": token,
            "logprob": candidate["logProbability"],
            "bytes": token.as_bytes(),
        })
    };
    let with_top = |(index, candidate): (usize, &Value)| {
        let top = tops.get(index).and_then(|top| top["candidates"].as_array()).unwrap_or(&none);
        let mut token = one(candidate);
        token["top_logprobs"] = top.iter().map(one).collect();
        token
    };
    chosen.iter().enumerate().map(with_top).collect()
}

fn blocked(reason: &str) -> ProviderError {
    let word = known(reason, &["SAFETY", "BLOCKLIST", "PROHIBITED_CONTENT", "IMAGE_SAFETY"]);
    let detail = format!("the vendor's filter refused the prompt ({word})");
    ProviderError::new(ProviderErrorKind::ContentFilter, detail)
}

/// Only words that are known: another could quote anything.
fn known<'a>(word: &str, words: &[&'a str]) -> &'a str {
    words.iter().copied().find(|known| *known == word).unwrap_or("OTHER")
}

fn unreadable(why: &str) -> ProviderError {
    ProviderError::new(ProviderErrorKind::Malformed, format!("the answer cannot be read: {why}"))
}
