//! A panel of columns of sixteen rows: rounding with feedback, and descent from levels that are there already.

use super::grid::{Grid, Scales};
use super::search::{factor, inverse, number, search};
use super::wide::{WIDE, Wide, clamp, each};
use crate::backend::Compiled;
use crate::round::{from_half, to_half};

/// What the panel's columns are to one another, `[columns, columns]`, and what they weigh.
pub(super) struct Columns<'a> {
    /// Row i, column k > i: how much of the error in i goes into k; for descent the second moments themselves.
    pub matrix: &'a [f32],
    /// Of each column, in the search; 0 for a dead one.
    pub weights: &'a [f32],
}

/// The state of a panel, a row a column of the weights.
pub(super) struct State<'a> {
    /// Numbers counted from the lowest.
    pub codes: &'a mut [[u8; WIDE]],
    /// One for each block of the panel.
    pub scales: &'a mut [Scales],
}

/// The real values that a column's numbers are made with.
struct Column {
    scale: Wide,
    min: Wide,
    inverse: Wide,
}

impl Column {
    #[inline(always)]
    fn of(grid: &Grid, scales: &Scales, column_of_block: usize) -> Column {
        let k = column_of_block / grid.sub;
        let scale = each!(l => scales.d[l] * scales.scales[k][l]);
        Column {
            min: each!(l => scales.dmin[l] * scales.mins[k][l]),
            inverse: each!(l => inverse(scale[l])),
            scale,
        }
    }

    #[inline(always)]
    fn value<const TABLE: bool>(&self, number: f32, lane: usize) -> f32 {
        self.scale[lane] * factor::<TABLE>(number) - self.min[lane]
    }
}

/// Rounds a panel: every column takes up what the errors of those before it leave for it.
pub(super) struct Round<'a> {
    pub grid: &'a Grid,
    pub columns: Columns<'a>,
    /// The weights, and what they have become by the errors of earlier panels.
    pub wanted: &'a [Wide],
    pub x: &'a mut [Wide],
    pub state: State<'a>,
    /// Weight less what became of it, to be filled.
    pub errors: &'a mut [Wide],
}

impl Compiled for Round<'_> {
    #[inline(always)]
    fn run(self) {
        match (self.grid.mins.is_some(), self.grid.table) {
            (true, _) => self.round::<true, false>(),
            (false, true) => self.round::<false, true>(),
            (false, false) => self.round::<false, false>(),
        }
    }
}

impl Round<'_> {
    #[inline(always)]
    fn round<const MIN: bool, const TABLE: bool>(self) {
        let Round { grid, columns, wanted, x, state, errors } = self;
        let count = x.len();
        for j in 0..count {
            let block = j / grid.block;
            if j.is_multiple_of(grid.block) {
                let end = j + grid.block;
                state.scales[block] = search::<MIN, TABLE>(grid, &x[j..end], &columns.weights[j..end]);
            }
            let column = Column::of(grid, &state.scales[block], j % grid.block);
            let mut error = [0.0; WIDE];
            for l in 0..WIDE {
                let number = number::<TABLE>(grid, x[j][l], column.min[l], column.inverse[l]);
                state.codes[j][l] = (number - grid.numbers.0) as u8; // 0 to 254
                error[l] = wanted[j][l] - column.value::<TABLE>(number, l);
            }
            errors[j] = error;
            let weights = &columns.matrix[j * count..][..count];
            for (x, &weight) in x[j + 1..].iter_mut().zip(&weights[j + 1..]) {
                for l in 0..WIDE {
                    x[l] += error[l] * weight;
                }
            }
        }
    }
}

/// One sweep over a panel: units are refitted, then each level moves to where the whole error is least.
pub(super) struct Descend<'a> {
    pub grid: &'a Grid,
    /// With the second moments.
    pub columns: Columns<'a>,
    /// Errors of all columns times the second moments, at the panel's columns.
    pub gradient: &'a mut [Wide],
    pub state: State<'a>,
    /// What every value went down by, to be filled.
    pub moved: &'a mut [Wide],
}

impl Compiled for Descend<'_> {
    #[inline(always)]
    fn run(self) {
        match (self.grid.mins.is_some(), self.grid.table) {
            (true, _) => self.descend::<true, false>(),
            (false, true) => self.descend::<false, true>(),
            (false, false) => self.descend::<false, false>(),
        }
    }
}

