//! The MultiSig wallet: signers, expiry, and the rule of the sequence ids.

use crate::common::{error_of, now, stranger};
use anyhow::Result;
use ethers::{
    providers::Provider,
    types::{Address, Bytes, H256, U256},
};
use nova_devnet::{
    Devnet, Options,
    contracts::WalletSimple,
    rpc::Rpc,
    sender::{Call, Sender},
};

struct Wallet {
    devnet: Devnet,
    contract: WalletSimple<Provider<Rpc>>,
    signer: Sender,
}

/// One `sendMultiSig`, well formed but for what a test changes.
#[derive(Clone)]
struct Send {
    to: Address,
    data: Bytes,
    expires: u64,
    sequence_id: u64,
    signature: Bytes,
}

impl Wallet {
    async fn new() -> Self {
        let devnet = Devnet::start(Options::default()).await.unwrap();
        let address = devnet.network.deployment.multisig.unwrap();
        let contract = WalletSimple::new(address, devnet.network.node.clone());
        let signer = devnet.daemon_sender();
        Self { devnet, contract, signer }
    }

    /// A call that does nothing, to an address without code.
    async fn idle(&self, sequence_id: u64) -> Send {
        Send {
            to: Address::from_low_u64_be(99),
            data: Bytes::new(),
            expires: now(&self.devnet).await + 3600,
            sequence_id,
            signature: Bytes::new(),
        }
    }

    fn call(&self, send: Send) -> Call {
        let Send { to, data, expires, sequence_id, signature } = send;
        let (value, sequence_id) = (U256::zero(), sequence_id.into());
        let call = self.contract.send_multi_sig(to, value, data, expires.into(), sequence_id, signature);
        Call::new("send", &call)
    }

    async fn send(&self, send: Send) -> Result<()> {
        self.signer.send(self.call(send)).await.map(drop)
    }

    async fn use_id(&self, sequence_id: u64) -> Result<()> {
        self.send(self.idle(sequence_id).await).await
    }

    async fn next_id(&self) -> u64 {
        self.contract.get_next_sequence_id().call().await.unwrap().as_u64()
    }
}

#[tokio::test]
async fn an_id_is_used_once_above_the_lowest_of_ten_and_at_most_ten_thousand_above_it() {
    let wallet = Wallet::new().await;
    assert_eq!(wallet.next_id().await, 1);
    let error = error_of(wallet.use_id(0).await);
    assert!(error.contains("SequenceIdUsed(0)"), "{error}");
    let error = error_of(wallet.use_id(10_001).await);
    assert!(error.contains("SequenceIdTooHigh(10001, 10000)"), "{error}");
    wallet.use_id(100).await.unwrap();
    assert_eq!(wallet.next_id().await, 101);
    let error = error_of(wallet.use_id(100).await);
    assert!(error.contains("SequenceIdUsed(100)"), "{error}");
    // Below one that was used, but not below ten of them.
    wallet.use_id(50).await.unwrap();

    for id in 101..=109 {
        wallet.use_id(id).await.unwrap();
    }
    // The last ten are 100 to 109 now.
    let error = error_of(wallet.use_id(60).await);
    assert!(error.contains("SequenceIdTooLow(60, 100)"), "{error}");
    let error = error_of(wallet.use_id(10_101).await);
    assert!(error.contains("SequenceIdTooHigh(10101, 10100)"), "{error}");
    wallet.use_id(10_100).await.unwrap();
    assert_eq!(wallet.next_id().await, 10_101);
}

#[tokio::test]
async fn several_calls_are_in_flight_when_each_has_its_own_id() {
    let wallet = Wallet::new().await;
    let mut calls = Vec::new();
    for sequence_id in [3, 1, 2, 5, 4] {
        calls.push(wallet.call(wallet.idle(sequence_id).await));
    }
    let receipts = wallet.signer.send_all(calls).await.unwrap();
    assert!(receipts.iter().all(|receipt| receipt.status == Some(1.into())));
    assert_eq!(wallet.next_id().await, 6);
}

#[tokio::test]
async fn a_revert_inside_shows_its_own_error_and_burns_no_id() {
    let wallet = Wallet::new().await;
    let consumption = wallet.devnet.network.consumption();
    let submit = consumption.submit_inference(H256::repeat_byte(7).0, U256::one());
    let data = submit.calldata().unwrap();
    let bad = Send { to: consumption.address(), data, ..wallet.idle(1).await };
    let error = error_of(wallet.send(bad).await);
    assert!(error.contains("UnknownRequest(0x0707"), "{error}");
    assert_eq!(wallet.next_id().await, 1);
    wallet.use_id(1).await.unwrap();
}

#[tokio::test]
async fn only_a_signer_sends_in_time_and_without_a_second_signature() {
    let wallet = Wallet::new().await;
    let signers = [wallet.signer.address(), wallet.devnet.network.parties.admin.address()];
    for signer in signers {
        assert!(wallet.contract.is_signer(signer).call().await.unwrap());
    }
    let outsider = stranger(&wallet.devnet);
    assert!(!wallet.contract.is_signer(outsider.address()).call().await.unwrap());
    let good = wallet.idle(1).await;
    let error = error_of(outsider.send(wallet.call(good.clone())).await);
    assert!(error.contains("NotSigner("), "{error}");
    let late = Send { expires: now(&wallet.devnet).await - 1, ..good.clone() };
    let error = error_of(wallet.send(late).await);
    assert!(error.contains("Expired("), "{error}");
    let signed = Send { signature: Bytes::from([1; 65]), ..good.clone() };
    let error = error_of(wallet.send(signed).await);
    assert!(error.contains("SignatureNotAccepted()"), "{error}");
    wallet.send(good).await.unwrap();
}
