//! Chat templates, rendered as runtimes render them, but within bounds: a template may come from a stranger.

mod bounded;
mod tags;

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value};
use minijinja_contrib::pycompat::unknown_method_callback;
use regex::Regex;

use bounded::unbounded;
pub use tags::{Words, words};

/// Real templates have a few kB; parsed, one takes up to 100 times its bytes.
const LARGEST: usize = 64 << 10;
/// A template may not loop for ever; every 64 bytes of text that it makes burn fuel too: 6 MB in all.
const FUEL: u64 = 100_000;
/// Python's methods that templates use.
const METHODS: [&str; 12] = [
    "strip",
    "lstrip",
    "rstrip",
    "startswith",
    "endswith",
    "split",
    "upper",
    "lower",
    "title",
    "items",
    "get",
    "keys",
];

/// Renders a chat template with `context` (`messages`, `tools`, `add_generation_prompt`, `eos_token` ...), with the
/// settings and functions that transformers and llama.cpp give it.
///
/// # Errors
/// When the template is too long, could make values without end, or fails.
pub fn render(template: &str, context: Value) -> Result<String, Error> {
    if template.len() > LARGEST {
        let problem = format!("it has {} bytes, expected at most {LARGEST}", template.len());
        return Err(Error::new(ErrorKind::SyntaxError, problem));
    }
    if let Some(tag) = unbounded(template) {
        let problem = format!("{tag:?} could make values without end, which is not run");
        return Err(Error::new(ErrorKind::InvalidOperation, problem));
    }
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(|state, value, method, arguments| {
        // Those that cannot make more than they are given.
        match METHODS.contains(&method) {
            true => unknown_method_callback(state, value, method, arguments),
            false => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    });
    // The library's own filter escapes what HTML needs.
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", |problem: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, problem))
    });
    environment.render_str(&without_training_marks(template), context)
}

/// The names that a template takes from outside; nothing when it cannot be read.
pub fn variables(template: &str) -> Option<HashSet<String>> {
    let environment = Environment::new();
    let template = without_training_marks(template);
    Some(environment.template_from_str(&template).ok()?.undeclared_variables(false))
}

/// `{% generation %}` and its end say which part a trainer learns, and nothing of the text. What they do to the
/// white space around them a comment does too.
fn without_training_marks(template: &str) -> Cow<'_, str> {
    static MARKS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\{%([-+]?)\s*(?:end)?generation\s*([-+]?)%\}").expect("a valid expression")
    });
    MARKS.replace_all(template, "{#$1 $2#}")
}

/// Python's `json.dumps` without its escapes for other letters, as transformers has the filter.
fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let failed = |e: serde_json::Error| Error::new(ErrorKind::BadSerialization, e.to_string());
    let mut bytes = Vec::new();
    match indent {
        Some(width) => {
            let indent = vec![b' '; width.min(16)];
            let formatter = serde_json::ser::PrettyFormatter::with_indent(&indent);
            let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
            serde::Serialize::serialize(value, &mut serializer).map_err(failed)?;
        }
        None => {
            let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Spaced);
            serde::Serialize::serialize(value, &mut serializer).map_err(failed)?;
        }
    }
    String::from_utf8(bytes).map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))
}

/// One line with a space behind every comma and colon.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::context;

    fn chat() -> Value {
        let messages =
            [context! { role => "user", content => "a" }, context! { role => "user", content => "b" }];
        context! { messages => messages, add_generation_prompt => true }
    }

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
            format!("{{% set x = 'x' %}}{}{{{{ x }}}}", "{% set x = 'x' + x + x %}".repeat(40)),
            format!("{{% set x = 'x' %}}{}{{{{ x }}}}", "{% set x = 'x' + x ~ x | trim %}".repeat(40)),
            format!(
                "{{% set bos_token = messages %}}{}",
                "{% set bos_token = bos_token + bos_token %}".repeat(60)
            ),
            format!(
                "{}{{{{ messages | length }}}}",
                "{% set messages = messages + messages + 'x' %}".repeat(60)
            ),
            "{{ range(90000) | join('x' * 9000) }}".to_owned(),
        ] {
            let started = std::time::Instant::now();
            let error = render(&template, chat()).expect_err("stopped").to_string();
            assert!(started.elapsed().as_secs() < 10, "{template}");
            let known = ["ran out of fuel", "too large", "without end"];
            assert!(known.iter().any(|known| error.contains(known)), "{template}: {error}");
        }
        let error = render(&"x".repeat(70_000), chat()).expect_err("too long").to_string();
        assert_eq!(error, "syntax error: it has 70000 bytes, expected at most 65536");
    }

    /// A method of Python's that repeats a text is no way round the bounds.
    #[test]
    fn methods_of_python_are_known_and_bounded() {
        assert_eq!(render("{{ ' a '.strip() }}{{ 'abc'.startswith('ab') }}", chat()).unwrap(), "aTrue");
        let grown = format!("{{{{ 'x'{} }}}}", ".replace('x', 'xxxxxxxxxxxxxxxx')".repeat(12));
        let error = render(&grown, chat()).map(|text| text.len());
        assert!(error.is_err(), "{error:?}");
    }

    #[test]
    fn json_is_pythons() {
        let value =
            context! { x => minijinja::value::Serde(serde_json::json!({"a": ["é'<", 1], "b": true})) };
        assert_eq!(render("{{ x | tojson }}", value.clone()).unwrap(), "{\"a\": [\"é'<\", 1], \"b\": true}");
        assert_eq!(render("{{ [1] | tojson(indent=2) }}", value).unwrap(), "[\n  1\n]");
    }

    #[test]
    fn what_only_looks_dangerous_is_run() {
        for (template, expected) in [
            ("Be **brief**.{# 2 * 3 #}{{ ' * ' }}", "Be **brief**. * "),
            ("{% set content = (messages[0]['content'] | trim) %}{{ content }}", "a"),
            ("x\n{%- generation -%}\ny{% endgeneration %}\nz", "xyz"),
            ("{% if true %}{% generation %}y{%- endgeneration %}{% endif %}", "y"),
        ] {
            assert_eq!(render(template, chat()).unwrap(), expected, "{template}");
        }
        let error = render("{{ 'it is' }}{{ 'a' * 3 }}", chat()).unwrap_err().to_string();
        assert!(error.contains("\"'a' * 3\" could make values without end"), "{error}");
    }

    #[test]
    fn a_template_may_refuse_a_chat() {
        let error = render("{{ raise_exception('no system messages') }}", chat()).unwrap_err().to_string();
        assert!(error.contains("no system messages"), "{error}");
    }
}
