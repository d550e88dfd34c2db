//! Writes the list of models: what the caller may name in `model`.

use std::sync::Arc;

use serde_json::{Value, json};
use stellwerk_core::catalog::Model;
use stellwerk_core::config::Config;

/// Every id that the caller may use: `auto`, `auto:POLICY`, and the models.
pub fn list(models: &[Arc<Model>], config: &Config) -> Value {
    let data = ids(models, config);
    // The fields at the end are Anthropic's words for the same list, which its SDK reads here.
    json!({
        "object": "list",
        "first_id": data.first().map(|model| model["id"].clone()),
        "last_id": data.last().map(|model| model["id"].clone()),
        "has_more": false,
        "data": data,
    })
}

/// One of them, if the caller may use it.
pub fn one(models: &[Arc<Model>], config: &Config, id: &str) -> Option<Value> {
    ids(models, config).into_iter().find(|model| model["id"] == id)
}

fn ids(models: &[Arc<Model>], config: &Config) -> Vec<Value> {
    let policies =
        config.policies.keys().map(|policy| entry(&format!("auto:{policy}"), "stellwerk"));
    let auto = std::iter::once(entry("auto", "stellwerk"));
    let models = models.iter().map(|model| {
        let owner = model.deployments.first().map(|place| place.provider.as_str());
        let mut entry = entry(model.id.as_str(), owner.unwrap_or("stellwerk"));
        entry["stellwerk"] = json!({
            "kind": model.kind,
            "tier": model.tier,
            "context_tokens": model.context_tokens,
            "max_output_tokens": model.max_output_tokens,
        });
        entry
    });
    auto.chain(policies).chain(models).collect()
}

fn entry(id: &str, owner: &str) -> Value {
    json!({
        "id": id,
        "object": "model",
        "created": 0,
        "owned_by": owner,
        "type": "model",
        "display_name": id,
        "created_at": "1970-01-01T00:00:00Z",
    })
}
