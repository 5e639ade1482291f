//! Parquet: the schema is looked at first, and only columns that can be read are read. polars panics at types that it was built without.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, ensure};
use polars::io::parquet::metadata::FileMetadata;
use polars::prelude::{
    ArrowDataType, ChunkFullNull as _, Column, Float64Chunked, NewChunkedArray as _, ParquetReader, PlSmallStr,
    SerReader as _,
};
use polars_parquet::parquet::metadata::SchemaDescriptor;
use polars_parquet::parquet::schema::types::{ParquetType, PrimitiveConvertedType, PrimitiveLogicalType};

use super::table::{FeatureTable, Values};
use crate::panics;

const MAX_CELLS: usize = 100_000_000;

/// How a column is read.
#[derive(Debug, Clone, PartialEq)]
enum Reading {
    /// Numbers and truth values, as polars reads them.
    Numbers,
    /// Strings, categories among them.
    Text,
    /// Whole numbers of 8 or 16 bits, which are stored in 32.
    Small,
    /// Whole numbers, or their bytes from the highest on, that stand for themselves divided by this power of ten.
    Decimal(usize),
    /// Whole numbers of 128 bits, from the lowest byte on; true with a sign.
    Large(bool),
    /// Two bytes a number, the lower first.
    Half,
    /// Nothing: each value is missing.
    Empty,
    /// What is no feature, for messages.
    Unusable(String),
}

/// Every row of the file.
///
/// # Errors
/// A file that is none or is damaged, also where the reader panics.
pub fn read(path: &Path) -> Result<FeatureTable> {
    let read = AssertUnwindSafe(|| read_columns(path));
    catch_unwind(read)
        .unwrap_or_else(|panic| Err(anyhow!("the parquet reader cannot read it: {}", panics::message(&*panic))))
}

fn read_columns(path: &Path) -> Result<FeatureTable> {
    let mut reader = ParquetReader::new(File::open(path)?);
    // A few bytes can stand for any number of rows: count before they are made.
    let rows = reader.num_rows().context("it is no parquet file")?;
    let schema = reader.schema().context("it is no parquet file")?;
    let cells = rows.saturating_mul(schema.len());
    ensure!(cells <= MAX_CELLS, "it holds {rows} rows of {} columns, more than {MAX_CELLS} numbers", schema.len());
    let halves = halves_in(reader.get_metadata()?);
    let reading = |name: &PlSmallStr, dtype| if halves.contains(name) { Reading::Half } else { Reading::of(dtype) };
    let readings: Vec<_> =
        schema.iter_values().map(|field| (field.name.clone(), reading(&field.name, &field.dtype))).collect();
    let is_read = |reading: &Reading| !matches!(reading, Reading::Empty | Reading::Unusable(_));
    let names: Vec<String> =
        readings.iter().filter(|(_, reading)| is_read(reading)).map(|(name, _)| name.to_string()).collect();
    let frame = if names.is_empty() {
        None
    } else {
        let stored = as_stored(reader.get_metadata()?, &readings);
        // A new reader: this one has made its schema.
        let mut reader = ParquetReader::new(File::open(path)?);
        reader.set_metadata(Arc::new(stored));
        Some(reader.with_columns(Some(names)).finish()?)
    };
    let values = readings.iter().map(|(name, reading)| {
        let column = frame.as_ref().and_then(|frame| frame.column(name).ok());
        let values = reading.values(column, rows).with_context(|| format!("column {name:?}"))?;
        Ok((name.to_string(), values))
    });
    FeatureTable::of_columns(rows, values.collect::<Result<_>>()?)
}

/// Columns of half floats, which have two bytes and no type where Arrow's own is not in the file.
fn halves_in(metadata: &FileMetadata) -> Vec<PlSmallStr> {
    let halves = metadata.schema().fields().iter().filter_map(|field| match field {
        ParquetType::PrimitiveType(field) if field.logical_type == Some(PrimitiveLogicalType::Float16) => {
            Some(field.field_info.name.clone())
        }
        _ => None,
    });
    halves.collect()
}

/// The file's metadata, with the types of these columns as they are stored, which polars reads whatever it was built with.
fn as_stored(metadata: &FileMetadata, readings: &[(PlSmallStr, Reading)]) -> FileMetadata {
    let mut fields = metadata.schema().fields().to_vec();
    for field in &mut fields {
        let ParquetType::PrimitiveType(field) = field else { continue };
        let reading = readings.iter().find(|(name, _)| *name == field.field_info.name).map(|(_, reading)| reading);
        match reading {
            Some(Reading::Small | Reading::Decimal(_) | Reading::Large(_) | Reading::Half) => {
                (field.logical_type, field.converted_type) = (None, None);
            }
            Some(Reading::Text) => {
                field.logical_type = Some(PrimitiveLogicalType::String);
                field.converted_type = Some(PrimitiveConvertedType::Utf8);
            }
            _ => {}
        }
    }
    FileMetadata {
        schema_descr: SchemaDescriptor::new(metadata.schema().name().into(), fields),
        // It holds Arrow's own types.
        key_value_metadata: None,
        ..metadata.clone()
    }
}

impl Reading {
    fn of(dtype: &ArrowDataType) -> Self {
        use ArrowDataType as Type;
        match dtype {
            Type::Null => Self::Empty,
            Type::Boolean | Type::Int32 | Type::Int64 | Type::UInt32 | Type::UInt64 | Type::Float32 | Type::Float64 => {
                Self::Numbers
            }
            Type::Int8 | Type::Int16 | Type::UInt8 | Type::UInt16 => Self::Small,
            Type::Int128 => Self::Large(true),
            Type::UInt128 => Self::Large(false),
            Type::Float16 => Self::Half,
            Type::Decimal(_, scale)
            | Type::Decimal32(_, scale)
            | Type::Decimal64(_, scale)
            | Type::Decimal256(_, scale) => Self::Decimal(*scale),
            Type::Utf8 | Type::LargeUtf8 | Type::Utf8View => Self::Text,
            Type::Dictionary(_, values, _) => Self::of(values),
            other => Self::Unusable(described(other)),
        }
    }

