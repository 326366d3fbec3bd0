//! Quantizes rows of raw floats: the crate in one page, and a stopwatch for it.
//!
//! `rows FORMAT COLUMNS INPUT.f32 OUTPUT.bin [--imatrix FILE.f32] [--backend NAME]`
//!
//! The floats are little-endian. The line it prints ends with the million weights that one thread
//! quantizes in a second: the best of several passes in memory, without reading and writing files.

use quant::{Backend, Format};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs};

const USAGE: &str = "usage: rows FORMAT COLUMNS INPUT.f32 OUTPUT.bin [--imatrix FILE.f32] [--backend NAME]";

/// Passes go on until both are reached.
const LEAST_PASSES: usize = 3;
const LEAST_TIME: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    match run(env::args().skip(1)) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("rows: {message}");
            ExitCode::from(2)
        }
    }
}

fn run(mut args: impl Iterator<Item = String>) -> Result<String, String> {
    let mut positional = Vec::new();
    let mut imatrix = None;
    let mut backend = Backend::detect();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value; {USAGE}"));
        match arg.as_str() {
            "--imatrix" => imatrix = Some(value()?),
            "--backend" => backend = value()?.parse().map_err(|error| format!("{error}"))?,
            option if option.starts_with("--") => return Err(format!("unknown option {option}; {USAGE}")),
            _ => positional.push(arg),
        }
    }
    let [format, columns, input, output] = positional.try_into().map_err(|_| USAGE.to_owned())?;
    let format: Format = format.parse().map_err(|error| format!("{error}"))?;
    let columns: usize = columns.parse().map_err(|_| format!("COLUMNS is no number: `{columns}`"))?;

    let rows = read_floats(&input)?;
    let importance = imatrix.as_deref().map(read_floats).transpose()?;
    let row_bytes = format.row_bytes(columns).unwrap_or(0); // `quantize` says what is wrong with it
    let count = rows.len().checked_div(columns).unwrap_or(0);
    let mut blocks = vec![0; count * row_bytes];

    let mut best = Duration::MAX;
    let started = Instant::now();
    for pass in 0.. {
        if pass >= LEAST_PASSES && started.elapsed() >= LEAST_TIME {
            break;
        }
        let start = Instant::now();
        quant::quantize(backend, format, columns, &rows, importance.as_deref(), &mut blocks)
            .map_err(|error| error.to_string())?;
        best = best.min(start.elapsed());
    }
    if rows.is_empty() {
        return Err(format!("{input}: no rows"));
    }
    fs::write(&output, &blocks).map_err(|error| format!("{output}: {error}"))?;
    let speed = rows.len() as f64 / 1e6 / best.as_secs_f64();
    Ok(format!(
        "{format} {backend}: {count} rows of {columns}, {} bytes, million weights a second: {speed:.1}",
        blocks.len()
    ))
}

fn read_floats(path: &str) -> Result<Vec<f32>, String> {
    let bytes = fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    let (floats, rest) = bytes.as_chunks();
    if !rest.is_empty() {
        return Err(format!("{path}: {} bytes are no whole number of floats", bytes.len()));
    }
    Ok(floats.iter().map(|&float| f32::from_le_bytes(float)).collect())
}
