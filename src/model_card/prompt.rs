//! How the model takes a question, by rendering its template.

use minijinja::context;

use super::about::About;
use crate::jinja;

impl About {
    /// A system message and a question in the model's own format, or the question alone where a template has no place
    /// for the other.
    pub(super) fn prompt_format(&self) -> String {
        let title = "\n## Prompt format\n\n";
        let Some(template) = &self.template else {
            return format!("{title}None: a base model, which continues a text.\n");
        };
        let message = |role: &str, content: &str| context! { role => role, content => content };
        let question = message("user", "{question}");
        let chats = [vec![message("system", "{system message}"), question.clone()], vec![question]];
        let rendered = chats.into_iter().find_map(|messages| {
            let values = context! {
                messages => messages, add_generation_prompt => true, bos_token => &self.bos, eos_token => &self.eos,
            };
            jinja::render(template, values).ok()
        });
        match rendered {
            // A fence longer than any in the text.
            Some(text) => {
                let mut fence = "```".to_owned();
                while text.contains(&fence) {
                    fence.push('`');
                }
                format!(
                    "{title}The chat template in the file makes of a system message and a question:\n\n{fence}\n{text}\n{fence}\n"
                )
            }
            None => {
                format!("{title}The chat template is in the file: `glm2llama inspect FILE --template`.\n")
            }
        }
    }
}
