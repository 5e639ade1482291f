//! Files and frames that cannot be used. What is made of those that can: `tests/preprocessing/`, beside scikit-learn.

use polars::df;
use polars::prelude::DataFrame;
use serde_json::{Value, json};

use super::{Preprocessor, gap};

/// A file with these steps for columns `a` and `b`.
fn file(steps: Value) -> String {
    json!({"format": "nova-preprocessing", "version": 1, "columns": ["a", "b"], "steps": steps}).to_string()
}

fn step(class: &str, parameters: Value) -> Value {
    let mut step = json!({"class": class, "name": "s"});
    step.as_object_mut().unwrap().extend(parameters.as_object().unwrap().clone());
    step
}

fn one(class: &str, parameters: Value) -> String {
    file(json!([step(class, parameters)]))
}

fn refused(text: &str) -> String {
    format!("{:#}", Preprocessor::from_json("p.json", text).unwrap_err())
}

fn refused_frame(text: &str, frame: &DataFrame) -> String {
    format!("{:#}", Preprocessor::from_json("p.json", text).unwrap().transform(frame).unwrap_err())
}

fn check(refusals: &[(String, &str)]) {
    for (text, says) in refusals {
        let told = refused(text);
        assert!(told.contains(says), "{told}\ndoes not say {says:?} of\n{text}");
    }
}

