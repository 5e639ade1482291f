//! A whole Spectral in a box: a chain, its contracts, and the services beside it.

pub mod features;
