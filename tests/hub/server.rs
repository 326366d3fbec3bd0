//! A hub on loopback that behaves as the two real ones do, as far as is known, and as badly as they do at times.
//!
//! Hugging Face's half: a revision's commit, its tree in pages, files behind a redirect to a signed link on another
//! host, a renamed repository behind a relative one. ModelScope's half: a list with SHA-256, and parts of files that
//! come with status 200. Shares no code with the client.

#[path = "lists.rs"]
mod lists;
#[path = "proxy.rs"]
mod proxy;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use lists::{files_of_model_scope, tree};

use serde_json::{Value, json};

pub const COMMIT: &str = "e46a14881eae613281abbd266ee918e93a56018f";
pub const TOKEN: &str = "hf_SecretOfTheTests";

/// What goes wrong with an answer that carries a file's bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// The connection ends after so many bytes.
    Cut(usize),
    /// Nothing more comes after so many bytes.
    Stall(usize),
    /// This status, and nothing else.
    Status(u16),
    /// 429, with the seconds to wait.
    Wait(u64),
    /// The whole file with status 200, whatever was asked for.
    Whole,
    /// The right part with status 200, as ModelScope sends it.
    Part200,
    /// `Content-Range` begins so many bytes later than it was asked for, and so do the bytes.
    Later(usize),
    /// A part without its place.
    Placeless,
    /// The bytes are those from elsewhere in the file, and `Content-Range` says otherwise.
    Lie,
    /// One bit of the byte at this place is wrong.
    Flip(usize),
    /// Another whole length than in the list.
    Longer,
    /// Called gzip.
    Packed,
}

/// What a request was, for tests to look at.
#[derive(Clone, Debug)]
pub struct Seen {
    pub host: String,
    pub path: String,
    pub range: Option<String>,
    pub token: bool,
}

#[derive(Default)]
pub struct State {
    /// By path in the repository.
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    /// For the next answers with a file's bytes: the end of the file's name, the fault, and how often.
    faults: Mutex<Vec<(String, Fault, usize)>>,
    /// Answers that had a fault.
    faulty: Mutex<usize>,
    pub seen: Mutex<Vec<Seen>>,
    /// Bytes in a second, of each connection.
    rate: Mutex<Option<usize>>,
    /// Files that the list gives a wrong hash of.
    misjudged: Mutex<Vec<String>>,
    /// Files that the list gives another length of.
    claimed: Mutex<BTreeMap<String, u64>>,
    /// The repository is private.
    private: Mutex<bool>,
    links: Mutex<u64>,
}

pub struct Server {
    pub state: Arc<State>,
    pub port: u16,
    /// Another host: the same machine by another name and port.
    pub cdn: u16,
    scheme: &'static str,
}

pub type Wrap = Arc<dyn Fn(TcpStream) -> Option<Box<dyn Connection>> + Send + Sync>;
pub trait Connection: Read + Write + Send {}
impl<T: Read + Write + Send> Connection for T {}

impl Server {
    /// Serves a folder's files as one repository, whatever its name.
    pub fn start(folder: &Path) -> Server {
        Server::wrapped(folder, "http", Arc::new(|stream| Some(Box::new(stream))))
    }

