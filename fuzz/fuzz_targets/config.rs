//! See `stellwerk_tests::fuzzing::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stellwerk_tests::fuzzing::config(data));
