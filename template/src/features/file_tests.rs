use polars::df;
use polars::prelude::{DataFrame, ParquetWriter};

use super::*;
use crate::fault::Fault;
use crate::features::{Expectation, FeatureRow, FeatureSchema, Selection};

fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn loaded(name: &str, bytes: &[u8]) -> FeatureTable {
    load(&file(name, bytes).1).unwrap()
}

/// A file that tests/common/scripts/types_parquet.py or polars has made.
fn kept(name: &str) -> FeatureTable {
    load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/files").join(name)).unwrap()
}

/// What is said of a feature of a row that must be a number.
async fn refusal(row: FeatureRow, feature: &str) -> String {
    let used = Selection::new("cols.json", vec![feature.to_owned()]);
    let hook = |frame: DataFrame| {
        let numbers = used.select(&frame).and_then(|frame| crate::features::numbers(&frame.columns()[0]));
        async { numbers.permanent() }
    };
    let expectation = Expectation::AsIn(FeatureSchema::default());
    row.apply(&expectation, hook, |numbers| numbers.to_vec()).await.unwrap_err().to_string()
}

fn refused(name: &str, bytes: &[u8]) -> String {
    let (_folder, path) = file(name, bytes);
    match load(&path) {
        Err(Fault::Permanent(error)) => {
            let text = format!("{error:#}");
            assert!(text.contains(name), "{text}");
            text
        }
        other => panic!("{other:?}"),
    }
}

fn parquet(mut frame: DataFrame) -> Vec<u8> {
    let mut bytes = Vec::new();
    ParquetWriter::new(&mut bytes).finish(&mut frame).unwrap();
    bytes
}

fn assert_rows(table: &FeatureTable, expected: &DataFrame) {
    assert_eq!(table.height(), expected.height());
    for at in 0..expected.height() {
        let row = table.row(at).unwrap();
        assert!(row.frame().equals_missing(&expected.slice(at as i64, 1)), "row {at}: {row:?}");
        let dtypes: Vec<_> = row.frame().dtypes();
        assert!(dtypes.iter().all(|dtype| dtype.is_float() || dtype.is_string()), "{dtypes:?}");
    }
}

