//! Proof requests → proofs, verified and ready to be delivered.

use std::io::{Cursor, Write as _};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, anyhow, ensure};
use serde::Deserialize;

use crate::chain::Chain;
use crate::config::Config;
use crate::ezkl::Ezkl;
use crate::ezkl::proof::ProofFile;
use crate::fault::{Classify as _, Fault, Result};
use crate::ledger::{Challenge, DeliveryChannel, Ledger, Request, RequestKey, now};
use crate::retry::{LogThrottle, retry_write};
use crate::sanitize;
use crate::services::ipfs_gateway::IpfsGateway;
use crate::services::plumber::Plumber;
use crate::witness_store::{Manifest, Store};

/// The most requests that one challenge may name: each costs a proof.
pub(crate) const MAX_REQUESTS: usize = 100;
const DAY: i64 = 24 * 60 * 60;
/// Of the day's proofs, one in so many is for validators alone.
const VALIDATORS_SHARE: usize = 4;
/// When to look again once the day's proofs are used up.
const LOOK_AGAIN: i64 = 600;

/// Makes proofs from saved witnesses. Knows neither chain nor network.
#[derive(Clone)]
pub struct Prover {
    pub config: Arc<Config>,
    pub ezkl: Ezkl,
    pub store: Store,
}

/// EZKL refuses to prove an answer, or its proof does not hold or shows something else than was promised: what the stop-loss counts.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct Unproven(anyhow::Error);

impl Unproven {
    /// Of a failure that is for good; what may pass says nothing about the answer.
    fn fault(fault: Fault) -> Fault {
        match fault {
            Fault::Permanent(error) => Fault::Permanent(Self(error).into()),
            passing => passing,
        }
    }
}

/// Nobody waits for a proof any more.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unwanted(String);

/// A verified proof of one request.
pub struct Proof {
    pub manifest: Manifest,
    /// EZKL's proof file.
    pub json: Vec<u8>,
    /// Seconds it took; `None` if it was made before.
    pub seconds: Option<f64>,
    /// SHA-256 of the verification key.
    pub vk_digest: String,
}

impl Prover {
    /// The proof of what was answered to a request with this witness (its SHA-256), or of what was promised last where that
    /// is not known: the one in the store if it holds, else a new one. Verified either way.
    pub async fn prove(&self, request_id: &str, witness: Option<&str>) -> Result<Proof> {
        self.prove_promised(self.store.manifest(request_id, witness).await?).await
    }

    /// The same of what this manifest promises.
    async fn prove_promised(&self, manifest: Manifest) -> Result<Proof> {
        let request_id = manifest.request_id.as_str();
        let version = self.store.model(&manifest.model_digest).await?;
        let ezkl = self.ezkl.of_version(&version.settings.version, &version.files.settings).await?;
        let folder = self.ezkl.scratch().folder().transient()?;
        let (witness, proof) = (folder.path().join("witness.json"), folder.path().join("proof.json"));
        let vk_digest = version.vk_digest().to_owned();
        if let Some(json) = self.store.proof(&manifest).await? {
            tokio::fs::write(&proof, &json).await.context("cannot write a temporary file").transient()?;
            if check_instances(&json, &manifest).is_ok() && ezkl.verify(&version.files, &proof).await? {
                return Ok(Proof { manifest, json, seconds: None, vk_digest });
            }
            tracing::warn!(request = request_id, "the proof in the store does not hold, it is made anew");
        }
        self.store.fetch_witness(&manifest, &witness).await?;
        let start = Instant::now();
        ezkl.prove(&version.files, &witness, &proof).await.map_err(Unproven::fault)?;
        let seconds = start.elapsed().as_secs_f64();
        if !ezkl.verify(&version.files, &proof).await? {
            return Err(Unproven::fault(Fault::Permanent(anyhow!(
                "EZKL's own proof of request {request_id} does not verify: the proving key, the verification key and the SRS in {} \
                 do not belong together",
                version.files.folder.display()
            ))));
        }
        let json = tokio::fs::read(&proof).await.context("EZKL wrote no proof").transient()?;
        check_instances(&json, &manifest).permanent().map_err(Unproven::fault)?;
        self.store.save_proof(&manifest, &json).await?;
        tracing::info!(request = request_id, seconds, "proved and verified");
        Ok(Proof { manifest, json, seconds: Some(seconds), vk_digest })
    }
}

/// The proof must show the very inputs and outputs that were promised.
fn check_instances(json: &[u8], manifest: &Manifest) -> anyhow::Result<()> {
    ensure!(
        Manifest::write_instances(&ProofFile::read(json)?.instances()?) == manifest.instances,
        "the proof of request {} shows other inputs or outputs than were promised",
        manifest.request_id
    );
    Ok(())
}

/// Serves proof requests.
#[derive(Clone)]
pub struct ChallengeHandler {
    pub prover: Prover,
    pub plumber: Plumber,
    pub gateway: IpfsGateway,
    pub chain: Chain,
    pub ledger: Ledger,
    /// Proof requests that are tried again.
    pub retries: Arc<LogThrottle>,
}

