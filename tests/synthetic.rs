//! The checkpoints that tests make up are like the real ones, and so is the forward pass they rely on.

use std::collections::BTreeMap;
use std::fs;

use crate::support::{Checkpoint, Dir, forward, read_words, shared, testdata};
use safetensors::{Dtype, SafeTensors};

/// Name -> shape of everything in a folder's safetensors files.
fn shapes(folder: &Dir) -> BTreeMap<String, Vec<usize>> {
    let mut shapes = BTreeMap::new();
    for name in folder.names().iter().filter(|name| name.ends_with(".safetensors")) {
        let bytes = fs::read(folder.join(name)).expect("a readable file");
        for (name, tensor) in SafeTensors::deserialize(&bytes).expect("safetensors").iter() {
            shapes.insert(name.to_owned(), tensor.shape().to_vec());
        }
    }
    shapes
}

#[test]
fn a_checkpoint_has_the_authors_names_and_shapes() {
    let ours = Checkpoint { ffn: 352, shard_bytes: Some(1_500_000), ..Checkpoint::tiny() }.folder();

    let theirs = Dir::new();
    crate::support::copy_files(&testdata("models/tiny-chatglm3"), theirs.path());
    assert_eq!(shapes(&ours), shapes(&theirs));

    let read = |folder: &Dir, name| -> serde_json::Value {
        serde_json::from_slice(&fs::read(folder.join(name)).expect("a readable file")).expect("JSON")
    };
    let keys = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().expect("an object").keys().cloned().collect()
    };
    assert_eq!(keys(&read(&ours, "config.json")), keys(&read(&theirs, "config.json")));
    let template = "tokenizer_config.json";
    assert_eq!(read(&ours, template), read(&theirs, template));
    let index = "model.safetensors.index.json";
    assert_eq!(keys(&read(&ours, index)["weight_map"]), keys(&read(&theirs, index)["weight_map"]));
}

#[test]
fn the_full_size_is_cut_as_the_published_one() {
    let Some(index) = shared("data/family/chatglm3-6b/model.safetensors.index.json") else { return };
    let published: serde_json::Value = serde_json::from_slice(&fs::read(index).expect("read")).expect("JSON");
    assert_eq!(Checkpoint::chatglm3_6b().index(), published);
}

/// A tiny checkpoint's file.
fn weights(seed: u64, dtype: Dtype) -> Vec<u8> {
    let folder = Checkpoint { seed, dtype, ..Checkpoint::tiny() }.folder();
    fs::read(folder.join("model.safetensors")).expect("a readable file")
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let first = weights(1, Dtype::F16);
    assert!(first == weights(1, Dtype::F16));
    assert!(first != weights(2, Dtype::F16));
}

#[test]
fn every_dtype_is_written_as_such() {
    for dtype in [Dtype::F16, Dtype::BF16, Dtype::F32] {
        let bytes = weights(1, dtype);
        let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
        assert_eq!(tensors.len(), 18);
        assert!(tensors.iter().all(|(_, tensor)| tensor.dtype() == dtype), "{dtype:?}");
    }
}

#[test]
fn the_forward_pass_gives_the_authors_logits() {
    for name in ["tiny-chatglm3", "tiny-chatglm3-32k"] {
        let folder = testdata("models").join(name);
        let tokens = read_words(&folder.join("expected_ids.i32"), i32::from_le_bytes);
        let expected = read_words(&folder.join("expected_logits.f32"), f32::from_le_bytes);
        let logits = forward::Model::read(&folder).logits(&tokens).concat();
        assert_eq!(logits.len(), expected.len());
        let worst = logits.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 2e-5, "{name}: the logits differ by up to {worst}");
    }
}
