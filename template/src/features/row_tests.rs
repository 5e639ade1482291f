use anyhow::Context as _;
use polars::df;
use polars::lazy::dsl::{max_horizontal, sum_horizontal};
use polars::prelude::{IntoLazy as _, col, lit};
use serde_json::{Map, Value, json};

use super::*;
use crate::fault::Classify as _;
use crate::features::schema::{FeatureSchema, Gaps};
use crate::features::{Selection, frame};

type Hook<'a> = &'a dyn Fn(DataFrame) -> anyhow::Result<DataFrame>;

fn features(value: Value) -> FeatureRow {
    let Value::Object(object) = value else { panic!("{value} is no object") };
    frame(&object)
}

/// A sample of which no row has a gap, and no feature is a string.
fn whole() -> Expectation {
    Expectation::AsIn(FeatureSchema::default())
}

/// A sample with these columns, of which these are missing now and then, at most so many at once.
fn with_gaps(columns: &[&str], gaps: &[&str], most_at_once: usize) -> Expectation {
    let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let gaps = Gaps { columns: owned(gaps).into_iter().collect(), most_at_once };
    Expectation::AsIn(FeatureSchema { columns: owned(columns), gaps, ..FeatureSchema::default() })
}

fn values(frame: &DataFrame) -> Vec<Option<f64>> {
    frame.columns().iter().map(|column| column.f64().ok().and_then(|numbers| numbers.get(0))).collect()
}

async fn applied(row: &FeatureRow, expectation: &Expectation, hook: Hook<'_>) -> Result<DataFrame> {
    row.apply(expectation, |frame| async { hook(frame).context("pre_process").permanent() }, values).await
}

/// What the failure says, which is one of features that are not there.
async fn incomplete(row: &FeatureRow, expectation: &Expectation, hook: Hook<'_>) -> String {
    let fault = applied(row, expectation, hook).await.unwrap_err();
    assert!(fault.error().is::<IncompleteFeatures>(), "{fault}");
    fault.to_string()
}

