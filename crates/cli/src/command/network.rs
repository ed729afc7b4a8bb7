//! The way to the network: sockets, source addresses, and what to say when it is barred.

use core::net::{IpAddr, SocketAddr};
use std::net::UdpSocket;

use plumb_link::route::{RouteError, Sources};
use plumb_link::{Capability, Mode, ProbePort, ProbePortOptions, Receive};

use crate::args::ModeName;
use crate::exit::Failure;
use crate::settings::Family;

/// How the user wants packets to go.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    /// Kind of sockets.
    pub(crate) mode: ModeName,
    /// Source address, if the user chose one.
    pub(crate) source: Option<IpAddr>,
    /// Interface, if the user chose one.
    pub(crate) interface: Option<String>,
    /// Source port of all probes, if the user chose one.
    pub(crate) flow: Option<u16>,
    /// Whether probes are TCP segments.
    pub(crate) tcp: bool,
}

impl Way {
    /// Opens the sockets that are needed, then gives up every privilege that is left. `bulk` says
    /// that many packets are to come.
    pub(crate) fn open(&self, needs: Needs, bulk: bool) -> Result<ProbePort, Failure> {
        let defaults = ProbePortOptions::default();
        let options = ProbePortOptions {
            mode: self.mode.into(),
            interface: self.interface.clone(),
            ipv4: needs.ipv4,
            ipv6: needs.ipv6,
            first_port: self
                .flow
                .map_or(defaults.first_port, |port| port.min(defaults.first_port)),
            tcp: self.tcp,
            receive: if bulk {
                Receive::Rings { bytes: RING_LEN }
            } else {
                Receive::Sockets
            },
        };
        let port = ProbePort::open(&options).map_err(|error| explain(&error))?;
        plumb_link::capability::drop_all().map_err(|e| Failure::permission(e.to_string()))?;
        Ok(port)
    }

    /// What answers which source address leads to a destination.
    pub(crate) fn sources(&self) -> Result<SourceChoice, Failure> {
        let chosen = match self.source {
            Some(source) => {
                UdpSocket::bind(SocketAddr::new(source, 0)).map_err(|_| {
                    Failure::usage(format!(
                        "no interface of this system has the address {source}"
                    ))
                })?;
                Some(source)
            }
            None => None,
        };
        let routes = Sources::new(self.interface.as_deref())
            .map_err(|error| Failure::usage(error.to_string()))?;
        Ok(SourceChoice { chosen, routes })
    }
}

/// The IP versions that a run needs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Needs {
    pub(crate) ipv4: bool,
    pub(crate) ipv6: bool,
}

impl Needs {
    /// Those of targets in `family` that are not known yet.
    pub(crate) fn of(family: Family) -> Self {
        Self {
            ipv4: family != Family::V6,
            ipv6: family != Family::V4,
        }
    }

    /// These and that of `target`.
    pub(crate) const fn with(self, target: IpAddr) -> Self {
        Self {
            ipv4: self.ipv4 || target.is_ipv4(),
            ipv6: self.ipv6 || target.is_ipv6(),
        }
    }
}

/// Bytes of a receive ring: 8192 packets, most of what a window of 10 000 targets brings while this
/// process waits for a processor.
const RING_LEN: usize = 16 << 20;

/// Chooses source addresses.
#[derive(Debug)]
pub(crate) struct SourceChoice {
    chosen: Option<IpAddr>,
    routes: Sources,
}

impl SourceChoice {
    /// The source address of packets to `destination`.
    pub(crate) fn source_for(&mut self, destination: IpAddr) -> Result<IpAddr, RouteError> {
        match self.chosen {
            Some(source) if source.is_ipv4() == destination.is_ipv4() => Ok(source),
            _ => self.routes.source_for(destination),
        }
    }
}

impl From<ModeName> for Mode {
    fn from(name: ModeName) -> Self {
        match name {
            ModeName::Auto => Self::Auto,
            ModeName::Packet => Self::Packet,
            ModeName::Raw => Self::Raw,
            ModeName::Unprivileged => Self::Unprivileged,
        }
    }
}

/// Why the sockets could not be had, and the ways out.
fn explain(error: &plumb_link::Error) -> Failure {
    match (error, error.capability()) {
        (plumb_link::Error::PingGroup, _) => {
            Failure::permission(format!("{error}; run `{ALLOW_PING}`, or use sudo"))
        }
        (plumb_link::Error::NoSockets { .. }, Some(capability)) => Failure::permission(format!(
            "{error}; {}, or `{ALLOW_PING}`",
            ways_out(capability)
        )),
        (_, Some(capability)) => Failure::permission(format!("{error}; {}", ways_out(capability))),
        (_, None) => Failure::usage(error.to_string()),
    }
}

/// What allows all users to have ICMP sockets.
pub(crate) const ALLOW_PING: &str = "sudo sysctl -w net.ipv4.ping_group_range='0 2147483647'";

/// What a run without privilege lacks, in a line.
pub(crate) fn lacks() -> String {
    let setcap = ways_out(Capability::NetRaw);
    format!(
        "no CAP_NET_RAW, so no quoted TTLs (implicit tunnels), IP identifications or TCP probes \
         (all in `plumb doctor`); {setcap}"
    )
}

/// What helps against a missing capability, in a line.
pub(crate) fn ways_out(capability: Capability) -> String {
    let program = program();
    let name = capability.name();
    format!("run `sudo setcap {name}+ep {program}` once, or use sudo")
}

/// The path of this program, as `setcap` wants it.
pub(crate) fn program() -> String {
    std::env::current_exe()
        .ok()
        .and_then(|path| path.canonicalize().ok())
        .map_or_else(|| "plumb".to_owned(), |path| path.display().to_string())
}
