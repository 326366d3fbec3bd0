//! Windows.
// Numbers are those of the Windows SDK's headers: winnt.h, winbase.h and winerror.h.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::windows::ffi::{OsStrExt, OsStringExt};
use std::os::windows::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempPath;

/// What a name may have of [`name_length`].
pub(crate) const LONGEST_NAME: usize = 255;

/// The right to delete or rename a file.
const DELETE: u32 = 0x0001_0000;
/// What others may do with a file that is open.
const SHARE_READ: u32 = 1;
const SHARE_WRITE: u32 = 2;
const SHARE_DELETE: u32 = 4;
/// Opens folders too.
const BACKUP_SEMANTICS: u32 = 0x0200_0000;
/// Somebody has the file open.
const SHARING_VIOLATION: i32 = 32;
/// Somebody has the file mapped.
const USER_MAPPED_FILE: i32 = 1224;
const TOO_MANY_OPEN_FILES: i32 = 4;

/// Fills `out` with a file's bytes from `offset` on.
pub(crate) fn read_exact_at(file: &File, mut out: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !out.is_empty() {
        match file.seek_read(out, offset) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                out = &mut out[read..];
                offset += read as u64;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Writes bytes to their place in a file.
pub(crate) fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.seek_write(bytes, offset) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Opens whatever has this name for reading, a folder too, which can be told then.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(BACKUP_SEMANTICS).open(path)
}

/// Makes a file that nothing has the name of. Others cannot open it to write: that says that it is in use.
pub(crate) fn make_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).share_mode(SHARE_READ | SHARE_DELETE).open(path)
}

/// Makes a folder that nothing has the name of, and opens it so that nobody can delete it: that says that it is in use.
pub(crate) fn make_folder(path: &Path) -> io::Result<File> {
    DirBuilder::new().create(path)?;
    let shared = SHARE_READ | SHARE_WRITE;
    OpenOptions::new().read(true).share_mode(shared).custom_flags(BACKUP_SEMANTICS).open(path)
}

/// Opens a file or folder with the right that none has while it is in use; [`ErrorKind::WouldBlock`] then.
pub(crate) fn open_to_lock(path: &Path, folder: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    match folder {
        true => options.access_mode(DELETE).custom_flags(BACKUP_SEMANTICS),
        false => options.read(true).write(true),
    };
    options.open(path).map_err(|e| match e.raw_os_error() {
        Some(SHARING_VIOLATION) => ErrorKind::WouldBlock.into(),
        _ => e,
    })
}

/// What was made or opened for it is locked by that.
pub(crate) fn lock(_: &File) -> io::Result<bool> {
    Ok(true)
}

/// To be called before a file or folder of our own is renamed or deleted: a folder that is in use cannot be.
pub(crate) fn allow_rename(file: &mut File, path: &Path, folder: bool) -> io::Result<()> {
    if folder {
        *file = open(path)?; // with all rights for others, and the stricter one is closed
    }
    Ok(())
}

/// Takes disk space for a file: NTFS has it ready for all of a file's length.
pub(crate) fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)
}

/// What is free on a folder's disk.
pub(crate) fn free_bytes(folder: &Path) -> Option<u64> {
    fs4::available_space(folder).ok()
}

/// Renames a file or folder to a name that nothing has.
pub(crate) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    let mut path = TempPath::try_from_path(long(from))?;
    path.disable_cleanup(true);
    path.persist_noclobber(long(to)).map_err(|e| e.error)
}

/// The path with its folder written so that it may be longer than 260 signs, where the system can.
fn long(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (folder.canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

/// Exchanges two names: Windows cannot.
pub(crate) fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// What is allowed in a folder shows when a file is made in it.
pub(crate) fn may_write(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Whether a file can be replaced: not while a program has it open that does not let others delete it.
pub(crate) fn check_replaceable(path: &Path) -> io::Result<()> {
    match OpenOptions::new().access_mode(DELETE).custom_flags(BACKUP_SEMANTICS).open(path) {
        Err(e) if matches!(e.raw_os_error(), Some(SHARING_VIOLATION | USER_MAPPED_FILE)) => {
            Err(ErrorKind::ResourceBusy.into())
        }
        _ => Ok(()), // it is there, or else the rename says why not
    }
}

/// Makes `link` a name of `to`, a path from its folder on. Links need rights that few users have: it is a second name of
/// the file, or a copy where the disk knows no second names.
#[cfg(any(test, feature = "hub"))]
pub(crate) fn link(to: &Path, link: &Path) -> io::Result<()> {
    let file = link.parent().unwrap_or(Path::new(".")).join(to);
    match fs::hard_link(&file, link) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => fs::copy(&file, link).map(|_| ()),
        outcome => outcome,
    }
}

/// Two names of one file have the same: volume and file index. None where there is no file.
pub(crate) fn identity(path: &Path) -> Option<(u64, u64)> {
    let file = OpenOptions::new().access_mode(0).custom_flags(BACKUP_SEMANTICS).open(path).ok()?;
    identity_of(&file)
}

/// The [`identity`] of an open file.
pub(crate) fn identity_of(file: &File) -> Option<(u64, u64)> {
    let found = winapi_util::file::information(file).ok()?;
    Some((found.volume_serial_number(), found.file_index()))
}

/// A number that another file of the same name does not have: the time at which it was made.
pub(crate) fn number(found: &Metadata) -> u64 {
    found.creation_time()
}

/// Whether something is mounted under a name, which keeps it then: here it goes with the name.
pub(crate) fn is_mount_point(_: &Path) -> bool {
    false
}

/// The length of a name as file systems count it.
pub(crate) fn name_length(name: &OsStr) -> usize {
    name.encode_wide().count()
}

/// What is wrong with a file's name.
pub(crate) fn check_name(name: &OsStr) -> Option<&'static str> {
    super::names::problem(&name.to_string_lossy())
}

/// What stands before and behind the last of an ASCII sign.
pub(crate) fn split_at_last(text: &OsStr, sign: char) -> Option<(OsString, String)> {
    let units: Vec<u16> = text.encode_wide().collect();
    let at = units.iter().rposition(|&unit| u32::from(unit) == u32::from(sign))?;
    Some((OsString::from_wide(&units[..at]), String::from_utf16_lossy(&units[at + 1..])))
}

/// The process, or the system, has no more files to open.
pub(crate) fn too_many_open(error: &io::Error) -> bool {
    error.raw_os_error() == Some(TOO_MANY_OPEN_FILES)
}

/// Sets a flag when the user wants the process to stop: on Ctrl-C and Ctrl-Break. To be called once.
///
/// # Errors
/// When the system lets it not be caught.
pub fn stop_on_signals(stopped: &Arc<AtomicBool>) -> io::Result<()> {
    let stopped = Arc::clone(stopped);
    ctrlc::try_set_handler(move || stopped.store(true, Ordering::SeqCst)).map_err(io::Error::other)
}

/// The most memory that this process ever had, in bytes: not told.
pub fn peak_memory_bytes() -> Option<u64> {
    None
}

/// The machine's memory in bytes; only where the system tells.
pub fn machine_memory_bytes() -> Option<u64> {
    let memory =
        sysinfo::RefreshKind::nothing().with_memory(sysinfo::MemoryRefreshKind::nothing().with_ram());
    let system = sysinfo::System::new_with_specifics(memory).ok()?;
    Some(system.total_memory()).filter(|&bytes| bytes > 0)
}
