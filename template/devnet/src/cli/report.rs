//! What the commands print: a table for people, JSON for scripts.

use std::{fmt::Display, io::Write as _};

use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};
use ethers::{
    types::{Address, U256},
    utils::format_units,
};
use serde::Serialize;
use serde_json::json;

use crate::{
    challenge::{Challenge, ProvenOutput, Response},
    deploy::Deployment,
    request::{Answer, Request},
    smoke,
    status::{RequestStatus, Status},
};

pub(super) fn requests(requests: &[Request], json: bool) -> Result<()> {
    if json {
        return print_json(&requests);
    }
    let mut table = table(&["request", "input", "block"]);
    for request in requests {
        table.add_row([format!("{:?}", request.id), request.input.clone(), request.block.to_string()]);
    }
    print(&table)
}

pub(super) fn answers(requests: &[Request], answers: &[Answer], json: bool) -> Result<()> {
    if json {
        return print_json(&answers);
    }
    let mut table = table(&["request", "input", "answer", "seconds", "blocks", "transaction"]);
    for answer in answers {
        let input = requests.iter().find(|it| it.id == answer.request_id).map(|it| it.input.clone());
        table.add_row([
            format!("{:?}", answer.request_id),
            input.unwrap_or_default(),
            answer.value.to_string(),
            answer.seconds.to_string(),
            answer.blocks.to_string(),
            format!("{:?}", answer.transaction),
        ]);
    }
    print(&table)
}

pub(super) fn challenges(challenges: &[Challenge], json: bool) -> Result<()> {
    if json {
        return print_json(&challenges);
    }
    let mut table = table(&["challenge", "modeler", "transaction", "block"]);
    for challenge in challenges {
        table.add_row([
            challenge.payload.clone(),
            format!("{:?}", challenge.modeler),
            format!("{:?}", challenge.transaction),
            challenge.block.to_string(),
        ]);
    }
    print(&table)
}

pub(super) fn response(challenge: &Challenge, response: &Response, json: bool) -> Result<()> {
    if json {
        return print_json(&json!({ "challenge": challenge, "response": response }));
    }
    let mut table = table(&["challenge", "proof (CID)", "transaction"]);
    table.add_row([challenge.payload.clone(), response.cid.clone(), format!("{:?}", response.transaction)]);
    print(&table)
}

pub(super) fn proofs(proofs: &[ProvenOutput], json: bool) -> Result<()> {
    if json {
        return print_json(&proofs);
    }
    let mut table = table(&["request", "proven output", "transaction"]);
    for proof in proofs {
        table.add_row([format!("{:?}", proof.request_id), show_proof(proof), format!("{:?}", proof.transaction)]);
    }
    print(&table)
}

pub(super) fn verifier(verifier: Address, json: bool) -> Result<()> {
    if json {
        return print_json(&json!({ "verifier": verifier }));
    }
    print(&format!("verifier {verifier:?} is registered"))
}

/// The settings that make a daemon use contracts on a public chain.
pub(super) fn deployment(deployment: &Deployment, json: bool) -> Result<()> {
    if json {
        return print_json(deployment);
    }
    let mut settings = vec![
        ("NOVA_CHAIN_ID", deployment.chain_id.to_string()),
        ("NOVA_CHALLENGE_ADDRESS", format!("{:?}", deployment.competition)),
        ("NOVA_PROOF_REGISTRY_ADDRESS", format!("{:?}", deployment.proof_registry)),
        ("NOVA_INFERENCE_ENCODING", deployment.encoding.to_string()),
    ];
    if let Some(multisig) = deployment.multisig {
        settings.push(("NOVA_MULTISIG_ADDRESS", format!("{multisig:?}")));
    }
    self::settings(&settings)
}

/// Lines for an `.env`.
pub(super) fn settings(settings: &[(&str, String)]) -> Result<()> {
    let lines: Vec<_> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
    print(&lines.join("\n"))
}

