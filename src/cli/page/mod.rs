//! `verify --report`: one page with its style and drawings inside, and no script.

mod heat;
mod sizes;
mod tokens;

use std::fmt::Write;

use super::print::gigabytes;
use super::verify_report::Outcome;
use crate::gguf::Value;
use crate::verify::{Finding, Function, TensorError};

/// The whole page.
pub(super) fn render(outcome: &Outcome) -> String {
    let title = model_name(outcome);
    let mut body = String::new();
    head(&mut body, &title, outcome);
    verdict(&mut body, outcome);
    figures(&mut body, outcome);
    blame(&mut body, outcome);
    body += &heat::section(&outcome.weights.tensors);
    if let Some(function) = outcome.function {
        body += &tokens::chart(function);
        body += &tokens::text(function);
    }
    body += &sizes::section(&outcome.weights.tensors);
    tensors(&mut body, &outcome.weights.tensors);
    foot(&mut body, outcome);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{}</style>\n<main>\n{body}</main>\n</html>\n",
        escape(&title),
        include_str!("style.css"),
    )
}

fn model_name(outcome: &Outcome) -> String {
    match outcome.pair.file.metadata.get("general.name") {
        Some(Value::String(name)) if !name.is_empty() => name.clone(),
        _ => outcome.file.display().to_string(),
    }
}

fn head(out: &mut String, title: &str, outcome: &Outcome) {
    let file_name = |path: &std::path::Path| {
        let name = path.file_name().unwrap_or(path.as_os_str());
        escape(&name.to_string_lossy())
    };
    let _ = writeln!(
        out,
        "<h1>{}</h1>\n<p class=\"soft\"><code>{}</code> held against the checkpoint in <code>{}</code></p>",
        escape(title),
        file_name(outcome.file),
        file_name(outcome.folder),
    );
}

fn verdict(out: &mut String, outcome: &Outcome) {
    let (class, sign, word) = if outcome.verdict.same {
        ("verdict", "M13 24l8 8 15-17", "The same model")
    } else {
        ("verdict no", "M15 15l18 18M33 15l-18 18", "Not the same model")
    };
    let line = outcome.verdict.line.as_str();
    let line =
        line.strip_prefix("the same model, ").or(line.strip_prefix("not the same model: ")).unwrap_or(line);
    let _ = writeln!(
        out,
        "<div class=\"{class}\" role=\"status\"><svg width=\"48\" height=\"48\" viewBox=\"0 0 48 48\" \
         aria-hidden=\"true\"><circle cx=\"24\" cy=\"24\" r=\"22\" fill=\"none\" stroke=\"currentColor\" \
         stroke-width=\"3\"/><path d=\"{sign}\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"4\" \
         stroke-linecap=\"round\" stroke-linejoin=\"round\"/></svg>\
         <div><strong>{word}</strong><span>{}</span></div></div>",
        escape(line)
    );
}

fn figures(out: &mut String, outcome: &Outcome) {
    let file = &outcome.pair.file;
    let weights = outcome.weights.compared;
    let bits = file.total_bytes as f64 * 8.0 / weights.max(1) as f64;
    let outside: u64 = outcome.weights.tensors.iter().map(|tensor| tensor.outside).sum();
    let mut cards = vec![
        (count(weights), format!("weights compared, {} outside what their format allows", count(outside))),
        (gigabytes(file.total_bytes), format!("the file, {bits:.2} bits per weight")),
    ];
    if let Some(f) = outcome.function {
        cards.push((kl(f.mean_kl), format!("mean KL divergence, the bar is {}", kl(outcome.verdict.max_kl))));
        cards.push((
            format!("{:.1} %", 100.0 * f.top_agreement),
            format!("the same likeliest token, of {} positions", f.positions.len()),
        ));
        let [source, file] = perplexities(f);
        cards.push((format!("{source} → {file}"), "perplexity, checkpoint → file".to_owned()));
    }
    out.push_str("<div class=\"figures\">\n");
    for (figure, what) in cards {
        let _ = writeln!(out, "<div><b>{}</b><span>{}</span></div>", escape(&figure), escape(&what));
    }
    out.push_str("</div>\n");
}

