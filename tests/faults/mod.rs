//! What goes wrong around a conversion: full disks, broken reads, signals, two runs at once. Never is there a wrong or
//! partial file under the output's name.
#![cfg(unix)] // signals, file systems of their own and what /proc tells of a process

mod injected;
mod runs;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Checkpoint, Cmd, Dir};

/// A checkpoint that is seconds of work for [`start`], so that there is a middle to hit.
fn slow() -> Dir {
    Checkpoint { hidden: 1024, ffn: 8192, vocab: 4096, layers: 4, ..Checkpoint::tiny() }.folder()
}

/// A run in the middle of its work.
struct Run(Child);

/// Starts a slow conversion to `m.gguf` in the folder, and waits until it has written weights.
fn start(model: &Path, out: &Path, more: &[&str]) -> Run {
    let child = Command::new(env!("CARGO_BIN_EXE_glm2llama"))
        .arg("convert")
        .arg(model)
        .args(["--backend", "scalar", "--threads", "1", "--buffer-memory", "4", "--quiet", "--no-modelfile"])
        .arg("--output")
        .arg(out.join("m.gguf"))
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut run = Run(child);
    let started = Instant::now();
    while !run.is_writing(out) {
        assert!(started.elapsed() < Duration::from_secs(30), "it writes nothing");
        std::thread::sleep(Duration::from_millis(5));
    }
    run
}

impl Run {
    /// Its file holds more than the header, which has 60 kB.
    fn is_writing(&mut self, out: &Path) -> bool {
        assert!(self.0.try_wait().expect("a state").is_none(), "it ended early");
        let fd = format!("/proc/{}/fdinfo", self.0.id());
        let position = |fd: fs::DirEntry| {
            let link =
                fs::read_link(format!("/proc/{}/fd/{}", self.0.id(), fd.file_name().display())).ok()?;
            let text = fs::read_to_string(fd.path()).ok()?;
            let position =
                text.lines().find_map(|line| line.strip_prefix("pos:"))?.trim().parse::<u64>().ok()?;
            link.starts_with(out).then_some(position)
        };
        let Ok(fds) = fs::read_dir(fd) else { return false };
        fds.flatten().filter_map(position).any(|position| position > 100_000)
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.0.id().to_string()]).status().expect("kill");
        assert!(sent.success());
    }

    /// Its exit code and what it said.
    fn end(self) -> (Option<i32>, String) {
        let output = self.0.wait_with_output().expect("it ends");
        (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
    }
}

/// The bytes that a run without faults writes.
fn undisturbed(model: &Path) -> Vec<u8> {
    let out = Dir::new();
    let run = Cmd::new("convert").arg(model).args(&["--quiet", "--no-modelfile", "--output"]);
    run.arg(out.join("m.gguf")).succeed();
    fs::read(out.join("m.gguf")).expect("a readable file")
}
