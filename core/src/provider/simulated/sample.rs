//! A value that keeps to a JSON Schema, as plain as possible. Knows nothing of requests.

use serde_json::{Map, Value, json};

/// Schemas may refer to themselves; below this depth only what is required is filled in, and
/// below twice of it nothing.
const DEPTH: u32 = 6;

/// The most items that a list is filled with because its schema asks for them.
const MAX_ITEMS: u64 = 100;

/// A value that keeps to `schema`; free texts are `mark`.
pub fn of(schema: &Value, mark: &str) -> Value {
    Sampler { root: schema, mark }.value(schema, 0)
}

struct Sampler<'a> {
    root: &'a Value,
    mark: &'a str,
}

impl Sampler<'_> {
    fn value(&self, schema: &Value, depth: u32) -> Value {
        if depth > 2 * DEPTH {
            return Value::Null;
        }
        if let Some(fixed) = fixed(schema) {
            return fixed;
        }
        if let Some(target) = schema["$ref"].as_str() {
            let target = target.strip_prefix('#').and_then(|path| self.root.pointer(path));
            return target.map_or(Value::Null, |target| self.value(target, depth + 1));
        }
        for choice in ["anyOf", "oneOf"] {
            if let Some(branches) = schema[choice].as_array()
                && let Some(branch) = self.shallowest(branches, depth)
            {
                return self.merged(schema, branch, depth);
            }
        }
        if let Some(all) = schema["allOf"].as_array() {
            return self.all_of(schema, all, depth);
        }
        match kind(schema, depth) {
            "object" => self.object(schema, depth),
            "array" => self.array(schema, depth),
            "integer" => number(schema, true),
            "number" => number(schema, false),
            "boolean" => json!(true),
            "null" => Value::Null,
            _ => json!(self.text(schema)),
        }
    }

    /// The branch to take: the first, or deep down one that ends, such as `null`.
    fn shallowest<'b>(&self, branches: &'b [Value], depth: u32) -> Option<&'b Value> {
        let ends = |branch: &&Value| branch["$ref"].is_null() && branch["type"] != "object";
        let ending = if depth > DEPTH { branches.iter().find(ends) } else { None };
        ending.or_else(|| branches.first())
    }

    /// A branch beside what its schema says for all branches.
    fn merged(&self, schema: &Value, branch: &Value, depth: u32) -> Value {
        let value = self.value(branch, depth + 1);
        match (value, schema["properties"].is_object()) {
            (Value::Object(mut fields), true) => {
                if let Value::Object(common) = self.object(schema, depth) {
                    common.into_iter().for_each(|(name, value)| {
                        fields.entry(name).or_insert(value);
                    });
                }
                Value::Object(fields)
            }
            (value, _) => value,
        }
    }

    fn all_of(&self, schema: &Value, all: &[Value], depth: u32) -> Value {
        let mut joined = schema.as_object().cloned().unwrap_or_default();
        joined.shift_remove("allOf");
        for part in all {
            let target = part["$ref"].as_str().and_then(|target| target.strip_prefix('#'));
            let part = target.and_then(|path| self.root.pointer(path)).unwrap_or(part);
            for (name, value) in part.as_object().into_iter().flatten() {
                join(&mut joined, name, value);
            }
        }
        self.value(&Value::Object(joined), depth + 1)
    }

    fn object(&self, schema: &Value, depth: u32) -> Value {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut fields = Map::new();
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            if depth < DEPTH || required.contains(&name.as_str()) {
                fields.insert(name.clone(), self.value(inner, depth + 1));
            }
        }
        for name in required {
            if !fields.contains_key(name) {
                fields.insert(
                    name.to_owned(),
                    self.value(&schema["additionalProperties"], depth + 1),
                );
            }
        }
        Value::Object(fields)
    }

    fn array(&self, schema: &Value, depth: u32) -> Value {
        let first = schema["prefixItems"].as_array().map_or(&[][..], Vec::as_slice);
        let least = schema["minItems"].as_u64().unwrap_or(0);
        let most = schema["maxItems"].as_u64().unwrap_or(u64::MAX);
        let wanted = if depth < DEPTH { least.max(1) } else { least };
        let count = wanted.max(first.len() as u64).min(most).min(MAX_ITEMS);
        let item = |position: u64| {
            let inner = first.get(position as usize).unwrap_or(&schema["items"]);
            let value = self.value(inner, depth + 1);
            if schema["uniqueItems"] == true { distinct(value, inner, position) } else { value }
        };
        (0..count).map(item).collect()
    }

    fn text(&self, schema: &Value) -> String {
        let plain = match schema["format"].as_str() {
            Some("date") => "2026-01-31",
            Some("time") => "09:30:00Z",
            Some("date-time") => "2026-01-31T09:30:00Z",
            Some("duration") => "PT1H",
            Some("email") => "simuliert@example.com",
            Some("hostname") => "example.com",
            Some("uri" | "url") => "https://example.com/",
            Some("uuid") => "00000000-0000-4000-8000-000000000000",
            Some("ipv4") => "192.0.2.1",
            Some("ipv6") => "2001:db8::1",
            _ => self.mark,
        };
        let mut text = plain.to_owned();
        let least = schema["minLength"].as_u64().unwrap_or(0).min(10_000) as usize;
        let length = text.chars().count();
        text.extend(std::iter::repeat_n('.', least.saturating_sub(length)));
        match schema["maxLength"].as_u64() {
            Some(most) => text.chars().take(most as usize).collect(),
            None => text,
        }
    }
}

