//! The Modelfile's TEMPLATE gives the original ids; that Go fills it in like this is what `tests/ollama` shows.

use glm2llama::ollama::shape;

use super::{Spm, golden, ids};

/// Ollama hands a reply on as it comes, so the prompt has the line break that the model would begin with.
#[test]
fn chatglm3_prompts_get_the_original_ids_and_the_replys_own_first_two() {
    let Some(tokenizer) = super::chatglm3() else { return };
    let spm = Spm::new(&tokenizer.vocabulary);
    let shape = shape(tokenizer.vocabulary.chat_template.as_deref().unwrap(), "", "").unwrap();
    let mut found = 0;
    for chat in golden("chatglm3_tokens.json")["chats"].as_array().unwrap() {
        let messages = chat["messages"].as_array().unwrap();
        let pairs: Vec<(&str, &str)> = messages
            .iter()
            .map(|message| (message["role"].as_str().unwrap(), message["content"].as_str().unwrap()))
            .collect();
        // Ollama has another name for the role `observation`, and no place for metadata.
        let Some(text) = shape.render(&pairs) else { continue };
        assert_eq!(spm.encode(&text, true), [ids(chat), vec![30910, 13]].concat(), "{text:?}");
        found += 1;
    }
    assert_eq!(found, 5);
}

/// A reply that comes back with the line break of an older file, or with the space of its first word, is the same.
#[test]
fn chatglm3_replies_come_back_in_any_form() {
    let Some(tokenizer) = super::chatglm3() else { return };
    let shape = shape(tokenizer.vocabulary.chat_template.as_deref().unwrap(), "", "").unwrap();
    let prompt = |reply| shape.render(&[("user", "a"), ("assistant", reply), ("user", "b")]).unwrap();
    for reply in [" Sure.", " \n Sure.", "\n Sure."] {
        assert_eq!(prompt(reply), prompt("Sure."), "{reply:?}");
    }
}
