//! The command line's own errors, in one line as all others are.

use clap::Parser;
use clap::error::ErrorKind;

use super::args::Args;
use crate::error::{Error, Result, shortened};

/// Reads the command line. Help and versions are printed, and end the program.
///
/// # Errors
/// When an option is unknown, missing or has no value of its kind.
pub fn parse() -> Result<Args> {
    Args::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
        _ => Error::Usage(in_one_line(&error.to_string())),
    })
}

/// What is wrong, and the tip, of clap's several paragraphs.
fn in_one_line(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|paragraph| {
        paragraph.lines().map(|line| shortened(line.trim(), 400)).collect::<Vec<_>>().join(" ")
    });
    let kept = paragraphs.filter_map(|paragraph| {
        let kept = paragraph.strip_prefix("error: ").or_else(|| paragraph.strip_prefix("tip: "));
        kept.map(str::to_owned)
    });
    kept.collect::<Vec<_>>().join("; ") + "; --help lists the options"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line() {
        for (arguments, expected) in [
            (
                &["convert"][..],
                "the following required arguments were not provided: <MODEL_DIR>; --help lists the options",
            ),
            (
                &["convert", "m", "--forse"],
                "unexpected argument '--forse' found; a similar argument exists: '--force'; --help lists the options",
            ),
            (
                &["convert", "m", "--threads", "0"],
                "invalid value '0' for '--threads <N>': expected a whole number from 1 on; --help lists the options",
            ),
            (
                &["verify", "m", "f", "--tokens", "-1"],
                "invalid value '-1' for '--tokens <N>': -1 is not in 1..=8192; --help lists the options",
            ),
            (
                &["convert", "m", "--lora", "a", "--verify"],
                "the argument '--lora <ADAPTER_DIR[=SCALE]>' cannot be used with '--verify'; --help lists the options",
            ),
        ] {
            let all = std::iter::once("glm2llama").chain(arguments.iter().copied());
            let error = Args::try_parse_from(all).unwrap_err();
            assert_eq!(in_one_line(&error.to_string()), expected);
        }
        let error = Args::try_parse_from(["glm2llama", "convert", "m", "--type", "Q4_K_XL"]).unwrap_err();
        let text = in_one_line(&error.to_string());
        assert!(
            text.starts_with("invalid value 'Q4_K_XL' for '--type <NAME>' [possible values: F32, F16"),
            "{text}"
        );
    }
}
