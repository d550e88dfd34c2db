//! OpenAI's chat completions, models and embeddings on the wire.
