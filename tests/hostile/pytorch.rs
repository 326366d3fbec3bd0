//! PyTorch's files: a ZIP archive with a pickle, a program that may ask for anything.

use super::refuse;

const FILE: &str = "pytorch_model.bin";

/// A ZIP archive of entries stored as they are; `method` 0 says so.
fn zip(entries: &[(&str, &[u8])], method: u16) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let [size, offset] = [bytes.len() as u32, file.len() as u32].map(u32::to_le_bytes);
        // version, flags; method; time, date; checksum; sizes; lengths of name and extra field
        let common = [
            &b"\x14\0\0\0"[..],
            &method.to_le_bytes(),
            &[0; 8],
            &size,
            &size,
            &(name.len() as u16).to_le_bytes(),
            &[0; 2],
        ]
        .concat();
        directory.extend([&b"PK\x01\x02\x14\0"[..], &common, &[0; 10], &offset, name.as_bytes()].concat());
        file.extend([&b"PK\x03\x04"[..], &common, name.as_bytes(), bytes].concat());
    }
    let count = (entries.len() as u16).to_le_bytes();
    let [size, start] = [directory.len() as u32, file.len() as u32].map(u32::to_le_bytes);
    file.extend(directory);
    file.extend([&b"PK\x05\x06\0\0\0\0"[..], &count, &count, &size, &start, &[0; 2]].concat());
    file
}

/// A file with this pickle and one storage of 4 halves.
fn pickled(body: &[u8]) -> Vec<u8> {
    let pickle = [b"\x80\x02", body, b"."].concat();
    zip(&[("m/data.pkl", &pickle), ("m/data/0", &[0; 8])], 0)
}

