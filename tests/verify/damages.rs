//! Every damage is found, and its culprit named.

use super::output::{Event, events};
use super::{judge, tiny};
use crate::support::command::convert;
use crate::support::damage::Damaged;
use crate::support::{Checkpoint, Cmd, Dir, shared, tiny_tokenizer};

/// What is done to a file, and what `verify` has to blame for it.
type Damage = (&'static str, &'static str, fn(&mut Damaged), &'static [&'static str]);

const DAMAGES: [Damage; 23] = [
    (
        "one block flipped",
        "Q4_K_M",
        |f| f.change("blk.1.ffn_up.weight", 144..288, |b| !b),
        &["blk.1.ffn_up.weight"],
    ),
    (
        "one bit flipped",
        "Q4_K_M",
        |f| f.change("blk.0.attn_q.weight", 16..17, |b| b ^ 0x20),
        &["blk.0.attn_q.weight"],
    ),
    ("one bit of a scale", "Q6_K", |f| f.change("output.weight", 208..209, |b| b ^ 0x40), &["output.weight"]),
    ("one bit of F16", "F16", |f| f.change("token_embd.weight", 0..1, |b| b ^ 1), &["token_embd.weight"]),
    (
        "one block lost",
        "Q8_0",
        |f| f.change("blk.0.ffn_down.weight", 0..34, |_| 0),
        &["blk.0.ffn_down.weight"],
    ),
    ("layers exchanged", "Q8_0", exchange_layers, &["blk.0.attn_q.weight", "blk.1.ffn_down.weight"]),
    (
        "q and k exchanged",
        "by_head Q8_0",
        |f| f.exchange("blk.0.attn_q.weight", "blk.0.attn_k.weight"),
        &["blk.0.attn_q.weight", "blk.0.attn_k.weight"],
    ),
    (
        "k and v exchanged",
        "Q8_0",
        |f| f.exchange("blk.0.attn_k.weight", "blk.0.attn_v.weight"),
        &["blk.0.attn_k.weight", "blk.0.attn_v.weight"],
    ),
    (
        "k's and v's biases exchanged",
        "F16",
        |f| f.exchange("blk.1.attn_k.bias", "blk.1.attn_v.bias"),
        &["blk.1.attn_k.bias", "blk.1.attn_v.bias"],
    ),
    (
        "gate and up exchanged",
        "Q4_K_M",
        |f| f.exchange("blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"),
        &["blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"],
    ),
    (
        "embedding and output exchanged",
        "F16",
        |f| f.exchange("token_embd.weight", "output.weight"),
        &["token_embd.weight", "output.weight"],
    ),
    (
        "norms exchanged",
        "Q8_0",
        |f| f.exchange("blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"),
        &["blk.0.attn_norm.weight"],
    ),
    (
        "wrong base",
        "Q8_0",
        |f| f.set_value("llama.rope.freq_base", 10_000f32.to_le_bytes()),
        &["llama.rope.freq_base"],
    ),
    ("a factor of 1", "Q8_0", |f| f.set_f32("rope_freqs.weight", 9, 1.0), &["rope_freqs.weight"]),
    (
        "a factor of 16",
        "Q8_0",
        |f| (0..8).for_each(|i| f.set_f32("rope_freqs.weight", i, 16.0)),
        &["rope_freqs.weight"],
    ),
    (
        "no factors",
        "Q8_0",
        |f| f.replace("GGUF", "rope_freqs.weight", "rope_frexs.weight"),
        &["rope_freqs.weight", "rope_frexs.weight"],
    ),
    (
        "wrong epsilon",
        "Q8_0",
        |f| f.set_value("llama.attention.layer_norm_rms_epsilon", 1e-6f32.to_le_bytes()),
        &["llama.attention.layer_norm_rms_epsilon"],
    ),
    (
        "tokens exchanged",
        "Q8_0",
        |f| f.replace("tokenizer.ggml.tokens", "<0x41>", "<0x42>"),
        &["tokenizer.ggml.tokens"],
    ),
    (
        "another end of turn",
        "Q8_0",
        |f| f.set_value("tokenizer.ggml.eot_token_id", 907u32.to_le_bytes()),
        &["tokenizer.ggml.eot_token_id"],
    ),
    (
        "another template",
        "Q8_0",
        |f| f.replace("tokenizer.chat_template", "prompt %}<|assistant|>", "prompt %}<|assistent|>"),
        &["tokenizer.chat_template"],
    ),
    (
        "another template for tools",
        "Q8_0",
        |f| f.replace("tokenizer.chat_template", "<|observation|>", "<|observatiom|>"),
        &["tokenizer.chat_template"],
    ),
    (
        "padding that acts",
        "F32",
        fill_padding,
        &["blk.0.ffn_down.weight", "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"],
    ),
    (
        "a key of another kind",
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

#[test]
fn every_damage_is_found_and_the_culprit_named() {
    let (by_head, folder) = (Dir::new(), Dir::new());
    let shape = Checkpoint { qkv_by_head: true, kv_heads: 8, ..Checkpoint::tiny() };
    shape.write(by_head.path(), &tiny_tokenizer()).expect("written");
    for (name, type_name, damage, culprits) in DAMAGES {
        let gguf = folder.join("m.gguf");
        let (model, type_name) = match type_name.strip_prefix("by_head ") {
            Some(type_name) => (by_head.path().to_owned(), type_name),
            None => (tiny(), type_name),
        };
        convert(&model, type_name, &gguf, &["--force", "--ffn-pad", "on"]);
        let mut file = Damaged::read(&gguf);
        damage(&mut file);
        file.write();
        let run = Cmd::new("verify").arg(&model).arg(&gguf).args(&["--tokens", "16", "--json"]).exit_with(1);
        let blamed: Vec<String> = events(&run.stdout)
            .into_iter()
            .filter_map(|event| if let Event::Finding { subject, .. } = event { Some(subject) } else { None })
            .collect();
        for culprit in culprits {
            assert!(blamed.iter().any(|subject| subject == culprit), "{name}: blamed {blamed:?}");
        }
        // Nothing innocent is blamed; the predictions may be no numbers besides.
        let innocent =
            blamed.iter().filter(|subject| !subject.starts_with("blk.") && *subject != "predictions");
        let innocent: Vec<_> = innocent.filter(|subject| !culprits.contains(&subject.as_str())).collect();
        assert!(innocent.is_empty(), "{name}: blamed {innocent:?}");
    }
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
