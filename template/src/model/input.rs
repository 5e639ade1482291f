//! From a frame to tensors: for one input all columns in order, reshaped; for several, one List column an input.

use std::fmt;
use std::sync::Arc;

use anyhow::{Context as _, Result as Anyhow, bail, ensure};
use candle_core::{DType, Device, Tensor};
use polars::prelude::{AnyValue, Column, DataFrame, IntoColumn};

use crate::features::numbers;

/// What the model takes as one of its inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct InputSpec {
    /// Its name in the model.
    pub name: String,
    /// Its shape, with a batch of one.
    pub shape: Vec<usize>,
    dtype: DType,
}

/// One row, ready for the model.
#[derive(Debug, Clone)]
pub struct ModelInput {
    /// The numbers of each input, exactly as the model takes them.
    values: Vec<Vec<f64>>,
    rounded: Vec<Rounded>,
    pub(super) tensors: Vec<Tensor>,
    /// Where each number came from.
    labels: Arc<Vec<Vec<String>>>,
}

/// A whole number that the model's type cannot hold: an id, a time, an amount in wei. The model gets its neighbour.
#[derive(Debug, Clone, PartialEq)]
pub struct Rounded {
    /// Where it stands: `column "a"`.
    pub label: String,
    number: f64,
    rounded: f64,
    dtype: &'static str,
}

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { label, number, rounded, dtype } = self;
        write!(
            f,
            "{label} is {number}, which the model's {dtype} holds as {rounded}: take it apart or scale it in pre_process if the difference counts"
        )
    }
}

impl ModelInput {
    /// The numbers of all inputs one after the other, each with its label: the column, and for lists the place in it.
    pub fn labelled(&self) -> impl Iterator<Item = (&str, f64)> {
        let labels = self.labels.iter().flatten().map(String::as_str);
        labels.zip(self.values.iter().flatten().copied())
    }

    /// The number that is furthest from zero, with its label.
    pub fn largest(&self) -> Option<(&str, f64)> {
        self.labelled().max_by(|(_, a), (_, b)| a.abs().total_cmp(&b.abs()))
    }

    /// One input of these numbers.
    #[cfg(test)]
    pub(crate) fn of_columns(columns: &[(&str, f64)]) -> Self {
        let labels = columns.iter().map(|(name, _)| format!("column {name:?}")).collect();
        let values = columns.iter().map(|(_, value)| *value).collect();
        Self { values: vec![values], rounded: Vec::new(), tensors: Vec::new(), labels: Arc::new(vec![labels]) }
    }

    /// Keeps one copy of labels that are the same in both.
    pub fn share_labels(&mut self, other: &Self) {
        if self.labels == other.labels {
            self.labels = other.labels.clone();
        }
    }

    /// The numbers of each input, flat and rounded to what the model takes: EZKL's `input_data`.
    pub fn flat(&self) -> Vec<Vec<f64>> {
        self.values.clone()
    }

    /// Whole numbers that the model's type has rounded.
    pub fn rounded(&self) -> &[Rounded] {
        &self.rounded
    }
}

/// A number and where it came from: a column, and for lists the place in it.
type Labelled = (String, f64);

impl InputSpec {
    pub(super) fn new(name: String, shape: Vec<usize>, dtype: DType) -> Self {
        Self { name, shape, dtype }
    }

    /// How many numbers it takes.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// True if its elements may be other than whole numbers.
    pub fn is_float(&self) -> bool {
        self.dtype.is_float()
    }

    /// The type of its elements: `f32`.
    pub fn dtype(&self) -> &'static str {
        match self.dtype {
            DType::U8 => "bool",
            dtype => dtype.as_str(),
        }
    }

    /// A tensor to try the model out with: of this whole number, or of 1, which is in the domain of every function.
    pub(super) fn dummy_input(&self, whole: i64) -> Anyhow<Tensor> {
        let number = if self.dtype.is_float() { 1 } else { whole };
        Ok(Tensor::new(number, &Device::Cpu)?
            .to_dtype(self.dtype)?
            .broadcast_as(self.shape.as_slice())?
            .contiguous()?)
    }

    fn described(&self) -> String {
        format!("the model's input {:?} ({} {:?})", self.name, self.dtype(), self.shape)
    }

    /// The tensor, its numbers after rounding, and which whole numbers that changed.
    fn tensor(&self, labelled: &[Labelled]) -> Anyhow<(Tensor, Vec<f64>, Vec<Rounded>)> {
        ensure!(
            labelled.len() == self.elements(),
            "{} takes {} numbers, and the frame gives {}",
            self.described(),
            self.elements(),
            labelled.len()
        );
        let exact: Vec<f64> = labelled.iter().map(|(_, number)| *number).collect();
        let tensor = Tensor::from_slice(&exact, self.shape.as_slice(), &Device::Cpu)?.to_dtype(self.dtype)?;
        let rounded = tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
        for ((label, number), rounded) in labelled.iter().zip(&rounded) {
            self.check(*number, *rounded).with_context(|| format!("{label} is {number}"))?;
        }
        let changed =
            labelled.iter().zip(&rounded).filter(|((_, number), rounded)| number.fract() == 0.0 && number != *rounded);
        let changed = changed.map(|((label, number), rounded)| Rounded {
            label: label.clone(),
            number: *number,
            rounded: *rounded,
            dtype: self.dtype(),
        });
        let changed = changed.collect();
        Ok((tensor, rounded, changed))
    }

    fn check(&self, number: f64, rounded: f64) -> Anyhow<()> {
        ensure!(number.is_finite(), "{} takes finite numbers", self.described());
        ensure!(rounded.is_finite(), "that is too large for {}", self.described());
        ensure!(self.dtype.is_float() || rounded == number, "{} takes whole numbers of its range", self.described());
        ensure!(self.dtype != DType::U8 || rounded <= 1.0, "{} takes 0 and 1", self.described());
        Ok(())
    }
}

