//! A lab on an Ethernet bridge, for machines.

use core::net::IpAddr;
use std::ffi::OsString;
use std::io::{self, Write};
use std::thread::JoinHandle;

use plumb_link::{Clock, Error, Segment, Tap, TapOptions, Tun, Turn, capability, create_bridge};
use plumb_sim::{Hub, Topology, Vantage};

use super::lab::precede_hosts;

/// A bridge in the current network namespace, with the lab behind one of its ports.
#[derive(Debug)]
pub(super) struct LabBridge {
    name: String,
    /// Addresses that every machine on the bridge has.
    pub(super) addresses: Vec<(IpAddr, u8)>,
    /// Their gateways.
    pub(super) gateways: Vec<IpAddr>,
    hub: Hub,
    port: Tap,
}

impl LabBridge {
    /// Makes the bridge and its port. Nobody answers there before [`serve`](Self::serve).
    pub(super) fn create(name: &str, topology: Topology, seed: u64) -> Result<Self, Error> {
        create_bridge(name)?;
        let port = Tap::create(&TapOptions {
            name: PORT.to_owned(),
            virtio_header: false,
            bridge: Some(name.to_owned()),
            queue_len: QUEUE_LEN,
            ..TapOptions::default()
        })?;
        Ok(Self {
            name: name.to_owned(),
            addresses: both(topology.vantage()),
            gateways: both(topology.gateway())
                .into_iter()
                .map(|(a, _)| a)
                .collect(),
            hub: Hub::new(topology, seed),
            port,
        })
    }

    /// What a command has to know that starts machines on the bridge.
    pub(super) fn environment(&self) -> Vec<(&'static str, OsString)> {
        let addresses: Vec<String> = self
            .addresses
            .iter()
            .map(|(address, len)| format!("{address}/{len}"))
            .collect();
        let gateways: Vec<String> = self.gateways.iter().map(IpAddr::to_string).collect();
        vec![
            (BRIDGE, self.name.clone().into()),
            (ADDRESS, addresses.join(" ").into()),
            (GATEWAY, gateways.join(" ").into()),
        ]
    }

    /// The lab, and a port that carries frames of the machines and of this host's `uplink`.
    pub(super) fn with_host(self, uplink: Tun) -> Result<(Hub, Segment), Error> {
        let port = Segment::new(self.port, uplink, Hub::MAC)?;
        Ok((self.hub, port))
    }

    /// Answers on the bridge, in a thread without privileges, until the process ends.
    pub(super) fn serve(mut self) -> JoinHandle<()> {
        std::thread::spawn(move || {
            precede_hosts();
            // It has all it needs, and what it reads comes from machines that may be hostile.
            let dropped = capability::drop_all();
            let served = dropped.and_then(|()| {
                let clock = Clock::new();
                plumb_link::run(
                    &mut self.hub,
                    &mut self.port,
                    &clock,
                    &[],
                    &mut (),
                    |_, _| Turn::Continue { wake_at: None },
                )
            });
            if let Err(error) = served {
                // The machines will find nobody; all that is left is to say why.
                drop(writeln!(io::stderr(), "plumb: the lab has ended: {error}"));
            }
        })
    }
}

/// The name of the bridge in the environment of a lab's command.
pub(super) const BRIDGE: &str = "PLUMB_LAB_BRIDGE";
/// Addresses of the machines on it, with prefix lengths, separated by spaces.
pub(super) const ADDRESS: &str = "PLUMB_LAB_ADDRESS";
/// Their gateways, separated by spaces.
pub(super) const GATEWAY: &str = "PLUMB_LAB_GATEWAY";

/// Name of the port behind which the lab is.
const PORT: &str = "internet";
/// Some hundred machines may send a burst at once.
const QUEUE_LEN: u32 = 16_384;

/// The addresses of both families.
fn both(end: Vantage) -> Vec<(IpAddr, u8)> {
    let v4 = end.v4.map(|(address, len)| (IpAddr::V4(address), len));
    let v6 = end.v6.map(|(address, len)| (IpAddr::V6(address), len));
    v4.into_iter().chain(v6).collect()
}
