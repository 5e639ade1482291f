//! Requests → answers that are saved, provable, and ready to be sent.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use polars::prelude::DataFrame;

use super::predict::{Circuit, Prediction, Predictor};
use crate::chain::Chain;
use crate::config::Config;
use crate::fault::{Classify as _, Fault, Result};
use crate::features::{Input, frame, parse_input};
use crate::ledger::{Inferred, Ledger, Request};
use crate::spectral::plumber::Plumber;
use crate::witness::{Manifest, Store, sha256};

/// Answers requests.
#[derive(Clone)]
pub struct Inferrer {
    pub config: std::sync::Arc<Config>,
    pub predictor: Predictor,
    pub plumber: Plumber,
    pub chain: Chain,
    pub store: Store,
    pub ledger: Ledger,
}

impl Inferrer {
    /// Fetches the features of all claimed requests: one call for one wallet, a batch for several.
    pub async fn features(&self, requests: &[Request]) -> Vec<Result<DataFrame>> {
        let source = self.config.inference.feature_source;
        let inputs: Vec<Result<Input>> = requests.iter().map(|request| parse_input(source, &request.input)).collect();
        let mut wallets: Vec<String> = inputs
            .iter()
            .filter_map(|input| match input {
                Ok(Input::Wallet(wallet)) => Some(wallet.clone()),
                _ => None,
            })
            .collect();
        wallets.sort();
        wallets.dedup();
        let mut rows = match wallets.as_slice() {
            [] => HashMap::new(),
            [wallet] => HashMap::from([(wallet.clone(), self.plumber.features(wallet).await)]),
            _ => match self.plumber.features_batch(&wallets).await {
                Ok(rows) => rows,
                Err(fault) => wallets.iter().map(|wallet| (wallet.clone(), Err(again(&fault)))).collect(),
            },
        };
        inputs
            .into_iter()
            .map(|input| match input? {
                Input::Inline(values) => frame(&values),
                Input::Wallet(wallet) => match rows.get_mut(&wallet) {
                    Some(Ok(values)) => frame(values),
                    Some(Err(fault)) => Err(again(fault)),
                    None => Err(Fault::Row(anyhow!("Plumber left out wallet {wallet}"))),
                },
            })
            .collect()
    }

    /// Works on one claimed request and writes down how it ended. `fetched` is how long its features took.
    pub async fn answer(&self, request: &Request, features: Result<DataFrame>, fetched: Duration) -> Result<()> {
        let outcome = match features {
            Ok(features) => self.infer(request, features, fetched).await,
            Err(fault) => Err(fault.context("cannot get the features")),
        };
        let Err(fault) = outcome else { return Ok(()) };
        match &fault {
            Fault::Row(error) => {
                tracing::error!(request = request.id, reason = format!("{error:#}"), "this request has failed");
            }
            Fault::Retry(error) => {
                tracing::warn!(request = request.id, reason = format!("{error:#}"), "this request is tried again");
            }
            Fault::Stop(_) => {}
        }
        self.ledger.request_fault(request, &fault).await?;
        if matches!(fault, Fault::Stop(_)) { Err(fault) } else { Ok(()) }
    }

    async fn infer(&self, request: &Request, features: DataFrame, fetched: Duration) -> Result<()> {
        let mut prediction = self.predictor.predict(&request.id, &request.input, features).await?;
        let circuit = self.predictor.circuit().context("answering needs EZKL's model files").stop()?;
        let manifest = manifest_of(request, &prediction, circuit)?;
        let (answer, commitment) = self.chain.answer(
            &request.id,
            prediction.submitted,
            self.config.inference.encoding,
            &manifest.instance_bytes()?,
        )?;
        let mut times = std::mem::take(&mut prediction.times);
        times.stage("save", self.save(&manifest, &prediction)).await?;
        let inferred = Inferred {
            model_value: manifest.model_value,
            circuit_value: manifest.circuit_value,
            submitted_value: manifest.submitted_value,
            model_digest: manifest.model_digest,
            answer,
            commitment,
        };
        self.ledger.inferred(&request.key(), &inferred).await?;
        tracing::info!(
            request = request.id,
            value = inferred.submitted_value,
            features_ms = milliseconds(fetched),
            pre_process_ms = times.of("pre_process").map(milliseconds),
            candle_ms = times.of("candle").map(milliseconds),
            witness_ms = times.of("witness").map(milliseconds),
            provable_ms = times.of("provable").map(milliseconds),
            post_process_ms = times.of("post_process").map(milliseconds),
            save_ms = times.of("save").map(milliseconds),
            "inferred"
        );
        Ok(())
    }

    async fn save(&self, manifest: &Manifest, prediction: &Prediction) -> Result<()> {
        let (_, witness) = prediction.circuit.as_ref().context("no witness").stop()?;
        let input = serde_json::to_vec(&serde_json::json!({ "input_data": prediction.input.flat() })).stop()?;
        self.store.save(manifest, &input, &witness.json).await
    }
}

/// What is promised with this answer.
fn manifest_of(request: &Request, prediction: &Prediction, circuit: &Circuit) -> Result<Manifest> {
    let (outputs, witness) = prediction.circuit.as_ref().context("no witness").stop()?;
    let settings = &circuit.version.settings;
    Ok(Manifest {
        request_id: request.id.clone(),
        input: request.input.clone(),
        model_digest: circuit.version.digest.clone(),
        model_files: circuit.version.digests.clone(),
        ezkl_version: settings.version.clone(),
        witness_sha256: sha256(&witness.json),
        instances: Manifest::write_instances(&witness.instances(settings).fail_row()?),
        model_value: first(&prediction.model.values),
        circuit_value: first(&outputs.values).context("the circuit has no output").fail_row()?,
        submitted_value: prediction.submitted,
    })
}

/// For the log: two decimals are as fine as these stages repeat.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 1e2
}

/// The first value of the first output: what `status` shows of a model with several.
fn first(values: &[Vec<f64>]) -> Option<f64> {
    values.first().and_then(|output| output.first()).copied()
}

/// The fault of one call, for one more row that needed it.
fn again(fault: &Fault) -> Fault {
    match fault {
        Fault::Retry(error) => Fault::Retry(anyhow!("{error:#}")),
        Fault::Row(error) => Fault::Row(anyhow!("{error:#}")),
        Fault::Stop(error) => Fault::Stop(anyhow!("{error:#}")),
    }
}
