//! LoRA adapters in the PEFT library's format, merged into the weights on their way through the pipeline.
//!
//! An adapter is matched with the checkpoint before a weight is read: every tensor of it must have a place. The
//! factors of a matrix are read when its rows come by and dropped soon after, so the memory in use is that of a few
//! pairs of factors, whatever the adapter's size.

mod config;
mod factors;
mod folder;
mod names;
mod settings;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::checkpoint::{Checkpoint, Tensor};
use crate::error::{Error, InFile, Result};
use crate::remap::{Plan, Source};
use crate::system::split_at_last;
use config::AdapterConfig;
pub use config::check as check_config;
use factors::{FactorPair, Factors};
pub use folder::below as adapters_below;
use names::Part;

/// What `--lora` asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterSource {
    /// The adapter's folder.
    pub folder: PathBuf,
    /// A factor besides the adapter's own.
    pub scale: f64,
}

impl AdapterSource {
    /// Reads `DIR` or `DIR=SCALE`, and finds the adapter's own folder if it is one below. A folder that is there goes
    /// before a scale: its name may have a `=`.
    ///
    /// # Errors
    /// When there is no folder's name in it, or no number behind one, or several adapters are below it.
    pub fn parse(text: &OsStr) -> Result<AdapterSource> {
        let AdapterSource { folder, scale } = AdapterSource::as_written(text)?;
        Ok(AdapterSource { folder: folder::of(&folder)?, scale })
    }

    fn as_written(text: &OsStr) -> Result<AdapterSource> {
        let shown = Path::new(text).display();
        let whole = AdapterSource { folder: PathBuf::from(text), scale: 1.0 };
        let split = split_at_last(text, '=').filter(|_| !whole.folder.is_dir());
        let Some((folder, scale)) = split else { return Ok(whole) };
        if folder.is_empty() {
            let expected = "expected ADAPTER_DIR or ADAPTER_DIR=SCALE";
            return Err(Error::Usage(format!("--lora: found `{shown}`, {expected}")));
        }
        let folder = PathBuf::from(folder);
        match scale.parse().ok().filter(|scale: &f64| scale.is_finite()) {
            Some(scale) => Ok(AdapterSource { folder, scale }),
            None if folder.is_dir() => Err(Error::Usage(format!(
                "--lora {shown}: found the scale `{scale}`, expected a finite number"
            ))),
            None => Ok(whole),
        }
    }
}

/// The adapters of a run, in the order in which they are added; none in most runs.
#[derive(Debug, Default)]
pub struct Lora {
    adapters: Vec<Adapter>,
    /// Checkpoint tensor -> what is added to it, in order.
    terms: BTreeMap<String, Vec<Term>>,
    recent: Mutex<VecDeque<(TermId, Arc<Factors>)>>,
}

#[derive(Debug)]
struct Adapter {
    folder: PathBuf,
    weights: Checkpoint,
}

#[derive(Debug)]
struct Term {
    adapter: usize,
    pair: FactorPair,
}

/// A term's own number: its tensor's place among all, and its own among the tensor's.
type TermId = (String, usize);

/// Pairs of factors kept for each adapter: workers are at most at a few matrices at the same time.
const RECENT: usize = 4;

impl Lora {
    /// Opens the adapters and finds the checkpoint tensor of every one of their matrices.
    ///
    /// # Errors
    /// When an adapter is damaged, is more than LoRA, or does not fit the checkpoint.
    pub fn open(requests: &[AdapterSource], base: &Checkpoint, plan: &Plan) -> Result<Lora> {
        let used = used_tensors(plan);
        let mut lora = Lora::default();
        for request in requests {
            let folder = request.folder.clone();
            let config = AdapterConfig::load(&folder)?;
            let weights = Checkpoint::open_adapter(&folder)?;
            let adapter = Adapter { folder, weights };
            for (tensor, pair) in adapter.pairs(base, &used, &config, request.scale)? {
                lora.terms.entry(tensor).or_default().push(Term { adapter: lora.adapters.len(), pair });
            }
            lora.adapters.push(adapter);
        }
        Ok(lora)
    }

    /// Something is added to this tensor of the checkpoint.
    pub fn changes(&self, tensor: &str) -> bool {
        self.terms.contains_key(tensor)
    }

    /// The tensors of the checkpoint that something is added to.
    pub fn tensors(&self) -> impl Iterator<Item = &str> {
        self.terms.keys().map(String::as_str)
    }

    /// What is added to this tensor has its shape.
    pub fn fits(&self, name: &str, tensor: &Tensor) -> bool {
        self.terms.get(name).into_iter().flatten().all(|term| tensor.shape == term.pair.shape())
    }

    /// Adds what is to be added to whole rows of a tensor, from `first_row` on.
    ///
    /// # Errors
    /// When an adapter's file cannot be read.
    pub fn add(&self, tensor: &str, first_row: usize, rows: &mut [f32]) -> Result<()> {
        for (number, term) in self.terms.get(tensor).into_iter().flatten().enumerate() {
            self.factors((tensor.to_owned(), number), term)?.add(first_row, rows);
        }
        Ok(())
    }

