//! Requests → answers that are saved, provable, and ready to be sent.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use polars::prelude::DataFrame;

use super::predict::{Circuit, Prediction, Predictor};
use crate::chain::Chain;
use crate::config::Config;
use crate::digest;
use crate::fault::{Classify as _, Fault, Result};
use crate::features::{Input, frame, parse_input};
use crate::ledger::{Inferred, Ledger, Request};
use crate::spectral::plumber::Plumber;
use crate::supervise::{Seldom, insistently};
use crate::times::milliseconds;
use crate::witness::{Manifest, Store};

/// Answers requests.
#[derive(Clone)]
pub struct Inferrer {
    pub config: std::sync::Arc<Config>,
    pub predictor: Predictor,
    pub plumber: Plumber,
    pub chain: Chain,
    pub store: Store,
    pub ledger: Ledger,
    /// Requests that are tried again.
    pub retries: std::sync::Arc<Seldom>,
}

impl Inferrer {
    /// Fetches the features of all claimed requests in one call where they name several wallets. `None` where that did
    /// not work, or was not worth it: then each request asks for its own, so that one wallet that Plumber cannot serve
    /// holds up no other.
    pub async fn features(&self, requests: &[Request]) -> Vec<Option<Result<DataFrame>>> {
        let inputs: Vec<Result<Input>> = requests.iter().map(|request| self.input(request)).collect();
        let mut wallets: Vec<String> = inputs
            .iter()
            .filter_map(|input| match input {
                Ok(Input::Wallet(wallet)) => Some(wallet.clone()),
                _ => None,
            })
            .collect();
        wallets.sort();
        wallets.dedup();
        let rows = if wallets.len() > 1 { self.plumber.features_batch(&wallets).await } else { Ok(HashMap::new()) };
        let rows = rows.unwrap_or_else(|fault| {
            let (reason, wallets) = (fault.to_string(), wallets.len());
            tracing::debug!(reason, wallets, "cannot get the features of several wallets, asking for each");
            HashMap::new()
        });
        inputs
            .into_iter()
            .map(|input| match input {
                Ok(Input::Wallet(wallet)) => match rows.get(&wallet)? {
                    Ok(values) => Some(frame(values)),
                    Err(fault) => Some(Err(again(fault))),
                },
                _ => None,
            })
            .collect()
    }

    /// The features of one request.
    async fn own_features(&self, request: &Request) -> Result<DataFrame> {
        match self.input(request)? {
            Input::Inline(values) => frame(&values),
            Input::Wallet(wallet) => frame(&self.plumber.features(&wallet).await?),
        }
    }

    fn input(&self, request: &Request) -> Result<Input> {
        parse_input(self.config.inference.feature_source, &request.input)
    }

    /// Works on one claimed request and writes down how it ended. `fetched` is how long it took to ask for the features
    /// of all.
    pub async fn answer(
        &self,
        request: &Request,
        features: Option<Result<DataFrame>>,
        fetched: Duration,
    ) -> Result<()> {
        let started = Instant::now();
        let features = match features {
            Some(features) => features,
            None => self.own_features(request).await,
        };
        let fetched = fetched + started.elapsed();
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
                let reason = format!("{error:#}");
                tracing::debug!(request = request.id, reason, "this request is tried again");
                self.retries.say(|times| {
                    tracing::warn!(
                        request = request.id,
                        reason,
                        times,
                        "requests are tried again, this one was the last"
                    );
                });
            }
            Fault::Stop(_) => {}
        }
        insistently(|| self.ledger.request_fault(request, &fault)).await?;
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
        self.keep_what_was_answered(request).await?;
        let mut times = std::mem::take(&mut prediction.times);
        times.stage("save", self.save(&manifest, &prediction)).await?;
        let inferred = Inferred {
            model_value: manifest.model_value,
            circuit_value: manifest.circuit_value,
            submitted_value: manifest.submitted_value,
            model_digest: manifest.model_digest,
            witness: manifest.witness_sha256,
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

    /// What the chain holds is proven with the witness that it came from: a ledger that is younger than the store does not
    /// get another.
    async fn keep_what_was_answered(&self, request: &Request) -> Result<()> {
        if !self.store.has(&request.id).await? || !self.chain.has_answer(&request.contract, &request.id).await? {
            return Ok(());
        }
        Err(Fault::Row(anyhow!(
            "the chain holds our answer already, and the store its witness; this ledger knows of neither"
        )))
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
        witness_sha256: digest::of_bytes(&witness.json),
        instances: Manifest::write_instances(&witness.instances(settings).fail_row()?),
        model_value: prediction.model.as_ref().and_then(|model| first(&model.values)),
        circuit_value: first(&outputs.values).context("the circuit has no output").fail_row()?,
        submitted_value: prediction.submitted,
    })
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
