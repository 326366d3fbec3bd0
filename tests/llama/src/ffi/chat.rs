//! llama.cpp's built-in chat templates.

use std::ffi::CString;

use super::Api;
use super::api::ChatMessage;

impl Api {
    pub(crate) fn builtin_template(
        &self,
        template: &str,
        chat: &[(&str, &str)],
        open_turn: bool,
    ) -> Option<String> {
        let c_string = |text: &str| CString::new(text).expect("a text without zero bytes");
        let template = c_string(template);
        let texts: Vec<_> = chat.iter().map(|(role, content)| (c_string(role), c_string(content))).collect();
        let messages: Vec<_> = texts
            .iter()
            .map(|(role, content)| ChatMessage { role: role.as_ptr(), content: content.as_ptr() })
            .collect();
        let apply = |buffer: &mut [u8]| {
            let len = i32::try_from(buffer.len()).expect("a short text");
            // SAFETY: the C strings and the messages that point to them outlive the call; at most `len`
            // bytes are written to the buffer.
            unsafe {
                (self.llama_chat_apply_template)(
                    template.as_ptr(),
                    messages.as_ptr(),
                    messages.len(),
                    open_turn,
                    buffer.as_mut_ptr().cast(),
                    len,
                )
            }
        };
        // Negative: no template recognised. Else the length of the whole text, however much was written.
        let len = usize::try_from(apply(&mut [])).ok()?;
        let mut buffer = vec![0; len];
        apply(&mut buffer);
        Some(String::from_utf8_lossy(&buffer).into_owned())
    }
}
