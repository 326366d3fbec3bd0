//! How levels and small scales lie in a block's bytes; every packing stands beside its inverse.

/// Levels of 4 bits, 2 * `HALF` at a time: the first half in the low nibbles, the second in the high
/// ones. `HALF` is 16 in the formats with blocks of 32 and in IQ4_XS, 32 in Q4_K and Q5_K.
#[inline]
pub(crate) fn nibbles<const HALF: usize, const LEN: usize, const BYTES: usize>(
    levels: &[u8; LEN],
) -> [u8; BYTES] {
    const { assert!(LEN == 2 * BYTES && BYTES.is_multiple_of(HALF)) };
    let mut bytes = [0; BYTES];
    for (bytes, levels) in bytes.chunks_exact_mut(HALF).zip(levels.chunks_exact(2 * HALF)) {
        let (low, high) = levels.split_at(HALF);
        for ((byte, low), high) in bytes.iter_mut().zip(low).zip(high) {
            *byte = (low & 15) | (high << 4);
        }
    }
    bytes
}

/// The inverse of [`nibbles`].
pub(crate) fn from_nibbles<const HALF: usize, const LEN: usize, const BYTES: usize>(
    bytes: &[u8; BYTES],
) -> [u8; LEN] {
    const { assert!(LEN == 2 * BYTES && BYTES.is_multiple_of(HALF)) };
    std::array::from_fn(|i| {
        let byte = bytes[i / (2 * HALF) * HALF + i % HALF];
        if i % (2 * HALF) < HALF { byte & 15 } else { byte >> 4 }
    })
}

/// The two low bits of the levels: byte i of every 32 holds levels i, i + 32, i + 64 and i + 96 of 128.
#[inline]
pub(crate) fn bit_pairs(levels: &[u8; 256]) -> [u8; 64] {
    let mut bytes = [0; 64];
    for (bytes, levels) in bytes.as_chunks_mut::<32>().0.iter_mut().zip(levels.as_chunks::<128>().0) {
        for (k, levels) in levels.as_chunks::<32>().0.iter().enumerate() {
            for (byte, level) in bytes.iter_mut().zip(levels) {
                *byte |= (level & 3) << (2 * k);
            }
        }
    }
    bytes
}

/// The inverse of [`bit_pairs`].
pub(crate) fn from_bit_pairs(bytes: &[u8; 64]) -> [u8; 256] {
    std::array::from_fn(|i| bytes[i / 128 * 32 + i % 32] >> (2 * (i % 128 / 32)) & 3)
}

/// One bit of all levels: bit k of byte i is that of level 32 * k + i.
#[inline]
pub(crate) fn bit_plane(levels: &[u8; 256], bit: u32) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (k, levels) in levels.as_chunks::<32>().0.iter().enumerate() {
        for (byte, level) in bytes.iter_mut().zip(levels) {
            *byte |= (level >> bit & 1) << k;
        }
    }
    bytes
}

/// The inverse of [`bit_plane`]: every level's bit, 0 or 1.
pub(crate) fn from_bit_plane(bytes: &[u8; 32]) -> [u8; 256] {
    std::array::from_fn(|i| bytes[i % 32] >> (i / 32) & 1)
}

/// Bit 4 of 32 levels, level j in bit j of a little-endian word (Q5_0 and Q5_1).
pub(crate) fn fifth_bits(levels: &[u8; 32]) -> [u8; 4] {
    std::array::from_fn(|i| (0..8).fold(0, |byte, k| byte | (levels[8 * i + k] >> 4 & 1) << k))
}

/// The inverse of [`fifth_bits`]: every level's bit, 0 or 1.
pub(crate) fn from_fifth_bits(bytes: &[u8; 4]) -> [u8; 32] {
    std::array::from_fn(|i| bytes[i / 8] >> (i % 8) & 1)
}

/// Levels of 6 bits (Q6_K): of every 128, the low nibbles of levels i and i + 64 (i < 64) share a byte;
/// the two high bits of levels i, i + 32, i + 64 and i + 96 do.
#[inline]
pub(crate) fn six_bits(levels: &[u8; 256]) -> ([u8; 128], [u8; 64]) {
    (nibbles::<64, 256, 128>(levels), bit_pairs(&levels.map(|level| level >> 4)))
}

/// The inverse of [`six_bits`].
pub(crate) fn from_six_bits(low: &[u8; 128], high: &[u8; 64]) -> [u8; 256] {
    let (low, high) = (from_nibbles::<64, 256, 128>(low), from_bit_pairs(high));
    std::array::from_fn(|i| low[i] | high[i] << 4)
}

