//! Every layout that a download may have, made in a temporary home.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Caches, Located, find};

pub(super) const COMMIT: &str = "e46a13ad0123456789abcdef0123456789abcdef";
pub(super) const OLDER: &str = "0123456789abcdef0123456789abcdef01234567";

/// A home with its caches, and what the environment says besides.
pub(super) struct Home {
    folder: tempfile::TempDir,
    variables: BTreeMap<&'static str, PathBuf>,
}

impl Home {
    pub(super) fn new() -> Home {
        Home { folder: tempfile::tempdir().unwrap(), variables: BTreeMap::new() }
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    pub(super) fn set(&mut self, name: &'static str, below: &str) {
        self.variables.insert(name, self.path(below));
    }

    /// A folder that passes for a model's.
    pub(super) fn model(&self, below: &str) -> PathBuf {
        let folder = self.path(below);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.json"), "{}").unwrap();
        fs::write(folder.join("model.safetensors"), "").unwrap();
        folder
    }

    /// A snapshot in an entry of a cache of Hugging Face, its files links as that program makes them.
    pub(super) fn snapshot(&self, entry: &str, commit: &str) -> PathBuf {
        let (entry, folder) = (self.path(entry), self.path(entry).join("snapshots").join(commit));
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir_all(entry.join("blobs")).unwrap();
        for name in ["config.json", "model.safetensors"] {
            fs::write(entry.join("blobs").join(format!("{commit}-{name}")), "").unwrap();
            let blob = format!("../../blobs/{commit}-{name}");
            crate::system::link(blob.as_ref(), &folder.join(name)).unwrap();
        }
        folder
    }

    pub(super) fn refer(&self, entry: &str, name: &str, commit: &str) {
        let file = self.path(entry).join("refs").join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, commit).unwrap();
    }

    fn caches(&self) -> Caches {
        Caches::new(&|name| match name {
            "HOME" => Some(self.folder.path().into()),
            _ => self.variables.get(name).map(OsString::from),
        })
    }

    pub(super) fn find(&self, model: &str) -> Result<Located, String> {
        find(Path::new(model), &self.caches()).map_err(|error| error.to_string())
    }

    #[track_caller]
    pub(super) fn finds(&self, model: &str, folder: &Path) -> String {
        let found = self.find(model).unwrap();
        assert_eq!(found.folder, folder, "{model}");
        assert_eq!(found.unfinished, None, "{model}");
        slashes(&found.how.unwrap_or_default())
    }

    #[track_caller]
    pub(super) fn refuses(&self, model: &str, parts: &[&str]) {
        let error = slashes(&self.find(model).unwrap_err());
        for part in parts {
            assert!(error.contains(&slashes(part)), "{error}\nwithout: {part}");
        }
    }
}

/// A message with the same sign between names on every system.
fn slashes(text: &str) -> String {
    text.replace(std::path::MAIN_SEPARATOR, "/")
}

const HUB: &str = ".cache/huggingface/hub";
pub(super) const ENTRY: &str = ".cache/huggingface/hub/models--zai-org--chatglm3-6b";
pub(super) const NAME: &str = "zai-org/chatglm3-6b";

#[test]
fn the_cache_of_hugging_face_is_where_its_program_looks() {
    let mut home = Home::new();
    let entry = "/models--zai-org--chatglm3-6b";
    for (variable, value, root) in [
        ("", "", HUB),
        ("XDG_CACHE_HOME", "xdg", "xdg/huggingface/hub"),
        ("HF_HOME", "hf", "hf/hub"),
        ("HUGGINGFACE_HUB_CACHE", "old", "old"),
        ("HF_HUB_CACHE", "new", "new"),
    ] {
        if !variable.is_empty() {
            home.set(variable, value); // each goes before those above it
        }
        let expected = home.snapshot(&format!("{root}{entry}"), COMMIT);
        home.refer(&format!("{root}{entry}"), "main", COMMIT);
        let how = home.finds(NAME, &expected);
        let expected = slashes(&expected.display().to_string());
        assert_eq!(how, format!("{expected}, by refs/main of the Hugging Face cache"));
    }
    home.variables.insert("HF_HUB_CACHE", "~/new".into());
    home.finds(NAME, &home.path("new/models--zai-org--chatglm3-6b/snapshots").join(COMMIT));
    home.variables.insert("HF_HUB_CACHE", "".into());
    home.finds(NAME, &home.path("old/models--zai-org--chatglm3-6b/snapshots").join(COMMIT));
}

