//! One row of raw features: the frame that `pre_process` gets, and what of the row holds no number.
//!
//! Services add fields to their answers whenever they like. A feature that holds no number fails nothing by itself: it is
//! left out of the frame, and only a hook that uses it is told what it holds. A hook that names a column uses it. One that takes the
//! columns as they come may use it without naming it; what it makes of the row then depends on what the feature holds
//! ([`FeatureRow::apply`]).

use std::fmt;

use anyhow::anyhow;
use polars::prelude::{Column, DataFrame, PolarsError};

use super::WALLET;
use super::select::MissingFeatures;
use crate::fault::{Classify as _, Fault, Result};

/// What stands in for a feature without a number, to see whether it matters: far from what any holds, on both sides, so that sums, means,
/// the largest and the smallest of some columns all change.
const STAND_INS: [f64; 2] = [1e30, -1e30];
/// At most so many are named in one error.
const NAMED: usize = 8;

/// One row of raw features.
#[derive(Debug, Clone, Default)]
pub struct FeatureRow {
    frame: DataFrame,
    unusable: Vec<UnusableFeature>,
}

/// A feature without a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnusableFeature {
    /// Its place among all features.
    pub at: usize,
    pub name: String,
    /// What it holds instead, for a message: `null`, `"a lot"`, `empty`.
    pub holds: String,
}

impl fmt::Display for UnusableFeature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "feature {:?} is {}, expected a number", self.name, self.holds)
    }
}

/// `pre_process` needs a feature that is absent, or holds no number.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct IncompleteFeatures(String);

impl FeatureRow {
    pub(super) fn new(frame: DataFrame, unusable: Vec<UnusableFeature>) -> Self {
        Self { frame, unusable }
    }

    /// One row with a f64 column for each feature that holds a number, and `wallet_address` as a string.
    pub fn frame(&self) -> &DataFrame {
        &self.frame
    }

