//! What of a circuit's settings `setup` may choose, and what a choice will cost.

use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ezkl::settings::Settings;

/// Rows of a column that EZKL keeps for blinding and padding, and a few more.
const RESERVED: usize = 16;
/// What the smallest circuits of use have, and the largest public SRS.
const LOGROWS: std::ops::RangeInclusive<u32> = 10..=26;
/// No table is widened beyond this because it is free: far from the sample a function may be no number.
const MOST_FREE_MARGIN: f64 = 4.0;
/// Where the table decides how long columns are it is split into so many at most.
const MAX_TABLE_COLUMNS: usize = 2;
/// Into how many EZKL 23.0.5 splits one at all: `MAX_NUM_LOOKUP_COLS` in its src/graph/mod.rs.
const EZKLS_TABLE_COLUMNS: usize = 12;

/// Fields of EZKL's run arguments, under EZKL's own names. Visibilities are none of them: they are the owner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CircuitParams {
    /// Inputs are multiplied by 2^this, parameters by 2^the next.
    pub input_scale: i32,
    pub param_scale: i32,
    /// Products are brought back to the scale times this.
    pub scale_rebase_multiplier: u32,
    /// What the lookup tables cover.
    pub lookup_range: (i64, i64),
    /// A column has 2^this rows.
    pub logrows: u32,
    pub num_inner_cols: usize,
    /// Range checks are of so many digits in this base.
    pub decomp_base: usize,
    pub decomp_legs: usize,
    /// Whether the keys merge selector columns: an argument of EZKL's `setup`. What an earlier `nova setup` wrote does not say.
    #[serde(default = "yes")]
    pub compress_selectors: bool,
}

fn yes() -> bool {
    true
}

/// What proving will take, in figures that only compare.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    pub time: f64,
    pub memory_mb: f64,
}

impl Cost {
    /// How long a proof may take: on two busy cores a proof of the example model takes 1.5 to 1.9 s (docs/setup.md), whose time is
    /// 81,900.
    pub fn expected_secs(&self) -> f64 {
        const SECS_ON_TWO_CORES: f64 = 2.1e-5;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        self.time * SECS_ON_TWO_CORES * 2.0 / cores as f64
    }
}

impl CircuitParams {
    /// As EZKL wrote them down.
    pub fn read(settings: &Path) -> Result<Self> {
        let read = || {
            let settings: Value = serde_json::from_slice(&std::fs::read(settings)?)?;
            Ok::<_, anyhow::Error>(serde_json::from_value(settings["run_args"].clone())?)
        };
        read().with_context(|| format!("cannot read the run arguments in {}", settings.display()))
    }

    /// With so many bits more behind the point. Where all inputs are whole numbers EZKL gives them scale 0.
    #[must_use]
    pub fn finer(self, bits: i32) -> Self {
        let input_scale = if self.input_scale == 0 { 0 } else { self.input_scale + bits };
        Self { input_scale, param_scale: self.param_scale + bits, ..self }
    }

    /// With lookup tables that reach so many times as far as the sample's values, `lookup_range`, did; and a little
    /// further where that is free, because a table costs by its columns and not by their rows. `None` if no table of a few
    /// columns reaches so far.
    pub fn with_margin(self, margin: f64) -> Option<Self> {
        self.with_table(margin, MAX_TABLE_COLUMNS)
    }

    /// The choice in fewer rows than its table has, which is split into more columns than usual. Proof time is not monotone in the
    /// rows: of a circuit of 139 rows, with a table of 10,000, a proof took 1.1, 0.8, 1.3 and 2.5 s of a processor in columns of 2^10,
    /// 2^11, 2^12 and 2^14 rows.
    pub fn compact(self, shape: &Settings, margin: f64) -> impl Iterator<Item = Self> {
        let needed = shape.num_rows.max(instances(shape));
        let sizes = LOGROWS.clone().filter(move |logrows| usable_rows(*logrows) > needed);
        let short = sizes
            .map(move |logrows| Self { logrows, ..self })
            .take_while(move |choice| choice.with_margin(margin).is_none());
        short.filter_map(move |choice| choice.with_table(margin, EZKLS_TABLE_COLUMNS))
    }

