//! How well a circuit does what the model does, on rows that had no part in making it.

use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use super::sample::{Row, Sample};
use crate::fault::Fault;
use crate::model::ModelOutput;
use crate::pipeline::circuit::Circuit;
use crate::pipeline::predict::{Answers, Predictor};
use crate::pipeline::tolerance::{Measured, Spread, percentile};

/// Rows that are named where a circuit fails.
const NAMED: usize = 5;
/// What a finer scale may give beyond a bit for a bit.
const SPARE_BITS: f64 = 2.0;

/// What the held-out rows have shown.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AccuracyReport {
    /// Rows that were measured.
    pub rows: usize,
    /// False where candle cannot run the model: then there is no error to tell.
    pub compared: bool,
    /// Over the rows that can be proven.
    #[serde(flatten)]
    pub error: Errors,
    /// What the daemon's limits follow from.
    #[serde(default)]
    pub measured: Measured,
    /// Share of rows over `NOVA_MAX_DIVERGENCE` and `NOVA_MAX_DIVERGENCE_ABS`.
    pub over_limit: f64,
    /// Share of rows whose witness could not be proven.
    pub unprovable: f64,
    /// The first rows that the daemon would not answer.
    pub refused: Vec<Refused>,
    /// The first row for which `post_process` has no answer yet: without it only the outputs are measured.
    #[serde(default)]
    pub unanswered: Option<Refused>,
    /// What is wrong with all rows, if so: the circuit errs by more than an answer survives.
    #[serde(skip)]
    pub(super) too_coarse: Option<String>,
    /// Of each row, in their order; `None` where it cannot be proven.
    #[serde(skip)]
    pub(super) of_rows: Vec<Option<f64>>,
}

/// |circuit − candle|; of a row its largest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Errors {
    pub mean: f64,
    pub p99: f64,
    pub max: f64,
}