#[test]
fn what_is_no_export_is_told_from_one() {
    let head = |format: Value, version: Value, columns: Value| {
        json!({"format": format, "version": version, "columns": columns, "steps": []}).to_string()
    };
    check(&[
        (String::new(), "expected what tools/export_preprocessing.py writes"),
        ("{".into(), "expected what tools/export_preprocessing.py writes"),
        (r#"{"columns": ["a"], "mean": [1], "scale": [1]}"#.into(), "unknown field `mean`"),
        (head(json!("other"), json!(1), json!(["a"])), r#"the format is "other""#),
        (head(json!("nova-preprocessing"), json!(2), json!(["a"])), "version is 2, and this daemon reads version 1"),
        (head(json!("nova-preprocessing"), json!(1), json!([])), "it names no columns"),
        (head(json!("nova-preprocessing"), json!(1), json!(["a", "a"])), r#"column "a" is there twice"#),
        (file(json!([{"class": "StandardScaler"}])), "missing field `name`"),
        (one("Deep", json!({"x": "deep"})).replace("\"deep\"", &"[".repeat(1000)), "recursion limit exceeded"),
    ]);
}

#[test]
fn an_unknown_step_or_parameter_is_named() {
    check(&[
        (one("Binarizer", json!({})), r#"step "s" (Binarizer): this daemon does not know the class"#),
        (one("StandardScaler", json!({"means": [1, 2]})), r#"step "s" (StandardScaler): unknown field `means`"#),
        (one("MinMaxScaler", json!({"scale": [1, 2]})), "missing field `min`"),
        (one("PowerTransformer", json!({"method": "tukey", "lambdas": [1, 2]})), "unknown variant `tukey`"),
        (one("FunctionTransformer", json!({"function": "cos", "validate": false})), "unknown variant `cos`"),
        (one("StandardScaler", json!({"mean": [1, "2"]})), "invalid type: string"),
        (file(json!([{"class": "StandardScaler", "name": "s", "mean": [1, 2]}])).replace('2', "1e999"), "out of range"),
    ]);
}

#[test]
fn lengths_that_do_not_fit_are_named() {
    let encoder = |categories: Value, places: Value| {
        let column = json!({"categories": categories, "places": places, "unknown": null});
        let columns = [column.clone(), column];
        one("OneHotEncoder", json!({"columns": columns, "handle_unknown": "error", "output": ["x", "y"]}))
    };
    let quantiles = |quantiles: Value| {
        one(
            "QuantileTransformer",
            json!({"quantiles": quantiles, "references": [0, 1], "output_distribution": "uniform"}),
        )
    };
    let ordinal = json!({"categories": ["x", "y"], "codes": [0]});
    check(&[
        (one("StandardScaler", json!({"mean": [1, 2, 3]})), r#""mean" has 3 entries, and there are 2 columns"#),
        (one("RobustScaler", json!({"center": [1]})), r#""center" has 1 entries"#),
        (one("MaxAbsScaler", json!({"scale": [1, 0], "clip": false})), r#"column "b": the scale is 0"#),
        (one("MinMaxScaler", json!({"scale": [1, 1], "min": [0, 0], "clip": [1, 0]})), r#""clip" is from 1 to 0"#),
        (one("PowerTransformer", json!({"method": "box-cox", "lambdas": []})), r#""lambdas" has 0 entries"#),
        (quantiles(json!([[0, 1]])), r#""quantiles" has 1 entries"#),
        (quantiles(json!([[0, 1], [0]])), r#"column "b": there are 1 quantiles for 2 references"#),
        (quantiles(json!([[0, 1], [1, 0]])), r#"column "b": "quantiles": entry 1 is smaller than the one before it"#),
        (one("KBinsDiscretizer", json!({"edges": [[], [2, 1]], "encode": "ordinal"})), r#"column "b": "edges""#),
        (
            one("KBinsDiscretizer", json!({"edges": [[], [2]], "encode": "onehot"})),
            r#""output" has 2 names, and the step makes 3"#,
        ),
        (
            one("SimpleImputer", json!({"missing": null, "fill": [1, 2], "indicator": [2], "output": ["a", "b", "c"]})),
            r#""indicator" names column 2, and there are 2"#,
        ),
        (encoder(json!(["x"]), json!([1_000_000_000_000_000_u64])), r#"column "a": a place is 1000000000000000"#),
        (encoder(json!(["x"]), json!([0, 1])), "a place is 1, beyond the categories"),
        (encoder(json!(["x", "y"]), json!([0])), r#""places" has 1 entries for 2 categories"#),
        (encoder(json!(["x", "x"]), json!([0, 0])), r#"category "x" is there twice"#),
        (encoder(json!(["x", 1]), json!([0, 0])), "categories are numbers or strings, not both"),
        (encoder(json!([]), json!([])), "it has no categories"),
        (
            one("OrdinalEncoder", json!({"columns": [ordinal, ordinal], "handle_unknown": "error"})),
            r#""codes" has 1 entries"#,
        ),
        (
            one("ColumnTransformer", json!({"branches": [{"columns": ["a", "c"], "steps": []}], "output": ["a", "c"]})),
            r#"there is no column "c""#,
        ),
        (
            one("ColumnTransformer", json!({"branches": [{"columns": ["a"], "steps": []}], "output": ["a", "b"]})),
            r#""output" has 2 names, and the step makes 1"#,
        ),
    ]);
}

#[test]
fn a_step_is_checked_against_what_the_one_before_makes() {
    let bins = json!({"edges": [[1], []], "encode": "onehot", "output": ["a0", "a1", "b0"]});
    let steps = json!([step("KBinsDiscretizer", bins), step("StandardScaler", json!({"mean": [0, 0]}))]);
    assert!(refused(&file(steps)).contains(r#""mean" has 2 entries, and there are 3 columns"#));
}

#[test]
fn frames_that_do_not_fit_are_refused_by_file_step_and_column() {
    let text = one("StandardScaler", json!({"mean": [1, 2], "scale": [1, 2]}));
    let refused = |frame| refused_frame(&text, &frame);
    assert_eq!(refused(df!("b" => [1.0]).unwrap()), r#"features are missing that p.json names: ["a"]"#);
    let told = refused(df!("a" => ["1"], "b" => [1.0]).unwrap());
    assert_eq!(told, r#"p.json: step "s" (StandardScaler): column "a" holds str, expected numbers"#);
    let told = refused(df!("a" => [1.0, f64::NEG_INFINITY], "b" => [1.0, 1.0]).unwrap());
    assert_eq!(told, r#"p.json: step "s" (StandardScaler): column "a" has an infinite number in row 1"#);

    let bins = one("KBinsDiscretizer", json!({"edges": [[1], [1]], "encode": "ordinal"}));
    let told = refused_frame(&bins, &df!("a" => [1.0], "b" => [f64::NAN]).unwrap());
    assert_eq!(told, r#"p.json: step "s" (KBinsDiscretizer): column "b" has no number in row 0"#);

    let column = json!({"categories": ["x", null], "codes": [0, null]});
    let words = one("OrdinalEncoder", json!({"columns": [column, column], "handle_unknown": "error"}));
    let told = refused_frame(&words, &df!("a" => ["x"], "b" => [1.0]).unwrap());
    assert!(told.contains(r#"column "b" holds f64, and training had strings there"#), "{told}");
    let told = refused_frame(&words, &df!("a" => ["x"], "b" => ["y"]).unwrap());
    assert!(told.contains(r#"column "b" has "y" in row 0, which training did not have there"#), "{told}");
}

#[test]
fn columns_are_taken_by_name_in_f64_and_others_are_left_out() {
    let preprocessor =
        Preprocessor::from_json("p.json", &one("StandardScaler", json!({"mean": [1_700_000_000, 1]}))).unwrap();
    // 1700000000.25 does not survive f32.
    let frame = df!("b" => [3i64, 1], "wallet_address" => ["0x", "0x"], "a" => [1_700_000_000.25, 0.0]).unwrap();
    let made = preprocessor.transform(&frame).unwrap();
    assert!(made.equals(&df!("a" => [0.25, -1_700_000_000.0], "b" => [2.0, 0.0]).unwrap()), "{made}");
    assert_eq!(preprocessor.transform(&frame.head(Some(0))).unwrap().shape(), (0, 2));
}

#[test]
fn numbers_in_a_file_are_read_to_the_last_bit() {
    // An edge and a number that are the same in Python must be the same here.
    let edge = 0.3_f64.next_up();
    let bins = one("KBinsDiscretizer", json!({"edges": [[edge], []], "encode": "ordinal"}));
    let preprocessor = Preprocessor::from_json("p.json", &bins).unwrap();
    let made = preprocessor.transform(&df!("a" => [edge, edge.next_down()], "b" => [0.0, 0.0]).unwrap()).unwrap();
    assert_eq!(made.column("a").unwrap().f64().unwrap().to_vec(), [Some(1.0), Some(0.0)]);
}

/// What is remembered of the gaps in what this file makes of a frame of one row.
fn gaps(text: &str, frame: &DataFrame) -> Vec<(String, String)> {
    gap::take();
    Preprocessor::from_json("p.json", text).unwrap().transform(frame).unwrap();
    gap::take()
}

#[test]
fn a_gap_is_told_with_where_it_came_from() {
    let frame = df!("a" => [-2.0], "b" => [None::<f64>]).unwrap();
    let log = step("FunctionTransformer", json!({"function": "log1p", "validate": false}));
    let scale = step("StandardScaler", json!({"mean": [0, 0]}));
    let told = [
        ("a", r#"p.json: step "s" (FunctionTransformer) made it of finite numbers"#),
        ("b", r#"p.json: feature "b" is missing, and no step fills the gap"#),
    ];
    let of_columns = |columns: [&str; 2]| {
        columns
            .into_iter()
            .zip(told)
            .map(|(column, (_, told))| (column.to_owned(), told.to_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(gaps(&file(json!([log, scale])), &frame), of_columns(["a", "b"]));
    // The step is inside of another, which gives the columns other names.
    let branches = json!([{"columns": ["b"], "steps": []}, {"columns": ["a"], "steps": [log]}]);
    let split = step("ColumnTransformer", json!({"branches": branches, "output": ["kept__b", "log__a"]}));
    let mut expected = of_columns(["log__a", "kept__b"]);
    expected.reverse();
    assert_eq!(gaps(&file(json!([split, scale])), &frame), expected);
    assert_eq!(gaps(&file(json!([scale])), &df!("a" => [1.0], "b" => [2.0]).unwrap()), []);
}

/// A column of one row without a value has the type of numbers, whatever training had there.
#[test]
fn a_gap_among_strings_is_imputed_and_encoded() {
    let imputer = json!({"missing": null, "fill": ["?", "none"], "indicator": [0], "output": ["a", "b", "i"]});
    let encoding = |categories: Value| json!({"categories": categories, "codes": [0, 1]});
    let text = file(json!([step("SimpleImputer", imputer)]));
    let made = Preprocessor::from_json("p.json", &text).unwrap();
    let made = made.transform(&df!("a" => [None::<f64>], "b" => ["x"]).unwrap()).unwrap();
    assert!(made.equals(&df!("a" => ["?"], "b" => ["x"], "i" => [1.0]).unwrap()), "{made}");
    let columns = json!([encoding(json!(["x", null])), encoding(json!(["x", "y"]))]);
    let encoder = one("OrdinalEncoder", json!({"columns": columns, "handle_unknown": "error"}));
    let made = Preprocessor::from_json("p.json", &encoder).unwrap();
    let made = made.transform(&df!("a" => [f64::NAN], "b" => ["y"]).unwrap()).unwrap();
    assert!(made.equals(&df!("a" => [1.0], "b" => [1.0]).unwrap()), "{made}");
}

/// Case 01 of the public reports: 0.1 of a request is the category that float32 made of 0.1.
#[test]
fn regression_a_step_of_float32_compares_in_float32() {
    let single = f64::from(0.1_f32);
    let one_hot = |more: Value| {
        let mut column = json!({"categories": [single], "places": [0], "unknown": null});
        column.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        one("OneHotEncoder", json!({"columns": [column, column], "handle_unknown": "ignore", "output": ["a", "b"]}))
    };
    let bins = |more: Value| {
        let mut step = step("KBinsDiscretizer", json!({"edges": [[single], [1]], "encode": "ordinal"}));
        step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        file(json!([step]))
    };
    let frame = df!("a" => [0.1], "b" => [0.1]).unwrap();
    let first = |text: &str| {
        let made = Preprocessor::from_json("p.json", text).unwrap().transform(&frame).unwrap();
        made.column("a").unwrap().f64().unwrap().get(0).unwrap()
    };
    let dtype = json!({"dtype": "float32"});
    assert_eq!([first(&one_hot(dtype.clone())), first(&bins(dtype))], [1.0, 1.0]);
    // Files of before stay what they are.
    assert_eq!([first(&one_hot(json!({}))), first(&bins(json!({})))], [0.0, 0.0]);
    assert!(refused(&bins(json!({"dtype": "float16"}))).contains("unknown variant `float16`"));
}
