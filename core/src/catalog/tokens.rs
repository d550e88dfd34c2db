//! Counting tokens: a bound for holds, an unbiased figure for bills.

use crate::catalog::Tokenizer;
use crate::request::ChatRequest;

/// The input of a request in tokens: two different numbers where the vendor publishes no
/// tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputTokens {
    /// At least what the vendor will count.
    pub bound: u64,
    /// As near as can be told; never above `bound`.
    pub estimate: u64,
}

/// Counts everything that a chat request sends: texts, roles, tools, schema, images, documents.
pub fn input(request: &ChatRequest, tokenizer: Tokenizer) -> InputTokens {
    let _ = (request, tokenizer);
    unimplemented!()
}

/// An unbiased count of a text, for bills where the vendor told no usage.
pub fn text(text: &str, tokenizer: Tokenizer) -> u64 {
    let _ = (text, tokenizer);
    unimplemented!()
}

#[allow(missing_docs)]
pub fn bound(request: &ChatRequest, tokenizer: Tokenizer) -> u64 { input(request, tokenizer).bound }
#[allow(missing_docs)]
pub fn estimate(request: &ChatRequest, tokenizer: Tokenizer) -> u64 { input(request, tokenizer).estimate }
#[allow(missing_docs)]
pub fn embed_bound(_: &crate::request::EmbedRequest, _: Tokenizer) -> u64 { 0 }
#[allow(missing_docs)]
pub fn embed_estimate(_: &crate::request::EmbedRequest, _: Tokenizer) -> u64 { 0 }
