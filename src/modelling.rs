//! What the checkpoint's own modelling file tells where `config.json` is silent.
//!
//! The file is only searched for a few expressions; nothing of it is run.

use std::path::Path;

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
    pub reason: &'static str,
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
            Some(rope_ratio) => Modelling { rope_ratio, reason: "--rope-ratio-applies-to says so", ..found },
            None => found,
        })
    }
}

fn judge(source: &str, config: &GlmConfig, chat: ChatFormat) -> Modelling {
    let code: String = source.chars().filter(|c| !c.is_whitespace()).collect();
    let named_chatglm2 = config.name_or_path.to_ascii_lowercase().contains("chatglm2");
    let (rope_ratio, reason) = if config.rope_ratio == 1.0 {
        (RopeRatio::Base, "rope_ratio is 1")
    } else if code.contains("/self.rope_ratio") || code.contains("/rope_ratio") {
        (RopeRatio::Positions, "its modelling file divides positions by rope_ratio")
    } else if code.contains("*self.rope_ratio") || code.contains("*rope_ratio") {
        (RopeRatio::Base, "its modelling file multiplies the base by rope_ratio")
    } else if named_chatglm2 {
        (RopeRatio::Positions, "config.json names a ChatGLM2")
    } else if chat == ChatFormat::Rounds {
        (RopeRatio::Positions, "its tokenizer is a ChatGLM2's")
    } else {
        (RopeRatio::Base, "so do all models but ChatGLM2-6B-32k")
    };
    // max(1, ln(64 + p + 1) / ln(2048)) exceeds 1 from p = 1984 on.
    let log_scaled_from = (code.contains("math.log(2048)") || code.contains("np.log(2048)")).then_some(1984);
    Modelling { rope_ratio, reason, log_scaled_from }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge_with(source: &str, name: &str, rope_ratio: f64, chat: ChatFormat) -> RopeRatio {
        let config = GlmConfig {
            name_or_path: name.to_owned(),
            rope_ratio,
            ..crate::config::tests::chatglm3_config()
        };
        judge(source, &config, chat).rope_ratio
    }

    #[test]
    fn the_modelling_file_goes_before_the_name() {
        let divides = "seq_idx = torch.arange(seq_len) / self.rope_ratio";
        let multiplies = "base = base * self.rope_ratio";
        let (two, three) = (ChatFormat::Rounds, ChatFormat::Roles);
        assert_eq!(judge_with(divides, "THUDM/chatglm3-6b-32k", 50.0, three), RopeRatio::Positions);
        assert_eq!(judge_with(multiplies, "THUDM/chatglm2-6b-32k", 16.0, two), RopeRatio::Base);
        assert_eq!(judge_with("", "THUDM/chatglm2-6b-32k", 16.0, three), RopeRatio::Positions);
        assert_eq!(judge_with("", "my-model", 16.0, two), RopeRatio::Positions);
        assert_eq!(judge_with("", "my-model", 50.0, three), RopeRatio::Base);
    }

    #[test]
    fn what_the_user_says_goes_before_everything() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "base = base * self.rope_ratio").unwrap();
        let config = GlmConfig { rope_ratio: 50.0, ..crate::config::tests::chatglm3_config() };
        let load = |said| Modelling::load(folder.path(), &config, ChatFormat::Roles, said).unwrap();
        assert_eq!(load(None).rope_ratio, RopeRatio::Base);
        let said = load(Some(RopeRatio::Positions));
        assert_eq!((said.rope_ratio, said.reason), (RopeRatio::Positions, "--rope-ratio-applies-to says so"));
    }
}
