//! Files as PyTorch writes them, and files that nobody should have written.

use std::io::Write;
use std::path::Path;

use rawzip::{CompressionMethod, ZipArchiveWriter};

use super::opcode as op;
use super::*;
use crate::error::InFile;

/// A pickle, instruction by instruction.
#[derive(Clone, Default)]
struct Pickle(Vec<u8>);

impl Pickle {
    fn new() -> Pickle {
        Pickle(vec![op::PROTO, 2])
    }

    fn op(mut self, code: u8) -> Pickle {
        self.0.push(code);
        self
    }

    fn text(mut self, text: &str) -> Pickle {
        self.0.push(op::BINUNICODE);
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.as_bytes());
        self
    }

    fn int(mut self, value: i64) -> Pickle {
        self.0.extend([op::LONG1, 8]);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn global(mut self, module: &str, name: &str) -> Pickle {
        self.0.push(op::GLOBAL);
        self.0.extend(format!("{module}\n{name}\n").as_bytes());
        self
    }

    fn sizes(self, sizes: &[i64]) -> Pickle {
        sizes.iter().fold(self.op(op::MARK), |pickle, &size| pickle.int(size)).op(op::TUPLE)
    }

    fn ordered_dict(self) -> Pickle {
        self.global("collections", "OrderedDict").op(op::EMPTY_TUPLE).op(op::REDUCE)
    }

    fn storage(self, tensor: &Spec) -> Pickle {
        let class = format!("{}Storage", tensor.kind);
        let id = self.op(op::MARK).text("storage").global("torch", &class).text(tensor.key).text("cpu");
        id.int(tensor.len).op(op::TUPLE).op(op::BINPERSID)
    }

    fn tensor(self, tensor: &Spec) -> Pickle {
        let call = self.global("torch._utils", "_rebuild_tensor_v2").op(op::MARK).storage(tensor);
        let call = call.int(tensor.offset).sizes(tensor.shape).sizes(tensor.strides).op(op::NEWFALSE);
        call.ordered_dict().op(op::TUPLE).op(op::REDUCE)
    }

    /// A whole file of one tensor named `t`.
    fn of(tensor: &Spec) -> Vec<u8> {
        let pickle = Pickle::new().op(op::EMPTY_DICT).op(op::MARK).text("t").tensor(tensor);
        file(&pickle.op(op::SETITEMS).op(op::STOP))
    }
}

#[derive(Clone, Copy)]
struct Spec {
    kind: &'static str,
    key: &'static str,
    len: i64,
    offset: i64,
    shape: &'static [i64],
    strides: &'static [i64],
}

/// Fits the storage that [`file`] writes.
const GOOD: Spec = Spec { kind: "Half", key: "0", len: 8, offset: 0, shape: &[2, 4], strides: &[4, 1] };

const STORAGE: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

