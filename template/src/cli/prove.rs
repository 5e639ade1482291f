//! `nova prove` and `nova verify`

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use crate::config::Config;
use crate::ezkl::Ezkl;
use crate::ledger::Ledger;
use crate::pipeline::circuit::Circuit;
use crate::pipeline::prove::{Prover, is_request_id};
use crate::witness_store::Store;

#[derive(Args)]
pub struct ProveOptions {
    /// The request that was answered: 0x and 64 hex digits
    request_id: String,
    /// Where to write the proof
    #[arg(long, value_name = "FILE", default_value = "proof.json")]
    output: PathBuf,
}

#[derive(Args)]
pub struct VerifyOptions {
    /// A proof file
    proof: PathBuf,
}

/// Proves from the saved witness, with the model files of that time.
pub async fn prove(config: Config, options: ProveOptions) -> anyhow::Result<()> {
    let id = options.request_id.to_lowercase();
    ensure!(is_request_id(&id), "{id:?} is no request id: 0x and 64 hex digits");
    let witness = Ledger::open(&config.artifacts).await?.request(&id).await?.and_then(|request| request.witness);
    let store = Store::open(&config)?;
    let ezkl = Ezkl::new(&config.ezkl)?;
    let proof = Prover { config: Arc::new(config), ezkl, store }.prove(&id, witness.as_deref()).await?;
    std::fs::write(&options.output, &proof.json)
        .with_context(|| format!("cannot write {}", options.output.display()))?;
    let took = proof.seconds.map_or_else(|| "made before".to_owned(), |seconds| format!("proved in {seconds:.1} s"));
    println!(
        "{}: {took} and verified; the circuit's output is {}",
        options.output.display(),
        proof.manifest.circuit_value
    );
    Ok(())
}

/// Checks a proof against the verification key in the model files.
pub async fn verify(config: Config, options: VerifyOptions) -> anyhow::Result<()> {
    ensure!(options.proof.is_file(), "{} is not there", options.proof.display());
    let Circuit { ezkl, version, .. } = Circuit::load(&config).await?;
    let proof = std::path::absolute(&options.proof)?;
    if !ezkl.verify(&version.files, &proof).await? {
        bail!("{} is no valid proof for {}", options.proof.display(), version.files.verification_key.display());
    }
    println!("{} is valid", options.proof.display());
    Ok(())
}
