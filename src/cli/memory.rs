//! What memory a model takes when it runs.

/// Tokens that llama.cpp computes at a time: it keeps the logits of so many in its compute buffer.
const MICRO_BATCH: u64 = 512;

/// What the program itself takes: llama-server's peak was 516 MB and 705 MB with 4k and 8k tokens of context where
/// the rest of the sum is 459 MB and 648 MB.
const PROGRAM_BYTES: u64 = 58_000_000;

/// What llama.cpp needs to run a file of `file_bytes`: the weights, the keys and values of every position as F16,
/// `values` of them for each, a compute buffer that the logits of a micro-batch, as F32, fill nearly alone, and the
/// program. Nothing where a number is beyond all bounds.
pub(super) fn run_bytes(file_bytes: u64, values: u64, vocabulary: u64, context: u64) -> Option<u64> {
    let kv = values.checked_mul(2)?.checked_mul(context)?;
    let logits = vocabulary.checked_mul(4 * MICRO_BATCH)?;
    file_bytes.checked_add(kv)?.checked_add(logits)?.checked_add(PROGRAM_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_values_and_logits_are_counted() {
        let values = 28 * 2 * (128 + 128); // ChatGLM3-6B: layers, key heads, a key and a value
        let kv = 28 * 2 * 128 * 2 * 2 * 8192;
        assert_eq!(run_bytes(1000, values, 65024, 8192), Some(1000 + kv + 512 * 4 * 65024 + 58_000_000));
        assert_eq!(run_bytes(u64::MAX, 1, 1, 1), None);
    }
}
