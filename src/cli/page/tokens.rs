//! The divergence along the tokens, as a chart, and the text itself tinted by it.

use std::fmt::Write;

use super::words::{escape, kl};
use glm2llama::verify::Function;

const WIDTH: f64 = 940.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 58.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 40.0;

/// Below this all differences are the order of sums.
const NOTHING: f64 = 1e-9;

pub(super) fn chart(function: &Function) -> String {
    let said = match function.largest_kl {
        largest if !largest.is_finite() => "The file’s predictions are no numbers: there is nothing to draw.",
        ..NOTHING => "Identical at every position.",
        _ => return drawn(function),
    };
    format!("<section><h2>Divergence along the tokens</h2>\n<p>{said}</p></section>\n")
}

fn drawn(function: &Function) -> String {
    let count = function.positions.len().max(1);
    let step = nice_step(function.largest_kl / 4.0);
    let top = (function.largest_kl / step).ceil().max(1.0) * step;
    let (plot_width, plot_height) = (WIDTH - LEFT - 4.0, HEIGHT - TOP - BOTTOM);
    let y = |x: f64| TOP + plot_height * (1.0 - (x / top).clamp(0.0, 1.0));
    let slot = plot_width / count as f64;
    let mut svg = String::new();
    let lines = (top / step).round() as usize; // four or so
    for line in 0..=lines.min(12) {
        let value = line as f64 * step;
        let at = y(value);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            at + 4.0,
            tick(value, step)
        );
    }
    for (i, (position, token)) in function.positions.iter().zip(&function.texts).enumerate() {
        let x = LEFT + i as f64 * slot;
        let height = (TOP + plot_height - y(position.kl)).max(0.6);
        let bar = (slot * 0.78).max(0.5);
        let _ = write!(
            svg,
            "<g><title>after {} “{}”: {}</title><rect class=\"bar\" x=\"{x:.2}\" y=\"{:.1}\" width=\"{bar:.2}\" \
             height=\"{height:.1}\"/>",
            i + 1,
            escape(token),
            kl(position.kl),
            TOP + plot_height - height
        );
        if !position.same_top {
            let _ = write!(
                svg,
                "<circle class=\"other\" cx=\"{:.2}\" cy=\"{:.1}\" r=\"{:.1}\"/>",
                x + bar / 2.0,
                TOP + plot_height + 9.0,
                (slot * 0.45).clamp(1.0, 2.6)
            );
        }
        svg.push_str("</g>\n");
    }
    let mean = y(function.mean_kl);
    let _ = writeln!(
        svg,
        "<line class=\"mean\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{mean:.1}\" y2=\"{mean:.1}\"/>"
    );
    let every = nice_step(count as f64 / 8.0).max(1.0) as usize;
    for token in (0..count).step_by(every) {
        let x = LEFT + (token as f64 + 0.5) * slot;
        let at = HEIGHT - 8.0;
        let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{at:.0}\" text-anchor=\"middle\">{token}</text>");
    }
    format!(
        "<section><h2>Divergence along the tokens</h2>\n<p class=\"soft small\">How far the file’s prediction of the \
         next token is from the checkpoint’s: Kullback-Leibler divergence in nats. Mean {}, median {}, 99 % are below \
         {}, largest {}. Logits differ by {:.3} at most.</p>\n<div class=\"scroll\"><svg width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"KL divergence along the tokens\">\n{svg}</svg></div>\n\
         <ul class=\"key\"><li><i style=\"background:var(--bar)\"></i>divergence after each token</li>\
         <li><i style=\"height:0;border-bottom:2px dashed var(--ink);vertical-align:3px\"></i>mean</li>\
         <li><i style=\"background:var(--mark);border-radius:50%;width:.55rem;height:.55rem\"></i>another token is \
         likeliest</li></ul></section>\n",
        kl(function.mean_kl),
        kl(function.median_kl),
        kl(function.p99_kl),
        kl(function.largest_kl),
        function.largest_difference,
    )
}

