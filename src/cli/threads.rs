//! `--threads`, which several commands take.

use std::num::NonZero;

use glm2llama::error::{Error, Result};

/// As many as the user says, or one for each core.
pub(super) fn chosen(given: Option<NonZero<usize>>) -> Result<NonZero<usize>> {
    let threads = match given {
        Some(threads) => threads,
        None => std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN),
    };
    if threads.get() > 1024 {
        return Err(Error::Usage(format!("--threads: found {threads}, expected at most 1024")));
    }
    Ok(threads)
}
