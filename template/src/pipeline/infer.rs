//! Requests → answers that are saved, provable, and ready to be sent.

use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use super::circuit::Circuit;
use super::predict::{Prediction, Predictor};
use crate::chain::{Chain, contracts};
use crate::config::{Config, FeatureSource};
use crate::fault::{Classify as _, Fault, Result};
use crate::features::{FeatureRow, IncompleteFeatures, Input, frame, parse_input};
use crate::ledger::{Inferred, Ledger, Request};
use crate::retry::{LogThrottle, retry_write};
use crate::services::http_service::Absence;
use crate::services::plumber::{Plumber, absent};
use crate::sha256;
use crate::timing::milliseconds;
use crate::witness_store::{Manifest, Store};

/// What is left of the SLA for an answer once its features are there, or a quarter of it where it is short: for the witness and
/// `mock`, and for two transactions, one after the other, of which the first may have to be replaced.
const MIN_ANSWER_SECS: i64 = 45;

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
    pub retries: std::sync::Arc<LogThrottle>,
}

impl Inferrer {
    /// Fetches the features of all claimed requests in one call where they name several wallets. `None` where that did
    /// not work, or was not worth it: then each request asks for its own, so that one wallet that Plumber cannot serve
    /// holds up no other.
    pub async fn features(&self, requests: &[Request]) -> Vec<Option<Result<FeatureRow>>> {
        let wallets: Vec<Option<String>> = requests.iter().map(|request| self.wallet(request)).collect();
        let mut asked: Vec<String> = wallets.iter().flatten().cloned().collect();
        asked.sort();
        asked.dedup();
        let rows = if asked.len() > 1 { self.plumber.features_batch(&asked).await.map(Some) } else { Ok(None) };
        let rows = rows.unwrap_or_else(|fault| {
            let (reason, wallets) = (fault.to_string(), asked.len());
            tracing::debug!(reason, wallets, "cannot get the features of several wallets, asking for each");
            None
        });
        let of = |wallet: &String| match rows.as_ref()?.get(wallet) {
            Some(values) => Some(Ok(frame(values))),
            None => Some(Err(absent(wallet))),
        };
        wallets.iter().map(|wallet| wallet.as_ref().and_then(of)).collect()
    }

    /// The wallet that a request names, if its input is known.
    fn wallet(&self, request: &Request) -> Option<String> {
        match self.input(request) {
            Ok(Input::Wallet(wallet)) if request.is_read() => Some(wallet),
            _ => None,
        }
    }

    /// The features of one request.
    async fn own_features(&self, request: &Request) -> Result<FeatureRow> {
        match self.input(request)? {
            Input::Inline(values) => Ok(frame(&values)),
            Input::Wallet(wallet) => Ok(frame(&self.plumber.features(&wallet).await?)),
        }
    }

    fn input(&self, request: &Request) -> Result<Input> {
        parse_input(self.config.inference.feature_source, &request.input)
    }

    /// Works on one claimed request and writes down how it ended. `fetched` is how long it took to ask for the features
    /// of all.
    pub async fn answer(
        &self,
        request: Request,
        features: Option<Result<FeatureRow>>,
        fetched: Duration,
    ) -> Result<()> {
        let (request, outcome) = match self.read(request).await {
            Ok(request) => {
                let outcome = self.answer_read(&request, features, fetched).await;
                (request, outcome)
            }
            Err((request, fault)) => (request, Err(fault)),
        };
        let Err(fault) = outcome else { return Ok(()) };
        let fault = self.retry_while_in_time(&request, fault).await;
        match &fault {
            Fault::Permanent(error) => {
                tracing::error!(request = request.id, reason = format!("{error:#}"), "this request has failed");
            }
            Fault::Transient(error) => {
                let reason = format!("{error:#}");
                tracing::debug!(request = request.id, reason, "this request is tried again");
                self.retries.log(|times| {
                    tracing::warn!(
                        request = request.id,
                        reason,
                        times,
                        "requests are tried again, this one was the last"
                    );
                });
            }
            Fault::Fatal(_) => {}
        }
        retry_write(|| self.ledger.record_request_failure(&request, &fault)).await?;
        if matches!(fault, Fault::Fatal(_)) { Err(fault) } else { Ok(()) }
    }

    /// The request with its input, which the watcher may not have been told yet.
    async fn read(&self, request: Request) -> std::result::Result<Request, (Request, Fault)> {
        if request.is_read() {
            return Ok(request);
        }
        let read = async {
            let terms = self.chain.read_request(&request.contract, &request.id, &request.block_hash).await?;
            let read = self.ledger.request_read(&request, &terms).await?;
            if self.chain.head().await?.time > terms.deadline {
                return Err(Fault::Transient(anyhow!("what was asked was told after its deadline")));
            }
            Ok(read)
        };
        read.await.map_err(|fault| (request, fault))
    }

    async fn answer_read(
        &self,
        request: &Request,
        features: Option<Result<FeatureRow>>,
        fetched: Duration,
    ) -> Result<()> {
        if let Some(manifest) = self.already_committed(request).await? {
            tracing::info!(
                request = request.id,
                "the chain holds our commitment to it: answering what was committed to"
            );
            return self.ledger.mark_inferred(&request.key(), &self.answer_of(&manifest)?).await;
        }
        let started = Instant::now();
        let features = match features {
            Some(features) => features,
            None => self.own_features(request).await,
        };
        let features = features.map_err(|fault| fault.context("cannot get the features"))?;
        self.infer(request, features, fetched + started.elapsed()).await
    }

