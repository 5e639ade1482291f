//! What the tests share. Each of their programs uses a part of it.
#![allow(dead_code)]

pub mod clock;
pub mod daemon;
pub mod disk;
pub mod ledger;
pub mod model_files;
pub mod net;
pub mod nova;
pub mod onnx;
pub mod project;
pub mod proxy;
pub mod python;
pub mod status;
pub mod toxic;

use std::fmt::Display;
use std::time::{Duration, Instant};

/// How long anything may take that usually takes seconds: long enough for a busy machine.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);
/// How long anything with a proof in it may take. A prover has what others leave of the processor: seconds by itself, many
/// minutes beside seven other tests on two cores.
pub const PROOF_TIMEOUT: Duration = Duration::from_secs(900);
/// How often what is awaited is looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Looks again and again until there is something. What `look` returns as error says how things are instead.
pub async fn wait_until<T>(
    what: impl Display,
    timeout: Duration,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + timeout;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(instead) if Instant::now() > deadline => {
                panic!("{what} did not come within {timeout:?}; instead: {instead}")
            }
            Err(_) => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

/// Asserts that the text says all of this.
pub fn assert_contains_all(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "expected {part:?} in:\n{text}");
    }
}

/// What no output may ever show. Every output of the program that a test sees is looked through for them.
pub mod secrets {
    /// The key that the devnet's Plumber wants to see.
    pub const PLUMBER_KEY: &str = "plumber-key-0f3c9a71";
    /// Part of RPC URLs, as Alchemy has it.
    pub const RPC_KEY: &str = "rpc-key-77aa02d5";
    /// S3's secret access key.
    pub const S3_KEY: &str = "s3-key-4c1de6b8";
    /// The daemon's private key on a devnet: one of anvil's public test keys.
    pub const PRIVATE_KEY: &str = "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6";

    /// What opens the daemon's keystore.
    pub const KEYSTORE_PASSWORD: &str = "keystore-password-9d1b20e4";

    pub fn assert_none(whose: &str, text: &str) {
        let lower = text.to_lowercase();
        for secret in [PLUMBER_KEY, RPC_KEY, S3_KEY, PRIVATE_KEY, KEYSTORE_PASSWORD] {
            assert!(!lower.contains(secret), "{whose} shows the secret {secret}:\n{text}");
        }
    }
}
