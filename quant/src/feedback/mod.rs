//! Rounding with feedback: levels are chosen for what a matrix makes of its inputs, not for the weights one by one.
//!
//! A row's error e has the cost e H e', H being the second moments of the inputs. With H = U D U', U unit upper
//! triangular, the cost is the sum over the columns k of D_k times the square of e_k + sum_{i<k} e_i U_ik. So going from
//! left to right, each column is rounded for w_k + sum_{i<k} e_i U_ik, and no inverse is needed (LDLQ). The scales of a
//! block are searched for what its weights have become by then. Sweeps of coordinate descent follow: each level moves to
//! where the whole cost is least, the others kept.
//!
//! Sixteen rows go side by side ([`wide`]); between panels of columns there are products of matrices. Nothing here has
//! threads: rows are independent, so callers divide them as they like, and no bit changes.

#![allow(clippy::needless_range_loop)] // lane by lane, over several arrays at once

mod grid;
mod panel;
mod search;
mod wide;

use std::ops::Range;

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, Axis, Slice};

use crate::{Backend, Error, Format, check_length};
use grid::{Grid, Scales};
use panel::{Columns, Descend, Round, State};
use wide::{WIDE, Wide};

/// Columns between two products of matrices: the widest block.
const PANEL: usize = 256;

/// The second moments of a matrix's inputs, and their triangular factor.
#[derive(Clone, Debug)]
pub struct Curvature {
    columns: usize,
    /// Row-major. On and below the diagonal the moments H, above it the unit factor U, H = U D U'.
    packed: Vec<f32>,
    /// What an error in a column weighs while scales are searched.
    weights: Vec<f32>,
}

impl Curvature {
    /// `packed`: `[columns, columns]`, the moments on and below the diagonal, all diagonal ones above 0, and their
    /// unit factor above it; `weights`: one a column, 0 for those that no input ever reaches.
    ///
    /// # Errors
    /// When a length does not fit.
    pub fn new(packed: Vec<f32>, weights: Vec<f32>) -> Result<Curvature, Error> {
        let columns = weights.len();
        check_length("packed", columns * columns, packed.len())?;
        Ok(Curvature { columns, packed, weights })
    }

    /// Takes the parts back, to be used again.
    pub fn into_parts(self) -> (Vec<f32>, Vec<f32>) {
        (self.packed, self.weights)
    }

    fn view(&self) -> ArrayView2<'_, f32> {
        ArrayView2::from_shape((self.columns, self.columns), &self.packed).expect("checked when it was made")
    }

    /// The factor of a panel's columns, zeros on and below the diagonal.
    fn factor(&self, first: usize, count: usize) -> Vec<f32> {
        let at = |i: usize, k: usize| {
            if k > i { self.packed[(first + i) * self.columns + first + k] } else { 0.0 }
        };
        (0..count * count).map(|place| at(place / count, place % count)).collect()
    }

    /// The moments of a panel's columns, both triangles.
    fn moments(&self, first: usize, count: usize) -> Vec<f32> {
        let at = |i: usize, k: usize| self.packed[(first + i.max(k)) * self.columns + first + i.min(k)];
        (0..count * count).map(|place| at(place / count, place % count)).collect()
    }
}

