//! `nova bundle`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use comfy_table::{Cell, CellAlignment, Table, presets};
use indicatif::HumanBytes;

use crate::bundle;
use crate::config::{Config, Network, Sources};
use crate::ezkl::model_version::ModelVersion;
use crate::ezkl::srs;

#[derive(Args)]
pub struct Options {
    /// The file to write
    #[arg(long, value_name = "FILE", default_value = "upload.zip")]
    output: PathBuf,
}

/// Writes the bundle, and says what is in it.
pub fn bundle(config: &Config, sources: &Sources, options: &Options) -> Result<()> {
    let model = ModelVersion::read(&config.model_files)?;
    if config.network == Network::ArbitrumOne {
        srs::require_public(&model.files.srs)?;
    }
    let entries = bundle::collect(sources.project(), &model)?;
    bundle::check(&entries, &sources.secrets())?;
    let size = bundle::write(&entries, &options.output)?;

    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_header(["file", "size"]);
    for entry in &entries {
        let size = Cell::new(HumanBytes(entry.size)).set_alignment(CellAlignment::Right);
        table.add_row([Cell::new(&entry.name), size]);
    }
    println!("{table}");
    println!(
        "{}: {} files, {}; model {}",
        options.output.display(),
        entries.len(),
        HumanBytes(size),
        &model.digest[..12]
    );
    Ok(())
}
