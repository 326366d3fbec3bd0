//! The functions, found by name.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;

use libloading::Library;

use super::block::{self, Block};
use super::{c_path, log};
use crate::find;

/// A `llama_model`.
pub(super) enum RawModel {}
/// A `llama_context`.
pub(super) enum RawContext {}
/// A `llama_vocab`.
pub(super) enum RawVocab {}

/// `llama_batch`.
#[repr(C)]
pub(super) struct Batch {
    pub len: i32,
    pub tokens: *mut i32,
    pub embeddings: *mut f32,
    pub positions: *mut i32,
    pub sequence_counts: *mut i32,
    pub sequences: *mut *mut i32,
    pub logits: *mut i8,
}

/// `llama_chat_message`.
#[repr(C)]
pub(super) struct ChatMessage {
    pub role: *const c_char,
    pub content: *const c_char,
}

/// `ggml_type_traits`.
#[repr(C)]
pub(super) struct Traits {
    pub name: *const c_char,
    pub block_len: i64,
    pub interleave: i64,
    pub block_bytes: usize,
    pub quantized: bool,
    pub to_float: Option<unsafe extern "C" fn(*const c_void, *mut f32, i64)>,
}

type LogCallback = extern "C" fn(c_int, *const c_char, *mut c_void);

macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// llama.cpp's functions. Only [`Api::load`] makes one, so whoever holds it may call.
        pub struct Api {
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Api {
            /// # Safety
            /// The library must be a llama.cpp whose functions have these signatures.
            unsafe fn resolve(library: &Library) -> Result<Api, String> {
                $(
                    // SAFETY: the caller vouches for the signature.
                    let $name = unsafe { library.get(concat!(stringify!($name), "\0")) };
                    let $name = *$name.map_err(|error| error.to_string())?;
                )*
                Ok(Api { $($name,)* })
            }
        }
    };
}

functions! {
    ggml_backend_load_all_from_path: fn(*const c_char);
    ggml_get_type_traits: fn(u32) -> *const Traits;
    ggml_quantize_chunk: fn(u32, *const f32, *mut c_void, i64, i64, i64, *const f32) -> usize;
    ggml_quantize_requires_imatrix: fn(u32) -> bool;
    ggml_row_size: fn(u32, i64) -> usize;
    llama_backend_init: fn();
    llama_chat_apply_template: fn(*const c_char, *const ChatMessage, usize, bool, *mut c_char, i32) -> i32;
    llama_context_default_params: fn() -> Block;
    llama_decode: fn(*mut RawContext, Batch) -> i32;
    llama_detokenize: fn(*const RawVocab, *const i32, i32, *mut c_char, i32, bool, bool) -> i32;
    llama_free: fn(*mut RawContext);
    llama_get_logits_ith: fn(*mut RawContext, i32) -> *const f32;
    llama_init_from_model: fn(*mut RawModel, Block) -> *mut RawContext;
    llama_log_set: fn(LogCallback, *mut c_void);
    llama_model_chat_template: fn(*const RawModel, *const c_char) -> *const c_char;
    llama_model_default_params: fn() -> Block;
    llama_model_free: fn(*mut RawModel);
    llama_model_get_vocab: fn(*const RawModel) -> *const RawVocab;
    llama_model_load_from_file: fn(*const c_char, Block) -> *mut RawModel;
    llama_model_meta_val_str: fn(*const RawModel, *const c_char, *mut c_char, usize) -> i32;
    llama_model_quantize: fn(*const c_char, *const c_char, *const Block) -> u32;
    llama_model_quantize_default_params: fn() -> Block;
    llama_token_to_piece: fn(*const RawVocab, i32, *mut c_char, i32, i32, bool) -> i32;
    llama_tokenize: fn(*const RawVocab, *const c_char, i32, *mut i32, i32, bool, bool) -> i32;
    llama_version: fn() -> *const c_char;
    llama_vocab_is_eog: fn(*const RawVocab, i32) -> bool;
    llama_vocab_n_tokens: fn(*const RawVocab) -> i32;
}

impl Api {
    /// Loads the library, starts llama.cpp and checks that it is the version known here.
    pub(crate) fn load(folder: &Path) -> Result<Api, String> {
        let file = find::library(folder, "libllama")?;
        let folder = c_path(folder)?;
        // SAFETY: llama.cpp's libraries have no initialisers beyond C++ statics. They find each other by
        // their run path.
        let library = unsafe { Library::new(&file) }.map_err(|error| error.to_string())?;
        // SAFETY: the signatures are those of the version that `check` asks for.
        let api = unsafe { Api::resolve(&library) }?;
        // Never unloaded: the functions must stay valid, and so must llama.cpp's threads and statics.
        std::mem::forget(library);
        // SAFETY: the signature is as resolved; the callback is a static function that expects no data.
        unsafe { (api.llama_log_set)(log::keep, std::ptr::null_mut()) };
        api.check()?;
        // SAFETY: `folder` is a C string; both calls are made once a process (`Runtime::find`).
        unsafe {
            (api.ggml_backend_load_all_from_path)(folder.as_ptr());
            (api.llama_backend_init)();
        }
        Ok(api)
    }

    /// Asserts the layouts that this crate relies on.
    fn check(&self) -> Result<(), String> {
        let named = |what: &'static str| move |problem: String| format!("{what}: {problem}");
        self.model_defaults().check(&block::model::ALL).map_err(named("llama_model_params"))?;
        self.context_defaults().check(&block::context::ALL).map_err(named("llama_context_params"))?;
        self.quantize_defaults()
            .check(&block::quantize::ALL)
            .map_err(named("llama_model_quantize_params"))?;

        const Q4_K: u32 = 12;
        // SAFETY: ggml returns a pointer to a static table; the fields read here stand first in it, and
        // the name is a static C string.
        let (name, block) = unsafe {
            let traits = &*(self.ggml_get_type_traits)(Q4_K);
            (CStr::from_ptr(traits.name), (traits.block_len, traits.block_bytes, traits.quantized))
        };
        if name != c"q4_K" || block != (256, 144, true) {
            return Err(format!("ggml_type_traits: found {name:?} {block:?}"));
        }
        Ok(())
    }

    pub(super) fn model_defaults(&self) -> Block {
        // SAFETY: fills a struct that is smaller than the block.
        unsafe { (self.llama_model_default_params)() }
    }

    pub(super) fn context_defaults(&self) -> Block {
        // SAFETY: fills a struct that is smaller than the block.
        unsafe { (self.llama_context_default_params)() }
    }

    pub(super) fn quantize_defaults(&self) -> Block {
        // SAFETY: fills a struct that is smaller than the block.
        unsafe { (self.llama_model_quantize_default_params)() }
    }

    pub(crate) fn version(&self) -> String {
        // SAFETY: returns a static C string.
        unsafe { CStr::from_ptr((self.llama_version)()) }.to_string_lossy().into_owned()
    }
}
