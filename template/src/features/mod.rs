//! From a request's input to a frame with one row of raw features.
//!
//! The same row gives the same frame from each source: one f64 column a number, with null where it is missing, and a column of strings a
//! string, `wallet_address` among them ([`FeatureRow`]). What a row may lack is what `setup`'s sample lacks ([`FeatureSchema`]).

mod cell;
mod csv;
mod file;
mod frame;
pub(crate) mod input;
mod parquet;
mod row;
mod schema;
mod select;
mod table;

pub use file::load;
pub use frame::{WALLET, frame, numbers};
pub use input::{Input, parse_input};
pub use row::{FeatureRow, IncompleteFeatures};
pub use schema::{Expectation, FeatureSchema};
pub use select::Selection;
pub use table::FeatureTable;
