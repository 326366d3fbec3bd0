//! Blocks of 32 weights on their way through a kernel: a group at a time, one a lane.

use crate::Rows;
use crate::lanes::{Lanes, MAX_LANES};

/// Weights in a block.
pub(super) const BLOCK: usize = 32;

/// Room for a group of blocks.
pub(super) type Room = [f32; MAX_LANES * BLOCK];

/// The weights of blocks from `first` on, as columns; zeros behind the last.
#[inline(always)]
pub(super) fn columns<L: Lanes>(lanes: L, x: &[f32], first: usize) -> [L::V; BLOCK] {
    let mut columns = [lanes.splat(0.0); BLOCK];
    let x = &x[first * BLOCK..];
    if x.len() >= L::N * BLOCK {
        lanes.columns(x, BLOCK, &mut columns);
    } else {
        let mut room: Room = [0.0; MAX_LANES * BLOCK];
        room[..x.len()].copy_from_slice(x);
        lanes.columns(&room, BLOCK, &mut columns);
    }
    columns
}

/// The importance weights of the same blocks.
#[inline(always)]
pub(super) fn importance_columns<L: Lanes>(lanes: L, rows: &Rows, first: usize) -> [L::V; BLOCK] {
    let mut room: Room = [0.0; MAX_LANES * BLOCK];
    for (lane, out) in room.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate().take(L::N) {
        if let Some(importance) = rows.importance_of(first + lane, BLOCK) {
            out.copy_from_slice(importance);
        }
    }
    let mut columns = [lanes.splat(0.0); BLOCK];
    lanes.columns(&room, BLOCK, &mut columns);
    columns
}
