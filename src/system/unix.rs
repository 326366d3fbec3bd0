//! Linux and macOS.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::fs::{CWD, FallocateFlags, OFlags, RenameFlags, fallocate, renameat_with};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};

/// What a name may have of [`name_length`].
pub(crate) const LONGEST_NAME: usize = 255;

/// Fills `out` with a file's bytes from `offset` on.
pub(crate) fn read_exact_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    FileExt::read_exact_at(file, out, offset)
}

/// Writes bytes to their place in a file.
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    FileExt::write_all_at(file, bytes, offset)
}

/// Opens whatever has this name for reading. A pipe that nobody writes to would be waited for without end; regular
/// files know no waiting.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)
}

/// Makes a file that nothing has the name of.
pub(crate) fn make_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Makes a folder that nothing has the name of, and opens it for its lock.
pub(crate) fn make_folder(path: &Path) -> io::Result<File> {
    DirBuilder::new().create(path)?;
    File::open(path)
}

/// Opens a file or folder to [`lock`] it. Some file systems lock only what is open for writing.
pub(crate) fn open_to_lock(path: &Path, folder: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(!folder).open(path)
}

/// Locks what was made or opened for it, for this process; false where another has it.
pub(crate) fn lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// To be called before a file or folder of our own is renamed or deleted: here anything may be.
pub(crate) fn allow_rename(_: &mut File, _: &Path, _: bool) -> io::Result<()> {
    Ok(())
}

/// Takes disk space for a file; nothing where the file system cannot.
pub(crate) fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// What is free on a folder's disk.
pub(crate) fn free_bytes(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Renames a file or folder to a name that nothing has.
pub(crate) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // This file system has no rename that refuses an existing name. A hard link refuses one too, after which the
        // first name is removed. Where there are no hard links either, a plain rename is all that is left.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match fs::hard_link(from, to) {
            Ok(()) => fs::remove_file(from),
            Err(_) if to.symlink_metadata().is_ok() => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => fs::rename(from, to),
        },
        Err(e) => Err(e.into()),
    }
}

/// Exchanges two names, where the file system can.
pub(crate) fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

/// Fails when this user may make no file in a folder.
pub(crate) fn may_write(folder: &Path) -> io::Result<()> {
    Ok(rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)?)
}

/// Whether a file can be replaced: here it stays with those who have it open.
pub(crate) fn check_replaceable(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Makes `link` a link to `to`, a path from its folder on.
#[cfg(any(test, feature = "hub"))]
pub(crate) fn link(to: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(to, link)
}

/// Two names of one file have the same: device and inode. None where there is no file.
pub(crate) fn identity(path: &Path) -> Option<(u64, u64)> {
    path.metadata().ok().map(|found| (found.dev(), found.ino()))
}

/// The [`identity`] of an open file.
pub(crate) fn identity_of(file: &File) -> Option<(u64, u64)> {
    file.metadata().ok().map(|found| (found.dev(), found.ino()))
}

/// A number that another file of the same name does not have.
pub(crate) fn number(found: &Metadata) -> u64 {
    found.ino()
}

/// Whether something is mounted under a name, which keeps it then: no rename can take it away.
pub(crate) fn is_mount_point(path: &Path) -> bool {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let device = |found: io::Result<Metadata>| found.ok().map(|found| found.dev());
    device(path.symlink_metadata()).is_some_and(|own| device(folder.metadata()).is_some_and(|at| at != own))
}

/// The length of a name as file systems count it.
pub(crate) fn name_length(name: &OsStr) -> usize {
    name.len()
}

/// What is wrong with a file's name: here nothing can be.
pub(crate) fn check_name(_: &OsStr) -> Option<&'static str> {
    None
}

/// What stands before and behind the last of an ASCII sign.
pub(crate) fn split_at_last(text: &OsStr, sign: char) -> Option<(OsString, String)> {
    let bytes = text.as_bytes();
    let at = bytes.iter().rposition(|&byte| char::from(byte) == sign)?;
    Some((OsStr::from_bytes(&bytes[..at]).to_owned(), String::from_utf8_lossy(&bytes[at + 1..]).into_owned()))
}

/// The process, or the system, has no more files to open.
pub(crate) fn too_many_open(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| code == Some(errno.raw_os_error()))
}

/// Sets a flag when the user wants the process to stop: on SIGINT (Ctrl-C), SIGTERM and SIGHUP. SIGXFSZ is caught too,
/// for the write that is over the limit to fail with an error that can be told.
///
/// # Errors
/// When the system lets them not be caught.
pub fn stop_on_signals(stopped: &Arc<AtomicBool>) -> io::Result<()> {
    let flags = [SIGINT, SIGTERM, SIGHUP].map(|signal| (signal, Arc::clone(stopped)));
    for (signal, flag) in flags.into_iter().chain([(SIGXFSZ, Arc::default())]) {
        signal_hook::flag::register(signal, flag)?;
    }
    Ok(())
}

/// The most memory that this process ever had, in bytes; only where the system tells.
pub fn peak_memory_bytes() -> Option<u64> {
    kilobytes("/proc/self/status", "VmHWM:")
}

/// The machine's memory in bytes; only where the system tells.
pub fn machine_memory_bytes() -> Option<u64> {
    kilobytes("/proc/meminfo", "MemTotal:")
}

fn kilobytes(file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
