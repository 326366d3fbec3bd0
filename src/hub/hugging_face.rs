//! How Hugging Face and its mirrors tell what a repository holds.

use std::path::PathBuf;

use serde::Deserialize;
use ureq::http::header;

use super::address::Address;
use super::client::{Client, host};
use super::listing::{Entry, Files, Hash, LARGEST_LIST, Listing, escaped, is_hex, missing};
use super::redirect;
use super::transfer::{Wanted, text};
use crate::error::{Error, InFile, Problem, Result};
use crate::input;

/// Pages of a list; one has a thousand files.
const MOST_PAGES: usize = 50;

#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    id: Option<String>,
    sha: String,
}

#[derive(Deserialize)]
struct Node {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    oid: String,
    #[serde(default)]
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

/// Asks which commit a revision is, and then for all files of that commit.
///
/// # Errors
/// When there is no such repository, or the answers are not the hub's.
pub(super) fn list(client: &Client, address: &Address) -> Result<Listing> {
    let file = PathBuf::from(address.to_string());
    let revision = escaped(address.revision());
    let url = client.url(&format!("/api/models/{}/revision/{revision}", address.repository()));
    let (body, _) = text(client, &Wanted { url, file: file.clone(), bytes: 0 }, LARGEST_LIST)?;
    let info: Info = input::json(&body, "found an answer that is not the hub's").in_file(&file)?;
    if !is_hex(&info.sha, 40) {
        return Err(Error::file_mismatch(
            &file,
            "a commit that is none in the hub's answer",
            "40 hexadecimal digits",
        ));
    }
    // An old name is answered with the new one, which needs no redirect from then on.
    let fits = |id: &String| Address::of_model(&format!("hf://{id}")).is_ok_and(|new| new.revision.is_none());
    let repository = info.id.filter(fits).unwrap_or_else(|| address.repository());
    let mut url = client.url(&format!("/api/models/{repository}/tree/{}?recursive=true", info.sha));
    let mut files = Files::default();
    for _ in 0..MOST_PAGES {
        let page = Wanted { url: url.clone(), file: file.clone(), bytes: 0 };
        let (body, headers) = text(client, &page, LARGEST_LIST)?;
        let nodes: Vec<Node> =
            input::json(&body, "found a list of files that is not the hub's").in_file(&file)?;
        for node in nodes.into_iter().filter(|node| node.kind == "file") {
            entry(&node).and_then(|entry| files.add(node.path, entry)).in_file(&file)?;
        }
        let next = headers.get(header::LINK).and_then(|link| next(link.to_str().ok()?));
        let Some(next) = next else {
            let files = files.done();
            return Ok(Listing { repository, revision: info.sha.clone(), commit: info.sha, files });
        };
        url = redirect::follow(&url, &next).filter(|next| client.is_own(next)).ok_or_else(|| {
            let found = format!("the next page of the list at {}", host(&next));
            Error::file_mismatch(&file, found, "one of the endpoint's own")
        })?;
    }
    Err(Error::file_mismatch(&file, "a list of files without an end", "the few pages of a model's"))
}

fn entry(node: &Node) -> Result<Entry, Problem> {
    let missing = |what: &str| missing(&node.path, what);
    let (bytes, hash) = match &node.lfs {
        Some(lfs) => (lfs.size, Hash::sha256(&lfs.oid)),
        None => (node.size.ok_or_else(|| missing("length"))?, Hash::git(&node.oid)),
    };
    Ok(Entry { bytes, hash: hash.ok_or_else(|| missing("hash"))? })
}

/// The address of the next page.
fn next(link: &str) -> Option<String> {
    let part = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    Some(part.split_once('<')?.1.split_once('>')?.0.to_owned())
}

/// Where a file of a commit is.
pub(super) fn url(client: &Client, listing: &Listing, path: &str) -> String {
    let path: Vec<String> = path.split('/').map(escaped).collect();
    client.url(&format!("/{}/resolve/{}/{}", listing.repository, listing.revision, path.join("/")))
}
