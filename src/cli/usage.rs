//! The command line's own errors, in one line as all others are.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ColorChoice, CommandFactory, FromArgMatches, ValueEnum};

use super::args::Args;
use super::colour;
use glm2llama::error::{Error, Result, shortened};
use glm2llama::recipe::FileType;

/// Reads the command line. Help and versions are printed, and end the program.
///
/// # Errors
/// When an option is unknown, missing or has no value of its kind.
pub(super) fn parse() -> Result<Args> {
    let color = color(std::env::args_os());
    colour::choose(color);
    let matches = Args::command().color(color).try_get_matches();
    matches.and_then(|matches| Args::from_arg_matches(&matches)).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
        _ => Error::Usage(of_habit(&error).unwrap_or_else(|| in_one_line(&error.to_string()))),
    })
}

/// What `--color` says, for help and errors, which are printed before all options are known.
fn color(arguments: impl Iterator<Item = OsString>) -> ColorChoice {
    let arguments: Vec<String> = arguments.filter_map(|argument| argument.into_string().ok()).collect();
    let given =
        arguments.iter().enumerate().find_map(|(i, argument)| match argument.strip_prefix("--color")? {
            "" => arguments.get(i + 1).map(String::as_str),
            rest => rest.strip_prefix('='),
        });
    given.and_then(|name| ColorChoice::from_str(name, false).ok()).unwrap_or(ColorChoice::Auto)
}

/// Options of other programs, and what stands for them here.
const HABITS: [(&[&str], &str); 4] = [
    (
        &["-m", "--model", "--model-dir", "--model_dir", "--model-path", "--model_path", "-i", "--input"],
        "the model is given without an option: glm2llama convert MODEL_DIR",
    ),
    (&["--quant", "--quantize", "--quantization", "--ftype", "--qtype", "--format"], "give --type NAME"),
    (&["--out", "--outdir", "--out-file", "--output-file", "--output-dir"], "give --output FILE"),
    (
        &["--remote", "--hf-repo", "--repo-id"],
        "the model is given without an option: glm2llama convert hf://ORG/NAME",
    ),
];

/// What to type instead of something that another program takes.
fn of_habit(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else { return None };
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let habit = HABITS.iter().find(|(options, _)| options.contains(&argument.as_str()));
    let advice = match habit {
        Some((_, advice)) => (*advice).to_owned(),
        // llama-quantize takes them by their places.
        None if argument.parse::<FileType>().is_ok() => format!("give --type {argument}"),
        None if argument.ends_with(".gguf") => format!("give --output {argument}"),
        None => return None,
    };
    Some(format!(
        "unexpected argument '{}' found: {advice}; --help lists the options",
        shortened(argument, 400)
    ))
}

/// What is wrong, and the tip, of clap's several paragraphs.
fn in_one_line(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|paragraph| {
        paragraph.lines().map(|line| shortened(line.trim(), 400)).collect::<Vec<_>>().join(" ")
    });
    let kept = paragraphs.filter_map(|paragraph| {
        let tip = paragraph.strip_prefix("tip: ");
        // Nobody means a file by the name of an option.
        let kept = paragraph.strip_prefix("error: ").or(tip.filter(|tip| !tip.starts_with("to pass '")));
        kept.map(str::to_owned)
    });
    kept.collect::<Vec<_>>().join("; ") + "; --help lists the options"
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn options_of_other_programs_are_answered_with_ours() {
        for (arguments, expected) in [
            (
                &["convert", "-m", "dir"][..],
                "unexpected argument '-m' found: the model is given without an option",
            ),
            (&["plan", "--model", "dir"], "unexpected argument '--model' found: the model is given without"),
            (&["convert", "--model=dir"], "unexpected argument '--model' found: the model is given without"),
            (
                &["verify", "-mdir", "f"],
                "unexpected argument '-m' found: the model is given without an option",
            ),
            (
                &["convert", "m", "--quantize", "Q8_0"],
                "unexpected argument '--quantize' found: give --type NAME",
            ),
            (&["convert", "m", "q8_0"], "unexpected argument 'q8_0' found: give --type q8_0;"),
            (&["convert", "m", "o.gguf"], "unexpected argument 'o.gguf' found: give --output o.gguf;"),
        ] {
            let all = std::iter::once("glm2llama").chain(arguments.iter().copied());
            let found = of_habit(&Args::try_parse_from(all).unwrap_err()).unwrap_or_default();
            assert!(found.starts_with(expected), "{arguments:?}: {found}");
        }
    }

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
                &["inspect", "m", "--output", "x"],
                "unexpected argument '--output' found; --help lists the options",
            ),
            (
                &["export-hf", "m", "--output", "x", "y"],
                "the argument '--output <OUT_DIR>' cannot be used with '[OUT_DIR]'; --help lists the options",
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
