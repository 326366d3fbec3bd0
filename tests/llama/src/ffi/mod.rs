//! Everything that calls into llama.cpp; behind it, the crate is safe.
//!
//! Parameter structs are passed as a [`Block`] larger than any of them, of which only known words are
//! touched; `load` refuses a library whose defaults do not stand at the expected words.
#![allow(unsafe_code)] // a C library cannot be called otherwise; no other module may

mod api;
mod block;
mod chat;
mod log;
mod model;
mod quantize;

pub use api::Api;
pub use model::Model;

use std::ffi::CString;
use std::path::Path;

/// A path as C takes it.
fn c_path(path: &Path) -> Result<CString, String> {
    CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| format!("{}: a zero byte", path.display()))
}
