//! Shows that a GGUF file is the same model as a ChatGLM checkpoint.
//!
//! Stands beside the converter, not inside: both sides are read afresh, and what has to be where is stated a
//! second time, from ChatGLM's rules. Nothing of `remap`, `recipe`, `metadata`, `pipeline` or of what the
//! tokenizer module decides is used. `docs/verify.md` says what a verdict means, and what it does not.

mod added;
mod bounds;
mod chunk;
mod compare;
mod divergence;
mod encode;
mod evidence;
mod facts;
mod function;
mod glm;
mod grade;
mod llama;
mod mapping;
mod outputs;
mod paired;
mod pieces;
mod rank_vocabulary;
mod ranks;
mod speech;
mod spelling;
mod template;
mod verdict;
mod vocabulary;
mod weights;
mod zeros;

use std::path::{Path, PathBuf};

use crate::checkpoint::Checkpoint;
use crate::config::{GlmConfig, RopeRatio};
use crate::error::{Error, Result};
use crate::forward::{Activations, Decoder};
use crate::gguf::{GgufFile, StoredTensor};
use crate::watch::Watch;
pub use divergence::Position;
use evidence::Evidence;
pub use function::{Function, file_logits, source_logits};
use glm::Glm;
pub use grade::{Grade, Quality};
pub use outputs::OutputError;
use outputs::Outputs;
pub use paired::{Closer, Paired, Ratio};
use pieces::Pieces;
use ranks::Ranks;
pub use speech::{Answer, Said, ask};
use spelling::Spelling;
pub use verdict::Verdict;
pub use weights::{TensorError, Weights};

/// A page of English, Chinese and code.
pub const DEFAULT_TEXT: &str = include_str!("page.txt");

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The tensor, key or token to blame.
    pub subject: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Finding {
    fn new(subject: impl Into<String>, problem: impl Into<String>) -> Finding {
        Finding { subject: subject.into(), problem: problem.into() }
    }
}

/// The metadata part of the verdict.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Facts of the architecture that were checked.
    pub checked: usize,
    /// Tokens that were compared; none where the vocabulary cannot be judged.
    pub tokens: Option<usize>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// A checkpoint and a GGUF file, both opened.
#[derive(Debug)]
pub struct Pair {
    folder: PathBuf,
    /// The checkpoint's config.
    pub config: GlmConfig,
    /// The checkpoint's weights.
    pub checkpoint: Checkpoint,
    /// The file to judge.
    pub file: GgufFile,
    evidence: Evidence,
    vocabulary: SourceVocabulary,
}

/// The checkpoint's vocabulary.
#[derive(Debug)]
enum SourceVocabulary {
    /// ChatGLM2 and 3.
    Pieces(Pieces),
    /// GLM-4.
    Ranks(Ranks),
    /// The folder has no file of it.
    None,
}

impl Pair {
    /// Opens both sides; `scale`: what `rope_ratio` scales, where the checkpoint's files tell it wrong.
    ///
    /// # Errors
    /// When one cannot be read, or the file is of another architecture: then there is nothing to compare.
    pub fn open(folder: &Path, file: &Path, scale: Option<RopeRatio>) -> Result<Pair> {
        Pair::of(folder, GgufFile::open_model(file)?, scale)
    }

    /// Opens the checkpoint beside a file, or the files of a split model, opened already.
    ///
    /// # Errors
    /// As for [`Pair::open`].
    pub fn of(folder: &Path, file: GgufFile, scale: Option<RopeRatio>) -> Result<Pair> {
        let config = GlmConfig::load(folder)?;
        let checkpoint = Checkpoint::open(folder)?;
        let most = config.padded_vocab_size;
        let vocabulary = match Pieces::read(folder, most)? {
            Some(pieces) => SourceVocabulary::Pieces(pieces),
            None => Ranks::read(folder, most)?.map_or(SourceVocabulary::None, SourceVocabulary::Ranks),
        };
        let pieces = match &vocabulary {
            SourceVocabulary::Pieces(pieces) => Some(pieces),
            SourceVocabulary::Ranks(_) | SourceVocabulary::None => None,
        };
        let evidence = Evidence::read(folder, &config, pieces, scale)?;
        let key = "general.architecture";
        let found = file.text(key).unwrap_or("nothing");
        if found != "llama" {
            return Err(Error::mismatch(file.path(), key, found, "llama"));
        }
        Ok(Pair { folder: folder.to_owned(), config, checkpoint, file, evidence, vocabulary })
    }

