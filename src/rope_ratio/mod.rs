//! What `rope_ratio` multiplies: the checkpoint's own modelling file tells where `config.json` is silent.
//!
//! The file is only searched for a few expressions; nothing of it is run.

mod code;

use std::path::Path;

use crate::config::{GlmConfig, RopeRatio, TensorNaming};
use crate::error::{Result, shortened};
use crate::input::read_capped;
use crate::tokenizer::ChatFormat;
use code::{RATIO, Rotation};

const FILE: &str = "modeling_chatglm.py";
const MAX_BYTES: u64 = 1 << 20;

/// What was found out, with the reason for it in words.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeReading {
    /// What `rope_ratio` multiplies.
    pub rope_ratio: RopeRatio,
    /// Why that was taken.
    pub reason: String,
    /// What speaks against what was taken, a warning each.
    pub doubts: Vec<String>,
    /// Queries are scaled by the logarithm of their position from this one on; Llama cannot do that.
    pub log_scaled_from: Option<usize>,
}

impl RopeReading {
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
    ) -> Result<RopeReading> {
        let bytes = read_capped(&folder.join(FILE), MAX_BYTES)?.unwrap_or_default();
        Ok(judge(&String::from_utf8_lossy(&bytes), config, chat, said))
    }
}

fn judge(source: &str, config: &GlmConfig, chat: ChatFormat, said: Option<RopeRatio>) -> RopeReading {
    let code = code::of(source);
    // max(1, ln(64 + p + 1) / ln(2048)) exceeds 1 from p = 1984 on.
    let log_scaled_from = (code.contains("math.log(2048)") || code.contains("np.log(2048)")).then_some(1984);
    // The library's own class has its base in the config, and no such file.
    let rotation = match config.naming {
        TensorNaming::ChatGlm => Rotation::of(&code),
        TensorNaming::Glm => Rotation::default(),
    };
    let ratio = config.rope_ratio;
    let taken = config.rope_base * ratio;
    let mut doubts = Vec::new();
    let (rope_ratio, reason) = match (said, &rotation.base[..], &rotation.positions[..]) {
        (Some(said), ..) => (said, "--rope-ratio-applies-to says so".to_owned()),
        (None, [], [by, ..]) => {
            (RopeRatio::Positions, format!("its modelling file divides positions by {by}"))
        }
        (None, [by, ..], []) => (RopeRatio::Base, format!("its modelling file multiplies the base by {by}")),
        (None, both, _) => {
            let (rope_ratio, reason, doubt) = match both.is_empty() {
                true => guess(config, chat, !source.is_empty()),
                false => {
                    let (rope_ratio, reason, _) = guess(config, chat, false);
                    let both = "its modelling file both multiplies the base and divides positions";
                    (rope_ratio, reason, Some(guessed(both, rope_ratio, ratio)))
                }
            };
            doubts.extend(doubt.filter(|_| ratio != 1.0 && rotation.odd.is_empty()));
            (rope_ratio, reason)
        }
    };
    // Under a name of its own the number may be in the code, or anywhere.
    for by in rotation.base.iter().chain(&rotation.positions).filter(|by| *by != RATIO) {
        let what = if rotation.base.contains(by) { "multiplies the base by" } else { "divides positions by" };
        match code::number_of(&code, by) {
            Some(number) if number == ratio => {}
            Some(number) => doubts.push(format!(
                "its modelling file {what} {by}, which it sets to {number}, and config.json has rope_ratio {ratio}, \
                 which was taken: if the code is right, set \"rope_ratio\": {number} in config.json"
            )),
            None if ratio == 1.0 => doubts.push(format!(
                "its modelling file {what} {by}, and config.json has no rope_ratio: 1 was taken; if {by} is another \
                 number, set it as \"rope_ratio\" in config.json"
            )),
            None => {}
        }
    }
    doubts.extend(rotation.odd.first().map(|odd| {
        let effect = match rope_ratio {
            RopeRatio::Base => format!("base {taken}"),
            RopeRatio::Positions => format!("base {}, positions divided by {ratio},", config.rope_base),
        };
        format!(
            "its modelling file has `{}`, which is not understood: {effect} was taken; if that is wrong, set \
             \"rope_ratio\" in config.json to what gives the right one, or give --rope-ratio-applies-to",
            shortened(odd, 100)
        )
    }));
    let scaled_by = if rotation.base.is_empty() { 1.0 } else { ratio };
    for base in rotation.literals.iter().map(|literal| literal * scaled_by).filter(|base| *base != taken) {
        doubts.push(format!(
            "its modelling file has base {base}, and config.json's rope_ratio {ratio} makes it {taken}, which was taken: \
             if the code is right, set \"rope_ratio\": {} in config.json",
            base / config.rope_base
        ));
    }
    RopeReading { rope_ratio, reason, doubts, log_scaled_from }
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
    let doubt = |why: &str| Some(guessed(why, RopeRatio::Base, config.rope_ratio));
    let doubt = match (silent, chatglm2 || is_32k) {
        (true, _) => doubt("its modelling file says nothing of rope_ratio that is known here"),
        (false, true) => doubt("there is no modelling file"),
        (false, false) => None,
    };
    (RopeRatio::Base, "so do all models but ChatGLM2-6B-32k".to_owned(), doubt)
}

