//! What a caught panic said.

use std::any::Any;

/// The panic's message, as `panic!` and its relatives leave it.
pub fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
