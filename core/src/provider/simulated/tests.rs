//! The simulated vendor keeps what it promises: marked, bounded, the same every time.

use std::sync::Arc;

use futures::StreamExt;

use super::*;
use crate::config::ProviderKind;
use crate::request::{Message, ResponseFormat, Role, Zone};

fn provider() -> SimulatedProvider {
    new(&ProviderConfig {
        id: "demo".into(),
        kind: ProviderKind::Simulated,
        base_url: String::new(),
        api_key: None,
        zone: Zone::Local,
        api_version: None,
        region: None,
        access_key: None,
        secret_key: None,
        headers: Vec::new(),
        limits: ProviderLimits::default(),
        simulated: SimulatedConfig { tokens_per_second: 0, first_token_ms: 0 },
    })
    .expect("nothing can be missing")
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(future)
}

fn call(model: &str, request: ChatRequest) -> ProviderCall {
    ProviderCall { model: model.to_owned(), request: Arc::new(request), logprobs_for_judge: false }
}

fn heard(model: &str, request: ChatRequest) -> Result<Vec<Chunk>, ProviderError> {
    block_on(async {
        let mut stream = provider().chat(call(model, request)).await?;
        let mut chunks = Vec::new();
        while let Some(chunk) = stream.next().await {
            chunks.push(chunk?);
        }
        Ok(chunks)
    })
}

