//! Every damage is found, and its culprit named.

use std::ops::Range;
use std::path::Path;

use super::output::{Event, events};
use super::{judge, tiny};
use crate::support::command::convert;
use crate::support::damage::Damaged;
use crate::support::{Checkpoint, Cmd, Dir, shared};

/// Two tensors of one size that change places in a file of some type; `verify` has to blame both.
const EXCHANGED: [(&str, &str, &str); 4] = [
    ("Q8_0", "blk.0.attn_k.weight", "blk.0.attn_v.weight"),
    ("F16", "blk.1.attn_k.bias", "blk.1.attn_v.bias"),
    ("Q4_K_M", "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"),
    ("F16", "token_embd.weight", "output.weight"),
];

/// A key whose four bytes are others in a file of Q8_0, or a text in it after some other; it is to blame.
const VALUES: [(&str, [u8; 4]); 3] = [
    ("llama.rope.freq_base", 10_000f32.to_le_bytes()),
    ("llama.attention.layer_norm_rms_epsilon", 1e-6f32.to_le_bytes()),
    ("tokenizer.ggml.eot_token_id", 907u32.to_le_bytes()),
];
const TEXTS: [(&str, &str, &str); 3] = [
    ("tokenizer.ggml.tokens", "<0x41>", "<0x42>"),
    ("tokenizer.chat_template", "prompt %}<|assistant|>", "prompt %}<|assistent|>"),
    ("tokenizer.chat_template", "<|observation|>", "<|observatiom|>"),
];

/// Bytes of a tensor that are others in a file of some type; it is to blame.
type Change = (&'static str, &'static str, Range<usize>, fn(u8) -> u8);
const BYTES: [Change; 5] = [
    ("Q4_K_M", "blk.1.ffn_up.weight", 144..288, |b| !b), // a block
    ("Q4_K_M", "blk.0.attn_q.weight", 16..17, |b| b ^ 0x20), // a bit
    ("Q6_K", "output.weight", 208..209, |b| b ^ 0x40),   // a bit of a scale
    ("F16", "token_embd.weight", 0..1, |b| b ^ 1),
    ("Q8_0", "blk.0.ffn_down.weight", 0..34, |_| 0), // a block lost
];

