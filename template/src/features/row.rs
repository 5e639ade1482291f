//! One row of raw features: the frame that `pre_process` gets, and what of the row is not in it.
//!
//! Services add fields to their answers whenever they like, and leave others empty. What comes as `setup`'s sample shows it is in the
//! frame: numbers, strings, gaps. Any other feature fails nothing by itself: it is left out of the frame, and only a hook that uses it
//! is told what it holds. A hook that names a column uses it. One that takes the columns as they come may use it without naming it; what
//! it makes of the row then depends on what the feature holds ([`FeatureRow::apply`]).

use std::collections::BTreeSet;

use anyhow::anyhow;
use polars::prelude::{Column, DataFrame, PolarsError};

use super::WALLET;
use super::cell::Cell;
use super::frame::NotNumbers;
use super::schema::{Expectation, Place};
use super::select::MissingFeatures;
use crate::fault::{Fault, Result};

/// What stands in for a feature, to see whether it matters: far from what any holds, on both sides, so that sums, means, the largest and
/// the smallest of some columns all change.
const STAND_INS: [f64; 2] = [1e30, -1e30];
/// A number as features hold them.
const ORDINARY: f64 = 0.731;
/// At most so many are named in one error.
const NAMED: usize = 8;

/// One row of raw features.
#[derive(Debug, Clone, Default)]
pub struct FeatureRow {
    cells: Vec<(String, Cell)>,
    frame: DataFrame,
}

/// `pre_process` needs a feature that is absent, or holds what it never held in `setup`'s sample.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct IncompleteFeatures(String);

impl FeatureRow {
    /// Names are unique.
    pub(super) fn new(cells: Vec<(String, Cell)>) -> Self {
        let frame = Given::new(cells.clone(), &Expectation::Anything).frame(None);
        Self { cells, frame }
    }

    /// One row with a f64 column for each feature that holds a number or nothing (null), and a column of strings for each that holds one.
    /// What is none of these is left out.
    pub fn frame(&self) -> &DataFrame {
        &self.frame
    }

    /// The names of all features, in their order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.cells.iter().map(|(name, _)| name.as_str())
    }

    /// The features that are missing.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        let missing = self.cells.iter().filter(|(_, cell)| matches!(cell, Cell::Missing(_)));
        missing.map(|(name, _)| name.as_str())
    }

    /// The features that hold strings.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        let texts = self.cells.iter().filter(|(_, cell)| matches!(cell, Cell::Text(..)));
        texts.map(|(name, _)| name.as_str())
    }

    /// What `hook` makes of the row, `content` of which must not depend on features that come otherwise than expected. A hook that takes
    /// the columns as they come does not miss one: it is run again with numbers in their places.
    ///
    /// # Errors
    /// The hook's own; an [`IncompleteFeatures`] where it uses such a feature.
    pub async fn apply<T, C: PartialEq, F: Future<Output = Result<T>>>(
        &self,
        expectation: &Expectation,
        hook: impl Fn(DataFrame) -> F,
        content: impl Fn(&T) -> C,
    ) -> Result<T> {
        let given = Given::new(self.cells.clone(), expectation);
        let refused: BTreeSet<usize> = given.refused().collect();
        let made = match hook(given.frame(None)).await {
            Ok(made) => made,
            Err(fault @ Fault::Permanent(_)) => {
                return match whatever_they_hold(&given, &refused, &hook, &content).await? {
                    Some(made) => Ok(made),
                    None => Err(given.explain(fault)),
                };
            }
            Err(fault) => return Err(fault),
        };
        if is_used(&given, &refused, &hook, &content, &made).await? {
            let what = "pre_process takes the columns as they come, and some are not as in setup's sample";
            return Err(Fault::Permanent(anyhow!(IncompleteFeatures(format!("{what}: {}", given.listed(&refused))))));
        }
        Ok(made)
    }

    /// The missing features that `hook`, which made `made` of this row, uses. `known` are features of which that is known.
    pub async fn used_gaps<T, C: PartialEq, F: Future<Output = Result<T>>>(
        &self,
        known: &BTreeSet<String>,
        hook: impl Fn(DataFrame) -> F,
        content: impl Fn(&T) -> C,
        made: &T,
    ) -> Result<BTreeSet<String>> {
        let given = Given::new(self.cells.clone(), &Expectation::Anything);
        let is_gap = |(name, cell): &(String, Cell)| matches!(cell, Cell::Missing(_)) && name != WALLET;
        let gaps = (0..given.cells.len()).filter(|at| is_gap(&given.cells[*at]));
        let (mut used, unknown): (BTreeSet<usize>, BTreeSet<usize>) =
            gaps.partition(|at| known.contains(&given.cells[*at].0));
        // Mostly none of them is used: then they are tried together.
        if is_used(&given, &unknown, &hook, &content, made).await? {
            for at in unknown {
                if is_used(&given, &BTreeSet::from([at]), &hook, &content, made).await? {
                    used.insert(at);
                }
            }
        }
        Ok(used.into_iter().map(|at| given.cells[at].0.clone()).collect())
    }
}

/// What `hook` makes of the row whatever number these features hold: they may be named, as preprocessing names the columns that it
/// was fitted on, and used nowhere. `None` if it depends on one, or there is none.
async fn whatever_they_hold<T, C: PartialEq, F: Future<Output = Result<T>>>(
    given: &Given,
    features: &BTreeSet<usize>,
    hook: &impl Fn(DataFrame) -> F,
    content: &impl Fn(&T) -> C,
) -> Result<Option<T>> {
    if features.is_empty() {
        return Ok(None);
    }
    let made = match hook(given.frame(Some((features, ORDINARY)))).await {
        Ok(made) => made,
        Err(Fault::Permanent(_)) => return Ok(None),
        Err(fault) => return Err(fault),
    };
    Ok(if is_used(given, features, hook, content, &made).await? { None } else { Some(made) })
}

