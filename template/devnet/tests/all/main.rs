//! The devnet as its users have it: one program, so that it is linked once.

mod artifacts;
mod cli;
mod common;
mod consumption;
mod devnet;
mod modeler;
mod public_node;
mod registry;
mod services;
mod wallet;
