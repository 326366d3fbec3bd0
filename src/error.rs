//! What can go wrong, and who is at fault.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of everything that can be refused.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure, printed as one line that names the file and the thing in it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line, or a caller of the library, asks for something that cannot be.
    #[error("{}", one_line(.0))]
    Usage(String),
    /// A file is not what it should be.
    #[error("{}: {}{}", one_line(.file.display()), item_prefix(.item), shortened(.problem, 600))]
    Input {
        /// The file at fault.
        file: PathBuf,
        /// The tensor or key in it, or nothing when the whole file is meant.
        item: String,
        /// What was found and what was expected.
        problem: String,
    },
    /// The system refused.
    #[error("{}: cannot {action}: {source}", one_line(.file.display()))]
    Io {
        /// The file or folder concerned.
        file: PathBuf,
        /// What was tried, `read` for instance.
        action: &'static str,
        /// The system's word on it.
        source: io::Error,
    },
    /// A file was written, but is not what it should be, and was deleted.
    #[error("{}: deleted: {}", one_line(.file.display()), one_line(.problem))]
    Refuted {
        /// The file that would have been.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Stdout took less than everything.
    #[error("cannot write to stdout: {0}")]
    Stdout(#[source] io::Error),
    /// The program contradicts itself: no file and no option is at fault.
    #[error("{}: this is a fault of glm2llama: please report it", one_line(.0))]
    Internal(String),
    /// The user stopped the run.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// A tensor or key of a file is at fault.
    pub fn input(file: &Path, item: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::Input { file: file.to_owned(), item: item.into(), problem: problem.into() }
    }

    /// A file at fault as a whole.
    pub fn file(file: &Path, problem: impl Into<String>) -> Error {
        Error::input(file, "", problem)
    }

    /// Another file was found than expected.
    pub fn file_mismatch(file: &Path, found: impl fmt::Display, expected: impl fmt::Display) -> Error {
        Error::mismatch(file, "", found, expected)
    }

    /// The commonest fault: something else was found than expected.
    pub fn mismatch(
        file: &Path,
        item: impl Into<String>,
        found: impl fmt::Display,
        expected: impl fmt::Display,
    ) -> Error {
        Error::input(file, item, format!("found {found}, expected {expected}"))
    }

    /// Wraps the system's error on a file: `map_err(Error::io(path, "read"))`. One of ours that has come through the
    /// standard library's traits is itself again.
    pub fn io(file: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Error {
        let file = file.to_owned();
        move |source| source.downcast().unwrap_or_else(|source| Error::Io { file, action, source })
    }
}

/// What is wrong in some bytes. Parsers return it, and whoever opened the file says which: [`InFile`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The tensor or key at fault, or nothing when all bytes are meant.
    pub item: String,
    /// What was found and what was expected.
    pub problem: String,
}

impl Problem {
    /// A problem of all bytes or, with a non-empty `item`, of one tensor or key in them.
    pub fn new(item: impl Into<String>, problem: impl Into<String>) -> Problem {
        Problem { item: item.into(), problem: problem.into() }
    }

    /// Something else was found than expected.
    pub fn mismatch(
        item: impl Into<String>,
        found: impl fmt::Display,
        expected: impl fmt::Display,
    ) -> Problem {
        Problem::new(item, format!("found {found}, expected {expected}"))
    }
}

/// Why a reader that fetches bytes as it goes has none of what it reads: the bytes are wrong, or there are none.
#[derive(Debug)]
pub enum Fault {
    /// The bytes are not what they should be.
    Problem(Problem),
    /// The system gave no bytes.
    Read(io::Error),
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Fault {
        Fault::Problem(problem)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault::Read(error)
    }
}

/// Says once, where a file was opened, in which file a problem is.
pub trait InFile<T> {
    /// The problem as an error of this file.
    ///
    /// # Errors
    /// When there is a problem.
    fn in_file(self, file: &Path) -> Result<T>;
}

impl<T> InFile<T> for Result<T, Fault> {
    fn in_file(self, file: &Path) -> Result<T> {
        self.map_err(|fault| match fault {
            Fault::Problem(Problem { item, problem }) => Error::input(file, item, problem),
            Fault::Read(error) => Error::io(file, "read")(error),
        })
    }
}

impl<T> InFile<T> for Result<T, Problem> {
    fn in_file(self, file: &Path) -> Result<T> {
        self.map_err(|Problem { item, problem }| Error::input(file, item, problem))
    }
}

fn item_prefix(item: &str) -> String {
    if item.is_empty() { String::new() } else { format!("{}: ", shortened(item, 160)) }
}

/// Names come from files that strangers made: no line break or terminal code of theirs is printed.
pub fn one_line(text: impl fmt::Display) -> String {
    let text = text.to_string();
    if !text.chars().any(char::is_control) {
        return text;
    }
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// A name may also be as long as the file that it comes from.
pub fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => one_line(text),
        Some((end, _)) => one_line(&text[..end]) + "...",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_that_names_file_item_found_and_expected() {
        let error = Error::mismatch(Path::new("m/config.json"), "num\nlayers", -1, "a whole number");
        assert_eq!(error.to_string(), "m/config.json: num\\nlayers: found -1, expected a whole number");
        let error = Error::file(Path::new("m/a.safetensors"), "ends too early");
        assert_eq!(error.to_string(), "m/a.safetensors: ends too early");
    }
}
