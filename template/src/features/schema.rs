//! What `setup`'s sample shows of each feature, and so what a request may bring: a service that answers nulls for everybody is not
//! imputed and answered.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::WALLET;
use super::cell::Cell;
use super::row::FeatureRow;

/// The features of a sample. `setup` writes it into setup.json; files of an earlier `setup` have none, and allow neither gap nor string.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FeatureSchema {
    /// The sample's columns in their order.
    pub columns: Vec<String>,
    /// Columns in which some row holds a string.
    pub texts: BTreeSet<String>,
    /// Where features may be missing.
    pub gaps: Gaps,
}

/// Features that are missing in some rows of the sample, and that `pre_process` uses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gaps {
    pub columns: BTreeSet<String>,
    /// The most of these columns that one row of the sample lacks.
    pub most_at_once: usize,
}

/// What rows may hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Expectation {
    /// Whatever there is: while hooks are developed, and of `setup`'s sample itself.
    Anything,
    /// What the sample shows.
    AsIn(FeatureSchema),
}

/// Whether a feature of a row comes as the sample shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It is in the frame.
    Expected,
    /// It holds what no frame has, or what the sample never shows: `pre_process` must do without it.
    Refused,
}

impl FeatureSchema {
    /// Takes in a row of the sample, of which `pre_process` uses these missing features.
    pub fn add(&mut self, row: &FeatureRow, used_gaps: BTreeSet<String>) {
        if self.columns.is_empty() {
            self.columns = row.names().map(str::to_owned).collect();
        }
        self.texts.extend(row.texts().map(str::to_owned));
        self.gaps.columns.extend(used_gaps);
    }

    /// Counts, once all rows are in, how many of the gaps each row has: one that uses a feature may come after one that does not.
    pub fn count_gaps<'a>(&mut self, missing_of_rows: impl Iterator<Item = &'a Vec<String>>) {
        let count = |missing: &Vec<String>| missing.iter().filter(|name| self.gaps.columns.contains(*name)).count();
        self.gaps.most_at_once = missing_of_rows.map(count).max().unwrap_or_default();
    }
}

impl Expectation {
    /// Adds, as missing and in its place, what the row does not have and the sample lacks now and then.
    pub(super) fn complete(&self, cells: &mut Vec<(String, Cell)>) {
        let Self::AsIn(schema) = self else { return };
        for name in &schema.gaps.columns {
            if cells.iter().any(|(other, _)| other == name) {
                continue;
            }
            let at = schema.columns.iter().position(|other| other == name).unwrap_or_default();
            // Behind the nearest feature that stands before it in the sample, so that columns taken as they come keep their order.
            let before = schema.columns[..at].iter().rev();
            let after = before.filter_map(|name| cells.iter().position(|(other, _)| other == name)).next();
            cells.insert(after.map_or(0, |after| after + 1), (name.clone(), Cell::Missing("absent")));
        }
    }

    /// Where each feature of a row belongs.
    pub(super) fn places(&self, cells: &[(String, Cell)]) -> Vec<Place> {
        let is_gap = |name: &String| match self {
            Self::Anything => true,
            Self::AsIn(schema) => schema.gaps.columns.contains(name),
        };
        let is_text = |name: &String| match self {
            Self::Anything => true,
            Self::AsIn(schema) => schema.texts.contains(name),
        };
        let too_many = self.excess_gaps(cells).is_some();
        let expected = cells.iter().map(|(name, cell)| match cell {
            Cell::Number(_) => name != WALLET,
            Cell::Text(..) => name == WALLET || is_text(name),
            Cell::Missing(_) => name != WALLET && is_gap(name) && !too_many,
            Cell::Unusable(_) => false,
        });
        expected.map(|expected| if expected { Place::Expected } else { Place::Refused }).collect()
    }

    /// How many features are missing at once that may be, and how many the sample lacks at most, where that is fewer.
    pub(super) fn excess_gaps(&self, cells: &[(String, Cell)]) -> Option<(usize, usize)> {
        let Self::AsIn(FeatureSchema { gaps, .. }) = self else { return None };
        let missing = |(name, cell): &&(String, Cell)| matches!(cell, Cell::Missing(_)) && gaps.columns.contains(name);
        let count = cells.iter().filter(missing).count();
        (count > gaps.most_at_once).then_some((count, gaps.most_at_once))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Expectation {
        let columns = ["wallet_address", "a", "b", "c", "d"].map(str::to_owned).to_vec();
        let gaps = Gaps { columns: ["b", "d"].map(str::to_owned).into(), most_at_once: 1 };
        Expectation::AsIn(FeatureSchema { columns, texts: ["c".to_owned()].into(), gaps })
    }

    fn completed(names: &[&str]) -> Vec<String> {
        let mut cells: Vec<_> = names.iter().map(|name| ((*name).to_owned(), Cell::Number(1.0))).collect();
        schema().complete(&mut cells);
        cells.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn an_absent_feature_gets_the_samples_place() {
        assert_eq!(completed(&["wallet_address", "a", "c"]), ["wallet_address", "a", "b", "c", "d"]);
        assert_eq!(completed(&["c", "a", "new"]), ["c", "d", "a", "b", "new"]);
        assert_eq!(completed(&["new"]), ["b", "d", "new"]);
    }

    #[test]
    fn a_gap_or_string_is_expected_where_the_sample_has_one() {
        use Place::{Expected, Refused};
        let place = |name: &str, cell| schema().places(&[(name.to_owned(), cell)])[0];
        let text = || Cell::Text("x".to_owned(), None);
        for (name, number, string, gap) in [
            ("a", Expected, Refused, Refused),
            ("b", Expected, Refused, Expected),
            ("c", Expected, Expected, Refused),
            ("new", Expected, Refused, Refused),
            (WALLET, Refused, Expected, Refused),
        ] {
            let found = [place(name, Cell::Number(1.0)), place(name, text()), place(name, Cell::Missing("null"))];
            assert_eq!(found, [number, string, gap], "{name}");
        }
        let two = ["b", "d"].map(|name| (name.to_owned(), Cell::Missing("null")));
        assert_eq!(schema().places(&two), [Refused, Refused], "more at once than any row of the sample lacks");
        assert_eq!(schema().excess_gaps(&two), Some((2, 1)));
    }

    #[test]
    fn the_most_gaps_are_counted_over_all_rows() {
        let mut schema = FeatureSchema::default();
        schema.gaps.columns = ["b", "d"].map(str::to_owned).into();
        let rows = [vec!["a", "b", "d"], vec!["a"], vec![]].map(|row| row.into_iter().map(str::to_owned).collect());
        schema.count_gaps(rows.iter());
        assert_eq!(schema.gaps.most_at_once, 2);
    }

    #[test]
    fn a_setup_of_before_allows_no_gap_and_no_string() {
        let none: FeatureSchema = serde_json::from_str("{}").unwrap();
        let cells = [("a".to_owned(), Cell::Missing("null")), ("b".to_owned(), Cell::Text("x".to_owned(), None))];
        assert_eq!(Expectation::AsIn(none).places(&cells), [Place::Refused; 2]);
    }
}
