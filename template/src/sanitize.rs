//! Text that came from outside, made harmless: whoever reads a log or a table sees every character of it, and no terminal
//! obeys one.

use std::borrow::Cow;

/// The text on one line. Control characters, line breaks, and what turns the direction of writing are shown as Rust
/// writes them: `\n`, `\u{1b}`, `\u{202e}`.
pub fn escape_control_chars(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().fold(String::with_capacity(text.len() + 16), |mut line, c| {
        if is_plain(c) {
            line.push(c);
        } else {
            line.extend(c.escape_debug());
        }
        line
    });
    Cow::Owned(escaped)
}

/// As much of it as `limit` characters, with a mark where something is left out.
pub fn truncate(text: &str, limit: usize) -> Cow<'_, str> {
    match text.char_indices().nth(limit) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// Quotes and backslashes are escaped by `escape_debug` and do no harm.
fn is_plain(c: char) -> bool {
    matches!(c, '"' | '\'' | '\\') || c.escape_debug().len() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let hostile = "a\nERROR b\r\x1b[2J\x1b]0;t\x07\u{9b}31m\u{202e}\u{2066}\u{200f}\0\x7f\t";
        let line = escape_control_chars(hostile);
        assert_eq!(line, r"a\nERROR b\r\u{1b}[2J\u{1b}]0;t\u{7}\u{9b}31m\u{202e}\u{2066}\u{200f}\0\u{7f}\t");
        assert!(line.chars().all(|c| !c.is_control()));
    }

    #[test]
    fn what_is_plain_stays_as_it_is() {
        for text in ["", r#"say "it" isn't C:\x"#, "größer → 100 €, 雪 ✓"] {
            assert!(matches!(escape_control_chars(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        assert_eq!(truncate("größe", 3), "grö…");
        assert_eq!(truncate("größe", 5), "größe");
    }
}
