//! See `stellwerk_tests::fuzzing::anthropic_whole`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stellwerk_tests::fuzzing::anthropic_whole(data));
