//! The scales of a block: a start for each sub-block, then rounds in which scales, mins and units are improved in turn.
//!
//! What is minimised is the weighted square of what the levels leave of the weights, sum w (x - (s f - m))^2, f being the
//! level's number or its value in a table. Levels given, scale and min are a weighted linear regression of x on f;
//! scale and min given, each level is the nearest one. So the start tries eleven scales around the one that fits the
//! sub-block's extremes, takes the levels of each, the regression on them, and of all these the best. As whole numbers of
//! the block's two units (d and dmin) the sub-blocks' scales and mins then take turns with the units: every scale tries
//! its neighbours, with the best min for each, and the units are the regression on what came out. Four rounds.
//!
//! A lane is a row: sixteen rows' blocks are searched at once, each as if it were alone. It is no port of a function of
//! ggml, whose searches (`make_qkx3_quants` and others) know no target but the weights themselves: here `x` is what
//! feedback has made of them.

use super::grid::{Grid, MOST_SUBS, Scales};
use super::wide::{WIDE, Wide, clamp, each, round};
use crate::kernel::iq4::MIDDLES;
use crate::reference::iq4::VALUES;
use crate::round::{from_half, to_half};

/// Rounds of improvement; later ones gain next to nothing.
const ROUNDS: usize = 4;

/// Inverse scales that the start tries on each side of the one that fits the extremes.
const STEPS: i32 = 5;

/// Sub-blocks whose range is below this are zeros.
const NEGLIGIBLE: f32 = 1e-15;

/// The number of the level nearest to x; `inverse`: one over the scale, 0 where that is 0.
#[inline(always)]
pub(super) fn number<const TABLE: bool>(grid: &Grid, x: f32, min: f32, inverse: f32) -> f32 {
    let wanted = (x + min) * inverse;
    if TABLE {
        let mut code = 0.0;
        for middle in MIDDLES {
            code += if wanted > middle { 1.0 } else { 0.0 };
        }
        code
    } else {
        round(clamp(wanted, grid.numbers))
    }
}

/// What a scale is multiplied with for a number.
#[inline(always)]
pub(super) fn factor<const TABLE: bool>(number: f32) -> f32 {
    if !TABLE {
        return number;
    }
    // Without a look-up, which would be one a lane: the steps of the table below the number.
    let mut value = f32::from(VALUES[0]);
    for i in 1..16 {
        value += if number >= i as f32 { f32::from(VALUES[i]) - f32::from(VALUES[i - 1]) } else { 0.0 };
    }
    value
}

#[inline(always)]
pub(super) fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// Weighted sums over a sub-block for the nearest levels.
struct Sums {
    /// Of squared errors.
    error: Wide,
    /// Of f, f * f and f * x, f being what the scale is multiplied with.
    f: Wide,
    ff: Wide,
    fx: Wide,
}

#[inline(always)]
fn sums<const TABLE: bool>(grid: &Grid, x: &[Wide], weights: &[f32], scale: &Wide, min: &Wide) -> Sums {
    let inverse = each!(l => inverse(scale[l]));
    let zero = [0.0; WIDE];
    let mut sums = Sums { error: zero, f: zero, ff: zero, fx: zero };
    for (x, &weight) in x.iter().zip(weights) {
        for l in 0..WIDE {
            let f = factor::<TABLE>(number::<TABLE>(grid, x[l], min[l], inverse[l]));
            let error = x[l] - (scale[l] * f - min[l]);
            let wf = weight * f;
            sums.error[l] += weight * error * error;
            sums.f[l] += wf;
            sums.ff[l] += wf * f;
            sums.fx[l] += wf * x[l];
        }
    }
    sums
}

