//! What others say may hold what we told them: a key in a header, or one that is a part of a URL. It is taken out before anything is
//! quoted.

use reqwest::Url;
use serde_json::Value;

/// What stands in a secret's place.
const INSTEAD: &str = "[key]";

/// Shorter parts of a URL are names, and keys are longer: `v2`, `rpc`, `mainnet`.
const SHORTEST_KEY: usize = 8;

/// The secrets that one other side knows. It shows none of them.
#[derive(Clone, Default)]
pub struct Scrubber(Vec<String>);

impl Scrubber {
    /// Of one key.
    pub fn of_key(key: &str) -> Self {
        Self::of(vec![key.to_owned()])
    }

    /// Of all in a URL that may be a key: the parts of its path and query, user and password.
    pub fn of_url(url: &Url) -> Self {
        let path = url.path_segments().into_iter().flatten().map(str::to_owned);
        let query = url.query_pairs().map(|(_, value)| value.into_owned());
        let as_written = url.query().into_iter().flat_map(|query| query.split('&'));
        let as_written = as_written.map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value).to_owned());
        let user = [url.username(), url.password().unwrap_or_default()].map(str::to_owned);
        let parts = path.chain(query).chain(as_written).filter(|part| part.len() >= SHORTEST_KEY);
        Self::of(parts.chain(user).collect())
    }

    fn of(mut secrets: Vec<String>) -> Self {
        secrets.retain(|secret| !secret.is_empty());
        secrets.sort_unstable();
        secrets.dedup();
        // One may be a part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self(secrets)
    }

    /// The text without secrets.
    pub fn text(&self, text: String) -> String {
        self.0
            .iter()
            .fold(text, |text, secret| if text.contains(secret) { text.replace(secret, INSTEAD) } else { text })
    }

    /// The same of bytes that are text, if they hold a secret; other bytes stay as they are.
    pub fn bytes(&self, bytes: Vec<u8>) -> Vec<u8> {
        let holds = |secret: &String| memchr::memmem::find(&bytes, secret.as_bytes()).is_some();
        if self.0.iter().any(holds) {
            self.text(String::from_utf8_lossy(&bytes).into_owned()).into_bytes()
        } else {
            bytes
        }
    }

    /// The same of every text in a JSON value.
    pub fn json(&self, value: &mut Value) {
        match value {
            // What a contract says holds no key.
            Value::String(text) if is_hex(text) => {}
            Value::String(text) => *text = self.text(std::mem::take(text)),
            Value::Array(values) => values.iter_mut().for_each(|value| self.json(value)),
            Value::Object(members) => members.values_mut().for_each(|value| self.json(value)),
            _ => {}
        }
    }
}

fn is_hex(text: &str) -> bool {
    text.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

impl std::fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scrubber")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_part_of_a_url_that_may_be_a_key_is_taken_out() {
        let url = "https://operator:pass@arb.example/v2/0123456789abcdef/mainnet?apikey=query%2Bkey-1&x=short";
        let scrubber = Scrubber::of_url(&url.parse().unwrap());
        for (said, left) in [
            ("project 0123456789abcdef is disabled", "project [key] is disabled"),
            ("no such path: /v2/0123456789abcdef/mainnet", "no such path: /v2/[key]/mainnet"),
            ("query+key-1, that is query%2Bkey-1, is unknown", "[key], that is [key], is unknown"),
            ("operator:pass@arb.example", "[key]:[key]@arb.example"),
            ("the method v2 is short", "the method v2 is short"),
        ] {
            assert_eq!(scrubber.text(said.to_owned()), left);
        }
        let mut data = json!({ "path": ["/v2/0123456789abcdef"], "code": 7 });
        scrubber.json(&mut data);
        assert_eq!(data, json!({ "path": ["/v2/[key]"], "code": 7 }));
        assert!(!format!("{scrubber:?}").contains("0123"));
    }

    #[test]
    fn a_key_that_is_a_part_of_another_leaves_no_rest() {
        let scrubber = Scrubber::of(vec!["secret".to_owned(), "secret-and-more".to_owned(), String::new()]);
        assert_eq!(scrubber.text("secret-and-more, secret".to_owned()), "[key], [key]");
        assert_eq!(scrubber.bytes(b"\xff no key".to_vec()), b"\xff no key");
        assert_eq!(scrubber.bytes(b"a secret".to_vec()), b"a [key]");
    }
}
