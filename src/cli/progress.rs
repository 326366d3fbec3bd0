//! How far the run is: a bar on a terminal, a plain line now and then elsewhere; and Ctrl-C.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;

use super::report::Report;
use crate::error::{Error, Result};
use crate::pipeline::Watch;
use crate::remap::{Plan, Target};

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
        Progress { report, plan, total_bytes, started: now, bar, last_line: Mutex::new(now), stop }
    }

    /// So many layers were run, of how many: as if so much of the checkpoint were done.
    ///
    /// # Errors
    /// When the user wants the run to stop.
    pub(super) fn layer(&self, done: usize, layers: usize) -> Result<()> {
        let of_layer = |target: &Target| target.layer == Some(done.saturating_sub(1));
        let tensor = self.plan.tensors.iter().position(of_layer).unwrap_or(0);
        self.advanced(tensor, self.total_bytes * done as u64 / layers.max(1) as u64);
        if self.stop.requested() { Err(Error::Interrupted) } else { Ok(()) }
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
        match &self.bar {
            Some(bar) => {
                bar.set_message(name.to_owned());
                bar.set_position(bytes);
            }
            None if self.line_is_due() => {
                self.report.progress(name, bytes, self.total_bytes, self.started.elapsed());
            }
            None => {}
        }
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
