//! The fields of `config.json`, read with errors that name key, found and expected; whoever opened the file adds its name.

use serde_json::{Map, Value};

use crate::error::{Problem, Result};

/// No model comes near these.
pub(super) const MAX_HEADS: u64 = 512;
pub(super) const MAX_HEAD_DIM: u64 = 1 << 12;
pub(super) const MAX_WIDTH: u64 = 1 << 24;
/// Real vocabularies have up to 151,552 tokens. More would take too much memory before they can be refused.
pub(super) const MAX_VOCABULARY: u64 = 1 << 18;
pub(super) const MAX_LAYERS: u64 = 512;
pub(super) const MAX_CONTEXT: u64 = 1 << 31;

/// The object's fields.
pub(crate) struct Fields<'a> {
    pub(crate) map: &'a Map<String, Value>,
}

impl Fields<'_> {
    /// The value, where `null` counts as absent (as Python's `None` does).
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// The value as it stands in the file, shortened.
    pub(crate) fn text(&self, key: &str) -> String {
        match self.get(key) {
            None => "nothing".to_owned(),
            Some(value) => {
                let text = value.to_string();
                if text.len() <= 60 {
                    text
                } else {
                    format!("{}...", text.chars().take(60).collect::<String>())
                }
            }
        }
    }

    /// The field has another value than expected.
    pub(crate) fn wrong(&self, key: &str, expected: impl std::fmt::Display) -> Problem {
        Problem::mismatch(key, self.text(key), expected)
    }

    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool, Problem> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    pub(crate) fn number_or(&self, key: &str, default: f64) -> Result<f64, Problem> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_f64().ok_or_else(|| self.wrong(key, "a number")),
        }
    }

    pub(super) fn count_or(&self, key: &str, default: u64) -> Result<u64, Problem> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_u64().ok_or_else(|| self.wrong(key, "a whole number")),
        }
    }

    /// A required size, from 1 to `max`.
    pub(crate) fn size(&self, key: &str, max: u64) -> Result<usize, Problem> {
        self.size_or(key, max, None)
    }

    /// A size, from 1 to `max`; without a default it must be there.
    pub(super) fn size_or(&self, key: &str, max: u64, default: Option<usize>) -> Result<usize, Problem> {
        if let (None, Some(default)) = (self.get(key), default) {
            return Ok(default);
        }
        let expected = format!("a whole number from 1 to {max}");
        let Some(value) = self.get(key) else {
            return Err(Problem::new(key, format!("is missing, expected {expected}")));
        };
        let found = value.as_u64().filter(|n| (1..=max).contains(n));
        found.and_then(|n| usize::try_from(n).ok()).ok_or_else(|| self.wrong(key, expected))
    }

    /// A number of key heads, which divides that of the query heads.
    pub(super) fn kv_heads(&self, key: &str, heads: usize, default: Option<usize>) -> Result<usize, Problem> {
        let kv_heads = self.size_or(key, MAX_HEADS, default)?;
        if heads.is_multiple_of(kv_heads) {
            return Ok(kv_heads);
        }
        let expected = format!("a divisor of num_attention_heads, {heads}");
        Err(Problem::mismatch(key, kv_heads, expected))
    }

    /// The epsilon of the norms.
    pub(super) fn epsilon(&self, key: &str, default: f64) -> Result<f32, Problem> {
        let epsilon = self.number_or(key, default)? as f32; // as every runtime keeps it
        if epsilon > 0.0 && epsilon < 1.0 {
            return Ok(epsilon);
        }
        Err(Problem::mismatch(key, epsilon, "a small positive number"))
    }

    /// The names in `architectures`.
    pub(super) fn classes(&self) -> Vec<&str> {
        let classes = self.get("architectures").and_then(Value::as_array);
        classes.into_iter().flatten().filter_map(Value::as_str).collect()
    }
}