    /// The factors of a term: whoever asks first reads them. A panic cannot leave them half changed, so a poisoned lock is
    /// taken as it is.
    fn factors(&self, place: TermId, term: &Term) -> Result<Arc<Factors>> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let known = recent.iter().position(|(known, _)| *known == place);
        let factors = match known.and_then(|at| recent.remove(at)) {
            Some((_, factors)) => factors,
            None => Arc::new(term.pair.read(&self.adapters[term.adapter].weights)?),
        };
        recent.truncate(RECENT * self.adapters.len() - 1); // a term has an adapter, so there is one
        recent.push_front((place, Arc::clone(&factors)));
        Ok(factors)
    }

    /// Refuses adapters that were written to since they were opened.
    ///
    /// # Errors
    /// When an adapter's file has another length or time of its last change than at first.
    pub fn refuse_changed(&self) -> Result<()> {
        self.adapters.iter().try_for_each(|adapter| adapter.weights.refuse_changed())
    }

    /// The file of each adapter's weights.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.adapters.iter().flat_map(|adapter| adapter.weights.files())
    }

    /// One line an adapter, for the report.
    pub fn decisions(&self) -> Vec<String> {
        let line = |(number, adapter): (usize, &Adapter)| {
            let own = || self.terms.values().flatten().filter(move |term| term.adapter == number);
            let values: BTreeSet<String> =
                own().map(|term| format!("rank {} times {}", term.pair.rank(), term.pair.scale)).collect();
            let mut line = format!("lora: {}: {} matrices", adapter.folder.display(), own().count());
            for value in values.iter().take(3) {
                let _ = write!(line, ", {value}"); // a String takes whatever comes
            }
            line + if values.len() > 3 { ", and others" } else { "" }
        };
        self.adapters.iter().enumerate().map(line).collect()
    }
}

/// The checkpoint's matrices that the Llama model is made of.
fn used_tensors(plan: &Plan) -> BTreeSet<&str> {
    let spans = plan.tensors.iter().filter_map(|target| match &target.source {
        Source::Rows(spans) => Some(spans),
        Source::Values(_) => None,
    });
    spans.flatten().map(|span| span.tensor.as_str()).collect()
}

impl Adapter {
    /// Every matrix of the adapter with the checkpoint's tensor that it adds to.
    fn pairs(
        &self,
        base: &Checkpoint,
        used: &BTreeSet<&str>,
        config: &AdapterConfig,
        scale: f64,
    ) -> Result<BTreeMap<String, FactorPair>> {
        // By module: [A, B].
        let mut halves: BTreeMap<(&str, bool), [Option<&Tensor>; 2]> = BTreeMap::new();
        let own = self.own_name()?;
        for (name, tensor) in self.weights.tensors() {
            let path = self.weights.path(tensor);
            let (module, part) =
                names::split(name, own).map_err(|problem| Error::input(path, name, problem))?;
            let (half, embedding) = match part {
                Part::A { embedding } => (0, embedding),
                Part::B { embedding } => (1, embedding),
                Part::Whole => {
                    self.require_unchanged(name, tensor, module, base)?;
                    continue;
                }
            };
            if halves.entry((module, embedding)).or_default()[half].replace(tensor).is_some() {
                return Err(Error::mismatch(
                    path,
                    name,
                    "a second factor of this kind",
                    "one for each matrix",
                ));
            }
        }
        let mut pairs = BTreeMap::new();
        for ((module, embedding), [a, b]) in halves {
            let Some((a, b)) = a.zip(b) else {
                let path = a.or(b).map_or(self.folder.as_path(), |half| self.weights.path(half));
                let missing = if a.is_none() { "A" } else { "B" };
                return Err(Error::mismatch(path, module, format!("no factor {missing}"), "both, A and B"));
            };
            let path = self.weights.path(a);
            let wrong = |found: String, expected: String| Error::mismatch(path, module, found, expected);
            let tensor = names::in_checkpoint(module, base).filter(|name| used.contains(name.as_str()));
            let tensor = tensor.ok_or_else(|| {
                let found = "a matrix that the model does not have".to_owned();
                wrong(found, format!("an adapter of this model{}", config.trained_for()))
            })?;
            if a.shape.len() != 2 || b.shape.len() != 2 || a.rows() != b.columns() {
                let found = format!("factors of shapes {:?} and {:?}", a.shape, b.shape);
                return Err(wrong(found, "[rank, in] and [out, rank]".to_owned()));
            }
            let scaled =
                (config.scale(module, a.rows()).in_file(&self.folder.join(config::FILE))? * scale) as f32;
            if !scaled.is_finite() {
                let folder = self.folder.display();
                let problem =
                    format!("found the scale {scale:?}, expected one that fits F32 with the adapter's own");
                return Err(Error::Usage(format!("--lora {folder}: {problem}")));
            }
            let pair = FactorPair { a: a.clone(), b: b.clone(), embedding, scale: scaled };
            let shape = base.tensors().get(&tensor).map(|base| base.shape.as_slice()).unwrap_or_default();
            if pair.shape() != shape {
                return Err(wrong(
                    format!("factors of a matrix of shape {:?}", pair.shape()),
                    format!("{shape:?}{}", config.trained_for()),
                ));
            }
            if pairs.insert(tensor, pair).is_some() {
                return Err(wrong("a second pair of factors".to_owned(), "one for each matrix".to_owned()));
            }
        }
        if pairs.is_empty() {
            return Err(Error::file_mismatch(&self.folder, "no factors", "an adapter with some"));
        }
        Ok(pairs)
    }

