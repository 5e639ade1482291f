//! What the contracts said at the start, read again: challenges run for months.

use std::sync::atomic::Ordering;

use anyhow::anyhow;
use ethers::providers::Middleware as _;
use ethers::types::Address;

use super::{Chain, named_by, rpc_fault, sla_of, to_hex};
use crate::fault::{Fault, Result};

/// What the Competition says: how long an answer may take, and which other contracts there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreement {
    sla_secs: u64,
    consumption: Address,
    modeler_contract: Address,
}

impl Agreement {
    /// True if these are the contracts of the other one.
    pub fn has_contracts_of(&self, other: &Self) -> bool {
        (self.consumption, self.modeler_contract) == (other.consumption, other.modeler_contract)
    }
}

impl std::fmt::Display for Agreement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (consumption, modeler) = (to_hex(self.consumption), to_hex(self.modeler_contract));
        write!(f, "Consumption {consumption}, Modeler {modeler}, {} s from request to answer", self.sla_secs)
    }
}

impl Chain {
    /// What this daemon works with.
    pub fn agreement(&self) -> Agreement {
        Agreement {
            sla_secs: self.sla().as_secs(),
            consumption: self.consumption.address(),
            modeler_contract: self.modeler_contract.address(),
        }
    }

    /// What the Competition says now.
    ///
    /// # Errors
    /// `Transient` in all cases: one machine that is out of step, or contracts that are half moved, end no daemon.
    pub async fn read_agreement(&self) -> Result<Agreement> {
        self.account.check_listed().await?;
        let (consumption, modeler_contract) = named_by(&self.competition).await.map_err(passing)?;
        for named in [consumption, modeler_contract] {
            let code = self.client.get_code(named, None).await.map_err(rpc_fault)?;
            if code.is_empty() {
                let named = to_hex(named);
                return Err(Fault::Transient(anyhow!("the Competition names {named}, where there is no contract")));
            }
        }
        let sla = match self.settings.sla {
            Some(_) => None,
            None => sla_of(&self.competition).await.map_err(passing)?,
        };
        let sla_secs = sla.unwrap_or(self.sla()).as_secs();
        Ok(Agreement { sla_secs, consumption, modeler_contract })
    }

    /// From now on requests have this much time.
    pub fn adopt_sla(&self, agreement: &Agreement) {
        let before = self.sla.swap(agreement.sla_secs, Ordering::Relaxed);
        if before != agreement.sla_secs {
            tracing::warn!(before, now = agreement.sla_secs, "the contracts give requests another time, in seconds");
        }
    }
}

fn passing(fault: Fault) -> Fault {
    match fault {
        Fault::Permanent(error) | Fault::Fatal(error) | Fault::Transient(error) => Fault::Transient(error),
    }
}
