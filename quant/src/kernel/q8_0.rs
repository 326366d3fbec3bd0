//! Q8_0.

use super::blocks::{BLOCK, columns};
use crate::Rows;
use crate::block::{Block, Q8_0};
use crate::lanes::{Kernel, Lanes, MAX_LANES, Vector};
use crate::reference::q8_0;

const BYTES: usize = <Q8_0 as Block>::BYTES;

pub(super) struct Quantize<'a> {
    pub(super) rows: Rows<'a>,
    pub(super) out: &'a mut [u8],
}

impl Kernel for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let zero = lanes.splat(0.0);
        for (group, out) in self.out.chunks_mut(L::N * BYTES).enumerate() {
            let first = group * L::N;
            let mut largest = zero;
            for x in columns(lanes, self.rows.x, first) {
                largest = largest.max(x.abs());
            }
            let scale = largest / lanes.splat(127.0);
            let inverse = L::V::select(scale.eq(zero), zero, lanes.splat(1.0) / scale);
            let (mut halves, mut inverses) = ([0; MAX_LANES], [0.0; MAX_LANES]);
            lanes.store_f16(scale, &mut halves);
            lanes.store(inverse, &mut inverses);
            for (lane, out) in out.as_chunks_mut::<BYTES>().0.iter_mut().enumerate() {
                let x = &self.rows.x.as_chunks::<BLOCK>().0[first + lane];
                if !inverses[lane].is_finite() {
                    q8_0::block(x).write(out);
                    continue;
                }
                let (d, levels) = out.split_at_mut(2);
                d.copy_from_slice(&halves[lane].to_le_bytes());
                for (x, out) in x.chunks_exact(L::N).zip(levels.chunks_exact_mut(L::N)) {
                    let level = half_away(lanes, lanes.load(x) * lanes.splat(inverses[lane]));
                    lanes.store_bytes(level, out);
                }
            }
        }
    }
}

/// To the nearest whole number, a half away from zero: `round::half_away`. With a true half, the
/// number just below one half would be rounded up to 1.
#[inline(always)]
fn half_away<L: Lanes>(lanes: L, x: L::V) -> L::V {
    let half = lanes.splat(0.5f32.next_down());
    L::V::select(x.lt(lanes.splat(0.0)), x - half, x + half).trunc()
}
