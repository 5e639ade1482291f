//! Which circuits are worth making: the sizes that `gen_settings` tells, in the order of what their proofs should cost.

use anyhow::Result;

use super::super::LOOKUP_MARGIN;
use super::super::circuit_builder::CircuitBuilder;
use super::super::circuit_params::{CircuitParams, Cost};
use super::super::reach::{self, Digits};
use super::{EZKLS_DIGITS, FINALISTS, Limits};
use crate::ezkl::settings::Settings;

/// Choices that are made and measured to find the finalists.
const MOST_MEASURED: usize = 12;
const INNER_COLUMNS: [usize; 3] = [1, 2, 4];
/// Digits that reach far, and few digits that make few rows.
const DECOMPOSITIONS: [Digits; 4] = [reach::USUAL, EZKLS_DIGITS, (4096, 2), (128, 4)];

/// A choice, what it will cost, whether its tables reach as far as without a search, and whether they are split to fit few rows.
#[derive(Clone)]
struct Candidate {
    choice: CircuitParams,
    cost: Cost,
    is_wide: bool,
    is_compact: bool,
}

/// The choices that promise the fastest proofs, among all inner columns, decompositions and logrows. One of the finalists
/// reaches as far as EZKL's own tables do: so the price of reach is in the result. Another has its tables split into many short
/// columns, where it can: what that does to the time is not foreseen well.
pub(super) async fn rank_candidates(
    shop: &CircuitBuilder,
    scales: &[CircuitParams],
    margin: f64,
    limits: &Limits,
) -> Result<Vec<CircuitParams>> {
    let mut found: Vec<Candidate> = Vec::new();
    for scale in scales {
        for num_inner_cols in INNER_COLUMNS {
            let further = reach::at_least((scale.decomp_base, scale.decomp_legs));
            let digits = further.map_or_else(|| DECOMPOSITIONS.to_vec(), Iterator::collect);
            for (decomp_base, decomp_legs) in digits {
                let choice = CircuitParams { num_inner_cols, decomp_base, decomp_legs, ..*scale };
                let shape = shop.shape(&choice).await?;
                found.extend(sizes(choice, &shape, margin));
                if margin < LOOKUP_MARGIN {
                    found.extend(sizes(choice, &shape, LOOKUP_MARGIN));
                }
            }
        }
    }
    found.retain(|candidate| limits.memory_exceeded(candidate.cost.memory_mb, "it would need").is_none());
    found.sort_by(|a, b| a.cost.time.total_cmp(&b.cost.time));
    let mut few = distinct(found);
    let kinds: [fn(&Candidate) -> bool; 2] = [|candidate| candidate.is_wide, |candidate| candidate.is_compact];
    for (place, is_kind) in (FINALISTS - kinds.len()..).zip(kinds) {
        if let Some(at) = few.iter().position(is_kind)
            && at > place
        {
            few[place..=at].rotate_right(1);
        }
    }
    Ok(few.into_iter().take(MOST_MEASURED).map(|candidate| candidate.choice).collect())
}

/// The choice with tables of this margin, in each number of rows that they fit.
fn sizes(choice: CircuitParams, shape: &Settings, margin: f64) -> impl Iterator<Item = Candidate> {
    let usual = choice
        .logrows_to_try(shape, margin)
        .filter_map(move |logrows| CircuitParams { logrows, ..choice }.with_margin(margin));
    let compact = choice.compact(shape, margin);
    usual.map(|choice| (choice, false)).chain(compact.map(|choice| (choice, true))).map(move |(choice, is_compact)| {
        Candidate { choice, cost: choice.cost(shape), is_wide: margin >= LOOKUP_MARGIN, is_compact }
    })
}

/// Those that differ in more than their digits, which hardly change the time.
fn distinct(sorted: Vec<Candidate>) -> Vec<Candidate> {
    let mut few: Vec<Candidate> = Vec::new();
    for candidate in sorted {
        let CircuitParams { decomp_base, decomp_legs, .. } = candidate.choice;
        if few.iter().all(|other| CircuitParams { decomp_base, decomp_legs, ..other.choice } != candidate.choice) {
            few.push(candidate);
        }
    }
    few
}

#[cfg(test)]
mod tests {
    use super::super::tests::choice;
    use super::*;

    #[test]
    fn finalists_differ_in_more_than_digits() {
        let cost = Cost { time: 1.0, memory_mb: 1.0 };
        let other_digits = CircuitParams { decomp_base: 128, decomp_legs: 4, ..choice(14, 1) };
        let all = [choice(14, 1), other_digits, choice(15, 1), choice(14, 2), choice(13, 1), choice(12, 1)];
        let found = distinct(all.map(|choice| Candidate { choice, cost, is_wide: false, is_compact: false }).to_vec());
        let found: Vec<CircuitParams> = found.into_iter().map(|candidate| candidate.choice).collect();
        assert_eq!(found, [choice(14, 1), choice(15, 1), choice(14, 2), choice(13, 1), choice(12, 1)]);
    }
}
