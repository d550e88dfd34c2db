//! Counts that can be checked by hand, and bounds that must hold for any text.

use base64::Engine as _;
use proptest::prelude::*;

use super::*;
use crate::request::{MediaSource, Role};

const ALL: [Tokenizer; 3] = [Tokenizer::O200k, Tokenizer::Cl100k, Tokenizer::Unpublished];

fn image(bytes: &[u8], detail: Option<&str>) -> ChatRequest {
    let data = base64::engine::general_purpose::STANDARD.encode(bytes);
    with_part(Part::Image {
        source: MediaSource::Base64 { media_type: "image/png".to_owned(), data },
        detail: detail.map(str::to_owned),
        cache_control: None,
    })
}

fn with_part(part: Part) -> ChatRequest {
    let message = Message { parts: vec![part], ..Message::text(Role::User, "") };
    ChatRequest { messages: vec![message], ..Default::default() }
}

fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    bytes.extend(width.to_be_bytes());
    bytes.extend(height.to_be_bytes());
    bytes
}

#[test]
fn openai_counts_are_those_that_the_vendor_publishes() {
    assert_eq!(text("hello world", Tokenizer::O200k), 2);
    assert_eq!(text("hello world", Tokenizer::Cl100k), 2);
    // A word of seven letters is one token in the newer vocabulary only.
    assert_eq!(text("Grüße aus Köln", Tokenizer::O200k), 5);
    // 3 for the message, 3 for the beginning of the answer, 1 for the text.
    assert_eq!(estimate(&ChatRequest::ask("hi"), Tokenizer::O200k), 7);
}

#[test]
fn the_published_example_of_functions_is_counted_as_published() {
    // OpenAI's cookbook, "How to count tokens": 101 tokens for gpt-4o-mini and gpt-4o.
    let tool = Tool {
        name: "get_current_weather".to_owned(),
        description: Some("Get the current weather in a given location".to_owned()),
        parameters: Some(serde_json::json!({
            "type": "object",
            "properties": {
                "location": {
                    "type": "string",
                    "description": "The city and state, e.g. San Francisco, CA",
                },
                "unit": {
                    "type": "string",
                    "description": "The unit of temperature to return",
                    "enum": ["celsius", "fahrenheit"],
                },
            },
            "required": ["location"],
        })),
        strict: None,
        cache_control: None,
        native: None,
    };
    let request = ChatRequest {
        messages: vec![
            Message::text(
                Role::System,
                "You are a helpful assistant that can answer to questions about the weather.",
            ),
            Message::text(Role::User, "What's the weather like in Pittsburgh, PA?"),
        ],
        tools: vec![tool],
        ..Default::default()
    };
    let counted = estimate(&request, Tokenizer::O200k);
    assert!((96..=106).contains(&counted), "{counted}");
    assert!(bound(&request, Tokenizer::O200k) >= 101);
}

#[test]
fn an_image_costs_by_its_size_and_the_models_rule() {
    let of = |request: &ChatRequest, model: &str, tokenizer| {
        estimate_of(request, tokenizer, model)
            - Framing::usual(tokenizer).request
            - Framing::usual(tokenizer).message
    };
    let square = image(&png(1024, 1024), Some("high"));
    // The vendor's own examples: 1024 × 1024 is four tiles, low detail is the base.
    assert_eq!(of(&square, "gpt-4o", Tokenizer::O200k), 765);
    assert_eq!(of(&image(&png(4096, 8192), Some("low")), "gpt-4o", Tokenizer::O200k), 85);
    assert_eq!(of(&image(&png(2048, 4096), None), "gpt-4o", Tokenizer::O200k), 1105);
    assert_eq!(of(&square, "gpt-4o-mini", Tokenizer::O200k), 2833 + 4 * 5667);
    assert_eq!(of(&square, "gpt-5-mini", Tokenizer::O200k), 1024 * 162 / 100 + 1);
    assert_eq!(of(&square, "claude-sonnet-4-5", Tokenizer::Unpublished), 1024 * 1024 / 750 + 1);
    assert_eq!(of(&image(&png(960, 540), None), "gemini-2.5-flash", Tokenizer::Unpublished), 1548);
    assert_eq!(of(&image(&png(300, 300), None), "gemini-2.5-flash", Tokenizer::Unpublished), 258);
}

#[test]
fn an_image_whose_size_nobody_knows_is_held_as_the_largest() {
    let at = Part::Image {
        source: MediaSource::Url("https://example.com/a.png".to_owned()),
        detail: None,
        cache_control: None,
    };
    let unknown = with_part(at);
    let broken = image(b"no picture at all", None);
    for request in [&unknown, &broken] {
        assert!(bound_of(request, Tokenizer::O200k, "gpt-4o") >= 85 + 8 * 170);
        assert!(bound(request, Tokenizer::Unpublished) >= 4784);
    }
}

#[test]
fn the_common_picture_formats_tell_their_size() {
    let tiles = |bytes: &[u8]| estimate_of(&image(bytes, None), Tokenizer::O200k, "gpt-4o");
    let expected = tiles(&png(700, 500));
    let gif = b"GIF89a\xbc\x02\xf4\x01";
    let jpeg = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0\x00\x11\x08\x01\xf4\x02\xbc\x03";
    let webp = b"RIFF____WEBPVP8X____\0\0\0\0\xbb\x02\0\xf3\x01\0";
    assert_eq!(expected, 3 + 3 + 85 + 2 * 170);
    assert_eq!(tiles(gif), expected);
    assert_eq!(tiles(jpeg), expected);
    assert_eq!(tiles(webp), expected);
}