    pub fn wrapped(folder: &Path, scheme: &'static str, wrap: Wrap) -> Server {
        let state = Arc::new(State::default());
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_str().expect("UTF-8").to_owned();
            state.files.lock().unwrap().insert(name, fs::read(path).expect("a file"));
        }
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let [port, cdn] = [0, 1].map(|i| listeners[i].local_addr().expect("an address").port());
        for (listener, is_cdn) in listeners.into_iter().zip([false, true]) {
            let (state, wrap) = (Arc::clone(&state), Arc::clone(&wrap));
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (state, wrap) = (Arc::clone(&state), Arc::clone(&wrap));
                    thread::spawn(move || {
                        let Some(stream) = wrap(stream) else { return };
                        let mut stream = BufReader::new(stream);
                        while answer(&mut stream, &state, is_cdn, scheme, cdn).is_some() {}
                    });
                }
            });
        }
        Server { state, port, cdn, scheme }
    }

    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    /// The next `times` answers with bytes of files whose name ends so have this fault.
    pub fn fault(&self, name: &str, fault: Fault, times: usize) -> &Server {
        self.state.faults.lock().unwrap().push((name.to_owned(), fault, times));
        self
    }

    /// Forgets the faults that are left; tells how many answers had one.
    pub fn forget_faults(&self) -> usize {
        std::mem::take(&mut *self.state.faults.lock().unwrap());
        std::mem::take(&mut *self.state.faulty.lock().unwrap())
    }

    pub fn file(&self, name: &str, bytes: Vec<u8>) -> &Server {
        self.state.files.lock().unwrap().insert(name.to_owned(), bytes);
        self
    }

    pub fn remove(&self, name: &str) -> &Server {
        self.state.files.lock().unwrap().remove(name);
        self
    }

    pub fn rate(&self, bytes_a_second: usize) -> &Server {
        *self.state.rate.lock().unwrap() = Some(bytes_a_second);
        self
    }

    pub fn misjudge(&self, name: &str) -> &Server {
        self.state.misjudged.lock().unwrap().push(name.to_owned());
        self
    }

    /// Lists the file with this length, whatever it has.
    pub fn claim(&self, name: &str, bytes: u64) -> &Server {
        self.state.claimed.lock().unwrap().insert(name.to_owned(), bytes);
        self
    }

    pub fn make_private(&self) -> &Server {
        *self.state.private.lock().unwrap() = true;
        self
    }

    /// Reads a large file without doing anything with it.
    pub fn download(&self, name: &str) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.cdn)).expect("a connection");
        write!(stream, "GET /signed/{name} HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
        let mut left = self.state.files.lock().unwrap()[name].len();
        let mut buffer = [0; 1 << 16];
        while left > 0 {
            let read = stream.read(&mut buffer).expect("read");
            assert!(read > 0, "cut off");
            left = left.saturating_sub(read);
        }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }
}

struct Request {
    path: String,
    headers: BTreeMap<String, String>,
}

fn read_request(stream: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        match line.trim().split_once(':') {
            None => return Some(Request { path, headers }),
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.trim().to_owned()),
        };
    }
}

