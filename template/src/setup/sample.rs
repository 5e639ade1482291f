//! The sample: every row through the owner's own `pre_process` and through candle. Most rows calibrate the circuit, the
//! others measure it.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::fault::Fault;
use crate::features::{self, FeatureRow, FeatureSchema};
use crate::model::{ModelInput, ModelOutput};
use crate::pipeline::predict::Predictor;

/// Fewer rows do not show the circuit the range of its inputs.
const MIN_ROWS: usize = 200;
/// One row in so many is held out, always the same ones: what measures the circuit has had no part in making it.
const HELD_OUT: usize = 4;
/// A sample of which a larger share cannot be used is not the one that the hooks were written for.
const MAX_UNUSABLE: f64 = 0.05;
/// Rows that are named where some cannot be used, and inputs where numbers do not fit.
const NAMED: usize = 3;
/// How much is told of why a row cannot be used.
const REASON_LENGTH: usize = 300;
/// Inputs are named if they reach this share of the one that reaches furthest.
const SHARE_OF_LARGEST: f64 = 0.01;

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
#[derive(Default)]
pub struct Sample {
    pub file: PathBuf,
    pub calibration: Vec<Row>,
    pub held_out: Vec<Row>,
    /// What they show of each feature.
    pub features: FeatureSchema,
    /// The rows that hooks or model do not take, by number, and why.
    pub unusable: Vec<(usize, String)>,
}

impl Sample {
    /// # Errors
    /// A file that cannot be read, or has too few rows that the hooks and the model take.
    pub async fn read(file: &Path, predictor: &Predictor) -> Result<Self> {
        let table = features::load(file)?;
        let mut sample = Self { file: file.to_owned(), ..Self::default() };
        let mut missing = HashSet::new();
        for at in 0..table.height() {
            let row = table.row(at)?;
            let gaps: Vec<String> = row.missing().map(str::to_owned).collect();
            match sample.add(predictor, at, row).await {
                Ok(()) => _ = missing.insert(gaps),
                Err(Fault::Permanent(error)) => {
                    sample.unusable.push((at, crate::sanitize::escape_control_chars(&format!("{error:#}")).into()))
                }
                Err(other) => return Err(anyhow::Error::from(other).context(format!("{} row {at}", file.display()))),
            }
        }
        sample.features.count_gaps(missing.iter());
        sample.check(table.height())?;
        Ok(sample)
    }

    async fn add(&mut self, predictor: &Predictor, at: usize, features: FeatureRow) -> Result<(), Fault> {
        let mut input = predictor.model_input(&name(at), "", features.clone()).await?;
        if let Some(other) = self.held_out.first() {
            input.share_labels(&other.input);
        }
        let model = predictor.run_float_model(input.clone()).await?;
        let gaps = predictor.used_gaps(&features, &input, &self.features.gaps.columns).await?;
        self.features.add(&features, gaps);
        let part = if at.is_multiple_of(HELD_OUT) { &mut self.held_out } else { &mut self.calibration };
        part.push(Row { at, input, model });
        Ok(())
    }

    /// There are enough rows, and few that cannot be used.
    fn check(&self, rows: usize) -> Result<()> {
        let (file, usable) = (self.file.display(), rows - self.unusable.len());
        let unusable = self.described_unusable().map_or_else(String::new, |told| format!(". {told}"));
        ensure!(
            usable >= MIN_ROWS,
            "{file} has {rows} rows, calibration needs at least {MIN_ROWS} that can be used: choose another with --sample{unusable}"
        );
        ensure!(
            self.unusable.len() as f64 <= MAX_UNUSABLE * rows as f64,
            "more than {:.0} % of the {rows} rows of {file} cannot be used: mend them, or choose another with --sample{unusable}",
            100.0 * MAX_UNUSABLE
        );
        Ok(())
    }

    /// How many rows cannot be used, and why the first of them cannot; `None` where all can.
    pub fn described_unusable(&self) -> Option<String> {
        let (count, file) = (self.unusable.len(), self.file.display());
        let reason = |reason: &str| crate::sanitize::truncate(reason, REASON_LENGTH).into_owned();
        let named = self.unusable.iter().take(NAMED).map(|(at, told)| format!("row {at}: {}", reason(told)));
        let named = named.collect::<Vec<_>>().join("; ");
        (count > 0).then(|| {
            format!("{count} rows of {file} cannot be used: {named}{}", if count > NAMED { "; …" } else { "" })
        })
    }

