//! Slack, Teams and Discord, on one conversation.
//!
//! An empty room: the adapters come with their own issue. Knows nothing of vendors, SQL or HTTP
//! servers; a platform's folder will speak only its own dialect.
