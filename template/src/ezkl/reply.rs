//! What a worker answers: one line of JSON.

use serde::Deserialize;
use serde_json::Value;

/// The answer to one call.
#[derive(Debug, PartialEq)]
pub enum Reply {
    Value(Value),
    /// EZKL's own word.
    Refused(String),
    /// The machine's word.
    Hindered(String),
}

impl Reply {
    /// The answer to call `id`; `None` if the line is no such thing.
    pub fn read(line: &[u8], id: u64) -> Option<Self> {
        #[derive(Deserialize)]
        struct Line {
            id: u64,
            value: Option<Value>,
            error: Option<String>,
            /// True if the error is the machine's.
            #[serde(default)]
            passing: bool,
        }
        let line: Line = serde_json::from_slice(line).ok()?;
        (line.id == id).then(|| match line.error {
            Some(error) if line.passing => Self::Hindered(error),
            Some(error) => Self::Refused(error),
            None => Self::Value(line.value.unwrap_or(Value::Null)),
        })
    }
}
