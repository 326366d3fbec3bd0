//! The newer format: a GGUF file with `NAME.in_sum2` (summed squares) and `NAME.counts` for each tensor.

use std::collections::{BTreeMap, HashMap};

use quant::Format;

use super::ImportanceMatrix;
use crate::checkpoint::Dtype;
use crate::error::{Error, Result};
use crate::gguf::{GgufFile, StoredTensor, Value};

/// More columns than any model has, and more values than any matrix: that of a 9B model has 1.4 million.
const MAX_COLUMNS: u64 = 1 << 18;
const MAX_VALUES: u64 = 1 << 21;

pub(super) fn matrix(file: &GgufFile) -> Result<ImportanceMatrix> {
    let path = file.path();
    let mut entries = BTreeMap::new();
    let mut values = 0;
    let by_name: HashMap<&str, &StoredTensor> =
        file.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    for sums in &file.tensors {
        let Some(name) = sums.name.strip_suffix(".in_sum2") else { continue };
        values += sums.weights().min(MAX_VALUES);
        if values > MAX_VALUES {
            let found = format!("over {MAX_VALUES} values");
            return Err(Error::file_mismatch(path, found, "an importance matrix of a ChatGLM model"));
        }
        let counts = format!("{name}.counts");
        let counts = by_name
            .get(counts.as_str())
            .ok_or_else(|| Error::mismatch(path, &counts, "no such tensor", "one beside each .in_sum2"))?;
        let (sums, counts) = (floats(file, sums)?, floats(file, counts)?);
        let [count] = counts[..] else {
            return Err(Error::mismatch(
                path,
                name,
                format!("{} counts", counts.len()),
                "1: the model has no experts",
            ));
        };
        // A tensor that saw no input during the measurement: all columns matter the same.
        let mean = |sum: f32| if count > 0.0 { sum / count } else { 1.0 };
        entries.insert(name.to_owned(), sums.into_iter().map(mean).collect());
    }
    if entries.is_empty() {
        if file.metadata.contains_key("general.architecture") {
            return Err(Error::file_mismatch(path, "a model", "the file that llama-imatrix writes"));
        }
        return Err(Error::file_mismatch(path, "no .in_sum2 tensors", "an importance matrix"));
    }
    let dataset = file.texts("imatrix.datasets").and_then(|names| names.first().cloned());
    let chunks = match file.metadata.get("imatrix.chunk_count") {
        Some(Value::U32(chunks)) => *chunks,
        _ => 0,
    };
    Ok(ImportanceMatrix { file: path.to_owned(), entries, dataset, chunks })
}

fn floats(file: &GgufFile, tensor: &StoredTensor) -> Result<Vec<f32>> {
    if tensor.format() != Some(Format::F32) || tensor.weights() > MAX_COLUMNS {
        let found = format!("{} of shape {:?}", tensor.format_name(), tensor.shape);
        return Err(Error::mismatch(file.path(), &tensor.name, found, "F32, a few thousand columns"));
    }
    let mut bytes = vec![0; tensor.bytes as usize]; // at most 4 * MAX_COLUMNS
    file.read(tensor, 0, &mut bytes)?;
    let mut values = vec![0.0; bytes.len() / 4];
    Dtype::F32.decode(&bytes, &mut values);
    Ok(values)
}
