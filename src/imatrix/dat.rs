//! The older format: a count, then for each tensor its name, number of calls and summed squares.

use std::collections::BTreeMap;

use byteorder::{ByteOrder, LittleEndian};

use crate::error::{Problem, Result};

/// That of a 6B model has 4 MB, that of a 9B model 6 MB.
pub(super) const MAX_BYTES: u64 = 16 << 20;
/// A model has 7 matrices a layer.
const MAX_ENTRIES: usize = 1 << 14;

/// The mean squares of each tensor, the name of the text, and the number of its chunks.
type Content = (BTreeMap<String, Vec<f32>>, Option<String>, u32);

pub(super) fn parse(bytes: &[u8]) -> Result<Content, Problem> {
    let mut rest = Rest { bytes };
    let mut entries = BTreeMap::new();
    // Until an entry is read, nothing tells a damaged file from one of another kind.
    let count = rest.count("entries").ok().filter(|count| (1..=MAX_ENTRIES).contains(count));
    let Some(count) = count else { return Err(no_matrix()) };
    for i in 0..count {
        let (name, calls, mut values) = match entry(&mut rest) {
            Err(_) if i == 0 => return Err(no_matrix()),
            entry => entry?,
        };
        if calls < 0 {
            return Err(Problem::mismatch(name, format!("{calls} calls"), "0 or more"));
        }
        if calls > 0 {
            values.iter_mut().for_each(|value| *value /= calls as f32);
        }
        if entries.insert(name.clone(), values).is_some() {
            return Err(Problem::mismatch(name, "it twice", "each tensor once"));
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
    Ok((entries, dataset, chunks))
}

fn no_matrix() -> Problem {
    Problem::new("", "is no importance matrix, neither GGUF nor .dat")
}

/// A tensor's name, the number of calls, and the squares summed over them.
fn entry(rest: &mut Rest) -> Result<(String, i32, Vec<f32>), Problem> {
    let name = rest.string("name")?;
    let calls = rest.i32(&name)?;
    let length = rest.count(&name)?;
    let bytes = rest.take(&name, length.saturating_mul(4))?;
    Ok((name, calls, bytes.chunks_exact(4).map(LittleEndian::read_f32).collect()))
}

struct Rest<'a> {
    bytes: &'a [u8],
}

impl<'a> Rest<'a> {
    fn take(&mut self, item: &str, length: usize) -> Result<&'a [u8], Problem> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or_else(|| {
            let found = format!("{} bytes left", self.bytes.len());
            Problem::mismatch(item, found, format!("{length}: is the file complete?"))
        })?;
        self.bytes = rest;
        Ok(taken)
    }

    fn i32(&mut self, item: &str) -> Result<i32, Problem> {
        Ok(LittleEndian::read_i32(self.take(item, 4)?))
    }

    fn count(&mut self, item: &str) -> Result<usize, Problem> {
        let count = self.i32(item)?;
        usize::try_from(count)
            .map_err(|_| Problem::mismatch(item, format!("count {count}"), "an importance matrix"))
    }

    fn string(&mut self, item: &str) -> Result<String, Problem> {
        let length = self.count(item)?;
        let text = std::str::from_utf8(self.take(item, length)?);
        text.map(str::to_owned).map_err(|_| Problem::mismatch(item, "no UTF-8", "an importance matrix"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_divided_by_calls() {
        let one = |n: i32| n.to_le_bytes();
        let bytes = [
            &one(1)[..],
            &one(2),
            b"ab",
            &one(4),
            &one(2),
            &8f32.to_le_bytes(),
            &2f32.to_le_bytes(),
            &one(7),
            &one(3),
            b"txt",
        ];
        let (entries, dataset, chunks) = parse(&bytes.concat()).unwrap();
        assert_eq!(entries["ab"], [2.0, 0.5]);
        assert_eq!((chunks, dataset.as_deref()), (7, Some("txt")));
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
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
    }
}
