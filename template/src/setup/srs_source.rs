//! Where the SRS comes from: the model files, the cache that EZKL keeps for all models, the net; or it is made here.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use tempfile::NamedTempFile;

use super::progress::Progress;
use crate::ezkl::{Ezkl, srs};

/// Puts an SRS of 2^`logrows` rows at `wanted`, under that name once it is whole and checked.
///
/// # Errors
/// Where there is none: how to bring one.
pub async fn obtain_srs(
    ezkl: &Ezkl,
    progress: &Progress,
    held: &Path,
    wanted: &Path,
    logrows: u32,
    settings: &Path,
    insecure: bool,
) -> Result<()> {
    let cached = cache().map(|cache| cache.join(format!("kzg{logrows}.srs")));
    let made_before = cache().map(|cache| cache.join(format!("insecure-kzg{logrows}.srs"))).filter(|_| insecure);
    for (path, is_ours) in [(Some(held), true), (cached.as_deref(), false), (made_before.as_deref(), true)] {
        let Some(path) = path.filter(|path| path.is_file()) else { continue };
        let is_public = srs::is_public(path)?;
        match rows_of(path) {
            Ok(rows) if rows == logrows && (is_public || insecure && is_ours) => return copy(path, wanted),
            Ok(_) if is_public || insecure => {}
            _ => eprintln!("  {} is no whole SRS of the public ceremony: another is looked for", path.display()),
        }
    }
    let part = wanted.with_extension("part");
    if insecure {
        let args = json!({ "srs_path": part, "logrows": logrows });
        progress.step("making an INSECURE local SRS", "the keys", ezkl.call("gen_srs", args)).await?;
        fs::rename(&part, wanted).context("cannot keep the SRS")?;
        remember(wanted, made_before.as_deref());
        return Ok(());
    }
    let args = json!({ "settings_path": settings, "srs_path": part });
    let downloaded = progress.step("downloading the public SRS", "the keys", ezkl.call("get_srs", args)).await;
    if let Err(error) = downloaded {
        // EZKL takes what it needs of a larger one, anew for each proof: six times as long with 2^12 rows for a circuit of 2^10 (23.0.5).
        if held.is_file() && srs::is_public(held)? && rows_of(held)? > logrows {
            eprintln!(
                "  the SRS of before stays: proofs are faster with the one for 2^{logrows} rows, which cannot be downloaded ({error:#})"
            );
            return copy(held, wanted);
        }
        let cache = cache().map_or_else(String::new, |cache| format!(" or to {}", cache.display()));
        bail!(
            "the public SRS for 2^{logrows} rows cannot be downloaded ({error:#}). Bring kzg{logrows}.srs from another machine to \
             {}{cache} and run `nova setup` again; for development only: `nova setup --insecure-srs`",
            held.display()
        );
    }
    ensure!(
        srs::is_public(&part)? && rows_of(&part)? >= logrows,
        "what was downloaded as SRS for 2^{logrows} rows is not the one of the public ceremony: it is not used. Try again, or bring \
         kzg{logrows}.srs from another machine to {}",
        held.display()
    );
    fs::rename(&part, wanted).context("cannot keep the SRS")?;
    remember(wanted, cached.as_deref());
    Ok(())
}

fn copy(path: &Path, to: &Path) -> Result<()> {
    fs::copy(path, to).map(drop).with_context(|| format!("cannot copy {}", path.display()))
}

/// For the next circuit of this size. It is only a cache: where it cannot be written, the next one is made or downloaded again.
fn remember(srs: &Path, cached: Option<&Path>) {
    let Some((cached, folder)) = cached.and_then(|cached| Some((cached, cached.parent()?))) else { return };
    // Another `setup` may be at it.
    let kept = fs::create_dir_all(folder).and_then(|()| NamedTempFile::new_in(folder)).and_then(|part| {
        fs::copy(srs, part.path())?;
        part.persist(cached).map_err(|error| error.error)
    });
    if let Err(error) = kept {
        eprintln!("  the SRS is not kept in {}: {error}", folder.display());
    }
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

/// An SRS file begins with the logarithm of its size, four bytes, lowest first.
fn rows_of(path: &Path) -> Result<u32> {
    let mut head = [0; 4];
    fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut head))
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(u32::from_le_bytes(head))
}
