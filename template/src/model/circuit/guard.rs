//! A choice between a quotient and something else, where the divisor may be zero: the circuit computes both, and 1/0 has no
//! witness. So the divisor is 1 wherever the quotient is not chosen.

use anyhow::Result;
use candle_core::DType;

use super::Change;
use super::site::{Replacement, Site};

/// Operators that are not defined for every number, and which input that concerns.
const PARTIAL: [(&str, usize); 4] = [("Div", 1), ("Log", 0), ("Reciprocal", 0), ("Sqrt", 0)];

/// `Where(c, n / d, y)` → `Where(c, n / Where(c, d, 1), y)`, if the condition looks at what may be zero, and nothing else takes the
/// quotient.
pub(super) fn safe(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let condition = site.input(0)?;
    let mut branches = [site.input(1)?.to_owned(), site.input(2)?.to_owned()];
    let mut changed = false;
    for (at, branch) in branches.iter_mut().enumerate() {
        let Some(maker) = site.facts.maker(branch) else { continue };
        let Some((_, place)) = PARTIAL.iter().find(|(operator, _)| *operator == maker.op_type) else { continue };
        let guarded = &maker.input[*place];
        let is_only_here = site.facts.takers(branch).len() == 1 && !site.facts.is_output(branch);
        if !is_only_here || site.facts.constant(guarded).is_some() || !looks_at(site, condition, guarded) {
            continue;
        }
        let dtype = site.facts.dtype(guarded)?;
        if dtype != DType::F32 {
            continue;
        }
        let one = to.number(1.0, dtype)?;
        let choice = if at == 0 { [condition, guarded, &one] } else { [condition, &one, guarded] };
        let guarded = to.op("Where", &choice, Vec::new());
        *branch = to.keep(maker, |node| node.input[*place] = guarded);
        changed = true;
    }
    if !changed {
        return Ok(None);
    }
    let value = to.op("Where", &[condition, &branches[0], &branches[1]], Vec::new());
    Change::of(value, "what it divides by is 1 where the quotient is not chosen: EZKL would compute 1 / 0")
}

/// True if a condition is computed of this value, or both of the same one.
fn looks_at(site: &Site, condition: &str, value: &str) -> bool {
    let origin = |name: &str| -> String {
        let mut name = name.to_owned();
        while let Some(maker) =
            site.facts.maker(&name).filter(|node| ["Abs", "Neg", "Identity", "Cast"].contains(&node.op_type.as_str()))
        {
            name.clone_from(&maker.input[0]);
        }
        name
    };
    let value = origin(value);
    let mut open = vec![condition.to_owned()];
    while let Some(name) = open.pop() {
        if origin(&name) == value {
            return true;
        }
        let is_logical = |operator: &str| {
            [
                "And",
                "Or",
                "Xor",
                "Not",
                "Cast",
                "Equal",
                "Less",
                "LessOrEqual",
                "Greater",
                "GreaterOrEqual",
                "Abs",
                "Neg",
                "Identity",
            ]
            .contains(&operator)
        };
        if let Some(maker) = site.facts.maker(&name).filter(|node| is_logical(&node.op_type)) {
            open.extend(maker.input.iter().filter(|input| !input.is_empty()).cloned());
        }
    }
    false
}
