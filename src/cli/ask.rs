//! `glm2llama ask`.

use super::args::Ask;
use super::print::{note, write};
use super::progress::Stop;
use glm2llama::error::Result;
use glm2llama::gguf::GgufFile;
use glm2llama::verify::ask;

pub(super) fn run(args: &Ask) -> Result<()> {
    let file = GgufFile::open_model(&args.file)?;
    let stop = Stop::on_signals()?;
    let most = args.tokens as usize;
    let said = ask(&file, &args.question, most, &stop, &mut |text| {
        write(harmless(text).as_bytes());
        Ok(())
    })?;
    write(b"\n");
    let speed = |tokens: usize, seconds: f64| tokens as f64 / seconds.max(1e-9);
    note(&format!(
        "{} tokens, {:.1} a second, after {:.1} s for the {} tokens of the question{}",
        said.tokens,
        speed(said.tokens, said.took.as_secs_f64()),
        said.prompt_took.as_secs_f64(),
        said.prompt_tokens,
        if said.ended { "" } else { "; cut off, --tokens N allows more" }
    ));
    Ok(())
}

/// A stranger's model may say what a terminal obeys.
fn harmless(text: &str) -> String {
    text.chars().filter(|&c| !c.is_control() || c == '\n' || c == '\t').collect()
}
