//! See `stellwerk_tests::fuzzing::gemini_stream`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stellwerk_tests::fuzzing::gemini_stream(data));
