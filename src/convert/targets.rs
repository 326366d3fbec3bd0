//! The names that a conversion writes: no two the same, and none that of a file which it reads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Job;
use crate::error::{Error, Result};
use crate::output::folder_of;
use crate::system::identity;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    Gguf,
    Modelfile,
    Receipt,
    Card,
}

impl Job {
    /// Every file that it writes.
    pub fn targets(&self) -> Vec<PathBuf> {
        self.named().into_iter().map(|(_, path)| path).collect()
    }

    fn named(&self) -> Vec<(Written, PathBuf)> {
        let ggufs = self.outputs.iter().flat_map(|output| output.paths()).map(|path| (Written::Gguf, path));
        let modelfiles = self.outputs.iter().filter_map(|output| output.modelfile.as_ref());
        let modelfiles = modelfiles.map(|(path, _)| (Written::Modelfile, path.clone()));
        let receipt = self.request.receipt.iter().map(|path| (Written::Receipt, path.clone()));
        let card = self.request.card.iter().map(|path| (Written::Card, path.clone()));
        ggufs.chain(modelfiles).chain(receipt).chain(card).collect()
    }

    /// Refuses names that would be given twice, and those of files that the run reads: `--force` is for what an
    /// earlier run wrote.
    pub(super) fn check_targets(&self) -> Result<()> {
        let mut taken: BTreeMap<PathBuf, Written> = BTreeMap::new();
        for (kind, path) in self.named() {
            self.guests.refuse_target(&path)?;
            self.given.refuse_target(&path)?;
            let advice = match (kind, taken.insert(in_its_folder(&path), kind)) {
                (_, None) => continue,
                (Written::Receipt, _) | (_, Some(Written::Receipt)) => "give another --receipt",
                (Written::Card, _) | (_, Some(Written::Card)) => "give another --card",
                (Written::Modelfile, _) | (_, Some(Written::Modelfile)) => {
                    "give --no-modelfile or another --output"
                }
                (Written::Gguf, Some(Written::Gguf)) => "put {type} into --output",
            };
            return Err(Error::Usage(format!("{}: would be written twice: {advice}", path.display())));
        }
        Ok(())
    }

    /// Outputs that the next program to open the model's folder will take for a part of the checkpoint.
    pub(super) fn misleading_names(&self) -> Vec<String> {
        let own: Vec<PathBuf> = self.guests.asked().map(in_its_folder).collect();
        let folder = identity(&self.request.model.folder);
        let misleads = |path: &Path| {
            let ends = |end: &str| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(end));
            let weights = ["safetensors", "bin", "pt", "pth"].into_iter().any(ends);
            own.contains(&in_its_folder(path)) || (weights && identity(folder_of(path)) == folder)
        };
        let targets = self.named().into_iter().map(|(_, path)| path).filter(|path| misleads(path));
        let warn = |path: PathBuf| {
            format!(
                "{}: has the name of a checkpoint's file, in the model's own folder: \
                 programs will take it for one; give it another name",
                path.display()
            )
        };
        targets.map(warn).collect()
    }
}

/// The same for `a.gguf` and `./a.gguf`.
fn in_its_folder(path: &Path) -> PathBuf {
    let folder = folder_of(path).canonicalize().unwrap_or_else(|_| folder_of(path).to_owned());
    folder.join(path.file_name().unwrap_or_default())
}
