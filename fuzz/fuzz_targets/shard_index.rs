//! The index of a checkpoint's shards.
#![no_main]

use glm2llama::fuzzing;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::shard_index(bytes));
