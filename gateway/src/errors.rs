//! Failures on the wire: status, type, code, in the shape of the API that was called.
