//! What both models say to the same questions.

use std::fmt::Write;

use super::words::escape;
use glm2llama::verify::Answer;

pub(super) fn section(answers: &[Answer]) -> String {
    if answers.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for Answer { question, source, file } in answers {
        let same = if source == file { "the same words" } else { "the file" };
        let _ = writeln!(
            rows,
            "<p class=\"question\">{}</p>\n<div class=\"answers\"><p><span class=\"soft small\">the checkpoint</span>\
             {}</p><p><span class=\"soft small\">{same}</span>{}</p></div>",
            escape(question),
            escape(source.trim()),
            escape(file.trim())
        );
    }
    format!(
        "<section><h2>Answers</h2>\n<p class=\"soft small\">Always the likeliest token, cut off where no end \
         came.</p>\n{rows}</section>\n"
    )
}
