//! The vector operations that the kernels are written in.
//!
//! A lane holds one independent sub-block and runs the scalar program on it: there is no horizontal
//! operation here, so no sum can change its order. Nothing fuses a multiplication with an addition.
//! A value of these types exists only where its instructions do, which is why every operation is safe.

use std::ops::{Add, BitAnd, BitOr, Div, Mul, Not, Sub};

/// One float a lane.
pub(crate) trait Vector:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    type Mask: Mask;

    /// `self < other ? self : other`, as in C: the other for a NaN and for equal zeros.
    fn min(self, other: Self) -> Self;
    /// `self > other ? self : other`.
    fn max(self, other: Self) -> Self;
    fn abs(self) -> Self;
    fn sqrt(self) -> Self;
    /// Rounds towards zero.
    fn trunc(self) -> Self;
    /// False for a NaN, as are all comparisons here.
    fn lt(self, other: Self) -> Self::Mask;
    fn eq(self, other: Self) -> Self::Mask;
    /// `yes` in the lanes of the mask, `no` in the others.
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self;

    #[inline(always)]
    fn gt(self, other: Self) -> Self::Mask {
        other.lt(self)
    }
}

/// One truth value a lane.
pub(crate) trait Mask:
    Copy + BitAnd<Output = Self> + BitOr<Output = Self> + Not<Output = Self>
{
    const LANES: u32;

    /// Lane `i` is bit `i`.
    fn bits(self) -> u64;

    #[inline(always)]
    fn any(self) -> bool {
        self.bits() != 0
    }
}

/// A token that proves that the CPU has the instructions, and makes vectors.
pub(crate) trait Lanes: Copy {
    type V: Vector;
    /// Lanes in a vector.
    const N: usize;

    /// Several vectors as one: what a search should use, so that one's latency hides behind the others.
    type Group: Lanes;
    fn group(self) -> Self::Group;

    fn splat(self, value: f32) -> Self::V;
    /// The first `N` values.
    fn load(self, values: &[f32]) -> Self::V;
    fn store(self, v: Self::V, values: &mut [f32]);
    /// Transposes: lane `k` of `out[i]` is `rows[k * stride + i]`. The columns must be a multiple of
    /// the lanes of the narrowest vector.
    fn columns(self, rows: &[f32], stride: usize, out: &mut [Self::V]);
    /// Whole numbers from -128 to 255 as bytes.
    fn store_bytes(self, v: Self::V, bytes: &mut [u8]);
    /// Half floats, rounded to nearest, as their bits.
    fn store_f16(self, v: Self::V, halves: &mut [u16]);

    /// Runs a kernel compiled for these instructions.
    fn run<K: Kernel>(self, kernel: K) -> K::Output;
}

/// A piece of work generic over the instructions. `run` and all it calls must be `#[inline(always)]`:
/// only what ends up inside the function of [`Lanes::run`] is compiled for the instructions.
pub(crate) trait Kernel {
    type Output;
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// The most lanes that any group has.
pub(crate) const MAX_LANES: usize = 32;

/// Two of something side by side: twice the lanes, two independent chains of operations.
#[derive(Clone, Copy)]
pub(crate) struct Pair<T>(pub T, pub T);

macro_rules! pair_operator {
    ($($trait:ident $op:ident $bound:ident),*) => {$(
        impl<T: $bound> $trait for Pair<T> {
            type Output = Self;
            #[inline(always)]
            fn $op(self, other: Self) -> Self {
                Pair(self.0.$op(other.0), self.1.$op(other.1))
            }
        }
    )*};
}
pair_operator!(Add add Vector, Sub sub Vector, Mul mul Vector, Div div Vector, BitAnd bitand Mask, BitOr bitor Mask);

impl<M: Mask> Not for Pair<M> {
    type Output = Self;
    #[inline(always)]
    fn not(self) -> Self {
        Pair(!self.0, !self.1)
    }
}

impl<M: Mask> Mask for Pair<M> {
    const LANES: u32 = 2 * M::LANES;

    #[inline(always)]
    fn bits(self) -> u64 {
        self.0.bits() | self.1.bits() << M::LANES
    }
}

impl<V: Vector> Vector for Pair<V> {
    type Mask = Pair<V::Mask>;

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Pair(self.0.min(other.0), self.1.min(other.1))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Pair(self.0.max(other.0), self.1.max(other.1))
    }
    #[inline(always)]
    fn abs(self) -> Self {
        Pair(self.0.abs(), self.1.abs())
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Pair(self.0.sqrt(), self.1.sqrt())
    }
    #[inline(always)]
    fn trunc(self) -> Self {
        Pair(self.0.trunc(), self.1.trunc())
    }
    #[inline(always)]
    fn lt(self, other: Self) -> Self::Mask {
        Pair(self.0.lt(other.0), self.1.lt(other.1))
    }
    #[inline(always)]
    fn eq(self, other: Self) -> Self::Mask {
        Pair(self.0.eq(other.0), self.1.eq(other.1))
    }
    #[inline(always)]
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self {
        Pair(V::select(mask.0, yes.0, no.0), V::select(mask.1, yes.1, no.1))
    }
}

/// The most columns that [`Lanes::columns`] is asked for at once.
const MAX_COLUMNS: usize = 32;

impl<L: Lanes> Lanes for Pair<L> {
    type V = Pair<L::V>;
    const N: usize = 2 * L::N;
    type Group = Self;

    #[inline(always)]
    fn group(self) -> Self {
        self
    }
    #[inline(always)]
    fn splat(self, value: f32) -> Self::V {
        Pair(self.0.splat(value), self.1.splat(value))
    }
    #[inline(always)]
    fn load(self, values: &[f32]) -> Self::V {
        Pair(self.0.load(values), self.1.load(&values[L::N..]))
    }
    #[inline(always)]
    fn store(self, v: Self::V, values: &mut [f32]) {
        self.0.store(v.0, values);
        self.1.store(v.1, &mut values[L::N..]);
    }
    #[inline(always)]
    fn columns(self, rows: &[f32], stride: usize, out: &mut [Self::V]) {
        let zero = self.0.splat(0.0);
        let (mut low, mut high) = ([zero; MAX_COLUMNS], [zero; MAX_COLUMNS]);
        self.0.columns(rows, stride, &mut low[..out.len()]);
        self.1.columns(&rows[L::N * stride..], stride, &mut high[..out.len()]);
        for (i, out) in out.iter_mut().enumerate() {
            *out = Pair(low[i], high[i]);
        }
    }
    #[inline(always)]
    fn store_bytes(self, v: Self::V, bytes: &mut [u8]) {
        self.0.store_bytes(v.0, bytes);
        self.1.store_bytes(v.1, &mut bytes[L::N..]);
    }
    #[inline(always)]
    fn store_f16(self, v: Self::V, halves: &mut [u16]) {
        self.0.store_f16(v.0, halves);
        self.1.store_f16(v.1, &mut halves[L::N..]);
    }
    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        struct Paired<K>(K);
        impl<K: Kernel> Kernel for Paired<K> {
            type Output = K::Output;
            #[inline(always)]
            fn run<L: Lanes>(self, lanes: L) -> K::Output {
                self.0.run(lanes)
            }
        }
        self.0.run(Paired(kernel))
    }
}
