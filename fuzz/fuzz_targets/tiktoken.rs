//! tiktoken's lines, after the 256 bytes that every vocabulary has.
#![no_main]

use glm2llama::fuzzing;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::tiktoken(bytes));
