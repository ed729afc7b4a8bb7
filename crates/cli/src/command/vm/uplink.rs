//! How a machine reaches a network.

use core::net::IpAddr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

use plumb_link::{Capability, Error, Interface, Tap, TapOptions, namespace};

use crate::args::{MachineOptions, Prefix};
use crate::command::lab::{any_seed, barred, topology};
use crate::command::lab_bridge::{ADDRESS, BRIDGE, GATEWAY, LabBridge};
use crate::command::network::program;
use crate::exit::Failure;

/// A machine's network interface, from outside.
#[derive(Debug)]
pub(crate) struct Uplink {
    /// The TAP device: it exists as long as this is open, unless somebody set it up to stay. Gone
    /// when a machine has it.
    pub(crate) tap: Option<OwnedFd>,
    /// Name of the TAP device in the network namespace of this process.
    pub(crate) tap_name: String,
    /// What it leads to, for people: "bridge br0", "lab:php", "TAP device vm0".
    pub(crate) towards: String,
    /// Largest packet in bytes.
    pub(crate) mtu: u16,
    /// MAC address of the machine.
    pub(crate) mac: [u8; 6],
    /// Addresses of the machine with prefix lengths, one for each IP version at most.
    pub(crate) addresses: Vec<(IpAddr, u8)>,
    /// Its gateways, one for each IP version at most.
    pub(crate) gateways: Vec<IpAddr>,
    /// Serves the lab, if there is one, until the process ends.
    _lab: Option<JoinHandle<()>>,
}

impl Uplink {
    /// The words of the image's command line that say all this.
    pub(crate) fn command_line(&self) -> String {
        let mut words = vec![format!("mtu={}", self.mtu)];
        for (address, len) in &self.addresses {
            let key = if address.is_ipv4() { "ip" } else { "ip6" };
            words.push(format!("{key}={address}/{len}"));
        }
        for gateway in &self.gateways {
            let key = if gateway.is_ipv4() { "gw" } else { "gw6" };
            words.push(format!("{key}={gateway}"));
        }
        // For machines whose device does not say it.
        let mac = crate::args::Mac(self.mac);
        words.push(format!("mac={mac}"));
        words.join(" ")
    }

    /// Whether the network that it is in belongs to this process alone, and ends with it.
    pub(crate) const fn is_private(&self) -> bool {
        self._lab.is_some()
    }
}

/// Makes the uplink that the options ask for.
///
/// With `lab:NAME` the process moves into a private network, so it must have one thread.
pub(crate) fn open(options: &MachineOptions) -> Result<Uplink, Failure> {
    let lab_bridge = std::env::var(BRIDGE).ok().filter(|name| !name.is_empty());
    let Some(wanted) = options.uplink.clone().or(lab_bridge) else {
        return Err(Failure::usage(CHOICES));
    };
    if let Some(lab) = wanted.strip_prefix("lab:") {
        return in_lab(lab, options);
    }
    let found = Interface::find(&wanted).map_err(|e| refused(&e, &wanted))?;
    match found {
        Some(bridge) if bridge.kind == "bridge" => on_bridge(&bridge, options),
        Some(tap) if tap.kind == "tun" => existing(&tap, options),
        Some(_) => Err(Failure::usage(format!(
            "the interface {wanted} is neither a bridge nor a TAP device; make a bridge that it is \
             a port of and name that: `sudo ip link add br0 type bridge && sudo ip link set \
             {wanted} master br0 && sudo ip link set br0 up` (addresses of {wanted} belong on the \
             bridge then)"
        ))),
        None => created(&wanted, options),
    }
}

const CHOICES: &str = "a machine needs --uplink: lab:NAME (a simulated internet, see `plumb lab \
     list`; needs nothing else), a bridge of this system (with --address and --gateway), or a TAP \
     device, an existing one or a new one (with --address and --gateway)";