fn text(chunks: &[Chunk]) -> String {
    let texts = chunks.iter().filter_map(|chunk| match chunk {
        Chunk::Text { text, .. } => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

fn usage(chunks: &[Chunk]) -> Option<Usage> {
    chunks.iter().find_map(|chunk| match chunk {
        Chunk::Usage(usage) => Some(*usage),
        _ => None,
    })
}

fn answer(model: &str, question: &str) -> String {
    text(&heard(model, ChatRequest::ask(question)).expect("an answer"))
}

fn reasons(chunks: &[Chunk]) -> Vec<FinishReason> {
    let reasons = chunks.iter().filter_map(|chunk| match chunk {
        Chunk::Finish { reason, .. } => Some(*reason),
        _ => None,
    });
    reasons.collect()
}

#[test]
fn an_answer_says_itself_that_it_is_simulated_in_the_language_of_the_question() {
    assert!(answer("mini", "Wie lang ist der Rhein?").starts_with("[simuliert] "));
    assert!(answer("mini", "How long is the Rhine?").starts_with("[simulated] "));
    assert!(answer("mini", "").starts_with("[simulated] "));
}

#[test]
fn the_same_question_gets_the_same_answer() {
    assert_eq!(answer("standard", "Was nun?"), answer("standard", "Was nun?"));
}

#[test]
fn a_better_model_says_more() {
    let length = |model| answer(model, "Was nun?").len();
    assert!(length("sim-economy") < length("sim-standard"));
    assert!(length("sim-standard") < length("sim-premium"));
}

#[test]
fn a_whole_answer_is_the_streamed_one() {
    let streamed = ChatRequest::ask("Was nun?");
    let whole = ChatRequest { stream: false, ..streamed.clone() };
    assert_eq!(heard("m", streamed).expect("streamed"), heard("m", whole).expect("whole"));
}

#[test]
fn usage_counts_what_was_said() {
    let chunks = heard("m", ChatRequest::ask("Was nun?")).expect("an answer");
    let said = chunks.iter().filter(|chunk| chunk.is_token()).count() as u64;
    assert_eq!(usage(&chunks).expect("told").output_tokens, Some(said));
}

#[test]
fn the_output_limit_is_kept_and_said() {
    let request = ChatRequest { max_output_tokens: Some(7), ..ChatRequest::ask("Was nun?") };
    let chunks = heard("m", request).expect("an answer");
    assert_eq!(usage(&chunks).expect("told").output_tokens, Some(7));
    assert_eq!(reasons(&chunks), [FinishReason::Length]);
}

#[test]
fn a_stop_text_ends_the_answer_before_it() {
    let request =
        ChatRequest { stop: vec!["Modell".to_owned()], ..ChatRequest::ask("Was ist das?") };
    let chunks = heard("m", request).expect("an answer");
    assert!(text(&chunks).ends_with("kein "), "{}", text(&chunks));
    assert_eq!(reasons(&chunks), [FinishReason::StopSequence]);
}

#[test]
fn several_answers_differ_and_each_one_ends() {
    let request = ChatRequest { n: 2, ..ChatRequest::ask("Was nun?") };
    let chunks = heard("m", request).expect("an answer");
    let of = |wanted: u32| -> String {
        let texts = chunks.iter().filter_map(|chunk| match chunk {
            Chunk::Text { choice, text } if *choice == wanted => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    };
    assert_ne!(of(0), of(1));
    assert_eq!(reasons(&chunks).len(), 2);
}

fn weather() -> Tool {
    Tool {
        name: "weather".to_owned(),
        description: None,
        parameters: Some(serde_json::json!({
            "type": "object",
            "properties": {
                "place": { "type": "string", "minLength": 2 },
                "unit": { "enum": ["celsius", "kelvin"] },
                "days": { "type": "integer", "minimum": 3 }
            },
            "required": ["place", "unit", "days"],
            "additionalProperties": false
        })),
        strict: None,
        cache_control: None,
        native: None,
    }
}

fn with_tool(choice: Option<ToolChoice>) -> Vec<Chunk> {
    let request =
        ChatRequest { tools: vec![weather()], tool_choice: choice, ..ChatRequest::ask("Wetter?") };
    heard("m", request).expect("an answer")
}

#[test]
fn a_required_tool_is_called_with_arguments_that_fit() {
    let chunks = with_tool(Some(ToolChoice::Required));
    let arguments: String = chunks
        .iter()
        .filter_map(|chunk| match chunk {
            Chunk::ToolCall { arguments, .. } => Some(arguments.as_str()),
            _ => None,
        })
        .collect();
    let arguments: Value = serde_json::from_str(&arguments).expect("JSON");
    let schema = weather().parameters.expect("a schema");
    assert!(jsonschema::is_valid(&schema, &arguments), "{arguments}");
    assert_eq!(reasons(&chunks), [FinishReason::ToolCalls]);
}

#[test]
fn a_tool_that_nobody_requires_is_not_called() {
    assert_eq!(reasons(&with_tool(None)), [FinishReason::Stop]);
    assert_eq!(reasons(&with_tool(Some(ToolChoice::Auto))), [FinishReason::Stop]);
}

#[test]
fn json_is_valid_by_its_schema() {
    let schemas = [
        serde_json::json!({ "type": "object", "properties": {
            "when": { "type": "string", "format": "date" },
            "score": { "type": "number", "minimum": 0, "maximum": 1 },
            "tags": { "type": "array", "items": { "type": "string", "maxLength": 4 },
                      "minItems": 2, "uniqueItems": true },
            "note": { "type": ["string", "null"] },
            "kind": { "const": "offer" },
            "next": { "anyOf": [{ "$ref": "#" }, { "type": "null" }] }
        }, "required": ["when", "score", "tags", "note", "kind", "next"],
           "additionalProperties": false }),
        serde_json::json!({ "$ref": "#/$defs/list", "$defs": {
            "list": { "type": "array", "items": { "$ref": "#/$defs/item" }, "minItems": 3 },
            "item": { "type": "integer", "exclusiveMinimum": 4, "multipleOf": 5 } } }),
        serde_json::json!({ "allOf": [
            { "type": "object", "properties": { "a": { "type": "boolean" } }, "required": ["a"] },
            { "properties": { "b": { "type": "integer", "maximum": -3 } }, "required": ["b"] } ] }),
    ];
    for schema in schemas {
        let request = ChatRequest {
            response_format: ResponseFormat::JsonSchema {
                name: "it".to_owned(),
                description: None,
                schema: schema.clone(),
                strict: Some(true),
            },
            ..ChatRequest::ask("Als JSON, bitte")
        };
        let said = text(&heard("m", request).expect("an answer"));
        let value: Value = serde_json::from_str(&said).expect("JSON");
        assert!(jsonschema::is_valid(&schema, &value), "{value} for {schema}");
    }
}

#[test]
fn log_probabilities_come_with_every_token_and_are_low_where_the_model_is_unsure() {
    let mean = |model| {
        let request = ChatRequest { logprobs: true, ..ChatRequest::ask("Was nun?") };
        let chunks = heard(model, request).expect("an answer");
        let told: Vec<f64> = chunks
            .iter()
            .filter_map(|chunk| match chunk {
                Chunk::Logprobs { content, .. } => content[0]["logprob"].as_f64(),
                _ => None,
            })
            .collect();
        assert_eq!(told.len(), chunks.iter().filter(|chunk| chunk.is_token()).count());
        told.iter().sum::<f64>() / told.len() as f64
    };
    assert!(mean("economy") > -0.2);
    assert!(mean("unsure") < -1.5);
}

#[test]
fn each_fault_does_what_its_name_says() {
    let kind = |model| heard(model, ChatRequest::ask("Was nun?")).expect_err("a fault").kind;
    assert_eq!(kind("fail-500"), ProviderErrorKind::Server);
    assert_eq!(kind("fail-429"), ProviderErrorKind::RateLimited);
    assert_eq!(kind("fail-400"), ProviderErrorKind::BadRequest);
    assert_eq!(kind("fail-401"), ProviderErrorKind::Auth);
    assert_eq!(kind("fail-connect"), ProviderErrorKind::Connect);
    assert_eq!(kind("cut"), ProviderErrorKind::Cut);
    assert_eq!(kind("malformed"), ProviderErrorKind::Malformed);
    let told = |model| usage(&heard(model, ChatRequest::ask("Was nun?")).expect("an answer"));
    assert_eq!(told("no-usage"), None);
    assert_eq!(told("zero-usage").expect("told").output_tokens, Some(0));
    assert_eq!(answer("empty", "Was nun?"), "");
    assert!(answer("refuse", "Can you?").contains("can't help"));
}

#[test]
fn a_prompt_cannot_make_a_model_fail() {
    assert!(heard("mini", ChatRequest::ask("fail-500 stall cut")).is_ok());
}

#[test]
fn a_cut_answer_says_five_tokens_first() {
    block_on(async {
        let request = ChatRequest::ask("Was nun?");
        let heard: Vec<_> =
            provider().chat(call("cut", request)).await.expect("begun").collect().await;
        let tokens = heard.iter().flatten().filter(|chunk| chunk.is_token()).count();
        assert_eq!(tokens, 5);
        assert!(heard.last().expect("an end").is_err());
    });
}

#[tokio::test(start_paused = true)]
async fn a_silent_model_is_given_up_after_the_first_token_limit() {
    let began = Instant::now();
    let stream = provider().chat(call("stall", ChatRequest::ask("Was nun?"))).await;
    let heard: Vec<_> = stream.expect("taken").collect().await;
    let error = heard.into_iter().find_map(Result::err).expect("given up");
    assert_eq!(error.kind, ProviderErrorKind::Timeout);
    assert_eq!(began.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn tokens_come_at_the_configured_speed() {
    let slow = SimulatedProvider {
        limits: ProviderLimits::default(),
        knobs: SimulatedConfig { tokens_per_second: 10, first_token_ms: 500 },
    };
    let began = Instant::now();
    let request = ChatRequest { max_output_tokens: Some(11), ..ChatRequest::ask("Was nun?") };
    let mut stream = slow.chat(call("m", request)).await.expect("begun");
    while let Some(chunk) = stream.next().await {
        chunk.expect("no fault");
    }
    assert_eq!(began.elapsed().as_millis(), 1500);
}

#[test]
fn vectors_have_length_one_and_similar_texts_lie_near() {
    let request = EmbedRequest {
        input: ["Rechnung vom Mai", "Rechnung vom Juni", "Wetter in Köln", ""]
            .map(str::to_owned)
            .into(),
        dimensions: Some(64),
        user: None,
        extra: Default::default(),
    };
    let call = ProviderCall {
        model: "vectors".to_owned(),
        request: Arc::new(request),
        logprobs_for_judge: false,
    };
    let told = block_on(provider().embed(call)).expect("vectors");
    let product = |a: usize, b: usize| -> f32 {
        told.vectors[a].iter().zip(&told.vectors[b]).map(|(a, b)| a * b).sum()
    };
    for index in 0..4 {
        assert_eq!(told.vectors[index].len(), 64);
        assert!((product(index, index) - 1.0).abs() < 1e-5);
    }
    assert!(product(0, 1) > product(0, 2));
}

#[test]
fn a_system_prompt_does_not_choose_the_language() {
    let request = ChatRequest {
        messages: vec![
            Message::text(Role::System, "You are the assistant of the company."),
            Message::text(Role::User, "Wie geht das mit den Reisekosten?"),
        ],
        stream: true,
        ..ChatRequest::default()
    };
    assert!(text(&heard("m", request).expect("an answer")).starts_with("[simuliert]"));
}
