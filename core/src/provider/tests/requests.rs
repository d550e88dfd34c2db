//! The golden requests: together they say everything that a request can say.

use serde_json::json;

use crate::request::{
    ChatRequest, MediaSource, Message, Part, Reasoning, ResponseFormat, Role, Tool, ToolCall,
    ToolChoice,
};

/// One white pixel.
const PIXEL: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mP8/x8AAwMCAO+ip1sAAAAASUVORK5CYII=";

/// Every golden request with its name.
pub(crate) fn requests() -> Vec<(&'static str, ChatRequest)> {
    vec![
        ("basic", basic()),
        ("conversation", conversation()),
        ("knobs", knobs()),
        ("tools_offered", tools_offered()),
        ("tools_round_trip", tools_round_trip()),
        ("image_inline", image(inline_image())),
        ("image_by_url", image(MediaSource::Url("https://example.com/rail.png".to_owned()))),
        ("document", document()),
        ("json_schema", json_schema()),
        ("json_object", json_object()),
        ("thinking", thinking()),
    ]
}

fn basic() -> ChatRequest {
    ChatRequest {
        messages: vec![Message::text(Role::User, "Wie spät ist es in Wien?")],
        max_output_tokens: Some(256),
        ..ChatRequest::default()
    }
}

fn conversation() -> ChatRequest {
    ChatRequest {
        messages: vec![
            Message::text(Role::System, "Antworte kurz."),
            Message::text(Role::User, "Hallo"),
            Message::text(Role::Assistant, "Guten Tag!"),
            Message::text(Role::User, "Und auf Englisch?"),
            Message::text(Role::User, "Bitte höflich."),
        ],
        max_output_tokens: Some(256),
        stream: true,
        ..ChatRequest::default()
    }
}

fn knobs() -> ChatRequest {
    ChatRequest {
        messages: vec![Message::text(Role::User, "Würfle.")],
        max_output_tokens: Some(64),
        temperature: Some(0.25),
        top_p: Some(0.5),
        top_k: Some(40),
        stop: vec!["ENDE".to_owned(), "\n\n".to_owned()],
        seed: Some(42),
        presence_penalty: Some(0.5),
        frequency_penalty: Some(-0.5),
        logprobs: true,
        top_logprobs: Some(3),
        user: Some("u-17".to_owned()),
        ..ChatRequest::default()
    }
}

fn weather_tool() -> Tool {
    Tool {
        name: "weather".to_owned(),
        description: Some("The weather of a place.".to_owned()),
        parameters: Some(json!({
            "type": "object",
            "properties": { "place": { "type": "string" }, "days": { "type": "integer" } },
            "required": ["place"],
            "additionalProperties": false
        })),
        strict: Some(true),
        cache_control: None,
        native: None,
    }
}

fn tools_offered() -> ChatRequest {
    ChatRequest {
        messages: vec![Message::text(Role::User, "Wetter in Köln?")],
        tools: vec![
            weather_tool(),
            Tool {
                name: "now".to_owned(),
                description: None,
                parameters: None,
                strict: None,
                cache_control: None,
                native: None,
            },
        ],
        tool_choice: Some(ToolChoice::Named("weather".to_owned())),
        parallel_tool_calls: Some(false),
        max_output_tokens: Some(256),
        ..ChatRequest::default()
    }
}

fn called(id: &str, arguments: &str) -> ToolCall {
    ToolCall {
        id: id.to_owned(),
        name: "weather".to_owned(),
        arguments: arguments.to_owned(),
        extra: Default::default(),
    }
}

fn tool_result(id: &str, text: &str, failed: bool) -> Message {
    Message {
        tool_call_id: Some(id.to_owned()),
        tool_failed: failed,
        ..Message::text(Role::Tool, text)
    }
}

fn tools_round_trip() -> ChatRequest {
    let calls = Message {
        tool_calls: vec![
            called("call_1", r#"{"place":"Köln"}"#),
            called("call_2", r#"{"place":"Bonn","days":2}"#),
        ],
        ..Message::text(Role::Assistant, "Ich sehe nach.")
    };
    ChatRequest {
        messages: vec![
            Message::text(Role::User, "Wetter in Köln und Bonn?"),
            calls,
            tool_result("call_1", r#"{"sky":"rain"}"#, false),
            tool_result("call_2", "no such station", true),
        ],
        tools: vec![weather_tool()],
        tool_choice: Some(ToolChoice::Auto),
        max_output_tokens: Some(256),
        ..ChatRequest::default()
    }
}

fn inline_image() -> MediaSource {
    MediaSource::Base64 { media_type: "image/png".to_owned(), data: PIXEL.to_owned() }
}

fn of_parts(parts: Vec<Part>) -> ChatRequest {
    ChatRequest {
        messages: vec![Message { parts, ..Message::text(Role::User, "") }],
        max_output_tokens: Some(256),
        ..ChatRequest::default()
    }
}

fn image(source: MediaSource) -> ChatRequest {
    of_parts(vec![
        Part::text("Was ist das?"),
        Part::Image { source, detail: Some("low".to_owned()), cache_control: None },
    ])
}

fn document() -> ChatRequest {
    of_parts(vec![
        Part::Document {
            source: MediaSource::Base64 {
                media_type: "application/pdf".to_owned(),
                data: "JVBERi0xLjQK".to_owned(),
            },
            name: Some("angebot.pdf".to_owned()),
            cache_control: None,
        },
        Part::text("Fasse zusammen."),
    ])
}

fn json_schema() -> ChatRequest {
    ChatRequest {
        messages: vec![Message::text(Role::User, "Ein Gleis?")],
        response_format: ResponseFormat::JsonSchema {
            name: "track".to_owned(),
            description: Some("A track.".to_owned()),
            schema: json!({
                "type": "object",
                "properties": { "number": { "type": "integer" }, "free": { "type": "boolean" } },
                "required": ["number", "free"],
                "additionalProperties": false
            }),
            strict: Some(true),
        },
        max_output_tokens: Some(256),
        ..ChatRequest::default()
    }
}

fn json_object() -> ChatRequest {
    ChatRequest {
        messages: vec![Message::text(Role::User, "Ein Gleis als JSON?")],
        response_format: ResponseFormat::JsonObject,
        max_output_tokens: Some(256),
        ..ChatRequest::default()
    }
}

fn thinking() -> ChatRequest {
    let thought = Message {
        parts: vec![
            Part::Thinking {
                text: "17 is prime.".to_owned(),
                signature: Some("c2lnbmVk".to_owned()),
            },
            Part::RedactedThinking { data: "c2VhbGVk".to_owned() },
            Part::text("Ja."),
        ],
        ..Message::text(Role::Assistant, "")
    };
    ChatRequest {
        messages: vec![
            Message::text(Role::User, "Ist 17 prim?"),
            thought,
            Message::text(Role::User, "Und 21?"),
        ],
        reasoning: Some(Reasoning { effort: Some("high".to_owned()), budget_tokens: Some(2048) }),
        max_output_tokens: Some(4096),
        ..ChatRequest::default()
    }
}
