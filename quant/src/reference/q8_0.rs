//! Q8_0. Importance weights change nothing: ggml ignores them too.

use super::search::largest;
use crate::block::Q8_0;
use crate::round::{half_away, to_half};

/// Quantizes one block.
pub(crate) fn block(x: &[f32; 32]) -> Q8_0 {
    let d = largest(x).abs() / 127.0;
    let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
    Q8_0 { d: to_half(d), levels: x.map(|x| half_away(x * inverse)) }
}
