//! Operators that no circuit computes.

use anyhow::{Result, bail};

use super::site::{Replacement, Site};
use super::{Change, Family};

pub(super) const RULES: Family = &[
    ("BitwiseAnd", bits),
    ("BitwiseNot", bits),
    ("BitwiseOr", bits),
    ("BitwiseXor", bits),
    ("Constant", constant),
    ("CumProd", products),
    ("IsInf", finite),
    ("IsNaN", finite),
    ("NonZero", places),
    ("Range", range),
];

fn bits(_: &Site, _: &mut Replacement) -> Result<Option<Change>> {
    bail!("EZKL does not compute on bits: compute it in pre_process, or use And, Or, Xor and Not on truth values")
}

fn finite(_: &Site, _: &mut Replacement) -> Result<Option<Change>> {
    bail!("in a circuit every number is finite: handle missing values in pre_process")
}

fn places(_: &Site, _: &mut Replacement) -> Result<Option<Change>> {
    bail!(
        "the size of what it gives depends on the input, and a circuit has fixed sizes: use Where, or a product with truth values"
    )
}

/// What is known is written as a weight; EZKL takes no more than one way to say it.
fn constant(site: &Site, _: &mut Replacement) -> Result<Option<Change>> {
    if site.node.tensor("value")?.is_some() {
        return Ok(None);
    }
    bail!("it is no tensor")
}

fn range(site: &Site, _: &mut Replacement) -> Result<Option<Change>> {
    if site.facts.constant(site.output()).is_some() && !site.facts.dtype(site.output())?.is_float() {
        return Ok(None);
    }
    bail!("the size of what it gives depends on the input, and a circuit has fixed sizes")
}

fn products(_: &Site, _: &mut Replacement) -> Result<Option<Change>> {
    bail!("EZKL does not know it: write it as products, or as Exp of a CumSum of logarithms")
}