/// Answers one request; none when the connection is to end.
fn answer(
    stream: &mut BufReader<Box<dyn Connection>>,
    state: &State,
    is_cdn: bool,
    scheme: &str,
    cdn: u16,
) -> Option<()> {
    let Request { path, headers } = read_request(stream)?;
    let range = headers.get("range").cloned();
    let token = headers.get("authorization").is_some_and(|value| *value == format!("Bearer {TOKEN}"));
    let host = headers.get("host").cloned().unwrap_or_default();
    state.seen.lock().unwrap().push(Seen { host, path: path.clone(), range: range.clone(), token });
    let out = stream.get_mut();
    if is_cdn {
        let name = path.strip_prefix("/signed/")?.split('?').next()?.to_owned();
        return send_file(out, state, &name, range.as_deref(), None);
    }
    if *state.private.lock().unwrap() && !token {
        return send(out, 401, &[], b"{\"error\":\"Repository not found\"}");
    }
    let (route, query) = path.split_once('?').unwrap_or((&path, ""));
    let parts: Vec<&str> = route.trim_start_matches('/').split('/').collect();
    match parts.as_slice() {
        // The old name, as clients still ask for it.
        [.., "old", name, "revision", revision] => {
            let location = format!("/api/models/new/{name}/revision/{revision}");
            send(out, 307, &[("Location", location)], b"")
        }
        ["api", "models", org, name, "revision", "main" | "v1" | "refs%2Fpr%2F1"] => {
            send_json(out, &[], &json!({ "id": format!("{org}/{name}"), "sha": COMMIT, "siblings": [] }))
        }
        ["api", "models", _, _, "tree", COMMIT] => {
            let list = tree(state);
            let half = list.len() / 2;
            if query.contains("cursor=2") {
                return send_json(out, &[], &Value::Array(list[half..].to_vec()));
            }
            let next =
                format!("<{scheme}://{}{route}?recursive=true&cursor=2>; rel=\"next\"", headers["host"]);
            send_json(out, &[("Link", next)], &Value::Array(list[..half].to_vec()))
        }
        [_, _, "resolve", COMMIT, file] => {
            if !is_large(file) {
                return send_file(out, state, file, range.as_deref(), Some(COMMIT));
            }
            let mut links = state.links.lock().unwrap();
            *links += 1;
            let location = format!(
                "{scheme}://localhost:{cdn}/signed/{file}?X-Amz-Expires=3600&X-Amz-Signature={links}"
            );
            send(
                out,
                302,
                &[("Location", location), ("X-Repo-Commit", COMMIT.to_owned())],
                b"Found. Redirecting",
            )
        }
        ["api", "v1", "models", _, _, "repo", "files"] => {
            let files = files_of_model_scope(state);
            send_json(out, &[], &json!({ "Code": 200, "Data": { "Files": files }, "Message": "success" }))
        }
        ["api", "v1", "models", _, _, "repo"] => {
            let file = query.split('&').find_map(|pair| pair.strip_prefix("FilePath="))?.to_owned();
            if !is_large(&file) {
                return send_file(out, state, &file, None, None); // no ranges without a redirect
            }
            let location = format!("{scheme}://localhost:{cdn}/signed/{file}?auth_key=1");
            send(out, 302, &[("Location", location)], b"")
        }
        _ => send(out, 404, &[], b"{\"error\":\"Entry not found\"}"),
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    lists::sha256(bytes)
}

fn is_large(file: &str) -> bool {
    [".safetensors", ".bin", ".gguf", ".model"].iter().any(|end| file.ends_with(end))
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

fn send_file(
    out: &mut dyn Connection,
    state: &State,
    name: &str,
    range: Option<&str>,
    commit: Option<&str>,
) -> Option<()> {
    let Some(mut bytes) = state.files.lock().unwrap().get(name).cloned() else {
        return send(out, 404, &[], b"no such file");
    };
    let fault = take_fault(state, name);
    let total = bytes.len();
    let asked = range.and_then(|range| {
        let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((start.parse::<usize>().ok()?, end.parse::<usize>().map_or(total, |end| total.min(end + 1))))
    });
    let (mut start, end) = asked.unwrap_or((0, total));
    let mut status = if asked.is_some() { 206 } else { 200 };
    let mut placed = asked.is_some();
    let mut listed = total;
    let mut more: Vec<(&str, String)> = Vec::new();
    let mut sent = usize::MAX;
    match fault {
        Some(Fault::Status(status)) => return send(out, status, &[], b"no"),
        Some(Fault::Wait(seconds)) => {
            return send(out, 429, &[("Retry-After", seconds.to_string())], b"slow down");
        }
        Some(Fault::Cut(bytes) | Fault::Stall(bytes)) => sent = bytes,
        Some(Fault::Whole) => (start, status, placed) = (0, 200, false),
        Some(Fault::Part200) => status = 200,
        Some(Fault::Later(bytes)) if placed => start += bytes,
        Some(Fault::Later(_)) => {}
        Some(Fault::Placeless) => placed = false,
        Some(Fault::Lie) => bytes.rotate_left(1),
        Some(Fault::Flip(at)) => bytes[at] ^= 1,
        Some(Fault::Longer) => (listed, placed, status) = (total + 1, true, 206),
        Some(Fault::Packed) => more.push(("Content-Encoding", "gzip".to_owned())),
        None => {}
    }
    let end = if fault == Some(Fault::Whole) { total } else { end };
    let body = &bytes[start..end];
    if placed {
        more.push(("Content-Range", format!("bytes {start}-{}/{listed}", end - 1)));
    }
    if let Some(commit) = commit {
        more.push(("X-Repo-Commit", commit.to_owned()));
    }
    head(out, status, body.len(), &more)?;
    let cut = &body[..body.len().min(sent)];
    match *state.rate.lock().unwrap() {
        None => out.write_all(cut).ok()?,
        Some(rate) => {
            let start = Instant::now();
            let mut sent = 0;
            for piece in cut.chunks((rate / 50).max(1)) {
                out.write_all(piece).ok()?;
                sent += piece.len();
                thread::sleep(
                    Duration::from_secs_f64(sent as f64 / rate as f64).saturating_sub(start.elapsed()),
                );
            }
        }
    }
    out.flush().ok()?;
    match fault {
        Some(Fault::Cut(_)) => None,
        Some(Fault::Stall(_)) => {
            thread::sleep(Duration::from_secs(20));
            None
        }
        _ => Some(()),
    }
}

fn head(out: &mut dyn Connection, status: u16, length: usize, headers: &[(&str, String)]) -> Option<()> {
    let mut text = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    out.write_all((text + "\r\n").as_bytes()).ok()
}

fn send(out: &mut dyn Connection, status: u16, headers: &[(&str, String)], body: &[u8]) -> Option<()> {
    head(out, status, body.len(), headers)?;
    out.write_all(body).ok()?;
    out.flush().ok()
}

fn send_json(out: &mut dyn Connection, headers: &[(&str, String)], body: &Value) -> Option<()> {
    send(out, 200, headers, body.to_string().as_bytes())
}