    /// Columns in which the model's input has whole numbers that its type rounds, with an example of each.
    pub fn rounded(&self) -> Vec<String> {
        let mut columns = BTreeSet::new();
        let rows = self.calibration.iter().chain(&self.held_out);
        rows.flat_map(|row| row.input.rounded())
            .filter(|rounded| columns.insert(rounded.label.clone()))
            .map(ToString::to_string)
            .collect()
    }

    /// The rows that show the range of values: at most so many of those that calibrate, spread evenly, and those in which an
    /// element of the input is smallest or largest.
    pub fn rows_of_range(&self, most: usize) -> Vec<&Row> {
        let mut extremes: Vec<(f64, usize, f64, usize)> = Vec::new();
        for (at, row) in self.calibration.iter().enumerate() {
            for (element, (_, value)) in row.input.labelled().enumerate() {
                match extremes.get_mut(element) {
                    None => extremes.push((value, at, value, at)),
                    Some((low, lowest, ..)) if value < *low => (*low, *lowest) = (value, at),
                    Some((_, _, high, highest)) if value > *high => (*high, *highest) = (value, at),
                    Some(_) => {}
                }
            }
        }
        let extremes = extremes.iter().flat_map(|(_, lowest, _, highest)| [*lowest, *highest]);
        let rows = self.calibration.len();
        let spread = (0..rows).step_by(rows.div_ceil(most.max(1)).max(1));
        let chosen: BTreeSet<usize> = spread.chain(extremes).collect();
        chosen.into_iter().map(|at| &self.calibration[at]).collect()
    }

    /// The inputs that reach furthest from zero in any row, at most three: each with its label and that number.
    pub fn largest(&self) -> Vec<(String, f64)> {
        let mut largest: Vec<(&str, f64)> = Vec::new();
        for row in self.calibration.iter().chain(&self.held_out) {
            for (element, (label, value)) in row.input.labelled().enumerate() {
                match largest.get_mut(element) {
                    None => largest.push((label, value)),
                    Some((_, most)) if value.abs() > most.abs() => *most = value,
                    Some(_) => {}
                }
            }
        }
        largest.sort_by(|(_, a), (_, b)| b.abs().total_cmp(&a.abs()));
        let furthest = largest.first().map_or(0.0, |(_, value)| value.abs());
        largest.retain(|(_, value)| value.abs() >= furthest * SHARE_OF_LARGEST);
        largest.into_iter().take(NAMED).map(|(label, value)| (label.to_owned(), value)).collect()
    }
}

/// EZKL's calibration data of these rows. It takes one list for each input of the model, with the values of all rows one after the
/// other.
pub fn calibration_data(rows: &[&Row]) -> Value {
    let mut lists: Vec<Vec<f64>> = Vec::new();
    for row in rows {
        let flat = row.input.flat();
        lists.resize_with(flat.len(), Vec::new);
        for (list, values) in lists.iter_mut().zip(flat) {
            list.extend(values);
        }
    }
    json!({ "input_data": lists })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rows: &[[f64; 3]]) -> Sample {
        let row = |(at, values): (usize, &[f64; 3])| Row {
            at,
            input: ModelInput::of_columns(&[("a", values[0]), ("b", values[1]), ("c", values[2])]),
            model: None,
        };
        let calibration = rows.iter().enumerate().map(row).collect();
        Sample { file: "rows.csv".into(), calibration, ..Sample::default() }
    }

    #[test]
    fn range_rows_are_few_and_hold_each_extreme() {
        let mut rows = vec![[0.5, 0.5, 0.5]; 5_000];
        (rows[1_111][0], rows[2_223][1], rows[3_333][2], rows[4_445][2]) = (9.0, -9.0, 7.0, -7.0);
        let sample = sample(&rows);
        let chosen = sample.rows_of_range(100);
        assert!(chosen.len() <= 100 + 6, "{}", chosen.len());
        for extreme in [1_111, 2_223, 3_333, 4_445] {
            assert!(chosen.iter().any(|row| row.at == extreme), "row {extreme} is not there");
        }
        assert!(chosen.is_sorted_by_key(|row| row.at));
        assert_eq!(sample.rows_of_range(10_000).len(), 5_000);
    }

    #[test]
    fn inputs_that_reach_furthest_are_named_in_order() {
        let sample = sample(&[[1.0, -3e9, 1e8], [2.0, 5.0, 1e4]]);
        assert_eq!(sample.largest(), [("column \"b\"".to_owned(), -3e9), ("column \"c\"".to_owned(), 1e8)]);
    }
}
