//! How far the run is: a bar on a terminal, a plain line now and then elsewhere; and Ctrl-C.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;

use super::print::gigabytes;
use super::report::Report;
use crate::error::{Error, Result};
use crate::pipeline::Watch;
use crate::remap::Plan;

/// Time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Whether the user wants the run to stop.
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Catches Ctrl-C, SIGTERM and SIGHUP from now on: to be called before the first file is made. SIGXFSZ too, for
    /// the write that is over the limit to fail with an error that can be told.
    pub(super) fn on_signals() -> Result<Stop> {
        let stopped = Arc::new(AtomicBool::new(false));
        let flags = [SIGINT, SIGTERM, SIGHUP].map(|signal| (signal, Arc::clone(&stopped)));
        for (signal, flag) in flags.into_iter().chain([(SIGXFSZ, Arc::default())]) {
            flag::register(signal, flag).map_err(|e| Error::Usage(format!("cannot catch signals: {e}")))?;
        }
        Ok(Stop(stopped))
    }

    /// What is set when one of the three comes.
    #[cfg(feature = "hub")]
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// One of the three came.
    pub(super) fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

pub(super) struct Progress<'a> {
    report: &'a Report,
    plan: &'a Plan,
    total_bytes: u64,
    started: Instant,
    /// Bytes that have come from a hub; 0 for a folder's.
    received: AtomicU64,
    /// On a terminal.
    bar: Option<ProgressBar>,
    /// When the last plain line was printed.
    last_line: Mutex<Instant>,
    stop: &'a Stop,
}

impl<'a> Progress<'a> {
    /// Starts the clock.
    pub(super) fn new(total_bytes: u64, plan: &'a Plan, report: &'a Report, stop: &'a Stop) -> Progress<'a> {
        let bar = (report.is_text() && std::io::stderr().is_terminal()).then(|| {
            let template = "{bar:24} {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left  {msg}";
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(total_bytes).with_style(style.progress_chars("=> "))
        });
        let now = Instant::now();
        let (last_line, received) = (Mutex::new(now), AtomicU64::new(0));
        Progress { report, plan, total_bytes, started: now, received, bar, last_line, stop }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line_is_due(&self) -> bool {
        let Ok(mut last) = self.last_line.lock() else { return false };
        let due = last.elapsed() >= LINE_EVERY;
        if due {
            *last = Instant::now();
        }
        due
    }
}

impl Watch for Progress<'_> {
    fn advanced(&self, tensor: usize, bytes: u64) {
        let name = self.plan.tensors.get(tensor).map_or("", |target| &target.name);
        let received = Some(self.received.load(Ordering::Relaxed)).filter(|received| *received > 0);
        match &self.bar {
            Some(bar) => {
                bar.set_message(match received {
                    None => name.to_owned(),
                    Some(received) => format!("{} downloaded  {name}", gigabytes(received)),
                });
                bar.set_position(bytes);
            }
            None if self.line_is_due() => {
                let (total, elapsed) = (self.total_bytes, self.started.elapsed());
                self.report.progress(name, bytes, total, received, elapsed);
            }
            None => {}
        }
    }

    fn received(&self, bytes: u64) {
        self.received.fetch_max(bytes, Ordering::Relaxed);
    }

    fn stopped(&self) -> bool {
        self.stop.requested()
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.finish(); // on an error too: its line must not stand behind half a bar
    }
}
