//! Where the libraries are.

use std::env;
use std::path::{Path, PathBuf};

/// Names a folder of llama.cpp libraries to take instead of the fetched one.
pub const DIR_VARIABLE: &str = "GLM2LLAMA_LLAMA_DIR";

/// Where `fetch.sh` puts the libraries, in the workspace. The version is part of the name, so a
/// change of version is fetched anew. They are for Linux on x86-64: no other system may take them.
const FETCHED: &str = ".runtime/llama-v3.22.1";

/// Why there is no llama.cpp.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Absent {
    /// Nobody fetched it.
    #[error("no llama.cpp (run `make runtime`): {} is not there", folder.display())]
    NotFound {
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// The libraries do not load, or are of another version.
    #[error("unusable llama.cpp in {}: {problem}", folder.display())]
    Unusable {
        /// Where they are.
        folder: PathBuf,
        /// What is wrong with them.
        problem: String,
    },
}

/// The workspace's root folder.
pub fn workspace() -> &'static Path {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.expect("this crate lies two folders below the root")
}

/// The folder that holds the libraries.
pub(crate) fn folder() -> Result<PathBuf, Absent> {
    let fetched = || match cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        true => workspace().join(FETCHED),
        false => workspace().join(format!("{FETCHED}-{}-{}", env::consts::OS, env::consts::ARCH)),
    };
    let folder = env::var_os(DIR_VARIABLE).map_or_else(fetched, PathBuf::from);
    if folder.is_dir() { Ok(folder) } else { Err(Absent::NotFound { folder }) }
}

/// The library in `folder` whose file name is `stem`, perhaps with a version, and `.so`.
pub(crate) fn library(folder: &Path, stem: &str) -> Result<PathBuf, String> {
    let entries = folder.read_dir().map_err(|error| error.to_string())?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            // `libllama.so`, `libllama.v0.5.0.so`; not `libllama-common.so`
            name.strip_prefix(stem).is_some_and(|rest| rest.starts_with('.') && rest.ends_with(".so"))
        })
        .collect();
    found.sort();
    found.pop().ok_or_else(|| format!("no {stem}*.so in it"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_script_fetches_the_version_that_is_looked_for() {
        let script = include_str!("../fetch.sh");
        let version = super::FETCHED.rsplit("-v").next().expect("a version");
        assert!(script.contains(&format!("version={version}\n")), "{version}");
    }
}