/// Quantizes rows with feedback, then with `sweeps` of descent.
///
/// * `rows`: the weights, `[rows, columns]`, row-major, finite.
/// * `out`: `rows * format.row_bytes(columns)` bytes.
///
/// ```
/// use quant::{Backend, Curvature, Format, dequantize, quantize, quantize_with_feedback};
///
/// // Inputs that nearly go together, H = 1, and 1.5 on the diagonal: what counts most is the sum of a row's errors e,
/// // for e H e' = (sum e)^2 + 0.5 sum e^2.
/// // Worked out by hand, H = U D U' has U_ik = 1 / (columns - k + 0.5) for i < k.
/// let (columns, weights) = (256, vec![1.0; 256]);
/// let mut packed = vec![1.0; columns * columns];
/// for i in 0..columns {
///     packed[i * columns + i] = 1.5;
///     for k in i + 1..columns {
///         packed[i * columns + k] = 1.0 / ((columns - k) as f32 + 0.5);
///     }
/// }
/// let row: Vec<f32> = (0..columns).map(|i| (i as f32 / 7.0).sin() + 0.3).collect();
///
/// let mut blocks = vec![0; Format::Q4_K.row_bytes(columns).unwrap()];
/// let cost = |blocks: &[u8]| {
///     let mut back = vec![0.0; columns];
///     dequantize(Format::Q4_K, blocks, &mut back).unwrap();
///     let errors = || back.iter().zip(&row).map(|(back, x)| back - x);
///     errors().sum::<f32>().powi(2) + 0.5 * errors().map(|e| e * e).sum::<f32>()
/// };
/// quantize(Backend::detect(), Format::Q4_K, columns, &row, None, &mut blocks)?;
/// let rounded = cost(&blocks);
/// let curvature = Curvature::new(packed, weights)?;
/// quantize_with_feedback(Backend::detect(), Format::Q4_K, &curvature, &row, 2, &mut blocks)?;
/// assert!(cost(&blocks) < rounded);
/// # Ok::<(), quant::Error>(())
/// ```
///
/// # Errors
/// When a length does not fit, or the format has no blocks.
pub fn quantize_with_feedback(
    backend: Backend,
    format: Format,
    curvature: &Curvature,
    rows: &[f32],
    sweeps: usize,
    out: &mut [u8],
) -> Result<(), Error> {
    let columns = curvature.columns;
    let misfit = Error::Columns { format, columns };
    let (Some(grid), Some(row_bytes)) = (Grid::of(format), format.row_bytes(columns)) else {
        return Err(misfit);
    };
    if columns == 0 {
        return Err(misfit);
    }
    let count = rows.len() / columns;
    check_length("rows", count * columns, rows.len())?;
    check_length("out", count * row_bytes, out.len())?;
    let mut work = Work::new(backend, grid, curvature, rows, count);
    work.round();
    if sweeps > 0 {
        work.descend(sweeps);
    }
    work.write(format, count, row_bytes, out);
    Ok(())
}

/// Some rows at work, transposed: a row here is a column of the weights, [`WIDE`] rows a group.
struct Work<'a> {
    backend: Backend,
    grid: Grid,
    curvature: &'a Curvature,
    groups: usize,
    /// The weights; after rounding, the gradient.
    x: Vec<Wide>,
    /// Weight less what became of it.
    errors: Vec<Wide>,
    codes: Vec<[u8; WIDE]>,
    /// Of each group, block after block.
    scales: Vec<Scales>,
}

