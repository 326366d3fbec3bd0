//! A hub on loopback that behaves as the two real ones do, as far as is known, and as badly as they do at times.
//!
//! Hugging Face's half: a revision's commit, its tree in pages, files behind a redirect to a signed link on another
//! host, a renamed repository behind a relative one. ModelScope's half: a list with SHA-256, and parts of files that
//! come with status 200. Shares no code with the client.

#[path = "answers.rs"]
mod answers;
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

use serde_json::{Value, json};

pub use answers::Fault;
use answers::{send, send_file, send_list};
use lists::{files_of_model_scope, tree};

pub const COMMIT: &str = "e46a14881eae613281abbd266ee918e93a56018f";
pub const TOKEN: &str = "hf_SecretOfTheTests";

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
    /// Bytes of files and lists that were sent.
    sent: Mutex<usize>,
    /// Bytes in a second, of each connection.
    rate: Mutex<Option<usize>>,
    /// Files that the list gives a wrong hash of.
    misjudged: Mutex<Vec<String>>,
    /// Files that the list gives another length of.
    claimed: Mutex<BTreeMap<String, u64>>,
    /// What is told in the place of the lists of files.
    list: Mutex<Option<Value>>,
    /// The repository is private.
    private: Mutex<bool>,
    links: Mutex<u64>,
    /// Connections that came by the proxy.
    tunnels: Mutex<usize>,
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

    /// Tells this in the place of either hub's list of files.
    pub fn list(&self, list: Value) -> &Server {
        *self.state.list.lock().unwrap() = Some(list);
        self
    }

    /// What either hub would tell of the files, for tests to change: Hugging Face's, and ModelScope's.
    pub fn lists(&self) -> [Value; 2] {
        let files = files_of_model_scope(&self.state);
        [Value::Array(tree(&self.state)), json!({ "Code": 200, "Data": { "Files": files }, "Success": true })]
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

    /// How many bytes of files and lists were sent since this was asked for.
    pub fn sent(&self) -> usize {
        std::mem::take(&mut *self.state.sent.lock().unwrap())
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
        return send_file(out, state, &name, range.as_deref(), Vec::new());
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
            let found = json!({ "id": format!("{org}/{name}"), "sha": COMMIT, "siblings": [] });
            send_list(out, state, "revision", &found, Vec::new())
        }
        ["api", "models", _, _, "tree", COMMIT] => {
            if let Some(list) = state.list.lock().unwrap().as_ref() {
                // A list that never ends has itself as its next page.
                let next = format!("<{scheme}://{}{path}>; rel=\"next\"", headers["host"]);
                let more = if *list == json!([]) { vec![("Link", next)] } else { Vec::new() };
                return send_list(out, state, "tree", list, more);
            }
            let list = tree(state);
            let half = list.len() / 2;
            if query.contains("cursor=2") {
                return send_list(out, state, "tree", &Value::Array(list[half..].to_vec()), Vec::new());
            }
            let next =
                format!("<{scheme}://{}{route}?recursive=true&cursor=2>; rel=\"next\"", headers["host"]);
            send_list(out, state, "tree", &Value::Array(list[..half].to_vec()), vec![("Link", next)])
        }
        [_, _, "resolve", COMMIT, below @ ..] => {
            let file = &*below.join("/").replace("%2F", "/");
            if !is_large(file) {
                return send_file(
                    out,
                    state,
                    file,
                    range.as_deref(),
                    vec![("X-Repo-Commit", COMMIT.to_owned())],
                );
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
            if let Some(list) = state.list.lock().unwrap().as_ref() {
                return send_list(out, state, "files", list, Vec::new());
            }
            let files = files_of_model_scope(state);
            let list = json!({ "Code": 200, "Data": { "Files": files }, "Message": "success" });
            send_list(out, state, "files", &list, Vec::new())
        }
        ["api", "v1", "models", _, _, "repo"] => {
            let file = query.split('&').find_map(|pair| pair.strip_prefix("FilePath="))?.to_owned();
            if !is_large(&file) {
                return send_file(out, state, &file, None, Vec::new()); // no ranges without a redirect
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
