//! The desktop app: a window over `stellwerk_core`, alone or connected.
//!
//! An empty room: the window and the web app come with their own issue. Knows nothing of SQL or
//! vendors.
