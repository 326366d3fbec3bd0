//! What the checkpoint's small files say of tokens, read a second time: those that fine-tuning added, and the ids
//! that end a text.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value as Json;
use serde_json::value::RawValue;

use super::Finding;
use super::vocabulary::{CONTROL, KEY, NORMAL, UNUSED, USER_DEFINED};
use crate::error::{Error, Result};
use crate::gguf::GgufFile;
use crate::input::read_capped;

/// The largest real file, with 16,402 added tokens, has 3.2 MB.
pub(super) const MAX_JSON_BYTES: u64 = 4 << 20;

/// A token's text, and whether it controls the model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Added {
    #[serde(rename = "content")]
    pub text: String,
    #[serde(default)]
    special: Option<bool>,
}

impl Added {
    /// GGUF's number for its kind.
    pub(super) fn kind(&self) -> i32 {
        if self.special == Some(true) { CONTROL } else { USER_DEFINED }
    }

    pub(super) fn control(text: &str) -> Added {
        Added { text: text.to_owned(), special: Some(true) }
    }
}

/// A file's values by their keys; each stays text until it is needed.
pub(super) type Object = BTreeMap<String, Box<RawValue>>;

pub(super) fn tokenizer_config(folder: &Path) -> Result<Object> {
    Ok(read(folder, "tokenizer_config.json")?.unwrap_or_default())
}

/// The added tokens by id: what `added_tokens_decoder` says, and of `added_tokens.json` what it leaves open.
pub(super) fn added_tokens(folder: &Path) -> Result<BTreeMap<usize, Added>> {
    let config = tokenizer_config(folder)?;
    let decoder: Option<BTreeMap<String, Added>> = match config.get("added_tokens_decoder") {
        Some(value) => serde_json::from_str(value.get()).map_err(|e| {
            let problem = format!("is not what it should be: {e}");
            Error::input(&folder.join("tokenizer_config.json"), "added_tokens_decoder", problem)
        })?,
        None => None,
    };
    let decoder = decoder.unwrap_or_default();
    let mut tokens: BTreeMap<usize, Added> =
        decoder.into_iter().filter_map(|(id, token)| Some((id.parse().ok()?, token))).collect();
    let Some(file) = read::<BTreeMap<String, usize>>(folder, "added_tokens.json")? else { return Ok(tokens) };
    let map: Object = read(folder, "special_tokens_map.json")?.unwrap_or_default();
    let names = |key: &str| key.ends_with("_token") || key.ends_with("_special_tokens");
    let named = config.iter().chain(&map).filter(|(key, _)| names(key));
    let special: BTreeSet<String> =
        named.flat_map(|(_, value)| texts(&serde_json::from_str(value.get()).unwrap_or_default())).collect();
    let known: BTreeSet<String> = tokens.values().map(|token| token.text.clone()).collect();
    for (text, id) in file {
        if !known.contains(&text) && !tokens.contains_key(&id) {
            let special = Some(special.contains(&text));
            tokens.insert(id, Added { text, special });
        }
    }
    Ok(tokens)
}

/// A text, an object's `content`, or those of a list or of what an object holds.
fn texts(json: &Json) -> Vec<String> {
    match json {
        Json::String(text) => vec![text.clone()],
        Json::Array(list) => list.iter().flat_map(texts).collect(),
        Json::Object(fields) => match &fields.get("content") {
            Some(content) => content.as_str().map(str::to_owned).into_iter().collect(),
            None => fields.values().flat_map(texts).collect(),
        },
        _ => Vec::new(),
    }
}

pub(super) fn read<T: serde::de::DeserializeOwned>(folder: &Path, name: &str) -> Result<Option<T>> {
    let file = folder.join(name);
    let Some(bytes) = read_capped(&file, MAX_JSON_BYTES)? else { return Ok(None) };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|e| Error::file(&file, format!("is not what it should be: {e}")))
}

