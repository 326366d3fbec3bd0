//! The ZIP archive that `torch.save` writes: which entry lies where. Nothing is unpacked.

use std::collections::BTreeMap;
use std::io;

use rawzip::{CompressionMethod, ErrorKind, RECOMMENDED_BUFFER_SIZE, ReaderAt, ZipLocator};

use crate::error::{Fault, Problem};
use crate::input::ReadAt;

/// A real shard has one entry a tensor and a few more.
const MAX_ENTRIES: u64 = 1 << 14;
/// Names are the archive's own followed by `data.pkl` or `data/281`, for instance.
const MAX_NAME: usize = 512;

/// Where an entry's bytes lie in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoredEntry {
    pub(super) offset: u64,
    pub(super) bytes: u64,
    /// The CRC-32 of its bytes; 0 when there is none.
    pub(super) crc32: u32,
}

/// Reads the archive's directory: the entries by name, without the folder that all of them are in.
///
/// Only what is stored as it is can be read from its place, and `torch.save` writes nothing else: so a compressed
/// entry, which could grow to any size, is refused.
pub(super) fn read(file: &dyn ReadAt) -> Result<BTreeMap<String, StoredEntry>, Fault> {
    let damaged = |e: rawzip::Error| match e.into_kind() {
        ErrorKind::IO(e) => Fault::Read(e),
        kind => {
            let e = rawzip::Error::from(kind);
            Problem::new("", format!("is no whole PyTorch file: {e}: is the download complete?")).into()
        }
    };
    let length = file.length()?;
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let reader = At { file, length };
    let found = ZipLocator::new().locate_in_reader(reader, &mut buffer, length);
    let archive = found.map_err(|(_, e)| damaged(e))?;
    if archive.entries_hint() > MAX_ENTRIES {
        let found = format!("{} entries", archive.entries_hint());
        return Err(Problem::mismatch("", found, format!("at most {MAX_ENTRIES}")).into());
    }

    let mut places = BTreeMap::new();
    let mut folder = None;
    let mut count = 0;
    let mut entries = archive.entries(&mut buffer);
    while let Some(entry) = entries.next_entry().map_err(damaged)? {
        count += 1;
        let raw = entry.file_path();
        if raw.as_ref().len() > MAX_NAME {
            let found = format!("an entry's name of {} bytes", raw.as_ref().len());
            return Err(Problem::mismatch("", found, format!("at most {MAX_NAME}")).into());
        }
        let full = std::str::from_utf8(raw.as_ref())
            .map_err(|_| Problem::mismatch("", "an entry's name that is no text", "UTF-8"))?;
        let Some((top, name)) = full.split_once('/') else {
            let expected = "all in one folder: save it again with torch.save";
            return Err(Problem::mismatch(full, "an entry outside the folder", expected).into());
        };
        if *folder.get_or_insert_with(|| top.to_owned()) != top {
            let expected = "all entries in one folder: save it again with torch.save";
            return Err(Problem::mismatch(full, format!("it in {top}"), expected).into());
        }
        let stored = entry.compression_method() == CompressionMethod::STORE
            && entry.compressed_size_hint() == entry.uncompressed_size_hint()
            && !entry.flags().is_encrypted();
        if !stored {
            let expected = "it stored as it is: save it again with torch.save";
            return Err(Problem::mismatch(name, "a compressed entry", expected).into());
        }
        let (offset, end) = archive.get_entry(entry.wayfinder()).map_err(damaged)?.compressed_data_range();
        if end > length {
            let found = format!("{length} bytes");
            return Err(Problem::mismatch(name, found, format!("{end}: is the download complete?")).into());
        }
        if places
            .insert(name.to_owned(), StoredEntry { offset, bytes: end - offset, crc32: entry.crc32() })
            .is_some()
        {
            return Err(Problem::mismatch(name, "it twice", "each entry once").into());
        }
        if count > MAX_ENTRIES {
            break;
        }
    }
    if count != archive.entries_hint() {
        let expected = format!("{} by the archive's own count", archive.entries_hint());
        return Err(Problem::mismatch("", format!("{count} entries"), expected).into());
    }
    Ok(places)
}

/// The library's view of a file.
struct At<'a> {
    file: &'a dyn ReadAt,
    length: u64,
}

impl ReaderAt for At<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let there = self.length.saturating_sub(offset).min(buffer.len() as u64) as usize;
        self.file.read_exact_at(&mut buffer[..there], offset)?;
        Ok(there)
    }
}
