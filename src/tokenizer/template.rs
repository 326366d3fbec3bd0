//! The chat templates, in Jinja. Plain loops and ifs: every runtime brings its own Jinja, none brings all of it.
//!
//! Each is one line, and each line break in what it gives is a `'\n'`: whether a template engine keeps a line
//! break after `%}` depends on its settings.

use crate::hash::sha256;

/// ChatGLM3's published template, without its white space, in which its editions differ; by its SHA-256.
const PUBLISHED: &str = "3c0be383fbfffae79183c26a8e4612687a5c7a48f8878d4cef48959272a33196";

/// Whether a template is the one that comes with ChatGLM3, for which [`ROLES`] stands.
pub(super) fn is_published(template: &str) -> bool {
    sha256(template.split_whitespace().collect::<String>().as_bytes()) == PUBLISHED
}

/// How a model takes a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatFormat {
    /// ChatGLM3: a role token, a line of metadata, the content.
    Roles,
    /// ChatGLM2 and CodeGeeX2: numbered rounds of plain text.
    Rounds,
    /// GLM-4: role tokens, by the template that comes with the model.
    Glm4,
    /// A base model: the text is continued.
    Completion,
    /// By the model's own template, of which nothing is known.
    Own,
}

/// ChatGLM3, giving the ids of the authors' `build_chat_input`.
///
/// The authors encode metadata with its line break, and the content, each on its own, and each text starts with
/// SentencePiece's space: hence `\n` and one space. The published templates (`|> \n content`) give other ids.
/// A literal `<|user|>` would make llama.cpp take it for the template of another model; it looks for `[gMASK]sop`.
/// Runtimes pass the tools beside the messages, the authors in the system message: both work.
pub const ROLES: &str = concat!(
    "[gMASK]sop",
    "{% for message in messages %}",
    "{% if loop.first and tools and message['role'] != 'system' %}",
    "<|system|>{{ '\\n' }} Answer the following questions as best as you can. ",
    "You have access to the following tools:{{ '\\n' }}{{ tools | tojson(indent=4) }}",
    "{% endif %}",
    "{% if message['role'] == 'tool' %}<|observation|>{% else %}<|{{ message['role'] }}|>{% endif %}",
    "{% if message['metadata'] %}{{ message['metadata'] }}{% endif %}{{ '\\n' }}",
    "{% if message['content'] %} {{ message['content'] }}{% endif %}",
    "{% if message['role'] == 'system' %}",
    "{% if message['tools'] %}",
    "{% if not message['content'] %}{{ ' ' }}{% endif %}{{ '\\n' }}{{ message['tools'] | tojson(indent=4) }}",
    "{% elif loop.first and tools %}",
    "{% if not message['content'] %}{{ ' ' }}{% endif %}{{ '\\n' }}{{ tools | tojson(indent=4) }}",
    "{% endif %}",
    "{% endif %}",
    "{% endfor %}",
    "{% if add_generation_prompt %}<|assistant|>{% endif %}",
);

/// ChatGLM2 and CodeGeeX2, giving the ids of the authors' `build_prompt`.
///
/// They know no system message: one in front is put before the first round as it is. The question always asks for
/// its answer, whether a generation prompt is wanted or not.
pub const ROUNDS: &str = concat!(
    "[gMASK]sop",
    "{% if messages[0]['role'] == 'system' %}{% set before = 1 %}{% else %}{% set before = 0 %}{% endif %}",
    "{% for message in messages %}",
    "{% if message['role'] == 'user' %}",
    "[Round {{ ((loop.index0 - before) / 2 + 1) | int }}]{{ '\\n\\n' }}",
    "问：{{ message['content'] }}{{ '\\n\\n' }}答：",
    "{% else %}{{ message['content'] }}{{ '\\n\\n' }}{% endif %}",
    "{% endfor %}",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_template_is_known_by_its_text() {
        let published = "{% for message in messages %}{% if loop.first %}[gMASK]sop<|{{ message['role'] }}|> \n \
            {{ message['content'] }}{% else %}<|{{ message['role'] }}|> \n {{ message['content'] }}{% endif %}\
            {% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";
        assert!(is_published(published));
        assert!(!is_published(&published.replace("assistant", "bot")));
    }
}