/// Whether what `hook` makes depends on these features: it makes something else of other numbers in their places, or fails.
async fn is_used<T, C: PartialEq, F: Future<Output = Result<T>>>(
    given: &Given,
    features: &BTreeSet<usize>,
    hook: &impl Fn(DataFrame) -> F,
    content: &impl Fn(&T) -> C,
    made: &T,
) -> Result<bool> {
    for number in STAND_INS.into_iter().filter(|_| !features.is_empty()) {
        match hook(given.frame(Some((features, number)))).await {
            Ok(other) if content(&other) == content(made) => {}
            Ok(_) | Err(Fault::Permanent(_)) => return Ok(true),
            Err(fault) => return Err(fault),
        }
    }
    Ok(false)
}

/// A row, and which of its features come as expected.
struct Given {
    cells: Vec<(String, Cell)>,
    places: Vec<Place>,
    /// How many features are missing at once, and how many may be, where that is fewer.
    excess: Option<(usize, usize)>,
}

impl Given {
    fn new(mut cells: Vec<(String, Cell)>, expectation: &Expectation) -> Self {
        expectation.complete(&mut cells);
        let places = expectation.places(&cells);
        let excess = expectation.excess_gaps(&cells);
        Self { cells, places, excess }
    }

    /// The frame of what is expected; with stand-ins, this number is in the places of these features, whatever they hold.
    fn frame(&self, stand_ins: Option<(&BTreeSet<usize>, f64)>) -> DataFrame {
        let mut columns = Vec::with_capacity(self.cells.len());
        for (at, ((name, cell), place)) in self.cells.iter().zip(&self.places).enumerate() {
            match stand_ins {
                Some((features, number)) if features.contains(&at) => {
                    columns.push(Column::new(name.as_str().into(), [number]));
                }
                _ if *place == Place::Expected => columns.extend(cell.column(name)),
                _ => {}
            }
        }
        // One value each, and no name is there twice.
        DataFrame::new(1, columns).unwrap_or_default()
    }

    /// Features that are not as expected. `wallet_address` is none.
    fn refused(&self) -> impl Iterator<Item = usize> {
        let all = self.places.iter().zip(&self.cells).enumerate();
        all.filter(|(_, (place, (name, _)))| **place == Place::Refused && name != WALLET).map(|(at, _)| at)
    }

    /// The failure of a hook on this row, or of the model on what the hook made of it. Where a feature is used that is not as expected,
    /// the error is an [`IncompleteFeatures`] and says what the row holds instead.
    fn explain(&self, fault: Fault) -> Fault {
        let Fault::Permanent(error) = fault else { return fault };
        let refused = self.places.iter().map(|place| *place == Place::Refused);
        let of_type = error.downcast_ref::<NotNumbers>().map(|NotNumbers { column, .. }| column.as_str());
        let is_to_blame = |(name, cell): &(String, Cell), refused: bool| match cell {
            Cell::Number(_) => false,
            Cell::Text(..) if !refused => of_type == Some(name),
            _ => is_named(&error, name),
        };
        let named =
            self.cells.iter().zip(refused).enumerate().filter(|(_, (cell, refused))| is_to_blame(cell, *refused));
        let named: BTreeSet<usize> = named.map(|(at, _)| at).collect();
        if !named.is_empty() {
            return Fault::Permanent(error.context(IncompleteFeatures(self.listed(&named))));
        }
        if error.is::<MissingFeatures>() || error.downcast_ref().is_some_and(is_missing_column) {
            // An error that came as features says why they are missing.
            let texts: BTreeSet<usize> =
                self.refused().filter(|at| matches!(self.cells[*at].1, Cell::Text(..))).collect();
            let also = if texts.is_empty() { String::new() } else { format!("; besides, {}", self.listed(&texts)) };
            return Fault::Permanent(anyhow!(IncompleteFeatures(format!("{error:#}{also}"))));
        }
        Fault::Permanent(error)
    }

    /// The features with what they hold, for an error.
    fn listed(&self, features: &BTreeSet<usize>) -> String {
        let named = features.iter().take(NAMED).map(|at| {
            let (name, cell) = &self.cells[*at];
            format!("feature {name:?} is {cell}, expected a number")
        });
        let mut told = named.collect::<Vec<_>>().join("; ");
        if features.len() > NAMED {
            told += &format!("; and {} more", features.len() - NAMED);
        }
        if let Some((missing, most)) = self.excess {
            told += &format!(
                " ({missing} features are missing at once, and no row of setup's sample lacks more than {most})"
            );
        }
        told
    }
}

/// Whether a hook's error is about this feature: ours name it, and so do polars' own, in quotes.
fn is_named(error: &anyhow::Error, name: &str) -> bool {
    if let Some(missing) = error.downcast_ref::<MissingFeatures>() {
        return missing.names.iter().any(|missing| missing == name);
    }
    let text = format!("{error:#}");
    // A panic's message may quote an error that quotes the name.
    let (quoted, quoted_twice) = (format!("\"{name}\""), format!("\\\"{name}\\\""));
    text.contains(&quoted) || text.contains(&quoted_twice)
}

fn is_missing_column(error: &PolarsError) -> bool {
    match error {
        PolarsError::ColumnNotFound(_) => true,
        PolarsError::Context { error, .. } => is_missing_column(error),
        _ => false,
    }
}

#[cfg(test)]
#[path = "row_tests.rs"]
mod tests;