/// In a private network, with the lab on a bridge.
fn in_lab(lab: &str, options: &MachineOptions) -> Result<Uplink, Failure> {
    let (lab, seed) = match lab.split_once(",seed=") {
        None => (lab, any_seed()),
        Some((lab, seed)) => match seed.parse() {
            Ok(seed) => (lab, seed),
            Err(_) => {
                return Err(Failure::usage(format!(
                    "the seed of a lab is a number, not {seed:?}"
                )));
            }
        },
    };
    let topology = topology(lab)?;
    let private = || -> Result<(LabBridge, Tap), Error> {
        namespace::enter_network()?;
        let segment = LabBridge::create(LAB_BRIDGE, topology, seed)?;
        let tap = Tap::create(&TapOptions {
            name: "machine".to_owned(),
            bridge: Some(LAB_BRIDGE.to_owned()),
            mtu: options.mtu.unwrap_or(MTU).into(),
            ..TapOptions::default()
        })?;
        Ok((segment, tap))
    };
    let (segment, tap) = private().map_err(|e| barred(&e))?;
    let addresses = chosen(options, || segment.addresses.clone())?;
    let gateways = gateways(options, || segment.gateways.clone())?;
    let mut uplink = uplink(tap, format!("lab:{lab}"), options, addresses, gateways)?;
    uplink._lab = Some(segment.serve());
    Ok(uplink)
}

/// A new TAP device on a bridge that is there.
fn on_bridge(bridge: &Interface, options: &MachineOptions) -> Result<Uplink, Failure> {
    let of_lab = std::env::var(BRIDGE).is_ok_and(|name| name == bridge.name);
    let told = |variable: &str| std::env::var(variable).ok().filter(|_| of_lab);
    let addresses = chosen(options, || {
        let words = told(ADDRESS).unwrap_or_default();
        let parsed = words.split_whitespace().filter_map(|w| w.parse().ok());
        parsed.map(|Prefix(address, len)| (address, len)).collect()
    })?;
    let gateways = gateways(options, || {
        let words = told(GATEWAY).unwrap_or_default();
        words
            .split_whitespace()
            .filter_map(|w| w.parse().ok())
            .collect()
    })?;
    need_addresses(&addresses, &format!("on the bridge {}", bridge.name))?;
    let name = new_name()?;
    let tap = Tap::create(&TapOptions {
        name: name.clone(),
        bridge: Some(bridge.name.clone()),
        mtu: options.mtu.map_or(bridge.mtu, u32::from),
        ..TapOptions::default()
    })
    .map_err(|e| refused(&e, &name))?;
    uplink(
        tap,
        format!("bridge {}", bridge.name),
        options,
        addresses,
        gateways,
    )
}

/// A TAP device that somebody set up.
fn existing(found: &Interface, options: &MachineOptions) -> Result<Uplink, Failure> {
    let addresses = chosen(options, Vec::new)?;
    let gateways = gateways(options, Vec::new)?;
    need_addresses(&addresses, &format!("behind the TAP device {}", found.name))?;
    let tap = Tap::open(&found.name, true).map_err(|e| refused(&e, &found.name))?;
    uplink(
        tap,
        format!("TAP device {}", found.name),
        options,
        addresses,
        gateways,
    )
}

/// A new TAP device, whose other side is this system itself: it has the gateway's addresses there.
fn created(name: &str, options: &MachineOptions) -> Result<Uplink, Failure> {
    let addresses = chosen(options, Vec::new)?;
    let gateways = gateways(options, Vec::new)?;
    if addresses.is_empty() {
        return Err(Failure::usage(format!(
            "there is no interface {name}; to make it a new TAP device, say which address the \
             machine has and which one this system: --uplink {name} --address 192.0.2.2/30 \
             --gateway 192.0.2.1; or {CHOICES_SHORT}"
        )));
    }
    let near = |gateway: &IpAddr| {
        let same = addresses
            .iter()
            .find(|(a, _)| a.is_ipv4() == gateway.is_ipv4());
        same.map(|(_, len)| (*gateway, *len))
    };
    let tap = Tap::create(&TapOptions {
        name: name.to_owned(),
        mtu: options.mtu.unwrap_or(MTU).into(),
        addresses: gateways.iter().filter_map(near).collect(),
        ..TapOptions::default()
    })
    .map_err(|e| refused(&e, name))?;
    uplink(
        tap,
        format!("TAP device {name}"),
        options,
        addresses,
        gateways,
    )
}

const CHOICES_SHORT: &str = "name a bridge or TAP device that is there, or lab:NAME";

fn uplink(
    tap: Tap,
    towards: String,
    options: &MachineOptions,
    addresses: Vec<(IpAddr, u8)>,
    gateways: Vec<IpAddr>,
) -> Result<Uplink, Failure> {
    let found = tap.interface().map_err(|e| refused(&e, tap.name()))?;
    let limit = options.mtu.unwrap_or(MTU);
    Ok(Uplink {
        tap_name: tap.name().to_owned(),
        towards,
        mtu: u16::try_from(found.mtu).unwrap_or(limit).min(limit),
        mac: options.mac.map_or_else(random_mac, |mac| Ok(mac.0))?,
        addresses,
        gateways,
        tap: Some(tap.into_fd()),
        _lab: None,
    })
}

