//! How values of options are read where clap's own parsers would take less, or too much.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::builder::{
    PathBufValueParser, PossibleValue, PossibleValuesParser, StringValueParser, TypedValueParser,
};
use clap::{Arg, Command, Error};

use glm2llama::config::RopeRatio;
use glm2llama::locate::Caches;
use glm2llama::recipe::{FfnPad, meant};
use glm2llama::request::Quality;

/// One of some names; what other programs call them is refused with the name here.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Names(pub(in crate::cli) Vec<&'static str>);

impl TypedValueParser for Names {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, Error> {
        let trimmed = value.to_str().map(str::trim); // "F16, Q8_0"
        let value = trimmed.map_or(value, OsStr::new);
        if value.is_empty() {
            let refuse = |_| Err::<String, _>("an empty name in the list");
            return StringValueParser::new().try_map(refuse).parse_ref(command, arg, value);
        }
        if trimmed.is_some_and(|name| name.eq_ignore_ascii_case("auto")) {
            let refuse = |_| {
                Err::<String, _>(
                    "nothing is chosen for you: Q4_K_M is what most people take, Q8_0 the nearly lossless one",
                )
            };
            return StringValueParser::new().try_map(refuse).parse_ref(command, arg, value);
        }
        if let Some(meant) = trimmed.and_then(|name| meant(name, &self.0)) {
            let refuse = move |_| Err::<String, _>(format!("did you mean {meant}?"));
            return StringValueParser::new().try_map(refuse).parse_ref(command, arg, value);
        }
        PossibleValuesParser::new(self.0.iter().copied()).parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().copied().map(PossibleValue::new)))
    }
}

/// What `rope_ratio` multiplies.
pub(in crate::cli) fn rope_ratio() -> impl TypedValueParser<Value = RopeRatio> {
    one_of(&[
        ("base", "Multiplies the frequency base: all models but one", RopeRatio::Base),
        ("positions", "Divides the positions: ChatGLM2-6B-32k", RopeRatio::Positions),
    ])
}

/// When to pad.
pub(in crate::cli) fn ffn_pad() -> impl TypedValueParser<Value = FfnPad> {
    one_of(&[
        ("auto", "Only where a type would fall back", FfnPad::Auto),
        ("on", "Always", FfnPad::On),
        ("off", "Never", FfnPad::Off),
    ])
}

/// How much work goes into the weights.
pub(in crate::cli) fn quality() -> impl TypedValueParser<Value = Quality> {
    one_of(&[
        ("fast", "The same bytes as llama-quantize", Quality::Fast),
        ("good", "Rounds with an importance matrix, for which the model is run on text first", Quality::Good),
        (
            "best",
            "Rounds the weights such that what each matrix computes changes least: takes hours; a run that was interrupted goes on",
            Quality::Best,
        ),
    ])
}

/// Names, what the help says of each, and what they stand for.
fn one_of<T: Copy + Send + Sync>(choices: &'static [(&str, &str, T)]) -> impl TypedValueParser<Value = T> {
    let names = choices.iter().map(|(name, help, _)| PossibleValue::new(*name).help(*help));
    PossibleValuesParser::new(names).try_map(|given| {
        choices.iter().find(|(name, ..)| *name == given).map(|choice| choice.2).ok_or("an unknown name")
    })
}

/// A file or folder that is read.
pub(in crate::cli) fn read() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(|path| at_home(path.as_os_str()).into())
}

/// A file or folder that is written.
pub(in crate::cli) fn written() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match path.to_str() {
        Some("-") => {
            Err("nothing is written to stdout, for a file gets its name only when it is whole: give a name (`./-` is one)")
        }
        _ => Ok(PathBuf::from(at_home(path.as_os_str()))),
    })
}

/// `--output`: in its name, what llama.cpp's converter takes in the place of `{type}` is not.
pub(in crate::cli) fn output() -> impl TypedValueParser<Value = PathBuf> {
    written().try_map(|path| {
        let name = path.to_string_lossy().to_lowercase();
        match ["{ftype}", "{outtype}", "{}"].iter().find(|other| name.contains(**other)) {
            Some(other) => Err(format!("found {other}, expected {{type}} in its place")),
            None => Ok(path),
        }
    })
}

/// A shell leaves the `~` of `--option=~/...` alone.
pub(in crate::cli) fn at_home(text: &OsStr) -> OsString {
    let path = Path::new(text);
    let literal = path.starts_with("~") && Path::new("~").exists();
    let expanded = Caches::of_user().expand(path).filter(|_| !literal);
    expanded.map_or_else(|| text.to_owned(), PathBuf::into_os_string)
}
