//! Rows of the checkpoint that are all zero: a file can be the same model, and the model an unfinished download.

use std::collections::BTreeMap;

use crate::checkpoint::Tensor;

/// Padding of the vocabulary, at its end, may be zeros; it is less than one row of so many.
const PADDING: usize = 8;

/// One tensor's rows, as far as they were seen.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    rows: usize,
    zero: usize,
    /// The row behind the last that is not zero.
    end: usize,
    vector: bool,
    vocabulary: bool,
}

/// Counts zero rows by the checkpoint's tensors.
#[derive(Debug, Default)]
pub(super) struct Zeros<'a>(BTreeMap<&'a str, Seen>);

/// Rows of one tensor from `first` on: which of them are zero.
pub(super) fn zero_rows(first: usize, raw: &[u8], row_bytes: usize) -> Vec<(usize, bool)> {
    let rows = raw.chunks_exact(row_bytes.max(1)).enumerate();
    rows.map(|(row, bytes)| (first + row, bytes.iter().all(|&byte| byte == 0))).collect()
}

impl<'a> Zeros<'a> {
    /// Adds rows of a tensor, each once; `target`: where they go in the file.
    pub(super) fn add(&mut self, name: &'a str, tensor: &Tensor, target: &str, rows: &[(usize, bool)]) {
        let seen = self.0.entry(name).or_default();
        seen.vector = tensor.columns() == 1;
        seen.vocabulary = matches!(target, "token_embd.weight" | "output.weight");
        seen.rows = tensor.rows();
        for &(row, zero) in rows {
            match zero {
                true => seen.zero += 1,
                false => seen.end = seen.end.max(row + 1),
            }
        }
    }

    /// A warning of what no training leaves. A value of a vector may be zero, but not all of them.
    pub(super) fn warning(&self) -> Option<String> {
        let suspects: Vec<String> = self.0.iter().filter_map(|(name, seen)| seen.suspect(name)).collect();
        let more = match suspects.len() {
            0 | 1 => String::new(),
            count => format!(", and some of {} more of its tensors", count - 1),
        };
        Some(format!("the checkpoint: {}{more}: is the download complete?", suspects.first()?))
    }
}

impl Seen {
    fn suspect(&self, name: &str) -> Option<String> {
        let Seen { rows, zero, end, vector, vocabulary } = *self;
        if vector {
            return (zero == rows).then(|| format!("all {rows} values of {name} are zero"));
        }
        let padding = if vocabulary && rows - end <= rows / PADDING { rows - end } else { 0 };
        (zero > padding).then(|| format!("{} of {rows} rows of {name} are zero", zero - padding))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;
    use std::path::Path;

    #[test]
    fn padding_and_single_values_may_be_zero() {
        let checkpoint = Checkpoint::open(Path::new("testdata/models/tiny-chatglm3")).unwrap();
        let tensor = |name: &str| &checkpoint.tensors()[name];
        let embedding = "transformer.embedding.word_embeddings.weight"; // 1024 rows
        let norm = "transformer.encoder.final_layernorm.weight";
        let dense = "transformer.encoder.layers.0.self_attention.dense.weight";
        let warning = |name, target, zero: std::ops::Range<usize>| {
            let rows: Vec<_> = (0..tensor(name).rows()).map(|row| (row, zero.contains(&row))).collect();
            let mut zeros = Zeros::default();
            rows.chunks(100).for_each(|rows| zeros.add(name, tensor(name), target, rows));
            zeros.warning()
        };
        let width = tensor(norm).rows();
        assert_eq!(warning(embedding, "token_embd.weight", 896..1024), None);
        assert_eq!(warning(norm, "output_norm.weight", 1..width), None);
        for (name, target, zero, expected) in [
            (embedding, "token_embd.weight", 895..1024, format!("129 of 1024 rows of {embedding} are")),
            (embedding, "token_embd.weight", 5..6, format!("1 of 1024 rows of {embedding} are")),
            (
                dense,
                "blk.0.attn_output.weight",
                width - 1..width,
                format!("1 of {width} rows of {dense} are"),
            ),
            (norm, "output_norm.weight", 0..width, format!("all {width} values of {norm} are")),
        ] {
            let expected = format!("the checkpoint: {expected} zero: is the download complete?");
            assert_eq!(warning(name, target, zero), Some(expected));
        }
    }
}
