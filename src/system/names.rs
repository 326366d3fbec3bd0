//! Names that Windows has for something else.
// Source: "Naming Files, Paths, and Namespaces" in Microsoft's documentation of Win32.

/// Devices, whatever stands behind a dot; those with a number have 1 to 9 behind.
const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];
const NUMBERED: [&str; 2] = ["COM", "LPT"];

/// What is wrong with a file's name on Windows.
pub(super) fn problem(name: &str) -> Option<&'static str> {
    if name.contains(['<', '>', ':', '"', '/', '\\', '|', '?', '*']) || name.contains(char::is_control) {
        return Some("a name with a sign that Windows allows in none");
    }
    if name.ends_with(['.', ' ']) {
        return Some("a name that ends in a dot or a space, which Windows leaves out");
    }
    let before = name.split('.').next().unwrap_or(name).trim_end();
    let is = |device: &str| before.eq_ignore_ascii_case(device);
    let is_numbered = |device: &str| {
        let mut chars = before.chars();
        let last = chars.next_back();
        chars.as_str().eq_ignore_ascii_case(device)
            && last.is_some_and(|c| matches!(c, '1'..='9' | '¹' | '²' | '³'))
    };
    let device = DEVICES.into_iter().any(is) || NUMBERED.into_iter().any(is_numbered);
    device.then_some("a name that Windows has for a device")
}

#[cfg(test)]
mod tests {
    use super::problem;

    #[test]
    fn devices_and_signs_are_no_names() {
        for name in ["CON", "nul.gguf", "Aux.a.gguf", "COM1.gguf", "lpt9", "LPT².gguf", "CONIN$", "nul .gguf"]
        {
            assert_eq!(problem(name), Some("a name that Windows has for a device"), "{name}");
        }
        for name in ["m.gguf:stream", "what?.gguf", "a|b", "tab\t.gguf"] {
            assert_eq!(problem(name), Some("a name with a sign that Windows allows in none"), "{name}");
        }
        for name in ["m.gguf.", "m "] {
            let expected = "a name that ends in a dot or a space, which Windows leaves out";
            assert_eq!(problem(name), Some(expected), "{name}");
        }
        for name in ["模型.gguf", "console.gguf", "COM0.gguf", "COM10.gguf", "null.gguf", "a.nul", ".gguf"]
        {
            assert_eq!(problem(name), None, "{name}");
        }
    }
}
