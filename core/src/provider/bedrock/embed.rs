//! Vectors from Bedrock by InvokeModel: Amazon Titan, one text to a call, and Cohere.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::provider::gemini::embed::{all_there, numbers, unreadable};
use crate::provider::{Embeddings, ProviderCall, ProviderError, ProviderErrorKind};
use crate::reply::Usage;
use crate::request::EmbedRequest;

/// The most texts that Cohere takes to a call.
const COHERE_BATCH: usize = 96;

/// The bodies of a call, one per InvokeModel.
pub fn encode(call: &ProviderCall<EmbedRequest>) -> Result<Vec<Value>, ProviderError> {
    let request = &*call.request;
    if call.model.contains("cohere.embed") {
        return Ok(request.input.chunks(COHERE_BATCH).map(|texts| cohere(call, texts)).collect());
    }
    if call.model.contains("titan-embed") {
        return Ok(request.input.iter().map(|text| titan(call, text)).collect());
    }
    Err(ProviderError::new(
        ProviderErrorKind::Unsupported,
        "vectors come from Bedrock's Titan and Cohere models only",
    ))
}

fn titan(call: &ProviderCall<EmbedRequest>, text: &str) -> Value {
    let mut body = json!({ "inputText": text });
    // The first generation knows nothing but the text.
    if call.model.contains("embed-text-v2") {
        body["normalize"] = json!(true);
        if let Some(dimensions) = call.request.dimensions {
            body["dimensions"] = json!(dimensions);
        }
    }
    body
}

fn cohere(call: &ProviderCall<EmbedRequest>, texts: &[String]) -> Value {
    // Cohere wants to know what a vector is for; OpenAI's format cannot say, a caller may.
    let purpose = call.request.extra.fields.get("input_type").and_then(Value::as_str);
    let mut body = json!({
        "texts": texts,
        "input_type": purpose.unwrap_or("search_document"),
        "embedding_types": ["float"],
    });
    if let (Some(dimensions), true) = (call.request.dimensions, call.model.contains("embed-v4")) {
        body["output_dimension"] = json!(dimensions);
    }
    body
}

/// The vectors of all answers, in order.
pub fn decode(
    answers: &[(HeaderMap, Bytes)],
    request: &EmbedRequest,
) -> Result<Embeddings, ProviderError> {
    let mut all = Embeddings { vectors: Vec::new(), usage: Usage::default(), vendor_model: None };
    let mut tokens = Some(0_u64);
    for (headers, body) in answers {
        let answer: Value = serde_json::from_slice(body).map_err(|_| unreadable())?;
        let told = answer["inputTextTokenCount"].as_u64().or_else(|| header_count(headers));
        // An answer that told nothing leaves the sum open.
        tokens = tokens.zip(told).map(|(sum, told)| sum.saturating_add(told));
        take(&answer, &mut all.vectors)?;
    }
    all.usage.input_tokens = tokens;
    all_there(request, all)
}

/// Titan has one vector; Cohere a list, under its type where types were asked for.
fn take(answer: &Value, vectors: &mut Vec<Vec<f32>>) -> Result<(), ProviderError> {
    if let Some(vector) = numbers(&answer["embedding"]) {
        vectors.push(vector);
        return Ok(());
    }
    let embeddings = &answer["embeddings"];
    let list = embeddings.as_array().or_else(|| embeddings["float"].as_array());
    for vector in list.ok_or_else(unreadable)? {
        vectors.push(numbers(vector).ok_or_else(unreadable)?);
    }
    Ok(())
}

/// Cohere's answers hold no count; AWS tells it beside them.
fn header_count(headers: &HeaderMap) -> Option<u64> {
    headers.get("x-amzn-bedrock-input-token-count")?.to_str().ok()?.parse().ok()
}
