//! Readers for what other tools print.
