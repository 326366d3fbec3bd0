//! Which instructions the kernels use: chosen once a run, nameable.

use std::fmt;
use std::str::FromStr;

#[cfg(target_arch = "aarch64")]
use crate::arch::neon::Neon;
#[cfg(target_arch = "x86_64")]
use crate::arch::{avx2::Avx2, avx512::Avx512};
use crate::kernel;
use crate::lanes::{Kernel, Lanes};
use crate::{Format, Rows, reference};

/// The instruction set that quantizes: the bytes are the same with each, the speed is not.
///
/// A value proves that this machine has the instructions.
///
/// ```
/// use quant::Backend;
///
/// let fastest = Backend::detect();
/// assert_eq!(fastest.name().parse(), Ok(fastest));
/// assert!(Backend::available().contains(&Backend::SCALAR));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend(Kind);

/// The tokens in the variants cannot be made elsewhere than where the machine is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The plain reference code.
    Scalar,
    /// 8 lanes.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// 16 lanes.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// 4 lanes.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
}

/// Work in plain loops, worth being compiled for the backend's instructions.
pub(crate) trait Compiled {
    /// This and all it calls must be `#[inline(always)]`.
    fn run(self);
}

/// So that [`Lanes::run`] compiles it.
struct Plain<W>(W);

impl<W: Compiled> Kernel for Plain<W> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        self.0.run();
    }
}

/// All names, also those of other machines' backends.
const NAMES: [&str; 4] = ["scalar", "avx2", "avx512", "neon"];

impl Backend {
    /// The plain reference code, which every machine has.
    pub const SCALAR: Backend = Backend(Kind::Scalar);

    /// The fastest backend that this machine has.
    pub fn detect() -> Backend {
        *Backend::available().last().unwrap_or(&Backend::SCALAR)
    }

    /// The backends that this machine has, the fastest last.
    pub fn available() -> Vec<Backend> {
        let mut all = vec![Backend::SCALAR];
        // Miri interprets no vector instructions.
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            all.extend(Avx2::detect().map(Kind::Avx2).map(Backend));
            all.extend(Avx512::detect().map(Kind::Avx512).map(Backend));
        }
        #[cfg(all(target_arch = "aarch64", not(miri)))]
        all.extend(Neon::detect().map(Kind::Neon).map(Backend));
        all
    }

    /// The name that [`Backend::from_str`] reads.
    pub const fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => NAMES[0],
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => NAMES[1],
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(_) => NAMES[2],
            #[cfg(target_arch = "aarch64")]
            Kind::Neon(_) => NAMES[3],
        }
    }

    /// Runs work that is compiled for the instructions.
    pub(crate) fn compiled(self, work: impl Compiled) {
        match self.0 {
            Kind::Scalar => work.run(),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(lanes) => lanes.run(Plain(work)),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(lanes) => lanes.run(Plain(work)),
            #[cfg(target_arch = "aarch64")]
            Kind::Neon(lanes) => lanes.run(Plain(work)),
        }
    }

    /// Quantizes rows whose lengths have been checked.
    pub(crate) fn quantize(self, format: Format, rows: Rows, out: &mut [u8]) {
        match self.0 {
            Kind::Scalar => reference::quantize_rows(format, rows, out),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(lanes) => kernel::quantize(lanes, format, rows, out),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(lanes) => kernel::quantize(lanes, format, rows, out),
            #[cfg(target_arch = "aarch64")]
            Kind::Neon(lanes) => kernel::quantize(lanes, format, rows, out),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The name is none of the backends', or of none that this machine has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseBackendError {
    /// No machine has such a backend.
    #[error("unknown backend `{0}`: there are {names}", names = NAMES.join(", "))]
    Unknown(String),
    /// Another machine might.
    #[error("this machine has no backend {0}: it has {names}", names = available_names())]
    Missing(&'static str),
}

fn available_names() -> String {
    Backend::available().iter().map(|backend| backend.name()).collect::<Vec<_>>().join(", ")
}

impl FromStr for Backend {
    type Err = ParseBackendError;

    /// Reads a name in any case.
    fn from_str(name: &str) -> Result<Backend, ParseBackendError> {
        let known = NAMES.into_iter().find(|known| known.eq_ignore_ascii_case(name));
        let known = known.ok_or_else(|| ParseBackendError::Unknown(name.to_owned()))?;
        let found = Backend::available().into_iter().find(|backend| backend.name() == known);
        found.ok_or(ParseBackendError::Missing(known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_can_be_named() {
        for backend in Backend::available() {
            assert_eq!(backend.to_string().parse(), Ok(backend));
            assert_eq!(backend.name().to_uppercase().parse(), Ok(backend));
        }
        assert!(Backend::available().contains(&Backend::detect()));
    }

    #[test]
    fn a_name_without_backend_says_what_there_is() {
        let unknown = "sse9".parse::<Backend>().unwrap_err();
        assert_eq!(unknown.to_string(), "unknown backend `sse9`: there are scalar, avx2, avx512, neon");
        let missing = if cfg!(target_arch = "aarch64") { "AVX2" } else { "Neon" };
        let missing = missing.parse::<Backend>().unwrap_err();
        assert!(matches!(missing, ParseBackendError::Missing(_)));
        assert!(missing.to_string().contains("it has scalar"), "{missing}");
    }
}
