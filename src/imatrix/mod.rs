//! The importance matrix: which input columns of a tensor matter more, as llama.cpp's `llama-imatrix` measures it.

mod dat;
mod gguf;
mod write;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Error, InFile, Result};
use crate::gguf::GgufFile;
use crate::importance::Importance;
use crate::input;
use crate::remap::{Plan, Role, Target};

/// An importance matrix as it stands in its file.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportanceMatrix {
    /// Where it was read from.
    pub file: PathBuf,
    /// GGUF tensor name -> mean squared activation of each input column.
    pub entries: BTreeMap<String, Vec<f32>>,
    /// The text that it was measured on.
    pub dataset: Option<String>,
    /// How many chunks of that text.
    pub chunks: u32,
}

impl ImportanceMatrix {
    /// Reads either of llama.cpp's formats, told apart by the first bytes.
    ///
    /// # Errors
    /// When the file is neither, or damaged, or holds a value that is not finite or negative.
    pub fn load(file: &Path) -> Result<ImportanceMatrix> {
        let mut magic = Vec::new();
        input::open(file)?.take(4).read_to_end(&mut magic).map_err(Error::io(file, "read"))?;
        if magic == *b"GGUF" {
            return ImportanceMatrix::of_gguf(&GgufFile::open(file)?);
        }
        ImportanceMatrix::of_dat(file, &input::read(file, dat::MAX_BYTES)?)
    }

    pub(crate) fn of_gguf(file: &GgufFile) -> Result<ImportanceMatrix> {
        gguf::matrix(file)?.of_squares()
    }

    pub(crate) fn of_dat(file: &Path, bytes: &[u8]) -> Result<ImportanceMatrix> {
        let (entries, dataset, chunks) = dat::parse(bytes).in_file(file)?;
        ImportanceMatrix { file: file.to_owned(), entries, dataset, chunks }.of_squares()
    }

    /// Refuses what is no mean of squares.
    fn of_squares(self) -> Result<ImportanceMatrix> {
        for (name, values) in &self.entries {
            if let Some(value) = values.iter().find(|value| !(value.is_finite() && **value >= 0.0)) {
                let expected = "finite, non-negative importance weights";
                return Err(Error::mismatch(&self.file, name, value, expected));
            }
        }
        Ok(self)
    }

    /// Writes the GGUF format of llama.cpp, measured in chunks of so many tokens.
    ///
    /// # Errors
    /// When the file exists and may not be replaced, or cannot be written.
    pub fn write(&self, file: &Path, chunk_size: u32, replace: bool) -> Result<()> {
        write::write(self, file, chunk_size, replace)
    }

    /// Makes the entries as wide as the plan's tensors are with this feed-forward width; what is padded has weight 0.
    pub fn pad(&mut self, plan: &Plan, padded_ffn: usize) {
        for target in &plan.tensors {
            if let Some(weights) = self.entries.get_mut(&target.name) {
                weights.resize(target.padded_shape(padded_ffn).1, 0.0);
            }
        }
    }

    /// The importance of each of the plan's tensors, and how many that are multiplied with have none.
    ///
    /// `padded_ffn` is the feed-forward width in the output. An entry may be as wide as the model or as the padded
    /// file; padded columns get weight 0, so that they pull no scale away from real weights.
    ///
    /// # Errors
    /// When an entry belongs to no tensor of the plan, or has another length than its tensor's rows.
    pub fn for_plan(&self, plan: &Plan, padded_ffn: usize) -> Result<(Vec<Option<Importance>>, usize)> {
        let targets: BTreeMap<&str, &Target> =
            plan.tensors.iter().map(|target| (target.name.as_str(), target)).collect();
        let last = plan.tensors.iter().filter_map(|target| target.slot.layer()).max();
        let unknown = |name: &str| match (layer(name), last) {
            (Some(layer), Some(last)) if layer > last => {
                let expected =
                    format!("only this model's blk.0 to blk.{last}: it was measured on another model");
                Error::mismatch(&self.file, name, "an entry", expected)
            }
            _ => {
                let expected = "entries for matrices of this model only";
                Error::mismatch(&self.file, name, "an entry for it", expected)
            }
        };
        for (name, values) in &self.entries {
            let target = targets.get(name.as_str()).filter(|target| target.role() != Role::Vector);
            let target = target.ok_or_else(|| unknown(name))?;
            let (_, padded) = target.padded_shape(padded_ffn);
            if values.len() != target.columns && values.len() != padded {
                let found = format!("{} importance weights", values.len());
                let expected = format!("{}: it was measured on another model", target.columns);
                return Err(Error::mismatch(&self.file, name, found, expected));
            }
        }
        let weights_of = |target: &Target| {
            let mut weights = self.entries.get(&target.name)?.clone();
            let (_, padded) = target.padded_shape(padded_ffn);
            weights.resize(padded, 0.0);
            weights[target.columns..].fill(0.0);
            Some(Importance::new(weights))
        };
        let weights: Vec<_> = plan.tensors.iter().map(weights_of).collect();
        let without = plan
            .tensors
            .iter()
            .zip(&weights)
            .filter(|(target, weights)| plan.multiplies(target) && weights.is_none())
            .count();
        Ok((weights, without))
    }
}

/// The block that a tensor belongs to, by its name.
fn layer(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}
