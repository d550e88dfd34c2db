//! Every text of a request that would be sent, in one place, so that finding and hiding can
//! never look at different texts.
//!
//! Knows nothing of what is found. Images and sound are not read. Of tools and schemas the texts
//! are (descriptions, defaults, examples, allowed values); names and structure are not, since a
//! call has to fit them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use crate::guard::GuardError;
use crate::request::{ChatRequest, MediaSource, Message, Part, ResponseFormat, Role};

/// Who wrote a text: what is not the operator's own is looked at for attacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Standing instructions, written by the operator.
    System,
    /// What the person says.
    Person,
    /// What the model said before.
    Model,
    /// Results of tools and documents: data, never instructions.
    Data,
    /// Fields beside the conversation.
    Field,
}

/// What looks at texts, and may change them.
pub(crate) trait Visitor {
    /// A plain text.
    fn text(&mut self, origin: Origin, text: &mut String);

    /// JSON text. Only its strings and numbers are looked at, and it stays valid JSON.
    fn json(&mut self, origin: Origin, json: &mut String);

    /// A JSON value beside the conversation.
    fn value(&mut self, origin: Origin, value: &mut Value);
}

/// Shows every text of the request to the visitor, in the order of the conversation.
pub(crate) fn visit(
    request: &mut ChatRequest,
    visitor: &mut impl Visitor,
) -> Result<(), GuardError> {
    for message in &mut request.messages {
        visit_message(message, visitor)?;
    }
    for tool in &mut request.tools {
        if let Some(description) = &mut tool.description {
            visitor.text(Origin::System, description);
        }
        for schema in tool.parameters.iter_mut() {
            visit_schema(schema, visitor);
        }
        for value in tool.native.iter_mut().flat_map(|native| native.fields.values_mut()) {
            visitor.value(Origin::System, value);
        }
    }
    if let ResponseFormat::JsonSchema { description, schema, .. } = &mut request.response_format {
        if let Some(description) = description {
            visitor.text(Origin::System, description);
        }
        visit_schema(schema, visitor);
    }
    for stop in &mut request.stop {
        visitor.text(Origin::Field, stop);
    }
    if let Some(user) = &mut request.user {
        visitor.text(Origin::Field, user);
    }
    for value in request.extra.fields.values_mut() {
        visitor.value(Origin::Field, value);
    }
    Ok(())
}

/// The texts of a JSON schema: whatever says something, not what gives it its form.
fn visit_schema(schema: &mut Value, visitor: &mut impl Visitor) {
    const SAYS: &[&str] =
        &["description", "title", "default", "examples", "example", "enum", "const", "$comment"];
    match schema {
        Value::Object(fields) => {
            for (name, value) in fields {
                // A property may be called `title`; then its schema stands here, not a text.
                match SAYS.contains(&name.as_str()) && !value.is_object() {
                    true => visitor.value(Origin::System, value),
                    false => visit_schema(value, visitor),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| visit_schema(item, visitor)),
        _ => {}
    }
}

fn visit_message(message: &mut Message, visitor: &mut impl Visitor) -> Result<(), GuardError> {
    let origin = match message.role {
        Role::System => Origin::System,
        Role::User => Origin::Person,
        Role::Assistant => Origin::Model,
        Role::Tool => Origin::Data,
    };
    for part in &mut message.parts {
        visit_part(part, origin, visitor)?;
    }
    if let Some(name) = &mut message.name {
        visitor.text(Origin::Field, name);
    }
    for call in &mut message.tool_calls {
        visitor.json(Origin::Model, &mut call.arguments);
    }
    for value in message.extra.fields.values_mut() {
        visitor.value(Origin::Field, value);
    }
    Ok(())
}

fn visit_part(
    part: &mut Part,
    origin: Origin,
    visitor: &mut impl Visitor,
) -> Result<(), GuardError> {
    match part {
        Part::Text { text, .. } if looks_like_escaped_json(text) => visitor.json(origin, text),
        Part::Text { text, .. } | Part::Thinking { text, .. } => visitor.text(origin, text),
        Part::Document { source, name, .. } => {
            if let Some(name) = name {
                visitor.text(Origin::Field, name);
            }
            visit_document(source, visitor)?;
        }
        Part::Other { value, .. } => visitor.value(Origin::Data, value),
        Part::Image { .. } | Part::Audio { .. } | Part::RedactedThinking { .. } => {}
    }
    Ok(())
}

/// Documents that are text are read; a document that says it is text and cannot be read would
/// go out unseen, so it does not go out.
fn visit_document(source: &mut MediaSource, visitor: &mut impl Visitor) -> Result<(), GuardError> {
    let MediaSource::Base64 { media_type, data } = source else { return Ok(()) };
    let is_text = media_type.starts_with("text/")
        || media_type.starts_with("application/json")
        || media_type.starts_with("application/xml");
    if !is_text {
        return Ok(());
    }
    let unreadable = GuardError { guard: "document" };
    let packed: String = data.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let bytes = BASE64.decode(packed).map_err(|_| unreadable.clone())?;
    let before = String::from_utf8(bytes).map_err(|_| unreadable)?;
    let mut after = before.clone();
    visitor.text(Origin::Data, &mut after);
    if after != before {
        *data = BASE64.encode(after);
    }
    Ok(())
}

/// Tools often answer in JSON whose umlauts are escapes (`M\u00fcller`): the escapes must be
/// read before a name can be seen.
fn looks_like_escaped_json(text: &str) -> bool {
    let begins = text.trim_start();
    (begins.starts_with('{') || begins.starts_with('['))
        && text.contains("\\u")
        && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use crate::config::GuardConfig;
    use crate::guard::inspect;
    use crate::request::{ChatRequest, ResponseFormat, Tool};

    #[test]
    fn what_tools_and_schemas_say_is_hidden_and_their_form_stays() {
        let schema = serde_json::json!({
            "type": "object",
            "properties": {
                "to": {"type": "string", "enum": ["anna.meier@firma.de"], "description": "Mail an anna.meier@firma.de"}
            },
            "required": ["to"]
        });
        let tool = Tool {
            name: "mail".to_owned(),
            description: Some("Schreibt an anna.meier@firma.de".to_owned()),
            parameters: Some(schema.clone()),
            strict: None,
            cache_control: None,
            native: None,
        };
        let format = ResponseFormat::JsonSchema {
            name: "a".to_owned(),
            description: None,
            schema,
            strict: None,
        };
        let request =
            ChatRequest { tools: vec![tool], response_format: format, ..ChatRequest::ask("Los.") };
        let inspection = inspect(&request, &GuardConfig::default()).unwrap();
        let (hidden, _map) = inspection.redact(&request).unwrap();
        let sent = serde_json::to_string(&hidden).unwrap();
        assert!(!sent.contains("anna.meier"), "{sent}");
        assert!(sent.contains(r#""required":["to"]"#) && sent.contains(r#""type":"string""#));
    }
}
