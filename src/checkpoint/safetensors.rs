//! The header of a safetensors file: read, capped, parsed, and held against the file's length.

use safetensors::tensor::{Dtype as Stored, Metadata, TensorInfo};
use serde_json::value::RawValue;

use super::Entry;
use super::dtype::Dtype;
use super::foreign;
use crate::bounded::Map;
use crate::error::{Fault, Problem};
use crate::input::{self, ReadAt};

/// A shard of a real checkpoint has a header of 4 kB. In memory, one of tiny tensors takes 15 times its bytes.
const MAX_HEADER: u64 = 2 << 20;

/// Reads and validates the header; the file must end exactly where the header says.
pub(super) fn read_header(file: &dyn ReadAt) -> Result<Vec<Entry>, Fault> {
    let wrong = |problem: String| Problem::new("", problem);
    let length = file.length()?;
    let mut prefix = [0; 8];
    if length < 8 {
        return Err(wrong(format!("found {length} bytes, expected a safetensors file")).into());
    }
    file.read_exact_at(&mut prefix, 0)?;
    if prefix == *b"version " {
        return Err(input::lfs_pointer().into());
    }
    let header_len = u64::from_le_bytes(prefix);
    if header_len > MAX_HEADER.min(length - 8) {
        return Err(wrong(format!(
            "found a header of {header_len} bytes, expected a safetensors file: at most {}",
            MAX_HEADER.min(length - 8)
        ))
        .into());
    }
    let mut header = vec![0; header_len as usize]; // at most MAX_HEADER
    file.read_exact_at(&mut header, 8)?;

    // Kept as text at first: parsed to values, numbers would take 16 times their bytes.
    let mut raw: Map<Box<RawValue>> =
        serde_json::from_slice(&header).map_err(|e| wrong(format!("is no safetensors file: {e}")))?;
    raw.0.remove("__metadata__"); // free text, not needed
    let mut infos = Vec::with_capacity(raw.0.len());
    for (name, value) in raw.0 {
        let info: TensorInfo =
            serde_json::from_str(value.get()).map_err(|e| Problem::new(&name, format!("is damaged: {e}")))?;
        infos.push((name, info));
    }
    foreign::refuse(infos.iter().map(|(name, info)| (name.as_str(), info.shape == [0])))?;
    infos.iter().try_for_each(|(name, info)| Entry::check_shape(name, &info.shape))?;
    infos.sort_by_key(|(_, info)| info.data_offsets);
    // The library's own validation: dense offsets in order, sizes that match shape and type.
    let metadata =
        Metadata::new(None, infos.clone()).map_err(|e| wrong(format!("is no safetensors file: {e}")))?;
    let expected = (8 + header_len).checked_add(metadata.data_len() as u64);
    if expected != Some(length) {
        let expected = expected.map_or("less".to_owned(), |n| n.to_string());
        return Err(wrong(format!(
            "found {length} bytes, expected {expected} by its header: is the download complete?"
        ))
        .into());
    }
    let entries = infos.into_iter().map(|(name, info)| entry(8 + header_len, name, info));
    Ok(entries.collect::<Result<_, Problem>>()?)
}

fn entry(data_start: u64, name: String, info: TensorInfo) -> Result<Entry, Problem> {
    let dtype = match info.dtype {
        Stored::F32 => Dtype::F32,
        Stored::F16 => Dtype::F16,
        Stored::BF16 => Dtype::BF16,
        other => return Err(Dtype::refuse(&name, &format!("{other:?}"))),
    };
    Ok(Entry { name, dtype, shape: info.shape, offset: data_start + info.data_offsets.0 as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{InFile, Result};
    use std::path::Path;

    fn read(header: &str, data: usize) -> Result<Vec<Entry>> {
        let length = (header.len() as u64).to_le_bytes();
        let bytes = [&length, header.as_bytes(), &vec![0; data]].concat();
        read_header(&bytes).in_file(Path::new("m"))
    }

    #[test]
    fn offsets_count_from_the_start_of_the_file() {
        let header = r#"{"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},
                         "b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}}"#;
        let entries = read(header, 16).unwrap();
        assert_eq!(entries[1].offset, 8 + header.len() as u64 + 12);
        assert_eq!((entries[0].dtype, entries[0].shape.as_slice()), (Dtype::F16, [2, 3].as_slice()));
    }

    #[test]
    fn damaged_headers_are_refused() {
        let good = r#"{"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]}}"#;
        let cases = [
            (good, 11, "expected 77"),
            (good, 13, "expected 77"),
            ("{", 0, "is no safetensors file"),
            (r#"{"a":1}"#, 0, "a: is damaged"),
            (r#"{"a":{"dtype":"I8","shape":[2],"data_offsets":[0,2]}}"#, 2, "a: found I8 values"),
            (r#"{"a":{"dtype":"F16","shape":[0],"data_offsets":[0,0]}}"#, 0, "a: found shape [0]"),
            (r#"{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,6]}}"#, 6, "is no safetensors file"),
            (r#"{"a":{"dtype":"F16","shape":[2],"data_offsets":[2,6]}}"#, 6, "is no safetensors file"),
            (
                r#"{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},
                 "a":{"dtype":"F16","shape":[2],"data_offsets":[4,8]}}"#,
                8,
                "`a` stands in it twice",
            ),
            (
                r#"{"a":{"dtype":"F16","shape":[9223372036854775807,2],"data_offsets":[0,4]}}"#,
                4,
                "is no safetensors",
            ),
        ];
        for (header, data, expected) in cases {
            let error = read(header, data).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}, expected {expected}");
        }
    }

    #[test]
    fn a_header_longer_than_the_file_is_not_allocated() {
        let bytes = u64::MAX.to_le_bytes().to_vec();
        let error = read_header(&bytes).in_file(Path::new("m")).unwrap_err().to_string();
        assert!(error.contains("found a header of 18446744073709551615 bytes"), "{error}");
    }
}