/// Eight scales and eight mins of 6 bits (Q4_K, Q5_K). The first four of each have a byte of their
/// own, whose two spare bits take the high bits of the last four.
///
/// A number above 63 spills into those bits, as it does in ggml.
#[inline]
pub(crate) fn scales_and_mins(scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 12] {
    let mut bytes = [0; 12];
    for j in 0..4 {
        bytes[j] = scales[j] | scales[j + 4] >> 4 << 6;
        bytes[j + 4] = mins[j] | mins[j + 4] >> 4 << 6;
        bytes[j + 8] = (scales[j + 4] & 15) | mins[j + 4] << 4;
    }
    bytes
}

/// The inverse of [`scales_and_mins`].
pub(crate) fn from_scales_and_mins(bytes: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let mut scales = [0; 8];
    let mut mins = [0; 8];
    for j in 0..4 {
        scales[j] = bytes[j] & 63;
        mins[j] = bytes[j + 4] & 63;
        scales[j + 4] = (bytes[j + 8] & 15) | bytes[j] >> 6 << 4;
        mins[j + 4] = bytes[j + 8] >> 4 | bytes[j + 4] >> 6 << 4;
    }
    (scales, mins)
}

/// Sixteen scales of 6 bits (Q3_K): low nibbles in 8 bytes, the high bits, four a byte, in 4.
#[inline]
pub(crate) fn sixteen_scales(scales: &[u8; 16]) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&nibbles::<8, 16, 8>(scales));
    for (j, scale) in scales.iter().enumerate() {
        bytes[8 + j % 4] |= scale >> 4 << (2 * (j / 4));
    }
    bytes
}

/// The inverse of [`sixteen_scales`].
pub(crate) fn from_sixteen_scales(bytes: &[u8; 12]) -> [u8; 16] {
    std::array::from_fn(|j| {
        let low = if j < 8 { bytes[j] & 15 } else { bytes[j - 8] >> 4 };
        low | (bytes[8 + j % 4] >> (2 * (j / 4)) & 3) << 4
    })
}

/// Eight scales of 6 bits (IQ4_XS): two low nibbles a byte, and a little-endian word of bit pairs.
#[inline]
pub(crate) fn eight_scales(scales: &[u8; 8]) -> ([u8; 4], [u8; 2]) {
    let low = std::array::from_fn(|i| (scales[2 * i] & 15) | scales[2 * i + 1] << 4);
    let high = std::array::from_fn(|i| (0..4).fold(0, |byte, k| byte | scales[4 * i + k] >> 4 << (2 * k)));
    (low, high)
}

/// The inverse of [`eight_scales`].
pub(crate) fn from_eight_scales(low: &[u8; 4], high: &[u8; 2]) -> [u8; 8] {
    std::array::from_fn(|j| (low[j / 2] >> (4 * (j % 2)) & 15) | (high[j / 4] >> (2 * (j % 4)) & 3) << 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Levels of so many bits without a pattern that a wrong index would keep.
    fn levels<const LEN: usize>(bits: u32) -> [u8; LEN] {
        let mut state = 1u32;
        std::array::from_fn(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 20) as u8 & ((1 << bits) - 1)
        })
    }

    #[test]
    fn every_packing_has_its_inverse() {
        let four: [u8; 256] = levels(4);
        assert_eq!(from_nibbles::<16, 256, 128>(&nibbles::<16, 256, 128>(&four)), four);
        assert_eq!(from_nibbles::<32, 256, 128>(&nibbles::<32, 256, 128>(&four)), four);
        assert_eq!(from_bit_pairs(&bit_pairs(&levels(2))), levels(2));
        assert_eq!(from_bit_plane(&bit_plane(&four, 3)), four.map(|level| level >> 3));
        let five: [u8; 32] = levels(5);
        assert_eq!(from_fifth_bits(&fifth_bits(&five)), five.map(|level| level >> 4));
        let (low, high) = six_bits(&levels(6));
        assert_eq!(from_six_bits(&low, &high), levels(6));
        let (scales, mins) = (levels(6), levels::<16>(6)[8..].try_into().unwrap());
        assert_eq!(from_scales_and_mins(&scales_and_mins(&scales, &mins)), (scales, mins));
        assert_eq!(from_sixteen_scales(&sixteen_scales(&levels(6))), levels(6));
        let (low, high) = eight_scales(&levels(6));
        assert_eq!(from_eight_scales(&low, &high), levels(6));
    }
}
