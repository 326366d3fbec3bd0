//! The file's vocabulary against GLM-4's ranks: tokens, merges, special tokens and the model's own template.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::ranks::Ranks;
use super::vocabulary::{
    CONTROL, KEY, UNUSED, USER_DEFINED, added_tokens, check_id, expect_text, template_of,
};
use super::{Finding, Pair, template};
use crate::error::Result;
use crate::gguf::Value;

/// What the authors' tokenizer puts after the ranks where no file says otherwise.
const SPECIALS: [&str; 14] = [
    "<|endoftext|>",
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
];

/// The special tokens of the folder's model, by id.
pub(super) fn specials(folder: &Path, ranks: &Ranks) -> Result<BTreeMap<usize, String>> {
    let added = added_tokens(folder)?;
    let first = ranks.tokens.len();
    Ok(if added.is_empty() { (first..).zip(SPECIALS.map(str::to_owned)).collect() } else { added })
}

pub(super) fn check(pair: &Pair, folder: &Path, ranks: &Ranks, findings: &mut Vec<Finding>) -> Result<()> {
    let file = &pair.file;
    expect_text(file, "model", &["gpt2"], findings);
    // Both cut text as the authors do.
    expect_text(file, "pre", &["llama-bpe", "chatglm-bpe"], findings);
    let (Some(Value::Strings(tokens)), Some(Value::I32s(types)), Some(Value::Strings(merges))) = (
        file.metadata.get(&format!("{KEY}.tokens")),
        file.metadata.get(&format!("{KEY}.token_type")),
        file.metadata.get(&format!("{KEY}.merges")),
    ) else {
        findings.push(Finding::new(format!("{KEY}.tokens"), "and its types and merges are not all there"));
        return Ok(());
    };
    let count = pair.config.padded_vocab_size;
    if tokens.len() != count || types.len() != count || ranks.tokens.len() > count {
        let problem = format!("has {} tokens and {} types, expected {count}", tokens.len(), types.len());
        findings.push(Finding::new(format!("{KEY}.tokens"), problem));
        return Ok(());
    }
    let specials = specials(folder, ranks)?;
    let wrong = (0..count).find_map(|id| {
        let (text, kinds): (String, &[i32]) = match (ranks.tokens.get(id), specials.get(&id)) {
            (Some(token), _) => (Ranks::spelling(token), &[1]),
            (None, Some(name)) => (name.clone(), &[CONTROL, USER_DEFINED]),
            (None, None) => (tokens[id].clone(), &[UNUSED]),
        };
        (tokens[id] != text || !kinds.contains(&types[id])).then_some((id, text))
    });
    if let Some((id, text)) = wrong {
        let problem = format!("has {:?} of type {} as token {id}, expected {text:?}", tokens[id], types[id]);
        findings.push(Finding::new(format!("{KEY}.tokens"), problem));
    }
    findings
        .extend(merges_problem(ranks, merges).map(|problem| Finding::new(format!("{KEY}.merges"), problem)));
    let id = |name: &str| {
        specials.iter().find(|(_, text)| *text == name).and_then(|(&id, _)| u32::try_from(id).ok())
    };
    for (key, name) in [("eos", "<|endoftext|>"), ("eot", "<|user|>"), ("eom", "<|observation|>")] {
        check_id(file, key, id(name), findings);
    }
    template::check_own(pair, template_of(folder)?.as_deref(), findings);
    Ok(())
}

/// Every merge makes a token of two, in the order of the ranks, and every token of several bytes is made.
fn merges_problem(ranks: &Ranks, merges: &[String]) -> Option<String> {
    let spelt: Vec<String> = ranks.tokens.iter().map(|token| Ranks::spelling(token)).collect();
    let ids: HashMap<&str, usize> = spelt.iter().map(String::as_str).zip(0..).collect();
    let mut made = vec![false; spelt.len()];
    let mut last = 0;
    for merge in merges {
        let token = merge.split_once(' ').and_then(|(left, right)| {
            (ids.contains_key(left) && ids.contains_key(right)).then(|| format!("{left}{right}"))
        });
        let Some(&rank) = token.and_then(|token| ids.get(token.as_str())) else {
            return Some(format!("has {merge:?}, which makes no token of two"));
        };
        if rank < last {
            return Some(format!("has {merge:?} out of order"));
        }
        (made[rank], last) = (true, rank);
    }
    let missing = made.iter().zip(&ranks.tokens).position(|(made, token)| !made && token.len() > 1)?;
    Some(format!("never makes token {missing}, {:?}", spelt[missing]))
}
