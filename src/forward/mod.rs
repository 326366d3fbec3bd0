//! Runs models in f32, layer by layer, so that what is in memory is one layer's activations and a few blocks of rows.
//!
//! Knows the arithmetic and Llama's rules, and nothing of where weights come from: `verify` runs GGUF files with it
//! and, by rules of its own, checkpoints; `calibrate` runs the mapping's tensors before they are written.

mod backward;
mod decoder;
mod gradient;
#[cfg(test)]
mod in_memory;
mod llama;
mod math;
mod past;

pub(crate) use decoder::{Decoder, OUTPUT_ROWS};
pub(crate) use gradient::multiply_back;
#[cfg(test)]
pub(crate) use in_memory::InMemory;
pub(crate) use llama::{Llama, Sizes, Tensors};
pub(crate) use math::{
    Activations, Matrix, add_bias, attention, embed, gated, linear, multiply, rms_norm, rotate_pairs,
    rows_of, vector,
};
pub(crate) use past::Past;
