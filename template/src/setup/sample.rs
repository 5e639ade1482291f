//! The sample: every row through the owner's own `pre_process` and through candle. Most rows calibrate the circuit, the
//! others measure it.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::features::{self, FeatureRow};
use crate::model::{ModelInput, ModelOutput};
use crate::pipeline::predict::Predictor;

/// Fewer rows do not show the circuit the range of its inputs.
const MIN_ROWS: usize = 200;
/// One row in so many is held out, always the same ones: what measures the circuit has had no part in making it.
const HELD_OUT: usize = 4;

/// One row, as both engines take it.
pub struct Row {
    /// Its number in the file, counted from 0.
    pub at: usize,
    pub input: ModelInput,
    /// What candle says; `None` where it cannot run the model, and the circuit answers alone.
    pub model: Option<ModelOutput>,
}

impl Row {
    /// What hooks see as its request's id.
    pub fn name(&self) -> String {
        name(self.at)
    }
}

fn name(at: usize) -> String {
    format!("sample row {at}")
}

/// The rows of one file.
pub struct Sample {
    pub file: PathBuf,
    pub calibration: Vec<Row>,
    pub held_out: Vec<Row>,
}

impl Sample {
    /// # Errors
    /// A file that cannot be read, has too few rows, or has a row that the hooks or the model do not take.
    pub async fn read(file: &Path, predictor: &Predictor) -> Result<Self> {
        let table = features::load(file)?;
        ensure!(
            table.height() >= MIN_ROWS,
            "{} has {} rows, calibration needs at least {MIN_ROWS}: choose another with --sample",
            file.display(),
            table.height()
        );
        let mut sample = Self { file: file.to_owned(), calibration: Vec::new(), held_out: Vec::new() };
        for at in 0..table.height() {
            let row = read_row(predictor, at, table.row(at)?).await;
            let row = row.map_err(|error| error.context(format!("{} row {at}", file.display())))?;
            let part = if at % HELD_OUT == 0 { &mut sample.held_out } else { &mut sample.calibration };
            part.push(row);
        }
        Ok(sample)
    }

    /// EZKL's calibration data of at most so many rows, spread evenly. It takes one list for each input of the model, with
    /// the values of all rows one after the other.
    pub fn calibration_data(&self, most: usize) -> Value {
        let every = self.calibration.len().div_ceil(most);
        let mut lists: Vec<Vec<f64>> = Vec::new();
        for row in self.calibration.iter().step_by(every) {
            let flat = row.input.flat();
            lists.resize_with(flat.len(), Vec::new);
            for (list, values) in lists.iter_mut().zip(flat) {
                list.extend(values);
            }
        }
        json!({ "input_data": lists })
    }
}

async fn read_row(predictor: &Predictor, at: usize, features: FeatureRow) -> Result<Row> {
    let input = predictor.model_input(&name(at), "", features).await?;
    let model = predictor.candle(input.clone()).await?;
    Ok(Row { at, input, model })
}