/// Scale and min of a sub-block on its own, as real numbers.
#[inline(always)]
fn start<const MIN: bool, const TABLE: bool>(grid: &Grid, x: &[Wide], weights: &[f32]) -> (Wide, Wide) {
    let (mut low, mut high) = ([0.0; WIDE], [0.0; WIDE]);
    for x in x {
        for l in 0..WIDE {
            low[l] = if x[l] < low[l] { x[l] } else { low[l] };
            high[l] = if x[l] > high[l] { x[l] } else { high[l] };
        }
    }
    let (mut scale, mut min, mut least) = ([0.0; WIDE], each!(l => -low[l]), [f32::INFINITY; WIDE]);
    let (mut total, mut total_x, mut total_xx) = (0.0, [0.0; WIDE], [0.0; WIDE]);
    for (x, &weight) in x.iter().zip(weights) {
        total += weight;
        for l in 0..WIDE {
            total_x[l] += weight * x[l];
            total_xx[l] += weight * x[l] * x[l];
        }
    }
    // Without mins the larger extreme gets the end of the numbers that lies further out.
    let furthest = if TABLE { f32::from(VALUES[0]) } else { grid.numbers.0 };
    let largest = each!(l => if high[l] > -low[l] { high[l] } else { low[l] });
    for step in -STEPS..=STEPS {
        let step = step as f32 / STEPS as f32;
        let tried = if MIN {
            let (levels, around) = (grid.numbers.1, if grid.numbers.1 < 4.0 { 0.95 } else { 1.1 });
            let levels = levels + around * step;
            each!(l => (high[l] - low[l]) / levels)
        } else {
            let around = if TABLE { 14.0 } else { 0.12 * furthest.abs().min(16.0) };
            each!(l => largest[l] / (furthest + around * step))
        };
        let shift = if MIN { each!(l => -low[l]) } else { [0.0; WIDE] };
        let Sums { f, ff, fx, .. } = sums::<TABLE>(grid, x, weights, &tried, &shift);
        for l in 0..WIDE {
            // Least squares for these levels, and what is left then.
            let (mut best, mut best_min) = (if ff[l] > 0.0 { fx[l] / ff[l] } else { 0.0 }, 0.0);
            if MIN {
                let determinant = total * ff[l] - f[l] * f[l];
                if determinant > 1e-6 * total * ff[l] {
                    let with_min = (ff[l] * total_x[l] - f[l] * fx[l]) / determinant;
                    if with_min <= 0.0 || grid.scales.1 == 1.0 {
                        (best, best_min) = ((total * fx[l] - f[l] * total_x[l]) / determinant, -with_min);
                    }
                }
            }
            let error = total_xx[l] + best * best * ff[l] + best_min * best_min * total - 2.0 * best * fx[l]
                + 2.0 * best_min * total_x[l]
                - 2.0 * best * best_min * f[l];
            let usable = !MIN || best > 0.0;
            if usable && error < least[l] && high[l] - low[l] > NEGLIGIBLE {
                (least[l], scale[l], min[l]) = (error, best, best_min);
            }
        }
    }
    (scale, if MIN { min } else { [0.0; WIDE] })
}

#[inline(always)]
fn half(x: f32) -> f32 {
    let half = from_half(to_half(x));
    if half.is_finite() { half } else { 0.0 }
}

/// The start of all sub-blocks, in whole numbers of a unit.
#[inline(always)]
fn begin<const MIN: bool, const TABLE: bool>(grid: &Grid, x: &[Wide], weights: &[f32]) -> Scales {
    let mut out = Scales::ZERO;
    let (mut scales, mut mins) = ([[0.0; WIDE]; MOST_SUBS], [[0.0; WIDE]; MOST_SUBS]);
    let subs = grid.block / grid.sub;
    for (k, (x, weights)) in x.chunks_exact(grid.sub).zip(weights.chunks_exact(grid.sub)).enumerate() {
        (scales[k], mins[k]) = start::<MIN, TABLE>(grid, x, weights);
    }
    let single = grid.scales.1 == 1.0;
    for l in 0..WIDE {
        let (mut largest, mut largest_min) = (0.0f32, 0.0f32);
        for k in 0..subs {
            largest = if scales[k][l].abs() > largest.abs() { scales[k][l] } else { largest };
            largest_min = if mins[k][l].abs() > largest_min.abs() { mins[k][l] } else { largest_min };
        }
        // With a sign, the end that lies further out takes the largest.
        let end = if grid.scales.0 < 0.0 { grid.scales.0 } else { grid.scales.1 };
        out.d[l] = half(largest / end);
        out.dmin[l] = half(largest_min / grid.mins.map_or(1.0, |mins| mins.1));
        for k in 0..subs {
            out.scales[k][l] =
                if single { 1.0 } else { round(clamp(scales[k][l] * inverse(out.d[l]), grid.scales)) };
            if let Some(range) = grid.mins {
                out.mins[k][l] =
                    if single { 1.0 } else { round(clamp(mins[k][l] * inverse(out.dmin[l]), range)) };
            }
        }
    }
    out
}

