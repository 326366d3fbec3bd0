//! A model at a glance, by its file's metadata.

use serde::Serialize;

use crate::cli::memory::run_bytes;
use crate::cli::print::{gigabytes, weights};
use crate::cli::table::cut;
use glm2llama::error::one_line;
use glm2llama::gguf::GgufFile;
use glm2llama::recipe::FileType;
use glm2llama::units::grouped;

pub(super) const TEMPLATE: &str = "tokenizer.chat_template";

/// The context that the card tells the memory of, in tokens; the model's own when that is shorter.
const CONTEXT: u64 = 4096;

/// A line of the card says as much as a terminal has room for.
const WIDTH: usize = 64;

/// What people ask of a file first. Whatever the file does not say is left out.
#[derive(Serialize)]
pub(super) struct Card {
    name: Option<String>,
    architecture: Option<String>,
    /// Stored weights, padding with them.
    weights: u64,
    layers: Option<u64>,
    /// The name of `general.file_type`.
    file_type: Option<String>,
    bytes: u64,
    context: Option<u64>,
    /// Characters of the chat template.
    template: Option<usize>,
    /// The template asks for tools.
    tools: bool,
    /// Ids of the tokens that end a text, with the tokens.
    ends: Vec<(u64, String)>,
    /// A context in tokens, and the memory that llama.cpp needs for it.
    memory: Option<(u64, u64)>,
    /// The program that wrote it.
    writer: Option<String>,
}

impl Card {
    pub(super) fn new(file: &GgufFile) -> Card {
        let architecture = file.text("general.architecture");
        let of_model = |key: &str| file.unsigned(&format!("{}.{key}", architecture.unwrap_or_default()));
        let template = file.text(TEMPLATE);
        let context = of_model("context_length");
        Card {
            name: file.text("general.name").map(one_line),
            architecture: architecture.map(one_line),
            weights: file.tensors.iter().fold(0u64, |sum, tensor| sum.saturating_add(tensor.weights())),
            layers: of_model("block_count"),
            file_type: file.unsigned("general.file_type").map(|number| match FileType::numbered(number) {
                Some(file_type) => file_type.to_string(),
                None => format!("number {number}"),
            }),
            bytes: file.total_bytes,
            context,
            template: template.map(|template| template.chars().count()),
            tools: template.is_some_and(|template| template.contains("tools")),
            ends: ends(file),
            memory: memory(file, &of_model, context),
            writer: file.text("glm2llama.version").map(|version| format!("glm2llama {}", one_line(version))),
        }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut line = |name: &str, text: Option<String>| {
            if let Some(text) = text {
                lines.push(format!("  {name:13} {}", cut(&text, WIDTH)));
            }
        };
        line("name", self.name.clone());
        let layers = self.layers.map_or_else(String::new, |layers| format!(", {layers} layers"));
        let weights = weights(self.weights);
        line("architecture", self.architecture.as_ref().map(|name| format!("{name}, {weights}{layers}")));
        line("type", self.file_type.clone());
        line("context", self.context.map(|context| format!("{} tokens", grouped(context))));
        let tools = if self.tools { "offers tools" } else { "without tools" };
        line(
            "template",
            Some(self.template.map_or_else(
                || "none: it continues text".to_owned(),
                |characters| format!("{} characters of Jinja, {tools}", grouped(characters as u64)),
            )),
        );
        let ends =
            self.ends.iter().map(|(id, token)| format!("{id} {token:?}")).collect::<Vec<_>>().join(", ");
        line("ends of text", (!ends.is_empty()).then_some(ends));
        line(
            "memory",
            self.memory.map(|(context, bytes)| {
                format!("about {} with {} tokens of context", gigabytes(bytes), grouped(context))
            }),
        );
        line("written by", self.writer.clone());
        lines
    }
}

/// What ends a text, in the order of the keys, each once.
fn ends(file: &GgufFile) -> Vec<(u64, String)> {
    let tokens = file.texts("tokenizer.ggml.tokens").unwrap_or_default();
    let mut ends: Vec<(u64, String)> = Vec::new();
    for key in ["eos", "eot", "eom"] {
        let Some(id) = file.unsigned(&format!("tokenizer.ggml.{key}_token_id")) else { continue };
        let token = usize::try_from(id).ok().and_then(|place| tokens.get(place));
        if !ends.iter().any(|(known, _)| *known == id) {
            ends.push((id, token.map_or_else(|| "no such token".to_owned(), one_line)));
        }
    }
    ends
}

/// A context and what llama.cpp needs for it, where the file tells the sizes of keys and values.
fn memory(
    file: &GgufFile,
    of_model: &dyn Fn(&str) -> Option<u64>,
    context: Option<u64>,
) -> Option<(u64, u64)> {
    let heads = of_model("attention.head_count")?;
    let head = || of_model("embedding_length").map(|width| width / heads.max(1));
    let key = of_model("attention.key_length").or_else(head)?;
    let value = of_model("attention.value_length").or_else(head)?;
    let kv_heads = of_model("attention.head_count_kv").unwrap_or(heads);
    let layers = of_model("block_count")?;
    let values = layers.checked_mul(kv_heads)?.checked_mul(key.checked_add(value)?)?;
    let vocabulary = file.texts("tokenizer.ggml.tokens")?.len() as u64;
    let context = context?.min(CONTEXT);
    Some((context, run_bytes(file.total_bytes, values, vocabulary, context)?))
}
