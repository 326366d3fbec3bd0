//! SHA-256, as text.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::input;

/// A file's length and the SHA-256 of its bytes.
pub fn sha256_of(path: &Path) -> Result<(u64, String)> {
    let mut file = input::open(path)?;
    let mut hash = Sha256::new();
    let bytes = io::copy(&mut file, &mut hash).map_err(Error::io(path, "read"))?;
    Ok((bytes, hex(&hash.finalize())))
}

/// SHA-256 of bytes.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a String takes whatever comes
        text
    })
}
