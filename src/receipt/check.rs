//! A receipt against the files as they are now.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{Entry, Receipt};
use crate::error::{Error, Result, shortened};
use crate::hash::hex;
use crate::input;
use crate::metadata::Card;
use crate::model::{self, Model};
use crate::system;
use crate::watch::Watch;

/// Differences that are named; a stranger's receipt may have thousands.
const MOST_LINES: usize = 20;

/// What became of the files of a receipt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// How many are as they were.
    pub same: usize,
    /// What differs, in words.
    pub differing: Vec<String>,
}

impl Receipt {
    /// Hashes the files of the model's folder again, and these outputs, which may have other names by now. Every
    /// file that a conversion of the folder would read has to be listed.
    ///
    /// # Errors
    /// When a file cannot be read, or `watch` stops it.
    pub fn check(&self, folder: &Path, outputs: &[&Path], watch: &dyn Watch) -> Result<Check> {
        let mut check = Check::default();
        let listed: HashSet<&str> = self.model.iter().map(|entry| entry.file.as_str()).collect();
        // What fails is found by others; it has read what a conversion would have by then.
        let model = model::ModelSource { folder: folder.to_owned(), ..model::ModelSource::default() };
        let (_, read) = input::noted(|| (Card::load(folder), Model::open(&model)));
        for file in read.opened() {
            if !listed.contains(&*file.file_name().unwrap_or_default().to_string_lossy()) {
                check.differing.push(format!("{}: not in the receipt", base_name(file)));
            }
        }
        let sizes = self.model.iter().map(|entry| entry.bytes);
        let written = outputs.iter().filter_map(|output| Some(output.metadata().ok()?.len()));
        let mut reading =
            Reading { watch, done: 0, total: sizes.chain(written).fold(0, u64::saturating_add) };
        for entry in &self.model {
            // A name out of the folder would let a receipt ask after any file.
            let file = system::is_plain_name(&entry.file).then(|| folder.join(&entry.file));
            match file.filter(|file| file.is_file()) {
                Some(file) => check.add(entry.difference(&file, &mut reading)?),
                None => check.add(Some(format!("{}: not in the folder", shortened(&entry.file, 160)))),
            }
        }
        for output in outputs {
            let name = output.file_name().unwrap_or_default().to_string_lossy();
            check.add(match self.outputs.iter().find(|entry| entry.file == name) {
                Some(entry) => entry.difference(output, &mut reading)?,
                None => self.renamed(output, &mut reading)?,
            });
        }
        if check.differing.len() > MOST_LINES {
            let more = check.differing.len() - MOST_LINES;
            check.differing.truncate(MOST_LINES);
            check.differing.push(format!("and {more} more"));
        }
        Ok(check)
    }

    /// One output that agrees is enough.
    fn renamed(&self, output: &Path, reading: &mut Reading) -> Result<Option<String>> {
        let bytes = output.metadata().map_err(Error::io(output, "read"))?.len();
        let mut alike = self.outputs.iter().filter(|entry| entry.bytes == bytes).peekable();
        if alike.peek().is_some() {
            let hashes = Hashes::of(output, &self.outputs, reading)?;
            if alike.any(|entry| entry.has_hash() && entry.agrees(&hashes)) {
                return Ok(None);
            }
        }
        Ok(Some(format!("{}: the receipt has no such output", base_name(output))))
    }
}

impl Check {
    fn add(&mut self, difference: Option<String>) {
        self.same += usize::from(difference.is_none());
        self.differing.extend(difference);
    }
}

impl Entry {
    fn has_hash(&self) -> bool {
        self.sha256.is_some() || self.sha256_of_64k_blocks.is_some()
    }

    fn agrees(&self, found: &Hashes) -> bool {
        let same = |expected: &Option<String>, found: &str| {
            expected.as_ref().is_none_or(|expected| expected.eq_ignore_ascii_case(found))
        };
        same(&self.sha256, &found.whole) && same(&self.sha256_of_64k_blocks, &found.blocks)
    }

    /// What differs in the file, in words.
    fn difference(&self, path: &Path, reading: &mut Reading) -> Result<Option<String>> {
        let differs = |what: String| Ok(Some(format!("{}: {what}", base_name(path))));
        if !self.has_hash() {
            return differs("no hash in the receipt".to_owned());
        }
        let length = path.metadata().map_err(Error::io(path, "read"))?.len();
        if length != self.bytes {
            return differs(format!("{length} bytes, and {} in the receipt", self.bytes));
        }
        if !self.agrees(&Hashes::of(path, std::slice::from_ref(self), reading)?) {
            return differs("other bytes than the receipt's".to_owned());
        }
        Ok(None)
    }
}

/// How much of all files has been read.
struct Reading<'a> {
    watch: &'a dyn Watch,
    done: u64,
    total: u64,
}

/// A file's hashes, as far as entries have them.
struct Hashes {
    whole: String,
    blocks: String,
}

impl Hashes {
    fn of(path: &Path, entries: &[Entry], reading: &mut Reading) -> Result<Hashes> {
        let want_whole = entries.iter().any(|entry| entry.sha256.is_some());
        let want_blocks = entries.iter().any(|entry| entry.sha256_of_64k_blocks.is_some());
        let mut file = input::open(path)?;
        let (mut whole, mut blocks) = (Sha256::new(), Sha256::new());
        let (name, mut block) = (base_name(path), Vec::new());
        loop {
            reading.watch.step(&name, reading.done, reading.total)?;
            block.clear();
            let read =
                file.by_ref().take(64 << 10).read_to_end(&mut block).map_err(Error::io(path, "read"))?;
            if read == 0 {
                return Ok(Hashes { whole: hex(&whole.finalize()), blocks: hex(&blocks.finalize()) });
            }
            reading.done += read as u64;
            if want_whole {
                whole.update(&block);
            }
            if want_blocks {
                blocks.update(Sha256::digest(&block));
            }
        }
    }
}

fn base_name(path: &Path) -> String {
    shortened(&path.file_name().unwrap_or_default().to_string_lossy(), 160)
}
