//! The file's vocabulary against the checkpoint's `tokenizer.model`, token by token.

use std::collections::BTreeMap;
use std::path::Path;

use super::added::{
    Added, MAX_JSON_BYTES, Object, added_tokens, check_added, check_ends, read, tokenizer_config,
};
use super::evidence::Evidence;
use super::pieces::Pieces;
use super::{Finding, Pair};
use crate::error::Result;
use crate::gguf::{GgufFile, Value};
use crate::input::read_capped;

pub(super) const KEY: &str = "tokenizer.ggml";
pub(super) const NORMAL: i32 = 1;
pub(super) const CONTROL: i32 = 3;
pub(super) const USER_DEFINED: i32 = 4;
pub(super) const UNUSED: i32 = 5;
/// Real templates have a few kB.
const MAX_TEMPLATE_BYTES: usize = 1 << 20;
/// What the authors' tokenizer puts after the pieces, in the order of the ids.
pub(super) const MASKS: [&str; 5] = ["[MASK]", "[gMASK]", "[sMASK]", "sop", "eop"];
pub(super) const ROLES: [&str; 4] = ["<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"];

/// Checks tokens, scores, types, special ids and flags; returns whether the model has roles.
pub(super) fn check(
    pair: &Pair,
    folder: &Path,
    pieces: &Pieces,
    evidence: &Evidence,
    findings: &mut Vec<Finding>,
) -> Result<bool> {
    let file = &pair.file;
    expect_text(file, "model", &["llama"], findings);
    expect_text(file, "pre", &["default"], findings);
    for (name, expected) in [("add_bos_token", false), ("add_eos_token", false), ("add_space_prefix", true)] {
        let found = file.metadata.get(&format!("{KEY}.{name}"));
        if found != Some(&Value::Bool(expected)) {
            findings.push(Finding::new(format!("{KEY}.{name}"), format!("is not {expected}")));
        }
    }
    let (Some(Value::Strings(tokens)), Some(Value::F32s(scores)), Some(Value::I32s(types))) = (
        file.metadata.get(&format!("{KEY}.tokens")),
        file.metadata.get(&format!("{KEY}.scores")),
        file.metadata.get(&format!("{KEY}.token_type")),
    ) else {
        findings.push(Finding::new(format!("{KEY}.tokens"), "and its scores and types are not all there"));
        return Ok(evidence.roles.unwrap_or(true));
    };
    let count = pair.config.padded_vocab_size;
    for (name, found) in [("tokens", tokens.len()), ("scores", scores.len()), ("token_type", types.len())] {
        if found != count {
            findings
                .push(Finding::new(format!("{KEY}.{name}"), format!("has {found} values, expected {count}")));
            return Ok(evidence.roles.unwrap_or(true));
        }
    }
    let added = added_tokens(folder)?;
    let entries = Entries { tokens, scores, types, added: &added };
    entries.check_pieces(pieces, findings);
    let roles = entries.check_specials(pieces, evidence, findings);
    entries.check_rest(pieces.special(MASKS.len() + if roles { 4 } else { 0 }), findings);
    check_added(file, &added, findings);
    check_ids(file, pieces, findings);
    let role = |name: &str| {
        let number = ROLES.iter().position(|&role| role == name)?;
        roles.then(|| pieces.special(MASKS.len() + number))
    };
    let usual = [pieces.id("</s>"), role("<|user|>"), role("<|observation|>")];
    check_ends(file, folder, usual, types, findings)?;
    Ok(roles)
}

/// The file's three arrays, of equal length, and what the checkpoint's small files add.
struct Entries<'a> {
    tokens: &'a [String],
    scores: &'a [f32],
    types: &'a [i32],
    added: &'a BTreeMap<usize, Added>,
}

