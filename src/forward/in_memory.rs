//! A matrix for tests.

use std::ops::Range;
use std::path::Path;

use ndarray::{Array2, Axis, Slice};

use super::Matrix;
use crate::error::Result;

/// Weights in memory, by a name.
pub(crate) struct InMemory(pub &'static str, pub Array2<f32>);

impl Matrix for InMemory {
    fn name(&self) -> (&Path, &str) {
        (Path::new("model.safetensors"), self.0)
    }

    fn rows(&self) -> usize {
        self.1.nrows()
    }

    fn columns(&self) -> usize {
        self.1.ncols()
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        out.iter_mut().zip(self.1.slice_axis(Axis(0), Slice::from(rows))).for_each(|(out, x)| *out = *x);
        Ok(())
    }
}