fn perplexities(function: &Function) -> [String; 2] {
    let text = |x: f64| match x {
        ..1e3 => format!("{x:.2}"),
        ..1e4 => format!("{x:.0}"),
        _ => format!("{:.0}k", x / 1e3),
    };
    [text(function.source_perplexity), text(function.file_perplexity)]
}

fn blame(out: &mut String, outcome: &Outcome) {
    if outcome.verdict.blame.is_empty() {
        return;
    }
    out.push_str("<section><h2>To blame</h2>\n<ul class=\"blame\">\n");
    for Finding { subject, problem } in outcome.verdict.blame.iter().take(200) {
        let _ = writeln!(out, "<li><code>{}</code> {}</li>", escape(subject), escape(problem));
    }
    out.push_str("</ul></section>\n");
}

fn tensors(out: &mut String, tensors: &[TensorError]) {
    let _ = write!(
        out,
        "<section><details><summary>All {} tensors</summary><div class=\"scroll\"><table>\n\
         <tr><th>tensor</th><th class=\"word\">format</th><th>size</th><th>error</th><th>signal to noise</th>\
         <th>largest error</th><th>of what is allowed</th></tr>\n",
        tensors.len()
    );
    for tensor in tensors {
        let class = if tensor.fits() { "" } else { " class=\"no\"" };
        let _ = writeln!(
            out,
            "<tr{class}><td><code>{}</code></td><td class=\"word\">{}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td>{}</td><td>{}</td></tr>",
            escape(&tensor.name),
            tensor.format,
            gigabytes(tensor.bytes),
            relative(tensor.relative_rmse),
            tensor.snr_db.map_or("exact".to_owned(), |snr| format!("{snr:.1} dB")),
            small(f64::from(tensor.largest)),
            used(tensor.largest_use),
        );
    }
    out.push_str("</table></div></details></section>\n");
}

fn foot(out: &mut String, outcome: &Outcome) {
    let tokens = match outcome.facts.tokens {
        Some(tokens) => format!("{} tokens and the chat template were compared too", count(tokens as u64)),
        None => "the vocabulary is of a kind that is not judged".to_owned(),
    };
    let _ = writeln!(
        out,
        "<footer><p>Every weight of the checkpoint was looked up in the file and held against what its format \
         allows; {} facts of the metadata were checked, and {tokens}. The predictions are those of ChatGLM by its \
         authors’ rules from the checkpoint, and of Llama from the file alone, on the same tokens.</p>\
         <p>glm2llama {}, in {:.0} s.</p></footer>",
        outcome.facts.checked,
        env!("CARGO_PKG_VERSION"),
        outcome.took.as_secs_f64(),
    );
}

/// Text that strangers may have written, for HTML.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            c if c.is_control() && c != '\n' => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

fn count(n: u64) -> String {
    match n {
        1_000_000_000.. => format!("{:.2} billion", n as f64 / 1e9),
        1_000_000.. => format!("{:.2} million", n as f64 / 1e6),
        _ => n.to_string(),
    }
}

/// A divergence in nats.
fn kl(x: f64) -> String {
    if x == 0.0 {
        "0".to_owned()
    } else if x < 0.001 {
        format!("{x:.1e}")
    } else {
        format!("{x:.4}")
    }
}

/// An error as a part of a tensor's own size.
fn relative(x: f64) -> String {
    if x == 0.0 { "0".to_owned() } else { format!("{:.3} %", 100.0 * x) }
}

fn small(x: f64) -> String {
    if x == 0.0 { "0".to_owned() } else { format!("{x:.2e}") }
}

fn used(part: f32) -> String {
    if part.is_finite() && part < 100.0 { format!("{:.0} %", 100.0 * part) } else { "far over".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_file_becomes_markup() {
        assert_eq!(escape("<script>\"&\u{1b}[31m"), "&lt;script&gt;&quot;&amp;\\u{1b}[31m");
    }
}
