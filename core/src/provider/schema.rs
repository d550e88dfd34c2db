//! JSON Schemas in the dialects that vendors take: what they refuse is taken out, and said in
//! words where the model can still keep to it.
//!
//! Knows nothing of requests. The judge checks an answer against the caller's own schema, so
//! leaving a bound out here loosens the vendor's grammar, never the check.

use serde_json::{Map, Value, json};

/// The schema that Anthropic's structured output takes: every object closed, and none of the
/// keywords that its grammar cannot express.
pub(crate) fn for_claude(schema: &Value) -> Value {
    let mut schema = schema.clone();
    each_object(&mut schema, &mut |fields| {
        if let Some(one_of) = fields.shift_remove("oneOf") {
            fields.entry("anyOf").or_insert(one_of);
        }
        tell_bounds(fields, CLAUDE_REFUSES);
        if is_object(fields) {
            fields.insert("additionalProperties".to_owned(), json!(false));
        }
    });
    schema
}

/// The schema that Gemini takes: its documented keywords and nothing else.
pub(crate) fn for_gemini(schema: &Value) -> Value {
    let mut schema = schema.clone();
    each_object(&mut schema, &mut |fields| {
        if let Some(constant) = fields.shift_remove("const") {
            fields.entry("enum").or_insert_with(|| json!([constant]));
        }
        merge_single_all_of(fields);
        tell_bounds(fields, GEMINI_BOUNDS);
        fields.retain(|keyword, _| GEMINI_TAKES.contains(&keyword.as_str()));
    });
    schema
}

/// A tool's parameters as an object schema: vendors refuse a tool without one.
pub(crate) fn parameters(parameters: Option<&Value>) -> Value {
    let Some(Value::Object(fields)) = parameters else {
        return json!({"type": "object", "properties": {}});
    };
    let mut fields = fields.clone();
    fields.entry("type").or_insert_with(|| json!("object"));
    Value::Object(fields)
}

/// Bounds that Anthropic answers with a 400 when they stand in a structured output's schema.
const CLAUDE_REFUSES: &[&str] = &[
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "patternProperties",
    "propertyNames",
    "contains",
    "minContains",
    "maxContains",
    "dependentRequired",
];

const GEMINI_BOUNDS: &[&str] = &[
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "uniqueItems",
];

/// The keywords of `responseJsonSchema` and `parametersJsonSchema` in Google's reference.
const GEMINI_TAKES: &[&str] = &[
    "$id",
    "$defs",
    "$ref",
    "$anchor",
    "type",
    "format",
    "title",
    "description",
    "enum",
    "items",
    "prefixItems",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "anyOf",
    "oneOf",
    "properties",
    "additionalProperties",
    "required",
    "propertyOrdering",
];

/// Takes these keywords out and names them in the description, so that the model still reads
/// them.
fn tell_bounds(fields: &mut Map<String, Value>, refused: &[&str]) {
    let bounds: Vec<String> = refused
        .iter()
        .filter_map(|keyword| {
            let bound = fields.shift_remove(*keyword)?;
            Some(format!("{keyword}: {bound}"))
        })
        .collect();
    if bounds.is_empty() {
        return;
    }
    let bounds = format!("({})", bounds.join(", "));
    let described = match fields.get("description").and_then(Value::as_str) {
        Some(description) => format!("{description} {bounds}"),
        None => bounds,
    };
    fields.insert("description".to_owned(), Value::String(described));
}

/// `allOf` with one schema, as generators write it around a `$ref`, is that schema.
fn merge_single_all_of(fields: &mut Map<String, Value>) {
    let single = matches!(fields.get("allOf"), Some(Value::Array(all)) if all.len() == 1);
    if !single {
        return;
    }
    if let Some(Value::Array(all)) = fields.shift_remove("allOf")
        && let Some(Value::Object(only)) = all.into_iter().next()
    {
        for (keyword, value) in only {
            fields.entry(keyword).or_insert(value);
        }
    }
}

fn is_object(fields: &Map<String, Value>) -> bool {
    fields.contains_key("properties")
        || match fields.get("type") {
            Some(Value::String(kind)) => kind == "object",
            Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
            _ => false,
        }
}

/// How deep a schema is followed; what lies deeper stays as it was.
const MAX_DEPTH: usize = 64;

/// Visits every schema within a schema, outermost first. A property that happens to be called
/// `minimum` is a property, which is why positions are followed and not names.
fn each_object(schema: &mut Value, visit: &mut dyn FnMut(&mut Map<String, Value>)) {
    descend(schema, visit, MAX_DEPTH);
}

fn descend(schema: &mut Value, visit: &mut dyn FnMut(&mut Map<String, Value>), depth: usize) {
    let (Value::Object(fields), Some(depth)) = (schema, depth.checked_sub(1)) else { return };
    visit(fields);
    for (keyword, value) in fields.iter_mut() {
        match (keyword.as_str(), value) {
            ("properties" | "$defs" | "definitions" | "dependentSchemas", Value::Object(named)) => {
                named.values_mut().for_each(|schema| descend(schema, visit, depth));
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems" | "items", Value::Array(schemas)) => {
                schemas.iter_mut().for_each(|schema| descend(schema, visit, depth));
            }
            ("items" | "additionalProperties" | "not" | "if" | "then" | "else", schema) => {
                descend(schema, visit, depth);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claude_gets_closed_objects_and_bounds_in_words() {
        let schema = json!({
            "type": "object",
            "properties": {
                "minimum": {"type": "integer", "minimum": 1, "description": "Age."},
                "tags": {"type": "array", "maxItems": 3, "items": {"type": "object"}},
            },
            "required": ["minimum"],
        });
        assert_eq!(
            for_claude(&schema),
            json!({
                "type": "object",
                "properties": {
                    "minimum": {"type": "integer", "description": "Age. (minimum: 1)"},
                    "tags": {
                        "type": "array",
                        "items": {"type": "object", "additionalProperties": false},
                        "description": "(maxItems: 3)",
                    },
                },
                "required": ["minimum"],
                "additionalProperties": false,
            })
        );
    }

    #[test]
    fn gemini_gets_only_the_keywords_that_it_documents() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "kind": {"const": "offer"},
                "sum": {"allOf": [{"$ref": "#/$defs/sum"}]},
                "code": {"type": "string", "pattern": "^A"},
            },
            "$defs": {"sum": {"type": "number", "minimum": 0, "default": 1}},
            "additionalProperties": false,
        });
        assert_eq!(
            for_gemini(&schema),
            json!({
                "type": "object",
                "properties": {
                    "kind": {"enum": ["offer"]},
                    "sum": {"$ref": "#/$defs/sum"},
                    "code": {"type": "string", "description": "(pattern: \"^A\")"},
                },
                "$defs": {"sum": {"type": "number", "minimum": 0}},
                "additionalProperties": false,
            })
        );
    }

    #[test]
    fn a_tool_without_parameters_takes_an_empty_object() {
        assert_eq!(parameters(None), json!({"type": "object", "properties": {}}));
        assert_eq!(
            parameters(Some(&json!({"properties": {"a": {}}}))),
            json!({"properties": {"a": {}}, "type": "object"})
        );
    }

    #[test]
    fn an_absurdly_deep_schema_does_not_overflow() {
        let mut schema = json!({"type": "string"});
        for _ in 0..100 {
            schema = json!({"items": schema});
        }
        for_claude(&schema);
        for_gemini(&schema);
    }
}
