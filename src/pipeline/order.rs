//! What a file that comes front to back is cut into: the rows of each piece, and which tensor of the plan takes them.

use std::ops::Range;

use super::Work;
use super::chunk::Chunk;
use crate::error::{Error, Result};
use crate::remap::Source;

/// Bytes that lie together in a file and are whole rows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) bytes: Range<u64>,
    /// Who takes them: one as a rule, and several where tensors share their storage.
    pub(super) chunks: Vec<Chunk>,
}

/// The rows of one span, and who takes them.
#[derive(Clone, Debug)]
struct Span {
    bytes: Range<u64>,
    row_bytes: u64,
    /// The target's number in the plan, and its first row from here.
    tensor: usize,
    first_row: usize,
}

/// The pieces of each of the checkpoint's files, in the files' order, of at most `max_bytes` but one row at least.
///
/// # Errors
/// When tensors overlap in another way than wholly: their bytes come by only once.
pub(super) fn pieces(work: &Work, max_bytes: usize) -> Result<Vec<Vec<Piece>>> {
    let mut spans: Vec<Vec<Span>> = vec![Vec::new(); work.plan.files.len()];
    for (tensor, target) in work.plan.tensors.iter().enumerate() {
        let Source::Rows(rows) = &target.source else { continue };
        let mut first_row = 0;
        for span in rows {
            let (file, bytes) = span.stored.place(&span.rows);
            let row_bytes = span.stored.row_bytes() as u64;
            let no_file = || Error::Internal(format!("{}: in no file of the plan", span.tensor));
            let of_file = spans.get_mut(file).ok_or_else(no_file)?;
            of_file.push(Span { bytes, row_bytes, tensor, first_row });
            first_row += span.rows.len();
        }
    }
    let cut = |(file, spans): (usize, Vec<Span>)| {
        cut(spans, max_bytes as u64).map_err(|tensor| {
            let name = &work.plan.tensors[tensor].name;
            let expected = "each byte in one: download the model first, and give its folder";
            Error::mismatch(
                &work.plan.files[file],
                name,
                "tensors that share a part of their bytes",
                expected,
            )
        })
    };
    spans.into_iter().enumerate().map(cut).collect()
}

/// The spans of one file. The error is a tensor that overlaps another.
fn cut(mut spans: Vec<Span>, max_bytes: u64) -> Result<Vec<Piece>, usize> {
    spans.sort_by_key(|span| (span.bytes.start, span.bytes.end, span.tensor));
    let mut pieces: Vec<Piece> = Vec::new();
    let mut end = 0;
    for same in spans.chunk_by(|a, b| a.bytes == b.bytes) {
        let (Some(first), Some(row_bytes)) = (same.first(), same.iter().map(|span| span.row_bytes).max())
        else {
            continue;
        };
        if first.bytes.start < end || same.iter().any(|span| span.row_bytes != row_bytes) {
            return Err(first.tensor);
        }
        end = first.bytes.end;
        let step = (max_bytes / row_bytes).max(1) * row_bytes;
        let mut start = first.bytes.start;
        while start < end {
            let bytes = start..end.min(start + step);
            let row =
                |span: &Span, byte: u64| span.first_row + ((byte - first.bytes.start) / row_bytes) as usize;
            let chunk =
                |span: &Span| Chunk { tensor: span.tensor, rows: row(span, start)..row(span, bytes.end) };
            let chunks = same.iter().map(chunk).collect();
            start = bytes.end;
            pieces.push(Piece { bytes, chunks });
        }
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(bytes: Range<u64>, row_bytes: u64, tensor: usize, first_row: usize) -> Span {
        Span { bytes, row_bytes, tensor, first_row }
    }

    fn shown(pieces: &[Piece]) -> String {
        let chunk = |chunk: &Chunk| format!("{}:{}-{}", chunk.tensor, chunk.rows.start, chunk.rows.end);
        let piece = |piece: &Piece| {
            let chunks: Vec<String> = piece.chunks.iter().map(chunk).collect();
            format!("{}..{} {}", piece.bytes.start, piece.bytes.end, chunks.join("+"))
        };
        pieces.iter().map(piece).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn rows_are_cut_in_the_order_of_the_file() {
        // A fused tensor of 4 and 2 rows for two targets, the second of which had 3 rows before.
        let spans = vec![span(140..160, 10, 2, 3), span(100..140, 10, 1, 0), span(20..24, 1, 0, 0)];
        let pieces = cut(spans, 25).unwrap();
        assert_eq!(shown(&pieces), "20..24 0:0-4, 100..120 1:0-2, 120..140 1:2-4, 140..160 2:3-5");
    }

    #[test]
    fn a_row_is_never_cut_and_tied_tensors_come_together() {
        let pieces = cut(vec![span(0..20, 10, 0, 0), span(0..20, 10, 7, 0)], 3).unwrap();
        assert_eq!(shown(&pieces), "0..10 0:0-1+7:0-1, 10..20 0:1-2+7:1-2");
        let overlapping = vec![span(0..20, 10, 0, 0), span(10..20, 10, 7, 0)];
        assert_eq!(cut(overlapping, 100).unwrap_err(), 7);
        let of_other_rows = vec![span(0..20, 10, 0, 0), span(0..20, 5, 7, 0)];
        assert_eq!(cut(of_other_rows, 100).unwrap_err(), 0);
    }
}
