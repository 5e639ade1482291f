//! Frames of features from files: the sample that `setup` calibrates with, and `predict --features`.

use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, Result as Anyhow, bail, ensure};
use polars::prelude::{CsvReadOptions, DataFrame, ParquetReader, SerReader};
use serde_json::{Map, Value};

use super::table::FeatureTable;
use crate::fault::{Classify, Result};

/// Far more than a sample has, and less than memory.
const LARGEST_FILE: u64 = 1 << 30;
const MOST_CELLS: usize = 100_000_000;
/// The same of text, where a number may be two bytes and is eight and more in memory.
const LARGEST_TEXT: u64 = 256 << 20;

/// Every row of a `.parquet`, `.csv` or `.json` file (JSON: one object, a list of objects, or one object a line).
pub fn load(path: &Path) -> Result<FeatureTable> {
    read(path).with_context(|| format!("cannot read features from {}", path.display())).fail_row()
}

fn read(path: &Path) -> Anyhow<FeatureTable> {
    let bytes = std::fs::metadata(path)?.len();
    let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
    let largest = if extension.as_deref() == Some("parquet") { LARGEST_FILE } else { LARGEST_TEXT };
    ensure!(bytes <= largest, "it has {bytes} bytes, more than {largest}");
    match extension.as_deref() {
        Some("parquet") => FeatureTable::of_frame(&parquet(path)?),
        Some("csv") => FeatureTable::of_texts(csv(path)?),
        Some("json" | "jsonl" | "ndjson") => FeatureTable::of_objects(json(&std::fs::read_to_string(path)?)?),
        _ => bail!("expected a .parquet, .csv or .json file"),
    }
}

fn parquet(path: &Path) -> Anyhow<DataFrame> {
    let mut reader = ParquetReader::new(File::open(path)?);
    // A few bytes can stand for any number of rows: count before they are made.
    let rows = reader.num_rows().context("it is no parquet file")?;
    let columns = reader.schema().context("it is no parquet file")?.len();
    let cells = rows.saturating_mul(columns);
    ensure!(cells <= MOST_CELLS, "it holds {rows} rows of {columns} columns, more than {MOST_CELLS} numbers");
    Ok(reader.finish()?)
}

fn csv(path: &Path) -> Anyhow<DataFrame> {
    // As strings: polars would choose a type for each column by its first rows, or refuse a whole number beyond 64 bits.
    let options = CsvReadOptions::default().with_infer_schema_length(Some(0));
    Ok(options.into_reader_with_file_handle(File::open(path)?).finish()?)
}

fn json(text: &str) -> Anyhow<Vec<Map<String, Value>>> {
    let mut objects = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter() {
        match value? {
            Value::Array(values) => {
                for value in values {
                    objects.push(object(value)?);
                }
            }
            value => objects.push(object(value)?),
        }
    }
    Ok(objects)
}

fn object(value: Value) -> Anyhow<Map<String, Value>> {
    match value {
        Value::Object(object) => Ok(object),
        _ => bail!("expected objects of features: {{\"name\": number, …}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;
    use polars::df;
    use polars::prelude::ParquetWriter;

    fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    fn loaded(name: &str, bytes: &[u8]) -> FeatureTable {
        load(&file(name, bytes).1).unwrap()
    }

    /// What a row of a file says of a feature that is used, and holds no number.
    fn unusable(name: &str, bytes: &[u8], at: usize, feature: &str) -> String {
        let row = loaded(name, bytes).row(at).unwrap();
        let error =
            crate::features::Selection::new("cols.json", vec![feature.to_owned()]).select(row.frame()).unwrap_err();
        row.explain(Fault::Row(error)).to_string()
    }

    fn refused(name: &str, bytes: &[u8]) -> String {
        let (_folder, path) = file(name, bytes);
        match load(&path) {
            Err(Fault::Row(error)) => {
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
            assert_eq!(table.height(), 2);
            for at in 0..2 {
                let row = table.row(at).unwrap();
                assert!(row.frame().equals(&expected.slice(at as i64, 1)), "{row:?}");
            }
        }
        assert_eq!(loaded("one.json", br#"{"a": 1}"#).height(), 1);
    }

    #[test]
    fn a_row_that_is_not_there_is_refused() {
        let error = loaded("f.csv", b"a\n1\n2\n").row(2).unwrap_err().to_string();
        assert!(error.contains("no row 2: the file has 2 rows"), "{error}");
    }

    /// What a request with such a value would say.
    #[test]
    fn a_value_that_is_no_number_is_told_where_it_is_used() {
        let csv = b"a,b\n1,2\n1,3\n1,twelve\n3,\n";
        assert_eq!(loaded("f.csv", csv).row(2).unwrap().frame().width(), 1);
        assert!(unusable("f.csv", csv, 2, "b").starts_with(r#"feature "b" is "twelve", expected a number"#));
        assert!(unusable("f.csv", csv, 3, "b").starts_with(r#"feature "b" is empty, expected a number"#));
        assert!(unusable("f.json", br#"[{"b": 1}, {"b": null}]"#, 1, "b").starts_with(r#"feature "b" is null"#));
        assert!(unusable("f.csv", b"b\nNaN\n", 0, "b").starts_with(r#"feature "b" is "NaN", expected a number"#));
        for (value, shown) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf")] {
            let text = unusable("f.parquet", &parquet(df!("a" => [1.0, value]).unwrap()), 1, "a");
            assert!(text.starts_with(&format!(r#"feature "a" is {shown}, expected a number"#)), "{text}");
        }
        let truth = loaded("f.csv", b"a,b\nTrue,false\n").row(0).unwrap();
        assert!(truth.frame().equals(&df!("a" => [1.0], "b" => [0.0]).unwrap()), "{truth:?}");
        // 20 ether in wei are beyond 64 bits.
        let wei = loaded("f.csv", b"a,b\n1,2\n20000000000000000000, 3\n").row(1).unwrap();
        assert!(wei.frame().equals(&df!("a" => [2e19], "b" => [3.0]).unwrap()), "{wei:?}");
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
        assert!(refused("f.parquet", b"PAR1 and no more").contains("it is no parquet file"));
        assert!(refused("f.parquet", b"").contains("it is no parquet file"));
        assert!(refused("f.parquet", &parquet(df!("a" => [1.0; 0]).unwrap())).contains("holds no row"));
    }
}
