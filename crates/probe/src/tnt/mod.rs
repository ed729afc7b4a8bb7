//! MPLS tunnel discovery after TNT (Vanaubel et al., "TNT, Watch me Explode", TMA 2019, and its
//! technical report): classification of what a trace shows, triggers for what it hides, and
//! revelation. Pure functions and state machines; [`crate::Engine`] feeds them.

pub(crate) mod fingerprint;
pub(crate) mod reveal;
pub(crate) mod trigger;
pub(crate) mod uturn;
pub(crate) mod view;
pub(crate) mod visible;
