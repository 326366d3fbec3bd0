//! Hashes: SHA-256, as text; and of a number, for what has to look like chance and be the same in every run.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// SHA-256 of bytes.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a String takes whatever comes
        text
    })
}

/// A number that looks like chance (the finalizer of SplitMix64, so that 0, 1, 2 ... make its sequence).
pub(crate) fn scattered(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The same below `count`, which is not 0.
pub(crate) fn below(number: u64, count: usize) -> usize {
    ((u128::from(scattered(number)) * count as u128) >> 64) as usize
}

/// The same between 0 and 1, 1 left out.
pub(crate) fn fraction(number: u64) -> f64 {
    (scattered(number) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_even() {
        let mut counts = [0; 7];
        (0..70_000).for_each(|i| counts[below(i, 7)] += 1);
        assert!(counts.iter().all(|count| (9_600..10_400).contains(count)), "{counts:?}");
        assert_eq!(scattered(0), 0xe220_a839_7b1d_cdaf); // SplitMix64's first from 0
    }
}
