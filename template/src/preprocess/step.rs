//! One step after the other: columns in, columns out.

use std::fmt::Debug;

use anyhow::{Context as _, Result, bail};
use polars::prelude::Column;

use super::format::RawStep;
use super::{bins, encode, function, impute, power, quantile, scale, split};

/// One fitted transformer.
pub trait Step: Debug + Send + Sync {
    /// Transforms the columns that it was built for; what comes out is named by [`Built::output`].
    fn apply(&self, columns: &[Column]) -> Result<Vec<Column>>;
}

/// What becomes of a step's parameters, once they are found to fit the columns that go in.
pub trait Parameters {
    fn build(self, input: &[String]) -> Result<Built>;
}

/// A step, and the names of the columns that come out of it.
#[derive(Debug)]
pub struct Built {
    pub step: Box<dyn Step>,
    pub output: Vec<String>,
}

impl Built {
    /// A step that makes one column of each, under the same name.
    pub fn one_to_one(step: impl Step + 'static, input: &[String]) -> Result<Self> {
        Self::new(step, input.to_vec())
    }

    pub fn new(step: impl Step + 'static, output: Vec<String>) -> Result<Self> {
        Ok(Self { step: Box::new(step), output })
    }
}

/// The steps of a pipeline, or of one branch of a `ColumnTransformer`.
#[derive(Debug)]
pub struct Stages {
    stages: Vec<(String, Built)>,
    output: Vec<String>,
}

impl Stages {
    /// The steps, each checked against the columns that the one before it makes.
    pub fn new(steps: Vec<RawStep>, input: &[String]) -> Result<Self> {
        let mut output = input.to_vec();
        let mut stages = Vec::with_capacity(steps.len());
        for step in steps {
            let label = step.label();
            let built = build(step, &output).with_context(|| label.clone())?;
            output.clone_from(&built.output);
            stages.push((label, built));
        }
        Ok(Self { stages, output })
    }

    /// The names of the columns that come out.
    pub fn output(&self) -> &[String] {
        &self.output
    }

    /// All steps, in their order.
    pub fn apply(&self, mut columns: Vec<Column>) -> Result<Vec<Column>> {
        for (label, built) in &self.stages {
            columns = built.step.apply(&columns).with_context(|| label.clone())?;
            for (column, name) in columns.iter_mut().zip(&built.output) {
                column.rename(name.as_str().into());
            }
        }
        Ok(columns)
    }
}

/// The step that the class stands for.
fn build(raw: RawStep, input: &[String]) -> Result<Built> {
    match raw.class.as_str() {
        "ColumnTransformer" => raw.parameters::<split::ColumnTransformer>()?.build(input),
        "FunctionTransformer" => raw.parameters::<function::FunctionTransformer>()?.build(input),
        "KBinsDiscretizer" => raw.parameters::<bins::KBinsDiscretizer>()?.build(input),
        "MaxAbsScaler" => raw.parameters::<scale::MaxAbsScaler>()?.build(input),
        "MinMaxScaler" => raw.parameters::<scale::MinMaxScaler>()?.build(input),
        "OneHotEncoder" => raw.parameters::<encode::OneHotEncoder>()?.build(input),
        "OrdinalEncoder" => raw.parameters::<encode::OrdinalEncoder>()?.build(input),
        "PowerTransformer" => raw.parameters::<power::PowerTransformer>()?.build(input),
        "QuantileTransformer" => raw.parameters::<quantile::QuantileTransformer>()?.build(input),
        "RobustScaler" => raw.parameters::<scale::RobustScaler>()?.build(input),
        "SimpleImputer" => raw.parameters::<impute::SimpleImputer>()?.build(input),
        "StandardScaler" => raw.parameters::<scale::StandardScaler>()?.build(input),
        _ => bail!("this daemon does not know the class"),
    }
}
