//! Azure OpenAI, as the fake vendor speaks it: OpenAI's bodies at addresses of its own.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::{Format, Shared, Wire, openai, play};

/// `POST /openai/deployments/DEPLOYMENT/OPERATION?api-version=DATE` and, where the deployment is
/// the body's `model`, `POST /openai/v1/OPERATION`.
pub(super) async fn answer(
    State(shared): State<Arc<Shared>>,
    Path(call): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return (StatusCode::BAD_REQUEST, "no JSON").into_response();
    };
    // A bearer token is for Entra's identities; a key has a header of its own.
    if !headers.contains_key("api-key") {
        return (StatusCode::UNAUTHORIZED, "api-key is required").into_response();
    }
    let dated = query.get("api-version").is_some_and(|version| version.starts_with("20"));
    let Some((deployment, operation)) = called(&call, dated, &body) else {
        return (StatusCode::NOT_FOUND, "no such resource").into_response();
    };
    match operation.as_str() {
        "chat/completions" => {
            play(shared, Format::Azure, deployment, headers, body, openai::encode).await
        }
        "embeddings" => {
            play(shared, Format::Azure, deployment, headers, body, |script, body| {
                Wire::Whole(openai::vectors(script, body))
            })
            .await
        }
        _ => (StatusCode::NOT_FOUND, "no such operation").into_response(),
    }
}

/// The deployment and the operation. A date goes with the path that names the deployment, and
/// with no other.
fn called(call: &str, dated: bool, body: &Value) -> Option<(String, String)> {
    if dated {
        let (deployment, operation) = call.strip_prefix("deployments/")?.split_once('/')?;
        return Some((deployment.to_owned(), operation.to_owned()));
    }
    let operation = call.strip_prefix("v1/")?;
    Some((body["model"].as_str()?.to_owned(), operation.to_owned()))
}
