//! `setup --tune`: the fastest proof whose fidelity is good enough.
//!
//! 1. EZKL's own calibrated settings are the measure: of error, where no tolerance is given, and of time.
//! 2. Scales and rebase multipliers decide the error. Each is calibrated once and measured, from EZKL's scale downwards.
//! 3. Inner columns, decomposition and logrows decide the time. `gen_settings` tells their size in a moment; what is large
//!    is dropped, and only the best few are made, proven and compared, in turns.

mod candidates;
mod plot;
mod report;

use std::fs;

use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::json;

use candidates::rank_candidates;

use super::accuracy::AccuracyReport;
use super::circuit_builder::{BuiltCircuit, CircuitBuilder};
use super::circuit_params::{CircuitParams, Cost};
use super::reach::{self, Digits};
use super::{Finished, LOOKUP_MARGIN, SetupOptions, TuningLimits, calibrated};
use crate::ezkl::model_version::{TUNING, TUNING_PICTURE};

/// Choices that are proven, besides EZKL's and the one without compressed selectors.
const FINALISTS: usize = 5;
/// What a choice without compressed selectors must save: its proving key is a third larger, and its proof a little.
const WORTH_LARGER_KEYS: f64 = 0.95;
/// Proofs of each, in turns, so that a busy moment of the machine meets them all. The fastest counts.
const ROUNDS: usize = 3;
/// Scales above EZKL's that are tried where its own is not fine enough.
const SCALES_UP: i32 = 3;
/// What EZKL 23.0.5 takes where nothing is said (`RunArgs` in its src/lib.rs).
const EZKLS_DIGITS: Digits = (16384, 2);
const EZKLS_INNER_COLUMNS: usize = 2;

/// A choice, and what came of it.
#[derive(Serialize)]
struct Trial {
    choice: CircuitParams,
    /// EZKL's own.
    is_default: bool,
    predicted_memory_mb: f64,
    fidelity: Option<AccuracyReport>,
    keys_seconds: Option<f64>,
    /// Of each round.
    prove_seconds: Vec<f64>,
    peak_memory_mb: Option<u64>,
    proving_key_bytes: Option<u64>,
    /// Why it was given up.
    dropped: Option<String>,
}

/// What must not be exceeded.
#[derive(Debug, Clone, Serialize)]
struct Limits {
    /// The largest error.
    tolerance: Option<f64>,
    /// Where no tolerance is given: EZKL's own, whose errors must not be exceeded.
    baseline: Option<AccuracyReport>,
    refused: f64,
    memory_mb: Option<u64>,
}

impl Limits {
    /// Why the fidelity is not good enough, if so.
    fn exceeded(&self, found: &AccuracyReport) -> Option<String> {
        self.error_exceeded(found).or_else(|| {
            let share = |share: f64| format!("{:.1} %", 100.0 * share);
            let refused = found.refused_share();
            let first =
                found.refused.first().map_or_else(String::new, |row| format!(" (row {}: {})", row.row, row.reason));
            (refused > self.refused).then(|| {
                format!("{} of the rows would be refused, {} may be{first}", share(refused), share(self.refused))
            })
        })
    }

    fn error_exceeded(&self, found: &AccuracyReport) -> Option<String> {
        let above = |what: &str, value: f64, limit: f64| {
            (value > limit).then(|| format!("its {what} error {value:.2e} is above {limit:.2e}"))
        };
        if let Some(tolerance) = self.tolerance {
            return above("max", found.error.max, tolerance);
        }
        if found.too_coarse.is_some() {
            return found.too_coarse.clone();
        }
        let Some((own, its)) = found.common_errors(self.baseline.as_ref()?) else {
            return Some("EZKL's own settings and these have no row that both can prove: give --tolerance".to_owned());
        };
        let figures = [("max", own.max, its.max), ("p99", own.p99, its.p99), ("mean", own.mean, its.mean)];
        figures.into_iter().find_map(|(what, own, its)| above(what, own, its))
    }

    fn memory_exceeded(&self, megabytes: f64, what: &str) -> Option<String> {
        let limit = self.memory_mb.filter(|limit| megabytes > *limit as f64)?;
        Some(format!("{what} {megabytes:.0} MB of memory, {limit} MB are allowed (--max-memory)"))
    }
}

impl Trial {
    fn new(choice: CircuitParams, cost: Cost) -> Self {
        Self {
            choice,
            is_default: false,
            predicted_memory_mb: cost.memory_mb.round(),
            fidelity: None,
            keys_seconds: None,
            prove_seconds: Vec::new(),
            peak_memory_mb: None,
            proving_key_bytes: None,
            dropped: None,
        }
    }