fn text(text: &str) -> Vec<u8> {
    [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

fn global(name: &str) -> Vec<u8> {
    format!("c{name}\n").into_bytes()
}

/// A call that makes a tensor of the one storage.
fn tensor(storage_len: u8, offset: &[u8], shape: &[u8], strides: &[u8]) -> Vec<u8> {
    let storage = [
        &b"("[..],
        &text("storage"),
        &global("torch\nHalfStorage"),
        &text("0"),
        &text("cpu"),
        &[b'K', storage_len],
        b"tQ",
    ];
    let tuple = |items: &[u8]| [b"(", items, b"t"].concat();
    let empty = [&global("collections\nOrderedDict")[..], b")R"].concat();
    let call = [&b"("[..], &storage.concat(), offset, &tuple(shape), &tuple(strides), b"\x89", &empty, b"tR"];
    [&global("torch._utils\n_rebuild_tensor_v2")[..], &call.concat()].concat()
}

/// A dictionary of one tensor.
fn one(storage_len: u8, offset: &[u8], shape: &[u8], strides: &[u8]) -> Vec<u8> {
    let tensor = tensor(storage_len, offset, shape, strides);
    pickled(&[&b"}"[..], &text("t"), &tensor, b"s"].concat())
}

#[test]
fn archives() {
    let pickle = b"\x80\x02}.";
    let entry = |name: &'static str| [("m/data.pkl", &pickle[..]), (name, &b"x"[..])];
    let cases = vec![
        (vec![], "is no whole PyTorch file: Missing end of central directory: is the download complete?"),
        (
            b"PK\x05\x06".to_vec(),
            "is no whole PyTorch file: Unexpected end of file: is the download complete?",
        ),
        (
            b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec(),
            "found the file format of PyTorch before 1.6, expected a newer one: load it with PyTorch and torch.save it again, or save it as safetensors",
        ),
        (zip(&[], 0), "data.pkl: found no such entry, expected it in every PyTorch file"),
        (
            zip(&entry("m/byteorder"), 8),
            "data.pkl: found a compressed entry, expected it stored as it is: save it again with torch.save",
        ),
        (
            zip(&entry("../../etc/cron.d/x"), 0),
            "../../etc/cron.d/x: found it in .., expected all entries in one folder: save it again with torch.save",
        ),
        (
            zip(&entry("other/data/0"), 0),
            "other/data/0: found it in other, expected all entries in one folder: save it again with torch.save",
        ),
        (
            zip(&entry("data"), 0),
            "data: found an entry outside the folder, expected all in one folder: save it again with torch.save",
        ),
        (zip(&entry("m/data.pkl"), 0), "data.pkl: found it twice, expected each entry once"),
        (zip(&entry("m/byteorder"), 0), "byteorder: found x, expected little"),
        (zip(&[("m/data/0", b"x")], 0), "data.pkl: found no such entry, expected it in every PyTorch file"),
        (
            zip(&[("m/data.pkl", &vec![b'('; (1 << 20) + 1])], 0),
            "data.pkl: found 1048577 bytes, expected at most 1048576",
        ),
        (zip(&[(&"n".repeat(600), b"x")], 0), "found an entry's name of 600 bytes, expected at most 512"),
        (
            zip(&entry("m/data/0"), 0)[..100].to_vec(),
            "is no whole PyTorch file: Missing end of central directory: is the download complete?",
        ),
    ];
    refuse(FILE, cases);
}

#[test]
fn pickles() {
    let system = [&global("os\nsystem")[..], b"(", &text("rm -rf /"), b"tR"].concat();
    let hidden = global("torch\nos.system.Storage");
    let cases = vec![
        (
            zip(&[("m/data.pkl", b"\x80\x05}.")], 0),
            "data.pkl: found bytes 0x80 0x05, expected pickle protocol 2",
        ),
        (pickled(b""), "data.pkl: found something beside it, expected one value"),
        (
            pickled(&system),
            "data.pkl: found `os.system`, expected tensors only: whatever else a pickle can call is refused",
        ),
        (
            pickled(&global("builtins\neval")),
            "data.pkl: found `builtins.eval`, expected tensors only: whatever else a pickle can call is refused",
        ),
        (
            pickled(&[&hidden[..], b")R"].concat()),
            "data.pkl: found a call of a class, expected a tensor's arguments",
        ),
        (
            pickled(&global("torch\n_load_from_file\x1b[2J")),
            "data.pkl: found `torch._load_from_file\\u{1b}[2J`, expected tensors only: whatever else a pickle can call is refused",
        ),
        (pickled(b"(((((t"), "data.pkl: found something beside it, expected one value"),
        (pickled(b"t"), "data.pkl: found an instruction without its operands, expected a complete pickle"),
        (pickled(b"h\x01"), "data.pkl: found memo 1, expected one set before"),
        (pickled(b"X\xff\xff\xff\xffabc"), "data.pkl: found its end, expected more instructions"),
        (pickled(b"X\x01\0\0\0\xff"), "data.pkl: found bytes that are no text, expected UTF-8"),
        (pickled(b"\x8a\xff"), "data.pkl: found its end, expected more instructions"),
        (
            pickled(b"\x8b\xff\xff\xff\x7f"),
            "data.pkl: found opcode 0x8b at byte 2, expected only those that torch.save writes",
        ),
        (pickled(b"}}"), "data.pkl: found something beside it, expected one value"),
        (pickled(b"}K\x01K\x02s"), "data.pkl: found a number as a key, expected a tensor's name"),
        (pickled(&[&b"}"[..], &text("t"), b"K\x02s"].concat()), "t: found a number, expected a tensor"),
        (
            pickled(&b"N".repeat(70_000)),
            "data.pkl: found over 65536 values, expected the few of a dictionary of tensors",
        ),
        // 100,000 tuples, each in the next.
        (
            pickled(&[b")".to_vec(), b"\x85".repeat(100_000)].concat()),
            "data.pkl: found over 65536 values, expected the few of a dictionary of tensors",
        ),
        // A list that contains itself, over and over.
        (
            pickled(&b"]q\0h\0a".repeat(1000)),
            "data.pkl: found opcode 0x5d at byte 2, expected only those that torch.save writes",
        ),
    ];
    refuse(FILE, cases);
}

#[test]
fn tensors() {
    let (zero, one_value, two) = (&b"K\0"[..], &b"K\x01"[..], &b"K\x02"[..]);
    // 2^62 and -1, as long integers.
    let (huge, negative) = (&b"\x8a\x08\0\0\0\0\0\0\0\x40"[..], &b"\x8a\x01\xff"[..]);
    let twice = {
        let tensor = tensor(4, zero, two, one_value);
        [&b"}"[..], &text("t"), &tensor, b"s", &text("t"), &tensor, b"s"].concat()
    };
    let cases = vec![
        (one(4, zero, b"", b""), "t: found shape [], expected a vector or a matrix"),
        (
            one(4, zero, zero, one_value),
            "t: found shape [0], as have 1 of 1 tensors: the shell that DeepSpeed ZeRO-3 saves, expected the weights: run zero_to_fp32.py in the training's folder, where global_step... is, and convert what it writes",
        ),
        (
            one(4, zero, &one_value.repeat(5), &one_value.repeat(5)),
            "t: found shape [1, 1, 1, 1, 1], expected a vector or a matrix",
        ),
        (
            one(4, zero, &one_value.repeat(60_000), one_value),
            "data.pkl: found 60000 dimensions, expected a vector or a matrix",
        ),
        (
            one(4, zero, &[huge, huge].concat(), &[one_value, one_value].concat()),
            "t: found shape [4611686018427387904, 4611686018427387904], expected one that fits the file",
        ),
        (
            one(4, zero, huge, one_value),
            "t: found shape [4611686018427387904] from value 0, expected at most the 4 values of data/0",
        ),
        (one(4, zero, negative, one_value), "data.pkl: found -1, expected a size"),
        (one(4, negative, two, one_value), "0: found -1, expected an offset"),
        (
            one(4, b"K\x03", two, one_value),
            "t: found shape [2] from value 3, expected at most the 4 values of data/0",
        ),
        (
            one(4, huge, two, one_value),
            "t: found shape [2] from value 4611686018427387904, expected at most the 4 values of data/0",
        ),
        (one(5, zero, two, one_value), "t: found 8 bytes in data/0, expected 5 F16 values"),
        (
            one(4, zero, &[two, two].concat(), &[one_value, two].concat()),
            "t: found strides [1, 2], expected [2, 1]: values in their order",
        ),
        (pickled(&twice), "t: found it twice, expected each tensor once"),
    ];
    refuse(FILE, cases);
}
