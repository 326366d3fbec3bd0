//! The file's metadata against the checkpoint's config: sizes, norms, and the rotation itself.

use super::evidence::Evidence;
use super::mapping::{ROPE_FACTORS, most_ffn};
use super::{Finding, Pair};
use crate::error::Result;
use crate::gguf::GgufFile;

/// Keys of the architecture that ChatGLM needs; any other changes what a runtime computes, or may.
const KNOWN: [&str; 12] = [
    "vocab_size",
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "rope.dimension_count",
    "rope.freq_base",
];

/// A rotation by less than this, over the whole context, is none: in radians.
const NO_ROTATION: f64 = 1e-9;
/// The base is stored as f32, and so are the factors.
const ROPE_TOLERANCE: f64 = 1e-6;

/// Checks every key of the architecture; returns how many facts were checked.
pub(super) fn check(pair: &Pair, evidence: &Evidence, findings: &mut Vec<Finding>) -> Result<usize> {
    let c = &pair.config;
    let mut facts = Facts { file: &pair.file, findings, checked: 0 };
    let d = c.head_dim as u64;
    facts.size("vocab_size", c.padded_vocab_size as u64, Some(c.padded_vocab_size as u64));
    facts.size("context_length", c.seq_length as u64, None);
    facts.size("embedding_length", c.hidden_size as u64, None);
    facts.size("block_count", c.num_layers as u64, None);
    facts.size("attention.head_count", c.num_attention_heads as u64, None);
    facts.size("attention.head_count_kv", c.num_kv_heads as u64, Some(c.num_attention_heads as u64));
    // What a runtime takes when these are absent.
    let default = (c.hidden_size / c.num_attention_heads) as u64;
    facts.size("attention.key_length", d, Some(default));
    facts.size("attention.value_length", d, Some(default));
    facts.size("rope.dimension_count", d, Some(default));
    facts.feed_forward(c.ffn_hidden_size as u64, most_ffn(c) as u64);
    facts.epsilon(c.layernorm_epsilon);
    facts.unknown_keys();
    rotation(pair, evidence, &mut facts)?;
    Ok(facts.checked)
}

struct Facts<'a> {
    file: &'a GgufFile,
    findings: &'a mut Vec<Finding>,
    checked: usize,
}

impl Facts<'_> {
    fn wrong(&mut self, key: &str, found: impl std::fmt::Display, expected: impl std::fmt::Display) {
        self.findings.push(Finding::new(key, format!("is {found}, expected {expected}")));
    }

    /// `absent`: what a runtime takes when the key is absent.
    fn size(&mut self, name: &str, expected: u64, absent: Option<u64>) {
        self.checked += 1;
        let key = format!("llama.{name}");
        match self.file.unsigned(&key).or(absent) {
            Some(found) if found == expected => {}
            Some(found) => self.wrong(&key, found, expected),
            None => self.wrong(&key, "absent or no number", expected),
        }
    }

    fn feed_forward(&mut self, least: u64, most: u64) {
        self.checked += 1;
        let key = "llama.feed_forward_length";
        match self.file.unsigned(key) {
            Some(found) if (least..=most).contains(&found) => {}
            Some(found) => self.wrong(key, found, format!("{least} to {most}")),
            None => self.wrong(key, "absent or no number", least),
        }
    }

    fn epsilon(&mut self, expected: f32) {
        self.checked += 1;
        let key = "llama.attention.layer_norm_rms_epsilon";
        match self.file.float(key) {
            Some(found) if (found / f64::from(expected) - 1.0).abs() < 1e-6 => {}
            Some(found) => self.wrong(key, found, expected),
            None => self.wrong(key, "absent or no number", expected),
        }
    }

    fn unknown_keys(&mut self) {
        let unknown = self
            .file
            .metadata
            .keys()
            .filter(|key| key.strip_prefix("llama.").is_some_and(|name| !KNOWN.contains(&name)));
        for key in unknown.cloned().collect::<Vec<_>>() {
            self.findings.push(Finding::new(key, "is a key that ChatGLM has no use for"));
        }
        self.checked += 1;
    }
}

/// The angles by which a runtime rotates, from the file's base and factors, against ChatGLM's.
fn rotation(pair: &Pair, evidence: &Evidence, facts: &mut Facts) -> Result<()> {
    let (file, d) = (&pair.file, pair.config.head_dim);
    facts.checked += 2;
    let key = "llama.rope.freq_base";
    let base = match file.float(key) {
        Some(base) if base > 1.0 => base,
        found => {
            let found = found.map_or("absent or no number".to_owned(), |base| base.to_string());
            facts.wrong(key, found, evidence.llama_base(d));
            return Ok(());
        }
    };
    let Some(factors) = super::llama::rope_factors(file)? else {
        // Missing or of another shape: the weights part says so.
        return Ok(());
    };
    let last_position = pair.config.seq_length.saturating_sub(1).max(1) as f64;
    let speed = |i: usize| base.powf(-2.0 * i as f64 / d as f64) / f64::from(factors[i]);
    let mut wrong_speed = None;
    for (i, factor) in factors.iter().enumerate() {
        match evidence.rotation_speed(i) {
            Some(expected) if (speed(i) / expected - 1.0).abs() <= ROPE_TOLERANCE => {}
            Some(expected) => {
                wrong_speed.get_or_insert((i, speed(i), expected));
            }
            None if (speed(i) * last_position).abs() <= NO_ROTATION => {}
            None => {
                let problem = format!("is {factor} for pair {i} of a head, which ChatGLM does not rotate");
                facts.findings.push(Finding::new(ROPE_FACTORS, problem));
                return Ok(());
            }
        }
    }
    if let Some((pair, found, expected)) = wrong_speed {
        // Pair 0 turns by 1 / factor whatever the base is: it tells the two apart.
        let factor_wrong = evidence
            .rotation_speed(0)
            .is_some_and(|expected| (speed(0) / expected - 1.0).abs() > ROPE_TOLERANCE);
        let subject = if factor_wrong { ROPE_FACTORS } else { key };
        let problem = format!(
            "turns pair {pair} of a head by {found:.6e} a position, ChatGLM by {expected:.6e}: \
             found a base of {base}, expected {}",
            evidence.llama_base(d)
        );
        facts.findings.push(Finding::new(subject, problem));
    }
    Ok(())
}
