//! Sizes that do not fit are refused, and say what was expected.

use quant::{Backend, Error, Format, dequantize, quantize};

fn quantize_error(columns: usize, rows: usize, importance: Option<usize>, out: usize) -> String {
    let importance = importance.map(|length| vec![1.0; length]);
    let rows = vec![0.5; rows];
    let mut out = vec![0; out];
    let result = quantize(Backend::SCALAR, Format::Q4_K, columns, &rows, importance.as_deref(), &mut out);
    assert!(out.iter().all(|&byte| byte == 0), "written in spite of the error");
    result.unwrap_err().to_string()
}

#[test]
fn a_row_must_be_whole_blocks() {
    for columns in [0, 1, 255, 257] {
        let expected = format!("Q4_K needs rows of a multiple of 256, found {columns}");
        assert_eq!(quantize_error(columns, columns, None, 144), expected);
    }
    let mut out = [0.0; 255];
    let error = dequantize(Format::Q4_K, &[0; 144], &mut out).unwrap_err();
    assert_eq!(error, Error::Columns { format: Format::Q4_K, columns: 255 });
}

#[test]
fn the_weights_must_be_whole_rows() {
    assert_eq!(quantize_error(512, 768, None, 288), "rows: expected a length of 512, found 768");
}

#[test]
fn the_importance_has_one_weight_a_column() {
    assert_eq!(quantize_error(256, 512, Some(512), 288), "importance: expected a length of 256, found 512");
    assert_eq!(quantize_error(256, 256, Some(0), 144), "importance: expected a length of 256, found 0");
}

#[test]
fn the_output_has_the_rows_blocks() {
    assert_eq!(quantize_error(256, 512, None, 289), "out: expected a length of 288, found 289");
    assert_eq!(quantize_error(256, 0, None, 144), "out: expected a length of 0, found 144");
    let error = dequantize(Format::Q8_0, &[0; 33], &mut [0.0; 32]).unwrap_err();
    assert_eq!(error, Error::Length { what: "blocks", expected: 34, found: 33 });
}

#[test]
fn no_rows_are_no_error() {
    for format in Format::ALL {
        assert_eq!(quantize(Backend::SCALAR, format, 256, &[], Some(&[1.0; 256]), &mut []), Ok(()));
        assert_eq!(dequantize(format, &[], &mut []), Ok(()));
    }
}
