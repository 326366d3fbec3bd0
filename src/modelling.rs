//! What the checkpoint's own modelling file tells where `config.json` is silent.
//!
//! The file is only searched for a few expressions; nothing of it is run.

use std::path::Path;

use regex::Regex;

use crate::config::GlmConfig;
use crate::error::Result;
use crate::input::read_capped;
use crate::remap::RopeRatio;
use crate::tokenizer::ChatFormat;

const FILE: &str = "modeling_chatglm.py";
const MAX_BYTES: u64 = 1 << 20;

/// What was found out, with the reason for it in words.
#[derive(Clone, Debug, PartialEq)]
pub struct Modelling {
    /// What `rope_ratio` multiplies.
    pub rope_ratio: RopeRatio,
    /// Why that was taken.
    pub reason: String,
    /// What speaks against it, when it is a guess.
    pub doubt: Option<String>,
    /// Queries are scaled by the logarithm of their position from this one on; Llama cannot do that.
    pub log_scaled_from: Option<usize>,
}

impl Modelling {
    /// Searches the folder's modelling file; without one the model's tokenizer and published name decide. What
    /// the user says goes before all of them.
    ///
    /// # Errors
    /// When the file is there but cannot be read.
    pub fn load(
        folder: &Path,
        config: &GlmConfig,
        chat: ChatFormat,
        said: Option<RopeRatio>,
    ) -> Result<Modelling> {
        let bytes = read_capped(&folder.join(FILE), MAX_BYTES)?.unwrap_or_default();
        let found = judge(&String::from_utf8_lossy(&bytes), config, chat);
        Ok(match said {
            Some(rope_ratio) => {
                let reason = "--rope-ratio-applies-to says so".to_owned();
                Modelling { rope_ratio, reason, doubt: None, ..found }
            }
            None => found,
        })
    }
}

fn judge(source: &str, config: &GlmConfig, chat: ChatFormat) -> Modelling {
    let code = code(source);
    let (rope_ratio, reason, doubt) = match scaled(&code) {
        _ if config.rope_ratio == 1.0 => (RopeRatio::Base, "rope_ratio is 1".to_owned(), None),
        Some((RopeRatio::Positions, by)) => {
            (RopeRatio::Positions, format!("its modelling file divides positions by {by}"), None)
        }
        Some((RopeRatio::Base, by)) => {
            (RopeRatio::Base, format!("its modelling file multiplies the base by {by}"), None)
        }
        None => guess(config, chat, !source.is_empty()),
    };
    // max(1, ln(64 + p + 1) / ln(2048)) exceeds 1 from p = 1984 on.
    let log_scaled_from = (code.contains("math.log(2048)") || code.contains("np.log(2048)")).then_some(1984);
    Modelling { rope_ratio, reason, doubt, log_scaled_from }
}

/// Without comments and white space.
fn code(source: &str) -> String {
    let lines = source.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines.flat_map(|line| line.chars().filter(|c| !c.is_whitespace()).chain(['\n'])).collect()
}

/// What the code scales, and the name of what it scales by: `rope_ratio`, or a name of the fine-tune's own.
fn scaled(code: &str) -> Option<(RopeRatio, String)> {
    const NUMBER: &str = r"((?:\w+\.)*\w*(?:ratio|scal|factor|alpha)\w*)";
    let first = |pattern: &str| {
        let regex = Regex::new(&pattern.replace("NUMBER", NUMBER)).ok()?;
        Some(regex.captures(code)?.get(1)?.as_str().to_owned())
    };
    // The known name goes first, wherever it stands.
    let known = |pattern: &str| first(pattern).map(|_| "rope_ratio".to_owned());
    let positions = |by: Option<String>| by.map(|by| (RopeRatio::Positions, by));
    let base = |by: Option<String>| by.map(|by| (RopeRatio::Base, by));
    positions(known(r"/((?:self\.)?(?:config\.)?rope_ratio)\b"))
        .or_else(|| base(known(r"\*=?((?:self\.)?(?:config\.)?rope_ratio)\b")))
        .or_else(|| base(known(r"\b(rope_ratio)\*(?:self\.)?(?:rope_|rotary_)?base\b")))
        .or_else(|| base(first(r"\b(?:rope_|rotary_)?base\*=?NUMBER\b")))
        .or_else(|| base(first(r"NUMBER\*(?:self\.)?(?:rope_|rotary_)?base\b")))
        .or_else(|| base(first(r"\b10000(?:\.0?)?\*NUMBER\b")))
        .or_else(|| positions(first(r"\b(?:seq_idx|position_ids|positions|t)/=?NUMBER\b")))
        .or_else(|| positions(first(r"\barange\((?:seq_len|max_seq_len|seq_length)[^\n]*\)/NUMBER\b")))
}

