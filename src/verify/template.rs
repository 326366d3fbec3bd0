//! The file's chat template, rendered, against the prompt that the authors' code builds.

use minijinja::{Environment, context};
use regex::Regex;

use super::{Finding, Pair};
use crate::gguf::Value;

const KEY: &str = "tokenizer.chat_template";

/// A conversation with what templates get wrong: a system message, turns, an empty line, Chinese.
const CHAT: [(&str, &str); 4] = [
    ("system", "You are terse."),
    ("user", "你好，\n\nhow are you?"),
    ("assistant", "Fine."),
    ("user", "再见"),
];

/// Renders the template and compares.
pub(super) fn check(pair: &Pair, roles: bool, findings: &mut Vec<Finding>) {
    let Some(Value::String(template)) = pair.file.metadata.get(KEY) else {
        findings.push(Finding::new(KEY, "is absent"));
        return;
    };
    let chat: &[(&str, &str)] = if roles { &CHAT } else { &CHAT[1..] }; // ChatGLM2 knows no system message
    match render(template, chat) {
        Err(e) => findings.push(Finding::new(KEY, format!("cannot be rendered: {e}"))),
        Ok(found) => {
            let expected = if roles { by_roles(chat) } else { by_rounds(chat) };
            if found != expected {
                let same = found.chars().zip(expected.chars()).take_while(|(a, b)| a == b).count();
                let shown = |text: &str| text.chars().skip(same).take(24).collect::<String>();
                let problem = format!(
                    "gives {:?} at character {same} of a test chat, where the authors' code has {:?}",
                    shown(&found),
                    shown(&expected)
                );
                findings.push(Finding::new(KEY, problem));
            }
        }
    }
}

/// Real templates have a few kB; parsed, one takes up to 100 times its bytes.
const LARGEST: usize = 64 << 10;

fn render(template: &str, chat: &[(&str, &str)]) -> Result<String, minijinja::Error> {
    if template.len() > LARGEST {
        let problem = format!("it has {} bytes, expected at most {LARGEST}", template.len());
        return Err(minijinja::Error::new(minijinja::ErrorKind::SyntaxError, problem));
    }
    if let Some(tag) = unbounded(template) {
        let problem = format!("{tag:?} could make values without end, which verify does not run");
        return Err(minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, problem));
    }
    let mut environment = Environment::new();
    // A template from a stranger may not loop for ever; every 64 bytes of text that it makes burn fuel too: 6 MB in
    // all. Lists of lists burn none before they are written out.
    environment.set_fuel(Some(100_000));
    let messages: Vec<_> =
        chat.iter().map(|(role, content)| context! { role => *role, content => *content }).collect();
    environment.render_str(template, context! { messages => messages, add_generation_prompt => true })
}

/// `build_chat_input`: a role token and a line of metadata, then the content. Each text is encoded on its own
/// and so starts with SentencePiece's space; the first one's is the tokenizer's own.
fn by_roles(chat: &[(&str, &str)]) -> String {
    let turns = chat.iter().map(|(role, content)| format!("<|{role}|>\n {content}"));
    format!("[gMASK]sop{}<|assistant|>", turns.collect::<String>())
}

/// `build_prompt`: numbered rounds.
fn by_rounds(chat: &[(&str, &str)]) -> String {
    let mut prompt = "[gMASK]sop".to_owned();
    for (i, (_, content)) in chat.iter().enumerate() {
        match i % 2 {
            0 => prompt += &format!("[Round {}]\n\n问：{content}\n\n答：", i / 2 + 1),
            _ => prompt += &format!("{content}\n\n"),
        }
    }
    prompt
}

/// A tag that could bind a list made of others, so that forty of them make 2^40 entries: all but conditions, loops
/// over what is there, and values that are no new lists.
fn unbounded(template: &str) -> Option<&str> {
    const PATH: &str = r#"[\w.]+(\[[\w:'"-]*\])*"#;
    let known = Regex::new(&format!(
        r#"(?s)^(if\s.*|elif\s.*|else|endif|endfor|for\s+[\w, ]+\s+in\s+{PATH}|set\s+[\w.]+\s*=\s*({PATH}(\s*[+-]\s*\d+)?|'[^']*'|"[^"]*"|namespace\([\w\s=,'"-]*\)))$"#
    ))
    .ok()?;
    if template.contains('*') {
        return Some("*");
    }
    template.split("{%").skip(1).find_map(|rest| {
        // A string may hold the end of a tag, or its beginning: what is cut short by either is known just as little.
        let tag = rest.split("%}").next().unwrap_or_default();
        let trimmed = tag.trim_matches(['-', '+']).trim();
        (!known.is_match(trimmed)).then(|| trimmed.get(..40).unwrap_or(trimmed))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each would take gigabytes, and is stopped by its fuel instead: that it counts bytes is what this rests on.
    #[test]
    fn templates_that_multiply_are_stopped() {
        let doubled = "{% set x = x ~ x %}".repeat(40);
        let captured = "{% set x %}{{ x }}{{ x }}{% endset %}".repeat(40);
        let lists = format!("{{% set x = 'x' %}}{}{{{{ x }}}}", "{% set x = [x, x] %}".repeat(40));
        let sums =
            format!("{}{{{{ messages | length }}}}", "{% set messages = messages + messages %}".repeat(60));
        for template in [
            "{{ 'x' * 1000000000 }}".to_owned(),
            "{{ ('x' * 9999) * 9999 }}".to_owned(),
            format!("{{% set x = 'x' %}}{doubled}{{{{ x }}}}"),
            format!("{{% set x = 'x' %}}{captured}{{{{ x }}}}"),
            "{% set ns = namespace(x='x') %}{% for i in range(40) %}{% set ns.x = ns.x + ns.x %}{% endfor %}"
                .to_owned(),
            "{% macro m(x) %}{{ x }}{{ x }}{% endmacro %}".to_owned()
                + "{{ "
                + &"m(".repeat(40)
                + "'x'"
                + &")".repeat(40)
                + " }}",
            "{{ 'x' | indent(1000000000) }}".to_owned(),
            "{{ '%1000000000d' | format(1) }}".to_owned(),
            format!("{{% for i in range(90000) %}}{}{{% endfor %}}", "x".repeat(60_000)),
            "{% for i in range(90000) %}{% for i in range(90000) %}{% endfor %}{% endfor %}".to_owned(),
            lists,
            sums,
            "{{ range(90000) | join('x' * 9000) }}".to_owned(),
        ] {
            let started = std::time::Instant::now();
            let error = render(&template, &CHAT).expect_err("stopped").to_string();
            assert!(started.elapsed().as_secs() < 10, "{template}");
            let known = ["ran out of fuel", "too large", "without end"];
            assert!(known.iter().any(|known| error.contains(known)), "{template}: {error}");
        }
        let error = render(&"x".repeat(70_000), &CHAT).expect_err("too long").to_string();
        assert_eq!(error, "syntax error: it has 70000 bytes, expected at most 65536");
    }
}
