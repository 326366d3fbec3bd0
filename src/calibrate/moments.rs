//! Second moments of a matrix's inputs, and their triangular factor: what rounding with feedback needs.

use std::ops::Range;

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayBase, ArrayView2, ArrayViewMut2, Axis, Ix2, RawData, Slice};
use quant::Curvature;
use rayon::prelude::*;

use crate::forward::{Activations, rows_of};

/// Rows of a product, and columns of the factor, at a time.
const BLOCK: usize = 256;

/// Sums of x x' over tokens, wide enough for a padded matrix: of all columns together, or of those of each part alone.
pub(super) struct Moments {
    parts: Vec<Part>,
    tokens: usize,
}

/// The moments of some columns with one another.
struct Part {
    columns: Range<usize>,
    /// Room for a square. While sums are gathered, blocks of rows up to the diagonal stand one behind the other at its
    /// beginning, so that half of it is never touched and takes no memory. Then row-major; on and below the diagonal the
    /// moments, above it room for the factor.
    packed: Vec<f32>,
}

/// The damped moments of each part's columns, with their factor.
pub(super) type Curvatures = Vec<(Range<usize>, Curvature)>;

/// Means over the inputs themselves, for each column.
pub(super) struct Means {
    /// Mean squares; 0 for a column that no input ever reached.
    pub squares: Vec<f32>,
    /// The mean of those of the live columns.
    pub typical: f32,
}

impl Moments {
    /// Begins the moments of columns in these parts, which follow one another.
    pub(super) fn new(parts: Vec<Range<usize>>) -> Moments {
        Moments { parts: parts.into_iter().map(Part::new).collect(), tokens: 0 }
    }

    /// Adds the inputs of some tokens, `[features, tokens]`; features beyond them are padding, and stay 0.
    pub(super) fn add(&mut self, x: &Activations) {
        self.tokens += x.ncols();
        for part in &mut self.parts {
            let features = part.columns.start.min(x.nrows())..part.columns.end.min(x.nrows());
            part.add(rows_of(x, features));
        }
    }

    /// Turns the sums into means, once all tokens were added.
    pub(super) fn finish(&mut self) -> Means {
        let scale = 1.0 / self.tokens.max(1) as f32;
        let squares: Vec<f32> = self.parts.iter_mut().flat_map(|part| part.finish(scale)).collect();
        let live = squares.iter().filter(|square| **square > 0.0);
        let (sum, count) =
            live.fold((0.0, 0.0), |(sum, count), square| (sum + f64::from(*square), count + 1.0));
        Means { squares, typical: if count > 0.0 { (sum / count) as f32 } else { 1.0 } }
    }

    /// The factors of the moments with a part of the typical square added to each diagonal one, so that what few tokens
    /// say of columns together is not taken for the truth. The moments again where one has no factor in f32.
    pub(super) fn damped(mut self, means: &Means, damping: f32) -> Result<Curvatures, Moments> {
        let damp = |part: &mut Part| {
            let width = part.columns.len();
            for (i, &square) in means.squares[part.columns.clone()].iter().enumerate() {
                part.packed[i * width + i] =
                    if square > 0.0 { square + damping * means.typical } else { means.typical };
            }
        };
        for part in &mut self.parts {
            damp(part);
            mirror(&mut part.packed, part.columns.len());
            if !factor(&mut part.packed, part.columns.len()) {
                return Err(self);
            }
            damp(part); // its place held the factor's pivots
        }
        let weight = |square: &f32| if *square > 0.0 { square + damping * means.typical } else { 0.0 };
        let curvature = |Part { columns, packed }: Part| {
            let weights = means.squares[columns.clone()].iter().map(weight).collect();
            (columns, Curvature::new(packed, weights).expect("width * width values"))
        };
        Ok(self.parts.into_iter().map(curvature).collect())
    }

    /// The moments again, to be damped otherwise.
    pub(super) fn again(curvatures: Curvatures) -> Moments {
        let part = |(columns, curvature): (Range<usize>, Curvature)| {
            let (packed, _) = curvature.into_parts();
            Part { columns, packed }
        };
        Moments { parts: curvatures.into_iter().map(part).collect(), tokens: 0 }
    }
}

impl Part {
    fn new(columns: Range<usize>) -> Part {
        let width = columns.len();
        Part { columns, packed: vec![0.0; width * width] }
    }

    /// Blocks of rows, with where each begins while sums are gathered; it has its rows up to the diagonal's last column.
    fn blocks(&self) -> Vec<(Range<usize>, usize)> {
        let width = self.columns.len();
        let mut at = 0;
        let block = |start: usize| {
            let rows = start..width.min(start + BLOCK);
            let begins = at;
            at += rows.len() * rows.end;
            (rows, begins)
        };
        (0..width).step_by(BLOCK).map(block).collect()
    }

