//! Lines on stdout and stderr, and how sizes are written.

use std::io::{self, ErrorKind, Write};
use std::sync::Mutex;

use indicatif::ProgressBar;
use serde::Serialize;

use super::colour::Tone;
use glm2llama::error::{Error, Result, one_line};
pub(super) use glm2llama::units::gigabytes;

/// A model's size for people.
pub(super) fn weights(count: u64) -> String {
    match count {
        1_000_000_000.. => format!("{:.2} billion weights", count as f64 / 1e9),
        _ => format!("{:.2} million weights", count as f64 / 1e6),
    }
}

/// What a run took, in time and memory.
pub(super) fn cost(seconds: f64, peak_memory_bytes: Option<u64>) -> String {
    let memory = peak_memory_bytes.map(|bytes| format!(", peak memory {}", gigabytes(bytes)));
    format!("{seconds:.1} s{}", memory.unwrap_or_default())
}

/// One JSON line on stdout.
pub(super) fn json(event: &impl Serialize) {
    if let Ok(line) = serde_json::to_string(event) {
        out(&line);
    }
}

/// A result, on stdout.
pub(super) fn out(line: &str) {
    write(format!("{line}\n").as_bytes());
}

/// Why stdout took less than everything.
static CUT: Mutex<Option<io::Error>> = Mutex::new(None);

/// Bytes on stdout. A reader that has gone away (a closed pipe) is no failure of the work; any other error is for
/// [`end`], when the work is done.
pub(super) fn write(bytes: &[u8]) {
    let mut stdout = io::stdout();
    match clear_of_bar(|| stdout.write_all(bytes).and_then(|()| stdout.flush())) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            if let Ok(mut cut) = CUT.lock() {
                cut.get_or_insert(error); // the first one tells
            }
        }
        _ => {}
    }
}

/// Fails when stdout took less than everything.
pub(super) fn end() -> Result<()> {
    match CUT.lock().ok().and_then(|mut cut| cut.take()) {
        None => Ok(()),
        Some(error) => Err(Error::Stdout(error)),
    }
}

/// Anything but a result, on stderr.
pub(super) fn note(line: &str) {
    let _ = clear_of_bar(|| writeln!(io::stderr(), "{line}"));
}

/// What to beware of, on stderr.
pub(super) fn warn(message: &str) {
    note(&format!("{} {}", Tone::Doubtful.note("warning:"), one_line(message)));
}

/// What the terminal shows of a run's progress.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// From now on this bar stands aside for every line that is printed, whatever thread prints it.
pub(super) fn show(bar: &ProgressBar) {
    if let Ok(mut shown) = BAR.lock() {
        *shown = Some(bar.clone());
    }
}

fn clear_of_bar<T>(print: impl FnOnce() -> T) -> T {
    let bar = BAR.lock().ok().and_then(|shown| shown.clone());
    match bar {
        Some(bar) => bar.suspend(print),
        None => print(),
    }
}
