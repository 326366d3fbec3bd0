//! `glm2llama ollama`, and `convert --ollama`.

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, ExitCode};

use super::args::Ollama;
use super::next::ollama_create;
use super::print::{note, out, warn};
use glm2llama::error::{Error, Result};
use glm2llama::gguf::GgufFile;
use glm2llama::ollama::{check_name, is_there, of_gguf};
use glm2llama::output::Pending;

/// Where there is no program to run, as shells say it.
const NO_PROGRAM: u8 = 127;

pub(super) fn run(args: &Ollama) -> Result<ExitCode> {
    if args.name.ends_with(".gguf") || Path::new(&args.name).is_file() {
        let expected = "a name for Ollama, which comes first: glm2llama ollama NAME FILE";
        return Err(Error::file_mismatch(Path::new(&args.name), "a file", expected));
    }
    check_name(&args.name)?;
    let file = GgufFile::open_model(&args.file)?;
    let modelfile = args.file.with_extension("Modelfile");
    if !is_there(&modelfile, &args.file)? {
        derive(&file, &modelfile)?;
    }
    create(&args.name, &modelfile)
}

/// Writes the Modelfile that `convert` would have written.
fn derive(file: &GgufFile, modelfile: &Path) -> Result<()> {
    let made = of_gguf(file)?;
    let mut pending = Pending::create(modelfile, false)?;
    pending.write_all(made.text.as_bytes())?;
    pending.publish()?;
    note(&format!(
        "{}: written from the GGUF, which does not say how to sample: Ollama's own temperature and top_p hold",
        modelfile.display()
    ));
    made.warning.iter().for_each(|warning| warn(warning));
    Ok(())
}

/// Runs `ollama create`, whose words go where ours do; where there is no `ollama`, prints what to type.
///
/// # Errors
/// When it is there and cannot be run.
pub(super) fn create(name: &str, modelfile: &Path) -> Result<ExitCode> {
    note(&format!("running: ollama create {name}"));
    let status = Command::new("ollama").args(["create", name, "-f"]).arg(modelfile).status();
    let status = match status {
        Ok(status) => status,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            note("ollama: not found in PATH: install it from https://ollama.com, then type");
            out(&ollama_create(name, modelfile));
            return Ok(ExitCode::from(NO_PROGRAM));
        }
        Err(error) => return Err(Error::io(Path::new("ollama"), "run")(error)),
    };
    if status.success() {
        out(&format!("  next: ollama run {name}"));
        return Ok(ExitCode::SUCCESS);
    }
    note(&format!(
        "ollama create failed ({status}): its own message is above; is its server up (ollama serve)?"
    ));
    // One that was killed has no code.
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}