/// Without a word of the code: of the published models only ChatGLM2-6B-32k divides positions.
fn guess(config: &GlmConfig, chat: ChatFormat, silent: bool) -> (RopeRatio, String, Option<String>) {
    let named_chatglm2 = config.name_or_path.to_ascii_lowercase().contains("chatglm2");
    let chatglm2 = named_chatglm2 || chat == ChatFormat::Rounds;
    let is_32k = config.seq_length == 32768 && config.rope_ratio == 16.0;
    if chatglm2 && is_32k {
        let reason = "seq_length 32768 and rope_ratio 16 are ChatGLM2-6B-32k's";
        return (RopeRatio::Positions, reason.to_owned(), None);
    }
    let doubt = |why: &str| {
        Some(format!(
            "{why}: it was guessed that rope_ratio {} multiplies the base, as in all models but ChatGLM2-6B-32k; if the \
             model's own code divides positions, give --rope-ratio-applies-to positions",
            config.rope_ratio
        ))
    };
    let doubt = match (silent, chatglm2 || is_32k) {
        (true, _) => doubt("its modelling file says nothing of rope_ratio that is known here"),
        (false, true) => doubt("there is no modelling file"),
        (false, false) => None,
    };
    (RopeRatio::Base, "so do all models but ChatGLM2-6B-32k".to_owned(), doubt)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(
        source: &str,
        name: &str,
        (seq_length, rope_ratio): (usize, f64),
        chat: ChatFormat,
    ) -> Modelling {
        let config = GlmConfig {
            name_or_path: name.to_owned(),
            seq_length,
            rope_ratio,
            ..crate::config::tests::chatglm3_config()
        };
        judge(source, &config, chat)
    }

    const TWO_32K: (usize, f64) = (32768, 16.0);
    const THREE_32K: (usize, f64) = (32768, 50.0);

    #[test]
    fn the_modelling_file_goes_before_the_name() {
        let (two, three) = (ChatFormat::Rounds, ChatFormat::Roles);
        for (source, by) in [
            ("seq_idx = torch.arange(seq_len) / self.rope_ratio", "rope_ratio"),
            ("seq_idx = torch.arange(seq_len, dtype=dtype, device=device) / rope_ratio", "rope_ratio"),
            ("t = torch.arange(seq_len, device=x.device) / self.scaling_factor", "self.scaling_factor"),
            ("position_ids = position_ids / self.scale", "self.scale"),
        ] {
            let found = judged(source, "THUDM/chatglm3-6b-32k", THREE_32K, three);
            let reason = format!("its modelling file divides positions by {by}");
            assert_eq!((found.rope_ratio, found.reason, found.doubt), (RopeRatio::Positions, reason, None));
        }
        for (source, by) in [
            ("base = base * self.rope_ratio", "rope_ratio"),
            ("base = 10000 * rope_ratio", "rope_ratio"),
            ("base = rope_ratio * base", "rope_ratio"),
            ("base = base * self.ratio # not seq_idx / self.ratio", "self.ratio"),
            ("self.base *= config.ntk_alpha", "config.ntk_alpha"),
            ("theta = 10000.0 * self.base_scale", "self.base_scale"),
            ("base = self.ratio * self.base", "self.ratio"),
        ] {
            let found = judged(source, "THUDM/chatglm2-6b-32k", TWO_32K, two);
            let reason = format!("its modelling file multiplies the base by {by}");
            assert_eq!(
                (found.rope_ratio, found.reason, found.doubt),
                (RopeRatio::Base, reason, None),
                "{source}"
            );
        }
    }

    #[test]
    fn only_chatglm2_32k_is_guessed_to_divide() {
        let (two, three) = (ChatFormat::Rounds, ChatFormat::Roles);
        // What the published files have without a ratio.
        let silent = "inv_freq = 1.0 / (10000 ** (torch.arange(0, dim, 2, dtype=dtype) / dim))\n\
                      theta = 1.0 / (base ** (torch.arange(0, n_elem, 2) / n_elem))\n# base * self.ratio";
        for (source, name, numbers, chat, expected, doubted) in [
            ("", "THUDM/chatglm2-6b-32k", TWO_32K, three, RopeRatio::Positions, false),
            ("", "my-model", TWO_32K, two, RopeRatio::Positions, false),
            ("", "my-model", TWO_32K, three, RopeRatio::Base, true),
            ("", "my-model", THREE_32K, three, RopeRatio::Base, false),
            ("", "my-model", (65536, 200.0), three, RopeRatio::Base, false),
            ("", "THUDM/LongAlign-6B-64k", (65536, 200.0), two, RopeRatio::Base, true),
            ("", "THUDM/chatglm2-6b", (32768, 8.0), two, RopeRatio::Base, true),
            (silent, "my-model", THREE_32K, three, RopeRatio::Base, true),
            (silent, "THUDM/chatglm2-6b-32k", TWO_32K, two, RopeRatio::Positions, false),
            (silent, "my-model", (8192, 1.0), two, RopeRatio::Base, false),
        ] {
            let found = judged(source, name, numbers, chat);
            assert_eq!((found.rope_ratio, found.doubt.is_some()), (expected, doubted), "{name} {numbers:?}");
        }
    }

    #[test]
    fn what_the_user_says_goes_before_everything() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "base = base * self.rope_ratio").unwrap();
        let config = GlmConfig { rope_ratio: 50.0, ..crate::config::tests::chatglm3_config() };
        let load = |said| Modelling::load(folder.path(), &config, ChatFormat::Roles, said).unwrap();
        assert_eq!(load(None).rope_ratio, RopeRatio::Base);
        let said = load(Some(RopeRatio::Positions));
        let reason = "--rope-ratio-applies-to says so".to_owned();
        assert_eq!((said.rope_ratio, said.reason), (RopeRatio::Positions, reason));
    }
}
