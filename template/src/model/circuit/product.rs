//! Products: EZKL takes those of floats alone, and no diagonals.

use anyhow::{Result, ensure};
use candle_core::DType;

use super::site::{Replacement, Site};
use super::{Change, Family};

pub(super) const RULES: Family = &[("Einsum", einsum), ("MatMul", of_floats)];

/// Whole numbers of the model's input are floats for EZKL; those that were cast are not.
fn of_floats(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let inputs = site.node.proto().input.clone();
    if !inputs.iter().any(|input| site.facts.is_cast_to_whole(input)) {
        return Ok(None);
    }
    let floats = inputs.iter().map(|input| to.cast(input, DType::F32)).collect::<Result<Vec<_>>>()?;
    let product = to.keep(site.node.proto(), |node| node.input = floats);
    let value = to.cast(&product, site.dtype(0)?)?;
    Change::of(value, "a product of floats: EZKL would refuse one of whole numbers that were cast")
}

/// A letter that stands twice in one operand takes a diagonal, which EZKL does not.
fn einsum(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let equation = site.node.text_or("equation", "")?;
    let operands = equation.split("->").next().unwrap_or_default().split(',');
    for operand in operands {
        let letters: Vec<char> = operand.chars().filter(|letter| letter.is_alphabetic()).collect();
        let twice = letters.iter().enumerate().any(|(at, letter)| letters[..at].contains(letter));
        ensure!(
            !twice,
            "its equation {equation:?} takes a diagonal, which EZKL does not: take it with Gather, or before the model"
        );
    }
    of_floats(site, to)
}
