//! The small world that the tests of this crate share: one call, one end.

use std::sync::Arc;

use stellwerk_core::caller::Channel;
use stellwerk_core::ids::{ModelId, Node, RequestId};
use stellwerk_core::money::{Cost, Currency};
use stellwerk_core::reply::{Chunk, Done, Usage};
use stellwerk_core::trace::Trace;

use crate::show::Shown;

pub fn request_id() -> RequestId {
    RequestId::from("req_1")
}

pub fn trace() -> Arc<Trace> {
    Arc::new(Trace::new(request_id(), Node::Company, Channel::Api))
}

pub fn begun(model: &str) -> Shown {
    Shown::Begun { model: ModelId::from(model), trace: trace() }
}

pub fn text(text: &str) -> Shown {
    Shown::Piece(Chunk::Text { choice: 0, text: text.to_owned() })
}

pub fn call(index: u32, name: Option<&str>, arguments: &str) -> Shown {
    Shown::Piece(Chunk::ToolCall {
        choice: 0,
        index,
        id: name.map(|name| format!("call_{name}")),
        name: name.map(str::to_owned),
        arguments: arguments.to_owned(),
        extra: None,
    })
}

pub fn done(model: &str) -> Done {
    Done {
        attempt: 1,
        model: ModelId::from(model),
        vendor_model: None,
        usage: Usage {
            input_tokens: Some(10),
            cached_input_tokens: 4,
            cache_write_tokens: 1,
            output_tokens: Some(3),
            reasoning_tokens: 1,
        },
        estimated: false,
        cost: Cost::from_nanos(4_500_000),
        currency: Currency::new("EUR").expect("a currency"),
        trace: trace(),
    }
}
