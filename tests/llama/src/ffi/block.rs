//! llama.cpp's parameter structs, by word.

use std::mem::MaybeUninit;

/// A parameter struct, in a block larger than it.
///
/// C passes and returns structs of this size in memory, so a callee that expects a smaller one finds
/// (or writes) its fields at the block's start and never touches the rest.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(super) struct Block([MaybeUninit<u32>; 128]);

impl Block {
    /// Overwrites one 32-bit word.
    pub(super) fn set(&mut self, field: &Field, value: u32) {
        self.0[field.word] = MaybeUninit::new(value);
    }

    /// Overwrites a pointer, two words.
    pub(super) fn set_pointer<T>(&mut self, field: &Field, pointer: *const T) {
        let address = pointer.expose_provenance() as u64;
        self.0[field.word] = MaybeUninit::new(address as u32);
        self.0[field.word + 1] = MaybeUninit::new((address >> 32) as u32);
    }

    /// Checks that every field has its default.
    pub(super) fn check(&self, fields: &[Field]) -> Result<(), String> {
        for field in fields {
            // SAFETY: the block comes from one of llama.cpp's functions, which fill a whole struct; the
            // structs of every version in question reach beyond these words.
            let found = unsafe { self.0[field.word].assume_init() };
            if found != field.default {
                let (name, word, default) = (field.name, field.word, field.default);
                return Err(format!(
                    "{name} (word {word}) is {found:#x}, expected {default:#x}: another version?"
                ));
            }
        }
        Ok(())
    }
}

/// A field of a parameter struct: its place and its default value.
pub(super) struct Field {
    name: &'static str,
    word: usize,
    default: u32,
}

const fn field(name: &'static str, word: usize, default: u32) -> Field {
    Field { name, word, default }
}

const AUTO: u32 = u32::MAX; // -1

/// Bits of a word that holds four C `bool`s, first byte lowest.
const fn bools(bytes: [u8; 4]) -> u32 {
    u32::from_le_bytes(bytes)
}

/// `llama_model_params`.
pub(super) mod model {
    use super::{AUTO, Field, bools, field};

    pub const GPU_LAYERS: Field = field("n_gpu_layers", 4, AUTO);
    pub const FLAGS: Field =
        field("vocab_only, check_tensors, use_extra_bufts, no_host", 18, bools([0, 0, 1, 0]));
    /// [`FLAGS`] with `vocab_only`.
    pub const VOCAB_ONLY: u32 = bools([1, 0, 1, 0]);
    pub const ALL: [Field; 6] = [
        GPU_LAYERS,
        field("split_mode", 5, 1),
        field("load_mode", 6, AUTO),
        field("lazy_mode", 7, 1),
        field("main_gpu", 8, 0),
        FLAGS,
    ];
}

/// `llama_context_params`.
pub(super) mod context {
    use super::{AUTO, Field, bools, field};

    pub const CONTEXT: Field = field("n_ctx", 0, 512);
    pub const BATCH: Field = field("n_batch", 1, 2048);
    pub const MICRO_BATCH: Field = field("n_ubatch", 2, 512);
    pub const THREADS: Field = field("n_threads", 7, 4);
    pub const BATCH_THREADS: Field = field("n_threads_batch", 8, 4);
    pub const FLASH_ATTENTION: Field = field("flash_attn_type", 13, AUTO);
    pub const KEY_TYPE: Field = field("type_k", 26, 1);
    pub const VALUE_TYPE: Field = field("type_v", 27, 1);
    pub const ALL: [Field; 12] = [
        CONTEXT,
        BATCH,
        MICRO_BATCH,
        field("n_seq_max", 3, 1),
        THREADS,
        BATCH_THREADS,
        FLASH_ATTENTION,
        field("yarn_ext_factor", 16, (-1.0f32).to_bits()),
        field("defrag_thold", 21, (-1.0f32).to_bits()),
        KEY_TYPE,
        VALUE_TYPE,
        field("embeddings, offload_kqv, no_perf, op_offload", 32, bools([0, 1, 1, 1])),
    ];
}

/// `llama_model_quantize_params`.
pub(super) mod quantize {
    use super::{Field, bools, field};

    /// ggml's number of types, which stands for "as the mix says".
    const TYPES: u32 = 43;

    pub const THREADS: Field = field("nthread", 0, 0);
    pub const FILE_TYPE: Field = field("ftype", 1, 7);
    pub const OUTPUT: Field = field("output_tensor_type", 2, TYPES);
    pub const TOKEN_EMBEDDING: Field = field("token_embedding_type", 3, TYPES);
    pub const FLAGS: Field =
        field("allow_requantize, quantize_output_tensor, only_copy, pure", 4, bools([0, 1, 0, 0]));
    /// [`FLAGS`] with `pure`.
    pub const PURE: u32 = bools([0, 1, 0, 1]);
    pub const IMPORTANCE: Field = field("imatrix", 6, 0);
    pub const TENSORS: Field = field("tt_overrides", 10, 0);
    pub const ALL: [Field; 12] = [
        THREADS,
        FILE_TYPE,
        OUTPUT,
        TOKEN_EMBEDDING,
        FLAGS,
        IMPORTANCE,
        field("imatrix, upper half", 7, 0),
        field("kv_overrides", 8, 0),
        TENSORS,
        field("tt_overrides, upper half", 11, 0),
        field("max_buf_size", 14, 0),
        field("max_buf_size, upper half", 15, 2),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_default_is_refused_by_name() {
        let mut block = Block([MaybeUninit::new(0); 128]);
        for field in &context::ALL {
            block.set(field, field.default);
        }
        assert_eq!(block.check(&context::ALL), Ok(()));
        block.set(&context::KEY_TYPE, 0);
        let refused = block.check(&context::ALL).unwrap_err();
        assert_eq!(refused, "type_k (word 26) is 0x0, expected 0x1: another version?");
    }

    #[test]
    fn a_pointer_takes_two_words() {
        let mut block = Block([MaybeUninit::new(0); 128]);
        let pointer = std::ptr::without_provenance::<u8>(0x1234_5678_9abc_def0);
        block.set_pointer(&quantize::IMPORTANCE, pointer);
        // SAFETY: every word of the block was set above.
        let words = [6, 7].map(|word| unsafe { block.0[word].assume_init() });
        assert_eq!(words, [0x9abc_def0, 0x1234_5678]);
    }
}
