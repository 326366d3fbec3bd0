//! Numbers as people read them.

/// Bytes: `3.82 GB`.
pub fn gigabytes(bytes: u64) -> String {
    match bytes {
        1_000_000_000.. => format!("{:.2} GB", bytes as f64 / 1e9),
        1_000_000.. => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} kB", bytes as f64 / 1e3),
    }
}

/// A whole number with its thousands apart: `1,234,567`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_or_grouped() {
        assert_eq!([0, 999, 1000, 6_243_584_000].map(grouped), ["0", "999", "1,000", "6,243,584,000"]);
        assert_eq!([77, 716_800_000, 3_818_000_000].map(gigabytes), ["0.1 kB", "716.8 MB", "3.82 GB"]);
    }
}
