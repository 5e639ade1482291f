//! What scikit-learn does to the features before the model, done here: `tools/export_preprocessing.py` writes a fitted
//! transformer or pipeline as one JSON file, and a [`Preprocessor`] applies it to a frame, equal to scikit-learn.
//!
//! Each file here is one family of transformers: the JSON of each, what must hold of it, and what it does to columns.

mod bins;
mod column_transformer;
mod columns;
mod encode;
mod format;
mod function;
pub mod gap;
mod impute;
mod lookup;
mod normal;
mod power;
mod quantile;
mod scale;
mod step;
#[cfg(test)]
mod tests;

use anyhow::{Context as _, Result};
use polars::prelude::{Column, DataFrame};

use crate::features::Selection;
use columns::check_unique;
use step::{Stages, has_gap};

/// A fitted pipeline, ready for frames of any number of rows.
#[derive(Debug)]
pub struct Preprocessor {
    /// The file it came from, for messages.
    file: String,
    features: Selection,
    stages: Stages,
}

impl Preprocessor {
    /// Reads what `tools/export_preprocessing.py` wrote; `file` is its name in messages.
    pub fn from_json(file: &str, text: &str) -> Result<Self> {
        let read = format::read(text)?;
        let stages = Stages::new(read.steps, &read.columns)?;
        check_unique(stages.output())?;
        Ok(Self { file: file.to_owned(), features: Selection::new(file, read.columns), stages })
    }

    /// The features that it reads, in the order of training.
    pub fn columns(&self) -> &[String] {
        self.features.columns()
    }

    /// The columns that it makes, in the order that the model was trained on.
    pub fn output(&self) -> &[String] {
        self.stages.output()
    }

    /// Applies the pipeline to every row. The frame may have other columns besides: they are left out, which is
    /// said once.
    ///
    /// # Errors
    /// Features that are missing, of the wrong type, infinite, or otherwise such that scikit-learn would refuse them.
    pub fn transform(&self, frame: &DataFrame) -> Result<DataFrame> {
        let features = self.features.select(frame)?.into_columns();
        let columns = self.stages.apply(features.clone()).with_context(|| self.file.clone())?;
        if frame.height() == 1 && columns.iter().any(has_gap) {
            gap::remember(self.gaps(features)?);
        }
        Ok(DataFrame::new(frame.height(), columns)?)
    }

    /// The columns that come out with a gap, and where it came from.
    fn gaps(&self, features: Vec<Column>) -> Result<Vec<(String, String)>> {
        let missing = |column: &Column| {
            let name = column.name();
            has_gap(column).then(|| format!("feature {name:?} is missing, and no step fills the gap"))
        };
        let missing = features.iter().map(missing).collect();
        let traced = self.stages.trace(features, missing).with_context(|| self.file.clone())?;
        let named = traced.into_iter().zip(self.output());
        Ok(named.filter_map(|(gap, name)| Some((name.clone(), format!("{}: {}", self.file, gap?)))).collect())
    }
}
