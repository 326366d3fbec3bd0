//! How far the run is: a bar on a terminal, a plain line now and then elsewhere; and Ctrl-C.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::print::{gigabytes, note};
use super::report::Report;
use glm2llama::error::{Error, Result};
use glm2llama::system::stop_on_signals;
use glm2llama::watch::{Step, Watch};

/// Time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Whether the user wants the run to stop.
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Catches Ctrl-C, SIGTERM and SIGHUP from now on: to be called before the first file is made.
    pub(super) fn on_signals() -> Result<Stop> {
        let stopped = Arc::new(AtomicBool::new(false));
        stop_on_signals(&stopped).map_err(|e| Error::Usage(format!("cannot catch signals: {e}")))?;
        Ok(Stop(stopped))
    }

    /// What is set when one of the three comes.
    #[cfg(feature = "hub")]
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// Fails when one of the three came.
    pub(super) fn check(&self) -> Result<()> {
        if self.stopped() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// For work whose progress is not shown.
impl Watch for Stop {
    fn stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Prints a line on how far the work is after so much time.
type PrintLine<'a> = dyn Fn(&Step, Duration) + Sync + 'a;

/// Shows how far the work is, and stops it on Ctrl-C.
pub(super) struct Progress<'a> {
    stop: &'a Stop,
    /// On a terminal.
    bar: Option<ProgressBar>,
    /// Elsewhere: prints a plain line.
    line: Box<PrintLine<'a>>,
    started: Instant,
    /// When the last plain line was printed.
    last_line: Mutex<Instant>,
}

impl<'a> Progress<'a> {
    /// Of a run that counts in bytes.
    pub(super) fn of_bytes(report: &'a Report, stop: &'a Stop) -> Progress<'a> {
        let template = "{bar:24} {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left  {msg}";
        let line = |step: &Step, elapsed| report.progress(step, elapsed);
        Progress::new(stop, report.is_text().then_some(template), line)
    }

    /// Of a judgement, which has several parts.
    pub(super) fn of_parts(shown: bool, stop: &'a Stop) -> Progress<'a> {
        let line = move |&Step { at, done, total, .. }: &Step, _| {
            if shown {
                note(&format!("{at}: {} %", 100 * done / total.max(1)));
            }
        };
        Progress::new(stop, shown.then_some("{msg:8} {bar:32} {percent} %  {elapsed}"), line)
    }

    /// Starts the clock.
    fn new(
        stop: &'a Stop,
        template: Option<&str>,
        line: impl Fn(&Step, Duration) + Sync + 'a,
    ) -> Progress<'a> {
        let bar = template.filter(|_| std::io::stderr().is_terminal()).map(|template| {
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(1).with_style(style.progress_chars("=> "))
        });
        let now = Instant::now();
        Progress { stop, bar, line: Box::new(line), started: now, last_line: Mutex::new(now) }
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
    fn advanced(&self, step: &Step) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(match step.downloaded {
                    None => step.at.to_owned(),
                    Some(bytes) => format!("{} downloaded  {}", gigabytes(bytes), step.at),
                });
                bar.set_length(step.total);
                bar.set_position(step.done);
            }
            None if self.line_is_due() => (self.line)(step, self.started.elapsed()),
            None => {}
        }
    }

    fn stopped(&self) -> bool {
        self.stop.stopped()
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.finish(); // on an error too: its line must not stand behind half a bar
    }
}
