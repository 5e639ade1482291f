//! What is looked at each minute: whether the wallet can pay, and whether the consumption window is open.

use std::time::{Duration, Instant};

use super::Sender;
use crate::chain::call::{call_fault, is_contract_error};
use crate::fault::Result;
use crate::ledger::SubmissionPolicy;

const CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// While something is wrong, so that it is soon known that it is not.
const UNHEALTHY_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// How often it is said that the wallet will run dry.
const WARN_INTERVAL: Duration = Duration::from_secs(60 * 60);

impl Sender {
    /// Looks after funds and window when it is time to. Where no answers are sent neither matters.
    pub(super) async fn check_funds_and_window(&mut self, allowed: SubmissionPolicy) -> Result<()> {
        if !allowed.answers || self.next_funds_check.is_some_and(|next| Instant::now() < next) {
            return Ok(());
        }
        let healthy = self.check_wallet_balance().await? & self.check_window().await?;
        self.next_funds_check = Some(Instant::now() + if healthy { CHECK_INTERVAL } else { UNHEALTHY_CHECK_INTERVAL });
        Ok(())
    }

    async fn check_wallet_balance(&mut self) -> Result<bool> {
        let funds = self.chain.funds().await?;
        if funds.affordable_answers == 0 {
            let reason =
                format!("wallet {} holds {} ETH, which pays for no answer: send it some", funds.wallet, funds.eth);
            self.alerts.set("funds", Err(reason));
            return Ok(false);
        }
        self.alerts.set("funds", Ok(()));
        if funds.affordable_answers < self.chain.settings.warn_answers
            && self.alerts.should_log("few answers", WARN_INTERVAL)
        {
            tracing::warn!(
                wallet = funds.wallet,
                eth = funds.eth,
                answers = funds.affordable_answers,
                "the wallet pays for few more answers (NOVA_WARN_ANSWERS)"
            );
        }
        Ok(true)
    }

    /// A closed window stops nothing by itself: what the contract still takes is sent.
    async fn check_window(&mut self) -> Result<bool> {
        let open = match self.chain.consumption.consumption_window().call().await {
            Ok(open) => open,
            // A contract without it has no window that could be closed.
            Err(error) if is_contract_error(&error) => true,
            Err(error) => return Err(call_fault(error, "consumptionWindow")),
        };
        let closed = "the consumption window is closed: nobody can ask for an inference until it opens";
        self.alerts.set("window", if open { Ok(()) } else { Err(closed.to_owned()) });
        Ok(open)
    }
}
