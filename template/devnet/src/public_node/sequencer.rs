//! What a node does with a transaction that is sent to it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ethers::types::transaction::eip2718::TypedTransaction;
use ethers::utils::rlp::Rlp;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::manners::Pool;
use super::{Provider, Refusal, number_of, refusal};

/// How often it is looked whether a parked nonce's turn has come, and whether what was sent is in a block.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// A send is answered once its transaction is in a block, or so long has passed: our chain may stand still.
const SEQUENCED_WITHIN: Duration = Duration::from_secs(2);

/// What is on its way to a block.
#[derive(Debug, Default)]
pub(super) struct Sequencer {
    parked: AtomicUsize,
    refused: AtomicUsize,
}

impl Provider {
    /// Takes a signed transaction, or refuses it as the manners say.
    pub(super) async fn send(&self, params: Value) -> Result<Value, Refusal> {
        if let Some((times, words)) = self.manners.first_sends
            && self.sequencer.refused.fetch_add(1, Ordering::Relaxed) < times
        {
            return Err(refusal(-32000, words));
        }
        sleep(self.manners.send_takes).await;
        if self.manners.pool == Pool::Usual {
            return self.pass_on("eth_sendRawTransaction", params).await;
        }
        self.wait_turn(&params[0]).await?;
        let hash = self.pass_on("eth_sendRawTransaction", params).await?;
        let sent = Instant::now();
        while sent.elapsed() < SEQUENCED_WITHIN
            && self.pass_on("eth_getTransactionReceipt", json!([hash])).await?.is_null()
        {
            sleep(LOOK_INTERVAL).await;
        }
        Ok(hash)
    }

    /// Returns once a transaction has the next nonce of its sender, or one below, which the chain refuses in its own words.
    async fn wait_turn(&self, raw: &Value) -> Result<(), Refusal> {
        let (most, patience) = match self.manners.pool {
            Pool::Parking { most, patience } => (most, patience),
            Pool::Usual | Pool::None => (0, Duration::ZERO),
        };
        let bytes = raw.as_str().and_then(|text| text.parse::<ethers::types::Bytes>().ok()).unwrap_or_default();
        let Ok((transaction, signature)) = TypedTransaction::decode_signed(&Rlp::new(&bytes)) else { return Ok(()) };
        let Ok(sender) = signature.recover(transaction.sighash()) else { return Ok(()) };
        let nonce = transaction.nonce().map(|nonce| nonce.as_u64()).unwrap_or_default();
        let parked = Parked::new(&self.sequencer.parked);
        let since = Instant::now();
        loop {
            let next = self.pass_on("eth_getTransactionCount", json!([sender, "pending"])).await?;
            let next = number_of(&next).unwrap_or_default();
            if nonce <= next {
                return Ok(());
            }
            if since.elapsed() >= patience || parked.place >= most {
                let words = format!("nonce too high: address {sender:?}, tx: {nonce} state: {next}");
                return Err(refusal(-32000, &words));
            }
            sleep(LOOK_INTERVAL).await;
        }
    }
}

/// One that waits, as long as this lives.
struct Parked<'a> {
    all: &'a AtomicUsize,
    /// So many waited before it.
    place: usize,
}

impl<'a> Parked<'a> {
    fn new(all: &'a AtomicUsize) -> Self {
        Self { all, place: all.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}
