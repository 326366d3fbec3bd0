//! Super-blocks on their way through a kernel: a batch at a time, rows run together.

use crate::Rows;
use crate::lanes::{Lanes, MAX_LANES, Mask, Vector};

/// Weights in a super-block.
pub(super) const SUPER: usize = 256;

/// Super-blocks in a batch: one a lane of the widest group.
pub(super) const BATCH: usize = MAX_LANES;

/// The most sub-blocks in a batch.
pub(super) const SUB_BLOCKS: usize = BATCH * 16;

/// Room for up to [`BATCH`] super-blocks and their importance weights.
pub(super) struct Buffer {
    x: Box<[f32]>,
    importance: Box<[f32]>,
}

impl Buffer {
    pub(super) fn new(rows: &Rows) -> Buffer {
        let zeros = |len| vec![0.0; len].into_boxed_slice();
        let len = BATCH * SUPER;
        Buffer { x: zeros(len), importance: zeros(if rows.importance.is_some() { len } else { 0 }) }
    }

    /// `count` super-blocks from `first` on, with zeros behind them if they are fewer than [`BATCH`].
    pub(super) fn weights<'a>(&'a mut self, rows: &Rows<'a>, first: usize, count: usize) -> Batch<'a> {
        for (i, out) in self.importance.chunks_exact_mut(SUPER).enumerate().take(count) {
            if let Some(importance) = rows.importance_of(first + i, SUPER) {
                out.copy_from_slice(importance);
            }
        }
        let mut x = &rows.x[first * SUPER..(first + count) * SUPER];
        if count < BATCH {
            self.x[..x.len()].copy_from_slice(x);
            self.x[x.len()..].fill(0.0);
            x = &self.x;
        }
        Batch { x, importance: rows.importance.map(|_| &*self.importance), count }
    }
}

/// [`BATCH`] super-blocks, of which `count` are real.
#[derive(Clone, Copy)]
pub(super) struct Batch<'a> {
    pub(super) x: &'a [f32],
    pub(super) importance: Option<&'a [f32]>,
    pub(super) count: usize,
}

impl<'a> Batch<'a> {
    pub(super) fn super_block(&self, i: usize) -> (&'a [f32; SUPER], Option<&'a [f32; SUPER]>) {
        (&self.x.as_chunks().0[i], self.importance.map(|importance| &importance.as_chunks().0[i]))
    }

    /// The first lanes of the groups of `lanes` sub-blocks that hold the real ones.
    pub(super) fn groups(&self, lanes: usize, sub_blocks: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.count * sub_blocks).step_by(lanes)
    }
}

/// The sums of squares of the super-blocks as a vector over the sub-blocks from `first` on.
#[inline(always)]
pub(super) fn spread<L: Lanes>(lanes: L, squares: &[f32; BATCH], first: usize, sub_blocks: usize) -> L::V {
    let mut spread = [0.0; MAX_LANES];
    for (lane, out) in spread.iter_mut().enumerate().take(L::N) {
        *out = squares[(first + lane) / sub_blocks];
    }
    lanes.load(&spread)
}

/// Transposes a table of numbers of the sub-blocks: column `i` holds those of every `i`-th sub-block,
/// a super-block a lane.
#[inline(always)]
pub(super) fn by_super_block<L: Lanes, const COUNT: usize>(lanes: L, table: &[f32]) -> [L::V; COUNT] {
    let mut columns = [lanes.splat(0.0); COUNT];
    for (j, out) in columns.iter_mut().enumerate() {
        let mut column = [0.0; MAX_LANES];
        for (lane, out) in column.iter_mut().enumerate().take(L::N) {
            *out = table[lane * COUNT + j];
        }
        *out = lanes.load(&column);
    }
    columns
}

/// The inverse of [`by_super_block`], for levels.
#[inline(always)]
pub(super) fn by_sub_block<L: Lanes, const COUNT: usize>(
    lanes: L,
    columns: &[L::V; COUNT],
    table: &mut [u8],
) {
    for (j, &column) in columns.iter().enumerate() {
        let mut bytes = [0; MAX_LANES];
        lanes.store_bytes(column, &mut bytes);
        for (lane, &byte) in bytes.iter().enumerate().take(L::N) {
            table[lane * COUNT + j] = byte;
        }
    }
}

/// A truth value for every sub-block of a batch.
pub(super) struct Flags([u64; SUB_BLOCKS / 64]);

impl Flags {
    pub(super) const NONE: Flags = Flags([0; SUB_BLOCKS / 64]);

    fn insert(&mut self, i: usize) {
        self.0[i / 64] |= 1 << (i % 64);
    }

    /// Sets those of a group whose first sub-block is `first`; `lanes` divides 64.
    #[inline(always)]
    pub(super) fn set(&mut self, first: usize, mask: impl Mask) {
        self.0[first / 64] |= mask.bits() << (first % 64);
    }

    /// Sets one for each super-block of a group whose first sub-block is `first`.
    #[inline(always)]
    pub(super) fn set_super_blocks<const COUNT: usize>(
        &mut self,
        first: usize,
        lanes: usize,
        mask: impl Mask,
    ) {
        let bits = mask.bits();
        if bits != 0 {
            for lane in (0..lanes).filter(|lane| bits >> lane & 1 == 1) {
                self.insert(first + lane * COUNT);
            }
        }
    }

    /// Those of super-block `i`: sub-block `j` is bit `j`.
    #[inline(always)]
    pub(super) fn of_super_block<const COUNT: usize>(&self, i: usize) -> u64 {
        let first = i * COUNT;
        self.0[first / 64] >> (first % 64) & ((1 << COUNT) - 1)
    }
}

/// The sum of the squares of every super-block, in the order of the weights.
#[inline(always)]
pub(super) fn sums_of_squares<L: Lanes>(lanes: L, batch: &Batch) -> [f32; BATCH] {
    let mut sums = [0.0; BATCH];
    for first in batch.groups(L::N, 1) {
        let mut sum = lanes.splat(0.0);
        let mut columns = [sum; 16];
        for start in (0..SUPER).step_by(16) {
            lanes.columns(&batch.x[first * SUPER + start..], SUPER, &mut columns);
            for column in columns {
                sum = sum + column * column;
            }
        }
        lanes.store(sum, &mut sums[first..]);
    }
    sums
}

/// The importance weights times what makes large weights count more: `search_weights` of the reference.
#[inline(always)]
pub(super) fn search_weights<L: Lanes, const N: usize>(
    x: &[L::V; N],
    importance: &[L::V; N],
    variance: L::V,
) -> [L::V; N] {
    let mut weights = *x;
    for i in 0..N {
        weights[i] = importance[i] * (variance + x[i] * x[i]).sqrt();
    }
    weights
}
