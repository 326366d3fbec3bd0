//! The bytes of a file: asked for, held against what was asked, and gone on with where a connection ended.

use std::io::{self, Read};
use std::ops::Range;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use ureq::http::{HeaderMap, header};

use super::client::{Answer, Client, Fault};
use super::pace::{Gauge, Timed, TooSlow};
use crate::error::{Error, Result};

/// Bytes that are handed on at a time.
const BLOCK: u64 = 256 << 10;
/// Bytes from the start that are read and dropped where a server knows no ranges and nothing has come yet.
const MOST_DROPPED: u64 = 4 << 20;
/// Of what has come before and comes again, one in so many has to be new.
const LEAST_NEW: u64 = 100;
/// Whoever waits for so long is told why.
const LONG: Duration = Duration::from_secs(2);
/// How often a pause looks whether it is to end.
const GLANCE: Duration = Duration::from_millis(50);

/// A file on a hub.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) url: String,
    /// What to call it in messages.
    pub(super) file: PathBuf,
    /// Its whole length, by the listing.
    pub(super) bytes: u64,
}

/// Fetches a part of a file, in order, and hands it on in blocks; `deliver` is false when nobody wants more. What is
/// before `first` has come already.
///
/// # Errors
/// When the hub refuses, has another file than it listed, or fails so often that nothing comes any more.
pub(super) fn fetch(
    client: &Client,
    wanted: &Wanted,
    first: u64,
    range: Range<u64>,
    deliver: &mut dyn FnMut(Vec<u8>) -> bool,
) -> Result<()> {
    let mut at = first;
    let mut transfer =
        Transfer { client, wanted, range: range.clone(), deliver, gauge: Gauge::default(), dropped: 0 };
    let mut failures = 0;
    while at < range.end {
        let (before, gauge) = (at, transfer.gauge);
        transfer.dropped = 0;
        let (why, wait) = match transfer.attempt(&mut at) {
            Ok(()) => return Ok(()),
            Err(Fault::Final(error)) => return Err(error),
            Err(Fault::Again { why, wait }) => (why, wait),
        };
        // A server that knows no ranges, and ends a byte later each time, would never come to the end.
        let came = at - before > transfer.dropped / LEAST_NEW;
        let slow = transfer.gauge.slow;
        failures = if came { 1 } else { failures + 1 };
        if slow > gauge.slow {
            client.tell(&format!("{}: {why}: trying again", wanted.file.display()));
        } else if at == before {
            transfer.gauge = gauge; // failures without a byte are counted, and the time they take is not
        }
        let paused = rest(client, wanted, failures, slow, wait, &why)
            .map_err(|stopped| stopped.unwrap_or_else(|| gave_up(wanted, at, failures, slow, &why)))?;
        if came {
            transfer.gauge.pause(paused);
        }
    }
    Ok(())
}

/// Asks for a small text as often as it takes: JSON that the hub makes, whose length nobody knows.
///
/// # Errors
/// As for [`fetch`], and when it is over `most` bytes.
pub(super) fn text(client: &Client, wanted: &Wanted, most: u64) -> Result<(Vec<u8>, HeaderMap)> {
    let mut failures = 0;
    let mut gauge = Gauge::default();
    loop {
        let (why, wait) = match whole_text(client, wanted, most, &mut gauge) {
            Ok(text) => return Ok(text),
            Err(Fault::Final(error)) => return Err(error),
            Err(Fault::Again { why, wait }) => (why, wait),
        };
        failures += 1;
        rest(client, wanted, failures, gauge.slow, wait, &why).map_err(|stopped| {
            let problem = format!("gave up after {failures} failures: {why}");
            stopped.unwrap_or_else(|| Error::file(&wanted.file, problem))
        })?;
    }
}

fn whole_text(
    client: &Client,
    wanted: &Wanted,
    most: u64,
    gauge: &mut Gauge,
) -> Result<(Vec<u8>, HeaderMap), Fault> {
    client.go_on().map_err(Fault::Final)?;
    let asked = Instant::now();
    let answer = client.get(&wanted.url, None, &wanted.file)?;
    refuse(client, &answer, wanted)?;
    refuse_packed(&answer)?;
    let mut text = Vec::new();
    let body = Timed::new(answer.body, client.pace, gauge, asked);
    body.take(most + 1).read_to_end(&mut text).map_err(broken)?;
    if text.len() as u64 > most {
        let found = format!("an answer of over {most} bytes");
        return Err(Fault::Final(Error::file_mismatch(&wanted.file, found, "no more of a list of files")));
    }
    Ok((text, answer.headers))
}