impl Errors {
    fn of(mut errors: Vec<f64>) -> Self {
        errors.sort_by(f64::total_cmp);
        Self {
            mean: errors.iter().sum::<f64>() / errors.len().max(1) as f64,
            p99: percentile(&errors, 99).unwrap_or_default(),
            max: errors.last().copied().unwrap_or_default(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// The row's number in the sample, counted from 0.
    pub row: usize,
    pub reason: String,
}

/// What one row has shown.
enum Verdict {
    Within(f64),
    OverLimit(f64, Refused),
    Unprovable(Refused),
}

impl AccuracyReport {
    /// Runs the circuit on every held-out row, `at_once` of them at a time, and judges them as the daemon will, with the limits that
    /// follow from these very rows.
    pub async fn measure(predictor: &Predictor, sample: &Sample, at_once: usize) -> Result<Self> {
        let circuit = predictor.circuit().context("there is no circuit to measure")?;
        let attempts: Vec<Attempt> = stream::iter(&sample.held_out)
            .map(|row| attempt(predictor, circuit, row))
            .buffered(at_once)
            .try_collect()
            .await?;
        let measured = measured(predictor, &attempts);
        let unanswered = attempts.iter().find_map(|attempt| attempt.outcome.as_ref().ok()?.unanswered.clone());
        let judge = predictor.with_circuit(circuit.clone().with_measured(measured.clone()));
        let verdicts = attempts.into_iter().map(|attempt| attempt.verdict(&judge)).collect();
        let compared = sample.held_out.iter().all(|row| row.model.is_some());
        let too_coarse = judge.too_coarse(&measured);
        Ok(Self { measured, too_coarse, unanswered, ..Self::of(verdicts, compared) })
    }

    fn of(verdicts: Vec<Verdict>, compared: bool) -> Self {
        let rows = verdicts.len();
        let (mut of_rows, mut refused) = (Vec::with_capacity(rows), Vec::new());
        let (mut over_limit, mut unprovable) = (0, 0);
        for verdict in verdicts {
            match verdict {
                Verdict::Within(error) => of_rows.push(Some(error)),
                Verdict::OverLimit(error, row) => {
                    of_rows.push(Some(error));
                    over_limit += 1;
                    refused.push(row);
                }
                Verdict::Unprovable(row) => {
                    of_rows.push(None);
                    unprovable += 1;
                    refused.push(row);
                }
            }
        }
        refused.truncate(NAMED);
        let share = |count: usize| count as f64 / rows.max(1) as f64;
        Self {
            rows,
            compared,
            error: Errors::of(of_rows.iter().flatten().copied().collect()),
            over_limit: share(over_limit),
            unprovable: share(unprovable),
            refused,
            unanswered: None,
            of_rows,
            measured: Measured::default(),
            too_coarse: None,
        }
    }

    /// The errors of both, over the rows that both can prove; `None` if there is none. A circuit that refuses its worst rows
    /// looks no better so.
    pub fn common_errors(&self, other: &Self) -> Option<(Errors, Errors)> {
        let both = self.of_rows.iter().zip(&other.of_rows).filter_map(|(own, its)| Some(((*own)?, (*its)?)));
        let (own, its): (Vec<f64>, Vec<f64>) = both.unzip();
        (!own.is_empty()).then(|| (Errors::of(own), Errors::of(its)))
    }

    /// Share of rows that the daemon would not answer.
    pub fn refused_share(&self) -> f64 {
        self.over_limit + self.unprovable
    }

    /// True if a scale that is so many bits finer may help: the two engines are further apart than is allowed, and not by far more
    /// than these bits make up for.
    pub fn may_be_mended(&self, bits: i32, most_refused: f64) -> bool {
        let bits_short = self.measured.too_coarse().map_or(0.0, |coarse| coarse.bits_short());
        (self.too_coarse.is_some() || self.over_limit > most_refused) && bits_short <= f64::from(bits) + SPARE_BITS
    }

    /// # Errors
    /// If the daemon would refuse more than this share: some of the rows, each with its reason.
    pub fn require(&self, most_refused: f64, sample: &Sample) -> Result<()> {
        if let Some(reason) = &self.too_coarse {
            bail!("{reason}");
        }
        let rows: Vec<String> =
            self.refused.iter().map(|refused| format!("row {}: {}", refused.row, refused.reason)).collect();
        ensure!(
            self.refused_share() <= most_refused,
            "the circuit cannot hold {:.1} % of the {} rows of {} that it was measured with ({:.1} % are allowed, --max-refused). {}. \
             Calibrate with more such rows, widen the lookup tables with --lookup-margin, or leave outputs that no answer needs out of the \
             circuit with --output",
            100.0 * self.refused_share(),
            self.rows,
            sample.file.display(),
            100.0 * most_refused,
            rows.join("; ")
        );
        Ok(())
    }
}

impl std::fmt::Display for AccuracyReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (rows, Errors { mean, p99, max }) = (self.rows, self.error);
        if !self.compared {
            let unprovable = 100.0 * self.unprovable;
            return write!(
                f,
                "{unprovable:.1} % of {rows} held-out rows not provable; candle cannot run the model to compare"
            );
        }
        write!(
            f,
            "|circuit − candle| on {rows} held-out rows: mean {mean:.2e}, p99 {p99:.2e}, max {max:.2e}; {:.1} % over the limits, \
             {:.1} % not provable",
            100.0 * self.over_limit,
            100.0 * self.unprovable
        )
    }
}

/// What came of one row, or why it would not be answered.
struct Attempt<'a> {
    row: &'a Row,
    outcome: Result<Computed, Refused>,
}

/// What the circuit and `post_process` make of a row.
struct Computed {
    circuit: ModelOutput,
    answers: Answers,
    /// Why there are no answers: while a model is tried, hooks may not be written yet.
    unanswered: Option<Refused>,
}

/// As the daemon would, up to the comparison.
async fn attempt<'a>(predictor: &Predictor, circuit: &Circuit, row: &'a Row) -> Result<Attempt<'a>> {
    match computed(predictor, circuit, row).await {
        Ok(computed) => Ok(Attempt { row, outcome: Ok(computed) }),
        Err(Fault::Permanent(error)) => Ok(Attempt { row, outcome: Err(refused(row, &error)) }),
        Err(other) => Err(other.into()),
    }
}

async fn computed(predictor: &Predictor, circuit: &Circuit, row: &Row) -> std::result::Result<Computed, Fault> {
    let (output, witness) = predictor.witness(circuit, &row.input, row.model.as_ref()).await?;
    circuit.check_provable(&witness, &row.input).await?;
    let (answers, unanswered) = match predictor.answers(&row.name(), "", row.model.as_ref(), Some(&output)).await {
        Ok(answers) => (answers, None),
        Err(Fault::Permanent(error)) => (Answers::default(), Some(refused(row, &error))),
        Err(other) => return Err(other),
    };
    Ok(Computed { circuit: output, answers, unanswered })
}