#[test]
fn a_revision_is_a_reference_or_a_commit() {
    let home = Home::new();
    let (older, newer) = (home.snapshot(ENTRY, OLDER), home.snapshot(ENTRY, COMMIT));
    home.refuses(NAME, &["found 2 snapshots and no refs/main", "snapshots/0123456789", "snapshots/e46a13ad"]);
    home.refer(ENTRY, "main", COMMIT);
    home.refer(ENTRY, "v1.0", OLDER);
    home.refer(ENTRY, "refs/pr/1", OLDER);
    home.finds(NAME, &newer);
    for (revision, expected) in [
        ("main", &newer),
        ("v1.0", &older),
        ("refs/pr/1", &older),
        (COMMIT, &newer),
        (OLDER, &older),
        ("e46a", &newer),
        ("0", &older),
    ] {
        home.finds(&format!("{NAME}@{revision}"), expected);
    }
    home.snapshot(ENTRY, "0123ffff");
    home.refuses(&format!("{NAME}@0123"), &["found 2 snapshots that begin with 0123", "snapshots/0123ffff"]);
    let missing = format!("{NAME}@v2");
    home.refuses(
        &missing,
        &["found no revision v2", "`hf download zai-org/chatglm3-6b --local-dir chatglm3-6b --revision v2`"],
    );
    home.refer(ENTRY, "main", "ffff");
    home.refuses(
        NAME,
        &["refs/main, which names snapshots/ffff", "`hf download zai-org/chatglm3-6b` resumes it"],
    );
    home.refer(ENTRY, "main", "../../..");
    home.refuses(NAME, &["refs/main: found no name of a commit"]);
}

#[test]
fn the_entry_of_a_cache_stands_for_what_its_main_reference_names() {
    let home = Home::new();
    home.snapshot("copied", OLDER);
    let expected = home.snapshot("copied", COMMIT);
    home.refer("copied", "main", &format!("{COMMIT}\n"));
    for folder in ["copied", "copied/snapshots", "copied/blobs", "copied/refs"] {
        let how = home.finds(home.path(folder).to_str().unwrap(), &expected);
        assert!(how.ends_with(", by refs/main of the download cache"), "{how}");
    }
    assert_eq!(home.finds(expected.to_str().unwrap(), &expected), "");
    let only = home.snapshot("models--a--b", OLDER);
    let how = home.finds(home.path("models--a--b").to_str().unwrap(), &only);
    assert!(how.ends_with(", by the only snapshot of the download cache"), "{how}");
}

#[test]
fn model_scopes_layouts_of_all_ages() {
    for layout in [
        "hub/models/ZhipuAI/chatglm3-6b",
        "hub/ZhipuAI/chatglm3-6b",
        "models/ZhipuAI/chatglm3-6b",
        "models/ZhipuAI--chatglm3-6b/snapshots/master",
    ] {
        for variable in [false, true] {
            let mut home = Home::new();
            let root = if variable { "own" } else { ".cache/modelscope" };
            if variable {
                home.set("MODELSCOPE_CACHE", root);
            }
            let expected = home.model(&format!("{root}/{layout}"));
            let how = home.finds("ZhipuAI/chatglm3-6b", &expected);
            assert!(how.ends_with(" of ModelScope's cache"), "{how}");
            let how = home.finds(NAME, &expected);
            assert!(how.ends_with("; ZhipuAI/chatglm3-6b is the same publisher's"), "{how}");
        }
    }
}

#[cfg(unix)] // with a link to a folder
#[test]
fn dots_in_a_name_are_underscores_in_model_scopes_cache() {
    let home = Home::new();
    let expected = home.model(".cache/modelscope/hub/models/me/tune-v1___5");
    home.finds("me/tune-v1.5", &expected);
    let link = home.path(".cache/modelscope/hub/models/me/tune-v1.5");
    std::os::unix::fs::symlink("tune-v1___5", &link).unwrap();
    home.finds("me/tune-v1.5", &link);
    let other = home.model(".cache/modelscope/models/me--b___c/snapshots/v2");
    home.finds("me/b.c", &other);
    home.finds("me/b.c@v2", &other);
    home.refuses("me/b.c@v3", &["found no revision v3", "snapshots/v2"]);
}

