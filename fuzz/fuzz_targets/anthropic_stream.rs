//! See `stellwerk_tests::fuzzing::anthropic_stream`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stellwerk_tests::fuzzing::anthropic_stream(data));
