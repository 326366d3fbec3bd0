//! A question that the fields of a config leave open.

use std::fmt;

/// What `rope_ratio` multiplies; no field of the config tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeRatio {
    /// The frequency base: all models but one.
    Base,
    /// It divides the positions: ChatGLM2-6B-32k.
    Positions,
}

impl fmt::Display for RopeRatio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            RopeRatio::Base => "base",
            RopeRatio::Positions => "positions",
        })
    }
}
