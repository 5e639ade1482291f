//! How far the circuit may be from candle: what `setup` measures of both, and the limits that follow.
//!
//! Whole numbers (classes, labels, counts) are equal or wrong. Of any other number the limit has the number's own unit: it follows
//! from the errors that `setup` has seen and from the range of the values, not from the circuit's step, which says little about
//! either.

use serde::{Deserialize, Serialize};

use crate::config::Inference;
use crate::ezkl::settings::Settings;

/// A float that is a whole number up to here is a class, a label or a count, as exporters write them that know no other type: that
/// candle and the circuit both give a whole number, and not the same, is no rounding of a real one.
const LARGEST_LABEL: f64 = 65_536.0;
/// What rounding at both ends explains, in steps of the coarsest scale on the way.
const STEPS: f64 = 2.0;
/// The limit, in p99 errors of the held-out rows.
const P99_ERRORS: f64 = 4.0;
/// The limit's cap, as a share of the range of the values: beyond it an answer says something else.
const MAX_SHARE_OF_RANGE: f64 = 0.01;
/// The coarsest step that is believed of a circuit that was never measured: that of EZKL's lowest scale.
const COARSEST_SCALE: i32 = 7;
/// How far single precision in another order of additions may be off, as a share: seven digits, and room for a deep model.
const SHARE_OF_ROUNDING: f64 = 1e-5;

/// What `setup` has measured of one number that both engines give, on the held-out rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// |circuit − candle|: what 99 % of the rows do not exceed.
    pub error_p99: f64,
    /// Candle's values: their 1st percentile, median and 99th percentile.
    pub p1: f64,
    pub median: f64,
    pub p99: f64,
}

/// What `setup` has measured. Files of an earlier `setup` hold nothing of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Of each output of the model, over all its elements; `None` where all are whole numbers.
    pub outputs: Vec<Option<Spread>>,
    /// Of what `post_process` makes of both; `None` where it gives whole numbers.
    pub answer: Option<Spread>,
}

impl Measured {
    /// The first output whose usual error is more than an answer survives, last what `post_process` makes of the outputs: no limit
    /// that means something would serve such a circuit.
    pub fn too_coarse(&self) -> Option<Coarse> {
        let outputs = self.outputs.iter().enumerate().map(|(at, spread)| (Some(at), *spread));
        outputs.chain([(None, self.answer)]).find_map(|(output, spread)| {
            let spread = spread.filter(|spread| spread.range() > 0.0 && spread.error_p99 > spread.cap())?;
            Some(Coarse { output, spread })
        })
    }
}

impl Spread {
    /// Of pairs of candle's value and the circuit's, of which none may be two whole numbers. `None` if there is no pair.
    pub fn of(pairs: impl IntoIterator<Item = (f64, f64)>) -> Option<Self> {
        let pairs = pairs.into_iter().filter(|(model, circuit)| !are_labels(*model, *circuit));
        let (mut values, mut errors): (Vec<f64>, Vec<f64>) =
            pairs.map(|(model, circuit)| (model, (circuit - model).abs())).unzip();
        values.sort_by(f64::total_cmp);
        errors.sort_by(f64::total_cmp);
        Some(Self {
            error_p99: percentile(&errors, 99)?,
            p1: percentile(&values, 1)?,
            median: percentile(&values, 50)?,
            p99: percentile(&values, 99)?,
        })
    }

    /// Between the 1st and the 99th percentile.
    pub fn range(&self) -> f64 {
        self.p99 - self.p1
    }

    /// The limit's cap.
    pub fn cap(&self) -> f64 {
        MAX_SHARE_OF_RANGE * self.range()
    }

    /// The absolute part of the limit, where rounding explains `floor`.
    fn limit(&self, floor: f64) -> f64 {
        (P99_ERRORS * self.error_p99).min(self.cap()).max(floor)
    }
}

/// The smallest of the sorted values that so many percent do not exceed.
pub fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied()
}

/// Both are whole numbers of the size that classes and counts have.
pub fn are_labels(model: f64, circuit: f64) -> bool {
    let is_label = |value: f64| value.fract() == 0.0 && value.abs() <= LARGEST_LABEL;
    is_label(model) && is_label(circuit)
}

/// How far two values may be apart: `absolute + share × distance`, the distance being that from zero or, where it is known and
/// nearer, from the median of the sample: 1 % of a million is no limit for values between 999,990 and 1,000,010.
#[derive(Debug, Clone, Copy)]
struct Limit {
    absolute: f64,
    share: f64,
    median: Option<f64>,
}

impl Limit {
    fn allowed(&self, value: f64) -> f64 {
        let distance = self.median.map_or(f64::INFINITY, |median| (value - median).abs()).min(value.abs());
        self.absolute + self.share * distance
    }

    /// Why the circuit's value is none for candle's, if so.
    fn exceeded(&self, model: f64, circuit: f64) -> Option<Disagreement> {
        let (off, allowed) = ((circuit - model).abs(), self.allowed(model));
        (off > allowed).then_some(Disagreement::Apart { model, circuit, off, allowed })
    }
}

