//! The model on candle.

mod output;

pub use output::ModelOutput;
