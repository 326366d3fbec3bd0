//! How long to wait for a hub, how often to try, and how slow a line may be.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use thiserror::Error;

/// How long to wait, and how often to try.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The pause after the first failure; each next one is twice as long.
    pub first_pause: Duration,
    /// The longest pause, also of those that a hub asks for.
    pub longest_pause: Duration,
    /// Failures in a row, without a byte between them, before the run gives up.
    pub most_failures: u32,
    /// A connection without a byte for so long is given up.
    pub stall: Duration,
    /// The time in which a transfer has to bring `least` bytes.
    pub minute: Duration,
    /// Fewer bytes than these in a minute are as good as none.
    pub least: u64,
    /// Minutes in a row that bring too few bytes, before the run gives up.
    pub most_slow: u32,
}

impl Default for Pace {
    /// Half a minute of silence is a stall; a hub is tried for about two minutes, and may ask for five. A line of 1 KiB
    /// in a second would take months for a model: it is no line.
    fn default() -> Pace {
        Pace {
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(300),
            most_failures: 8,
            stall: Duration::from_secs(30),
            minute: Duration::from_secs(60),
            least: 60 << 10,
            most_slow: 3,
        }
    }
}

/// What a minute has brought is next to nothing.
#[derive(Clone, Copy, Debug, Error)]
#[error("only {bytes} bytes came in {} s", seconds.ceil())]
pub(super) struct TooSlow {
    bytes: u64,
    seconds: f64,
}

/// What the minute on its way has brought. A server that sends a byte now and then never stalls, and never ends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gauge {
    passed: Duration,
    bytes: u64,
    /// Minutes in a row that brought too few bytes.
    pub(super) slow: u32,
}

impl Gauge {
    /// Time in which nothing was asked of the server counts for what it has sent before.
    pub(super) fn pause(&mut self, took: Duration) {
        self.passed += took;
    }

    fn note(&mut self, pace: &Pace, bytes: u64, took: Duration) -> Result<(), TooSlow> {
        self.passed += took;
        self.bytes += bytes;
        if self.passed < pace.minute {
            return Ok(());
        }
        let found = TooSlow { bytes: self.bytes, seconds: self.passed.as_secs_f64() };
        let is_slow = found.bytes < pace.least;
        *self = Gauge { slow: if is_slow { self.slow + 1 } else { 0 }, ..Gauge::default() };
        if is_slow { Err(found) } else { Ok(()) }
    }
}

/// An answer's body. Reading it fails when a minute brings too few bytes.
pub(super) struct Timed<'a> {
    body: Box<dyn Read>,
    pace: Pace,
    gauge: &'a mut Gauge,
    since: Instant,
    /// For the next read: the bytes that came last are taken all the same.
    slow: Option<TooSlow>,
}

impl<'a> Timed<'a> {
    /// `since`: when it was asked for.
    pub(super) fn new(body: Box<dyn Read>, pace: Pace, gauge: &'a mut Gauge, since: Instant) -> Timed<'a> {
        Timed { body, pace, gauge, since, slow: None }
    }

    /// The time since the last byte was not spent on waiting for the server.
    pub(super) fn resume(&mut self) {
        self.since = Instant::now();
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if let Some(slow) = self.slow.take() {
            return Err(io::Error::other(slow));
        }
        let read = self.body.read(out)?;
        let now = Instant::now();
        let took = now - self.since;
        self.since = now;
        self.slow = self.gauge.note(&self.pace, read as u64, took).err();
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether an hour of a line of so many bytes in a second is gone on with, and how many slow minutes it had.
    fn hour(bytes_a_second: u64) -> (bool, u32) {
        let (pace, mut gauge, mut went_on) = (Pace::default(), Gauge::default(), true);
        for _ in 0..3600 {
            went_on &= gauge.note(&pace, bytes_a_second, Duration::from_secs(1)).is_ok();
        }
        (went_on, gauge.slow)
    }

    #[test]
    fn a_slow_line_is_one_and_a_dripping_one_is_none() {
        assert_eq!(hour(20_000), (true, 0));
        assert_eq!(hour(1024), (true, 0));
        assert_eq!(hour(1000), (false, 60));
        assert_eq!(hour(1), (false, 60));
        // One good minute makes up for the slow ones before it.
        let (pace, mut gauge) = (Pace::default(), Gauge::default());
        let slow = gauge.note(&pace, 5, Duration::from_secs(61)).unwrap_err();
        assert_eq!((slow.to_string().as_str(), gauge.slow), ("only 5 bytes came in 61 s", 1));
        gauge.note(&pace, 1 << 20, pace.minute).unwrap();
        assert_eq!(gauge.slow, 0);
    }
}
