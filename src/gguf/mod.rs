//! The GGUF file: the only place that knows its bytes, and where `[out, in]` shapes are turned around.

mod header;
mod layout;
mod parts;
mod read;
mod split;
mod stored;
mod write;

pub use layout::{FileLayout, TensorInfo};
pub use read::GgufFile;
pub use split::{Split, SplitWriter};
pub use stored::StoredTensor;
pub use write::Writer;

/// Tensors start at multiples of this many bytes.
pub const ALIGNMENT: u64 = 32;

/// Metadata, in any order: the file holds it sorted by key.
pub type Metadata = Vec<(String, Value)>;

/// The text of a key.
pub(crate) fn text<'a>(keys: &'a Metadata, key: &str) -> Option<&'a str> {
    keys.iter().find_map(|(found, value)| match value {
        Value::String(text) if found == key => Some(text.as_str()),
        _ => None,
    })
}

/// A metadata value. The kinds of arrays that real files have are vectors; any other is a [`Value::Array`].
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `UINT8`
    U8(u8),
    /// `INT8`
    I8(i8),
    /// `UINT16`
    U16(u16),
    /// `INT16`
    I16(i16),
    /// `UINT32`
    U32(u32),
    /// `INT32`
    I32(i32),
    /// `UINT64`
    U64(u64),
    /// `INT64`
    I64(i64),
    /// `FLOAT32`
    F32(f32),
    /// `FLOAT64`
    F64(f64),
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
    /// `ARRAY` of anything else, all of one kind
    Array(Vec<Value>),
}
