//! The Modelfile for Ollama: its template, its stops, how it samples and how much of a conversation it keeps.
//!
//! Ollama up to 0.24 knows only the `TEMPLATE` here, in Go's language; from 0.30 on it takes the GGUF's own template
//! where that one knows tools. So `TEMPLATE` gives the text that the GGUF's template gives, or there is none. Two
//! things differ on purpose. Where a model writes the line break before its replies itself, `TEMPLATE` writes it, and
//! cuts it off replies that come back with it: Ollama hands replies on as they come. And a last message of the
//! assistant is to be continued, so nothing follows it. Ollama tokenizes the text with the special tokens in it, and
//! adds no beginning of text.

mod go;
mod name;
mod probe;
mod shape;
mod solve;
mod stored;

use crate::config::GlmConfig;
use crate::error::{Error, Result};
use crate::tokenizer::{Sampling, TokenType, Tokenizer, Vocabulary, can_stop};
pub use name::{check_name, suggested_for};
pub use shape::Shape;
pub use stored::{is_there, of_gguf};

/// A base model continues a text, which GLM-4 begins with these tokens, and GLM-Edge with none.
const OPENING: [&str; 2] = ["[gMASK]", "<sop>"];

/// In characters; a template from a stranger may have long messages of its own.
const LONGEST_REASON: usize = 240;

/// Keys and values of the context may take this much memory, as `num_ctx` counts it.
const CONTEXT_BYTES: usize = 1 << 30;
/// Ollama's own default, below which it makes no sense to go.
const LEAST_CONTEXT: usize = 4096;

/// A Modelfile, and what its user has to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Modelfile {
    /// The file.
    pub text: String,
    /// Why it has no TEMPLATE.
    pub warning: Option<String>,
}

/// The shape of a chat template, by what it makes of probe conversations; `bos` and `eos` are the texts of these
/// tokens, for templates that ask for them.
///
/// # Errors
/// Why it cannot be had, in words.
pub fn shape(jinja: &str, bos: &str, eos: &str) -> std::result::Result<Shape, String> {
    probe::shape(&probe::Template { jinja, bos, eos })
}

/// The Modelfile to stand beside the file `gguf_name`, whose chat template is `jinja`.
///
/// # Errors
/// When a Modelfile cannot name the file.
pub fn modelfile(
    gguf_name: &str,
    jinja: Option<&str>,
    tokenizer: &Tokenizer,
    config: &GlmConfig,
) -> Result<Modelfile> {
    let basis = Basis {
        vocabulary: &tokenizer.vocabulary,
        jinja,
        opens: !config.is_edge(),
        sampling: Some(tokenizer.sampling),
        kept: Kept::new([config.num_layers, config.num_kv_heads, config.head_dim], config.seq_length),
    };
    basis.modelfile(gguf_name)
}

/// What a Modelfile is worked out from.
struct Basis<'a> {
    vocabulary: &'a Vocabulary,
    jinja: Option<&'a str>,
    /// Text without a template begins with the tokens of [`OPENING`].
    opens: bool,
    /// Left to Ollama where it is not known.
    sampling: Option<Sampling>,
    kept: Kept,
}

/// What a model keeps of a conversation.
struct Kept {
    /// Bytes of keys and values for each token.
    bytes: usize,
    /// The most tokens that it reads.
    tokens: usize,
}

impl Basis<'_> {
    fn modelfile(&self, gguf_name: &str) -> Result<Modelfile> {
        let vocabulary = self.vocabulary;
        let text_of = |id: Option<u32>| id.and_then(|id| vocabulary.text(id)).unwrap_or_default();
        let shape = self.jinja.map(|jinja| shape(jinja, &text_of(vocabulary.bos), &text_of(vocabulary.eos)));
        let mut text = format!("FROM {}\n", from(gguf_name)?);
        let mut warning = None;
        match &shape {
            None => {
                let known = |token: &&str| self.opens && vocabulary.tokens.iter().any(|text| text == token);
                let opening: String = OPENING.into_iter().filter(known).collect();
                text += &format!("TEMPLATE \"\"\"{opening}{{{{ .Prompt }}}}\"\"\"\n");
            }
            Some(Ok(shape)) => text += &format!("TEMPLATE \"\"\"{}\"\"\"\n", shape.to_go()),
            Some(Err(why)) => {
                let why: String = why.replace(char::is_control, " ").chars().take(LONGEST_REASON).collect();
                text += &format!("# No TEMPLATE could be worked out from the GGUF's chat template: {why}.\n");
                warning = Some(format!(
                    "the Modelfile has no TEMPLATE: {why}; write one by hand for Ollama up to 0.24, which would \
                     send the bare text"
                ));
            }
        }
        let shape = shape.and_then(|shape| shape.ok());
        for stop in stops(vocabulary, shape.as_ref()) {
            text += &format!("PARAMETER stop \"{stop}\"\n");
        }
        text += &no_stops(vocabulary);
        if let Some(Sampling { temperature, top_p }) = self.sampling {
            text += &format!("PARAMETER temperature {temperature}\nPARAMETER top_p {top_p}\n");
        }
        text += "# Ollama up to 0.32.9 has 1.1 here, which the authors do not: it makes a model avoid words it needs.\n";
        text += "PARAMETER repeat_penalty 1\n";
        text += &self.kept.context();
        Ok(Modelfile { text, warning })
    }
}