impl Attempt<'_> {
    fn verdict(self, predictor: &Predictor) -> Verdict {
        let Computed { circuit, answers, .. } = match self.outcome {
            Ok(computed) => computed,
            Err(refused) => return Verdict::Unprovable(refused),
        };
        let Some(model) = &self.row.model else { return Verdict::Within(0.0) };
        let pairs = model.values.iter().flatten().zip(circuit.values.iter().flatten());
        let error = pairs.map(|(model, circuit)| (model - circuit).abs()).fold(0.0, f64::max);
        let agreed = predictor.check_agreement(model, &circuit).and_then(|()| match answers {
            Answers { model: Some(model), circuit: Some(circuit) } => predictor.check_answers(model, circuit),
            _ => Ok(()),
        });
        match agreed {
            Ok(()) => Verdict::Within(error),
            Err(fault) => Verdict::OverLimit(error, refused(self.row, fault.error())),
        }
    }
}

/// What the rows show of each output, and of the answers.
fn measured(predictor: &Predictor, attempts: &[Attempt]) -> Measured {
    let compared = || {
        attempts.iter().filter_map(|attempt| {
            let Computed { circuit, answers, .. } = attempt.outcome.as_ref().ok()?;
            Some((attempt.row.model.as_ref()?, circuit, answers))
        })
    };
    let output = |at: usize| {
        let values = |output: &ModelOutput| output.values.get(at).cloned().unwrap_or_default();
        Spread::of(compared().flat_map(|(model, circuit, _)| std::iter::zip(values(model), values(circuit))))
    };
    let integers = predictor.integer_outputs();
    Measured {
        outputs: integers.iter().enumerate().map(|(at, integer)| if *integer { None } else { output(at) }).collect(),
        answer: Spread::of(compared().filter_map(|(_, _, answers)| answers.model.zip(answers.circuit))),
    }
}

fn refused(row: &Row, error: &anyhow::Error) -> Refused {
    Refused { row: row.at, reason: crate::sanitize::truncate(&format!("{error:#}"), 300).into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_all_rows_and_errors_of_those_that_can_be_proven() {
        let row = |row| Refused { row, reason: "beyond".to_owned() };
        let mut verdicts: Vec<Verdict> = (1..=98).map(|error| Verdict::Within(f64::from(error))).collect();
        verdicts.push(Verdict::OverLimit(200.0, row(4)));
        verdicts.push(Verdict::Unprovable(row(8)));
        let found = AccuracyReport::of(verdicts, true);
        assert_eq!((found.rows, found.over_limit, found.unprovable), (100, 0.01, 0.01));
        assert_eq!((found.error.p99, found.error.max), (200.0, 200.0));
        assert!((found.error.mean - (98.0 * 99.0 / 2.0 + 200.0) / 99.0).abs() < 1e-9);
        let sample = Sample { file: "rows.csv".into(), ..Sample::default() };
        found.require(0.02, &sample).unwrap();
        let error = found.require(0.01, &sample).unwrap_err().to_string();
        for part in ["2.0 % of the 100 rows of rows.csv", "row 4: beyond; row 8: beyond", "--max-refused"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn no_row_is_no_error() {
        let nothing = AccuracyReport::of(Vec::new(), true);
        assert_eq!((nothing.error.mean, nothing.error.p99, nothing.refused_share()), (0.0, 0.0, 0.0));
    }

    #[test]
    fn two_circuits_are_compared_on_the_rows_that_both_can_prove() {
        let row = || Refused { row: 0, reason: "beyond".to_owned() };
        let of = |verdicts: Vec<Verdict>| AccuracyReport::of(verdicts, true);
        // It refuses its worst row.
        let found = of(vec![Verdict::Within(0.1), Verdict::Unprovable(row())]);
        let other = of(vec![Verdict::Within(0.05), Verdict::Within(9.0)]);
        let (own, its) = found.common_errors(&other).unwrap();
        assert_eq!((own.max, its.max), (0.1, 0.05));
        assert_eq!(found.common_errors(&of(vec![Verdict::Unprovable(row()), Verdict::Within(0.0)])), None);
    }
}
