//! How far the circuit's comparisons and range checks reach: numbers are checked digit by digit, and what needs more digits than
//! there are has no witness. Raw magnitudes (times in seconds, amounts in wei) need more than others.

use anyhow::{Error, Result, bail};

use super::circuit_builder::CircuitBuilder;
use super::circuit_params::CircuitParams;
use crate::ezkl::reason::{Cause, Refusal, about_inputs};

/// A base and how many digits of it.
pub type Digits = (usize, usize);

/// With these proofs are fastest where nothing is large: 2^30, further than EZKL's own two of base 16384.
pub const USUAL: Digits = (1024, 3);
/// What is tried where that does not reach, by reach: 2^40, 2^42, 2^50, 2^56, 2^60, 2^70. A digit more costs rows, the larger base
/// a table of 2^14.
const FURTHER: [Digits; 6] = [(1024, 4), (16384, 3), (1024, 5), (16384, 4), (1024, 6), (16384, 5)];

/// The largest number, in steps of the fixed point, that so many digits hold.
pub fn reach((base, digits): Digits) -> f64 {
    (base as f64).powi(i32::try_from(digits).unwrap_or(i32::MAX))
}

/// What was made with the fewest digits that hold the sample, beginning with `first`.
///
/// # Errors
/// Those of `make`; where numbers of the sample do not fit, with the columns that reach furthest.
pub async fn climb<T>(shop: &CircuitBuilder, first: Digits, make: impl AsyncFn(Digits) -> Result<T>) -> Result<T> {
    let mut digits = first;
    loop {
        let error = match make(digits).await {
            Ok(made) => return Ok(made),
            Err(error) => error,
        };
        let Some(Cause::BeyondReach { steps, .. }) = Refusal::in_error(&error).and_then(Refusal::cause) else {
            return Err(explained(shop, error));
        };
        let all = std::iter::once(USUAL).chain(FURTHER);
        let further = all.into_iter().find(|other| reach(*other) > steps.max(reach(digits)));
        let Some(further) = further else { return Err(explained(shop, error)) };
        eprintln!("  numbers of the sample are beyond {}^{}: trying {}^{}", digits.0, digits.1, further.0, further.1);
        digits = further;
    }
}

/// The choice with the range of values of the sample, and the fewest digits that hold it, beginning with `first`.
pub async fn ranged(shop: &CircuitBuilder, choice: CircuitParams, first: Digits) -> Result<CircuitParams> {
    climb(shop, first, async |(decomp_base, decomp_legs)| {
        shop.ranged(CircuitParams { decomp_base, decomp_legs, ..choice }).await
    })
    .await
}

/// The digits that reach as far as these at least, where these are more than the usual ones.
pub fn at_least(digits: Digits) -> Option<impl Iterator<Item = Digits>> {
    (reach(digits) > reach(USUAL)).then(|| FURTHER.into_iter().filter(move |other| reach(*other) >= reach(digits)))
}

/// The choice with the digits that promise the fastest proof, of those that hold `margin` times what the inputs of the sample reach.
/// Digits that are the usual ones stay.
pub async fn with_cheapest_digits(shop: &CircuitBuilder, choice: CircuitParams, margin: f64) -> Result<CircuitParams> {
    let held = (choice.decomp_base, choice.decomp_legs);
    let Some(further) = at_least(held) else { return sized(shop, choice, margin).await };
    let input = shop.sample.largest().first().map_or(0.0, |(_, value)| value.abs());
    let needed = input * f64::from(choice.input_scale).exp2() * margin;
    let mut best: Option<(f64, CircuitParams)> = None;
    for (decomp_base, decomp_legs) in further.filter(|digits| reach(*digits) >= needed) {
        let choice = CircuitParams { decomp_base, decomp_legs, ..choice };
        let sized = sized(shop, choice, margin).await?;
        // The table of a digit is as long as the base: shorter columns split it.
        let logrows = sized.logrows.max(usize::ilog2(decomp_base) + 1);
        for choice in [sized, CircuitParams { logrows, ..sized }] {
            let time = choice.cost(&shop.shape(&choice).await?).time;
            if best.is_none_or(|(least, _)| time < least) {
                best = Some((time, choice));
            }
        }
    }
    match best {
        Some((_, choice)) => Ok(choice),
        None => sized(shop, choice, margin).await,
    }
}

/// The choice in as many rows as it needs, with tables of this margin.
///
/// # Errors
/// Tables that are longer than any SRS, with the columns that reach furthest.
pub async fn sized(shop: &CircuitBuilder, choice: CircuitParams, margin: f64) -> Result<CircuitParams> {
    let shape = shop.shape(&choice).await?;
    let roomy = CircuitParams { logrows: choice.min_logrows_single_column(&shape, margin), ..choice };
    let Some(sized) = roomy.with_margin(margin) else {
        bail!(
            "{}, and {} by lookup: tables {margin} times as wide as {:?} need more rows than any SRS has",
            about_inputs(&shop.sample.largest()),
            computed(&shape.looked_up()),
            choice.lookup_range
        )
    };
    Ok(sized)
}

/// With the columns that reach furthest, where numbers of the sample do not fit into the circuit.
fn explained(shop: &CircuitBuilder, error: Error) -> Error {
    let cause = Refusal::in_error(&error).and_then(Refusal::cause).filter(Cause::is_of_values);
    let Some(cause) = cause else { return error };
    let looked_up = shop.looked_up();
    let inputs = about_inputs(&shop.sample.largest());
    match cause {
        Cause::TableTooLong { rows } if !looked_up.is_empty() => {
            error.context(format!("{inputs}. {} by lookup, in a table of {rows:.1e} rows", computed(&looked_up)))
        }
        _ => error.context(inputs),
    }
}

/// `Sigmoid is computed`, `Exp and Ln are computed`
fn computed(functions: &[String]) -> String {
    match functions {
        [] => "nothing is computed".to_owned(),
        [one] => format!("{one} is computed"),
        [first, .., last] if functions.len() == 2 => format!("{first} and {last} are computed"),
        [.., last] => format!("{} and {last} are computed", functions[..functions.len() - 1].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_tried_by_their_reach() {
        let all: Vec<f64> = std::iter::once(USUAL).chain(FURTHER).map(reach).collect();
        assert!(all.is_sorted() && all[0] == f64::from(30).exp2() && all[6] == f64::from(70).exp2(), "{all:?}");
    }

    #[test]
    fn functions_are_named_in_words() {
        let named = |names: &[&str]| computed(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(named(&["Exp"]), "Exp is computed");
        assert_eq!(named(&["Exp", "Ln"]), "Exp and Ln are computed");
        assert_eq!(named(&["Exp", "Ln", "Tanh"]), "Exp, Ln and Tanh are computed");
    }
}
