//! An answer with a file's bytes, and what goes wrong with it.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Connection, State};

/// What goes wrong with an answer that carries a file's bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// The connection ends after so many bytes.
    Cut(usize),
    /// Nothing more comes after so many bytes.
    Stall(usize),
    /// After so many bytes one at a time, with a pause of so many milliseconds behind each.
    Drip(usize, u64),
    /// The head of the answer comes one byte at a time.
    SlowHead,
    /// This status, and nothing else.
    Status(u16),
    /// 429, with the seconds to wait.
    Wait(u64),
    /// 429, with the time to wait for: so many seconds behind the `Date` of the answer.
    WaitUntil(u64),
    /// A redirect to the same address.
    Loop,
    /// The whole file with status 200, whatever was asked for.
    Whole,
    /// The whole file, of which only so many bytes come.
    WholeCut(usize),
    /// The right part with status 200, as ModelScope sends it.
    Part200,
    /// `Content-Range` begins so many bytes later than it was asked for, and so do the bytes.
    Later(usize),
    /// So many bytes less than were asked for, and `Content-Range` says so.
    Less(usize),
    /// So many bytes less than `Content-Range` says.
    Short(usize),
    /// More bytes behind those that `Content-Range` says.
    Long(usize),
    /// `Content-Length` is so many bytes less than what comes.
    Understated(usize),
    /// The length of the whole is a star.
    Starred,
    /// A part without its place.
    Placeless,
    /// The bytes are those from elsewhere in the file, and `Content-Range` says otherwise.
    Lie,
    /// One bit of the byte at this place is wrong.
    Flip(usize),
    /// Another whole length than in the list.
    Longer,
    /// In chunks, without a length; cut off after so many bytes, if it has more.
    Chunked(usize),
    /// An error in JSON, with status 200.
    Other,
    /// Called gzip.
    Packed,
}

/// The first fault for a file that is not used up.
fn take_fault(state: &State, name: &str) -> Option<Fault> {
    let mut faults = state.faults.lock().unwrap();
    let (_, fault, left) =
        faults.iter_mut().find(|(end, _, left)| name.ends_with(end.as_str()) && *left > 0)?;
    *left -= 1;
    *state.faulty.lock().unwrap() += 1;
    Some(*fault)
}

/// A file of the repository.
pub fn send_file(
    out: &mut dyn Connection,
    state: &State,
    name: &str,
    range: Option<&str>,
    more: Vec<(&str, String)>,
) -> Option<()> {
    let found = state.files.lock().unwrap().get(name).cloned();
    match found {
        None => send(out, 404, &[], b"no such file"),
        Some(bytes) => send_bytes(out, state, name, bytes, range, more),
    }
}

/// What the hub makes, which may be as faulty: `name` is what tests call it by.
pub fn send_list(
    out: &mut dyn Connection,
    state: &State,
    name: &str,
    list: &Value,
    more: Vec<(&str, String)>,
) -> Option<()> {
    send_bytes(out, state, name, list.to_string().into_bytes(), None, more)
}

