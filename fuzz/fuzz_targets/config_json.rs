//! `config.json`, and the rope that follows from it.
#![no_main]

use glm2llama::fuzzing;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::config(bytes));
