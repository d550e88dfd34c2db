//! See `stellwerk_tests::fuzzing::embeddings`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stellwerk_tests::fuzzing::embeddings(data));
