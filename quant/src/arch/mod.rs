//! The instruction sets: the only place with `unsafe`.
//!
//! Every file holds a token that is made only where the CPU has the instructions, its vector and
//! mask, and one function compiled for the instructions. No algorithm lives here.

/// Implements the operators of a vector or mask by intrinsics that take two of them.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! operators {
    ($type:ident: $($trait:ident $op:ident $intrinsic:expr),*) => {$(
        impl $trait for $type {
            type Output = Self;
            #[inline(always)]
            fn $op(self, other: Self) -> Self {
                // SAFETY: a value of this type proves that the CPU has the instructions.
                Self(unsafe { $intrinsic(self.0, other.0) })
            }
        }
    )*};
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
