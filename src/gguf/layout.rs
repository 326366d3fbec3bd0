//! Where everything lies in the file: a pure function of metadata, shapes and formats.

use gguf_rs_lib::format::{
    GGUFHeader, GGUFTensorType, GGUFValueType, Metadata as Keys, MetadataArray, MetadataValue,
};
use gguf_rs_lib::tensor::{TensorInfo as LibTensor, TensorShape};
use gguf_rs_lib::writer::GGUFStreamWriter;
use quant::Format;

use super::{ALIGNMENT, Metadata, Value};
use crate::error::{Error, Result};

/// ggml's longest tensor name (`GGML_MAX_NAME`, less its closing zero).
const MAX_NAME: usize = 63;

/// A whole file's layout, known before its first weight is read.
#[derive(Clone, Debug, PartialEq)]
pub struct FileLayout {
    /// Everything before the first tensor: header, metadata, tensor table and padding.
    pub header: Vec<u8>,
    /// The tensors, in the order of the file.
    pub tensors: Vec<TensorInfo>,
    /// Bytes of the whole file.
    pub total_bytes: u64,
}

/// One tensor of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Row-major shape, `[out, in]` or `[len]`.
    pub shape: Vec<usize>,
    /// How it is stored.
    pub format: Format,
    /// Its first byte, counted from the end of `header`.
    pub offset: u64,
    /// Its length, without the padding behind it.
    pub bytes: u64,
}

impl FileLayout {
    /// Lays tensors out one after the other, each at the next multiple of the alignment.
    ///
    /// # Errors
    /// When a row is no whole number of blocks, a name is too long or taken, or a size overflows.
    pub fn new(
        metadata: Metadata,
        tensors: impl IntoIterator<Item = (String, Vec<usize>, Format)>,
    ) -> Result<FileLayout> {
        let mut placed = Vec::new();
        let mut end = 0u64;
        for (name, shape, format) in tensors {
            let bytes = tensor_bytes(&shape, format)
                .ok_or_else(|| refused(format!("{name}: shape {shape:?} does not fit {format}")))?;
            if name.len() > MAX_NAME {
                return Err(refused(format!(
                    "{name}: found a name of {} bytes, expected at most {MAX_NAME}",
                    name.len()
                )));
            }
            placed.push(TensorInfo { name, shape, format, offset: end, bytes });
            // The last tensor is padded too: ggml refuses a file that ends without it.
            let padded = bytes.checked_next_multiple_of(ALIGNMENT).and_then(|bytes| end.checked_add(bytes));
            end = padded.ok_or_else(|| refused("the tensors' sizes overflow".to_owned()))?;
        }
        let header = write_header(metadata, &placed).map_err(|e| refused(e.to_string()))?;
        Ok(FileLayout { total_bytes: header.len() as u64 + end, header, tensors: placed })
    }

    /// Weights in the file, padding of the feed-forward network included.
    pub fn weights(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.shape.iter().product::<usize>() as u64).sum()
    }
}

fn refused(problem: String) -> Error {
    Error::Usage(format!("cannot lay out the GGUF: {problem}"))
}

fn tensor_bytes(shape: &[usize], format: Format) -> Option<u64> {
    let (columns, rows) = shape.split_last()?;
    let rows = rows.iter().try_fold(1u64, |n, &rows| n.checked_mul(rows as u64))?;
    rows.checked_mul(format.row_bytes(*columns)? as u64)
}

fn write_header(metadata: Metadata, tensors: &[TensorInfo]) -> gguf_rs_lib::Result<Vec<u8>> {
    let mut keys = Keys::new();
    for (key, value) in metadata {
        keys.insert(key, to_lib(value)?);
    }
    let infos = tensors.iter().map(tensor_to_lib).collect::<gguf_rs_lib::Result<Vec<_>>>()?;
    let mut writer = GGUFStreamWriter::new(Vec::new());
    writer.write_header(&GGUFHeader::new(infos.len() as u64, keys.len() as u64))?;
    writer.write_metadata(&keys)?;
    writer.write_tensor_infos(&infos)?;
    writer.align_for_tensor_data()?;
    Ok(writer.into_inner())
}

fn tensor_to_lib(tensor: &TensorInfo) -> gguf_rs_lib::Result<LibTensor> {
    // GGUF counts dimensions from the innermost.
    let shape = TensorShape::new(tensor.shape.iter().rev().map(|&n| n as u64).collect())?;
    let format = GGUFTensorType::from_u32(tensor.format.ggml_type())?;
    Ok(LibTensor::new(tensor.name.clone(), shape, format, tensor.offset))
}

fn to_lib(value: Value) -> gguf_rs_lib::Result<MetadataValue> {
    Ok(match value {
        Value::U8(x) => MetadataValue::U8(x),
        Value::I8(x) => MetadataValue::I8(x),
        Value::U16(x) => MetadataValue::U16(x),
        Value::I16(x) => MetadataValue::I16(x),
        Value::U32(x) => MetadataValue::U32(x),
        Value::I32(x) => MetadataValue::I32(x),
        Value::U64(x) => MetadataValue::U64(x),
        Value::I64(x) => MetadataValue::I64(x),
        Value::F32(x) => MetadataValue::F32(x),
        Value::F64(x) => MetadataValue::F64(x),
        Value::Bool(x) => MetadataValue::Bool(x),
        Value::String(x) => MetadataValue::String(x),
        Value::Strings(x) => {
            array(GGUFValueType::String, x.into_iter().map(MetadataValue::String).collect())?
        }
        Value::F32s(x) => array(GGUFValueType::F32, x.into_iter().map(MetadataValue::F32).collect())?,
        Value::I32s(x) => array(GGUFValueType::I32, x.into_iter().map(MetadataValue::I32).collect())?,
        Value::Array(x) => {
            let values = x.into_iter().map(to_lib).collect::<gguf_rs_lib::Result<Vec<_>>>()?;
            array(values.first().map_or(GGUFValueType::U8, MetadataValue::value_type), values)?
        }
    })
}

fn array(kind: GGUFValueType, values: Vec<MetadataValue>) -> gguf_rs_lib::Result<MetadataValue> {
    Ok(MetadataValue::Array(Box::new(MetadataArray::new(kind, values)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_aligned_and_the_last_is_padded() {
        let tensors = [
            ("a".to_owned(), vec![3], Format::F32),
            ("b".to_owned(), vec![2, 256], Format::Q4_K),
            ("c".to_owned(), vec![1], Format::F32),
        ];
        let layout =
            FileLayout::new(vec![("general.alignment".to_owned(), Value::U32(32))], tensors).unwrap();
        let offsets: Vec<u64> = layout.tensors.iter().map(|t| t.offset).collect();
        assert_eq!(offsets, [0, 32, 320]);
        assert_eq!(layout.header.len() % 32, 0);
        assert_eq!(layout.total_bytes, layout.header.len() as u64 + 352);
    }

    #[test]
    fn rows_that_do_not_fit_are_refused() {
        let error = FileLayout::new(vec![], [("a".to_owned(), vec![2, 100], Format::Q4_K)]).unwrap_err();
        assert!(error.to_string().contains("a: shape [2, 100] does not fit Q4_K"));
    }
}
