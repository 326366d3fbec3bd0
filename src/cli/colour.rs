//! Colour where a person looks: on a terminal that has it, and where neither `--color` nor NO_COLOR forbids it.

use std::io::{stderr, stdout};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

use glm2llama::verify::{Grade, Quality};

/// Follows `--color` from now on.
pub(super) fn choose(choice: clap::ColorChoice) {
    match choice {
        clap::ColorChoice::Auto => ColorChoice::Auto,
        clap::ColorChoice::Always => ColorChoice::Always,
        clap::ColorChoice::Never => ColorChoice::Never,
    }
    .write_global();
}

/// What a text is about.
#[derive(Clone, Copy)]
pub(super) enum Tone {
    Good,
    Doubtful,
    Bad,
    Plain,
}

impl Tone {
    pub(super) fn of(quality: Quality) -> Tone {
        match quality.grade() {
            Some(Grade::NearlyLossless | Grade::Good) => Tone::Good,
            Some(Grade::Noticeable) => Tone::Doubtful,
            Some(Grade::Poor | Grade::Unusable) => Tone::Bad,
            None => Tone::Plain,
        }
    }

    fn style(self) -> Style {
        let colour = match self {
            Tone::Good => AnsiColor::Green,
            Tone::Doubtful => AnsiColor::Yellow,
            Tone::Bad => AnsiColor::Red,
            Tone::Plain => return Style::new(),
        };
        Style::new().bold().fg_color(Some(colour.into()))
    }

    fn paint(self, choice: ColorChoice, text: &str) -> String {
        let style = self.style();
        match choice {
            ColorChoice::Never => text.to_owned(),
            _ => format!("{style}{text}{style:#}"),
        }
    }

    /// For stdout.
    pub(super) fn out(self, text: &str) -> String {
        self.paint(AutoStream::choice(&stdout()), text)
    }

    /// For stderr.
    pub(super) fn note(self, text: &str) -> String {
        self.paint(AutoStream::choice(&stderr()), text)
    }
}