fn send_bytes(
    out: &mut dyn Connection,
    state: &State,
    name: &str,
    mut bytes: Vec<u8>,
    range: Option<&str>,
    mut more: Vec<(&str, String)>,
) -> Option<()> {
    let fault = take_fault(state, name);
    let total = bytes.len();
    let asked = range.and_then(|range| {
        let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((start.parse::<usize>().ok()?, end.parse::<usize>().map_or(total, |end| total.min(end + 1))))
    });
    let (mut start, mut end) = asked.unwrap_or((0, total));
    let mut status = if asked.is_some() { 206 } else { 200 };
    let mut placed = asked.is_some();
    let mut listed = total.to_string();
    let mut sent = usize::MAX;
    let (mut less, mut more_than_told) = (0, 0);
    match fault {
        Some(Fault::Status(status)) => return send(out, status, &[], b"no"),
        Some(Fault::Wait(seconds)) => {
            return send(out, 429, &[("Retry-After", seconds.to_string())], b"slow down");
        }
        Some(Fault::WaitUntil(seconds)) => {
            let time = |second: u64| format!("Sat, 28 Nov 2026 19:00:{second:02} GMT");
            return send(out, 429, &[("Date", time(7)), ("Retry-After", time(7 + seconds))], b"slow down");
        }
        Some(Fault::Loop) => return send(out, 302, &[("Location", "?again".to_owned())], b""),
        Some(Fault::Cut(bytes) | Fault::Stall(bytes) | Fault::Drip(bytes, _)) => sent = bytes,
        Some(Fault::Whole) => (start, end, status, placed) = (0, total, 200, false),
        Some(Fault::WholeCut(bytes)) => {
            (start, end, status, placed, sent) = (0, total, 200, false, bytes);
        }
        Some(Fault::Part200) => status = 200,
        Some(Fault::Later(bytes)) if placed => start += bytes,
        Some(Fault::Less(bytes)) => (end, placed, status) = ((start + 1).max(end - bytes), true, 206),
        Some(Fault::Short(bytes)) => {
            (placed, status) = (true, 206);
            less = bytes.min(end - start);
        }
        Some(Fault::Long(bytes)) => {
            (placed, status) = (true, 206);
            more_than_told = bytes.min(end - start - 1);
        }
        Some(Fault::Other) => return send(out, 200, &[], b"{\"Code\":10010205001,\"Success\":false}"),
        Some(Fault::Starred) => listed = "*".to_owned(),
        Some(Fault::Placeless) => placed = false,
        Some(Fault::Lie) => bytes.rotate_left(1),
        Some(Fault::Flip(at)) => bytes[at] ^= 1,
        Some(Fault::Longer) => (listed, placed, status) = ((total + 1).to_string(), true, 206),
        Some(Fault::Packed) => more.push(("Content-Encoding", "gzip".to_owned())),
        Some(Fault::Later(_) | Fault::Understated(_) | Fault::Chunked(_) | Fault::SlowHead) | None => {}
    }
    if placed {
        more.push(("Content-Range", format!("bytes {start}-{}/{listed}", end - 1 - more_than_told)));
    }
    let body = &bytes[start..end - less];
    if let Some(Fault::Chunked(most)) = fault {
        return send_chunks(out, status, &more, body, most);
    }
    let length = match fault {
        Some(Fault::Understated(bytes)) => body.len().saturating_sub(bytes),
        _ => body.len(),
    };
    let text = head(status, length, &more);
    let step = if fault == Some(Fault::SlowHead) { 1 } else { text.len() };
    for piece in text.as_bytes().chunks(step) {
        out.write_all(piece).ok()?;
        if step == 1 {
            out.flush().ok()?;
            thread::sleep(Duration::from_millis(40));
        }
    }
    let (cut, rest) = body.split_at(body.len().min(sent));
    let rate = *state.rate.lock().unwrap();
    send_at(out, state, cut, rate)?;
    match fault {
        Some(Fault::Cut(_) | Fault::WholeCut(_) | Fault::Short(_) | Fault::Understated(_)) => None,
        Some(Fault::Drip(_, pause)) => {
            for byte in rest {
                out.write_all(&[*byte]).ok()?;
                out.flush().ok()?;
                thread::sleep(Duration::from_millis(pause));
            }
            Some(())
        }
        Some(Fault::Stall(_)) => {
            thread::sleep(Duration::from_secs(20));
            None
        }
        _ => Some(()),
    }
}

/// At most so many bytes in a second.
fn send_at(out: &mut dyn Connection, state: &State, bytes: &[u8], rate: Option<usize>) -> Option<()> {
    let step = rate.map_or(bytes.len(), |rate| rate / 50).max(1);
    let start = Instant::now();
    let mut sent = 0;
    for piece in bytes.chunks(step) {
        out.write_all(piece).ok()?;
        sent += piece.len();
        *state.sent.lock().unwrap() += piece.len();
        if let Some(rate) = rate {
            out.flush().ok()?;
            let due = Duration::from_secs_f64(sent as f64 / rate as f64);
            thread::sleep(due.saturating_sub(start.elapsed()));
        }
    }
    out.flush().ok()
}

fn send_chunks(
    out: &mut dyn Connection,
    status: u16,
    headers: &[(&str, String)],
    body: &[u8],
    most: usize,
) -> Option<()> {
    let text = head(status, 0, headers).replace("Content-Length: 0", "Transfer-Encoding: chunked");
    out.write_all(text.as_bytes()).ok()?;
    let cut = &body[..body.len().min(most)];
    for chunk in cut.chunks(70_001) {
        write!(out, "{:x}\r\n", chunk.len()).ok()?;
        out.write_all(chunk).ok()?;
        out.write_all(b"\r\n").ok()?;
    }
    if cut.len() == body.len() {
        out.write_all(b"0\r\n\r\n").ok()?;
    }
    out.flush().ok()?;
    (cut.len() == body.len()).then_some(())
}

fn head(status: u16, length: usize, headers: &[(&str, String)]) -> String {
    let mut text = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text + "\r\n"
}

pub fn send(out: &mut dyn Connection, status: u16, headers: &[(&str, String)], body: &[u8]) -> Option<()> {
    out.write_all(head(status, body.len(), headers).as_bytes()).ok()?;
    out.write_all(body).ok()?;
    out.flush().ok()
}
