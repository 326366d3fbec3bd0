//! What there is to say of a checkpoint's files.

use super::{Checkpoint, Shard};

impl Checkpoint {
    /// What was read and how, in words.
    pub fn decisions(&self) -> Vec<String> {
        let name = |shard: &Shard| shard.path.file_name().unwrap_or_default().display().to_string();
        let files = match &self.shards[..] {
            [] => "none".to_owned(),
            [only] => name(only),
            [first, .., last] => format!("{} files, {} to {}", self.shards.len(), name(first), name(last)),
        };
        let mut decisions = vec![format!("weights: {files}")];
        if !self.taken_off.is_empty() {
            let wrappers = self.taken_off.join(" and ");
            decisions.push(format!("names: `{wrappers}` taken off, which a trainer's wrapper put there"));
        }
        decisions
    }

    /// A warning of other weights in the folder.
    pub fn left_alone(&self) -> Option<String> {
        // An index that is not followed says more than the shards that it names.
        let index = self.beside.iter().find(|name| name.ends_with(".index.json"));
        let first = index.or_else(|| self.beside.first())?;
        let more = match self.beside.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let read = self.shards.first()?.path.file_name().unwrap_or_default().display();
        let adapter = match self.beside.iter().any(|name| name.starts_with("adapter_model")) {
            true => "; --lora with this folder merges the adapter",
            false => "",
        };
        Some(format!(
            "the folder has {first}{more} too, not read: {read} goes first, as in transformers{adapter}"
        ))
    }
}
