//! The EZKL verifier of the model: compiled, deployed, and registered as our modeler's.

use std::{fs, path::Path, process::Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use ethers::{
    abi::Abi,
    providers::Middleware as _,
    types::{Address, BlockNumber, Bytes, U256},
};
use serde::Deserialize;
use tokio::process::Command;

use crate::{
    anvil::contracts_folder,
    contracts::WalletSimple,
    network::Network,
    sender::{Call, Sender},
};

/// How long a MultiSig call is valid.
const EXPIRES_IN: u64 = 3600;

/// A verifier as solc made it.
#[derive(Clone, Debug, Deserialize)]
pub struct CompiledVerifier {
    pub abi: Abi,
    pub bytecode: Bytes,
}

/// Where a circuit's output is among its instances, and how it is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputForm {
    pub index: u64,
    /// The output is a fixed-point number with this many binary places.
    pub scale: u8,
}

/// Compiles a Solidity file with npm's solc.
pub async fn compile(file: &Path) -> Result<CompiledVerifier> {
    let script = contracts_folder().join("compile.mjs");
    let output = Command::new("node")
        .arg(&script)
        .arg(file)
        .stdin(Stdio::null())
        .output()
        .await
        .with_context(|| format!("cannot run `node {}`: is Node installed?", script.display()))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        bail!("cannot compile {}: {}", file.display(), reason.trim());
    }
    serde_json::from_slice(&output.stdout).context("compile.mjs printed something else than JSON")
}

/// Reads from EZKL's `settings.json` where the output is.
pub fn read_output_form(settings: &Path) -> Result<OutputForm> {
    #[derive(Deserialize)]
    struct Settings {
        model_instance_shapes: Vec<Vec<u64>>,
        model_output_scales: Vec<u8>,
        run_args: RunArgs,
    }
    #[derive(Deserialize)]
    struct RunArgs {
        output_visibility: serde_json::Value,
    }
    let text = fs::read_to_string(settings).with_context(|| format!("cannot read {}", settings.display()))?;
    let settings_file = settings.display();
    let settings: Settings =
        serde_json::from_str(&text).with_context(|| format!("{settings_file} is no settings.json of EZKL"))?;
    ensure!(
        settings.run_args.output_visibility == "Public",
        "{settings_file}: the output is not public, so no proof can show it"
    );
    let [scale] = settings.model_output_scales[..] else {
        bail!("{settings_file}: the circuit has several outputs, the registry keeps one");
    };
    let sizes: Vec<u64> = settings.model_instance_shapes.iter().map(|shape| shape.iter().product()).collect();
    // The output comes after the public inputs.
    let (_, inputs) = sizes.split_last().context("the circuit has no instances")?;
    Ok(OutputForm { index: inputs.iter().sum(), scale })
}

impl Network {
    /// Deploys the verifier in the model files and registers it for our modeler, with the modeler's key.
    pub async fn register_verifier(&self, model_files: &Path, signer: &Sender) -> Result<Address> {
        let form = read_output_form(&model_files.join("settings.json"))?;
        let compiled = compile(&model_files.join("verifier.sol")).await?;
        let create = Call::create("the EZKL verifier", &compiled.abi, &compiled.bytecode, &[])?;
        let receipt = self.parties.admin.send(create).await?;
        let verifier = receipt.contract_address.context("the verifier was not created")?;
        let register = self.proof_registry().register_verifier(verifier, form.index, form.scale);
        self.send_as_modeler(signer, Call::new("register the verifier", &register)).await?;
        Ok(verifier)
    }

    /// Sends a call from the modeler's address: through its MultiSig where it has one.
    pub async fn send_as_modeler(&self, signer: &Sender, call: Call) -> Result<()> {
        let Some(multisig) = self.deployment.multisig else {
            return signer.send(call).await.map(drop);
        };
        let wallet = WalletSimple::new(multisig, self.node.clone());
        let block = self.node.get_block(BlockNumber::Latest).await?.context("no latest block")?;
        let sequence_id = wallet.get_next_sequence_id().call().await?;
        let wrapped = wallet.send_multi_sig(
            call.to.context("a MultiSig creates no contracts")?,
            call.value,
            call.data,
            block.timestamp + U256::from(EXPIRES_IN),
            sequence_id,
            Bytes::new(),
        );
        signer.send(Call::new(call.what, &wrapped)).await.map(drop)
    }
}
