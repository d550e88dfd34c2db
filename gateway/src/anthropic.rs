//! Anthropic's messages on the wire.
//!
//! [`decode`] reads a request into the shared words, [`encode`] writes answers, whole and as a
//! stream of named events. Knows nothing of sockets: bytes in, bytes out.

pub mod decode;
pub mod encode;
