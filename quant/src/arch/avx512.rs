//! 16 lanes: AVX-512 with F, BW, DQ and VL.

use std::arch::x86_64::*;
use std::ops::{Add, BitAnd, BitOr, Div, Mul, Not, Sub};

use crate::lanes::{Kernel, Lanes, Mask, Pair, Vector};

/// Proves that the CPU has AVX-512.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512(());

impl Avx512 {
    pub(crate) fn detect() -> Option<Avx512> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        found.then_some(Avx512(()))
    }
}

#[derive(Clone, Copy)]
pub(crate) struct F32x16(__m512);

#[derive(Clone, Copy)]
pub(crate) struct Mask16(__mmask16);

operators!(F32x16: Add add _mm512_add_ps, Sub sub _mm512_sub_ps, Mul mul _mm512_mul_ps, Div div _mm512_div_ps);

impl BitAnd for Mask16 {
    type Output = Self;
    #[inline(always)]
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for Mask16 {
    type Output = Self;
    #[inline(always)]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Not for Mask16 {
    type Output = Self;
    #[inline(always)]
    fn not(self) -> Self {
        Self(!self.0)
    }
}

impl Mask for Mask16 {
    const LANES: u32 = 16;

    #[inline(always)]
    fn bits(self) -> u64 {
        u64::from(self.0)
    }
}

impl Vector for F32x16 {
    type Mask = Mask16;

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: the value proves the CPU feature.
        Self(unsafe { _mm512_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: the value proves the CPU feature.
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: the value proves the CPU feature.
        Self(unsafe { _mm512_abs_ps(self.0) })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: the value proves the CPU feature.
        Self(unsafe { _mm512_sqrt_ps(self.0) })
    }
    #[inline(always)]
    fn trunc(self) -> Self {
        // SAFETY: the value proves the CPU feature.
        Self(unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(self.0) })
    }
    #[inline(always)]
    fn lt(self, other: Self) -> Mask16 {
        // SAFETY: the value proves the CPU feature.
        Mask16(unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, other.0) })
    }
    #[inline(always)]
    fn eq(self, other: Self) -> Mask16 {
        // SAFETY: the value proves the CPU feature.
        Mask16(unsafe { _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self.0, other.0) })
    }
    #[inline(always)]
    fn select(mask: Mask16, yes: Self, no: Self) -> Self {
        // SAFETY: the values prove the CPU feature.
        Self(unsafe { _mm512_mask_blend_ps(mask.0, no.0, yes.0) })
    }
}

impl Lanes for Avx512 {
    type V = F32x16;
    const N: usize = 16;
    type Group = Pair<Self>;

    #[inline(always)]
    fn group(self) -> Pair<Self> {
        Pair(self, self)
    }
    #[inline(always)]
    fn splat(self, value: f32) -> F32x16 {
        // SAFETY: the token proves the CPU feature.
        F32x16(unsafe { _mm512_set1_ps(value) })
    }
    #[inline(always)]
    fn load(self, values: &[f32]) -> F32x16 {
        // SAFETY: the token proves the CPU feature; the slice has 16 floats.
        F32x16(unsafe { _mm512_loadu_ps(values[..16].as_ptr()) })
    }
    #[inline(always)]
    fn store(self, v: F32x16, values: &mut [f32]) {
        // SAFETY: the token proves the CPU feature; the slice has 16 floats.
        unsafe { _mm512_storeu_ps(values[..16].as_mut_ptr(), v.0) }
    }
    #[inline(always)]
    fn columns(self, rows: &[f32], stride: usize, out: &mut [F32x16]) {
        for (tile, out) in out.chunks_exact_mut(16).enumerate() {
            for (k, out) in out.iter_mut().enumerate() {
                *out = self.load(&rows[k * stride + tile * 16..]);
            }
            transpose(out);
        }
    }
    #[inline(always)]
    fn store_bytes(self, v: F32x16, bytes: &mut [u8]) {
        // SAFETY: the token proves the CPU feature; the slice has 16 bytes.
        unsafe {
            let bytes = bytes[..16].as_mut_ptr();
            _mm_storeu_si128(bytes.cast(), _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(v.0)));
        }
    }
    #[inline(always)]
    fn store_f16(self, v: F32x16, halves: &mut [u16]) {
        // SAFETY: the token proves the CPU feature; the slice has 16 half floats.
        unsafe {
            let halves = halves[..16].as_mut_ptr();
            _mm256_storeu_si256(halves.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v.0));
        }
    }
    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
        fn with_avx512<K: Kernel>(lanes: Avx512, kernel: K) -> K::Output {
            kernel.run(lanes)
        }
        // SAFETY: the token proves the CPU features.
        unsafe { with_avx512(self, kernel) }
    }
}

/// Transposes 16 x 16: pairs of rows, then pairs of pairs, then quarters of registers twice.
#[inline(always)]
fn transpose(t: &mut [F32x16]) {
    let t: &mut [F32x16; 16] = t.try_into().expect("16 rows");
    // SAFETY: the values prove the CPU feature.
    unsafe {
        for half in [0, 4, 8, 12] {
            let [a, b, c, d] = [t[half].0, t[half + 1].0, t[half + 2].0, t[half + 3].0];
            let (ab, cd) =
                (_mm512_castps_pd(_mm512_unpacklo_ps(a, b)), _mm512_castps_pd(_mm512_unpacklo_ps(c, d)));
            let (ab2, cd2) =
                (_mm512_castps_pd(_mm512_unpackhi_ps(a, b)), _mm512_castps_pd(_mm512_unpackhi_ps(c, d)));
            t[half].0 = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
            t[half + 1].0 = _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
            t[half + 2].0 = _mm512_castpd_ps(_mm512_unpacklo_pd(ab2, cd2));
            t[half + 3].0 = _mm512_castpd_ps(_mm512_unpackhi_pd(ab2, cd2));
        }
        for i in 0..4 {
            let [a, b, c, d] = [t[i].0, t[i + 4].0, t[i + 8].0, t[i + 12].0];
            let (ab_even, ab_odd) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xDD>(a, b));
            let (cd_even, cd_odd) = (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xDD>(c, d));
            t[i].0 = _mm512_shuffle_f32x4::<0x88>(ab_even, cd_even);
            t[i + 4].0 = _mm512_shuffle_f32x4::<0x88>(ab_odd, cd_odd);
            t[i + 8].0 = _mm512_shuffle_f32x4::<0xDD>(ab_even, cd_even);
            t[i + 12].0 = _mm512_shuffle_f32x4::<0xDD>(ab_odd, cd_odd);
        }
    }
}