    /// FeatureRow that are not there, or not all that the model needs, may be there soon: they are asked for again as long as
    /// there would be time to answer with them. Those that a consumer wrote into the request never change.
    async fn retry_while_in_time(&self, request: &Request, fault: Fault) -> Fault {
        let is_not_yet = fault.error().is::<Absence>() || fault.error().is::<IncompleteFeatures>();
        if !is_not_yet {
            return fault;
        }
        let may_change = self.config.inference.feature_source == FeatureSource::Plumber;
        match fault {
            Fault::Transient(error) | Fault::Permanent(error) => {
                let again = may_change && self.has_time(request).await;
                if again { Fault::Transient(error) } else { Fault::Permanent(error) }
            }
            stop @ Fault::Fatal(_) => stop,
        }
    }

    /// Whether an answer that begins now will be in time. A chain that does not answer decides nothing.
    async fn has_time(&self, request: &Request) -> bool {
        let Ok(head) = self.chain.head().await else { return true };
        let of_sla = request.deadline.saturating_sub(request.requested) / 4;
        request.deadline - (head.time as i64) > MIN_ANSWER_SECS.min(of_sla)
    }

    async fn infer(&self, request: &Request, features: FeatureRow, fetched: Duration) -> Result<()> {
        let mut prediction = self.predictor.predict(&request.id, &request.input, features).await?;
        let circuit = self.predictor.circuit().context("answering needs EZKL's model files").fatal()?;
        let manifest = manifest_of(request, &prediction, circuit)?;
        let inferred = self.answer_of(&manifest)?;
        let mut times = std::mem::take(&mut prediction.times);
        times.stage("save", self.save(&manifest, &prediction)).await?;
        self.ledger.mark_inferred(&request.key(), &inferred).await?;
        tracing::info!(
            request = request.id,
            value = inferred.submitted_value,
            features_ms = milliseconds(fetched),
            pre_process_ms = times.get("pre_process").map(milliseconds),
            candle_ms = times.get("candle").map(milliseconds),
            witness_ms = times.get("witness").map(milliseconds),
            provable_ms = times.get("provable").map(milliseconds),
            post_process_ms = times.get("post_process").map(milliseconds),
            save_ms = times.get("save").map(milliseconds),
            "inferred"
        );
        Ok(())
    }

    /// The answer that this manifest promises, with the calls that carry it.
    fn answer_of(&self, manifest: &Manifest) -> Result<Inferred> {
        let (id, value) = (&manifest.request_id, manifest.submitted_value);
        let encoding = self.config.inference.encoding;
        let (answer, commitment) = self.chain.answer(id, value, encoding, &manifest.instance_bytes()?)?;
        Ok(Inferred {
            model_value: manifest.model_value,
            circuit_value: manifest.circuit_value,
            submitted_value: value,
            model_digest: manifest.model_digest.clone(),
            witness: manifest.witness_sha256.clone(),
            answer,
            commitment,
        })
    }

    /// What was promised for a request that the chain holds our commitment to. A ledger that is younger than the store knows nothing of
    /// it, and another witness could not be proven.
    ///
    /// # Errors
    /// If the chain holds our answer: it is proven with the witness that it came from.
    async fn already_committed(&self, request: &Request) -> Result<Option<Manifest>> {
        if !self.store.has(&request.id).await? {
            return Ok(None);
        }
        if self.chain.has_answer(&request.contract, &request.id).await? {
            return Err(Fault::Permanent(anyhow!(
                "the chain holds our answer already, and the store its witness; this ledger knows of neither"
            )));
        }
        let Some(committed) = self.chain.commitment(&request.id).await? else { return Ok(None) };
        let mut promised = self.store.manifests(&request.id).await?.into_iter();
        let fits = |manifest: &Manifest| {
            manifest.instance_bytes().is_ok_and(|instances| contracts::instances_hash(&instances) == committed)
        };
        Ok(promised.find(fits))
    }

    async fn save(&self, manifest: &Manifest, prediction: &Prediction) -> Result<()> {
        let (_, witness) = prediction.circuit.as_ref().context("no witness").fatal()?;
        let input = serde_json::to_vec(&serde_json::json!({ "input_data": prediction.input.flat() })).fatal()?;
        self.store.save(manifest, &input, &witness.json).await
    }
}

/// What is promised with this answer.
fn manifest_of(request: &Request, prediction: &Prediction, circuit: &Circuit) -> Result<Manifest> {
    let (outputs, witness) = prediction.circuit.as_ref().context("no witness").fatal()?;
    let settings = &circuit.version.settings;
    Ok(Manifest {
        request_id: request.id.clone(),
        input: request.input.clone(),
        model_digest: circuit.version.digest.clone(),
        model_files: circuit.version.digests.clone(),
        ezkl_version: settings.version.clone(),
        witness_sha256: sha256::of_bytes(&witness.json),
        instances: Manifest::write_instances(&witness.instances(settings).permanent()?),
        model_value: prediction.model.as_ref().and_then(|model| first(&model.values)),
        circuit_value: first(&outputs.values).context("the circuit has no output").permanent()?,
        submitted_value: prediction.submitted,
    })
}

/// The first value of the first output: what `status` shows of a model with several.
fn first(values: &[Vec<f64>]) -> Option<f64> {
    values.first().and_then(|output| output.first()).copied()
}
