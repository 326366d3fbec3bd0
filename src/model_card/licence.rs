//! The checkpoint's licence: copied, and never made up.

use std::path::Path;

use crate::checkpoint::Published;
use crate::error::Result;
use crate::input::read_beginning;

/// Names of files that hold a licence.
const FILES: [&str; 6] =
    ["LICENSE", "LICENSE.txt", "LICENSE.md", "MODEL_LICENSE", "MODEL_LICENSE.txt", "LICENCE"];
/// Enough for its title.
const BEGINNING: u64 = 1024;
/// Licences whose text begins with a title that nobody else uses, and their names on the hubs.
const KNOWN: [(&str, &str); 2] = [("apache license", "apache-2.0"), ("mit license", "mit")];

/// What is known of a licence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Licence {
    /// The name on the hubs, `apache-2.0` or `other`.
    id: Option<String>,
    /// What it is called where that is `other`.
    name: Option<String>,
    /// Where it stands: an address, or a file of the checkpoint.
    link: Option<String>,
    /// The file in the checkpoint's folder, and its first line.
    file: Option<(String, String)>,
}

impl Licence {
    /// By the keys of the GGUF, or by the file in the folder.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn new(key: &dyn Fn(&str) -> Option<String>, folder: &Path) -> Result<Licence> {
        let [id, name, link] = ["general.license", "general.license.name", "general.license.link"].map(key);
        let mut file = None;
        for name in FILES {
            let Some(beginning) = read_beginning(&folder.join(name), BEGINNING)? else { continue };
            let beginning = String::from_utf8_lossy(&beginning);
            let title = beginning.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
            file = Some((name.to_owned(), title.to_owned()));
            break;
        }
        let (id, link) = match (id, &file) {
            (None, Some((name, title))) => {
                let title = title.to_lowercase();
                let known = KNOWN.iter().find(|(start, _)| title.starts_with(start)).map(|(_, id)| *id);
                let link = link.or_else(|| known.is_none().then(|| name.clone()));
                (Some(known.unwrap_or("other").to_owned()), link)
            }
            (id, _) => (id, link),
        };
        Ok(Licence { id, name, link, file })
    }

    /// Whether there is none.
    pub(crate) fn is_unknown(&self) -> bool {
        self.id.is_none() && self.name.is_none() && self.link.is_none()
    }

    /// The fields of the front matter. A file of the base model is linked to where it stands.
    pub(super) fn fields(&self, base: Option<&Published>) -> Vec<(&'static str, String)> {
        let address = |link: &String| match base {
            Some(base) if !link.contains("://") => base.file(link).unwrap_or_else(|| link.clone()),
            _ => link.clone(),
        };
        let link = self.link.as_ref().map(address);
        let fields =
            [("license", self.id.clone()), ("license_name", self.name.clone()), ("license_link", link)];
        fields.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }

    /// What the card says below.
    pub(super) fn section(&self) -> String {
        if self.is_unknown() {
            return String::new();
        }
        let file = self.file.as_ref().map(|(file, title)| {
            format!(" Its text is the file {file} of the checkpoint ({title:?}): upload it with these files.")
        });
        format!("\n## Licence\n\nThat of the checkpoint.{}\n", file.unwrap_or_default())
    }
}