    fn fastest(&self) -> Option<f64> {
        self.prove_seconds.iter().copied().reduce(f64::min)
    }
}

/// Finds the fastest, and writes `tuning.json` and `tuning.svg` beside what was made.
pub(super) async fn search(shop: &CircuitBuilder, request: &SetupOptions, goal: &TuningLimits) -> Result<Finished> {
    let margin = request.lookup_margin.unwrap_or(1.0);
    let (mut default, made) = baseline(shop).await?;
    let limits = Limits {
        tolerance: goal.tolerance,
        baseline: default.fidelity.clone().filter(|_| goal.tolerance.is_none()),
        refused: request.max_refused,
        memory_mb: shop.memory_mb,
    };
    default.dropped = default.fidelity.as_ref().and_then(|fidelity| limits.exceeded(fidelity));
    let mut dropped = Vec::new();
    let scales = scales_within_tolerance(shop, &default.choice, margin, &limits, &mut dropped).await?;
    let sizing = rank_candidates(shop, &scales, margin, &limits);
    let promising = shop.progress.step("sizing circuits of these scales", "the most promising", sizing).await?;
    let mut trials = vec![(default, Some(made))];
    for (at, choice) in promising.into_iter().enumerate() {
        if trials.len() > FINALISTS {
            break;
        }
        match compiled(shop, choice, &format!("circuit-{at}"), &limits).await? {
            (trial, Some(made)) if trial.dropped.is_none() => trials.push((trial, Some(made))),
            (trial, _) => dropped.push(trial),
        }
    }
    if let Some((trial, _)) = trials.get(1) {
        let choice = CircuitParams { compress_selectors: false, ..trial.choice };
        match compiled(shop, choice, "uncompressed", &limits).await? {
            (trial, Some(made)) if trial.dropped.is_none() => trials.push((trial, Some(made))),
            (trial, _) => dropped.push(trial),
        }
    }
    // Without an SRS there is no proof of any: that ends the search.
    for made in trials.iter().filter_map(|(_, made)| made.as_ref()) {
        shop.srs(made).await?;
    }
    benchmark(shop, &mut trials, &limits).await;

    let standing =
        |(_, (trial, made)): &(usize, &(Trial, Option<BuiltCircuit>))| trial.dropped.is_none() && made.is_some();
    let time = |trial: &Trial| {
        trial
            .fastest()
            .map_or(f64::INFINITY, |time| if trial.choice.compress_selectors { time } else { time / WORTH_LARGER_KEYS })
    };
    let chosen =
        trials.iter().enumerate().filter(standing).min_by(|(_, (a, _)), (_, (b, _))| time(a).total_cmp(&time(b)));
    let chosen = chosen.map(|(at, _)| at);
    let (tried, mut made): (Vec<Trial>, Vec<Option<BuiltCircuit>>) = trials.into_iter().unzip();
    println!("{}", report::table(&tried, chosen));
    let Some((at, made)) = chosen.and_then(|at| Some((at, made[at].take()?))) else {
        let reasons: Vec<&str> = tried.iter().chain(&dropped).filter_map(|trial| trial.dropped.as_deref()).collect();
        bail!(
            "no settings are good enough: {}. Allow more with --tolerance, --max-refused or --max-memory",
            reasons.join("; ")
        );
    };
    write(shop, &tried, &dropped, at, &limits)?;
    let chosen = &tried[at];
    let checks = shop.time_checks(&made).await?;
    let seconds = |seconds: f64| std::time::Duration::from_secs_f64(seconds);
    Ok(Finished {
        made,
        fidelity: chosen.fidelity.clone().unwrap_or_default(),
        keys: seconds(chosen.keys_seconds.unwrap_or_default()),
        prove: seconds(chosen.fastest().unwrap_or_default()),
        checks,
        peak_memory_mb: chosen.peak_memory_mb,
    })
}

/// EZKL's settings as it calibrates them by itself, on the same rows.
async fn baseline(shop: &CircuitBuilder) -> Result<(Trial, BuiltCircuit)> {
    let calibrating = async {
        let choice = calibrated(shop, EZKLS_INNER_COLUMNS, EZKLS_DIGITS).await?;
        let made = shop.compile(choice, "default").await?;
        let fidelity = shop.fidelity(&made).await?;
        Ok((made, fidelity))
    };
    let (made, fidelity) =
        shop.progress.step("EZKL's own settings, calibrated and measured", "other scales", calibrating).await?;
    let mut trial = Trial::new(made.choice, made.choice.cost(&made.settings));
    (trial.is_default, trial.fidelity) = (true, Some(fidelity));
    Ok((trial, made))
}