/// Checks the three ends of a text: each is the usual one of its place, or listed; and no unlisted one keeps a listed
/// one out.
pub(super) fn check_ends(
    file: &GgufFile,
    folder: &Path,
    usual: [Option<u32>; 3],
    types: &[i32],
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let mut listed = Vec::new();
    for name in ["generation_config.json", "config.json"] {
        let json: Json = read(folder, name)?.unwrap_or_default();
        listed = match &json["eos_token_id"] {
            Json::Array(ids) => ids.iter().filter_map(Json::as_u64).collect(),
            id => id.as_u64().into_iter().collect(),
        };
        let is_token = |id: &u64| {
            usize::try_from(*id).ok().and_then(|id| types.get(id)).is_some_and(|&kind| kind != UNUSED)
        };
        let is_special = |id: &u64| {
            is_token(id) && usize::try_from(*id).ok().and_then(|id| types.get(id)) != Some(&NORMAL)
        };
        if name == "config.json" && !listed.iter().any(is_special) {
            listed.clear(); // another vocabulary's, or a default
        }
        if let Some(id) = listed.iter().find(|id| !is_token(id)) {
            let problem = format!("has no token {id}, which ends a text by eos_token_id in {name}");
            findings.push(Finding::new(format!("{KEY}.tokens"), problem));
        }
        if !listed.is_empty() {
            break;
        }
    }
    let usual = usual.map(|id| id.map(u64::from));
    let key = |place: usize| format!("{KEY}.{}_token_id", ["eos", "eot", "eom"][place]);
    let found = [0, 1, 2].map(|place| file.unsigned(&key(place)));
    let text = |id: Option<u64>| id.map_or("absent".to_owned(), |id| id.to_string());
    for place in 0..3 {
        let of_list = |id: &u64| {
            listed.contains(id)
                && !usual.contains(&Some(*id))
                && found.iter().filter(|other| **other == Some(*id)).count() == 1
        };
        if found[place] != usual[place] && !found[place].as_ref().is_some_and(of_list) {
            let problem = format!("is {}, expected {}", text(found[place]), text(usual[place]));
            findings.push(Finding::new(key(place), problem));
        }
    }
    let held = |id: &u64| found.contains(&Some(*id));
    let room = (0..3).find(|&place| found[place].is_none_or(|id| !listed.contains(&id)));
    if let (Some(id), Some(place)) = (listed.iter().find(|id| !held(id)), room) {
        let problem = format!("is {}, while {id}, a listed end of text, has no place", text(found[place]));
        findings.push(Finding::new(key(place), problem));
    }
    Ok(())
}

/// Added tokens that cannot be: on ids whose tokens have other texts, or beyond the embedding.
pub(super) fn check_added(file: &GgufFile, added: &BTreeMap<usize, Added>, findings: &mut Vec<Finding>) {
    let key = format!("{KEY}.tokens");
    let Some(tokens) = file.texts(&key) else { return };
    if let Some((id, token)) = added.iter().find(|(id, _)| **id >= tokens.len()) {
        let problem = format!("has no token {id}, which the checkpoint names {:?}", token.text);
        findings.push(Finding::new(key, problem));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decoder_goes_before_the_older_files() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("added_tokens.json", r#"{"<a>": 5, "<b>": 6, "<c>": 7}"#);
        write(
            "special_tokens_map.json",
            r#"{"eos_token": {"content": "<b>"}, "additional_special_tokens": ["<a>"]}"#,
        );
        let added = |folder: &Path| -> Vec<(usize, String, i32)> {
            let tokens = added_tokens(folder).unwrap();
            tokens.into_iter().map(|(id, token)| (id, token.text.clone(), token.kind())).collect()
        };
        let row = |id, text: &str, kind| (id, text.to_owned(), kind);
        let expected = [row(5, "<a>", CONTROL), row(6, "<b>", CONTROL), row(7, "<c>", USER_DEFINED)];
        assert_eq!(added(folder.path()), expected);
        write(
            "tokenizer_config.json",
            r#"{"added_tokens_decoder": {"5": {"content": "<c>", "special": true}}}"#,
        );
        assert_eq!(added(folder.path()), [row(5, "<c>", CONTROL), row(6, "<b>", CONTROL)]);
    }
}
