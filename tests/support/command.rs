//! The built program, run and judged.

use std::ffi::OsStr;
use std::path::{MAIN_SEPARATOR, Path};
use std::process::Command;

/// A run of `glm2llama` to be.
pub struct Cmd(Command);

/// Whether the program runs in an emulator, whose own memory counts as the program's; `.ci/cross` says so.
#[cfg(unix)]
fn emulated() -> bool {
    std::env::var_os("GLM2LLAMA_EMULATED").is_some()
}

/// Whether it does, and a test would fail for this reason; says so.
#[cfg(unix)]
pub fn skipped_in_emulator(reason: &str) -> bool {
    if emulated() {
        eprintln!("skipped: in an emulator {reason}");
    }
    emulated()
}

/// The program under a hard limit of its address space; without it in an emulator.
#[cfg(unix)]
pub fn limited(kib: u32) -> Command {
    let limit = if emulated() { String::new() } else { format!("ulimit -v {kib} && ") };
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{limit}exec \"$@\""), "sh"]).arg(env!("CARGO_BIN_EXE_glm2llama"));
    command
}

/// How a run ended.
#[derive(Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Cmd {
    /// The program with a subcommand, `convert` for instance.
    pub fn new(subcommand: &str) -> Cmd {
        let mut command = Command::new(env!("CARGO_BIN_EXE_glm2llama"));
        command.arg(subcommand);
        Cmd(command)
    }

    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Cmd {
        self.0.arg(argument);
        self
    }

    pub fn args(mut self, arguments: &[&str]) -> Cmd {
        self.0.args(arguments);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Cmd {
        self.0.env(name, value);
        self
    }

    pub fn env_remove(mut self, name: &str) -> Cmd {
        self.0.env_remove(name);
        self
    }

    pub fn current_dir(mut self, folder: &Path) -> Cmd {
        self.0.current_dir(folder);
        self
    }

    /// Starts it, to be watched or stopped.
    pub fn spawn(mut self) -> std::process::Child {
        self.0.spawn().expect("the program starts")
    }

    pub fn run(mut self) -> Output {
        let output = self.0.output().expect("the program starts");
        Output {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("UTF-8 on stdout"),
            // Messages with the same sign between names on every system.
            stderr: String::from_utf8(output.stderr).expect("UTF-8 on stderr").replace(MAIN_SEPARATOR, "/"),
        }
    }

    /// Runs it and expects exit code 0.
    #[track_caller]
    pub fn succeed(self) -> Output {
        self.exit_with(0)
    }

    /// Runs it and expects an exit code.
    #[track_caller]
    pub fn exit_with(self, code: i32) -> Output {
        let command = format!("{:?}", self.0);
        let output = self.run();
        assert_eq!(output.code, Some(code), "{command}\n{}{}", output.stdout, output.stderr);
        output
    }
}

/// `convert` of one checkpoint to one file, with whatever else is wanted.
#[track_caller]
pub fn convert(model: &Path, type_name: &str, output: &Path, more: &[&str]) -> Output {
    let run = Cmd::new("convert").arg(model).args(&["--type", type_name, "--no-modelfile", "--quiet"]);
    run.args(more).arg("--output").arg(output).succeed()
}