impl Entries<'_> {
    fn check_pieces(&self, pieces: &Pieces, findings: &mut Vec<Finding>) {
        let mut wrong = Vec::new();
        for (id, piece) in pieces.pieces.iter().enumerate() {
            // A piece that was added once more is looked for before all else.
            let again = self.added.get(&id).filter(|added| added.text == piece.text);
            let kind = match (piece.type_number(), again) {
                (1, Some(added)) => added.kind(),
                (kind, _) => kind,
            };
            let same = self.tokens.get(id) == Some(&piece.text)
                && self.scores.get(id).map(|score| score.to_bits()) == Some(piece.score.to_bits())
                && self.types.get(id) == Some(&kind);
            if !same {
                wrong.push(id);
            }
        }
        if let Some(&id) = wrong.first() {
            let found = self.tokens.get(id).map_or("nothing", String::as_str);
            let problem = format!(
                "differ from tokenizer.model in {} tokens, first in token {id}: {found:?}, expected {:?} \
                 with its score and type",
                wrong.len(),
                pieces.pieces[id].text
            );
            findings.push(Finding::new(format!("{KEY}.tokens"), problem));
        }
        let count = pieces.pieces.len();
        let other = self.added.range(..count).find(|(id, added)| {
            pieces.pieces.get(**id).is_none_or(|piece| piece.text != added.text.replace(' ', "▁"))
        });
        if let Some((&id, added)) = other {
            findings.push(self.renamed(id, added));
        }
    }

    /// A token's id is another's in the checkpoint's small files.
    fn renamed(&self, id: usize, added: &Added) -> Finding {
        let found = self.tokens.get(id).map_or("nothing", String::as_str);
        let problem =
            format!("has {found:?} as token {id}, where the checkpoint's added tokens have {:?}", added.text);
        Finding::new(format!("{KEY}.tokens"), problem)
    }

    /// The special tokens follow the pieces; returns whether roles are among them.
    fn check_specials(&self, pieces: &Pieces, evidence: &Evidence, findings: &mut Vec<Finding>) -> bool {
        let at = |number: usize| self.tokens.get(pieces.special(number) as usize).map(String::as_str);
        let has_roles = at(MASKS.len()) == Some(ROLES[0]);
        let expected = evidence.roles.unwrap_or(has_roles);
        let lowest = pieces.pieces.iter().map(|piece| piece.score).fold(f32::INFINITY, f32::min);
        let prompt = format!("{}{}", at(1).unwrap_or_default(), at(3).unwrap_or_default());
        if prompt != "[gMASK]sop" {
            let problem = format!("spell the prefix {prompt:?}, expected \"[gMASK]sop\"");
            findings.push(Finding::new(format!("{KEY}.tokens"), problem));
        }
        let names = MASKS.iter().chain(ROLES.iter().take(if expected { ROLES.len() } else { 0 }));
        for (number, &name) in names.enumerate() {
            let id = pieces.special(number) as usize;
            let found = at(number).unwrap_or_default();
            if !spells(found, name) {
                let problem = format!("has {found:?} as token {id}, expected {name:?}");
                findings.push(Finding::new(format!("{KEY}.tokens"), problem));
                return expected;
            }
            if let Some(added) = self.added.get(&id).filter(|added| added.text != name) {
                findings.push(self.renamed(id, added));
            }
            if self.types[id] != CONTROL {
                let problem = format!("is {} for token {id}, {name:?}, expected {CONTROL}", self.types[id]);
                findings.push(Finding::new(format!("{KEY}.token_type"), problem));
            }
            // Else a runtime that merges by score makes `sop` of ordinary text.
            if self.scores[id] >= lowest {
                let problem = format!(
                    "is {} for token {id}, {name:?}, expected less than any piece's",
                    self.scores[id]
                );
                findings.push(Finding::new(format!("{KEY}.scores"), problem));
            }
        }
        if !expected && has_roles {
            findings.push(Finding::new(format!("{KEY}.tokens"), "has role tokens, which this model has not"));
        }
        expected
    }

    /// What is left fills the embedding's rows: nothing that text could turn into.
    fn check_rest(&self, from: u32, findings: &mut Vec<Finding>) {
        for id in from as usize..self.tokens.len() {
            let (token, kind) = (&self.tokens[id], self.types[id]);
            let added = self.added.get(&id);
            let fits = match added {
                Some(added) => *token == added.text && kind == added.kind(),
                None => kind == UNUSED,
            };
            if !fits {
                let expected = added.map_or("an unused token".to_owned(), |added| {
                    format!("{:?} of type {}", added.text, added.kind())
                });
                let problem = format!("has {token:?} of type {kind} as token {id}, expected {expected}");
                findings.push(Finding::new(format!("{KEY}.tokens"), problem));
                break;
            }
        }
    }
}

/// The token's text in the file stands for the authors' name. Runtimes cut special tokens out of the middle of
/// words: of letters alone it would be cut out of `people` and `sophist`, so a bracket has to be with it, which
/// the prefix lends.
fn spells(found: &str, name: &str) -> bool {
    match name {
        "[gMASK]" => found == "[gMASK" || found == name,
        "sop" | "eop" => found.strip_suffix(name).is_some_and(|before| before.ends_with(']')),
        _ => found == name,
    }
}

fn check_ids(file: &GgufFile, pieces: &Pieces, findings: &mut Vec<Finding>) {
    let unknown =
        pieces.pieces.iter().position(|piece| piece.type_number() == 2).and_then(|id| u32::try_from(id).ok());
    for (name, expected) in [("bos", pieces.id("<s>")), ("unknown", unknown)] {
        check_id(file, name, expected, findings);
    }
}

/// One of the special ids, which must be absent when none is expected.
fn check_id(file: &GgufFile, name: &str, expected: Option<u32>, findings: &mut Vec<Finding>) {
    let key = format!("{KEY}.{name}_token_id");
    let (found, expected) = (file.unsigned(&key), expected.map(u64::from));
    if found != expected {
        let text = |id: Option<u64>| id.map_or("absent".to_owned(), |id| id.to_string());
        findings.push(Finding::new(key, format!("is {}, expected {}", text(found), text(expected))));
    }
}

/// The chat template that comes with the model.
pub(super) fn template_of(folder: &Path) -> Result<Option<String>> {
    if let Some(bytes) = read_capped(&folder.join("chat_template.jinja"), MAX_JSON_BYTES)? {
        return Ok(String::from_utf8(bytes).ok());
    }
    // Those of transformers' older processors have a file of their own.
    let files = [tokenizer_config(folder)?, read(folder, "chat_template.json")?.unwrap_or_default()];
    let mut given = files.iter().filter_map(|file: &Object| file.get("chat_template")).map(|raw| raw.get());
    let Some(text) = given.find(|text| *text != "null").filter(|text| text.len() <= MAX_TEMPLATE_BYTES)
    else {
        return Ok(None);
    };
    let template: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    // One of several has a name, in a list or an object.
    let named = template.as_array().and_then(|list| list.iter().find(|entry| entry["name"] == "default"));
    let default = named.map(|entry| &entry["template"]).or(template.get("default"));
    Ok(default.unwrap_or(&template).as_str().map(str::to_owned))
}

/// One of some texts.
pub(super) fn expect_text(file: &GgufFile, name: &str, expected: &[&str], findings: &mut Vec<Finding>) {
    let key = format!("{KEY}.{name}");
    match file.text(&key) {
        Some(found) if expected.contains(&found) => {}
        Some(found) => findings.push(Finding::new(key, format!("is {found:?}, expected {expected:?}"))),
        None => findings.push(Finding::new(key, format!("is absent, expected {expected:?}"))),
    }
}
