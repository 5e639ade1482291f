//! `nova predict`

use std::path::PathBuf;

use clap::Args;
use comfy_table::{Table, presets};
use serde_json::json;

use crate::config::Config;
use crate::daemon;
use crate::features;
use crate::pipeline::circuit::Circuit;
use crate::pipeline::predict::{Prediction, Predictor};

#[derive(Args)]
pub struct Options {
    /// A file of raw features (parquet, CSV or JSON)
    #[arg(long, value_name = "FILE", conflicts_with = "wallet")]
    features: Option<PathBuf>,
    /// Which row of the file, counted from 0
    #[arg(long, default_value_t = 0, value_name = "N")]
    row: usize,
    /// A wallet, whose features Plumber serves
    #[arg(long, value_name = "0x…")]
    pub wallet: Option<String>,
    /// What your notebook says would be submitted; exit code 1 if it is another value
    #[arg(long, value_name = "VALUE", allow_negative_numbers = true, value_parser = finite)]
    expect: Option<f64>,
    /// How far from VALUE is near enough: as far as the circuit may be from candle, if not given
    #[arg(long, value_name = "DIFFERENCE", requires = "expect", value_parser = finite)]
    tolerance: Option<f64>,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// What `--expect` asked for, and what came of it.
struct Expectation {
    value: f64,
    divergence: f64,
    tolerance: f64,
}

impl Expectation {
    fn check(&self, submitted: f64) -> anyhow::Result<()> {
        let Self { value, divergence, tolerance } = self;
        anyhow::ensure!(
            divergence <= tolerance,
            "{submitted} would be submitted, and {value} is expected: they differ by {divergence:.3e}, {tolerance:.3e} is \
             allowed (--tolerance; without it NOVA_MAX_DIVERGENCE, NOVA_MAX_DIVERGENCE_ABS)"
        );
        Ok(())
    }
}

fn finite(text: &str) -> Result<f64, String> {
    text.parse::<f64>().ok().filter(|number| number.is_finite()).ok_or_else(|| "expected a number".to_owned())
}

/// The path of a request without the chain.
pub async fn predict(config: Config, options: Options) -> anyhow::Result<()> {
    let (raw_input, features) = match &options.wallet {
        Some(wallet) => {
            let (plumber, _) = daemon::plumber_and_pulse(&config);
            (wallet.clone(), features::frame(&plumber.features(wallet).await?))
        }
        None => {
            let file = options.features.clone().unwrap_or_else(super::sample);
            let row =
                features::load(&file)?.row(options.row).map_err(|fault| fault.context(file.display().to_string()))?;
            (format!("{} row {}", file.display(), options.row), row)
        }
    };
    let predictor = Predictor::new(&config, circuit(&config).await?)?;
    let prediction = predictor.predict(&format!("0x{}", "0".repeat(64)), &raw_input, features).await;
    // A wallet, or a file and its row.
    let prediction = prediction.map_err(|fault| fault.context(raw_input.clone()))?;
    let expectation = options.expect.map(|value| Expectation {
        value,
        divergence: (prediction.submitted - value).abs(),
        // What post_process made of an equal number may differ in its last digits.
        tolerance: options.tolerance.unwrap_or_else(|| predictor.tolerance().of_answer(value).max(1e-12 * value.abs())),
    });
    for rounded in prediction.input.rounded() {
        eprintln!("note: {rounded}");
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&as_json(&prediction, expectation.as_ref()))?);
    } else {
        show(&prediction, expectation.as_ref());
    }
    expectation.map_or(Ok(()), |expectation| expectation.check(prediction.submitted))
}

/// The circuit, if `setup` has been run; without it candle alone answers, which is enough while hooks are written.
pub async fn circuit(config: &Config) -> anyhow::Result<Option<Circuit>> {
    if let Err(missing) = config.model_files.check_present() {
        anyhow::ensure!(config.model_files.onnx.is_file(), "{missing}");
        eprintln!("EZKL's model files are missing, so this is candle alone; `nova setup` makes them");
        return Ok(None);
    }
    Ok(Some(Circuit::load(config).await?))
}

fn as_json(prediction: &Prediction, expectation: Option<&Expectation>) -> serde_json::Value {
    json!({
        "input": prediction.input.flat(),
        "rounded": prediction.input.rounded().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "model": prediction.model.as_ref().map(|model| &model.values),
        "circuit": prediction.circuit.as_ref().map(|(output, _)| &output.values),
        "divergence": divergence(prediction),
        "submitted": prediction.submitted,
        "expected": expectation.map(|Expectation { value, divergence, tolerance }| {
            json!({"value": value, "divergence": divergence, "tolerance": tolerance})
        }),
        "milliseconds": prediction.times.0.iter()
            .map(|(stage, time)| ((*stage).to_owned(), json!(time.as_secs_f64() * 1000.0)))
            .collect::<serde_json::Map<_, _>>(),
    })
}

/// The largest |circuit − candle|.
fn divergence(prediction: &Prediction) -> Option<f64> {
    let (circuit, _) = prediction.circuit.as_ref()?;
    let pairs = prediction.model.as_ref()?.values.iter().flatten().zip(circuit.values.iter().flatten());
    pairs.map(|(model, circuit)| (model - circuit).abs()).reduce(f64::max)
}

fn show(prediction: &Prediction, expectation: Option<&Expectation>) {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    for values in prediction.input.flat() {
        let shown: Vec<String> = values.iter().take(6).map(|value| format!("{value:.4}")).collect();
        let more = if values.len() > shown.len() { " …" } else { "" };
        table.add_row(["model input", &format!("{} values: {}{more}", values.len(), shown.join(", "))]);
    }
    let candle = prediction.model.as_ref().map(|model| numbers(&model.values));
    table.add_row([
        "candle's output",
        candle.as_deref().unwrap_or("none: the circuit's is unchecked (NOVA_ALLOW_CIRCUIT_ONLY)"),
    ]);
    if let Some((output, _)) = &prediction.circuit {
        table.add_row(["circuit's output", &numbers(&output.values)]);
        table.add_row([
            "divergence",
            &divergence(prediction).map_or("unknown".to_owned(), |most| format!("{most:.3e}")),
        ]);
    }
    table.add_row(["would be submitted", &prediction.submitted.to_string()]);
    if let Some(Expectation { value, divergence, tolerance }) = expectation {
        table.add_row(["expected", &format!("{value}, off by {divergence:.3e}, {tolerance:.3e} is allowed")]);
    }
    table.add_row(["times", &prediction.times.to_string()]);
    println!("{table}");
}

fn numbers(outputs: &[Vec<f64>]) -> String {
    let all: Vec<String> = outputs.iter().flatten().take(10).map(f64::to_string).collect();
    all.join(", ")
}

/// A predictor with its circuit, for commands that cannot do without.
pub async fn with_circuit(config: &Config) -> anyhow::Result<Predictor> {
    Ok(Predictor::new(config, Some(Circuit::load(config).await?))?)
}
