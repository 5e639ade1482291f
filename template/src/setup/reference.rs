//! Where the SRS comes from: the model files, the cache that EZKL keeps for all models, the net; or it is made here.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use super::progress::Progress;
use crate::ezkl::{Ezkl, srs};

/// Puts an SRS of 2^`logrows` rows at `wanted`.
///
/// # Errors
/// Where there is none: how to bring one.
pub async fn find(
    ezkl: &Ezkl,
    progress: &Progress,
    held: &Path,
    wanted: &Path,
    logrows: u32,
    settings: &Path,
    insecure: bool,
) -> Result<()> {
    // What is in the model files may be larger: EZKL takes what it needs of it.
    let holds = held.is_file() && rows_of(held)? >= logrows && (insecure || srs::is_public(held)?);
    let cached = cache().map(|cache| cache.join(format!("kzg{logrows}.srs")));
    let cached = cached.as_deref().filter(|path| !insecure && path.is_file());
    if holds {
        return copy(held, wanted);
    }
    if let Some(cached) = cached
        && srs::is_public(cached)?
        && rows_of(cached)? == logrows
    {
        return copy(cached, wanted);
    }
    if insecure {
        let args = json!({ "srs_path": wanted, "logrows": logrows });
        let made = progress.step("making an INSECURE local SRS", "the keys", ezkl.call("gen_srs", args));
        return made.await.map(drop);
    }
    let args = json!({ "settings_path": settings, "srs_path": wanted });
    let downloaded = progress.step("downloading the public SRS", "the keys", ezkl.call("get_srs", args)).await;
    if let Err(error) = downloaded {
        let cache = cache().map_or_else(String::new, |cache| format!(" or to {}", cache.display()));
        bail!(
            "the public SRS for 2^{logrows} rows cannot be downloaded ({error:#}). Bring kzg{logrows}.srs from another machine to \
             {}{cache} and run `nova setup` again; for development only: `nova setup --insecure-srs`",
            held.display()
        );
    }
    ensure!(
        srs::is_public(wanted)? && rows_of(wanted)? >= logrows,
        "the SRS that EZKL downloaded is not the public one of 2^{logrows} rows that EZKL lists: it is not used"
    );
    Ok(())
}

pub fn warn_insecure() {
    eprintln!(
        "\n*** INSECURE SRS: it was made on this machine, and whoever made it can forge proofs.\n\
         *** For development only. For real use run `nova setup` without --insecure-srs.\n"
    );
}

/// Where EZKL itself keeps what it downloads.
fn cache() -> Option<PathBuf> {
    let of_ezkl = std::env::var_os("EZKL_REPO_PATH").map(PathBuf::from);
    Some(of_ezkl.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".ezkl")))?.join("srs"))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display())).map(drop)
}

/// An SRS file begins with the logarithm of its size, four bytes, lowest first.
fn rows_of(path: &Path) -> Result<u32> {
    let mut head = [0; 4];
    fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut head))
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(u32::from_le_bytes(head))
}
