//! Frames of features from files: the sample that `setup` calibrates with, and `predict --features`.

use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, Result as Anyhow, bail, ensure};
use polars::prelude::{Column, CsvReadOptions, DataFrame, IntoColumn, ParquetReader, SerReader};
use serde_json::{Map, Value};

use super::WALLET;
use super::frame::{numbers, rows};
use crate::fault::{Classify, Result};
use crate::plain;

/// Far more than a sample has, and less than memory.
const LARGEST_FILE: u64 = 1 << 30;
const MOST_CELLS: usize = 100_000_000;
/// The same of text, where a number may be two bytes and is eight and more in memory.
const LARGEST_TEXT: u64 = 256 << 20;

/// Every row of a `.parquet`, `.csv` or `.json` file (JSON: one object, a list of objects, or one object a line).
pub fn load(path: &Path) -> Result<DataFrame> {
    read(path).with_context(|| format!("cannot read features from {}", path.display())).fail_row()
}

/// Row `at` as a frame of its own.
pub fn row(frame: &DataFrame, at: usize) -> Result<DataFrame> {
    let one = || {
        ensure!(at < frame.height(), "there is no row {at}: the frame has {} rows, counted from 0", frame.height());
        let start = i64::try_from(at)?;
        Ok(frame.slice(start, 1))
    };
    one().fail_row()
}

fn read(path: &Path) -> Anyhow<DataFrame> {
    let bytes = std::fs::metadata(path)?.len();
    let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
    let largest = if extension.as_deref() == Some("parquet") { LARGEST_FILE } else { LARGEST_TEXT };
    ensure!(bytes <= largest, "it has {bytes} bytes, more than {largest}");
    let frame = match extension.as_deref() {
        Some("parquet") => parquet(path)?,
        Some("csv") => csv(path)?,
        Some("json" | "jsonl" | "ndjson") => json(&std::fs::read_to_string(path)?)?,
        _ => bail!("expected a .parquet, .csv or .json file"),
    };
    ensure!(frame.height() > 0, "the file holds no row");
    let columns: Anyhow<Vec<Column>> = frame.columns().iter().map(checked).collect();
    Ok(DataFrame::new(frame.height(), columns?)?)
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
    // All rows decide on a column's type: the first decimal point may come late.
    let options = CsvReadOptions::default().with_infer_schema_length(None);
    Ok(options.into_reader_with_file_handle(File::open(path)?).finish()?)
}

fn json(text: &str) -> Anyhow<DataFrame> {
    let mut objects: Vec<Map<String, Value>> = Vec::new();
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
    rows(&objects)
}

fn object(value: Value) -> Anyhow<Map<String, Value>> {
    match value {
        Value::Object(object) => Ok(object),
        _ => bail!("expected objects of features: {{\"name\": number, …}}"),
    }
}

/// The column as a frame of features has it; a row without a number is named.
fn checked(column: &Column) -> Anyhow<Column> {
    if column.name() == WALLET {
        ensure!(column.dtype().is_string(), "column {WALLET:?} holds {}, expected strings", column.dtype());
        return Ok(column.clone());
    }
    if let Ok(texts) = column.str() {
        let first =
            texts.iter().position(|text| text.is_some_and(|text| text.trim().parse::<f64>().is_err())).unwrap_or(0);
        let text = plain::at_most(texts.get(first).unwrap_or_default(), 40);
        bail!("column {:?} holds strings, expected numbers: row {first} (counted from 0) says {text:?}", column.name());
    }
    let numbers = numbers(column)?;
    if let Some((at, bad)) = numbers.iter().enumerate().find(|(_, number)| !number.is_some_and(f64::is_finite)) {
        let found = bad.map_or_else(|| "empty".to_owned(), |number| number.to_string());
        bail!("column {:?} has no number in row {at} (counted from 0), it is {found}", column.name());
    }
    Ok(numbers.into_column())
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

    fn loaded(name: &str, bytes: &[u8]) -> DataFrame {
        load(&file(name, bytes).1).unwrap()
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
        for frame in [
            loaded("f.parquet", &parquet(whole)),
            loaded("f.csv", b"wallet_address,a,b\n0x1,1,3\n0x2,2.5,4\n"),
            loaded("f.json", json.as_bytes()),
            loaded("f.jsonl", lines.as_bytes()),
        ] {
            assert!(frame.equals(&expected), "{frame}");
        }
        assert_eq!(loaded("one.json", br#"{"a": 1}"#).height(), 1);
    }

    #[test]
    fn a_row_is_taken_out() {
        let frame = df!("a" => [1.0, 2.0]).unwrap();
        assert!(row(&frame, 1).unwrap().equals(&df!("a" => [2.0]).unwrap()));
        let error = row(&frame, 2).unwrap_err().to_string();
        assert!(error.contains("no row 2: the frame has 2 rows"), "{error}");
    }

    #[test]
    fn wrong_files_are_named_with_what_is_wrong() {
        let error = format!("{}", load(Path::new("/nowhere/x.csv")).unwrap_err());
        assert!(error.contains("/nowhere/x.csv"), "{error}");
        assert!(refused("f.txt", b"").contains("expected a .parquet, .csv or .json file"));
        assert!(refused("f.json", b"").contains("there is no row"));
        assert!(refused("f.json", b"{\"a\": 1").contains("EOF"));
        assert!(refused("f.json", b"5").contains("expected objects of features"));
        refused("f.csv", b"a\n");
        assert!(refused("f.parquet", b"PAR1 and no more").contains("it is no parquet file"));
        assert!(refused("f.parquet", b"").contains("it is no parquet file"));
        let text = refused("f.csv", b"a,b\n1,x\n");
        assert!(
            text.contains(r#"column "b" holds strings, expected numbers: row 0 (counted from 0) says "x""#),
            "{text}"
        );
        let text = refused("f.csv", b"a,b\n1,2\n1,3\n1,twelve\n");
        assert!(text.contains(r#"column "b""#) && text.contains(r#"row 2 (counted from 0) says "twelve""#), "{text}");
        let gap = refused("f.csv", b"a,b\n1,2\n3,\n");
        assert!(gap.contains(r#"column "b" has no number in row 1"#), "{gap}");
        assert!(gap.contains("it is empty"), "{gap}");
        for (value, shown) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf")] {
            let text = refused("f.parquet", &parquet(df!("a" => [1.0, value]).unwrap()));
            assert!(
                text.contains(&format!(r#"column "a" has no number in row 1 (counted from 0), it is {shown}"#)),
                "{text}"
            );
        }
        assert!(refused("f.parquet", &parquet(df!("a" => [1.0; 0]).unwrap())).contains("holds no row"));
    }
}
