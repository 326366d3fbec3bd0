//! Sizes as users of other tools write them: `5GB`, `300M`.

use crate::error::{Error, Result};

/// Units in an option's own sense; the longer names first.
pub(super) type Units = &'static [(&'static str, u64)];

/// transformers' `max_shard_size`.
pub(super) const TRANSFORMERS: Units = &[
    ("GIB", 1 << 30),
    ("MIB", 1 << 20),
    ("KIB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1000),
    ("", 1),
];

/// llama.cpp's `--split-max-size`.
pub(super) const LLAMA_CPP: Units = &[("G", 1_000_000_000), ("M", 1_000_000), ("K", 1000), ("", 1)];

/// Reads a whole number with a unit, in any case.
pub(super) fn parse(option: &str, text: &str, units: Units) -> Result<u64> {
    let upper = text.to_uppercase();
    let value = units.iter().find_map(|(unit, bytes)| {
        let number: u64 = upper.strip_suffix(unit)?.trim_end().parse().ok()?;
        number.checked_mul(*bytes).filter(|&bytes| bytes > 0)
    });
    value.ok_or_else(|| {
        let names: Vec<&str> = units.iter().map(|(unit, _)| *unit).filter(|unit| !unit.is_empty()).collect();
        Error::Usage(format!("{option}: found `{text}`, expected a number with {}", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, expected) in [("5GB", 5_000_000_000), ("2gib", 2 << 30), ("10 MB", 10_000_000), ("77", 77)]
        {
            assert_eq!(parse("--size", text, TRANSFORMERS).unwrap(), expected);
        }
        for bad in ["", "GB", "0GB", "-1GB", "1.5GB", "5TB", "99999999999GB"] {
            let error = parse("--size", bad, TRANSFORMERS).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("--size: found `{bad}`, expected a number with GIB")),
                "{error}"
            );
        }
    }
}