    /// The adapter's own name, where its tensors have it. There must be one: which of two is meant, nobody says.
    fn own_name(&self) -> Result<Option<&str>> {
        let tensors = self.weights.tensors();
        let mut named = tensors.iter().filter_map(|(name, tensor)| Some((names::adapter(name)?, tensor)));
        let Some((first, _)) = named.next() else { return Ok(None) };
        match named.find(|(other, _)| *other != first) {
            None => Ok(Some(first)),
            Some((other, tensor)) => {
                let found = format!("two adapters, {first} and {other}");
                Err(Error::file_mismatch(
                    self.weights.path(tensor),
                    found,
                    "one in each folder: save them apart",
                ))
            }
        }
    }

    /// PEFT saves the whole embedding beside the factors when the embedding is among its targets.
    fn require_unchanged(&self, name: &str, tensor: &Tensor, module: &str, base: &Checkpoint) -> Result<()> {
        let path = self.weights.path(tensor);
        let own = names::in_checkpoint(module, base).and_then(|name| base.tensors().get(&name));
        let Some(own) = own.filter(|own| own.shape == tensor.shape) else {
            let found = format!("a whole tensor of shape {:?}", tensor.shape);
            return Err(Error::mismatch(
                path,
                name,
                found,
                "factors, or a copy of the checkpoint's own tensor: the adapter was trained for another model, or \
                 saved with a resized embedding",
            ));
        };
        for row in 0..tensor.rows() {
            if row_values(&self.weights, tensor, row)? != row_values(base, own, row)? {
                let expected =
                    "the checkpoint's own tensor: it was trained as a whole, which is more than LoRA";
                return Err(Error::mismatch(path, name, format!("other values in row {row}"), expected));
            }
        }
        Ok(())
    }
}

fn row_values(checkpoint: &Checkpoint, tensor: &Tensor, row: usize) -> Result<Vec<f32>> {
    let mut bytes = vec![0; tensor.row_bytes()];
    checkpoint.read_rows(tensor, row, &mut bytes)?;
    let mut values = vec![0.0; tensor.columns()];
    tensor.dtype.decode(&bytes, &mut values);
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An adapter of one matrix, 2 x 3 and of rank 1, all zeros.
    fn adapter() -> (tempfile::TempDir, Adapter) {
        let folder = tempfile::tempdir().unwrap();
        let header = r#"{"m.lora_A.weight": {"dtype": "F32", "shape": [1, 3], "data_offsets": [0, 12]},
                         "m.lora_B.weight": {"dtype": "F32", "shape": [2, 1], "data_offsets": [12, 20]}}"#;
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 20]].concat();
        std::fs::write(folder.path().join("adapter_model.safetensors"), bytes).unwrap();
        let weights = Checkpoint::open_adapter(folder.path()).unwrap();
        let adapter = Adapter { folder: folder.path().to_owned(), weights };
        (folder, adapter)
    }

    /// Matrices that take turns find their factors again, however many adapters there are.
    #[test]
    fn factors_in_use_are_kept() {
        let (folders, adapters): (Vec<_>, Vec<_>) = (0..3).map(|_| adapter()).unzip();
        let tensor = |name: &str| adapters[0].weights.tensors()[name].clone();
        let (a, b) = (tensor("m.lora_A.weight"), tensor("m.lora_B.weight"));
        let term = Term { adapter: 0, pair: FactorPair { a, b, embedding: false, scale: 1.0 } };
        let lora = Lora { adapters, ..Lora::default() };
        let factors = |name: usize| lora.factors((name.to_string(), 0), &term).unwrap();
        let kept = 3 * RECENT;
        let first: Vec<_> = (0..kept).map(factors).collect();
        for (name, first) in first.iter().enumerate() {
            assert!(Arc::ptr_eq(&factors(name), first), "{name}");
        }
        factors(0);
        factors(kept); // in the place of 1, which was used longest ago
        assert!(Arc::ptr_eq(&factors(0), &first[0]));
        assert!(!Arc::ptr_eq(&factors(1), &first[1]));
        drop(folders);
    }
}
