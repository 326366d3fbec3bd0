//! A thread of its own for each transfer, so that a wish to stop never waits for a server.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use super::client::Client;
use super::transfer::{Wanted, fetch};
use crate::error::{Error, Result};

/// Blocks that wait for whoever takes them: a megabyte.
const WAITING: usize = 4;
/// How often is looked whether somebody wants to stop.
const GLANCE: Duration = Duration::from_millis(50);

/// A transfer on its way. Dropping it ends it, at the next byte that comes.
#[derive(Debug)]
pub(super) struct Pump {
    client: Arc<Client>,
    blocks: Receiver<Result<Vec<u8>>>,
}

impl Pump {
    /// Begins to fetch a part of a file.
    pub(super) fn start(client: &Arc<Client>, wanted: &Wanted, range: Range<u64>) -> Pump {
        Pump::from(client, wanted, range.start, range)
    }

    /// Begins to fetch the rest of a file whose first bytes have come before.
    pub(super) fn behind(client: &Arc<Client>, wanted: &Wanted, first: u64) -> Pump {
        Pump::from(client, wanted, first, 0..wanted.bytes)
    }

    fn from(client: &Arc<Client>, wanted: &Wanted, first: u64, range: Range<u64>) -> Pump {
        let (sender, blocks) = sync_channel(WAITING);
        let (own, wanted) = (Arc::clone(client), wanted.clone());
        thread::spawn(move || {
            let outcome = fetch(&own, &wanted, first, range, &mut |block| sender.send(Ok(block)).is_ok());
            if let Err(error) = outcome {
                let _ = sender.send(Err(error)); // nobody listens any more
            }
        });
        Pump { client: Arc::clone(client), blocks }
    }

    /// The next bytes; none behind the last.
    ///
    /// # Errors
    /// When the transfer has failed, the user stops the run, or `ended` is set.
    pub(super) fn next(&self, ended: &AtomicBool) -> Result<Option<Vec<u8>>> {
        loop {
            self.client.go_on()?;
            match self.blocks.recv_timeout(GLANCE) {
                Ok(block) => return block.map(Some),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if ended.load(Ordering::Relaxed) => {
                    return Err(Error::Interrupted);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// All bytes of a part that is small.
    ///
    /// # Errors
    /// As for [`Pump::next`].
    pub(super) fn all(client: &Arc<Client>, wanted: &Wanted, range: Range<u64>) -> Result<Vec<u8>> {
        let pump = Pump::start(client, wanted, range.clone());
        let mut bytes = Vec::new();
        while let Some(block) = pump.next(&AtomicBool::new(false))? {
            bytes.extend(block);
        }
        if bytes.len() as u64 != range.end - range.start {
            let found = format!("{} bytes", bytes.len());
            return Err(Error::file_mismatch(&wanted.file, found, range.end - range.start));
        }
        Ok(bytes)
    }
}

/// Runs something that waits for the network, and gives up waiting when the user stops the run.
///
/// # Errors
/// As the work does, and when the run is stopped.
pub(super) fn aside<T: Send + 'static>(
    client: &Arc<Client>,
    work: impl FnOnce(&Arc<Client>) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, outcome) = sync_channel(1);
    let own = Arc::clone(client);
    thread::spawn(move || sender.send(work(&own)));
    loop {
        client.go_on()?;
        match outcome.recv_timeout(GLANCE) {
            Ok(outcome) => return outcome,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::Internal("a transfer ended without a word".to_owned()));
            }
        }
    }
}
