//! Failures on the wire: status, type and code, in the shape of the API that was called.
//!
//! The one place where a kind of failure becomes a status. Knows nothing of why something
//! failed; the words come with the failure and are given in the caller's language.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use axum::http::{HeaderName, Response, StatusCode};
use serde_json::{Map, Value, json};
use stellwerk_core::ids::RequestId;
use stellwerk_core::money::Cost;
use stellwerk_core::reply::{BudgetRefusal, Failure, FailureKind, Words};
use stellwerk_core::request::Locale;

use crate::wire::Invalid;

/// Carried by every answer under `/v1`.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-stellwerk-request-id");
/// Who answered.
pub const MODEL: HeaderName = HeaderName::from_static("x-stellwerk-model");
/// What it cost, a decimal with nine places.
pub const COST: HeaderName = HeaderName::from_static("x-stellwerk-cost");
/// What was decided, one line.
pub const TRACE: HeaderName = HeaderName::from_static("x-stellwerk-trace");
/// The official SDKs repeat 408, 429 and 5xx of themselves unless this says `false`.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Whose shape an error takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `{"error":{"message","type","code","param"}}`.
    OpenAi,
    /// `{"type":"error","error":{"type","message"},"request_id"}`.
    Anthropic,
}

impl Api {
    /// The API that a path belongs to.
    pub fn of_path(path: &str) -> Self {
        let messages = path.strip_prefix("/v1/messages");
        match messages.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            true => Api::Anthropic,
            false => Api::OpenAi,
        }
    }
}

/// An error as a client sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct WireError {
    /// The status.
    pub status: StatusCode,
    /// What programs branch on.
    pub code: &'static str,
    /// For people, in both languages.
    pub message: Words,
    /// The field that is wrong.
    pub param: Option<String>,
    /// What a refused budget tells.
    pub budget: Option<BudgetRefusal>,
    /// Seconds to wait.
    pub retry_after_s: Option<u64>,
    /// What the attempts so far cost, and what was decided.
    pub trace: Option<(Cost, String)>,
}

impl WireError {
    /// An error without further detail.
    pub fn new(status: StatusCode, code: &'static str, message: Words) -> Self {
        WireError {
            status,
            code,
            message,
            param: None,
            budget: None,
            retry_after_s: None,
            trace: None,
        }
    }

    /// OpenAI's word for the kind of error.
    fn openai_type(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            402 => "insufficient_quota",
            403 => "permission_error",
            408 | 504 => "timeout_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// Anthropic's word for the kind of error.
    fn anthropic_type(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            402 => "billing_error",
            403 => "permission_error",
            404 => "not_found_error",
            408 | 504 => "timeout_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 => "overloaded_error",
            500.. => "api_error",
            _ => "invalid_request_error",
        }
    }

    /// The body, which is also what a started stream carries as its last event.
    pub fn body(&self, api: Api, locale: Locale, request_id: &RequestId) -> Value {
        let message = self.message.in_locale(locale);
        let mut error = Map::new();
        match api {
            Api::OpenAi => {
                error.insert("message".into(), message.into());
                error.insert("type".into(), self.openai_type().into());
            }
            Api::Anthropic => {
                error.insert("type".into(), self.anthropic_type().into());
                error.insert("message".into(), message.into());
            }
        }
        error.insert("code".into(), self.code.into());
        error.insert("param".into(), self.param.clone().into());
        if let Some(budget) = &self.budget {
            error.insert("stellwerk".into(), told(budget));
        }
        match api {
            Api::OpenAi => json!({ "error": error }),
            Api::Anthropic => json!({ "type": "error", "error": error, "request_id": request_id }),
        }
    }

