//! What no field of the checkpoint says, judged from its files a second time: what `rope_ratio` scales, and
//! whether the model has roles.

use std::collections::BTreeMap;
use std::path::Path;

use super::added::{Added, added_tokens};
use super::pieces::Pieces;
use super::vocabulary::{MASKS, ROLES};
use crate::config::{GlmConfig, RopeRatio};
use crate::error::Result;
use crate::input::read_capped;

/// The real files have 6 to 60 kB, and one, with 16,402 added tokens, 3.2 MB.
const MAX_BYTES: u64 = 4 << 20;

/// What the files tell.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Evidence {
    /// The base of the model's own rotation.
    base: f64,
    /// How many of a head's values it rotates.
    rotated: usize,
    /// Divides the positions.
    position_ratio: f64,
    /// The role tokens of ChatGLM3 (true) or none (false), where some file says so.
    pub roles: Option<bool>,
}

impl Evidence {
    /// `pieces`: the vocabulary, where it is SentencePiece's; `scale`: what the user knows better.
    pub(super) fn read(
        folder: &Path,
        config: &GlmConfig,
        pieces: Option<&Pieces>,
        scale: Option<RopeRatio>,
    ) -> Result<Evidence> {
        let text = |name: &str| -> Result<String> {
            let bytes = read_capped(&folder.join(name), MAX_BYTES)?.unwrap_or_default();
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let modelling = text("modeling_chatglm.py")?;
        let tokenization = text("tokenization_chatglm.py")?;
        let tokenizer_config = text("tokenizer_config.json")?;
        let moved = match pieces {
            Some(pieces) => roles_moved(pieces, &added_tokens(folder)?),
            None => false,
        };
        let mut evidence =
            judge(config, pieces.is_some(), &modelling, &tokenization, &tokenizer_config, moved);
        if let Some(scale) = scale {
            evidence.scale(config, scale);
        }
        Ok(evidence)
    }

    fn scale(&mut self, config: &GlmConfig, scale: RopeRatio) {
        (self.base, self.position_ratio) = match scale {
            RopeRatio::Base => (config.rope_base * config.rope_ratio, 1.0),
            RopeRatio::Positions => (config.rope_base, config.rope_ratio),
        };
    }

    /// The base with which Llama, which rotates all `d` values of a head, turns the same pairs as fast.
    pub(super) fn llama_base(&self, d: usize) -> f64 {
        self.base.powf(d as f64 / self.rotated as f64)
    }

    /// The angle by which pair `i` of a head turns from one position to the next; none when it
    /// does not: only the first values of a head are rotated.
    pub(super) fn rotation_speed(&self, i: usize) -> Option<f64> {
        (2 * i < self.rotated)
            .then(|| self.base.powf(-2.0 * i as f64 / self.rotated as f64) / self.position_ratio)
    }
}

/// Tokens with the roles' names were added, and none is where ChatGLM3 has it: the model had none before.
fn roles_moved(pieces: &Pieces, added: &BTreeMap<usize, Added>) -> bool {
    let places =
        ROLES.iter().zip(MASKS.len()..).map(|(role, number)| (*role, pieces.special(number) as usize));
    let places: Vec<(&str, usize)> = places.collect();
    let mut named = added.iter().filter(|(_, token)| ROLES.contains(&token.text.as_str())).peekable();
    named.peek().is_some() && !named.any(|(id, token)| places.contains(&(token.text.as_str(), *id)))
}

fn judge(
    config: &GlmConfig,
    pieces: bool,
    modelling: &str,
    tokenization: &str,
    tokenizer_config: &str,
    moved: bool,
) -> Evidence {
    let scaled = scaled_in(modelling);
    let names = [config.name_or_path.to_lowercase(), tokenizer_config.to_lowercase()];
    let by_name = names.iter().find_map(|text| {
        let chatglm2 = text.contains("chatglm2") || text.contains("codegeex2");
        (chatglm2 || text.contains("chatglm3")).then_some(!chatglm2)
    });
    let roles = if tokenization.contains("sMASK") {
        Some(tokenization.contains("<|observation|>"))
    } else if moved {
        Some(false)
    } else if tokenizer_config.contains("<|user|>") || tokenizer_config.contains("<|{{") {
        Some(true)
    } else if tokenizer_config.contains("[Round") {
        Some(false)
    } else if by_name.is_some() {
        by_name
    } else if config.seq_length == 32768 && [1.0, 16.0].contains(&config.rope_ratio) {
        Some(false) // as ChatGLM2-6B and its 32k variant say
    } else {
        None
    };
    // Without roles it is a ChatGLM2, of which one was published with a ratio.
    let chatglm2 =
        config.name_or_path.to_lowercase().contains("chatglm2") || (pieces && roles == Some(false));
    let that_one = chatglm2 && config.seq_length == 32768 && config.rope_ratio == 16.0;
    let scale = scaled.unwrap_or(if that_one { RopeRatio::Positions } else { RopeRatio::Base });
    let mut evidence = Evidence { base: 0.0, rotated: config.rotary_dim, position_ratio: 1.0, roles };
    evidence.scale(config, scale);
    evidence
}

/// What the modelling file scales, read line by line: the ratio may have a name of its own there.
fn scaled_in(modelling: &str) -> Option<RopeRatio> {
    let lines: Vec<String> = modelling
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().split_whitespace().collect())
        .collect();
    // The word that ends, or begins, at a place in a line.
    let word_before = |line: &str, at: usize| {
        let start = line[..at].rfind(|c: char| !(c.is_alphanumeric() || "_.".contains(c)));
        line[start.map_or(0, |start| start + 1)..at].to_owned()
    };
    let word_after = |line: &str, at: usize| {
        let rest = line[at..].trim_start_matches('=');
        rest.split(|c: char| !(c.is_alphanumeric() || "_.".contains(c))).next().unwrap_or_default().to_owned()
    };
    let is_ratio = |word: &str| {
        let own = word.rsplit('.').next().unwrap_or_default();
        ["ratio", "scal", "factor", "alpha"].iter().any(|part| own.contains(part))
    };
    let is_base = |word: &str| {
        let own = word.rsplit('.').next().unwrap_or_default();
        ["base", "rope_base", "rotary_base"].contains(&own) || ["10000", "10000.", "10000.0"].contains(&word)
    };
    let by_name = |sign: char| {
        lines.iter().any(|line| {
            let mut places = line.match_indices(sign);
            places.any(|(at, _)| word_after(line, at + 1).rsplit('.').next() == Some("rope_ratio"))
        })
    };
    if by_name('/') {
        return Some(RopeRatio::Positions);
    }
    let multiplies = |line: &String| {
        line.match_indices('*').any(|(at, _)| {
            let (left, right) = (word_before(line, at), word_after(line, at + 1));
            (is_base(&left) && is_ratio(&right)) || (is_ratio(&left) && is_base(&right))
        })
    };
    if by_name('*') || lines.iter().any(multiplies) {
        return Some(RopeRatio::Base);
    }
    let divides = |line: &String| {
        line.match_indices('/').any(|(at, _)| {
            let positions = ["seq_idx", "position_ids", "positions", "t"]
                .contains(&word_before(line, at).as_str())
                || (line[..at].ends_with(')')
                    && ["arange(seq_len", "arange(max_seq_len"].iter().any(|call| line[..at].contains(call)));
            positions && is_ratio(&word_after(line, at + 1))
        })
    };
    lines.iter().any(divides).then_some(RopeRatio::Positions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::chatglm3_config;

    #[test]
    fn the_ratio_scales_the_base_but_for_chatglm2() {
        let config = GlmConfig { rope_ratio: 16.0, name_or_path: String::new(), ..chatglm3_config() };
        let base = judge(&config, true, "", "", "", false);
        assert_eq!((base.base, base.rotation_speed(0)), (160_000.0, Some(1.0)));
        assert_eq!(base.rotation_speed(32), None);
        let named = GlmConfig { name_or_path: "THUDM/chatglm2-6b-32k".into(), seq_length: 32768, ..config };
        let positions = judge(&named, true, "", "", "", false);
        assert_eq!((positions.base, positions.rotation_speed(0)), (10_000.0, Some(1.0 / 16.0)));
        assert_eq!(judge(&named, true, "base = base * self.rope_ratio", "", "", false).base, 160_000.0);
        // A fine-tune that has another name and no modelling file.
        let tuned = GlmConfig { name_or_path: "out/checkpoint-1000".into(), seq_length: 32768, ..named };
        let evidence = judge(&tuned, true, "", "", "{}", false);
        assert_eq!((evidence.base, evidence.roles), (10_000.0, Some(false)));
        assert_eq!(judge(&tuned, false, "", "", "{}", false).base, 160_000.0);
        let whole = GlmConfig { rotary_dim: 128, rope_base: 5e6, rope_ratio: 1.0, ..chatglm3_config() };
        assert_eq!(judge(&whole, true, "", "", "", false).llama_base(128), 5e6);
        assert_eq!(base.llama_base(128), 160_000f64.powi(2));
    }

    #[test]
    fn a_ratio_of_another_name_is_seen_and_no_other_model_is_guessed_to_divide() {
        let config = GlmConfig { rope_ratio: 200.0, seq_length: 65536, ..chatglm3_config() };
        let five = "[\"[sMASK]\", \"sop\"]";
        for (modelling, base) in [
            ("", 2e6),
            ("base = base * self.ratio", 2e6),
            ("self.base *= config.alpha", 2e6),
            ("base = self.ratio * base", 2e6),
            ("theta = 10000.0 * self.scale", 2e6),
            ("theta = 1.0 / (base ** (torch.arange(0, n) / n)) # seq_idx / self.ratio", 2e6),
            ("t = torch.arange(seq_len, device=d) / self.scaling_factor", 1e4),
            ("position_ids = position_ids / self.ratio", 1e4),
            ("seq_idx = torch.arange(seq_len) / self.rope_ratio", 1e4),
        ] {
            let evidence = judge(&config, true, modelling, five, "", false);
            assert_eq!((evidence.base, evidence.roles), (base, Some(false)), "{modelling}");
        }
    }

    #[test]
    fn roles_are_seen_in_the_files_before_the_name() {
        let config = GlmConfig { name_or_path: String::new(), ..chatglm3_config() };
        assert_eq!(judge(&config, true, "", "", "{}", false).roles, None);
        assert_eq!(judge(&config, true, "", "", "<|{{ message['role'] }}|>", false).roles, Some(true));
        // A ChatGLM2 to which fine-tuning added roles.
        assert_eq!(judge(&config, true, "", "", "<|user|>", true).roles, Some(false));
        assert_eq!(judge(&config, true, "", "[\"[sMASK]\", \"sop\"]", "", false).roles, Some(false));
    }
}