#[test]
fn a_document_is_held_by_its_pages() {
    let pdf = b"%PDF-1.4 1 0 obj <</Type /Pages /Count 2>> <</Type /Page>> <</Type/Page>>";
    let data = base64::engine::general_purpose::STANDARD.encode(pdf);
    let media_type = "application/pdf".to_owned();
    let request = with_part(Part::Document {
        source: MediaSource::Base64 { media_type, data },
        name: None,
        cache_control: None,
    });
    let pages = bound(&request, Tokenizer::Unpublished) / (3_000 + 4_784);
    assert_eq!(pages, 2);
}

#[test]
fn everything_that_is_sent_is_counted() {
    let plain = ChatRequest::ask("hi");
    let mut full = plain.clone();
    full.response_format = ResponseFormat::JsonSchema {
        name: "answer".to_owned(),
        description: None,
        schema: serde_json::json!({"type": "object", "properties": {"a": {"type": "string"}}}),
        strict: None,
    };
    let mut called = plain.clone();
    called.messages[0].tool_calls.push(crate::request::ToolCall {
        id: "call_1".to_owned(),
        name: "search".to_owned(),
        arguments: r#"{"query":"stellwerk"}"#.to_owned(),
        extra: Default::default(),
    });
    let mut extra = plain.clone();
    extra.extra.fields.insert("prediction".to_owned(), "a long text".into());
    for tokenizer in ALL {
        for request in [&full, &called, &extra] {
            assert!(bound(request, tokenizer) > bound(&plain, tokenizer));
        }
        for request in [&full, &called] {
            assert!(estimate(request, tokenizer) > estimate(&plain, tokenizer));
        }
    }
}

#[test]
fn a_megabyte_without_a_space_is_counted_all_the_same() {
    let huge = "ä".repeat(500_000);
    let whole = bpe_openai::o200k_base().count(huge.as_str());
    let cut = vocabulary::o200k().count(&huge);
    assert!(cut >= whole && cut < whole + 100, "{cut} for {whole}");
    let request = ChatRequest::ask(huge);
    assert!(bound(&request, Tokenizer::Unpublished) >= 1_000_000);
    assert!(bound(&request, Tokenizer::O200k) >= 50_000);
}

proptest! {
    /// The oracle is the encoder that others wrote and test against OpenAI's own.
    #[test]
    fn our_counting_agrees_with_the_published_encoder(
        words in "(\\PC|[a-zA-Z0-9 ]{1,9}|[ \t\r\n]{1,4}|[äöüßéж漢字]{1,6}|'s|'LL|//|\\{\"){0,60}",
        run in "[a-z ]", times in 0_usize..300,
    ) {
        let text = words + &run.repeat(times);
        prop_assert_eq!(vocabulary::o200k().count(&text), bpe_openai::o200k_base().count(&*text));
        prop_assert_eq!(vocabulary::cl100k().count(&text), bpe_openai::cl100k_base().count(&*text));
    }

    #[test]
    fn bytes_bound_the_tokens_of_any_text(words in "\\PC{0,400}") {
        let request = ChatRequest::ask(words.clone());
        let tokens = text(&words, Tokenizer::O200k).max(text(&words, Tokenizer::Cl100k));
        prop_assert!(bound(&request, Tokenizer::Unpublished) >= tokens);
        let embed = EmbedRequest {
            input: vec![words], dimensions: None, user: None, extra: Default::default(),
        };
        prop_assert!(embed_bound(&embed, Tokenizer::Unpublished) >= tokens);
    }

    #[test]
    fn the_estimate_never_exceeds_the_bound(
        texts in proptest::collection::vec("\\PC{0,80}", 0..6),
        description in "\\PC{0,40}",
        width in 1_u32..5000, height in 1_u32..5000,
    ) {
        let mut request = image(&png(width, height), None);
        request.messages.extend(texts.iter().map(|text| Message::text(Role::Assistant, text)));
        request.tools.push(Tool {
            name: "tool".to_owned(), description: Some(description.clone()),
            parameters: Some(serde_json::json!({
                "type": "object",
                "properties": { "a": { "type": "string", "description": description } },
            })),
            strict: None, cache_control: None, native: None,
        });
        for tokenizer in ALL {
            for model in ["", "gpt-4o", "gpt-5-nano", "claude-opus-4-8", "gemini-3.5-flash"] {
                let most = bound_of(&request, tokenizer, model);
                prop_assert!(estimate_of(&request, tokenizer, model) <= most);
            }
        }
    }
}

#[test]
fn a_text_that_is_far_too_long_is_known_after_its_beginning() {
    let request = |text: &str| ChatRequest::ask(text);
    let words = "Gleis ".repeat(100);
    let count = super::text(&words, Tokenizer::O200k);
    assert!(!exceeds(&request(&words), Tokenizer::O200k, count));
    assert!(exceeds(&request(&words), Tokenizer::O200k, count - 1));
    let endless = "x".repeat(20_000_000);
    assert!(exceeds(&request(&endless), Tokenizer::Unpublished, 1_000));
}

#[test]
fn token_ids_become_the_text_that_they_stand_for() {
    let bpe = bpe_openai::cl100k_base();
    for text in ["Die Weiche 14 klemmt.", "naïve 漢字 🚉", ""] {
        let ids = bpe.encode(text);
        assert_eq!(decode(&ids, Tokenizer::Cl100k).as_deref(), Some(text));
    }
    assert_eq!(decode(&[4_000_000], Tokenizer::Cl100k), None);
    assert_eq!(decode(&[1], Tokenizer::Unpublished), None);
}