impl<'a> Work<'a> {
    fn new(backend: Backend, grid: Grid, curvature: &'a Curvature, rows: &[f32], count: usize) -> Work<'a> {
        let (columns, groups) = (curvature.columns, count.div_ceil(WIDE));
        let mut x = vec![[0.0; WIDE]; columns * groups];
        for (row, values) in rows.chunks_exact(columns).enumerate() {
            for (column, &value) in values.iter().enumerate() {
                x[column * groups + row / WIDE][row % WIDE] = value;
            }
        }
        let blocks = columns / grid.block;
        Work {
            backend,
            grid,
            curvature,
            groups,
            errors: vec![[0.0; WIDE]; x.len()],
            codes: vec![[0; WIDE]; x.len()],
            scales: vec![Scales::ZERO; groups * blocks],
            x,
        }
    }

    /// The panels' first columns and widths.
    fn panels(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let columns = self.curvature.columns;
        (0..columns).step_by(PANEL).map(move |first| (first, PANEL.min(columns - first)))
    }

    /// Where a group's scales of a panel stand among all.
    fn scales_at(&self, group: usize, first: usize, count: usize) -> Range<usize> {
        let start = group * (self.curvature.columns / self.grid.block) + first / self.grid.block;
        start..start + count / self.grid.block
    }

    fn round(&mut self) {
        let wanted = self.x.clone();
        for (first, count) in self.panels() {
            let matrix = self.curvature.factor(first, count);
            let weights = &self.curvature.weights[first..first + count];
            for group in 0..self.groups {
                let place = self.scales_at(group, first, count);
                let mut x = take(&self.x, first, count, group, self.groups);
                let own = take(&wanted, first, count, group, self.groups);
                let (mut codes, mut errors) = (vec![[0; WIDE]; count], vec![[0.0; WIDE]; count]);
                self.backend.compiled(Round {
                    grid: &self.grid,
                    columns: Columns { matrix: &matrix, weights },
                    wanted: &own,
                    x: &mut x,
                    state: State { codes: &mut codes, scales: &mut self.scales[place] },
                    errors: &mut errors,
                });
                put(&mut self.codes, &codes, first, group, self.groups);
                put(&mut self.errors, &errors, first, group, self.groups);
            }
            // What the errors leave for the columns behind.
            let behind = first + count..self.curvature.columns;
            let factor = self.curvature.view();
            let factor = part(factor, first..first + count, behind.clone());
            let errors = view(&self.errors, first..first + count, self.groups);
            general_mat_mul(1.0, &factor.t(), &errors, 1.0, &mut view_mut(&mut self.x, behind, self.groups));
        }
    }

    fn descend(&mut self, sweeps: usize) {
        self.x.fill([0.0; WIDE]);
        for (first, count) in self.panels() {
            let moved = self.errors[first * self.groups..(first + count) * self.groups].to_vec();
            self.spread(first, count, &moved, true, true);
        }
        for sweep in 1..=sweeps {
            for (first, count) in self.panels() {
                let matrix = self.curvature.moments(first, count);
                let weights = &self.curvature.weights[first..first + count];
                let mut all = vec![[0.0; WIDE]; count * self.groups];
                for group in 0..self.groups {
                    let place = self.scales_at(group, first, count);
                    let mut gradient = take(&self.x, first, count, group, self.groups);
                    let mut codes = take(&self.codes, first, count, group, self.groups);
                    let mut moved = vec![[0.0; WIDE]; count];
                    self.backend.compiled(Descend {
                        grid: &self.grid,
                        columns: Columns { matrix: &matrix, weights },
                        gradient: &mut gradient,
                        state: State { codes: &mut codes, scales: &mut self.scales[place] },
                        moved: &mut moved,
                    });
                    put(&mut self.codes, &codes, first, group, self.groups);
                    put(&mut self.x, &gradient, first, group, self.groups);
                    put(&mut all, &moved, 0, group, self.groups);
                }
                self.spread(first, count, &all, false, sweep < sweeps);
            }
        }
    }

    /// Adds the moments of a panel's columns times what happened there to the gradient: of the columns behind always,
    /// of its own and of those before where they are asked for.
    fn spread(&mut self, first: usize, count: usize, moved: &[Wide], own: bool, before: bool) {
        let (columns, groups) = (self.curvature.columns, self.groups);
        let moments = self.curvature.view();
        let moved = view(moved, 0..count, groups);
        let behind = first + count..columns;
        let lower = part(moments, behind.clone(), first..first + count);
        general_mat_mul(1.0, &lower, &moved, 1.0, &mut view_mut(&mut self.x, behind, groups));
        if before {
            let left = part(moments, first..first + count, 0..first);
            general_mat_mul(1.0, &left.t(), &moved, 1.0, &mut view_mut(&mut self.x, 0..first, groups));
        }
        if own {
            let matrix = self.curvature.moments(first, count);
            let matrix = ArrayView2::from_shape((count, count), &matrix).expect("count * count values");
            general_mat_mul(
                1.0,
                &matrix,
                &moved,
                1.0,
                &mut view_mut(&mut self.x, first..first + count, groups),
            );
        }
    }

    fn write(&self, format: Format, count: usize, row_bytes: usize, out: &mut [u8]) {
        let (block, bytes) = (self.grid.block, format.block_bytes());
        let blocks = self.curvature.columns / block;
        let mut codes = vec![0; block];
        for (row, out) in out.chunks_exact_mut(row_bytes).take(count).enumerate() {
            let (group, lane) = (row / WIDE, row % WIDE);
            for (number, out) in out.chunks_exact_mut(bytes).enumerate() {
                for (i, code) in codes.iter_mut().enumerate() {
                    *code = self.codes[(number * block + i) * self.groups + group][lane];
                }
                grid::write(format, &self.scales[group * blocks + number], lane, &codes, out);
            }
        }
    }
}

/// Some rows and columns of a view.
fn part(view: ArrayView2<f32>, rows: Range<usize>, columns: Range<usize>) -> ArrayView2<f32> {
    view.slice_axis_move(Axis(0), Slice::from(rows)).slice_axis_move(Axis(1), Slice::from(columns))
}

/// A group's part of some columns.
fn take<T: Copy>(all: &[T], first: usize, count: usize, group: usize, groups: usize) -> Vec<T> {
    (first..first + count).map(|column| all[column * groups + group]).collect()
}

fn put<T: Copy>(all: &mut [T], part: &[T], first: usize, group: usize, groups: usize) {
    for (column, value) in (first..).zip(part) {
        all[column * groups + group] = *value;
    }
}

fn view(all: &[Wide], columns: Range<usize>, groups: usize) -> ArrayView2<'_, f32> {
    let values = all[columns.start * groups..columns.end * groups].as_flattened();
    ArrayView2::from_shape((columns.len(), groups * WIDE), values).expect("so many values")
}

fn view_mut(all: &mut [Wide], columns: Range<usize>, groups: usize) -> ArrayViewMut2<'_, f32> {
    let values = all[columns.start * groups..columns.end * groups].as_flattened_mut();
    ArrayViewMut2::from_shape((columns.len(), groups * WIDE), values).expect("so many values")
}

#[cfg(test)]
mod tests;