#[test]
fn a_revision_of_model_scopes_older_layouts_is_in_a_file() {
    let home = Home::new();
    let expected = home.model(".cache/modelscope/hub/models/me/m");
    home.refuses("me/m@v1", &["found no revision v1"]);
    fs::write(expected.join(".mv"), "Revision:v1,CreatedAt:1699000000").unwrap();
    home.finds("me/m@v1", &expected);
    home.refuses("me/m@v", &["found no revision v"]);
}

#[test]
fn the_publishers_names_find_each_other_and_the_one_given_goes_first() {
    let home = Home::new();
    let former = home.snapshot(&format!("{HUB}/models--THUDM--chatglm3-6b"), OLDER);
    let how = home.finds(NAME, &former);
    assert!(how.ends_with("Hugging Face cache; THUDM/chatglm3-6b is the same publisher's"), "{how}");
    let scope = home.model(".cache/modelscope/hub/models/ZhipuAI/chatglm3-6b");
    home.finds("ZhipuAI/chatglm3-6b", &scope);
    let now = home.snapshot(ENTRY, COMMIT);
    home.finds(NAME, &now);
    home.finds("THUDM/chatglm3-6b", &former);
    home.finds(&format!("THUDM/chatglm3-6b@{COMMIT}"), &now);
    home.refuses(
        "other/chatglm3-6b",
        &["other/chatglm3-6b: no such folder", "did you mean", "/chatglm3-6b, which is there?"],
    );
}

#[test]
fn what_is_not_downloaded_is_told_how_to() {
    let home = Home::new();
    let commands = "`hf download zai-org/chatglm3-6b --local-dir chatglm3-6b` or \
        `modelscope download --model ZhipuAI/chatglm3-6b --local_dir chatglm3-6b`";
    home.refuses(NAME, &["zai-org/chatglm3-6b: no such folder, and no such download", commands, HUB]);
    home.refuses(
        "chatglm3-6b",
        &["chatglm3-6b: no such folder, expected one with a ChatGLM checkpoint", commands],
    );
    home.refuses("my-model", &["my-model: no such folder", "ORG/NAME or ORG/NAME@REVISION"]);
    home.refuses(
        "me/m",
        &["`hf download me/m --local-dir m`", "`modelscope download --model me/m --local_dir m`"],
    );
    home.snapshot(ENTRY, COMMIT);
    // Where capitals are no other names, the first of them is found.
    let same = home.path(&ENTRY.to_uppercase()).exists();
    let near = ["zai-org/ChatGLM3-6B", "zai-org/chatgml3-6b", "zaiorg/chatglm3-6b", "chatglm3-6b"];
    for near in &near[usize::from(same)..] {
        home.refuses(near, &["did you mean zai-org/chatglm3-6b, which is "]);
    }
    let other = home.find("zai-org/chatglm2-6b").unwrap_err();
    assert!(!other.contains("did you mean"), "{other}");
    let path = home.path("models");
    fs::create_dir_all(path.join("chatglm3-6b-32k")).unwrap();
    let typo = path.join("chatglm3-6b-23k");
    home.refuses(typo.to_str().unwrap(), &["no such folder", "did you mean", "models/chatglm3-6b-32k?"]);
}

#[test]
fn a_tilde_that_the_shell_left_alone() {
    let home = Home::new();
    let expected = home.model("models/m");
    let how = home.finds("~/models/m", &expected);
    assert_eq!(how, format!("{}, by ~", slashes(&expected.display().to_string())));
    home.refuses("~/models/n", &[&format!("{}: no such folder", home.path("models/n").display())]);
    let entry = home.snapshot(ENTRY, COMMIT);
    home.finds(&format!("~/{ENTRY}"), &entry);
}

