//! Where a command's model is from: a folder, a download cache, or a hub.

use std::path::PathBuf;

use super::args::ModelArgs;
use glm2llama::error::Result;
use glm2llama::locate::Located;
use glm2llama::model::ModelSource;

/// A model that was found, and what has to live as long as it is used.
pub(super) struct FoundModel {
    pub(super) located: Located,
    pub(super) request: ModelSource,
    #[cfg(feature = "hub")]
    held: super::hub::Held,
}

/// A model in a folder, or on a hub by an address with its prefix. `keep`: where to store what comes from a hub;
/// `quiet`: the user wants errors only.
///
/// # Errors
/// When there is none, or the hub refuses.
pub(super) fn find(args: &ModelArgs, keep: Option<&PathBuf>, quiet: bool) -> Result<FoundModel> {
    #[cfg(feature = "hub")]
    return super::hub::find(args, keep, quiet);
    #[cfg(not(feature = "hub"))]
    {
        let _ = (keep, quiet);
        let located = args.locate()?;
        let request = args.request(&located)?;
        Ok(FoundModel { located, request })
    }
}

impl FoundModel {
    #[cfg(feature = "hub")]
    pub(super) fn new(located: Located, request: ModelSource, held: super::hub::Held) -> FoundModel {
        FoundModel { located, request, held }
    }

    /// To be called when all that was to be written has its name.
    ///
    /// # Errors
    /// When what was kept cannot be named.
    pub(super) fn done(&self) -> Result<()> {
        #[cfg(feature = "hub")]
        self.held.done()?;
        Ok(())
    }
}
