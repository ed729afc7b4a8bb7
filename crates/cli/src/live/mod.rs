//! The continuous view in the terminal.