    /// The file's feed-forward width; the checkpoint's where the file says nothing, or what cannot be.
    fn ffn(&self) -> u64 {
        let most = mapping::most_ffn(&self.config) as u64;
        let stated = self.file.unsigned("llama.feed_forward_length").filter(|&ffn| ffn <= most);
        stated.unwrap_or(self.config.ffn_hidden_size as u64)
    }

    /// The file was quantized with an importance matrix.
    fn importance(&self) -> bool {
        self.file.metadata.keys().any(|key| key.starts_with("quantize.imatrix."))
    }

    /// The file says that a tensor's levels were chosen for what it makes of its inputs; an embedding that is nothing
    /// else has none.
    fn chosen_by_outputs(&self, tensor: &StoredTensor) -> bool {
        let best = self.file.text("glm2llama.quality") == Some("best");
        best && (tensor.name != "token_embd.weight" || self.config.tie_word_embeddings)
    }

    /// Checks metadata, vocabulary and template.
    ///
    /// # Errors
    /// When the checkpoint's files cannot be read.
    pub fn facts(&self) -> Result<Facts> {
        let mut facts = Facts::default();
        facts.checked = facts::check(self, &self.evidence, &mut facts.findings)?;
        match &self.vocabulary {
            SourceVocabulary::Pieces(pieces) => {
                let roles =
                    vocabulary::check(self, &self.folder, pieces, &self.evidence, &mut facts.findings)?;
                let own = vocabulary::template_of(&self.folder)?;
                template::check(self, roles, own.as_deref(), &mut facts.findings);
            }
            SourceVocabulary::Ranks(ranks) => {
                rank_vocabulary::check(self, &self.folder, ranks, &mut facts.findings)?
            }
            SourceVocabulary::None => return Ok(facts),
        }
        facts.tokens = Some(self.config.padded_vocab_size);
        Ok(facts)
    }

    /// Compares every weight.
    ///
    /// # Errors
    /// When one of the two cannot be read.
    pub fn weights(&self, watch: &dyn Watch) -> Result<Weights> {
        weights::check(self, watch)
    }

    /// Runs both models on the first `most` tokens of a text.
    ///
    /// # Errors
    /// When one of the two cannot be run.
    pub fn function(&self, text: &str, most: usize, watch: &dyn Watch) -> Result<Function> {
        let mut functions = self.functions(&[self], text, most, watch)?;
        functions.pop().unwrap_or(Err(Error::Interrupted)) // one pair, one result
    }

    /// Runs this checkpoint once, and each pair's file, on the first `most` tokens of a text.
    ///
    /// # Errors
    /// When the checkpoint cannot be run; one of the files: in its place.
    pub fn functions(
        &self,
        pairs: &[&Pair],
        text: &str,
        most: usize,
        watch: &dyn Watch,
    ) -> Result<Vec<Result<Function>>> {
        let (tokens, prefix) = self.encode(text, most)?;
        let outputs: Vec<Option<Outputs>> = pairs.iter().map(|pair| Outputs::of(pair, &tokens)).collect();
        let observe = |name: &str, x: &Activations| {
            outputs.iter().flatten().try_for_each(|outputs| outputs.multiplied(name, x))
        };
        let mut source = self.source();
        source.observe = &observe;
        let run = function::run(source, pairs, &tokens, usize::MAX, watch)?;
        let function = |((pair, positions), outputs): ((&&Pair, Result<Vec<Position>>), Option<Outputs>)| {
            let mut function = Function::new(positions?, prefix, self.config.padded_vocab_size);
            function.outputs = outputs.map(Outputs::finish).unwrap_or_default();
            pair.spell(&tokens, &mut function);
            Ok(function)
        };
        Ok(pairs.iter().zip(run).zip(outputs).map(function).collect())
    }