/// The scales and rebase multipliers whose error is small enough, with the range of the sample's values. From EZKL's scale
/// downwards until one is too coarse; upwards if EZKL's own is. A multiplier of 2 keeps products at twice the scale, so that
/// half the scale may do.
async fn scales_within_tolerance(
    shop: &CircuitBuilder,
    default: &CircuitParams,
    margin: f64,
    limits: &Limits,
    dropped: &mut Vec<Trial>,
) -> Result<Vec<CircuitParams>> {
    let own = default.input_scale.max(default.param_scale);
    let mut fine = Vec::new();
    for (scales, multiplier) in
        [((1..=own).rev().collect::<Vec<_>>(), 1), ((own + 1..=own + SCALES_UP).collect(), 1), (vec![(own + 1) / 2], 2)]
    {
        let upwards = scales.first().is_some_and(|first| *first > own);
        if upwards && !fine.is_empty() {
            continue;
        }
        for scale in scales {
            let what = format!("scale {scale}, rebase multiplier {multiplier}");
            let measured = measured_scale(shop, default, scale, multiplier, margin);
            match shop.progress.step(&what, "the next scale, then proofs", measured).await {
                Ok((choice, trial)) => {
                    match limits.exceeded(trial.fidelity.as_ref().unwrap_or(&AccuracyReport::default())) {
                        None => {
                            fine.push(choice);
                            if upwards {
                                break;
                            }
                        }
                        Some(reason) => {
                            dropped.push(Trial { dropped: Some(reason), ..trial });
                            if !upwards {
                                break;
                            }
                        }
                    }
                }
                // EZKL refuses scales that a model cannot have; there are others.
                Err(error) => eprintln!("  {what} is left out: {error:#}"),
            }
        }
    }
    Ok(fine)
}

async fn measured_scale(
    shop: &CircuitBuilder,
    default: &CircuitParams,
    scale: i32,
    multiplier: u32,
    margin: f64,
) -> Result<(CircuitParams, Trial)> {
    // Where all inputs are whole numbers EZKL gives them scale 0.
    let input_scale = if default.input_scale == 0 { 0 } else { scale };
    let scales = CircuitParams { input_scale, param_scale: scale, scale_rebase_multiplier: multiplier, ..*default };
    let choice = reach::ranged(shop, CircuitParams { num_inner_cols: 1, ..scales }, reach::USUAL).await?;
    // The error is not the tables': what they cannot reach is judged with the tables of each choice.
    let roomy = reach::sized(shop, choice, margin.max(LOOKUP_MARGIN)).await?;
    let made = shop.compile(roomy, "scale").await?;
    let fidelity = shop.fidelity(&made).await?;
    let trial = Trial { fidelity: Some(fidelity), ..Trial::new(roomy, roomy.cost(&made.settings)) };
    Ok((choice, trial))
}

async fn compiled(
    shop: &CircuitBuilder,
    choice: CircuitParams,
    name: &str,
    limits: &Limits,
) -> Result<(Trial, Option<BuiltCircuit>)> {
    let shape = shop.shape(&choice).await?;
    let mut trial = Trial::new(choice, choice.cost(&shape));
    let work = async {
        let made = shop.compile(choice, name).await?;
        let fidelity = shop.fidelity(&made).await?;
        Ok((made, fidelity))
    };
    match shop.progress.step(&format!("compiling and measuring {choice}"), "proofs", work).await {
        Ok((made, fidelity)) => {
            trial.dropped = limits.exceeded(&fidelity);
            trial.fidelity = Some(fidelity);
            Ok((trial, Some(made)))
        }
        Err(error) => {
            trial.dropped = Some(format!("{error:#}"));
            Ok((trial, None))
        }
    }
}

