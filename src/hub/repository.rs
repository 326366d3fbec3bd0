//! A repository at one commit, and its files.

use std::path::PathBuf;
use std::sync::Arc;

use super::address::{Address, Hub};
use super::client::Client;
use super::listing::{Entry, Judge, Listing, RUN_AGAIN};
use super::pump::{Pump, aside};
use super::transfer::Wanted;
use super::{hugging_face, model_scope};
use crate::checkpoint::Origin;
use crate::error::{Error, Result};

/// How often a small file with a wrong hash is asked for: hubs' caches do hold an empty one now and then.
const TRIES: usize = 3;

/// A model on a hub, its commit pinned, its files listed.
#[derive(Debug)]
pub struct Repository {
    pub(super) client: Arc<Client>,
    pub(super) listing: Listing,
    address: Address,
}

impl Repository {
    /// Asks the hub for the commit and the list of its files.
    ///
    /// # Errors
    /// When the hub cannot be reached, has no such model, or the user stops the run.
    pub fn open(client: Client, address: &Address) -> Result<Repository> {
        let client = Arc::new(client);
        let asked = address.clone();
        let listing = aside(&client, move |client| match asked.hub {
            Hub::HuggingFace => hugging_face::list(client, &asked),
            Hub::ModelScope => model_scope::list(client, &asked),
        })?;
        if listing.files.is_empty() {
            let file = PathBuf::from(address.to_string());
            return Err(Error::file_mismatch(&file, "no files", "a model's: is the revision right?"));
        }
        Ok(Repository { client, listing, address: address.clone() })
    }

    /// Where a model is from.
    pub fn origin(&self) -> Origin {
        Origin {
            hub: self.address.hub.title().to_owned(),
            repository: self.listing.repository.clone(),
            commit: self.listing.commit.clone(),
        }
    }

    /// The hub.
    pub fn hub(&self) -> Hub {
        self.address.hub
    }

    /// The revision that was asked for.
    pub fn revision(&self) -> &str {
        self.address.revision()
    }

    /// What to call the repository in messages.
    pub fn shown(&self) -> PathBuf {
        PathBuf::from(format!("{}{}", self.address.hub.prefix(), self.listing.repository))
    }

    /// All files with their lengths, by path.
    pub fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.listing.files.iter().map(|(path, entry)| (path.as_str(), entry.bytes))
    }

    /// A small file's bytes, held against its hash; none when there is no such file.
    ///
    /// # Errors
    /// When it is over `most` bytes, cannot be fetched, or is not what the hub listed.
    pub fn read(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let Some((wanted, entry)) = self.wanted(path) else { return Ok(None) };
        if entry.bytes > most {
            let found = format!("{} bytes", entry.bytes);
            return Err(Error::file_mismatch(&wanted.file, found, format!("at most {most} of such a file")));
        }
        for attempt in 1.. {
            let bytes = Pump::all(&self.client, &wanted, 0..entry.bytes)?;
            let mut judge = Judge::new(entry);
            judge.add(&bytes);
            match judge.end(&wanted.file, RUN_AGAIN) {
                Ok(_) => return Ok(Some(bytes)),
                Err(error) if attempt == TRIES => return Err(error),
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// A file, as it is to be asked for and to be.
    pub(super) fn wanted(&self, path: &str) -> Option<(Wanted, &Entry)> {
        let entry = self.listing.files.get(path)?;
        let url = match self.address.hub {
            Hub::HuggingFace => hugging_face::url(&self.client, &self.listing, path),
            Hub::ModelScope => model_scope::url(&self.client, &self.listing, path),
        };
        Some((Wanted { url, file: self.shown().join(path), bytes: entry.bytes }, entry))
    }
}
