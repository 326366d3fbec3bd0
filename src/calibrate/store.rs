//! Finished tensors in a folder, so that an interrupted run goes on where it stopped.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::hash::hex;
use crate::sink::Shape;
use crate::system;

/// The file that says which run the folder belongs to.
const RUN: &str = "run";

/// Characters of the hash that stands behind a tensor's blocks.
const HASH: usize = 64;

/// Blocks of tensors on disk, each in a file of its own, with their hash behind them. It stays when it is dropped.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    /// What was there when it was opened.
    pub resumed: usize,
}

impl Store {
    /// Opens the folder, or makes it. `run`: a hash of all that decides the bytes. A tensor that has not the bytes that
    /// were put there (a disk may lose some) is deleted, to be made again; so are all, where nothing says of which run.
    ///
    /// # Errors
    /// When it cannot be made, or holds the tensors of a run with another model or other options.
    pub fn open(folder: &Path, run: &str) -> Result<Store> {
        fs::create_dir_all(folder).map_err(Error::io(folder, "make"))?;
        let mark = folder.join(RUN);
        let known = match fs::read_to_string(&mark) {
            Ok(found) if found == run => true,
            Ok(_) => {
                let expected = "this run's: delete the folder, or run with that model and those options";
                return Err(Error::file_mismatch(
                    folder,
                    "tensors of another model or of other options",
                    expected,
                ));
            }
            Err(e) if e.kind() == ErrorKind::NotFound => false,
            Err(e) => return Err(Error::io(&mark, "read")(e)),
        };
        let mut resumed = 0;
        for entry in fs::read_dir(folder).map_err(Error::io(folder, "read"))? {
            let file = entry.map_err(Error::io(folder, "read"))?.path();
            if file.extension().is_none_or(|extension| extension != "blocks") {
                continue;
            }
            match known && is_whole(&file).map_err(Error::io(&file, "read"))? {
                true => resumed += 1,
                false => fs::remove_file(&file).map_err(Error::io(&file, "delete"))?,
            }
        }
        let store = Store { folder: folder.to_owned(), resumed };
        if !known {
            let path = store.unfinished();
            let mut file = File::create(&path).map_err(Error::io(&path, "write"))?;
            file.write_all(run.as_bytes()).map_err(Error::io(&path, "write"))?;
            keep(&file, &path, &mark)?;
        }
        Ok(store)
    }

    /// Where a file is until it is whole.
    fn unfinished(&self) -> PathBuf {
        self.folder.join("unfinished")
    }

    fn file(&self, tensor: &str, shape: Shape) -> PathBuf {
        self.folder.join(format!("{tensor}.{}x{}.blocks", shape.format, shape.columns))
    }

    /// The tensor is finished in this format and width.
    pub fn holds(&self, tensor: &str, shape: Shape) -> bool {
        self.file(tensor, shape).is_file()
    }

    /// Begins a tensor; one at a time.
    ///
    /// # Errors
    /// When the disk cannot take it.
    pub fn begin(&self, tensor: &str, shape: Shape) -> Result<Unfinished> {
        let (name, path) = (self.file(tensor, shape), self.unfinished());
        let file = File::create(&path).map_err(Error::io(&path, "write"))?;
        Ok(Unfinished { name, path, file, hash: Sha256::new() })
    }

    /// Appends a tensor's bytes at `place` to `out`; false where it holds none of the tensor in this shape.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn read(&self, tensor: &str, shape: Shape, place: Range<usize>, out: &mut Vec<u8>) -> Result<bool> {
        let path = self.file(tensor, shape);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(Error::io(&path, "read")(e)),
        };
        let at = out.len();
        out.resize(at + place.len(), 0);
        system::read_exact_at(&file, &mut out[at..], place.start as u64).map_err(Error::io(&path, "read"))?;
        Ok(true)
    }

    /// Deletes the folder, once its tensors stand in a file.
    ///
    /// # Errors
    /// When that fails.
    pub fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.folder).map_err(Error::io(&self.folder, "delete"))
    }
}

/// A tensor that is being made.
#[derive(Debug)]
pub struct Unfinished {
    /// What it will be called.
    name: PathBuf,
    path: PathBuf,
    file: File,
    hash: Sha256,
}

impl Unfinished {
    /// Appends blocks.
    ///
    /// # Errors
    /// When the disk cannot take them.
    pub fn add(&mut self, blocks: &[u8]) -> Result<()> {
        self.hash.update(blocks);
        self.file.write_all(blocks).map_err(Error::io(&self.path, "write"))
    }

