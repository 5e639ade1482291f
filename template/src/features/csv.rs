//! CSV: text, of which each column is numbers or strings.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, ensure};
use polars::prelude::{Column, CsvReadOptions, Float64Chunked, NewChunkedArray as _, SerReader as _, StringChunked};

use super::WALLET;
use super::table::{FeatureTable, Values};
use crate::sanitize;

/// What pandas reads as missing: the default `na_values` of its `read_csv`.
const MISSING: [&str; 19] = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
];

/// Every row of the file.
pub fn read(path: &Path) -> Result<FeatureTable> {
    let text = without_blank_lines(&std::fs::read(path)?);
    let header =
        String::from_utf8_lossy(text.split(|byte| *byte == b'\n').next().unwrap_or_default()).trim().to_owned();
    let is_split = header.contains(',') || !header.contains([';', '\t']);
    ensure!(is_split, "its first line is {}: separate cells by commas, and write numbers with a point", shown(&header));
    // As strings: polars would choose a type for each column by its first rows, or refuse a whole number beyond 64 bits.
    let options = CsvReadOptions::default().with_infer_schema_length(Some(0));
    let read = options.into_reader_with_file_handle(Cursor::new(text)).finish();
    let frame = read.map_err(|error| match error.to_string() {
        told if told.contains("more fields") => {
            anyhow!("a line has more cells than the first, which names the columns: {}", shown(&header))
        }
        // What follows is advice for programmers.
        told => anyhow!(told.lines().next().unwrap_or_default().to_owned()),
    })?;
    let columns: Result<Vec<_>> = frame.columns().iter().map(values_of).collect();
    FeatureTable::of_columns(frame.height(), columns?)
}

/// The column as numbers if each cell is one, or missing; else as strings.
fn values_of(column: &Column) -> Result<(String, Values)> {
    let name = column.name().to_string();
    let cells = column.str().with_context(|| format!("column {name:?}"))?;
    let text = cells.iter().position(|cell| cell.is_some_and(|cell| !is_missing(cell) && number_in(cell).is_none()));
    let values = match text {
        None if name != WALLET => {
            let number = |cell: Option<&str>| cell.and_then(number_in);
            Values::Numbers(Float64Chunked::from_iter_options(column.name().clone(), cells.iter().map(number)))
        }
        _ => {
            let texts: StringChunked = cells.iter().map(|cell| cell.filter(|cell| !is_missing(cell))).collect();
            Values::Texts(texts, text.map(|row| why(row, cells.get(row))))
        }
    };
    Ok((name, values))
}

/// pandas counts no blank line as a row.
fn without_blank_lines(text: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(text.len());
    let mut in_quotes = false;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if in_quotes || !line.iter().all(u8::is_ascii_whitespace) {
            kept.extend_from_slice(line);
        }
        // A quote in a cell is written twice.
        in_quotes ^= line.iter().filter(|byte| **byte == b'"').count() % 2 == 1;
    }
    kept
}

fn shown(text: &str) -> String {
    sanitize::truncate(&format!("{text:?}"), 80).into_owned()
}

/// Why a column is one of strings, which a person may have meant otherwise.
fn why(row: usize, cell: Option<&str>) -> Arc<str> {
    format!(
        "the column is text, as row {row} holds {}",
        sanitize::truncate(&format!("{:?}", cell.unwrap_or_default()), 40)
    )
    .into()
}

fn is_missing(cell: &str) -> bool {
    let cell = cell.trim();
    MISSING.contains(&cell)
}

/// The number that a cell is. Truth values are 1 and 0, as pandas and polars write them.
fn number_in(cell: &str) -> Option<f64> {
    let cell = cell.trim();
    match cell {
        "true" | "True" | "TRUE" => Some(1.0),
        "false" | "False" | "FALSE" => Some(0.0),
        number => number.parse().ok(),
    }
}
