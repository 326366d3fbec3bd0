//! The older importance matrices.
#![no_main]

use glm2llama::fuzzing;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::imatrix(bytes));
