//! `glm2llama completions` and `glm2llama man`: made from the same description as the parser.

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Args;
use super::print::write;

/// Writes the completions of a shell to stdout.
pub(super) fn completions(shell: Shell) {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "glm2llama", &mut text);
    write(&text);
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
    write(String::from_utf8_lossy(&text).replace(".SH EXTRA", ".SH EXAMPLES").as_bytes());
}
