//! TCP flow probes.
