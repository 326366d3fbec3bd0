//! Which instructions the kernels use: chosen once a run, nameable.

use std::fmt;

/// The instruction set that quantizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The plain reference code.
    Scalar,
}

impl Backend {
    /// The fastest backend that this machine has.
    pub fn detect() -> Backend {
        Backend::Scalar
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Backend::Scalar => "scalar",
        })
    }
}