    /// Adds the part's own features of some tokens.
    fn add(&mut self, x: ArrayView2<f32>) {
        let all = self.blocks();
        let mut values = self.packed.as_mut_slice();
        let mut blocks = Vec::new();
        for (rows, _) in all {
            let (block, behind) = values.split_at_mut(rows.len() * rows.end);
            values = behind;
            blocks.push((rows, block));
        }
        blocks.into_par_iter().for_each(|(rows, block)| {
            let (start, end) = (rows.start, rows.end.min(x.nrows()));
            if start < end {
                let mut sums = part(view_mut(block, rows.end), 0..end - start, 0..end);
                let tokens = 0..x.ncols();
                let (own, all) = (part(x, start..end, tokens.clone()), part(x, 0..end, tokens));
                general_mat_mul(1.0, &own, &all.t(), 1.0, &mut sums);
            }
        });
    }

    /// Scales the sums, puts each row where it belongs, and tells the diagonal.
    fn finish(&mut self, scale: f32) -> Vec<f32> {
        let width = self.columns.len();
        // From the last row on: no row's place is before where it was.
        for (rows, begins) in self.blocks().into_iter().rev() {
            for i in rows.clone().rev() {
                let from = begins + (i - rows.start) * rows.end;
                self.packed.copy_within(from..from + rows.end, i * width);
            }
        }
        self.packed
            .par_chunks_mut(width.max(1))
            .for_each(|row| row.iter_mut().for_each(|value| *value *= scale));
        (0..width).map(|i| self.packed[i * width + i]).collect()
    }
}

/// Some rows and columns of a view.
pub(super) fn part<S: RawData>(
    view: ArrayBase<S, Ix2>,
    rows: Range<usize>,
    columns: Range<usize>,
) -> ArrayBase<S, Ix2> {
    view.slice_axis_move(Axis(0), Slice::from(rows)).slice_axis_move(Axis(1), Slice::from(columns))
}

fn view_mut(rows: &mut [f32], width: usize) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut2::from_shape((rows.len() / width, width), rows).expect("whole rows")
}

/// Copies what is below the diagonal to above it.
fn mirror(packed: &mut [f32], width: usize) {
    for start in (0..width).step_by(BLOCK) {
        let end = width.min(start + BLOCK);
        // A block of columns above the diagonal is a block of rows below it.
        let (above, rows) = packed.split_at_mut(start * width);
        let rows = &mut rows[..(end - start) * width];
        above.par_chunks_mut(width).enumerate().for_each(|(i, above)| {
            for (k, value) in above[start..end].iter_mut().enumerate() {
                *value = rows[k * width + i];
            }
        });
        for i in 0..end - start {
            for k in i + 1..end - start {
                rows[i * width + start + k] = rows[k * width + start + i];
            }
        }
    }
}

/// The upper triangle, diagonal included, into the unit factor U of H = U D U', from the last columns to the first;
/// the diagonal is lost. False when a pivot is not above 0.
fn factor(packed: &mut [f32], width: usize) -> bool {
    // First C with H = C C', then its columns divided by their diagonal ones.
    let mut pivots = vec![0.0; width];
    let starts: Vec<usize> = (0..width).step_by(BLOCK).collect();
    for &start in starts.iter().rev() {
        let end = width.min(start + BLOCK);
        let count = end - start;
        let (above, rows) = packed.split_at_mut(start * width);
        let mut own: Vec<f32> =
            rows.chunks(width).take(count).flat_map(|row| row[start..end].iter().copied()).collect();
        if !factor_block(&mut own, count) {
            return false;
        }
        for (i, own) in own.chunks(count).enumerate() {
            rows[i * width + start + i..i * width + end].copy_from_slice(&own[i..]);
            pivots[start + i] = own[i];
        }
        // Columns of the block, each contiguous.
        let columns: Vec<f32> = (0..count * count).map(|at| own[at % count * count + at / count]).collect();
        let mut panel = vec![0.0; start * count];
        above.par_chunks_mut(width).zip(panel.par_chunks_mut(count.max(1))).for_each(|(row, panel)| {
            let row = &mut row[start..end];
            for k in (0..count).rev() {
                let column = &columns[k * count..][..count];
                let value = row[k] / column[k];
                row[k] = value;
                for (rest, above) in row[..k].iter_mut().zip(column) {
                    *rest -= value * above;
                }
            }
            panel.copy_from_slice(row);
        });
        let panel = ArrayView2::from_shape((start, count), &panel).expect("start * count values");
        above.par_chunks_mut(BLOCK * width).enumerate().for_each(|(chunk, rows)| {
            let first = chunk * BLOCK;
            let last = first + rows.len() / width;
            let mut rest = part(view_mut(rows, width), 0..last - first, first..start);
            let (own, all) = (part(panel, first..last, 0..count), part(panel, first..start, 0..count));
            // Also a little below the diagonal of the chunk, which is put back.
            let below: Vec<f32> = lower(&rest);
            general_mat_mul(-1.0, &own, &all.t(), 1.0, &mut rest);
            put_lower(&mut rest, &below);
        });
    }
    let inverse: Vec<f32> = pivots.iter().map(|pivot| 1.0 / pivot).collect();
    packed.par_chunks_mut(width.max(1)).enumerate().for_each(|(i, row)| {
        for (value, inverse) in row[i + 1..].iter_mut().zip(&inverse[i + 1..]) {
            *value *= inverse;
        }
    });
    true
}

