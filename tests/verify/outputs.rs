//! Files whose levels were chosen for the outputs of their matrices are held by these outputs.

use glm2llama::verify::Pair;

use super::{judge, tiny};
use crate::support::command::convert;
use crate::support::damage::Damaged;
use crate::support::tokenizers::tiktoken;
use crate::support::{Checkpoint, Dir, copy_files, testdata};

fn best(model: &std::path::Path, name: &str, file: &std::path::Path) {
    convert(model, name, file, &["--quality", "best", "--calibration-tokens", "1030"]);
}

#[test]
fn every_matrix_in_blocks_is_held_by_its_outputs() {
    let (plain, own, edge) = (
        tiny(),
        Checkpoint { ffn: 352, qkv_bias: false, layers: 1, ..Checkpoint::tiny() }.folder(),
        Dir::new(),
    );
    copy_files(&testdata("models/tiny-glm-edge"), edge.path());
    tiktoken(edge.path(), 900);
    let tied = edge.path();
    let models = [(plain.as_path(), "Q4_K_M"), (own.path(), "Q2_K"), (tied, "Q5_0")];
    for (model, name) in models {
        let folder = Dir::new();
        let file = folder.join("best.gguf");
        best(model, name, &file);
        let (verdict, function) = judge(model, &file);
        assert!(verdict.same, "{name}: {:?}", verdict.blame);
        let held: Vec<&str> = function.outputs.iter().map(|outputs| outputs.name.as_str()).collect();
        let pair = Pair::open(model, &file, None).expect("both can be read");
        let embedding = |name: &str| name == "token_embd.weight" && model != tied;
        let blocks = |t: &&glm2llama::gguf::StoredTensor| t.format().is_some_and(|f| f.is_quantized());
        let tensors = pair.file.tensors.iter().filter(blocks).map(|tensor| tensor.name.as_str());
        let expected: Vec<&str> = tensors.filter(|name| !embedding(name)).collect();
        assert_eq!(held, expected, "{name}");
        assert!(function.outputs.iter().all(|outputs| outputs.ratio > 0.0), "{name}");
    }
}

/// All of it stays inside the blocks' ranges, so that no weight by itself is to blame.
#[test]
fn a_block_that_was_turned_is_found_and_named() {
    type Damage = (&'static str, &'static str, fn(&mut Damaged));
    let damages: [Damage; 4] = [
        // The levels of the first block of a row: Q4_K keeps them behind 16 bytes of scales.
        ("Q4_K_M", "blk.1.ffn_gate.weight", |f| f.change("blk.1.ffn_gate.weight", 16..144, |b| !b)),
        ("Q4_K_M", "blk.0.attn_q.weight", |f| {
            f.change("blk.0.attn_q.weight", 144 * 5 + 16..144 * 6, |b| b.rotate_left(4))
        }),
        ("Q2_K", "blk.0.attn_output.weight", |f| f.change("blk.0.attn_output.weight", 16..80, |_| 0x55)),
        ("Q8_0", "output.weight", |f| f.change("output.weight", 34 * 16 + 2..34 * 17, |b| b / 2)),
    ];
    for (name, tensor, damage) in damages {
        let folder = Dir::new();
        let file = folder.join("best.gguf");
        best(&tiny(), name, &file);
        let mut damaged = Damaged::read(&file);
        damage(&mut damaged);
        damaged.write();
        let (verdict, _) = judge(&tiny(), &file);
        assert!(!verdict.same, "{name} {tensor}");
        let blamed: Vec<&str> = verdict.blame.iter().map(|finding| finding.subject.as_str()).collect();
        assert_eq!(blamed, [tensor], "{name}: {:?}", verdict.blame);
        assert!(verdict.blame[0].problem.contains("rounding leaves"), "{:?}", verdict.blame);
    }
}
