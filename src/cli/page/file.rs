//! One file's part of the page.

use std::fmt::Write;

use super::words::{count, escape, kl, perplexity};
use super::{answers, heat, sizes, tensors, tokens};
use crate::cli::print::gigabytes;
use crate::cli::verify_report::{MOST_FINDINGS, Outcome};
use glm2llama::verify::{Finding, Grade};

pub(super) fn sections(body: &mut String, outcome: &Outcome) {
    verdict(body, outcome);
    figures(body, outcome);
    blame(body, outcome);
    if let Some(function) = &outcome.function {
        *body += &answers::section(&function.answers);
    }
    *body += &heat::section(&outcome.weights.tensors);
    *body += &tensors::worst(&outcome.weights.tensors);
    if let Some(function) = &outcome.function {
        *body += &tokens::chart(function);
        *body += &tokens::text(function);
    }
    *body += &sizes::section(&outcome.weights.tensors);
    *body += &tensors::all(&outcome.weights.tensors);
}

/// The grade's class and words.
pub(super) fn quality(outcome: &Outcome) -> (&'static str, &'static str) {
    if outcome.verdict.is_over_bar_only() {
        return ("bad", "over the bar");
    }
    if !outcome.verdict.same {
        return ("bad", "not the same model");
    }
    let Some(quality) = outcome.verdict.quality else { return ("", "not run") };
    let class = match quality.grade() {
        Some(Grade::NearlyLossless | Grade::Good) => "good",
        Some(Grade::Noticeable) => "doubtful",
        Some(Grade::Poor | Grade::Unusable) => "bad",
        None => "",
    };
    (class, quality.words())
}

fn verdict(out: &mut String, outcome: &Outcome) {
    let (class, sign, word) = if outcome.verdict.same {
        ("verdict", "M13 24l8 8 15-17", "Converted faithfully")
    } else {
        let over = outcome.verdict.is_over_bar_only();
        let word = if over { "Over the bar" } else { "Not the same model" };
        ("verdict no", "M15 15l18 18M33 15l-18 18", word)
    };
    let _ = writeln!(
        out,
        "<div class=\"{class}\" role=\"status\"><svg width=\"48\" height=\"48\" viewBox=\"0 0 48 48\" \
         aria-hidden=\"true\"><circle cx=\"24\" cy=\"24\" r=\"22\" fill=\"none\" stroke=\"currentColor\" \
         stroke-width=\"3\"/><path d=\"{sign}\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"4\" \
         stroke-linecap=\"round\" stroke-linejoin=\"round\"/></svg>\
         <div><strong>{word}</strong><span>{}</span></div></div>",
        escape(&outcome.verdict.reason)
    );
    if outcome.verdict.same && outcome.verdict.quality.is_some() {
        let (class, words) = quality(outcome);
        let _ = writeln!(out, "<p class=\"grade {class}\">Quality: <b>{words}</b></p>");
    }
}

fn figures(out: &mut String, outcome: &Outcome) {
    let outside: u64 = outcome.weights.tensors.iter().map(|tensor| tensor.outside).sum();
    let bits = outcome.bits().map(|bits| format!(", {bits:.2} bits per weight")).unwrap_or_default();
    let mut cards = vec![
        (
            count(outcome.weights.compared),
            format!("weights compared, {} outside what their format allows", count(outside)),
        ),
        (gigabytes(outcome.pair.file.total_bytes), format!("the file{bits}")),
    ];
    if let Some(f) = &outcome.function {
        let bar = outcome.verdict.max_kl.map(|bar| format!(", the bar is {bar}")).unwrap_or_default();
        cards.push((kl(f.mean_kl), format!("mean KL divergence in nats{bar}")));
        cards.push((
            format!("{:.1} %", 100.0 * f.top_agreement),
            format!("the same likeliest token, of {} positions", f.positions.len()),
        ));
        let (source, file) = (perplexity(f.source_perplexity), perplexity(f.file_perplexity));
        cards.push((format!("{source} → {file}"), "perplexity, checkpoint → file".to_owned()));
    }
    out.push_str("<div class=\"figures\">\n");
    for (figure, what) in cards {
        let _ = writeln!(out, "<div><b>{}</b><span>{}</span></div>", escape(&figure), escape(&what));
    }
    out.push_str("</div>\n");
}

fn blame(out: &mut String, outcome: &Outcome) {
    let blame = &outcome.verdict.blame;
    if blame.is_empty() {
        return;
    }
    out.push_str("<section><h2>To blame</h2>\n<ul class=\"blame\">\n");
    for Finding { subject, problem } in blame.iter().take(MOST_FINDINGS) {
        let _ = writeln!(out, "<li><code>{}</code> {}</li>", escape(subject), escape(problem));
    }
    if let Some(more @ 1..) = blame.len().checked_sub(MOST_FINDINGS) {
        let _ =
            writeln!(out, "<li>and {} more (<code>--json</code> names them all)</li>", count(more as u64));
    }
    out.push_str("</ul></section>\n");
}
