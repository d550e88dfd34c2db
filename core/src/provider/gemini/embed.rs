//! Vectors from Gemini: `batchEmbedContents`.

use serde_json::{Value, json};

use crate::provider::{Embeddings, ProviderCall, ProviderError, ProviderErrorKind};
use crate::reply::Usage;
use crate::request::EmbedRequest;

/// The most texts that one batch takes.
const BATCH: usize = 100;

/// The bodies of a call, one per batch.
pub fn encode(call: &ProviderCall<EmbedRequest>) -> Vec<Value> {
    call.request.input.chunks(BATCH).map(|texts| batch(call, texts)).collect()
}

fn batch(call: &ProviderCall<EmbedRequest>, texts: &[String]) -> Value {
    let model = resource(&call.model);
    let request = |text: &String| {
        let mut request = json!({"model": model, "content": {"parts": [{ "text": text }]}});
        if let Some(dimensions) = call.request.dimensions {
            request["outputDimensionality"] = json!(dimensions);
        }
        request
    };
    json!({ "requests": texts.iter().map(request).collect::<Vec<_>>() })
}

/// The name of a model as a resource: `models/…` unless it brings its folder.
pub fn resource(model: &str) -> String {
    if model.contains('/') { model.to_owned() } else { format!("models/{model}") }
}

/// No vector yet.
pub(crate) fn none() -> Embeddings {
    Embeddings { vectors: Vec::new(), usage: Usage::default(), vendor_model: None }
}

/// Adds the vectors of one batch's answer.
pub fn decode(
    body: &[u8],
    request: &EmbedRequest,
    all: &mut Embeddings,
) -> Result<(), ProviderError> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| unreadable())?;
    let vectors = answer["embeddings"].as_array().ok_or_else(unreadable)?;
    for vector in vectors {
        let vector = numbers(&vector["values"]).ok_or_else(unreadable)?;
        // A vector that was cut to fewer dimensions comes without the length of one, which
        // clients of OpenAI's format count on.
        let cut = request.dimensions.is_some();
        all.vectors.push(if cut { of_length_one(vector) } else { vector });
    }
    let told = answer["usageMetadata"]["promptTokenCount"].as_u64();
    let first = all.vectors.len() == vectors.len();
    all.usage.input_tokens = match (told, all.usage.input_tokens) {
        (Some(told), Some(before)) => Some(told.saturating_add(before)),
        // A batch that told nothing leaves the sum open.
        (told, None) if first => told,
        _ => None,
    };
    Ok(())
}

/// The vectors, if there is one for every text.
pub(crate) fn all_there(
    request: &EmbedRequest,
    all: Embeddings,
) -> Result<Embeddings, ProviderError> {
    if all.vectors.len() == request.input.len() { Ok(all) } else { Err(unreadable()) }
}

/// A list of numbers.
pub(crate) fn numbers(list: &Value) -> Option<Vec<f32>> {
    // The vendors count in single precision; JSON's numbers are wider.
    list.as_array()?.iter().map(|number| number.as_f64().map(|number| number as f32)).collect()
}

fn of_length_one(vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    if length > 0.0 && length.is_finite() {
        vector.into_iter().map(|number| number / length).collect()
    } else {
        vector
    }
}

pub(crate) fn unreadable() -> ProviderError {
    ProviderError::new(ProviderErrorKind::Malformed, "the vectors cannot be read")
}
