//! Where a file's bytes come from: the disk, the memory, or a place that is read over a network.

use std::fmt::Debug;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::sync::Arc;

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

/// A file in memory.
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

/// An opened file, read front to back or from any place on.
#[derive(Debug)]
pub enum Source {
    /// On the disk.
    Disk(File),
    /// In a folder in memory, read up to here.
    Held(Arc<dyn ReadAt>, u64),
}

impl Read for Source {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Source::Disk(file) => file.read(out),
            Source::Held(file, at) => {
                let rest = file.length()?.saturating_sub(*at);
                let size = usize::try_from(rest).map_or(out.len(), |rest| rest.min(out.len()));
                file.read_exact_at(&mut out[..size], *at)?;
                *at += size as u64;
                Ok(size)
            }
        }
    }
}

impl ReadAt for Source {
    fn length(&self) -> io::Result<u64> {
        match self {
            Source::Disk(file) => file.length(),
            Source::Held(file, _) => file.length(),
        }
    }

    fn metadata(&self) -> io::Result<Option<Metadata>> {
        match self {
            Source::Disk(file) => ReadAt::metadata(file),
            Source::Held(file, _) => file.metadata(),
        }
    }

    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Source::Disk(file) => file.read_exact_at(out, offset),
            Source::Held(file, _) => file.read_exact_at(out, offset),
        }
    }
}
