//! Built-in topologies.

/// A topology that comes with the program.
#[derive(Clone, Copy, Debug)]
pub struct Lab {
    /// Short name.
    pub name: &'static str,
    /// What it shows, in one line.
    pub summary: &'static str,
    /// The topology file.
    pub toml: &'static str,
    /// Addresses worth tracing.
    pub targets: &'static [&'static str],
}

/// All built-in topologies, simple ones first.
pub const fn labs() -> &'static [Lab] {
    LABS
}

macro_rules! labs {
    ($($name:literal, $summary:literal, $targets:expr;)*) => {
        &[$(Lab {
            name: $name,
            summary: $summary,
            toml: include_str!(concat!("../labs/", $name, ".toml")),
            targets: &$targets,
        }),*]
    };
}

const LABS: &[Lab] = labs! {
    "plain", "three routers and a host, no MPLS", ["5.0.4.2"];
    "explicit", "MPLS tunnel that shows itself: TTL propagated, labels in the replies (Cisco)", ["5.0.8.2"];
    "php", "invisible tunnel with penultimate hop popping and labels for all prefixes (Cisco): revealed by BRPR", ["5.0.8.2"];
    "dpr", "invisible tunnel with labels for loopbacks only (Junos): revealed by DPR", ["5.0.8.2"];
};
