//! How ModelScope tells what a repository holds.
//!
//! It has no call for a branch's commit. What pins the files is the SHA-256 that it lists of each, once: a file that is
//! changed meanwhile has another, and is refused. The commit that is named is that of the file changed last.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::address::Address;
use super::client::Client;
use super::listing::{Entry, Hash, LARGEST_LIST, Listing, MOST_FILES, escaped, is_safe};
use super::transfer::{Wanted, text};
use crate::error::{Error, InFile, Result};
use crate::input;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    data: Option<Data>,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    #[serde(default)]
    files: Vec<Node>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    sha256: String,
    #[serde(rename = "Type")]
    kind: String,
    #[serde(default)]
    revision: String,
    #[serde(default)]
    committed_date: u64,
}

/// Asks for all files of a revision.
///
/// # Errors
/// When there is no such repository, or the answer is not the hub's.
pub(super) fn list(client: &Client, address: &Address) -> Result<Listing> {
    let file = PathBuf::from(address.to_string());
    let (repository, revision) = (address.repository(), address.revision().to_owned());
    let path =
        format!("/api/v1/models/{repository}/repo/files?Revision={}&Recursive=True", escaped(&revision));
    let (body, _) =
        text(client, &Wanted { url: client.url(&path), file: file.clone(), bytes: 0 }, LARGEST_LIST)?;
    let answer: Answer = input::json(&body, "found an answer that is not the hub's").in_file(&file)?;
    let Some(data) = answer.data else {
        let found = answer.message.unwrap_or_else(|| "no list of files".to_owned());
        return Err(Error::mismatch(&file, "", format!("the answer `{found}`"), "the files of the model"));
    };
    let nodes: Vec<Node> =
        data.files.into_iter().filter(|node| node.kind == "blob" && is_safe(&node.path)).collect();
    if nodes.len() > MOST_FILES {
        return Err(Error::mismatch(&file, "", format!("over {MOST_FILES} files"), "a model's few dozen"));
    }
    let last = nodes.iter().max_by_key(|node| node.committed_date).map(|node| node.revision.clone());
    let hex = |text: &String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let commit = last.filter(hex).ok_or_else(|| {
        Error::mismatch(&file, "", "no commit in the hub's list", "one of each file: is the name right?")
    })?;
    let mut files = BTreeMap::new();
    for Node { path, size: bytes, sha256, .. } in nodes {
        let hash = Hash::sha256(&sha256);
        let hash = hash.ok_or_else(|| {
            Error::mismatch(&file, &path, "no SHA-256 in the hub's list", "one of each file")
        })?;
        files.insert(path, Entry { bytes, hash });
    }
    Ok(Listing { repository, commit, revision, files })
}

/// Where a file of a revision is.
pub(super) fn url(client: &Client, listing: &Listing, path: &str) -> String {
    let (revision, path) = (escaped(&listing.revision), escaped(path));
    client.url(&format!("/api/v1/models/{}/repo?Revision={revision}&FilePath={path}", listing.repository))
}