fn zip(entries: &[(&str, &[u8], CompressionMethod)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut archive = ZipArchiveWriter::new(&mut bytes);
    for (name, content, method) in entries {
        let (mut entry, config) = archive.new_file(name).compression_method(*method).start().unwrap();
        let mut writer = config.wrap(&mut entry);
        writer.write_all(content).unwrap();
        let (_, descriptor) = writer.finish().unwrap();
        entry.finish(descriptor).unwrap();
    }
    archive.finish().unwrap();
    bytes
}

fn file(pickle: &Pickle) -> Vec<u8> {
    zip(&[
        ("m/data.pkl", &pickle.0, CompressionMethod::STORE),
        ("m/byteorder", b"little", CompressionMethod::STORE),
        ("m/data/0", &STORAGE, CompressionMethod::STORE),
        ("m/version", b"3\n", CompressionMethod::STORE),
    ])
}

/// Reads the header of a file with these bytes, named `m.bin` in errors.
fn read(bytes: &[u8]) -> std::result::Result<Vec<Entry>, String> {
    let read = read_header(&bytes.to_vec()).in_file(Path::new("m.bin"));
    read.map(|(entries, _)| entries).map_err(|error| error.to_string())
}

#[track_caller]
fn refused(bytes: &[u8], expected: &str) {
    let error = read(bytes).unwrap_err();
    assert_eq!(error, format!("m.bin: {expected}"));
}

#[test]
fn a_tensor_is_a_range_of_the_file() {
    for spec in
        [GOOD, Spec { kind: "BFloat16", ..GOOD }, Spec { offset: 2, shape: &[6], strides: &[1], ..GOOD }]
    {
        let bytes = Pickle::of(&spec);
        let [entry] = &read(&bytes).unwrap()[..] else { panic!("one tensor") };
        let at = usize::try_from(entry.offset).unwrap();
        let skipped = usize::try_from(spec.offset).unwrap() * 2;
        assert_eq!(bytes[at..][..16 - skipped], STORAGE[skipped..]);
        assert_eq!((entry.name.as_str(), entry.shape.len()), ("t", spec.shape.len()));
    }
}

/// `torch.save(model.state_dict())`: an OrderedDict with the modules' versions as its state.
#[test]
fn a_state_dict_and_parameters_are_read() {
    let versions = Pickle::default().op(op::EMPTY_DICT).text("_metadata").ordered_dict().op(op::SETITEM);
    let mut pickle = Pickle::new().ordered_dict().op(op::MARK).text("a").tensor(&GOOD).text("b");
    pickle = pickle.global("torch._utils", "_rebuild_parameter").op(op::MARK).tensor(&GOOD);
    pickle = pickle.op(op::NEWTRUE).ordered_dict().op(op::TUPLE).op(op::REDUCE).op(op::SETITEMS);
    pickle.0.extend(versions.0);
    let entries = read(&file(&pickle.op(op::BUILD).op(op::STOP))).unwrap();
    // Both lie in the same storage, as tied weights do.
    assert_eq!(entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(entries[0].offset, entries[1].offset);
}

#[test]
fn whatever_can_be_called_is_refused_by_name() {
    for (module, name, shown) in [
        ("os", "system", "os.system"),
        ("builtins", "eval", "builtins.eval"),
        ("torch", "load", "torch.load"),
        ("torch.hub", "HalfStorage", "torch.hub.HalfStorage"),
        ("numpy.core.multiarray", "_reconstruct", "numpy.core.multiarray._reconstruct"),
        ("pos\u{1b}ix", "system", "pos\\u{1b}ix.system"),
    ] {
        let pickle =
            Pickle::new().global(module, name).text("true").op(op::TUPLE1).op(op::REDUCE).op(op::STOP);
        let problem = "expected tensors only: whatever else a pickle can call is refused";
        refused(&file(&pickle), &format!("data.pkl: found `{shown}`, {problem}"));
    }
}

#[test]
fn pickles_that_lie_or_break_off_are_refused() {
    let p = Pickle::new;
    let cases: [(Pickle, &str); 17] = [
        (p(), "found its end, expected more instructions"),
        (Pickle(vec![]), "found its end, expected more instructions"),
        (Pickle(vec![op::PROTO, 4]), "found bytes 0x80 0x04, expected pickle protocol 2"),
        (p().op(b'i'), "found opcode 0x69 at byte 2, expected only those that torch.save writes"),
        (p().op(0x93), "found opcode 0x93 at byte 2, expected only those that torch.save writes"),
        (p().op(op::STOP), "found something beside it, expected one value"),
        (p().op(op::NONE).op(op::STOP), "found None, expected a dictionary of tensors"),
        (p().op(op::EMPTY_DICT).op(op::STOP).op(op::STOP), "found something beside it, expected one value"),
        (p().op(op::TUPLE), "found an instruction without its operands, expected a complete pickle"),
        (p().op(op::TUPLE2), "found an instruction without its operands, expected a complete pickle"),
        // The mark is above what is left of the stack.
        (p().op(op::NONE).op(op::MARK).op(op::REDUCE), "found None, expected a short tuple"),
        (Pickle([p().0, vec![op::BINGET, 7]].concat()), "found memo 7, expected one set before"),
        (
            Pickle([p().0, vec![op::BINUNICODE, 255, 255, 255, 255, b'x']].concat()),
            "found its end, expected more instructions",
        ),
        (
            Pickle([p().0, vec![op::LONG1, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1]].concat()),
            "found a number of 9 bytes, expected at most 8",
        ),
        (
            p().op(op::EMPTY_DICT).op(op::MARK).text("a").op(op::SETITEMS),
            "found a key without a value, expected pairs",
        ),
        (
            p().text("a").op(op::TUPLE1).op(op::BINPERSID),
            "found another persistent id, expected a tensor's storage",
        ),
        (
            p().op(op::EMPTY_DICT).int(1).op(op::NONE).op(op::SETITEM).op(op::STOP),
            "found a number as a key, expected a tensor's name",
        ),
    ];
    for (pickle, expected) in cases {
        refused(&file(&pickle), &format!("data.pkl: {expected}"));
    }
    let nested = p().op(op::EMPTY_DICT).text("state_dict").op(op::EMPTY_DICT).op(op::SETITEM).op(op::STOP);
    refused(&file(&nested), "state_dict: found a dictionary, expected a tensor");
}

#[test]
fn tensors_that_do_not_fit_their_storage_are_refused() {
    const HUGE: i64 = i64::MAX;
    let cases = [
        (Spec { key: "1", ..GOOD }, "t: found no data/1 in the file, expected the tensor's storage"),
        (Spec { key: "../0", ..GOOD }, "t: found no data/../0 in the file, expected the tensor's storage"),
        (Spec { len: 9, ..GOOD }, "t: found 16 bytes in data/0, expected 9 F16 values"),
        (Spec { len: HUGE, ..GOOD }, "t: found 16 bytes in data/0, expected 9223372036854775807 F16 values"),
        (Spec { len: -1, ..GOOD }, "0: found -1, expected the length of a storage"),
        (Spec { kind: "Float", ..GOOD }, "t: found 16 bytes in data/0, expected 8 F32 values"),
        (
            Spec { offset: 1, ..GOOD },
            "t: found shape [2, 4] from value 1, expected at most the 8 values of data/0",
        ),
        (Spec { offset: -1, ..GOOD }, "0: found -1, expected an offset"),
        (
            Spec { offset: HUGE, ..GOOD },
            "t: found shape [2, 4] from value 9223372036854775807, expected at most the 8 values of data/0",
        ),
        (
            Spec { shape: &[3, 4], ..GOOD },
            "t: found shape [3, 4] from value 0, expected at most the 8 values of data/0",
        ),
        (
            Spec { shape: &[HUGE, 4], ..GOOD },
            "t: found shape [9223372036854775807, 4], expected one that fits the file",
        ),
        (Spec { shape: &[-2, 4], ..GOOD }, "data.pkl: found -2, expected a size"),
        (
            Spec { shape: &[0, 4], ..GOOD },
            "t: found shape [0, 4], expected a vector or a matrix, none of its sizes 0",
        ),
        (Spec { shape: &[], strides: &[], ..GOOD }, "t: found shape [], expected a vector or a matrix"),
        (
            Spec { shape: &[2, 2, 2], strides: &[4, 2, 1], ..GOOD },
            "t: found shape [2, 2, 2], expected a vector or a matrix",
        ),
        (
            Spec { strides: &[1, 2], ..GOOD },
            "t: found strides [1, 2], expected [4, 1]: values in their order",
        ),
        (Spec { strides: &[1], ..GOOD }, "t: found strides [1], expected [4, 1]: values in their order"),
        (
            Spec { kind: "Double", ..GOOD },
            "t: found Double values, expected F16, BF16 or F32: convert it to F16 first",
        ),
        (
            Spec { kind: "Char", ..GOOD },
            "t: found Char values, expected F16, BF16 or F32: it was quantized already, convert the original checkpoint",
        ),
    ];
    for (spec, expected) in cases {
        refused(&Pickle::of(&spec), expected);
    }
}

#[test]
fn archives_that_torch_save_does_not_write_are_refused() {
    const STORE: CompressionMethod = CompressionMethod::STORE;
    let pickle = Pickle::new().op(op::EMPTY_DICT).op(op::STOP).0;
    let cases: [(Vec<u8>, &str); 7] = [
        (
            zip(&[("m/data.pkl", &pickle, CompressionMethod::DEFLATE)]),
            "data.pkl: found a compressed entry, expected it stored as it is: save it again with torch.save",
        ),
        (
            zip(&[("data.pkl", &pickle, STORE)]),
            "data.pkl: found an entry outside the folder, expected all in one folder: save it again with torch.save",
        ),
        (
            zip(&[("m/data.pkl", &pickle, STORE), ("etc/x", b"", STORE)]),
            "etc/x: found it in etc, expected all entries in one folder: save it again with torch.save",
        ),
        (
            zip(&[("m/data.pkl", &pickle, STORE), ("m/data.pkl", &pickle, STORE)]),
            "data.pkl: found it twice, expected each entry once",
        ),
        (
            zip(&[("m/version", b"3\n", STORE)]),
            "data.pkl: found no such entry, expected it in every PyTorch file",
        ),
        (
            zip(&[("m/data.pkl", &pickle, STORE), ("m/byteorder", b"big", STORE)]),
            "byteorder: found big, expected little",
        ),
        (
            zip(&[("m/data.pkl", &vec![0; (1 << 20) + 1], STORE)]),
            "data.pkl: found 1048577 bytes, expected at most 1048576",
        ),
    ];
    for (bytes, expected) in cases {
        refused(&bytes, expected);
    }
    refused(
        b"\x80\x02\x8a\x0alegacy",
        "found the file format of PyTorch before 1.6, expected a newer one: load it with PyTorch and torch.save it \
         again, or save it as safetensors",
    );
    for bytes in [&b""[..], b"abc", &Pickle::of(&GOOD)[..300]] {
        assert!(read(bytes).unwrap_err().starts_with("m.bin: is no whole PyTorch file: "));
    }
}

/// Each of these would grow without bound, or overflow the stack, in a reader that builds what it is told.
#[test]
fn bombs_cost_no_more_than_their_length() {
    let mut doubling = Pickle::new().op(op::EMPTY_TUPLE);
    for _ in 0..60_000 {
        doubling.0.extend([op::BINPUT, 0, op::BINGET, 0, op::TUPLE2]);
    }
    refused(&file(&doubling.op(op::STOP)), "data.pkl: found a tuple, expected a dictionary of tensors");

    let mut deep = Pickle::new().op(op::EMPTY_TUPLE);
    deep.0.extend([op::TUPLE1; 60_000]);
    refused(&file(&deep.op(op::STOP)), "data.pkl: found a tuple, expected a dictionary of tensors");

    let mut many = Pickle::new();
    many.0.extend([op::EMPTY_DICT; 300_000]);
    refused(&file(&many), "data.pkl: found over 65536 values, expected the few of a dictionary of tensors");

    // A dictionary that is its own value.
    let mut own = Pickle::new().op(op::EMPTY_DICT);
    own.0.extend([op::BINPUT, 0]);
    own = own.text("a");
    own.0.extend([op::BINGET, 0, op::SETITEM, op::STOP]);
    refused(&file(&own), "a: found a dictionary, expected a tensor");
}

/// Every prefix and every changed byte of a good file is an error or the same kind of header: never a panic.
#[test]
fn damage_is_never_a_panic() {
    let good = Pickle::of(&GOOD);
    for len in 0..good.len() {
        assert!(read(&good[..len]).is_err());
    }
    for at in 0..good.len() {
        for change in [1, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] ^= change;
            let _ = read(&bytes);
        }
    }
}
