//! From a request's input to a frame with one row of raw features, all of them f64.
//!
//! A frame holds one f64 column a feature, and `wallet_address` as a string where there is one.

mod file;
mod frame;
mod input;
mod select;

pub use file::{load, row};
pub use frame::{WALLET, frame, numbers};
pub use input::{Input, parse_input};
pub use select::Selection;
