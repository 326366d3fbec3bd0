//! A real llama-server on a free port of this machine.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::program;

/// Where the program is. Where there is none, a test says so and ends, unless the developers' files are required.
pub fn program() -> Option<PathBuf> {
    if std::env::var_os("GLM2LLAMA_BACKEND").is_some() {
        eprintln!("skipped: what a server says does not depend on the kernels that quantized");
        return None;
    }
    program::find("llama-server")
}

/// A running server; it ends with its value.
pub struct Server {
    child: Child,
    address: String,
    agent: ureq::Agent,
}

/// What the server answered.
#[derive(Debug)]
pub struct Reply {
    pub text: String,
    pub finish: String,
    /// It was read by the server as a call of a tool.
    pub calls: bool,
}

/// What a client sends.
#[derive(Clone, Debug)]
pub struct Request {
    pub messages: Value,
    /// JSON as it stands in its file: the order of its keys is part of the prompt.
    pub tools: Option<String>,
    /// Whatever else.
    pub more: Value,
}

impl Request {
    pub fn of(messages: Value) -> Request {
        Request { messages, tools: None, more: json!({}) }
    }

    fn text(&self, options: &[(&str, Value)]) -> String {
        let mut body = json!({"messages": self.messages, "temperature": 0, "max_tokens": 120});
        let fields = body.as_object_mut().expect("an object");
        fields.extend(options.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        fields.extend(self.more.as_object().expect("an object").clone());
        let text = body.to_string();
        match &self.tools {
            Some(tools) => format!("{},\"tools\":{tools}}}", text.trim_end_matches('}')),
            None => text,
        }
    }
}

impl Server {
    pub fn start(program: &Path, gguf: &Path) -> Server {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let mut child = Command::new(program)
            .arg("--model")
            .arg(gguf)
            .args([
                "--jinja",
                "--host",
                "127.0.0.1",
                "--ctx-size",
                "4096",
                "--parallel",
                "1",
                "--threads",
                "2",
            ])
            .args(["--port", &port.to_string(), "--no-warmup"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("llama-server starts");
        // Its log must be read, or it would wait for ever when the pipe is full.
        let log = BufReader::new(child.stderr.take().expect("piped"));
        let reader = std::thread::spawn(move || {
            log.lines().map_while(Result::ok).filter(|line| line.contains("error")).collect::<Vec<_>>()
        });
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_idle_connections(0)
            .build();
        let server = Server { child, address: format!("http://127.0.0.1:{port}"), agent: config.into() };
        let started = Instant::now();
        while server
            .agent
            .get(format!("{}/health", server.address))
            .call()
            .map_or(true, |r| r.status() != 200)
        {
            if reader.is_finished() || started.elapsed() > Duration::from_secs(60) {
                panic!("llama-server does not serve {}: {:?}", gguf.display(), reader.is_finished());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    fn post(&self, path: &str, body: &str) -> (u16, String) {
        let request = self.agent.post(format!("{}{path}", self.address)).content_type("application/json");
        let mut response = request.send(body).expect("an answer");
        (response.status().as_u16(), response.body_mut().read_to_string().expect("text"))
    }

    fn json(&self, path: &str, body: &str) -> Value {
        let (status, text) = self.post(path, body);
        assert_eq!(status, 200, "{path} {body}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// The prompt that the server makes of a request.
    pub fn prompt(&self, request: &Request) -> String {
        self.json("/apply-template", &request.text(&[]))["prompt"].as_str().expect("a prompt").to_owned()
    }

    /// The ids of a text, special tokens in it included.
    pub fn ids(&self, text: &str, special: bool) -> Vec<i64> {
        let body = json!({"content": text, "add_special": special, "parse_special": special});
        serde_json::from_value(self.json("/tokenize", &body.to_string())["tokens"].clone()).expect("ids")
    }

    /// Asks as a client does, greedily.
    pub fn chat(&self, request: &Request, stream: bool) -> Reply {
        let body = request.text(&[("stream", json!(stream))]);
        let (status, text) = self.post("/v1/chat/completions", &body);
        assert_eq!(status, 200, "{body}: {text}");
        let chunks: Vec<Value> = match stream {
            false => vec![serde_json::from_str(&text).expect("JSON")],
            true => text
                .lines()
                .filter_map(|line| line.strip_prefix("data: "))
                .filter(|data| *data != "[DONE]")
                .map(|data| serde_json::from_str(data).expect("JSON"))
                .collect(),
        };
        let part = if stream { "delta" } else { "message" };
        let mut reply = Reply { text: String::new(), finish: String::new(), calls: false };
        for chunk in &chunks {
            let choice = &chunk["choices"][0];
            reply.text += choice[part]["content"].as_str().unwrap_or_default();
            reply.finish += choice["finish_reason"].as_str().unwrap_or_default();
            reply.calls |= choice[part]["tool_calls"].is_array();
        }
        reply
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
