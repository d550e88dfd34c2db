//! Paths, handlers and the life of the server.