/// Pauses after a failure, and tells how long. The error is there when the user has stopped the run, and empty when it
/// was one failure too many, or the hub asks for a pause that is too long.
fn rest(
    client: &Client,
    wanted: &Wanted,
    failures: u32,
    slow: u32,
    wait: Option<Duration>,
    why: &str,
) -> Result<Duration, Option<Error>> {
    let pace = &client.pace;
    let longer = pace.first_pause.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let pause = longer.min(pace.longest_pause).max(wait.unwrap_or_default());
    if failures >= pace.most_failures || slow >= pace.most_slow || pause > pace.longest_pause {
        return Err(None);
    }
    if pause >= LONG {
        client.tell(&format!("{}: {why}: trying again in {} s", wanted.file.display(), pause.as_secs()));
    }
    let start = Instant::now();
    while start.elapsed() < pause {
        client.go_on().map_err(Some)?;
        sleep(GLANCE.min(pause));
    }
    client.go_on().map_err(Some)?;
    Ok(pause)
}

fn gave_up(wanted: &Wanted, at: u64, failures: u32, slow: u32, why: &str) -> Error {
    let failures = match slow.max(failures) {
        1 => "a failure".to_owned(),
        several => format!("{several} failures in a row"),
    };
    let problem = format!("gave up at byte {at} of {} after {failures}: {why}", wanted.bytes);
    Error::file(&wanted.file, problem)
}

fn broken(error: io::Error) -> Fault {
    let slow = error.get_ref().and_then(|error| error.downcast_ref::<TooSlow>());
    let why = match (slow, error.kind()) {
        (Some(slow), _) => slow.to_string(),
        (None, io::ErrorKind::TimedOut) => "the connection has stalled".to_owned(),
        (None, _) => format!("the connection broke: {error}"),
    };
    Fault::Again { why, wait: None }
}

struct Transfer<'a> {
    client: &'a Client,
    wanted: &'a Wanted,
    range: Range<u64>,
    deliver: &'a mut dyn FnMut(Vec<u8>) -> bool,
    gauge: Gauge,
    /// Bytes of the last connection that had come before.
    dropped: u64,
}

impl Transfer<'_> {
    /// One connection, from `at` on.
    fn attempt(&mut self, at: &mut u64) -> Result<(), Fault> {
        self.client.go_on().map_err(Fault::Final)?;
        let Wanted { url, file, bytes } = self.wanted;
        let end = self.range.end;
        let whole = *at == 0 && end == *bytes;
        let range = (!whole).then(|| format!("bytes={at}-{}", end - 1));
        let asked = Instant::now();
        let answer = self.client.get(url, range, file)?;
        refuse(self.client, &answer, self.wanted)?;
        refuse_packed(&answer)?;
        let place = self.place(&answer, *at)?;
        let mut body = Timed::new(answer.body, self.client.pace, &mut self.gauge, asked);
        if place.start < *at {
            self.dropped = *at - place.start;
            drop_bytes(self.client, &mut body, self.dropped)?;
        }
        while *at < end {
            let mut block = Vec::new();
            let size = BLOCK.min(end - *at).min(place.end.saturating_sub(*at));
            let outcome = body.by_ref().take(size).read_to_end(&mut block);
            let came = block.len() as u64;
            *at += came;
            if came > 0 && !(self.deliver)(block) {
                *at = end;
                return Ok(());
            }
            body.resume();
            outcome.map_err(broken)?;
            if came < size || size == 0 {
                let why = format!("the connection ended at byte {at} of {bytes}");
                return Err(Fault::Again { why, wait: None });
            }
        }
        Ok(())
    }

    /// The bytes of the file that the answer's body has. Not the status tells it, but `Content-Range`: some servers
    /// send a part with status 200, and some the whole file whatever was asked for.
    fn place(&self, answer: &Answer, at: u64) -> Result<Range<u64>, Fault> {
        let Wanted { file, bytes, .. } = self.wanted;
        let other_length = |found: u64| {
            let expected =
                format!("{bytes} by the hub's own list: run again, the model may just be changing");
            Fault::Final(Error::file_mismatch(file, format!("a file of {found} bytes"), expected))
        };
        let again = |why: String| Fault::Again { why, wait: None };
        if let Some(value) = answer.headers.get(header::CONTENT_RANGE) {
            let parsed = value.to_str().ok().and_then(content_range);
            let (part, total) =
                parsed.ok_or_else(|| again(format!("the answer has the Content-Range {value:?}")))?;
            if let Some(total) = total.filter(|total| total != bytes) {
                return Err(other_length(total));
            }
            if part.start != at {
                return Err(again(format!("the answer begins at byte {} instead of {at}", part.start)));
            }
            return Ok(part);
        }
        if answer.status == 206 {
            return Err(again("a part of the file came without its place".to_owned()));
        }
        let length =
            answer.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if length == Some(0) && *bytes > 0 {
            return Err(again("an empty file came".to_owned())); // hubs' caches do hold one now and then
        }
        if let Some(found) = length.filter(|length| length != bytes) {
            return Err(other_length(found));
        }
        if at > MOST_DROPPED && at == self.range.start {
            let found = "a server that sends whole files only";
            let expected = format!("bytes from {at} on: download the model first, and give its folder");
            return Err(Fault::Final(Error::file_mismatch(file, found, expected)));
        }
        Ok(0..*bytes)
    }
}

