//! Who is calling: a key becomes a caller.
