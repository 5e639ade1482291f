//! Wallets for which Plumber answers badly, so that the daemon's answer to it can be tested.

use std::{fmt, str::FromStr};

use ethers::types::Address;
use serde_json::{Map, Value, json};

use crate::features::NAMES;

/// The feature that is spoiled, where one is: every credit model looks at it.
pub const CORRUPTED_FEATURE: &str = "total_balance_eth";

/// What goes wrong with a wallet's features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Plumber does not know the wallet: 404.
    Unknown,
    /// 500.
    Error,
    /// A web page with status 200, as a proxy in trouble sends it.
    Html,
    /// JSON that ends in the middle.
    HalfJson,
    /// One feature is `NaN`, as Python's JSON writes it.
    Nan,
    /// One feature is a string.
    String,
    /// One feature is missing.
    Missing,
    /// There are features more than documented, some of which hold no number.
    Extra,
    /// Amounts and counts are far outside of what a model was calibrated on.
    OutOfRange,
}

const KINDS: [(&str, Fault); 9] = [
    ("unknown", Fault::Unknown),
    ("error", Fault::Error),
    ("html", Fault::Html),
    ("half-json", Fault::HalfJson),
    ("nan", Fault::Nan),
    ("string", Fault::String),
    ("missing", Fault::Missing),
    ("extra", Fault::Extra),
    ("out-of-range", Fault::OutOfRange),
];

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = KINDS.iter().find(|(name, _)| *name == text).map(|(_, fault)| *fault);
        found.ok_or_else(|| {
            let names: Vec<_> = KINDS.iter().map(|(name, _)| *name).collect();
            format!("`{text}` is no kind of fault: one of {}", names.join(", "))
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = KINDS.iter().find(|(_, fault)| fault == self).map_or("", |(name, _)| *name);
        out.write_str(name)
    }
}

impl Fault {
    /// Reads `WALLET=KIND`.
    pub fn parse_assignment(text: &str) -> Result<(Address, Self), String> {
        let (wallet, kind) = text.split_once('=').ok_or("expected WALLET=KIND")?;
        let wallet = wallet.parse().map_err(|error| format!("`{wallet}` is no wallet: {error}"))?;
        Ok((wallet, kind.parse()?))
    }

    /// Spoils a row of features. The faults of a whole answer leave it as it is.
    pub fn corrupt(self, row: &mut Map<String, Value>) {
        match self {
            // Replaced by the bare word when the answer is written: JSON has no such number.
            Self::Nan => drop(row.insert(CORRUPTED_FEATURE.to_owned(), json!(NAN))),
            Self::String => drop(row.insert(CORRUPTED_FEATURE.to_owned(), json!("a lot"))),
            Self::Missing => drop(row.shift_remove(CORRUPTED_FEATURE)),
            Self::Extra => row.extend([
                ("favourite_token_count".to_owned(), json!(3)),
                ("new_score".to_owned(), Value::Null),
                ("ens_name".to_owned(), json!("someone.eth")),
                ("chains".to_owned(), json!([1, 42161])),
            ]),
            Self::OutOfRange => exaggerate(row),
            Self::Unknown | Self::Error | Self::Html | Self::HalfJson => {}
        }
    }
}

/// Stands for NaN until the text is written.
const NAN: &str = "__NaN__";

/// The JSON text of an answer, in which NaN is written as Python does.
pub fn to_text(value: &Value) -> String {
    value.to_string().replace(&format!("\"{NAN}\""), "NaN")
}

/// Makes every number but the times (whose size is that of today) a thousand times as large.
fn exaggerate(row: &mut Map<String, Value>) {
    for name in NAMES.iter().filter(|name| !name.contains("timestamp")) {
        if let Some(value) = row.get(*name).and_then(Value::as_f64) {
            row.insert((*name).to_owned(), json!(value * 1000.0));
        }
    }
}
