//! The files of a conversion on their way from nothing to their names.

use std::path::{Path, PathBuf};

use super::Job;
use crate::error::{Error, Result};
use crate::gguf::SplitWriter;
use crate::hash::sha256;
use crate::input::sha256_of;
use crate::output::{self, Pending};
use crate::pipeline;
use crate::receipt::Receipt;
use crate::watch::Watch;

/// The files of a job, created and empty. Dropping them deletes them.
#[derive(Debug, Default)]
pub struct Outputs {
    writers: Vec<SplitWriter>,
    modelfiles: Vec<Pending>,
    /// The receipt's file, if one was asked for, and what the receipt says so far.
    receipt: Option<(Pending, Receipt)>,
    /// The model card's file, if one was asked for, until [`Job::write_card`] has written it.
    pub(super) blank_card: Option<Pending>,
    pub(super) card: Option<Pending>,
    /// Each file's name, length and SHA-256, where a receipt or a card tells them.
    pub(super) hashes: Vec<(PathBuf, u64, String)>,
    /// What the weights themselves have to be warned of, once they were read.
    doubt: Option<String>,
}

impl Job {
    /// Creates every output, with its disk space reserved, under a temporary name.
    ///
    /// # Errors
    /// When an output exists, cannot be written, or does not fit its disk.
    pub fn create_outputs(&self) -> Result<Outputs> {
        let mut created = Outputs::default();
        let force = self.request.force;
        if let Some(path) = &self.request.receipt {
            let receipt =
                Receipt::begin(&self.request.model, &self.guests, &self.given, &self.model.checkpoint)?;
            created.receipt = Some((Pending::create(path, force)?, receipt));
        }
        self.guests.refuse_changed()?;
        self.given.refuse_changed()?;
        for output in &self.outputs {
            let mut writer = SplitWriter::create(&output.path, &output.split, force)?;
            let hashed = created.receipt.is_some() || self.request.card.is_some();
            if hashed && !self.model.checkpoint.is_remote() {
                writer.record_hashes();
            }
            created.writers.push(writer);
            if let Some((path, text)) = &output.modelfile {
                let mut modelfile = Pending::create(path, force)?;
                modelfile.write_all(text.as_bytes())?;
                created.modelfiles.push(modelfile);
            }
        }
        created.blank_card =
            self.request.card.as_ref().map(|path| Pending::create(path, force)).transpose()?;
        Ok(created)
    }

    /// Fills the outputs, which keep their temporary names; nothing is left of any when one fails.
    ///
    /// # Errors
    /// When an output cannot be written, a weight is damaged, or the user stops the run.
    pub fn fill(&self, outputs: Outputs, options: pipeline::Options, watch: &dyn Watch) -> Result<Outputs> {
        self.refuse_unmeasured()?;
        let Outputs { writers, modelfiles, mut receipt, blank_card, .. } = outputs;
        // A vocabulary needs no weights; their hashes stand in a receipt nevertheless.
        let needs_weights = !self.request.vocab_only || receipt.is_some();
        let (writers, zero_rows) = match self.model.checkpoint.is_remote() && needs_weights {
            true => pipeline::run_streamed(&self.work(), writers, options, watch)?,
            false => pipeline::run(&self.work(), writers, options, watch)?,
        };
        let hashes = match receipt.is_some() || blank_card.is_some() {
            true => hashes(&writers, watch)?,
            false => Vec::new(),
        };
        if let Some((file, receipt)) = &mut receipt {
            self.finish_receipt(receipt, &hashes, watch)?;
            file.write_all(receipt.to_json()?.as_bytes())?;
        }
        self.model.checkpoint.refuse_changed()?;
        self.model.lora.refuse_changed()?;
        let doubt = zero_rows.warning(&self.model.plan, self.model.tokenizer.vocabulary.last());
        Ok(Outputs { writers, modelfiles, receipt, blank_card, card: None, hashes, doubt })
    }

    fn finish_receipt(
        &self,
        receipt: &mut Receipt,
        hashes: &[(PathBuf, u64, String)],
        watch: &dyn Watch,
    ) -> Result<()> {
        self.model.checkpoint.check_known_hashes(&mut |_, _| watch.go_on())?;
        for shard in self.model.checkpoint.hashes(watch) {
            let (file, bytes, hash) = shard?;
            receipt.add_shard(file, bytes, hash);
        }
        for (file, bytes, hash) in self.model.checkpoint.known_hashes() {
            receipt.add_known_shard(file, bytes, hash);
        }
        for (file, bytes, hash) in hashes {
            receipt.add_output(file, *bytes, Some(hash.clone()));
        }
        for (file, text) in self.outputs.iter().filter_map(|output| output.modelfile.as_ref()) {
            receipt.add_output(file, text.len() as u64, Some(sha256(text.as_bytes())));
        }
        Ok(())
    }
}

/// Each file's name, length and SHA-256.
fn hashes(writers: &[SplitWriter], watch: &dyn Watch) -> Result<Vec<(PathBuf, u64, String)>> {
    let mut hashes = Vec::new();
    for writer in writers {
        for ((file, bytes, hash), (_, temporary)) in writer.hashes().zip(writer.files()) {
            watch.go_on()?;
            // What was written in any order has its hash only now.
            let hash = hash.map_or_else(|| Ok(sha256_of(temporary)?.1), Ok)?;
            hashes.push((file.to_owned(), bytes, hash));
        }
    }
    Ok(hashes)
}

impl Outputs {
    /// What a user should know of the weights before trusting the files, and `--strict` refuses.
    pub fn doubt(&self) -> Option<&str> {
        self.doubt.as_deref()
    }

    /// For each output, the names that its files will have, and where they are until then.
    pub fn files(&self) -> impl Iterator<Item = Vec<(&Path, &Path)>> {
        self.writers.iter().map(SplitWriter::files)
    }

    /// Gives the files their names: all of them, or none.
    ///
    /// # Errors
    /// When a file is not full, or the system cannot sync or rename.
    pub fn publish(self) -> Result<()> {
        if self.blank_card.is_some() {
            let problem = "Outputs::publish: found an empty model card, expected Job::write_card before it";
            return Err(Error::Usage(problem.to_owned()));
        }
        let mut files = Vec::new();
        for writer in self.writers {
            files.extend(writer.into_files()?);
        }
        files.extend(self.modelfiles.into_iter().chain(self.receipt.map(|(file, _)| file)).chain(self.card));
        output::publish(files)
    }
}
