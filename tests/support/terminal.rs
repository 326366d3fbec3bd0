//! The built program on a pseudo-terminal, as a user sees it.

use std::fs::File;
use std::io::Read;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A run whose three streams are a terminal.
pub struct Terminal {
    child: Child,
    output: Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

/// What was on the terminal in the end.
pub struct Screen {
    pub code: Option<i32>,
    /// All that was written.
    pub text: String,
}

impl Terminal {
    /// Starts a command on a terminal of so many columns.
    pub fn start(mut command: Command, columns: u16) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("it may be used");
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).expect("it has a size");
        let name = ptsname(&master, Vec::new()).expect("it has a name").into_string().expect("UTF-8");
        let side = || File::options().read(true).write(true).open(&name).expect("it opens");
        let child = command.stdin(side()).stdout(side()).stderr(side()).spawn().expect("the program starts");
        drop(command); // its ends of the terminal
        let (sender, output) = channel();
        let mut master = File::from(master);
        thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            // The system's word for "the other side is closed" is an error.
            while let Ok(read @ 1..) = master.read(&mut buffer) {
                if sender.send(buffer[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal { child, output, seen: Vec::new() }
    }

    /// Waits for a text.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.seen).contains(text) {
            let bytes = self.output.recv_timeout(Duration::from_secs(60));
            let bytes = bytes.unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.seen)));
            self.seen.extend(bytes);
        }
    }

    /// The program stands still for so long.
    pub fn pause(&self, time: Duration) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::STOP).expect("it stops");
        thread::sleep(time);
        kill_process(pid, Signal::CONT).expect("it goes on");
    }

    /// Waits for the end.
    pub fn end(mut self) -> Screen {
        while let Ok(bytes) = self.output.recv_timeout(Duration::from_secs(120)) {
            self.seen.extend(bytes);
        }
        let code = self.child.wait().expect("it ends").code();
        Screen { code, text: String::from_utf8(self.seen).expect("UTF-8") }
    }
}

impl Screen {
    /// Whatever was in a line of the terminal at some time, without the codes that are not seen.
    pub fn lines(&self) -> Vec<String> {
        let lines = self.text.split(['\r', '\n']).map(without_codes);
        lines.filter(|line| !line.trim().is_empty()).collect()
    }

    /// Those that show progress.
    pub fn bars(&self) -> Vec<String> {
        self.lines().into_iter().filter(|line| line.contains(" %") && line.contains(['>', '='])).collect()
    }
}

fn without_codes(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            // ESC [ ... and a letter
            '\x1b' => while rest.next().is_some_and(|c| !c.is_ascii_alphabetic()) {},
            c => shown.push(c),
        }
    }
    shown
}