    fn with_table(self, margin: f64, most_columns: usize) -> Option<Self> {
        let (low, high) = self.lookup_range;
        // EZKL's tables always hold zero.
        let (low, high) = (low.min(0) as f64, high.max(0) as f64);
        let width = high - low;
        if width == 0.0 {
            return Some(self);
        }
        let columns = ((width * margin / usable_rows(self.logrows) as f64).ceil()).max(1.0);
        if columns > most_columns as f64 {
            return None;
        }
        // A table of exactly a column's length begins another.
        let factor = ((columns * usable_rows(self.logrows) as f64 - 1.0) / width).min(margin.max(MOST_FREE_MARGIN));
        Some(Self { lookup_range: ((low * factor).ceil() as i64, (high * factor).floor() as i64), ..self })
    }

    /// The least logrows at which a column holds all rows, and a lookup table with this margin needs one column.
    pub fn min_logrows_single_column(self, shape: &Settings, margin: f64) -> u32 {
        let (low, high) = self.lookup_range;
        let width = (high.max(0) - low.min(0)) as f64 * margin;
        let needed = shape.num_rows.max(width.ceil() as usize).max(instances(shape));
        LOGROWS.clone().find(|logrows| usable_rows(*logrows) > needed).unwrap_or(*LOGROWS.end())
    }

    /// The logrows that are worth a look: up to `roomy`, and three below.
    pub fn logrows_to_try(self, shape: &Settings, margin: f64) -> impl Iterator<Item = u32> {
        let most = self.min_logrows_single_column(shape, margin);
        let public = instances(shape);
        (most.saturating_sub(3).max(*LOGROWS.start())..=most).filter(move |logrows| usable_rows(*logrows) > public)
    }

    /// Proving commits to some columns whatever the circuit, and to some for each pair of an inner column and a table
    /// column. A table that is split makes constraints of a higher degree, and so larger polynomials. The weights were
    /// fitted to proofs of the example model (`ci/tune-table`), within a third; what counts is their order.
    pub fn cost(&self, shape: &Settings) -> Cost {
        let column = usable_rows(self.logrows) as i128;
        let (low, high) = self.lookup_range;
        let lookup = columns_of(i128::from(high) - i128::from(low), column);
        let checks: i128 = shape.required_range_checks.iter().map(|(low, high)| columns_of(high - low, column)).sum();
        let tables = lookup * shape.required_lookups.len() as i128 + checks;
        // Rows beyond a column's end go on in more columns.
        let inner = self.num_inner_cols as i128 * columns_of(shape.num_rows as i128, column);
        let is_split = tables > (shape.required_lookups.len() + shape.required_range_checks.len()) as i128;
        let rows = f64::from(self.logrows).exp2();
        let time = rows * (2.0 + (inner * tables) as f64) * if is_split { 1.6 } else { 1.0 };
        let extension = if is_split { 8.0 } else { 4.0 };
        let polynomials = (8.0 + 7.0 * inner as f64 + 1.5 * tables as f64) * (extension + 2.0);
        // The proving key, and as much again and more of the prover's own, 32 bytes an element.
        Cost { time, memory_mb: 40.0 + 2.4 * rows * 32.0 * polynomials / 1e6 }
    }
}

/// How many rows of a column can be used.
fn usable_rows(logrows: u32) -> usize {
    (1_usize << logrows).saturating_sub(RESERVED)
}

fn columns_of(rows: i128, column: i128) -> i128 {
    (rows / column + 1).max(1)
}

fn instances(shape: &Settings) -> usize {
    shape.model_instance_shapes.iter().map(|shape| shape.iter().product::<usize>()).max().unwrap_or(0)
}

