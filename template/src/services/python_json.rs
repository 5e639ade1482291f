//! JSON as Python writes it: `NaN`, `Infinity` and `-Infinity` stand where a number belongs, and no JSON allows them.

use anyhow::Result;
use serde_json::Value;

/// Reads JSON. Where one of those three words stands, the value is that word as a string, so that the feature can be
/// refused by its name instead of the whole answer for its form.
pub fn parse(body: &[u8]) -> Result<Value> {
    match serde_json::from_slice(body) {
        Ok(value) => Ok(value),
        Err(error) => match serde_json::from_slice(&quoted(body)) {
            Ok(value) => Ok(value),
            // The error as it was about what really came.
            Err(_) => Err(error.into()),
        },
    }
}

/// The same text with the three words in quotes, unless they stand in a string.
pub fn quoted(body: &[u8]) -> Vec<u8> {
    const NON_FINITE: [&[u8]; 3] = [b"NaN", b"-Infinity", b"Infinity"];
    let mut text = Vec::with_capacity(body.len() + 16);
    let (mut at, mut in_string) = (0, false);
    while at < body.len() {
        let rest = &body[at..];
        if in_string {
            // An escaped quote does not end the string.
            let taken = if rest[0] == b'\\' { rest.len().min(2) } else { 1 };
            in_string = rest[0] != b'"';
            text.extend_from_slice(&rest[..taken]);
            at += taken;
        } else if let Some(word) = NON_FINITE.into_iter().find(|word| rest.starts_with(word)) {
            text.push(b'"');
            text.extend_from_slice(word);
            text.push(b'"');
            at += word.len();
        } else {
            in_string = rest[0] == b'"';
            text.push(rest[0]);
            at += 1;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn words_that_are_no_numbers_become_strings() {
        let text = br#"{"a": NaN, "b": [Infinity, -Infinity], "c\"NaN": "NaN \" NaN", "d": 1}"#;
        let expected = json!({"a": "NaN", "b": ["Infinity", "-Infinity"], "c\"NaN": "NaN \" NaN", "d": 1});
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn what_is_no_json_stays_an_error() {
        for text in ["", "<html>", r#"{"a": NaN"#, r#"{"a": "\"#, "NaNNaN"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
