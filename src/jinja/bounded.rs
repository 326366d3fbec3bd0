//! Which templates cannot make values without end, told by their tags before any is run.
//!
//! The engine's fuel counts what a template does and not how large the values are: forty tags that bind a list made of
//! two others make 2^40 entries. So only these tags are run, `*` in none of them:
//!
//! | tag | |
//! |---|---|
//! | `if ...`, `elif ...`, `else`, `endif` | conditions |
//! | `for NAME in PATH`, `... in PATH \| items`, `endfor` | loops over what is there |
//! | `set NAME = PATH`, `PATH + 1`, `PATH - 1` | values as they are, and counters |
//! | `set NAME = 'text'`, `PATH \| trim`, `PATH.method('text')[0]` | a value, trimmed, or a part of it |
//! | `set NAME = 'text' + VALUE + ...` (also `~`) | texts put together: one of the first two is known to be a text |
//! | `set NAME = namespace(...)` | of names, numbers and texts |
//! | `generation`, `endgeneration` | what a trainer learns |
//!
//! What stands between `{{` and `}}` binds nothing, and may be anything without `*`.

use std::sync::LazyLock;

use regex::Regex;

use super::tags::{tags, without_strings};

/// Finds the first tag of a template that could build a list of lists: one that is not in the table above.
pub(super) fn unbounded(template: &str) -> Option<&str> {
    static KNOWN: LazyLock<Regex> = LazyLock::new(|| {
        const PATH: &str = r#"[\w.]+(\[[\w:'"-]*\])*"#;
        const TEXT: &str = r#"('[^']*'|"[^"]*"|[be]os_token)"#;
        // A value as it is, trimmed, or a part of it; and texts put together, of which one of the first two is
        // known to be a text, so that no list can be added to a list.
        let bare = format!(r#"({TEXT}|{PATH}(\({TEXT}?\)(\[-?\d+\])?)?(\s*\|\s*trim)?)"#);
        let value = format!(r"({bare}|\(\s*{bare}\s*\))");
        let texts = format!(r#"({TEXT}\s*[+~]\s*{value}|{value}\s*[+~]\s*{TEXT})(\s*[+~]\s*{value})*"#);
        Regex::new(&format!(
            r#"(?s)^(if\s.*|elif\s.*|else|endif|endfor|generation|endgeneration|for\s+[\w, ]+\s+in\s+{PATH}(\s*\|\s*items)?|set\s+[\w.]+\s*=\s*({PATH}(\s*[+-]\s*\d+)?|{value}|{texts}|namespace\([\w\s=,'"-]*\)))$"#
        ))
        .expect("a valid expression")
    });
    let Some(tags) = tags(template) else { return Some("a tag without an end") };
    let unknown = tags.iter().find(|tag| {
        if without_strings(tag.text).contains('*') {
            return true;
        }
        // That `bos_token` is a text holds as long as no tag gives the name to something else.
        let target =
            tag.text.split(" in ").next().and_then(|text| text.split('=').next()).unwrap_or_default();
        let binds = tag.text.starts_with("set") || tag.text.starts_with("for");
        let rebinds = binds && (target.contains("bos_token") || target.contains("eos_token"));
        tag.is_block && (rebinds || !KNOWN.is_match(tag.text))
    });
    unknown.map(|tag| tag.text.get(..40).unwrap_or(tag.text))
}
