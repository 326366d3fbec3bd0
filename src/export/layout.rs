//! Which tensor lies where in which safetensors file: a pure function of names, shapes and sizes.

use std::collections::BTreeMap;
use std::ops::Range;

use quant::Format;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::remap::Role;
use crate::sink::{Shape, groups};

use super::plan::ExportPlan;

/// The shards of an export.
#[derive(Clone, Debug)]
pub struct ShardLayout {
    /// The files, in order.
    pub shards: Vec<Shard>,
    /// The plan's tensors, one after the other.
    pub(super) tensors: Vec<Tensor>,
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
}

/// One safetensors file.
#[derive(Clone, Debug)]
pub struct Shard {
    /// Its name in the folder.
    pub name: String,
    /// Length and JSON header.
    pub header: Vec<u8>,
    /// Its tensors' numbers.
    pub tensors: Range<usize>,
    /// Bytes of the whole file.
    pub bytes: u64,
}

/// A tensor's place.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) shape: Shape,
    pub(super) vector: bool,
    pub(super) bytes: u64,
    /// Rows of a head, where they change places.
    pub(super) head_rows: Option<usize>,
}

impl ShardLayout {
    /// Starts a new file before one has more than `most_bytes` of tensors; a larger tensor has its own.
    ///
    /// # Errors
    /// When that makes too many files.
    pub(super) fn new(plan: &ExportPlan, formats: &[Format], most_bytes: u64) -> Result<ShardLayout> {
        let targets = plan.plan.tensors.iter().zip(&plan.head_rows).zip(formats);
        let tensors = targets.map(|((target, &head_rows), &format)| {
            let shape = Shape { format, rows: target.rows, columns: target.columns };
            let row_bytes = format.row_bytes(target.columns).expect("floats have no blocks to break");
            let bytes = target.rows as u64 * row_bytes as u64;
            Tensor {
                name: target.name.clone(),
                shape,
                vector: target.role() == Role::Vector,
                bytes,
                head_rows,
            }
        });
        let tensors: Vec<Tensor> = tensors.collect();
        let groups = groups(tensors.iter().map(|tensor| tensor.bytes), most_bytes, "--max-shard-size")?;
        let count = groups.len();
        let mut shards = Vec::new();
        for (i, group) in groups.into_iter().enumerate() {
            let (header, data) = header(&tensors[group.clone()])?;
            let bytes = header.len() as u64 + data;
            shards.push(Shard { name: shard_name(i, count), header, tensors: group, bytes });
        }
        let tensor_bytes = tensors.iter().map(|tensor| tensor.bytes).sum();
        Ok(ShardLayout { shards, tensors, tensor_bytes })
    }

    /// `model.safetensors.index.json`, which several files need.
    pub(super) fn index(&self) -> Option<Index<'_>> {
        let names = |shard: &'_ Shard| shard.tensors.clone();
        let pairs = self
            .shards
            .iter()
            .flat_map(|shard| names(shard).map(|i| (self.tensors[i].name.as_str(), shard.name.as_str())));
        (self.shards.len() > 1)
            .then(|| Index { metadata: Total { total_size: self.tensor_bytes }, weight_map: pairs.collect() })
    }
}

/// The file that says which tensor is in which shard.
#[derive(Serialize)]
pub(super) struct Index<'a> {
    metadata: Total,
    weight_map: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
struct Total {
    total_size: u64,
}

/// transformers' own names.
fn shard_name(i: usize, count: usize) -> String {
    match count {
        1 => "model.safetensors".to_owned(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
    }
}

/// The header of a file with these tensors, and the bytes behind it.
fn header(tensors: &[Tensor]) -> Result<(Vec<u8>, u64)> {
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Entry {
        Metadata { format: &'static str },
        Tensor { dtype: &'static str, shape: Vec<usize>, data_offsets: [u64; 2] },
    }
    // transformers refuses a file that does not say this.
    let mut entries = BTreeMap::from([("__metadata__", Entry::Metadata { format: "pt" })]);
    let mut end = 0;
    for tensor in tensors {
        let Shape { format, rows, columns } = tensor.shape;
        let shape = if tensor.vector { vec![rows] } else { vec![rows, columns] };
        let start = end;
        end += tensor.bytes;
        entries
            .insert(&tensor.name, Entry::Tensor { dtype: format.name(), shape, data_offsets: [start, end] });
    }
    let mut json =
        serde_json::to_vec(&entries).map_err(|e| Error::Internal(format!("a safetensors header: {e}")))?;
    json.resize(json.len().next_multiple_of(8), b' '); // the data starts aligned, as the format asks
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.append(&mut json);
    Ok((header, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors(sizes: &[u64]) -> Vec<Tensor> {
        let tensor = |(i, &bytes): (usize, &u64)| Tensor {
            name: format!("t{i}"),
            shape: Shape { format: Format::F32, rows: bytes as usize / 4, columns: 1 },
            vector: true,
            bytes,
            head_rows: None,
        };
        sizes.iter().enumerate().map(tensor).collect()
    }

    #[test]
    fn shards_are_called_as_transformers_calls_them() {
        assert_eq!(shard_name(0, 1), "model.safetensors");
        assert_eq!(shard_name(1, 12), "model-00002-of-00012.safetensors");
    }

    #[test]
    fn the_safetensors_library_reads_the_header() {
        let (mut file, data) = header(&tensors(&[12, 4])).unwrap();
        file.resize(file.len() + data as usize, 0);
        let parsed = safetensors::SafeTensors::deserialize(&file).unwrap();
        assert_eq!(parsed.tensor("t1").unwrap().shape(), [1]);
        assert_eq!(file.len() % 8, 0);
    }
}
