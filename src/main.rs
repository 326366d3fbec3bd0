//! The command line: parse, run, print the error once.
fn main() {}
