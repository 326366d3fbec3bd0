//! The CRC-32 that a `.bin` file has of each of its records, held against the bytes as they are read.
//!
//! Tensors are read in another order than they lie in, and in pieces. The CRC of a whole is computed from those of
//! its pieces, so all that is kept is one number for each piece that does not touch another yet.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crc32fast::Hasher;

use crate::error::{Fault, Problem};
use crate::input::ReadAt;

/// Bytes that are read at a time of what no tensor uses.
const BUFFER: u64 = 1 << 20;

/// The records of one file, by their first byte.
#[derive(Debug, Default)]
pub(super) struct Records(BTreeMap<u64, Record>);

#[derive(Debug)]
struct Record {
    /// The name to blame: a tensor's, or the record's own.
    name: String,
    bytes: u64,
    expected: u32,
    /// What has been seen: the first byte of a piece, its length and CRC-32. They do not touch.
    seen: Mutex<BTreeMap<u64, (u64, Hasher)>>,
}

impl Records {
    /// Adds a record. A CRC of 0 stands for none: PyTorch can be told to leave it out.
    pub(super) fn add(&mut self, name: String, offset: u64, bytes: u64, expected: u32) {
        if bytes > 0 && expected != 0 {
            self.0.insert(offset, Record { name, bytes, expected, seen: Mutex::default() });
        }
    }

    /// Takes in bytes that were read from the file at `offset`.
    pub(super) fn see(&self, offset: u64, bytes: &[u8]) -> Result<(), Problem> {
        match self.0.range(..=offset).next_back() {
            Some((start, record)) if offset < start + record.bytes => record.see(offset - start, bytes),
            _ => Ok(()),
        }
    }

    /// Reads what is left of records of which something was read: no tensor needs it, but the CRC does.
    pub(super) fn finish(&self, file: &dyn ReadAt) -> Result<(), Fault> {
        let mut buffer = Vec::new();
        for (start, record) in &self.0 {
            while let Some((from, len)) = record.first_gap() {
                buffer.resize(len.min(BUFFER) as usize, 0);
                file.read_exact_at(&mut buffer, start + from)?;
                record.see(from, &buffer)?;
            }
        }
        Ok(())
    }
}

impl Record {
    /// Bytes from `start` on, counted from the record's own first byte. What was seen before is not hashed again.
    fn see(&self, start: u64, bytes: &[u8]) -> Result<(), Problem> {
        let end = (start + bytes.len() as u64).min(self.bytes);
        let mut from = start;
        while from < end {
            let (skip, to) = self.unseen(from, end);
            from = skip;
            if from < to {
                let mut hasher = Hasher::new(); // without the lock, for it takes long
                hasher.update(&bytes[(from - start) as usize..(to - start) as usize]);
                self.join(from, to - from, hasher)?;
                from = to;
            }
        }
        Ok(())
    }

    /// The next bytes that nobody has seen, from `from` on and at most to `end`.
    fn unseen(&self, from: u64, end: u64) -> (u64, u64) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let covered = seen.range(..=from).next_back().map_or(from, |(start, (len, _))| start + len);
        let from = from.max(covered).min(end);
        let to = seen.range(from..).next().map_or(end, |(start, _)| end.min(*start));
        (from, to)
    }

    /// Joins a piece with those that it touches, and judges the record when that makes it whole.
    fn join(&self, mut start: u64, mut len: u64, mut hasher: Hasher) -> Result<(), Problem> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.range(..start + len).next_back().is_some_and(|(other, (bytes, _))| other + bytes > start) {
            return Ok(()); // another thread has read the same meanwhile
        }
        if let Some((bytes, after)) = seen.remove(&(start + len)) {
            hasher.combine(&after);
            len += bytes;
        }
        let before = seen.range(..start).next_back().map(|(&other, (bytes, _))| (other, *bytes));
        if let Some((other, _)) = before.filter(|(other, bytes)| other + bytes == start)
            && let Some((bytes, mut earlier)) = seen.remove(&other)
        {
            earlier.combine(&hasher);
            (start, len, hasher) = (other, len + bytes, earlier);
        }
        let whole = (len == self.bytes).then(|| hasher.clone().finalize());
        seen.insert(start, (len, hasher));
        match whole.filter(|found| *found != self.expected) {
            None => Ok(()),
            Some(found) => Err(damaged(&self.name, found, self.expected)),
        }
    }

    /// What is missing of a record of which something was seen.
    fn first_gap(&self) -> Option<(u64, u64)> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let &first = seen.keys().next()?;
        let from = if first > 0 { 0 } else { seen.get(&0).map_or(0, |(len, _)| *len) };
        let to = seen.range(from..).next().map_or(self.bytes, |(start, _)| *start);
        (from < to).then_some((from, to - from))
    }
}

/// Checks a record that was read as a whole.
pub(super) fn check(name: &str, bytes: &[u8], expected: u32) -> Result<(), Problem> {
    let found = crc32fast::hash(bytes);
    if expected == 0 || found == expected {
        return Ok(());
    }
    Err(damaged(name, found, expected))
}

fn damaged(name: &str, found: u32, expected: u32) -> Problem {
    let expected = format!("{expected:08x} as the file itself says: it is damaged, download it again");
    Problem::mismatch(name, format!("bytes of CRC-32 {found:08x}"), expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: u64 = 10_007;

    fn records(bytes: &[u8], expected: u32) -> Records {
        let mut records = Records::default();
        records.add("before".into(), 0, 64, 1);
        records.add("t".into(), 64, bytes.len() as u64, expected);
        records
    }

    #[test]
    fn pieces_in_any_order_and_twice_are_held_against_the_whole() {
        let bytes: Vec<u8> = (0..BYTES).map(|i| (i * 31 % 251) as u8).collect();
        let right = crc32fast::hash(&bytes);
        for (expected, good) in [(right, true), (right ^ 1, false), (0, true)] {
            for piece in [1usize, 7, 1000, 5003, 20_000] {
                let records = records(&bytes, expected);
                let mut starts: Vec<usize> = (0..bytes.len()).step_by(piece).collect();
                starts.sort_by_key(|start| start * 7919 % 1009);
                let see = |start: usize, len: usize| {
                    let part = &bytes[start..bytes.len().min(start + len)];
                    records.see(64 + start as u64, part)
                };
                // Each piece overlaps the next.
                let outcome: Result<Vec<()>, Problem> =
                    starts.iter().map(|&start| see(start, piece + piece / 2)).collect();
                assert_eq!(outcome.is_ok(), good, "{piece}");
                if good && expected != 0 {
                    assert_eq!(records.0[&64].seen.lock().unwrap().len(), 1);
                }
            }
        }
    }

    #[test]
    fn what_no_tensor_uses_is_read_in_the_end() {
        let bytes: Vec<u8> = (0..3 * BUFFER + 5).map(|i| (i * 31 % 251) as u8).collect();
        let file = [&[0; 64], bytes.as_slice()].concat();
        for (expected, good) in [(crc32fast::hash(&bytes), true), (7, false)] {
            let records = records(&bytes, expected);
            records.finish(&file).unwrap(); // nothing was read of it
            records.see(64 + 1000, &bytes[1000..2000]).unwrap();
            assert_eq!(records.finish(&file).is_ok(), good);
        }
    }
}
