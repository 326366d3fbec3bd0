//! Million weights a second on one core: ours, per format and backend, and ggml's on the same rows.
//!
//! `cargo bench -p glm2llama-quant -- FILTER...`: only the lines and columns whose names contain one
//! of the filters, `q4_k` or `avx512` for instance.

use std::time::{Duration, Instant};

use llama_runtime::Runtime;
use quant::{Backend, Format, quantize};

/// As in the models: a row of a large matrix.
const COLUMNS: usize = 4096;
/// Half a megabyte of weights: they stay in the cache, so this measures the arithmetic, and even the
/// slowest pass is short enough to find a quiet moment on a busy machine.
const ROWS: usize = 32;
/// The best pass counts; passes go on for so long.
const TIME: Duration = Duration::from_millis(400);

fn main() {
    let filters: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let ggml = Runtime::find().inspect_err(|absent| eprintln!("without ggml: {absent}")).ok();
    let (rows, importance) = (normal(ROWS * COLUMNS), uniform(COLUMNS));
    let backends: Vec<Backend> =
        Backend::available().into_iter().filter(|b| wanted(&filters, b.name(), &backend_names())).collect();

    print!("{:<8}{:<12}{:>8}", "format", "importance", "ggml");
    for backend in &backends {
        print!("{:>10}{:>8}", backend.name(), "ratio");
    }
    println!();
    for format in Format::ALL.into_iter().filter(|format| format.is_quantized()) {
        if !wanted(&filters, format.name(), &format_names()) {
            continue;
        }
        for importance in [None, Some(importance.as_slice())] {
            let mut out = vec![0; ROWS * format.row_bytes(COLUMNS).unwrap()];
            let mut expected = out.clone();
            print!("{format:<8}{:<12}", if importance.is_some() { "weighted" } else { "plain" });
            let theirs = ggml.map(|ggml| {
                speed(|| {
                    ggml.quantize_chunk_into(format.ggml_type(), COLUMNS, &rows, importance, &mut expected)
                })
            });
            print!("{:>8}", theirs.map_or_else(String::new, |theirs| format!("{theirs:.1}")));
            for &backend in &backends {
                let ours = speed(|| quantize(backend, format, COLUMNS, &rows, importance, &mut out).unwrap());
                assert!(ggml.is_none() || out == expected, "{format} on {backend}: other bytes than ggml's");
                let ratio = theirs.map_or_else(String::new, |theirs| format!("{:.1}", ours / theirs));
                print!("{ours:>10.1}{ratio:>8}");
            }
            println!();
        }
    }
}

fn format_names() -> Vec<&'static str> {
    Format::ALL.iter().map(|format| format.name()).collect()
}

fn backend_names() -> Vec<&'static str> {
    Backend::available().iter().map(|backend| backend.name()).collect()
}

/// Whether a name is among the filters, or no filter is of its kind.
fn wanted(filters: &[String], name: &str, kind: &[&str]) -> bool {
    let is = |filter: &String, name: &str| filter.eq_ignore_ascii_case(name);
    !filters.iter().any(|filter| kind.iter().any(|name| is(filter, name)))
        || filters.iter().any(|filter| is(filter, name))
}

/// Million weights a second in the best pass.
fn speed(mut pass: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut best = f64::INFINITY;
    while start.elapsed() < TIME {
        let start = Instant::now();
        pass();
        best = best.min(start.elapsed().as_secs_f64());
    }
    (ROWS * COLUMNS) as f64 / best / 1e6
}

/// Numbers from 0 to 1, the same in every run.
fn uniform(len: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..len).map(|_| next()).collect()
}

/// Weights as models have them: normally distributed.
fn normal(len: usize) -> Vec<f32> {
    let pairs = uniform(2 * len);
    let (radius, angle) = pairs.split_at(len);
    let normal = |(&r, &a): (&f32, &f32)| (-2.0 * (1.0 - r).ln()).sqrt() * (std::f32::consts::TAU * a).cos();
    radius.iter().zip(angle).map(|pair| 0.02 * normal(pair)).collect()
}