pub(super) fn text(function: &Function) -> String {
    let mut spans = String::new();
    let tinted = function.p99_kl.is_finite() && function.mean_kl > NOTHING;
    for (i, token) in function.texts.iter().enumerate().filter(|(_, token)| !token.is_empty()) {
        // A token is tinted by how differently it was predicted, after the one before it.
        let before = i
            .checked_sub(1)
            .and_then(|before| Some((function.positions.get(before)?, function.likeliest.get(before)?)));
        let (tint, title, class) = match before {
            Some((position, wanted)) => (
                if tinted { (position.kl / function.p99_kl).clamp(0.0, 1.0).powi(2) } else { 0.0 },
                format!("{}: {}", kl(position.kl), wants(wanted)),
                if position.same_top { "" } else { " class=\"other-top\"" },
            ),
            None => (0.0, "the first".to_owned(), ""),
        };
        let _ = write!(
            spans,
            "<span{class} style=\"--t:{:.0}%\" title=\"{}\">{}</span>",
            80.0 * tint,
            escape(&title),
            escape(token)
        );
    }
    format!(
        "<section><h2>The text</h2>\n<p class=\"soft small\">Tinted by how far apart the two predictions of each token \
         are; underlined where another token was likeliest. Pointing at a token shows which each model \
         wanted.</p>\n<p class=\"text\">{spans}</p>\n{}</section>\n",
        furthest(function)
    )
}

fn wants([source, file]: &[String; 2]) -> String {
    if source == file {
        format!("both wanted “{}”", visible(file))
    } else {
        format!("the checkpoint wanted “{}”, the file “{}”", visible(source), visible(file))
    }
}

/// Line breaks as a sign.
fn visible(token: &str) -> String {
    token.replace('\n', "⏎")
}

const FURTHEST: usize = 10;

/// The places where the two are furthest apart, in words: where nothing can be pointed at, too.
fn furthest(function: &Function) -> String {
    let mut places: Vec<usize> = (0..function.positions.len())
        .filter(|&at| !function.positions[at].same_top && function.positions[at].kl.is_finite())
        .collect();
    places.sort_by(|&a, &b| function.positions[b].kl.total_cmp(&function.positions[a].kl));
    places.truncate(FURTHEST);
    if places.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for at in places {
        let context: String = function.texts[at.saturating_sub(4)..=at].concat();
        let next = function.texts.get(at + 1).map_or("", String::as_str);
        let [source, file] = &function.likeliest[at];
        let _ = writeln!(
            rows,
            "<tr><td>…{}</td><td class=\"word\">{}</td><td class=\"word\">{}</td><td class=\"word\">{}</td><td>{}</td></tr>",
            escape(&visible(&context)),
            escape(&visible(source)),
            escape(&visible(file)),
            escape(&visible(next)),
            kl(function.positions[at].kl)
        );
    }
    format!(
        "<div class=\"scroll\"><table class=\"wanted\"><tr><th>after</th><th class=\"word\">the checkpoint wanted</th>\
         <th class=\"word\">the file wanted</th><th class=\"word\">the text goes on</th><th>divergence</th></tr>\n\
         {rows}</table></div>\n"
    )
}

/// 1, 2 or 5 times a power of ten, at least so much.
fn nice_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|&step| step >= least * 0.999).unwrap_or(least)
}

/// A value of the axis with as many digits as its step has.
fn tick(value: f64, step: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let digits = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_steps() {
        for (least, step, text) in
            [(0.019, 0.02, "0.04"), (0.3, 0.5, "1.0"), (7.0, 10.0, "20"), (2.1e-7, 5e-7, "0.0000010")]
        {
            let found = nice_step(least);
            assert!((found / step - 1.0).abs() < 1e-9, "{least}: {found}");
            assert_eq!(tick(2.0 * found, found), text);
        }
    }
}