pub(super) fn status(status: &Status, json: bool) -> Result<()> {
    if json {
        return print_json(status);
    }
    let mut facts = table(&[]);
    let verifiers: Vec<_> = status.verifiers.iter().map(|it| format!("{it:?}")).collect();
    facts.add_row(["chain", &format!("{}, block {}", status.chain_id, status.block)]);
    facts.add_row(["window", if status.window_open { "open" } else { "closed" }]);
    let rank = if status.modeler_is_top_n { "among the top N" } else { "not among the top N" };
    facts.add_row(["modeler", &format!("{:?}, {rank}", status.modeler)]);
    facts.add_row(["its key", &format!("{:?}, {} ETH", status.signer, units(status.signer_balance))]);
    facts.add_row(["consumer", &format!("{:?}", status.consumer)]);
    facts.add_row(["its deposit", &format!("{} tokens", units(status.consumer_deposit))]);
    facts.add_row(["verifiers", &verifiers.join(", ")]);
    print(&facts)?;

    let mut table = table(&["request", "input", "answer", "seconds", "in time", "transaction", "proof"]);
    for each in &status.requests {
        table.add_row(request_row(each));
    }
    print(&table)
}

/// Tables that are Markdown, too: CI shows them on the page of its run.
pub(super) fn smoke(report: &smoke::Report, json: bool) -> Result<()> {
    if json {
        return print_json(report);
    }
    let mut served = markdown(&["request", "wallet", "answer", "seconds", "blocks", "gas", "ETH", "proof"]);
    for each in &report.served {
        served.add_row([
            format!("{:?}", each.request.id),
            each.request.input.clone(),
            each.answer.value.to_string(),
            each.answer.seconds.to_string(),
            each.answer.blocks.to_string(),
            each.gas.to_string(),
            smoke::ether(each.wei),
            each.proof.clone().unwrap_or_default(),
        ]);
    }
    let mut costs = markdown(&["who", "did what", "transactions", "gas", "ETH"]);
    for cost in &report.costs {
        costs.add_row([
            cost.who.to_owned(),
            cost.what.clone(),
            cost.transactions.to_string(),
            cost.gas.to_string(),
            smoke::ether(cost.wei),
        ]);
    }
    let contracts = if report.contracts_reused { "used again" } else { "deployed" };
    print(&format!(
        "chain {}, contracts {contracts}: {} requests, all answered in time; the daemon stopped in {:.1} s\n\n{served}\n\n{costs}\n\n\
         all of it cost {} ETH, the rest is back",
        report.chain_id,
        report.served.len(),
        report.stopped_in,
        smoke::ether(report.spent)
    ))
}

fn request_row(status: &RequestStatus) -> [String; 7] {
    let answer = status.answer.as_ref();
    let show = |value: Option<String>| value.unwrap_or("-".to_owned());
    [
        format!("{:?}", status.request.id),
        status.request.input.clone(),
        show(answer.map(|answer| answer.value.to_string())),
        show(answer.map(|answer| answer.seconds.to_string())),
        show(answer.map(|_| if status.in_time { "yes" } else { "no" }.to_owned())),
        show(answer.map(|answer| format!("{:?}", answer.transaction))),
        show(status.proof.as_ref().map(show_proof)),
    ]
}

fn show_proof(proof: &ProvenOutput) -> String {
    format!("{} ({}/2^{})", proof.value, proof.raw, proof.scale)
}

/// An amount with 18 decimals.
fn units(amount: U256) -> String {
    format_units(amount, 18).unwrap_or_else(|_| amount.to_string())
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    // Ids and addresses are to be copied: a line is never broken to fit.
    table.set_content_arrangement(ContentArrangement::Disabled);
    if !header.is_empty() {
        table.set_header(header);
    }
    table
}

fn markdown(header: &[&str]) -> Table {
    let mut table = table(header);
    table.load_preset(presets::ASCII_MARKDOWN);
    table
}

fn print_json(value: &impl Serialize) -> Result<()> {
    print(&serde_json::to_string_pretty(value)?)
}

/// Prints a line. A reader that has seen enough, such as `head`, is an error and no panic.
pub(super) fn print(text: &impl Display) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}
