//! What is looked at each minute: whether the wallet can pay, and whether the consumption window is open.

use std::time::{Duration, Instant};

use super::Sender;
use crate::chain::call::{call_fault, is_refusal};
use crate::fault::Result;
use crate::ledger::Allowed;

const EVERY: Duration = Duration::from_secs(60);
/// While something is wrong, so that it is soon known that it is not.
const IN_TROUBLE: Duration = Duration::from_secs(5);
/// How often it is said that the wallet will run dry.
const WARN_EVERY: Duration = Duration::from_secs(60 * 60);

impl Sender {
    /// Looks after funds and window when it is time to. Where no answers are sent neither matters.
    pub(super) async fn watch_money(&mut self, allowed: Allowed) -> Result<()> {
        if !allowed.answers || self.money_next.is_some_and(|next| Instant::now() < next) {
            return Ok(());
        }
        let well = self.watch_funds().await? & self.watch_window().await?;
        self.money_next = Some(Instant::now() + if well { EVERY } else { IN_TROUBLE });
        Ok(())
    }

    async fn watch_funds(&mut self) -> Result<bool> {
        let funds = self.chain.funds().await?;
        if funds.answers == 0 {
            let reason =
                format!("wallet {} holds {} ETH, which pays for no answer: send it some", funds.wallet, funds.eth);
            self.troubles.set("funds", Err(reason));
            return Ok(false);
        }
        self.troubles.set("funds", Ok(()));
        if funds.answers < self.chain.settings.warn_answers && self.troubles.may_say("few answers", WARN_EVERY) {
            tracing::warn!(
                wallet = funds.wallet,
                eth = funds.eth,
                answers = funds.answers,
                "the wallet pays for few more answers (NOVA_WARN_ANSWERS)"
            );
        }
        Ok(true)
    }

    /// A closed window stops nothing by itself: what the contract still takes is sent.
    async fn watch_window(&mut self) -> Result<bool> {
        let open = match self.chain.consumption.consumption_window().call().await {
            Ok(open) => open,
            // A contract without it has no window that could be closed.
            Err(error) if is_refusal(&error) => true,
            Err(error) => return Err(call_fault(error, "consumptionWindow")),
        };
        let closed = "the consumption window is closed: nobody can ask for an inference until it opens";
        self.troubles.set("window", if open { Ok(()) } else { Err(closed.to_owned()) });
        Ok(open)
    }
}
