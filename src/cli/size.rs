//! Sizes as users of other tools write them: `5GB`, `300M`.

use glm2llama::error::{Error, Result};

/// What transformers' `max_shard_size` and llama.cpp's `--split-max-size` take; the longer names first.
const UNITS: [(&str, u64); 10] = [
    ("GIB", 1 << 30),
    ("MIB", 1 << 20),
    ("KIB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("K", 1000),
    ("", 1),
];

/// Reads a whole number with a unit, in any case.
pub(super) fn parse(option: &str, text: &str) -> Result<u64> {
    let upper = text.to_uppercase();
    let value = UNITS.iter().find_map(|(unit, bytes)| {
        let number: u64 = upper.strip_suffix(unit)?.trim_end().parse().ok()?;
        number.checked_mul(*bytes).filter(|&bytes| bytes > 0)
    });
    let wrong = || {
        let expected = "a whole number above 0 with G, M, K, GiB, MiB, KiB or nothing behind it";
        Error::Usage(format!("{option}: found `{text}`, expected {expected}"))
    };
    value.ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, expected) in [
            ("5GB", 5_000_000_000),
            ("2G", 2_000_000_000),
            ("300m", 300_000_000),
            ("2gib", 2 << 30),
            ("10 MB", 10_000_000),
            ("77", 77),
        ] {
            assert_eq!(parse("--size", text).unwrap(), expected);
        }
        for bad in ["", "GB", "0GB", "-1GB", "1.5GB", "5TB", "99999999999GB"] {
            let error = parse("--size", bad).unwrap_err().to_string();
            let expected = format!("--size: found `{bad}`, expected a whole number above 0 with G, M");
            assert!(error.starts_with(&expected), "{error}");
        }
    }
}
