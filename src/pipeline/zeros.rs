//! Rows of the checkpoint that hold nothing but zeros, which no training leaves and an unfinished download does.

use std::collections::BTreeMap;

use crate::remap::{Plan, Role, Source};

/// How many rows of each of a plan's tensors are all zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZeroRows(Vec<usize>);

/// The rows behind the last token may be zeros. In the family's models they are fewer than one of this many.
const PADDED_VOCABULARY: usize = 8;

impl ZeroRows {
    pub(super) fn new(plan: &Plan) -> ZeroRows {
        ZeroRows(vec![0; plan.tensors.len()])
    }

    pub(super) fn add(&mut self, tensor: usize, rows: usize) {
        self.0[tensor] += rows;
    }

    /// What to say of them, by the names of the checkpoint's own tensors.
    pub fn warning(&self, plan: &Plan) -> Option<String> {
        let mut sources: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        let mut order = Vec::new();
        for (target, &zero) in plan.tensors.iter().zip(&self.0) {
            let Source::Rows(spans) = &target.source else { continue };
            let (Some(span), false) = (spans.first(), target.role() == Role::Vector) else { continue };
            let (sum, rows) = sources.entry(&span.tensor).or_insert_with(|| {
                order.push((span.tensor.as_str(), target.role()));
                (0, 0)
            });
            *sum += zero;
            *rows += target.rows;
        }
        let suspect = |(name, role): &(&str, Role)| {
            let &(zero, rows) = sources.get(name)?;
            let vocabulary = matches!(role, Role::TokenEmbedding | Role::Output);
            let padding = if vocabulary { rows / PADDED_VOCABULARY } else { 0 };
            (zero > padding).then(|| format!("{zero} of {rows} rows of {name} are zero"))
        };
        let suspects: Vec<String> = order.iter().filter_map(suspect).collect();
        let others = match suspects.len() {
            0 | 1 => String::new(),
            2 => ", and some of another tensor".to_owned(),
            more => format!(", and some of {} other tensors", more - 1),
        };
        Some(format!("{}{others}: is the download complete?", suspects.first()?))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::remap::{InBlock, Part, Slot, Span, Target};

    #[test]
    fn fused_tensors_are_counted_once_and_padded_vocabulary_is_none_of_it() {
        let checkpoint = Checkpoint::open(Path::new("testdata/models/tiny-chatglm3")).unwrap();
        let stored = checkpoint.tensors().values().next().unwrap(); // any will do
        let target = |source: &str, rows, slot| Target {
            name: String::new(),
            slot,
            rows,
            columns: 4,
            source: Source::Rows(vec![Span {
                tensor: source.to_owned(),
                stored: stored.clone(),
                rows: 0..rows,
            }]),
        };
        let block = |tensor| Slot::Block(0, tensor);
        let tensors = vec![
            target("embedding", 100, Slot::TokenEmbedding),
            target("norm", 4, Slot::FinalNorm),
            target("qkv", 20, block(InBlock::Weight(Part::Query))),
            target("qkv", 10, block(InBlock::Weight(Part::Value))),
            target("dense", 20, block(InBlock::AttnOutput)),
            target("down", 20, block(InBlock::Down)),
        ];
        let plan = Plan { tensors, files: Vec::new() };
        let warning = |rows: [usize; 6]| ZeroRows(rows.to_vec()).warning(&plan);
        assert_eq!(warning([12, 4, 0, 0, 0, 0]), None);
        assert_eq!(
            warning([13, 0, 0, 0, 0, 0]).unwrap(),
            "13 of 100 rows of embedding are zero: is the download complete?"
        );
        assert_eq!(
            warning([0, 0, 3, 4, 0, 0]).unwrap(),
            "7 of 30 rows of qkv are zero: is the download complete?"
        );
        assert_eq!(
            warning([0, 0, 3, 0, 1, 20]).unwrap(),
            "3 of 30 rows of qkv are zero, and some of 2 other tensors: is the download complete?"
        );
    }
}