    /// What `hook` makes of the row, `content` of which must not depend on features that hold no number. A hook that takes the columns
    /// as they come does not miss one: it is run again with numbers in their places.
    ///
    /// # Errors
    /// The hook's own; an [`IncompleteFeatures`] where it uses such a feature.
    pub async fn apply<T, C: PartialEq, F: Future<Output = Result<T>>>(
        &self,
        hook: impl Fn(DataFrame) -> F,
        content: impl Fn(&T) -> C,
    ) -> Result<T> {
        let made = hook(self.frame.clone()).await.map_err(|fault| self.explain(fault))?;
        let stand_ins = if self.unusable.is_empty() { &[][..] } else { &STAND_INS };
        for number in stand_ins {
            match hook(self.with_stand_ins(*number).fail_row()?).await {
                Ok(other) if content(&other) == content(&made) => {}
                Ok(_) | Err(Fault::Row(_)) => {
                    let all: Vec<&UnusableFeature> = self.unusable.iter().collect();
                    let what = "pre_process takes the columns as they come, and some hold no number";
                    return Err(Fault::Row(anyhow!(IncompleteFeatures(format!("{what}: {}", listed(&all))))));
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(made)
    }

    /// The frame as it would be if each feature held a number. `wallet_address` is none of them.
    fn with_stand_ins(&self, number: f64) -> anyhow::Result<DataFrame> {
        let mut columns = self.frame.columns().to_vec();
        for feature in self.unusable.iter().filter(|feature| feature.name != WALLET) {
            columns.insert(feature.at.min(columns.len()), Column::new(feature.name.as_str().into(), [number]));
        }
        Ok(DataFrame::new(1, columns)?)
    }

    /// The failure of a hook on this row, or of the model on what the hook made of it. Where a feature is used that is not in the
    /// frame, the error is an [`IncompleteFeatures`] and says what the row holds instead.
    pub(super) fn explain(&self, fault: Fault) -> Fault {
        let Fault::Row(error) = fault else { return fault };
        let named: Vec<&UnusableFeature> =
            self.unusable.iter().filter(|feature| is_named(&error, &feature.name)).collect();
        if !named.is_empty() {
            return Fault::Row(error.context(IncompleteFeatures(listed(&named))));
        }
        if error.is::<MissingFeatures>() || error.downcast_ref().is_some_and(is_missing_column) {
            // An error that came as features says why they are missing.
            let texts: Vec<&UnusableFeature> = self
                .unusable
                .iter()
                .filter(|feature| feature.holds.starts_with('"') && feature.name != WALLET)
                .collect();
            let also = if texts.is_empty() { String::new() } else { format!("; besides, {}", listed(&texts)) };
            return Fault::Row(anyhow!(IncompleteFeatures(format!("{error:#}{also}"))));
        }
        Fault::Row(error)
    }
}

fn listed(features: &[&UnusableFeature]) -> String {
    let named: Vec<String> = features.iter().take(NAMED).map(ToString::to_string).collect();
    let more = features.len().saturating_sub(NAMED);
    named.join("; ") + &if more > 0 { format!("; and {more} more") } else { String::new() }
}

/// Whether a hook's error is about this feature: ours name it, and so do polars' own, in quotes.
fn is_named(error: &anyhow::Error, name: &str) -> bool {
    if let Some(missing) = error.downcast_ref::<MissingFeatures>() {
        return missing.names.iter().any(|missing| missing == name);
    }
    let text = format!("{error:#}");
    // A panic's message may quote an error that quotes the name.
    let (quoted, quoted_twice) = (format!("\"{name}\""), format!("\\\"{name}\\\""));
    text.contains(&quoted) || text.contains(&quoted_twice)
}

fn is_missing_column(error: &PolarsError) -> bool {
    match error {
        PolarsError::ColumnNotFound(_) => true,
        PolarsError::Context { error, .. } => is_missing_column(error),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;
    use polars::df;
    use polars::lazy::dsl::{max_horizontal, sum_horizontal};
    use polars::prelude::{IntoLazy as _, col};
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::features::{Selection, frame};

    fn features(value: Value) -> FeatureRow {
        let Value::Object(object) = value else { panic!("{value} is no object") };
        frame(&object)
    }

    /// What the hook's failure becomes, and whether it is one of features that are not there.
    fn explained(features: &FeatureRow, hook: impl Fn(&DataFrame) -> anyhow::Result<DataFrame>) -> (String, bool) {
        let error = hook(features.frame()).context("pre_process").unwrap_err();
        let fault = features.explain(Fault::Row(error));
        (fault.to_string(), fault.error().is::<IncompleteFeatures>())
    }

    /// Case 03 of the public reports: one new field of a service, whatever it holds.
    #[test]
    fn regression_a_feature_that_nothing_uses_fails_no_request() {
        let used = Selection::new("cols.json", vec!["a".to_owned(), "b".to_owned()]);
        for extra in [
            json!(null),
            json!("someone.eth"),
            json!([1, 42161]),
            json!({"low": 1}),
            json!("NaN"),
            json!("2024-05-01T00:00:00Z"),
            json!("x".repeat(100_000)),
        ] {
            let mut object = Map::from_iter([("a".to_owned(), json!(1)), ("b".to_owned(), json!(2))]);
            object.insert("new_score".to_owned(), extra.clone());
            let found = used.select(frame(&object).frame()).unwrap();
            assert_eq!(found.height(), 1, "{extra}");
        }
        let wallet = features(json!({"wallet_address": null, "a": 1, "b": 2}));
        assert_eq!(used.select(wallet.frame()).unwrap().width(), 2);
    }

    #[test]
    fn a_feature_that_is_used_is_named_with_what_it_holds() {
        let of_file = Selection::new("cols.json", vec!["a".to_owned(), "risk".to_owned()]);
        let by_file = |frame: &DataFrame| of_file.select(frame);
        let by_column = |frame: &DataFrame| Ok(frame.select(["risk"])?);
        let by_expression = |frame: &DataFrame| Ok(frame.clone().lazy().select([col("risk") + col("a")]).collect()?);
        type Hook<'a> = &'a dyn Fn(&DataFrame) -> anyhow::Result<DataFrame>;
        let hooks: [Hook; 3] = [&by_file, &by_column, &by_expression];
        for hook in hooks {
            let row = features(json!({"a": 1, "risk": "a lot", "else": null}));
            let (text, incomplete) = explained(&row, hook);
            assert!(text.starts_with(r#"feature "risk" is "a lot", expected a number: "#), "{text}");
            assert!(incomplete && !text.contains("else"), "{text}");
            // One that is not there at all.
            let (text, incomplete) = explained(&features(json!({"a": 1, "else": null})), hook);
            assert!(incomplete && text.contains("risk") && !text.contains("else"), "{text}");
        }
    }

    /// A feature that is lost may not shift another into its place, nor vanish from a sum.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn regression_a_hook_that_names_no_column_notices_what_is_lost() {
        type Hook = fn(DataFrame) -> anyhow::Result<DataFrame>;
        let all: Hook = |frame| Ok(frame.drop("wallet_address")?);
        let sum: Hook = |frame| Ok(frame.lazy().select([sum_horizontal([col("^tx_.*$")], true)?]).collect()?);
        let largest: Hook = |frame| Ok(frame.lazy().select([max_horizontal([col("^tx_.*$")])?]).collect()?);
        let named: Hook = |frame| Ok(frame.select(["tx_in"])?);
        let whole = json!({"wallet_address": "0xab", "tx_in": 3, "tx_out": 4, "age": 5});
        // One is lost, and another is new: the width is the same.
        let lost = json!({"wallet_address": "0xab", "tx_in": 3, "tx_out": null, "age": 5, "new": 6});
        for (hook, is_used) in [(all, true), (sum, true), (largest, true), (named, false)] {
            let run = |frame: DataFrame| async move { hook(frame).fail_row() };
            let values = |frame: &DataFrame| {
                frame.columns().iter().map(|column| column.f64().unwrap().get(0)).collect::<Vec<_>>()
            };
            assert!(features(whole.clone()).apply(run, values).await.is_ok());
            match features(lost.clone()).apply(run, values).await {
                Ok(_) => assert!(!is_used),
                Err(fault) => {
                    assert!(is_used && fault.error().is::<IncompleteFeatures>(), "{fault}");
                    assert!(fault.to_string().contains(r#"feature "tx_out" is null, expected a number"#), "{fault}");
                }
            }
        }
    }

    #[test]
    fn what_stands_in_has_its_features_place() {
        let row = features(json!({"a": 1, "b": null, "wallet_address": "0xab", "c": [2], "d": 4}));
        let expected =
            df!("a" => [1.0], "b" => [9.0], "wallet_address" => ["0xab"], "c" => [9.0], "d" => [4.0]).unwrap();
        assert!(row.with_stand_ins(9.0).unwrap().equals(&expected));
        assert_eq!(features(json!({"wallet_address": null, "a": 1})).with_stand_ins(9.0).unwrap().width(), 1);
    }

    /// Case 10: the answer has a number in it, and says why it has no features.
    #[test]
    fn an_error_in_place_of_features_is_quoted() {
        let row = features(json!({"detail": "features are being computed", "code": 17}));
        let (text, incomplete) =
            explained(&row, |frame| Selection::new("cols.json", vec!["a".to_owned()]).select(frame));
        assert!(incomplete && text.contains(r#""detail" is "features are being computed""#), "{text}");
    }

    #[test]
    fn another_error_of_a_hook_stays_what_it_is() {
        let row = features(json!({"a": 1, "else": null}));
        let (text, incomplete) = explained(&row, |_| anyhow::bail!("a is below 2"));
        assert_eq!((text.as_str(), incomplete), ("pre_process: a is below 2", false));
    }
}