/// Proves each in turns. One that fails, or needs too much memory, is out; the others go on. EZKL's own is proven for
/// comparison whatever its error, but not again where it failed.
async fn benchmark(shop: &CircuitBuilder, trials: &mut [(Trial, Option<BuiltCircuit>)], limits: &Limits) {
    for round in 0..ROUNDS {
        for (trial, made) in trials.iter_mut() {
            let is_in = trial.dropped.is_none() || (trial.is_default && trial.prove_seconds.len() == round);
            let Some(made) = made.as_ref().filter(|_| is_in) else { continue };
            let what = format!("proof {} of {ROUNDS}: {}", round + 1, trial.choice);
            let next = if round + 1 < ROUNDS { "the next one" } else { "the choice" };
            if let Err(error) = shop.progress.step(&what, next, prove_once(shop, trial, made)).await {
                trial.dropped = Some(format!("{error:#}"));
            }
            let needed = trial.peak_memory_mb.and_then(|peak| limits.memory_exceeded(peak as f64, "it needed"));
            trial.dropped = trial.dropped.take().or(needed);
        }
    }
}

async fn prove_once(shop: &CircuitBuilder, trial: &mut Trial, made: &BuiltCircuit) -> Result<()> {
    if trial.keys_seconds.is_none() {
        trial.keys_seconds = Some(shop.make_keys(made).await?.as_secs_f64());
        trial.proving_key_bytes = Some(fs::metadata(&made.files.proving_key)?.len());
    } else {
        shop.ezkl.renew_prover().await;
    }
    trial.prove_seconds.push(shop.prove(made).await?.as_secs_f64());
    trial.peak_memory_mb = trial.peak_memory_mb.max(shop.ezkl.prover_peak_mb());
    Ok(())
}

/// Where `keep` finds them.
fn write(shop: &CircuitBuilder, tried: &[Trial], dropped: &[Trial], chosen: usize, limits: &Limits) -> Result<()> {
    let tuning = json!({ "limits": limits, "chosen": chosen, "tried": tried, "dropped": dropped });
    fs::write(shop.folder.join(TUNING), serde_json::to_vec_pretty(&tuning)?)?;
    plot::draw(tried, chosen, &shop.folder.join(TUNING_PICTURE))
}

#[cfg(test)]
mod tests {
    use super::super::accuracy::{Errors, Refused};
    use super::*;

    pub(super) fn choice(logrows: u32, num_inner_cols: usize) -> CircuitParams {
        CircuitParams {
            input_scale: 11,
            param_scale: 11,
            scale_rebase_multiplier: 1,
            lookup_range: (-100, 100),
            logrows,
            num_inner_cols,
            decomp_base: 1024,
            decomp_legs: 3,
            compress_selectors: true,
        }
    }

    pub(super) fn fidelity(error: f64) -> AccuracyReport {
        AccuracyReport {
            rows: 100,
            error: Errors { mean: error / 4.0, p99: error / 2.0, max: error },
            ..AccuracyReport::default()
        }
    }

    pub(super) fn trial(logrows: u32, error: f64, seconds: &[f64]) -> Trial {
        let cost = Cost { time: 1.0, memory_mb: 100.0 };
        Trial {
            fidelity: Some(fidelity(error)),
            prove_seconds: seconds.to_vec(),
            ..Trial::new(choice(logrows, 1), cost)
        }
    }

    #[test]
    fn a_limit_that_is_exceeded_is_named() {
        let limits = Limits { tolerance: Some(1.0), baseline: None, refused: 0.01, memory_mb: Some(100) };
        assert_eq!(limits.exceeded(&fidelity(1.0)), None);
        assert!(limits.exceeded(&fidelity(1.1)).unwrap().contains("max error"));
        let refused = vec![Refused { row: 7, reason: "beyond".to_owned() }];
        let refused = AccuracyReport { unprovable: 0.02, refused, ..fidelity(1.0) };
        let says = limits.exceeded(&refused).unwrap();
        assert!(says.contains("2.0 % of the rows would be refused") && says.contains("row 7: beyond"), "{says}");
        assert!(limits.memory_exceeded(101.0, "it needed").unwrap().contains("--max-memory"));
        assert_eq!(limits.memory_exceeded(99.0, "it needed"), None);
        let coarse = AccuracyReport { too_coarse: Some("too coarse for y".to_owned()), ..fidelity(0.5) };
        assert_eq!(limits.exceeded(&coarse), None, "the tolerance is the user's own");
        let limits = Limits { tolerance: None, baseline: Some(fidelity(1.0)), ..limits };
        assert_eq!(limits.exceeded(&coarse).unwrap(), "too coarse for y");
        let nothing_in_common = Limits { tolerance: None, baseline: Some(fidelity(1.0)), ..limits };
        assert!(nothing_in_common.exceeded(&fidelity(1.0)).unwrap().contains("--tolerance"));
    }
}