impl Descend<'_> {
    #[inline(always)]
    fn descend<const MIN: bool, const TABLE: bool>(self) {
        let Descend { grid, columns: Columns { matrix, weights }, gradient, state, moved } = self;
        let count = gradient.len();
        for (j, moved) in moved.iter_mut().enumerate() {
            let column = Column::of(grid, &state.scales[j / grid.block], j % grid.block);
            *moved = each!(l => column.value::<TABLE>(f32::from(state.codes[j][l]) + grid.numbers.0, l));
        }
        for (block, scales) in state.scales.iter_mut().enumerate() {
            let codes = &state.codes[block * grid.block..][..grid.block];
            refit::<MIN, TABLE>(grid, block * grid.block, matrix, codes, gradient, scales);
        }
        for j in 0..count {
            let column = Column::of(grid, &state.scales[j / grid.block], j % grid.block);
            let row = &matrix[j * count..][..count];
            let inverse_moment = inverse(row[j]);
            let (mut step, mut any) = ([0.0; WIDE], false);
            for l in 0..WIDE {
                let old = f32::from(state.codes[j][l]) + grid.numbers.0;
                let value = column.value::<TABLE>(old, l);
                let wanted = value + gradient[j][l] * inverse_moment;
                let new = number::<TABLE>(grid, wanted, column.min[l], column.inverse[l]);
                let new = if weights[j] > 0.0 { new } else { old };
                let new_value = column.value::<TABLE>(new, l);
                state.codes[j][l] = (new - grid.numbers.0) as u8;
                step[l] = value - new_value;
                any |= new != old;
                moved[j][l] -= new_value;
            }
            if any {
                for (gradient, &moment) in gradient.iter_mut().zip(row) {
                    for l in 0..WIDE {
                        gradient[l] += step[l] * moment;
                    }
                }
            }
        }
    }
}

/// Sets the units of a block, levels kept, to where the whole error is least, if halves can get there.
#[inline(always)]
fn refit<const MIN: bool, const TABLE: bool>(
    grid: &Grid,
    first: usize,
    matrix: &[f32],
    codes: &[[u8; WIDE]],
    gradient: &mut [Wide],
    scales: &mut Scales,
) {
    const MOST: usize = 256;
    let count = gradient.len();
    // x = d * a + dmin * b
    let (mut a, mut b) = ([[0.0; WIDE]; MOST], [[0.0; WIDE]; MOST]);
    for (i, codes) in codes.iter().enumerate() {
        let k = i / grid.sub;
        a[i] = each!(l => scales.scales[k][l] * factor::<TABLE>(f32::from(codes[l]) + grid.numbers.0));
        b[i] = each!(l => -scales.mins[k][l]);
    }
    let (mut ma, mut mb) = ([[0.0; WIDE]; MOST], [[0.0; WIDE]; MOST]);
    for row in 0..count {
        let moments = &matrix[row * count + first..][..codes.len()];
        let (mut sum_a, mut sum_b) = ([0.0; WIDE], [0.0; WIDE]);
        for ((a, b), &moment) in a.iter().zip(&b).zip(moments) {
            for l in 0..WIDE {
                sum_a[l] += moment * a[l];
                if MIN {
                    sum_b[l] += moment * b[l];
                }
            }
        }
        (ma[row], mb[row]) = (sum_a, sum_b);
    }
    let zero = [0.0; WIDE];
    let (mut aa, mut ab, mut bb, mut ga, mut gb) = (zero, zero, zero, zero, zero);
    for i in 0..codes.len() {
        for l in 0..WIDE {
            aa[l] += a[i][l] * ma[first + i][l];
            ab[l] += a[i][l] * mb[first + i][l];
            bb[l] += b[i][l] * mb[first + i][l];
            ga[l] += a[i][l] * gradient[first + i][l];
            gb[l] += b[i][l] * gradient[first + i][l];
        }
    }
    let (mut up, mut up_min) = (zero, zero);
    for l in 0..WIDE {
        let determinant = aa[l] * bb[l] - ab[l] * ab[l];
        let both = MIN && bb[l] > 0.0 && determinant > 1e-4 * aa[l] * bb[l];
        let (by, by_min) = match both {
            true => {
                ((ga[l] * bb[l] - gb[l] * ab[l]) / determinant, (gb[l] * aa[l] - ga[l] * ab[l]) / determinant)
            }
            false => (if aa[l] > 0.0 { ga[l] / aa[l] } else { 0.0 }, 0.0),
        };
        let near = |old: f32, by: f32| from_half(to_half(clamp(old + by, (-65504.0, 65504.0))));
        let (d, dmin) = (near(scales.d[l], by), near(scales.dmin[l], by_min));
        let (by, by_min) = (d - scales.d[l], dmin - scales.dmin[l]);
        let gain = 2.0 * (by * ga[l] + by_min * gb[l])
            - (by * by * aa[l] + 2.0 * by * by_min * ab[l] + by_min * by_min * bb[l]);
        // A unit keeps its sign, as every reader has seen it.
        let same_sign = d * scales.d[l] > 0.0 && (scales.dmin[l] * dmin > 0.0 || by_min == 0.0);
        if gain > 0.0 && same_sign {
            (up[l], up_min[l]) = (by, by_min);
            (scales.d[l], scales.dmin[l]) = (d, dmin);
        }
    }
    for (gradient, (ma, mb)) in gradient.iter_mut().zip(ma.iter().zip(&mb)) {
        for l in 0..WIDE {
            gradient[l] -= up[l] * ma[l] + up_min[l] * mb[l];
        }
    }
}
