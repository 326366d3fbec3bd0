//! How far the run is: a bar on a terminal, a plain line now and then elsewhere; and Ctrl-C.

mod line;

use std::io::stderr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use terminal_size::{Width, terminal_size_of};

use self::line::Line;
use super::print::{gigabytes, note, show};
use super::report::Report;
use glm2llama::error::{Error, Result, one_line};
use glm2llama::system::stop_on_signals;
use glm2llama::watch::{Step, Watch};

/// Time before the first plain line, and between two.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Time between two looks of the bar: more often nobody sees.
const BAR_EVERY: Duration = Duration::from_millis(50);
/// Where a terminal does not tell its width.
const COLUMNS: usize = 80;

/// Whether the user wants the run to stop.
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Catches Ctrl-C, SIGTERM and SIGHUP from now on: to be called before the first file is made.
    pub(super) fn on_signals() -> Result<Stop> {
        let stopped = Arc::new(AtomicBool::new(false));
        stop_on_signals(&stopped).map_err(|e| Error::Usage(format!("cannot catch signals: {e}")))?;
        Ok(Stop(stopped))
    }
}

/// For work whose progress is not shown.
impl Watch for Stop {
    fn stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the steps of a phase count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Counts {
    /// Bytes that are read.
    Bytes,
    /// Layers, told as if they were so many of the checkpoint's bytes: no speed comes of it.
    Layers,
    /// Something else, which is no matter of `--json`.
    Other,
}

/// Shows how far the work is, and stops it on Ctrl-C.
pub(super) struct Progress<'a> {
    stop: &'a Stop,
    report: Report,
    /// Keeps the time; hidden where there is no terminal, or a dumb one.
    bar: ProgressBar,
    /// How many phases the run has.
    phases: usize,
    state: Mutex<State>,
}

/// The phase that the run is in.
struct State {
    number: usize,
    name: &'static str,
    counts: Counts,
    started: Instant,
    /// When something was shown, or the run began.
    shown: Instant,
}

impl<'a> Progress<'a> {
    /// Shows a run of so many phases, each to be announced by [`Progress::phase`].
    pub(super) fn new(report: Report, phases: usize, stop: &'a Stop) -> Progress<'a> {
        let bar = if report.is_text() { ProgressBar::new(1) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = bar.with_style(style);
        show(&bar);
        let now = Instant::now();
        let state = State { number: 0, name: "", counts: Counts::Other, started: now, shown: now };
        Progress { stop, report, bar, phases, state: Mutex::new(state) }
    }

    /// The next phase begins.
    pub(super) fn phase(&self, name: &'static str, counts: Counts) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state =
            State { number: state.number + 1, name, counts, started: Instant::now(), shown: state.shown };
        self.bar.reset();
        if !self.bar.is_hidden() {
            // At once: the first step may take long.
            self.show(&state, &Step { at: "", done: 0, total: 1, downloaded: None });
            self.bar.force_draw();
        }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn show(&self, state: &State, step: &Step) {
        let columns = terminal_size_of(stderr()).map_or(COLUMNS, |(Width(columns), _)| columns.into());
        self.bar.set_message(self.line(state, step).with_bar(columns));
    }

    fn line(&self, state: &State, step: &Step) -> Line {
        let &Step { at, done, total, downloaded } = step;
        let of_bytes = state.counts == Counts::Bytes;
        let speed = self.bar.per_sec();
        let known = speed > 0.0 && done > 0;
        Line {
            phase: (self.phases > 1).then(|| format!("{}/{} {}", state.number, self.phases, state.name)),
            part: done as f64 / total.max(1) as f64,
            amount: of_bytes.then(|| line::amount(done, total)),
            speed: (of_bytes && known).then(|| line::speed(speed)),
            left: known.then(|| line::left(self.bar.eta())),
            downloaded: downloaded.map(|bytes| format!("{} downloaded", gigabytes(bytes))),
            at: one_line(at),
        }
    }
}

impl Watch for Progress<'_> {
    fn advanced(&self, step: &Step) {
        if self.report.is_quiet() {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let plain = self.bar.is_hidden();
        let every = if plain { LINE_EVERY } else { BAR_EVERY };
        self.bar.set_length(step.total);
        self.bar.set_position(step.done);
        if state.shown.elapsed() < every {
            return;
        }
        state.shown = Instant::now();
        match self.report {
            Report::Json if state.counts == Counts::Other => {}
            Report::Json => self.report.progress(step, state.started.elapsed()),
            _ if plain => note(&self.line(&state, step).plain()),
            _ => self.show(&state, step),
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