impl ChallengeHandler {
    /// Works on one claimed challenge and writes down how it ended.
    pub async fn serve(&self, challenge: &Challenge) -> Result<()> {
        self.note(challenge, self.respond(challenge).await).await
    }

    /// Fetches the document of a claimed challenge and writes down which requests it names.
    pub async fn read(&self, challenge: &Challenge) -> Result<()> {
        self.note(challenge, self.name_requests(challenge).await).await
    }

    async fn note(&self, challenge: &Challenge, outcome: Result<()>) -> Result<()> {
        let Err(fault) = outcome else { return Ok(()) };
        let asked_in = &challenge.transaction_hash;
        match &fault {
            Fault::Permanent(error) if error.is::<Unwanted>() => {
                tracing::info!(asked_in, reason = %error, "nobody waits for this proof request any more");
            }
            Fault::Permanent(error) => {
                tracing::error!(asked_in, reason = format!("{error:#}"), "this proof request has failed")
            }
            Fault::Transient(error) => {
                let reason = format!("{error:#}");
                tracing::debug!(asked_in, reason, "this proof request is tried again");
                self.retries.log(|times| {
                    tracing::warn!(asked_in, reason, times, "proof requests are tried again, this one was the last");
                });
            }
            Fault::Fatal(_) => {}
        }
        retry_write(|| self.ledger.record_challenge_failure(challenge, &fault)).await?;
        if matches!(fault, Fault::Fatal(_)) { Err(fault) } else { Ok(()) }
    }

    async fn respond(&self, challenge: &Challenge) -> Result<()> {
        self.check_wanted(challenge).await?;
        let ids = self.requests_of(challenge).await?;
        // One that cannot be proven takes no proof of the others with it.
        let mut promised = Vec::new();
        for id in &ids {
            promised.push(self.promised(id).await?);
        }
        if let Some(reason) = self.daily_limit_reached(challenge.route(), &ids).await? {
            tracing::warn!(asked_in = challenge.transaction_hash, reason, "this proof request waits");
            return self.ledger.postpone_challenge(challenge, &reason, now() + LOOK_AGAIN).await;
        }
        let mut proofs = Vec::new();
        for (request, manifest) in promised {
            proofs.push(self.prove(&request, manifest).await?);
        }
        match challenge.route() {
            DeliveryChannel::Chain => self.deliver_on_chain(challenge, &proofs).await,
            DeliveryChannel::Ipfs => self.deliver_by_ipfs(challenge, &proofs).await,
        }
    }

    /// Why these proofs would cost more than `NOVA_MAX_PROOFS_PER_DAY` allows. Proofs that exist cost their delivery only. A quarter of
    /// the limit is kept for validators: consumers, who ask through the registry, cannot use it up.
    async fn daily_limit_reached(&self, route: DeliveryChannel, ids: &[String]) -> Result<Option<String>> {
        let limit = self.prover.config.chain.as_ref().map_or(0, |chain| chain.max_proofs_per_day as usize);
        let reserved = if route == DeliveryChannel::Chain { limit / VALIDATORS_SHARE } else { 0 };
        let mut unproven = 0;
        for id in ids {
            unproven += usize::from(!self.ledger.is_proven(id).await?);
        }
        if unproven > limit {
            return Err(Fault::Permanent(anyhow!(
                "it asks for {unproven} proofs, NOVA_MAX_PROOFS_PER_DAY allows {limit}"
            )));
        }
        let proofs = self.ledger.proofs_since(now() - DAY).await? as usize;
        let deliveries = self.ledger.deliveries_since(now() - DAY).await? as usize;
        if proofs + unproven > limit - reserved || deliveries + 1 > limit - reserved {
            let made = format!("{proofs} proofs were made and {deliveries} delivered in 24 hours");
            let kept = if reserved > 0 { format!(", {reserved} of them for validators alone") } else { String::new() };
            return Ok(Some(format!("{made}, NOVA_MAX_PROOFS_PER_DAY allows {limit}{kept}")));
        }
        Ok(None)
    }

    /// A request, and what was answered to it.
    async fn promised(&self, id: &str) -> Result<(Request, Manifest)> {
        let request =
            self.ledger.request(id).await?.ok_or_else(|| {
                Fault::Permanent(anyhow!("request {id} is unknown here: this daemon has never seen it"))
            })?;
        if request.state == "seen" && request.witness.is_none() {
            return Err(Fault::Transient(anyhow!("request {id} is not answered yet")));
        }
        let manifest = self.prover.store.manifest(id, request.witness.as_deref()).await?;
        Ok((request, manifest))
    }

    async fn prove(&self, request: &Request, manifest: Manifest) -> Result<Proof> {
        let proof = match self.prover.prove_promised(manifest).await {
            Ok(proof) => proof,
            Err(fault) => {
                // Of a ledger that is younger than the answer nothing is known of its model.
                if let Some(model) = request.model_digest.as_deref().filter(|_| fault.error().is::<Unproven>()) {
                    self.ledger.proof_refused(&request.key(), model, &fault.to_string()).await?;
                }
                return Err(fault);
            }
        };
        if let Some(seconds) = proof.seconds {
            let model = &proof.manifest.model_digest;
            self.ledger.proof_made(&request.key(), model, &proof.vk_digest, seconds).await?;
        }
        Ok(proof)
    }

