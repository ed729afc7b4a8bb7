//! `plumb vm`.

use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use serde::{Deserialize, Serialize};

use super::{VmImage, VmRun};

/// Arguments of `plumb vm`.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Vm {
    /// What to do with machines.
    #[command(subcommand)]
    pub command: VmCommand,
}

/// What can be done with machines.
#[derive(Clone, Debug, Subcommand)]
pub enum VmCommand {
    /// Measure from a machine that lives as long as the measurement.
    Run(Box<VmRun>),
    /// Show the image that machines boot, or write it to a file.
    Image(VmImage),
    /// Start a machine that stays, and takes one measurement after the other.
    #[command(after_help = START_AFTER_HELP)]
    Start {
        /// Name of the machine [default: vm1, vm2 and so on].
        name: Option<String>,
        /// The machine.
        #[command(flatten)]
        options: MachineOptions,
    },
    /// List the machines that stay.
    List {
        /// One JSON object a line instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Print what a machine said on its console.
    Logs {
        /// Name of the machine.
        name: String,
        /// Go on until the machine ends.
        #[arg(short, long)]
        follow: bool,
    },
    /// End a machine.
    Stop {
        /// Names of the machines.
        #[arg(required_unless_present = "all", value_name = "NAME")]
        names: Vec<String>,
        /// End all of them.
        #[arg(long, conflicts_with = "names")]
        all: bool,
    },
}

/// What a machine is to be like.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct MachineOptions {
    /// Who runs the machine; auto takes the best that works here, and says which and why.
    #[arg(long, value_enum, help_heading = MACHINE, default_value_t = RunnerChoice::Auto)]
    pub runner: RunnerChoice,
    /// Memory of the machine in MiB.
    #[arg(long, value_name = "MIB", help_heading = MACHINE, default_value_t = 8, value_parser = clap::value_parser!(u32).range(4..=3072))]
    pub mem: u32,
    /// What QEMU builds.
    #[arg(long, value_enum, help_heading = MACHINE, default_value_t = MachineName::Microvm)]
    pub machine: MachineName,
    /// Who executes QEMU's machine; auto is kvm where that works.
    #[arg(long, value_enum, help_heading = MACHINE, default_value_t = AcceleratorName::Auto)]
    pub accel: AcceleratorName,
    /// Let the kernel merge pages that are the same in several machines (KSM).
    #[arg(long, help_heading = MACHINE)]
    pub merge: bool,
    /// Let the machine never sleep: times are a little more exact, and a processor is busy.
    #[arg(long, help_heading = MACHINE)]
    pub poll: bool,

    /// How the machine reaches a network: a TAP device, a bridge, or lab:NAME.
    #[arg(long, value_name = "TAP|BRIDGE|lab:NAME", help_heading = UPLINK, value_hint = ValueHint::Other)]
    pub uplink: Option<String>,
    /// Address of the machine with its prefix length; once for each IP version.
    #[arg(long, value_name = "ADDRESS/LENGTH", help_heading = UPLINK)]
    pub address: Vec<Prefix>,
    /// Gateway of the machine; once for each IP version.
    #[arg(long, value_name = "ADDRESS", help_heading = UPLINK)]
    pub gateway: Vec<IpAddr>,
    /// MAC address of the machine [default: a random one].
    #[arg(long, value_name = "ADDRESS", help_heading = UPLINK)]
    pub mac: Option<Mac>,
    /// Largest packet in bytes [default: that of the bridge or TAP device, or 1500].
    #[arg(long, value_name = "BYTES", help_heading = UPLINK, value_parser = clap::value_parser!(u16).range(1280..=1500))]
    pub mtu: Option<u16>,
}

/// The runners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum RunnerChoice {
    /// The best that works here.
    Auto,
    /// plumb's own monitor on /dev/kvm.
    Embedded,
    /// Firecracker on /dev/kvm.
    Firecracker,
    /// QEMU, with KVM or in software.
    Qemu,
}

/// QEMU's machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum MachineName {
    /// Virtio over MMIO and little else.
    Microvm,
    /// PCI.
    Pc,
    /// PCI Express.
    Q35,
}

/// Who executes QEMU's machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum AcceleratorName {
    /// KVM where it works, otherwise software.
    Auto,
    /// The processor, by /dev/kvm.
    Kvm,
    /// Software.
    Tcg,
}

/// An address with the length of its network's prefix: `192.0.2.2/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefix(pub IpAddr, pub u8);

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str =
            "expected an address with its prefix length, such as 192.0.2.2/24 or 2001:db8::2/64";
        let (address, len) = text.split_once('/').ok_or(EXAMPLE)?;
        let address: IpAddr = address.parse().map_err(|_| EXAMPLE)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let len = len.parse().ok().filter(|len| *len <= most);
        Ok(Self(address, len.ok_or(EXAMPLE)?))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, self.1)
    }
}

/// The MAC address of a host: `02:00:00:00:00:01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mac(pub [u8; 6]);

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "expected the MAC address of one host, such as 02:00:00:00:00:01";
        let mut address = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut address {
            let part = parts.next().filter(|part| part.len() == 2).ok_or(EXAMPLE)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| EXAMPLE)?;
        }
        let one_host = address[0] & 1 == 0 && address != [0; 6];
        if parts.next().is_some() || !one_host {
            return Err(EXAMPLE.into());
        }
        Ok(Self(address))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

pub(super) const MACHINE: &str = "Machine";
const UPLINK: &str = "Uplink";

const AFTER_HELP: &str = "\
A machine is a microVM with its own kernel, which is the probing engine and nothing else. It starts
in milliseconds.

Examples:
  plumb vm run --uplink lab:php -- trace 5.0.8.2
                                                a machine for one trace
  plumb vm start --uplink lab:php               a machine that stays, in a simulated internet
  plumb vm list                                 what there is, and its memory
  plumb vm stop --all";

const START_AFTER_HELP: &str = "\
The machine ends with `plumb vm stop`, or when its holder is killed; nothing is left of it then.

Examples:
  plumb vm start probe1 --uplink lab:php
  plumb vm start --uplink br0 --address 192.0.2.2/24 --gateway 192.0.2.1
  plumb lab run php --bridge lab0 -- plumb vm start        addresses come from the lab";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_a_prefix_length_that_fits_their_version() {
        for good in ["192.0.2.2/24", "10.0.0.1/32", "2001:db8::2/64", "::1/128"] {
            assert_eq!(good.parse::<Prefix>().unwrap().to_string(), good);
        }
        for bad in [
            "192.0.2.2",
            "192.0.2.2/33",
            "2001:db8::/129",
            "x/1",
            "1.1.1.1/",
            "/24",
        ] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn mac_addresses_are_one_hosts() {
        let good = "02:00:5e:ff:00:01";
        assert_eq!(good.parse::<Mac>().unwrap().to_string(), good);
        for bad in [
            "02:00:5e:ff:00",
            "02:00:5e:ff:00:01:02",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "2:0:0:0:0:1",
            "02-00-00-00-00-01",
            "02:00:00:00:00:gg",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