/// Case 03 of the public reports: one new field of a service, whatever it holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_feature_that_nothing_uses_fails_no_request() {
    let used = Selection::new("cols.json", vec!["a".to_owned(), "b".to_owned()]);
    let hook = |frame: DataFrame| used.select(&frame);
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
        for expectation in [whole(), Expectation::Anything] {
            let found = applied(&frame(&object), &expectation, &hook).await.unwrap();
            assert!(found.equals(&df!("a" => [1.0], "b" => [2.0]).unwrap()), "{extra}");
        }
    }
    let wallet = features(json!({"wallet_address": null, "a": 1, "b": 2}));
    assert_eq!(applied(&wallet, &whole(), &hook).await.unwrap().width(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feature_that_is_used_is_named_with_what_it_holds() {
    let of_file = Selection::new("cols.json", vec!["a".to_owned(), "risk".to_owned()]);
    let by_file = |frame: DataFrame| of_file.select(&frame);
    let by_column = |frame: DataFrame| Ok(frame.select(["risk"])?);
    let by_expression = |frame: DataFrame| Ok(frame.lazy().select([col("risk") + col("a")]).collect()?);
    let hooks: [Hook; 3] = [&by_file, &by_column, &by_expression];
    for hook in hooks {
        for (value, holds) in [(json!("a lot"), "\"a lot\""), (json!(null), "null"), (json!([2]), "a list")] {
            let text = incomplete(&features(json!({"a": 1, "risk": value, "else": null})), &whole(), hook).await;
            assert!(text.starts_with(&format!(r#"feature "risk" is {holds}, expected a number: "#)), "{text}");
            assert!(!text.contains("else"), "{text}");
        }
        // One that is not there at all.
        let text = incomplete(&features(json!({"a": 1, "else": null})), &whole(), hook).await;
        assert!(text.contains("risk") && !text.contains("else"), "{text}");
    }
    // While a hook is developed, its own failure tells.
    let numbers = |frame: DataFrame| {
        crate::features::numbers(frame.column("risk")?)?;
        Ok(frame)
    };
    let text = incomplete(&features(json!({"risk": "a lot"})), &Expectation::Anything, &numbers).await;
    assert!(text.starts_with(r#"feature "risk" is "a lot", expected a number: "#), "{text}");
    assert!(text.ends_with(r#"column "risk" holds str, expected numbers"#), "{text}");
}

/// A feature that is lost may not shift another into its place, nor vanish from a sum.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_hook_that_names_no_column_notices_what_is_lost() {
    let all = |frame: DataFrame| Ok(frame.drop("wallet_address")?);
    let sum = |frame: DataFrame| Ok(frame.lazy().select([sum_horizontal([col("^tx_.*$")], true)?]).collect()?);
    let largest = |frame: DataFrame| Ok(frame.lazy().select([max_horizontal([col("^tx_.*$")])?]).collect()?);
    let named = |frame: DataFrame| Ok(frame.select(["tx_in"])?);
    let complete = json!({"wallet_address": "0xab", "tx_in": 3, "tx_out": 4, "age": 5});
    let hooks: [(Hook, bool); 4] = [(&all, true), (&sum, true), (&largest, true), (&named, false)];
    for (hook, is_used) in hooks {
        assert!(applied(&features(complete.clone()), &whole(), hook).await.is_ok());
        for value in [json!(null), json!("4")] {
            // One is lost, and another is new: the width is the same.
            let lost = features(json!({"wallet_address": "0xab", "tx_in": 3, "tx_out": value, "age": 5, "new": 6}));
            if is_used {
                let text = incomplete(&lost, &whole(), hook).await;
                assert!(text.contains(&format!(r#"feature "tx_out" is {value}, expected a number"#)), "{text}");
            } else {
                assert!(applied(&lost, &whole(), hook).await.is_ok());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_as_in_the_sample_reaches_the_hook_from_each_form() {
    let fill = |frame: DataFrame| Ok(frame.lazy().select([col("a"), col("b").fill_null(lit(9.0))]).collect()?);
    let expectation = with_gaps(&["a", "b"], &["b"], 1);
    for row in [json!({"a": 1, "b": null}), json!({"a": 1, "b": "NaN"}), json!({"a": 1})] {
        let found = applied(&features(row.clone()), &expectation, &fill).await.unwrap();
        assert!(found.equals(&df!("a" => [1.0], "b" => [9.0]).unwrap()), "{row}: {found}");
    }
    // In a column that the sample has whole.
    let text = incomplete(&features(json!({"a": null, "b": 2})), &expectation, &fill).await;
    assert!(text.contains(r#"feature "a" is null, expected a number"#), "{text}");
}

/// One incident at a service that answers nulls for everybody is not imputed and answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_gaps_at_once_than_in_the_sample_are_refused() {
    let fill = |frame: DataFrame| Ok(frame.lazy().select([col("^(a|b|c)$").fill_null(lit(9.0))]).collect()?);
    let expectation = with_gaps(&["a", "b", "c"], &["a", "b", "c"], 1);
    assert!(applied(&features(json!({"a": 1, "b": null, "c": 2})), &expectation, &fill).await.is_ok());
    for row in [json!({"a": null, "b": null, "c": 2}), json!({"c": 2})] {
        let text = incomplete(&features(row), &expectation, &fill).await;
        let says = "2 features are missing at once, and no row of setup's sample lacks more than 1";
        assert!(
            text.contains("feature \"a\" is") && text.contains("feature \"b\" is") && text.contains(says),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_is_used_where_other_numbers_give_another_input() {
    let fill = |frame: DataFrame| -> anyhow::Result<DataFrame> {
        Ok(frame.lazy().select([col("a").fill_null(lit(9.0)), col("b")]).collect()?)
    };
    let row = features(json!({"wallet_address": null, "a": null, "b": 1, "c": null, "d": null}));
    let made = fill(row.frame().clone()).unwrap();
    for known in [BTreeSet::new(), BTreeSet::from(["a".to_owned()])] {
        let hook = |frame| async { fill(frame).permanent() };
        let used = row.used_gaps(&known, hook, values, &made).await.unwrap();
        assert_eq!(used, BTreeSet::from(["a".to_owned()]));
    }
}

#[test]
fn what_stands_in_has_its_features_place() {
    let row = features(json!({"a": 1, "b": null, "wallet_address": "0xab", "c": [2], "d": 4}));
    let given = Given::new(row.cells, &whole());
    let refused: BTreeSet<usize> = given.refused().collect();
    let expected = df!("a" => [1.0], "b" => [9.0], "wallet_address" => ["0xab"], "c" => [9.0], "d" => [4.0]).unwrap();
    assert!(given.frame(Some((&refused, 9.0))).equals(&expected));
    let wallet = Given::new(features(json!({"wallet_address": null, "a": 1})).cells, &whole());
    assert_eq!(wallet.refused().count(), 0);
}

/// Case 10: the answer has a number in it, and says why it has no features.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_in_place_of_features_is_quoted() {
    let row = features(json!({"detail": "features are being computed", "code": 17}));
    let used = Selection::new("cols.json", vec!["a".to_owned()]);
    let text = incomplete(&row, &whole(), &|frame| used.select(&frame)).await;
    assert!(text.contains(r#""detail" is "features are being computed""#), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_error_of_a_hook_stays_what_it_is() {
    let row = features(json!({"a": 1, "else": null}));
    let fault = applied(&row, &whole(), &|_| anyhow::bail!("a is below 2")).await.unwrap_err();
    assert_eq!(fault.to_string(), "pre_process: a is below 2");
    assert!(!fault.error().is::<IncompleteFeatures>());
}
