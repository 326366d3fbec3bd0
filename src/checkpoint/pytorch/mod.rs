//! A PyTorch file (`torch.save` of a dictionary of tensors): where each tensor's bytes lie.
//!
//! The file is a ZIP archive of entries that are stored as they are: a pickle that describes the tensors, and their
//! storages. With both read, a tensor is a range of the file like any other, so weights are streamed from here
//! as from a safetensors file. Nothing is executed and nothing unpacked.

mod archive;
mod opcode;
mod pickle;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::Entry;
use super::dtype::Dtype;
use super::foreign;
use super::records::{self, Records};
use crate::error::{Fault, Problem};
use crate::input::{self, ReadAt};
use archive::StoredEntry;
use pickle::Saved;

/// The pickle of a real shard of 40 layers has 40 kB.
const MAX_PICKLE: u64 = 1 << 20;
const PICKLE: &str = "data.pkl";
/// How a file starts that PyTorch before 1.6 wrote: a pickled magic number.
const LEGACY: [u8; 4] = [0x80, 2, 0x8a, 0x0a];

/// Reads archive and pickle, and holds every tensor against the storage that it is in.
///
/// The records of the tensors are returned too, to be checked when they are read.
pub(super) fn read_header(file: &dyn ReadAt) -> Result<(Vec<Entry>, Records), Fault> {
    let mut start = [0; 4];
    let length = file.length()?;
    if length >= 4 {
        file.read_exact_at(&mut start, 0)?;
    }
    if start == *b"vers" {
        return Err(input::lfs_pointer().into());
    }
    if start == LEGACY {
        let expected = "a newer one: load it with PyTorch and torch.save it again, or save it as safetensors";
        return Err(Problem::mismatch("", "the file format of PyTorch before 1.6", expected).into());
    }
    let places = archive::read(file)?;
    require_little_endian(file, &places)?;
    let pickle = read_entry(file, &places, PICKLE, MAX_PICKLE)?;
    let tensors = pickle::tensors(&pickle).map_err(|mut problem| {
        if problem.item.is_empty() {
            PICKLE.clone_into(&mut problem.item);
        }
        problem
    })?;
    foreign::refuse(tensors.iter().map(|(name, saved)| (*name, saved.shape == [0])))?;
    let mut records = Records::default();
    for (name, saved) in &tensors {
        let record = format!("data/{}", saved.key);
        if let Some(place) = places.get(&record) {
            records.add(format!("{name} ({record})"), place.offset, place.bytes, place.crc32);
        }
    }
    let entries = tensors.into_iter().map(|(name, saved)| entry(&places, name, &saved));
    Ok((entries.collect::<Result<_, Problem>>()?, records))
}

/// PyTorch writes the machine's own byte order, and from 2.1 on says which.
fn require_little_endian(file: &dyn ReadAt, places: &BTreeMap<String, StoredEntry>) -> Result<(), Fault> {
    const ENTRY: &str = "byteorder";
    if !places.contains_key(ENTRY) {
        return Ok(());
    }
    let order = read_entry(file, places, ENTRY, 16)?;
    if order == b"little" {
        return Ok(());
    }
    Err(Problem::mismatch(ENTRY, String::from_utf8_lossy(&order), "little").into())
}

fn read_entry(
    file: &dyn ReadAt,
    places: &BTreeMap<String, StoredEntry>,
    name: &str,
    max: u64,
) -> Result<Vec<u8>, Fault> {
    let place = places
        .get(name)
        .ok_or_else(|| Problem::mismatch(name, "no such entry", "it in every PyTorch file"))?;
    let len = usize::try_from(place.bytes).ok().filter(|_| place.bytes <= max);
    let len = len
        .ok_or_else(|| Problem::mismatch(name, format!("{} bytes", place.bytes), format!("at most {max}")))?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, place.offset)?;
    records::check(name, &bytes, place.crc32)?;
    Ok(bytes)
}

fn entry(places: &BTreeMap<String, StoredEntry>, name: &str, saved: &Saved) -> Result<Entry, Problem> {
    let wrong = |found: String, expected: String| Problem::mismatch(name, found, expected);
    let dtype = match saved.kind {
        "Float" => Dtype::F32,
        "Half" => Dtype::F16,
        "BFloat16" => Dtype::BF16,
        other => return Err(Dtype::refuse(name, other)),
    };
    let shape: Vec<usize> = saved
        .shape
        .iter()
        .map(|&size| usize::try_from(size))
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| wrong(format!("shape {:?}", saved.shape), "one that fits this machine".to_owned()))?;
    let mut contiguous = vec![1; shape.len()];
    let mut values = 1u64;
    for (stride, &size) in contiguous.iter_mut().zip(&saved.shape).rev() {
        *stride = values;
        values = values
            .checked_mul(size)
            .ok_or_else(|| wrong(format!("shape {:?}", saved.shape), "one that fits the file".to_owned()))?;
    }
    // The stride of a dimension of one value means nothing.
    let moved = |((&found, &expected), &size): ((&u64, &u64), &u64)| found != expected && size > 1;
    if saved.strides.len() != shape.len()
        || saved.strides.iter().zip(&contiguous).zip(&saved.shape).any(moved)
    {
        let expected = format!("{contiguous:?}: values in their order");
        return Err(wrong(format!("strides {:?}", saved.strides), expected));
    }

    let storage = format!("data/{}", saved.key);
    let place = places
        .get(&storage)
        .ok_or_else(|| wrong(format!("no {storage} in the file"), "the tensor's storage".to_owned()))?;
    let width = dtype.bytes() as u64;
    if saved.storage_len.checked_mul(width) != Some(place.bytes) {
        let expected = format!("{} {dtype} values", saved.storage_len);
        return Err(wrong(format!("{} bytes in {storage}", place.bytes), expected));
    }
    let end = saved.offset.checked_add(values).filter(|&end| end <= saved.storage_len);
    if end.is_none() {
        let found = format!("shape {:?} from value {}", saved.shape, saved.offset);
        return Err(wrong(found, format!("at most the {} values of {storage}", saved.storage_len)));
    }
    Entry::check_shape(name, &shape)?;
    Ok(Entry { name: name.to_owned(), dtype, shape, offset: place.offset + saved.offset * width })
}