#[test]
fn all_forms_give_the_same_frame() {
    let expected = df!("wallet_address" => ["0x1", "0x2"], "a" => [1.0, 2.5], "b" => [3.0, 4.0]).unwrap();
    let whole = df!("wallet_address" => ["0x1", "0x2"], "a" => [1.0, 2.5], "b" => [3i64, 4]).unwrap();
    let json = r#"[{"wallet_address": "0x1", "a": 1, "b": 3}, {"wallet_address": "0x2", "a": 2.5, "b": 4}]"#;
    let lines = json.trim_matches(['[', ']']).replace("}, {", "}\n{");
    for table in [
        loaded("f.parquet", &parquet(whole)),
        loaded("f.csv", b"wallet_address,a,b\n0x1,1,3\n0x2,2.5,4\n"),
        loaded("f.json", json.as_bytes()),
        loaded("f.jsonl", lines.as_bytes()),
    ] {
        assert_rows(&table, &expected);
    }
    assert_eq!(loaded("one.json", br#"{"a": 1}"#).height(), 1);
}

/// null, NaN, an empty cell, what pandas writes for missing, a field that is not there: each is null in a f64 column.
#[test]
fn all_forms_give_the_same_gaps_strings_and_truths() {
    let rows = |at: usize| {
        match at {
        0 => df!("a" => [1.0], "tier" => ["gold"], "code" => ["1"], "flag" => [1.0], "none" => [None::<f64>]).unwrap(),
        1 => df!("a" => [None::<f64>], "tier" => [None::<f64>], "code" => ["x"], "flag" => [0.0], "none" => [None::<f64>]).unwrap(),
        _ => df!("a" => [3.0], "tier" => ["tin"], "code" => [None::<f64>], "flag" => [None::<f64>], "none" => [None::<f64>]).unwrap(),
    }
    };
    let frame = df!(
        "a" => [Some(1.0), Some(f64::NAN), Some(3.0)], "tier" => [Some("gold"), None, Some("tin")],
        "code" => [Some("1"), Some("x"), None], "flag" => [Some(true), Some(false), None], "none" => [None::<f64>; 3]
    );
    let json = r#"[{"a": 1, "tier": "gold", "code": "1", "flag": true, "none": null},
        {"a": NaN, "tier": null, "code": "x", "flag": false}, {"a": 3, "tier": "tin"}]"#;
    let nulls = json.replace("NaN", "null");
    for table in [
        loaded("f.parquet", &parquet(frame.unwrap())),
        loaded("f.csv", b"a,tier,code,flag,none\n1,gold,1,True,\n,,x,False,\n3,tin,,,\n"),
        loaded("f.csv", b"a,tier,code,flag,none\n1.0,gold,1,true,NaN\nnan,None,x,false,<NA>\n 3,tin,NA,null,N/A\n"),
        loaded("f.json", json.as_bytes()),
        loaded("f.json", nulls.as_bytes()),
    ] {
        for at in 0..3 {
            let row = table.row(at).unwrap();
            assert!(row.frame().equals_missing(&rows(at)), "row {at}: {row:?}");
        }
    }
}

/// Cases 12 and 13: each type that databases and pandas export is read, or told by column and type.
#[tokio::test]
async fn regression_each_parquet_type_is_read_or_told() {
    let expected = kept("types.json");
    let unusable = [
        ("date", "a date"),
        ("datetime", "a datetime"),
        ("zoned", "a datetime"),
        ("time", "a time"),
        ("duration", "a time"),
        ("list", "a list"),
        ("struct", "an object"),
        ("binary", "bytes"),
        ("binary16", "bytes"),
    ];
    for name in ["types.parquet", "types_as_integers.parquet"] {
        let table = kept(name);
        for at in 0..expected.height() {
            let (row, expected) = (table.row(at).unwrap(), expected.row(at).unwrap());
            let names = expected.frame().get_column_names_owned();
            let found = row.frame().select(names).unwrap();
            for (found, expected) in found.columns().iter().zip(expected.frame().columns()) {
                assert!(found.equals_missing(expected), "{name}, row {at}: {found:?}, expected {expected:?}");
            }
        }
        for (column, what) in unusable {
            // Without Arrow's types in the file a duration is a number.
            if column == "duration" && name != "types.parquet" {
                continue;
            }
            let text = refusal(table.row(0).unwrap(), column).await;
            assert!(text.starts_with(&format!("feature {column:?} is {what}")), "{text}");
            assert_eq!(
                text.contains("make it"),
                ["date", "datetime", "zoned", "time", "duration"].contains(&column),
                "{text}"
            );
        }
    }
    let polars = kept("polars.parquet");
    let row = |at| polars.row(at).unwrap().frame().clone();
    let expected = df!("i128" => [2f64.powi(100)], "u128" => [2f64.powi(127)], "cat" => ["a"], "enum" => ["a"], "i8" => [1.0],
        "u8" => [200.0], "dec" => [1.5], "f16" => [1.5], "a" => [1.0]);
    assert!(row(0).equals_missing(&expected.unwrap()), "{}", row(0));
    assert_eq!(row(2).column("i128").unwrap().f64().unwrap().get(0), Some(-5.0));
}

#[test]
fn a_row_that_is_not_there_is_refused() {
    let error = loaded("f.csv", b"a\n1\n2\n").row(2).unwrap_err().to_string();
    assert!(error.contains("no row 2: the file has 2 rows"), "{error}");
}

/// What a request with such a value would say.
#[tokio::test]
async fn a_value_that_is_no_number_is_told_where_it_is_used() {
    let csv = b"a,b\n1,2\n1,3\n1,twelve\n3,\n";
    let of = |name: &str, bytes: &[u8], at: usize| loaded(name, bytes).row(at).unwrap();
    let text = refusal(of("f.csv", csv, 2), "b").await;
    assert!(
        text.starts_with(r#"feature "b" is "twelve" (the column is text, as row 2 holds "twelve"), expected a number"#),
        "{text}"
    );
    let text = refusal(of("f.csv", csv, 0), "b").await;
    assert!(
        text.starts_with(r#"feature "b" is "2" (the column is text, as row 2 holds "twelve"), expected a number"#),
        "{text}"
    );
    for (name, bytes, at, holds) in [
        ("f.csv", &csv[..], 3, "empty"),
        ("f.json", br#"[{"b": 1}, {"b": null}]"#, 1, "null"),
        ("f.json", br#"[{"b": 1}, {"a": 1}]"#, 1, "absent"),
        ("f.json", br#"[{"b": NaN}, {"a": 1}]"#, 0, "\"NaN\""),
        ("f.csv", b"b\nNaN\n", 0, "NaN"),
        ("f.csv", b"b\n-inf\n", 0, "-inf"),
    ] {
        let text = refusal(of(name, bytes, at), "b").await;
        assert!(text.starts_with(&format!(r#"feature "b" is {holds}, expected a number"#)), "{text}");
    }
    for (value, shown) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf")] {
        let bytes = parquet(df!("a" => [1.0, value]).unwrap());
        let text = refusal(of("f.parquet", &bytes, 1), "a").await;
        assert!(text.starts_with(&format!(r#"feature "a" is {shown}, expected a number"#)), "{text}");
    }
    // 20 ether in wei are beyond 64 bits.
    let wei = of("f.csv", b"a,b\n1,2\n20000000000000000000, 3\n", 1);
    assert!(wei.frame().equals(&df!("a" => [2e19], "b" => [3.0]).unwrap()), "{wei:?}");
}

/// Case 14: rows have the numbers that pandas gives them.
#[test]
fn a_blank_line_of_csv_is_no_row() {
    let table = loaded("f.csv", b"\na,b\n1,x\n\n\r\n2,\"y\n\n\"\"z\"\n,\n\n");
    let rows = [
        df!("a" => [1.0], "b" => ["x"]),
        df!("a" => [2.0], "b" => ["y\n\n\"z"]),
        df!("a" => [None::<f64>], "b" => [None::<f64>]),
    ];
    assert_eq!(table.height(), rows.len());
    for (at, row) in rows.into_iter().enumerate() {
        let found = table.row(at).unwrap();
        assert!(found.frame().equals_missing(&row.unwrap()), "row {at}: {found:?}");
    }
}

#[test]
fn a_field_that_comes_later_stands_behind_its_neighbour() {
    let table = loaded("f.json", br#"[{"a": 1, "d": 4}, {"a": 1, "b": 2, "c": 3, "d": 4}, {"z": 0, "a": 1}]"#);
    assert_eq!(table.row(0).unwrap().frame().get_column_names(), ["z", "a", "b", "c", "d"]);
}

#[test]
fn wrong_files_are_named_with_what_is_wrong() {
    let error = format!("{}", load(Path::new("/nowhere/x.csv")).unwrap_err());
    assert!(error.contains("/nowhere/x.csv"), "{error}");
    assert!(refused("f.txt", b"").contains("expected a .parquet, .csv or .json file"));
    assert!(refused("f.json", b"").contains("holds no row"));
    assert!(refused("f.json", b"{\"a\": 1").contains("EOF"));
    assert!(refused("f.json", b"5").contains("expected objects of features"));
    refused("f.csv", b"a\n");
    refused("f.csv", b"");
    for separated in [&b"a;b;c\n1,5;2;3\n"[..], b"a\tb\n1\t2\n"] {
        assert!(refused("f.csv", separated).contains("separate cells by commas"));
    }
    let remark = refused("f.csv", b"# exported by x\na,b\n1,2\n");
    assert!(remark.contains("more cells than the first, which names the columns: \"# exported by x\""), "{remark}");
    assert!(refused("f.parquet", b"PAR1 and no more").contains("it is no parquet file"));
    assert!(refused("f.parquet", b"").contains("it is no parquet file"));
    assert!(refused("f.parquet", &parquet(df!("a" => [1.0; 0]).unwrap())).contains("holds no row"));
}

/// What is damaged ends with an error, whatever the reader does.
#[test]
fn damaged_parquet_ends_no_program() {
    let whole = parquet(df!("a" => (0..100).map(f64::from).collect::<Vec<_>>(), "b" => vec!["x"; 100]).unwrap());
    for at in (4..whole.len() - 8).step_by(23) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        // Some changes leave a file that can be read.
        let _ = load(&file("f.parquet", &damaged).1);
    }
}
