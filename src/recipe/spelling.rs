//! What users of other programs call the types.

/// Words for types that are not quantized.
const WORDS: [(&str, &str); 8] = [
    ("fp32", "F32"),
    ("float32", "F32"),
    ("float", "F32"),
    ("fp16", "F16"),
    ("float16", "F16"),
    ("half", "F16"),
    ("bfloat16", "BF16"),
    ("bfloat", "BF16"),
];

/// The name among those that an option takes which another spelling, or a number of bits, most likely means; none for
/// what the option takes in any case.
pub fn meant(name: &str, known: &[&'static str]) -> Option<&'static str> {
    if known.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        return None;
    }
    let squeezed = squeeze(name);
    let among = |wanted: &&str| known.iter().copied().find(|known| known == wanted);
    let same = known.iter().copied().find(|known| squeeze(known) == squeezed);
    let word = || WORDS.iter().find(|(word, _)| *word == squeezed).and_then(|(_, meant)| among(meant));
    same.or_else(word).or_else(|| by_bits(&squeezed).iter().find_map(among))
}

/// `q4`, `int4`, `4bit`, `q4_k_l` and the like: the type of so many bits that most users take, or its format.
fn by_bits(squeezed: &str) -> &'static [&'static str] {
    let starts = ["int", "uint", "nf", "fp", "q", "i", "w", ""];
    let ends = ["", "0", "k", "km", "ks", "kl", "b", "bit", "bits"];
    let bits = starts.iter().find_map(|start| {
        let mut rest = squeezed.strip_prefix(start)?.chars();
        let digit = rest.next().filter(char::is_ascii_digit)?;
        ends.contains(&rest.as_str()).then_some(digit)
    });
    match bits {
        Some('8') => &["Q8_0"],
        Some('6') => &["Q6_K"],
        Some('5') => &["Q5_K_M", "Q5_K"],
        Some('4') => &["Q4_K_M", "Q4_K"],
        Some('3') => &["Q3_K_M", "Q3_K"],
        Some('2') => &["Q2_K"],
        _ if squeezed == "iq4" => &["IQ4_XS"],
        _ => &[],
    }
}

fn squeeze(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::FileType;

    #[test]
    fn what_other_programs_say() {
        let types: Vec<_> = FileType::names().collect();
        for (name, expected) in [
            ("q4", "Q4_K_M"),
            ("Q4", "Q4_K_M"),
            ("4bit", "Q4_K_M"),
            ("4-bit", "Q4_K_M"),
            ("int4", "Q4_K_M"),
            ("nf4", "Q4_K_M"),
            ("q4km", "Q4_K_M"),
            ("q4-k-m", "Q4_K_M"),
            ("q4_k_l", "Q4_K_M"),
            ("q4k", "Q4_K"),
            ("q40", "Q4_0"),
            ("q5", "Q5_K_M"),
            ("q6", "Q6_K"),
            ("q6_k_m", "Q6_K"),
            ("q8", "Q8_0"),
            ("int8", "Q8_0"),
            ("INT8", "Q8_0"),
            ("8bit", "Q8_0"),
            ("q8_k", "Q8_0"),
            ("fp8", "Q8_0"),
            ("q3", "Q3_K_M"),
            ("q2_k_s", "Q2_K"),
            ("fp16", "F16"),
            ("FP16", "F16"),
            ("float16", "F16"),
            ("half", "F16"),
            ("bfloat16", "BF16"),
            ("bf-16", "BF16"),
            ("fp32", "F32"),
            ("float32", "F32"),
            ("iq4", "IQ4_XS"),
            ("iq4nl", "IQ4_NL"),
        ] {
            assert_eq!(meant(name, &types), Some(expected), "{name}");
        }
        for name in ["Q4_K_M", "q4_k", "f16", "Q4_K_XL", "mxfp4", "q9", "q1", "auto", "", "é"] {
            assert_eq!(meant(name, &types), None, "{name}");
        }
        let formats = ["F32", "F16", "Q8_0", "Q4_K", "Q6_K"];
        assert_eq!(meant("Q4_K_M", &formats), Some("Q4_K"));
        assert_eq!(meant("q4", &formats), Some("Q4_K"));
        assert_eq!(meant("q8", &["F32", "F16", "BF16"]), None);
    }
}
