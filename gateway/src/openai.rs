//! OpenAI's chat completions, models and embeddings on the wire.
//!
//! [`decode`] reads a request into the shared words, [`encode`] writes answers, whole and as a
//! stream, [`embeddings`] and [`models`] do theirs. Knows nothing of sockets: bytes in, bytes out.

pub mod decode;
pub mod embeddings;
pub mod encode;
pub mod models;
