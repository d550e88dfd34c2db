//! What a key may do in a minute and at once.
