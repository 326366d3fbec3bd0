//! What the two hubs tell of a repository's files.

use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::{COMMIT, State, is_large};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn git(bytes: &[u8]) -> String {
    hex(&Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize())
}

pub fn tree(state: &State) -> Vec<Value> {
    let (files, misjudged) = (state.files.lock().unwrap(), state.misjudged.lock().unwrap());
    let node = |(path, bytes): (&String, &Vec<u8>)| {
        let wrong = misjudged.contains(path);
        let oid = if wrong { "0".repeat(40) } else { git(bytes) };
        let size = state.claimed.lock().unwrap().get(path).copied().unwrap_or(bytes.len() as u64);
        let mut node = json!({ "type": "file", "path": path, "size": size, "oid": oid });
        if is_large(path) {
            let oid = if wrong { "0".repeat(64) } else { sha256(bytes) };
            node["lfs"] = json!({ "oid": oid, "size": size, "pointerSize": 134 });
        }
        node
    };
    let folder = json!({ "type": "directory", "path": "assets", "size": 0, "oid": "0" });
    files.iter().map(node).chain([folder]).collect()
}

pub fn files_of_model_scope(state: &State) -> Vec<Value> {
    let (files, misjudged) = (state.files.lock().unwrap(), state.misjudged.lock().unwrap());
    let node = |(number, (path, bytes)): (usize, (&String, &Vec<u8>))| {
        let sha256 = if misjudged.contains(path) { "0".repeat(64) } else { sha256(bytes) };
        // The last file was changed last, in the commit that is the branch's.
        let revision = if number + 1 == files.len() { COMMIT.to_owned() } else { "ab".repeat(20) };
        json!({
            "Path": path, "Name": path, "Size": bytes.len(), "Sha256": sha256, "Type": "blob", "Revision": revision,
            "CommittedDate": 1_700_000_000 + number, "IsLFS": is_large(path),
        })
    };
    files.iter().enumerate().map(node).collect()
}
