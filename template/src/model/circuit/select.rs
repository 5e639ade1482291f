//! Operators that look for elements: EZKL knows no last of equals, and no places of the greatest.

use anyhow::{Result, ensure};
use candle_core::DType;

use super::site::{Replacement, Site, int, remove, set};
use super::{Change, Family};
use crate::model::tensor::{axis, floats};

pub(super) const RULES: Family = &[("ArgMax", last), ("ArgMin", last), ("Einsum", einsum), ("TopK", greatest)];

/// The last of equals is the first from behind.
fn last(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    if !site.node.flag("select_last_index", false)? {
        return Ok(None);
    }
    let dims = site.shape(0)?;
    let at = axis(site.node.int_or("axis", 0)?, dims.len())?;
    let backwards: Vec<usize> = (0..dims[at]).rev().collect();
    let reversed = to.gather(site.input(0)?, &backwards, at)?;
    let from_behind = to.keep(site.node.proto(), |node| {
        node.input[0] = reversed;
        remove(node, "select_last_index");
    });
    let end = to.number(dims[at] as f64 - 1.0, DType::I64)?;
    let value = to.sub(&end, &from_behind);
    Change::of(value, "the first from behind: EZKL would refuse select_last_index")
}

/// EZKL computes the greatest, and not where they are: of one alone ArgMax says that.
fn greatest(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let places = site.node.proto().output.get(1).filter(|name| !name.is_empty());
    let places = places.filter(|name| site.facts.is_output(name) || !site.facts.takers(name).is_empty());
    let dims = site.shape(0)?;
    let at = axis(site.node.int_or("axis", -1)?, dims.len())?;
    if places.is_none() {
        return along_the_last(site, to, at, dims.len());
    }
    let count = match site.node.int("k")? {
        Some(count) => count as f64,
        None => site.constant(1).map(floats).transpose()?.and_then(|count| count.first().copied()).unwrap_or_default(),
    };
    ensure!(
        count == 1.0,
        "its second output, the places, cannot be computed in a circuit: use its values alone, or k = 1"
    );
    let (values, places) =
        if site.node.flag("largest", true)? { ("ReduceMax", "ArgMax") } else { ("ReduceMin", "ArgMin") };
    let values = to.reduce(values, site.input(0)?, &[at])?;
    let places = to.op(places, &[site.input(0)?], vec![int("axis", at as i64), int("keepdims", 1)]);
    Change::of_all(vec![values, places], "the greatest and where it is: EZKL would refuse the places")
}

/// EZKL fails on any other axis than the last.
fn along_the_last(site: &Site, to: &mut Replacement, at: usize, rank: usize) -> Result<Option<Change>> {
    if at + 1 == rank {
        return Ok(None);
    }
    let mut order: Vec<usize> = (0..rank).collect();
    order.swap(at, rank - 1);
    let data = to.transpose(site.input(0)?, &order);
    let value = to.keep(site.node.proto(), |node| {
        node.input[0] = data;
        set(node, int("axis", -1));
    });
    to.add_output(&value, "places");
    let value = to.transpose(&value, &order);
    Change::of(value, "along the last axis: EZKL would fail on another")
}

/// A letter that stands twice in one operand takes a diagonal, which EZKL does not.
fn einsum(site: &Site, _: &mut Replacement) -> Result<Option<Change>> {
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
    Ok(None)
}