/// The best scales found for a block; `weights`: one a column, 0 where an error does not matter.
#[inline(always)]
pub(super) fn search<const MIN: bool, const TABLE: bool>(grid: &Grid, x: &[Wide], weights: &[f32]) -> Scales {
    let mut now = begin::<MIN, TABLE>(grid, x, weights);
    let (mut best, mut least) = (now, [f32::INFINITY; WIDE]);
    let single = grid.scales.1 == 1.0;
    for round_number in 0..ROUNDS {
        let mut error = [0.0; WIDE];
        let zero = [0f64; WIDE];
        let (mut aa, mut ab, mut bb, mut ax, mut bx) = (zero, zero, zero, zero, zero);
        for (k, (x, weights)) in x.chunks_exact(grid.sub).zip(weights.chunks_exact(grid.sub)).enumerate() {
            let (mut total, mut total_x) = (0.0, [0.0; WIDE]);
            for (x, &weight) in x.iter().zip(weights) {
                total += weight;
                for l in 0..WIDE {
                    total_x[l] += weight * x[l];
                }
            }
            let (before, min_before) = (now.scales[k], now.mins[k]);
            let mut found = Sums { error: [f32::INFINITY; WIDE], f: before, ff: before, fx: before };
            // The scale, its neighbours, and at first its mirror image.
            for tried in 0..if single { 1 } else { 4 } {
                let scale = match tried {
                    3 if MIN || round_number > 0 => break,
                    3 => each!(l => clamp(-before[l], grid.scales)),
                    _ => each!(l => clamp(before[l] + [0.0, -1.0, 1.0][tried], grid.scales)),
                };
                let mut min = min_before;
                for _ in 0..if MIN && !single { 2 } else { 1 } {
                    let real = each!(l => now.d[l] * scale[l]);
                    let sums = sums::<TABLE>(grid, x, weights, &real, &each!(l => now.dmin[l] * min[l]));
                    for l in 0..WIDE {
                        if sums.error[l] < found.error[l] {
                            (found.error[l], found.f[l]) = (sums.error[l], sums.f[l]);
                            (found.ff[l], found.fx[l]) = (sums.ff[l], sums.fx[l]);
                            (now.scales[k][l], now.mins[k][l]) = (scale[l], min[l]);
                        }
                    }
                    if let Some(range) = grid.mins {
                        min = each!(l => {
                            let wanted = (real[l] * sums.f[l] - total_x[l]) * inverse(total * now.dmin[l]);
                            if single { 1.0 } else { round(clamp(wanted, range)) }
                        });
                    }
                }
            }
            for l in 0..WIDE {
                let (scale, min) = (f64::from(now.scales[k][l]), f64::from(now.mins[k][l]));
                error[l] += found.error[l];
                aa[l] += scale * scale * f64::from(found.ff[l]);
                ab[l] += scale * min * f64::from(found.f[l]);
                bb[l] += min * min * f64::from(total);
                ax[l] += scale * f64::from(found.fx[l]);
                bx[l] += min * f64::from(total_x[l]);
            }
        }
        let mut better = false;
        for l in 0..WIDE {
            if error[l] < least[l] {
                better = true;
                least[l] = error[l];
                (best.d[l], best.dmin[l]) = (now.d[l], now.dmin[l]);
                for k in 0..MOST_SUBS {
                    (best.scales[k][l], best.mins[k][l]) = (now.scales[k][l], now.mins[k][l]);
                }
            }
            // The units that fit these levels best.
            let determinant = aa[l] * bb[l] - ab[l] * ab[l];
            if MIN && bb[l] > 0.0 && determinant > 1e-9 * aa[l] * bb[l] {
                let d = (ax[l] * bb[l] - bx[l] * ab[l]) / determinant;
                let dmin = (ab[l] * d - bx[l]) / bb[l];
                (now.d[l], now.dmin[l]) = if dmin >= 0.0 || single {
                    (half(d as f32), half(dmin as f32))
                } else {
                    (half((ax[l] / aa[l]) as f32), 0.0)
                };
            } else if aa[l] > 0.0 {
                now.d[l] = half(((ax[l] + f64::from(now.dmin[l]) * ab[l]) / aa[l]) as f32);
            }
        }
        if !better {
            break;
        }
    }
    best
}
