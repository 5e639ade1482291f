//! One step after the other: columns in, columns out.

use std::fmt::Debug;

use anyhow::{Context as _, Result, bail};
use polars::prelude::Column;

use super::columns::Precision;
use super::format::RawStep;
use super::{bins, column_transformer, encode, function, impute, power, quantile, scale};

/// One fitted transformer.
pub trait Step: Debug + Send + Sync {
    /// Transforms the columns that it was built for; what comes out is named by [`Built::output`].
    fn apply(&self, columns: &[Column], precision: Precision) -> Result<Vec<Column>>;

    /// Of a step of steps: for each column that comes out, where its gap came from, if it has one; `gaps` are those of what goes in.
    fn trace(&self, _columns: &[Column], _gaps: &[Option<String>]) -> Result<Option<Vec<Option<String>>>> {
        Ok(None)
    }
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
    stages: Vec<Stage>,
    output: Vec<String>,
}

#[derive(Debug)]
struct Stage {
    /// How messages name it.
    label: String,
    precision: Precision,
    built: Built,
}

impl Stages {
    /// The steps, each checked against the columns that the one before it makes.
    pub fn new(steps: Vec<RawStep>, input: &[String]) -> Result<Self> {
        let mut output = input.to_vec();
        let mut stages = Vec::with_capacity(steps.len());
        for step in steps {
            let (label, precision) = (step.label(), step.dtype);
            let built = build(step, &output).with_context(|| label.clone())?;
            output.clone_from(&built.output);
            stages.push(Stage { label, precision, built });
        }
        Ok(Self { stages, output })
    }

    /// The names of the columns that come out.
    pub fn output(&self) -> &[String] {
        &self.output
    }

    /// All steps, in their order.
    pub fn apply(&self, mut columns: Vec<Column>) -> Result<Vec<Column>> {
        for stage in &self.stages {
            columns = stage.apply(&columns)?;
        }
        Ok(columns)
    }

    /// For each column that comes out, where its gap came from, if it has one. `gaps` are those of the columns that go in.
    pub fn trace(&self, mut columns: Vec<Column>, mut gaps: Vec<Option<String>>) -> Result<Vec<Option<String>>> {
        for stage in &self.stages {
            let made = stage.apply(&columns)?;
            gaps = match stage.built.step.trace(&columns, &gaps)? {
                Some(traced) => traced,
                None => stage.gaps(&made, &gaps),
            };
            columns = made;
        }
        Ok(gaps)
    }
}

impl Stage {
    fn apply(&self, columns: &[Column]) -> Result<Vec<Column>> {
        let apply = || {
            let rounded =
                columns.iter().map(|column| self.precision.round_column(column)).collect::<Result<Vec<_>>>()?;
            self.built.step.apply(&rounded, self.precision)
        };
        let mut made = apply().with_context(|| self.label.clone())?;
        for (column, name) in made.iter_mut().zip(&self.built.output) {
            column.rename(name.as_str().into());
        }
        Ok(made)
    }

    /// Where the gaps of what it made came from: from what went in, or from itself.
    fn gaps(&self, made: &[Column], gaps: &[Option<String>]) -> Vec<Option<String>> {
        let of_one = made.len() == gaps.len();
        let origin = |at: usize| if of_one { gaps[at].clone() } else { gaps.iter().flatten().next().cloned() };
        let own = || format!("{} made it of finite numbers", self.label);
        made.iter().enumerate().map(|(at, column)| has_gap(column).then(|| origin(at).unwrap_or_else(own))).collect()
    }
}

/// Whether a number of the column is missing or infinite.
pub fn has_gap(column: &Column) -> bool {
    column.null_count() > 0
        || column.f64().is_ok_and(|numbers| numbers.iter().flatten().any(|number| !number.is_finite()))
}

/// The step that the class stands for.
fn build(raw: RawStep, input: &[String]) -> Result<Built> {
    match raw.class.as_str() {
        "ColumnTransformer" => raw.parameters::<column_transformer::ColumnTransformer>()?.build(input),
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
