//! See `stellwerk_tests::fuzzing::messages`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stellwerk_tests::fuzzing::messages(data));
