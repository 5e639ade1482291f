//! `nova setup`

use std::path::PathBuf;

use clap::Args;

use crate::config::Config;
use crate::ezkl::settings::{SERVED_INPUTS, SERVED_OUTPUTS, SERVED_PARAMETERS};
use crate::setup::{self, SetupOptions};

#[derive(Args)]
pub struct Options {
    /// Raw features, at least 200 rows (parquet, CSV or JSON). Each goes through pre_process; most calibrate the circuit, the
    /// others measure it
    #[arg(long, value_name = "FILE")]
    sample: Option<PathBuf>,
    /// Make the SRS here instead of downloading a public one. FOR DEVELOPMENT ONLY: nobody can believe the proofs
    #[arg(long)]
    insecure_srs: bool,
    /// How many times as far as the sample's values the lookup tables reach, at least: 2, and with --tune 1. Inputs beyond
    /// cannot be proven, and are not answered
    #[arg(long, value_name = "FACTOR", value_parser = at_least::<1>)]
    lookup_margin: Option<f64>,
    /// The largest share of the held-out rows that the daemon may have to refuse
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, value_parser = share)]
    max_refused: f64,
    /// Who sees the inputs. If not given, it stays as settings.json says, or is public
    #[arg(long, value_name = "VISIBILITY", value_parser = SERVED_INPUTS)]
    input_visibility: Option<String>,
    /// Who sees the outputs, likewise: a proof of an output that nobody sees would bind nothing
    #[arg(long, value_name = "VISIBILITY", value_parser = SERVED_OUTPUTS)]
    output_visibility: Option<String>,
    /// Who sees the parameters, likewise; fixed (part of the circuit) if nothing is said. With private ones a proof shows that
    /// some parameters give the output, not that yours do
    #[arg(long, value_name = "VISIBILITY", value_parser = SERVED_PARAMETERS)]
    param_visibility: Option<String>,
    /// An output of the model that your answer needs; may be given several times. Others are left out of the circuit, and refuse no
    /// answer: a label beside the probabilities, say. If not given, it stays as circuit.onnx has it, or is all
    #[arg(long = "output", value_name = "NAME")]
    outputs: Vec<String>,
    /// Search the settings for the fastest proof. Visibilities are never changed
    #[arg(long)]
    tune: bool,
    /// The largest |circuit − candle| that is good enough; if not given, what EZKL's own settings reach
    #[arg(long, value_name = "DIFFERENCE", requires = "tune", value_parser = at_least::<0>)]
    tolerance: Option<f64>,
    /// Megabytes that the prover may need
    #[arg(long, value_name = "MB", requires = "tune")]
    max_memory: Option<u64>,
}

/// Makes EZKL's model files.
pub async fn setup(config: Config, options: Options) -> anyhow::Result<()> {
    setup::run(
        config,
        SetupOptions {
            sample: options.sample.unwrap_or_else(super::sample),
            insecure_srs: options.insecure_srs,
            lookup_margin: options.lookup_margin,
            max_refused: options.max_refused,
            visibilities: [options.input_visibility, options.output_visibility, options.param_visibility],
            outputs: options.outputs,
            tune: options
                .tune
                .then_some(setup::TuningLimits { tolerance: options.tolerance, max_memory_mb: options.max_memory }),
        },
    )
    .await
}

fn share(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

fn at_least<const LEAST: u8>(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= f64::from(LEAST));
    number.ok_or_else(|| format!("expected a number, at least {LEAST}"))
}