/// The warning of a guess.
fn guessed(why: &str, taken: RopeRatio, ratio: f64) -> String {
    let (taken, models, does, other) = match taken {
        RopeRatio::Base => (
            "multiplies the base",
            "all models but ChatGLM2-6B-32k",
            "divides positions",
            RopeRatio::Positions,
        ),
        RopeRatio::Positions => {
            ("divides positions", "ChatGLM2-6B-32k", "multiplies the base", RopeRatio::Base)
        }
    };
    format!(
        "{why}: it was guessed that rope_ratio {ratio} {taken}, as in {models}; if the model's own code {does}, give \
         --rope-ratio-applies-to {other}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(
        source: &str,
        name: &str,
        (seq_length, rope_ratio): (usize, f64),
        chat: ChatFormat,
    ) -> RopeReading {
        let config = GlmConfig {
            name_or_path: name.to_owned(),
            seq_length,
            rope_ratio,
            ..crate::config::tests::chatglm3_config()
        };
        judge(source, &config, chat, None)
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
            assert_eq!(
                (found.rope_ratio, found.reason, found.doubts),
                (RopeRatio::Positions, reason, vec![])
            );
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
                (found.rope_ratio, found.reason, found.doubts),
                (RopeRatio::Base, reason, vec![]),
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
            assert_eq!(
                (found.rope_ratio, !found.doubts.is_empty()),
                (expected, doubted),
                "{name} {numbers:?}"
            );
        }
    }

    #[test]
    fn what_the_user_says_goes_before_everything() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "base = base * self.rope_ratio").unwrap();
        let config = GlmConfig { rope_ratio: 50.0, ..crate::config::tests::chatglm3_config() };
        let load = |said| RopeReading::load(folder.path(), &config, ChatFormat::Roles, said).unwrap();
        assert_eq!(load(None).rope_ratio, RopeRatio::Base);
        let said = load(Some(RopeRatio::Positions));
        let reason = "--rope-ratio-applies-to says so".to_owned();
        assert_eq!((said.rope_ratio, said.reason), (RopeRatio::Positions, reason));
    }

    /// What is doubted of a fine-tune's code.
    #[track_caller]
    fn doubted(source: &str, rope_ratio: f64, parts: &[&str]) {
        let found = judged(source, "my-model", (8192, rope_ratio), ChatFormat::Roles).doubts;
        let fits = parts.iter().zip(&found).all(|(part, doubt)| doubt.contains(part));
        assert!(fits && found.len() == parts.len(), "{source}: {found:#?}");
    }

    #[test]
    fn a_base_that_the_config_does_not_say_is_doubted() {
        for (source, ratio, parts) in [
            ("base = base * self.rope_ratio", 1.0, &[][..]),
            ("base: int = 10000\nself.rope_ratio = rope_ratio\nbase = (10000 * self.rope_ratio)", 1.0, &[]),
            (
                "base = base * config.rope_scale",
                1.0,
                &["multiplies the base by config.rope_scale, and config.json has no rope_ratio: 1 was"],
            ),
            ("t = t / self.scaling_factor", 1.0, &["divides positions by self.scaling_factor, and"]),
            ("base = base * config.rope_scale", 8.0, &[]),
            (
                "self.ratio = 200\nbase = base * self.ratio",
                1.0,
                &["sets to 200, and config.json has rope_ratio 1,"],
            ),
            (
                "self.ratio = 200.0\nbase = base * self.ratio",
                8.0,
                &["if the code is right, set \"rope_ratio\": 200 in"],
            ),
            ("self.ratio = 200\nbase = base * self.ratio", 200.0, &[]),
            ("base = 500000", 1.0, &["has base 500000, and config.json's rope_ratio 1 makes it 10000,"]),
            ("def f(self, n, base: int = 1_000_000):", 1.0, &["set \"rope_ratio\": 100 in config.json"]),
            ("inv = 1.0 / (5e5 ** (torch.arange(0, dim, 2) / dim))", 1.0, &["has base 500000, and"]),
            ("base = 500000\nbase = base * self.rope_ratio", 2.0, &["has base 1000000, and"]),
            ("base = 500000\nint(text, base=16)", 50.0, &["says nothing of rope_ratio"]),
            (
                "base = self.find_base(seq_len)",
                1.0,
                &["has `base=self.find_base(seq_len)`, which is not understood"],
            ),
            (
                "base = self.k * base",
                8.0,
                &["has `base=self.k*base`, which is not understood: base 80000 was"],
            ),
            ("rope_theta = 10000.0 * config.ntk", 1.0, &["has `rope_theta=10000.0*config.ntk`"]),
            ("x = torch.arange(seq_len) / 4.0", 1.0, &["has `x=torch.arange(seq_len)/4.0`"]),
        ] {
            doubted(source, ratio, parts);
        }
    }

    #[test]
    fn a_power_of_the_ratio_is_not_the_ratio() {
        for source in [
            "base = base * self.ratio ** (dim / (dim - 2))",
            "base = base * self.rope_ratio ** (dim / (dim - 2))",
            "base *= config.ntk_alpha ** 1.02",
            "theta = 1.0 / ((self.rope_ratio * base + 1) ** (x / dim))",
        ] {
            doubted(source, 8.0, &["which is not understood: base 80000 was taken"]);
            doubted(source, 1.0, &["which is not understood: base 10000 was taken"]);
        }
        doubted(
            "base = base * self.rope_ratio if False else base",
            8.0,
            &["`base=base*self.rope_ratio if False else base`"],
        );
    }

    #[test]
    fn only_positions_are_divided_and_texts_are_no_code() {
        for (source, expected, doubts) in [
            (
                "\"\"\"once: seq_idx / self.rope_ratio\"\"\"\nbase = base * self.rope_ratio",
                RopeRatio::Base,
                0,
            ),
            ("'''base * self.rope_ratio\n'''\nt = (t\n  / rope_ratio)", RopeRatio::Positions, 0),
            ("log('# seq_idx / rope_ratio')\nbase = rope_ratio * base # \"", RopeRatio::Base, 0),
            ("n = max_len / self.rope_ratio", RopeRatio::Base, 1),
            ("seq_idx = torch.arange(n) * (1.0 / self.rope_ratio)", RopeRatio::Positions, 0),
            ("inv_freq = inv_freq / self.rope_ratio", RopeRatio::Positions, 0),
            ("base = base * self.rope_ratio\nt = t / self.rope_ratio", RopeRatio::Base, 1),
            ("t = t / self.rope_ratio / 2", RopeRatio::Base, 1),
        ] {
            let found = judged(source, "my-model", (8192, 8.0), ChatFormat::Roles);
            assert_eq!((found.rope_ratio, found.doubts.len()), (expected, doubts), "{source}: {found:?}");
        }
    }
}