/// Reads what has come before.
fn drop_bytes(client: &Client, body: &mut dyn Read, mut bytes: u64) -> Result<(), Fault> {
    while bytes > 0 {
        client.go_on().map_err(Fault::Final)?;
        let size = bytes.min(BLOCK);
        let read = io::copy(&mut body.take(size), &mut io::sink()).map_err(broken)?;
        if read < size {
            return Err(Fault::Again { why: "the connection ended".to_owned(), wait: None });
        }
        bytes -= size;
    }
    Ok(())
}

/// `bytes 10-19/100`: the part, and the whole length unless it is `*`.
fn content_range(text: &str) -> Option<(Range<u64>, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.trim().split_once('-')?;
    let (start, end): (u64, u64) = (start.parse().ok()?, end.parse().ok()?);
    let total = if total.trim() == "*" { None } else { Some(total.trim().parse().ok()?) };
    (start <= end).then_some((start..end.saturating_add(1), total))
}

/// Bytes that are packed have no place in the file.
fn refuse_packed(answer: &Answer) -> Result<(), Fault> {
    match answer.headers.get(header::CONTENT_ENCODING).filter(|value| *value != "identity") {
        None => Ok(()),
        Some(encoding) => {
            let why = format!("the answer is packed ({encoding:?}), which nobody asked for");
            Err(Fault::Again { why, wait: None })
        }
    }
}

/// Tells an answer that is none from one.
fn refuse(client: &Client, answer: &Answer, wanted: &Wanted) -> Result<(), Fault> {
    let status = answer.status;
    let file = &wanted.file;
    let refused =
        |found: &str, expected: &str| Err(Fault::Final(Error::file_mismatch(file, found, expected)));
    let wait = wait(&answer.headers, SystemTime::now());
    let again = |why: &str| Err(Fault::Again { why: format!("{why} ({status})"), wait });
    match status {
        200 | 206 => Ok(()),
        408 | 425 | 429 => match wait {
            None => again("the hub asks to wait"),
            Some(wait) => again(&format!("the hub asks to wait {} s", wait.as_secs())),
        },
        500..=599 => again("the server has a fault"),
        // A signed link has run out, or its host knows of no such file yet: the next one is asked for.
        _ if !answer.own => again("the link that the hub gave leads to nothing"),
        416 => again("the server knows no such bytes"),
        401 | 403 | 404 => {
            let token = client.token_name();
            let found = format!("nothing there, or nothing that may be read ({status})");
            let expected = match client.has_token() {
                true => format!("a public model's file, or one that {token} may read: is the name right?"),
                false => format!(
                    "a public model's file: is the name right? A private or gated model needs {token}"
                ),
            };
            refused(&found, &expected)
        }
        _ => refused(&format!("status {status}"), "the file"),
    }
}

/// How long the hub asks to wait, in seconds or until a time of its own clock, in either of two headers.
fn wait(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let time = |text: &str| httpdate::parse_http_date(text).ok();
    let until = |value: &str| {
        let now = text("date").and_then(time).unwrap_or(now);
        Some(time(value)?.duration_since(now).unwrap_or_default())
    };
    let seconds = |text: &str| text.parse().ok().map(Duration::from_secs);
    let after = text("retry-after").and_then(|text| seconds(text).or_else(|| until(text)));
    let reset =
        || text("ratelimit")?.split([';', ',']).find_map(|part| seconds(part.trim().strip_prefix("t=")?));
    after.or_else(reset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_part() {
        assert_eq!(content_range("bytes 10-19/100"), Some((10..20, Some(100))));
        assert_eq!(content_range("bytes 0-0/*"), Some((0..1, None)));
        for wrong in ["", "bytes", "bytes */100", "bytes 5-4/10", "bytes a-b/c", "10-19/100", "bytes 1-2"] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_wait_that_a_hub_asks_for() {
        let wait = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            let now = httpdate::parse_http_date("Wed, 21 Oct 2026 07:27:30 GMT").unwrap();
            super::wait(&headers, now).map(|wait| wait.as_secs())
        };
        assert_eq!(wait("retry-after", "7"), Some(7));
        assert_eq!(wait("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"), Some(30));
        assert_eq!(wait("retry-after", "Wednesday, 21-Oct-26 07:29:00 GMT"), Some(90));
        assert_eq!(wait("retry-after", "Tue, 21 Oct 2025 07:28:00 GMT"), Some(0), "it is over");
        assert_eq!((wait("retry-after", "soon"), wait("retry-after", "-1")), (None, None));
        assert_eq!(wait("ratelimit", "\"resolvers\";r=0;t=55"), Some(55));
        assert_eq!(wait("x-other", "7"), None);
    }
}
