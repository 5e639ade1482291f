//! `nova status` and `nova retry`

use anyhow::bail;
use clap::Args;
use comfy_table::{Table, presets};

use crate::config::Config;
use crate::ledger::{Ledger, Status};
use crate::sanitize;

#[derive(Args)]
pub struct Options {
    /// One JSON object instead of tables
    #[arg(long)]
    json: bool,
    /// How many of the newest rows to show
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: u32,
}

/// What the ledger holds.
pub async fn status(config: Config, options: Options) -> anyhow::Result<()> {
    let status = Ledger::open(&config.artifacts).await?.status(options.limit).await?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        show(&status);
    }
    Ok(())
}

fn show(status: &Status) {
    if status.counts.is_empty() {
        println!("no request has been seen yet");
        return;
    }
    for kind in ["request", "challenge", "transaction"] {
        let counts: Vec<String> =
            status.counts.iter().filter(|c| c.kind == kind).map(|c| format!("{} {}", c.rows, c.state)).collect();
        if !counts.is_empty() {
            println!("{kind}s: {}", counts.join(", "));
        }
    }
    let mut requests =
        table(["request", "state", "seconds", "candle", "circuit", "submitted", "transaction", "reason"]);
    for line in &status.requests {
        requests.add_row([
            line.id.clone(),
            line.state.clone(),
            line.mined.map_or_else(String::new, |mined| (mined - line.requested).to_string()),
            number(line.model_value),
            number(line.circuit_value),
            number(line.submitted_value),
            line.transaction.clone().unwrap_or_default(),
            printable(line.reason.as_deref()),
        ]);
    }
    println!("{requests}");
    if !status.challenges.is_empty() {
        let mut challenges = table(["asked in", "by", "about", "state", "CID", "transaction", "reason"]);
        for line in &status.challenges {
            challenges.add_row([
                line.asked_in.clone(),
                line.route.clone(),
                printable(Some(&line.payload)),
                line.state.clone(),
                printable(line.cid.as_deref()),
                line.transaction.clone().unwrap_or_default(),
                printable(line.reason.as_deref()),
            ]);
        }
        println!("{challenges}");
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_header(header);
    table
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// What came from outside: a terminal must not obey it.
fn printable(text: Option<&str>) -> String {
    sanitize::escape_control_chars(text.unwrap_or_default()).into_owned()
}

/// Brings back what failed.
pub async fn retry(config: Config, id: &str) -> anyhow::Result<()> {
    let ledger = Ledger::open(&config.artifacts).await?;
    let id = id.to_lowercase();
    if ledger.retry(&id).await? {
        println!("{id} is tried again");
        return Ok(());
    }
    bail!("nothing that failed has the id {id}: see `nova status`")
}
