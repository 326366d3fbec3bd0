//! `glm2llama completions` and `glm2llama man`: made from the same description as the parser.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Args;

/// Writes the completions of a shell to stdout.
pub(super) fn completions(shell: Shell) {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "glm2llama", &mut text);
    print(&text);
}

/// Writes the manual to stdout: the program's page, and a page for each command behind it.
pub(super) fn man() {
    let mut text = Vec::new();
    let mut program = Args::command();
    program.build();
    let pages = std::iter::once(program.clone())
        .chain(program.get_subcommands().filter(|command| command.get_name() != "help").cloned());
    for page in pages {
        let _ = clap_mangen::Man::new(page).render(&mut text); // into memory: it cannot fail
    }
    // What clap prints after the options are examples here.
    print(String::from_utf8_lossy(&text).replace(".SH EXTRA", ".SH EXAMPLES").as_bytes());
}

/// A reader that has gone away is no failure.
fn print(text: &[u8]) {
    let _ = std::io::stdout().write_all(text);
}
