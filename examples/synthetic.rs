//! Writes a made-up ChatGLM3 checkpoint: a small one, or one with ChatGLM3-6B's exact shapes (12.5 GB).
//!
//!     cargo run --release --example synthetic -- OUT_DIR [--full-size] [--layers N] [--tokenizer FILE]

#[allow(dead_code)] // the tests use the rest
#[path = "../tests/support/checkpoint.rs"]
mod checkpoint;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use checkpoint::Checkpoint;

fn main() -> Result<(), Box<dyn Error>> {
    let mut folder = None;
    let mut full_size = false;
    let mut layers = None;
    let mut tokenizer = None;
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or("a value is missing");
        match argument.to_str() {
            Some("--full-size") => full_size = true,
            Some("--layers") => layers = Some(value()?.to_string_lossy().parse()?),
            Some("--tokenizer") => tokenizer = Some(PathBuf::from(value()?)),
            _ if folder.is_none() => folder = Some(PathBuf::from(argument)),
            _ => return Err(format!("what is {}?", argument.display()).into()),
        }
    }
    let folder = folder.ok_or("synthetic OUT_DIR [--full-size] [--layers N] [--tokenizer FILE]")?;
    let mut checkpoint = if full_size { Checkpoint::chatglm3_6b() } else { Checkpoint::tiny() };
    checkpoint.layers = layers.unwrap_or(checkpoint.layers);

    let start = Instant::now();
    checkpoint.write(&folder, &tokenizer.unwrap_or_else(|| default_tokenizer(full_size)))?;
    let bytes = checkpoint.index()["metadata"]["total_size"].as_f64().unwrap_or_default();
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{}: {:.2} GB in {seconds:.1} s, {:.2} GB/s",
        folder.display(),
        bytes / 1e9,
        bytes / 1e9 / seconds
    );
    Ok(())
}

/// The published tokenizer for the full vocabulary, if the developers' copy lies beside the project.
fn default_tokenizer(full_size: bool) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let published = root.join("../shared/data/tokenizer/chatglm3.model");
    if full_size && published.exists() {
        published
    } else {
        root.join("testdata/models/tiny-chatglm3/tokenizer.model")
    }
}
