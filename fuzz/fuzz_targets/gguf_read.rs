//! The head of a GGUF file; every input is made to start as one.
#![no_main]

use glm2llama::fuzzing;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::gguf(&[b"GGUF\x03\0\0\0", bytes].concat()));
