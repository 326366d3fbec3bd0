//! Sixteen rows side by side: plain loops over arrays, which the compiler turns into the vectors of whatever
//! instructions the caller is compiled for. No sum goes across lanes, so every backend makes the same bits.

/// Rows that are worked on together.
pub(super) const WIDE: usize = 16;

/// A number of each of them.
pub(super) type Wide = [f32; WIDE];

/// Applies a function lane by lane.
macro_rules! each {
    ($lane:ident => $value:expr) => {{
        let mut out = [0.0f32; $crate::feedback::wide::WIDE];
        for $lane in 0..$crate::feedback::wide::WIDE {
            out[$lane] = $value;
        }
        out
    }};
}
pub(super) use each;

/// Rounds to the nearest whole number, a half to the even one; for numbers below 2^22.
#[inline(always)]
pub(super) fn round(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (x + SHIFT) - SHIFT
}

/// Into a range; its lower end for what is no number.
#[inline(always)]
pub(super) fn clamp(x: f32, (low, high): (f32, f32)) -> f32 {
    let x = if x > low { x } else { low };
    if x < high { x } else { high }
}
