//! Every format's bytes equal ggml's, with and without importance weights, and so do the weights that
//! are made of them again.

use quant::{Backend, Format, dequantize, quantize};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Rows of weights, and what ggml made of them.
struct Golden {
    folder: PathBuf,
    columns: usize,
    rows: Vec<f32>,
    importance: Vec<f32>,
    /// What kind of weights each row holds.
    kinds: Vec<String>,
    /// What the manifest says of the files of blocks.
    types: Value,
}

impl Golden {
    fn open(folder: &Path) -> Golden {
        let manifest: Value = serde_json::from_slice(&read(&folder.join("manifest.json"))).unwrap();
        let number = |value: &Value| value.as_u64().unwrap() as usize;
        let kinds =
            manifest["row_groups"].as_array().unwrap().iter().flat_map(|group| {
                std::iter::repeat_n(group[0].as_str().unwrap().to_owned(), number(&group[1]))
            });
        let golden = Golden {
            folder: folder.to_owned(),
            columns: number(&manifest["cols"]),
            rows: floats(&folder.join("input.f32")),
            importance: floats(&folder.join("imatrix.f32")),
            kinds: kinds.collect(),
            types: manifest["types"].clone(),
        };
        assert_eq!(golden.kinds.len() * golden.columns, golden.rows.len());
        golden
    }

    fn check(&self, backend: Backend, format: Format, importance: Option<&[f32]>) {
        let suffix = if importance.is_some() { ".imatrix.bin" } else { ".bin" };
        let expected = read(&self.folder.join(format!("{format}{suffix}")));
        let mut found = vec![0xa5; expected.len()];
        quantize(backend, format, self.columns, &self.rows, importance, &mut found).unwrap();
        let (bytes, row_bytes) = (format.block_bytes(), format.row_bytes(self.columns).unwrap());
        for (i, (found, expected)) in found.chunks(bytes).zip(expected.chunks(bytes)).enumerate() {
            let (row, block) = (i * bytes / row_bytes, i * bytes % row_bytes / bytes);
            let kind = &self.kinds[row];
            assert_eq!(found, expected, "{format}{suffix}, {backend}: row {row} ({kind}), block {block}");
        }
    }

    /// The weights that ggml makes of the blocks again; only the hash is kept.
    fn check_dequantize(&self, name: &str, format: Format) {
        let blocks = read(&self.folder.join(format!("{name}.bin")));
        let mut weights = vec![0.0; self.rows.len()];
        dequantize(format, &blocks, &mut weights).unwrap();
        let hash = weights.iter().flat_map(|weight| weight.to_le_bytes()).fold(
            0xcbf2_9ce4_8422_2325,
            |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3), // FNV-1a
        );
        assert_eq!(self.types[name]["dequantized_fnv1a64"], format!("{hash:016x}"), "{name}");
    }

    fn check_all(&self) {
        for format in Format::ALL.into_iter().filter(|format| format.is_quantized()) {
            for backend in Backend::available() {
                self.check(backend, format, None);
                self.check(backend, format, Some(&self.importance));
            }
        }
    }
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn testdata_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/ggml")
}

fn floats(path: &Path) -> Vec<f32> {
    read(path).as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

/// One row of every kind, in the repository.
#[test]
fn testdata() {
    Golden::open(&testdata_folder()).check_all();
}

#[test]
fn dequantized_testdata() {
    let golden = Golden::open(&testdata_folder());
    for format in Format::ALL.into_iter().filter(|format| format.is_quantized()) {
        golden.check_dequantize(format.name(), format);
        golden.check_dequantize(&format!("{format}.imatrix"), format);
    }
}

/// All rows, which lie beside the repository.
#[test]
fn all_rows() {
    let Some(folder) = llama_runtime::shared("golden/ggml") else { return };
    Golden::open(&folder).check_all();
}