fn fixed(schema: &Value) -> Option<Value> {
    let said = schema.get("const").or_else(|| schema["enum"].as_array()?.first());
    said.or_else(|| schema.get("default").filter(|_| schema["type"].is_string())).cloned()
}

/// The type, where it is said or can be told from the words that are used.
fn kind(schema: &Value, depth: u32) -> &str {
    if let Some(kind) = schema["type"].as_str() {
        return kind;
    }
    if let Some(kinds) = schema["type"].as_array() {
        let mut kinds = kinds.iter().filter_map(Value::as_str);
        let null = kinds.clone().find(|kind| *kind == "null");
        let other = kinds.find(|kind| *kind != "null");
        return if depth > DEPTH { null.or(other) } else { other.or(null) }.unwrap_or("null");
    }
    match schema.as_object() {
        Some(words) if words.contains_key("properties") || words.contains_key("required") => {
            "object"
        }
        Some(words) if words.contains_key("items") || words.contains_key("prefixItems") => "array",
        Some(words) if words.contains_key("minimum") || words.contains_key("maximum") => "number",
        _ => "string",
    }
}

/// Two schemas that must both hold: lists and maps grow together, else the later word counts.
fn join(joined: &mut Map<String, Value>, name: &str, value: &Value) {
    match (joined.get_mut(name), value) {
        (Some(Value::Object(fields)), Value::Object(more)) => fields.extend(more.clone()),
        (Some(Value::Array(list)), Value::Array(more)) if name == "required" => {
            list.extend(more.iter().cloned());
        }
        _ => {
            joined.insert(name.to_owned(), value.clone());
        }
    }
}

fn number(schema: &Value, whole: bool) -> Value {
    let bound = |field: &str| schema[field].as_f64();
    let step = bound("multipleOf").filter(|step| *step > 0.0).unwrap_or(1.0);
    let least = match (bound("minimum"), bound("exclusiveMinimum")) {
        (Some(least), None) => Some(least),
        (None, Some(below)) => Some(below + if whole { 1.0 } else { step.min(0.5) }),
        (Some(least), Some(below)) => Some(least.max(below + 1.0)),
        (None, None) => None,
    };
    let most =
        bound("maximum").or_else(|| bound("exclusiveMaximum").map(|above| above - step.min(0.5)));
    let mut number = match (least, most) {
        (Some(least), _) => least,
        (None, Some(most)) => most.min(1.0),
        (None, None) => 1.0,
    };
    if schema["multipleOf"].is_number() {
        number = (number / step).ceil() * step;
    }
    if whole {
        // Far beyond any honest bound; the cast saturates there.
        return json!(number.ceil() as i64);
    }
    json!(number)
}

fn distinct(value: Value, schema: &Value, position: u64) -> Value {
    if position == 0 {
        return value;
    }
    if let Some(other) = schema["enum"].as_array().and_then(|all| all.get(position as usize)) {
        return other.clone();
    }
    match value {
        Value::String(text) => {
            let end = position.to_string();
            let room = schema["maxLength"].as_u64().map_or(usize::MAX, |most| most as usize);
            let keep = room.saturating_sub(end.len());
            json!(text.chars().take(keep).chain(end.chars()).collect::<String>())
        }
        Value::Number(number) if number.is_i64() => {
            json!(number.as_i64().unwrap_or(0) + position as i64)
        }
        Value::Number(number) => json!(number.as_f64().unwrap_or(0.0) + position as f64),
        other => other,
    }
}
