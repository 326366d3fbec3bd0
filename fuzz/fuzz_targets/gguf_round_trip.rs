//! Whatever head can be laid out is read back as it was.
#![no_main]

use glm2llama::fuzzing;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::gguf_round_trip(bytes));