#[test]
fn unfinished_downloads_are_told() {
    let home = Home::new();
    let folder = home.snapshot(ENTRY, COMMIT);
    let unfinished = |model: &str| home.find(model).unwrap().unfinished.unwrap();
    let blob = home.path(ENTRY).join("blobs/385a.0a1b2c3d.incomplete");
    fs::write(&blob, "").unwrap();
    for model in [NAME, home.path(ENTRY).to_str().unwrap(), folder.to_str().unwrap()] {
        let expected = "the download is unfinished (blobs/385a.0a1b2c3d.incomplete): \
            `hf download zai-org/chatglm3-6b` resumes it";
        assert_eq!(slashes(&unfinished(model)), expected);
    }
    #[cfg(unix)] // elsewhere a second name of the file, which stays
    {
        fs::remove_file(home.path(ENTRY).join(format!("blobs/{COMMIT}-model.safetensors"))).unwrap();
        assert!(unfinished(NAME).contains("(model.safetensors is a link to nothing)"));
    }
    fs::remove_dir_all(home.path(ENTRY).join("snapshots")).unwrap();
    home.refuses(
        NAME,
        &["found an unfinished download (blobs/385a", "`hf download zai-org/chatglm3-6b` resumes it"],
    );
    fs::remove_file(blob).unwrap();
    home.refuses(NAME, &["found a download cache without a snapshot"]);

    let local = home.model("local");
    fs::create_dir_all(local.join(".cache/huggingface/download")).unwrap();
    fs::write(local.join(".cache/huggingface/download/x.385a.incomplete"), "").unwrap();
    let said = slashes(&unfinished(local.to_str().unwrap()));
    assert!(said.contains("(download/x.385a.incomplete)"), "{said}");

    fs::create_dir_all(home.path(".cache/modelscope/hub/models/._____temp/me/m")).unwrap();
    home.refuses("me/m", &["no such download"]);
    fs::write(home.path(".cache/modelscope/hub/models/._____temp/me/m/config.json"), "").unwrap();
    home.refuses("me/m", &["found an unfinished download", "`modelscope download --model me/m` resumes it"]);
}

#[test]
fn a_snapshot_that_lacks_weights_is_unfinished() {
    let home = Home::new();
    let folder = home.snapshot(ENTRY, COMMIT);
    let unfinished = || home.find(NAME).unwrap().unfinished;
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    assert!(
        unfinished().unwrap().contains("(no weights in it): `hf download zai-org/chatglm3-6b` resumes it")
    );
    fs::write(folder.join("pytorch_model.bin.index.json"), "").unwrap();
    fs::write(folder.join("pytorch_model-00001-of-00002.bin"), "").unwrap();
    assert!(unfinished().unwrap().contains("(1 of 2 shards are there)"));
    fs::write(folder.join("model-00002-of-00003.safetensors"), "").unwrap();
    assert!(unfinished().is_some());
    fs::write(folder.join("pytorch_model-00002-of-00002.bin"), "").unwrap();
    assert_eq!(unfinished(), None);
}

#[test]
fn an_error_on_a_file_of_an_unfinished_download_says_so() {
    let home = Home::new();
    home.snapshot(ENTRY, COMMIT);
    fs::write(home.path(ENTRY).join("blobs/385a.incomplete"), "").unwrap();
    let found = home.find(NAME).unwrap();
    let error = found.explain(crate::error::Error::file(&found.folder.join("a"), "no such file"));
    let error = slashes(&error.to_string());
    assert!(error.contains("a: no such file; the download is unfinished (blobs/385a.incomplete)"), "{error}");
    let other = found.explain(crate::error::Error::file(Path::new("out"), "exists"));
    assert_eq!(other.to_string(), "out: exists");
}

#[test]
fn what_is_no_model_is_named() {
    let home = Home::new();
    let folder = |name: &str, files: &[(&str, &str)]| {
        fs::create_dir_all(home.path(name)).unwrap();
        files.iter().for_each(|(file, text)| fs::write(home.path(name).join(file), text).unwrap());
        home.path(name).to_str().unwrap().to_owned()
    };
    let path = folder("gguf", &[("m-Q4_K_M.gguf", "GGUF"), ("config.json", "{}")]);
    home.refuses(&path, &["found only GGUF files", &format!("glm2llama inspect {path}/m-Q4_K_M.gguf")]);
    let path = folder("empty", &[]);
    home.refuses(&path, &["found an empty folder"]);
    let path = folder("zipped", &[("m.zip", "PK\x03\x04")]);
    home.refuses(&path, &["m.zip: found a zip archive", &format!("`unzip {path}/m.zip`")]);
    let path = folder("unknown", &[("README.md", "")]);
    assert_eq!(home.find(&path).unwrap().folder, Path::new(&path));

    home.model("unzipped/m");
    home.refuses(home.path("unzipped").to_str().unwrap(), &["a model's folder in it", "unzipped/m"]);
    home.model("several/a");
    home.model("several/org/b");
    home.refuses(
        home.path("several").to_str().unwrap(),
        &["found a folder of 2 models", "several/a,", "several/org/b"],
    );
    home.snapshot(ENTRY, COMMIT);
    home.refuses(home.path(HUB).to_str().unwrap(), &["that folder itself", ENTRY]);
}
