//! 8 lanes: AVX2, and F16C for half floats.

use std::arch::x86_64::*;
use std::ops::{Add, BitAnd, BitOr, Div, Mul, Not, Sub};

use crate::lanes::{Kernel, Lanes, Mask, Pair, Vector};

/// Proves that the CPU has AVX2 and F16C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(());

impl Avx2 {
    pub(crate) fn detect() -> Option<Avx2> {
        let found = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c");
        found.then_some(Avx2(()))
    }
}

#[derive(Clone, Copy)]
pub(crate) struct F32x8(__m256);

/// All bits of a lane, or none.
#[derive(Clone, Copy)]
pub(crate) struct Mask8(__m256);

operators!(F32x8: Add add _mm256_add_ps, Sub sub _mm256_sub_ps, Mul mul _mm256_mul_ps, Div div _mm256_div_ps);
operators!(Mask8: BitAnd bitand _mm256_and_ps, BitOr bitor _mm256_or_ps);

impl Not for Mask8 {
    type Output = Self;
    #[inline(always)]
    fn not(self) -> Self {
        // SAFETY: the value proves the CPU feature.
        Self(unsafe { _mm256_xor_ps(self.0, _mm256_castsi256_ps(_mm256_set1_epi32(-1))) })
    }
}

impl Mask for Mask8 {
    const LANES: u32 = 8;

    #[inline(always)]
    fn bits(self) -> u64 {
        // SAFETY: the value proves the CPU feature.
        u64::from(unsafe { _mm256_movemask_ps(self.0) } as u32)
    }
}

impl Vector for F32x8 {
    type Mask = Mask8;

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: the value proves the CPU feature.
        Self(unsafe { _mm256_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: the value proves the CPU feature.
        Self(unsafe { _mm256_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: the value proves the CPU feature.
        Self(unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0) })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: the value proves the CPU feature.
        Self(unsafe { _mm256_sqrt_ps(self.0) })
    }
    #[inline(always)]
    fn trunc(self) -> Self {
        // SAFETY: the value proves the CPU feature.
        Self(unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(self.0) })
    }
    #[inline(always)]
    fn lt(self, other: Self) -> Mask8 {
        // SAFETY: the value proves the CPU feature.
        Mask8(unsafe { _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, other.0) })
    }
    #[inline(always)]
    fn eq(self, other: Self) -> Mask8 {
        // SAFETY: the value proves the CPU feature.
        Mask8(unsafe { _mm256_cmp_ps::<_CMP_EQ_OQ>(self.0, other.0) })
    }
    #[inline(always)]
    fn select(mask: Mask8, yes: Self, no: Self) -> Self {
        // SAFETY: the values prove the CPU feature.
        Self(unsafe { _mm256_blendv_ps(no.0, yes.0, mask.0) })
    }
}

impl Lanes for Avx2 {
    type V = F32x8;
    const N: usize = 8;
    type Group = Pair<Self>;

    #[inline(always)]
    fn group(self) -> Pair<Self> {
        Pair(self, self)
    }
    #[inline(always)]
    fn splat(self, value: f32) -> F32x8 {
        // SAFETY: the token proves the CPU feature.
        F32x8(unsafe { _mm256_set1_ps(value) })
    }
    #[inline(always)]
    fn load(self, values: &[f32]) -> F32x8 {
        // SAFETY: the token proves the CPU feature; the slice has 8 floats.
        F32x8(unsafe { _mm256_loadu_ps(values[..8].as_ptr()) })
    }
    #[inline(always)]
    fn store(self, v: F32x8, values: &mut [f32]) {
        // SAFETY: the token proves the CPU feature; the slice has 8 floats.
        unsafe { _mm256_storeu_ps(values[..8].as_mut_ptr(), v.0) }
    }
    #[inline(always)]
    fn columns(self, rows: &[f32], stride: usize, out: &mut [F32x8]) {
        for (tile, out) in out.chunks_exact_mut(8).enumerate() {
            for (k, out) in out.iter_mut().enumerate() {
                *out = self.load(&rows[k * stride + tile * 8..]);
            }
            transpose(out);
        }
    }
    #[inline(always)]
    fn store_bytes(self, v: F32x8, bytes: &mut [u8]) {
        // SAFETY: the token proves the CPU feature; the slice has 8 bytes.
        unsafe {
            let bytes = bytes[..8].as_mut_ptr();
            let words = _mm256_and_si256(_mm256_cvttps_epi32(v.0), _mm256_set1_epi32(0xff));
            let (low, high) = (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            let halves = _mm_packus_epi32(low, high);
            _mm_storel_epi64(bytes.cast(), _mm_packus_epi16(halves, halves));
        }
    }
    #[inline(always)]
    fn store_f16(self, v: F32x8, halves: &mut [u16]) {
        // SAFETY: the token proves the CPU feature; the slice has 8 half floats.
        unsafe {
            let halves = halves[..8].as_mut_ptr();
            _mm_storeu_si128(halves.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v.0));
        }
    }
    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,f16c")]
        fn with_avx2<K: Kernel>(lanes: Avx2, kernel: K) -> K::Output {
            kernel.run(lanes)
        }
        // SAFETY: the token proves the CPU features.
        unsafe { with_avx2(self, kernel) }
    }
}

/// Transposes 8 x 8: pairs of rows, then pairs of pairs, then halves of registers.
#[inline(always)]
fn transpose(t: &mut [F32x8]) {
    let t: &mut [F32x8; 8] = t.try_into().expect("8 rows");
    // SAFETY: the values prove the CPU feature.
    unsafe {
        for half in [0, 4] {
            let [a, b, c, d] = [t[half].0, t[half + 1].0, t[half + 2].0, t[half + 3].0];
            let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
            let (ab2, cd2) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
            t[half].0 = _mm256_shuffle_ps::<0x44>(ab, cd);
            t[half + 1].0 = _mm256_shuffle_ps::<0xEE>(ab, cd);
            t[half + 2].0 = _mm256_shuffle_ps::<0x44>(ab2, cd2);
            t[half + 3].0 = _mm256_shuffle_ps::<0xEE>(ab2, cd2);
        }
        for i in 0..4 {
            let (low, high) = (t[i].0, t[i + 4].0);
            t[i].0 = _mm256_permute2f128_ps::<0x20>(low, high);
            t[i + 4].0 = _mm256_permute2f128_ps::<0x31>(low, high);
        }
    }
}
