//! Lines on stdout and stderr, and how sizes are written.

use std::io::Write;

use serde::Serialize;

/// Bytes for people.
pub(super) fn gigabytes(bytes: u64) -> String {
    match bytes {
        1_000_000_000.. => format!("{:.2} GB", bytes as f64 / 1e9),
        1_000_000.. => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} kB", bytes as f64 / 1e3),
    }
}

/// The most memory this process ever had, where the system tells.
pub(super) fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// One JSON line on stdout.
pub(super) fn json(event: &impl Serialize) {
    if let Ok(line) = serde_json::to_string(event) {
        out(&line);
    }
}

/// A result, on stdout. A reader that has gone away (a closed pipe) is no failure of the work.
pub(super) fn out(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Anything but a result, on stderr.
pub(super) fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
