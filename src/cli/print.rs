//! Lines on stdout and stderr, and how sizes are written.

use std::io::{self, ErrorKind, Write};
use std::sync::Mutex;
use std::time::Duration;

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

/// A time that is foretold, in as many digits as may be believed: `about 70 minutes`.
pub(super) fn about(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let (number, unit) = match seconds {
        ..90.0 => (seconds, "second"),
        ..7200.0 => (seconds / 60.0, "minute"),
        _ => (seconds / 3600.0, "hour"),
    };
    // Nobody can tell minutes of an hour beforehand.
    let step: f64 = match number {
        ..10.0 => 1.0,
        ..30.0 => 2.0,
        ..100.0 => 5.0,
        _ => 10.0,
    };
    let number = ((number / step).round() * step).max(1.0);
    format!("about {number} {unit}{}", if number == 1.0 { "" } else { "s" })
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_as_many_digits_as_are_believed() {
        for (seconds, expected) in [
            (0.0, "about 1 second"),
            (4.4, "about 4 seconds"),
            (71.0, "about 70 seconds"),
            (91.0, "about 2 minutes"),
            (1262.0, "about 22 minutes"),
            (4130.0, "about 70 minutes"),
            (9700.0, "about 3 hours"),
            (99000.0, "about 28 hours"),
        ] {
            assert_eq!(about(Duration::from_secs_f64(seconds)), expected, "{seconds}");
        }
    }
}
