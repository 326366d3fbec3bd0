//! The names that a conversion writes: no two the same, and none that of a file which it reads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Job;
use crate::error::{Error, Result};
use crate::output::{folder_of, identity};
use crate::receipt::may_read;
use crate::request::Request;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gguf,
    Modelfile,
    Receipt,
}

impl Job {
    /// Every file that it writes.
    pub fn targets(&self) -> Vec<PathBuf> {
        self.named().into_iter().map(|(_, path)| path).collect()
    }

    fn named(&self) -> Vec<(Kind, PathBuf)> {
        let ggufs = self.outputs.iter().flat_map(|output| output.paths()).map(|path| (Kind::Gguf, path));
        let modelfiles = self.outputs.iter().filter_map(|output| output.modelfile.as_ref());
        let modelfiles = modelfiles.map(|(path, _)| (Kind::Modelfile, path.clone()));
        let receipt = self.receipt.iter().map(|(path, _)| (Kind::Receipt, path.clone()));
        ggufs.chain(modelfiles).chain(receipt).collect()
    }

    /// Refuses names that would be given twice, and those of files that the run reads: `--force` is for what an
    /// earlier run wrote.
    pub(super) fn check_targets(&self, request: &Request) -> Result<()> {
        let read: Vec<_> = self.read(request).iter().filter_map(|file| identity(file)).collect();
        let mut taken: BTreeMap<PathBuf, Kind> = BTreeMap::new();
        for (kind, path) in self.named() {
            if identity(&path).is_some_and(|file| read.contains(&file)) {
                let found = "a file that this conversion reads";
                let expected = "another name: --force does not replace it";
                return Err(Error::mismatch(&path, "", found, expected));
            }
            let advice = match (kind, taken.insert(in_its_folder(&path), kind)) {
                (_, None) => continue,
                (Kind::Receipt, _) | (_, Some(Kind::Receipt)) => "give another --receipt",
                (Kind::Modelfile, _) | (_, Some(Kind::Modelfile)) => {
                    "give --no-modelfile or another --output"
                }
                (Kind::Gguf, Some(Kind::Gguf)) => "put {type} into --output",
            };
            return Err(Error::Usage(format!("{}: would be written twice: {advice}", path.display())));
        }
        Ok(())
    }

    fn read(&self, request: &Request) -> Vec<PathBuf> {
        let mut files = may_read(request);
        files.extend(self.model.checkpoint.files().map(Path::to_owned));
        files
    }
}

/// The same for `a.gguf` and `./a.gguf`.
fn in_its_folder(path: &Path) -> PathBuf {
    let folder = folder_of(path).canonicalize().unwrap_or_else(|_| folder_of(path).to_owned());
    folder.join(path.file_name().unwrap_or_default())
}