/// The tensors of a frame with one row.
pub(super) fn tensors(specs: &[InputSpec], frame: &DataFrame) -> Anyhow<ModelInput> {
    ensure!(frame.height() == 1, "pre_process gave a frame with {} rows, expected one", frame.height());
    let labelled = match specs {
        [only] if !is_list_of(frame, only) => vec![row(only, frame)?],
        several => several.iter().map(|spec| list(spec, several, frame)).collect::<Anyhow<_>>()?,
    };
    let (mut values, mut tensors) = (Vec::with_capacity(specs.len()), Vec::with_capacity(specs.len()));
    let mut rounded = Vec::new();
    for (spec, labelled) in specs.iter().zip(&labelled) {
        let (tensor, numbers, found) = spec.tensor(labelled)?;
        tensors.push(tensor);
        values.push(numbers);
        rounded.extend(found);
    }
    let labels = labelled.into_iter().map(|input| input.into_iter().map(|(label, _)| label).collect()).collect();
    Ok(ModelInput { values, rounded, tensors, labels: Arc::new(labels) })
}

/// Whether the frame is one List column for this input, as models with several inputs have them.
fn is_list_of(frame: &DataFrame, spec: &InputSpec) -> bool {
    match frame.columns() {
        [only] => only.name() == spec.name.as_str() && only.dtype().is_list(),
        _ => false,
    }
}

/// The only input: all columns from left to right.
fn row(spec: &InputSpec, frame: &DataFrame) -> Anyhow<Vec<Labelled>> {
    let labelled: Anyhow<Vec<Labelled>> = frame
        .columns()
        .iter()
        .map(|column| {
            let mut numbers =
                numbers_of(column).with_context(|| format!("{} takes one number a column", spec.described()))?;
            ensure!(numbers.len() == 1, "column {:?} holds a list", column.name());
            Ok(numbers.remove(0))
        })
        .collect();
    labelled
}

/// One of several inputs: the column that has its name.
fn list(spec: &InputSpec, specs: &[InputSpec], frame: &DataFrame) -> Anyhow<Vec<Labelled>> {
    let known = |column: &Column| specs.iter().any(|spec| column.name() == spec.name.as_str());
    if let Some(extra) = frame.columns().iter().find(|column| !known(column)) {
        let names: Vec<_> = specs.iter().map(|spec| &spec.name).collect();
        bail!("column {:?} is none of the model's inputs {names:?}", extra.name());
    }
    let Ok(column) = frame.column(&spec.name) else {
        bail!("{} has no column: a model with several inputs takes a List column for each", spec.described());
    };
    numbers_of(column).with_context(|| spec.described())
}

/// The column's one number, or the numbers of its one list.
fn numbers_of(column: &Column) -> Anyhow<Vec<Labelled>> {
    let name = column.name();
    match column.get(0)? {
        AnyValue::List(list) => numbers(&list.into_column())
            .with_context(|| format!("the list in column {name:?}"))?
            .iter()
            .enumerate()
            .map(|(at, number)| labelled(format!("place {at} of column {name:?}"), number))
            .collect(),
        _ => {
            let number = numbers(column)?.get(0);
            Ok(vec![labelled(format!("column {name:?}"), number)?])
        }
    }
}

fn labelled(label: String, number: Option<f64>) -> Anyhow<Labelled> {
    match number {
        Some(number) => Ok((label, number)),
        None => bail!("{label} is empty (null)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars::df;

    /// Two ids, or two times, may become one to the model.
    #[test]
    fn a_whole_number_that_the_type_rounds_is_told_by_column() {
        let row = df!("id" => [16_777_217.0], "whole" => [16_777_218.0], "share" => [0.1]).unwrap();
        let rounded = |dtype| {
            let input = tensors(&[InputSpec::new("x".to_owned(), vec![1, 3], dtype)], &row).unwrap();
            input.rounded().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let told = rounded(DType::F32);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with(r#"column "id" is 16777217, which the model's f32 holds as 16777216"#), "{told:?}");
        assert!(rounded(DType::F64).is_empty());
    }
}
