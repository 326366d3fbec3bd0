//! The Modelfile of a GGUF that stands alone: what `convert` would have written beside it, from the file itself.

use std::path::Path;

use super::{Basis, Kept, Modelfile};
use crate::error::{Error, Result};
use crate::gguf::{GgufFile, Value};
use crate::input::read_capped;
use crate::output::folder_of;
use crate::system::identity;
use crate::tokenizer::{TokenType, Vocabulary, VocabularyKind};

/// GLM-4 is as wide as this, and GLM-Edge, whose texts begin with no token, narrower.
const GLM4_WIDTH: u64 = 4096;

/// A Modelfile has a few kilobytes, and a few more with a licence in it.
const LARGEST_MODELFILE: u64 = 1 << 20;

/// The Modelfile to stand beside a file. A GGUF does not hold how its authors sample, nor more ends of text than
/// three: the first is left to Ollama, the others are what the file says.
///
/// # Errors
/// When it is a part of a model, or none of `convert`'s kind, whose sizes and vocabulary are known.
pub fn of_gguf(file: &GgufFile) -> Result<Modelfile> {
    let wrong = |key: &str, found: &str, expected: &str| Error::mismatch(file.path(), key, found, expected);
    if file.files() > 1 {
        return Err(wrong("split.count", "a split model", "one file, for Ollama imports no split GGUF"));
    }
    let architecture = file.text("general.architecture").unwrap_or_default();
    if architecture != "llama" {
        let expected = "\"llama\", as convert writes it: write a Modelfile for this file by hand";
        return Err(wrong("general.architecture", &format!("{architecture:?}"), expected));
    }
    let size = |key: &str| {
        let key = format!("llama.{key}");
        let found = file.unsigned(&key).and_then(|size| usize::try_from(size).ok());
        found.ok_or_else(|| wrong(&key, "no size", "one, as convert writes it"))
    };
    let sizes = [size("block_count")?, size("attention.head_count_kv")?, size("attention.key_length")?];
    let basis = Basis {
        vocabulary: &vocabulary(file)?,
        jinja: file.text("tokenizer.chat_template"),
        opens: file.unsigned("llama.embedding_length").is_some_and(|width| width >= GLM4_WIDTH),
        sampling: None,
        kept: Kept::new(sizes, size("context_length")?),
    };
    let name = file.path().file_name().and_then(|name| name.to_str());
    basis.modelfile(name.ok_or_else(|| Error::file(file.path(), "has a name that fits no Modelfile"))?)
}

/// What a template and its stops are worked out with.
fn vocabulary(file: &GgufFile) -> Result<Vocabulary> {
    let get = |name: &str| file.metadata.get(&format!("tokenizer.ggml.{name}"));
    let (Some(Value::Strings(tokens)), Some(Value::I32s(types))) = (get("tokens"), get("token_type")) else {
        return Err(Error::mismatch(file.path(), "tokenizer.ggml.tokens", "no vocabulary", "one"));
    };
    let kind = match file.text("tokenizer.ggml.model") {
        Some("gpt2") => VocabularyKind::Bpe { whole_words: true },
        _ => VocabularyKind::SentencePiece,
    };
    let id = |name: &str| u32::try_from(file.unsigned(&format!("tokenizer.ggml.{name}_token_id"))?).ok();
    Ok(Vocabulary {
        kind,
        tokens: tokens.clone(),
        types: types.iter().map(|&number| TokenType::numbered(number)).collect(),
        bos: id("bos"),
        eos: id("eos"),
        eot: id("eot"),
        eom: id("eom"),
        ..Vocabulary::default()
    })
}

/// Whether there is a Modelfile of that name, for this file.
///
/// # Errors
/// When it is of another file, or cannot be read.
pub fn is_there(modelfile: &Path, file: &Path) -> Result<bool> {
    let Some(text) = read_capped(modelfile, LARGEST_MODELFILE)? else { return Ok(false) };
    let text = String::from_utf8_lossy(&text);
    let named = names(&text);
    if named.is_some_and(|named| identity(&folder_of(modelfile).join(named)) == identity(file)) {
        return Ok(true);
    }
    let found = named.unwrap_or("no such line");
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let expected = format!("./{name}: it is of another file; move it away, and one is written for this file");
    Err(Error::mismatch(modelfile, "FROM", found, expected))
}

/// What a Modelfile is made from: the first `FROM`, without the quotes that it may have.
fn names(modelfile: &str) -> Option<&str> {
    let mut lines = modelfile.lines().filter_map(|line| line.trim().split_once(char::is_whitespace));
    let (_, rest) = lines.find(|(word, _)| word.eq_ignore_ascii_case("FROM"))?;
    let rest = rest.trim();
    Some(rest.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(rest))
}