    /// # Errors
    /// A validator's challenge that nobody waits for any more: it costs nothing.
    async fn check_wanted(&self, challenge: &Challenge) -> Result<()> {
        if challenge.route() == DeliveryChannel::Chain {
            return Ok(());
        }
        match self.chain.superseded(&self.ledger, challenge).await? {
            Some(reason) => Err(Fault::Permanent(Unwanted(reason).into())),
            None => Ok(()),
        }
    }

    /// The requests that a challenge is about: those of its document, or the one that it names itself.
    async fn requests_of(&self, challenge: &Challenge) -> Result<Vec<String>> {
        let named = self.ledger.challenge_requests(&challenge.key()).await?;
        if !named.is_empty() {
            return Ok(named);
        }
        let payload = challenge.payload.trim();
        if !is_request_id(payload) {
            return Err(Fault::Permanent(anyhow!(
                "it asks for {:?}, which is no request id",
                sanitize::truncate(payload, 80)
            )));
        }
        Ok(vec![payload.to_lowercase()])
    }

    async fn name_requests(&self, challenge: &Challenge) -> Result<()> {
        self.check_wanted(challenge).await?;
        let cid = challenge.payload.trim();
        let ids = if is_request_id(cid) {
            vec![cid.to_lowercase()]
        } else {
            let document = self.gateway.fetch(cid).await?;
            read_document(&document).with_context(|| format!("the challenge document {cid}")).permanent()?
        };
        let contract = self.chain.identity().consumption;
        let keys: Vec<RequestKey> = ids.into_iter().map(|id| RequestKey { contract: contract.clone(), id }).collect();
        self.ledger.set_challenge_requests(challenge, &keys).await
    }

    async fn deliver_on_chain(&self, challenge: &Challenge, proofs: &[Proof]) -> Result<()> {
        let [proof] = proofs else {
            return Err(Fault::Permanent(anyhow!("the registry asks for one proof at a time")));
        };
        let manifest = &proof.manifest;
        let bytes = ProofFile::read(&proof.json).and_then(|file| file.bytes()).permanent()?;
        let call = self.chain.delivery_on_chain(&manifest.request_id, bytes, &manifest.instance_bytes()?)?;
        self.ledger.mark_proved(&challenge.key(), Some(&call)).await
    }

    async fn deliver_by_ipfs(&self, challenge: &Challenge, proofs: &[Proof]) -> Result<()> {
        if challenge.state == "asked" {
            self.ledger.mark_proved(&challenge.key(), None).await?;
        }
        let cid = self.plumber.upload(pack(proofs).permanent()?).await?;
        let call = self.chain.delivery_by_ipfs(&challenge.asker, &cid)?;
        self.ledger.uploaded(&challenge.key(), &cid, &call).await?;
        tracing::info!(asked_in = challenge.transaction_hash, cid, "uploaded");
        Ok(())
    }
}

/// `0x` and 64 hex digits.
pub fn is_request_id(text: &str) -> bool {
    text.strip_prefix("0x").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A challenge document: `{"request_ids": ["0x…", …]}`.
pub fn read_document(json: &[u8]) -> anyhow::Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Document {
        request_ids: Vec<String>,
    }
    let Document { request_ids } = serde_json::from_slice(json).context("is not {\"request_ids\": [\"0x…\"]}")?;
    ensure!(!request_ids.is_empty(), "names no request");
    ensure!(request_ids.len() <= MAX_REQUESTS, "names {} requests, {MAX_REQUESTS} are allowed", request_ids.len());
    let mut ids = Vec::new();
    for id in request_ids {
        ensure!(is_request_id(&id), "names {id:?}, which is no request id (0x and 64 hex digits)");
        let id = id.to_lowercase();
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// One proof as it is, several as a ZIP of `<request id>.json`.
fn pack(proofs: &[Proof]) -> anyhow::Result<Vec<u8>> {
    if let [proof] = proofs {
        return Ok(proof.json.clone());
    }
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for proof in proofs {
        archive.start_file(format!("{}.json", proof.manifest.request_id), zip::write::SimpleFileOptions::default())?;
        archive.write_all(&proof.json)?;
    }
    Ok(archive.finish()?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_document_names_requests_once_each() {
        let id = format!("0x{}", "ab".repeat(32));
        let twice = format!(r#"{{"request_ids": ["{id}", "{}"]}}"#, id.to_uppercase().replace("0X", "0x"));
        assert_eq!(read_document(twice.as_bytes()).unwrap(), [id]);
    }

    #[test]
    fn a_document_that_names_no_requests_is_refused() {
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"request_ids": []}"#,
            r#"{"request_ids": ["0x12"]}"#,
            r#"{"request_ids": ["../../x"]}"#,
        ] {
            assert!(read_document(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