    /// The whole answer.
    pub fn response(&self, api: Api, locale: Locale, request_id: &RequestId) -> Response<Body> {
        let mut response =
            Response::new(Body::from(self.body(api, locale, request_id).to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(REQUEST_ID, header(request_id.as_str()));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some((cost, line)) = &self.trace {
            headers.insert(COST, header(&cost.to_string()));
            headers.insert(TRACE, header(line));
        }
        // The caller's own limit ran out: the SDK repeating the call would double it unasked.
        if self.status == StatusCode::REQUEST_TIMEOUT {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        response
    }
}

fn told(budget: &BudgetRefusal) -> Value {
    json!({
        "level": budget.node.kind(),
        "node": budget.node,
        "left": budget.left.to_string(),
        "renews_at": budget.renews_at,
        "period": budget.period,
    })
}

/// A header value; what may not stand in one becomes a question mark.
pub fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| {
        let visible = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
        let safe: String = text.chars().map(visible).collect();
        HeaderValue::from_str(&safe).unwrap_or(HeaderValue::from_static("?"))
    })
}

/// The status of the contract.
pub fn status(kind: FailureKind) -> StatusCode {
    match kind {
        FailureKind::BadInput => StatusCode::BAD_REQUEST,
        FailureKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        FailureKind::OverBudget => StatusCode::PAYMENT_REQUIRED,
        FailureKind::Zone | FailureKind::Governance | FailureKind::Guard => StatusCode::FORBIDDEN,
        FailureKind::ModelNotFound | FailureKind::PolicyNotFound => StatusCode::NOT_FOUND,
        FailureKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        FailureKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        FailureKind::CallerTimeout => StatusCode::REQUEST_TIMEOUT,
        FailureKind::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        FailureKind::Upstream => StatusCode::BAD_GATEWAY,
        FailureKind::NoCandidate | FailureKind::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        FailureKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<&Failure> for WireError {
    fn from(failure: &Failure) -> Self {
        let no_model =
            matches!(failure.kind, FailureKind::ModelNotFound | FailureKind::PolicyNotFound);
        let param = failure.param.clone().or_else(|| no_model.then(|| "model".to_owned()));
        // A refused rate without a moment named would leave the client guessing.
        let default_wait = (failure.kind == FailureKind::RateLimited).then_some(1);
        WireError {
            param,
            budget: failure.budget.clone(),
            retry_after_s: failure.retry_after_s.or(default_wait),
            trace: failure.trace.as_ref().map(|trace| (failure.cost, trace.line())),
            ..WireError::new(status(failure.kind), failure.kind.code(), failure.message.clone())
        }
    }
}

impl From<Invalid> for WireError {
    fn from(invalid: Invalid) -> Self {
        WireError {
            param: invalid.param,
            ..WireError::new(StatusCode::BAD_REQUEST, FailureKind::BadInput.code(), invalid.message)
        }
    }
}

/// No such path.
pub fn not_found() -> WireError {
    let words = Words::new(
        "there is no such path; the API has /v1/chat/completions, /v1/embeddings, /v1/messages and /v1/models",
        "diesen Pfad gibt es nicht; die Schnittstelle hat /v1/chat/completions, /v1/embeddings, /v1/messages und /v1/models",
    );
    WireError::new(StatusCode::NOT_FOUND, "not_found", words)
}

/// The path exists, the method does not fit it.
pub fn method_not_allowed() -> WireError {
    let words = Words::new(
        "this path does not take this method; `allow` names those that it takes",
        "dieser Pfad nimmt diese Methode nicht an; `allow` nennt die möglichen",
    );
    WireError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", words)
}

/// A body above the limit.
pub fn too_large(limit: usize) -> WireError {
    let words = Words::new(
        format!("the body is larger than {limit} bytes; `server.max_body_bytes` sets the limit"),
        format!(
            "der Inhalt ist größer als {limit} Bytes; `server.max_body_bytes` setzt die Grenze"
        ),
    );
    WireError::new(StatusCode::PAYLOAD_TOO_LARGE, FailureKind::TooLarge.code(), words)
}

/// A body that comes too slowly.
pub fn too_slow() -> WireError {
    let words = Words::new(
        "the body did not arrive in time; send it again, faster",
        "der Inhalt kam nicht rechtzeitig an; bitte erneut und schneller senden",
    );
    WireError::new(StatusCode::REQUEST_TIMEOUT, "timeout", words)
}

/// A body whose connection broke.
pub fn body_broken() -> WireError {
    let words = Words::new(
        "the body could not be read to its end",
        "der Inhalt konnte nicht bis zum Ende gelesen werden",
    );
    WireError::new(StatusCode::BAD_REQUEST, FailureKind::BadInput.code(), words)
}

/// A compressed body.
pub fn encoded_body() -> WireError {
    let words = Words::new(
        "compressed bodies are not read; send it without `content-encoding`",
        "komprimierte Inhalte werden nicht gelesen; bitte ohne `content-encoding` senden",
    );
    WireError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", words)
}

/// Our own fault.
pub fn internal() -> WireError {
    let words = Words::new(
        "something went wrong inside the gateway; the request id helps the administrator to find it",
        "im Gateway ist etwas schiefgegangen; mit der Anfragenummer findet der Administrator die Ursache",
    );
    WireError::new(StatusCode::INTERNAL_SERVER_ERROR, FailureKind::Internal.code(), words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_status_of_the_design() {
        let expected = [
            (FailureKind::BadInput, 400),
            (FailureKind::Unauthenticated, 401),
            (FailureKind::OverBudget, 402),
            (FailureKind::Zone, 403),
            (FailureKind::Governance, 403),
            (FailureKind::Guard, 403),
            (FailureKind::ModelNotFound, 404),
            (FailureKind::PolicyNotFound, 404),
            (FailureKind::TooLarge, 413),
            (FailureKind::RateLimited, 429),
            (FailureKind::CallerTimeout, 408),
            (FailureKind::UpstreamTimeout, 504),
            (FailureKind::Upstream, 502),
            (FailureKind::NoCandidate, 503),
            (FailureKind::ShuttingDown, 503),
            (FailureKind::Internal, 500),
        ];
        for (kind, code) in expected {
            assert_eq!(status(kind).as_u16(), code, "{kind:?}");
        }
    }

    #[test]
    fn a_refused_budget_names_level_node_rest_and_renewal() {
        let mut failure = Failure::new(
            RequestId::from("req_1"),
            FailureKind::OverBudget,
            Words::new("department:sales has 0.10 left", "department:sales hat noch 0,10"),
        );
        failure.budget = Some(BudgetRefusal {
            node: "department:sales".parse().expect("a node"),
            period: stellwerk_core::request::BudgetPeriod::Month,
            limit: Cost::from_nanos(5_000_000_000),
            left: Cost::from_nanos(100_000_000),
            needed: Cost::from_nanos(200_000_000),
            renews_at: "2026-12-01T00:00:00+01:00".parse().expect("a moment"),
        });
        let error = WireError::from(&failure);
        insta::assert_json_snapshot!(error.body(Api::OpenAi, Locale::De, &failure.request_id), @r#"
        {
          "error": {
            "message": "department:sales hat noch 0,10",
            "type": "insufficient_quota",
            "code": "budget_exceeded",
            "param": null,
            "stellwerk": {
              "level": "department",
              "node": "department:sales",
              "left": "0.100000000",
              "renews_at": "2026-11-30T23:00:00Z",
              "period": "month"
            }
          }
        }
        "#);
        insta::assert_json_snapshot!(error.body(Api::Anthropic, Locale::En, &failure.request_id)["error"]["type"], @r#""billing_error""#);
    }

    #[test]
    fn only_messages_paths_speak_anthropics_shape() {
        assert_eq!(Api::of_path("/v1/messages"), Api::Anthropic);
        assert_eq!(Api::of_path("/v1/messages/count_tokens"), Api::Anthropic);
        assert_eq!(Api::of_path("/v1/messagesque"), Api::OpenAi);
        assert_eq!(Api::of_path("/v1/nowhere"), Api::OpenAi);
    }

    #[test]
    fn a_model_name_that_is_no_header_text_is_shown_with_question_marks() {
        assert_eq!(header("größe\n1"), HeaderValue::from_static("gr??e?1"));
    }
}
