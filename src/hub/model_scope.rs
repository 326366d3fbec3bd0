//! How ModelScope tells what a repository holds.
//!
//! It has no call for a branch's commit. What pins the files is the SHA-256 that it lists of each, once: a file that is
//! changed meanwhile has another, and is refused. The commit that is named is that of the file changed last.

use std::path::PathBuf;

use serde::Deserialize;

use super::address::Address;
use super::client::Client;
use super::listing::{Entry, Files, Hash, LARGEST_LIST, Listing, escaped, missing};
use super::transfer::{Wanted, text};
use crate::error::{Error, InFile, Result};
use crate::input;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    /// 200, as of HTTP, when all is well; the status itself is 200 then and otherwise.
    #[serde(default)]
    code: Option<i64>,
    #[serde(default)]
    success: Option<bool>,
    #[serde(default)]
    data: Option<Data>,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    #[serde(default)]
    files: Option<Vec<Node>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    path: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    sha256: Option<String>,
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
    let files = answer.data.and_then(|data| data.files);
    let nodes = match files {
        Some(files) if answer.success != Some(false) && answer.code.is_none_or(|code| code == 200) => files,
        _ => {
            let said = answer.message.filter(|message| !message.is_empty());
            let code = answer.code.map(|code| format!(" (code {code})")).unwrap_or_default();
            let found = format!("the answer `{}`{code}", said.as_deref().unwrap_or("no list of files"));
            let token = client.token_name();
            let expected =
                format!("the files of a model: are name and revision right? A private one needs {token}");
            return Err(Error::file_mismatch(&file, found, expected));
        }
    };
    let nodes: Vec<Node> = nodes.into_iter().filter(|node| node.kind == "blob").collect();
    let last = nodes.iter().max_by_key(|node| node.committed_date).map(|node| node.revision.clone());
    let hex = |text: &String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let commit = last.filter(hex).ok_or_else(|| {
        Error::file_mismatch(&file, "no commit in the hub's list", "one of each file: is the name right?")
    })?;
    let mut files = Files::default();
    for Node { path, size, sha256, .. } in nodes {
        let missing = |what: &str| missing(&path, what);
        let hash =
            sha256.as_deref().and_then(Hash::sha256).ok_or_else(|| missing("SHA-256")).in_file(&file)?;
        let bytes = size.ok_or_else(|| missing("length")).in_file(&file)?;
        files.add(path, Entry { bytes, hash }).in_file(&file)?;
    }
    let files = files.done();
    Ok(Listing { repository, commit, revision, files })
}

/// Where a file of a revision is.
pub(super) fn url(client: &Client, listing: &Listing, path: &str) -> String {
    let (revision, path) = (escaped(&listing.revision), escaped(path));
    client.url(&format!("/api/v1/models/{}/repo?Revision={revision}&FilePath={path}", listing.repository))
}
