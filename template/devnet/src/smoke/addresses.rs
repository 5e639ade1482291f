//! Where the contracts of earlier runs are. They are used again while they are what this program would deploy.

use std::{fs, io::ErrorKind, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use ethers::{
    providers::Middleware as _,
    types::{Address, H256},
    utils::keccak256,
};
use serde::{Deserialize, Serialize};

use crate::{
    contracts::{
        COMPETITION_BYTECODE, CONSUMPTION_BYTECODE, MODELER_BYTECODE, PAYMENTTOKEN_BYTECODE, PROOFREGISTRY_BYTECODE,
        WALLETSIMPLE_BYTECODE,
    },
    deploy::Deployment,
    rpc::Node,
    wait::wait_for,
};

/// How long a node may take to have the code of what was just created.
const CODE_WITHIN: Duration = Duration::from_secs(60);

/// What is kept from one run to the next.
#[derive(Debug, Serialize, Deserialize)]
pub struct Addresses {
    /// Whose contracts they are: nobody else can set them up for a run.
    owner: Address,
    /// The digest of the bytecodes that they were made of.
    made_of: H256,
    /// Each contract's code on chain, by its digest.
    codes: Vec<(Address, H256)>,
    pub deployment: Deployment,
}

impl Addresses {
    /// Describes contracts that were just deployed.
    pub async fn of(deployment: &Deployment, owner: Address, node: &Node) -> Result<Self> {
        let mut codes = Vec::new();
        for address in contracts(deployment) {
            let code = wait_for(node, &format!("the code of {address:?}"), CODE_WITHIN, || async move {
                let code = node.get_code(address, None).await?;
                Ok((!code.is_empty()).then(|| H256(keccak256(&code))))
            })
            .await?;
            codes.push((address, code));
        }
        Ok(Self { owner, made_of: made_of(), codes, deployment: deployment.clone() })
    }

    /// Reads the file of an earlier run, if there is one.
    pub fn read(file: &Path) -> Result<Option<Self>> {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        // Of another version, or damaged: as good as none.
        Ok(serde_json::from_str(&text)
            .inspect_err(|error| tracing::warn!("{} is not used: {error}", file.display()))
            .ok())
    }

    pub fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(file, format!("{text}\n")).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Why these contracts cannot be used; nothing if they can.
    pub async fn trouble(&self, chain_id: u64, owner: Address, node: &Node) -> Result<Option<String>> {
        if self.deployment.chain_id != chain_id {
            return Ok(Some(format!("they are on chain {}", self.deployment.chain_id)));
        }
        if self.owner != owner {
            return Ok(Some(format!("they belong to {:?}", self.owner)));
        }
        if self.made_of != made_of() {
            return Ok(Some("the contracts have changed since".to_owned()));
        }
        for (address, expected) in &self.codes {
            if H256(keccak256(node.get_code(*address, None).await?)) != *expected {
                return Ok(Some(format!("the code at {address:?} is another")));
            }
        }
        Ok(None)
    }
}

fn contracts(deployment: &Deployment) -> [Address; 5] {
    [
        deployment.token,
        deployment.competition,
        deployment.modeler_contract,
        deployment.consumption,
        deployment.proof_registry,
    ]
}

fn made_of() -> H256 {
    let codes = [
        &COMPETITION_BYTECODE,
        &CONSUMPTION_BYTECODE,
        &MODELER_BYTECODE,
        &PAYMENTTOKEN_BYTECODE,
        &PROOFREGISTRY_BYTECODE,
        &WALLETSIMPLE_BYTECODE,
    ];
    H256(keccak256(codes.map(|code| code.to_vec()).concat()))
}
