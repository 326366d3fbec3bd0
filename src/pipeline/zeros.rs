//! Rows of the checkpoint that hold nothing but zeros, which no training leaves and an unfinished download does.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::remap::{Plan, Role, Source};

/// Which rows of each of a plan's tensors are all zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZeroRows(Vec<Rows>);

/// Rows of one tensor, each once; runs of them, so that many take no memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rows(Vec<Range<usize>>);

/// Of the vocabulary's rows, this part may be without a token and so be zeros. In the family's models it is less.
const PADDED_VOCABULARY: usize = 8;

impl Rows {
    /// Adds rows, to the last run where they follow it.
    pub(super) fn push(&mut self, rows: Range<usize>) {
        match self.0.last_mut() {
            Some(last) if last.end == rows.start => last.end = rows.end,
            _ => self.0.push(rows),
        }
    }

    /// How many there are.
    fn count(&self) -> usize {
        self.0.iter().map(Range::len).sum()
    }

    /// How many of them stand from this row on.
    fn from(&self, first: usize) -> usize {
        self.0.iter().map(|rows| rows.end.saturating_sub(rows.start.max(first))).sum()
    }
}

impl ZeroRows {
    pub(super) fn new(plan: &Plan) -> ZeroRows {
        ZeroRows(vec![Rows::default(); plan.tensors.len()])
    }

    pub(super) fn add(&mut self, tensor: usize, rows: Rows) {
        rows.0.into_iter().for_each(|rows| self.0[tensor].push(rows));
    }

    /// What to say of them, by the names of the checkpoint's own tensors; `last_token`: behind it the vocabulary is
    /// padded, and what stands there nobody has trained. A value of a vector may be zero, but not all of them.
    pub fn warning(&self, plan: &Plan, last_token: usize) -> Option<String> {
        let mut sources: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        let mut order = Vec::new();
        for (target, zero) in plan.tensors.iter().zip(&self.0) {
            let Source::Rows(spans) = &target.source else { continue };
            let Some(span) = spans.first() else { continue };
            let (sum, rows) = sources.entry(&span.tensor).or_insert_with(|| {
                order.push((span.tensor.as_str(), target.role()));
                (0, 0)
            });
            *sum += zero.count();
            if matches!(target.role(), Role::TokenEmbedding | Role::Output) {
                let padding = zero.from(last_token);
                *sum -= if padding <= target.rows / PADDED_VOCABULARY { padding } else { 0 };
            }
            *rows += target.rows;
        }
        let suspect = |(name, role): &(&str, Role)| match (sources.get(name)?, role) {
            (&(zero, rows), Role::Vector) => {
                (zero == rows).then(|| format!("all {rows} values of {name} are zero"))
            }
            (&(zero, rows), _) => (zero > 0).then(|| format!("{zero} of {rows} rows of {name} are zero")),
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
        let warning = |rows: [Range<usize>; 6]| {
            let rows = rows.map(|rows| if rows.is_empty() { Rows::default() } else { Rows(vec![rows]) });
            ZeroRows(rows.to_vec()).warning(&plan, 88)
        };
        assert_eq!(warning([88..100, 0..3, 0..0, 0..0, 0..0, 0..0]), None);
        for (embedding, zero) in [(87..99, 1), (87..100, 1), (0..1, 1), (0..100, 88)] {
            let found = warning([embedding, 0..0, 0..0, 0..0, 0..0, 0..0]).unwrap();
            assert_eq!(found, format!("{zero} of 100 rows of embedding are zero: is the download complete?"));
        }
        // More than the family's padding is no padding.
        let mut padding = Rows::default();
        padding.push(80..100);
        let rows = ZeroRows([vec![padding], vec![Rows::default(); 5]].concat());
        assert!(rows.warning(&plan, 80).unwrap().starts_with("20 of 100 rows of embedding are zero"));
        assert_eq!(
            warning([0..0, 0..4, 0..0, 0..0, 0..0, 0..0]).unwrap(),
            "all 4 values of norm are zero: is the download complete?"
        );
        assert_eq!(
            warning([0..0, 0..0, 1..4, 6..10, 0..0, 0..0]).unwrap(),
            "7 of 30 rows of qkv are zero: is the download complete?"
        );
        assert_eq!(
            warning([0..0, 0..0, 0..3, 0..0, 5..6, 0..20]).unwrap(),
            "3 of 30 rows of qkv are zero, and some of 2 other tensors: is the download complete?"
        );
    }

    #[test]
    fn runs_of_rows_are_kept_as_runs() {
        let mut rows = Rows::default();
        for row in [3, 4, 5, 9] {
            rows.push(row..row + 1);
        }
        assert_eq!(rows, Rows(vec![3..6, 9..10]));
        assert_eq!([rows.count(), rows.from(0), rows.from(5), rows.from(10)], [4, 4, 2, 0]);
    }
}
