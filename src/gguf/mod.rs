//! The GGUF file: the only place that knows its bytes, and where `[out, in]` shapes are turned around.

mod layout;
mod write;

pub use layout::{Layout, TensorInfo};
pub use write::Writer;

/// Tensors start at multiples of this many bytes.
pub const ALIGNMENT: u64 = 32;

/// Metadata, in any order: the file holds it sorted by key.
pub type Metadata = Vec<(String, Value)>;

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `UINT32`
    U32(u32),
    /// `FLOAT32`
    F32(f32),
    /// `BOOL`
    Bool(bool),
    /// `STRING`
    String(String),
    /// `ARRAY` of `STRING`
    Strings(Vec<String>),
    /// `ARRAY` of `FLOAT32`
    F32s(Vec<f32>),
    /// `ARRAY` of `INT32`
    I32s(Vec<i32>),
}
