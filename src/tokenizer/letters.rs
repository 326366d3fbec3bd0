//! The letters that byte-level BPE writes for bytes.

use std::sync::LazyLock;

/// Bytes as byte-level BPE writes them.
pub(super) fn spell(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| LETTERS[usize::from(byte)]).collect()
}

/// The bytes that such letters stand for; nothing where one is no such letter.
pub(crate) fn unspell(text: &str) -> Option<Vec<u8>> {
    let byte = |letter| u8::try_from(LETTERS.iter().position(|&other| other == letter)?).ok();
    text.chars().map(byte).collect()
}

/// What stands for each of the 256 bytes: printable letters for themselves, those from U+0100 on for the others.
static LETTERS: LazyLock<Vec<char>> = LazyLock::new(|| {
    let mut others = '\u{100}'..;
    let letter = |byte| match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
        _ => others.next().unwrap_or(char::REPLACEMENT_CHARACTER),
    };
    (0..=u8::MAX).map(letter).collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_spelled_in_printable_letters() {
        let bytes = [b'A', b' ', b'\n', 0x7F, 0xA0, 0xAD, 0xFF];
        let letters = "A\u{120}\u{10A}\u{121}\u{142}\u{143}\u{FF}";
        assert_eq!(spell(&bytes), letters);
        assert_eq!(unspell(letters).unwrap(), bytes);
    }
}
