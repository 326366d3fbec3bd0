//! The same weights as PyTorch writes them: `.bin` files in the place of a folder's safetensors. Shares no code with the
//! converter's reader.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use rawzip::{CompressionMethod, ZipArchiveWriter};
use safetensors::{Dtype, SafeTensors};

/// Rewrites every file of weights in a folder, and the index.
pub fn rewrite(folder: &Path) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let name = entry.file_name().expect("a name").to_str().expect("UTF-8");
        if name == "model.safetensors.index.json" {
            let text = fs::read_to_string(&entry).expect("an index");
            fs::write(
                folder.join("pytorch_model.bin.index.json"),
                text.replace("model-", "pytorch_model-").replace(".safetensors", ".bin"),
            )
            .expect("written");
        } else if let Some(stem) = name.strip_suffix(".safetensors") {
            write(&entry, &folder.join(format!("pytorch_{stem}.bin")));
        } else {
            continue;
        }
        fs::remove_file(entry).expect("removed");
    }
}

fn write(from: &Path, to: &Path) {
    let bytes = fs::read(from).expect("a file");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors").tensors();
    let mut archive = ZipArchiveWriter::new(BufWriter::new(File::create(to).expect("a file")));
    let mut add = |name: &str, content: &[u8]| {
        let (mut entry, config) =
            archive.new_file(name).compression_method(CompressionMethod::STORE).start().expect("begun");
        let mut writer = config.wrap(&mut entry);
        writer.write_all(content).expect("written");
        let (_, descriptor) = writer.finish().expect("finished");
        entry.finish(descriptor).expect("finished");
    };
    let mut pickle = Pickle(b"\x80\x02}(".to_vec()); // protocol 2, a dict, a mark
    for (key, (name, tensor)) in tensors.iter().enumerate() {
        pickle.tensor(name, key, tensor.dtype(), tensor.shape());
    }
    pickle.0.extend(b"u."); // all items, the end
    add("archive/data.pkl", &pickle.0);
    add("archive/byteorder", b"little");
    for (key, (_, tensor)) in tensors.iter().enumerate() {
        add(&format!("archive/data/{key}"), tensor.data());
    }
    add("archive/version", b"3\n");
    archive.finish().expect("finished").flush().expect("written");
}

/// What `torch.save` puts into data.pkl, by the opcodes of Python's `pickletools`.
struct Pickle(Vec<u8>);

impl Pickle {
    fn text(&mut self, text: &str) {
        self.0.push(b'X');
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.as_bytes());
    }

    fn int(&mut self, value: usize) {
        self.0.push(b'J');
        self.0.extend((value as i32).to_le_bytes());
    }

    fn ints(&mut self, values: impl Iterator<Item = usize>) {
        self.0.push(b'(');
        values.for_each(|value| self.int(value));
        self.0.push(b't');
    }

    fn tensor(&mut self, name: &str, key: usize, dtype: Dtype, shape: &[usize]) {
        let class = match dtype {
            Dtype::F16 => "HalfStorage",
            Dtype::BF16 => "BFloat16Storage",
            _ => "FloatStorage",
        };
        self.text(name);
        self.0.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        self.text("storage");
        self.0.extend(format!("ctorch\n{class}\n").as_bytes());
        self.text(&key.to_string());
        self.text("cpu");
        self.int(shape.iter().product());
        self.0.extend(b"tQ");
        self.int(0);
        self.ints(shape.iter().copied());
        self.ints((0..shape.len()).map(|axis| shape[axis + 1..].iter().product()));
        self.0.extend(b"\x89ccollections\nOrderedDict\n)RtR"); // no gradient, no hooks
    }
}
