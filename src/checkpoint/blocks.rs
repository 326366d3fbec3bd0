//! The hash of a file that is read in any order: SHA-256 of the SHA-256 of each 64 KiB, one after the other.
//!
//! Tensors are read in the order of the GGUF, so the hash of the plain bytes would need a second reading. Blocks are
//! hashed as soon as all their bytes have come by; only those across the edges of what is read wait in memory.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{ReadAt, ends_before};
use crate::error::{Error, Result};
use crate::watch::Watch;

const BLOCK: u64 = 64 << 10;

/// What has been seen of one file.
#[derive(Debug)]
pub(super) struct Blocks {
    length: u64,
    /// The hash of each block that is complete.
    done: Vec<Option<[u8; 32]>>,
    partial: BTreeMap<usize, Partial>,
    most_partial: usize,
}

/// A block of which some bytes have come by.
#[derive(Debug)]
struct Partial {
    bytes: Vec<u8>,
    /// Which, in order and not touching.
    have: Vec<Range<usize>>,
}

impl Blocks {
    /// At most `most_partial` blocks wait in memory: what comes by of others is read again in the end.
    pub(super) fn new(length: u64, most_partial: usize) -> Blocks {
        let count = length.div_ceil(BLOCK) as usize; // 30,000 for a shard of 2 GB
        Blocks { length, done: vec![None; count], partial: BTreeMap::new(), most_partial }
    }

    /// Takes in bytes that were read from the file at `offset`.
    pub(super) fn add(&mut self, mut offset: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (block, start) = ((offset / BLOCK) as usize, (offset % BLOCK) as usize);
            let size = self.size(block);
            let (part, rest) = bytes.split_at(bytes.len().min(size.saturating_sub(start)));
            if part.is_empty() {
                return; // behind the end: the file has grown, which is found in another way
            }
            match self.done.get_mut(block) {
                Some(done @ None) if part.len() == size => *done = Some(Sha256::digest(part).into()),
                Some(None)
                    if self.partial.len() >= self.most_partial && !self.partial.contains_key(&block) => {}
                Some(done @ None) => {
                    let new = || Partial { bytes: vec![0; size], have: Vec::new() };
                    let partial = self.partial.entry(block).or_insert_with(new);
                    if partial.add(start, part) {
                        *done = Some(Sha256::digest(&partial.bytes).into());
                        self.partial.remove(&block);
                    }
                }
                _ => {}
            }
            offset += part.len() as u64;
            bytes = rest;
        }
    }

    /// Reads what has not come by, such as the header, and hashes the whole.
    pub(super) fn finish(&mut self, path: &Path, file: &dyn ReadAt, watch: &dyn Watch) -> Result<String> {
        let mut buffer = Vec::new();
        for block in 0..self.done.len() {
            if self.done[block].is_some() {
                continue;
            }
            watch.go_on()?;
            let offset = block as u64 * BLOCK;
            buffer.resize(self.size(block), 0);
            file.read_exact_at(&mut buffer, offset).map_err(|e| match e.kind() {
                ErrorKind::UnexpectedEof => ends_before(path, offset + buffer.len() as u64),
                _ => Error::io(path, "read")(e),
            })?;
            self.partial.remove(&block);
            self.add(offset, &buffer);
        }
        let mut whole = Sha256::new();
        self.done.iter().flatten().for_each(|hash| whole.update(hash));
        Ok(crate::hash::hex(&whole.finalize()))
    }

    /// Only the last block is shorter.
    fn size(&self, block: usize) -> usize {
        self.length.saturating_sub(block as u64 * BLOCK).min(BLOCK) as usize
    }
}

impl Partial {
    /// Whether the block is complete with these.
    fn add(&mut self, start: usize, part: &[u8]) -> bool {
        let end = start + part.len();
        self.bytes[start..end].copy_from_slice(part);
        self.have.push(start..end);
        self.have.sort_by_key(|range| range.start);
        self.have.dedup_by(|next, last| {
            let touches = next.start <= last.end;
            if touches {
                last.end = last.end.max(next.end);
            }
            touches
        });
        matches!(self.have[..], [Range { start: 0, end }] if end == self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn any_order_and_any_pieces_give_the_hash_of_the_file() {
        let bytes: Vec<u8> = (0..300_001u32).map(|i| (i * 31 % 251) as u8).collect();
        let mut expected = Sha256::new();
        bytes.chunks(65536).for_each(|block| expected.update(Sha256::digest(block)));
        let expected = crate::hash::hex(&expected.finalize());
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bytes).unwrap();
        let path = file.path();
        for (pieces, most) in
            [1, 7, 1000, 65536, 100_000, 1_000_000].into_iter().flat_map(|p| [(p, 9), (p, 1), (p, 0)])
        {
            // The last first, every third not at all, and one twice.
            let mut blocks = Blocks::new(bytes.len() as u64, most);
            let ranges: Vec<_> = (0..bytes.len()).step_by(pieces.max(40)).collect();
            for (i, &start) in ranges.iter().enumerate().rev().filter(|(i, _)| i % 3 != 1) {
                let end = bytes.len().min(start + pieces.max(40));
                blocks.add(start as u64, &bytes[start..end]);
                if i == 0 {
                    blocks.add(start as u64, &bytes[start..end]);
                }
                assert!(blocks.partial.len() <= most);
            }
            assert_eq!(blocks.finish(path, file.as_file(), &()).unwrap(), expected, "{pieces}");
            assert!(blocks.partial.is_empty());
        }
        let mut blocks = Blocks::new(400_000, 9);
        let error = blocks.finish(path, file.as_file(), &()).unwrap_err().to_string();
        assert!(
            error.contains("found it ends before byte 327680, expected the file as it was at the start"),
            "{error}"
        );
    }
}
