//! A loaded model: logits, tokens, metadata.

use std::ffi::{CStr, CString};
use std::path::Path;

use super::api::{Api, Batch, RawContext, RawModel, RawVocab};
use super::block::context as fields;
use super::{block, c_path, log};
use crate::Attention;

const GGML_TYPE_F32: u32 = 0;

/// A model in memory, on the CPU.
pub struct Model {
    api: &'static Api,
    /// Valid until `drop`.
    raw: *mut RawModel,
}

impl Model {
    pub(crate) fn load(api: &'static Api, path: &Path, vocabulary_only: bool) -> Result<Model, String> {
        let path = c_path(path)?;
        let mut parameters = api.model_defaults();
        parameters.set(&block::model::GPU_LAYERS, 0);
        if vocabulary_only {
            parameters.set(&block::model::FLAGS, block::model::VOCAB_ONLY);
        }
        let raw = log::with_messages("load the model", || {
            // SAFETY: a C string and a full set of parameters, as the function takes them.
            let raw = unsafe { (api.llama_model_load_from_file)(path.as_ptr(), parameters) };
            (!raw.is_null()).then_some(raw)
        })?;
        Ok(Model { api, raw })
    }

    /// The logits after every token.
    ///
    /// # Errors
    /// llama.cpp's own messages.
    pub fn logits(&self, tokens: &[i32], attention: Attention) -> Result<Vec<Vec<f32>>, String> {
        let context = Context::new(self, tokens.len(), attention)?;
        context.decode(tokens)?;
        let width = usize::try_from(self.vocabulary_len()).expect("a length");
        (0..tokens.len()).map(|position| context.logits(position, width)).collect()
    }

    fn vocabulary(&self) -> *const RawVocab {
        // SAFETY: `raw` is valid; the vocabulary lives as long as it does.
        unsafe { (self.api.llama_model_get_vocab)(self.raw) }
    }

    /// Number of tokens in the vocabulary.
    pub fn vocabulary_len(&self) -> i32 {
        // SAFETY: the vocabulary is valid.
        unsafe { (self.api.llama_vocab_n_tokens)(self.vocabulary()) }
    }

    /// The text's tokens. `add_special` adds what the model wants around a text, `parse_special` reads
    /// the names of control tokens as such.
    ///
    /// # Panics
    /// When the text is longer than 2 GB.
    pub fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Vec<i32> {
        let len = i32::try_from(text.len()).expect("a short text");
        fill(|buffer: &mut [i32]| {
            // SAFETY: text and buffer are passed with their lengths.
            unsafe {
                (self.api.llama_tokenize)(
                    self.vocabulary(),
                    text.as_ptr().cast(),
                    len,
                    buffer.as_mut_ptr(),
                    c_len(buffer),
                    add_special,
                    parse_special,
                )
            }
        })
    }

