//! The virtual TAP.
