//! `nova claim-rewards`

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::chain::Chain;
use crate::chain::tx_manager::Sender;
use crate::config::Config;
use crate::daemon;
use crate::health::Health;
use crate::ledger::{Ledger, SubmissionPolicy};

/// How often the sender looks whether the claims are mined.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Args)]
pub struct Options {
    /// The epoch whose reward is claimed. Without it: every one since the last that was claimed
    #[arg(long, value_name = "N")]
    epoch: Option<u64>,
}

/// Queues the claims in the ledger. A daemon that runs on it sends them; if none does, they are sent from here.
pub async fn claim_rewards(config: Config, options: Options) -> anyhow::Result<()> {
    let settings = config.chain.as_ref().context("no chain is configured")?;
    let (_, pulse) = daemon::plumber_and_pulse(&config);
    let ledger = Ledger::open(&config.artifacts).await?;
    let chain = Chain::connect(settings, &pulse, ledger.modeler().await?.as_deref()).await?;
    ledger.identify(&chain.identity()).await?;
    let epochs = match options.epoch {
        Some(epoch) => {
            chain.queue_claim_of(&ledger, epoch).await?;
            vec![epoch]
        }
        None => chain.queue_claims(&ledger).await?,
    };
    if epochs.is_empty() {
        println!("there is no reward to claim");
        return Ok(());
    }
    let Some(sender) = Sender::try_acquire(&chain, &ledger, &config.artifacts, &Arc::new(Health::default()))? else {
        println!("queued, the daemon that runs sends it: epochs {epochs:?}");
        return Ok(());
    };
    send(sender, &chain, &ledger, epochs).await
}

/// Sends the claims and waits until each is mined. Nothing else that is queued is sent.
async fn send(mut sender: Sender, chain: &Chain, ledger: &Ledger, mut epochs: Vec<u64>) -> anyhow::Result<()> {
    let mut failed = 0;
    while !epochs.is_empty() {
        sender.pass(SubmissionPolicy { answers: false, proofs: false }).await?;
        let mut waiting = Vec::new();
        for epoch in epochs {
            let tx = ledger.tx(&chain.claim_key(epoch)).await?.context("the claim is not in the ledger")?;
            match tx.state.as_str() {
                "mined" | "final" => println!("epoch {epoch}: claimed in {}", tx.mined_hash.unwrap_or_default()),
                "fatal" => {
                    failed += 1;
                    println!("epoch {epoch}: {}", tx.reason.unwrap_or_default());
                }
                _ => waiting.push(epoch),
            }
        }
        epochs = waiting;
        if !epochs.is_empty() {
            tokio::time::sleep(LOOK).await;
        }
    }
    if failed > 0 {
        bail!("{failed} rewards could not be claimed");
    }
    Ok(())
}