    /// The tokens' text, with the names of control tokens.
    ///
    /// # Panics
    /// When a token is not in the vocabulary.
    pub fn detokenize(&self, tokens: &[i32]) -> String {
        assert!(tokens.iter().all(|&token| self.knows(token)), "an unknown token in {tokens:?}");
        let bytes = fill(|buffer: &mut [u8]| {
            // SAFETY: tokens (all known) and buffer are passed with their lengths.
            unsafe {
                (self.api.llama_detokenize)(
                    self.vocabulary(),
                    tokens.as_ptr(),
                    c_len(tokens),
                    buffer.as_mut_ptr().cast(),
                    c_len(buffer),
                    false,
                    true,
                )
            }
        });
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What a token adds to a text; a byte token need not be UTF-8.
    ///
    /// # Panics
    /// When the token is not in the vocabulary.
    pub fn piece(&self, token: i32) -> Vec<u8> {
        assert!(self.knows(token), "an unknown token {token}");
        fill(|buffer: &mut [u8]| {
            // SAFETY: a known token; the buffer is passed with its length.
            unsafe {
                (self.api.llama_token_to_piece)(
                    self.vocabulary(),
                    token,
                    buffer.as_mut_ptr().cast(),
                    c_len(buffer),
                    0,
                    true,
                )
            }
        })
    }

    /// True for a token that ends generation.
    ///
    /// # Panics
    /// When the token is not in the vocabulary.
    pub fn is_end_of_generation(&self, token: i32) -> bool {
        assert!(self.knows(token), "an unknown token {token}");
        // SAFETY: a known token.
        unsafe { (self.api.llama_vocab_is_eog)(self.vocabulary(), token) }
    }

    fn knows(&self, token: i32) -> bool {
        (0..self.vocabulary_len()).contains(&token)
    }

    /// A value of the file's metadata, as llama.cpp prints it; `None` for arrays and absent keys.
    ///
    /// # Panics
    /// When the key contains a zero byte.
    pub fn meta(&self, key: &str) -> Option<String> {
        let key = CString::new(key).expect("a key without zero bytes");
        let read = |buffer: &mut [u8]| {
            // SAFETY: a C string; the buffer is passed with its length, a terminating zero included.
            unsafe {
                (self.api.llama_model_meta_val_str)(
                    self.raw,
                    key.as_ptr(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                )
            }
        };
        // Negative: no such key. Else the length of the whole value, without the zero.
        let len = usize::try_from(read(&mut [0])).ok()?;
        let mut buffer = vec![0; len + 1];
        read(&mut buffer);
        Some(String::from_utf8_lossy(&buffer[..len]).into_owned())
    }

    /// The file's chat template.
    pub fn chat_template(&self) -> Option<String> {
        // SAFETY: the null name means the default template; the string lives as long as the model.
        unsafe {
            let template = (self.api.llama_model_chat_template)(self.raw, std::ptr::null());
            (!template.is_null()).then(|| CStr::from_ptr(template).to_string_lossy().into_owned())
        }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: `raw` is valid, and nothing outlives the model: contexts borrow it.
        unsafe { (self.api.llama_model_free)(self.raw) };
    }
}

/// One evaluation.
struct Context<'a> {
    model: &'a Model,
    /// Valid until `drop`.
    raw: *mut RawContext,
}

impl Context<'_> {
    /// A context that takes `len` tokens in one piece.
    fn new(model: &Model, len: usize, attention: Attention) -> Result<Context<'_>, String> {
        let len = u32::try_from(len).map_err(|error| error.to_string())?.max(1);
        let mut parameters = model.api.context_defaults();
        for field in [&fields::CONTEXT, &fields::BATCH, &fields::MICRO_BATCH] {
            parameters.set(field, len);
        }
        // Small models gain nothing from more, and the waiting threads of parallel tests would spin.
        for field in [&fields::THREADS, &fields::BATCH_THREADS] {
            parameters.set(field, 1);
        }
        if attention == Attention::F32 {
            parameters.set(&fields::FLASH_ATTENTION, 0);
            for field in [&fields::KEY_TYPE, &fields::VALUE_TYPE] {
                parameters.set(field, GGML_TYPE_F32);
            }
        }
        let raw = log::with_messages("make a context", || {
            // SAFETY: a valid model and a full set of parameters.
            let raw = unsafe { (model.api.llama_init_from_model)(model.raw, parameters) };
            (!raw.is_null()).then_some(raw)
        })?;
        Ok(Context { model, raw })
    }

    /// Evaluates the tokens from position 0 on, keeping the logits of all.
    fn decode(&self, tokens: &[i32]) -> Result<(), String> {
        let len = i32::try_from(tokens.len()).map_err(|error| error.to_string())?;
        let mut tokens = tokens.to_vec();
        let mut positions: Vec<i32> = (0..len).collect();
        let mut sequence = [0];
        let mut sequences = vec![sequence.as_mut_ptr(); tokens.len()];
        let mut sequence_counts = vec![1; tokens.len()];
        let mut wanted = vec![1; tokens.len()];
        let batch = Batch {
            len,
            tokens: tokens.as_mut_ptr(),
            embeddings: std::ptr::null_mut(),
            positions: positions.as_mut_ptr(),
            sequence_counts: sequence_counts.as_mut_ptr(),
            sequences: sequences.as_mut_ptr(),
            logits: wanted.as_mut_ptr(),
        };
        log::with_messages("decode", || {
            // SAFETY: every array of the batch has `len` entries and outlives the call; llama.cpp checks
            // the token ids.
            let result = unsafe { (self.model.api.llama_decode)(self.raw, batch) };
            (result == 0).then_some(())
        })
    }

    fn logits(&self, position: usize, width: usize) -> Result<Vec<f32>, String> {
        let index = i32::try_from(position).map_err(|error| error.to_string())?;
        log::with_messages("read the logits", || {
            // SAFETY: llama.cpp checks the index, and gives a row as long as the vocabulary, valid until
            // the next call on the context.
            unsafe {
                let row = (self.model.api.llama_get_logits_ith)(self.raw, index);
                (!row.is_null()).then(|| std::slice::from_raw_parts(row, width).to_vec())
            }
        })
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        // SAFETY: `raw` is valid and not used again.
        unsafe { (self.model.api.llama_free)(self.raw) };
    }
}

fn c_len<T>(items: &[T]) -> i32 {
    i32::try_from(items.len()).expect("a short list")
}

/// Calls a function that fills a buffer: it returns the number of items, or that number negated when
/// the buffer is too short.
fn fill<T: Clone + Default>(mut call: impl FnMut(&mut [T]) -> i32) -> Vec<T> {
    let mut buffer = vec![T::default(); 256];
    let mut len = call(&mut buffer);
    if len < 0 {
        let needed = len.checked_neg().and_then(|len| usize::try_from(len).ok());
        buffer.resize(needed.expect("a length that fits"), T::default());
        len = call(&mut buffer);
    }
    buffer.truncate(usize::try_from(len).expect("the length announced"));
    buffer
}
