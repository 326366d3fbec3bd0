//! A run's workers.

use std::num::NonZero;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};

/// So many workers.
///
/// # Errors
/// When the system does not give them.
pub(crate) fn workers(threads: NonZero<usize>) -> Result<ThreadPool> {
    ThreadPoolBuilder::new()
        .num_threads(threads.get())
        .build()
        .map_err(|e| Error::Usage(format!("cannot start {threads} threads: {e}: give fewer with --threads")))
}