    fn source(&self) -> Glm<'_> {
        Glm::new(&self.config, &self.checkpoint, &self.evidence)
    }

    /// Gives the tokens their texts, by the file's vocabulary: their numbers where it has none.
    fn spell(&self, tokens: &[u32], function: &mut Function) {
        let spelling = Spelling::of(&self.file).ok();
        function.texts = match &spelling {
            Some(spelling) => spelling.texts(tokens),
            None => tokens.iter().map(|token| format!("<{token}>")).collect(),
        };
        let name = |token: u32| spelling.as_ref().map_or(format!("<{token}>"), |s| s.name(token));
        function.likeliest = function.positions.iter().map(|position| position.likeliest.map(name)).collect();
    }

    /// What both models say to some questions, greedily, `most` tokens at most.
    ///
    /// # Errors
    /// When one of the two cannot be run, or the file has no template or vocabulary.
    pub fn answers(&self, questions: &[&str], most: usize, watch: &dyn Watch) -> Result<Vec<Answer>> {
        let spelling = Spelling::of(&self.file)?;
        let file = llama::open(&self.file)?;
        llama::refuse_other_sizes(&file, &self.config)?;
        let source = self.source();
        let total = (2 * questions.len() * most) as u64;
        let mut done = 0;
        let mut say = |of: &Path, model: &dyn Decoder, prompt: &[u32]| {
            let mut tokens = Vec::new();
            speech::speak(of, model, prompt, &spelling.ends, most, watch, &mut |token| {
                tokens.push(token);
                watch.step("", done + tokens.len() as u64, total)
            })?;
            done += most as u64;
            Ok::<String, Error>(spelling.texts(&tokens).concat())
        };
        questions
            .iter()
            .map(|&question| {
                let prompt = speech::prompt(&self.file, &spelling, question)?;
                let source = say(self.checkpoint.main_file(), &source, &prompt)?;
                let file = say(self.file.path(), &file, &prompt)?;
                Ok(Answer { question: question.to_owned(), source, file })
            })
            .collect()
    }

    /// At most so many tokens of a text, and how many of them are the prefix of every prompt.
    fn encode(&self, text: &str, most: usize) -> Result<(Vec<u32>, usize)> {
        let vocabulary = self.config.padded_vocab_size;
        let (tokens, prefix) = match &self.vocabulary {
            SourceVocabulary::Pieces(pieces) => (encode::encode(pieces, text, most), encode::PREFIX_LEN),
            SourceVocabulary::Ranks(ranks) => {
                let specials = rank_vocabulary::specials(&self.folder, ranks)?;
                let named = |name: &str| specials.iter().find(|(_, token)| token.text == name);
                let prefix =
                    ["[gMASK]", "<sop>"].iter().filter_map(|name| u32::try_from(*named(name)?.0).ok());
                let mut tokens: Vec<u32> = prefix.collect();
                let prefix = tokens.len();
                tokens.extend(ranks.encode(encode::start(text, most)));
                tokens.truncate(most);
                (tokens, prefix)
            }
            SourceVocabulary::None => match Spelling::of(&self.file) {
                Ok(spelling) => spelling.sample(text, most),
                Err(_) => (scattered_tokens(vocabulary, most), 0),
            },
        };
        match tokens.iter().find(|&&token| token as usize >= vocabulary) {
            Some(token) => Err(Error::file_mismatch(
                &self.folder.join("tokenizer.model"),
                format!("token {token}"),
                format!("fewer than {vocabulary}"),
            )),
            None => Ok((tokens, prefix)),
        }
    }
}

/// Tokens where no side has a vocabulary: the same for every run, from all over it.
fn scattered_tokens(vocabulary: usize, count: usize) -> Vec<u32> {
    (1..=count as u64)
        .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % vocabulary.max(1))
        .filter_map(|id| u32::try_from(id).ok())
        .collect()
}
