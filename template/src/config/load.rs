//! Where the settings come from.
