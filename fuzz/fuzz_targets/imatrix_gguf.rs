//! The newer importance matrices; every input is made to start as one.
#![no_main]

use glm2llama::fuzzing;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::imatrix(&[b"GGUF\x03\0\0\0", bytes].concat()));
