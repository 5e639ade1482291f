use std::time::Duration;

use super::*;
use crate::config::{FeatureSource, InferenceEncoding, InferenceSource};
use crate::ezkl::settings::{EinsumParams, RunArgs, Visibility};

fn set(absolute: Option<f64>) -> Inference {
    Inference {
        source: InferenceSource::Circuit,
        encoding: InferenceEncoding::String,
        feature_source: FeatureSource::Plumber,
        max_divergence: 0.01,
        max_divergence_abs: absolute,
        allow_circuit_only: false,
        hook_timeout: Duration::from_secs(1),
    }
}

/// A circuit whose inputs and parameters have one scale, and its output another.
fn circuit(scale: i32, output_scale: i32) -> Settings {
    let public = || Visibility::Plain("Public".to_owned());
    Settings {
        run_args: RunArgs {
            input_scale: scale,
            param_scale: scale,
            logrows: 12,
            lookup_range: (0, 1),
            input_visibility: public(),
            output_visibility: public(),
            param_visibility: public(),
        },
        required_range_checks: Vec::new(),
        required_lookups: Vec::new(),
        einsum_params: EinsumParams::default(),
        num_rows: 1,
        model_instance_shapes: Vec::new(),
        model_output_scales: vec![output_scale],
        version: String::new(),
    }
}

fn spread(error_p99: f64, p1: f64, p99: f64) -> Spread {
    Spread { error_p99, p1, median: p1.midpoint(p99), p99 }
}

/// The limits of one float output and the answer that is made of it.
fn tolerance(circuit: &Settings, output: Option<Spread>, answer: Option<Spread>) -> Tolerance {
    let measured = Measured { outputs: vec![output], answer };
    Tolerance::of(&[false], true, circuit, &measured, &set(None))
}

/// Two steps of an output of scale 26 are 3e-8: the errors are those of the inputs and weights.
#[test]
fn limit_follows_measured_errors_not_output_steps() {
    let fine = tolerance(&circuit(13, 26), Some(spread(2e-4, -0.05, 0.05)), None);
    let allowed = fine.of_output(0, 0.0);
    assert!((allowed - 8e-4).abs() < 1e-12, "{allowed}");
    fine.check_output(0, 0.0, 7e-4).unwrap();
    assert!(fine.check_output(0, 0.0, 9e-4).is_err());
}

#[test]
fn limit_is_capped_by_range_and_never_below_two_steps() {
    let wide = tolerance(&circuit(13, 13), Some(spread(0.5, 0.0, 1.0)), None);
    assert!((wide.of_output(0, 0.0) - 0.01).abs() < 1e-12);
    let exact = tolerance(&circuit(13, 26), Some(spread(0.0, 0.0, 1.0)), None);
    assert!((exact.of_output(0, 0.0) - 2.0 / 8192.0).abs() < 1e-12);
}

/// 1 % of a million is no limit for a regression whose values are a million and a few.
#[test]
fn share_counts_from_median_where_it_is_nearer() {
    let far_from_zero = tolerance(&circuit(7, 7), Some(spread(0.001, 999_990.0, 1_000_010.0)), None);
    assert!(far_from_zero.of_output(0, 1_000_001.0) < 0.03);
    assert!(far_from_zero.check_output(0, 1_000_001.5, 1_000_003.5).is_err());
}

#[test]
fn integer_outputs_and_whole_floats_must_be_equal() {
    let coarse = Measured { outputs: vec![None], answer: None };
    let integers = Tolerance::of(&[true], true, &circuit(7, 0), &coarse, &set(Some(9.0)));
    assert_eq!(integers.check_output(0, 1e9, 1e9 + 1.0), Err(Disagreement::Labels { model: 1e9, circuit: 1e9 + 1.0 }));
    let floats = tolerance(&circuit(7, 0), Some(spread(1.0, 0.0, 1000.0)), None);
    assert!(floats.check_output(0, 2.0, 3.0).is_err());
    floats.check_output(0, 2.5, 3.0).unwrap();
}

#[test]
fn unmeasured_circuit_gets_two_steps_but_no_coarse_ones() {
    let fine = tolerance(&circuit(11, 11), None, None);
    assert!((fine.of_output(0, 0.0) - 2.0 / 2048.0).abs() < 1e-12);
    let coarse = tolerance(&circuit(0, 0), None, None);
    assert!(coarse.check_output(0, 0.676, 1.0).is_err());
}

/// A threshold in `post_process` makes a class of a float; a factor makes another unit of it.
#[test]
fn answers_are_compared_in_their_own_unit() {
    let output = Some(spread(1e-4, 0.0, 1.0));
    let class = tolerance(&circuit(13, 13), output, None);
    assert!(matches!(class.check_answer(0.0, 1.0), Err(Disagreement::Labels { .. })));
    class.check_answer(1.0, 1.0).unwrap();
    let score = tolerance(&circuit(13, 13), output, Some(spread(0.1, 0.0, 1000.0)));
    score.check_answer(512.3, 512.5).unwrap();
    assert!(score.check_answer(512.3, 531.0).is_err());
    let tiers = tolerance(&circuit(13, 13), output, Some(spread(0.0, 0.1, 0.9)));
    assert!(tiers.check_answer(0.5, 0.9).is_err());
    let constant = tolerance(&circuit(13, 13), output, Some(spread(0.0, 0.1, 0.1)));
    constant.check_answer(0.1, 0.1 + 1.0 / 8192.0).unwrap();
    assert!(constant.check_answer(0.1, 0.9).is_err());
    let same_unit = tolerance(&circuit(13, 13), output, output);
    assert!((same_unit.of_answer(0.3) - same_unit.of_output(0, 0.3)).abs() < 1e-12);
}

#[test]
fn set_limit_replaces_the_measured_one() {
    let measured = Measured { outputs: vec![Some(spread(1e-4, 0.0, 1.0))], answer: Some(spread(1e-4, 0.0, 1.0)) };
    let wide = Tolerance::of(&[false], true, &circuit(13, 13), &measured, &set(Some(0.2)));
    wide.check_output(0, 0.0, 0.15).unwrap();
    wide.check_answer(0.0, 0.15).unwrap();
}

#[test]
fn circuit_is_too_coarse_where_errors_exceed_the_cap() {
    let measured = |error| Measured { outputs: vec![None, Some(spread(error, 0.0, 1.0))], answer: None };
    assert_eq!(measured(0.01).too_coarse(), None);
    assert_eq!(measured(0.011).too_coarse().unwrap().output, Some(1));
    // Less than a step, and as much as the output itself.
    let tiny = Measured { outputs: vec![None], answer: Some(spread(3e-9, 0.0, 3e-9)) };
    assert_eq!(tiny.too_coarse().unwrap().output, None);
    let constant = Measured { outputs: vec![Some(spread(1e-4, 1.0, 1.0))], answer: None };
    assert_eq!(constant.too_coarse(), None);
}

#[test]
fn spread_is_of_values_that_are_no_labels() {
    let pairs = (0..=100).map(|value| (f64::from(value) + 0.5, f64::from(value) + 0.6));
    let found = Spread::of(pairs.chain([(3.0, 4.0)])).unwrap();
    assert!((found.error_p99 - 0.1).abs() < 1e-9, "{found:?}");
    assert_eq!((found.p1, found.median, found.p99), (1.5, 50.5, 99.5));
    assert_eq!(Spread::of([(1.0, 2.0), (0.0, 0.0)]), None);
}
