//! The file's vocabulary against GLM-4's ranks: tokens, merges, special tokens and the model's own template.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::added::{Added, added_tokens, check_added, check_ends};
use super::ranks::Ranks;
use super::vocabulary::{KEY, UNUSED, expect_text, template_of};
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

/// Those whose place no other token may take.
const FIXED: [&str; 7] =
    ["<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"];

/// The special tokens of the folder's model, by id: the authors' where the files leave their places open, unless the
/// files have them in an order of their own.
pub(super) fn specials(folder: &Path, ranks: &Ranks) -> Result<BTreeMap<usize, Added>> {
    let first = ranks.tokens.len();
    let mut all = added_tokens(folder)?.split_off(&first);
    let moved = |(id, token): (&usize, &Added)| {
        SPECIALS.iter().position(|name| *name == token.text).is_some_and(|place| first + place != *id)
    };
    if !all.iter().any(moved) {
        for (id, name) in (first..).zip(SPECIALS) {
            all.entry(id).or_insert_with(|| Added::control(name));
        }
    }
    Ok(all)
}

/// The added tokens that take the id of another.
fn misplaced(
    folder: &Path,
    ranks: &Ranks,
    specials: &BTreeMap<usize, Added>,
) -> Result<Option<(usize, String)>> {
    let first = ranks.tokens.len();
    let of_ranks = added_tokens(folder)?.into_iter().find_map(|(id, added)| {
        let rank = ranks.tokens.get(id)?;
        (added.text.as_bytes() != rank.as_slice()).then_some((id, added.text))
    });
    let absent = FIXED.iter().find(|name| !specials.values().any(|token| token.text == **name));
    let of_roles = absent.map(|name| {
        let id = first + SPECIALS.iter().position(|other| other == name).unwrap_or_default();
        (id, specials.get(&id).map_or_else(String::new, |token| token.text.clone()))
    });
    Ok(of_ranks.or(of_roles))
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
    let (added, specials) = (added_tokens(folder)?, specials(folder, ranks)?);
    check_added(file, &added, findings);
    if let Some((id, text)) = misplaced(folder, ranks, &specials)? {
        let problem = format!(
            "has {:?} as token {id}, where the checkpoint's added tokens have {text:?}",
            tokens.get(id)
        );
        findings.push(Finding::new(format!("{KEY}.tokens"), problem));
    }
    let wrong = (0..count).find_map(|id| {
        let (text, kind) = match (ranks.tokens.get(id), specials.get(&id)) {
            (Some(token), _) => {
                let text = Ranks::spelling(token);
                // A token that was added once more is looked for before all else.
                let again = added.get(&id).filter(|added| added.text == text);
                (text, again.map_or(1, Added::kind))
            }
            (None, Some(special)) => (special.text.clone(), special.kind()),
            (None, None) => (tokens[id].clone(), UNUSED),
        };
        (tokens[id] != text || types[id] != kind).then_some((id, text))
    });
    if let Some((id, text)) = wrong {
        let problem = format!("has {:?} of type {} as token {id}, expected {text:?}", tokens[id], types[id]);
        findings.push(Finding::new(format!("{KEY}.tokens"), problem));
    }
    findings
        .extend(merges_problem(ranks, merges).map(|problem| Finding::new(format!("{KEY}.merges"), problem)));
    let id = |name: &str| {
        let named = specials.iter().find(|(_, token)| token.text == name);
        named.and_then(|(&id, _)| u32::try_from(id).ok())
    };
    let usual = ["<|endoftext|>", "<|user|>", "<|observation|>"].map(id);
    check_ends(file, folder, usual, types, findings)?;
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
