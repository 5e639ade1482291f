//! ColumnTransformer: branches, each with steps of its own for some of the columns, side by side again at the end.

use anyhow::{Result, bail};
use polars::prelude::Column;
use serde::Deserialize;

use super::columns::{Precision, check_output};
use super::format::RawStep;
use super::step::{Built, Parameters, Stages, Step};

/// The branches in the order of their columns in the result. One without steps passes its columns through; what was dropped
/// is in none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnTransformer {
    branches: Vec<Branch>,
    output: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Branch {
    columns: Vec<String>,
    steps: Vec<RawStep>,
}

/// For each branch the places of its columns, and its steps.
#[derive(Debug)]
struct Split(Vec<(Vec<usize>, Stages)>);

impl Parameters for ColumnTransformer {
    fn build(self, input: &[String]) -> Result<Built> {
        let branches: Result<Vec<_>> = self.branches.into_iter().map(|branch| branch.build(input)).collect();
        let branches = branches?;
        check_output(&self.output, branches.iter().map(|(_, stages)| stages.output().len()).sum())?;
        Built::new(Split(branches), self.output)
    }
}

impl Branch {
    fn build(self, input: &[String]) -> Result<(Vec<usize>, Stages)> {
        let place = |name: &String| match input.iter().position(|other| other == name) {
            Some(place) => Ok(place),
            None => bail!("there is no column {name:?}: there are {input:?}"),
        };
        let places = self.columns.iter().map(place).collect::<Result<_>>()?;
        Ok((places, Stages::new(self.steps, &self.columns)?))
    }
}

impl Step for Split {
    fn apply(&self, columns: &[Column], _: Precision) -> Result<Vec<Column>> {
        let mut made = Vec::new();
        for (places, stages) in &self.0 {
            let own = places.iter().map(|place| columns[*place].clone()).collect();
            made.extend(stages.apply(own)?);
        }
        Ok(made)
    }

    fn trace(&self, columns: &[Column], gaps: &[Option<String>]) -> Result<Option<Vec<Option<String>>>> {
        let mut made = Vec::new();
        for (places, stages) in &self.0 {
            let own = places.iter().map(|place| columns[*place].clone()).collect();
            let of_own = places.iter().map(|place| gaps[*place].clone()).collect();
            made.extend(stages.trace(own, of_own)?);
        }
        Ok(Some(made))
    }
}