/// What is below the diagonal of a chunk's first square.
fn lower(chunk: &ArrayViewMut2<f32>) -> Vec<f32> {
    let rows = chunk.nrows().min(chunk.ncols());
    (0..rows).flat_map(|i| (0..i).map(move |k| (i, k))).map(|at| chunk[at]).collect()
}

fn put_lower(chunk: &mut ArrayViewMut2<f32>, values: &[f32]) {
    let rows = chunk.nrows().min(chunk.ncols());
    let places = (0..rows).flat_map(|i| (0..i).map(move |k| (i, k)));
    for (at, value) in places.zip(values) {
        chunk[at] = *value;
    }
}

/// C of one block, in place above and on the diagonal.
fn factor_block(block: &mut [f32], count: usize) -> bool {
    for k in (0..count).rev() {
        let pivot = block[k * count + k];
        if !(pivot > 0.0 && pivot.is_finite()) {
            return false;
        }
        let root = pivot.sqrt();
        block[k * count + k] = root;
        let column: Vec<f32> = (0..k).map(|i| block[i * count + k] / root).collect();
        for i in 0..k {
            block[i * count + k] = column[i];
            for (rest, above) in block[i * count + i..i * count + k].iter_mut().zip(&column[i..]) {
                *rest -= column[i] * above;
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::MomentLayout;
    use super::*;
    use ndarray::Array2;

    fn inputs(features: usize, tokens: usize) -> Activations {
        let mut state = 1u32;
        Array2::from_shape_fn((features, tokens), |(i, token)| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
                + ((i % 7) as f32 - 3.0) * ((token % 5) as f32 - 2.0) * 0.2
        })
    }

    /// U D U' is the damped mean of x x', with fewer tokens than columns, padding, and several blocks.
    #[test]
    fn the_factor_gives_the_moments_back() {
        for (features, width, tokens) in [(600, 600, 90), (500, 512, 40), (256, 256, 1), (3, 3, 9)] {
            let x = inputs(features, tokens);
            let mut moments = Moments::new(MomentLayout::default().parts(width));
            let half = tokens / 2;
            moments.add(&part(x.view(), 0..features, 0..half).to_owned());
            moments.add(&part(x.view(), 0..features, half..tokens).to_owned());
            let means = moments.finish();
            let mut curvatures = moments.damped(&means, 0.2).unwrap_or_else(|_| panic!("no factor"));
            let (packed, weights) = curvatures.remove(0).1.into_parts();
            let at = |i: usize, k: usize| f64::from(packed[i * width + k]);
            let expected = |i: usize, k: usize| {
                if i >= features || k >= features {
                    return if i == k { f64::from(means.typical) } else { 0.0 };
                }
                let mean =
                    x.row(i).iter().zip(x.row(k)).map(|(a, b)| f64::from(a * b)).sum::<f64>() / tokens as f64;
                mean + if i == k { 0.2 * f64::from(means.typical) } else { 0.0 }
            };
            // D by the diagonal, from the last column on.
            let mut d = vec![0.0; width];
            for i in (0..width).rev() {
                d[i] = at(i, i) - (i + 1..width).map(|k| at(i, k) * at(i, k) * d[k]).sum::<f64>();
                assert!(d[i] > 0.0);
            }
            for i in (0..width).step_by(7) {
                for k in (i..width).step_by(5) {
                    assert!((at(k, i) - expected(k, i)).abs() < 1e-4, "moments {k} {i}");
                    let unit = |i: usize, k: usize| if i == k { 1.0 } else { at(i, k) };
                    let product: f64 = (k..width).map(|m| unit(i, m) * d[m] * unit(k, m)).sum();
                    assert!(
                        (product - expected(i, k)).abs() < 2e-3,
                        "{width}: {i} {k}: {product} {}",
                        expected(i, k)
                    );
                }
            }
            assert_eq!(weights.iter().filter(|weight| **weight == 0.0).count(), width - features);
        }
    }

    /// Each part has what its own columns alone would have, also where the last ends in padding.
    #[test]
    fn parts_know_nothing_of_one_another() {
        let x = inputs(700, 300);
        let parts = vec![0..288, 288..544, 544..768];
        let mut together = Moments::new(parts.clone());
        together.add(&x);
        let means = together.finish();
        let curvatures = together.damped(&means, 0.25).unwrap_or_else(|_| panic!("no factor"));
        for ((found, curvature), columns) in curvatures.into_iter().zip(parts) {
            assert_eq!(found, columns);
            let mut alone = Moments::new(MomentLayout::default().parts(columns.len()));
            alone.add(&rows_of(&x, columns.start..columns.end.min(700)).to_owned());
            let own = alone.finish();
            assert_eq!(own.squares, means.squares[columns]);
            // The typical square is that of all parts.
            let own = Means { typical: means.typical, ..own };
            let mut expected = alone.damped(&own, 0.25).unwrap_or_else(|_| panic!("no factor"));
            assert!(curvature.into_parts() == expected.remove(0).1.into_parts());
        }
    }
}
