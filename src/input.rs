//! Files that a stranger may have made: opened only when they are regular ones, and read whole only up to a cap.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use crate::error::{Error, Result};

/// Opens a regular file.
///
/// # Errors
/// When it cannot be opened, or is a folder, a pipe or a device.
pub(crate) fn open(path: &Path) -> Result<File> {
    open_if_there(path)?.ok_or_else(|| Error::input(path, "", "no such file"))
}

/// Reads a whole small file; `None` when there is none.
///
/// # Errors
/// When it is over `max` bytes, and as for [`open`].
pub(crate) fn read_capped(path: &Path, max: u64) -> Result<Option<Vec<u8>>> {
    let Some(file) = open_if_there(path)? else { return Ok(None) };
    let length = file.metadata().map_err(Error::io(path, "read"))?.len();
    let mut bytes = Vec::with_capacity(length.min(max) as usize + 1); // at most the cap; one more to see the end
    file.take(max + 1).read_to_end(&mut bytes).map_err(Error::io(path, "read"))?;
    if bytes.len() as u64 > max {
        return Err(Error::mismatch(path, "", format!("over {max} bytes"), "a small file"));
    }
    Ok(Some(bytes))
}

fn open_if_there(path: &Path) -> Result<Option<File>> {
    // A pipe that nobody writes to would be waited for without end; regular files know no waiting.
    let nonblocking = OFlags::NONBLOCK.bits() as i32;
    let file = match OpenOptions::new().read(true).custom_flags(nonblocking).open(path) {
        Ok(file) => file,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(Error::io(path, "open")(e)),
    };
    if !file.metadata().map_err(Error::io(path, "read"))?.is_file() {
        return Err(Error::mismatch(path, "", "no regular file", "one"));
    }
    Ok(Some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_only_small_ones_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert_eq!(read_capped(&path, 5).unwrap(), None);
        assert_eq!(open(&path).unwrap_err().to_string(), format!("{}: no such file", path.display()));
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read_capped(&path, 5).unwrap().unwrap(), b"12345");
        assert!(read_capped(&path, 4).unwrap_err().to_string().contains("found over 4 bytes"));
        let expected = "found no regular file, expected one";
        assert!(open(folder.path()).unwrap_err().to_string().contains(expected));
        assert!(open(Path::new("/dev/zero")).unwrap_err().to_string().contains(expected));
    }
}
