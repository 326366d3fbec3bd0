//! `verify --report`: one page with its style and drawings inside, and no script.

mod answers;
mod file;
mod heat;
mod sizes;
mod tensors;
mod tokens;
mod words;

use std::fmt::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use words::{escape, kl, perplexity};

use super::print::gigabytes;
use super::verify_report::{Outcome, Session};
use glm2llama::error::Result;
use glm2llama::system::quoted;
use glm2llama::units::grouped;

/// How a page begins: so that an earlier one is known, which may be replaced.
pub(super) const BEGINNING: &str = "<!doctype html>\n<!-- A page of glm2llama verify. -->\n";

/// The whole page. Hashes the files, for a page is of no use that does not say of what it is.
///
/// # Errors
/// When one of the files can no longer be read.
pub(super) fn render(session: &Session, outcomes: &[Outcome]) -> Result<String> {
    let title = outcomes.first().map(model_name).unwrap_or_default();
    let mut body = format!(
        "<h1>{}</h1>\n<p class=\"soft\">{} compared with the checkpoint in <code>{}</code></p>\n",
        escape(&title),
        match outcomes {
            [one] => format!("<code>{}</code>", file_name(&one.file)),
            several => format!("{} files", several.len()),
        },
        file_name(session.folder),
    );
    if outcomes.len() > 1 {
        side_by_side(&mut body, outcomes);
    }
    for (i, outcome) in outcomes.iter().enumerate() {
        if outcomes.len() > 1 {
            let _ = writeln!(body, "<h1 class=\"file\" id=\"file{i}\">{}</h1>", file_name(&outcome.file));
        }
        file::sections(&mut body, outcome);
    }
    identity(&mut body, session, outcomes)?;
    foot(&mut body, session, outcomes);
    Ok(format!(
        "{BEGINNING}<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{}</style>\n<main>\n{body}</main>\n</html>\n",
        escape(&title),
        include_str!("style.css"),
    ))
}

fn model_name(outcome: &Outcome) -> String {
    let name = outcome.pair.file.text("general.name").filter(|name| !name.is_empty());
    name.map_or_else(|| outcome.file.display().to_string(), str::to_owned)
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    escape(&name.to_string_lossy())
}

fn side_by_side(out: &mut String, outcomes: &[Outcome]) {
    out.push_str(
        "<section><h2>Side by side</h2>\n<div class=\"scroll\"><table>\n<tr><th>file</th><th>size</th>\
         <th>bits</th><th>KL divergence</th><th>top-1</th><th>perplexity</th><th class=\"word\">quality</th></tr>\n",
    );
    for (i, outcome) in outcomes.iter().enumerate() {
        let function = outcome.function.as_ref();
        let figure = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
        let (class, quality) = file::quality(outcome);
        let _ = writeln!(
            out,
            "<tr><td><a href=\"#file{i}\">{}</a></td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td class=\"word\"><b class=\"{class}\">{quality}</b></td></tr>",
            file_name(&outcome.file),
            gigabytes(outcome.pair.file.total_bytes),
            figure(outcome.bits().map(|bits| format!("{bits:.2}"))),
            figure(function.map(|f| kl(f.mean_kl))),
            figure(function.map(|f| format!("{:.1} %", 100.0 * f.top_agreement))),
            figure(function.map(|f| perplexity(f.file_perplexity))),
        );
    }
    out.push_str("</table></div></section>\n");
}

/// What was judged, when and how: what makes the page a proof a week later.
fn identity(out: &mut String, session: &Session, outcomes: &[Outcome]) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let command: Vec<String> = std::env::args_os().map(|word| quoted(&word.to_string_lossy())).collect();
    let mut rows = vec![
        ("date".to_owned(), escape(&words::date(now))),
        ("command".to_owned(), format!("<code>{}</code>", escape(&command.join(" ")))),
        ("program".to_owned(), format!("glm2llama {}", env!("CARGO_PKG_VERSION"))),
        ("checkpoint".to_owned(), format!("<code>{}</code>", escape(&session.folder.display().to_string()))),
    ];
    if let Some(function) = outcomes.iter().find_map(|outcome| outcome.function.as_ref()) {
        let text = format!("{}: its first {} tokens", session.text, function.positions.len());
        rows.push(("text".to_owned(), escape(&text)));
    }
    for outcome in outcomes {
        for (path, bytes, hash) in outcome.pair.file.hashes()? {
            let bytes = grouped(bytes);
            rows.push((file_name(path), format!("{bytes} bytes, SHA-256 <code>{hash}</code>")));
        }
    }
    out.push_str("<section><h2>What was run</h2>\n<dl>\n");
    for (name, value) in rows {
        let _ = writeln!(out, "<dt>{name}</dt><dd>{value}</dd>");
    }
    out.push_str("</dl></section>\n");
    Ok(())
}

fn foot(out: &mut String, session: &Session, outcomes: &[Outcome]) {
    let _ = writeln!(
        out,
        "<footer><p>Every weight of the checkpoint was looked up in the file and compared within what its format \
         allows. {}. The predictions are those of ChatGLM by its authors’ rules from the checkpoint, and of Llama from \
         the file alone, on the same tokens.</p><p>{:.0} s.</p></footer>",
        outcomes
            .first()
            .map(|o| format!("{} facts of the metadata checked, {}", o.facts.checked, o.vocabulary()))
            .unwrap_or_default(),
        session.took.as_secs_f64(),
    );
}
