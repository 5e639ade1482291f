//! The owner of the model edits this file, and nothing else.
