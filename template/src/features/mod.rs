//! From a request's input to a frame with one row of raw features, all of them f64.
//!
//! A frame holds one f64 column a feature, and `wallet_address` as a string where there is one. What holds no number is not
//! in it ([`FeatureRow`]).

mod file;
mod frame;
pub(crate) mod input;
mod row;
mod select;
mod table;

pub use file::load;
pub use frame::{WALLET, frame, numbers};
pub use input::{Input, parse_input};
pub use row::{FeatureRow, IncompleteFeatures};
pub use select::Selection;
pub use table::FeatureTable;
