//! Quantizing: whole files, rows, and back.

use std::ffi::{CString, c_char};
use std::path::Path;

use super::api::{Api, Traits};
use super::block::quantize as fields;
use super::{c_path, log};
use crate::Quantize;

/// ggml's number of types; larger numbers are outside its table.
const TYPES: u32 = 43;
const F32: u32 = 0;
/// What `ggml_quantize_chunk` writes without blocks: F32, F16, BF16.
const PLAIN: [u32; 3] = [F32, 1, 30];
/// Block formats of activations only (Q8_1, Q8_K): `ggml_quantize_chunk` aborts on them.
const INTERNAL: [u32; 2] = [9, 15];

/// `llama_model_imatrix_data`; a null name ends a list.
#[repr(C)]
struct Importance {
    name: *const c_char,
    data: *const f32,
    len: usize,
}

/// `llama_model_tensor_override`; a null pattern ends a list.
#[repr(C)]
struct TensorType {
    pattern: *const c_char,
    ggml_type: u32,
}

impl Api {
    pub(crate) fn quantize_model(
        &self,
        input: &Path,
        output: &Path,
        how: &Quantize<'_>,
    ) -> Result<(), String> {
        let (input, output) = (c_path(input)?, c_path(output)?);
        let names: Result<Vec<_>, _> = how.importance.iter().map(|(name, _)| CString::new(*name)).collect();
        let names = names.map_err(|error| error.to_string())?;
        let mut list: Vec<_> = how
            .importance
            .iter()
            .zip(&names)
            .map(|((_, data), name)| Importance { name: name.as_ptr(), data: data.as_ptr(), len: data.len() })
            .collect();
        list.push(Importance { name: std::ptr::null(), data: std::ptr::null(), len: 0 });

        let patterns: Result<Vec<_>, _> = how.tensors.iter().map(|(regex, _)| CString::new(*regex)).collect();
        let patterns = patterns.map_err(|error| error.to_string())?;
        let mut types: Vec<_> = (how.tensors.iter().zip(&patterns))
            .map(|((_, ggml_type), regex)| TensorType { pattern: regex.as_ptr(), ggml_type: *ggml_type })
            .collect();
        types.push(TensorType { pattern: std::ptr::null(), ggml_type: 0 });

        let mut parameters = self.quantize_defaults();
        if let Some(ggml_type) = how.output {
            parameters.set(&fields::OUTPUT, ggml_type);
        }
        if let Some(ggml_type) = how.token_embedding {
            parameters.set(&fields::TOKEN_EMBEDDING, ggml_type);
        }
        if !how.tensors.is_empty() {
            parameters.set_pointer(&fields::TENSORS, types.as_ptr());
        }
        parameters.set(&fields::THREADS, how.threads);
        parameters.set(&fields::FILE_TYPE, how.file_type);
        if how.pure {
            parameters.set(&fields::FLAGS, fields::PURE);
        }
        if !how.importance.is_empty() {
            parameters.set_pointer(&fields::IMPORTANCE, list.as_ptr());
        }
        log::with_messages("quantize", || {
            // SAFETY: C strings and a full set of parameters; the lists they point to end with a null
            // name and outlive the call, as do the names and weights in them.
            let result = unsafe {
                (self.llama_model_quantize)(input.as_ptr(), output.as_ptr(), std::ptr::from_ref(&parameters))
            };
            (result == 0).then_some(())
        })
    }

    pub(crate) fn quantize_chunk(
        &self,
        ggml_type: u32,
        columns: usize,
        rows: &[f32],
        importance: Option<&[f32]>,
        out: &mut [u8],
    ) {
        let quantized = self.traits(ggml_type).quantized && !INTERNAL.contains(&ggml_type);
        assert!(quantized || PLAIN.contains(&ggml_type), "ggml does not quantize to type {ggml_type}");
        let row_bytes = self.row_bytes(ggml_type, columns);
        assert!(columns > 0 && rows.len().is_multiple_of(columns), "{} weights", rows.len());
        assert_eq!(out.len(), rows.len() / columns * row_bytes, "bytes of the output");
        assert!(out.as_ptr().cast::<u32>().is_aligned(), "ggml's blocks are aligned to 4 bytes");
        // SAFETY: asks by number only, and the number is in ggml's table.
        let required = unsafe { (self.ggml_quantize_requires_imatrix)(ggml_type) };
        assert!(importance.is_some() || !required, "type {ggml_type} needs importance weights");
        assert!(importance.is_none_or(|weights| weights.len() == columns), "one weight a column");

        let weights = importance.map_or(std::ptr::null(), <[f32]>::as_ptr);
        let count = |n: usize| i64::try_from(n).expect("a length");
        // SAFETY: all lengths were checked above; ggml writes `rows * row_bytes` bytes to `out`.
        let written = unsafe {
            (self.ggml_quantize_chunk)(
                ggml_type,
                rows.as_ptr(),
                out.as_mut_ptr().cast(),
                0,
                count(rows.len() / columns),
                count(columns),
                weights,
            )
        };
        assert_eq!(written, out.len());
    }

    pub(crate) fn dequantize(&self, ggml_type: u32, blocks: &[u8]) -> Vec<f32> {
        if ggml_type == F32 {
            return blocks.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        }
        let traits = self.traits(ggml_type);
        let to_float = traits.to_float.unwrap_or_else(|| panic!("ggml does not read type {ggml_type}"));
        assert!(blocks.len().is_multiple_of(traits.block_bytes), "{} bytes", blocks.len());
        // A copy, because ggml's blocks are aligned and a slice of a file need not be.
        let mut aligned = vec![0u64; blocks.len().div_ceil(8)];
        for (word, bytes) in aligned.iter_mut().zip(blocks.chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(padded);
        }
        let len = blocks.len() / traits.block_bytes * usize::try_from(traits.block_len).expect("a length");
        let mut out = vec![0.0; len];
        // SAFETY: whole blocks come in, and `out` is as long as they are.
        unsafe { to_float(aligned.as_ptr().cast(), out.as_mut_ptr(), i64::try_from(len).expect("a length")) };
        out
    }

    pub(crate) fn row_bytes(&self, ggml_type: u32, columns: usize) -> usize {
        let traits = self.traits(ggml_type);
        let columns = i64::try_from(columns).expect("a length");
        assert_eq!(columns % traits.block_len, 0, "{columns} columns are no whole blocks of {ggml_type}");
        // SAFETY: a type with blocks, and whole blocks of it.
        unsafe { (self.ggml_row_size)(ggml_type, columns) }
    }

    /// What ggml knows of a type that it still has.
    fn traits(&self, ggml_type: u32) -> &'static Traits {
        assert!(ggml_type < TYPES, "ggml has no type {ggml_type}");
        // SAFETY: the number is in ggml's static table.
        let traits = unsafe { &*(self.ggml_get_type_traits)(ggml_type) };
        assert!(traits.block_len > 0, "ggml no longer has type {ggml_type}");
        traits
    }
}
