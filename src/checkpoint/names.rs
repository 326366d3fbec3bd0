//! Files of weights, known by their names.

use std::path::Path;

use crate::input;

/// What trainers and adapters keep beside a model's weights in files of the same kinds.
const OTHERS: [&str; 6] = ["adapter_", "training_args", "optimizer", "scheduler", "scaler", "rng_state"];
/// An index stands for its shards.
const INDEX: &str = ".index.json";

/// A file that PyTorch or safetensors wrote.
pub fn is_tensors(name: &str) -> bool {
    [".safetensors", ".bin", ".pt", ".pth", ".ckpt"].iter().any(|end| name.ends_with(end))
}

/// The weights of a model or their index, and not those of an adapter, or what trainers keep beside them.
pub fn is_weights(name: &str) -> bool {
    (is_tensors(name) || name.ends_with(INDEX)) && !OTHERS.iter().any(|other| name.starts_with(other))
}

/// Other weights in the folder than those that are read, which are left alone: files, indexes that are not followed,
/// and the folders of DeepSpeed's shards.
pub(super) fn beside(folder: &Path, read: &[&str]) -> Vec<String> {
    let names = input::names_in(folder);
    // Publishers offer each kind with its index, and users fetch one kind and all small files: such an index is
    // no other copy.
    let unfollowed = |index: &str| {
        let kind = index.strip_suffix(INDEX).and_then(|name| Some(&name[name.rfind('.')?..]));
        kind.is_some_and(|kind| !names.iter().any(|name| name.ends_with(kind) && is_weights(name)))
    };
    let other = |name: &&String| match name.as_str() {
        name if read.contains(&name) || unfollowed(name) => false,
        name if name.starts_with("global_step") => input::is_folder(&folder.join(name)),
        name => is_weights(name) || (is_tensors(name) && name.starts_with("adapter_model")),
    };
    names.iter().filter(other).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_else_has_weights_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let read = ["model.safetensors"];
        let write = |name: &str| std::fs::write(folder.path().join(name), "").unwrap();
        for harmless in [
            "model.safetensors",
            "training_args.bin",
            "optimizer.pt",
            "scheduler.pt",
            "scaler.pt",
            "rng_state_0.pth",
            "model.safetensors.sha256",
            "tokenizer.model",
            "pytorch_model.bin.index.json",
            "global_step12",
        ] {
            write(harmless);
            assert_eq!(beside(folder.path(), &read), [""; 0], "{harmless}");
        }
        for other in [
            "model.pt",
            "consolidated.00.pth",
            "last.ckpt",
            "adapter_model.bin",
            "prefix_encoder.pt",
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json",
        ] {
            write(other);
            assert_eq!(beside(folder.path(), &read), [other]);
            std::fs::remove_file(folder.path().join(other)).unwrap();
        }
        std::fs::create_dir(folder.path().join("global_step500")).unwrap();
        assert_eq!(beside(folder.path(), &read), ["global_step500"]);
        write("model.bin"); // and now the index is one that somebody may have meant
        let all = ["global_step500", "model.bin", "pytorch_model.bin.index.json"];
        assert_eq!(beside(folder.path(), &read), all);
    }
}
