//! Models, adapters and GGUF files by their addresses on a hub.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::ModelArgs;
use super::print::note;
use super::progress::Stop;
use super::source::FoundModel;
use glm2llama::checkpoint::Published;
use glm2llama::error::{Error, Result, one_line};
use glm2llama::gguf::GgufFile;
use glm2llama::hub::{self, Address, Caller, Client, Fetched, Hub, Keep, Pace, Repository};
use glm2llama::input::Held as Folder;
use glm2llama::locate::{Caches, Located};

/// What a run from a hub holds until its end.
#[derive(Default)]
pub(super) struct Held {
    model: Option<Fetched>,
    adapters: Vec<Folder>,
}

impl Held {
    /// Names what was kept.
    ///
    /// # Errors
    /// When the system cannot write.
    pub(super) fn done(&self) -> Result<()> {
        self.model.as_ref().map_or(Ok(()), Fetched::all_kept)
    }
}

/// The text is an address, whatever lies in the folder.
pub(super) fn is_address(path: &Path) -> bool {
    path.to_str().is_some_and(Address::is_one)
}

/// `quiet`: the user wants no word on what is waited for.
pub(super) fn find(args: &ModelArgs, keep: Option<&PathBuf>, quiet: bool) -> Result<FoundModel> {
    let mut held = Held::default();
    let located = match args.folder.to_str().filter(|text| Address::is_one(text)) {
        None if keep.is_some() => {
            return Err(Error::Usage(
                "--keep: expected a model on a hub, hf://ORG/NAME or ms://ORG/NAME".to_owned(),
            ));
        }
        None => args.locate()?,
        Some(text) => fetch(&Address::of_model(text)?, keep, quiet, &mut held)?,
    };
    let mut request = args.request(&located)?;
    if let Some(fetched) = &held.model {
        request.origin = Some(fetched.origin.clone());
        request.remote = Some(fetched.remote.clone());
    }
    for lora in &mut request.lora {
        let Some(text) = lora.folder.to_str().filter(|text| Address::is_one(text)) else { continue };
        let repository = open(&Address::of_model(text)?, quiet)?;
        let folder = hub::adapter(&repository)?;
        lora.folder = folder.folder().to_owned();
        held.adapters.push(folder);
    }
    Ok(FoundModel::new(located, request, held))
}

/// Asks a hub for a repository. Ctrl-C is heeded from here on, so that it ends as any other run does.
fn open(address: &Address, quiet: bool) -> Result<Repository> {
    let tell = move |message: &str| {
        if !quiet {
            note(&one_line(message))
        }
    };
    let caller = Caller { watch: Arc::new(Stop::on_signals()?), tell: Arc::new(tell) };
    let client = Client::new(address.hub, &|name| std::env::var_os(name), Pace::default(), caller)?;
    Repository::open(client, address)
}

fn fetch(address: &Address, keep: Option<&PathBuf>, quiet: bool, held: &mut Held) -> Result<Located> {
    let repository = open(address, quiet)?;
    let keep = keep.map(|root| Keep { root: root.clone() });
    let users = Caches::of_user();
    let cache = match address.hub {
        Hub::HuggingFace => users.hugging_face(),
        Hub::ModelScope => users.model_scope(),
    };
    let caches: Vec<Keep> = cache.map(|root| Keep { root: root.to_owned() }).into_iter().collect();
    let fetched = hub::fetch(&repository, &caches, keep.as_ref())?;
    let origin = &fetched.origin;
    let located = Located {
        folder: fetched.folder.clone(),
        how: Some(format!("{} on {}, commit {}", origin.repository, origin.hub, origin.commit)),
        unfinished: None,
        published: Some(Published {
            hub: match address.hub {
                Hub::HuggingFace => Published::HUGGING_FACE,
                Hub::ModelScope => Published::MODEL_SCOPE,
            },
            repository: origin.repository.clone(),
        }),
    };
    held.model = Some(fetched);
    Ok(located)
}

/// Reads the header of a GGUF file on a hub; the rest of it is not asked for.
pub(super) fn gguf(address: &Path) -> Result<GgufFile> {
    let address = Address::of_file(&address.to_string_lossy())?;
    let repository = open(&address, false)?;
    let all: Vec<&str> =
        repository.files().map(|(path, _)| path).filter(|path| path.ends_with(".gguf")).collect();
    let path = match (&address.file, all.as_slice()) {
        (Some(path), _) => path.as_str(),
        (None, [only]) => only,
        (None, several) => {
            let names: Vec<String> = several.iter().take(5).map(|name| format!("{address}/{name}")).collect();
            let more = if several.len() > 5 { " and others" } else { "" };
            let expected = match several {
                [] => "one".to_owned(),
                _ => format!("one of them: {}{more}", names.join(", ")),
            };
            return Err(Error::file_mismatch(
                &repository.shown(),
                format!("{} GGUF files", several.len()),
                expected,
            ));
        }
    };
    let file = repository.shown().join(path);
    let Some((beginning, bytes)) = repository.beginning(path) else {
        let expected = format!("one of the model's {} GGUF files", all.len());
        return Err(Error::file_mismatch(&file, "no such file on the hub", expected));
    };
    let beginning: Box<dyn Read> = Box::new(beginning);
    GgufFile::read_from(&file, beginning, bytes)
}