/// The addresses that the user chose, otherwise those that are told; one for each IP version.
fn chosen(
    options: &MachineOptions,
    told: impl FnOnce() -> Vec<(IpAddr, u8)>,
) -> Result<Vec<(IpAddr, u8)>, Failure> {
    if options.address.is_empty() {
        return Ok(told());
    }
    let addresses: Vec<_> = options.address.iter().map(|p| (p.0, p.1)).collect();
    one_each(addresses.iter().map(|(address, _)| *address), "--address")?;
    Ok(addresses)
}

/// The gateways that the user chose, otherwise those that are told; one for each IP version.
fn gateways(
    options: &MachineOptions,
    told: impl FnOnce() -> Vec<IpAddr>,
) -> Result<Vec<IpAddr>, Failure> {
    if options.gateway.is_empty() {
        return Ok(told());
    }
    one_each(options.gateway.iter().copied(), "--gateway")?;
    Ok(options.gateway.clone())
}

fn one_each(addresses: impl Iterator<Item = IpAddr>, option: &str) -> Result<(), Failure> {
    let (v4, v6): (Vec<_>, Vec<_>) = addresses.partition(IpAddr::is_ipv4);
    if v4.len() > 1 || v6.len() > 1 {
        return Err(Failure::usage(format!(
            "{option} can be given once for IPv4 and once for IPv6"
        )));
    }
    Ok(())
}

fn need_addresses(addresses: &[(IpAddr, u8)], place: &str) -> Result<(), Failure> {
    if addresses.is_empty() {
        return Err(Failure::usage(format!(
            "which address has the machine {place}? Say --address ADDRESS/LENGTH and --gateway \
             ADDRESS, for instance --address 192.0.2.2/24 --gateway 192.0.2.1"
        )));
    }
    Ok(())
}

/// Why there is no device, and the ways out.
fn refused(error: &Error, name: &str) -> Failure {
    if let Error::System { source, object, .. } = error
        && source.kind() == io::ErrorKind::PermissionDenied
    {
        return Failure::permission(format!(
            "{error}; use sudo, or run `sudo chmod 666 {object}`"
        ));
    }
    let Some(capability) = error.capability() else {
        return Failure::usage(error.to_string());
    };
    let grant = match capability {
        Capability::NetAdmin => format!(
            "use sudo, run `sudo setcap cap_net_admin+ep {}` once, let root make a device for you \
             (`sudo ip tuntap add dev {name} mode tap vnet_hdr user $USER`), or take --uplink \
             lab:NAME, which needs nothing",
            program()
        ),
        Capability::NetRaw
        | Capability::SysAdmin
        | Capability::SysNice
        | Capability::Bpf
        | Capability::PerfMon => "use sudo".to_owned(),
    };
    Failure::permission(format!("{error}; {grant}"))
}

/// A locally administered address of one host that nobody else has.
fn random_mac() -> Result<[u8; 6], Failure> {
    let mut mac = random()?;
    mac[0] = 0x02;
    Ok(mac)
}

/// The name of a device that nobody else makes. A number would be given to another as soon as the
/// device is handed over, for which it vanishes for a moment.
fn new_name() -> Result<String, Failure> {
    Ok(format!("plumb-{:08x}", u32::from_ne_bytes(random()?)))
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .map_err(|e: io::Error| Failure::usage(format!("cannot read /dev/urandom: {e}")))?;
    Ok(bytes)
}

/// Largest packet where nothing says otherwise.
const MTU: u16 = 1500;
/// The bridge in a private network.
const LAB_BRIDGE: &str = "lab";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_addresses_are_local_ones_of_one_host_and_differ() {
        let (a, b) = (random_mac().unwrap(), random_mac().unwrap());
        assert_eq!((a[0], b[0]), (2, 2));
        assert_ne!(a, b);
    }

    #[test]
    fn one_address_for_each_ip_version_is_enough() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(one_each([ip("1.1.1.1"), ip("::1")].into_iter(), "--address").is_ok());
        let two = one_each([ip("1.1.1.1"), ip("1.1.1.2")].into_iter(), "--address");
        assert!(
            two.unwrap_err()
                .message
                .starts_with("--address can be given once")
        );
    }
}