    /// The column, as polars has read what is stored.
    fn values(&self, column: Option<&Column>, rows: usize) -> Result<Values> {
        let gaps = || Values::Numbers(Float64Chunked::full_null(PlSmallStr::EMPTY, rows));
        match (self, column) {
            (Self::Unusable(what), _) => Ok(Values::Unusable(what.clone())),
            (_, None) => Ok(gaps()),
            (Self::Decimal(scale), Some(column)) if column.dtype().is_integer() => {
                let column = column.cast(&polars::prelude::DataType::Int64)?;
                let numbers = column.i64()?.iter().map(|number| decimal(&number?.to_be_bytes(), *scale));
                Ok(Values::Numbers(Float64Chunked::from_iter_options(PlSmallStr::EMPTY, numbers)))
            }
            (Self::Decimal(scale), Some(column)) => of_bytes(column, |bytes| decimal(bytes, *scale)),
            (Self::Large(signed), Some(column)) => of_bytes(column, |bytes| {
                let bytes = <[u8; 16]>::try_from(bytes).ok()?;
                Some(if *signed { i128::from_le_bytes(bytes) as f64 } else { u128::from_le_bytes(bytes) as f64 })
            }),
            (Self::Half, Some(column)) => {
                of_bytes(column, |bytes| Some(half(u16::from_le_bytes(bytes.try_into().ok()?))))
            }
            (_, Some(column)) => Values::of(column),
        }
    }
}

fn of_bytes(column: &Column, number: impl Fn(&[u8]) -> Option<f64>) -> Result<Values> {
    let numbers = column.binary()?.iter().map(|bytes| number(bytes?));
    Ok(Values::Numbers(Float64Chunked::from_iter_options(PlSmallStr::EMPTY, numbers)))
}

/// The f64 nearest to a whole number, given by its bytes in two's complement from the highest on, divided by 10^`scale`.
fn decimal(bytes: &[u8], scale: usize) -> Option<f64> {
    let is_negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let mut digits = Vec::new();
    // Two's complement: minus one, and all bits the other way round.
    let mut rest: Vec<u8> = bytes.iter().map(|byte| if is_negative { !byte } else { *byte }).collect();
    while rest.iter().any(|byte| *byte != 0) {
        let mut carry = 0u32;
        for byte in &mut rest {
            let value = carry << 8 | u32::from(*byte);
            *byte = (value / 10) as u8;
            carry = value % 10;
        }
        digits.push(carry as u8);
    }
    if is_negative {
        add_one(&mut digits);
    }
    let sign = if is_negative { "-" } else { "" };
    let text: String = digits.iter().rev().map(|digit| char::from(b'0' + digit)).collect();
    // Read as text, because two roundings may miss the nearest.
    format!("{sign}0{text}e-{scale}").parse().ok()
}

/// To digits, the lowest first.
fn add_one(digits: &mut Vec<u8>) {
    for digit in digits.iter_mut() {
        *digit = (*digit + 1) % 10;
        if *digit != 0 {
            return;
        }
    }
    digits.push(1);
}

/// IEEE 754's binary16.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    let size = match exponent {
        0 => fraction * (-24f64).exp2(),
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        _ => (1024.0 + fraction) * f64::from(exponent - 25).exp2(),
    };
    if bits >> 15 == 1 { -size } else { size }
}

/// A type that is no feature's, and what to do about it.
fn described(dtype: &ArrowDataType) -> String {
    use ArrowDataType as Type;
    let what = match dtype {
        Type::Timestamp(..) => "a datetime (make it seconds since 1970, in requests as well)",
        Type::Date32 | Type::Date64 => "a date (make it days since 1970, in requests as well)",
        Type::Time32(_) | Type::Time64(_) | Type::Duration(_) | Type::Interval(_) => {
            "a time (make it seconds, in requests as well)"
        }
        Type::Binary | Type::LargeBinary | Type::BinaryView | Type::FixedSizeBinary(_) => "bytes",
        Type::List(_) | Type::LargeList(_) | Type::FixedSizeList(..) => "a list",
        Type::Struct(_) | Type::Map(..) => "an object",
        other => return format!("of the type {other:?}"),
    };
    what.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_becomes_the_nearest_f64() {
        for (number, scale) in
            [(0, 2), (1, 0), (-1, 0), (-12_345, 2), (15, 1), (i128::MAX, 18), (i128::MIN, 3), (256, 0)]
        {
            let expected: f64 = format!("{number}e-{scale}").parse().unwrap();
            assert_eq!(decimal(&number.to_be_bytes(), scale), Some(expected), "{number}e-{scale}");
        }
        // 32 bytes, as of 2^255 - 1 wei.
        let mut wide = [0xff; 32];
        wide[0] = 0x7f;
        assert_eq!(decimal(&wide, 0), Some(2f64.powi(255)));
        assert_eq!(decimal(&[0xff], 1), Some(-0.1));
    }

    #[test]
    fn a_half_becomes_its_f64() {
        for (bits, number) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65_504.0),
            (0x0400, 2f64.powi(-14)),
            (0x0001, 2f64.powi(-24)),
            (0x2e66, 0.099_975_585_937_5),
            (0x7c00, f64::INFINITY),
        ] {
            assert_eq!(half(bits), number, "{bits:#x}");
        }
        assert!(half(0x7e00).is_nan());
    }
}
