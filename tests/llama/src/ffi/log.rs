//! llama.cpp's messages: kept a thread, so that an error can say why; never printed.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_void};

/// `GGML_LOG_LEVEL_WARN`; errors are above it.
const WARN: c_int = 3;
/// `GGML_LOG_LEVEL_CONT`: goes on with the message before.
const CONTINUED: c_int = 5;

struct Messages {
    text: String,
    level: c_int,
}

thread_local! {
    static MESSAGES: RefCell<Messages> = const { RefCell::new(Messages { text: String::new(), level: 0 }) };
}

/// The callback for `llama_log_set`: keeps warnings and errors.
///
/// Messages of llama.cpp's own worker threads are lost; it reports failures from the calling thread.
pub(super) extern "C" fn keep(level: c_int, text: *const c_char, _: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: llama.cpp passes a C string that lives until the callback returns.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    // A thread that is ending has no place left: drop the message.
    let _ = MESSAGES.try_with(|messages| {
        let mut messages = messages.borrow_mut();
        if level != CONTINUED {
            messages.level = level;
        }
        if messages.level >= WARN {
            messages.text.push_str(&text);
        }
    });
}

/// Runs a call; when it fails, its error is what llama.cpp said meanwhile.
pub(super) fn with_messages<T>(action: &str, call: impl FnOnce() -> Option<T>) -> Result<T, String> {
    MESSAGES.with_borrow_mut(|messages| messages.text.clear());
    let result = call();
    let text = MESSAGES.with_borrow_mut(|messages| std::mem::take(&mut messages.text));
    result.ok_or_else(|| format!("cannot {action}: {}", text.trim()))
}
