//! PyTorch's archives and their pickles.
#![no_main]

use glm2llama::fuzzing;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::pytorch(bytes));
