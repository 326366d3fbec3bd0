//! Models on a hub: Hugging Face, its mirrors, and ModelScope. Only an address with the hub's prefix gets here.
//!
//! ```text
//! hf://ORG/NAME@REVISION -> address -> list (commit, names, sizes, hashes; asked once) -> small files, checked
//!                                                                                     -> shards, as a Remote
//! ```
//!
//! The checkpoint's small files are held in memory, where every other module reads them as it reads any folder's. Of
//! the weights there are the names only: headers are read by ranges, and the rest comes front to back, is hashed on its
//! way and never stored, unless it is to be kept. Bytes are asked for by one module alone,
//! `transfer`, which goes on where a connection ended; what they have to be is known from the listing.

mod address;
mod client;
mod folder;
mod hugging_face;
mod keep;
mod listing;
mod model_scope;
mod pace;
mod proxies;
mod pump;
mod redirect;
mod repository;
mod shards;
mod transfer;

pub use address::{Address, Hub};
pub use client::{Caller, Client};
pub use folder::{Fetched, adapter, fetch};
pub use keep::Keep;
pub use pace::Pace;
pub use repository::Repository;
