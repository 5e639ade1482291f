//! Operators that look for elements: EZKL knows no last of equals, and no places of the greatest.

use anyhow::{Result, ensure};
use candle_core::DType;

use super::recurrent::joined;
use super::site::{Replacement, Site, int, remove, set};
use super::{Change, Family};
use crate::model::tensor::{axis, tensor_of};

pub(super) const RULES: Family = &[("ArgMax", last), ("ArgMin", last), ("TopK", greatest)];

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

/// The most that are looked for one by one.
const MAX_FOUND: usize = 32;

/// EZKL computes the greatest, and not where they are: with their places they are looked for one by one, each without those before.
fn greatest(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let places = site.node.proto().output.get(1).filter(|name| !name.is_empty());
    let places = places.filter(|name| site.facts.is_output(name) || !site.facts.takers(name).is_empty());
    let dims = site.shape(0)?;
    let at = axis(site.node.int_or("axis", -1)?, dims.len())?;
    if places.is_none() {
        return along_the_last(site, to, at, dims.len());
    }
    let count = site.facts.shape(site.node.proto().output[1].as_str())?[at];
    ensure!(
        count <= MAX_FOUND,
        "its second output, the places of {count}, costs too much in a circuit: {MAX_FOUND} are the most"
    );
    ensure!(site.dtype(0)?.is_float(), "its second output, the places, is computed of floats: cast its input");
    let [most, least, where_most] = if site.node.flag("largest", true)? {
        ["ReduceMax", "ReduceMin", "ArgMax"]
    } else {
        ["ReduceMin", "ReduceMax", "ArgMin"]
    };
    let mut shape = vec![1; dims.len()];
    shape[at] = dims[at];
    let numbers = tensor_of((0..dims[at]).map(|place| place as f64).collect(), shape, DType::I64)?;
    let numbers = to.constant(&numbers)?;
    let last = to.reduce(least, site.input(0)?, &[at])?;
    let behind_all = to.plus(&last, if most == "ReduceMax" { -1.0 } else { 1.0 })?;
    let mut data = site.input(0)?.to_owned();
    let (mut values, mut found) = (Vec::new(), Vec::new());
    for nth in 0..count {
        let place = to.op(where_most, &[&data], vec![int("axis", at as i64), int("keepdims", 1)]);
        values.push(to.reduce(most, &data, &[at])?);
        if nth + 1 < count {
            let is_here = to.op("Equal", &[&numbers, &place], Vec::new());
            data = to.op("Where", &[&is_here, &behind_all, &data], Vec::new());
        }
        found.push(place);
    }
    let (values, found) = (joined(to, &values, at), joined(to, &found, at));
    Change::of_all(vec![values, found], "one by one: EZKL would refuse their places")
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
