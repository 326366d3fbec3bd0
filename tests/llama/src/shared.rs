//! The publishers' own files, which may not be published again: the developers keep them beside the project.

use std::env;
use std::path::PathBuf;

use crate::workspace;

/// Where this is set, a test that would use an absent file fails. Elsewhere it says that it is skipped: a clone of the
/// project has nothing beside it.
const REQUIRED: &str = "GLM2LLAMA_REQUIRE_SHARED";

/// Something in `../shared`, there or not.
pub fn shared_path(name: &str) -> PathBuf {
    workspace().with_file_name("shared").join(name)
}

/// Something in `../shared`; nothing where it is absent, after saying so.
///
/// # Panics
/// When it is absent and `GLM2LLAMA_REQUIRE_SHARED` is set.
pub fn shared(name: &str) -> Option<PathBuf> {
    let path = shared_path(name);
    if path.exists() {
        return Some(path);
    }
    let required = env::var_os(REQUIRED).is_some_and(|value| !value.is_empty());
    assert!(!required, "{REQUIRED} is set, and {} is not there", path.display());
    eprintln!("skipped: {} is not there", path.display());
    None
}