    /// Keeps the tensor.
    ///
    /// # Errors
    /// When the disk cannot take it.
    pub fn finish(mut self) -> Result<()> {
        let hash = hex(&self.hash.finalize());
        self.file.write_all(hash.as_bytes()).map_err(Error::io(&self.path, "write"))?;
        keep(&self.file, &self.path, &self.name)
    }
}

/// Gives a file its name, which must not outlive a power cut that its bytes do not.
fn keep(file: &File, path: &Path, name: &Path) -> Result<()> {
    file.sync_all().map_err(Error::io(path, "write"))?;
    fs::rename(path, name).map_err(Error::io(name, "write"))
}

/// Whether a file's blocks are those that its hash is of.
fn is_whole(file: &Path) -> io::Result<bool> {
    let mut file = File::open(file)?;
    let Some(length) = file.metadata()?.len().checked_sub(HASH as u64) else { return Ok(false) };
    let (mut found, mut expected) = (Sha256::new(), [0; HASH]);
    io::copy(&mut (&mut file).take(length), &mut found)?;
    file.read_exact(&mut expected)?;
    Ok(hex(&found.finalize()).as_bytes() == expected)
}

#[cfg(test)]
mod tests {
    use quant::Format;

    use super::*;

    const SHAPE: Shape = Shape { format: Format::Q4_K, rows: 1, columns: 256 };

    fn put(store: &Store, tensor: &str, blocks: &[u8]) {
        let mut unfinished = store.begin(tensor, SHAPE).unwrap();
        blocks.chunks(3).for_each(|blocks| unfinished.add(blocks).unwrap());
        unfinished.finish().unwrap();
    }

    #[test]
    fn what_is_finished_stays_and_another_run_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("state");
        let store = Store::open(&folder, "one").unwrap();
        assert_eq!((store.resumed, store.holds("a", SHAPE)), (0, false));
        put(&store, "a", &[1, 2, 3, 4]);
        let store = Store::open(&folder, "one").unwrap();
        assert_eq!((store.resumed, store.holds("a", SHAPE)), (1, true));
        let others = [Shape { format: Format::Q6_K, ..SHAPE }, Shape { columns: 512, ..SHAPE }];
        assert!(others.iter().all(|other| !store.holds("a", *other)), "in another format, another width");
        let mut out = vec![9];
        assert!(store.read("a", SHAPE, 1..3, &mut out).unwrap());
        assert!(!store.read("b", SHAPE, 0..1, &mut out).unwrap());
        assert_eq!(out, [9, 2, 3]);
        assert!(store.read("a", SHAPE, 3..5 + HASH, &mut out).is_err(), "it ends before");
        let error = Store::open(&folder, "two").unwrap_err().to_string();
        assert!(error.contains("tensors of another model or of other options"), "{error}");
        store.remove().unwrap();
        assert!(!folder.exists());
    }

    /// Of a folder whose deletion was cut short, or that a power cut left without its mark.
    #[test]
    fn tensors_of_nobody_knows_which_run_are_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), "one").unwrap();
        put(&store, "a", &[1, 2, 3, 4]);
        fs::remove_file(folder.path().join(RUN)).unwrap();
        for (run, resumed) in [("two", 0), ("two", 1)] {
            let store = Store::open(folder.path(), run).unwrap();
            assert_eq!((store.resumed, store.holds("a", SHAPE)), (resumed, resumed == 1));
            put(&store, "a", &[5]);
        }
        assert!(Store::open(folder.path(), "one").is_err());
    }

    #[test]
    fn damaged_tensors_are_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let whole: Vec<u8> = (0..100).collect();
        type Damage = fn(&mut Vec<u8>);
        let damages: [(&str, Damage); 4] = [
            ("shorter", |bytes| bytes.truncate(90)),
            ("longer", |bytes| bytes.push(0)),
            ("flipped", |bytes| bytes[50] ^= 1),
            ("empty", Vec::clear),
        ];
        let store = Store::open(folder.path(), "one").unwrap();
        for (name, damage) in damages {
            put(&store, name, &whole);
            let mut bytes = fs::read(store.file(name, SHAPE)).unwrap();
            damage(&mut bytes);
            fs::write(store.file(name, SHAPE), bytes).unwrap();
        }
        put(&store, "whole", &whole);
        let store = Store::open(folder.path(), "one").unwrap();
        assert_eq!((store.resumed, store.holds("whole", SHAPE)), (1, true));
        assert!(damages.iter().all(|(name, _)| !store.holds(name, SHAPE)));
    }
}
