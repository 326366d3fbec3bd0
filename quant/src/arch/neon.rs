//! 4 lanes: NEON, which every 64-bit ARM processor has.

use std::arch::aarch64::*;
use std::ops::{Add, BitAnd, BitOr, Div, Mul, Not, Sub};

use crate::lanes::{Kernel, Lanes, Mask, Pair, Vector};
use crate::round::to_half;

/// Proves that the CPU has NEON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neon(());

impl Neon {
    pub(crate) fn detect() -> Option<Neon> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Neon(()))
    }
}

#[derive(Clone, Copy)]
pub(crate) struct F32x4(float32x4_t);

/// All bits of a lane, or none.
#[derive(Clone, Copy)]
pub(crate) struct Mask4(uint32x4_t);

operators!(F32x4: Add add vaddq_f32, Sub sub vsubq_f32, Mul mul vmulq_f32, Div div vdivq_f32);
operators!(Mask4: BitAnd bitand vandq_u32, BitOr bitor vorrq_u32);

impl Not for Mask4 {
    type Output = Self;
    #[inline(always)]
    fn not(self) -> Self {
        // SAFETY: the value proves the CPU feature.
        Self(unsafe { vmvnq_u32(self.0) })
    }
}

impl Mask for Mask4 {
    const LANES: u32 = 4;

    #[inline(always)]
    fn bits(self) -> u64 {
        // SAFETY: the value proves the CPU feature; the load is of 4 words.
        u64::from(unsafe { vaddvq_u32(vandq_u32(self.0, vld1q_u32([1, 2, 4, 8].as_ptr()))) })
    }
}

impl Vector for F32x4 {
    type Mask = Mask4;

    // NEON's own minimum and maximum order the zeros and keep NaNs, unlike C's comparisons.
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self::select(self.lt(other), self, other)
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self::select(other.lt(self), self, other)
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: the value proves the CPU feature.
        Self(unsafe { vabsq_f32(self.0) })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: the value proves the CPU feature.
        Self(unsafe { vsqrtq_f32(self.0) })
    }
    #[inline(always)]
    fn trunc(self) -> Self {
        // SAFETY: the value proves the CPU feature.
        Self(unsafe { vrndq_f32(self.0) })
    }
    #[inline(always)]
    fn lt(self, other: Self) -> Mask4 {
        // SAFETY: the value proves the CPU feature.
        Mask4(unsafe { vcltq_f32(self.0, other.0) })
    }
    #[inline(always)]
    fn eq(self, other: Self) -> Mask4 {
        // SAFETY: the value proves the CPU feature.
        Mask4(unsafe { vceqq_f32(self.0, other.0) })
    }
    #[inline(always)]
    fn select(mask: Mask4, yes: Self, no: Self) -> Self {
        // SAFETY: the values prove the CPU feature.
        Self(unsafe { vbslq_f32(mask.0, yes.0, no.0) })
    }
}

impl Lanes for Neon {
    type V = F32x4;
    const N: usize = 4;
    type Group = Pair<Pair<Self>>;

    #[inline(always)]
    fn group(self) -> Self::Group {
        Pair(Pair(self, self), Pair(self, self))
    }
    #[inline(always)]
    fn splat(self, value: f32) -> F32x4 {
        // SAFETY: the token proves the CPU feature.
        F32x4(unsafe { vdupq_n_f32(value) })
    }
    #[inline(always)]
    fn load(self, values: &[f32]) -> F32x4 {
        // SAFETY: the token proves the CPU feature; the slice has 4 floats.
        F32x4(unsafe { vld1q_f32(values[..4].as_ptr()) })
    }
    #[inline(always)]
    fn store(self, v: F32x4, values: &mut [f32]) {
        // SAFETY: the token proves the CPU feature; the slice has 4 floats.
        unsafe { vst1q_f32(values[..4].as_mut_ptr(), v.0) }
    }
    #[inline(always)]
    fn columns(self, rows: &[f32], stride: usize, out: &mut [F32x4]) {
        for (tile, out) in out.chunks_exact_mut(4).enumerate() {
            for (k, out) in out.iter_mut().enumerate() {
                *out = self.load(&rows[k * stride + tile * 4..]);
            }
            transpose(out);
        }
    }
    #[inline(always)]
    fn store_bytes(self, v: F32x4, bytes: &mut [u8]) {
        let mut words = [0i32; 4];
        // SAFETY: the token proves the CPU feature; the store is of 4 words.
        unsafe { vst1q_s32(words.as_mut_ptr(), vcvtq_s32_f32(v.0)) };
        bytes[..4].copy_from_slice(&words.map(|word| word as u8));
    }
    #[inline(always)]
    fn store_f16(self, v: F32x4, halves: &mut [u16]) {
        let mut values = [0.0; 4];
        self.store(v, &mut values);
        halves[..4].copy_from_slice(&values.map(|value| u16::from_le_bytes(to_half(value))));
    }
    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "neon")]
        fn with_neon<K: Kernel>(lanes: Neon, kernel: K) -> K::Output {
            kernel.run(lanes)
        }
        // SAFETY: the token proves the CPU feature.
        unsafe { with_neon(self, kernel) }
    }
}

/// Transposes 4 x 4: pairs of rows, then pairs of pairs.
#[inline(always)]
fn transpose(t: &mut [F32x4]) {
    let [a, b, c, d]: &mut [F32x4; 4] = t.try_into().expect("4 rows");
    // SAFETY: the values prove the CPU feature.
    unsafe {
        let (ab, ab2) = (vtrn1q_f32(a.0, b.0), vtrn2q_f32(a.0, b.0));
        let (cd, cd2) = (vtrn1q_f32(c.0, d.0), vtrn2q_f32(c.0, d.0));
        let (ab, ab2) = (vreinterpretq_f64_f32(ab), vreinterpretq_f64_f32(ab2));
        let (cd, cd2) = (vreinterpretq_f64_f32(cd), vreinterpretq_f64_f32(cd2));
        a.0 = vreinterpretq_f32_f64(vtrn1q_f64(ab, cd));
        b.0 = vreinterpretq_f32_f64(vtrn1q_f64(ab2, cd2));
        c.0 = vreinterpretq_f32_f64(vtrn2q_f64(ab, cd));
        d.0 = vreinterpretq_f32_f64(vtrn2q_f64(ab2, cd2));
    }
}