impl fmt::Display for CircuitParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scale {}", self.input_scale)?;
        if self.param_scale != self.input_scale {
            write!(f, "/{}", self.param_scale)?;
        }
        if self.scale_rebase_multiplier != 1 {
            write!(f, "×{}", self.scale_rebase_multiplier)?;
        }
        let Self { logrows, num_inner_cols, decomp_base, decomp_legs, .. } = self;
        write!(f, ", 2^{logrows} rows, {num_inner_cols} inner, {decomp_base}^{decomp_legs}")?;
        if self.compress_selectors { Ok(()) } else { f.write_str(", selectors not compressed") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> (CircuitParams, Settings) {
        let choice = CircuitParams {
            input_scale: 11,
            param_scale: 11,
            scale_rebase_multiplier: 1,
            lookup_range: (-9910, 5376),
            logrows: 15,
            num_inner_cols: 1,
            decomp_base: 1024,
            decomp_legs: 2,
            compress_selectors: true,
        };
        let visibility = || crate::ezkl::settings::Visibility::Plain("Public".to_owned());
        let settings = Settings {
            run_args: crate::ezkl::settings::RunArgs {
                input_scale: 11,
                param_scale: 11,
                logrows: 15,
                lookup_range: (-9910, 5376),
                input_visibility: visibility(),
                output_visibility: visibility(),
                param_visibility: visibility(),
            },
            required_range_checks: vec![(-1, 1), (0, 1023)],
            required_lookups: vec![Value::Null],
            einsum_params: crate::ezkl::settings::EinsumParams::default(),
            num_rows: 9567,
            model_instance_shapes: vec![vec![1, 73], vec![1, 1]],
            model_output_scales: vec![11],
            version: String::new(),
        };
        (choice, settings)
    }

    #[test]
    fn a_table_is_widened_until_its_columns_are_full_and_no_further() {
        let (choice, _) = example();
        let wide = choice.with_margin(2.0).unwrap();
        let (low, high) = wide.lookup_range;
        assert!(low <= -2 * 9910 && high >= 2 * 5376, "{low}..{high}");
        assert!((high - low) as usize <= usable_rows(15));
        let tight = CircuitParams { logrows: 14, ..choice };
        let (low, high) = tight.with_margin(1.0).unwrap().lookup_range;
        assert!(low < -9910 && high > 5376 && (high - low) as usize <= usable_rows(14));
        let (low, high) = CircuitParams { logrows: 20, ..choice }.with_margin(2.0).unwrap().lookup_range;
        assert_eq!((low, high), (-4 * 9910, 4 * 5376));
        assert_eq!(CircuitParams { logrows: 10, ..choice }.with_margin(2.0), None);
        let none = CircuitParams { lookup_range: (0, 0), ..choice };
        assert_eq!(none.with_margin(2.0), Some(none));
    }

    #[test]
    fn compact_choice_splits_the_table_where_the_circuit_has_few_rows() {
        let (choice, mut shape) = example();
        assert_eq!(choice.compact(&shape, 1.0).count(), 0, "one column of the usual sizes holds its table");
        shape.num_rows = 900;
        let sizes: Vec<u32> = choice.compact(&shape, 1.0).map(|compact| compact.logrows).collect();
        assert_eq!(sizes, [11, 12], "in 2^10 rows it takes more than EZKL's twelve columns, in 2^13 two");
        for compact in choice.compact(&shape, 1.0) {
            let (low, high) = compact.lookup_range;
            assert!(low <= -9910 && high >= 5376, "{compact:?}");
        }
    }

    #[test]
    fn choice_of_an_earlier_setup_compresses_selectors() {
        let (choice, _) = example();
        let mut written = serde_json::to_value(choice).unwrap();
        written.as_object_mut().unwrap().remove("compress_selectors");
        assert_eq!(serde_json::from_value::<CircuitParams>(written).unwrap(), choice);
    }

    #[test]
    fn logrows_hold_rows_tables_and_what_is_public() {
        let (choice, mut shape) = example();
        assert_eq!(
            (choice.min_logrows_single_column(&shape, 1.0), choice.min_logrows_single_column(&shape, 2.0)),
            (14, 15)
        );
        shape.num_rows = 100_000;
        assert_eq!(choice.min_logrows_single_column(&shape, 2.0), 17);
        shape.model_instance_shapes = vec![vec![70_000]];
        assert_eq!(choice.logrows_to_try(&shape, 2.0).collect::<Vec<_>>(), [17]);
    }

    /// The order in which proofs of the example model were measured: fastest first, and half the memory.
    #[test]
    fn cost_orders_choices_as_proofs_were_measured() {
        let (choice, mut shape) = example();
        let tight = CircuitParams { logrows: 14, ..choice }.with_margin(1.0).unwrap().cost(&shape);
        let roomy = choice.with_margin(2.0).unwrap().cost(&shape);
        let split = CircuitParams { logrows: 13, ..choice }.with_margin(1.0).unwrap().cost(&shape);
        shape.num_rows = 4815;
        let default = CircuitParams { num_inner_cols: 2, ..choice }.with_margin(2.0).unwrap().cost(&shape);
        assert!(tight.time * 1.5 < roomy.time && roomy.time * 1.3 < default.time, "{tight:?} {roomy:?} {default:?}");
        assert!(tight.time * 1.5 < split.time);
        assert!(tight.memory_mb * 1.7 < roomy.memory_mb && roomy.memory_mb < default.memory_mb);
    }
}