/// Two values that should be the same.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Disagreement {
    #[error("candle says {model}, the circuit {circuit}: whole numbers must be equal")]
    Labels { model: f64, circuit: f64 },
    #[error("candle says {model}, the circuit {circuit}: they differ by {off:.3e}, {allowed:.3e} is allowed")]
    Apart { model: f64, circuit: f64, off: f64, allowed: f64 },
}

/// An output whose usual error is more than an answer survives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coarse {
    /// `None`: what `post_process` makes of the outputs.
    pub output: Option<usize>,
    pub spread: Spread,
}

impl Coarse {
    /// The bits of scale that are missing: each halves the error.
    pub fn bits_short(&self) -> f64 {
        (self.spread.error_p99 / self.spread.cap()).log2()
    }
}

/// The limits of one model and its circuit.
#[derive(Debug, Clone)]
pub struct Tolerance {
    /// Of each output; `None` where it is of a type of whole numbers.
    outputs: Vec<Option<Limit>>,
    /// `None` where `setup` has not measured it: then only whole numbers are compared.
    answer: Option<Limit>,
}

impl Tolerance {
    /// Of candle alone: others differ from it by their rounding only.
    pub fn without_circuit(integers: &[bool]) -> Self {
        let rounding = Limit { absolute: SHARE_OF_ROUNDING, share: SHARE_OF_ROUNDING, median: None };
        let outputs = integers.iter().map(|is_integer| (!is_integer).then_some(rounding)).collect();
        Self { outputs, answer: Some(rounding) }
    }

    /// Of a model whose outputs are `integers` or not, with a circuit of these settings.
    pub fn of(
        integers: &[bool],
        has_float_input: bool,
        circuit: &Settings,
        measured: &Measured,
        set: &Inference,
    ) -> Self {
        let floor = |at: usize| STEPS * (-f64::from(circuit.coarsest_scale(at, has_float_input))).exp2();
        let limit = |absolute: f64, spread: Option<&Spread>| Limit {
            absolute,
            share: set.max_divergence,
            median: spread.map(|spread| spread.median),
        };
        let spread = |at: usize| measured.outputs.get(at).and_then(Option::as_ref);
        let of_output = |at: usize| {
            let unmeasured = floor(at).min(STEPS * (-f64::from(COARSEST_SCALE)).exp2());
            let absolute = spread(at).map_or(unmeasured, |spread| spread.limit(floor(at)));
            limit(set.max_divergence_abs.unwrap_or(absolute), spread(at))
        };
        let outputs =
            integers.iter().enumerate().map(|(at, is_integer)| (!is_integer).then(|| of_output(at))).collect();
        let answer = measured.answer.as_ref().map(|answer| {
            // The floor in the answer's unit, or in the outputs' where one of both never varies; `NOVA_MAX_DIVERGENCE_ABS` is in the
            // outputs' and only widens.
            let in_its_unit = |at: usize| {
                let range = spread(at)?.range();
                let unit = if range > 0.0 && answer.range() > 0.0 { answer.range() / range } else { 1.0 };
                Some(floor(at) * unit)
            };
            let floor = (0..integers.len()).filter_map(in_its_unit).fold(0.0, f64::max);
            limit(answer.limit(floor).max(set.max_divergence_abs.unwrap_or(0.0)), Some(answer))
        });
        Self { outputs, answer }
    }

    /// How far the circuit's value of the output at this place may be from candle's.
    pub fn of_output(&self, at: usize, value: f64) -> f64 {
        self.outputs.get(at).copied().flatten().map_or(0.0, |limit| limit.allowed(value))
    }

    /// How far an answer may be from one that was computed elsewhere: as far as from candle's where that is known, else as the
    /// first output.
    pub fn of_answer(&self, value: f64) -> f64 {
        self.answer.map_or_else(|| self.of_output(0, value), |limit| limit.allowed(value))
    }

    /// # Errors
    /// Two values of the output at this place that are too far apart.
    pub fn check_output(&self, at: usize, model: f64, circuit: f64) -> Result<(), Disagreement> {
        let limit = self.outputs.get(at).copied().flatten();
        check(limit.as_ref(), limit.is_none(), model, circuit)
    }

    /// # Errors
    /// Two answers, of which one was made of the circuit's output and one of candle's, that are too far apart.
    pub fn check_answer(&self, model: f64, circuit: f64) -> Result<(), Disagreement> {
        check(self.answer.as_ref(), false, model, circuit)
    }
}

fn check(limit: Option<&Limit>, is_integer: bool, model: f64, circuit: f64) -> Result<(), Disagreement> {
    if is_integer || are_labels(model, circuit) {
        return if model == circuit { Ok(()) } else { Err(Disagreement::Labels { model, circuit }) };
    }
    limit.and_then(|limit| limit.exceeded(model, circuit)).map_or(Ok(()), Err)
}

#[cfg(test)]
#[path = "tolerance_tests.rs"]
mod tests;