impl Kept {
    /// Counts for a model with so many layers, heads in each of them, and values in each head.
    fn new(sizes: [usize; 3], tokens: usize) -> Kept {
        // A key and a value, in half precision.
        let bytes = sizes.iter().fold(2 * 2_usize, |product, size| product.saturating_mul(*size));
        Kept { bytes, tokens }
    }

    /// How many tokens of a conversation are kept. Ollama's default is 4096, and older messages are dropped silently.
    fn context(&self) -> String {
        let bytes = self.bytes.max(1);
        let fits = (CONTEXT_BYTES / bytes / 1024 * 1024).max(LEAST_CONTEXT);
        let tokens = fits.min(self.tokens);
        let memory = tokens.saturating_mul(bytes) as f64 / CONTEXT_BYTES as f64;
        let each = bytes as f64 / 1024.0;
        let which = match self.tokens {
            all if all == tokens => format!("{tokens} tokens are all that the model reads"),
            all => {
                let why =
                    if tokens == LEAST_CONTEXT { "Ollama's own default" } else { "which about 1 GiB holds" };
                format!("{tokens} of the {all} tokens that the model reads, {why}")
            }
        };
        format!(
            "# {which}: at {each} KiB each, {memory:.2} GiB beside the weights.\nPARAMETER num_ctx {tokens}\n"
        )
    }
}

/// What ends a reply. Generation also ends on the GGUF's own tokens; these hold where a text spells them out, or
/// where the GGUF has no place for them.
fn stops(vocabulary: &Vocabulary, shape: Option<&Shape>) -> Vec<String> {
    let mut stops: Vec<String> = shape.map(|shape| roles(vocabulary, shape)).unwrap_or_default();
    for end in ends(vocabulary).filter_map(|id| vocabulary.text(id)) {
        if !stops.iter().any(|stop| *stop == end) {
            stops.push(end.into_owned());
        }
    }
    stops.retain(|stop| is_stop(stop));
    stops
}

/// Whether a text can be written as a stop. A line ends the parameter, and white space alone is in every reply.
fn is_stop(text: &str) -> bool {
    can_stop(text) && !text.contains(char::is_control) && !HTML.contains(&text)
}

/// A line for each end of text that is no stop, but those that nobody misses.
fn no_stops(vocabulary: &Vocabulary) -> String {
    let mut ids: Vec<u32> = ends(vocabulary).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut lines = String::new();
    for id in ids {
        let spelled = vocabulary.text(id);
        if spelled.as_deref().is_some_and(|text| is_stop(text) || HTML.contains(&text)) {
            continue;
        }
        let held = [vocabulary.eos, vocabulary.eot, vocabulary.eom].contains(&Some(id));
        let token = spelled.map_or(format!("token {id}"), |text| format!("token {id} ({text:?})"));
        let instead = if held { "the GGUF has it as an end" } else { "replies go on past it" };
        lines +=
            &format!("# {token} ends a text but is no stop here, where only words can be one: {instead}.\n");
    }
    lines
}

/// Tokens that text may spell and mean something else by: a model that writes of HTML must be able to.
const HTML: [&str; 2] = ["<s>", "</s>"];

/// The tokens that end a text, some of them twice.
fn ends(vocabulary: &Vocabulary) -> impl Iterator<Item = u32> {
    let held = [vocabulary.eot, vocabulary.eom, vocabulary.eos];
    held.into_iter().flatten().chain(vocabulary.ends.iter().copied())
}

/// What begins another's message or ends the model's own, and is not what asks for its reply.
fn roles(vocabulary: &Vocabulary, shape: &Shape) -> Vec<String> {
    let (others, own) = shape.markers();
    let tokens = vocabulary.tokens.iter().zip(&vocabulary.types);
    let mut names: Vec<&str> = tokens
        .filter(|(_, kind)| matches!(kind, TokenType::Control | TokenType::UserDefined))
        .map(|(name, _)| name.as_str())
        .filter(|name| !name.trim().is_empty() && !own.iter().any(|text| text.contains(name)))
        .collect();
    names.retain(|name| others.iter().any(|text| text.contains(name)));
    names.sort_by_key(|name| others.iter().position(|text| text.contains(name)));
    if names.is_empty() {
        // Plain text: the line that the next question begins with, up to its number.
        let marker = shape.next_question().unwrap_or_default();
        return vec![marker];
    }
    names.into_iter().map(str::to_owned).collect()
}

/// Ollama takes the rest of the line, without space at its ends and without one pair of quotes around it.
fn from(gguf_name: &str) -> Result<String> {
    if gguf_name.is_empty() || gguf_name.contains(['/', '\\']) || gguf_name.contains(char::is_control) {
        return Err(Error::Usage(format!("cannot name {gguf_name:?} in a Modelfile")));
    }
    let path = format!("./{gguf_name}");
    Ok(if gguf_name.contains(char::is_whitespace) { format!("\"{path}\"") } else { path })
}

#[cfg(test)]
mod tests;
