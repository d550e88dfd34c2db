//! See `stellwerk_tests::fuzzing::bedrock_stream`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stellwerk_tests::fuzzing::bedrock_stream(data));
