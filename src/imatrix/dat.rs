//! The older format: a count, then for each tensor its name, number of calls and summed squares.

use std::collections::BTreeMap;
use std::path::Path;

use byteorder::{ByteOrder, LittleEndian};

use super::ImportanceMatrix;
use crate::error::{Error, Result};
use crate::input::read_capped;

/// That of a 6B model has 4 MB, that of a 9B model 6 MB.
const MAX_BYTES: u64 = 16 << 20;
/// A model has 7 matrices a layer.
const MAX_ENTRIES: usize = 1 << 14;

pub(super) fn load(file: &Path) -> Result<ImportanceMatrix> {
    let Some(bytes) = read_capped(file, MAX_BYTES)? else {
        return Err(Error::input(file, "", "no such file"));
    };
    let mut rest = Rest { file, bytes: &bytes };
    let mut entries = BTreeMap::new();
    // Until an entry is read, nothing tells a damaged file from one of another kind.
    let count = rest.count("entries").ok().filter(|count| (1..=MAX_ENTRIES).contains(count));
    let Some(count) = count else { return Err(no_matrix(file)) };
    for i in 0..count {
        let (name, calls, mut values) = match entry(&mut rest) {
            Err(_) if i == 0 => return Err(no_matrix(file)),
            entry => entry?,
        };
        if calls < 0 {
            return Err(Error::mismatch(file, name, format!("{calls} calls"), "0 or more"));
        }
        if calls > 0 {
            values.iter_mut().for_each(|value| *value /= calls as f32);
        }
        if entries.insert(name.clone(), values).is_some() {
            return Err(Error::mismatch(file, name, "it twice", "each tensor once"));
        }
    }
    // Newer files end with the number of chunks and the text's name.
    let (mut chunks, mut dataset) = (0, None);
    if !rest.bytes.is_empty() {
        chunks = rest.i32("chunks")?.unsigned_abs();
        if !rest.bytes.is_empty() {
            dataset = Some(rest.string("dataset")?).filter(|name| !name.is_empty());
        }
    }
    Ok(ImportanceMatrix { file: file.to_owned(), entries, dataset, chunks })
}

fn no_matrix(file: &Path) -> Error {
    Error::input(file, "", "is no importance matrix, neither GGUF nor .dat")
}

/// A tensor's name, the number of calls, and the squares summed over them.
fn entry(rest: &mut Rest) -> Result<(String, i32, Vec<f32>)> {
    let name = rest.string("name")?;
    let calls = rest.i32(&name)?;
    let length = rest.count(&name)?;
    let bytes = rest.take(&name, length.saturating_mul(4))?;
    Ok((name, calls, bytes.chunks_exact(4).map(LittleEndian::read_f32).collect()))
}

struct Rest<'a> {
    file: &'a Path,
    bytes: &'a [u8],
}

impl<'a> Rest<'a> {
    fn take(&mut self, item: &str, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or_else(|| {
            let found = format!("{} bytes left", self.bytes.len());
            Error::mismatch(self.file, item, found, format!("{length}: is the file complete?"))
        })?;
        self.bytes = rest;
        Ok(taken)
    }

    fn i32(&mut self, item: &str) -> Result<i32> {
        Ok(LittleEndian::read_i32(self.take(item, 4)?))
    }

    fn count(&mut self, item: &str) -> Result<usize> {
        let count = self.i32(item)?;
        usize::try_from(count)
            .map_err(|_| Error::mismatch(self.file, item, format!("count {count}"), "an importance matrix"))
    }

    fn string(&mut self, item: &str) -> Result<String> {
        let length = self.count(item)?;
        let text = std::str::from_utf8(self.take(item, length)?);
        text.map(str::to_owned)
            .map_err(|_| Error::mismatch(self.file, item, "no UTF-8", "an importance matrix"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(parts: &[&[u8]]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), parts.concat()).unwrap();
        file
    }

    #[test]
    fn sums_are_divided_by_calls() {
        let one = |n: i32| n.to_le_bytes();
        let file = written(&[
            &one(1),
            &one(2),
            b"ab",
            &one(4),
            &one(2),
            &8f32.to_le_bytes(),
            &2f32.to_le_bytes(),
            &one(7),
            &one(3),
            b"txt",
        ]);
        let matrix = load(file.path()).unwrap();
        assert_eq!(matrix.entries["ab"], [2.0, 0.5]);
        assert_eq!((matrix.chunks, matrix.dataset.as_deref()), (7, Some("txt")));
    }

    #[test]
    fn damage_is_refused() {
        for bytes in [
            &b""[..],
            b"\0\0\0\0",
            b"\xff\xff\xff\xff",
            b"\x01\0\0\0\xff\xff\xff\x7fab",
            b"garbage of some length",
        ] {
            assert!(load(written(&[bytes]).path()).is_err(), "{bytes:?}");
        }
    }
}
