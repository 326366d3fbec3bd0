//! Every backend makes the reference's bytes, and both read them back: any finite weights, any importance.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quant::{Backend, Format, dequantize, quantize};

fuzz_target!(|bytes: &[u8]| {
    let [first, rest @ ..] = bytes else { return };
    let format = Format::ALL[usize::from(first & 0x7f) % Format::ALL.len()];
    let floats = rest.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four));
    let rows: Vec<f32> = floats.map(|x| if x.is_finite() { x } else { 1.0 }).collect();
    let columns = rows.len() / format.block_len() * format.block_len();
    let rows = &rows[..columns];
    let importance: Vec<f32> = rows.iter().map(|x| x.abs().min(1e6)).rev().collect();
    let importance = (first & 0x80 != 0).then_some(importance.as_slice());
    let made = Backend::available().into_iter().map(|backend| {
        let mut blocks = vec![0; format.row_bytes(columns).unwrap_or(0)];
        let done = quantize(backend, format, columns, rows, importance, &mut blocks);
        assert_eq!(done.is_ok(), columns > 0);
        blocks
    });
    let made: Vec<_> = made.collect();
    assert!(made.iter().all(|blocks| *blocks == made[0]), "{format}: {rows:?}");
    assert!(dequantize(format, &made[0], &mut vec![0.0; columns]).is_ok());
});
