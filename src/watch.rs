//! Who watches a run: is told how far it is, and may stop it.

use crate::error::{Error, Result};

/// Watches a run. `()` does, too: it takes no notice, and never stops it.
pub trait Watch: Sync {
    /// The run has come so far. Threads may call it out of order.
    fn advanced(&self, _: &Step) {}

    /// Whether the run is to end with [`Error::Interrupted`]. It is asked all along, and leaves no output behind.
    fn stopped(&self) -> bool {
        false
    }

    /// Fails when the run is to stop.
    ///
    /// # Errors
    /// [`Error::Interrupted`] then.
    fn go_on(&self) -> Result<()> {
        if self.stopped() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Tells how far the run is.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when it is to stop.
    fn step(&self, at: &str, done: u64, total: u64) -> Result<()> {
        self.advanced(&Step { at, done, total, downloaded: None });
        self.go_on()
    }
}

impl Watch for () {}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// What it is at: a tensor, or a part of a judgement.
    pub at: &'a str,
    /// How much of the whole is done: in bytes of the checkpoint, weights or layers, as the run counts.
    pub done: u64,
    /// The whole.
    pub total: u64,
    /// Bytes that have come from a hub, ahead of those that are done.
    pub downloaded: Option<u64>,
}
