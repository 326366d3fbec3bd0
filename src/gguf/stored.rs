//! A tensor as a file holds it.

use gguf_rs_lib::format::GGUFTensorType;
use quant::Format;

use super::header::TENSOR_MEMORY;

/// A tensor of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTensor {
    /// Its name.
    pub name: String,
    /// Row-major shape, `[out, in]` or `[len]`.
    pub shape: Vec<u64>,
    /// ggml's number of its format.
    pub ggml_type: u32,
    /// Its first byte, counted from the start of the file.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
    /// Which of the model's files holds it.
    pub(super) part: usize,
}

impl StoredTensor {
    /// Its format, when it is one that this program writes.
    pub fn format(&self) -> Option<Format> {
        Format::from_ggml_type(self.ggml_type)
    }

    /// How much of the memory that a header may take it counts for: never more than was charged when it was read.
    pub(super) fn memory(&self) -> u64 {
        TENSOR_MEMORY + self.name.len() as u64
    }

    /// The name of its format, whatever it is.
    pub fn format_name(&self) -> String {
        self.format().map_or_else(|| lib_name(self.ggml_type), |format| format.to_string())
    }

    /// Values in the tensor.
    pub fn weights(&self) -> u64 {
        self.shape.iter().product()
    }
}

fn lib_name(ggml_type: u32) -> String {
    GGUFTensorType::from_u32(ggml_type)
        .map_or_else(|_| format!("type {ggml_type}"), |known| known.name().to_owned())
}