/// What else is done to a file of some type, and what `verify` has to blame for it.
type Damage = (&'static str, fn(&mut Damaged), &'static [&'static str]);
const DAMAGES: [Damage; 7] = [
    ("Q8_0", exchange_layers, &["blk.0.attn_q.weight", "blk.1.ffn_down.weight"]),
    ("Q8_0", |f| f.exchange("blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"), &["blk.0.attn_norm.weight"]),
    ("Q8_0", |f| f.set_f32("rope_freqs.weight", 9, 1.0), &["rope_freqs.weight"]),
    ("Q8_0", |f| (0..8).for_each(|i| f.set_f32("rope_freqs.weight", i, 16.0)), &["rope_freqs.weight"]),
    (
        "Q8_0",
        |f| f.replace("GGUF", "rope_freqs.weight", "rope_frexs.weight"),
        &["rope_freqs.weight", "rope_frexs.weight"],
    ),
    ("F32", fill_padding, &["blk.0.ffn_down.weight", "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"]),
    (
        "F16",
        |f| f.replace("GGUF", "llama.rope.freq_base", "llama.rope.freq_basa"),
        &["llama.rope.freq_basa", "llama.rope.freq_base"],
    ),
];

fn exchange_layers(file: &mut Damaged) {
    for part in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"] {
        file.exchange(&format!("blk.0.{part}.weight"), &format!("blk.1.{part}.weight"));
    }
}

fn fill_padding(file: &mut Damaged) {
    // 352 of 512 are the network's own; `down` has rows of 512.
    for name in ["blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"] {
        file.set_f32(name, 400 * 256, 0.5);
    }
    file.set_f32("blk.0.ffn_down.weight", 400, 0.5);
}

/// A file with this damage gets exactly these culprits blamed.
fn expect_blamed(model: &Path, type_name: &str, damage: impl FnOnce(&mut Damaged), culprits: &[&str]) {
    let folder = Dir::new();
    let gguf = folder.join("m.gguf");
    convert(model, type_name, &gguf, &["--ffn-pad", "on"]);
    let mut file = Damaged::read(&gguf);
    damage(&mut file);
    file.write();
    let run = Cmd::new("verify").arg(model).arg(&gguf).args(&["--tokens", "16", "--json"]).exit_with(1);
    let blamed: Vec<String> = events(&run.stdout)
        .into_iter()
        .filter_map(|event| if let Event::Finding { subject, .. } = event { Some(subject) } else { None })
        .collect();
    for culprit in culprits {
        assert!(blamed.iter().any(|subject| subject == culprit), "{type_name}, {culprits:?}: {blamed:?}");
    }
    // Nothing innocent is blamed; the predictions may be no numbers besides.
    let innocent = blamed.iter().filter(|subject| !subject.starts_with("blk.") && *subject != "predictions");
    let innocent: Vec<_> = innocent.filter(|subject| !culprits.contains(&subject.as_str())).collect();
    assert!(innocent.is_empty(), "{type_name}, {culprits:?}: {innocent:?}");
}

#[test]
fn every_damage_is_found_and_the_culprit_named() {
    for (type_name, name, within, change) in BYTES {
        expect_blamed(&tiny(), type_name, |file| file.change(name, within, change), &[name]);
    }
    for (type_name, a, b) in EXCHANGED {
        expect_blamed(&tiny(), type_name, |file| file.exchange(a, b), &[a, b]);
    }
    for (key, value) in VALUES {
        expect_blamed(&tiny(), "Q8_0", |file| file.set_value(key, value), &[key]);
    }
    for (key, from, to) in TEXTS {
        expect_blamed(&tiny(), "Q8_0", |file| file.replace(key, from, to), &[key]);
    }
    for (type_name, damage, culprits) in DAMAGES {
        expect_blamed(&tiny(), type_name, damage, culprits);
    }
}

/// Query and key are of one size only where each head has its own.
#[test]
fn query_and_key_exchanged() {
    let by_head = Checkpoint { qkv_by_head: true, kv_heads: 8, ..Checkpoint::tiny() }.folder();
    let (q, k) = ("blk.0.attn_q.weight", "blk.0.attn_k.weight");
    expect_blamed(by_head.path(), "Q8_0", |file| file.exchange(q, k), &[q, k]);
}

#[test]
fn padding_that_multiplies_zero_is_no_damage() {
    let folder = Dir::new();
    let gguf = folder.join("m.gguf");
    convert(&tiny(), "F32", &gguf, &["--ffn-pad", "on"]);
    let mut file = Damaged::read(&gguf);
    file.set_f32("blk.0.ffn_up.weight", 400 * 256, 0.5);
    file.write();
    Cmd::new("verify").arg(tiny()).arg(&gguf).args(&["--tokens", "16"]).succeed();
}

#[test]
fn glm4s_vocabulary_is_judged() {
    let (Some(tokenizer), Some(config)) =
        (shared("data/tokenizer/glm4.tiktoken"), shared("data/family/glm-4-9b-chat/tokenizer_config.json"))
    else {
        return;
    };
    let (model, folder) = (Dir::new(), Dir::new());
    let tiny = Checkpoint::tiny();
    let shape = Checkpoint { layers: 1, hidden: 32, heads: 1, kv_heads: 1, ffn: 32, vocab: 151_552, ..tiny };
    shape.write(model.path(), &tokenizer).expect("written");
    std::fs::copy(config, model.join("tokenizer_config.json")).expect("copied");
    let gguf = folder.join("m.gguf");
    convert(model.path(), "Q8_0", &gguf, &[]);
    let (verdict, function) = judge(model.path(), &gguf);
    assert!(verdict.same, "{:?}", verdict.blame);
    assert_eq!(function.texts[2..7].concat(), "An old lighthouse stands");

    for (after, from, to, culprit) in [
        ("tokenizer.ggml.tokens", "ational", "etional", "tokenizer.ggml.tokens"),
        ("tokenizer.ggml.merges", "Ġ t", "Ġ p", "tokenizer.ggml.merges"),
        ("tokenizer.chat_template", "<sop>", "<eop>", "tokenizer.chat_template"),
    ] {
        convert(model.path(), "Q8_0", &gguf, &["--force"]);
        let mut file = Damaged::read(&gguf);
        file.replace(after, from, to);
        file.write();
        let (verdict, _) = judge(model.path(), &gguf);
        assert!(
            verdict.blame.iter().any(|finding| finding.subject == culprit),
            "{culprit}: {:?}",
            verdict.blame
        );
    }
}
