//! Where a file's bytes come from: the disk, or a place that is read over a network.

use std::fmt::Debug;
use std::fs::{File, Metadata};
use std::io;

use crate::system;

/// Bytes that can be read from any place on.
pub trait ReadAt: Debug + Send + Sync {
    /// The length in bytes.
    ///
    /// # Errors
    /// When the system does not tell.
    fn length(&self) -> io::Result<u64>;

    /// What the system knows of a file; none of one that is elsewhere, and cannot change.
    ///
    /// # Errors
    /// When the system does not tell.
    fn metadata(&self) -> io::Result<Option<Metadata>>;

    /// Fills `out` with the bytes from `offset` on.
    ///
    /// # Errors
    /// When there are not so many, or they cannot be read.
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn length(&self) -> io::Result<u64> {
        Ok(File::metadata(self)?.len())
    }

    fn metadata(&self) -> io::Result<Option<Metadata>> {
        File::metadata(self).map(Some)
    }

    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        system::read_exact_at(self, out, offset)
    }
}

/// A file in memory, for tests.
#[cfg(any(test, fuzzing))]
impl ReadAt for Vec<u8> {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn metadata(&self) -> io::Result<Option<Metadata>> {
        Ok(None)
    }

    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        out.copy_from_slice(rest.get(..out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}
